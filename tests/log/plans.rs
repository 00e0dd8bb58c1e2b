//! How PostgreSQL reads the log while it has no statistics of it.

use mana_auth::cluster::Role;
use mana_auth::database;
use mana_auth::store::log;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::by_hand::append_about;
use crate::harness::TestApp;

/// Events of the log, all of one type.
const EVENTS: i64 = 50_000;

/// A page costs what is on it: no index is read in which all events of a type stand.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_for_a_model_is_read_by_positions_alone() {
    let node = TestApp::start(&[]).await;
    let options = database::options(&node.database_url(Role::Superuser)).unwrap();
    let mut connection = options.connect().await.unwrap();
    // Nobody else sees it, and it is not committed.
    let mut tx = connection.begin().await.unwrap();
    let head = log::head(&mut *tx).await.unwrap();
    tx.execute(&*format!(
        "insert into events (position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
         select {head} + n, 'vault', 'v' || n, 1, 'vault.key_fetched', '1', '{{}}', '{{}}', gen_random_uuid()
         from generate_series(1, {EVENTS}) n"
    ))
    .await
    .unwrap();
    let until = head + EVENTS;
    let page = log::of_streams(&mut *tx, &["vault"], true, until - 500, until);
    assert_eq!(page.await.unwrap().len(), 500);
    let read: Vec<(String, i64)> = sqlx::query_as(
        "select i.indexrelid::regclass::text, pg_stat_get_xact_tuples_returned(i.indexrelid)
         from pg_index i where i.indrelid = 'events_000000'::regclass order by 1",
    )
    .fetch_all(&mut *tx)
    .await
    .unwrap();
    let read: Vec<_> = read.iter().map(|(name, read)| (&**name, *read)).collect();
    assert_eq!(
        read,
        [
            ("events_000000_event_id_key", 0),
            ("events_000000_pkey", 500 + i64::from(head > 0)),
            ("events_000000_stream_key", 0),
        ],
        "entries that were read, by index"
    );
}

/// An append costs what is in it, not how many people there are.
#[tokio::test(flavor = "multi_thread")]
async fn an_append_reads_no_other_data_keys_than_those_it_asks_for() {
    let node = TestApp::start(&[]).await;
    let options = database::options(&node.database_url(Role::Superuser)).unwrap();
    let mut connection = options.connect().await.unwrap();
    let mut tx = connection.begin().await.unwrap();
    for statement in [
        "insert into custody (kind, owner, id, kek_id, format, nonce, ciphertext, event_position)
         select 'data_key', 'somebody-' || n, '', 'k', 1, '', '', 0 from generate_series(1, 64) n",
        "analyze custody",
        // As the appender sets them.
        "set local plan_cache_mode = force_generic_plan",
        "set local enable_seqscan = off",
        "set local enable_hashjoin = off",
        "set local enable_mergejoin = off",
    ] {
        tx.execute(statement).await.unwrap();
    }
    let before = entries_of_custody(&mut tx).await;
    let about = &["somebody-7"];
    let lost = append_about(&mut tx, about, ("test", "s1"), 0, 1, "r1", json!({})).await;
    assert_eq!(lost.unwrap(), None);
    assert_eq!(entries_of_custody(&mut tx).await - before, 1);
    let about = &["nobody"];
    let lost = append_about(&mut tx, about, ("test", "s2"), 0, 1, "r2", json!({})).await;
    assert_eq!(lost.unwrap().as_deref(), Some("data_key"));
    assert_eq!(entries_of_custody(&mut tx).await - before, 1);
}

/// Entries that this transaction has read in all indexes of custody.
async fn entries_of_custody(connection: &mut PgConnection) -> i64 {
    sqlx::query_scalar(
        "select sum(pg_stat_get_xact_tuples_returned(indexrelid))::bigint from pg_index
         where indrelid = 'custody'::regclass",
    )
    .fetch_one(connection)
    .await
    .unwrap()
}

/// Where statistics are old, PostgreSQL expects many rows of a query that finds few.
#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_compiled_or_spread_over_processes() {
    let node = TestApp::start(&[]).await;
    // The private cluster compiles nothing anyway; another one does, unless its clients say otherwise.
    let settings: Vec<(String, String, String)> = sqlx::query_as(
        "select name, setting, source from pg_settings
         where name in ('jit', 'max_parallel_workers_per_gather') order by name",
    )
    .fetch_all(&node.app.pool)
    .await
    .unwrap();
    let expected = [("jit", "off"), ("max_parallel_workers_per_gather", "0")];
    let said =
        |(name, value): (&str, &str)| (name.to_owned(), value.to_owned(), "client".to_owned());
    assert_eq!(settings, expected.map(said));
}
