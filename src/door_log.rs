//! What was tried at the doors and is no event: the part of the security log that an attacker can make grow, so it
//! is bounded (I-11).

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::accounts::Caller;
use crate::app::App;
use crate::custody::still_there;
use crate::ids;
use crate::store::StoreError;

/// Lines kept for each address that is tried.
const LINES: i64 = 50;
/// Lines are kept this long.
const KEPT: TimeDelta = TimeDelta::days(30);

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// A sign-in that failed.
    LoginFailure,
    /// A password that should have been changed.
    PasswordChangeFailed,
    /// A link to choose a new password was asked for.
    PasswordResetRequested,
    /// A passkey that did not sign in.
    PasskeyLoginFailure,
    /// Too many failures; no event, because there is no such account or a single device was locked.
    AccountLocked,
}

impl Tried {
    fn as_str(self) -> &'static str {
        match self {
            Self::LoginFailure => "LOGIN_FAILURE",
            Self::PasswordChangeFailed => "PASSWORD_CHANGE_FAILED",
            Self::PasswordResetRequested => "PASSWORD_RESET_REQUESTED",
            Self::PasskeyLoginFailure => "PASSKEY_LOGIN_FAILURE",
            Self::AccountLocked => "ACCOUNT_LOCKED",
        }
    }
}

/// Writes a line about an address, or a passkey by its own id, and drops the oldest ones beyond what is kept of it. Gives
/// the line's id. Of somebody who was erased meanwhile no line is kept.
///
/// # Errors
/// When the database does not answer: what an auditor must see and cannot be written has to fail.
pub async fn write(
    app: &App,
    tried: Tried,
    email: &str,
    user_id: Option<&str>,
    code: &str,
    caller: &Caller,
) -> Result<String, StoreError> {
    let id = ids::event().to_string();
    let metadata: Value = json!({"code": code});
    sqlx::query(&format!(
        "with old as (
             delete from door_events where bucket = $2 and id in (
                 select id from door_events where bucket = $2 order by created_at desc, id desc offset $9)
         )
         insert into door_events (id, bucket, user_id, event_type, ip_address, user_agent, metadata, created_at)
         select $1, $2, $3, $4, $5, $6, $7, $8 where $3::text is null or {}",
        still_there("$3")
    ))
    .bind(&id)
    .bind(app.keyed_hash(&["door log", email]).as_slice())
    .bind(user_id)
    .bind(tried.as_str())
    .bind(&caller.client.ip_address)
    .bind(&caller.client.user_agent)
    .bind(metadata)
    .bind(app.clock.now())
    .bind(LINES - 1)
    .execute(&app.pool)
    .await?;
    Ok(id)
}

/// Says of a line whose account it is about, once that was looked up.
///
/// # Errors
/// When the database does not answer.
pub async fn attribute(app: &App, id: &str, user_id: &str) -> Result<(), StoreError> {
    sqlx::query(&format!(
        "update door_events set user_id = $2 where id = $1 and {}",
        still_there("$2")
    ))
    .bind(id)
    .bind(user_id)
    .execute(&app.pool)
    .await?;
    Ok(())
}

/// Forgets lines whose time is over.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_old(app: &App) -> Result<(), sqlx::Error> {
    sqlx::query("delete from door_events where created_at < $1")
        .bind(app.clock.now() - KEPT)
        .execute(&app.pool)
        .await?;
    Ok(())
}
