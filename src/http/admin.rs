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

use aggregates::{EmailAddress, Roles, Tier};
use axum::Json;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use chrono::{DateTime, TimeDelta, Utc};
use projections::users::UserRow;
use projections::users::listing::{self, Asked, Column, Comparison, Condition};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::auth::new_password;
use super::doors::Door;
use super::error::{Problem, Stated};
use super::request::{BodyTypes, Fields};
use super::web::{
    Call, Presented, Refusal, Session, as_json, session_and_user, session_json, set_cookies,
    user_json, with_session, without_session_cookies,
};
use crate::accounts::{AccountError, NewAccount, Standing};
use crate::admin::{self, Admin, BanChange, UserChange};
use crate::self_service::ProfileChange;

/// People in one answer: when nobody says, and at most.
const PEOPLE: (i64, i64) = (100, 1000);
/// Sessions in one answer.
const SESSIONS: usize = 100;
/// The cookie that leads back to the admin's own session lasts this long.
const BACK_FOR: TimeDelta = TimeDelta::days(7);
/// What a person is told when nobody says why they are banned.
const NO_REASON: &str = "No reason";
/// The longest ban that has an end, in seconds: a hundred years.
const LONGEST_BAN_SECS: f64 = 100.0 * 365.25 * 24.0 * 3600.0;

/// The doors.
pub fn doors() -> Vec<Door> {
    let get_door = |path, handler| Door::open(Method::GET, path, handler);
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        get_door("/admin/list-users", get(list_users)).never_impersonated(),
        get_door("/admin/get-user", get(get_user)).never_impersonated(),
        post_door("/admin/create-user", post(create_user)),
        post_door("/admin/update-user", post(update_user)),
        post_door("/admin/remove-user", post(remove_user)),
        post_door("/admin/set-role", post(set_role)),
        post_door("/admin/ban-user", post(ban_user)),
        post_door("/admin/unban-user", post(unban_user)),
        post_door("/admin/set-user-password", post(set_user_password)),
        post_door("/admin/list-user-sessions", post(list_user_sessions)),
        post_door("/admin/revoke-user-session", post(revoke_user_session)),
        post_door("/admin/revoke-user-sessions", post(revoke_user_sessions)),
        post_door("/admin/impersonate-user", post(impersonate_user)),
        post_door("/admin/stop-impersonating", post(stop_impersonating)).also_impersonated(),
        post_door("/admin/has-permission", post(has_permission)).also_impersonated(),
    ]
}

const fn stated(status: StatusCode, code: &'static str, message: &'static str) -> Stated {
    Stated {
        status,
        code: Some(code),
        message,
    }
}

const fn forbidden(code: &'static str, message: &'static str) -> Stated {
    stated(StatusCode::FORBIDDEN, code, message)
}

const fn refused(code: &'static str, message: &'static str) -> Stated {
    stated(StatusCode::BAD_REQUEST, code, message)
}

/// Nobody takes the last admin away, themselves included (S-65).
pub static LAST_ADMIN: Stated = refused("LAST_ADMIN", "The last admin stays an admin");

static MAY_NOT_LIST: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS",
    "You are not allowed to list users",
);
static MAY_NOT_GET: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_GET_USER",
    "You are not allowed to get user",
);
static MAY_NOT_CREATE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_CREATE_USERS",
    "You are not allowed to create users",
);
static MAY_NOT_UPDATE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_UPDATE_USERS",
    "You are not allowed to update users",
);
static MAY_NOT_DELETE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_DELETE_USERS",
    "You are not allowed to delete users",
);
static MAY_NOT_SET_ROLE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_CHANGE_USERS_ROLE",
    "You are not allowed to change users role",
);
static MAY_NOT_BAN: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_BAN_USERS",
    "You are not allowed to ban users",
);
static MAY_NOT_SET_PASSWORD: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_SET_USERS_PASSWORD",
    "You are not allowed to set users password",
);
static MAY_NOT_LIST_SESSIONS: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS_SESSIONS",
    "You are not allowed to list users sessions",
);
static MAY_NOT_REVOKE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS",
    "You are not allowed to revoke users sessions",
);
static MAY_NOT_IMPERSONATE: Stated = forbidden(
    "YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS",
    "You are not allowed to impersonate users",
);
static NO_ADMINS: Stated = forbidden(
    "YOU_CANNOT_IMPERSONATE_ADMINS",
    "You cannot impersonate admins",
);
static NO_SUCH_USER: Stated = stated(StatusCode::NOT_FOUND, "USER_NOT_FOUND", "User not found");
static EMAIL_TAKEN: Stated = refused(
    "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL",
    "User already exists. Use another email.",
);
static NOT_YOURSELF_BANNED: Stated = refused("YOU_CANNOT_BAN_YOURSELF", "You cannot ban yourself");
static NOT_YOURSELF_REMOVED: Stated =
    refused("YOU_CANNOT_REMOVE_YOURSELF", "You cannot remove yourself");
