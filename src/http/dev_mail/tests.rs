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
            url: url.map(str::to_owned),
            ..Mail::to(kind, to, "<script>alert(1)</script>\"'", None)
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

/// S-43: with hostile values in all that people choose.
#[tokio::test]
async fn mails_of_every_kind_are_shown() {
    let mailbox = Mailbox::new(|| DateTime::UNIX_EPOCH);
    let mailer = Mailer::Mailbox(mailbox.clone());
    for kind in MailKind::ALL {
        let mail = Mail::sample(kind, Locale::De, "<script>alert(1)</script>\"'");
        let sent = mailer.send(kind.as_str(), "noreply@mana.test", &mail);
        sent.await.unwrap();
    }
    let get = async |path: String| {
        let got = routes(mailbox.clone()).oneshot(request(Method::GET, &path));
        let page = body(got.await.unwrap()).await;
        assert!(!page.contains("<script"), "{path}: {page}");
        page
    };
    let list = get("/dev/mail".to_owned()).await;
    for mail in mailbox.list() {
        let path = format!("/dev/mail/{}", mail.id);
        assert!(list.contains(&format!("<a href=\"{path}\">{}</a>", mail.subject)));
        let page = get(path.clone()).await;
        assert!(page.contains(&format!("<h1>{}</h1>", mail.subject)));
        assert!(page.contains("Hallo &#60;script&#62;"), "{page}");
        assert_eq!(page.contains("<h2>Link</h2>"), mail.url.is_some());
        assert_eq!(get(format!("{path}/html")).await, mail.html);
    }
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
    let mails: serde_json::Value = serde_json::from_str(&get_body("/dev/mail.json").await).unwrap();
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
