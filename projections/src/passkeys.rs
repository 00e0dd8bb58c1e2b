//! `passkeys`: what proofs of passkeys are checked against. How often one was used is not known here.

use aggregates::Personal;
use aggregates::user::UserEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{PgExecutor, PgPool};

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
        "credential_id",
        "credential",
        "name",
        "created_at",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "passkeys";
const OWNER: &str = "user_id";

/// A passkey of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct PasskeyRow {
    /// Ours.
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// Its own, base64url.
    pub credential_id: String,
    /// What proofs are checked against: public, serialised.
    pub credential: String,
    /// As the person calls it.
    pub name: Option<String>,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::User(event) = recorded.event else {
        return;
    };
    let user_id = recorded.stream_id;
    match event {
        UserEvent::PasskeyAdded {
            passkey_id,
            credential_id,
            credential,
            name,
            at,
        } => {
            // Erased people have no row.
            let (Some(credential_id), Some(credential)) = (credential_id.get(), credential.get())
            else {
                return;
            };
            let row = PasskeyRow {
                id: passkey_id.clone(),
                user_id: user_id.to_owned(),
                credential_id: credential_id.clone(),
                credential: credential.clone(),
                name: name.as_ref().and_then(Personal::get).cloned(),
                created_at: *at,
            };
            changes.put(NAME, passkey_id, &row);
        }
        UserEvent::PasskeyRenamed {
            passkey_id, name, ..
        } => changes.patch(
            NAME,
            passkey_id,
            json!({"id": passkey_id, "name": name.get()}),
        ),
        UserEvent::PasskeyRemoved { passkey_id, .. } => changes.delete(NAME, passkey_id),
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
        | UserEvent::SecondFactorLocked { .. }
        | UserEvent::PasskeyCounterWentBack { .. }
        | UserEvent::AccountLinked { .. }
        | UserEvent::AccountUnlinked { .. }
        | UserEvent::AccountScopesChanged { .. }
        | UserEvent::ApiKeyCreated { .. }
        | UserEvent::ApiKeyRevoked { .. }
        | UserEvent::AuditRead { .. } => {}
    }
}

/// A person's passkeys, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<PasskeyRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, user_id, credential_id, credential, name, created_at
         from read.passkeys where user_id = $1 order by created_at, id",
    )
    .bind(user_id)
    .fetch_all(pool)
    .await
}

/// The passkeys of some people, as (whose, its own id).
///
/// # Errors
/// When the database does not answer.
pub async fn of_people(
    db: impl PgExecutor<'_>,
    ids: &[&str],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as("select user_id, credential_id from read.passkeys where user_id = any($1)")
        .bind(ids)
        .fetch_all(db)
        .await
}

/// How a passkey is found.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// By our id.
    Id(&'a str),
    /// By its own id, base64url.
    CredentialId(&'a str),
}

/// A passkey.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, key: Key<'_>) -> Result<Option<PasskeyRow>, sqlx::Error> {
    let (column, value) = match key {
        Key::Id(id) => ("id", id),
        Key::CredentialId(id) => ("credential_id", id),
    };
    sqlx::query_as(&format!(
        "select id, user_id, credential_id, credential, name, created_at
         from read.passkeys where {column} = $1",
    ))
    .bind(value)
    .fetch_optional(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RowChange;

    fn personal(value: &str) -> Personal<String> {
        Personal::about("u1", value.to_owned())
    }

    fn added() -> AnyEvent {
        AnyEvent::User(UserEvent::PasskeyAdded {
            passkey_id: "p1".into(),
            credential_id: personal("c1"),
            credential: personal("public"),
            name: None,
            at: DateTime::UNIX_EPOCH,
        })
    }

    #[test]
    fn a_passkey_is_renamed_and_removed() {
        let renamed = AnyEvent::User(UserEvent::PasskeyRenamed {
            passkey_id: "p1".into(),
            name: personal("phone"),
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "u1", &[added(), renamed]);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        let row: PasskeyRow = serde_json::from_value(row.clone().into()).unwrap();
        assert_eq!(row.name.as_deref(), Some("phone"));
        assert_eq!(
            (row.user_id.as_str(), row.credential_id.as_str()),
            ("u1", "c1")
        );
        let removed = AnyEvent::User(UserEvent::PasskeyRemoved {
            passkey_id: "p1".into(),
            credential_id: personal("c1"),
            at: DateTime::UNIX_EPOCH,
        });
        let changes = crate::rows_of(NAME, "u1", &[added(), removed]);
        assert_eq!(changes, [("p1".into(), RowChange::Delete)]);
    }
}
