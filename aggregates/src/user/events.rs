//! What can have happened to a user. Stored for ever: see `tests/stored_format`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::choices::{Change, ErasureReason, PasswordCause, SecondFactorMethod};
use crate::session::EndReason;
use crate::{EmailAddress, Personal, Reading, Roles, SessionId, Tier};

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
    /// The account's address counts as not proven until somebody proves it again.
    EmailVerificationWithdrawn {
        /// When.
        at: DateTime<Utc>,
    },
    /// The account has a (new) password. Its hash is in custody only.
    PasswordSet {
        /// Why.
        #[serde(default, skip_serializing_if = "PasswordCause::is_default")]
        cause: PasswordCause,
        /// Whether the account had none until now; one that is made with a password does not say so.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        added: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// The account has no password any more: its hash is gone from custody.
    PasswordRemoved {
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
    /// The owner of the account's address agrees to the change that waits. The new address has to be proven as well.
    EmailChangeConfirmed {
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
    /// All sessions that had begun, or all but one, are over. If the account was taken over, an address change that
    /// waits for its proof is off too.
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
    /// Nobody gets in any more. A later ban takes the place of this one.
    Banned {
        /// What the person is told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<Personal<String>>,
        /// When it may be lifted by itself; absent means never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<DateTime<Utc>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person may sign in again.
    BanLifted {
        /// When.
        at: DateTime<Utc>,
    },
    /// A new TOTP secret and backup codes are in custody. They count for nothing until a code has proven them.
    SecondFactorPrepared {
        /// When.
        at: DateTime<Utc>,
    },
    /// Signing in takes a second factor from now on, and this is one.
    SecondFactorEnabled {
        /// Which.
        method: SecondFactorMethod,
        /// When.
        at: DateTime<Utc>,
    },
    /// No second factor any more, prepared or not; secret and codes are gone from custody.
    SecondFactorDisabled {
        /// When.
        at: DateTime<Utc>,
    },
    /// New backup codes are in custody; the old ones are worth nothing.
    BackupCodesReplaced {
        /// When.
        at: DateTime<Utc>,
    },
    /// One of the backup codes was shown and is worth nothing any more.
    BackupCodeUsed {
        /// When.
        at: DateTime<Utc>,
    },
    /// So many wrong codes that no second factor is checked for a while.
    SecondFactorLocked {
        /// Until when.
        until: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person may sign in with this passkey.
    PasskeyAdded {
        /// Our id of it.
        passkey_id: String,
        /// Its own id, base64url; held by this account alone.
        credential_id: Personal<String>,
        /// What proofs are checked against: public, serialised.
        credential: Personal<String>,
        /// As the person called it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<Personal<String>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// A passkey has another name.
    PasskeyRenamed {
        /// Our id of it.
        passkey_id: String,
        /// As the person calls it now.
        name: Personal<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// A passkey is worth nothing any more.
    PasskeyRemoved {
        /// Our id of it.
        passkey_id: String,
        /// Its own id, free again.
        credential_id: Personal<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// A passkey counted its uses backwards: there may be a copy of it (WebAuthn section 6.1.1).
    PasskeyCounterWentBack {
        /// Our id of it.
        passkey_id: String,
        /// The count that was known.
        known: u32,
        /// The count that was shown.
        shown: u32,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person may sign in by their account at another provider.
    AccountLinked {
        /// Our id of the link.
        link_id: String,
        /// Name of the provider.
        provider: String,
        /// Who they are there; together with the provider held by this account alone.
        subject: Personal<String>,
        /// What the provider lets us do.
        scopes: Vec<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The account at another provider is no way in any more. Its tokens are gone from custody.
    AccountUnlinked {
        /// Our id of the link.
        link_id: String,
        /// Name of the provider.
        provider: String,
        /// Who they are there; free again.
        subject: Personal<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The provider lets us do something else from now on.
    AccountScopesChanged {
        /// Our id of the link.
        link_id: String,
        /// All that it lets us do.
        scopes: Vec<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Whoever shows this key acts for the person, within its scopes.
    ApiKeyCreated {
        /// Our id of it.
        key_id: String,
        /// As the person called it.
        name: Personal<String>,
        /// The beginning of the key, by which the person tells it from others.
        prefix: String,
        /// SHA-256 of the whole key, lower-case hex; the key itself is known to the client alone.
        key_hash: String,
        /// What it is good for.
        scopes: Vec<String>,
        /// When it ends by itself; absent means never.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expires_at: Option<DateTime<Utc>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The key is worth nothing any more.
    ApiKeyRevoked {
        /// Our id of it.
        key_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The person asked for what is written down about others: one event for each page, before it was answered.
    AuditRead {
        /// What they asked for.
        reading: Reading,
        /// When.
        at: DateTime<Utc>,
    },
}
