//! Ways in, and what people do in organizations and as admins, each step on another node than the one before (I-12).

#![cfg(test)]

use serde_json::{Value, json};

use crate::admin::ADMINS;
use crate::authenticator::Authenticator;
use crate::client::{UNVERIFIED, answer, session_of};
use crate::harness::TestApp;
use crate::impersonation::jar;
use crate::nodes_self_service::{over_soon, remembered, soon};
use crate::organizations::ALL_ON;
use crate::passkeys::{ADD, OWN_ADD, OWN_SIGN_IN, SIGN_IN, begin, end};
use crate::provider::person;
use crate::stage::{Stage, come_back};
use crate::two_factor::{Careful, challenge, cookie_of, mailed_code, show, show_code, sign_in_on};
use crate::{api_keys, magic_link};

#[tokio::test]
async fn a_second_factor_is_shown_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let person = Careful::start(here, name).await;
        let waits = challenge(there, name).await;
        let body = json!({"code": person.code(here), "trustDevice": true});
        let entered = show(here, "verify-totp", &waits, &body).await;
        remembered([here, there], &session_of(&entered)).await;
        let device = cookie_of(&entered, "trust_device").unwrap();
        let trusted = sign_in_on(there, &device, name, crate::client::PASSWORD).await;
        assert!(
            there.is_live(&trusted.session_cookie()).await,
            "{}",
            trusted.text
        );

        let waits = challenge(here, name).await;
        assert_eq!(
            show(there, "send-otp", &waits, &json!({})).await.status,
            200
        );
        let code = mailed_code(here, &format!("{name}@example.com"), 1).await;
        let entered = show_code(here, "verify-otp", &waits, &code).await;
        assert_eq!(entered.status, 200, "{}", entered.text);
        let used = show_code(there, "verify-otp", &waits, &code).await;
        assert_eq!(used.refusal().1, "INVALID_TWO_FACTOR_COOKIE");

        let waits = challenge(there, name).await;
        let code = &person.codes[0];
        let entered = show_code(here, "verify-backup-code", &waits, code).await;
        assert_eq!(entered.status, 200, "{}", entered.text);
        let waits = challenge(here, name).await;
        let used = show_code(there, "verify-backup-code", &waits, code).await;
        assert_eq!(used.refusal().1, "INVALID_BACKUP_CODE");
    }
}

#[tokio::test]
async fn a_magic_link_is_followed_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        // Once with an account that the link proves, once with one that it makes.
        let before = here.signed_in(name).await;
        remembered([here, there], &before).await;
        for email in [
            format!("{name}@example.com"),
            format!("new-{name}@example.com"),
        ] {
            let url = magic_link::link(here, &email, json!({})).await;
            let entered = magic_link::follow(there, &url).await;
            assert_eq!(entered.status, 200, "{}", entered.text);
            remembered([here, there], &session_of(&entered)).await;
            let used = magic_link::follow(here, &url).await;
            assert!(used.header("location").contains("error=INVALID_TOKEN"));
        }
        over_soon(here, &before).await;
    }
}

#[tokio::test]
async fn a_passkey_is_added_and_used_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let session = here.signed_in(name).await;
        for (add, sign_in) in [(ADD, SIGN_IN), (OWN_ADD, OWN_SIGN_IN)] {
            let key = Authenticator::new();
            let begun = begin(here, "register", &session.cookie).await;
            let cookies = format!("{}; {}", session.cookie, begun.cookie);
            let added = end(there, add, &cookies, &key.create(&begun.options)).await;
            assert_eq!(added.status, 200, "{}", added.text);
            let begun = begin(there, "authenticate", "").await;
            let response = key.get(&begun.options);
            let entered = end(here, sign_in, &begun.cookie, &response).await;
            assert_eq!(entered.status, 200, "{}", entered.text);
            assert!(there.is_live(&entered.session_cookie()).await);
            let used = end(there, sign_in, &begun.cookie, &response).await;
            assert_ne!(used.status, 200);
        }
    }
}

#[tokio::test]
async fn somebody_comes_back_from_a_provider_in_turns() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let node = stage.node().await;
    for (number, name) in ["oidc", "plain"].into_iter().enumerate() {
        let begun = stage.begin(name).await;
        let email = format!("p{number}@example.com");
        let query = format!("code={}", stage.agree(&begun, person(name, &email, true)));
        let entered = come_back(&node, name, &begun, &query).await;
        assert_eq!(entered.header("location"), "/new");
        assert!(stage.app.is_live(&entered.session_cookie()).await);
        let used = stage.come_back(name, &begun, &query).await;
        assert!(used.header("location").ends_with("error=state_mismatch"));
    }
    // The same for an account that somebody links.
    let ada = node.signed_in("ada").await;
    let begun = stage.begin_link(&ada).await;
    let claims = person("ada-there", "ada@example.com", true);
    let query = format!("code={}", stage.agree(&begun, claims));
    let linked = come_back(&node, "plain", &begun, &query).await;
    assert_eq!(linked.header("location"), "/linked");
    let id = stage.linked_id(&ada).await;
    let body = json!({"accountId": id});
    let token = node.post_as("/api/auth/get-access-token", &ada.cookie, &body);
    assert_eq!(token.await.status, 200);
}

