//! `/api/auth/multi-session/*`: several people signed in on one device, where that is configured. Beside the cookie of
//! the session that counts, the device has one for each session that it may go over to.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/list-device-sessions` | the sessions, each with its person |
//! | POST | `/set-active` | go over to one |
//! | POST | `/revoke` | end one |

use std::sync::Arc;

use aggregates::session::EndReason;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;

use super::answers::{Refusal, set_cookies, with_session, without_session_cookies};
use super::doors::Door;
use super::error::{Problem, Stated};
use super::request::BodyTypes;
use super::sessions::Presented;
use super::web::{Call, Web};
use crate::accounts;
use crate::sessions::Live;

/// A device has at most so many sessions.
const SESSIONS: usize = 5;
/// The key of a cookie: this, and the token in small letters.
const COOKIE: &str = "session_token_multi-";

/// The doors; shut unless they are configured.
pub fn doors() -> Vec<Door> {
    let post_door = |path, handler| Door::open(Method::POST, path, handler);
    vec![
        Door::open(
            Method::GET,
            "/multi-session/list-device-sessions",
            get(list_device_sessions),
        ),
        post_door("/multi-session/set-active", post(set_active)),
        post_door("/multi-session/revoke", post(revoke)),
    ]
}

static INVALID_TOKEN: Stated = Stated {
    status: StatusCode::UNAUTHORIZED,
    code: Some("INVALID_SESSION_TOKEN"),
    message: "Invalid session token",
};

/// A session of the device, by its cookie.
struct Kept {
    token: String,
    /// The session, if it is not over.
    live: Option<Arc<Live>>,
}

impl Kept {
    fn clear(&self, web: &Web) -> String {
        web.cookies.clear(&key(&self.token))
    }
}

fn key(token: &str) -> String {
    format!("{COOKIE}{}", token.to_lowercase())
}

/// The sessions of the device, in the order in which they began.
async fn kept(web: &Web, headers: &HeaderMap) -> Result<Vec<Kept>, Problem> {
    let app = &web.app;
    let mut kept = vec![];
    for (name, token) in web.cookies.read_all(&app.cookies, headers, COOKIE) {
        if name != key(&token) {
            continue;
        }
        let live = app.sessions.find(&token, app.clock.now()).await?;
        kept.push(Kept { token, live });
        if kept.len() == SESSIONS {
            break;
        }
    }
    kept.sort_by_key(|kept| kept.live.as_ref().map(|live| live.session.created_at));
    Ok(kept)
}

/// As if the routes were not there, where they are not configured.
fn only_if_on(call: &Call) -> Result<(), Refusal> {
    if call.app().config.multi_session {
        Ok(())
    } else {
        Err(Refusal::answer(StatusCode::NOT_FOUND.into_response()))
    }
}

async fn list_device_sessions(call: Call) -> Result<Response, Refusal> {
    only_if_on(&call)?;
    let kept = kept(&call.web, &call.headers).await?;
    let of_device = |kept: &Kept| {
        let live = kept.live.as_ref()?;
        Some(json!(call.session_and_user(
            &live.session,
            &kept.token,
            &live.user
        )))
    };
    let list: Vec<_> = kept.iter().filter_map(of_device).collect();
    let mut response = Json(list).into_response();
    let over = kept.iter().filter(|kept| kept.live.is_none());
    set_cookies(
        &mut response,
        over.map(|kept| kept.clear(&call.web)).collect(),
    );
    Ok(response)
}

/// The token of a body, and the sessions of the device that shows it.
async fn shown(call: &Call) -> Result<(String, Vec<Kept>), Refusal> {
    only_if_on(call)?;
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let token = fields.text("sessionToken");
    fields.done()?;
    Ok((token, kept(&call.web, &call.headers).await?))
}

