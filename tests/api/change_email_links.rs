//! The links of a change of address: each for its own step, its own request and its own hour (S-28, S-61).

#![cfg(test)]

use chrono::TimeDelta;
use serde_json::json;

use crate::account::{NEW, last_link, mails, reset_token};
use crate::change_email::{
    DOORS, REFUSED, address_of, ask, change_to, comes_to_have, enters, follow,
};
use crate::client::{PASSWORD, Session, UNVERIFIED, link_token};
use crate::harness::TestApp;

/// Each step's link is good for an hour (contract section 15).
const LINK_FOR: TimeDelta = TimeDelta::hours(1);

/// The links of both steps are good for an hour, and each for its own step only.
#[tokio::test]
async fn the_links_of_a_change_are_good_for_an_hour_s61() {
    let app = TestApp::start(&[]).await;
    let node = app.node(&[]).await;
    app.verified("ada").await;
    let ada = app.sign_in("ada").await;
    let (old, new) = ("ada@example.com", "new@example.com");
    let late = "/settings?error=TOKEN_EXPIRED";
    let second = TimeDelta::seconds(1);
    ask(&app, DOORS[0], &ada, new).await;
    let confirm = last_link(&app, "change_email_confirmation", old).await;
    app.clock.advance(LINK_FOR);
    assert_eq!(follow(&node, &confirm, &ada.cookie).await, late);
    assert!(mails(&app, "verify_email", new).await.is_empty());

    ask(&app, DOORS[1], &ada, new).await;
    let confirm = last_link(&app, "change_email_confirmation", old).await;
    app.clock.advance(LINK_FOR - second);
    assert_eq!(follow(&node, &confirm, &ada.cookie).await, "/settings");
    let verify = last_link(&app, "verify_email", new).await;
    app.clock.advance(LINK_FOR);
    assert_eq!(follow(&app, &verify, &ada.cookie).await, late);
    assert_eq!(address_of(&app, &ada).await.0, old);

    let verify = verify_link_again(&app, &ada, (old, new)).await;
    app.clock.advance(LINK_FOR - second);
    assert_eq!(follow(&node, &verify, &ada.cookie).await, "/settings");
    comes_to_have(&app, &ada, new, true).await;
}

/// [`verify_link`] for an address that had such a mail before.
async fn verify_link_again(app: &TestApp, session: &Session, (old, new): (&str, &str)) -> String {
    ask(app, DOORS[0], session, new).await;
    let confirm = last_link(app, "change_email_confirmation", old).await;
    assert_eq!(follow(app, &confirm, "").await, "/settings");
    last_link(app, "verify_email", new).await
}

/// S-61: a link from before the address was proven does not get around its owner, who has a say by now.
#[tokio::test]
async fn a_link_from_before_the_proof_of_the_old_address_is_no_good_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let (old, new) = ("ada@example.com", "new@example.com");
    let proof = last_link(&app, "verify_email", old).await;
    ask(&app, DOORS[0], &ada, new).await;
    let early = last_link(&app, "verify_email", new).await;
    assert_eq!(node.follow(&proof).await.status, 302);
    assert_eq!(follow(&node, &early, &ada.cookie).await, REFUSED);
    // Nor if the change is asked for again, and nobody agrees to it.
    ask(&app, DOORS[1], &ada, new).await;
    assert_eq!(follow(&app, &early, &ada.cookie).await, REFUSED);
    assert_eq!(address_of(&app, &ada).await, (old.to_owned(), true));
    let confirm = last_link(&app, "change_email_confirmation", old).await;
    assert_eq!(follow(&node, &confirm, "").await, "/settings");
    let verify = last_link(&app, "verify_email", new).await;
    assert_eq!(follow(&app, &verify, &ada.cookie).await, "/settings");
    assert_eq!(address_of(&app, &ada).await, (new.to_owned(), true));
}

/// S-28: a token is good for its own step: every one is sent to every consumer.
#[tokio::test]
async fn the_tokens_of_a_change_are_not_interchangeable_s28() {
    let app = TestApp::start(&[]).await;
    let node = app.node(&[]).await;
    app.verified("ada").await;
    let ada = app.sign_in("ada").await;
    let (old, new) = ("ada@example.com", "new@example.com");
    change_to(&app, &ada, old, new).await;
    let revert = last_link(&app, "email_changed", old).await;
    let text = &mails(&app, "email_changed", old).await[0].text;
    let end = text.split_once("/end-sessions?token=").unwrap().1;
    let end = end.split_whitespace().next().unwrap().to_owned();
    ask(&app, DOORS[0], &ada, "next@example.com").await;
    let confirm = last_link(&app, "change_email_confirmation", new).await;
    follow(&app, &confirm, "").await;
    let verify = last_link(&app, "verify_email", "next@example.com").await;
    let reset = reset_token(&app, "/api/auth/request-password-reset", new).await;
    let [revert, confirm, verify] = [&revert, &confirm, &verify].map(|url| link_token(url));
    // Who takes it, and the token that it is for.
    let consumers = [
        ("/api/v1/auth/revert-email", vec![revert]),
        ("/api/v1/auth/end-sessions", vec![end.as_str()]),
        ("/api/auth/reset-password", vec![reset.as_str()]),
        ("/api/v1/auth/reset-password", vec![reset.as_str()]),
        ("/api/auth/verify-email", vec![confirm, verify]),
    ];
    let events = app.count("events").await;
    for (number, token) in [revert, &end, &reset, confirm, verify]
        .into_iter()
        .enumerate()
    {
        for (door, own) in &consumers {
            if own.contains(&token) {
                continue;
            }
            let at = [&app, &node][number % 2];
            let refused = if door.ends_with("verify-email") {
                at.get(&format!("{door}?token={token}")).await
            } else {
                at.post(door, &json!({"token": token, "newPassword": NEW}))
                    .await
            };
            let wanted = if door.ends_with("verify-email") {
                401
            } else {
                400
            };
            assert_eq!(refused.status, wanted, "{door}: {}", refused.text);
        }
    }
    // Consent is no proof of the new address, however often it is given.
    for _ in 0..2 {
        assert_eq!(
            follow(&node, link_of(&app, confirm).as_str(), &ada.cookie).await,
            "/settings"
        );
    }
    assert_eq!(app.count("events").await, events, "nothing was done");
    assert_eq!(address_of(&app, &ada).await.0, new);
    // Each is still good for its own.
    let verify = link_of(&app, verify);
    assert_eq!(follow(&node, &verify, &ada.cookie).await, "/settings");
    comes_to_have(&app, &ada, "next@example.com", true).await;
    let back = node
        .post("/api/v1/auth/revert-email", &json!({"token": revert}))
        .await;
    assert_eq!(back.status, 200, "{}", back.text);
    let end = app
        .post("/api/v1/auth/end-sessions", &json!({"token": end}))
        .await;
    assert_eq!(end.status, 200, "{}", end.text);
    assert_eq!(enters(&app, old, PASSWORD).await, 200);
}

fn link_of(app: &TestApp, token: &str) -> String {
    let base = &app.app.config.base_url;
    format!("{base}/api/auth/verify-email?token={token}&callbackURL=%2Fsettings")
}
