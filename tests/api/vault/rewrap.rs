//! Another key-encryption key: wraps by the one before are opened, and wrapped anew while the vault is in use.

use mana_auth::crypto::aead::Key32;
use mana_auth::crypto::key_ring::KeyRing;
use mana_auth::custody::Custody;
use mana_auth::keks::{Rewrapped, note_seals};
use mana_auth::vault::{self, Stored};
use serde_json::{Value, json};

use super::Mode::{Absent, Standard, WithRecovery, ZeroKnowledge};
use super::custody::{as_of_the_original, column, set};
use super::{bring_to, mode_of, off, on, wrap};
use crate::client::{Session, UNVERIFIED};
use crate::harness::{TestApp, wait_until};

/// The key of every other test, and the one that takes its place.
fn ring() -> KeyRing {
    let keys = [("env-v1", 0), ("k2", 2)];
    KeyRing::new(
        "k2",
        keys.map(|(id, byte)| (id.to_owned(), Key32::from_bytes([byte; 32]))),
    )
}

/// The same for a service.
const NEW_KEY_FIRST: (&str, &str) = (
    "MANA_AUTH_KEKS",
    "k2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=,env-v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
);

async fn read(app: &TestApp, who: &Session) -> Stored {
    let owners = [who.user_id.clone()];
    vault::read(&app.app.pool, &owners).await.unwrap().remove(0)
}

/// How many were wrapped anew, how many somebody else had changed, and why the others do not open.
async fn rewrap(app: &TestApp, stored: Stored) -> (i64, i64, Vec<String>) {
    let rewrapped = vault::rewrap(&app.app.pool, &ring(), &[stored]).await;
    let Rewrapped { done, busy, failed } = rewrapped.unwrap();
    let failed = failed
        .into_iter()
        .map(|failure| format!("{}: {}", failure.place, failure.why));
    (done, busy, failed.collect())
}

const DONE: (i64, i64, Vec<String>) = (1, 0, vec![]);
const CHANGED: (i64, i64, Vec<String>) = (0, 1, vec![]);
const NOT_NEEDED: (i64, i64, Vec<String>) = (0, 0, vec![]);

/// Which key opens it now.
async fn wrapped_by(app: &TestApp, who: &Session) -> Option<String> {
    let stored = read(app, who).await;
    stored.row.unwrap().wrapped_by().map(str::to_owned)
}

/// S-72: the key stays, whatever mode the vault is in; no event says so, and a node with both keys gives it out.
#[tokio::test]
async fn a_key_is_wrapped_anew_and_stays_the_same_s72() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED, NEW_KEY_FIRST]).await;
    for (number, mode) in super::MODES.into_iter().enumerate() {
        let who = app.signed_in(&format!("p{number}")).await;
        let key = bring_to(&app, &who, mode).await;
        let lines = app.vault_lines(&who.user_id).await;
        let wanted = match mode {
            Absent | ZeroKnowledge => NOT_NEEDED,
            Standard | WithRecovery => DONE,
        };
        assert_eq!(
            rewrap(&app, read(&app, &who).await).await,
            wanted,
            "{mode:?}"
        );
        let again = rewrap(&app, read(&app, &who).await).await;
        assert_eq!(again, NOT_NEEDED, "{mode:?}");
        assert_eq!(app.vault_lines(&who.user_id).await, lines);
        assert_eq!(mode_of(&app, &who).await, mode);
        if wanted == DONE {
            let given = node.vault_does(&who, "GET", "/key", &Value::Null).await;
            let same = json!({"masterKey": key, "formatVersion": 1, "kekId": "k2"});
            assert_eq!(given, same, "{mode:?}");
        }
    }
}

/// What the original has wrapped is bound, and known by its check value.
#[tokio::test]
async fn wraps_of_the_original_are_bound_by_a_rewrap() {
    let checked = ("MANA_AUTH_VAULT_CHECK_MASTER_KEY", "true");
    let app = TestApp::start(&[UNVERIFIED, NEW_KEY_FIRST, checked]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    as_of_the_original(&app, &ada, &[5; 32]).await;
    assert_eq!(rewrap(&app, read(&app, &ada).await).await, DONE);
    assert_eq!(column::<i16>(&app, &ada, "wrap_format").await, 1);
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    let refused = app
        .vault(&ada, "POST", "/zero-knowledge", &off(&super::other_key()))
        .await;
    assert_eq!(refused.refusal(), (409, "MASTER_KEY_MISMATCH".to_owned()));
}

/// A wrap that does not open is named and left alone.
#[tokio::test]
async fn a_wrap_that_does_not_open_is_not_wrapped_anew() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let key = bring_to(&app, &ada, Standard).await;
    set(&app, &ada, "wrap_version = 7").await;
    let (done, busy, failed) = rewrap(&app, read(&app, &ada).await).await;
    let why = "the wrapped secret does not belong here or was altered";
    let failure = format!("vault {}: {why}", ada.user_id);
    assert_eq!((done, busy, failed), (0, 0, vec![failure]));
    set(&app, &ada, "wrap_version = 1").await;
    assert_eq!(app.vault_key(&ada).await, key);
}

