//! I-3: events, claims, custody, read models, effects and idempotency keys commit together or not at all.

use mana_auth::custody::{CustodyChange, ONLY, kind};
use mana_auth::store::idempotency::Fingerprint;
use mana_auth::store::{EffectDraft, StoreError};
use sqlx::Executor as _;

use crate::harness::TestApp;
use crate::people::{Person, person};
use crate::tables::{changed, snapshot};

/// An effect that nobody knows how to do, so that it stays in the queue.
fn held(person: &Person) -> EffectDraft {
    EffectDraft {
        kind: "held",
        subject: person.id.to_string(),
        payload: zeroize::Zeroizing::new(b"later".to_vec()),
    }
}

/// A secret that can be replaced.
fn password(node: &TestApp, person: &Person) -> CustodyChange {
    let custody = node.app.store.custody();
    custody.put(kind::PASSWORD, person.id.as_str(), ONLY, b"a hash")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_writes_everything_at_once() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    let before = snapshot(&node.admin).await;
    let request = Fingerprint::of(&node.app.root, "sign-up", "key-1", b"");
    let context = ada
        .with_key(&node.app)
        .with_secret(password(&node, &ada))
        .then(held(&ada))
        .once(Some(request.with(ada.id.as_str(), None)));
    let done = ada.sign_up_with(&node.app, context).await.unwrap();
    let tables = [
        "public.claims",
        "public.custody",
        "public.custody_positions",
        "public.effects",
        "public.events",
        "public.idempotency_keys",
        "public.streams",
        "read.accounts",
        "read.security_events",
        "read.users",
    ];
    assert_eq!(changed(&before, &snapshot(&node.admin).await), tables);
    let positions: Vec<i64> = sqlx::query_scalar(
        "select event_position from claims where owner = $1
         union all select event_position from custody where owner = $1
         union all select position from custody_positions where owner = $1
         union all select position from effects where subject = $1
         union all select position from idempotency_keys where subject = $1",
    )
    .bind(ada.id.as_str())
    .fetch_all(&node.admin)
    .await
    .unwrap();
    assert_eq!(positions, [done.position.unwrap(); 6]);
}

/// Each table in turn refuses its part of a command: then nothing of the command is anywhere.
#[tokio::test(flavor = "multi_thread")]
async fn whichever_part_of_a_command_fails_nothing_of_it_is_written() {
    let node = TestApp::start(&[]).await;
    node.admin
        .execute(
            "create function refuse() returns trigger language plpgsql as
             $$ begin raise exception 'refused' using errcode = 'P0001'; end $$",
        )
        .await
        .unwrap();
    let tables = [
        "public.claims",
        "public.custody",
        "public.custody_positions",
        "public.effects",
        "public.events",
        "public.idempotency_keys",
        "public.streams",
        "read.accounts",
        "read.users",
    ];
    for table in tables {
        let ada = person("Ada");
        let create = format!(
            "create trigger refuse before insert on {table} for each row execute function refuse()"
        );
        node.admin.execute(create.as_str()).await.unwrap();
        let before = snapshot(&node.admin).await;
        let request = Fingerprint::of(&node.app.root, "sign-up", table, b"");
        let context = ada
            .with_key(&node.app)
            .with_secret(password(&node, &ada))
            .then(held(&ada))
            .once(Some(request.with(ada.id.as_str(), None)));
        let outcome = ada.sign_up_with(&node.app, context).await;
        assert!(
            matches!(
                outcome,
                Err(mana_auth::store::RunError::Store(StoreError::Broken(_)))
            ),
            "{table}: {outcome:?}"
        );
        assert_eq!(
            changed(&before, &snapshot(&node.admin).await),
            [""; 0],
            "{table} refused"
        );
        let drop = format!("drop trigger refuse on {table}");
        node.admin.execute(drop.as_str()).await.unwrap();
    }
    person("Ada").sign_up(&node.app).await.unwrap();
}
