//! `/api/auth/passkey/*`: passkeys with the official client.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/generate-register-options` | begin to add one |
//! | POST | `/verify-registration` | add it |
//! | GET | `/generate-authenticate-options` | begin to sign in |
//! | POST | `/verify-authentication` | sign in |
//! | GET | `/list-user-passkeys` | one's own |
//! | POST | `/update-passkey`, `/delete-passkey` | another name; away with it |

use aggregates::session::SignInMethod;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use projections::users::UserRow;
use serde_json::{Value, json};

use super::answers::{Refusal, as_json, set_cookies, with_session};
use super::doors::{Checks, Door};
use super::error::{Problem, Stated};
use super::request::{BodyTypes, Fields};
use super::sessions::Presented;
use super::shapes::{iso, user_json};
use super::two_factor;
use super::web::Call;
use crate::accounts::Proof;
use crate::crypto::tokens::TokenKind;
use crate::entry::{self, Entered, In, Visit};
use crate::passkeys::{self, CEREMONY_FOR, Ceremony, Passkey, PasskeyError};
use crate::step_up;

/// The cookie that holds a ceremony's id.
const COOKIE: &str = "better-auth-passkey";
/// How long a browser waits for the person, in milliseconds.
const TIMEOUT_MILLIS: u32 = 60_000;
/// What keys may be made for, as COSE numbers it: EdDSA, ES256, RS256.
const ALGORITHMS: [i32; 3] = [-8, -7, -257];

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        get_door("/passkey/generate-register-options", get(register_options))
            .never_impersonated()
            .after_step_up(),
        post_door("/passkey/verify-registration", post(verify_registration)).after_step_up(),
        get_door(
            "/passkey/generate-authenticate-options",
            get(authenticate_options),
        ),
        post_door("/passkey/verify-authentication", post(authenticate)).checking(Checks::Passkey),
        get_door("/passkey/list-user-passkeys", get(list)),
        post_door("/passkey/update-passkey", post(update)).after_step_up(),
        post_door("/passkey/delete-passkey", post(delete)).after_step_up(),
    ]
}

static NO_CHALLENGE: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: Some("CHALLENGE_NOT_FOUND"),
    message: "Challenge not found",
};
static NOT_REGISTERED: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: Some("FAILED_TO_VERIFY_REGISTRATION"),
    message: "Failed to verify registration",
};
static TOO_MANY: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: Some("TOO_MANY_PASSKEYS"),
    message: "You have too many passkeys",
};
static NOT_YOURS: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY"),
    message: "You are not allowed to register this passkey",
};
static NOT_AUTHENTICATED: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: Some("AUTHENTICATION_FAILED"),
    message: "Authentication failed",
};
static UNKNOWN: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("PASSKEY_NOT_FOUND"),
    message: "Passkey not found",
};
static NOT_FOUND: Stated = Stated {
    status: StatusCode::NOT_FOUND,
    code: Some("PASSKEY_NOT_FOUND"),
    message: "Passkey not found",
};

/// A refusal in the words of a route; two of them depend on what the route does.
fn refused(
    error: PasskeyError,
    not_found: &'static Stated,
    not_verified: &'static Stated,
) -> Problem {
    let words = match error {
        PasskeyError::NoChallenge => &NO_CHALLENGE,
        PasskeyError::NotYours => &NOT_YOURS,
        PasskeyError::TooMany => &TOO_MANY,
        PasskeyError::NotFound => not_found,
        PasskeyError::NotVerified => not_verified,
        PasskeyError::Account(error) => return error.into(),
    };
    Problem::Stated(words, None)
}

/// What is refused when one adds a passkey or looks after it.
pub fn refused_own(error: PasskeyError) -> Problem {
    refused(error, &NOT_FOUND, &NOT_REGISTERED)
}

/// A passkey as the official client knows it.
pub fn passkey_json(passkey: &Passkey) -> Value {
    let Passkey {
        row,
        credential,
        counter,
        ..
    } = passkey;
    let transports = credential.transports.join(",");
    let device = if credential.backup_eligible {
        "multiDevice"
    } else {
        "singleDevice"
    };
    json!({
        "name": row.name, "publicKey": credential.public_key, "userId": row.user_id,
        "credentialID": row.credential_id, "counter": counter, "deviceType": device,
        "backedUp": credential.backed_up, "transports": Some(transports).filter(|t| !t.is_empty()),
        "createdAt": iso(row.created_at), "aaguid": credential.aaguid, "id": row.id,
    })
}

