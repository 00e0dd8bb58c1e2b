//! `/api/auth/*`: sign-up, sessions by the clock, and proving an address.

#![cfg(test)]

use std::collections::BTreeMap;

use aggregates::user::{User, UserCommand};
use aggregates::{Roles, Tier};
use chrono::TimeDelta;
use futures_util::future::join_all;
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use crate::client::{Answer, Credits, ORIGIN, PASSWORD, UNVERIFIED, answer, claims, link_token};
use crate::harness::TestApp;

fn expires_at(answer: &Answer) -> String {
    answer.json()["session"]["expiresAt"]
        .as_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_used_session_slides_and_an_unused_one_ends() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    let first = app.get_as("/api/auth/get-session", &session.cookie).await;
    assert_eq!(first.cookies().len(), 0);

    app.clock.advance(TimeDelta::hours(23));
    let young = app.get_as("/api/auth/get-session", &session.cookie).await;
    assert_eq!(
        (expires_at(&young), young.cookies().len()),
        (expires_at(&first), 0),
        "within a day nothing is written"
    );

    app.clock.advance(TimeDelta::hours(2));
    let held = app
        .get_as("/api/auth/get-session?disableRefresh=true", &session.cookie)
        .await;
    assert_eq!(
        (expires_at(&held), held.cookies().len()),
        (expires_at(&first), 0)
    );
    let slid = app.get_as("/api/auth/get-session", &session.cookie).await;
    let in_7_days =
        (app.clock.now() + TimeDelta::days(7)).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    assert_eq!(expires_at(&slid), in_7_days);
    assert_eq!(
        slid.session_cookie(),
        session.cookie,
        "the same token, for another week"
    );
    assert!(
        slid.cookies()[0].contains("; Max-Age=604800; "),
        "{:?}",
        slid.cookies()
    );
    let again = app.get_as("/api/auth/get-session", &session.cookie).await;
    assert_eq!((expires_at(&again), again.cookies().len()), (in_7_days, 0));

    // The other door slides as well, and a month of daily use never ends a session.
    for _ in 0..30 {
        app.clock.advance(TimeDelta::hours(25));
        let answer = app.get_as("/api/v1/auth/session", &session.cookie).await;
        assert_eq!(answer.session_cookie(), session.cookie);
    }
    app.clock
        .advance(TimeDelta::days(7) - TimeDelta::milliseconds(1));
    assert!(app.is_live(&session.cookie).await);
    // That used it.
    app.clock.advance(TimeDelta::days(7));
    assert!(
        !app.is_live(&session.cookie).await,
        "the last moment is over when it comes"
    );
}

#[tokio::test]
async fn a_session_that_is_not_remembered_never_slides() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.signed_in("ada").await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD, "rememberMe": false});
    let answer = app.post("/api/auth/sign-in/email", &body).await;
    let cookies = answer.cookies();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert!(
        cookies[0].starts_with("mana.session_token=")
            && cookies[1].starts_with("mana.dont_remember=")
    );
    assert!(
        cookies.iter().all(|cookie| !cookie.contains("Max-Age")),
        "they end with the browser: {cookies:?}"
    );
    let session_cookie = answer.session_cookie();
    let both = format!(
        "{session_cookie}; {}",
        cookies[1].split(';').next().unwrap()
    );

    let first = app.get_as("/api/auth/get-session", &both).await;
    app.clock
        .advance(TimeDelta::days(1) - TimeDelta::seconds(1));
    // Who leaves the second cookie away gains nothing.
    for cookie in [&both, &session_cookie] {
        for path in ["/api/auth/get-session", "/api/v1/auth/session"] {
            let answer = app.get_as(path, cookie).await;
            assert_eq!(
                (expires_at(&answer), answer.cookies().len()),
                (expires_at(&first), 0),
                "{path}"
            );
        }
    }
    app.clock.advance(TimeDelta::seconds(1));
    let over = app.get_as("/api/auth/get-session", &both).await;
    assert_eq!(over.text, "null");
    assert_eq!(
        over.cookies().len(),
        3,
        "what is over is cleared: {:?}",
        over.cookies()
    );

    // A remembered sign-in afterwards takes the mark away.
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    let answer = app.post_as("/api/auth/sign-in/email", &both, &body).await;
    assert!(
        answer.cookies()[1].starts_with("mana.dont_remember=; Max-Age=0; "),
        "{:?}",
        answer.cookies()
    );
}

