//! User: an account from sign-up on. Passwords are in custody; sessions are streams of their own.

mod account;
mod commands;
mod events;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

pub use account::Account;
pub use commands::UserCommand;
pub use events::{Change, ErasureReason, PasswordCause, UserEvent};

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
}

impl User {
    /// Says which events follow from `command`, or why it is refused.
    ///
    /// # Errors
    /// The reason, if the command is refused. A request that is already true yields no events.
    pub fn decide(&self, command: UserCommand) -> Result<Vec<UserEvent>, UserError> {
        match command {
            UserCommand::Register {
                id,
                email,
                name,
                image,
                locale,
                role,
                at,
            } => {
                if *self != Self::Absent {
                    return Err(UserError::AlreadyRegistered);
                }
                let personal = |value: String| Personal::about(id.as_str(), value);
                Ok(vec![
                    UserEvent::Registered {
                        email: Personal::about(id.as_str(), email),
                        name: personal(name),
                        image: image.map(personal),
                        locale: locale.map(personal),
                        role,
                        tier: Tier::default(),
                        at,
                    },
                    UserEvent::PasswordSet {
                        cause: PasswordCause::SignUp,
                        at,
                    },
                ])
            }
            UserCommand::VerifyEmail { email, at } => self.account()?.verify_email(&email, at),
            UserCommand::SetPassword { cause, keep, at } => {
                self.account()?;
                let reason = match cause {
                    PasswordCause::SignUp | PasswordCause::Change => EndReason::PasswordChanged,
                    PasswordCause::Reset => EndReason::PasswordReset,
                };
                Ok(vec![
                    UserEvent::PasswordSet { cause, at },
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
            UserCommand::ChangeEmail { to, keep, at } => self.account()?.change_email(to, keep, at),
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
        }
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
                    former_emails: Vec::new(),
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
