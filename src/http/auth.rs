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

use aggregates::session::{EndReason, SignInMethod};
use aggregates::{ClaimScope, EmailAddress};
use axum::Json;
use axum::http::{HeaderValue, Method, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use projections::users::UserRow;
use serde_json::{Value, json};

use super::answers::{
    Refusal, as_json, expose, redirect, replay, set_header, with_error, with_session,
    without_session_cookies,
};
use super::doors::{Checks, Door};
use super::error::Problem;
use super::limits;
use super::multi_session;
use super::request::{BodyTypes, Fields};
use super::sessions::Presented;
use super::shapes::{iso, user_json};
use super::two_factor;
use super::web::Call;
use crate::accounts::{self, AccountError, NewAccount, Once, Proof, Verification};
use crate::app::App;
use crate::crypto::password::Password;
use crate::crypto::password::rules::{self, Weakness};
use crate::entry::{self, Entered, In, Visit};
use crate::ids;
use crate::links::{self, Followed, ProofError, Wanted};
use crate::store::idempotency::{Fingerprint, Outcome};
use crate::store::{Actor, StoreError, forget_written};
use crate::{sign_in, signups};

/// Where a verification link leads when nobody says.
const DEFAULT_CALLBACK: &str = "/";

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        post_door("/sign-up/email", post(sign_up)).limited(limits::SIGN_UP),
        post_door("/sign-in/email", post(sign_in))
            .limited(limits::SIGN_IN)
            .checking(Checks::Password),
        post_door("/sign-out", post(sign_out)).also_impersonated(),
        get_door("/get-session", get(get_session)),
        post_door("/get-session", post(post_session)).also_impersonated(),
        post_door("/send-verification-email", post(send_verification_email))
            .limited(limits::VERIFICATION_MAIL),
        get_door("/verify-email", get(verify_email)),
        get_door("/token", get(token)),
        get_door("/jwks", get(jwks)),
        get_door("/ok", get(async |_: Call| Json(json!({"ok": true})))),
        get_door("/error", get(error_page)),
    ]
}

/// Checks a new password by the rules for those (S-06, S-08) and takes it.
///
/// # Errors
/// If it is too short, too long, too much like the account's own data, or known to have been breached.
pub fn new_password(app: &App, text: String, email: &str, name: &str) -> Result<Password, Problem> {
    rules::take_new(text, email, name, app.breached.as_ref()).map_err(|weakness| match weakness {
        Weakness::TooShort => Problem::PasswordTooShort,
        Weakness::TooLong => Problem::PasswordTooLong,
        Weakness::SimilarToAccount => Problem::PasswordTooSimilar,
        Weakness::Breached => Problem::PasswordBreached,
    })
}