#[tokio::test]
async fn an_invitation_is_answered_and_a_role_changed_in_turns() {
    let one = TestApp::start(&ALL_ON).await;
    let two = one.node(&ALL_ON).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let owner = here.signed_in(&format!("owner-of-{name}")).await;
        let organization = here.founded(&owner, name).await;
        let guest = there.signed_in(name).await;
        let invitation = here.invited(&owner, &organization, name, "admin").await;
        let body = json!({"invitationId": invitation});
        let accepted = there.organized(&guest, "accept-invitation", &body).await;
        let member = &accepted["member"]["id"];
        let used = here.organization(&guest, "accept-invitation", &body).await;
        assert_eq!(used.refusal().1, "INVITATION_NOT_FOUND");

        // What a role allows is decided by what it is now, on whichever node.
        let invite =
            |to: &str| json!({"email": to, "role": "member", "organizationId": organization});
        let first = format!("first-of-{name}@example.com");
        here.organized(&guest, "invite-member", &invite(&first))
            .await;
        let demote = json!({"memberId": member, "role": "member", "organizationId": organization});
        here.organized(&owner, "update-member-role", &demote).await;
        let second = format!("second-of-{name}@example.com");
        let refused = there
            .organization(&guest, "invite-member", &invite(&second))
            .await;
        assert_eq!(refused.status, 403, "{}", refused.text);

        let remove = json!({"memberIdOrEmail": member, "organizationId": organization});
        there.organized(&owner, "remove-member", &remove).await;
        let route = format!("get-full-organization?organizationId={organization}");
        for at in [here, there] {
            assert_eq!(at.organization_read(&guest, &route).await.status, 403);
        }
    }
}

#[tokio::test]
async fn an_admin_acts_as_somebody_and_goes_back_in_turns() {
    let one = TestApp::start(&ADMINS).await;
    let two = one.node(&ADMINS).await;
    let root = one.signed_in("root").await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let person = there.signed_in(name).await;
        let acting = here.impersonate(&root, &person).await;
        let cookies = jar(&acting);
        let shown = there.get_as("/api/auth/get-session", &cookies).await.json();
        assert_eq!(shown["session"]["impersonatedBy"], json!(root.user_id));
        assert!(here.is_live(&cookies).await);
        let nothing = json!({});
        let stopped = there
            .admin_call("stop-impersonating", &cookies, &nothing)
            .await;
        assert_eq!(stopped.json()["user"]["id"], json!(root.user_id));
        soon("it is over", async || {
            !here.is_live(&acting.session_cookie()).await
        })
        .await;
        remembered([here, there], &root).await;
    }
}

#[tokio::test]
async fn a_key_is_made_used_and_revoked_in_turns() {
    let one = TestApp::start(&[UNVERIFIED]).await;
    let two = one.node(&[UNVERIFIED]).await;
    for (here, there, name) in [(&one, &two, "ada"), (&two, &one, "bob")] {
        let jwt = here.jwt(&here.signed_in(name).await.cookie).await;
        let made = api_keys::create(here, &jwt, &json!({"name": "x"})).await;
        let key = made["key"].as_str().unwrap();
        for at in [there, here] {
            assert_eq!(api_keys::validate(at, key).await["valid"], true);
        }
        let path = format!("/{}", made["id"].as_str().unwrap());
        let revoked = api_keys::ask(there, &jwt, "DELETE", &path, &Value::Null).await;
        assert_eq!(revoked.status, 200, "{}", revoked.text);
        for at in [here, there] {
            assert_eq!(api_keys::validate(at, key).await, json!({"valid": false}));
        }
    }
}

/// S-31: whoever is banned or removed on one node is out of the other within a second, however they show who they are.
#[tokio::test]
async fn whoever_is_banned_or_removed_is_out_on_the_other_node_s31() {
    let one = TestApp::start(&ADMINS).await;
    let two = one.node(&ADMINS).await;
    let root = one.signed_in("root").await;
    for (here, there) in [(&one, &two), (&two, &one)] {
        for route in ["ban-user", "remove-user", "revoke-user-sessions"] {
            let name = format!("{route}-{}", here.base.rsplit_once(':').unwrap().1);
            let session = there.signed_in(&name).await;
            remembered([here, there], &session).await;
            let jwt = there.jwt(&session.cookie).await;
            let key = api_keys::create(there, &jwt, &json!({"name": "x"})).await;
            let key = key["key"].as_str().unwrap().to_owned();
            let refresh = json!({"refreshToken": session.token});
            let refreshed = there.post("/api/v1/auth/refresh", &refresh).await;
            assert_eq!(refreshed.status, 200, "{}", refreshed.text);

            here.admin_does(route, &root, &json!({"userId": session.user_id}))
                .await;
            over_soon(there, &session).await;
            let sessions = there.request("GET", "/api/v1/auth/sessions");
            assert_eq!(
                answer(sessions.bearer_auth(&jwt)).await.status,
                401,
                "{route}"
            );
            let refreshed = there.post("/api/v1/auth/refresh", &refresh).await;
            assert_eq!(refreshed.status, 401, "{route}");
            // Ended sessions leave the keys of programs alone.
            let valid = api_keys::validate(there, &key).await["valid"] == true;
            assert_eq!(valid, route == "revoke-user-sessions", "{route}");
        }
    }
}
