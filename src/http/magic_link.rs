//! Magic links: asking for one, and following it.
//!
//! | method | path | |
//! |---|---|---|
//! | POST | `/api/auth/sign-in/magic-link` | mail a link |
//! | GET | `/api/auth/magic-link/verify` | follow it |
//! | GET | `/api/v1/auth/magic-link` | the page that the mail leads to: programs that scan mails stop there (S-45) |

use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;
use url::form_urlencoded;

use super::answers::{absolute, as_json, redirect, with_error, with_session};
use super::doors::{Checks, Door};
use super::error::Problem;
use super::limits;
use super::link_pages;
use super::request::{BodyTypes, Fields};
use super::shapes::user_json;
use super::two_factor;
use super::web::Call;
use crate::accounts::AccountError;
use crate::entry::{self, Entered, In, Visit};
use crate::links;
use crate::magic_link::{self, LinkError};

/// Where a link may lead, as body and query name it.
const CALLBACKS: [&str; 3] = ["callbackURL", "newUserCallbackURL", "errorCallbackURL"];

/// The doors of the official client.
pub fn doors() -> Vec<Door> {
    vec![
        Door::open(Method::POST, "/sign-in/magic-link", post(send)).limited(limits::MAGIC_LINK),
        Door::open(Method::GET, "/magic-link/verify", get(verify))
            .limited(limits::MAGIC_LINK_VERIFY)
            .checking(Checks::MailedToken),
    ]
}

/// The page.
pub fn page_doors() -> Vec<Door> {
    vec![Door::open(Method::GET, "/magic-link", get(page)).limited(limits::TOKEN)]
}

async fn send(call: Call) -> Result<Response, Problem> {
    let mut fields = call.fields(BodyTypes::Json, false)?;
    let email = fields.email("email");
    let name = fields.optional_text("name");
    fields.check_kept("name");
    let callbacks = CALLBACKS.map(|name| fields.optional_text(name).filter(|url| !url.is_empty()));
    fields.done()?;
    call.web.trusted.check_form_request(&call.headers)?;
    let email = email.ok_or(Problem::InvalidEmail)?;
    let [callback, new_user, error] = callbacks;
    // The mailed link always says where it leads.
    let callbacks = [
        Some(callback.unwrap_or_else(|| "/".to_owned())),
        new_user,
        error,
    ];
    let query = query_of(&callbacks);
    links::request_magic_link(call.app(), email, name, &query).await?;
    Ok(Json(json!({"status": true})).into_response())
}

fn query_of(callbacks: &[Option<String>; 3]) -> String {
    let pairs = CALLBACKS.iter().zip(callbacks);
    pairs
        .filter_map(|(name, url)| {
            let encoded: String =
                form_urlencoded::byte_serialize(url.as_ref()?.as_bytes()).collect();
            Some(format!("&{name}={}", encoded.replace('+', "%20")))
        })
        .collect()
}

/// Reads token and callbacks of a link.
fn read(call: &Call) -> Result<(String, [Option<String>; 3]), Problem> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let token = fields.text("token");
    let callbacks = CALLBACKS.map(|name| fields.optional_text(name).filter(|url| !url.is_empty()));
    fields.done()?;
    for (name, url) in CALLBACKS.iter().zip(&callbacks) {
        call.check_redirect(name, url.as_deref().unwrap_or_default())?;
    }
    Ok((token, callbacks))
}

async fn page(call: Call) -> Result<Response, Problem> {
    let (token, callbacks) = read(&call)?;
    let callbacks = CALLBACKS.iter().zip(&callbacks);
    let mut fields = vec![("token", token.as_str())];
    fields.extend(callbacks.filter_map(|(name, url)| Some((*name, url.as_deref()?))));
    Ok(link_pages::going_on(
        &call,
        "/api/auth/magic-link/verify",
        &fields,
    ))
}

async fn verify(call: Call) -> Result<Response, Problem> {
    let (token, [callback, new_user_callback, error_callback]) = read(&call)?;
    let app = call.app();
    let error_target = error_callback
        .as_deref()
        .or(callback.as_deref())
        .unwrap_or("/");
    let led_astray = |code| {
        let target = with_error(error_target, code);
        as_json(redirect(&absolute(&app.config.base_url, &target)))
    };
    let entered = async {
        let reader = magic_link::follow(app, &token, &call.caller).await?;
        let visit = Visit {
            proof: reader.proof,
            remembered: true,
            trusted_device: None,
            caller: &call.caller,
        };
        let entered = entry::enter(app, reader.user, visit).await?;
        Ok::<_, LinkError>((entered, reader.is_new))
    };
    let (entered, is_new) = match entered.await {
        Ok(entered) => entered,
        Err(LinkError::Account(AccountError::InvalidToken)) => {
            return Ok(led_astray("INVALID_TOKEN"));
        }
        Err(LinkError::SignUpDisabled) => return Ok(led_astray("new_user_signup_disabled")),
        Err(LinkError::Account(error)) => return Err(error.into()),
    };
    let target = new_user_callback.filter(|_| is_new).or(callback);
    let In { user, started, .. } = match entered {
        Entered::In(entered) => *entered,
        Entered::SecondFactorNeeded { challenge, methods } => {
            let target = target.as_deref();
            return Ok(two_factor::needed_on_the_way(
                &call, &challenge, &methods, target,
            ));
        }
    };
    let response = match target {
        Some(target) => as_json(redirect(&absolute(&app.config.base_url, &target))),
        None => Json(json!({
            "token": started.token,
            "user": user_json(&user),
            "session": call.session_json(&started.session, &started.token),
        }))
        .into_response(),
    };
    Ok(with_session(response, &call, &started.token, true))
}
