//! What answers are made of beside their bodies: refusals, cookies, headers and redirects.

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::Problem;
use super::web::Call;
use crate::store::idempotency::Outcome;

/// Why a handler ends early: a problem, or a whole answer.
pub struct Refusal(Box<Response>);

impl Refusal {
    /// A whole answer.
    pub fn answer(response: Response) -> Self {
        Self(Box::new(response))
    }
}

impl<E: Into<Problem>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self(Box::new(error.into().into_response()))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        *self.0
    }
}

/// An answer that was given before, byte for byte.
pub fn replay(outcome: Outcome) -> Response {
    let status = StatusCode::from_u16(outcome.status).unwrap_or(StatusCode::OK);
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (HeaderName::from_static("idempotency-replayed"), "true"),
    ];
    (status, headers, outcome.body).into_response()
}

/// Adds the cookies of a new or extended session.
pub fn with_session_cookies(
    mut response: Response,
    call: &Call,
    token: &str,
    remembered: bool,
) -> Response {
    let cookies = call
        .web
        .cookies
        .session(&call.app().cookies, token, remembered, call.is_brief());
    set_cookies(&mut response, cookies);
    response
}

/// Adds the cookies, and the token header that goes with them on the official client's routes.
pub fn with_session(response: Response, call: &Call, token: &str, remembered: bool) -> Response {
    let mut response = with_session_cookies(response, call, token, remembered);
    set_header(
        &mut response,
        "set-auth-token",
        &call.app().cookies.sign(token),
    );
    expose(&mut response, "set-auth-token");
    response
}

/// Clears the cookies of a session.
pub fn without_session_cookies(mut response: Response, call: &Call) -> Response {
    set_cookies(&mut response, call.web.cookies.clear_session());
    response
}

/// Adds cookies that we made.
pub fn set_cookies(response: &mut Response, cookies: Vec<String>) {
    for cookie in cookies {
        let value =
            HeaderValue::from_str(&cookie).expect("cookies are made of visible ASCII characters");
        response.headers_mut().append(header::SET_COOKIE, value);
    }
}

/// Sets a header whose value we made.
pub fn set_header(response: &mut Response, name: &'static str, value: &str) {
    let value =
        HeaderValue::from_str(value).expect("our tokens and paths are visible ASCII characters");
    response
        .headers_mut()
        .insert(HeaderName::from_static(name), value);
}

/// Lets scripts of other origins read a header of the answer.
pub fn expose(response: &mut Response, name: &'static str) {
    let exposed = match response
        .headers()
        .get(header::ACCESS_CONTROL_EXPOSE_HEADERS)
        .and_then(|value| value.to_str().ok())
    {
        Some(already) if already.split(", ").any(|known| known == name) => return,
        Some(already) => HeaderValue::try_from(format!("{already}, {name}"))
            .expect("names of headers are visible ASCII characters"),
        None => HeaderValue::from_static(name),
    };
    response
        .headers_mut()
        .insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
}

/// A redirect whose target was checked.
pub fn redirect(target: &str) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    // A checked target may still hold characters beyond ASCII: a header carries them encoded.
    let encoded: String = target
        .chars()
        .flat_map(|c| {
            if c.is_ascii() {
                vec![c]
            } else {
                percent_encoding::utf8_percent_encode(
                    &c.to_string(),
                    percent_encoding::NON_ALPHANUMERIC,
                )
                .to_string()
                .chars()
                .collect()
            }
        })
        .collect();
    set_header(&mut response, "location", &encoded);
    response
}

/// Adds `error=CODE` to a redirect target.
pub fn with_error(target: &str, code: &str) -> String {
    with_query(target, &format!("error={code}"))
}

/// Adds a pair to the query of a redirect target.
pub fn with_query(target: &str, pair: &str) -> String {
    let (before, fragment) = target
        .split_once('#')
        .map_or((target, None), |(before, fragment)| {
            (before, Some(fragment))
        });
    let separator = if before.contains('?') { '&' } else { '?' };
    let fragment = fragment
        .map(|fragment| format!("#{fragment}"))
        .unwrap_or_default();
    format!("{before}{separator}{pair}{fragment}")
}

/// Marks an answer without a body as JSON, as clients know some redirects.
pub fn as_json(mut response: Response) -> Response {
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// Makes a safe path absolute against the base URL, as some redirects of the wire are.
pub fn absolute(base_url: &str, target: &str) -> String {
    if target.starts_with('/') {
        format!("{base_url}{target}")
    } else {
        target.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_joins_the_query_in_front_of_the_fragment() {
        assert_eq!(with_error("/x", "E"), "/x?error=E");
        assert_eq!(with_error("/x?a=1", "E"), "/x?a=1&error=E");
        assert_eq!(with_error("/x?a=1#f", "E"), "/x?a=1&error=E#f");
    }
}
