//! `/api/auth/*`: what signed-in people do with their own account, and resets of passwords.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/list-sessions` | their sessions |
//! | POST | `/revoke-session`, `/revoke-sessions`, `/revoke-other-sessions` | end one, all, all others |
//! | POST | `/update-session` | nothing in it can be set |
//! | POST | `/update-user` | name, picture, language |
//! | POST | `/change-email` | ask for another address |
//! | POST | `/change-password`, `/verify-password` | |
//! | POST | `/request-password-reset`, `/reset-password` | mail a link, choose a new password |
//! | GET | `/reset-password/{token}` | the mailed link |
//! | POST | `/delete-user` | delete the account, or mail a link that does |
//! | GET | `/delete-user/callback` | the mailed link |

use aggregates::session::{EndReason, Factor, SignInMethod};
use aggregates::user::ErasureReason;
use axum::Json;
use axum::extract::Path;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use projections::sessions::SessionRow;
use projections::users::UserRow;
use serde_json::json;

use super::answers::{
    Refusal, absolute, as_json, redirect, with_error, with_query, with_session,
    without_session_cookies,
};
use super::auth::{known_password, new_password};
use super::doors::{Checks, Door};
use super::error::Problem;
use super::limits;
use super::request::{BodyTypes, Fields};
use super::sessions::{Presented, Session};
use super::shapes::user_json;
use super::web::Call;
use crate::accounts::{self, AccountError, Proof, Started};
use crate::app::App;
use crate::crypto::password::Password;
use crate::crypto::tokens::TokenKind;
use crate::custody::Seen;
use crate::links::{self, Wanted};
use crate::self_service::{self, ProfileChange};
use crate::store::{Actor, forget_written};
use crate::{erasure, sign_in, step_up, tokens};

/// Answer to whoever asks for a link to choose a new password, whether there is an account or not.
const RESET_MESSAGE: &str =
    "If this email exists in our system, check your email for the reset link";

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        get_door("/list-sessions", get(list_sessions)),
        post_door("/revoke-session", post(revoke_session)).also_impersonated(),
        post_door("/revoke-sessions", post(revoke_sessions)).also_impersonated(),
        post_door("/revoke-other-sessions", post(revoke_other_sessions)).also_impersonated(),
        post_door("/update-session", post(update_session)).also_impersonated(),
        post_door("/update-user", post(update_user)).also_impersonated(),
        post_door("/change-email", post(change_email))
            .limited(limits::CHANGE_EMAIL)
            .after_step_up(),
        post_door("/change-password", post(change_password))
            .limited(limits::CHANGE_PASSWORD)
            .checking(Checks::Password)
            .after_step_up(),
        post_door("/verify-password", post(verify_password)).checking(Checks::Password),
        post_door("/request-password-reset", post(request_password_reset))
            .limited(limits::RESET_MAIL),
        post_door("/reset-password", post(reset_password))
            .limited(limits::TOKEN)
            .checking(Checks::MailedToken),
        get_door("/reset-password/{token}", get(reset_link))
            .limited(limits::TOKEN)
            .checking(Checks::MailedToken),
        post_door("/delete-user", post(delete_user))
            .limited(limits::DELETE_ACCOUNT)
            .checking(Checks::Password)
            .after_step_up(),
        get_door("/delete-user/callback", get(deletion_link))
            .never_impersonated()
            .limited(limits::TOKEN)
            .checking(Checks::MailedToken),
    ]
}

/// What stands for the token of another session in lists: good for the revoke routes only.
pub fn session_handle(app: &App, session_id: &str) -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let hash = app.keyed_hash(&["session handle", session_id]);
    hash.iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 62)]))
        .collect()
}

async fn list_sessions(call: Call) -> Result<Response, Refusal> {
    let session = call.fresh_session().await?;
    let app = call.app();
    let rows = own_sessions(app, &session).await?;
    let tokens: Vec<String> = rows
        .iter()
        .map(|row| {
            if row.id == session.live.session.id {
                session.token.clone()
            } else {
                session_handle(app, &row.id)
            }
        })
        .collect();
    let list: Vec<_> = rows
        .iter()
        .zip(&tokens)
        .map(|(row, token)| call.session_json(row, token))
        .collect();
    let response = Json(list).into_response();
    Ok(call.prolonged(response, &session).await)
}

