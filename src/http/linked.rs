//! The accounts that somebody signs in by, and what the providers of the linked ones have given us.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/api/auth/list-accounts` | all of them, the password among them |
//! | POST | `/api/auth/unlink-account` | take one away |
//! | POST | `/api/auth/get-access-token`, `/refresh-token` | a token for the provider |
//! | GET | `/api/auth/account-info` | what the provider says |

use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use projections::accounts::{self, AccountRow};
use serde_json::{Value, json};

use super::answers::{Refusal, as_json, without_session_cookies};
use super::doors::Door;
use super::error::{Problem, Stated};
use super::request::{BodyTypes, Fields};
use super::sessions::{Presented, Session};
use super::shapes::iso;
use super::web::Call;
use crate::linked::{self, LinkedError};

/// The doors.
pub fn doors() -> Vec<Door> {
    vec![
        Door::open(Method::GET, "/list-accounts", get(list)),
        Door::open(Method::POST, "/unlink-account", post(unlink)).after_step_up(),
        Door::open(Method::POST, "/get-access-token", post(access_token)),
        Door::open(Method::POST, "/refresh-token", post(refresh)),
        Door::open(Method::GET, "/account-info", get(info)),
    ]
}

const fn stated(code: &'static str, message: &'static str) -> Stated {
    Stated {
        status: StatusCode::BAD_REQUEST,
        code: Some(code),
        message,
    }
}

static NOT_FOUND: Stated = stated("ACCOUNT_NOT_FOUND", "Account not found");
static LAST: Stated = stated(
    "FAILED_TO_UNLINK_LAST_ACCOUNT",
    "You can't unlink your last account",
);
static CREDENTIAL: Stated = stated(
    "PROVIDER_NOT_SUPPORTED",
    "Provider credential is not supported.",
);
static NOT_SUPPORTED: Stated = stated("PROVIDER_NOT_SUPPORTED", "Provider is not supported.");
static NOT_CONFIGURED: Stated = stated(
    "PROVIDER_NOT_CONFIGURED",
    "Account is not associated with a configured social provider.",
);
static NO_ACCESS_TOKEN: Stated = stated("ACCESS_TOKEN_NOT_FOUND", "Access token not found");
static NO_REFRESH_TOKEN: Stated = stated("REFRESH_TOKEN_NOT_FOUND", "Refresh token not found");
static NO_TOKEN: Stated = stated(
    "FAILED_TO_GET_ACCESS_TOKEN",
    "Failed to get a valid access token",
);
static NOT_REFRESHED: Stated = stated(
    "FAILED_TO_REFRESH_ACCESS_TOKEN",
    "Failed to refresh access token",
);
static NO_INFO: Stated = stated("FAILED_TO_GET_USER_INFO", "Failed to get user info");

/// A refusal; `silent` stands for a provider that does not answer as it should.
fn refused(error: LinkedError, silent: &'static Stated) -> Problem {
    let words = match error {
        LinkedError::NotFound => &NOT_FOUND,
        LinkedError::Last => &LAST,
        LinkedError::Credential => &CREDENTIAL,
        LinkedError::NoProvider => &NOT_SUPPORTED,
        LinkedError::NoAccessToken => &NO_ACCESS_TOKEN,
        LinkedError::NoRefreshToken => &NO_REFRESH_TOKEN,
        LinkedError::Provider(error) => {
            tracing::warn!(%error, "a provider did not do what a person asked for");
            silent
        }
        LinkedError::Account(error) => return error.into(),
    };
    Problem::Stated(words, None)
}

fn account_json(account: &AccountRow) -> Value {
    json!({
        "id": account.id, "accountId": account.account_id, "providerId": account.provider_id,
        "userId": account.user_id, "scopes": account.scopes,
        "createdAt": iso(account.created_at), "updatedAt": iso(account.updated_at),
    })
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let session = call.required_session().await?;
    let accounts = accounts::of_user(&call.app().pool, &session.live.user.id).await?;
    let body: Vec<Value> = accounts.iter().map(account_json).collect();
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}

