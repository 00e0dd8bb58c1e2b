//! Accounts that somebody has linked: who may link what, and what becomes of the tokens that a provider gives.

#![cfg(test)]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::client::{Answer, PASSWORD, Session, UNVERIFIED};
use crate::provider::person;
use crate::stage::{Begun, Stage, begun};

const ADA: &str = "ada@example.com";

impl Stage {
    pub async fn begin_link(&self, session: &Session) -> Begun {
        let body =
            json!({"provider": "plain", "callbackURL": "/linked", "errorCallbackURL": "/oops"});
        begun(
            &self
                .app
                .post_as("/api/auth/link-social", &session.cookie, &body)
                .await,
        )
    }

    pub async fn link(&self, session: &Session, claims: Value) -> String {
        let begun = self.begin_link(session).await;
        let code = self.agree(&begun, claims);
        let came_back = self
            .come_back("plain", &begun, &format!("code={code}"))
            .await;
        assert_eq!(came_back.session_cookie(), "", "linking signs nobody in");
        came_back.header("location").to_owned()
    }

    async fn accounts(&self, session: &Session) -> Vec<Value> {
        let accounts = self
            .app
            .get_as("/api/auth/list-accounts", &session.cookie)
            .await;
        accounts.json().as_array().unwrap().clone()
    }

    /// The id of the account that somebody has linked.
    pub async fn linked_id(&self, session: &Session) -> String {
        let accounts = self.accounts(session).await;
        let linked = accounts
            .iter()
            .find(|account| account["providerId"] == "plain");
        linked.unwrap()["id"].as_str().unwrap().to_owned()
    }

    async fn of_account(&self, route: &str, session: &Session, id: &str) -> Answer {
        let path = format!("/api/auth/{route}");
        self.app
            .post_as(&path, &session.cookie, &json!({"accountId": id}))
            .await
    }
}

#[tokio::test]
async fn only_ones_own_address_is_linked_and_to_one_account_only() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let ada = stage.app.signed_in("ada").await;
    let bob = stage.app.signed_in("bob").await;
    for (claims, code) in [
        (
            person("s1", "eve@example.com", true),
            "email_does_not_match",
        ),
        (person("s1", ADA, false), "unable_to_link_account"),
        (json!({"sub": "s1"}), "email_not_found"),
    ] {
        assert_eq!(
            stage.link(&ada, claims).await,
            format!("/oops?error={code}")
        );
    }
    assert_eq!(stage.accounts(&ada).await.len(), 1);
    // Twice is once.
    for _ in 0..2 {
        assert_eq!(stage.link(&ada, person("s1", ADA, true)).await, "/linked");
    }
    assert_eq!(stage.accounts(&ada).await.len(), 2);
    let foreign = "/oops?error=account_already_linked_to_different_user";
    assert_eq!(
        stage
            .link(&bob, person("s1", "bob@example.com", true))
            .await,
        foreign
    );
    // Nobody else's account is there for anybody.
    let id = stage.linked_id(&ada).await;
    for route in ["unlink-account", "get-access-token", "refresh-token"] {
        let refused = stage.of_account(route, &bob, &id).await;
        assert_eq!(
            refused.refusal(),
            (400, "ACCOUNT_NOT_FOUND".to_owned()),
            "{route}"
        );
    }
}

/// S-07: whatever ends the session ends the links that began in it.
#[tokio::test]
async fn a_link_ends_with_the_session_that_began_it_s07() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let ada = stage.app.signed_in("ada").await;
    let begun = stage.begin_link(&ada).await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let other = stage.app.sign_in("ada").await;
    let revoked = stage
        .app
        .post_as("/api/auth/revoke-other-sessions", &other.cookie, &json!({}))
        .await;
    assert_eq!(revoked.status, 200);
    let came_back = stage
        .come_back("plain", &begun, &format!("code={code}"))
        .await;
    assert_eq!(
        came_back.header("location"),
        "/oops?error=unable_to_link_account"
    );
    assert_eq!(stage.accounts(&other).await.len(), 1);
}

#[tokio::test]
async fn an_account_without_a_password_keeps_its_only_link() {
    let stage = Stage::set(&[]).await;
    let came_back = stage.sign_in("plain", person("s1", ADA, true)).await;
    let cookie = came_back.session_cookie();
    let session = Session {
        user_id: String::new(),
        token: String::new(),
        cookie,
    };
    let id = stage.linked_id(&session).await;
    let last = stage.of_account("unlink-account", &session, &id).await;
    assert_eq!(
        last.refusal(),
        (400, "FAILED_TO_UNLINK_LAST_ACCOUNT".to_owned())
    );
    stage.app.clock.advance(TimeDelta::days(1));
    let old = stage.of_account("unlink-account", &session, &id).await;
    assert_eq!(old.refusal(), (403, "SESSION_NOT_FRESH".to_owned()));
}