#[tokio::test]
async fn an_address_is_proven_by_its_link_and_following_it_again_changes_nothing() {
    let app = TestApp::start(&[]).await;
    let body = json!({"name": "Ada", "email": "Ada@Example.com", "password": PASSWORD, "callbackURL": "/welcome?a=b"});
    let signed_up = app.post("/api/auth/sign-up/email", &body).await;
    assert_eq!(
        (signed_up.status, &signed_up.json()["token"]),
        (200, &Value::Null)
    );
    assert!(signed_up.cookies().is_empty());
    let refused = app.try_sign_in("ada", PASSWORD).await;
    assert_eq!(refused.refusal(), (403, "EMAIL_NOT_VERIFIED".to_owned()));
    let wrong = app.try_sign_in("ada", "another password").await;
    assert_eq!(wrong.status, 401, "the password comes first");

    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    let followed = app.follow(&link).await;
    assert_eq!(
        (followed.status, followed.header("location")),
        (302, "/welcome?a=b")
    );
    assert!(
        app.is_live(&followed.session_cookie()).await,
        "the proof signs in"
    );

    let before = app.state().await;
    for _ in 0..3 {
        let again = app.follow(&link).await;
        assert_eq!(
            (again.status, again.header("location")),
            (302, "/welcome?a=b")
        );
        assert!(again.cookies().is_empty(), "a repeat signs nobody in");
    }
    assert_eq!(app.state().await, before);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 200);
    assert_eq!(
        app.mails().len(),
        1,
        "a refused sign-in mails nothing unless configured"
    );
}

#[tokio::test]
async fn a_link_followed_by_many_at_once_proves_once() {
    let app = TestApp::start(&[]).await;
    app.sign_up("ada").await;
    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    let answers = join_all((0..20).map(|_| app.follow(&link))).await;
    assert!(answers.iter().all(|answer| answer.status == 302));
    let signed_in = answers
        .iter()
        .filter(|answer| !answer.session_cookie().is_empty())
        .count();
    assert_eq!(signed_in, 1);
    assert_eq!(
        app.count("events where event_type = 'user.email_verified'")
            .await,
        1
    );
    assert_eq!(app.count("read.sessions").await, 1);
}

#[tokio::test]
async fn a_link_that_is_no_good_says_why_and_changes_nothing() {
    let app = TestApp::start(&[]).await;
    app.sign_up("ada").await;
    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    let token = link_token(&link).to_owned();
    app.effects_done().await;
    let before = app.state().await;
    app.clock
        .advance(TimeDelta::hours(1) + TimeDelta::seconds(1));
    let middle = token.len() / 2;
    let altered = format!("{}x{}", &token[..middle], &token[middle + 1..]);
    for (token, code) in [
        (token.as_str(), "TOKEN_EXPIRED"),
        (altered.as_str(), "INVALID_TOKEN"),
    ] {
        let path = format!("/api/auth/verify-email?token={token}");
        assert_eq!(app.get(&path).await.refusal(), (401, code.to_owned()));
        let told = app.get(&format!("{path}&callbackURL=%2Fx%3Fa%3Db")).await;
        assert_eq!(
            (told.status, told.header("location")),
            (302, format!("/x?a=b&error={code}").as_str())
        );
    }
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn the_link_is_mailed_again_and_nobody_learns_whose_address_it_is() {
    let app = TestApp::start(&[]).await;
    app.sign_up("new").await;
    app.verified("old").await;
    app.effects_done().await;
    let mails = app.mails().len();
    let mut answers = Vec::new();
    for email in ["new@example.com", "old@example.com", "unknown@example.com"] {
        let answer = app
            .post(
                "/api/auth/send-verification-email",
                &json!({"email": email}),
            )
            .await;
        let headers: BTreeMap<String, String> = answer
            .headers
            .iter()
            .filter(|(name, _)| !["date", "x-request-id"].contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
            .collect();
        answers.push((answer.status, headers, answer.text));
    }
    assert_eq!(answers[0].2, r#"{"status":true}"#);
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "S-22: {answers:?}"
    );
    app.effects_done().await;
    assert_eq!(app.mails().len(), mails + 1);
    let again = app.wait_for_mail("new@example.com", 1).await;
    assert_eq!(app.follow(&again.url.unwrap()).await.status, 302);
}

/// The answer without what is random in it.
fn shape(answer: &Answer) -> (u16, Vec<String>, String) {
    let mut text = answer.text.clone();
    for field in ["id", "createdAt", "updatedAt"] {
        let value = answer.json()["user"][field].as_str().unwrap().to_owned();
        text = text.replace(&value, &"#".repeat(value.len()));
    }
    let headers = answer
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap()));
    let told =
        headers.filter(|(name, _)| !["date", "x-request-id", "x-log-position"].contains(name));
    (
        answer.status,
        told.map(|(name, value)| format!("{name}: {value}"))
            .collect(),
        text,
    )
}

