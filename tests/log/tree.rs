//! The tree over the log and its checkpoints: who makes them, when, and what becomes of it when something fails.

use std::time::Duration;

use mana_auth::lease::{HELD_FOR, Lease, RENEWED_EVERY};
use mana_auth::store::leaf::leaf;
use mana_auth::store::log::{self, StoredRow};
use mana_auth::transparency::builder::{Builder, Step};
use mana_auth::transparency::checkpoints::{self, Current, Stored};
use mana_auth::transparency::{proofs, whole};
use serde_json::json;
use serde_json::value::RawValue;
use sqlx::{Executor as _, PgPool};

use crate::by_hand;
use crate::harness::{TestApp, wait_until};
use crate::people::person;
use crate::rfc9162::{self, Hash};
use crate::tables::number;

/// The log as the service signs it.
pub async fn current(app: &TestApp) -> Current {
    let custody = app.app.store.custody();
    checkpoints::current(&app.app.pool, custody, &app.app.config)
        .await
        .unwrap()
}

/// The checkpoint of the whole log, once it is signed.
pub async fn signed(app: &TestApp) -> Stored {
    let mut found = None;
    wait_until("the whole log is signed", async || {
        let head = log::head(&app.admin).await.unwrap();
        found = checkpoints::last(&app.admin).await.unwrap();
        found.as_ref().is_some_and(|last| last.size == head)
    })
    .await;
    found.unwrap()
}

/// All leaves of the log.
pub async fn leaves(admin: &PgPool) -> Vec<Hash> {
    let events = log::after(admin, 0, i64::MAX).await.unwrap();
    events
        .iter()
        .map(|event| rfc9162::leaf_hash(&leaf(event).unwrap()))
        .collect()
}

/// Adds many events to the log at once.
pub async fn grow(app: &TestApp, name: &str, events: i64) {
    let mut connection = app.admin.acquire().await.unwrap();
    let appended = by_hand::append(
        &mut connection,
        ("test", name),
        0,
        events,
        "grow",
        json!({}),
    );
    assert_eq!(appended.await.unwrap(), None);
}

