//! `/api/v1/api-keys`: keys for programs that act for a person. Behind an access token, but for the check of a key.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `` | one's own |
//! | POST | `` | a new one; the only time that it is shown |
//! | DELETE | `/{id}` | revoke it |
//! | POST | `/validate` | is this key good, for anybody who was shown one |

use aggregates::user::UserError;
use axum::Json;
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use chrono::{DateTime, Utc};
use projections::api_keys::ApiKeyRow;
use serde_json::{Value, json};

use super::doors::Door;
use super::error::{Problem, Stated};
use super::request::{BodyTypes, Fields, read_body};
use super::shapes::iso;
use super::web::Call;
use crate::accounts::AccountError;
use crate::api_keys::{self, Listed};

/// What a key is good for when nobody says.
const DEFAULT_SCOPES: [&str; 2] = ["stt", "tts"];
/// Scopes that a key may have.
const SCOPES_MAX: usize = 50;
/// How often services may let a key be used, in requests and seconds; they count by themselves.
const RATE: (u32, u32) = (60, 60);

/// The doors. A key has 256 random bits: a budget of tries would protect nothing, and shut out every user of a service
/// whose users show it wrong ones.
pub fn doors() -> Vec<Door> {
    vec![
        Door::open(Method::GET, "", get(list)),
        Door::open(Method::POST, "", post(create)).after_step_up(),
        Door::open(Method::POST, "/validate", post(validate)),
        Door::open(Method::DELETE, "/{id}", delete(revoke)).after_step_up(),
    ]
}

static NOT_FOUND: Stated = Stated {
    status: StatusCode::NOT_FOUND,
    code: None,
    message: "API key not found",
};
static TOO_MANY: Stated = Stated {
    status: StatusCode::CONFLICT,
    code: Some("TOO_MANY_API_KEYS"),
    message: "Too many API keys",
};

fn refused(error: AccountError) -> Problem {
    match error {
        AccountError::Refused(UserError::NoSuchApiKey) => Problem::Stated(&NOT_FOUND, None),
        AccountError::Refused(UserError::TooManyApiKeys) => Problem::Stated(&TOO_MANY, None),
        error => error.into(),
    }
}

fn key_json(row: &ApiKeyRow, used_at: Option<DateTime<Utc>>) -> Value {
    json!({
        "id": row.id, "userId": row.user_id, "name": row.name, "keyPrefix": row.prefix, "scopes": row.scopes,
        "rateLimitRequests": RATE.0, "rateLimitWindow": RATE.1, "createdAt": iso(row.created_at),
        "lastUsedAt": used_at.map(iso), "revokedAt": row.revoked_at.map(iso),
    })
}

async fn list(call: Call) -> Result<Response, Problem> {
    let live = call.required_bearer().await?;
    let keys = api_keys::list(call.app(), &live.user.id).await?;
    let one = |Listed { row, used_at }: &Listed| key_json(row, *used_at);
    Ok(Json(keys.iter().map(one).collect::<Vec<_>>()).into_response())
}

async fn create(call: Call) -> Result<Response, Problem> {
    let live = call.required_bearer().await?;
    let body = read_body(&call.headers, &call.bytes, BodyTypes::Json)?;
    let mut fields = Fields::of_body(body, false, false);
    let name = fields.filled_text("name");
    fields.check_kept("name");
    let scopes = fields.optional_texts("scopes", SCOPES_MAX);
    fields.done()?;
    let scopes = scopes.unwrap_or_else(|| DEFAULT_SCOPES.map(str::to_owned).into());
    let user_id = &live.user.id;
    let created = api_keys::create(call.app(), user_id, name, scopes, &call.caller).await;
    let created = created.map_err(refused)?;
    let mut body = key_json(&created.row, None);
    body["key"] = json!(created.key);
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

async fn revoke(Path(id): Path<String>, call: Call) -> Result<Response, Problem> {
    let live = call.required_bearer().await?;
    let revoked = api_keys::revoke(call.app(), &live.user.id, &id, &call.caller).await;
    revoked.map_err(refused)?;
    Ok(Json(json!({"success": true})).into_response())
}

/// Whatever is wrong with a key, it is not good, and nobody learns why.
async fn validate(call: Call) -> Result<Response, Problem> {
    let body = read_body(&call.headers, &call.bytes, BodyTypes::Json)?;
    let mut fields = Fields::of_body(body, false, false);
    let key = fields.text("apiKey");
    let scope = fields.removable_text("scope").flatten();
    fields.done()?;
    let row = api_keys::check(call.app(), &key).await?;
    let body = match row {
        None => json!({"valid": false}),
        Some(row) if scope.is_some_and(|scope| !row.scopes.contains(&scope)) => {
            json!({"valid": false, "reason": "scope_denied"})
        }
        Some(row) => json!({
            "valid": true, "userId": row.user_id, "scopes": row.scopes,
            "rateLimit": {"requests": RATE.0, "window": RATE.1},
        }),
    };
    Ok(Json(body).into_response())
}
