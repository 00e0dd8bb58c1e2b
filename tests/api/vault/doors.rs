//! Who gets to a vault: by which means, from which pages, and who does not.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::Mode::{Standard, WithRecovery};
use super::{MODES, VAULT, bring_to, line};
use crate::account::Shown;
use crate::admin::ADMINS;
use crate::client::{ORIGIN, Session, UNVERIFIED, answer};
use crate::harness::TestApp;

/// Every call that is written down.
pub const CALLS: [(&str, &str, &str); 7] = [
    ("POST", "/init", "init"),
    ("GET", "/key", "failed_fetch"),
    ("POST", "/rotate", "rotate"),
    ("POST", "/recovery-wrap", "recovery_set"),
    ("DELETE", "/recovery-wrap", "recovery_clear"),
    ("POST", "/recovery-wrap/restore", "recovery_restore"),
    ("POST", "/zero-knowledge", "zk_enable"),
];

#[tokio::test]
async fn a_session_is_shown_by_its_cookie_its_token_or_an_access_token() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let key = bring_to(&app, &ada, Standard).await;
    for shown in [Shown::Cookie, Shown::Token, Shown::Jwt] {
        let request = app.request("GET", &format!("{VAULT}/key"));
        let given = answer(shown.on(&app, &ada, request).await).await;
        assert_eq!(
            (given.status, &given.json()["masterKey"]),
            (200, &json!(key)),
            "{shown:?}"
        );
    }
    // What is shown as bearer counts, not a cookie beside it.
    let bob = app.signed_in("bob").await;
    let jwt = app.jwt(&bob.cookie).await;
    let request = app.request("GET", &format!("{VAULT}/key")).bearer_auth(jwt);
    let of_bob = answer(request.header("cookie", &ada.cookie)).await;
    assert_eq!(of_bob.status, 404, "{}", of_bob.text);
}

#[tokio::test]
async fn nobody_gets_nothing_and_leaves_no_line() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let jwt = app.jwt(&ada.cookie).await;
    app.post_as("/api/auth/sign-out", &ada.cookie, &json!({}))
        .await;
    let before = app.state().await;
    for (method, path, _) in CALLS.into_iter().chain([("GET", "/status", "")]) {
        let request = || app.request(method, &format!("{VAULT}{path}"));
        let missing = json!({
            "statusCode": 401, "message": "Missing or invalid Authorization header", "code": "UNAUTHORIZED",
        });
        for request in [
            request(),
            request()
                .header("cookie", &ada.cookie)
                .header("origin", ORIGIN),
        ] {
            let refused = answer(request).await;
            assert_eq!(
                (refused.status, refused.json()),
                (401, missing.clone()),
                "{path}"
            );
        }
        // S-31: a token of a session that is over, too.
        for token in ["x", "a.b.c", &ada.token, &jwt] {
            let refused = answer(request().bearer_auth(token)).await;
            let wanted = json!({
                "statusCode": 401, "message": "Invalid or expired token", "code": "TOKEN_INVALID",
            });
            assert_eq!((refused.status, refused.json()), (401, wanted), "{path}");
        }
    }
    assert_eq!(app.state().await, before);
}

/// S-40: with a cookie the page counts; reading with it, if a browser says that another site asked.
#[tokio::test]
async fn pages_that_are_not_trusted_use_nobodys_cookie_s40() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    let before = app.state().await;
    for (method, path, _) in CALLS {
        let request = || {
            app.request(method, &format!("{VAULT}{path}"))
                .header("cookie", &ada.cookie)
        };
        let evil = request()
            .header("origin", "https://evil.example")
            .header("sec-fetch-site", "cross-site");
        let refused = answer(evil).await;
        assert_eq!(
            refused.refusal(),
            (403, "INVALID_ORIGIN".to_owned()),
            "{path}"
        );
        let hidden = answer(request().header("sec-fetch-site", "cross-site")).await;
        assert_eq!(
            hidden.refusal(),
            (403, "MISSING_OR_NULL_ORIGIN".to_owned()),
            "{path}"
        );
    }
    assert_eq!(app.state().await, before);
    let request = app
        .request("GET", &format!("{VAULT}/key"))
        .header("cookie", &ada.cookie);
    let trusted = answer(
        request
            .header("origin", ORIGIN)
            .header("sec-fetch-site", "cross-site"),
    )
    .await;
    assert_eq!(trusted.status, 200);
}

/// S-66, S-75: an admin in somebody's place gets nothing, and that they tried is in the owner's history.
#[tokio::test]
async fn whoever_acts_as_somebody_never_gets_to_their_vault_s66_s75() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    for (number, mode) in MODES.into_iter().enumerate() {
        let ada = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &ada, mode).await;
        let body = json!({"userId": ada.user_id});
        let acting = app
            .admin_call("impersonate-user", &root.cookie, &body)
            .await;
        let cookie = acting.session_cookie();
        let shown = Session {
            token: acting.json()["session"]["token"]
                .as_str()
                .unwrap()
                .to_owned(),
            user_id: ada.user_id.clone(),
            cookie,
        };
        let before = app.vault_lines(&ada.user_id).await.len();
        let mut wanted = Vec::new();
        for (method, path, action) in CALLS {
            for shows in [Shown::Cookie, Shown::Token, Shown::Jwt] {
                let request = app.request(method, &format!("{VAULT}{path}"));
                let refused = answer(shows.on(&app, &shown, request).await).await;
                let told = (403, "NOT_WHILE_IMPERSONATING".to_owned());
                assert_eq!(refused.refusal(), told, "{path}: {}", refused.text);
                wanted.push(line(action, 403, "impersonated"));
            }
        }
        let status = app.vault(&shown, "GET", "/status", &Value::Null).await;
        assert_eq!(status.status, 403);
        assert_eq!(app.vault_lines(&ada.user_id).await[before..], wanted);
        let actors: Vec<String> = sqlx::query_scalar(
            "select distinct metadata ->> 'actor' from events where aggregate_type = 'vault' and aggregate_id = $1
             and payload::text like '%impersonated%'",
        )
        .bind(&ada.user_id)
        .fetch_all(&app.admin)
        .await
        .unwrap();
        assert_eq!(
            actors,
            [format!("user:{} as user:{}", root.user_id, ada.user_id)]
        );
    }
}

/// I-9: a session that was ended elsewhere is over here at once, whatever this node remembers.
#[tokio::test]
async fn a_session_that_was_ended_on_another_node_is_over_at_once_i9() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    for _ in 0..10 {
        let session = app.sign_in("ada").await;
        assert!(app.is_live(&session.cookie).await, "remembered");
        let out = node
            .post_as("/api/auth/sign-out", &session.cookie, &json!({}))
            .await;
        assert_eq!(out.status, 200);
        for shown in [Shown::Cookie, Shown::Token] {
            let request = app.request("GET", &format!("{VAULT}/key"));
            assert_eq!(
                answer(shown.on(&app, &session, request).await).await.status,
                401
            );
        }
    }
}

/// Sessions expire here as everywhere.
#[tokio::test]
async fn a_session_that_is_over_by_itself_gives_no_key_s32() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    app.clock.advance(TimeDelta::days(7));
    let refused = app.vault(&ada, "GET", "/key", &Value::Null).await;
    assert_eq!(refused.status, 401);
}