/// A person's sessions, the one that asks first.
async fn own_sessions(app: &App, session: &Session) -> Result<Vec<SessionRow>, Problem> {
    let now = app.clock.now();
    let user_id = &session.live.user.id;
    let mut rows = projections::sessions::of_user(&app.pool, user_id, now).await?;
    // What an admin does in somebody's place stands in their security log, not among their sessions.
    rows.retain(|row| row.impersonated_by.is_none());
    rows.sort_by_key(|row| row.id != session.live.session.id);
    Ok(rows)
}

async fn revoke_session(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let token = fields.text("token");
    fields.done()?;
    let session = call.required_session().await?;
    let app = call.app();
    let of_token = app.sessions.find(&token, app.clock.now()).await?;
    let own = own_sessions(app, &session).await?;
    // Unknown and foreign tokens get the same answer and have no effect.
    let found = own.iter().find(|row| match &of_token {
        Some(live) => live.session.id == row.id,
        None => session_handle(app, &row.id) == token,
    });
    let done = Json(json!({"status": true})).into_response();
    let Some(found) = found else {
        return Ok(call.prolonged(done, &session).await);
    };
    let user_id = &session.live.user.id;
    let context = call.caller.context_about(session.live.actor(), user_id);
    accounts::end_session(app, &found.id, EndReason::Revoked, context).await?;
    Ok(if found.id == session.live.session.id {
        without_session_cookies(done, &call)
    } else {
        call.prolonged(done, &session).await
    })
}

async fn revoke_sessions(call: Call) -> Result<Response, Refusal> {
    end_sessions(&call, false).await?;
    let done = Json(json!({"status": true})).into_response();
    Ok(without_session_cookies(done, &call))
}

async fn revoke_other_sessions(call: Call) -> Result<Response, Refusal> {
    let session = end_sessions(&call, true).await?;
    let done = Json(json!({"status": true})).into_response();
    Ok(call.prolonged(done, &session).await)
}

/// Ends all sessions of the person who asks, or all others; gives theirs.
async fn end_sessions(call: &Call, keep_this: bool) -> Result<Session, Refusal> {
    call.fields(BodyTypes::Json, false)?;
    let session = call.required_session().await?;
    let user_id = &session.live.user.id;
    let context = call.caller.context_about(session.live.actor(), user_id);
    let keep = keep_this.then_some(session.live.session.id.as_str());
    self_service::end_sessions(call.app(), user_id, keep, context).await?;
    Ok(session)
}

/// No field of a session can be set, so every request is refused.
async fn update_session(call: Call) -> Result<Response, Refusal> {
    const OURS: [&str; 2] = ["activeOrganizationId", "impersonatedBy"];
    let fields = call.fields(BodyTypes::Json, false)?;
    fields.done()?;
    call.required_session().await?;
    Err(match OURS.into_iter().find(|name| fields.has(name)) {
        Some(name) => Problem::FieldNotAllowed(name),
        None => Problem::NothingToUpdate,
    }
    .into())
}

async fn update_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.record(BodyTypes::Json)?;
    fields.done()?;
    let session = call.required_session().await?;
    if fields.has("email") {
        return Err(Problem::EmailNotUpdatable.into());
    }
    for name in ["accessTier", "role"] {
        if fields.has(name) {
            return Err(Problem::FieldNotAllowed(name).into());
        }
    }
    let change = profile_change(&mut fields)?;
    self_service::change_profile(call.app(), &session.live, change, &call.caller).await?;
    call.prolong(&session).await;
    let done = Json(json!({"status": true})).into_response();
    Ok(with_session(
        done,
        &call,
        &session.token,
        session.live.session.remembered,
    ))
}

/// Name, picture and language of a body; a picture or language of `null` is taken away.
///
/// # Errors
/// If one is no text, or there is none.
pub fn profile_change(fields: &mut Fields) -> Result<ProfileChange, Problem> {
    let change = ProfileChange {
        name: fields.optional_text("name"),
        image: fields.removable_text("image"),
        locale: fields.removable_text("locale"),
    };
    for kept in ["name", "image", "locale"] {
        fields.check_kept(kept);
    }
    fields.done()?;
    if change.name.is_none() && change.image.is_none() && change.locale.is_none() {
        return Err(Problem::NothingToUpdate);
    }
    Ok(change)
}