/// S-22, S-24: a taken address is told to its owner, not to who asks.
#[tokio::test]
async fn signing_up_with_a_taken_address_looks_like_success_and_mails_the_owner_s24() {
    let app = TestApp::start(&[]).await;
    let body = |email: &str| json!({"name": "Eve", "email": email, "password": PASSWORD, "image": "https://x.example/e.png"});
    let first = app
        .post("/api/auth/sign-up/email", &body("ada@example.com"))
        .await;
    app.effects_done().await;
    let accounts = app.count("read.users").await;
    let before = app.state().await;
    let taken = app
        .post("/api/auth/sign-up/email", &body("ADA@example.com"))
        .await;
    assert_eq!(shape(&taken), shape(&first), "byte for byte");
    assert_ne!(taken.json()["user"]["id"], first.json()["user"]["id"]);
    assert_eq!(app.mails_of("account_exists", "ada@example.com").await, 1);
    assert_eq!(
        app.mails_of("verify_email", "ada@example.com").await,
        1,
        "the first one"
    );
    assert_eq!(
        (app.count("read.users").await, app.state().await),
        (accounts, before)
    );

    let mail = app.wait_for_mail("ada@example.com", 1).await;
    assert_eq!(mail.url, None, "it holds nothing to click on");
    let mut other = body("ada@example.com");
    other["name"] = json!("Mallory");
    app.post("/api/auth/sign-up/email", &other).await;
    let mail = app.wait_for_mail("ada@example.com", 2).await;
    assert!(
        !mail.text.contains("Mallory") && !mail.html.contains("Mallory"),
        "it is no way to write to somebody"
    );
    app.post("/api/auth/sign-up/email", &body("unknown@example.com"))
        .await;
    assert_eq!(
        app.mails_of("account_exists", "unknown@example.com").await,
        0
    );
}

/// The position header alone would tell: what was written stands in it, and nothing was.
#[tokio::test]
async fn a_taken_address_is_not_told_by_the_log_position() {
    let app = TestApp::start(&[]).await;
    let first = app.sign_up("ada").await;
    let taken = app.sign_up("ada").await;
    assert_eq!(
        first.header("x-log-position").is_empty(),
        taken.header("x-log-position").is_empty()
    );
}

#[tokio::test]
async fn of_40_sign_ups_at_once_one_wins_where_no_proof_is_needed() {
    let credits = Credits::start().await;
    let app = TestApp::start(&[UNVERIFIED, ("MANA_CREDITS_URL", &credits.url)]).await;
    let answers = join_all((0..40).map(|_| app.sign_up("ada"))).await;
    let won: Vec<_> = answers
        .iter()
        .filter(|answer| answer.status == 200)
        .collect();
    assert_eq!(won.len(), 1);
    for lost in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(
            lost.refusal(),
            (422, "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL".to_owned())
        );
        assert!(lost.cookies().is_empty());
    }
    assert_eq!(app.mails_of("verify_email", "ada@example.com").await, 1);
    assert_eq!(app.mails().len(), 1);
    let id = won[0].json()["user"]["id"].as_str().unwrap().to_owned();
    assert_eq!(credits.calls(), [id]);
    for (from, rows) in [
        ("read.users", 1),
        ("claims", 1),
        ("read.sessions", 1),
        ("events where event_type = 'user.registered'", 1),
        ("custody where kind = 'password'", 1),
        (
            "custody where kind = 'data_key' and owner not like 'service:%'",
            1,
        ),
    ] {
        assert_eq!(app.count(from).await, rows, "{from}");
    }
}

