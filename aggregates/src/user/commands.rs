//! What can be asked of a user.

use chrono::{DateTime, Utc};

use super::choices::{ErasureReason, PasswordCause, SecondFactorMethod};
use crate::session::EndReason;
use crate::{EmailAddress, Reading, Roles, SessionId, Tier, UserId};

/// An account at another provider that a person is to sign in by.
#[derive(Clone, Debug, PartialEq)]
pub struct NewLink {
    /// Our id of the link.
    pub link_id: String,
    /// Name of the provider.
    pub provider: String,
    /// Who they are there; together with the provider unique over all accounts.
    pub subject: String,
    /// What the provider lets us do.
    pub scopes: Vec<String>,
}

/// A request to change a user. Secrets travel beside a command, into custody, never inside it.
#[derive(Clone)]
pub enum UserCommand {
    /// Several changes at once, each decided as if those before it had happened: all of them, or none.
    All(Vec<UserCommand>),
    /// Make an account. A password's hash goes into custody in the same transaction.
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
        /// Whether it has a password.
        password: bool,
        /// Whether the address is proven already.
        email_verified: bool,
        /// The account at another provider that it is made from; that provider's tokens go into custody with this.
        link: Option<NewLink>,
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
    /// Let the address count as not proven.
    WithdrawEmailVerification {
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
    /// The owner of the account's address agrees to the change; refused if it is not the one that waits.
    ConfirmEmailChange {
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
        /// Whether the owner of the old address must have agreed, if that is proven.
        needs_consent: bool,
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
    /// Take the password away; refused if it is the last way in. Its hash goes from custody in the same transaction.
    RemovePassword {
        /// When.
        at: DateTime<Utc>,
    },
    /// The person followed a link that was mailed to `email`, or came from a provider that vouches for it. If nobody
    /// had proven the address yet, whoever made the account is not known to be its owner: all of their ways in are
    /// shut (S-67). What of it is in custody goes in the same transaction.
    ProveByLink {
        /// The address that was proven; refused if it is not the account's.
        email: EmailAddress,
        /// When.
        at: DateTime<Utc>,
    },
    /// Let nobody in any more; all sessions end.
    Ban {
        /// What the person is told.
        reason: Option<String>,
        /// When it may be lifted by itself; `None` means never.
        until: Option<DateTime<Utc>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Let the person in again.
    LiftBan {
        /// When.
        at: DateTime<Utc>,
    },
    /// A new TOTP secret and backup codes go into custody with this; refused if one is in use.
    PrepareSecondFactor {
        /// When.
        at: DateTime<Utc>,
    },
    /// A second factor is asked for from now on. TOTP has to be prepared, and proven by a code.
    EnableSecondFactor {
        /// Which.
        method: SecondFactorMethod,
        /// When.
        at: DateTime<Utc>,
    },
    /// Ask for no second factor any more, and forget what was prepared.
    DisableSecondFactor {
        /// When.
        at: DateTime<Utc>,
    },
    /// New backup codes go into custody with this.
    ReplaceBackupCodes {
        /// When.
        at: DateTime<Utc>,
    },
    /// A backup code was shown; the codes that are left go into custody with this.
    UseBackupCode {
        /// When.
        at: DateTime<Utc>,
    },
    /// Too many wrong codes: no second factor is checked for a while.
    LockSecondFactor {
        /// Until when.
        until: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Let the person sign in with a passkey that they have proven to have.
    AddPasskey {
        /// Our id of it.
        passkey_id: String,
        /// Its own id, base64url; unique over all accounts.
        credential_id: String,
        /// What proofs are checked against: public, serialised.
        credential: String,
        /// As the person calls it.
        name: Option<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Give a passkey another name.
    RenamePasskey {
        /// Our id of it.
        passkey_id: String,
        /// The new name.
        name: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take a passkey away.
    RemovePasskey {
        /// Our id of it.
        passkey_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Record that a passkey counted its uses backwards.
    ReportPasskeyCounter {
        /// Our id of it.
        passkey_id: String,
        /// The count that was known.
        known: u32,
        /// The count that was shown.
        shown: u32,
        /// When.
        at: DateTime<Utc>,
    },
    /// Let the person sign in by their account at another provider. Its tokens go into custody with this.
    LinkAccount {
        /// Our id of the link.
        link_id: String,
        /// Name of the provider.
        provider: String,
        /// Who they are there; together with the provider unique over all accounts.
        subject: String,
        /// What the provider lets us do.
        scopes: Vec<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Take an account at another provider away; refused for the only account. Its tokens go from custody with this.
    UnlinkAccount {
        /// Our id of the link.
        link_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// The provider lets us do something else.
    ChangeAccountScopes {
        /// Our id of the link.
        link_id: String,
        /// All that it lets us do.
        scopes: Vec<String>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Make a key for programs that act for the person.
    CreateApiKey {
        /// Our id of it.
        key_id: String,
        /// As the person calls it.
        name: String,
        /// The beginning of the key, by which the person tells it from others.
        prefix: String,
        /// SHA-256 of the whole key, lower-case hex.
        key_hash: String,
        /// What it is good for.
        scopes: Vec<String>,
        /// When it ends by itself; `None` means never.
        expires_at: Option<DateTime<Utc>>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Let a key count no more.
    RevokeApiKey {
        /// Our id of it.
        key_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Write down that the person, as an admin or auditor, reads what is written down about others.
    ReadAudit {
        /// What they read.
        reading: Reading,
        /// When.
        at: DateTime<Utc>,
    },
}
