//! What can have happened to a user. Stored for ever: see `tests/stored_format`.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::{ClaimChange, ClaimScope, EmailAddress, Personal, Role, StoredEvent, Tier};

/// A fact about a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserEvent {
    /// The account exists from now on; the address is not proven yet.
    Registered {
        /// Held by this account alone.
        email: Personal<EmailAddress>,
        /// As the person wrote it.
        name: Personal<String>,
        /// Address of a picture.
        image: Option<Personal<String>>,
        /// Language tag.
        locale: Option<Personal<String>>,
        /// Role at the start.
        role: Role,
        /// Tier at the start.
        tier: Tier,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person reads mail sent to the account's address.
    EmailVerified {
        /// When.
        at: DateTime<Utc>,
    },
    /// The account has a (new) password. Its hash is in custody only.
    PasswordSet {
        /// When.
        at: DateTime<Utc>,
    },
    /// Fields that are absent stayed as they were.
    ProfileChanged {
        /// New name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Personal<String>>,
        /// New picture, or its removal.
        #[serde(default, skip_serializing_if = "Change::is_kept")]
        image: Change,
        /// New language, or its removal.
        #[serde(default, skip_serializing_if = "Change::is_kept")]
        locale: Change,
        /// When.
        at: DateTime<Utc>,
    },
    /// Takes effect with the next access token.
    RoleChanged {
        /// The new role.
        role: Role,
        /// When.
        at: DateTime<Utc>,
    },
    /// Takes effect with the next access token.
    TierChanged {
        /// The new tier.
        tier: Tier,
        /// When.
        at: DateTime<Utc>,
    },
}

/// What became of an optional field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// As it was.
    #[default]
    Kept,
    /// Empty from now on.
    Removed,
    /// This from now on.
    Set(Personal<String>),
}

impl Change {
    fn is_kept(&self) -> bool {
        *self == Self::Kept
    }
}

impl DomainEvent for UserEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Registered { .. } => "user.registered",
            Self::EmailVerified { .. } => "user.email_verified",
            Self::PasswordSet { .. } => "user.password_set",
            Self::ProfileChanged { .. } => "user.profile_changed",
            Self::RoleChanged { .. } => "user.role_changed",
            Self::TierChanged { .. } => "user.tier_changed",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for UserEvent {
    fn claims(&self) -> Vec<ClaimChange> {
        match self {
            Self::Registered { email, .. } => email
                .get()
                .map(|email| ClaimChange::Take(ClaimScope::Email, email.as_str().to_owned()))
                .into_iter()
                .collect(),
            Self::EmailVerified { .. }
            | Self::PasswordSet { .. }
            | Self::ProfileChanged { .. }
            | Self::RoleChanged { .. }
            | Self::TierChanged { .. } => Vec::new(),
        }
    }
}
