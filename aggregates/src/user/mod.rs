//! User: an account from sign-up on. Passwords are in custody; sessions are streams of their own.

mod account;
mod api_keys;
mod choices;
mod commands;
mod events;
mod links;
mod passkeys;
mod second_factor;
mod stored;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

pub use account::Account;
pub use choices::{Change, ErasureReason, PasswordCause, SecondFactorMethod};
pub use commands::{NewLink, UserCommand};
pub use events::UserEvent;

use self::second_factor::SecondFactor;
use crate::session::EndReason;
use crate::{EmailAddress, Personal, SessionId, Tier};

/// An account, or the place where one may come to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(
    clippy::large_enum_variant,
    reason = "whoever is loaded is registered, but for the moment before"
)]
pub enum User {
    /// Nobody registered under this id.
    #[default]
    Absent,
    /// An account.
    Registered(Account),
    /// There was one; nobody registers under this id again.
    Closed,
}

/// Why a command on a user is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum UserError {
    /// The id is in use.
    #[error("the user is registered already")]
    AlreadyRegistered,
    /// There is no such user.
    #[error("there is no such user")]
    NotRegistered,
    /// The proof is for an address that is not the account's.
    #[error("the address is not the account's")]
    OtherEmail,
    /// Nobody waits for this address any more: it was not asked for, or the request was taken back.
    #[error("this address is not the one that was asked for")]
    NoSuchChange,
    /// TOTP has to be switched off before another secret is made.
    #[error("TOTP is enabled already")]
    TotpEnabled,
    /// No second factor is on, or none that was prepared waits.
    #[error("no second factor is enabled")]
    SecondFactorOff,
    /// They have no such passkey.
    #[error("there is no such passkey")]
    NoSuchPasskey,
    /// The passkey is theirs already.
    #[error("the passkey is known already")]
    PasskeyKnown,
    /// They have as many as an account may have.
    #[error("the account has too many passkeys")]
    TooManyPasskeys,
    /// They have no such account at another provider, or no password.
    #[error("there is no such account")]
    NoSuchAccount,
    /// The account at the other provider is theirs already.
    #[error("the account is linked already")]
    LinkedAlready,
    /// Without it nobody could sign in any more.
    #[error("it is the last way in")]
    LastWayIn,
    /// They have no such API key.
    #[error("there is no such API key")]
    NoSuchApiKey,
    /// They have as many as an account may have.
    #[error("the account has too many API keys")]
    TooManyApiKeys,
}

