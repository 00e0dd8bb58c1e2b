//! How PostgreSQL reads the log while it has no statistics of it.

use mana_auth::cluster::Role;
use mana_auth::database;
use mana_auth::store::log;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

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