#[tokio::test]
async fn a_password_goes_like_any_account_while_there_is_another() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let ada = stage.app.signed_in("ada").await;
    assert_eq!(stage.link(&ada, person("s1", ADA, true)).await, "/linked");
    let accounts = stage.accounts(&ada).await;
    let password = accounts
        .iter()
        .find(|account| account["providerId"] == "credential")
        .unwrap();
    let id = password["id"].as_str().unwrap();
    assert_eq!(
        stage.of_account("unlink-account", &ada, id).await.status,
        200
    );
    let refused = stage.app.try_sign_in("ada", PASSWORD).await;
    assert_eq!(
        refused.refusal(),
        (401, "INVALID_EMAIL_OR_PASSWORD".to_owned())
    );
    let came_back = stage.sign_in("plain", person("s1", ADA, true)).await;
    assert_eq!(came_back.header("location"), "/in");
}

#[tokio::test]
async fn an_access_token_is_renewed_when_it_is_nearly_over() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let ada = stage.app.signed_in("ada").await;
    stage.link(&ada, person("s1", ADA, true)).await;
    let id = stage.linked_id(&ada).await;
    let token = async || {
        let answer = stage.of_account("get-access-token", &ada, &id).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["accessToken"].as_str().unwrap().to_owned()
    };
    let first = token().await;
    stage.app.clock.advance(TimeDelta::seconds(3594));
    assert_eq!(token().await, first);
    stage.app.clock.advance(TimeDelta::seconds(1));
    let second = token().await;
    assert_ne!(second, first);
    assert_eq!(token().await, second, "the new one is kept");
    let refreshed = stage.of_account("refresh-token", &ada, &id).await;
    assert_ne!(refreshed.json()["accessToken"], json!(second));
    // A provider that is down costs nothing but the answer.
    stage
        .provider
        .with(|known| known.down = vec!["/token", "/userinfo"]);
    let failed = stage.of_account("refresh-token", &ada, &id).await;
    assert_eq!(
        failed.refusal(),
        (400, "FAILED_TO_REFRESH_ACCESS_TOKEN".to_owned())
    );
    let info = format!("/api/auth/account-info?accountId={id}");
    let failed = stage.app.get_as(&info, &ada.cookie).await;
    assert_eq!(
        failed.refusal(),
        (400, "FAILED_TO_GET_USER_INFO".to_owned())
    );
    stage.app.clock.advance(TimeDelta::hours(1));
    let failed = stage.of_account("get-access-token", &ada, &id).await;
    assert_eq!(
        failed.refusal(),
        (400, "FAILED_TO_GET_ACCESS_TOKEN".to_owned())
    );
    stage.provider.with(|known| known.down.clear());
    assert_ne!(
        token().await,
        refreshed.json()["accessToken"].as_str().unwrap()
    );
}

/// What a provider gives is in custody alone, and nowhere after the link, the account or a takeover has ended it.
#[tokio::test]
async fn tokens_of_a_provider_are_sealed_and_go_with_the_link() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let kept = async || {
        stage
            .app
            .count("custody where kind = 'provider_tokens'")
            .await
    };
    let ada = stage.app.signed_in("ada").await;
    stage.link(&ada, person("subject-of-ada", ADA, true)).await;
    let id = stage.linked_id(&ada).await;
    let given = stage.of_account("refresh-token", &ada, &id).await.json();
    let begun = stage.begin("oidc").await;
    let dump = stage.app.dump().await;
    for name in ["accessToken", "refreshToken"] {
        let token = given[name].as_str().unwrap();
        assert!(token.len() == 40 && !dump.contains(token), "{name}");
    }
    assert!(!dump.contains(&begun.state));
    // The log holds no id of a person elsewhere in clear; the read model does, as it does addresses.
    let events: Vec<String> = sqlx::query_scalar("select e::text from events e")
        .fetch_all(&stage.app.admin)
        .await
        .unwrap();
    assert!(!events.join("\n").contains("subject-of-ada"));
    assert_eq!(kept().await, 1);
    assert_eq!(
        stage.of_account("unlink-account", &ada, &id).await.status,
        200
    );
    assert_eq!(kept().await, 0);

    stage.link(&ada, person("subject-of-ada", ADA, true)).await;
    assert_eq!(kept().await, 1);
    // Whoever proves the address by a link shuts out what was linked before (S-67).
    let body = json!({"email": ADA, "callbackURL": "/in"});
    stage.app.post("/api/auth/sign-in/magic-link", &body).await;
    let mail = stage.app.wait_for_mail(ADA, 1).await;
    let path = mail
        .url
        .unwrap()
        .replace("/api/v1/auth/magic-link", "/api/auth/magic-link/verify");
    let owner = stage.app.follow(&path).await;
    assert_eq!(
        owner.header("location"),
        format!("{}/in", stage.app.app.config.base_url)
    );
    assert_eq!(kept().await, 0);

    let cookie = owner.session_cookie();
    let session = Session { cookie, ..ada };
    assert_eq!(
        stage
            .link(&session, person("subject-of-ada", ADA, true))
            .await,
        "/linked"
    );
    let deleted = stage
        .app
        .post_as("/api/auth/delete-user", &session.cookie, &json!({}))
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    assert_eq!(kept().await, 0);
}
