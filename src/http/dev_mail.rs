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
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Method;
    use chrono::DateTime;
    use tower::ServiceExt;

    use super::*;
    use crate::mail::{Locale, Mail, MailKind, Mailer};

    const LINK: &str = "https://mana.test/api/auth/verify-email?token=a.b.c&callbackURL=x";

    async fn mailbox() -> Mailbox {
        let mailbox = Mailbox::new(|| DateTime::UNIX_EPOCH);
        let mailer = Mailer::Mailbox(mailbox.clone());
        for (id, kind, to, url) in [
            ("1", MailKind::VerifyEmail, "ada@example.org", Some(LINK)),
            ("2", MailKind::AccountExists, "b'`&{}@example.org", None),
        ] {
            let mail = Mail {
                kind,
                to: to.to_owned(),
                name: "<script>alert(1)</script>\"'".to_owned(),
                locale: Locale::De,
                url: url.map(str::to_owned),
            };
            mailer.send(id, "noreply@mana.test", &mail).await.unwrap();
        }
        mailbox
    }

    fn request(method: Method, path: &str) -> Request {
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost:3001")
            .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 50_000))))
            .body(Body::empty())
            .unwrap()
    }

    async fn answer(request: Request) -> Response {
        routes(mailbox().await).oneshot(request).await.unwrap()
    }

    async fn body(response: Response) -> String {
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    async fn get_body(path: &str) -> String {
        let response = answer(request(Method::GET, path)).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        body(response).await
    }

    #[tokio::test]
    async fn list_shows_the_newest_mail_first() {
        let page = get_body("/dev/mail").await;
        let newest = page.find("/dev/mail/2").unwrap();
        let oldest = page.find("/dev/mail/1").unwrap();
        assert!(newest < oldest);
        assert!(page.contains("ada@example.org"));
        assert!(page.contains("E-Mail bestätigen — Mana"));
    }

    #[tokio::test]
    async fn message_page_links_to_where_the_mail_links() {
        let page = get_body("/dev/mail/1").await;
        let escaped = LINK.replace('&', "&#38;");
        assert!(page.contains(&format!("href=\"{escaped}\"")), "{page}");
        assert!(page.contains("sandbox="));
        assert!(page.contains("src=\"/dev/mail/1/html\""));
        let without_link = get_body("/dev/mail/2").await;
        assert!(!without_link.contains("http"), "{without_link}");
    }

    /// S-43.
    #[tokio::test]
    async fn values_in_pages_are_escaped() {
        for path in [
            "/dev/mail",
            "/dev/mail/1",
            "/dev/mail/2",
            "/dev/mail/1/html",
        ] {
            let page = get_body(path).await;
            assert!(!page.contains("<script") && !page.contains("\"'"), "{path}");
        }
        assert!(get_body("/dev/mail/1").await.contains("&#60;script&#62;"));
        assert!(
            get_body("/dev/mail")
                .await
                .contains("b&#39;`&#38;{}@example.org")
        );
    }

    #[tokio::test]
    async fn json_has_what_tools_need() {
        let mails: serde_json::Value =
            serde_json::from_str(&get_body("/dev/mail.json").await).unwrap();
        assert_eq!(mails.as_array().unwrap().len(), 2);
        let mail = &mails[1];
        assert_eq!(mail["id"], "1");
        assert_eq!(mail["to"], "ada@example.org");
        assert_eq!(mail["subject"], "E-Mail bestätigen — Mana");
        assert!(mail["text"].as_str().unwrap().contains(LINK));
        assert_eq!(mail["url"], LINK);
        assert_eq!(mail["kind"], "verify_email");
        assert_eq!(mail["sentAt"], "1970-01-01T00:00:00Z");
        assert!(mails[0]["url"].is_null());
    }

    #[tokio::test]
    async fn delete_empties_the_mailbox() {
        let mailbox = mailbox().await;
        let delete = request(Method::DELETE, "/dev/mail");
        let response = routes(mailbox.clone()).oneshot(delete).await.unwrap();
        assert_eq!(response.status(), StatusCode::NO_CONTENT);
        assert!(mailbox.list().is_empty());
        let empty = routes(mailbox).oneshot(request(Method::GET, "/dev/mail"));
        assert_eq!(empty.await.unwrap().status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn unknown_mail_is_not_found() {
        for path in ["/dev/mail/9", "/dev/mail/9/html"] {
            let response = answer(request(Method::GET, path)).await;
            assert_eq!(response.status(), StatusCode::NOT_FOUND);
        }
    }

    const PATHS: [&str; 5] = [
        "/dev/mail",
        "/dev/mail.json",
        "/dev/mail.css",
        "/dev/mail/1",
        "/dev/mail/1/html",
    ];

    #[tokio::test]
    async fn peers_from_elsewhere_are_refused() {
        for path in PATHS {
            for peer in [
                "192.0.2.7:1",
                "[2001:db8::1]:1",
                "[::ffff:192.0.2.7]:1",
                "0.0.0.0:1",
            ] {
                let mut request = request(Method::GET, path);
                let peer: SocketAddr = peer.parse().unwrap();
                request.extensions_mut().insert(ConnectInfo(peer));
                assert_eq!(answer(request).await.status(), StatusCode::FORBIDDEN);
            }
            let mut unknown = request(Method::GET, path);
            unknown.extensions_mut().clear();
            assert_eq!(answer(unknown).await.status(), StatusCode::FORBIDDEN);
        }
        let mut delete = request(Method::DELETE, "/dev/mail");
        delete.extensions_mut().clear();
        assert_eq!(answer(delete).await.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn loopback_peers_are_let_in_over_both_families() {
        for peer in [
            "127.0.0.1:1",
            "127.8.8.8:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
        ] {
            let mut request = request(Method::GET, "/dev/mail");
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
            assert_eq!(answer(request).await.status(), StatusCode::OK, "{peer}");
        }
    }

    /// DNS rebinding: the peer is loopback, the page that asks is not ours.
    #[tokio::test]
    async fn only_names_of_this_host_are_answered() {
        let host = async |host: &'static str| {
            let mut request = request(Method::GET, "/dev/mail.json");
            request
                .headers_mut()
                .insert(HOST, HeaderValue::from_static(host));
            answer(request).await.status()
        };
        for local in [
            "localhost",
            "LOCALHOST:3001",
            "127.0.0.1:3001",
            "[::1]:3001",
            "[::1]",
        ] {
            assert_eq!(host(local).await, StatusCode::OK, "{local}");
        }
        for other in [
            "evil.example",
            "evil.example:3001",
            "localhost.evil.example",
            "localhost@evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.2",
            "a b",
            "",
        ] {
            assert_eq!(host(other).await, StatusCode::FORBIDDEN, "{other}");
        }

        let mut two = request(Method::GET, "/dev/mail.json");
        two.headers_mut()
            .append(HOST, HeaderValue::from_static("evil.example"));
        assert_eq!(answer(two).await.status(), StatusCode::FORBIDDEN);
        let mut none = request(Method::GET, "/dev/mail.json");
        none.headers_mut().clear();
        assert_eq!(answer(none).await.status(), StatusCode::FORBIDDEN);
        let target = request(Method::GET, "http://evil.example/dev/mail.json");
        assert_eq!(answer(target).await.status(), StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn requests_through_a_proxy_are_refused() {
        for header in ["forwarded", "x-forwarded-for"] {
            let mut request = request(Method::GET, "/dev/mail");
            request
                .headers_mut()
                .insert(header, HeaderValue::from_static("for=192.0.2.7"));
            assert_eq!(answer(request).await.status(), StatusCode::FORBIDDEN);
        }
    }

    /// S-44.
    #[tokio::test]
    async fn every_answer_has_the_security_headers() {
        for path in PATHS.into_iter().chain(["/dev/mail/9"]) {
            let response = answer(request(Method::GET, path)).await;
            let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
            let policy = header("content-security-policy");
            assert!(policy.starts_with("default-src 'none'"), "{path}: {policy}");
            assert!(policy.contains("frame-ancestors ") && !policy.contains("unsafe"));
            assert_eq!(
                policy.contains("sandbox"),
                path.ends_with("/html"),
                "{path}"
            );
            assert_eq!(header("x-content-type-options"), "nosniff");
            assert_eq!(header("referrer-policy"), "no-referrer");
            assert_eq!(header("cache-control"), "no-store");
            assert_eq!(header("cross-origin-resource-policy"), "same-origin");
            assert!(header("permissions-policy").contains("camera=()"));
        }
        let mut refused = request(Method::GET, "/dev/mail");
        refused.headers_mut().clear();
        let response = answer(refused).await;
        assert!(response.headers().contains_key(CONTENT_SECURITY_POLICY));
    }

    /// S-44: what the policy forbids is not on the pages.
    #[tokio::test]
    async fn pages_and_mails_need_no_inline_script_or_style_attribute() {
        for path in [
            "/dev/mail",
            "/dev/mail/1",
            "/dev/mail/1/html",
            "/dev/mail/2/html",
        ] {
            let page = get_body(path).await;
            for forbidden in ["style=", "<script", " onclick=", "<img", "<base"] {
                assert!(!page.contains(forbidden), "{path}: {forbidden}");
            }
            assert_eq!(page.contains("<style"), path.ends_with("/html"), "{path}");
        }
    }

    /// S-44.
    #[tokio::test]
    async fn frame_allows_the_style_of_the_mail_by_its_hash() {
        let response = answer(request(Method::GET, "/dev/mail/1/html")).await;
        let policy = response.headers()[CONTENT_SECURITY_POLICY].clone();
        let page = body(response).await;
        let (_, rest) = page.split_once("<style>").unwrap();
        let (style, _) = rest.split_once("</style>").unwrap();
        let hash = BASE64_STANDARD.encode(Sha256::digest(style));
        let allowed = format!("style-src 'sha256-{hash}';");
        assert!(policy.to_str().unwrap().contains(&allowed), "{policy:?}");
    }
}
