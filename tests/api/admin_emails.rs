//! Who is an admin by configuration: the addresses of `MANA_AUTH_ADMIN_EMAILS`, once they count.

#![cfg(test)]

use serde_json::json;

use crate::account::last_link;
use crate::authenticator::Authenticator;
use crate::change_email::{DOORS, UNCONFIRMED, ask, follow};
use crate::client::{PASSWORD, UNVERIFIED, claims};
use crate::harness::TestApp;
use crate::passkeys;

const ADMINS: (&str, &str) = ("MANA_AUTH_ADMIN_EMAILS", "Root@Example.com");

#[tokio::test]
async fn a_configured_address_is_an_admin_only_once_it_is_proven() {
    let app = TestApp::start(&[ADMINS]).await;
    let signed_up = app.sign_up("root").await;
    assert_eq!(signed_up.json()["user"]["role"], "user");
    assert_eq!(
        app.count("read.users where role = 'admin'").await,
        0,
        "anybody can write that address into a form"
    );
    let link = app.wait_for_mail("root@example.com", 0).await.url.unwrap();
    let followed = app.follow(&link).await;
    assert_eq!(
        claims(&app.jwt(&followed.session_cookie()).await)["role"],
        "admin"
    );
    let signed_in = app.sign_in("root").await;
    assert_eq!(claims(&app.jwt(&signed_in.cookie).await)["role"], "admin");
    assert_eq!(
        app.count("events where event_type = 'user.role_changed'")
            .await,
        1,
        "it is given once"
    );
}

#[tokio::test]
async fn a_configured_address_is_an_admin_at_once_where_no_proof_is_asked_for() {
    let app = TestApp::start(&[ADMINS, UNVERIFIED]).await;
    let admin = app.signed_in("root").await;
    assert_eq!(claims(&app.jwt(&admin.cookie).await)["role"], "admin");
    for name in ["root2", "root+x", "r.oot", "ada"] {
        let other = app.signed_in(name).await;
        assert_eq!(
            claims(&app.jwt(&other.cookie).await)["role"],
            "user",
            "{name}"
        );
    }
}

#[tokio::test]
async fn an_address_that_is_configured_later_counts_from_the_next_sign_in() {
    let app = TestApp::start(&[]).await;
    app.verified("root").await;
    let before = app.sign_in("root").await;
    assert_eq!(claims(&app.jwt(&before.cookie).await)["role"], "user");
    let node = app.node(&[ADMINS]).await;
    let body = json!({"email": "root@example.com", "password": PASSWORD});
    let login = node.post("/api/v1/auth/login", &body).await.json();
    assert_eq!(
        claims(login["accessToken"].as_str().unwrap())["role"],
        "admin"
    );
    assert_eq!(login["user"]["role"], "admin");
}

#[tokio::test]
async fn a_passkey_signs_a_configured_admin_in_as_one() {
    let app = TestApp::start(&[]).await;
    app.verified("root").await;
    let session = app.sign_in("root").await;
    let authenticator = Authenticator::new();
    passkeys::add(&app, &session, &authenticator).await;
    let node = app.node(&[ADMINS]).await;
    let signed_in = passkeys::sign_in(&node, &authenticator).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    let cookie = signed_in.session_cookie();
    assert_eq!(claims(&node.jwt(&cookie).await)["role"], "admin");
}

#[tokio::test]
async fn whoever_changes_to_a_configured_address_is_an_admin_once_it_is_proven() {
    let app = TestApp::start(&[ADMINS, UNCONFIRMED]).await;
    app.verified("ada").await;
    let session = app.sign_in("ada").await;
    ask(&app, DOORS[0], &session, "root@example.com").await;
    assert_eq!(claims(&app.jwt(&session.cookie).await)["role"], "user");
    let link = last_link(&app, "verify_email", "root@example.com").await;
    follow(&app, &link, &session.cookie).await;
    assert_eq!(claims(&app.jwt(&session.cookie).await)["role"], "admin");
}
