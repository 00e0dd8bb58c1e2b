//! Passkeys of an account.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Account, UserError, UserEvent};
use crate::Personal;

/// Passkeys that one account may have.
const PASSKEYS_MAX: usize = 20;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Passkey {
    pub(super) id: String,
    pub(super) credential_id: Personal<String>,
    pub(super) name: Option<Personal<String>>,
}

impl Account {
    pub(super) fn add_passkey(
        &self,
        passkey_id: String,
        credential_id: String,
        credential: String,
        name: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let mut passkeys = self.passkeys.iter();
        if passkeys.any(|known| known.credential_id.get() == Some(&credential_id)) {
            return Err(UserError::PasskeyKnown);
        }
        if self.passkeys.len() >= PASSKEYS_MAX {
            return Err(UserError::TooManyPasskeys);
        }
        Ok(vec![UserEvent::PasskeyAdded {
            passkey_id,
            credential_id: Personal::about(&self.id, credential_id),
            credential: Personal::about(&self.id, credential),
            name: name.map(|name| Personal::about(&self.id, name)),
            at,
        }])
    }

    pub(super) fn rename_passkey(
        &self,
        passkey_id: String,
        name: String,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let passkey = self.passkey(&passkey_id)?;
        if passkey.name.as_ref().and_then(Personal::get) == Some(&name) {
            return Ok(vec![]);
        }
        Ok(vec![UserEvent::PasskeyRenamed {
            passkey_id,
            name: Personal::about(&self.id, name),
            at,
        }])
    }

    pub(super) fn remove_passkey(
        &self,
        passkey_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        Ok(vec![self.passkey(passkey_id)?.removed(at)])
    }

    pub(super) fn report_passkey_counter(
        &self,
        passkey_id: String,
        known: u32,
        shown: u32,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        self.passkey(&passkey_id)?;
        Ok(vec![UserEvent::PasskeyCounterWentBack {
            passkey_id,
            known,
            shown,
            at,
        }])
    }

    fn passkey(&self, id: &str) -> Result<&Passkey, UserError> {
        let mut passkeys = self.passkeys.iter();
        passkeys
            .find(|passkey| passkey.id == id)
            .ok_or(UserError::NoSuchPasskey)
    }
}

impl Passkey {
    pub(super) fn removed(&self, at: DateTime<Utc>) -> UserEvent {
        UserEvent::PasskeyRemoved {
            passkey_id: self.id.clone(),
            credential_id: self.credential_id.clone(),
            at,
        }
    }
}
