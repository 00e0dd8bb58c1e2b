//! `/api/v1/auth/*`: the routes of the apps' own clients.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/register` | make an account |
//! | POST | `/login` | a session: access token and cookie |
//! | POST | `/logout` | end it |
//! | POST | `/validate` | is this access token good |
//! | GET | `/session` | the session of the cookie |
//! | GET | `/jwks` | the keys that verify access tokens |

use std::sync::Arc;

use aggregates::session::EndReason;
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::answers::{replay, with_session_cookies, without_session_cookies};
use super::auth::{
    check_signups, invented, jwks, known_password, lost_to_another, new_password, outcome,
    registered, signed_up_in_pretence,
};
use super::doors::{Checks, Door};
use super::error::Problem;
use super::limits;
use super::request::{BodyTypes, Fields, read_body};
use super::sessions::Presented;
use super::shapes::user_json;
use super::two_factor;
use super::web::Call;
use crate::accounts::{self, AccountError, NewAccount, Once, Started, Verification};
use crate::entry::{self, Entered, In, Visit};
use crate::sessions::Live;
use crate::sign_in;
use crate::store::{Actor, forget_written};

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        post_door("/register", post(register)).limited(limits::SIGN_UP),
        post_door("/login", post(login))
            .limited(limits::SIGN_IN)
            .checking(Checks::Password),
        post_door("/logout", post(logout)).also_impersonated(),
        post_door("/validate", post(validate)).also_impersonated(),
        get_door("/session", get(session)),
        get_door("/jwks", get(jwks)),
    ]
}

/// The fields of a body that a cookie does not guard: these routes take no notice of cookies.
pub fn fields(call: &Call) -> Result<Fields, Problem> {
    Ok(Fields::of_body(
        read_body(&call.headers, &call.bytes, BodyTypes::Json)?,
        false,
        false,
    ))
}

/// `POST /register`: creates the account; mail and credits follow from the queue.
async fn register(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    let mut fields = fields(&call)?;
    let email = fields.email("email");
    let password = fields.filled_text("password");
    let name = fields.optional_text("name");
    let source_app = fields.optional_text("sourceAppUrl");
    fields.check_kept("name");
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    // Without a name, people are called by what stands in front of the @.
    let name = name.unwrap_or_else(|| {
        email
            .as_str()
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned()
    });
    let password = new_password(app, password, email.as_str(), &name)?;

    let fingerprint = call.idempotency_of_sign_up("/api/v1/auth/register").await?;
    if let Some(Some(outcome)) = call.repeated(fingerprint).await? {
        return Ok(replay(outcome));
    }
    check_signups(app).await?;
    let account = NewAccount {
        email: email.clone(),
        name: name.clone(),
        password: Some(password),
        email_verified: false,
        image: None,
        locale: None,
        link: None,
    };
    let callback = landing_page(&call, source_app);
    let verification = Verification {
        callback: Some(&callback),
        once: fingerprint.map(|fingerprint| Once {
            fingerprint,
            outcome: |user| Some(outcome(user)),
        }),
    };
    let context = call.caller.context_about(Actor::Anonymous, "");
    let done = accounts::register(app, account, context, verification).await;
    if lost_to_another(&done)
        && let Some(Some(outcome)) = call.repeated(fingerprint).await?
    {
        return Ok(replay(outcome));
    }
    if app.config.register_enumeration_safe {
        // A taken address writes nothing, and that is not to be seen.
        forget_written();
    }
    match done {
        Ok(user) => Ok(Json(registered(&user)).into_response()),
        Err(AccountError::EmailTaken) if app.config.register_enumeration_safe => {
            let user = invented(app, &email, name, None, None);
            signed_up_in_pretence(&call, &email, &user, fingerprint).await
        }
        Err(error) => Err(error.into()),
    }
}

/// Where a mailed link lands: the app that asked, if it is trusted, else the first app we know.
pub fn landing_page(call: &Call, source_app: Option<String>) -> String {
    source_app
        .filter(|url| call.web.trusted.may_lead_to(url))
        .or_else(|| call.app().config.cors_origins.first().cloned())
        .unwrap_or_else(|| "/".to_owned())
}

