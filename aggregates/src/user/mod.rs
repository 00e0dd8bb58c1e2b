//! User: an account from sign-up on. Passwords are in custody; sessions are streams of their own.

mod commands;
mod events;
#[cfg(test)]
mod tests;

use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

pub use commands::UserCommand;
pub use events::{Change, UserEvent};

use crate::{EmailAddress, Personal, Role, Tier};

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
}

/// What is known of a registered user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    id: String,
    email: Personal<EmailAddress>,
    name: Personal<String>,
    image: Option<Personal<String>>,
    locale: Option<Personal<String>>,
    email_verified: bool,
    role: Role,
    tier: Tier,
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
                    UserEvent::PasswordSet { at },
                ])
            }
            UserCommand::VerifyEmail { email, at } => self.account()?.verify_email(&email, at),
            UserCommand::SetPassword { at } => {
                self.account().map(|_| vec![UserEvent::PasswordSet { at }])
            }
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

    fn account(&self) -> Result<&Account, UserError> {
        match self {
            Self::Absent => Err(UserError::NotRegistered),
            Self::Registered(account) => Ok(account),
        }
    }
}

impl Account {
    fn verify_email(
        &self,
        email: &EmailAddress,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        // A link proves the address that it was sent to, not the one that the account has by now.
        if self.email.get() != Some(email) {
            return Err(UserError::OtherEmail);
        }
        Ok(if self.email_verified {
            vec![]
        } else {
            vec![UserEvent::EmailVerified { at }]
        })
    }

    fn change_profile(
        &self,
        name: Option<String>,
        image: Option<Option<String>>,
        locale: Option<Option<String>>,
        at: DateTime<Utc>,
    ) -> Vec<UserEvent> {
        let name = name
            .filter(|name| self.name.get() != Some(name))
            .map(|name| Personal::about(&self.id, name));
        let image = self.change(&self.image, image);
        let locale = self.change(&self.locale, locale);
        if name.is_none() && image == Change::Kept && locale == Change::Kept {
            return vec![];
        }
        vec![UserEvent::ProfileChanged {
            name,
            image,
            locale,
            at,
        }]
    }

    fn change(&self, old: &Option<Personal<String>>, new: Option<Option<String>>) -> Change {
        let old = old.as_ref().and_then(Personal::get);
        match new {
            None => Change::Kept,
            Some(new) if new.as_ref() == old => Change::Kept,
            Some(None) => Change::Removed,
            Some(Some(value)) => Change::Set(Personal::about(&self.id, value)),
        }
    }

    fn apply(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered { .. } | UserEvent::PasswordSet { .. } => {}
            UserEvent::EmailVerified { .. } => self.email_verified = true,
            UserEvent::ProfileChanged {
                name,
                image,
                locale,
                ..
            } => {
                if let Some(name) = name {
                    self.name = name;
                }
                apply_change(&mut self.image, image);
                apply_change(&mut self.locale, locale);
            }
            UserEvent::RoleChanged { role, .. } => self.role = role,
            UserEvent::TierChanged { tier, .. } => self.tier = tier,
        }
    }
}

fn apply_change(field: &mut Option<Personal<String>>, change: Change) {
    match change {
        Change::Kept => {}
        Change::Removed => *field = None,
        Change::Set(value) => *field = Some(value),
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
                });
            }
            (Self::Registered(account), event) => account.apply(event),
            (Self::Absent, _) => {}
        }
    }
}
