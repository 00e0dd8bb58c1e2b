//! What a registered user may do, and what of it is remembered.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::api_keys::ApiKey;
use super::links::Link;
use super::passkeys::Passkey;
use super::second_factor::SecondFactor;
use super::{Change, UserError, UserEvent, sessions_ended};
use crate::session::EndReason;
use crate::{EmailAddress, Personal, Roles, SessionId, Tier};

/// What is known of a registered user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub(super) id: String,
    pub(super) email: Personal<EmailAddress>,
    pub(super) name: Personal<String>,
    pub(super) image: Option<Personal<String>>,
    pub(super) locale: Option<Personal<String>>,
    pub(super) email_verified: bool,
    pub(super) role: Roles,
    pub(super) tier: Tier,
    /// The address that was asked for and is not proven yet.
    pub(super) pending_email: Option<Personal<EmailAddress>>,
    /// Whether the owner of `email` has agreed to the change that was asked for last.
    pub(super) change_confirmed: bool,
    /// Addresses that the account had until lately and may go back to, in the order in which it left them, and when.
    pub(super) former_emails: Vec<(Personal<EmailAddress>, DateTime<Utc>)>,
    pub(super) has_password: bool,
    pub(super) ban: Option<Ban>,
    pub(super) second_factor: SecondFactor,
    pub(super) passkeys: Vec<Passkey>,
    pub(super) links: Vec<Link>,
    pub(super) api_keys: Vec<ApiKey>,
}

/// Why nobody gets in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Ban {
    reason: Option<Personal<String>>,
    until: Option<DateTime<Utc>>,
}

