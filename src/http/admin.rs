//! `/api/auth/admin/*`: people as admins see and change them. Every request reads the session from storage, never from
//! the cache (I-9).
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/list-users`, `/get-user` | people |
//! | POST | `/create-user`, `/update-user`, `/remove-user` | accounts |
//! | POST | `/set-role`, `/ban-user`, `/unban-user`, `/set-user-password` | who may come in, and what they may do |
//! | POST | `/list-user-sessions`, `/revoke-user-session`, `/revoke-user-sessions` | sessions |
//! | POST | `/impersonate-user`, `/stop-impersonating` | acting as somebody |
//! | POST | `/has-permission` | what whoever asks may do |

mod impersonation;
mod listing;
mod update;
mod words;

use aggregates::{EmailAddress, Roles, Tier};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use chrono::{DateTime, TimeDelta, Utc};
use projections::users::UserRow;
use serde::Serialize;
use serde_json::{Value, json};

use impersonation::{impersonate_user, stop_impersonating};
use listing::list_users;
use update::update_user;
pub use words::LAST_ADMIN;
use words::*;

use super::answers::{Refusal, as_json, without_session_cookies};
use super::auth::new_password;
use super::doors::Door;
use super::error::{Problem, Stated};
use super::request::{BodyTypes, Fields};
use super::sessions::{Presented, Session};
use super::shapes::user_json;
use super::web::Call;
use crate::accounts::{NewAccount, Standing};
use crate::admin::{self, Admin, BanChange, UserChange};

/// Sessions in one answer.
const SESSIONS: usize = 100;
/// What a person is told when nobody says why they are banned.
const NO_REASON: &str = "No reason";
/// The longest ban that has an end, in seconds: a hundred years.
const LONGEST_BAN_SECS: f64 = 100.0 * 365.25 * 24.0 * 3600.0;

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    let write_door = |path, handler| post_door(path, handler).after_step_up();
    vec![
        get_door("/admin/list-users", get(list_users)).never_impersonated(),
        get_door("/admin/get-user", get(get_user)).never_impersonated(),
        write_door("/admin/create-user", post(create_user)),
        write_door("/admin/update-user", post(update_user)),
        write_door("/admin/remove-user", post(remove_user)),
        write_door("/admin/set-role", post(set_role)),
        write_door("/admin/ban-user", post(ban_user)),
        write_door("/admin/unban-user", post(unban_user)),
        write_door("/admin/set-user-password", post(set_user_password)),
        post_door("/admin/list-user-sessions", post(list_user_sessions)),
        write_door("/admin/revoke-user-session", post(revoke_user_session)),
        write_door("/admin/revoke-user-sessions", post(revoke_user_sessions)),
        write_door("/admin/impersonate-user", post(impersonate_user)),
        post_door("/admin/stop-impersonating", post(stop_impersonating)).also_impersonated(),
        post_door("/admin/has-permission", post(has_permission)).also_impersonated(),
    ]
}

/// The session behind a request, from storage. Without one the answer has no body here.
async fn somebody(call: &Call) -> Result<Session, Refusal> {
    let nobody = || as_json(StatusCode::UNAUTHORIZED.into_response());
    match call.stored_session().await? {
        Presented::Live(session) => Ok(session),
        Presented::Nothing => Err(Refusal::answer(nobody())),
        Presented::Over => Err(Refusal::answer(without_session_cookies(nobody(), call))),
    }
}

/// The session of an admin; `otherwise` is what everybody else is told.
async fn admin_of(call: &Call, otherwise: &'static Stated) -> Result<Session, Refusal> {
    let session = somebody(call).await?;
    if session.live.user.has_role(Roles::admin().as_str()) {
        Ok(session)
    } else {
        Err(said(otherwise).into())
    }
}

fn at_work<'a>(call: &'a Call, session: &'a Session) -> Admin<'a> {
    Admin {
        live: &session.live,
        caller: &call.caller,
    }
}

async fn user(call: &Call, id: &str) -> Result<UserRow, Problem> {
    // No id holds a NUL, and the database knows none.
    if id.contains('\0') {
        return Err(said(&NO_SUCH_USER));
    }
    projections::users::find(&call.app().pool, id)
        .await?
        .ok_or(said(&NO_SUCH_USER))
}

/// The answer to a request that was carried out.
async fn done(call: &Call, session: &Session, body: impl Serialize) -> Result<Response, Refusal> {
    Ok(call.prolonged(Json(body).into_response(), session).await)
}

async fn get_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let id = fields.text("id");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_GET).await?;
    let user = user(&call, &id).await?;
    done(&call, &session, user_json(&user)).await
}

/// Roles of a body: a text, or texts that are joined.
fn roles(value: &Value) -> Option<Roles> {
    match value {
        Value::String(role) => Roles::parse(role),
        Value::Array(roles) => {
            let roles: Option<Vec<&str>> = roles.iter().map(Value::as_str).collect();
            Roles::parse(&roles?.join(","))
        }
        _ => None,
    }
}

async fn create_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let email = fields.text("email");
    let name = fields.text("name");
    let password = fields.optional_text("password");
    let role = fields.optional("role", roles);
    let mut data = fields.optional_part("data", "body.data");
    fields.check_kept("name");
    fields.done()?;
    let image = data.removable_text("image").flatten();
    let locale = data.removable_text("locale").flatten();
    let tier = data.optional("accessTier", tier);
    let email_verified = data.optional_bool("emailVerified").unwrap_or(false);
    for kept in ["image", "locale"] {
        data.check_kept(kept);
    }
    let session = admin_of(&call, &MAY_NOT_CREATE).await?;
    data.done()?;
    let app = call.app();
    let email = EmailAddress::parse(&email).map_err(|_| Problem::InvalidEmail)?;
    let password = match password.filter(|text| !text.is_empty()) {
        Some(text) => Some(new_password(app, text, email.as_str(), &name)?),
        None => None,
    };
    let account = NewAccount {
        email,
        name,
        password,
        email_verified,
        image,
        locale,
        link: None,
    };
    let standing = Standing {
        role,
        tier: tier.unwrap_or_default(),
    };
    let user = admin::create(app, &at_work(&call, &session), account, standing)
        .await
        .map_err(worded)?;
    done(&call, &session, json!({"user": user_json(&user)})).await
}

fn tier(value: &Value) -> Option<Tier> {
    Tier::parse(value.as_str()?)
}

async fn changed(
    call: &Call,
    session: &Session,
    user: &UserRow,
    change: UserChange,
) -> Result<UserRow, Problem> {
    admin::change(call.app(), &at_work(call, session), user, change)
        .await
        .map_err(worded)
}

async fn set_role(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    let role = fields.required("role", roles);
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_SET_ROLE).await?;
    let user = user(&call, &id).await?;
    let change = UserChange {
        role,
        ..UserChange::default()
    };
    let user = changed(&call, &session, &user, change).await?;
    done(&call, &session, json!({"user": user_json(&user)})).await
}

async fn ban_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    let reason = fields.optional_text("banReason");
    let expires_in = fields.optional_number("banExpiresIn");
    fields.check_kept("banReason");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_BAN).await?;
    let user = user(&call, &id).await?;
    if user.id == session.live.user.id {
        return Err(said(&NOT_YOURSELF_BANNED).into());
    }
    let until = expires_in
        .filter(|secs| *secs != 0.0)
        .map(|secs| ban_end(call.app().clock.now(), secs))
        .transpose()?;
    let reason = reason.filter(|reason| !reason.is_empty());
    let change = UserChange {
        ban: Some(BanChange::Ban {
            reason: Some(reason.unwrap_or_else(|| NO_REASON.to_owned())),
            until,
        }),
        ..UserChange::default()
    };
    let user = changed(&call, &session, &user, change).await?;
    done(&call, &session, json!({"user": user_json(&user)})).await
}

fn ban_end(now: DateTime<Utc>, secs: f64) -> Result<DateTime<Utc>, Problem> {
    if !(0.0..=LONGEST_BAN_SECS).contains(&secs) {
        let text = "[body.banExpiresIn] Invalid input: expected seconds of at most a hundred years";
        return Err(Problem::Validation(text.to_owned()));
    }
    Ok(now + TimeDelta::milliseconds((secs * 1000.0) as i64))
}

async fn unban_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_BAN).await?;
    let user = user(&call, &id).await?;
    let change = UserChange {
        ban: Some(BanChange::Lift),
        ..UserChange::default()
    };
    let user = changed(&call, &session, &user, change).await?;
    done(&call, &session, json!({"user": user_json(&user)})).await
}

async fn set_user_password(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let password = fields.text("newPassword");
    if fields.raw("newPassword").is_some_and(|text| text == "") {
        fields.fault("newPassword", "newPassword cannot be empty");
    }
    let id = fields.coerced_text("userId");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_SET_PASSWORD).await?;
    let app = call.app();
    // The length comes first: it needs no account.
    new_password(app, password.clone(), "", "")?;
    let user = user(&call, &id).await?;
    let password = new_password(app, password, &user.email, &user.name)?;
    admin::set_password(app, &at_work(&call, &session), &user, password)
        .await
        .map_err(worded)?;
    done(&call, &session, json!({"status": true})).await
}

async fn remove_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_DELETE).await?;
    if id == session.live.user.id {
        return Err(said(&NOT_YOURSELF_REMOVED).into());
    }
    let user = user(&call, &id).await?;
    admin::remove(call.app(), &at_work(&call, &session), &user)
        .await
        .map_err(worded)?;
    done(&call, &session, json!({"success": true})).await
}

/// Nobody's tokens are known here: what stands in their place is the session's id, which only this area takes for one.
async fn list_user_sessions(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_LIST_SESSIONS).await?;
    let app = call.app();
    let rows = if id.contains('\0') {
        vec![]
    } else {
        projections::sessions::of_user(&app.pool, &id, app.clock.now()).await?
    };
    let sessions: Vec<_> = rows
        .iter()
        .take(SESSIONS)
        .map(|row| call.session_json(row, &row.id))
        .collect();
    done(&call, &session, json!({"sessions": sessions})).await
}

async fn revoke_user_session(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let token = fields.text("sessionToken");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_REVOKE).await?;
    let app = call.app();
    let now = app.clock.now();
    let found = match app.sessions.find_stored(&token, now).await? {
        Some(live) => Some(live),
        None if token.contains('\0') => None,
        None => app.sessions.find_by_id(&token, now).await?,
    };
    if let Some(found) = found {
        admin::end_session(app, &at_work(&call, &session), &found.session.id).await?;
    }
    done(&call, &session, json!({"success": true})).await
}

async fn revoke_user_sessions(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_REVOKE).await?;
    if !id.contains('\0') {
        admin::end_sessions(call.app(), &at_work(&call, &session), &id).await?;
    }
    done(&call, &session, json!({"success": true})).await
}

async fn has_permission(call: Call) -> Result<Response, Refusal> {
    let fields = call.fields(BodyTypes::Json, false)?;
    fields.done()?;
    let asked = |name: &str| fields.raw(name).and_then(Value::as_object);
    let permissions = asked("permissions");
    if permissions.is_none() && asked("permission").is_none() {
        return Err(Problem::Validation("[body] Invalid input".to_owned()).into());
    }
    let session = somebody(&call).await?;
    let Some(permissions) = permissions else {
        return Err(said(&NOTHING_TO_CHECK).into());
    };
    let user = &session.live.user;
    let success = permissions.iter().all(|(resource, actions)| {
        let actions = actions.as_array().map(Vec::as_slice).unwrap_or_default();
        let may = |action: &Value| {
            action
                .as_str()
                .is_some_and(|action| admin::may(user, resource, action))
        };
        !actions.is_empty() && actions.iter().all(may)
    });
    done(&call, &session, json!({"error": null, "success": success})).await
}
