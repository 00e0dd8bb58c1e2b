//! Custody that came back from a backup older than the log: what was replaced or destroyed since is not used.

#![cfg(test)]

use serde_json::{Value, json};
use sqlx::Executor as _;

use crate::account::{email_of, reset_token};
use crate::client::{PASSWORD, UNVERIFIED};
use crate::harness::TestApp;
use crate::two_factor::{Careful, cookie_of, show, show_code};
use crate::vault::{Mode, bring_to, mode_of, on};

const TABLES: [&str; 2] = ["custody", "encryption_vaults"];
const CHANGED: &str = "changed battery staple";
const RESET: &str = "reset battery staple";

/// Backs custody up under a name.
async fn back_up(app: &TestApp, name: &str) {
    for table in TABLES {
        let copy = format!("create table {name}_{table} as table {table}");
        app.admin.execute(copy.as_str()).await.unwrap();
    }
}

/// Restores custody, and nothing else.
async fn restore(app: &TestApp, name: &str) {
    for table in TABLES {
        let back = format!("delete from {table}; insert into {table} table {name}_{table}");
        app.admin.execute(back.as_str()).await.unwrap();
    }
}

/// Design 6: until they are set anew.
#[tokio::test]
async fn credentials_of_before_are_locked() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    back_up(&app, "before").await;
    let used = app.try_sign_in("ada", PASSWORD).await;
    let challenge = cookie_of(&used, "two_factor").unwrap();
    let used = show_code(&app, "verify-backup-code", &challenge, &ada.codes[0]).await;
    assert_eq!(used.status, 200, "{}", used.text);
    let body = json!({"currentPassword": PASSWORD, "newPassword": CHANGED});
    let changed = app.post_as("/api/auth/change-password", &ada.session.cookie, &body);
    assert_eq!(changed.await.status, 200);

    restore(&app, "before").await;
    for password in [PASSWORD, CHANGED] {
        let refused = app.try_sign_in("ada", password).await;
        let wrong = (401, "INVALID_EMAIL_OR_PASSWORD".to_owned());
        assert_eq!(refused.refusal(), wrong, "{password}");
    }
    let asked = "/api/auth/request-password-reset";
    let token = reset_token(&app, asked, &email_of("ada")).await;
    let body = json!({"token": token, "newPassword": RESET});
    let done = app.post("/api/auth/reset-password", &body).await;
    assert_eq!(done.status, 200, "{}", done.text);

    let entered = app.try_sign_in("ada", RESET).await;
    let challenge = cookie_of(&entered, "two_factor").unwrap();
    for code in &ada.codes[..2] {
        let refused = show_code(&app, "verify-backup-code", &challenge, code).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
    }
    // Nothing has happened to the secret of the app since.
    let entered = show_code(&app, "verify-totp", &challenge, &ada.code(&app)).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    let cookie = entered.session_cookie();
    let body = json!({"password": RESET});
    let made = show(&app, "generate-backup-codes", &cookie, &body).await;
    let code = made.json()["backupCodes"][0].as_str().unwrap().to_owned();
    let entered = app.try_sign_in("ada", RESET).await;
    let challenge = cookie_of(&entered, "two_factor").unwrap();
    let used = show_code(&app, "verify-backup-code", &challenge, &code).await;
    assert_eq!(used.status, 200, "{}", used.text);
}

/// Design 6: a factor that was turned off stays off.
#[tokio::test]
async fn what_was_destroyed_does_not_come_back() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    back_up(&app, "before").await;
    let body = json!({"password": PASSWORD});
    let off = show(&app, "disable", &ada.session.cookie, &body).await;
    let cookie = cookie_of(&off, "session_token").unwrap();
    restore(&app, "before").await;
    let there = "custody where kind in ('totp', 'backup_codes')";
    assert_eq!(app.count(there).await, 2);
    let shown = show(&app, "get-totp-uri", &cookie, &body).await;
    assert_eq!(shown.refusal(), (400, "TOTP_NOT_ENABLED".to_owned()));
    assert!(app.try_sign_in("ada", PASSWORD).await.json()["token"].is_string());
}

/// I-7: such as that of an organization that was closed.
#[tokio::test]
async fn a_data_key_that_was_destroyed_opens_nothing() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let closed = app.founded(&ada, "closed").await;
    let stays = app.founded(&ada, "stays").await;
    back_up(&app, "before").await;
    let body = json!({"organizationId": closed});
    let done = app.post_as("/api/auth/organization/delete", &ada.cookie, &body);
    assert_eq!(done.await.status, 200);
    restore(&app, "before").await;
    let there = format!("custody where kind = 'data_key' and owner = '{closed}'");
    assert_eq!(app.count(&there).await, 1);

    let custody = app.app.store.custody();
    let both = [closed.clone(), stays.clone()];
    for owner in &both {
        custody.forget(owner);
    }
    assert!(custody.data_key(&closed).await.unwrap().is_none());
    assert!(custody.data_key(&stays).await.unwrap().is_some());
    custody.forget(&stays);
    let found = custody.data_keys(&both).await.unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&stays]);
    let all = custody.all_data_keys(&app.app.pool).await.unwrap();
    assert!(!all.contains_key(&closed) && all.contains_key(&stays));
    // A subject that is there again gets another key.
    custody.ensure_data_key(&closed).await.unwrap();
    assert!(custody.data_key(&closed).await.unwrap().is_some());
}

/// Design 6 and S-78: a key that its owner has taken away from the service is not given out.
#[tokio::test]
async fn a_vault_of_before_is_not_obeyed() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    bring_to(&app, &ada, Mode::WithRecovery).await;
    let key = bring_to(&app, &bob, Mode::Standard).await;
    back_up(&app, "before").await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    back_up(&app, "now").await;

    restore(&app, "before").await;
    for (method, path) in [
        ("GET", "/status"),
        ("GET", "/key"),
        ("POST", "/init"),
        ("POST", "/rotate"),
    ] {
        let refused = app.vault(&ada, method, path, &Value::Null).await;
        let broken = (500, "INTERNAL_SERVER_ERROR".to_owned());
        assert_eq!(refused.refusal(), broken, "{path}: {}", refused.text);
    }
    assert_eq!(app.vault_key(&bob).await, key);
    restore(&app, "now").await;
    assert_eq!(mode_of(&app, &ada).await, Mode::ZeroKnowledge);
    let given = app.vault_does(&ada, "GET", "/key", &Value::Null).await;
    assert!(given["masterKey"].is_null(), "{given}");
}
