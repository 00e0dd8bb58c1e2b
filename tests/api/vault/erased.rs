//! I-7 for the audit log: where somebody was does not outlive them, whatever else is under way.

use std::sync::mpsc;

use mana_auth::rebuild;
use serde_json::json;
use sqlx::Executor as _;

use super::Mode::Standard;
use super::bring_to;
use super::followed::{PROXY, fetch, model, rows, two_with_vaults};
use crate::account::email_of;
use crate::client::{PASSWORD, Session, UNVERIFIED};
use crate::deletion::delete_account;
use crate::erasure::from_device;
use crate::harness::{TestApp, wait_until};
use crate::rebuild::{compare, service};

/// Where `fetch` comes from.
const ADDRESS: &str = "203.0.113.77";

async fn placed(app: &TestApp, table: &str, who: &Session) -> i64 {
    let user_id = &who.user_id;
    let of = format!("read.{table} where ip_address = '{ADDRESS}' and user_id = '{user_id}'");
    app.count(&of).await
}

/// Waits until a statement waits for a lock.
async fn waits(app: &TestApp, statement: &str) {
    let waiting = format!(
        "pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '{statement}%'"
    );
    wait_until(&waiting, async || app.count(&waiting).await == 1).await;
}

/// What was opened before the key went is not put in the place of what was blanked since.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_rebuild_beside_an_erasure_brings_no_address_back_i7() {
    for table in ["vault_audit", "security_events"] {
        let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
        let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
        for (name, who) in [("ada", &ada), ("bob", &bob)] {
            bring_to(&app, who, Standard).await;
            fetch(&app, who).await;
            let body = json!({"email": email_of(name), "password": PASSWORD});
            let path = ("/api/auth/sign-in/email", "");
            let signed_in = from_device(&app, (ADDRESS, "Engine"), path, &body).await;
            assert_eq!(signed_in.status, 200, "{}", signed_in.text);
        }
        app.followed().await;
        let (has_folded, folded) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel::<()>();
        let (store, service) = (app.app.store.clone(), service(&app));
        let rebuilt = rebuild::find(table).unwrap();
        let runtime = tokio::runtime::Handle::current();
        let rebuilding = tokio::task::spawn_blocking(move || {
            let wait = move |progress: rebuild::Progress| {
                if progress.done == progress.total {
                    has_folded.send(()).unwrap();
                    may_go_on.recv().unwrap();
                }
            };
            runtime.block_on(rebuild::rebuild(&store, &service, rebuilt, wait))
        });
        wait_until("all is folded", async || folded.try_recv().is_ok()).await;
        delete_account(&app, &ada).await;
        go_on.send(()).unwrap();
        rebuilding.await.unwrap().unwrap();
        app.followed().await;
        assert_eq!(placed(&app, table, &ada).await, 0, "{table}");
        assert_eq!(placed(&app, table, &bob).await, 1, "{table}");
        let differing = compare(&app, rebuilt).await.differing;
        assert_eq!(differing, Vec::<String>::new(), "{table}");
    }
}

/// Who has looked whether the account is closed before it was, and writes after it, is not overtaken.
#[tokio::test]
async fn an_erasure_waits_for_whoever_is_adding_rows_i7() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    app.followed().await;
    let mut held = app.admin.begin().await.unwrap();
    held.execute("lock table read.vault_audit in share row exclusive mode")
        .await
        .unwrap();
    fetch(&app, &ada).await;
    waits(&app, "copy read.vault_audit").await;
    let watching = async {
        waits(&app, "select from followers.models").await;
        held.rollback().await.unwrap();
    };
    tokio::join!(delete_account(&app, &ada), watching);
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 2);
    assert_eq!(placed(&app, "vault_audit", &ada).await, 0);
}

/// However much there is to blank, it is done by the time that the key goes and everybody who writes waits.
#[tokio::test]
async fn no_append_waits_for_a_long_history_to_be_blanked() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, bob] = two_with_vaults(&app).await;
    for who in [&ada, &bob] {
        fetch(&app, who).await;
    }
    app.followed().await;
    let many = "insert into read.vault_audit (id, position, user_id, action, status, ip_address, user_agent, created_at)
         select 'row ' || n, 1000000 + n, user_id, 'fetch', 200, ip_address, user_agent, created_at
         from generate_series(1, 5000) n, (select * from read.vault_audit where user_id = $1 and action = 'fetch') one";
    sqlx::query(many)
        .bind(&ada.user_id)
        .execute(&app.admin)
        .await
        .unwrap();
    assert_eq!(placed(&app, "vault_audit", &ada).await, 5001);
    let mut held = app.admin.begin().await.unwrap();
    sqlx::query("select from custody where kind = 'data_key' and owner = $1 for update")
        .bind(&ada.user_id)
        .execute(&mut *held)
        .await
        .unwrap();
    let watching = async {
        waits(&app, "delete from custody").await;
        assert_eq!(placed(&app, "vault_audit", &ada).await, 0);
        held.rollback().await.unwrap();
    };
    tokio::join!(delete_account(&app, &ada), watching);
    assert_eq!(placed(&app, "vault_audit", &bob).await, 1);
}

/// Until the key goes, the log still tells where somebody was whose rows are blank already; that is no difference.
#[tokio::test]
async fn an_erasure_that_is_under_way_is_no_difference() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, bob] = two_with_vaults(&app).await;
    for who in [&ada, &bob] {
        fetch(&app, who).await;
        fetch(&app, who).await;
    }
    app.followed().await;
    let close = "insert into read.erasures values ('ADA', 'own_request', now());
         update read.vault_audit set ip_address = null, user_agent = null
         where position in (select max(position) from read.vault_audit group by user_id)";
    let close = close.replace("ADA", &ada.user_id);
    app.admin.execute(close.as_str()).await.unwrap();
    let of_bob = rows(&app, &bob.user_id).await.pop().unwrap().id;
    assert_eq!(compare(&app, model()).await.differing, [of_bob]);
}
