//! What people do with their account, each step on another node than the one before (I-12).

#![cfg(test)]

use std::time::{Duration, Instant};

use chrono::TimeDelta;
use serde_json::json;

use crate::account::{CHANGES, NEW, change, email_of, last_link, reset_token};
use crate::client::{ORIGIN, PASSWORD, Session, UNVERIFIED, answer, link_token};
use crate::harness::TestApp;

const BY_LINK: (&str, &str) = ("MANA_AUTH_DELETE_USER_CONFIRM", "true");
/// What was written on one node is known to all others by then (I-9).
const AT_MOST_BEHIND: Duration = Duration::from_secs(1);

/// Waits until a node sees what was written on another one. No request that begins a second later may miss it.
pub async fn soon(what: &str, mut is_seen: impl AsyncFnMut() -> bool) {
    let written = Instant::now();
    loop {
        let begun = written.elapsed();
        if is_seen().await {
            break;
        }
        assert!(begun < AT_MOST_BEHIND, "{what}: not seen after {begun:?}");
    }
}

pub async fn over_soon(at: &TestApp, session: &Session) {
    soon("the session is over", async || {
        !at.is_live(&session.cookie).await
    })
    .await;
}

/// Two nodes that remember a session.
pub async fn remembered(nodes: [&TestApp; 2], session: &Session) {
    for node in nodes {
        assert!(node.is_live(&session.cookie).await);
    }
}

/// The address that a session shows on a node.
async fn shown(at: &TestApp, session: &Session) -> String {
    let answer = at.get_as("/api/auth/get-session", &session.cookie).await;
    let email = &answer.json()["user"]["email"];
    email.as_str().unwrap_or_default().to_owned()
}

/// Follows a mailed link that asks for no session, or with it.
async fn follow(at: &TestApp, link: &str, session: Option<&Session>) -> u16 {
    let path = link.strip_prefix(&at.app.config.base_url).unwrap();
    match session {
        Some(session) => at.get_as(path, &session.cookie).await.status,
        None => at.get(path).await.status,
    }
}

/// Presses the button of the page behind a link.
async fn press(at: &TestApp, door: &str, link: &str) -> u16 {
    let request = at.request("POST", door);
    answer(request.form(&[("token", link_token(link))]))
        .await
        .status
}

#[tokio::test]
async fn a_password_is_reset_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let session = here.signed_in(name).await;
        remembered([here, there], &session).await;
        let door = "/api/auth/request-password-reset";
        let token = reset_token(here, door, &email_of(name)).await;
        let path = format!("/api/auth/reset-password/{token}?callbackURL=/new");
        let led = there.get(&path).await;
        assert!(led.header("location").ends_with(&token), "{name}");
        let body = json!({"token": token, "newPassword": NEW});
        let reset = here.post("/api/auth/reset-password", &body).await;
        assert_eq!(reset.status, 200, "{name}");
        assert_eq!(there.try_sign_in(name, PASSWORD).await.status, 401);
        assert_eq!(there.try_sign_in(name, NEW).await.status, 200);
        assert!(!here.is_live(&session.cookie).await, "at once here");
        over_soon(there, &session).await;
        let used = there.post("/api/v1/auth/reset-password", &body).await;
        assert_eq!(used.refusal(), (400, "TOKEN_INVALID".to_owned()));
    }
}