/// Whoever has read a row before somebody else wrapped its key does not bring the old wrap back: neither another rewrap
/// nor a call that leaves the key alone. A call that makes a new wrap, or takes it away, has its way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrap_and_a_call_at_once_both_take_effect_s72() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let new = app.node(&[UNVERIFIED, NEW_KEY_FIRST]).await;
    for (number, (method, path, body, after, by)) in [
        (
            "POST",
            "/recovery-wrap",
            wrap("second"),
            WithRecovery,
            Some("k2"),
        ),
        (
            "DELETE",
            "/recovery-wrap",
            Value::Null,
            Standard,
            Some("k2"),
        ),
        ("POST", "/zero-knowledge", on(), ZeroKnowledge, None),
        ("POST", "/rotate", Value::Null, Standard, Some("env-v1")),
    ]
    .into_iter()
    .enumerate()
    {
        let who = app.signed_in(&format!("p{number}")).await;
        let key = bring_to(&app, &who, WithRecovery).await;
        let (before, again) = (read(&app, &who).await, read(&app, &who).await);
        // The call has read the row and waits for its turn to append.
        let mut turn = app.admin.begin().await.unwrap();
        let lock = "select pg_advisory_xact_lock(7165746300)";
        sqlx::query(lock).execute(&mut *turn).await.unwrap();
        let waits = "pg_locks where locktype = 'advisory' and not granted
                     and database = (select oid from pg_database where datname = current_database())";
        let call = app.vault_does(&who, method, path, &body);
        let meanwhile = async {
            wait_until("the call to wait", async || app.count(waits).await > 0).await;
            assert_eq!(rewrap(&app, before).await, DONE, "{path}");
            assert_eq!(rewrap(&app, again).await, CHANGED, "{path}");
            turn.commit().await.unwrap();
        };
        let (answered, ()) = tokio::join!(call, meanwhile);
        assert_eq!(mode_of(&app, &who).await, after, "{path}");
        assert_eq!(wrapped_by(&app, &who).await.as_deref(), by, "{path}");
        if by.is_some() {
            let wanted = answered["masterKey"].as_str().unwrap_or(&key);
            assert_eq!(new.vault_key(&who).await, wanted, "{path}");
        }
    }
}

/// S-72: a rewrap waits for nobody, or it and an append could wait for each other.
#[tokio::test]
async fn what_somebody_is_just_writing_is_left_for_later_s72() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let custody = Custody::new(app.app.pool.clone(), ring());
    let mut writes = app.admin.begin().await.unwrap();
    for lock in [
        "select from encryption_vaults for update",
        "select from custody where kind = 'password' for update",
        // What leans on a row does not hinder it.
        "select from custody where kind = 'data_key' for key share",
    ] {
        sqlx::query(lock).execute(&mut *writes).await.unwrap();
    }
    assert_eq!(rewrap(&app, read(&app, &ada).await).await, CHANGED);
    let all = custody.count().await.unwrap();
    let (first, _) = custody
        .rewrap_after(&Default::default(), 1_000)
        .await
        .unwrap();
    assert_eq!((first.done, first.busy), (all - 1, 1));
    writes.rollback().await.unwrap();
    assert_eq!(rewrap(&app, read(&app, &ada).await).await, DONE);
    let (second, _) = custody
        .rewrap_after(&Default::default(), 1_000)
        .await
        .unwrap();
    assert_eq!((second.done, second.busy), (1, 0));
    assert_eq!(custody.wraps().await.unwrap(), [("k2".to_owned(), all)]);
}

/// What the migration takes keys to have sealed that nobody has counted yet.
const ESTIMATE: &str = include_str!("../../../migrations/20261126161000_keks.sql");

/// S-74: of a database that was used before anybody counted, more is taken to be sealed than was.
#[tokio::test]
async fn a_database_of_before_has_sealed_no_more_than_it_is_taken_to_have_s74() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let seals = async || -> i64 {
        note_seals(&app.app.pool, &app.app.store.custody().ring())
            .await
            .unwrap();
        let noted = "select seals from followers.kek_seals where kek_id = 'env-v1'";
        sqlx::query_scalar(noted)
            .fetch_one(&app.admin)
            .await
            .unwrap()
    };
    // Each node counts beforehand what it would not have noted if it were killed.
    wait_until("the node is counted", async || seals().await >= 10_000).await;
    let before = seals().await;
    for number in 0..3 {
        let who = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &who, WithRecovery).await;
        for _ in 0..20 {
            app.vault_does(&who, "POST", "/recovery-wrap", &wrap("w"))
                .await;
            app.vault_does(&who, "POST", "/rotate", &Value::Null).await;
        }
    }
    let sealed = seals().await - before;
    assert!(
        sealed >= 3 * 40,
        "{sealed}: a key each, and a wrap that is kept"
    );
    wait_until("the metrics show it", async || {
        let metrics = app.app.metrics.render();
        let shown = metrics
            .lines()
            .find_map(|line| line.strip_prefix("kek_seals{kek=\"env-v1\"} "));
        shown.is_some_and(|seals| seals.parse::<f64>().unwrap() >= (before + sealed) as f64)
    })
    .await;
    let begin = ESTIMATE.find("insert into followers.kek_seals").unwrap();
    let estimate = ESTIMATE[begin..].split(';').next().unwrap();
    sqlx::query("delete from followers.kek_seals")
        .execute(&app.admin)
        .await
        .unwrap();
    sqlx::query(estimate).execute(&app.admin).await.unwrap();
    let taken = seals().await;
    assert!(taken >= sealed, "{taken} of {sealed}");
}
