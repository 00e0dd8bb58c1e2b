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
use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use projections::users::UserRow;
use serde_json::{Value, json};

use super::auth::{invented, jwks, known_password, lost_to_another, new_password};
use super::error::Problem;
use super::limits;
use super::request::{BodyTypes, Fields, read_body};
use super::web::{
    Call, Presented, Web, forget_written, replay, session_and_user, user_json,
    with_session_cookies, without_session_cookies,
};
use crate::accounts::{self, AccountError, NewAccount, Once, Started, Verification};
use crate::sessions::Live;
use crate::store::Actor;
use crate::store::idempotency::Outcome;

/// The routes.
pub fn routes(web: &Arc<Web>) -> Router<Arc<Web>> {
    Router::new()
        .route("/register", post(register))
        .route("/login", post(login))
        .route("/logout", post(logout))
        .route("/validate", post(validate))
        .route("/session", get(session))
        .route("/jwks", get(jwks))
        .layer(from_fn_with_state(web.clone(), shape))
}

/// Gives problems the shape that the clients of this area know.
async fn shape(
    State(web): State<Arc<Web>>,
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<Problem>() {
        Some(problem) => problem.v1(web.app.config.error_shape),
        None => response,
    }
}

/// The fields of a body that a cookie does not guard: these routes take no notice of cookies.
fn fields(call: &Call) -> Result<Fields, Problem> {
    Ok(Fields::of_body(
        read_body(&call.headers, &call.bytes, BodyTypes::Json)?,
        false,
        false,
    ))
}

/// `POST /register`: creates the account; mail and credits follow from the queue.
async fn register(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    limits::SIGN_UP.take(app, call.address).await?;
    let mut fields = fields(&call)?;
    let email = fields.email("email");
    let password = fields.filled_text("password");
    let name = fields.optional_text("name");
    let source_app = fields.optional_text("sourceAppUrl");
    fields.check_kept("name");
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let password = new_password(password)?;
    // Without a name, people are called by what stands in front of the @.
    let name = name.unwrap_or_else(|| {
        email
            .as_str()
            .split('@')
            .next()
            .unwrap_or_default()
            .to_owned()
    });

    let fingerprint = call.idempotency("/api/v1/auth/register")?;
    if let Some(Some(outcome)) = call.repeated(fingerprint).await? {
        return Ok(replay(outcome));
    }
    let account = NewAccount {
        email: email.clone(),
        name: name.clone(),
        password,
        image: None,
        locale: None,
    };
    let callback = landing_page(&call, source_app);
    let keep: fn(&UserRow) -> Option<Outcome> = |user| {
        Some(Outcome {
            status: 200,
            body: registered(user).to_string().into_bytes(),
        })
    };
    let verification = Verification {
        callback: Some(&callback),
        once: fingerprint.map(|fingerprint| Once {
            fingerprint,
            outcome: keep,
        }),
    };
    let context = call.caller.context(Actor::Anonymous);
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
            accounts::tell_account_exists(app, &email).await?;
            Ok(Json(registered(&invented(app, &email, name, None, None))).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

fn registered(user: &UserRow) -> Value {
    json!({"token": null, "user": user_json(user)})
}

/// Where the verification link lands: the app that asked, if it is trusted, else the first app we know.
fn landing_page(call: &Call, source_app: Option<String>) -> String {
    source_app
        .filter(|url| call.web.trusted.may_lead_to(url))
        .or_else(|| call.app().config.cors_origins.first().cloned())
        .unwrap_or_else(|| "/".to_owned())
}

/// `POST /login`: access token and cookie in one answer, never one without the other.
async fn login(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    limits::SIGN_IN.take(app, call.address).await?;
    let mut fields = fields(&call)?;
    let email = fields.email("email");
    let password = fields.text("password");
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let password = known_password(password)?;

    let user = accounts::check_password(app, &email, password).await?;
    let user = accounts::admit(app, user, None).await?;
    // Without a key nothing could be signed: fail before there is a session.
    app.signing.signer().await?;
    let Started { token, session } =
        accounts::start_session(app, &user, true, &call.caller).await?;
    let live = Live::new(session, user, 0);
    let access_token = accounts::access_token(app, &live).await?;
    let body = json!({
        "redirect": false,
        "token": token,
        "user": user_json(&live.user),
        "accessToken": access_token,
        "refreshToken": token,
    });
    Ok(with_session_cookies(
        Json(body).into_response(),
        &call,
        &token,
        true,
    ))
}

/// `POST /logout`: ends the session of the cookie, else of the body's `refreshToken`, else of the bearer.
/// Always succeeds: whoever wants out is out.
async fn logout(call: Call) -> Result<Response, Problem> {
    call.web
        .trusted
        .check_cookie_request(&call.method, &call.headers)?;
    let app = call.app();
    let now = app.clock.now();
    let ended = match call.session().await? {
        Presented::Live(session) => Some((
            session.live.session.id.clone(),
            session.live.user.id.clone(),
        )),
        Presented::Nothing | Presented::Over => match refresh_token(&call) {
            Some(token) => app
                .sessions
                .find(&token, now)
                .await?
                .map(|live| (live.session.id.clone(), live.user.id.clone())),
            None => of_bearer(&call).await?,
        },
    };
    if let Some((session_id, user_id)) = ended {
        let context = call.caller.context(Actor::User(user_id));
        accounts::end_session(app, &session_id, EndReason::SignedOut, context).await?;
    }
    Ok(without_session_cookies(
        Json(json!({"success": true})).into_response(),
        &call,
    ))
}

fn refresh_token(call: &Call) -> Option<String> {
    let body = read_body(&call.headers, &call.bytes, BodyTypes::Json).ok()??;
    body.get("refreshToken")?.as_str().map(str::to_owned)
}

/// Session and person of an access token.
async fn of_bearer(call: &Call) -> Result<Option<(String, String)>, Problem> {
    let Some(token) = call.bearer_text() else {
        return Ok(None);
    };
    let config = &call.app().config;
    let Ok(claims) = call
        .app()
        .signing
        .verify(token, &config.jwt_issuer, &config.jwt_audience)
        .await?
    else {
        return Ok(None);
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(str::to_owned);
    Ok(text("sid").zip(text("sub")))
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
            let row = extended.as_ref().unwrap_or(&session.live.session);
            let body = session_and_user(row, &session.token, &session.live.user);
            let response = Json(body).into_response();
            if extended.is_some() {
                with_session_cookies(response, &call, &session.token, true)
            } else {
                response
            }
        }
    })
}