fn plain(hashes: &[tlog_tiles::Hash]) -> Vec<Hash> {
    hashes.iter().map(|hash| hash.0.to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_signed_for_within_a_second() {
    let app = TestApp::start(&[]).await;
    for number in 0..20 {
        let name = format!("P{number}");
        person(&name).sign_up(&app.app).await.unwrap();
        signed(&app).await;
    }
    let delay = async |quantile: &str| {
        let delay = format!(
            "select percentile_disc({quantile}) within group (order by
                        extract(epoch from c.signed_at - e.recorded_at))::float8 from events e,
             lateral (select signed_at from followers.checkpoints where size >= e.position order by size limit 1) c"
        );
        seconds(&app.admin, &delay).await
    };
    // The machine of a test does much else; without it the slowest takes half a second.
    let (usual, slowest) = (delay("0.5").await, delay("1").await);
    assert!(usual < 1.0 && slowest < 5.0, "{usual} {slowest}");
    let metrics = app.app.metrics.render();
    for name in [
        "transparency_leader",
        "transparency_lag_seconds",
        "transparency_tree_events",
    ] {
        assert!(metrics.contains(&format!("\n{name} ")), "{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tree_is_that_of_the_rfc_at_every_checkpoint_and_so_are_its_proofs() {
    let app = TestApp::start(&[]).await;
    // Over the ends of tiles of the first and the second level.
    for (name, events) in [
        ("a", 3),
        ("b", 250),
        ("c", 1),
        ("d", 700),
        ("e", 65_000),
        ("f", 5),
    ] {
        grow(&app, name, events).await;
        signed(&app).await;
    }
    let leaves = leaves(&app.admin).await;
    let now = current(&app).await;
    let key = now.signer.verifier().to_string();
    let all = checkpoints::after(&app.admin, 0, 1_000).await.unwrap();
    assert!(all.len() >= 6, "{}", all.len());
    let mut heads = vec![];
    for stored in &all {
        let (size, root) = rfc9162::checkpoint(&stored.note, &key).unwrap();
        assert_eq!(size as i64, stored.size);
        assert_eq!(root, rfc9162::tree_head(&leaves[..size as usize]), "{size}");
        assert_eq!(root, stored.root);
        heads.push((size, root));
    }
    let (size, root) = heads.last().unwrap().clone();
    for index in [
        0,
        1,
        2,
        3,
        254,
        255,
        256,
        257,
        953,
        65_535,
        65_536,
        size - 2,
        size - 1,
    ] {
        let proof = proofs::inclusion(&app.app.pool, index, size).await.unwrap();
        let leaf = &leaves[index as usize];
        assert!(
            rfc9162::includes(index, size, leaf, &plain(&proof), &root),
            "{index}"
        );
        assert_eq!(
            plain(&proof),
            rfc9162::path(index as usize, &leaves),
            "{index}"
        );
    }
    for (from, old) in &heads {
        let proof = proofs::consistency(&app.app.pool, *from, size)
            .await
            .unwrap();
        assert!(
            rfc9162::consistent(*from, size, old, &root, &plain(&proof)),
            "{from}"
        );
    }
    let report = whole::check(&app.app.pool, &now, &[], |_, _| {})
        .await
        .unwrap();
    assert_eq!((report.good_until, report.first_bad), (size as i64, None));
    assert_eq!(report.checkpoints, all.len() as i64);
    assert_eq!(report.problems, [""; 0]);
    // Inside of the tree, where it grows no more.
    let edit = "set session_replication_role = replica;
        update followers.tiles set hashes = set_byte(hashes, 33, get_byte(hashes, 33) # 1) where level = 1 and number = 0;
        delete from followers.tiles where level = 0 and number in (7, 255);
        set session_replication_role = default";
    sqlx::raw_sql(edit).execute(&app.admin).await.unwrap();
    let report = whole::check(&app.app.pool, &now, &[], |_, _| {})
        .await
        .unwrap();
    assert_eq!((report.good_until, report.first_bad), (size as i64, None));
    let problems = [
        "tile 7 of level 0 of the stored hashes is missing",
        "tile 255 of level 0 of the stored hashes is missing",
        "tile 0 of level 1 of the stored hashes was altered",
    ];
    assert_eq!(report.problems, problems);
}

#[test]
fn a_node_that_dies_is_replaced_within_five_seconds() {
    // It was renewed just before, and others look just before it ends; a second is for the work itself.
    assert!(HELD_FOR + RENEWED_EVERY <= Duration::from_secs(4));
    assert!(
        RENEWED_EVERY * 2 < HELD_FOR,
        "one renewal that is late loses nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_takes_over_within_five_seconds() {
    let one = TestApp::start(&[]).await;
    signed(&one).await;
    let mut usual = vec![];
    for number in 0..3 {
        // A node that has the lease and does nothing: as one that hangs.
        let hung = Lease::new(one.admin.clone(), "tree", &format!("hung {number}"));
        wait_until("it has the lease", async || {
            let free =
                "update followers.leases set expires_at = clock_timestamp() - interval '1 hour'";
            sqlx::query(free).execute(&one.admin).await.unwrap();
            hung.take().await.unwrap().is_some()
        })
        .await;
        let now = "select extract(epoch from clock_timestamp())::float8";
        let begun = seconds(&one.admin, now).await;
        person(&format!("P{number}"))
            .sign_up(&one.app)
            .await
            .unwrap();
        signed(&one).await;
        let last = "select extract(epoch from max(signed_at))::float8 from followers.checkpoints";
        usual.push(seconds(&one.admin, last).await - begun);
        assert!(
            hung.take().await.unwrap().is_none(),
            "it is the other's by now"
        );
    }
    usual.sort_by(f64::total_cmp);
    // The machine of a test does much else, but not all the time.
    assert!(usual[1] < 5.0, "{usual:?} s");
    assert!(
        usual[0] > 1.0,
        "{usual:?} s: nobody takes what is another's"
    );
}

async fn seconds(admin: &PgPool, query: &str) -> f64 {
    sqlx::query_scalar(query).fetch_one(admin).await.unwrap()
}

/// What a node has written itself is not read back for the tree: whoever alters it first is found out as well.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_altered_before_it_is_signed_is_found_too() {
    let app = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&app.app).await.unwrap();
    signed(&app).await;
    let mut held = app.admin.begin().await.unwrap();
    held.execute("select from followers.leases where name = 'tree' for update")
        .await
        .unwrap();
    ada.rename(&app.app, "\u{1f600} \u{2028}\u{7f}\\\"")
        .await
        .unwrap();
    let altered = log::head(&app.admin).await.unwrap();
    let last = "where position = (select max(position) from events)";
    let set = async |payload: &str| {
        let sql = format!(
            "set session_replication_role = replica;
             create table if not exists spare as select payload from events {last};
             update events set payload = {payload} {last};
             set session_replication_role = default"
        );
        sqlx::raw_sql(&sql).execute(&app.admin).await.unwrap();
    };
    set("'{}'").await;
    held.rollback().await.unwrap();
    let found = async || {
        signed(&app).await;
        let now = current(&app).await;
        let report = whole::check(&app.app.pool, &now, &[], |_, _| {}).await;
        report.unwrap().first_bad.map(|bad| bad.position)
    };
    assert_eq!(found().await, Some(altered));
    set("(select payload from spare)").await;
    assert_eq!(found().await, None);
}

/// A server that takes over may lack what the one before had said was written, and positions are given out again.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_the_log_has_lost_is_not_signed() {
    let app = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&app.app).await.unwrap();
    let before = signed(&app).await.size;
    let hold = async || {
        let mut held = app.admin.begin().await.unwrap();
        held.execute("select from followers.leases where name = 'tree' for update")
            .await
            .unwrap();
        held
    };
    let lose = "set session_replication_role = replica;
        delete from events where position = (select max(position) from events);
        update streams set version = version - 1 where type = 'user';
        set session_replication_role = default";
    let held = hold().await;
    ada.rename(&app.app, "Lovelace").await.unwrap();
    sqlx::raw_sql(lose).execute(&app.admin).await.unwrap();
    held.rollback().await.unwrap();
    let builder = Builder::new(&app.app);
    wait_until("the lease is taken over", async || {
        let take = "update followers.leases set expires_at = clock_timestamp()";
        sqlx::query(take).execute(&app.admin).await.unwrap();
        builder.step().await.unwrap() == Step::UpToDate(before.unsigned_abs())
    })
    .await;

    // The node itself makes the tree again.
    person("Carol").sign_up(&app.app).await.unwrap();
    let before = signed(&app).await.size;
    let held = hold().await;
    ada.rename(&app.app, "Countess").await.unwrap();
    sqlx::raw_sql(lose).execute(&app.admin).await.unwrap();
    let fail_over = "select pg_terminate_backend(pid) from pg_stat_activity
                     where datname = current_database() and application_name = 'mana-auth appender'";
    sqlx::query(fail_over).execute(&app.admin).await.unwrap();
    grow(&app, "of another node", 1).await;
    person("Bob").sign_up(&app.app).await.unwrap();
    held.rollback().await.unwrap();
    assert!(signed(&app).await.size > before + 1);
    let now = current(&app).await;
    let report = whole::check(&app.app.pool, &now, &[], |_, _| {}).await;
    assert_eq!(report.unwrap().first_bad, None);
}

/// The leaf is made of the text that the database was given, or of the one that it gives back.
#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_same_leaf_before_and_after_it_is_stored() {
    let app = TestApp::start(&[]).await;
    let texts = [
        r#"{"b":[1,2.0,-0.0,1e2,1E-7,123456789012345678901234567890,0.1,1.5e30,5e-324],"a":{}}"#,
        r#"{"":[],"é":"\u00e9\u2028\u007f\ud83d\ude00","\u0001":"\\\"/\b\f\n\r\t\u001f","zz":null,"z":[true,false]}"#,
        "[9007199254740993, -9007199254740993, 18446744073709551615, 9223372036854775808, 9007199254740992]",
        "\"\u{fb33}\u{1f600}'$1\"",
    ];
    let stored: Vec<String> = sqlx::query_scalar(
        "select j::jsonb::text from unnest($1::text[]) with ordinality t (j, n) order by n",
    )
    .bind(&texts[..])
    .fetch_all(&app.admin)
    .await
    .unwrap();
    let first = log::after(&app.admin, 0, 1).await.unwrap().remove(0);
    let leaf_of = |json: &str| {
        let payload = RawValue::from_string(json.to_owned()).unwrap();
        leaf(&StoredRow {
            payload,
            ..first.clone()
        })
        .unwrap()
    };
    for (text, stored) in texts.into_iter().zip(stored) {
        assert_eq!(leaf_of(text), leaf_of(&stored), "{text}");
    }
}