#[tokio::test]
async fn an_address_is_changed_and_changed_back_in_turns() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let (old, new) = (email_of(name), format!("new-{}", email_of(name)));
        here.verified(name).await;
        let session = here.sign_in(name).await;
        let other = there.sign_in(name).await;
        // Each node knows the account as it was before; a change that is overtaken elsewhere counts for nothing.
        for (at, to) in [(there, "other@example.com"), (here, &new)] {
            let door = "/api/auth/change-email";
            let body = json!({"newEmail": to});
            let asked = at.post_as(door, &session.cookie, &body).await;
            assert_eq!(asked.status, 200);
            remembered([here, there], &session).await;
            remembered([here, there], &other).await;
        }
        let consent = last_link(here, "change_email_confirmation", &old).await;
        assert_eq!(follow(there, &consent, None).await, 302);
        let proof = last_link(there, "verify_email", &new).await;
        assert_eq!(follow(here, &proof, Some(&session)).await, 302);

        assert_eq!(shown(here, &session).await, new, "at once here");
        soon("the new address", async || {
            shown(there, &session).await == new
        })
        .await;
        over_soon(there, &other).await;
        assert_eq!(there.try_sign_in(name, PASSWORD).await.status, 401);
        let fresh = there.sign_in(&format!("new-{name}")).await;
        remembered([here, there], &fresh).await;

        let way_back = last_link(here, "email_changed", &old).await;
        let door = "/api/v1/auth/revert-email";
        assert_eq!(press(there, door, &way_back).await, 200);
        assert!(!there.is_live(&session.cookie).await, "at once here");
        for session in [&session, &fresh] {
            over_soon(here, session).await;
        }
        assert_eq!(press(here, door, &way_back).await, 400);
        assert_eq!(here.try_sign_in(name, PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn an_account_is_deleted_in_turns() {
    let one = TestApp::start(&[UNVERIFIED, BY_LINK]).await;
    let two = one.node(&[UNVERIFIED, BY_LINK]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let session = here.signed_in(name).await;
        remembered([here, there], &session).await;
        let door = "/api/auth/delete-user";
        let asked = here.post_as(door, &session.cookie, &json!({})).await;
        assert_eq!(asked.status, 200);
        let link = last_link(here, "delete_account", &email_of(name)).await;
        assert_eq!(follow(there, &link, Some(&session)).await, 302);
        assert!(!there.is_live(&session.cookie).await, "at once here");
        over_soon(here, &session).await;
        assert_eq!(follow(here, &link, Some(&session)).await, 404);
        assert_eq!(here.try_sign_in(name, PASSWORD).await.status, 401);
        assert_eq!(here.sign_up(name).await.status, 200, "it is free again");
        assert_eq!(there.try_sign_in(name, PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn all_sessions_end_by_the_link_of_a_mail_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let session = here.signed_in(name).await;
        let changed = change(there, CHANGES[0], &session, (PASSWORD, NEW)).await;
        assert_eq!(changed.status, 200);
        remembered([here, there], &session).await;
        let link = last_link(there, "password_changed", &email_of(name)).await;
        assert_eq!(follow(there, &link, None).await, 200, "a page");
        let door = "/api/v1/auth/end-sessions";
        assert_eq!(press(here, door, &link).await, 200);
        over_soon(there, &session).await;
        assert_eq!(press(there, door, &link).await, 400);
    }
}

/// Whichever way a session is ended on one node, the other one refuses it within the second.
#[tokio::test]
async fn a_session_that_is_ended_on_one_node_is_refused_on_the_other_within_a_second_i9() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    let session = one.signed_in("ada").await;
    for (here, there) in [(&one, &two), (&two, &one)] {
        for door in [
            "/api/auth/sign-out",
            "/api/auth/revoke-session",
            "/api/auth/revoke-other-sessions",
            "/api/v1/auth/logout",
            "/api/v1/auth/sessions",
        ] {
            let other = there.sign_in("ada").await;
            remembered([here, there], &other).await;
            let shown = there.get_as("/api/auth/get-session", &other.cookie).await;
            let id = shown.json()["session"]["id"].as_str().unwrap().to_owned();
            // Sessions end by their own request, or by another one of the same person.
            let (method, path, by) = match door {
                "/api/v1/auth/sessions" => ("DELETE", format!("{door}/{id}"), &session),
                "/api/auth/revoke-other-sessions" => ("POST", door.to_owned(), &session),
                _ => ("POST", door.to_owned(), &other),
            };
            let request = here.request(method, &path).header("origin", ORIGIN);
            let request = request.header("cookie", &by.cookie);
            let ended = answer(request.json(&json!({"token": other.token}))).await;
            assert_eq!(ended.status, 200, "{door}: {}", ended.text);
            over_soon(there, &other).await;
            let jwt = shown.header("set-auth-jwt");
            let asked = there.request("GET", "/api/v1/auth/sessions");
            assert_eq!(answer(asked.bearer_auth(jwt)).await.status, 401, "{door}");
            assert!(there.is_live(&session.cookie).await, "{door}");
        }
    }
}

/// An address is proven on the node that did not mail the link, and each sees it.
#[tokio::test]
async fn an_address_is_proven_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    let session = one.signed_in("ada").await;
    remembered([&one, &two], &session).await;
    one.clock.advance(TimeDelta::minutes(1));
    let body = json!({"email": "ada@example.com"});
    let door = "/api/v1/auth/resend-verification";
    assert_eq!(two.post(door, &body).await.status, 200);
    let link = last_link(&two, "verify_email", "ada@example.com").await;
    assert_eq!(follow(&one, &link, Some(&session)).await, 302);
    soon("the proof", async || {
        let path = "/api/auth/get-session";
        let shown = two.get_as(path, &session.cookie).await.json();
        shown["user"]["emailVerified"] == true
    })
    .await;
    let door = "/api/auth/send-verification-email";
    let again = two.post_as(door, &session.cookie, &body).await;
    assert_eq!(again.refusal(), (400, "EMAIL_ALREADY_VERIFIED".to_owned()));
}
