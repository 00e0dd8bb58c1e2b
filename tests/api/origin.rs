//! Which pages may send requests, where requests may lead, and that neither is decided by who asks.

#![cfg(test)]

use serde_json::{Value, json};

use crate::client::{PASSWORD, UNVERIFIED, answer, link_token};
use crate::harness::TestApp;

const TRUSTED: (&str, &str) = (
    "TRUSTED_ORIGINS",
    "https://app.mana.how, https://*.trusted.example, *.any.example, 10.0.*.*, mana-app://open",
);

/// Each of these led somewhere else on some system, in some browser.
const NOWHERE: [&str; 88] = [
    "//evil.example",
    "///evil.example",
    "////evil.example",
    "//evil.example/..",
    "/\\evil.example",
    "\\/evil.example",
    "\\\\evil.example",
    "\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "/\r/evil.example",
    "\t//evil.example",
    "\u{0}//evil.example",
    "/a\u{0}b",
    "/a\u{7f}b",
    "/a\u{85}b",
    " //evil.example",
    "//evil.example ",
    " /x",
    "/x ",
    "/x\r\nset-cookie: a=b",
    "/%2fevil.example",
    "/%2Fevil.example",
    "/%5cevil.example",
    "/%5Cevil.example",
    "/a/%2f%2fevil.example",
    "evil.example",
    "www.evil.example/x",
    "relative/path",
    "./x",
    "../x",
    "?x",
    "#x",
    ".",
    "*",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "java\tscript:alert(1)",
    "javascript://app.mana.how/%0aalert(1)",
    "javascript:https://app.mana.how",
    "data:text/html,<script>alert(1)</script>",
    "data://app.mana.how/x",
    "vbscript:x",
    "file:///etc/passwd",
    "file://app.mana.how/etc/passwd",
    "blob:https://app.mana.how/x",
    "about:blank",
    "mailto:ada@example.com",
    "ftp://app.mana.how",
    "ws://app.mana.how",
    "view-source:https://app.mana.how",
    "https://evil.example",
    "HTTPS://EVIL.EXAMPLE",
    "https:evil.example",
    "https:/evil.example",
    "https:///evil.example",
    "https:\\\\evil.example",
    "http:\\\\app.mana.how\\@evil.example",
    "http://app.mana.how",
    "https://app.mana.how:444",
    "https://app.mana.how.evil.example",
    "https://app.mana.how%2eevil.example",
    "https://app.mana.how%00.evil.example",
    "https://app.mana.how@evil.example",
    "https://app.mana.how:443@evil.example",
    "https://app.mana.how%40evil.example",
    "https://app.mana.how\\@evil.example",
    "https://app.mana.how\\.evil.example",
    "https://evil.example\\.app.mana.how",
    "https://user@app.mana.how",
    "https://user:pass@app.mana.how",
    "https://evil.example/app.mana.how",
    "https://evil.example?https://app.mana.how",
    "https://evil.example#https://app.mana.how",
    "https://evil.example;https://app.mana.how",
    "https://xapp.mana.how",
    "https://app.mana.howx",
    "https://app-mana.how",
    "https://trusted.example",
    "https://eviltrusted.example",
    "https://a.trusted.example.evil.example",
    "https://evil.example/.trusted.example",
    "https://evil.example/x.any.example",
    "http://10.0.1.evil.example",
    "http://10.0.1.2.evil.example",
    "https://app。mana。how.evil.example",
    "mana-app://openx",
    "mana-app://evil.example",
];

const SOMEWHERE: [&str; 12] = [
    "/",
    "/welcome?a=b#c",
    "/a?next=https://evil.example//x",
    "/ä/ö?ü",
    "https://app.mana.how",
    "https://app.mana.how/x?y=z#q",
    "https://app.mana.how:443/",
    "https://a.b.trusted.example/x",
    "http://x.any.example",
    "http://10.0.7.8/x",
    "mana-app://open",
    "mana-app://open/x",
];

