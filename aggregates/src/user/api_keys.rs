//! Keys for programs that act for a person.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Account, UserError, UserEvent};

/// API keys that one account may have at a time; those that were revoked or have run out do not count.
const API_KEYS_MAX: usize = 50;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ApiKey {
    pub(super) id: String,
    pub(super) expires_at: Option<DateTime<Utc>>,
    pub(super) is_revoked: bool,
}

impl Account {
    /// Says whether another API key is allowed.
    pub(super) fn has_room_for_api_key(&self, at: DateTime<Utc>) -> Result<(), UserError> {
        let live = self.live_api_keys();
        let count = live
            .filter(|key| key.expires_at.is_none_or(|end| end > at))
            .count();
        if count >= API_KEYS_MAX {
            return Err(UserError::TooManyApiKeys);
        }
        Ok(())
    }

    pub(super) fn revoke_api_key(
        &self,
        key_id: &str,
        at: DateTime<Utc>,
    ) -> Result<Vec<UserEvent>, UserError> {
        let mut keys = self.api_keys.iter();
        let key = keys
            .find(|key| key.id == key_id)
            .ok_or(UserError::NoSuchApiKey)?;
        Ok(if key.is_revoked {
            vec![]
        } else {
            vec![key.revoked(at)]
        })
    }

    pub(super) fn live_api_keys(&self) -> impl Iterator<Item = &ApiKey> {
        self.api_keys.iter().filter(|key| !key.is_revoked)
    }
}

impl ApiKey {
    pub(super) fn revoked(&self, at: DateTime<Utc>) -> UserEvent {
        UserEvent::ApiKeyRevoked {
            key_id: self.id.clone(),
            at,
        }
    }
}
