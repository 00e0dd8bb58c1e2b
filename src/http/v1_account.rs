//! `/api/v1/auth/*`: what people do with their own account through the apps' own clients. A session shows itself by its cookie, by its token as bearer, or by an access token as bearer.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/signup-status` | whether accounts can be made today |
//! | GET, POST | `/profile` | who one is; change name and picture |
//! | POST | `/session-to-token`, `/refresh` | a new access token |
//! | POST | `/forgot-password`, `/reset-password` | mail a link, choose a new password |
//! | POST | `/resend-verification` | mail the verification link again |
//! | POST | `/change-password`, `/change-email` | |
//! | DELETE | `/account` | |
//! | GET, DELETE | `/sessions`, `/sessions/{id}` | one's own sessions |

use aggregates::session::EndReason;
use axum::Json;
use axum::extract::Path;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use projections::sessions::SessionRow;
use projections::users::UserRow;
use serde_json::{Value, json};

use super::account::{erase, profile_change, reset, session_handle};
use super::answers::{with_session_cookies, without_session_cookies};
use super::auth::{known_password, new_password};
use super::doors::{Checks, Door};
use super::error::Problem;
use super::limits;
use super::request::BodyTypes;
use super::sessions::{Person, Presented};
use super::shapes::{iso, user_json};
use super::v1_auth::{fields, landing_page};
use super::web::Call;
use crate::accounts;
use crate::links::{self, Wanted};
use crate::mail::{Device, Locale};
use crate::sessions::Live;
use crate::store::forget_written;
use crate::{self_service, sign_in, signups};

/// The doors of `/api/v1/auth`.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        get_door("/signup-status", get(signup_status)),
        get_door("/profile", get(profile)),
        post_door("/profile", post(update_profile)).also_impersonated(),
        post_door("/session-to-token", post(session_to_token)).also_impersonated(),
        post_door("/refresh", post(refresh)).also_impersonated(),
        post_door("/forgot-password", post(forgot_password)).limited(limits::RESET_MAIL),
        post_door("/reset-password", post(reset_password))
            .limited(limits::TOKEN)
            .checking(Checks::MailedToken),
        post_door("/resend-verification", post(resend_verification))
            .limited(limits::VERIFICATION_MAIL),
        post_door("/change-password", post(change_password))
            .limited(limits::CHANGE_PASSWORD)
            .checking(Checks::Password)
            .after_step_up(),
        post_door("/change-email", post(change_email))
            .limited(limits::CHANGE_EMAIL)
            .after_step_up(),
        Door::open(Method::DELETE, "/account", delete(delete_account))
            .limited(limits::DELETE_ACCOUNT)
            .checking(Checks::Password)
            .after_step_up(),
        get_door("/sessions", get(sessions)),
        Door::open(Method::DELETE, "/sessions/{id}", delete(end_session)).also_impersonated(),
    ]
}

async fn signup_status(call: Call) -> Result<Response, Problem> {
    let body = match signups::status(call.app()).await? {
        None => json!({
            "registrationOpen": true, "spotsRemaining": null, "totalToday": 0, "limit": 0, "resetsAt": "",
        }),
        Some(status) => json!({
            "registrationOpen": status.remaining() > 0, "spotsRemaining": status.remaining(),
            "totalToday": status.today, "limit": status.limit, "resetsAt": iso(status.resets_at),
        }),
    };
    Ok(Json(body).into_response())
}

/// The nested body of `/session`, and the person's fields beside it, as the web client reads them.
async fn profile(call: Call) -> Result<Response, Problem> {
    let Some(person) = call.person().await? else {
        return Ok(match call.session().await? {
            Presented::Over => without_session_cookies(Json(Value::Null).into_response(), &call),
            Presented::Nothing | Presented::Live(_) => Json(Value::Null).into_response(),
        });
    };
    let (session, user) = (&person.live.session, &person.live.user);
    let handle = session_handle(call.app(), &session.id);
    let token = person.token.as_deref().unwrap_or(&handle);
    let mut body = json!(call.session_and_user(session, token, user));
    if let (Value::Object(body), Value::Object(flat)) = (&mut body, json!(user_json(user))) {
        body.extend(flat);
    }
    Ok(Json(body).into_response())
}

async fn update_profile(call: Call) -> Result<Response, Problem> {
    let mut fields = call.record(BodyTypes::Json)?;
    fields.done()?;
    let person = call.required_person().await?;
    if fields.has("email") {
        return Err(Problem::EmailNotUpdatable);
    }
    for name in ["accessTier", "role"] {
        if fields.has(name) {
            return Err(Problem::FieldNotAllowed(name));
        }
    }
    let change = profile_change(&mut fields)?;
    let (app, id) = (call.app(), &person.live.user.id);
    self_service::change_profile(app, &person.live, change, &call.caller).await?;
    let user = projections::users::find(&app.pool, id).await?;
    let user = user.ok_or(Problem::Unauthorized)?;
    let body = json!({"status": true, "success": true, "user": user_json(&user)});
    Ok(Json(body).into_response())
}

/// The answer that holds an access token: the refresh token is the session's own.
async fn tokens(call: &Call, live: &Live, token: &str) -> Result<Response, Problem> {
    let access_token = accounts::access_token(call.app(), live).await?;
    let body = json!({
        "accessToken": access_token, "refreshToken": token, "user": user_json(&live.user),
    });
    Ok(Json(body).into_response())
}

async fn session_to_token(call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    match call.session().await? {
        Presented::Live(session) => tokens(&call, &session.live, &session.token).await,
        Presented::Nothing | Presented::Over => Err(Problem::NoSession),
    }
}

