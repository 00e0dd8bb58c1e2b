//! Why an admin acts as somebody: said where it has to be, seen by the person, and gone with them (S-66).

#![cfg(test)]

use serde_json::{Value, json};

use crate::admin::ADMINS;
use crate::client::Session;
use crate::harness::TestApp;

const REASON: &str = "Ticket 4711: she cannot open her invoices";
const ON: (&str, &str) = ("MANA_AUTH_STEP_UP", "on");

async fn act(app: &TestApp, root: &Session, ada: &Session) {
    let body = json!({"userId": ada.user_id, "reason": REASON});
    app.admin_does("impersonate-user", root, &body).await;
}

/// The line of the security log about the beginning.
fn started(lines: &Value) -> &Value {
    let mut lines = lines.as_array().unwrap().iter();
    let is_start = |line: &&Value| {
        let name = line["eventType"].as_str().unwrap();
        name.eq_ignore_ascii_case("IMPERSONATION_STARTED")
    };
    &lines.find(is_start).unwrap()["metadata"]
}

/// S-66: the person and the admins read it; the log holds it under the person's key only.
#[tokio::test]
async fn the_reason_is_told_to_the_person_and_sealed_under_their_key_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    act(&app, &root, &ada).await;
    let own = app
        .get_as("/api/v1/auth/security-events", &ada.cookie)
        .await
        .json();
    assert_eq!(started(&own)["reason"], json!(REASON));
    assert_eq!(started(&own)["impersonatedBy"], json!(root.user_id));
    let path = format!("/api/v1/admin/security-events?userId={}", ada.user_id);
    let jwt = app.jwt(&root.cookie).await;
    let all = app.request("GET", &path).bearer_auth(jwt);
    let all = crate::client::answer(all).await.json();
    assert_eq!(started(&all["events"])["reason"], json!(REASON));

    let of_log = "events e where e::text like '%Ticket 4711%'";
    assert_eq!(app.count(of_log).await, 0);
    let body = json!({"userId": ada.user_id});
    app.admin_does("remove-user", &root, &body).await;
    app.effects_done().await;
    assert!(!app.dump().await.contains("Ticket 4711"));
}

/// The official client sends no reason, so one is asked for only where a step-up is.
#[tokio::test]
async fn a_reason_is_asked_for_where_a_step_up_is_s66() {
    let app = TestApp::start(&ADMINS).await;
    let strict = app.node(&[ON, ADMINS[0], ADMINS[1]]).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let without = json!({"userId": ada.user_id});
    app.admin_does("impersonate-user", &root, &without).await;
    let own = app
        .get_as("/api/v1/auth/security-events", &ada.cookie)
        .await
        .json();
    assert_eq!(started(&own).get("reason"), None);
    for (reason, words) in [
        (Value::Null, "expected string, received null"),
        (json!(""), "expected string to have >=1 characters"),
        (json!(7), "expected string, received number"),
    ] {
        let body = json!({"userId": ada.user_id, "reason": reason});
        let refused = strict
            .admin_call("impersonate-user", &root.cookie, &body)
            .await;
        let wanted = (400, "VALIDATION_ERROR".to_owned());
        assert_eq!(refused.refusal(), wanted, "{reason}");
        assert!(refused.text.contains(words), "{}", refused.text);
    }
    let refused = strict
        .admin_call("impersonate-user", &root.cookie, &without)
        .await;
    assert_eq!(refused.refusal(), (400, "VALIDATION_ERROR".to_owned()));
    act(&strict, &root, &ada).await;
}
