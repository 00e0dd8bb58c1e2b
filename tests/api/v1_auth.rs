//! `/api/v1/auth/*`: the apps' own doors.

#![cfg(test)]

use aggregates::Tier;
use aggregates::user::{User, UserCommand};
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use crate::client::{Credits, PASSWORD, Session, UNVERIFIED, answer, claims, session_of};
use crate::harness::TestApp;

async fn login(app: &TestApp, name: &str) -> (Session, Value) {
    let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD, "deviceName": "ignored"});
    let answer = app.post("/api/v1/auth/login", &body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    (session_of(&answer), answer.json())
}

#[tokio::test]
async fn login_gives_access_token_and_cookie_of_one_session() {
    let app = TestApp::start(&[]).await;
    app.verified("ada").await;
    let sessions = app.count("read.sessions").await;
    let (session, body) = login(&app, "ada").await;
    assert_eq!(
        app.count("read.sessions").await,
        sessions + 1,
        "one login, one session"
    );
    assert_eq!(
        (&body["refreshToken"], &body["redirect"]),
        (&body["token"], &json!(false))
    );

    // The cookie is the one that the official client's routes know.
    let known = app
        .get_as("/api/auth/get-session", &session.cookie)
        .await
        .json();
    assert_eq!(known["session"]["token"], body["token"]);
    assert_eq!(known["user"], body["user"]);
    let claims = claims(body["accessToken"].as_str().unwrap());
    assert_eq!(
        (&claims["sid"], &claims["sub"]),
        (&known["session"]["id"], &body["user"]["id"])
    );
    let valid = app
        .post(
            "/api/v1/auth/validate",
            &json!({"token": body["accessToken"]}),
        )
        .await;
    assert_eq!(valid.json(), json!({"valid": true, "payload": claims}));
}

#[tokio::test]
async fn logout_ends_the_session_of_cookie_body_or_bearer_and_no_other() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.sign_up("ada").await;
    let (bystander, _) = login(&app, "ada").await;

    let (by_cookie, _) = login(&app, "ada").await;
    let out = app
        .post_as("/api/v1/auth/logout", &by_cookie.cookie, &json!({}))
        .await;
    assert_eq!(
        (out.status, out.text.as_str(), out.cookies().len()),
        (200, r#"{"success":true}"#, 3)
    );
    assert!(!app.is_live(&by_cookie.cookie).await);

    let (by_body, body) = login(&app, "ada").await;
    app.post(
        "/api/v1/auth/logout",
        &json!({"refreshToken": body["refreshToken"]}),
    )
    .await;
    assert!(!app.is_live(&by_body.cookie).await);

    let (by_bearer, body) = login(&app, "ada").await;
    let bearer = |token: &str| {
        app.request("POST", "/api/v1/auth/logout")
            .bearer_auth(token)
    };
    assert_eq!(
        answer(bearer(body["accessToken"].as_str().unwrap()))
            .await
            .status,
        200
    );
    assert!(!app.is_live(&by_bearer.cookie).await);

    // A browser that signed in at both doors has a cookie of one session and the token of another.
    let (with_cookie, _) = login(&app, "ada").await;
    let (with_token, body) = login(&app, "ada").await;
    app.post_as(
        "/api/v1/auth/logout",
        &with_cookie.cookie,
        &json!({"refreshToken": body["refreshToken"]}),
    )
    .await;
    assert!(!app.is_live(&with_cookie.cookie).await);
    assert!(!app.is_live(&with_token.cookie).await);
    assert!(app.is_live(&bystander.cookie).await);

    // Repeating it, or having nothing to end, is fine.
    let before = app.state().await;
    assert_eq!(
        answer(bearer(body["accessToken"].as_str().unwrap()))
            .await
            .status,
        200
    );
    for body in [
        json!({}),
        json!({"refreshToken": "x"}),
        json!({"refreshToken": body["refreshToken"]}),
    ] {
        assert_eq!(
            app.post("/api/v1/auth/logout", &body).await.text,
            r#"{"success":true}"#
        );
    }
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn an_unverified_address_cannot_log_in_and_gets_no_second_mail() {
    let app = TestApp::start(&[]).await;
    let body = json!({"email": "Ada@Example.com", "password": PASSWORD});
    let registered = app.post("/api/v1/auth/register", &body).await;
    assert_eq!(registered.status, 200, "{}", registered.text);
    let user = &registered.json()["user"];
    assert_eq!(
        (&user["name"], &user["email"], &user["emailVerified"]),
        (&json!("ada"), &json!("ada@example.com"), &json!(false))
    );
    assert!(registered.cookies().is_empty());

    let refused = app.post("/api/v1/auth/login", &body).await;
    let wanted = json!({"error": "Email not verified", "code": "EMAIL_NOT_VERIFIED", "message": "Email not verified", "status": 403});
    assert_eq!((refused.status, refused.json()), (403, wanted));
    let wrong = app
        .post(
            "/api/v1/auth/login",
            &json!({"email": "ada@example.com", "password": "wrong"}),
        )
        .await;
    assert_eq!(wrong.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    assert_eq!(app.mails_of("verify_email", "ada@example.com").await, 1);
}

/// S-41: a page that is not trusted gets nobody sent to it; the register answer is the same.
#[tokio::test]
async fn the_link_leads_to_the_app_that_asked_if_it_is_trusted() {
    let app = TestApp::start(&[
        (
            "CORS_ORIGINS",
            "https://app.mana.how, https://other.mana.how",
        ),
        ("TRUSTED_ORIGINS", "https://*.mana.how"),
    ])
    .await;
    for (number, (source, wanted)) in [
        (
            json!("https://other.mana.how/home"),
            "https://other.mana.how/home",
        ),
        (json!("https://evil.example/"), "https://app.mana.how"),
        (json!("//evil.example"), "https://app.mana.how"),
        (json!(""), "https://app.mana.how"),
    ]
    .into_iter()
    .enumerate()
    {
        let email = format!("ada{number}@example.com");
        let body = json!({"email": email, "password": PASSWORD, "sourceAppUrl": source});
        assert_eq!(app.post("/api/v1/auth/register", &body).await.status, 200);
        let link = app.wait_for_mail(&email, 0).await.url.unwrap();
        let followed = app.follow(&link).await;
        assert_eq!(
            (followed.status, followed.header("location")),
            (302, wanted),
            "{source}"
        );
    }
}

#[tokio::test]
async fn registering_a_taken_address_is_a_conflict_without_side_effects() {
    let credits = Credits::start().await;
    let app = TestApp::start(&[("MANA_CREDITS_URL", &credits.url)]).await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    app.post("/api/v1/auth/register", &body).await;
    app.effects_done().await;
    let before = app.state().await;
    let taken = app.post("/api/v1/auth/register", &body).await;
    let wanted = json!({
        "error": "Email already registered", "code": "EMAIL_ALREADY_REGISTERED", "message": "Email already registered", "status": 409,
    });
    assert_eq!((taken.status, taken.json()), (409, wanted));
    assert_eq!(app.state().await, before);
    assert_eq!((app.mails().len(), credits.calls().len()), (1, 1));
}

/// The invented person leaves no trace; only the owner hears of it (S-24).
#[tokio::test]
async fn where_addresses_are_not_to_be_told_a_taken_one_looks_new_s24() {
    let credits = Credits::start().await;
    let app = TestApp::start(&[
        ("REGISTER_ENUMERATION_SAFE", "true"),
        ("MANA_CREDITS_URL", &credits.url),
    ])
    .await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "name": "Ada"});
    let first = app.post("/api/v1/auth/register", &body).await;
    app.effects_done().await;
    let before = app.state().await;
    let taken = app.post("/api/v1/auth/register", &body).await;
    app.effects_done().await;
    assert_eq!(app.state().await, before, "no event, no account, no key");
    assert_eq!(credits.calls().len(), 1, "and no credits for nobody");
    assert_eq!(
        (taken.status, taken.text.len()),
        (first.status, first.text.len())
    );
    let names = |answer: &crate::client::Answer| {
        let mut names: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
        names.sort();
        names
    };
    assert_eq!(names(&taken), names(&first));
    let (mut one, mut other) = (first.json(), taken.json());
    for field in ["id", "createdAt", "updatedAt"] {
        one["user"][field] = Value::Null;
        other["user"][field] = Value::Null;
    }
    assert_eq!(one, other);
    let kinds: Vec<String> = app.mails().into_iter().map(|mail| mail.kind).collect();
    assert_eq!(kinds, ["verify_email", "account_exists"]);
}

