//! What can have happened to a session. Stored for ever: see `tests/stored_format`.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use super::Factor;
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
        /// How the person proved who they are.
        #[serde(default, skip_serializing_if = "SignInMethod::is_default")]
        method: SignInMethod,
        /// Whether they showed a second factor too.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        second_factor: bool,
        /// The admin who acts as the person in this session; absent in all others.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        impersonated_by: Option<UserId>,
        /// Why they do, in their words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<String>>,
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
    /// The person has shown once more who they are: until some time later they may do what takes that (S-60). A factor
    /// that the session began with has no such event.
    FactorShown {
        /// By what.
        factor: Factor,
        /// When; earlier than the session, if it was shown in one that this has taken the place of.
        at: DateTime<Utc>,
    },
    /// The session works for this organization and team from now on; absent means for none.
    OrganizationActivated {
        /// The organization.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        organization_id: Option<String>,
        /// One of its teams.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        team_id: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The token is worth nothing from now on. A session that merely expires has no such event.
    Ended {
        /// Whose session it was; the first events of this type did not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user_id: Option<UserId>,
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
    /// The account got another password from somebody who knew the old one.
    PasswordChanged,
    /// The account got another password by a link in a mail.
    PasswordReset,
    /// The account got another address.
    EmailChanged,
    /// The account was banned.
    Banned,
    /// The admin gave up acting as the person.
    Impersonation,
    /// Another session took its place, because what it takes to sign in has changed.
    Replaced,
    /// The owner of an address proved it, and took over an account that somebody had made with it.
    AccountTakenOver,
}

/// How somebody proved who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignInMethod {
    /// By the account's password.
    #[default]
    Password,
    /// By making the account just now.
    SignUp,
    /// By a link in a mail to the account's address.
    EmailLink,
    /// By another session, which this one takes the place of.
    Session,
    /// By a link in a mail that was asked for to sign in.
    MagicLink,
    /// By a passkey.
    Passkey,
    /// By an account at another provider.
    Social,
    /// Not at all: an admin acts as them.
    Impersonation,
}

impl SignInMethod {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl DomainEvent for SessionEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Started { .. } => "session.started",
            Self::Extended { .. } => "session.extended",
            Self::FactorShown { .. } => "session.factor_shown",
            Self::OrganizationActivated { .. } => "session.organization_activated",
            Self::Ended { .. } => "session.ended",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for SessionEvent {}
