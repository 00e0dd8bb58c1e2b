//! Erasures that a crash cuts short or a restore undoes: the ledger outside of the database knows of them.

#![cfg(test)]

use std::io::Write as _;

use aggregates::user::{ErasureReason, User, UserCommand};
use mana_auth::maintenance;
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use crate::account::email_of;
use crate::client::{PASSWORD, Session, UNVERIFIED};
use crate::deletion::delete_account;
use crate::erasure::{assert_erased, user_row};
use crate::harness::{TestApp, wait_until};

/// Every table as it is, to be put back as a backup would be.
struct Backup(Vec<String>);

impl Backup {
    async fn take(app: &TestApp) -> Backup {
        let mut tables = app.tables().await;
        // The rows of partitions are those of the table.
        tables.retain(|table| !table.starts_with("public.events_"));
        let mut all = "create schema backup;".to_owned();
        for table in &tables {
            all += &format!("create table backup.\"{table}\" as table {table};");
        }
        sqlx::raw_sql(&all).execute(&app.admin).await.unwrap();
        Backup(tables)
    }

    async fn restore(&self, app: &TestApp) {
        let mut all = "begin; set local session_replication_role = replica;".to_owned();
        for table in &self.0 {
            all +=
                &format!("truncate {table}; insert into {table} select * from backup.\"{table}\";");
        }
        sqlx::raw_sql(&(all + "commit"))
            .execute(&app.admin)
            .await
            .unwrap();
    }
}

/// The lines of the ledger that are about a person.
fn ledger(app: &TestApp, user_id: &str) -> Vec<Value> {
    let file = maintenance::database_file(&app.app.config, "erasure-ledger", "jsonl");
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap());
    entries
        .filter(|entry: &Value| entry["user_id"] == user_id)
        .collect()
}

/// Design section 7: a database that comes back from before the erasure is erased again before anybody is answered.
#[tokio::test]
async fn a_restored_database_is_erased_again_before_the_service_answers() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    app.effects_done().await;
    let backup = Backup::take(&app).await;
    delete_account(&app, &ada).await;
    let at = app.clock.now();
    app.effects_done().await;
    let entries = ledger(&app, &ada.user_id);
    assert_eq!(
        entries,
        [json!({"user_id": ada.user_id, "requested_at": at})]
    );

    backup.restore(&app).await;
    assert_eq!(user_row(&app, &ada.user_id).await.email, email_of("ada"));
    app.clock.advance(chrono::TimeDelta::hours(1));
    let node = app.node(&[UNVERIFIED]).await;
    assert_erased(&node, &ada.user_id).await;
    assert!(!node.is_live(&ada.cookie).await);
    assert_eq!(node.try_sign_in("ada", PASSWORD).await.status, 401);
    assert!(node.is_live(&bob.cookie).await, "nobody else is erased");
    let erasures = projections::erasures::all(&node.app.pool).await.unwrap();
    assert_eq!(erasures[0].requested_at, at, "when it was asked for");
    assert_eq!(node.mails_of("account_deleted", &email_of("ada")).await, 1);

    // Once is enough: the next start finds nothing to do.
    let state = node.state().await;
    let again = app.node(&[UNVERIFIED]).await;
    assert_eq!(again.state().await, state);
}

/// A crash after each of the steps is made good by whichever node looks next.
#[tokio::test]
async fn an_erasure_that_was_cut_short_is_finished() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    app.effects_done().await;
    // After the first step.
    close(&app, &ada).await;
    let key = format!("custody where owner = '{}'", ada.user_id);
    assert!(app.count(&key).await > 0);
    let node = app.node(&[UNVERIFIED]).await;
    wait_until("the erasure is finished", async || {
        !ledger(&node, &ada.user_id).is_empty() && node.count(&key).await == 0
    })
    .await;
    assert_erased(&node, &ada.user_id).await;

    // In the middle of the second, then after it.
    close(&app, &bob).await;
    let file = maintenance::database_file(&app.app.config, "erasure-ledger", "jsonl");
    let mut open = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    write!(open, r#"{{"user_id":"{}","requ"#, bob.user_id).unwrap();
    let node = app.node(&[UNVERIFIED]).await;
    let key = format!("custody where owner = '{}'", bob.user_id);
    wait_until("the erasure is finished", async || {
        node.count(&key).await == 0
    })
    .await;
    assert_erased(&node, &bob.user_id).await;
    assert_eq!(ledger(&node, &bob.user_id).len(), 1);
    assert_eq!(ledger(&node, &ada.user_id).len(), 1);
    app.node(&[UNVERIFIED]).await;
}

/// Nothing is destroyed that the ledger does not know of: as long as it cannot be written, the account is closed and
/// no more than that.
#[tokio::test]
async fn nothing_is_destroyed_while_the_ledger_cannot_be_written() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    app.effects_done().await;
    let file = maintenance::database_file(&app.app.config, "erasure-ledger", "jsonl");
    std::fs::create_dir_all(&file).unwrap();
    let failed = app
        .post_as("/api/auth/delete-user", &ada.cookie, &json!({}))
        .await;
    assert_eq!(failed.status, 503, "{}", failed.text);
    assert!(
        !failed.text.contains("ledger"),
        "what failed is for the log"
    );
    assert!(!app.is_live(&ada.cookie).await);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 401);
    let secrets = format!("custody where owner = '{}'", ada.user_id);
    assert_eq!(app.count(&secrets).await, 2, "data key and password");
    std::fs::remove_dir(&file).unwrap();
    let node = app.node(&[UNVERIFIED]).await;
    wait_until("the erasure is finished", async || {
        node.count(&secrets).await == 0
    })
    .await;
    assert_erased(&node, &ada.user_id).await;
    assert_eq!(ledger(&node, &ada.user_id).len(), 1);
    assert_eq!(node.mails_of("account_deleted", &email_of("ada")).await, 1);
}

/// The first step of an erasure, and no other.
async fn close(app: &TestApp, session: &Session) {
    let command = UserCommand::RequestErasure {
        reason: ErasureReason::OwnRequest,
        at: app.clock.now(),
    };
    let context = Context::of(Actor::User(session.user_id.clone()));
    let closed = app
        .app
        .store
        .run::<User>(&session.user_id, command, context);
    closed.await.unwrap();
    assert!(!app.is_live(&session.cookie).await);
}