impl User {
    /// Says which events follow from `command`, or why it is refused.
    ///
    /// # Errors
    /// The reason, if the command is refused. A request that is already true yields no events.
    pub fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        match command {
            UserCommand::All(commands) => self.decide_all(commands),
            UserCommand::Register {
                id,
                email,
                name,
                image,
                locale,
                role,
                password,
                email_verified,
                link,
                at,
            } => {
                if *self != Self::Absent {
                    return Err(UserError::AlreadyRegistered);
                }
                let personal = |value: String| Personal::about(id.as_str(), value);
                let mut events = vec![UserEvent::Registered {
                    email: Personal::about(id.as_str(), email),
                    name: personal(name),
                    image: image.map(personal),
                    locale: locale.map(personal),
                    role,
                    tier: Tier::default(),
                    at,
                }];
                events.extend(password.then_some(UserEvent::PasswordSet {
                    cause: PasswordCause::SignUp,
                    added: false,
                    at,
                }));
                events.extend(email_verified.then_some(UserEvent::EmailVerified { at }));
                events.extend(link.map(|link| UserEvent::AccountLinked {
                    link_id: link.link_id,
                    provider: link.provider,
                    subject: personal(link.subject),
                    scopes: link.scopes,
                    at,
                }));
                Ok(events)
            }
            UserCommand::VerifyEmail { email, at } => self.account()?.verify_email(&email, at),
            UserCommand::WithdrawEmailVerification { at } => {
                let withdrawn = self.account()?.email_verified;
                Ok(withdrawn
                    .then_some(UserEvent::EmailVerificationWithdrawn { at })
                    .into_iter()
                    .collect())
            }
            UserCommand::SetPassword { cause, keep, at } => {
                let added = !self.account()?.has_password;
                let reason = match cause {
                    PasswordCause::SignUp | PasswordCause::Change => EndReason::PasswordChanged,
                    PasswordCause::Reset => EndReason::PasswordReset,
                };
                Ok(vec![
                    UserEvent::PasswordSet { cause, added, at },
                    sessions_ended(keep, reason, at),
                ])
            }
            UserCommand::RequestEmailChange { to, at } => {
                let account = self.account()?;
                if account.email.get() == Some(&to) {
                    return Ok(vec![]);
                }
                let to = Personal::about(&account.id, to);
                Ok(vec![UserEvent::EmailChangeRequested { to, at }])
            }
            UserCommand::ConfirmEmailChange { to, at } => {
                self.account()?.confirm_email_change(&to, at)
            }
            UserCommand::ChangeEmail {
                to,
                needs_consent,
                keep,
                at,
            } => self.account()?.change_email(to, needs_consent, keep, at),
            UserCommand::RevertEmail { to, at } => self.account()?.go_back(&to, None, at),
            UserCommand::ReleaseFormerEmail { email, left_at, at } => {
                Ok(self.account()?.release_former_email(&email, left_at, at))
            }
            UserCommand::EndSessions { keep, reason, at } => {
                self.account()?;
                Ok(vec![sessions_ended(keep, reason, at)])
            }
            UserCommand::LockOut { until, at } => {
                self.account()?;
                Ok(vec![UserEvent::LockedOut { until, at }])
            }
            UserCommand::RequestErasure { reason, at } => match self {
                Self::Absent => Err(UserError::NotRegistered),
                Self::Registered(_) => Ok(vec![UserEvent::ErasureRequested { reason, at }]),
                Self::Closed => Ok(vec![]),
            },
            UserCommand::ChangeProfile {
                name,
                image,
                locale,
                at,
            } => self
                .account()
                .map(|account| account.change_profile(name, image, locale, at)),
            UserCommand::ChangeRole { role, at } => {
                let changes = self.account()?.role != role;
                Ok(changes
                    .then_some(UserEvent::RoleChanged { role, at })
                    .into_iter()
                    .collect())
            }
            UserCommand::ChangeTier { tier, at } => {
                let changes = self.account()?.tier != tier;
                Ok(changes
                    .then_some(UserEvent::TierChanged { tier, at })
                    .into_iter()
                    .collect())
            }
            UserCommand::RemovePassword { at } => self.account()?.remove_password(at),
            UserCommand::ProveByLink { email, at } => self.account()?.prove_by_link(&email, at),
            UserCommand::Ban { reason, until, at } => Ok(self.account()?.ban(reason, until, at)),
            UserCommand::LiftBan { at } => {
                let lifted = self.account()?.ban.is_some();
                Ok(lifted
                    .then_some(UserEvent::BanLifted { at })
                    .into_iter()
                    .collect())
            }
            UserCommand::PrepareSecondFactor { at } => self.account()?.second_factor.prepare(at),
            UserCommand::EnableSecondFactor { method, at } => {
                self.account()?.second_factor.enable(method, at)
            }
            UserCommand::DisableSecondFactor { at } => {
                Ok(self.account()?.second_factor.disable(at))
            }
            UserCommand::ReplaceBackupCodes { at } => {
                let event = UserEvent::BackupCodesReplaced { at };
                self.account()?.second_factor.only_if_on(event)
            }
            UserCommand::UseBackupCode { at } => {
                let event = UserEvent::BackupCodeUsed { at };
                self.account()?.second_factor.only_if_on(event)
            }
            UserCommand::LockSecondFactor { until, at } => {
                self.account()?.second_factor.lock(until, at)
            }
            UserCommand::AddPasskey {
                passkey_id,
                credential_id,
                credential,
                name,
                at,
            } => self
                .account()?
                .add_passkey(passkey_id, credential_id, credential, name, at),
            UserCommand::RenamePasskey {
                passkey_id,
                name,
                at,
            } => self.account()?.rename_passkey(passkey_id, name, at),
            UserCommand::RemovePasskey { passkey_id, at } => {
                self.account()?.remove_passkey(&passkey_id, at)
            }
            UserCommand::ReportPasskeyCounter {
                passkey_id,
                known,
                shown,
                at,
            } => self
                .account()?
                .report_passkey_counter(passkey_id, known, shown, at),
            UserCommand::LinkAccount {
                link_id,
                provider,
                subject,
                scopes,
                at,
            } => self
                .account()?
                .link_account(link_id, provider, subject, scopes, at),
            UserCommand::UnlinkAccount { link_id, at } => {
                self.account()?.unlink_account(&link_id, at)
            }
            UserCommand::ChangeAccountScopes {
                link_id,
                scopes,
                at,
            } => self.account()?.change_account_scopes(link_id, scopes, at),
            UserCommand::CreateApiKey {
                key_id,
                name,
                prefix,
                key_hash,
                scopes,
                expires_at,
                at,
            } => {
                let account = self.account()?;
                account.has_room_for_api_key(at)?;
                Ok(vec![UserEvent::ApiKeyCreated {
                    key_id,
                    name: Personal::about(&account.id, name),
                    prefix,
                    key_hash,
                    scopes,
                    expires_at,
                    at,
                }])
            }
            UserCommand::RevokeApiKey { key_id, at } => self.account()?.revoke_api_key(&key_id, at),
            UserCommand::ReadAudit { reading, at } => {
                self.account()?;
                Ok(vec![UserEvent::AuditRead { reading, at }])
            }
        }
    }

    fn decide_all(&self, commands: Vec<UserCommand>) -> Result<Vec<UserEvent>, UserError> {
        let mut later = self.clone();
        let mut all = Vec::new();
        for command in commands {
            let events = later.decide(command)?;
            for event in &events {
                later.apply(event.clone());
            }
            all.extend(events);
        }
        Ok(all)
    }

    /// Whether codes of an authenticator app are a second factor.
    pub fn has_totp(&self) -> bool {
        self.account()
            .is_ok_and(|account| account.second_factor.has_totp())
    }

    /// Whether the owner of the account's address has agreed to the change that waits.
    pub fn change_is_confirmed(&self) -> bool {
        self.account().is_ok_and(|account| account.change_confirmed)
    }

    /// The address that was asked for and is not proven yet.
    pub fn pending_email(&self) -> Option<&EmailAddress> {
        self.account().ok()?.pending_email.as_ref()?.get()
    }

    fn account(&self) -> Result<&Account, UserError> {
        match self {
            Self::Absent | Self::Closed => Err(UserError::NotRegistered),
            Self::Registered(account) => Ok(account),
        }
    }
}

