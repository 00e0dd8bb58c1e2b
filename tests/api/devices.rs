//! Devices that an account was used on: whoever signs in on another one is told.

#![cfg(test)]

use chrono::TimeDelta;
use serde_json::json;

use crate::client::{PASSWORD, UNVERIFIED, answer};
use crate::harness::TestApp;

#[tokio::test]
async fn only_a_device_that_is_new_beside_known_ones_is_mailed_about() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let from = async |address: &str, agent: &str| {
        let body = json!({"email": "ada@example.com", "password": PASSWORD});
        let request = app.request("POST", "/api/v1/auth/login").json(&body);
        let request = request.header("x-forwarded-for", address);
        let answer = answer(request.header("user-agent", agent)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        app.mails_of("new_device", "ada@example.com").await
    };
    // From no address that could be known.
    app.signed_in("ada").await;
    assert_eq!(from("203.0.113.1", "Firefox").await, 0, "the first one");
    assert_eq!(from("203.0.113.99", "Firefox").await, 0, "the same network");
    assert_eq!(from("203.0.113.1", "Chrome").await, 1);
    assert_eq!(from("198.51.100.1", "Firefox").await, 2);
    assert_eq!(from("198.51.100.7", "Firefox").await, 2, "known by now");
    app.clock.advance(TimeDelta::days(31));
    assert_eq!(from("203.0.113.1", "Firefox").await, 3, "forgotten");
    let mails = app.mails();
    let mail = mails
        .iter()
        .rfind(|mail| mail.kind == "new_device")
        .unwrap();
    let link = mail.url.as_ref().unwrap();
    assert!(link.contains("/api/v1/auth/end-sessions?token="));
}
