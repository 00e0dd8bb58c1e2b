//! What can be asked of a user.

use chrono::{DateTime, Utc};

use crate::{EmailAddress, Role, Tier, UserId};

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
        role: Role,
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
    /// Give the account a new password; the hash goes into custody in the same transaction.
    SetPassword {
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
        role: Role,
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
