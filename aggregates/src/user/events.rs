//! What can have happened to a user. Stored for ever: see `tests/stored_format`.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::session::EndReason;
use crate::{ClaimChange, ClaimScope, EmailAddress, Personal, Roles, SessionId, StoredEvent, Tier};

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
        role: Roles,
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
        /// Why.
        #[serde(default, skip_serializing_if = "PasswordCause::is_default")]
        cause: PasswordCause,
        /// When.
        at: DateTime<Utc>,
    },
    /// Another address was asked for. It counts once it is proven; a later request takes the place of this one.
    EmailChangeRequested {
        /// The address asked for.
        to: Personal<EmailAddress>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The account has an address that it did not have lately. The former one stays reserved until it is
    /// released or taken back.
    EmailChanged {
        /// The address until now.
        from: Personal<EmailAddress>,
        /// The address from now on.
        to: Personal<EmailAddress>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The account has its former address again; the other one is free. What it had in between is released
    /// by events of its own.
    EmailChangeReverted {
        /// The address until now.
        from: Personal<EmailAddress>,
        /// The former address.
        to: Personal<EmailAddress>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The former address is free for others.
    FormerEmailReleased {
        /// The former address.
        email: Personal<EmailAddress>,
        /// When.
        at: DateTime<Utc>,
    },
    /// All sessions that had begun, or all but one, are over.
    SessionsEnded {
        /// The one that goes on.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        except: Option<SessionId>,
        /// Why.
        reason: EndReason,
        /// When.
        at: DateTime<Utc>,
    },
    /// So many wrong passwords that everybody but known devices has to wait.
    LockedOut {
        /// Until when.
        until: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The account is closed: nobody gets in, its claims are free, and everything personal is being destroyed.
    ErasureRequested {
        /// Why.
        reason: ErasureReason,
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
        role: Roles,
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

/// Why a password was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordCause {
    /// The account was made with it.
    #[default]
    SignUp,
    /// The person knew the one before.
    Change,
    /// The person followed a link in a mail.
    Reset,
}

impl PasswordCause {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an account is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureReason {
    /// The person wanted it.
    OwnRequest,
}

impl ErasureReason {
    /// The reason's text in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnRequest => "own_request",
        }
    }
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
            Self::EmailChangeRequested { .. } => "user.email_change_requested",
            Self::EmailChanged { .. } => "user.email_changed",
            Self::EmailChangeReverted { .. } => "user.email_change_reverted",
            Self::FormerEmailReleased { .. } => "user.former_email_released",
            Self::SessionsEnded { .. } => "user.sessions_ended",
            Self::LockedOut { .. } => "user.locked_out",
            Self::ErasureRequested { .. } => "user.erasure_requested",
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
        // An erased address holds and frees nothing: erasure has released whatever there was.
        let changed = |change: fn(ClaimScope, String) -> ClaimChange,
                       email: &Personal<EmailAddress>| {
            email
                .get()
                .map(|email| change(ClaimScope::Email, email.as_str().to_owned()))
        };
        match self {
            Self::Registered { email: to, .. } | Self::EmailChanged { to, .. } => {
                changed(ClaimChange::Take, to).into_iter().collect()
            }
            Self::EmailChangeReverted { from: email, .. }
            | Self::FormerEmailReleased { email, .. } => {
                changed(ClaimChange::Release, email).into_iter().collect()
            }
            Self::ErasureRequested { .. } => vec![ClaimChange::ReleaseAll],
            Self::EmailChangeRequested { .. }
            | Self::SessionsEnded { .. }
            | Self::LockedOut { .. }
            | Self::EmailVerified { .. }
            | Self::PasswordSet { .. }
            | Self::ProfileChanged { .. }
            | Self::RoleChanged { .. }
            | Self::TierChanged { .. } => Vec::new(),
        }
    }
}
