//! What every answer carries: headers that keep browsers careful, an id, and who may read it.

#![cfg(test)]

use crate::bad_input::routes;
use crate::client::{Answer, UNVERIFIED, answer};
use crate::harness::TestApp;

fn is_careful(answer: &Answer, what: &str) {
    let policy = answer.header("content-security-policy");
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors"),
        "{what}: {policy:?}"
    );
    assert!(!policy.contains("unsafe-"), "{what}: {policy:?}");
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        assert_eq!(answer.header(name), value, "{what}: {name}");
    }
    assert!(!answer.header("permissions-policy").is_empty(), "{what}");
    assert!(!answer.header("x-request-id").is_empty(), "{what}");
    for name in ["server", "x-powered-by"] {
        assert_eq!(answer.header(name), "", "{what}: {name}");
    }
}

/// S-44: on every route, for what is good, bad, refused and not there.
#[tokio::test]
async fn every_answer_keeps_browsers_careful_s44() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    for (_, path, _) in routes() {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
            for (cookie, content_type, body) in [
                ("", "application/json", "{}"),
                (session.cookie.as_str(), "application/json", "{}"),
                ("", "text/plain", "{}"),
                ("", "application/json", "{"),
            ] {
                let request = app
                    .request(method, path)
                    .header("content-type", content_type)
                    .header("cookie", cookie);
                let answer = answer(request.body(body)).await;
                let what = format!("{method} {path}: {}", answer.status);
                is_careful(&answer, &what);
                assert_eq!(
                    answer.header("strict-transport-security"),
                    "",
                    "{what}: not over http"
                );
                let kept = answer.header("cache-control");
                // Keys and what was signed are for everybody.
                let is_public =
                    path.ends_with("/jwks") || ["/log/checkpoint", "/log/key"].contains(path);
                assert!(
                    is_public && answer.status == 200 || kept.contains("no-store"),
                    "{what}: {kept:?}"
                );
            }
        }
        let huge = app
            .request("POST", path)
            .header("content-type", "application/json")
            .body(vec![b' '; 3 * 1024 * 1024]);
        is_careful(&answer(huge).await, &format!("{path}, huge"));
    }
    for path in [
        "/",
        "/nowhere",
        "/api/auth",
        "/api/auth/",
        "/api/auth/nowhere",
        "/api/v1/auth/nowhere",
        "/api/auth//ok",
        "/dev/mail/nowhere",
        "/dev/mail",
        "/dev/mail.json",
    ] {
        is_careful(&app.get(path).await, path);
    }
    let preflight = app
        .request("OPTIONS", "/api/auth/sign-in/email")
        .header("origin", "https://evil.example");
    is_careful(
        &answer(preflight.header("access-control-request-method", "POST")).await,
        "a preflight",
    );

    let secure = TestApp::start(&[("BASE_URL", "https://auth.mana.how")]).await;
    for path in ["/api/auth/ok", "/nowhere"] {
        assert!(
            secure
                .get(path)
                .await
                .header("strict-transport-security")
                .starts_with("max-age="),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_request_id_is_echoed_if_it_is_harmless_and_made_if_not() {
    let app = TestApp::start(&[]).await;
    let asked = async |id: &[u8]| {
        let request = app
            .request("GET", "/api/auth/get-session")
            .header("x-request-id", id);
        answer(request).await.header("x-request-id").to_owned()
    };
    for harmless in [
        "a",
        "req-1_2.3",
        "0190f3c2-8a00-7000-8000-000000000000",
        &"x".repeat(64),
    ] {
        assert_eq!(asked(harmless.as_bytes()).await, harmless);
    }
    let long = "x".repeat(65);
    let mut made = vec![app.get("/nowhere").await.header("x-request-id").to_owned()];
    for bad in [
        b"".as_slice(),
        b"a b",
        b"a;b",
        b"<script>",
        b"\xff",
        "ä".as_bytes(),
        long.as_bytes(),
    ] {
        made.push(asked(bad).await);
    }
    let number = made.len();
    assert!(
        made.iter()
            .all(|id| id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())),
        "{made:?}"
    );
    made.sort();
    made.dedup();
    assert_eq!(made.len(), number, "each has its own");
}

/// Contract 1.2: configured origins may read answers, others are served and cannot.
#[tokio::test]
async fn only_configured_origins_may_read_answers() {
    let app =
        TestApp::start(&[("CORS_ORIGINS", "https://app.mana.how , https://b.mana.how")]).await;
    for (origin, allowed) in [
        ("https://app.mana.how", true),
        ("https://b.mana.how", true),
        ("https://evil.example", false),
        ("https://app.mana.how.evil.example", false),
        ("http://app.mana.how", false),
        ("null", false),
        // Trusted to call is not trusted to read.
        ("http://localhost:3001", false),
    ] {
        for path in [
            "/api/auth/get-session",
            "/api/auth/jwks",
            "/api/v1/auth/session",
            "/nowhere",
        ] {
            let answer = answer(app.request("GET", path).header("origin", origin)).await;
            let (who, credentials) = if allowed { (origin, "true") } else { ("", "") };
            assert_eq!(answer.header("access-control-allow-origin"), who, "{path}");
            assert_eq!(
                answer.header("access-control-allow-credentials"),
                credentials,
                "{path}"
            );
            assert!(
                answer
                    .headers
                    .get_all("vary")
                    .iter()
                    .any(|vary| vary == "Origin")
            );
        }
        let request = app
            .request("OPTIONS", "/api/v1/auth/login")
            .header("origin", origin);
        let preflight = answer(request.header("access-control-request-method", "POST")).await;
        assert_eq!(
            (
                preflight.status,
                preflight.header("access-control-allow-origin") == origin
            ),
            (204, allowed)
        );
    }
}
