//! Sessions that are used last longer, on every route that asks for one (contract section 3, "Refresh").

#![cfg(test)]

use chrono::{SecondsFormat, TimeDelta};
use serde_json::{Value, json};

use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer};
use crate::harness::TestApp;

/// A used session is extended when its last extension is older than a day.
const DUE: TimeDelta = TimeDelta::hours(25);

/// Requests that a session of more than a day may make, and goes on after.
fn requests() -> [(&'static str, &'static str, Value); 8] {
    let change = json!({"currentPassword": PASSWORD, "newPassword": "another good password"});
    [
        ("GET", "/api/auth/token", Value::Null),
        ("POST", "/api/auth/revoke-session", json!({"token": "x"})),
        ("POST", "/api/auth/revoke-other-sessions", json!({})),
        ("POST", "/api/auth/update-user", json!({"name": "Ada"})),
        (
            "POST",
            "/api/auth/change-email",
            json!({"newEmail": "new@example.com"}),
        ),
        (
            "POST",
            "/api/auth/verify-password",
            json!({"password": PASSWORD}),
        ),
        (
            "POST",
            "/api/auth/delete-user",
            json!({"password": PASSWORD}),
        ),
        ("POST", "/api/auth/change-password", change),
    ]
}

async fn send(app: &TestApp, method: &str, path: &str, cookie: &str, body: &Value) -> Answer {
    let request = app.request(method, path).header("cookie", cookie);
    let request = request.header("origin", ORIGIN);
    let done = answer(match body {
        Value::Null => request,
        body => request.json(body),
    })
    .await;
    assert_eq!(done.status, 200, "{path}: {}", done.text);
    done
}

/// When the session will be over, asked without making it last longer.
async fn expires_at(app: &TestApp, cookie: &str) -> String {
    let path = "/api/auth/get-session?disableRefresh=true";
    let shown = app.get_as(path, cookie).await.json();
    shown["session"]["expiresAt"].as_str().unwrap().to_owned()
}

fn in_7_days(app: &TestApp) -> String {
    let then = app.clock.now() + TimeDelta::days(7);
    then.to_rfc3339_opts(SecondsFormat::Millis, true)
}

async fn start() -> (TestApp, Session) {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_DELETE_USER_CONFIRM", "true")]).await;
    let session = app.signed_in("ada").await;
    (app, session)
}

#[tokio::test]
async fn every_use_of_a_session_makes_it_last_longer_when_it_is_time() {
    let (app, session) = start().await;
    for (method, path, body) in requests() {
        app.clock.advance(DUE);
        let done = send(&app, method, path, &session.cookie, &body).await;
        let lasting = format!("{}; Max-Age=604800;", session.cookie);
        let cookies = done.cookies();
        assert_eq!(cookies.len(), 1, "{path}: {cookies:?}");
        assert!(cookies[0].starts_with(&lasting), "{path}: {}", cookies[0]);
        let token = done.header("set-auth-token");
        assert!(token.starts_with(&session.token), "{path}: {token}");
        assert_eq!(
            expires_at(&app, &session.cookie).await,
            in_7_days(&app),
            "{path}"
        );
    }
    let again = send(
        &app,
        "GET",
        "/api/auth/token",
        &session.cookie,
        &json!(null),
    )
    .await;
    assert!(again.cookies().is_empty(), "it was extended just now");
}

#[tokio::test]
async fn a_session_stays_as_it_is_when_its_client_or_its_sign_in_says_so() {
    let (app, session) = start().await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
    let brief = app.post("/api/auth/sign-in/email", &body).await;
    let pairs: Vec<&str> = brief
        .cookies()
        .into_iter()
        .map(|line| line.split(';').next().unwrap())
        .collect();
    // A remembered session in a browser that was told to forget: the cookie decides.
    let forgetful = format!("{}; {}", session.cookie, pairs[1]);
    let (until, brief_until) = (
        expires_at(&app, &session.cookie).await,
        expires_at(&app, &brief.session_cookie()).await,
    );
    app.clock.advance(TimeDelta::hours(23));
    for (method, path, body) in requests().into_iter().take(2) {
        let done = send(&app, method, path, &pairs.join("; "), &body).await;
        assert!(done.cookies().is_empty(), "{path}: {:?}", done.cookies());
        let now_until = expires_at(&app, &brief.session_cookie()).await;
        assert_eq!(now_until, brief_until, "{path}");
    }
    app.clock.advance(TimeDelta::hours(2));
    for (method, path, body) in [&requests()[0], &requests()[5]] {
        let done = send(&app, method, path, &forgetful, body).await;
        assert!(done.cookies().is_empty(), "{path}: {:?}", done.cookies());
        let off = format!("{path}?disableRefresh=true");
        let done = send(&app, method, &off, &session.cookie, body).await;
        assert!(done.cookies().is_empty(), "{off}: {:?}", done.cookies());
        assert_eq!(expires_at(&app, &session.cookie).await, until, "{path}");
    }
}

#[tokio::test]
async fn a_session_that_ends_or_is_refused_is_not_extended() {
    let (app, session) = start().await;
    let until = expires_at(&app, &session.cookie).await;
    app.clock.advance(DUE);
    let body = json!({"password": "not the password"});
    let refused = app
        .post_as("/api/auth/verify-password", &session.cookie, &body)
        .await;
    assert_eq!(refused.refusal(), (400, "INVALID_PASSWORD".to_owned()));
    assert!(refused.cookies().is_empty());
    assert_eq!(expires_at(&app, &session.cookie).await, until);
    let body = json!({"token": session.token});
    let path = "/api/auth/revoke-session";
    let ended = send(&app, "POST", path, &session.cookie, &body).await;
    assert_eq!(ended.session_cookie(), "");
    assert_eq!(ended.cookies().len(), 3, "all are cleared");
    let extended = app
        .count("events where event_type = 'session.extended'")
        .await;
    assert_eq!(extended, 0);
    assert!(!app.is_live(&session.cookie).await);
}
