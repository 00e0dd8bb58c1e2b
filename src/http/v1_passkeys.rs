//! `/api/v1/auth/passkeys/*`: passkeys with the apps' own clients.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/capability` | whether there are passkeys, and of which domain |
//! | POST | `/register/options`, `/register/verify` | add one |
//! | POST | `/authenticate/options`, `/authenticate/verify` | sign in with one |
//! | GET | `` | one's own |
//! | PATCH, DELETE | `/{id}` | another name; away with it |

use axum::Json;
use axum::extract::Path;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, patch, post};
use serde_json::{Value, json};

use super::answers::with_session_cookies;
use super::doors::{Checks, Door};
use super::error::{Problem, Stated};
use super::limits;
use super::passkeys::{add, authentication, enter, passkey_json, refused_own, registration};
use super::request::{BodyTypes, Fields, read_body};
use super::sessions::Person;
use super::shapes::{iso, user_json};
use super::two_factor;
use super::web::Call;
use crate::accounts;
use crate::entry::{Entered, In};
use crate::passkeys::{self, Passkey, PasskeyError};
use crate::sessions::Live;

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        get_door("/passkeys/capability", get(capability)),
        post_door("/passkeys/register/options", post(register_options)).after_step_up(),
        post_door("/passkeys/register/verify", post(register)).after_step_up(),
        post_door("/passkeys/authenticate/options", post(authenticate_options))
            .limited(limits::PASSKEY_OPTIONS),
        post_door("/passkeys/authenticate/verify", post(authenticate)).checking(Checks::Passkey),
        get_door("/passkeys", get(list)),
        Door::open(Method::PATCH, "/passkeys/{id}", patch(rename)).after_step_up(),
        Door::open(Method::DELETE, "/passkeys/{id}", delete(remove)).after_step_up(),
    ]
}

static NOT_VERIFIED: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("PASSKEY_VERIFICATION_FAILED"),
    message: "Passkey verification failed",
};

/// Whatever did not fit, it is one refusal: which part of it is nobody's business.
fn refused(error: PasskeyError) -> Problem {
    match error {
        PasskeyError::NoChallenge
        | PasskeyError::NotYours
        | PasskeyError::NotFound
        | PasskeyError::NotVerified => Problem::Stated(&NOT_VERIFIED, None),
        error @ (PasskeyError::TooMany | PasskeyError::Account(_)) => refused_own(error),
    }
}

/// A passkey of somebody else is none.
fn refused_own_or_foreign(error: PasskeyError) -> Problem {
    match error {
        PasskeyError::NotFound | PasskeyError::NotYours => Problem::NotFound,
        error => refused_own(error),
    }
}

/// A passkey with the names of both clients.
fn own_json(passkey: &Passkey) -> Value {
    let mut json = passkey_json(passkey);
    json["credentialId"] = json["credentialID"].clone();
    json["friendlyName"] = json["name"].clone();
    json["lastUsedAt"] = json!(passkey.used_at.map(iso));
    json
}

/// Somebody whose session began less than a day ago, however they show it.
async fn fresh_person(call: &Call) -> Result<Person, Problem> {
    let person = call.required_person().await?;
    if call.is_fresh(&person.live.session) {
        Ok(person)
    } else {
        Err(Problem::SessionNotFresh)
    }
}

async fn capability(call: Call) -> Result<Response, Problem> {
    let rp_id = &call.app().config.passkeys.rp_id;
    let body = json!({"enabled": true, "conditionalUIAvailable": true, "rpId": rp_id});
    Ok(Json(body).into_response())
}

async fn register_options(call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    let person = fresh_person(&call).await?;
    registration(&call, &person.live.user, None, None).await
}

async fn register(call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let response = fields.record("response");
    let name = fields.optional_text("name");
    fields.check_kept("name");
    fields.done()?;
    let person = fresh_person(&call).await?;
    let passkey = add(&call, &person.live.user, &response, name).await?;
    Ok(Json(own_json(&passkey)).into_response())
}

async fn authenticate_options(call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    authentication(&call).await
}

async fn authenticate(call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    let body = read_body(&call.headers, &call.bytes, BodyTypes::Json)?;
    // The browser's answer by itself, or in `response`, which it has a field of that name of its own for.
    let is_flat = body.as_ref().is_some_and(|body| body.get("id").is_some());
    let response = match body {
        Some(answer @ Value::Object(_)) if is_flat => answer,
        body => {
            let mut fields = Fields::of_body(body, false, false);
            let response = fields.record("response");
            fields.done()?;
            response
        }
    };
    let In {
        user,
        started,
        trusted_device,
    } = match enter(&call, &response).await.map_err(refused)? {
        Entered::In(entered) => *entered,
        Entered::SecondFactorNeeded { challenge, methods } => {
            let body = json!({"twoFactorRedirect": true, "twoFactorMethods": methods});
            return Ok(two_factor::needed(&call, &challenge, true, &body));
        }
    };
    let token = started.token;
    let live = Live::new(started.session, user, 0);
    let access_token = accounts::access_token(call.app(), &live).await?;
    let body = json!({
        "user": user_json(&live.user), "token": token, "accessToken": access_token, "refreshToken": token,
    });
    let response = with_session_cookies(Json(body).into_response(), &call, &token, true);
    Ok(match trusted_device {
        Some(id) => two_factor::with_trusted_device(response, &call, &live.user.id, &id),
        None => response,
    })
}

async fn list(call: Call) -> Result<Response, Problem> {
    let person = call.required_person().await?;
    let own = passkeys::list(call.app(), &person.live.user.id).await;
    let own: Vec<Value> = own.map_err(refused_own)?.iter().map(own_json).collect();
    Ok(Json(own).into_response())
}

async fn rename(Path(id): Path<String>, call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    // As the server has always read it, and as clients have always sent it.
    let field = if fields.has("friendlyName") {
        "friendlyName"
    } else {
        "name"
    };
    let name = fields.filled_text(field);
    fields.check_kept(field);
    fields.done()?;
    let person = call.required_person().await?;
    let user_id = &person.live.user.id;
    let renamed = passkeys::rename(call.app(), user_id, &id, name, &call.caller).await;
    let passkey = renamed.map_err(refused_own_or_foreign)?;
    Ok(Json(json!({"success": true, "passkey": own_json(&passkey)})).into_response())
}

async fn remove(Path(id): Path<String>, call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    let person = call.required_person().await?;
    let removed = passkeys::remove(call.app(), &person.live.user, &id, &call.caller).await;
    removed.map_err(refused_own_or_foreign)?;
    Ok(Json(json!({"success": true})).into_response())
}