/// Refuses a sign-up when as many accounts as may be were made today, whatever the address.
///
/// # Errors
/// If so.
pub async fn check_signups(app: &App) -> Result<(), Problem> {
    match signups::status(app).await? {
        Some(status) if status.remaining() == 0 => {
            let wait = (status.resets_at - app.clock.now()).num_seconds().max(1);
            Err(Problem::SignupLimitReached {
                resets_at: iso(status.resets_at),
                retry_after_secs: wait.unsigned_abs(),
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Takes a password that somebody claims to know: only the maximum is checked.
pub fn known_password(text: String) -> Result<Password, Problem> {
    if text.encode_utf16().count() > *rules::UNITS.end() {
        return Err(Problem::PasswordTooLong);
    }
    Password::new(text).map_err(|_| Problem::PasswordTooLong)
}

async fn sign_up(call: Call) -> Result<Response, Problem> {
    let app = call.app();
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
    let password = new_password(app, password, email.as_str(), &name)?;

    let fingerprint = call
        .idempotency_of_sign_up("/api/auth/sign-up/email")
        .await?;
    let verify_first = app.config.require_email_verification;
    let again = async || match call.repeated(fingerprint).await? {
        None => Ok(None),
        Some(Some(outcome)) => Ok(Some(replay(outcome))),
        // The first answer held a session token: whoever still knows the password gets another one.
        Some(None) => {
            let (user, proof) =
                sign_in::with_password(app, &email, password.clone(), None, &call.caller).await?;
            signed_up(&call, user, remember, proof).await.map(Some)
        }
    };
    if let Some(answer) = again().await? {
        return Ok(answer);
    }
    check_signups(app).await?;
    let account = NewAccount {
        email: email.clone(),
        name: name.clone(),
        password: Some(password.clone()),
        email_verified: false,
        image: image.clone(),
        locale: locale.clone(),
        link: None,
    };
    let keep: fn(&UserRow) -> Option<Outcome> = if verify_first {
        |user| Some(outcome(user))
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
    let context = call.caller.context_about(Actor::Anonymous, "");
    let done = accounts::register(app, account, context, verification).await;
    if lost_to_another(&done)
        && let Some(answer) = again().await?
    {
        return Ok(answer);
    }
    match done {
        Ok(user) if verify_first => {
            // A taken address writes nothing, and that is not to be seen (S-22).
            forget_written();
            Ok(Json(registered(&user)).into_response())
        }
        Ok(user) => {
            let proof = Proof::by(SignInMethod::SignUp);
            signed_up(&call, user, remember, proof).await
        }
        // Whether an address has an account is its owner's business: they get a mail (S-24).
        Err(AccountError::EmailTaken) if verify_first => {
            let user = invented(app, &email, name, image, locale);
            signed_up_in_pretence(&call, &email, &user, fingerprint).await
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

/// The body of an answer to whoever has to prove their address first.
pub fn registered(user: &UserRow) -> Value {
    json!({"token": null, "user": user_json(user)})
}

/// The same answer, for a repetition.
pub fn outcome(user: &UserRow) -> Outcome {
    Outcome {
        status: 200,
        body: registered(user).to_string().into_bytes(),
    }
}

/// Answers for a taken address as if the account of `user` had been made, now and when the request is repeated; its
/// owner gets a mail (S-22, S-24).
///
/// # Errors
/// When it cannot be written.
pub async fn signed_up_in_pretence(
    call: &Call,
    email: &EmailAddress,
    user: &UserRow,
    fingerprint: Option<Fingerprint>,
) -> Result<Response, Problem> {
    let app = call.app();
    accounts::tell_account_exists(app, email).await?;
    let owner = app.store.claims().owner(ClaimScope::Email, email.as_str());
    // It holds the address, so it goes with whoever has that.
    if let (Some(fingerprint), Some(owner)) = (fingerprint, owner.await?) {
        let kept = fingerprint.with(&owner, Some(outcome(user)));
        if !kept.keep(&app.pool, app.store.custody()).await?
            && let Some(Some(first)) = call.repeated(Some(fingerprint)).await?
        {
            return Ok(replay(first));
        }
    }
    Ok(Json(registered(user)).into_response())
}

async fn signed_up(
    call: &Call,
    user: UserRow,
    remember: bool,
    proof: Proof,
) -> Result<Response, Problem> {
    // Whoever repeats the request later may have been banned, or have a second factor by then.
    let device = two_factor::trusted_device(call);
    let visit = Visit {
        proof,
        remembered: remember,
        trusted_device: device.as_deref(),
        caller: &call.caller,
    };
    match entry::enter(call.app(), user, visit).await? {
        Entered::In(entered) => {
            let token = &entered.started.token;
            let body = json!({"token": token, "user": user_json(&entered.user)});
            Ok(with_session(
                Json(body).into_response(),
                call,
                token,
                remember,
            ))
        }
        Entered::SecondFactorNeeded { challenge, methods } => {
            let body = json!({"twoFactorRedirect": true, "twoFactorMethods": methods});
            Ok(two_factor::needed(call, &challenge, remember, &body))
        }
    }
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
        role: aggregates::Roles::default().as_str().to_owned(),
        tier: aggregates::Tier::default().as_str().to_owned(),
        banned: false,
        ban_reason: None,
        ban_expires: None,
        two_factor_enabled: false,
        created_at: now,
        updated_at: now,
    }
}

async fn sign_in(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    let mut fields = call.fields(BodyTypes::JsonOrForm, false)?;
    let email = fields.text("email");
    let password = fields.text("password");
    let callback = fields.optional_text("callbackURL");
    let remember = fields.optional_bool("rememberMe").unwrap_or(true);
    fields.done()?;
    call.web.trusted.check_form_request(&call.headers)?;
    let email = EmailAddress::parse(&email).map_err(|_| Problem::InvalidEmail)?;
    let password = known_password(password)?;

    let target = callback.as_deref().filter(|url| !url.is_empty());
    let mail_again = app
        .config
        .send_on_sign_in
        .then_some(target.unwrap_or(DEFAULT_CALLBACK));
    let (user, proof) =
        sign_in::with_password(app, &email, password, mail_again, &call.caller).await?;
    let device = two_factor::trusted_device(&call);
    let visit = Visit {
        proof,
        remembered: remember,
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
            return Ok(two_factor::needed(&call, &challenge, remember, &body));
        }
    };
    let token = &started.token;

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
    let response = with_session(response, &call, token, remember);
    Ok(match trusted_device {
        Some(id) => two_factor::with_trusted_device(response, &call, &user.id, &id),
        None => response,
    })
}

async fn sign_out(call: Call) -> Result<Response, Problem> {
    call.fields(BodyTypes::Json, false)?;
    if let Presented::Live(session) = call.session().await? {
        let user_id = &session.live.user.id;
        let context = call.caller.context_about(session.live.actor(), user_id);
        accounts::end_session(
            call.app(),
            &session.live.session.id,
            EndReason::SignedOut,
            context,
        )
        .await?;
    }
    let done = Json(json!({"success": true})).into_response();
    multi_session::sign_out(&call, without_session_cookies(done, &call)).await
}

async fn get_session(call: Call) -> Result<Response, Problem> {
    let mut response = match call.session().await? {
        Presented::Nothing => Json(Value::Null).into_response(),
        Presented::Over => without_session_cookies(Json(Value::Null).into_response(), &call),
        Presented::Live(session) => {
            let jwt = accounts::access_token(call.app(), &session.live).await?;
            let extended = call.extend(&session).await?;
            let mut response = call.who_am_i(&session, extended.as_ref());
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
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let email = fields.email("email");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let callback = callback.as_deref().unwrap_or(DEFAULT_CALLBACK);
    match call.session().await? {
        Presented::Live(session) => {
            if session.live.user.email != email.as_str() {
                return Err(Problem::EmailMismatch);
            }
            if session.live.user.email_verified {
                return Err(Problem::EmailAlreadyVerified);
            }
        }
        Presented::Nothing | Presented::Over => {}
    }
    // Whether the address has an account that waits for it is looked up by the worker (S-22).
    links::request(app, Wanted::Verification, email, callback, &call.caller).await?;
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
    let session = match call.session().await? {
        Presented::Live(session) => Some(session),
        Presented::Nothing | Presented::Over => None,
    };
    let shown = session.as_ref().map(|session| {
        (
            session.live.session.id.as_str(),
            session.live.user.id.as_str(),
        )
    });
    let landing = callback.as_deref().unwrap_or(DEFAULT_CALLBACK);
    let followed = match links::follow(app, &token, landing, shown, &call.caller).await {
        Ok(followed) => followed,
        Err(ProofError::Invalid) => return refuse(Problem::InvalidToken, "INVALID_TOKEN"),
        Err(ProofError::Expired) => return refuse(Problem::TokenExpired, "TOKEN_EXPIRED"),
        Err(ProofError::UserNotFound) => return refuse(Problem::UserNotFound, "USER_NOT_FOUND"),
        Err(ProofError::Account(error)) => return Err(error.into()),
    };
    let answer = |user: Option<&UserRow>| match &callback {
        Some(target) => as_json(redirect(target)),
        None => Json(json!({"status": true, "user": user.map(user_json)})).into_response(),
    };
    let own = |user: &UserRow| session.as_ref().filter(|s| s.live.user.id == user.id);
    match followed {
        Followed::Before | Followed::Confirmed => Ok(answer(None)),
        // The proof signs in; who is signed in already keeps their session.
        Followed::Verified(user) => {
            if let Some(session) = own(&user) {
                let (token, remembered) = (&session.token, session.live.session.remembered);
                return Ok(with_session(answer(None), &call, token, remembered));
            }
            let visit = Visit {
                proof: Proof::by(SignInMethod::EmailLink),
                remembered: true,
                trusted_device: None,
                caller: &call.caller,
            };
            match entry::enter(app, user, visit).await {
                Ok(Entered::In(entered)) => {
                    let token = &entered.started.token;
                    Ok(with_session(answer(None), &call, token, true))
                }
                // The address is proven all the same; they sign in as they always do.
                Ok(Entered::SecondFactorNeeded { .. }) => Ok(answer(None)),
                Err(AccountError::Banned) => refuse(Problem::Banned, "BANNED_USER"),
                Err(error) => Err(error.into()),
            }
        }
        // A new address may belong to somebody else by mistake: nobody is signed in by it.
        Followed::Changed(user) => Ok(match own(&user) {
            Some(session) => with_session(
                answer(Some(&user)),
                &call,
                &session.token,
                session.live.session.remembered,
            ),
            None => answer(Some(&user)),
        }),
    }
}

async fn token(call: Call) -> Result<Response, Refusal> {
    let session = call.required_session().await?;
    let jwt = accounts::access_token(call.app(), &session.live).await?;
    let done = Json(json!({"token": jwt})).into_response();
    Ok(call.prolonged(done, &session).await)
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