fn encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// S-41: the same checker on every door, by body and by query, by POST and by GET.
#[tokio::test]
async fn no_request_leads_to_a_place_that_is_not_trusted_s41() {
    let app = TestApp::start(&[TRUSTED]).await;
    app.sign_up("ada").await;
    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    let token = link_token(&link);
    app.effects_done().await;
    let before = app.state().await;
    let credentials = json!({"name": "Eve", "email": "eve@example.com", "password": PASSWORD});
    for target in NOWHERE {
        for (door, field, code) in [
            ("sign-up/email", "callbackURL", "INVALID_CALLBACK_URL"),
            ("sign-in/email", "callbackURL", "INVALID_CALLBACK_URL"),
            ("sign-out", "callbackURL", "INVALID_CALLBACK_URL"),
            (
                "send-verification-email",
                "callbackURL",
                "INVALID_CALLBACK_URL",
            ),
            ("sign-up/email", "redirectTo", "INVALID_REDIRECT_URL"),
            (
                "sign-in/email",
                "errorCallbackURL",
                "INVALID_ERROR_CALLBACK_URL",
            ),
            (
                "sign-out",
                "newUserCallbackURL",
                "INVALID_NEW_USER_CALLBACK_URL",
            ),
        ] {
            let mut body = credentials.clone();
            body[field] = json!(target);
            let refused = app.post(&format!("/api/auth/{door}"), &body).await;
            assert_eq!(
                refused.refusal(),
                (403, code.to_owned()),
                "{door} {field} {target:?}"
            );
        }
        let form = format!(
            "email=eve%40example.com&name=x&password={PASSWORD}&callbackURL={}",
            encoded(target)
        );
        let request = app.request("POST", "/api/auth/sign-up/email").body(form);
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        assert_eq!(answer(request).await.status, 403, "{target:?}");
        // By GET, with a token that is good and one that is not.
        for token in [token, "x"] {
            let path = format!(
                "/api/auth/verify-email?token={token}&callbackURL={}",
                encoded(target)
            );
            let refused = app.get(&path).await;
            assert_eq!(
                refused.refusal(),
                (403, "INVALID_CALLBACK_URL".to_owned()),
                "{target:?}"
            );
            assert_eq!(refused.header("location"), "", "{target:?}");
        }
    }
    assert_eq!(app.state().await, before);
    for target in SOMEWHERE {
        let body = json!({"email": "nobody@example.com", "callbackURL": target});
        assert_eq!(
            app.post("/api/auth/send-verification-email", &body)
                .await
                .status,
            200,
            "{target:?}"
        );
        let path = format!(
            "/api/auth/verify-email?token=x&callbackURL={}",
            encoded(target)
        );
        let led = app.get(&path).await;
        let before_fragment = target.split(['#', '?']).next().unwrap();
        let ascii = before_fragment.is_ascii();
        assert!(
            led.status == 302 && (!ascii || led.header("location").starts_with(before_fragment)),
            "{target:?}: {led:?}"
        );
        assert!(led.header("location").contains("error=INVALID_TOKEN"));
    }
    assert_eq!(
        app.follow(&link).await.status,
        302,
        "the link is still good"
    );
}

/// S-41: the page of errors leads to our own front page, whatever it is told.
#[tokio::test]
async fn the_error_page_leads_home_s41() {
    let app = TestApp::start(&[]).await;
    for (query, wanted) in [
        ("", "/?error=UNKNOWN"),
        ("?error=state_not_found", "/?error=state_not_found"),
        ("?error=//evil.example", "/?error=UNKNOWN"),
        ("?error=%0d%0aset-cookie:a", "/?error=UNKNOWN"),
        ("?error=<script>", "/?error=UNKNOWN"),
        (
            "?error=a&error_description=%0d%0aX:%20y%26b",
            "/?error=a&error_description=%0D%0AX%3A+y%26b",
        ),
    ] {
        let led = app.get(&format!("/api/auth/error{query}")).await;
        assert_eq!(
            (led.status, led.header("location")),
            (302, wanted),
            "{query}"
        );
    }
}