/// Two nodes make one tree: whoever was away writes nothing on top of what another has signed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_make_one_tree_and_a_lost_lease_writes_nothing() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    for number in 0..20 {
        let app = if number % 2 == 0 { &one } else { &two };
        person(&format!("P{number}"))
            .sign_up(&app.app)
            .await
            .unwrap();
    }
    signed(&one).await;
    let leaders = "select count(*) from followers.leases where name = 'tree' and expires_at > clock_timestamp()";
    assert_eq!(number(&one.admin, leaders).await, 1);
    // A third that takes nothing from anybody.
    assert_eq!(Builder::new(&one.app).step().await.unwrap(), Step::Standby);
    let report = whole::check(&one.app.pool, &current(&one).await, &[], |_, _| {})
        .await
        .unwrap();
    assert_eq!(report.first_bad, None);
    assert!(report.problems.is_empty());
}

/// Nobody who signs in waits for the tree, and nothing is signed on top of what was altered.
#[tokio::test(flavor = "multi_thread")]
async fn a_tree_that_was_altered_stops_the_signing_and_nothing_else() {
    let app = TestApp::start(&[]).await;
    person("Ada").sign_up(&app.app).await.unwrap();
    let before = signed(&app).await;
    let intact: Vec<u8> =
        sqlx::query_scalar("select hashes from followers.tiles where level = 0 and number = 0")
            .fetch_one(&app.admin)
            .await
            .unwrap();
    let set = async |hashes: &[u8]| {
        let set = "update followers.tiles set hashes = $1 where level = 0 and number = 0";
        sqlx::query(set)
            .bind(hashes)
            .execute(&app.admin)
            .await
            .unwrap();
    };
    let mut altered = intact.clone();
    altered[40] ^= 1;
    set(&altered).await;
    let bob = person("Bob");
    bob.sign_up(&app.app).await.unwrap();
    bob.rename(&app.app, "Robert").await.unwrap();
    let failures = || {
        let metrics = app.app.metrics.render();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("transparency_failures_total"));
        line.map_or(0, |line| {
            line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
        })
    };
    wait_until("the failure is told", async || failures() > 0).await;
    assert_eq!(
        checkpoints::last(&app.admin).await.unwrap().unwrap(),
        before
    );
    set(&intact).await;
    signed(&app).await;
    let report = whole::check(&app.app.pool, &current(&app).await, &[], |_, _| {})
        .await
        .unwrap();
    assert_eq!((report.first_bad, report.problems), (None, vec![]));
}

