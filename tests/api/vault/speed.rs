//! A vault that was used a hundred thousand times: no call reads what happened before.

use aggregates::vault::Vault;
use serde_json::Value;

use super::Mode::{Standard, WithRecovery};
use super::{bring_to, mode_of, off, on, wrap};
use crate::client::{Session, UNVERIFIED};
use crate::harness::TestApp;

const EVENTS: i64 = 100_000;

/// Makes a vault's stream so much longer. The events are copies of its last one, and sealed to the place of that:
/// whoever reads them fails.
async fn use_often(app: &TestApp, who: &Session) {
    let mut tx = app.admin.begin().await.unwrap();
    let lock = "select pg_advisory_xact_lock(7165746300)";
    sqlx::query(lock).execute(&mut *tx).await.unwrap();
    for statement in [
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                             metadata, event_id)
         select (select max(position) from events) + n, e.aggregate_type, e.aggregate_id, e.sequence + n, e.event_type,
                e.event_version, e.payload, e.metadata || jsonb_build_object('event_id', gen_random_uuid()),
                gen_random_uuid()
         from events e join streams s on s.type = e.aggregate_type and s.id = e.aggregate_id and s.version = e.sequence,
              generate_series(1, $2) n
         where e.aggregate_type = 'vault' and e.aggregate_id = $1",
        "update streams set version = version + $2 where type = 'vault' and id = $1",
    ] {
        let query = sqlx::query(statement).bind(&who.user_id).bind(EVENTS);
        query.execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
}

/// Neither a node that knows the vault nor one that has never seen it reads its events.
#[tokio::test]
async fn a_vault_that_was_used_100_000_times_is_used_without_its_events() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let key = app.vault_key(&ada).await;
    use_often(&app, &ada).await;
    let read = app.app.store.load::<Vault>(&ada.user_id).await;
    assert!(read.is_err(), "its events cannot be read");

    let node = app.node(&[UNVERIFIED]).await;
    for at in [&app, &node] {
        for _ in 0..3 {
            assert_eq!(at.vault_key(&ada).await, key);
        }
        at.vault_does(&ada, "POST", "/init", &Value::Null).await;
    }
    app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("w"))
        .await;
    node.vault_does(&ada, "POST", "/zero-knowledge", &on())
        .await;
    let refused = node.vault(&ada, "POST", "/rotate", &Value::Null).await;
    assert_eq!(refused.status, 409);
    app.vault_does(&ada, "POST", "/zero-knowledge", &off(&key))
        .await;
    assert_eq!(mode_of(&node, &ada).await, WithRecovery);
    let length = format!(
        "events where aggregate_type = 'vault' and aggregate_id = '{}'",
        ada.user_id
    );
    assert_eq!(app.count(&length).await, 2 + EVENTS + 12);
}