/// Answers with the options of a ceremony that has begun; its cookie leads on.
fn begun(call: &Call, ceremony: &Ceremony, options: Value) -> Response {
    let mut response = Json(options).into_response();
    let (cookies, signer) = (&call.web.cookies, &call.app().cookies);
    let cookie = cookies.signed(signer, COOKIE, &ceremony.id, Some(CEREMONY_FOR));
    set_cookies(&mut response, vec![cookie]);
    response
}

/// The passkeys that a browser should leave out, or take one of.
fn descriptors(passkeys: &[Passkey]) -> Vec<Value> {
    let descriptor = |passkey: &Passkey| {
        let mut one = json!({"id": passkey.row.credential_id, "type": "public-key"});
        let transports = &passkey.credential.transports;
        if !transports.is_empty() {
            one["transports"] = json!(transports);
        }
        one
    };
    passkeys.iter().map(descriptor).collect()
}

fn user_verification(call: &Call) -> &'static str {
    if call.app().config.passkeys.user_verification {
        "required"
    } else {
        "preferred"
    }
}

/// Begins to add a passkey for somebody.
pub async fn registration(
    call: &Call,
    user: &UserRow,
    name: Option<&str>,
    attachment: Option<&str>,
) -> Result<Response, Problem> {
    let app = call.app();
    let own = passkeys::list(app, &user.id).await.map_err(refused_own)?;
    let ceremony = passkeys::begin(app, TokenKind::PasskeyRegistration, Some(&user.id)).await?;
    let settings = &app.config.passkeys;
    let mut selection = json!({
        "residentKey": "preferred", "userVerification": user_verification(call), "requireResidentKey": false,
    });
    if let Some(attachment) = attachment {
        selection["authenticatorAttachment"] = json!(attachment);
    }
    let name = name.filter(|name| !name.is_empty()).unwrap_or(&user.email);
    let parameter = |alg: &i32| json!({"alg": alg, "type": "public-key"});
    let options = json!({
        "challenge": ceremony.challenge,
        "rp": {"name": settings.rp_name, "id": settings.rp_id},
        "user": {"id": passkeys::user_handle(), "name": name, "displayName": user.email},
        "pubKeyCredParams": ALGORITHMS.iter().map(parameter).collect::<Vec<_>>(),
        "timeout": TIMEOUT_MILLIS, "attestation": "none", "excludeCredentials": descriptors(&own),
        "authenticatorSelection": selection, "extensions": {"credProps": true}, "hints": [],
    });
    Ok(begun(call, &ceremony, options))
}

/// Begins a sign-in. Somebody who is signed in already, and has passkeys, has to take one of them.
pub async fn authentication(call: &Call) -> Result<Response, Problem> {
    let app = call.app();
    let own = match call.session().await? {
        Presented::Live(session) => {
            let own = passkeys::list(app, &session.live.user.id).await;
            own.map_err(refused_own)?
        }
        Presented::Nothing | Presented::Over => vec![],
    };
    let whose = own.first().map(|passkey| passkey.row.user_id.as_str());
    let ceremony = passkeys::begin(app, TokenKind::PasskeySignIn, whose).await?;
    let mut options = json!({
        "rpId": app.config.passkeys.rp_id, "challenge": ceremony.challenge, "timeout": TIMEOUT_MILLIS,
        "userVerification": user_verification(call),
    });
    if !own.is_empty() {
        options["allowCredentials"] = json!(descriptors(&own));
    }
    Ok(begun(call, &ceremony, options))
}

/// Adds the passkey that a browser answers with.
pub async fn add(
    call: &Call,
    user: &UserRow,
    response: &Value,
    name: Option<String>,
) -> Result<Passkey, Problem> {
    let ceremony = call.cookie(COOKIE);
    let name = name.filter(|name| !name.is_empty());
    passkeys::register(
        call.app(),
        user,
        ceremony.as_deref(),
        response,
        name,
        &call.caller,
    )
    .await
    .map_err(refused_own)
}