#[tokio::test]
async fn of_40_sign_ups_at_once_all_look_alike_where_a_proof_is_needed() {
    let credits = Credits::start().await;
    let app = TestApp::start(&[("MANA_CREDITS_URL", &credits.url)]).await;
    let answers = join_all((0..40).map(|_| app.sign_up("ada"))).await;
    let first = shape(&answers[0]);
    assert_eq!(first.0, 200);
    assert!(answers.iter().all(|answer| shape(answer) == first));
    assert_eq!(app.mails_of("verify_email", "ada@example.com").await, 1);
    assert_eq!(app.count("read.users").await, 1);
    assert_eq!(app.count("custody where kind = 'password'").await, 1);
    let owner: String = sqlx::query_scalar("select id from read.users")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    assert_eq!(credits.calls(), [owner]);
}

#[tokio::test]
async fn role_and_tier_are_current_at_the_next_token() {
    let app = TestApp::start(&[UNVERIFIED, ("JWT_EXTRA_CLAIMS", "tier")]).await;
    let session = app.signed_in("ada").await;
    let said = async |cookie: &str| {
        let claims = claims(&app.jwt(cookie).await);
        (claims["role"].clone(), claims["tier"].clone())
    };
    assert_eq!(
        said(&session.cookie).await,
        (json!("user"), json!("public"))
    );
    for command in [
        UserCommand::ChangeTier {
            tier: Tier::Beta,
            at: app.clock.now(),
        },
        UserCommand::ChangeRole {
            role: Roles::admin(),
            at: app.clock.now(),
        },
    ] {
        app.app
            .store
            .run::<User>(&session.user_id, command, Context::of(Actor::System))
            .await
            .unwrap();
    }
    // No time has passed: a token that was just made is not given out again with what it said.
    assert_eq!(said(&session.cookie).await, (json!("admin"), json!("beta")));
    let shown = app.get_as("/api/auth/get-session", &session.cookie).await;
    assert_eq!(claims(shown.header("set-auth-jwt"))["tier"], "beta");
    assert_eq!(
        (
            &shown.json()["user"]["role"],
            &shown.json()["user"]["accessTier"]
        ),
        (&json!("admin"), &json!("beta"))
    );
}

/// S-36: what people write about themselves is no claim.
#[tokio::test]
async fn reserved_claims_cannot_be_set_by_user_data_s36() {
    for extra in [("JWT_EXTRA_CLAIMS", ""), ("JWT_EXTRA_CLAIMS", "tier")] {
        let app = TestApp::start(&[UNVERIFIED, extra]).await;
        let body = json!({
            "name": r#"x","role":"admin","sub":"1"#, "email": "ada@example.com", "password": PASSWORD,
            "image": "role=admin", "locale": "admin", "sub": "1", "sid": "1", "iss": "x", "aud": "x", "exp": 9_999_999_999_u64,
            "tier": "founder", "accessTier": "founder", "emailVerified": true, "id": "1", "userId": "1", "banned": false,
        });
        let signed_up = app.post("/api/auth/sign-up/email", &body).await;
        assert_eq!(signed_up.status, 200, "{}", signed_up.text);
        let user = &signed_up.json()["user"];
        assert_eq!(
            (&user["accessTier"], &user["emailVerified"], &user["role"]),
            (&json!("public"), &json!(false), &json!("user"))
        );
        let jwt = app.jwt(&signed_up.session_cookie()).await;
        let session = app
            .get_as("/api/auth/get-session", &signed_up.session_cookie())
            .await
            .json();
        let now = app.clock.now().timestamp();
        let mut wanted = json!({
            "sub": user["id"], "email": "ada@example.com", "role": "user", "sid": session["session"]["id"],
            "iat": now, "exp": now + 900, "iss": app.app.config.jwt_issuer, "aud": "mana",
        });
        if !extra.1.is_empty() {
            wanted["tier"] = json!("public");
        }
        assert_eq!(claims(&jwt), wanted);

        for (name, value) in [
            ("role", json!("admin")),
            ("role", json!(null)),
            ("role", json!(["admin"])),
        ] {
            let body =
                json!({"name": "x", "email": "eve@example.com", "password": PASSWORD, name: value});
            let refused = app.post("/api/auth/sign-up/email", &body).await;
            assert_eq!(refused.refusal(), (400, "FIELD_NOT_ALLOWED".to_owned()));
        }
    }
}

