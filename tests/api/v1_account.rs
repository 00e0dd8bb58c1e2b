//! `/api/v1/auth/*` and `/api/v1/admin/*`: access tokens as bearers, refreshing them, and who one is.

#![cfg(test)]

use chrono::TimeDelta;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::account::{NEW, Shown, change, last_link};
use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, claims, link_token};
use crate::harness::TestApp;

/// An access token is good for 15 minutes (contract section 2).
const JWT_FOR: TimeDelta = TimeDelta::minutes(15);

/// Method, path, and what makes the body.
type Route = (&'static str, &'static str, fn() -> Value);

/// Every self-service route, and what asks it for something that does no harm.
const ROUTES: [Route; 7] = [
    ("POST", "/api/v1/auth/profile", || json!({"name": "Ada"})),
    ("GET", "/api/v1/auth/sessions", || Value::Null),
    ("GET", "/api/v1/auth/security-events", || Value::Null),
    (
        "POST",
        "/api/v1/auth/change-email",
        || json!({"newEmail": "other@example.com"}),
    ),
    (
        "POST",
        "/api/v1/auth/change-password",
        || json!({"currentPassword": PASSWORD, "newPassword": PASSWORD}),
    ),
    ("DELETE", "/api/v1/auth/sessions/none", || Value::Null),
    // The account is deleted by the link that this one mails.
    (
        "DELETE",
        "/api/v1/auth/account",
        || json!({"password": PASSWORD}),
    ),
];
const BY_LINK: [(&str, &str); 2] = [UNVERIFIED, ("MANA_AUTH_DELETE_USER_CONFIRM", "true")];

fn request(app: &TestApp, (method, path, body): Route) -> RequestBuilder {
    let request = app.request(method, path);
    match body() {
        Value::Null => request,
        body => request.json(&body),
    }
}

/// Whether a bearer is somebody on all self-service routes; fails if they do not agree.
async fn is_somebody(app: &TestApp, bearer: &str) -> bool {
    let profile = app
        .request("GET", "/api/v1/auth/profile")
        .bearer_auth(bearer);
    let known = !answer(profile).await.json().is_null();
    for route in ROUTES {
        let asked = answer(request(app, route).bearer_auth(bearer)).await;
        let wanted = match (known, route.1.ends_with("/none")) {
            (false, _) => (401, "UNAUTHORIZED".to_owned()),
            (true, false) => (200, String::new()),
            (true, true) => (404, "NOT_FOUND".to_owned()),
        };
        assert_eq!(asked.refusal(), wanted, "{}: {}", route.1, asked.text);
    }
    known
}

/// S-31: an access token is somebody as long as its session lives, on every node, and not a moment longer.
#[tokio::test]
async fn an_access_token_is_refused_as_soon_as_its_session_has_ended_s31() {
    let app = TestApp::start(&BY_LINK).await;
    let node = app.node(&BY_LINK).await;
    app.sign_up("ada").await;
    let ends: [(&str, &str, Shown); 7] = [
        ("POST", "/api/auth/sign-out", Shown::Cookie),
        ("POST", "/api/v1/auth/logout", Shown::Jwt),
        ("POST", "/api/auth/revoke-sessions", Shown::Token),
        ("POST", "/api/auth/revoke-session", Shown::Cookie),
        ("DELETE", "/api/v1/auth/sessions/", Shown::Jwt),
        ("POST", "/api/v1/auth/end-sessions", Shown::Jwt),
        ("GET", "/api/auth/delete-user/callback", Shown::Cookie),
    ];
    for (method, path, shown) in ends {
        let ada = app.sign_in("ada").await;
        let jwt = app.jwt(&ada.cookie).await;
        for at in [&app, &node] {
            assert!(is_somebody(at, &jwt).await, "{path}");
        }
        let id = claims(&jwt)["sid"].as_str().unwrap().to_owned();
        let path = path.replace("sessions/", &format!("sessions/{id}"));
        let mut request = app.request(method, &path);
        if path.ends_with("callback") {
            let link = last_link(&app, "delete_account", "ada@example.com").await;
            request = request.query(&[("token", link_token(&link))]);
        } else if path.ends_with("end-sessions") {
            let link = last_link(&app, "password_changed", "ada@example.com").await;
            request = request.json(&json!({"token": link_token(&link)}));
        } else if method == "POST" {
            request = request.json(&json!({"token": ada.token}));
        }
        let ended = answer(shown.on(&app, &ada, request).await).await;
        assert_eq!(ended.status, 200, "{path}: {}", ended.text);
        for at in [&node, &app] {
            assert!(!is_somebody(at, &jwt).await, "{path}");
        }
    }
}