#[tokio::test]
async fn errors_hold_the_code_where_clients_of_the_second_shape_look() {
    for (shape, wanted) in [("v1", "Invalid credentials"), ("v2", "INVALID_CREDENTIALS")] {
        let app = TestApp::start(&[("AUTH_ERROR_SHAPE", shape)]).await;
        let body = json!({"email": "nobody@example.com", "password": PASSWORD});
        let refused = app.post("/api/v1/auth/login", &body).await;
        let body = json!({"error": wanted, "code": "INVALID_CREDENTIALS", "message": "Invalid credentials", "status": 401});
        assert_eq!((refused.status, refused.json()), (401, body));
        // The official client's routes keep theirs.
        let native = app.try_sign_in("nobody", PASSWORD).await;
        assert_eq!(
            native.json(),
            json!({"message": "Invalid email or password", "code": "INVALID_EMAIL_OR_PASSWORD"})
        );
    }
}

#[tokio::test]
async fn the_tier_is_in_tokens_only_where_configured_and_current() {
    for (extra, wanted) in [("", Value::Null), ("tier", json!("founder"))] {
        let app = TestApp::start(&[UNVERIFIED, ("JWT_EXTRA_CLAIMS", extra)]).await;
        let signed_up = app.sign_up("ada").await;
        let id = signed_up.json()["user"]["id"].as_str().unwrap().to_owned();
        let command = UserCommand::ChangeTier {
            tier: Tier::Founder,
            at: app.clock.now(),
        };
        app.app
            .store
            .run::<User>(&id, command, Context::of(Actor::System))
            .await
            .unwrap();
        let (_, body) = login(&app, "ada").await;
        assert_eq!(
            claims(body["accessToken"].as_str().unwrap())["tier"],
            wanted
        );
        assert_eq!(body["user"]["accessTier"], "founder");
    }
}

/// Contract 1.3: with a cookie, logging out needs a trusted page.
#[tokio::test]
async fn logout_with_a_cookie_needs_a_trusted_page_s40() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    for (origin, code) in [
        (None, "MISSING_OR_NULL_ORIGIN"),
        (Some("null"), "MISSING_OR_NULL_ORIGIN"),
        (Some("https://evil.example"), "INVALID_ORIGIN"),
    ] {
        let mut request = app
            .request("POST", "/api/v1/auth/logout")
            .header("cookie", &session.cookie);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        assert_eq!(answer(request).await.refusal(), (403, code.to_owned()));
    }
    assert!(app.is_live(&session.cookie).await);
}
