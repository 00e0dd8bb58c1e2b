//! What can be asked of a session.

use chrono::{DateTime, Utc};

use super::{EndReason, Factor, FactorTimes, SignInMethod};
use crate::UserId;

/// A request to change a session.
#[derive(Clone)]
pub enum SessionCommand {
    /// Begin: somebody proved who they are.
    Start {
        /// Whose session.
        user_id: UserId,
        /// SHA-256 of the session token, lower-case hex.
        token_hash: String,
        /// How they proved who they are.
        method: SignInMethod,
        /// Whether they showed a second factor too.
        second_factor: bool,
        /// The admin who acts as them in this session.
        impersonated_by: Option<UserId>,
        /// Why they do, in their words.
        reason: Option<String>,
        /// What was shown in the session that it takes the place of.
        carried: FactorTimes,
        /// Whether it outlives the browser and slides; else it lasts a day at most.
        remembered: bool,
        /// Address of the client, empty if unknown.
        ip_address: String,
        /// `User-Agent` of the client, empty if unknown.
        user_agent: String,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person has shown once more who they are.
    ShowFactor {
        /// By what.
        factor: Factor,
        /// When.
        at: DateTime<Utc>,
    },
    /// Let it last longer.
    Extend {
        /// The new end.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Work for another organization and team, or none.
    SetActive {
        /// The organization.
        organization_id: Option<String>,
        /// One of its teams.
        team_id: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// End it.
    End {
        /// Why.
        reason: EndReason,
        /// When.
        at: DateTime<Utc>,
    },
}