/// S-31, S-28: what is no access token of this service is nobody, and an access token is no session token.
#[tokio::test]
async fn only_a_good_access_token_is_somebody_s28_s31() {
    let app = TestApp::start(&BY_LINK).await;
    let ada = app.signed_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    let [head, body, signature] = jwt.split('.').collect::<Vec<_>>()[..] else {
        panic!("{jwt}")
    };
    let unsigned = "eyJhbGciOiJub25lIn0";
    for forged in [
        format!("{head}.{body}."),
        format!("{unsigned}.{body}."),
        format!("{unsigned}.{body}.{signature}"),
        format!("{head}.{body}.{}", signature.to_lowercase()),
        format!("{jwt}.x"),
        "x".repeat(32),
        ".".to_owned(),
    ] {
        assert!(!is_somebody(&app, &forged).await, "{forged}");
    }
    for path in [
        "/api/auth/get-session",
        "/api/auth/list-sessions",
        "/api/auth/token",
    ] {
        let native = answer(app.request("GET", path).bearer_auth(&jwt)).await;
        assert!(
            native.status == 401 || native.json().is_null(),
            "{path}: {}",
            native.text
        );
    }
    app.clock.advance(JWT_FOR - TimeDelta::milliseconds(1001));
    assert!(is_somebody(&app, &jwt).await);
    app.clock.advance(TimeDelta::milliseconds(1001));
    assert!(!is_somebody(&app, &jwt).await, "its time is over");
}

async fn refresh(app: &TestApp, token: &str) -> Answer {
    let body = json!({"refreshToken": token});
    app.post("/api/v1/auth/refresh", &body).await
}

/// Fails unless an answer holds an access token of the session, and its token.
fn assert_tokens(answer: &Answer, session: &Session) {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    let claims = claims(body["accessToken"].as_str().unwrap());
    assert_eq!(claims["sub"], json!(session.user_id));
    assert_eq!(body["refreshToken"], json!(session.token));
    assert_eq!(body["user"]["id"], json!(session.user_id));
}

#[tokio::test]
async fn an_access_token_is_refreshed_by_cookie_bearer_or_body() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let bob = app.signed_in("bob").await;
    let nothing = json!({});
    assert_tokens(&refresh(&app, &ada.token).await, &ada);
    for door in ["/api/v1/auth/refresh", "/api/v1/auth/session-to-token"] {
        assert_tokens(&app.post_as(door, &ada.cookie, &nothing).await, &ada);
        assert_tokens(
            &answer(app.request("POST", door).bearer_auth(&ada.token)).await,
            &ada,
        );
        let forged = app.request("POST", door).header("cookie", &ada.cookie);
        assert_eq!(
            answer(forged).await.status,
            403,
            "no page that is trusted has sent it"
        );
        let evil = app.request("POST", door).header("cookie", &ada.cookie);
        let evil = evil.header("origin", "https://evil.example");
        assert_eq!(answer(evil).await.status, 403);
    }
    // The session that the request shows counts, whatever its body says.
    let body = json!({"refreshToken": bob.token});
    assert_tokens(
        &app.post_as("/api/v1/auth/refresh", &ada.cookie, &body)
            .await,
        &ada,
    );

    let none = app.post("/api/v1/auth/refresh", &nothing).await;
    assert_eq!(none.refusal(), (401, "TOKEN_EXPIRED".to_owned()));
    assert_eq!(none.json()["message"], "Session expired");
    let none = app.post("/api/v1/auth/session-to-token", &body).await;
    assert_eq!(none.refusal(), (401, "UNAUTHORIZED".to_owned()));
    assert_eq!(none.json()["message"], "No valid session");

    let jwt = app.jwt(&ada.cookie).await;
    app.post_as("/api/auth/sign-out", &ada.cookie, &nothing)
        .await;
    let signed = bob.cookie.split_once('=').unwrap().1;
    for unknown in [ada.token.as_str(), &jwt, signed, "unknown", "", "\0"] {
        let refused = refresh(&app, unknown).await;
        assert_eq!(
            refused.refusal(),
            (401, "TOKEN_INVALID".to_owned()),
            "{unknown}"
        );
        assert_eq!(refused.json()["message"], "Invalid refresh token");
    }
    // The cookie is over: what the body says counts.
    assert_tokens(
        &app.post_as("/api/v1/auth/refresh", &ada.cookie, &body)
            .await,
        &bob,
    );
    app.clock.advance(TimeDelta::days(7));
    assert_eq!(refresh(&app, &bob.token).await.status, 401);
}