async fn change_email(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let to = fields.email("newEmail");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    fields.done()?;
    let to = to.ok_or(Problem::InvalidEmail)?;
    let session = call.required_session().await?;
    let user = &session.live.user;
    if user.email == to.as_str() {
        return Err(Problem::EmailUnchanged.into());
    }
    let callback = callback.as_deref().unwrap_or("/");
    self_service::request_email_change(call.app(), user, to, callback, &call.caller).await?;
    let done = Json(json!({"status": true})).into_response();
    let response = call.prolonged(done, &session).await;
    // Whether the address is taken is not to be seen (S-22).
    forget_written();
    Ok(response)
}

async fn change_password(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let new = fields.text("newPassword");
    let current = fields.text("currentPassword");
    let start_again = fields.optional_bool("revokeOtherSessions").unwrap_or(false);
    fields.done()?;
    let session = call.required_session().await?;
    let (app, user) = (call.app(), &session.live.user);
    let new = new_password(app, new, &user.email, &user.name)?;
    let current = known_password(current)?;
    let seen = confirm(&call, user, current).await?;
    // All others end in any case (S-07); with `revokeOtherSessions` this one goes on under another token.
    let this = session.live.session.id.as_str();
    let keep = (!start_again).then_some(this);
    let seen = self_service::change_password(app, user, seen, new, keep, &call.caller).await?;
    if !start_again {
        let body = json!({"token": null, "user": user_json(user)});
        return Ok(call.prolonged(Json(body).into_response(), &session).await);
    }
    let remembered = session.live.session.remembered;
    let proof = Proof {
        carried: step_up::carried(app, &session.live, Some(Factor::First)),
        password: Some(seen),
        ..Proof::by(SignInMethod::Session)
    };
    let Started { token, .. } = accounts::start_session(app, user, remembered, proof, &call.caller)
        .await
        .map_err(|error| match error {
            // Changed once more, so that all sessions have ended: this one as well.
            AccountError::WrongCredentials => Problem::Unauthorized,
            error => error.into(),
        })?;
    let body = json!({"token": token, "user": user_json(user)});
    Ok(with_session(
        Json(body).into_response(),
        &call,
        &token,
        remembered,
    ))
}

/// Checks the password of whoever is signed in, in the words of these routes.
///
/// # Errors
/// `InvalidPassword` if it is another one.
pub async fn confirm(call: &Call, user: &UserRow, password: Password) -> Result<Seen, Problem> {
    sign_in::confirm_password(call.app(), user, password, &call.caller)
        .await
        .map_err(|error| match error {
            AccountError::WrongCredentials => Problem::InvalidPassword,
            error => error.into(),
        })
}

async fn verify_password(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.text("password");
    fields.done()?;
    let session = call.required_session().await?;
    confirm(&call, &session.live.user, known_password(password)?).await?;
    step_up::note(call.app(), &session.live, Factor::First, &call.caller).await?;
    let done = Json(json!({"status": true})).into_response();
    Ok(call.prolonged(done, &session).await)
}

async fn request_password_reset(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let email = fields.email("email");
    let target = fields.optional_text("redirectTo").unwrap_or_default();
    fields.done()?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let wanted = Wanted::PasswordReset;
    links::request(call.app(), wanted, email, &target, &call.caller).await?;
    Ok(Json(json!({"status": true, "message": RESET_MESSAGE})).into_response())
}

async fn reset_password(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.text("newPassword");
    let in_body = fields.optional_text("token");
    fields.done()?;
    let in_query = Fields::of_query(call.query.as_deref()).optional_text("token");
    let token = in_body.or(in_query).ok_or(Problem::InvalidResetToken)?;
    reset(&call, password, &token).await?;
    Ok(Json(json!({"status": true})).into_response())
}

/// Redeems a token for a new password, in the words of these routes.
///
/// # Errors
/// If the password may not be chosen, which leaves the token good, or the token is not good.
pub async fn reset(call: &Call, password: String, token: &str) -> Result<(), Problem> {
    let app = call.app();
    // The length comes first: it needs no account.
    new_password(app, password.clone(), "", "")?;
    let invalid = |error| match error {
        AccountError::InvalidToken | AccountError::NoAccount => Problem::InvalidResetToken,
        error => error.into(),
    };
    let kind = TokenKind::PasswordReset;
    let found = self_service::find_token(app, kind, token, &call.caller)
        .await
        .map_err(invalid)?;
    let user = self_service::user_of(app, &found).await.map_err(invalid)?;
    let password = new_password(app, password, &user.email, &user.name)?;
    self_service::reset_password(app, &found, &user, password, &call.caller)
        .await
        .map_err(invalid)?;
    // Who has the token does not get to know where in the log the account is.
    forget_written();
    Ok(())
}

