//! Coming back from another provider.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/api/auth/callback/{provider}` | come back |
//! | POST | `/api/auth/callback/{provider}` | come back by a form, which becomes a query: only then do cookies come along |

use axum::extract::Path;
use axum::http::Method;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::Value;
use url::form_urlencoded;

use super::answers::{as_json, redirect, set_cookies, with_error, with_query, with_session};
use super::doors::Door;
use super::error::Problem;
use super::request::{BodyTypes, Fields, read_body};
use super::social::visit;
use super::two_factor;
use super::web::Call;
use crate::entry::{self, Entered};
use crate::social::{self, Returned, SocialError};

/// What a provider comes back with.
const RETURNED: [&str; 5] = ["code", "error", "error_description", "state", "iss"];
/// Longest value of these that a form may have, in bytes: it has to fit into an address.
const RETURNED_MAX_BYTES: usize = 4096;

/// The doors.
pub fn doors() -> Vec<Door> {
    let path = "/callback/{provider}";
    vec![
        Door::open(Method::GET, path, get(come_back)),
        Door::open(Method::POST, path, post(come_back_by_form)),
    ]
}

/// Nothing is done here, so it does not matter who has sent the form: the provider's own page does.
async fn come_back_by_form(Path(id): Path<String>, call: Call) -> Result<Response, Problem> {
    let body = read_body(&call.headers, &call.bytes, BodyTypes::JsonOrForm)?;
    let mut fields = Fields::of_body(body, true, false);
    let mut query = form_urlencoded::Serializer::new(String::new());
    for name in RETURNED {
        let Some(value) = fields.optional_text(name) else {
            continue;
        };
        if value.len() > RETURNED_MAX_BYTES {
            fields.fault(name, "Too big");
        }
        query.append_pair(name, &value);
    }
    fields.done()?;
    // The name of the provider came in the address, and goes into one again.
    let id: String = form_urlencoded::byte_serialize(id.as_bytes()).collect();
    let target = format!("{}/api/auth/callback/{id}", call.app().config.base_url);
    Ok(as_json(redirect(&with_query(&target, &query.finish()))))
}

/// What a provider comes back with.
struct Returning {
    code: Option<String>,
    error: Option<String>,
    description: Option<String>,
    state: Option<String>,
    issuer: Option<String>,
}

async fn come_back(Path(id): Path<String>, call: Call) -> Result<Response, Problem> {
    let fields = Fields::of_query(call.query.as_deref());
    let text = |name| {
        let text = fields.raw(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty()).map(str::to_owned)
    };
    let [code, error, description, state, issuer] = RETURNED.map(text);
    let returning = Returning {
        code,
        error,
        description,
        state,
        issuer,
    };
    let app = call.app();
    let own_page = format!("{}/api/auth/error", app.config.base_url);
    let Some(state) = &returning.state else {
        return Ok(astray(&own_page, "state_not_found"));
    };
    let Some(returned) = social::find(app, state).await? else {
        return Ok(astray(&own_page, "state_mismatch"));
    };
    let callbacks = returned.callbacks().clone();
    let error_page = callbacks.error.as_deref().unwrap_or(&own_page);
    // Another browser than the one that began: it neither gets in nor uses the state up.
    if call.cookie("state").as_ref() != Some(state) {
        return Ok(astray(error_page, "state_mismatch"));
    }
    match arrive(&call, &id, &returning, &returned, error_page).await {
        Err(SocialError::Code(code)) => Ok(gone(&call, astray(error_page, code))),
        Err(SocialError::Account(error)) => Err(error.into()),
        Ok(response) => Ok(response),
    }
}

/// Goes on with somebody who is back in the browser that began.
async fn arrive(
    call: &Call,
    id: &str,
    returning: &Returning,
    returned: &Returned,
    error_page: &str,
) -> Result<Response, SocialError> {
    let app = call.app();
    let provider = app.providers.find(id);
    let provider = provider.ok_or(SocialError::Code("oauth_provider_not_found"))?;
    // Whoever mixes providers up could have one's code redeemed at another (RFC 9207).
    if !returned.is_from(provider) || !returned.spend(app).await? {
        return Err(SocialError::Code("state_mismatch"));
    }
    if let Some(error) = &returning.error {
        let mut target = with_error(error_page, &encoded(error));
        if let Some(description) = &returning.description {
            target = with_query(
                &target,
                &format!("error_description={}", encoded(description)),
            );
        }
        return Ok(gone(call, as_json(redirect(&target))));
    }
    // Where none is configured, the address that each provider leads back to tells them apart.
    match (&returning.issuer, &provider.issuer) {
        (None, _) if provider.require_issuer => return Err(SocialError::Code("issuer_missing")),
        (Some(told), Some(known)) if told != known => {
            return Err(SocialError::Code("issuer_mismatch"));
        }
        _ => {}
    }
    let code = returning
        .code
        .as_deref()
        .ok_or(SocialError::Code("no_code"))?;
    let linking = returned.linking(app).await?;
    let arrival = returned.identify(app, provider, code).await?;
    let callbacks = returned.callbacks();
    let callback = callbacks.callback.as_deref();
    let afterwards = callback.unwrap_or(&app.config.base_url);
    if let Some(user) = linking {
        social::link(app, provider, &arrival, &user, &call.caller).await?;
        return Ok(gone(call, as_json(redirect(afterwards))));
    }
    let requests = returned.requests_sign_up();
    let signed_in =
        social::sign_in(app, provider, &arrival, callback, requests, &call.caller).await;
    let (user, is_new) = signed_in?;
    let new_user = callbacks.new_user.as_deref().filter(|_| is_new);
    let target = new_user.unwrap_or(afterwards);
    Ok(match entry::enter(app, user, visit(call)).await? {
        Entered::In(entered) => {
            let response = gone(call, as_json(redirect(target)));
            with_session(response, call, &entered.started.token, true)
        }
        Entered::SecondFactorNeeded { challenge, methods } => {
            let target = Some(target);
            gone(
                call,
                two_factor::needed_on_the_way(call, &challenge, &methods, target),
            )
        }
    })
}

/// Takes the cookie of a sign-in away that has come to its end.
fn gone(call: &Call, mut response: Response) -> Response {
    set_cookies(&mut response, vec![call.web.cookies.clear("state")]);
    response
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn astray(target: &str, code: &str) -> Response {
    as_json(redirect(&with_error(target, code)))
}