/// `POST /login`: access token and cookie in one answer, never one without the other.
async fn login(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    let mut fields = fields(&call)?;
    let email = fields.email("email");
    let password = fields.text("password");
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let password = known_password(password)?;

    let (user, proof) = sign_in::with_password(app, &email, password, None, &call.caller).await?;
    // Without a key nothing could be signed: fail before there is a session.
    app.signing.signer().await?;
    let device = two_factor::trusted_device(&call);
    let visit = Visit {
        proof,
        remembered: true,
        trusted_device: device.as_deref(),
        caller: &call.caller,
    };
    let In {
        user,
        started,
        trusted_device,
    } = match entry::enter(app, user, visit).await? {
        Entered::In(entered) => *entered,
        Entered::SecondFactorNeeded { challenge, methods } => {
            let body = json!({"twoFactorRedirect": true, "twoFactorMethods": methods});
            return Ok(two_factor::needed(&call, &challenge, true, &body));
        }
    };
    let Started { token, session } = started;
    let live = Live::new(session, user, 0);
    let access_token = accounts::access_token(app, &live).await?;
    let body = json!({
        "redirect": false,
        "token": token,
        "user": user_json(&live.user),
        "accessToken": access_token,
        "refreshToken": token,
    });
    let response = with_session_cookies(Json(body).into_response(), &call, &token, true);
    Ok(match trusted_device {
        Some(id) => two_factor::with_trusted_device(response, &call, &live.user.id, &id),
        None => response,
    })
}

/// `POST /logout`: ends the session of the cookie and that of the body's `refreshToken`, else that of the bearer.
/// Always succeeds: whoever wants out is out.
async fn logout(call: Call) -> Result<Response, Problem> {
    call.web
        .trusted
        .check_cookie_request(&call.method, &call.headers)?;
    let app = call.app();
    let mut ended = Vec::new();
    if let Presented::Live(session) = call.session().await? {
        ended.push(session.live);
    }
    if let Some(token) = refresh_token(&call) {
        ended.extend(app.sessions.find(&token, app.clock.now()).await?);
    }
    if ended.is_empty() {
        ended.extend(of_bearer(&call).await?);
    }
    ended.dedup_by(|one, other| one.session.id == other.session.id);
    for live in ended {
        let context = call.caller.context_about(live.actor(), &live.user.id);
        accounts::end_session(app, &live.session.id, EndReason::SignedOut, context).await?;
    }
    Ok(without_session_cookies(
        Json(json!({"success": true})).into_response(),
        &call,
    ))
}

/// The session token in a body, as the clients without cookies send it.
pub fn refresh_token(call: &Call) -> Option<String> {
    let body = read_body(&call.headers, &call.bytes, BodyTypes::Json).ok()??;
    body.get("refreshToken")?.as_str().map(str::to_owned)
}

/// The session of an access token.
async fn of_bearer(call: &Call) -> Result<Option<Arc<Live>>, Problem> {
    let Some(token) = call.bearer_text() else {
        return Ok(None);
    };
    let app = call.app();
    let (issuer, audience) = (&app.config.jwt_issuer, &app.config.jwt_audience);
    let Ok(claims) = app.signing.verify(token, issuer, audience).await? else {
        return Ok(None);
    };
    let sid = claims.get("sid").and_then(Value::as_str);
    Ok(match sid {
        Some(sid) => app.sessions.find_by_id(sid, app.clock.now()).await?,
        None => None,
    })
}

/// `POST /validate`: whether an access token is good. Says nothing about the session behind it.
async fn validate(call: Call) -> Result<Response, Problem> {
    let invalid = |status: StatusCode| Ok((status, Json(json!({"valid": false}))).into_response());
    let Ok(Some(body)) = read_body(&call.headers, &call.bytes, BodyTypes::Json) else {
        return invalid(StatusCode::BAD_REQUEST);
    };
    let Some(token) = body
        .get("token")
        .and_then(Value::as_str)
        .filter(|token| !token.is_empty())
    else {
        return invalid(StatusCode::BAD_REQUEST);
    };
    let config = &call.app().config;
    match call
        .app()
        .signing
        .verify(token, &config.jwt_issuer, &config.jwt_audience)
        .await?
    {
        Ok(claims) => Ok(Json(json!({"valid": true, "payload": claims})).into_response()),
        Err(_) => invalid(StatusCode::UNAUTHORIZED),
    }
}

/// `GET /session`: the session of the cookie, or `null`.
async fn session(call: Call) -> Result<Response, Problem> {
    Ok(match call.session().await? {
        Presented::Nothing => Json(Value::Null).into_response(),
        Presented::Over => without_session_cookies(Json(Value::Null).into_response(), &call),
        Presented::Live(session) => {
            let extended = call.extend(&session).await?;
            let response = call.who_am_i(&session, extended.as_ref());
            if extended.is_some() {
                with_session_cookies(response, &call, &session.token, true)
            } else {
                response
            }
        }
    })
}