/// S-40: with a cookie, what changes something needs a page that is trusted, and JSON.
#[tokio::test]
async fn a_page_that_is_not_trusted_changes_nothing_s40() {
    let app = TestApp::start(&[UNVERIFIED, TRUSTED]).await;
    let session = app.signed_in("ada").await;
    app.effects_done().await;
    let credentials = json!({"name": "Eve", "email": "eve@example.com", "password": PASSWORD});
    let missing = "MISSING_OR_NULL_ORIGIN";
    let foreign = "INVALID_ORIGIN";
    let refused: [(&[(&str, &str)], &str); 22] = [
        (&[], missing),
        (&[("origin", "null")], missing),
        (&[("origin", "")], missing),
        (
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            missing,
        ),
        (
            &[("origin", "null"), ("sec-fetch-site", "same-site")],
            missing,
        ),
        (
            &[("origin", "null"), ("referer", "https://app.mana.how/x")],
            missing,
        ),
        (&[("sec-fetch-site", "same-origin")], missing),
        (&[("origin", "https://evil.example")], foreign),
        (
            &[
                ("origin", "https://evil.example"),
                ("referer", "https://app.mana.how/"),
            ],
            foreign,
        ),
        (
            &[
                ("origin", "https://evil.example"),
                ("sec-fetch-site", "same-origin"),
            ],
            foreign,
        ),
        (
            &[("referer", "https://evil.example/https://app.mana.how")],
            foreign,
        ),
        (&[("origin", "https://app.mana.how.evil.example")], foreign),
        (&[("origin", "https://evil-app.mana.how")], foreign),
        (&[("origin", "https://mana.how")], foreign),
        (&[("origin", "http://app.mana.how")], foreign),
        (&[("origin", "https://app.mana.how:8443")], foreign),
        (&[("origin", "https://trusted.example")], foreign),
        (
            &[("origin", "https://a.trusted.example.evil.example")],
            foreign,
        ),
        (&[("origin", "https://app.mana.how@evil.example")], foreign),
        (&[("origin", "app.mana.how")], foreign),
        (&[("origin", "*")], foreign),
        (
            &[("origin", "https://app.mana.how, https://evil.example")],
            foreign,
        ),
    ];
    let before = app.state().await;
    for (headers, code) in refused {
        for door in [
            "sign-out",
            "sign-up/email",
            "sign-in/email",
            "send-verification-email",
            "get-session",
        ] {
            let request = app
                .request("POST", &format!("/api/auth/{door}"))
                .json(&credentials);
            let mut request = request.header("cookie", &session.cookie);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            assert_eq!(
                answer(request).await.refusal(),
                (403, code.to_owned()),
                "{door} {headers:?}"
            );
        }
    }
    // A form of another page can send these without asking first; the bytes make no difference.
    for content_type in [
        "text/plain",
        "text/plain;charset=UTF-8",
        "multipart/form-data; boundary=x",
        "application/x-www-form-urlencoded",
    ] {
        for door in ["sign-out", "send-verification-email"] {
            let request = app
                .request("POST", &format!("/api/auth/{door}"))
                .body(credentials.to_string());
            let request = request
                .header("content-type", content_type)
                .header("cookie", &session.cookie);
            let refused = answer(request.header("origin", "https://app.mana.how")).await;
            assert_eq!(refused.status, 415, "{door} {content_type}");
        }
    }
    assert_eq!(app.state().await, before);
    assert!(app.is_live(&session.cookie).await);
    for headers in [
        &[("origin", "https://app.mana.how")][..],
        &[("origin", "https://a.trusted.example")],
        &[("referer", "https://app.mana.how/some/page?x")],
        &[("origin", "null"), ("sec-fetch-site", "same-origin")],
    ] {
        let session = app.sign_in("ada").await;
        let mut request = app
            .request("POST", "/api/auth/sign-out")
            .header("cookie", &session.cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(answer(request).await.status, 200, "{headers:?}");
        assert!(!app.is_live(&session.cookie).await, "{headers:?}");
    }
}

/// S-40 for a sign-in without a cookie: a browser says where it comes from, a program says nothing.
#[tokio::test]
async fn nobody_is_signed_in_by_another_page_s40() {
    let app = TestApp::start(&[UNVERIFIED, TRUSTED]).await;
    app.sign_up("ada").await;
    let cross = "CROSS_SITE_NAVIGATION_LOGIN_BLOCKED";
    for (headers, code) in [
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
            ][..],
            cross,
        ),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate"),
                ("origin", "https://app.mana.how"),
            ],
            cross,
        ),
        (&[("sec-fetch-mode", "cors")], "MISSING_OR_NULL_ORIGIN"),
        (
            &[
                ("sec-fetch-site", "cross-site"),
                ("origin", "https://evil.example"),
            ],
            "INVALID_ORIGIN",
        ),
        (&[("origin", "https://evil.example")], "INVALID_ORIGIN"),
        (&[("referer", "https://evil.example/")], "INVALID_ORIGIN"),
        (&[("origin", "null")], "MISSING_OR_NULL_ORIGIN"),
    ] {
        for form in [false, true] {
            let mut request = app.request("POST", "/api/auth/sign-in/email");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let body = json!({"email": "ada@example.com", "password": PASSWORD});
            let request = if form {
                let body = format!("email=ada%40example.com&password={PASSWORD}");
                request
                    .header("content-type", "application/x-www-form-urlencoded")
                    .body(body)
            } else {
                request.json(&body)
            };
            let refused = answer(request).await;
            assert_eq!(refused.refusal(), (403, code.to_owned()), "{headers:?}");
            assert!(refused.cookies().is_empty());
        }
    }
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 200);
}

