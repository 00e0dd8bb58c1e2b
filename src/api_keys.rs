//! API keys: making and revoking them, and checking what programs show. A key has 256 random bits and is known by its hash
//! alone, so nobody can guess one and nobody who reads the database can use one.

use aggregates::user::{User, UserCommand};
use chrono::{DateTime, Utc};
use projections::api_keys::{self as rows, ApiKeyRow};
use sha2::{Digest as _, Sha256};

use crate::accounts::{AccountError, Caller};
use crate::app::App;
use crate::crypto::hex;
use crate::crypto::tokens::random_hex;
use crate::custody::still_there;
use crate::ids;
use crate::store::{Actor, StoreError};

/// How every key begins (mana-v1.md section 8).
const BEGINNING: &str = "sk_live_";
/// Random bytes behind it, in hex.
const BYTES: usize = 32;
/// As many hex digits are shown, so that people tell their keys apart.
const PREFIX_DIGITS: usize = 8;

/// A key that was just made.
pub struct Created {
    /// Known to its owner alone from now on.
    pub key: String,
    /// What is kept.
    pub row: ApiKeyRow,
}

/// A key and when it was last used.
pub struct Listed {
    /// What is kept of it.
    pub row: ApiKeyRow,
    /// When.
    pub used_at: Option<DateTime<Utc>>,
}

/// Makes a key.
///
/// # Errors
/// If the person has as many as they may have, or it cannot be written.
pub async fn create(
    app: &App,
    user_id: &str,
    name: String,
    scopes: Vec<String>,
    caller: &Caller,
) -> Result<Created, AccountError> {
    let digits = random_hex::<BYTES>();
    let key = format!("{BEGINNING}{digits}");
    let row = ApiKeyRow {
        id: ids::api_key(),
        user_id: user_id.to_owned(),
        name,
        prefix: digits[..PREFIX_DIGITS].to_owned(),
        key_hash: hash_of(&key),
        scopes,
        expires_at: None,
        created_at: app.clock.now(),
        revoked_at: None,
    };
    let command = UserCommand::CreateApiKey {
        key_id: row.id.clone(),
        name: row.name.clone(),
        prefix: row.prefix.clone(),
        key_hash: row.key_hash.clone(),
        scopes: row.scopes.clone(),
        expires_at: row.expires_at,
        at: row.created_at,
    };
    run(app, user_id, command, caller).await?;
    Ok(Created { key, row })
}

/// Lets a key count no more. One that was revoked before stays as it is.
///
/// # Errors
/// If the person has no such key, or it cannot be written.
pub async fn revoke(
    app: &App,
    user_id: &str,
    key_id: &str,
    caller: &Caller,
) -> Result<(), AccountError> {
    let command = UserCommand::RevokeApiKey {
        key_id: key_id.to_owned(),
        at: app.clock.now(),
    };
    run(app, user_id, command, caller).await
}

async fn run(
    app: &App,
    user_id: &str,
    command: UserCommand,
    caller: &Caller,
) -> Result<(), AccountError> {
    let context = caller.context_about(Actor::User(user_id.to_owned()), user_id);
    app.store.run::<User>(user_id, command, context).await?;
    Ok(())
}

/// A person's keys, newest first, revoked ones too.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &App, user_id: &str) -> Result<Vec<Listed>, StoreError> {
    let rows = rows::of_user(&app.pool, user_id).await?;
    let uses: Vec<(String, DateTime<Utc>)> =
        sqlx::query_as("select key_id, used_at from api_key_uses where user_id = $1")
            .bind(user_id)
            .fetch_all(&app.pool)
            .await?;
    let listed = rows.into_iter().map(|row| Listed {
        used_at: uses.iter().find(|(id, _)| *id == row.id).map(|(_, at)| *at),
        row,
    });
    Ok(listed.collect())
}

/// The key that a program shows, if it is good and its owner may be acted for. Notes that it was used.
///
/// # Errors
/// When the database does not answer.
pub async fn check(app: &App, key: &str) -> Result<Option<ApiKeyRow>, StoreError> {
    let now = app.clock.now();
    // A bare hash of the whole key, as the original kept it: keys of before go on to work.
    let Some(row) = rows::find(&app.pool, &hash_of(key)).await? else {
        return Ok(None);
    };
    let owner = projections::users::find(&app.pool, &row.user_id).await?;
    let may_act =
        owner.is_some_and(|owner| !owner.banned || owner.ban_expires.is_some_and(|end| end <= now));
    if !row.is_good(now) || !may_act {
        return Ok(None);
    }
    note_use(app, &row, now).await;
    Ok(Some(row))
}

/// Notes when a key was used. The answer does not wait for the disk, nor depends on it.
async fn note_use(app: &App, row: &ApiKeyRow, now: DateTime<Utc>) {
    let noted = sqlx::query(&format!(
        "insert into api_key_uses as u (key_id, user_id, used_at) select $1, $2, $3 where {}
         on conflict (key_id) do update set used_at = excluded.used_at where u.used_at < excluded.used_at
         returning set_config('synchronous_commit', 'off', true)",
        still_there("$2")
    ))
    .bind(&row.id)
    .bind(&row.user_id)
    .bind(now)
    .execute(&app.pool)
    .await;
    if let Err(error) = noted {
        tracing::debug!(error = %error, "the use of an API key is not noted");
    }
}

fn hash_of(key: &str) -> String {
    hex::encode(&Sha256::digest(key))
}