/// The mailed link: to where the new password is chosen, with the token.
async fn reset_link(Path(token): Path<String>, call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let callback = fields.text("callbackURL");
    fields.done()?;
    call.check_redirect("callbackURL", &callback)?;
    let base = &call.app().config.base_url;
    if callback.is_empty() {
        let page = with_error(&format!("{base}/api/auth/error"), "INVALID_TOKEN");
        return Ok(as_json(redirect(&page)));
    }
    let target = absolute(base, &callback);
    let kind = TokenKind::PasswordReset;
    let found = self_service::find_token(call.app(), kind, &token, &call.caller).await;
    let target = match found {
        Ok(_) => with_query(&target, &format!("token={token}")),
        Err(AccountError::InvalidToken) => with_error(&target, "INVALID_TOKEN"),
        Err(error) => return Err(error.into()),
    };
    Ok(as_json(redirect(&target)))
}

async fn delete_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.optional_text("password");
    let token = fields.optional_text("token");
    let callback = fields
        .optional_text("callbackURL")
        .filter(|url| !url.is_empty());
    fields.done()?;
    let session = call.required_session().await?;
    let user = &session.live.user;
    if let Some(password) = password {
        confirm(&call, user, known_password(password)?).await?;
    } else if token.is_none() && !call.is_fresh(&session.live.session) {
        return Err(Problem::SessionExpired.into());
    }
    if let Some(token) = token {
        delete_by_token(&call, user, &token).await?;
    } else if call.app().config.delete_user_confirm {
        links::send_deletion(call.app(), user, callback.as_deref().unwrap_or("/")).await?;
        let body = json!({"success": true, "message": "Verification email sent"});
        return Ok(call.prolonged(Json(body).into_response(), &session).await);
    } else {
        erase(&call, user).await?;
    }
    let body = json!({"success": true, "message": "User deleted"});
    Ok(without_session_cookies(Json(body).into_response(), &call))
}

/// Closes the account of whoever asks.
///
/// # Errors
/// When it cannot be written.
pub async fn erase(call: &Call, user: &UserRow) -> Result<(), Problem> {
    let context = call.caller.context(Actor::User(user.id.clone()));
    erasure::erase(call.app(), user, ErasureReason::OwnRequest, context).await?;
    Ok(())
}

/// A token deletes the account of the person it was mailed to, who has to be signed in. Whoever else tries it spends
/// it.
async fn delete_by_token(call: &Call, user: &UserRow, token: &str) -> Result<(), Problem> {
    let invalid = |error| match error {
        AccountError::InvalidToken | AccountError::NoAccount => Problem::InvalidDeletionToken,
        error => error.into(),
    };
    let app = call.app();
    let kind = TokenKind::DeleteAccount;
    let found = self_service::find_token(app, kind, token, &call.caller)
        .await
        .map_err(invalid)?;
    if found.user_id != user.id {
        tokens::spend(&app.pool, &found).await?;
        return Err(Problem::InvalidDeletionToken);
    }
    let context = call.caller.context(Actor::User(user.id.clone()));
    let context = context.with_token(found.used(app.clock.now()));
    let closed = erasure::erase(app, user, ErasureReason::OwnRequest, context)
        .await
        .map_err(invalid)?;
    // Whoever was slower with the same token finds the account closed, and did not do it.
    closed.then_some(()).ok_or(Problem::InvalidDeletionToken)
}

async fn deletion_link(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let token = fields.text("token");
    let callback = fields.optional_text("callbackURL");
    fields.done()?;
    if let Some(callback) = &callback {
        call.check_redirect("callbackURL", callback)?;
    }
    let session = match call.session().await? {
        Presented::Live(session) => session,
        Presented::Nothing | Presented::Over => {
            return Err(Problem::NoUserInfo.into());
        }
    };
    delete_by_token(&call, &session.live.user, &token).await?;
    let done = match callback.filter(|url| !url.is_empty()) {
        Some(target) => as_json(redirect(&target)),
        None => Json(json!({"success": true, "message": "User deleted"})).into_response(),
    };
    Ok(without_session_cookies(done, &call))
}
