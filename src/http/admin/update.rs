//! `POST /update-user`: several changes to somebody at once.

use aggregates::EmailAddress;
use axum::response::Response;
use chrono::DateTime;
use serde_json::{Value, json};

use super::words::{
    INVALID_ROLE, MAY_NOT_UPDATE, NO_DATA, NO_ID_HERE, NO_PASSWORD_HERE, NOT_YOURSELF_BANNED, said,
};
use super::{admin_of, changed, done, roles, tier, user};
use crate::admin::{BanChange, UserChange};
use crate::http::answers::Refusal;
use crate::http::error::Problem;
use crate::http::request::BodyTypes;
use crate::http::shapes::user_json;
use crate::http::web::Call;
use crate::self_service::ProfileChange;

pub(super) async fn update_user(call: Call) -> Result<Response, Refusal> {
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
    let change = UserChange {
        profile: ProfileChange {
            name: data.optional_text("name"),
            image: data.removable_text("image"),
            locale: data.removable_text("locale"),
        },
        role,
        tier: data.optional("accessTier", tier),
        email,
        is_verified: data.optional_bool("emailVerified"),
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