static NO_DATA: Stated = refused("NO_DATA_TO_UPDATE", "No data to update");
static NO_PASSWORD_HERE: Stated = refused(
    "PASSWORD_CANNOT_BE_UPDATED_VIA_UPDATE_USER",
    "Password cannot be updated through update-user. Use the set-user-password endpoint instead",
);
static NO_ID_HERE: Stated = refused("USER_ID_CANNOT_BE_UPDATED", "User id cannot be updated");
static INVALID_ROLE: Stated = refused("INVALID_ROLE_TYPE", "Invalid role type");
static STAYS_VERIFIED: Stated = refused(
    "FIELD_NOT_ALLOWED",
    "emailVerified is not allowed to be set to false",
);
static IMPERSONATES_NOBODY: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: None,
    message: "You are not impersonating anyone",
};
static NOTHING_TO_CHECK: Stated = Stated {
    status: StatusCode::BAD_REQUEST,
    code: None,
    message: "invalid permission check. no permission(s) were passed.",
};

fn said(words: &'static Stated) -> Problem {
    Problem::Stated(words, None)
}

/// Problems in the words of these routes.
fn worded(error: AccountError) -> Problem {
    match error {
        AccountError::EmailTaken => said(&EMAIL_TAKEN),
        AccountError::NoAccount => said(&NO_SUCH_USER),
        // Their address was changed at the same time.
        AccountError::OtherEmail => Problem::Conflict,
        error => error.into(),
    }
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
async fn done(call: &Call, session: &Session, body: Value) -> Result<Response, Refusal> {
    Ok(call.prolonged(Json(body).into_response(), session).await)
}

async fn list_users(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let search = fields.optional_text("searchValue");
    let search_field = fields.optional_choice("searchField", &["email", "name"]);
    let search_operator =
        fields.optional_choice("searchOperator", &["contains", "starts_with", "ends_with"]);
    let sort = fields.optional_text("sortBy");
    let direction = fields.optional_choice("sortDirection", &["asc", "desc"]);
    let filter_field = fields.optional_text("filterField");
    let filter_operator = fields.optional_choice("filterOperator", &Comparison::NAMES);
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_LIST).await?;

    let limit = number(&fields, "limit").map(|limit| limit.min(PEOPLE.1));
    let offset = number(&fields, "offset");
    let values: Vec<String> =
        form_urlencoded::parse(call.query.as_deref().unwrap_or("").as_bytes())
            .filter(|(name, _)| name == "filterValue")
            .map(|(_, value)| value.into_owned())
            .collect();
    let asked = (|| {
        let condition = |column: &str, comparison: &str, values: &[String]| {
            Condition::new(
                Column::named(column)?,
                Comparison::named(comparison)?,
                values,
            )
        };
        let mut conditions = vec![];
        if let Some(search) = search.filter(|text| !text.is_empty()) {
            let column = search_field.unwrap_or("email");
            let comparison = search_operator.unwrap_or("contains");
            conditions.push(condition(column, comparison, &[search])?);
        }
        if !values.is_empty() {
            let column = filter_field.as_deref().unwrap_or("email");
            conditions.push(condition(column, filter_operator.unwrap_or("eq"), &values)?);
        }
        let sort = match sort.filter(|name| !name.is_empty()) {
            None => None,
            Some(name) => Some((Column::named(&name)?, direction == Some("desc"))),
        };
        let asked = Asked {
            conditions,
            sort,
            limit: limit.unwrap_or(PEOPLE.0),
            offset: offset.unwrap_or(0),
        };
        (asked.limit > 0 && asked.offset >= 0).then_some(asked)
    })();
    // What cannot be asked for is true of nobody, as clients know it.
    let Some(asked) = asked else {
        return done(&call, &session, json!({"users": [], "total": 0})).await;
    };
    let (people, total) = listing::page(&call.app().pool, &asked).await?;
    let users: Vec<_> = people.iter().map(user_json).collect();
    let mut body = json!({"users": users, "total": total});
    for (name, given) in [("limit", limit), ("offset", offset)] {
        if let Some(given) = given {
            body[name] = json!(given);
        }
    }
    done(&call, &session, body).await
}

/// A number of a query; zero, and what is no whole number, is none.
fn number(fields: &Fields, name: &str) -> Option<i64> {
    let text = fields.raw(name)?.as_str()?;
    text.trim().parse().ok().filter(|number| *number != 0)
}

async fn get_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let id = fields.text("id");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_GET).await?;
    let user = user(&call, &id).await?;
    done(&call, &session, json!(user_json(&user))).await
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

