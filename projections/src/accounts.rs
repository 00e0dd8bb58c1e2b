//! `accounts`: by what a person signs in besides passkeys: their password, and their accounts at other providers.

use aggregates::user::{PasswordCause, UserEvent};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest as _, Sha256};
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
        "provider_id",
        "account_id",
        "scopes",
        "created_at",
        "updated_at",
    ],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "accounts";
const OWNER: &str = "user_id";

/// Provider of the password.
pub const CREDENTIAL: &str = "credential";

/// An account of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct AccountRow {
    /// Of the link; that of the password is [`credential_id`].
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// Name of the provider, or [`CREDENTIAL`].
    pub provider_id: String,
    /// Who they are there; for the password their own id.
    pub account_id: String,
    /// What the provider lets us do.
    pub scopes: Vec<String>,
    /// When it was linked, or the password first set.
    pub created_at: DateTime<Utc>,
    /// When anything of the above, or the password, last changed.
    pub updated_at: DateTime<Utc>,
}

/// The id of the account that a person's password is: 32 characters of `[0-9a-z]`, from SHA-256 of their own id.
pub fn credential_id(user_id: &str) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let hash = Sha256::digest(format!("{CREDENTIAL}\n{user_id}"));
    hash.iter()
        .map(|byte| char::from(DIGITS[usize::from(*byte) % DIGITS.len()]))
        .collect()
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::User(event) = recorded.event else {
        return;
    };
    let user_id = recorded.stream_id;
    match event {
        UserEvent::PasswordSet { cause, added, at } => {
            let id = credential_id(user_id);
            if *added || *cause == PasswordCause::SignUp {
                let row = AccountRow {
                    id: id.clone(),
                    user_id: user_id.to_owned(),
                    provider_id: CREDENTIAL.to_owned(),
                    account_id: user_id.to_owned(),
                    scopes: vec![],
                    created_at: *at,
                    updated_at: *at,
                };
                changes.put(NAME, &id, &row);
            } else {
                changes.patch(NAME, &id, json!({"id": id, "updated_at": at}));
            }
        }
        UserEvent::PasswordRemoved { .. } => changes.delete(NAME, &credential_id(user_id)),
        UserEvent::AccountLinked {
            link_id,
            provider,
            subject,
            scopes,
            at,
        } => {
            // Erased people have no row.
            let Some(subject) = subject.get() else { return };
            let row = AccountRow {
                id: link_id.clone(),
                user_id: user_id.to_owned(),
                provider_id: provider.clone(),
                account_id: subject.clone(),
                scopes: scopes.clone(),
                created_at: *at,
                updated_at: *at,
            };
            changes.put(NAME, link_id, &row);
        }
        UserEvent::AccountUnlinked { link_id, .. } => changes.delete(NAME, link_id),
        UserEvent::AccountScopesChanged {
            link_id,
            scopes,
            at,
        } => changes.patch(
            NAME,
            link_id,
            json!({"id": link_id, "scopes": scopes, "updated_at": at}),
        ),
        UserEvent::ErasureRequested { .. } => changes.delete_owned(NAME, OWNER, user_id, None),
        UserEvent::Registered { .. }
        | UserEvent::EmailVerified { .. }
        | UserEvent::EmailVerificationWithdrawn { .. }
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
        | UserEvent::PasskeyAdded { .. }
        | UserEvent::PasskeyRenamed { .. }
        | UserEvent::PasskeyRemoved { .. }
        | UserEvent::PasskeyCounterWentBack { .. }
        | UserEvent::ApiKeyCreated { .. }
        | UserEvent::ApiKeyRevoked { .. }
        | UserEvent::AuditRead { .. } => {}
    }
}

/// A person's accounts, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<AccountRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, user_id, provider_id, account_id, scopes, created_at, updated_at
         from read.accounts where user_id = $1 order by created_at, id",
    )
    .bind(user_id)
    .fetch_all(pool)
    .await
}

/// The accounts that some people have at other providers, as (whose, provider, who they are there).
///
/// # Errors
/// When the database does not answer.
pub async fn of_people(
    db: impl PgExecutor<'_>,
    ids: &[&str],
) -> Result<Vec<(String, String, String)>, sqlx::Error> {
    sqlx::query_as(
        "select user_id, provider_id, account_id
         from read.accounts where user_id = any($1) and provider_id <> $2",
    )
    .bind(ids)
    .bind(CREDENTIAL)
    .fetch_all(db)
    .await
}

/// The account with this id.
///
/// # Errors
/// When the database does not answer.
pub async fn find(pool: &PgPool, id: &str) -> Result<Option<AccountRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, user_id, provider_id, account_id, scopes, created_at, updated_at
         from read.accounts where id = $1",
    )
    .bind(id)
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

    fn password(cause: PasswordCause, added: bool, days: i64) -> AnyEvent {
        let at = at(days);
        AnyEvent::User(UserEvent::PasswordSet { cause, added, at })
    }

    fn linked() -> AnyEvent {
        AnyEvent::User(UserEvent::AccountLinked {
            link_id: "l1".into(),
            provider: "acme".into(),
            subject: Personal::about("u1", "s1".into()),
            scopes: vec!["email".into()],
            at: at(0),
        })
    }

    fn row(events: &[AnyEvent]) -> AccountRow {
        let changes = crate::rows_of(NAME, "u1", events);
        let [(_, RowChange::Put(row))] = changes.as_slice() else {
            panic!("{changes:?}")
        };
        serde_json::from_value(row.clone().into()).unwrap()
    }

    #[test]
    fn a_password_is_an_account_that_keeps_its_id_and_its_age() {
        let row = row(&[
            password(PasswordCause::SignUp, false, 0),
            password(PasswordCause::Change, false, 3),
        ]);
        assert_eq!((row.created_at, row.updated_at), (at(0), at(3)));
        assert_eq!(
            (row.provider_id.as_str(), row.account_id.as_str()),
            (CREDENTIAL, "u1")
        );
        assert_eq!(row.id, credential_id("u1"));
        assert_ne!(row.id, credential_id("u2"));
        assert!(row.id.len() == 32 && row.id.bytes().all(|b| b.is_ascii_alphanumeric()));
    }

    #[test]
    fn a_password_that_comes_back_is_a_new_account() {
        let removed = AnyEvent::User(UserEvent::PasswordRemoved { at: at(1) });
        let signed_up = password(PasswordCause::SignUp, false, 0);
        let gone = crate::rows_of(NAME, "u1", &[signed_up.clone(), removed.clone()]);
        assert_eq!(gone, [(credential_id("u1"), RowChange::Delete)]);
        let back = password(PasswordCause::Reset, true, 2);
        assert_eq!(row(&[signed_up, removed, back]).created_at, at(2));
    }

    #[test]
    fn an_account_elsewhere_changes_its_scopes_and_goes() {
        let changed = AnyEvent::User(UserEvent::AccountScopesChanged {
            link_id: "l1".into(),
            scopes: vec!["email".into(), "files".into()],
            at: at(2),
        });
        let row = row(&[linked(), changed]);
        assert_eq!(row.scopes, ["email", "files"]);
        assert_eq!((row.created_at, row.updated_at), (at(0), at(2)));
        let unlinked = AnyEvent::User(UserEvent::AccountUnlinked {
            link_id: "l1".into(),
            provider: "acme".into(),
            subject: Personal::about("u1", "s1".into()),
            at: at(3),
        });
        let gone = crate::rows_of(NAME, "u1", &[linked(), unlinked]);
        assert_eq!(gone, [("l1".into(), RowChange::Delete)]);
    }
}