/// S-35: before an address is proven, where it has to be, there is no session and no token on any door.
#[tokio::test]
async fn nothing_is_given_out_before_the_proof_s35() {
    let app = TestApp::start(&[]).await;
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    for (path, status) in [
        ("/api/auth/sign-up/email", 200),
        ("/api/v1/auth/register", 409),
        ("/api/auth/sign-in/email", 403),
        ("/api/v1/auth/login", 403),
    ] {
        let answer = app.post(path, &body).await;
        assert_eq!(answer.status, status, "{path}");
        assert!(
            answer.cookies().is_empty() && answer.header("set-auth-token").is_empty(),
            "{path}"
        );
        assert!(answer.header("set-auth-jwt").is_empty(), "{path}");
        let body = answer.json();
        for field in ["token", "accessToken", "refreshToken"] {
            assert!(body[field].is_null(), "{path}: {field}");
        }
    }
    assert_eq!(app.count("read.sessions").await, 0);
}

/// S-27
#[tokio::test]
async fn every_sign_in_makes_a_new_session_and_an_earlier_cookie_gains_nothing_s27() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let eve = app.signed_in("eve").await;
    app.signed_in("ada").await;
    let mut seen = Vec::new();
    let forged = "mana.session_token=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA%3D";
    for door in ["/api/auth/sign-in/email", "/api/v1/auth/login"] {
        for brought in ["", &eve.cookie, forged] {
            let body = json!({"email": "ada@example.com", "password": PASSWORD});
            let request = app
                .request("POST", door)
                .json(&body)
                .header("origin", ORIGIN)
                .header("cookie", brought);
            let answer = answer(request).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let cookie = answer.session_cookie();
            let session = app.get_as("/api/auth/get-session", &cookie).await.json();
            seen.push(answer.json()["token"].as_str().unwrap().to_owned());
            seen.push(session["session"]["id"].as_str().unwrap().to_owned());
            seen.push(cookie);
        }
    }
    seen.push(eve.cookie.clone());
    seen.push(eve.token.clone());
    let number = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), number, "no id, token or cookie comes twice");
    assert!(!app.is_live(forged).await);
    let still = app
        .get_as("/api/auth/get-session", &eve.cookie)
        .await
        .json();
    assert_eq!(
        still["user"]["email"], "eve@example.com",
        "what was brought stays what it was"
    );
}

/// S-31, S-32: what is over is refused at once and everywhere, although nobody has cleaned up.
#[tokio::test]
async fn an_ended_or_expired_session_is_refused_on_all_routes_s31_s32() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ended = app.signed_in("ada").await;
    let expired = app.signed_in("bob").await;
    // Both are remembered by the node.
    for session in [&ended, &expired] {
        assert!(app.is_live(&session.cookie).await);
    }
    app.post_as("/api/auth/sign-out", &ended.cookie, &json!({}))
        .await;
    refused_everywhere(&app, &ended.cookie, &ended.token).await;
    assert!(app.is_live(&expired.cookie).await);
    app.clock.advance(TimeDelta::days(7));
    assert_eq!(
        app.count("read.sessions").await,
        1,
        "the expired one still stands there"
    );
    refused_everywhere(&app, &expired.cookie, &expired.token).await;
}

