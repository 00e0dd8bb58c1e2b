//! What can have happened to a session. Stored for ever: see `tests/stored_format`.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::{Personal, StoredEvent, UserId};

/// A fact about a session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionEvent {
    /// Whoever shows the token is `user_id` until the session ends.
    Started {
        /// Whose session.
        user_id: UserId,
        /// SHA-256 of the session token, lower-case hex; the token itself is known to the client alone.
        token_hash: String,
        /// Whether it outlives the browser and slides.
        remembered: bool,
        /// Address of the client, empty if unknown.
        ip_address: Personal<String>,
        /// `User-Agent` of the client, empty if unknown.
        user_agent: Personal<String>,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// It was used and lasts longer.
    Extended {
        /// The new end.
        expires_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The token is worth nothing from now on. A session that merely expires has no such event.
    Ended {
        /// Why.
        reason: EndReason,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Why a session was ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The person signed out.
    SignedOut,
    /// Somebody ended it from elsewhere: the person on another device, or an operator.
    Revoked,
}

impl DomainEvent for SessionEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Started { .. } => "session.started",
            Self::Extended { .. } => "session.extended",
            Self::Ended { .. } => "session.ended",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for SessionEvent {}