/// By the session that the request shows, else by the token in its body.
async fn refresh(call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    if let Presented::Live(session) = call.session().await? {
        let extended = call.extend(&session).await?;
        let response = tokens(&call, &session.live, &session.token).await?;
        return Ok(if extended.is_some() {
            with_session_cookies(response, &call, &session.token, true)
        } else {
            response
        });
    }
    let Some(token) = super::v1_auth::refresh_token(&call) else {
        return Err(Problem::NothingToRefresh);
    };
    let app = call.app();
    let Some(live) = app.sessions.find(&token, app.clock.now()).await? else {
        return Err(Problem::InvalidRefreshToken);
    };
    call.admit(&live).await?;
    if accounts::is_due_for_extension(app, &live.session) {
        accounts::extend_session(app, &live.session, &call.caller).await?;
    }
    tokens(&call, &live, &token).await
}

async fn forgot_password(call: Call) -> Result<Response, Problem> {
    let mut fields = fields(&call)?;
    let email = fields.email("email");
    let target = fields.optional_text("redirectTo");
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let target = landing_page(&call, target);
    let wanted = Wanted::PasswordReset;
    links::request(call.app(), wanted, email, &target, &call.caller).await?;
    Ok(success())
}

async fn reset_password(call: Call) -> Result<Response, Problem> {
    let mut fields = fields(&call)?;
    let token = fields.filled_text("token");
    let password = fields.text("newPassword");
    fields.done()?;
    reset(&call, password, &token).await?;
    Ok(success())
}

async fn resend_verification(call: Call) -> Result<Response, Problem> {
    let mut fields = fields(&call)?;
    let email = fields.email("email");
    let source_app = fields.optional_text("sourceAppUrl");
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let target = landing_page(&call, source_app);
    let wanted = Wanted::Verification;
    links::request(call.app(), wanted, email, &target, &call.caller).await?;
    Ok(success())
}

async fn change_password(call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let current = fields.text("currentPassword");
    let new = fields.text("newPassword");
    fields.done()?;
    let person = call.required_person().await?;
    let (app, user) = (call.app(), &person.live.user);
    let new = new_password(app, new, &user.email, &user.name)?;
    let current = known_password(current)?;
    let seen = sign_in::confirm_password(app, user, current, &call.caller).await?;
    let keep = Some(person.live.session.id.as_str());
    self_service::change_password(app, user, seen, new, keep, &call.caller).await?;
    Ok(success())
}

async fn change_email(call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let to = fields.email("newEmail");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    fields.done()?;
    let to = to.ok_or(Problem::InvalidEmail)?;
    let person = call.required_person().await?;
    let user = &person.live.user;
    if user.email == to.as_str() {
        return Err(Problem::EmailUnchanged);
    }
    let callback = callback.unwrap_or_else(|| landing_page(&call, None));
    self_service::request_email_change(call.app(), user, to, &callback, &call.caller).await?;
    // Whether the address is taken is not to be seen (S-22).
    forget_written();
    let message = "Verification email sent to the new address";
    Ok(Json(json!({"success": true, "message": message})).into_response())
}

async fn delete_account(call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.text("password");
    fields.done()?;
    let person = call.required_person().await?;
    let user = &person.live.user;
    let password = known_password(password)?;
    sign_in::confirm_password(call.app(), user, password, &call.caller).await?;
    if call.app().config.delete_user_confirm {
        links::send_deletion(call.app(), user, &landing_page(&call, None)).await?;
        let body = json!({"success": true, "message": "Verification email sent"});
        return Ok(Json(body).into_response());
    }
    erase(&call, user).await?;
    Ok(without_session_cookies(success(), &call))
}

fn success() -> Response {
    Json(json!({"success": true})).into_response()
}

async fn sessions(call: Call) -> Result<Response, Problem> {
    let person = call.required_person().await?;
    let app = call.app();
    let user_id = &person.live.user.id;
    let mut rows = projections::sessions::of_user(&app.pool, user_id, app.clock.now()).await?;
    rows.retain(|row| row.impersonated_by.is_none());
    let list: Vec<Value> = rows
        .iter()
        .map(|row| own_session(row, &person.live.user, row.id == person.live.session.id))
        .collect();
    Ok(Json(list).into_response())
}

fn own_session(row: &SessionRow, user: &UserRow, current: bool) -> Value {
    let device = Device {
        ip_address: row.ip_address.clone(),
        user_agent: row.user_agent.clone(),
        at: row.created_at,
    };
    json!({
        "id": row.id, "ipAddress": row.ip_address, "userAgent": row.user_agent, "deviceId": null,
        "deviceName": device.description(Locale::from_tag(user.locale.as_deref())),
        "lastActivityAt": iso(row.updated_at), "createdAt": iso(row.created_at),
        "expiresAt": iso(row.expires_at), "current": current,
    })
}

async fn end_session(Path(id): Path<String>, call: Call) -> Result<Response, Problem> {
    call.check_page()?;
    let Person { live, .. } = call.required_person().await?;
    let app = call.app();
    let user_id = &live.user.id;
    // Looked for among their own: what the path says is no question to the database, which knows no NUL.
    let own = projections::sessions::of_user(&app.pool, user_id, app.clock.now()).await?;
    let Some(session) = own.into_iter().find(|row| row.id == id) else {
        return Err(Problem::NotFound);
    };
    let context = call.caller.context_about(live.actor(), user_id);
    accounts::end_session(app, &session.id, EndReason::Revoked, context).await?;
    Ok(if session.id == live.session.id {
        without_session_cookies(success(), &call)
    } else {
        success()
    })
}