/// Lets somebody in by the passkey that a browser answers with.
pub async fn enter(call: &Call, response: &Value) -> Result<Entered, PasskeyError> {
    let (app, caller) = (call.app(), &call.caller);
    let ceremony = call.cookie(COOKIE);
    let (user, proof) = passkeys::sign_in(app, ceremony.as_deref(), response, caller).await?;
    let device = two_factor::trusted_device(call);
    let visit = Visit {
        proof,
        remembered: true,
        trusted_device: device.as_deref(),
        caller,
    };
    Ok(entry::enter(app, user, visit).await?)
}

async fn register_options(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let name = fields.optional_text("name");
    fields.check_kept("name");
    let attachment =
        fields.optional_choice("authenticatorAttachment", &["platform", "cross-platform"]);
    fields.done()?;
    let session = call.fresh_session().await?;
    let begun = registration(&call, &session.live.user, name.as_deref(), attachment).await?;
    Ok(call.prolonged(begun, &session).await)
}

async fn verify_registration(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let response = fields.record("response");
    let name = fields.optional_text("name");
    fields.check_kept("name");
    let create_session = fields.optional_bool("createSession").unwrap_or(false);
    fields.done()?;
    let session = call.fresh_session().await?;
    let passkey = add(&call, &session.live.user, &response, name).await?;
    let mut body = passkey_json(&passkey);
    if !create_session {
        return Ok(call.prolonged(Json(body).into_response(), &session).await);
    }
    let visit = Visit {
        // They are in already, by whatever that took.
        proof: Proof {
            second_factor: true,
            carried: step_up::carried(call.app(), &session.live, None),
            ..Proof::by(SignInMethod::Session)
        },
        remembered: session.live.session.remembered,
        trusted_device: None,
        caller: &call.caller,
    };
    let user = session.live.user.clone();
    let Entered::In(entered) = entry::enter(call.app(), user, visit).await? else {
        unreachable!("a session asks for no second factor");
    };
    let In { user, started, .. } = *entered;
    body["session"] = json!(call.session_json(&started.session, &started.token));
    body["user"] = json!(user_json(&user));
    let remembered = started.session.remembered;
    let body = Json(body).into_response();
    Ok(with_session(body, &call, &started.token, remembered))
}

async fn authenticate_options(call: Call) -> Result<Response, Problem> {
    authentication(&call).await
}

async fn authenticate(call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let response = fields.record("response");
    fields.done()?;
    let entered = enter(&call, &response).await;
    let entered = entered.map_err(|error| refused(error, &UNKNOWN, &NOT_AUTHENTICATED))?;
    let In {
        user,
        started,
        trusted_device,
    } = match entered {
        Entered::In(entered) => *entered,
        Entered::SecondFactorNeeded { challenge, methods } => {
            let body = json!({"twoFactorRedirect": true, "twoFactorMethods": methods});
            return Ok(two_factor::needed(&call, &challenge, true, &body));
        }
    };
    let body = Json(call.session_and_user(&started.session, &started.token, &user));
    let response = with_session(body.into_response(), &call, &started.token, true);
    Ok(match trusted_device {
        Some(id) => two_factor::with_trusted_device(response, &call, &user.id, &id),
        None => response,
    })
}

async fn list(call: Call) -> Result<Response, Refusal> {
    let session = call.required_session().await?;
    let own = passkeys::list(call.app(), &session.live.user.id).await;
    let own: Vec<Value> = own.map_err(refused_own)?.iter().map(passkey_json).collect();
    Ok(call.prolonged(Json(own).into_response(), &session).await)
}

async fn update(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.text("id");
    let name = fields.filled_text("name");
    fields.check_kept("name");
    fields.done()?;
    let session = call.required_session().await?;
    let user_id = &session.live.user.id;
    let renamed = passkeys::rename(call.app(), user_id, &id, name, &call.caller).await;
    let passkey = renamed.map_err(refused_own)?;
    let body = json!({"passkey": passkey_json(&passkey)});
    Ok(call.prolonged(Json(body).into_response(), &session).await)
}

async fn delete(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.text("id");
    fields.done()?;
    let session = call.required_session().await?;
    match passkeys::remove(call.app(), &session.live.user, &id, &call.caller).await {
        // Without a body, as clients know it.
        Err(PasskeyError::NotYours) => {
            let nothing = as_json(StatusCode::UNAUTHORIZED.into_response());
            return Err(Refusal::answer(nothing));
        }
        removed => removed.map_err(refused_own)?,
    }
    let body = Json(json!({"status": true})).into_response();
    Ok(call.prolonged(body, &session).await)
}