async fn update_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    let mut data = fields.part("data", "body.data");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_UPDATE).await?;
    for (name, words) in [("password", &NO_PASSWORD_HERE), ("id", &NO_ID_HERE)] {
        if data.has(name) {
            return Err(said(words).into());
        }
    }
    let role = match data.raw("role") {
        None => None,
        Some(role) => Some(roles(role).ok_or(said(&INVALID_ROLE))?),
    };
    let email = match data.optional_text("email") {
        None => None,
        Some(email) => Some(EmailAddress::parse(&email).map_err(|_| Problem::InvalidEmail)?),
    };
    let is_verified = data.optional_bool("emailVerified");
    let change = UserChange {
        profile: ProfileChange {
            name: data.optional_text("name"),
            image: data.removable_text("image"),
            locale: data.removable_text("locale"),
        },
        role,
        tier: data.optional("accessTier", tier),
        email,
        is_verified: is_verified == Some(true),
        ban: None,
    };
    let banned = data.optional_bool("banned");
    let reason = data.removable_text("banReason");
    let until = data.optional("banExpires", |value| match value {
        Value::Null => Some(None),
        value => Some(Some(
            DateTime::parse_from_rfc3339(value.as_str()?).ok()?.to_utc(),
        )),
    });
    for kept in ["name", "image", "locale", "banReason"] {
        data.check_kept(kept);
    }
    data.done()?;
    const SETTABLE: [&str; 10] = [
        "name",
        "image",
        "locale",
        "role",
        "accessTier",
        "email",
        "emailVerified",
        "banned",
        "banReason",
        "banExpires",
    ];
    if !SETTABLE.iter().any(|name| data.has(name)) {
        return Err(said(&NO_DATA).into());
    }
    let user = user(&call, &id).await?;
    if user.email_verified && is_verified == Some(false) {
        return Err(said(&STAYS_VERIFIED).into());
    }
    let ban = match banned {
        Some(false) => Some(BanChange::Lift),
        None if !user.banned || reason.is_none() && until.is_none() => None,
        // What is not said of a ban stays as it is.
        Some(true) | None => Some(BanChange::Ban {
            reason: reason.unwrap_or_else(|| user.ban_reason.clone()),
            until: until.unwrap_or(user.ban_expires),
        }),
    };
    if matches!(ban, Some(BanChange::Ban { .. })) && user.id == session.live.user.id {
        return Err(said(&NOT_YOURSELF_BANNED).into());
    }
    let change = UserChange { ban, ..change };
    let user = changed(&call, &session, &user, change).await?;
    done(&call, &session, json!(user_json(&user))).await
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
        .map(|row| session_json(row, &row.id))
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

async fn impersonate_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_IMPERSONATE).await?;
    let user = user(&call, &id).await?;
    if user.has_role(Roles::admin().as_str()) {
        return Err(said(&NO_ADMINS).into());
    }
    let app = call.app();
    let entered = admin::impersonate(app, &at_work(&call, &session), user).await?;
    let token = &entered.started.token;
    let body = json!(session_and_user(
        &entered.started.session,
        token,
        &entered.user
    ));
    let mut response = without_session_cookies(Json(body).into_response(), &call);
    let brief = call.cookie("dont_remember").unwrap_or_default();
    let back = format!("{}:{brief}", session.token);
    let cookie = call
        .web
        .cookies
        .signed(&app.cookies, "admin_session", &back, Some(BACK_FOR));
    set_cookies(&mut response, vec![cookie]);
    Ok(with_session(response, &call, token, false))
}

async fn stop_impersonating(call: Call) -> Result<Response, Refusal> {
    call.fields(BodyTypes::Json, false)?;
    let acting = somebody(&call).await?;
    let Some(admin_id) = &acting.live.session.impersonated_by else {
        return Err(said(&IMPERSONATES_NOBODY).into());
    };
    let app = call.app();
    let back = call.cookie("admin_session");
    let back = back.as_deref().and_then(|back| back.split_once(':'));
    let own = match back {
        Some((token, _)) => app.sessions.find_stored(token, app.clock.now()).await?,
        None => None,
    };
    // The cookie of another admin on this device leads nowhere.
    let own = own.filter(|live| live.user.id == *admin_id);
    admin::stop_impersonating(app, &acting.live, &call.caller).await?;
    let without_way_back = |mut response: Response| {
        set_cookies(&mut response, vec![call.web.cookies.clear("admin_session")]);
        response
    };
    let (Some(live), Some((token, _))) = (own, back) else {
        let nobody = as_json(StatusCode::UNAUTHORIZED.into_response());
        let response = without_session_cookies(nobody, &call);
        return Err(Refusal::answer(without_way_back(response)));
    };
    let body = json!(session_and_user(&live.session, token, &live.user));
    let response = Json(body).into_response();
    let response = with_session(response, &call, token, live.session.remembered);
    Ok(without_way_back(response))
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