/// S-42: mailed links and redirects start with what was configured, never with what a request says.
#[tokio::test]
async fn poisoned_host_headers_change_no_link_s42() {
    let app = TestApp::start(&[
        ("BASE_URL", "https://auth.mana.how"),
        TRUSTED,
        ("CORS_ORIGINS", "https://app.mana.how"),
    ])
    .await;
    let poison = [
        ("host", "evil.example"),
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", "666"),
        ("x-forwarded-prefix", "/evil"),
        ("x-original-url", "/evil"),
        ("x-rewrite-url", "/evil"),
        ("x-host", "evil.example"),
        ("forwarded", "host=evil.example;proto=http"),
        ("x-forwarded-server", "evil.example"),
    ];
    let poisoned = async |method: &str, path: &str, body: Option<Value>| {
        let mut request = app.request(method, path);
        for (name, value) in poison {
            request = request.header(name, value);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    };
    for (door, email) in [
        ("/api/auth/sign-up/email", "ada@example.com"),
        ("/api/v1/auth/register", "bob@example.com"),
    ] {
        let body = json!({"name": "x", "email": email, "password": PASSWORD});
        assert_eq!(
            poisoned("POST", door, Some(body)).await.status,
            200,
            "{door}"
        );
        poisoned(
            "POST",
            "/api/auth/send-verification-email",
            Some(json!({"email": email})),
        )
        .await;
        for number in 0..2 {
            let mail = app.wait_for_mail(email, number).await;
            assert!(
                mail.url
                    .unwrap()
                    .starts_with("https://auth.mana.how/api/auth/verify-email?token=")
            );
            assert!(!mail.text.contains("evil") && !mail.html.contains("evil"));
        }
        let link = app.wait_for_mail(email, 0).await.url.unwrap();
        let path = link.strip_prefix("https://auth.mana.how").unwrap();
        let followed = poisoned("GET", path, None).await;
        assert_eq!(followed.status, 302);
        assert!(!format!("{followed:?}").contains("evil"), "{followed:?}");
        assert!(
            followed.cookies()[0].starts_with("__Secure-mana.session_token="),
            "the scheme is configured as well"
        );
        let jwt = answer(
            app.request("GET", "/api/auth/token")
                .header("cookie", followed.session_cookie())
                .header("x-forwarded-host", "evil.example"),
        )
        .await;
        assert_eq!(
            crate::client::claims(jwt.json()["token"].as_str().unwrap())["iss"],
            "https://auth.mana.how"
        );
    }
    // Calling itself trusted does not make it so.
    let request = app
        .request("POST", "/api/auth/sign-out")
        .header("cookie", "a=b")
        .header("host", "evil.example");
    assert_eq!(
        answer(request.header("origin", "https://evil.example"))
            .await
            .status,
        403
    );
}