/// A database that went back in time behind the back of a running node gets no second tree in the place of one that
/// others may have seen.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_signed_once_more_in_the_place_of_a_checkpoint_that_is_gone() {
    let app = TestApp::start(&[]).await;
    person("Ada").sign_up(&app.app).await.unwrap();
    signed(&app).await;
    let builder = Builder::new(&app.app);
    let take = "update followers.leases set expires_at = clock_timestamp()";
    wait_until("the lease is taken over", async || {
        sqlx::query(take).execute(&app.admin).await.unwrap();
        matches!(builder.step().await, Ok(Step::UpToDate(_)))
    })
    .await;
    let forget = "set session_replication_role = replica;
        delete from followers.checkpoints where size = (select max(size) from followers.checkpoints);
        set session_replication_role = default";
    sqlx::raw_sql(forget).execute(&app.admin).await.unwrap();
    let refused = builder.step().await.unwrap_err().to_string();
    assert!(refused.contains("was signed and is gone"), "{refused}");
}

/// Whatever the service's role does, what was signed stays.
#[tokio::test(flavor = "multi_thread")]
async fn no_role_changes_a_checkpoint() {
    let app = TestApp::start(&[]).await;
    signed(&app).await;
    for pool in [&app.app.pool, &app.admin] {
        for statement in [
            "update followers.checkpoints set note = 'x'",
            "delete from followers.checkpoints",
            "truncate followers.checkpoints",
        ] {
            assert!(
                sqlx::query(statement).execute(pool).await.is_err(),
                "{statement}"
            );
        }
    }
    let delete = sqlx::query("delete from followers.tiles").execute(&app.app.pool);
    assert!(delete.await.is_err(), "the service only adds to tiles");
}

/// After a restore the log is another one for those who check it: positions are given out again.
#[tokio::test(flavor = "multi_thread")]
async fn another_life_of_the_log_has_another_name_and_the_same_key() {
    let app = TestApp::start(&[]).await;
    let before = signed(&app).await;
    let old = current(&app).await;
    log::begin_epoch(&app.admin, before.size).await.unwrap();
    person("Ada").sign_up(&app.app).await.unwrap();
    let after = signed(&app).await;
    let new = current(&app).await;
    assert_ne!(old.signer.name(), new.signer.name());
    assert!(new.signer.verifier().open(&after.note).is_some());
    assert!(old.signer.verifier().open(&after.note).is_none());
    let report = whole::check(&app.app.pool, &new, &[before.note], |_, _| {})
        .await
        .unwrap();
    assert_eq!(
        (report.first_bad, report.problems),
        (None, vec![]),
        "both lives are checked"
    );
}
