//! `POST /impersonate-user`, `/stop-impersonating`: acting as somebody, and back.

use aggregates::Roles;
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chrono::TimeDelta;
use serde_json::json;

use super::words::{IMPERSONATES_NOBODY, MAY_NOT_IMPERSONATE, NO_ADMINS, said};
use super::{admin_of, at_work, somebody, user};
use crate::admin;
use crate::http::answers::{Refusal, as_json, set_cookies, with_session, without_session_cookies};
use crate::http::request::BodyTypes;
use crate::http::web::Call;

/// The cookie that leads back to the admin's own session lasts this long.
const BACK_FOR: TimeDelta = TimeDelta::days(7);

pub(super) async fn impersonate_user(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let id = fields.coerced_text("userId");
    // The official client sends none (S-66).
    let reason = if call.app().config.step_up {
        Some(fields.filled_text("reason"))
    } else {
        let reason = fields.optional_text("reason");
        reason.filter(|reason| !reason.is_empty())
    };
    fields.check_kept("reason");
    fields.done()?;
    let session = admin_of(&call, &MAY_NOT_IMPERSONATE).await?;
    let user = user(&call, &id).await?;
    if user.has_role(Roles::admin().as_str()) {
        return Err(said(&NO_ADMINS).into());
    }
    let app = call.app();
    let entered = admin::impersonate(app, &at_work(&call, &session), user, reason).await?;
    let token = &entered.started.token;
    let body = json!(call.session_and_user(&entered.started.session, token, &entered.user));
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

pub(super) async fn stop_impersonating(call: Call) -> Result<Response, Refusal> {
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
    let body = json!(call.session_and_user(&live.session, token, &live.user));
    let response = Json(body).into_response();
    let response = with_session(response, &call, token, live.session.remembered);
    Ok(without_way_back(response))
}
