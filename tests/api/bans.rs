//! Whoever is banned is out and stays out, until the ban is over.

#![cfg(test)]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::admin::ADMINS;
use crate::client::{PASSWORD, answer};
use crate::harness::TestApp;
use crate::password_races::Held;

#[tokio::test]
async fn a_ban_ends_sessions_at_once_and_by_itself_when_its_time_is_over() {
    let app = TestApp::start(&ADMINS).await;
    let node = app.node(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    for secs in [json!(-1), json!(1e300), json!(4e9)] {
        let body = json!({"userId": ada.user_id, "banExpiresIn": secs});
        let refused = app.admin_call("ban-user", &root.cookie, &body).await;
        assert_eq!(
            refused.refusal(),
            (400, "VALIDATION_ERROR".to_owned()),
            "{secs}"
        );
    }
    let body = json!({"userId": ada.user_id, "banExpiresIn": 3600});
    node.admin_does("ban-user", &root, &body).await;
    assert!(!node.is_live(&ada.cookie).await);
    let profile = app.request("GET", "/api/v1/auth/sessions").bearer_auth(jwt);
    assert_eq!(answer(profile).await.status, 401);
    assert_eq!(
        app.try_sign_in("ada", PASSWORD).await.refusal(),
        (403, "BANNED_USER".to_owned())
    );
    app.clock.advance(TimeDelta::seconds(3601));
    let ada = app.sign_in("ada").await;
    let person = app
        .admin_does(&format!("get-user?id={}", ada.user_id), &root, &json!({}))
        .await;
    assert_eq!(
        (&person["banned"], &person["banReason"]),
        (&json!(false), &Value::Null)
    );
}

/// A ban holds at the door of a link that proves an address and would sign in.
#[tokio::test]
async fn whoever_is_banned_is_not_let_in_by_a_verification_link() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    app.admin_does("ban-user", &root, &json!({"userId": ada.user_id}))
        .await;
    let followed = app.follow(&link).await;
    assert_eq!(followed.session_cookie(), "", "{}", followed.text);
    let of_ada = format!("read.sessions where user_id = '{}'", ada.user_id);
    assert_eq!(app.count(&of_ada).await, 0);
}

/// The sign-in is let in before the ban is written, and its session begins after it.
#[tokio::test]
async fn a_sign_in_that_is_overtaken_by_a_ban_leads_nowhere() {
    let app = TestApp::start(&ADMINS).await;
    let node = app.node(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let held = Held::start(&app).await;
    let banning = async {
        let body = json!({"userId": ada.user_id});
        node.admin_does("ban-user", &root, &body).await;
    };
    let signing_in = async {
        held.waited_for_by(&app, 1).await;
        let signing_in = app.try_sign_in("ada", PASSWORD);
        let let_go = async {
            held.waited_for_by(&app, 2).await;
            held.let_go().await;
        };
        tokio::join!(signing_in, let_go).0
    };
    let ((), signed_in) = tokio::join!(banning, signing_in);
    assert_eq!(
        signed_in.status, 200,
        "it was decided before: {}",
        signed_in.text
    );
    for node in [&app, &node] {
        assert!(!node.is_live(&signed_in.session_cookie()).await);
    }
}
