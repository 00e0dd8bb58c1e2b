//! What a node remembers of sessions and vaults is checked where a call is written down (I-9, I-12).

use serde_json::{Value, json};

use super::Mode::WithRecovery;
use super::{VAULT, bring_to, on};
use crate::admin::ADMINS;
use crate::client::{Answer, Session, UNVERIFIED, answer};
use crate::harness::TestApp;

const ROUNDS: usize = 10;

async fn key(app: &TestApp, bearer: &str) -> Answer {
    let request = app.request("GET", &format!("{VAULT}/key"));
    answer(request.bearer_auth(bearer)).await
}

async fn calls(app: &TestApp, who: &Session) -> i64 {
    let of = format!(
        "events where aggregate_type = 'vault' and aggregate_id = '{}'",
        who.user_id
    );
    app.count(&of).await
}

/// I-9: a node that has just given the key out gives nothing more once another one has ended the session, or banned its
/// person, whether it is shown a cookie, a session's token or an access token.
#[tokio::test]
async fn a_session_that_ended_elsewhere_gets_nothing() {
    let settings = [UNVERIFIED, ADMINS[0], ADMINS[1]];
    let app = TestApp::start(&settings).await;
    let node = app.node(&settings).await;
    let root = app.signed_in("root").await;
    for round in 0..ROUNDS {
        let ada = app.signed_in(&format!("ada{round}")).await;
        bring_to(&app, &ada, WithRecovery).await;
        let access = app.jwt(&ada.cookie).await;
        for _ in 0..2 {
            assert_eq!(key(&node, &ada.token).await.status, 200);
            assert_eq!(key(&node, &access).await.status, 200);
            node.vault_key(&ada).await;
        }
        let before = calls(&app, &ada).await;
        if round % 2 == 0 {
            app.post_as("/api/auth/sign-out", &ada.cookie, &json!({}))
                .await;
        } else {
            let body = json!({"userId": ada.user_id});
            let banned = app.post_as("/api/auth/admin/ban-user", &root.cookie, &body);
            assert_eq!(banned.await.status, 200);
        }
        let refused = [
            key(&node, &ada.token).await,
            key(&node, &access).await,
            node.vault(&ada, "GET", "/key", &Value::Null).await,
        ];
        for refused in refused {
            assert_eq!(refused.status, 401, "{}", refused.text);
        }
        assert_eq!(calls(&app, &ada).await, before);
    }
}

/// I-12: what another node has changed is what the next call finds, and each call is one event.
#[tokio::test]
async fn a_vault_that_was_changed_elsewhere_is_as_it_is() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    let mut known = node.vault_key(&ada).await;
    for _ in 0..ROUNDS {
        assert_eq!(node.vault_key(&ada).await, known);
        let rotated = app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
        assert_ne!(rotated["masterKey"], json!(known));
        known = node.vault_key(&ada).await;
        assert_eq!(rotated["masterKey"], json!(known));
    }
    bring_to(&app, &ada, WithRecovery).await;
    node.vault_key(&ada).await;
    let before = calls(&app, &ada).await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    let given = node.vault(&ada, "GET", "/key", &Value::Null).await.json();
    assert_eq!(given["requiresRecoveryCode"], json!(true), "{given}");
    assert_eq!(calls(&app, &ada).await, before + 2);
}

/// A row that was altered behind our back is no longer what a node remembers.
#[tokio::test]
async fn a_row_that_was_altered_gives_no_key() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    for _ in 0..3 {
        app.vault_key(&ada).await;
    }
    let altered = "update encryption_vaults set wrap_version = wrap_version + 1";
    sqlx::query(altered).execute(&app.admin).await.unwrap();
    let failed = app.vault(&ada, "GET", "/key", &Value::Null).await;
    assert_eq!(failed.status, 500, "{}", failed.text);
}
