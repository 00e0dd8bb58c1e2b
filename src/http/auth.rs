//! `/api/auth/*`: the routes of the official client.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/sign-up/email` | make an account |
//! | POST | `/sign-in/email` | start a session with a password |
//! | POST | `/sign-out` | end the session |
//! | GET | `/get-session` | the session and its person, with a fresh access token beside |
//! | POST | `/send-verification-email` | mail the verification link again |
//! | GET | `/verify-email` | follow it |
//! | GET | `/token` | an access token |
//! | GET | `/jwks` | the keys that verify it |
//! | GET | `/ok`, `/error` | |

use std::sync::Arc;

use aggregates::EmailAddress;
use aggregates::session::EndReason;
use axum::extract::Request;
use axum::http::{HeaderValue, Method, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use projections::users::UserRow;
use serde_json::{Value, json};

use super::error::Problem;
use super::limits;
use super::request::{BodyTypes, Fields};
use super::web::{
    Call, Presented, Web, expose, forget_written, redirect, replay, session_and_user, set_header,
    user_json, with_error, with_session, without_session_cookies,
};
use crate::accounts::{
    self, AccountError, NewAccount, Once, Started, Verification, VerificationError, Verified,
};
use crate::crypto::password::Password;
use crate::ids;
use crate::store::idempotency::Outcome;
use crate::store::{Actor, StoreError};

/// Passwords have 8 to 128 UTF-16 units, as clients count them.
const PASSWORD_UNITS: std::ops::RangeInclusive<usize> = 8..=128;
/// Where a verification link leads when nobody says.
const DEFAULT_CALLBACK: &str = "/";

/// The routes.
pub fn routes(_: &Arc<Web>) -> Router<Arc<Web>> {
    Router::new()
        .route("/sign-up/email", post(sign_up))
        .route("/sign-in/email", post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/get-session", get(get_session).post(post_session))
        .route("/send-verification-email", post(send_verification_email))
        .route("/verify-email", get(verify_email))
        .route("/token", get(token))
        .route("/jwks", get(jwks))
        .route("/ok", get(async || Json(json!({"ok": true}))))
        .route("/error", get(error_page))
        .layer(from_fn(no_head))
}

/// The wire knows no HEAD; the router would answer it like GET.
async fn no_head(request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD {
        axum::http::StatusCode::NOT_FOUND.into_response()
    } else {
        next.run(request).await
    }
}

/// Checks a new password's length and takes it.
pub fn new_password(text: String) -> Result<Password, Problem> {
    let units = text.encode_utf16().count();
    if units < *PASSWORD_UNITS.start() {
        return Err(Problem::PasswordTooShort);
    }
    if units > *PASSWORD_UNITS.end() {
        return Err(Problem::PasswordTooLong);
    }
    Password::new(text).map_err(|_| Problem::PasswordTooLong)
}

/// Takes a password that somebody claims to know: only the maximum is checked.
pub fn known_password(text: String) -> Result<Password, Problem> {
    if text.encode_utf16().count() > *PASSWORD_UNITS.end() {
        return Err(Problem::PasswordTooLong);
    }
    Password::new(text).map_err(|_| Problem::PasswordTooLong)
}

async fn sign_up(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    limits::SIGN_UP.take(app, call.address).await?;
    let mut fields = call.fields(BodyTypes::JsonOrForm, true)?;
    let name = fields.text("name");
    let email = fields.email("email");
    let password = fields.filled_text("password");
    let image = fields.optional_text("image");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    let remember = fields.optional_bool("rememberMe").unwrap_or(true);
    // An additional field: `null` is as good as nothing.
    let locale = if fields.raw("locale").is_none_or(Value::is_null) {
        None
    } else {
        fields.optional_text("locale")
    };
    for kept in ["name", "image", "locale"] {
        fields.check_kept(kept);
    }
    fields.done()?;
    call.web.trusted.check_form_request(&call.headers)?;
    if fields.has("role") {
        return Err(Problem::FieldNotAllowed("role"));
    }
    let email = email.ok_or(Problem::InvalidEmail)?;
    let password = new_password(password)?;

    let fingerprint = call.idempotency("/api/auth/sign-up/email")?;
    let verify_first = app.config.require_email_verification;
    let again = async || match call.repeated(fingerprint).await? {
        None => Ok(None),
        Some(Some(outcome)) => Ok(Some(replay(outcome))),
        // The first answer held a session token: whoever still knows the password gets another one.
        Some(None) => {
            let user = accounts::check_password(app, &email, password.clone()).await?;
            let user = accounts::admit(app, user, None).await?;
            signed_up(&call, user, remember).await.map(Some)
        }
    };
    if let Some(answer) = again().await? {
        return Ok(answer);
    }
    let account = NewAccount {
        email: email.clone(),
        name: name.clone(),
        password: password.clone(),
        image: image.clone(),
        locale: locale.clone(),
    };
    let keep: fn(&UserRow) -> Option<Outcome> = if verify_first {
        |user| Some(outcome(&json!({"token": null, "user": user_json(user)})))
    } else {
        |_| None
    };
    let verification = Verification {
        callback: Some(callback.as_deref().unwrap_or(DEFAULT_CALLBACK)),
        once: fingerprint.map(|fingerprint| Once {
            fingerprint,
            outcome: keep,
        }),
    };
    let context = call.caller.context(Actor::Anonymous);
    let registered = accounts::register(app, account, context, verification).await;
    if lost_to_another(&registered)
        && let Some(answer) = again().await?
    {
        return Ok(answer);
    }
    match registered {
        Ok(user) if verify_first => {
            // A taken address writes nothing, and that is not to be seen (S-22).
            forget_written();
            Ok(Json(json!({"token": null, "user": user_json(&user)})).into_response())
        }
        Ok(user) => signed_up(&call, user, remember).await,
        // Whether an address has an account is its owner's business: they get a mail (S-24).
        Err(AccountError::EmailTaken) if verify_first => {
            accounts::tell_account_exists(app, &email).await?;
            Ok(Json(json!({"token": null, "user": user_json(&invented(app, &email, name, image, locale))})).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether a registration may have lost to the same request on another connection: then it is answered
/// as that one was.
pub fn lost_to_another(registered: &Result<UserRow, AccountError>) -> bool {
    matches!(
        registered,
        Err(AccountError::EmailTaken | AccountError::Store(StoreError::IdempotencyKeyUsed))
    )
}

fn outcome(body: &Value) -> Outcome {
    Outcome {
        status: 200,
        body: body.to_string().into_bytes(),
    }
}

async fn signed_up(call: &Call, user: UserRow, remember: bool) -> Result<Response, Problem> {
    let Started { token, .. } =
        accounts::start_session(call.app(), &user, remember, &call.caller).await?;
    let body = Json(json!({"token": token, "user": user_json(&user)})).into_response();
    Ok(with_session(body, call, &token, remember))
}

/// What a new account would look like, for an address that has one already.
pub fn invented(
    app: &crate::app::App,
    email: &EmailAddress,
    name: String,
    image: Option<String>,
    locale: Option<String>,
) -> UserRow {
    let now = app.clock.now();
    UserRow {
        id: ids::user().to_string(),
        email: email.as_str().to_owned(),
        email_verified: false,
        name,
        image,
        locale,
        role: aggregates::Role::default().as_str().to_owned(),
        tier: aggregates::Tier::default().as_str().to_owned(),
        created_at: now,
        updated_at: now,
    }
}

async fn sign_in(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    limits::SIGN_IN.take(app, call.address).await?;
    let mut fields = call.fields(BodyTypes::JsonOrForm, false)?;
    let email = fields.text("email");
    let password = fields.text("password");
    let callback = fields.optional_text("callbackURL");
    let remember = fields.optional_bool("rememberMe").unwrap_or(true);
    fields.done()?;
    call.web.trusted.check_form_request(&call.headers)?;
    let email = EmailAddress::parse(&email).map_err(|_| Problem::InvalidEmail)?;
    let password = known_password(password)?;

    let user = accounts::check_password(app, &email, password).await?;
    let target = callback.as_deref().filter(|url| !url.is_empty());
    let mail_again = app
        .config
        .send_on_sign_in
        .then_some(target.unwrap_or(DEFAULT_CALLBACK));
    let user = accounts::admit(app, user, mail_again).await?;
    let Started { token, .. } = accounts::start_session(app, &user, remember, &call.caller).await?;

    let mut body = json!({"redirect": target.is_some(), "token": token, "user": user_json(&user)});
    if let Some(url) = &callback {
        body["url"] = json!(url);
    }
    let mut response = Json(body).into_response();
    if let Some(target) = target
        && let Some(location) = redirect(target).headers_mut().remove(header::LOCATION)
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(with_session(response, &call, &token, remember))
}

async fn sign_out(call: Call) -> Result<Response, Problem> {
    call.fields(BodyTypes::Json, false)?;
    if let Presented::Live(session) = call.session().await? {
        let context = call.caller.context(Call::actor(Some(&session)));
        accounts::end_session(
            call.app(),
            &session.live.session.id,
            EndReason::SignedOut,
            context,
        )
        .await?;
    }
    Ok(without_session_cookies(
        Json(json!({"success": true})).into_response(),
        &call,
    ))
}

async fn get_session(call: Call) -> Result<Response, Problem> {
    let mut response = match call.session().await? {
        Presented::Nothing => Json(Value::Null).into_response(),
        Presented::Over => without_session_cookies(Json(Value::Null).into_response(), &call),
        Presented::Live(session) => {
            let jwt = accounts::access_token(call.app(), &session.live).await?;
            let extended = call.extend(&session).await?;
            let row = extended.as_ref().unwrap_or(&session.live.session);
            let body = session_and_user(row, &session.token, &session.live.user);
            let mut response = Json(body).into_response();
            set_header(&mut response, "set-auth-jwt", &jwt);
            expose(&mut response, "set-auth-jwt");
            if extended.is_some() {
                response = with_session(response, &call, &session.token, true);
            }
            response
        }
    };
    never_keep(&mut response);
    Ok(response)
}

fn never_keep(response: &mut Response) {
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
        .headers_mut()
        .insert(header::PRAGMA, HeaderValue::from_static("no-cache"));
}

/// The wire has this for a mode that is never on.
async fn post_session(call: Call) -> Result<Response, Problem> {
    call.web
        .trusted
        .check_cookie_request(&call.method, &call.headers)?;
    let mut response = Problem::DeferredRefreshOff.into_response();
    never_keep(&mut response);
    Ok(response)
}

async fn send_verification_email(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    limits::VERIFICATION_MAIL.take(app, call.address).await?;
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let email = fields.email("email");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let callback = callback.as_deref().unwrap_or(DEFAULT_CALLBACK);
    let user = match call.session().await? {
        Presented::Live(session) => {
            if session.live.user.email != email.as_str() {
                return Err(Problem::EmailMismatch);
            }
            if session.live.user.email_verified {
                return Err(Problem::EmailAlreadyVerified);
            }
            Some(session.live.user.clone())
        }
        // Unknown and verified addresses get the same answer and no mail.
        Presented::Nothing | Presented::Over => accounts::find_by_email(app, &email)
            .await?
            .filter(|user| !user.email_verified),
    };
    if let Some(user) = user {
        accounts::send_verification(app, &user, callback).await?;
    }
    Ok(Json(json!({"status": true})).into_response())
}

async fn verify_email(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    let mut fields = Fields::of_query(call.query.as_deref());
    let token = fields.text("token");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    fields.done()?;
    if let Some(callback) = &callback {
        call.check_redirect("callbackURL", callback)?;
    }
    let refuse = |problem: Problem, code: &str| match &callback {
        Some(target) => Ok(as_json(redirect(&with_error(target, code)))),
        None => Err(problem),
    };
    let verified = match accounts::verify_email(app, &token, &call.caller).await {
        Ok(verified) => verified,
        Err(VerificationError::Invalid) => return refuse(Problem::InvalidToken, "INVALID_TOKEN"),
        Err(VerificationError::Expired) => return refuse(Problem::TokenExpired, "TOKEN_EXPIRED"),
        Err(VerificationError::UserNotFound) => {
            return refuse(Problem::UserNotFound, "USER_NOT_FOUND");
        }
        Err(VerificationError::Account(error)) => return Err(error.into()),
    };
    let response = match &callback {
        Some(target) => as_json(redirect(target)),
        None => Json(json!({"status": true, "user": null})).into_response(),
    };
    match verified {
        Verified::Before => Ok(response),
        // The proof signs in; who is signed in already keeps their session.
        Verified::Now(user) => {
            let token = match call.session().await? {
                Presented::Live(session) if session.live.user.id == user.id => session.token,
                _ => {
                    accounts::start_session(app, &user, true, &call.caller)
                        .await?
                        .token
                }
            };
            Ok(with_session(response, &call, &token, true))
        }
    }
}

fn as_json(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

async fn token(call: Call) -> Result<Response, Problem> {
    match call.session().await? {
        Presented::Live(session) => {
            let jwt = accounts::access_token(call.app(), &session.live).await?;
            Ok(Json(json!({"token": jwt})).into_response())
        }
        Presented::Nothing => Err(Problem::Unauthorized),
        Presented::Over => Ok(without_session_cookies(
            Problem::Unauthorized.into_response(),
            &call,
        )),
    }
}

/// `GET /jwks`: the published keys.
pub async fn jwks(call: Call) -> Result<Response, Problem> {
    Ok(Json(call.app().signing.jwks().await?).into_response())
}

/// `GET /error`: to the front page, with a code that cannot be more than a code.
async fn error_page(call: Call) -> Response {
    let fields = Fields::of_query(call.query.as_deref());
    let text = |name: &str| fields.raw(name).and_then(Value::as_str);
    let harmless = |code: &&str| {
        !code.is_empty()
            && code
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"_'-".contains(&b))
    };
    let code = text("error").filter(harmless).unwrap_or("UNKNOWN");
    let mut target = format!("/?error={code}");
    if let Some(description) = text("error_description") {
        let encoded: String =
            url::form_urlencoded::byte_serialize(description.as_bytes()).collect();
        target.push_str(&format!("&error_description={encoded}"));
    }
    redirect(&target)
}