async fn set_active(call: Call) -> Result<Response, Refusal> {
    let (token, kept) = shown(&call).await?;
    let invalid = Problem::Stated(&INVALID_TOKEN, None);
    let Some(found) = kept.into_iter().find(|kept| kept.token == token) else {
        return Err(invalid.into());
    };
    let Some(live) = &found.live else {
        let mut response = invalid.into_response();
        set_cookies(&mut response, vec![found.clear(&call.web)]);
        return Err(Refusal::answer(response));
    };
    let body = json!(call.session_and_user(&live.session, &token, &live.user));
    let response = Json(body).into_response();
    Ok(with_session(
        response,
        &call,
        &token,
        live.session.remembered,
    ))
}

async fn revoke(call: Call) -> Result<Response, Refusal> {
    let (token, mut kept) = shown(&call).await?;
    let active = match call.session().await? {
        Presented::Live(session) => Some(session.token),
        Presented::Nothing | Presented::Over => None,
    };
    let Some(at) = kept.iter().position(|kept| kept.token == token) else {
        return Err(Problem::Stated(&INVALID_TOKEN, None).into());
    };
    let found = kept.remove(at);
    end(&call, &found).await?;
    let mut response = Json(json!({"status": true})).into_response();
    set_cookies(&mut response, vec![found.clear(&call.web)]);
    if active.as_ref() != Some(&token) {
        return Ok(response);
    }
    // The device goes over to another session, if it has one.
    let next = kept
        .iter()
        .find_map(|kept| Some((&kept.token, kept.live.as_ref()?)));
    Ok(match next {
        Some((token, live)) => with_session(response, &call, token, live.session.remembered),
        None => without_session_cookies(response, &call),
    })
}

async fn end(call: &Call, kept: &Kept) -> Result<(), Problem> {
    let Some(live) = &kept.live else {
        return Ok(());
    };
    let context = call.caller.context_about(live.actor(), &live.user.id);
    let id = &live.session.id;
    Ok(accounts::end_session(call.app(), id, EndReason::SignedOut, context).await?)
}

/// Ends every session of the device, when somebody signs out there.
///
/// # Errors
/// When it cannot be written.
pub async fn sign_out(call: &Call, mut response: Response) -> Result<Response, Problem> {
    if !call.app().config.multi_session {
        return Ok(response);
    }
    let kept = kept(&call.web, &call.headers).await?;
    for kept in &kept {
        end(call, kept).await?;
    }
    let cookies = kept.iter().map(|kept| kept.clear(&call.web)).collect();
    set_cookies(&mut response, cookies);
    Ok(response)
}

/// Gives a device that is given a session its further cookie, and takes those away that lead nowhere any more or to an
/// older session of the same person.
pub async fn keep(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    // These routes see to it themselves.
    if request.uri().path().contains("/multi-session/") {
        return next.run(request).await;
    }
    let headers = request.headers().clone();
    let mut response = next.run(request).await;
    let given = response.headers().get("set-auth-token");
    let Some(token) = given.and_then(|value| web.app.cookies.verify(value.to_str().ok()?)) else {
        return response;
    };
    match cookies_of(&web, &headers, &token).await {
        Ok(cookies) => set_cookies(&mut response, cookies),
        // The session has begun: without the cookie it is merely not among those to choose from.
        Err(_) => metrics::counter!("device_sessions_lost_total").increment(1),
    }
    response
}

async fn cookies_of(web: &Web, headers: &HeaderMap, token: &str) -> Result<Vec<String>, Problem> {
    let app = &web.app;
    let live = app.sessions.find(token, app.clock.now()).await?;
    // An admin who acts as somebody goes back by a cookie of its own.
    let Some(live) = live.filter(|live| live.session.impersonated_by.is_none()) else {
        return Ok(vec![]);
    };
    let mut others = kept(web, headers).await?;
    others.retain(|kept| kept.token != token);
    let (stay, go): (Vec<_>, Vec<_>) = others.into_iter().partition(|kept| {
        let of = kept.live.as_ref();
        of.is_some_and(|kept| kept.user.id != live.user.id)
    });
    let mut cookies: Vec<String> = go.iter().map(|kept| kept.clear(web)).collect();
    if stay.len() < SESSIONS {
        let max_age = live.session.remembered.then_some(accounts::SESSION);
        cookies.push(
            web.cookies
                .signed(&app.cookies, &key(token), token, max_age),
        );
    }
    Ok(cookies)
}