async fn refused_everywhere(app: &TestApp, cookie: &str, token: &str) {
    let before = app.count("events").await;
    for (name, value) in [
        ("cookie", cookie.to_owned()),
        ("authorization", format!("Bearer {token}")),
    ] {
        let sent = async |method: &str, path: &str, body: Value| {
            let request = app
                .request(method, path)
                .header(name, &value)
                .header("origin", ORIGIN);
            answer(if method == "GET" {
                request
            } else {
                request.json(&body)
            })
            .await
        };
        assert_eq!(
            sent("GET", "/api/auth/get-session", json!({})).await.text,
            "null"
        );
        assert_eq!(
            sent("GET", "/api/v1/auth/session", json!({})).await.text,
            "null"
        );
        let token = sent("GET", "/api/auth/token", json!({})).await;
        assert_eq!(token.refusal(), (401, "UNAUTHORIZED".to_owned()));
        assert_eq!(token.cookies().len(), 3, "it is cleared");
        // With a session, another address would be a mismatch.
        let mail = sent(
            "POST",
            "/api/auth/send-verification-email",
            json!({"email": "other@example.com"}),
        )
        .await;
        assert_eq!(mail.text, r#"{"status":true}"#);
        for path in ["/api/auth/sign-out", "/api/v1/auth/logout"] {
            assert_eq!(sent("POST", path, json!({})).await.status, 200);
        }
    }
    let body = json!({"refreshToken": token});
    assert_eq!(app.post("/api/v1/auth/logout", &body).await.status, 200);
    assert_eq!(
        app.count("events").await,
        before,
        "nothing can be done with it"
    );
}

/// S-16: only a listed proxy says who the client is.
#[tokio::test]
async fn the_address_of_a_session_comes_from_listed_proxies_only_s16() {
    for (proxies, forwarded, wanted) in [
        ("", "203.0.113.9", ""),
        ("10.0.0.0/8", "203.0.113.9", ""),
        ("127.0.0.0/8", "203.0.113.9", "203.0.113.9"),
        (
            "127.0.0.0/8, 10.0.0.0/8",
            "198.51.100.1, 203.0.113.9, 10.1.2.3",
            "203.0.113.9",
        ),
        ("127.0.0.0/8", "::ffff:203.0.113.9", "203.0.113.9"),
        ("127.0.0.0/8", "2001:DB8::1", "2001:db8::1"),
        ("127.0.0.0/8", "203.0.113.9, <script>", ""),
    ] {
        let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", proxies)]).await;
        let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
        let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
        let request = request
            .header("x-forwarded-for", forwarded)
            .header("user-agent", "Agent/1");
        let cookie = answer(request).await.session_cookie();
        let session = app.get_as("/api/auth/get-session", &cookie).await.json();
        assert_eq!(
            session["session"]["ipAddress"], wanted,
            "{proxies} {forwarded}"
        );
        assert_eq!(session["session"]["userAgent"], "Agent/1");
    }
}

#[tokio::test]
async fn what_was_written_stands_in_the_answer() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let head = async || -> i64 {
        sqlx::query_scalar("select max(position) from events")
            .fetch_one(&app.admin)
            .await
            .unwrap()
    };
    let signed_up = app.sign_up("ada").await;
    assert_eq!(signed_up.header("x-log-position"), head().await.to_string());
    let signed_in = app.try_sign_in("ada", PASSWORD).await;
    assert_eq!(signed_in.header("x-log-position"), head().await.to_string());
    let out = app
        .post_as(
            "/api/auth/sign-out",
            &signed_in.session_cookie(),
            &json!({}),
        )
        .await;
    assert_eq!(out.header("x-log-position"), head().await.to_string());
    for path in ["/api/auth/get-session", "/api/auth/jwks"] {
        assert_eq!(
            app.get(path).await.header("x-log-position"),
            "",
            "reads write nothing"
        );
    }
    assert_eq!(
        app.try_sign_in("ada", "wrong password")
            .await
            .header("x-log-position"),
        "",
        "I-11"
    );
}
