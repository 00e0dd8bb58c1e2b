//! Why the snapshot stores of cqrs-es 0.5 are not used: they apply the events of a command twice.
//!
//! `handle` has applied them when `commit` gets the aggregate, and `commit` applies them again before it writes the
//! snapshot. Should this test fail after an update of cqrs-es, the defect is gone and snapshots may be thought about.

use std::fmt;

use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventStore;
use cqrs_es::{Aggregate, AggregateContext as _, DomainEvent, EventStore as _};
use mana_auth::cluster::Role;
use mana_auth::database;
use postgres_es::PostgresEventRepository;
use serde::{Deserialize, Serialize};
use sqlx::{Executor as _, PgPool};

use crate::harness::TestApp;

/// The tables that postgres-es documents, in a schema of their own.
const TABLES: &str = "
    create schema stock;
    create table stock.events (
        aggregate_type text not null, aggregate_id text not null, sequence bigint not null, event_type text not null,
        event_version text not null, payload json not null, metadata json not null,
        primary key (aggregate_type, aggregate_id, sequence));
    create table stock.snapshots (
        aggregate_type text not null, aggregate_id text not null, last_sequence bigint not null,
        current_snapshot bigint not null, payload json not null,
        primary key (aggregate_type, aggregate_id, last_sequence));";

/// Counts its events.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter {
    count: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Counted;

impl DomainEvent for Counted {
    fn event_type(&self) -> String {
        "counter.counted".to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

#[derive(Debug)]
struct Never;

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("never")
    }
}

impl std::error::Error for Never {}

impl Aggregate for Counter {
    const TYPE: &'static str = "counter";
    /// How often to count.
    type Command = u32;
    type Event = Counted;
    type Error = Never;
    type Services = ();

    async fn handle(&mut self, times: u32, (): &(), sink: &EventSink<Self>) -> Result<(), Never> {
        for _ in 0..times {
            sink.write(Counted, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, _: Counted) {
        self.count += 1;
    }
}

async fn stock_tables(node: &TestApp) -> PgPool {
    node.admin.execute(TABLES).await.unwrap();
    let options = database::options(&node.database_url(Role::Superuser)).unwrap();
    PgPool::connect_with(options.options([("search_path", "stock")]))
        .await
        .unwrap()
}

/// Six commands of one event each: what the store says then, and what its events say.
async fn counts(pool: &PgPool, id: &str, snapshots: bool) -> (u32, u32) {
    let repository = || PostgresEventRepository::new(pool.clone());
    let by_events = PersistedEventStore::<_, Counter>::new_event_store(repository());
    if snapshots {
        let store = PersistedEventStore::<_, Counter>::new_snapshot_store(repository(), 4);
        run(&store, id).await;
        (count(&store, id).await, count(&by_events, id).await)
    } else {
        run(&by_events, id).await;
        (count(&by_events, id).await, count(&by_events, id).await)
    }
}

type Stock = PersistedEventStore<PostgresEventRepository, Counter>;

async fn run(store: &Stock, id: &str) {
    for _ in 0..6 {
        let mut context = store.load_aggregate(id).await.unwrap();
        let sink = EventSink::default();
        context.aggregate().handle(1, &(), &sink).await.unwrap();
        let events = sink.collect().await;
        store
            .commit(events, context, Default::default())
            .await
            .unwrap();
    }
}

async fn count(store: &Stock, id: &str) -> u32 {
    store.load_aggregate(id).await.unwrap().aggregate().count
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stock_snapshot_store_remembers_another_state_than_its_events_tell() {
    let node = TestApp::start(&[]).await;
    let pool = stock_tables(&node).await;
    assert_eq!(counts(&pool, "plain", false).await, (6, 6));
    let (remembered, told) = counts(&pool, "snapshots", true).await;
    assert_eq!((remembered, told), (7, 6), "the fourth event counted twice");
}