async fn unlink(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.text("accountId");
    fields.done()?;
    let session = call.fresh_session().await?;
    let user = &session.live.user;
    let done = linked::unlink(call.app(), user, &id, &call.caller).await;
    // Nothing is asked of a provider here.
    done.map_err(|error| refused(error, &NOT_FOUND))?;
    let body = Json(json!({"status": true})).into_response();
    Ok(call.prolonged(body, &session).await)
}

/// The id of an account, from fields that hold exactly that.
fn account_id(fields: &Fields, part: &str) -> Result<String, Problem> {
    let id = fields.raw("accountId").and_then(Value::as_str);
    let alone = fields.names().all(|name| name == "accountId");
    let id = id.filter(|id| alone && !id.is_empty());
    id.map(str::to_owned)
        .ok_or_else(|| Problem::Validation(format!("[{part}] Invalid input")))
}

/// The session behind a request, on routes that say nothing when there is none.
async fn quiet_session(call: &Call) -> Result<Session, Refusal> {
    let nobody = || as_json(StatusCode::UNAUTHORIZED.into_response());
    match call.session().await? {
        Presented::Live(session) => Ok(session),
        Presented::Nothing => Err(Refusal::answer(nobody())),
        Presented::Over => Err(Refusal::answer(without_session_cookies(nobody(), call))),
    }
}

async fn access_token(call: Call) -> Result<Response, Refusal> {
    let id = account_id(&call.fields(BodyTypes::Json, false)?, "body")?;
    let session = quiet_session(&call).await?;
    let usable = linked::access_token(call.app(), &session.live.user, &id, &call.caller).await;
    let usable = usable.map_err(|error| refused(error, &NO_TOKEN))?;
    let tokens = usable.tokens;
    let token = tokens
        .access_token
        .ok_or(Problem::Stated(&NO_TOKEN, None))?;
    let mut body = json!({"accessToken": token, "scopes": usable.scopes});
    if let Some(end) = tokens.expires_at {
        body["accessTokenExpiresAt"] = json!(iso(end));
    }
    if let Some(token) = &tokens.id_token {
        body["idToken"] = json!(token);
    }
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}

async fn refresh(call: Call) -> Result<Response, Refusal> {
    let id = account_id(&call.fields(BodyTypes::Json, false)?, "body")?;
    let session = quiet_session(&call).await?;
    let usable = linked::refresh(call.app(), &session.live.user, &id, &call.caller).await;
    let usable = usable.map_err(|error| refused(error, &NOT_REFRESHED))?;
    let tokens = usable.tokens;
    let body = json!({
        "accessToken": tokens.access_token, "refreshToken": tokens.refresh_token, "idToken": tokens.id_token,
        "accessTokenExpiresAt": tokens.expires_at.map(iso),
        "refreshTokenExpiresAt": tokens.refresh_expires_at.map(iso),
        "scope": usable.scopes.join(","), "providerId": usable.provider, "accountId": usable.id,
    });
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}

async fn info(call: Call) -> Result<Response, Refusal> {
    let id = account_id(&Fields::of_query(call.query.as_deref()), "query")?;
    let session = quiet_session(&call).await?;
    let info = linked::info(call.app(), &session.live.user, &id, &call.caller).await;
    let (account, identity) = info.map_err(|error| match error {
        LinkedError::Credential | LinkedError::NoProvider => Problem::Stated(&NOT_CONFIGURED, None),
        error => refused(error, &NO_INFO),
    })?;
    let mut user = json!({
        "id": identity.subject, "email": identity.email, "emailVerified": identity.email_verified,
        "name": identity.name,
    });
    if let Some(image) = identity.image {
        user["image"] = json!(image);
    }
    let body = json!({
        "user": user, "data": identity.data,
        "account": {"id": account.id, "providerId": account.provider_id, "accountId": account.account_id},
    });
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}