impl Account {
    pub(super) fn verify_email(
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

    pub(super) fn confirm_email_change(
        &self,
        to: &EmailAddress,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        self.waits_for(to)?;
        Ok(if self.change_confirmed {
            vec![]
        } else {
            vec![UserEvent::EmailChangeConfirmed { at }]
        })
    }

    pub(super) fn change_email(
        &self,
        to: EmailAddress,
        needs_consent: bool,
        keep: Option<SessionId>,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        self.waits_for(&to)?;
        // The link may have been mailed before the old address was proven, and had a say.
        if needs_consent && self.email_verified && !self.change_confirmed {
            return Err(UserError::NoSuchChange);
        }
        // An address that the account had lately is gone back to, whichever way it is asked for.
        if let Ok(events) = self.go_back(&to, keep.clone(), at) {
            return Ok(events);
        }
        Ok(vec![
            UserEvent::EmailChanged {
                from: self.email.clone(),
                to: Personal::about(&self.id, to),
                at,
            },
            sessions_ended(keep, EndReason::EmailChanged, at),
        ])
    }

    fn waits_for(&self, to: &EmailAddress) -> Result<(), UserError> {
        match self.pending_email.as_ref().and_then(Personal::get) {
            Some(pending) if pending == to => Ok(()),
            _ => Err(UserError::NoSuchChange),
        }
    }

    pub(super) fn go_back(
        &self,
        to: &EmailAddress,
        keep: Option<SessionId>,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let mut formers = self.former_emails.iter();
        let former = formers.find(|(former, _)| former.get() == Some(to));
        let mut events = vec![UserEvent::EmailChangeReverted {
            from: self.email.clone(),
            to: former.ok_or(UserError::NoSuchChange)?.0.clone(),
            at,
        }];
        // Whoever had the account since then does not get it back by the link that was mailed to them.
        events.extend(formers.map(|(later, _)| released(later, at)));
        events.push(sessions_ended(keep, EndReason::EmailChanged, at));
        Ok(events)
    }

    pub(super) fn release_former_email(
        &self,
        email: &EmailAddress,
        left_at: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Vec<UserEvent> {
        // An address that was gone back to and left again since is reserved anew.
        let formers = self.former_emails.iter();
        formers
            .filter(|(former, left)| former.get() == Some(email) && *left <= left_at)
            .map(|(former, _)| released(former, at))
            .collect()
    }

    pub(super) fn change_profile(
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

    pub(super) fn ban(
        &self,
        reason: Option<String>,
        until: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
    ) -> Vec<UserEvent> {
        let reason = reason.map(|reason| Personal::about(&self.id, reason));
        let ban = Some(Ban { reason, until });
        if self.ban == ban {
            return vec![];
        }
        let reason = ban.and_then(|ban| ban.reason);
        vec![
            UserEvent::Banned { reason, until, at },
            sessions_ended(None, EndReason::Banned, at),
        ]
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

    fn forget_former(&mut self, email: &Personal<EmailAddress>) {
        self.former_emails
            .retain(|(former, _)| former.get() != email.get());
    }

    pub(super) fn apply(&mut self, event: UserEvent) {
        match event {
            UserEvent::Registered { .. }
            | UserEvent::LockedOut { .. }
            | UserEvent::ErasureRequested { .. }
            | UserEvent::BackupCodesReplaced { .. }
            | UserEvent::BackupCodeUsed { .. }
            | UserEvent::SecondFactorLocked { .. }
            | UserEvent::PasskeyCounterWentBack { .. }
            | UserEvent::AuditRead { .. } => {}
            UserEvent::SessionsEnded { reason, .. } => {
                if reason == EndReason::AccountTakenOver {
                    self.pending_email = None;
                }
            }
            UserEvent::PasswordSet { .. } => {
                self.has_password = true;
                self.pending_email = None;
            }
            UserEvent::PasswordRemoved { .. } => self.has_password = false,
            UserEvent::EmailVerified { .. } => self.email_verified = true,
            UserEvent::EmailVerificationWithdrawn { .. } => self.email_verified = false,
            UserEvent::EmailChangeRequested { to, .. } => {
                self.pending_email = Some(to);
                self.change_confirmed = false;
            }
            UserEvent::EmailChangeConfirmed { .. } => self.change_confirmed = true,
            UserEvent::EmailChanged { from, to, at } => {
                self.former_emails.push((from, at));
                self.email = to;
                self.pending_email = None;
            }
            UserEvent::EmailChangeReverted { to, .. } => {
                self.forget_former(&to);
                self.email = to;
                self.pending_email = None;
            }
            UserEvent::FormerEmailReleased { email, .. } => self.forget_former(&email),
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
            UserEvent::Banned { reason, until, .. } => self.ban = Some(Ban { reason, until }),
            UserEvent::BanLifted { .. } => self.ban = None,
            UserEvent::SecondFactorPrepared { .. } => self.second_factor.prepared(),
            UserEvent::SecondFactorEnabled { method, .. } => self.second_factor.enabled(method),
            UserEvent::SecondFactorDisabled { .. } => self.second_factor = SecondFactor::default(),
            UserEvent::PasskeyAdded {
                passkey_id: id,
                credential_id,
                name,
                ..
            } => self.passkeys.push(Passkey {
                id,
                credential_id,
                name,
            }),
            UserEvent::PasskeyRenamed {
                passkey_id, name, ..
            } => {
                if let Some(passkey) = self.passkeys.iter_mut().find(|p| p.id == passkey_id) {
                    passkey.name = Some(name);
                }
            }
            UserEvent::PasskeyRemoved { passkey_id, .. } => {
                self.passkeys.retain(|passkey| passkey.id != passkey_id);
            }
            UserEvent::AccountLinked {
                link_id: id,
                provider,
                subject,
                scopes,
                ..
            } => self.links.push(Link {
                id,
                provider,
                subject,
                scopes,
            }),
            UserEvent::AccountUnlinked { link_id, .. } => {
                self.links.retain(|link| link.id != link_id);
            }
            UserEvent::AccountScopesChanged {
                link_id, scopes, ..
            } => {
                if let Some(link) = self.links.iter_mut().find(|link| link.id == link_id) {
                    link.scopes = scopes;
                }
            }
            UserEvent::ApiKeyCreated {
                key_id: id,
                expires_at,
                ..
            } => self.api_keys.push(ApiKey {
                id,
                expires_at,
                is_revoked: false,
            }),
            UserEvent::ApiKeyRevoked { key_id, .. } => {
                if let Some(key) = self.api_keys.iter_mut().find(|key| key.id == key_id) {
                    key.is_revoked = true;
                }
            }
        }
    }
}

fn released(email: &Personal<EmailAddress>, at: DateTime<Utc>) -> UserEvent {
    UserEvent::FormerEmailReleased {
        email: email.clone(),
        at,
    }
}

fn apply_change(field: &mut Option<Personal<String>>, change: Change) {
    match change {
        Change::Kept => {}
        Change::Removed => *field = None,
        Change::Set(value) => *field = Some(value),
    }
}
