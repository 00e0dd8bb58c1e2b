//! The development mailbox: shows the mails that were kept instead of sent.
//!
//! | route | answer |
//! |---|---|
//! | `GET /dev/mail` | the mails as a page, newest first |
//! | `GET /dev/mail/{id}` | one mail: its text, its link, its HTML part in a frame |
//! | `GET /dev/mail/{id}/html` | the HTML part alone, for the frame |
//! | `GET /dev/mail.json` | the mails for tools and tests |
//! | `GET /dev/mail.css` | the style of the pages |
//! | `DELETE /dev/mail` | forgets all mails |
//!
//! Mails hold links that sign people in, so only programs on this host may read them.

use std::net::SocketAddr;
use std::sync::Arc;

use askama::Template;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, FORWARDED, HOST, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::middleware::{Next, from_fn, map_response};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use sha2::{Digest, Sha256};

use crate::mail::{self, Mailbox, StoredMail};

const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
const PAGE_STYLE: &str = include_str!("dev_mail/style.css");

/// The routes of the mailbox page. The server must be made with `into_make_service_with_connect_info::<SocketAddr>()`:
/// without the peer's address everybody is refused.
pub fn routes(mailbox: Mailbox) -> Router {
    Router::new()
        .route("/dev/mail", get(list).delete(clear))
        .route("/dev/mail.json", get(list_json))
        .route("/dev/mail.css", get(style))
        .route("/dev/mail/{id}", get(show))
        .route("/dev/mail/{id}/html", get(show_html))
        .with_state(mailbox)
        .route_layer(from_fn(refuse_other_hosts))
        .route_layer(map_response(add_security_headers))
}

#[derive(Template)]
#[template(path = "http/dev_mail/list.html", config = "src/askama.toml")]
struct ListPage {
    mails: Vec<Arc<StoredMail>>,
}

#[derive(Template)]
#[template(path = "http/dev_mail/message.html", config = "src/askama.toml")]
struct MessagePage {
    mail: Arc<StoredMail>,
}

/// `GET /dev/mail`: all mails, newest first.
async fn list(State(mailbox): State<Mailbox>) -> Response {
    page(&ListPage {
        mails: mailbox.list(),
    })
}

/// `DELETE /dev/mail`: forgets all mails.
async fn clear(State(mailbox): State<Mailbox>) -> StatusCode {
    mailbox.clear();
    StatusCode::NO_CONTENT
}

/// `GET /dev/mail.json`: all mails, newest first, for tools and tests.
async fn list_json(State(mailbox): State<Mailbox>) -> Response {
    let mails = mailbox.list();
    Json(
        mails
            .iter()
            .map(AsRef::as_ref)
            .collect::<Vec<&StoredMail>>(),
    )
    .into_response()
}

/// `GET /dev/mail.css`: the style of the pages.
async fn style() -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/css; charset=utf-8")], PAGE_STYLE)
}

/// `GET /dev/mail/{id}`: one mail.
async fn show(State(mailbox): State<Mailbox>, Path(id): Path<String>) -> Response {
    match mailbox.get(&id) {
        Some(mail) => page(&MessagePage { mail }),
        None => no_such_mail(),
    }
}

/// `GET /dev/mail/{id}/html`: the HTML part of a mail, for the frame in its page.
async fn show_html(State(mailbox): State<Mailbox>, Path(id): Path<String>) -> Response {
    match mailbox.get(&id) {
        Some(mail) => {
            let policy = [(CONTENT_SECURITY_POLICY, frame_policy())];
            (policy, Html(mail.html.clone())).into_response()
        }
        None => no_such_mail(),
    }
}

fn page(template: &impl Template) -> Response {
    let html = template
        .render()
        .expect("the templates only write strings, which cannot fail");
    Html(html).into_response()
}

/// The policy for HTML parts: nothing runs or loads, the mails' own style applies, links open in a new tab.
fn frame_policy() -> String {
    let style = BASE64_STANDARD.encode(Sha256::digest(mail::STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'; sandbox allow-popups allow-popups-to-escape-sandbox"
    )
}

fn no_such_mail() -> Response {
    (StatusCode::NOT_FOUND, "There is no such mail.\n").into_response()
}

/// Lets only programs on this host in.
///
/// The peer's address alone does not prove that: a web page can point its own name at 127.0.0.1 (DNS rebinding), and a
/// proxy on this host can bring anybody. The first shows in `Host`, the second in the headers that proxies add.
async fn refuse_other_hosts(request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let local_peer = peer.is_some_and(|peer| peer.0.ip().to_canonical().is_loopback());
    let headers = request.headers();
    let proxied = headers.contains_key(FORWARDED) || headers.contains_key("x-forwarded-for");
    if local_peer && !proxied && names_this_host(request.uri(), headers) {
        next.run(request).await
    } else {
        let reason = "The mailbox is open to programs on this host only.\n";
        (StatusCode::FORBIDDEN, reason).into_response()
    }
}

/// Whether the request names this host, wherever HTTP/1 and HTTP/2 let it name one.
fn names_this_host(uri: &Uri, headers: &HeaderMap) -> bool {
    let in_headers = headers.get_all(HOST).iter().map(|host| {
        let host = host.to_str().ok()?;
        host.parse::<Authority>().ok()
    });
    let mut named = in_headers
        .chain(uri.authority().cloned().map(Some))
        .peekable();
    let is_local = |authority: Option<Authority>| {
        authority.is_some_and(|authority| {
            let host = authority.host();
            host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "[::1]")
        })
    };
    named.peek().is_some() && named.all(is_local)
}

/// Adds the headers that all answers here have (S-44). A stricter policy of the handler stays.
async fn add_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers
        .entry(CONTENT_SECURITY_POLICY)
        .or_insert(PAGE_POLICY);
    let fixed = [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("permissions-policy"),
            "camera=(), geolocation=(), microphone=()",
        ),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests;
