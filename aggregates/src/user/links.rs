//! Accounts at other providers by which a person signs in, and the password, which counts as one of their accounts.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Account, UserError, UserEvent, sessions_ended};
use crate::session::EndReason;
use crate::{EmailAddress, Personal};

/// An account at another provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Link {
    pub(super) id: String,
    pub(super) provider: String,
    pub(super) subject: Personal<String>,
    pub(super) scopes: Vec<String>,
}

impl Account {
    pub(super) fn link_account(
        &self,
        link_id: String,
        provider: String,
        subject: String,
        scopes: Vec<String>,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let mut links = self.links.iter();
        if links.any(|link| link.provider == provider && link.subject.get() == Some(&subject)) {
            return Err(UserError::LinkedAlready);
        }
        Ok(vec![UserEvent::AccountLinked {
            link_id,
            provider,
            subject: Personal::about(&self.id, subject),
            scopes,
            at,
        }])
    }

    pub(super) fn unlink_account(
        &self,
        link_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let link = self.link(link_id)?;
        // As the original counts: a passkey is no account.
        if self.links.len() == 1 && !self.has_password {
            return Err(UserError::LastWayIn);
        }
        Ok(vec![link.unlinked(at)])
    }

    pub(super) fn change_account_scopes(
        &self,
        link_id: String,
        scopes: Vec<String>,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        if self.link(&link_id)?.scopes == scopes {
            return Ok(vec![]);
        }
        Ok(vec![UserEvent::AccountScopesChanged {
            link_id,
            scopes,
            at,
        }])
    }

    pub(super) fn remove_password(&self, at: DateTime<Utc>) -> Result<Vec<UserEvent>, UserError> {
        if !self.has_password {
            return Err(UserError::NoSuchAccount);
        }
        if self.links.is_empty() && self.passkeys.is_empty() {
            return Err(UserError::LastWayIn);
        }
        Ok(vec![UserEvent::PasswordRemoved { at }])
    }

    pub(super) fn prove_by_link(
        &self,
        email: &EmailAddress,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let proven = self.verify_email(email, at)?;
        if proven.is_empty() {
            return Ok(vec![]);
        }
        // Whoever made the account has not shown that the address is theirs: nothing that they set up stays.
        let password = self
            .has_password
            .then_some(UserEvent::PasswordRemoved { at });
        let mut events: Vec<UserEvent> = password.into_iter().collect();
        events.extend(self.links.iter().map(|link| link.unlinked(at)));
        events.extend(self.passkeys.iter().map(|passkey| passkey.removed(at)));
        events.extend(self.second_factor.disable(at));
        events.extend(self.live_api_keys().map(|key| key.revoked(at)));
        events.push(sessions_ended(None, EndReason::AccountTakenOver, at));
        events.extend(proven);
        Ok(events)
    }

    fn link(&self, id: &str) -> Result<&Link, UserError> {
        let mut links = self.links.iter();
        links
            .find(|link| link.id == id)
            .ok_or(UserError::NoSuchAccount)
    }
}

impl Link {
    fn unlinked(&self, at: DateTime<Utc>) -> UserEvent {
        UserEvent::AccountUnlinked {
            link_id: self.id.clone(),
            provider: self.provider.clone(),
            subject: self.subject.clone(),
            at,
        }
    }
}