/// Refreshing uses the session, so it slides; one that ends with the browser does not.
#[tokio::test]
async fn a_session_that_is_refreshed_lasts_longer() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let by_cookie = app.signed_in("ada").await;
    let by_body = app.sign_in("ada").await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
    let brief = app.post("/api/auth/sign-in/email", &body).await;
    app.clock
        .advance(TimeDelta::days(1) - TimeDelta::milliseconds(1));
    let brief = brief.json()["token"].as_str().unwrap().to_owned();
    assert_eq!(refresh(&app, &brief).await.status, 200);
    app.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(refresh(&app, &brief).await.status, 401, "its day is over");
    for _ in 0..3 {
        let slid = app
            .post_as("/api/v1/auth/refresh", &by_cookie.cookie, &json!({}))
            .await;
        assert_eq!(slid.session_cookie(), by_cookie.cookie);
        let again = app
            .post_as("/api/v1/auth/refresh", &by_cookie.cookie, &json!({}))
            .await;
        assert_eq!(
            (again.status, again.cookies().len()),
            (200, 0),
            "once a day"
        );
        let slid = refresh(&app, &by_body.token).await;
        assert_eq!((slid.status, slid.cookies().len()), (200, 0));
        app.clock.advance(TimeDelta::days(6));
    }
    app.clock.advance(TimeDelta::days(1));
    for session in [&by_cookie, &by_body] {
        assert_eq!(refresh(&app, &session.token).await.status, 401);
    }
}

/// A session that begins anew has access tokens of its own.
#[tokio::test]
async fn a_session_that_begins_anew_has_its_own_access_tokens() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let before = claims(&app.jwt(&ada.cookie).await);
    let way = ("/api/auth/change-password", Shown::Cookie, Some(true));
    let changed = change(&app, way, &ada, (PASSWORD, NEW)).await;
    let after = claims(&app.jwt(&changed.session_cookie()).await);
    assert_eq!(after["sub"], before["sub"]);
    assert_ne!(after["sid"], before["sid"]);
}

/// The database knows no NUL: whoever writes one gets the answer to what is not there, or to bad input.
#[tokio::test]
async fn a_nul_in_path_or_query_is_no_fault_of_ours() {
    let admins = ("MANA_AUTH_ADMIN_EMAILS", "ada@example.com");
    let app = TestApp::start(&[UNVERIFIED, admins]).await;
    app.sign_up("ada").await;
    let ada = app.sign_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    let admin = "/api/v1/admin/security-events";
    assert_eq!(
        answer(app.request("GET", admin).bearer_auth(&jwt))
            .await
            .status,
        200
    );
    for (method, path, status) in [
        ("DELETE", "/api/v1/auth/sessions/%00".to_owned(), 404),
        ("GET", format!("{admin}?userId=%00"), 400),
        ("GET", format!("{admin}?type=a%00b"), 400),
        ("GET", format!("{admin}?before=1_%00"), 400),
        ("GET", format!("{admin}?limit=%00"), 200),
        (
            "GET",
            "/api/v1/auth/security-events?limit=%00".to_owned(),
            200,
        ),
        (
            "GET",
            "/api/auth/reset-password/%00?callbackURL=/x".to_owned(),
            302,
        ),
        (
            "GET",
            "/api/auth/delete-user/callback?token=%00".to_owned(),
            404,
        ),
        ("GET", "/api/auth/verify-email?token=%00".to_owned(), 401),
        ("GET", "/api/v1/auth/revert-email?token=%00".to_owned(), 200),
    ] {
        let request = app.request(method, &path).header("origin", ORIGIN);
        let request = if path.starts_with("/api/v1") {
            request.bearer_auth(&jwt)
        } else {
            request.header("cookie", &ada.cookie)
        };
        let answered = answer(request).await;
        assert_eq!(answered.status, status, "{path}: {}", answered.text);
    }
}
