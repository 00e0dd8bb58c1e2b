//! What can be asked of a user.

use chrono::{DateTime, Utc};

use super::events::{ErasureReason, PasswordCause};
use crate::session::EndReason;
use crate::{EmailAddress, Roles, SessionId, Tier, UserId};

/// A request to change a user. Secrets travel beside a command, into custody, never inside it.
#[derive(Clone)]
pub enum UserCommand {
    /// Make an account. The password hash goes into custody in the same transaction.
    Register {
        /// Whose account this becomes.
        id: UserId,
        /// Unique over all accounts.
        email: EmailAddress,
        /// As the person wrote it; may be empty.
        name: String,
        /// Address of a picture.
        image: Option<String>,
        /// Language tag for mails and apps.
        locale: Option<String>,
        /// Role at the start.
        role: Roles,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person has shown that they read mail sent to `email`.
    VerifyEmail {
        /// The address that was proven; refused if it is no longer the account's.
        email: EmailAddress,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give the account a new password; the hash goes into custody in the same transaction. Sessions end with
    /// it, and an address change that waits for its proof is off (S-07, S-61).
    SetPassword {
        /// Why.
        cause: PasswordCause,
        /// The one session that goes on.
        keep: Option<SessionId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Ask for another address; it has to be proven before it counts.
    RequestEmailChange {
        /// The address asked for.
        to: EmailAddress,
        /// When.
        at: DateTime<Utc>,
    },
    /// The address asked for was proven; refused if it is not the one that waits. Other sessions end. To a former
    /// address this is `RevertEmail`, but for the session that goes on.
    ChangeEmail {
        /// The address that was proven.
        to: EmailAddress,
        /// The one session that goes on.
        keep: Option<SessionId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Go back to an address that the account had until lately; those that it had since then are no way back any
    /// more. All sessions end.
    RevertEmail {
        /// The former address.
        to: EmailAddress,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give a former address free: nobody has gone back to it in time.
    ReleaseFormerEmail {
        /// The former address.
        email: EmailAddress,
        /// When the account left it, the time of `EmailChanged`; if it left it again later, nothing happens yet.
        left_at: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// End all sessions, or all but one.
    EndSessions {
        /// The one session that goes on.
        keep: Option<SessionId>,
        /// Why.
        reason: EndReason,
        /// When.
        at: DateTime<Utc>,
    },
    /// Too many wrong passwords: whoever tries from elsewhere than a known device has to wait.
    LockOut {
        /// Until when.
        until: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Close the account for good: from now on nobody gets in, and everything personal will be destroyed.
    RequestErasure {
        /// Why.
        reason: ErasureReason,
        /// When.
        at: DateTime<Utc>,
    },
    /// Change what the person shows of themselves; `None` leaves a field as it is.
    ChangeProfile {
        /// New name.
        name: Option<String>,
        /// New picture; `Some(None)` removes it.
        image: Option<Option<String>>,
        /// New language; `Some(None)` removes it.
        locale: Option<Option<String>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give another role.
    ChangeRole {
        /// The new role.
        role: Roles,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give another tier.
    ChangeTier {
        /// The new tier.
        tier: Tier,
        /// When.
        at: DateTime<Utc>,
    },
}
