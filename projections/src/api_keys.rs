//! `api_keys`: keys for programs that act for a person. A revoked one stays in the list; when one was last used is
//! not known here.

use aggregates::user::UserEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;

use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 1,
    kind: Kind::Inline,
    streams: &["user"],
    columns: &[
        "id",
        "user_id",
        "name",
        "prefix",
        "key_hash",
        "scopes",
        "expires_at",
        "created_at",
        "revoked_at",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "api_keys";
const OWNER: &str = "user_id";

/// An API key of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct ApiKeyRow {
    /// Ours.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// As the person called it.
    pub name: String,
    /// The beginning of the key.
    pub prefix: String,
    /// SHA-256 of the whole key, lower-case hex.
    pub key_hash: String,
    /// What it is good for.
    pub scopes: Vec<String>,
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Since when it is worth nothing.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl ApiKeyRow {
    /// Whether whoever shows the key may act for the person at `now`.
    pub fn is_good(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| end > now)
    }
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::User(event) = recorded.event else {
        return;
    };
    let user_id = recorded.stream_id;
    match event {
        UserEvent::ApiKeyCreated {
            key_id,
            name,
            prefix,
            key_hash,
            scopes,
            expires_at,
            at,
        } => {
            // Erased people have no row.
            let Some(name) = name.get() else { return };
            let row = ApiKeyRow {
                id: key_id.clone(),
                user_id: user_id.to_owned(),
                name: name.clone(),
                prefix: prefix.clone(),
                key_hash: key_hash.clone(),
                scopes: scopes.clone(),
                expires_at: *expires_at,
                created_at: *at,
                revoked_at: None,
            };
            changes.put(NAME, key_id, &row);
        }
        UserEvent::ApiKeyRevoked { key_id, at } => {
            changes.patch(NAME, key_id, json!({"id": key_id, "revoked_at": at}));
        }
        UserEvent::ErasureRequested { .. } => changes.delete_owned(NAME, OWNER, user_id, None),
        UserEvent::Registered { .. }
        | UserEvent::EmailVerified { .. }
        | UserEvent::EmailVerificationWithdrawn { .. }
        | UserEvent::PasswordSet { .. }
        | UserEvent::PasswordRemoved { .. }
        | UserEvent::EmailChangeRequested { .. }
        | UserEvent::EmailChangeConfirmed { .. }
        | UserEvent::EmailChanged { .. }
        | UserEvent::EmailChangeReverted { .. }
        | UserEvent::FormerEmailReleased { .. }
        | UserEvent::SessionsEnded { .. }
        | UserEvent::LockedOut { .. }
        | UserEvent::ProfileChanged { .. }
        | UserEvent::RoleChanged { .. }
        | UserEvent::TierChanged { .. }
        | UserEvent::Banned { .. }
        | UserEvent::BanLifted { .. }
        | UserEvent::SecondFactorPrepared { .. }
        | UserEvent::SecondFactorEnabled { .. }
        | UserEvent::SecondFactorDisabled { .. }
        | UserEvent::BackupCodesReplaced { .. }
        | UserEvent::BackupCodeUsed { .. }
        | UserEvent::AuditRead { .. }
        | UserEvent::SecondFactorLocked { .. }
        | UserEvent::PasskeyAdded { .. }
        | UserEvent::PasskeyRenamed { .. }
        | UserEvent::PasskeyRemoved { .. }
        | UserEvent::PasskeyCounterWentBack { .. }
        | UserEvent::AccountLinked { .. }
        | UserEvent::AccountUnlinked { .. }
        | UserEvent::AccountScopesChanged { .. } => {}
    }
}

/// A person's API keys, newest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<ApiKeyRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, user_id, name, prefix, key_hash, scopes, expires_at, created_at, revoked_at
         from read.api_keys where user_id = $1 order by created_at desc, id",
    )
    .bind(user_id)
    .fetch_all(pool)
    .await
}

/// The API key with this hash, good or not.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, key_hash: &str) -> Result<Option<ApiKeyRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, user_id, name, prefix, key_hash, scopes, expires_at, created_at, revoked_at
         from read.api_keys where key_hash = $1",
    )
    .bind(key_hash)
    .fetch_optional(pool)
    .await
}

#[cfg(test)]
mod tests {
    use aggregates::Personal;
    use chrono::TimeDelta;

    use super::*;
    use crate::RowChange;

    fn at(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn row(events: &[AnyEvent]) -> ApiKeyRow {
        let changes = crate::rows_of(NAME, "u1", events);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        serde_json::from_value(row.clone().into()).unwrap()
    }

    #[test]
    fn a_key_is_good_until_it_ends_or_is_revoked() {
        let created = AnyEvent::User(UserEvent::ApiKeyCreated {
            key_id: "k1".into(),
            name: Personal::about("u1", "laptop".into()),
            prefix: "0123abcd".into(),
            key_hash: "00ff".into(),
            scopes: vec!["stt".into()],
            expires_at: Some(at(9)),
            at: at(0),
        });
        let fresh = row(std::slice::from_ref(&created));
        assert_eq!(fresh.scopes, ["stt"]);
        assert!(fresh.is_good(at(8)) && !fresh.is_good(at(9)));
        let revoked = AnyEvent::User(UserEvent::ApiKeyRevoked {
            key_id: "k1".into(),
            at: at(1),
        });
        let revoked = row(&[created, revoked]);
        assert_eq!(revoked.revoked_at, Some(at(1)));
        assert!(!revoked.is_good(at(1)));
    }
}