fn sessions_ended(keep: Option<SessionId>, reason: EndReason, at: DateTime<Utc>) -> UserEvent {
    UserEvent::SessionsEnded {
        except: keep,
        reason,
        at,
    }
}

impl Aggregate for User {
    const TYPE: &'static str = "user";
    type Command = UserCommand;
    type Event = UserEvent;
    type Error = UserError;
    type Services = ();

    async fn handle(
        &mut self,
        command: UserCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), UserError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: UserEvent) {
        match (self, event) {
            (
                this @ Self::Absent,
                UserEvent::Registered {
                    email,
                    name,
                    image,
                    locale,
                    role,
                    tier,
                    ..
                },
            ) => {
                let id = email.subject().to_owned();
                *this = Self::Registered(Account {
                    id,
                    email,
                    name,
                    image,
                    locale,
                    email_verified: false,
                    role,
                    tier,
                    pending_email: None,
                    change_confirmed: false,
                    former_emails: Vec::new(),
                    has_password: false,
                    ban: None,
                    second_factor: SecondFactor::default(),
                    passkeys: Vec::new(),
                    links: Vec::new(),
                    api_keys: Vec::new(),
                });
            }
            (this @ Self::Registered(_), UserEvent::ErasureRequested { .. }) => {
                *this = Self::Closed;
            }
            (Self::Registered(account), event) => account.apply(event),
            (Self::Absent | Self::Closed, _) => {}
        }
    }
}
