//! I-1 and I-2 under attack: many writers on two nodes, refusals, transactions held open and rolled back, backends
//! killed at random, and readers that poll without pause and remember nothing but their last position.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mana_auth::cluster::Role;
use mana_auth::database;
use mana_auth::store::{Actor, Context, RunError, StoreError, log};
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Executor as _, PgPool, Row as _};
use uuid::Uuid;

use crate::by_hand::append;
use crate::harness::TestApp;
use crate::people::{Person, person};
use crate::tables::assert_dense;

const WRITERS: usize = 64;
const READERS: usize = 4;
/// People whose streams all writers share, so that versions conflict between the nodes.
const SHARED: usize = 16;
/// One of so many connections of the service is killed each time.
const KILL: &str = "select count(pg_terminate_backend(pid)) from (
    select pid from pg_stat_activity
    where datname = current_database() and application_name like 'mana-auth%' order by random() limit 1) one";

/// What the writers were told, by request.
#[derive(Default)]
struct Told {
    /// Position of the last event.
    acknowledged: BTreeMap<String, i64>,
    refused: BTreeSet<String>,
    /// Requests in all; the rest was told that the database was not available.
    asked: usize,
}

/// What was wrong with what a reader saw, against the whole log as it stands in the end.
#[derive(Debug, Default, PartialEq)]
struct Faults {
    skipped: usize,
    repeated: usize,
    out_of_order: usize,
    gaps: usize,
}

/// A small generator of chances: the same run each time, as far as the machine lets it.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        // Knuth's MMIX constants; the upper bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// The whole attack; says what the writers were told and what the readers saw. Appends made by hand stay open for
/// `patience` milliseconds at most, or until a reader has gone past them.
async fn attack(one: &TestApp, two: &TestApp, commands: usize, patience: u64) -> (Told, Faults) {
    let people: Vec<Person> = (0..SHARED)
        .map(|number| person(&format!("Shared{number}")))
        .collect();
    for somebody in &people {
        somebody.sign_up(&one.app).await.unwrap();
    }
    let (are_writing, is_growing) = (AtomicBool::new(true), AtomicBool::new(true));
    let furthest = AtomicI64::new(0);
    let tellers = (0..WRITERS).map(|number| {
        let node = if number % 2 == 0 { one } else { two };
        write(node, &people, number, commands)
    });
    let writers = async {
        let told = join_all(tellers).await;
        are_writing.store(false, Ordering::SeqCst);
        told
    };
    let changes = async {
        let (told, (), (), ()) = tokio::join!(
            writers,
            kill(&one.admin, &are_writing),
            hold_lock(one, &are_writing),
            hold_appends(one, &are_writing, &furthest, patience),
        );
        is_growing.store(false, Ordering::SeqCst);
        told
    };
    let readers = join_all((0..READERS).map(|_| read(one, &is_growing, &furthest)));
    let (told, seen) = tokio::join!(changes, readers);
    let mut all = Told::default();
    for told in told {
        all.acknowledged.extend(told.acknowledged);
        all.refused.extend(told.refused);
        all.asked += told.asked;
    }
    (all, faults(&one.admin, seen).await)
}

async fn write(node: &TestApp, people: &[Person], writer: usize, commands: usize) -> Told {
    let mut told = Told::default();
    let mut chance = Chance(writer as u64);
    for command in 0..commands {
        let request = format!("request-{writer}-{command}");
        let shared = &people[chance.below(SHARED as u64) as usize];
        told.asked += 1;
        // Writers that kept step would all meet in the same few batches.
        tokio::time::sleep(Duration::from_millis(chance.below(10))).await;
        let newcomer = person(&format!("W{writer}x{command}"));
        let because = |context: Context| context.because(&request, None);
        let outcome = match chance.below(10) {
            // A fifth is refused: for an address that is taken, or for an outdated version.
            0 => {
                let mut impostor = newcomer;
                impostor.email = shared.email.clone();
                let context = because(impostor.with_key(&node.app));
                impostor.sign_up_with(&node.app, context).await
            }
            1 => {
                let mut connection = match node.app.pool.acquire().await {
                    Ok(connection) => connection,
                    Err(_) => continue,
                };
                let stream = shared.id.as_str();
                match append(&mut connection, ("user", stream), 0, 1, &request, json!({})).await {
                    Ok(Some(_)) => {
                        told.refused.insert(request);
                    }
                    Ok(None) => panic!("version 0 of an old stream is outdated"),
                    Err(_) => {}
                }
                continue;
            }
            2..=4 => {
                let context = because(newcomer.with_key(&node.app));
                newcomer.sign_up_with(&node.app, context).await
            }
            _ => {
                let context = because(Context::of(Actor::User(shared.id.to_string())));
                shared.rename_with(&node.app, &request, context).await
            }
        };
        match outcome {
            Ok(done) => {
                let position = done.position.expect("every name is a new one");
                told.acknowledged.insert(request, position);
            }
            Err(RunError::Store(StoreError::Unavailable(_) | StoreError::Busy)) => {}
            Err(RunError::Store(StoreError::Conflict | StoreError::ClaimTaken(_))) => {
                told.refused.insert(request);
            }
            Err(error) => panic!("{request}: {error:?}"),
        }
    }
    told
}

/// Follows the log until it grows no more and the head is reached; says what was seen, in order.
async fn read(node: &TestApp, is_growing: &AtomicBool, furthest: &AtomicI64) -> Vec<(i64, Uuid)> {
    let mut seen = Vec::new();
    let mut last = 0;
    loop {
        // Looked at first: what is committed before it is in the page that follows.
        let is_last = !is_growing.load(Ordering::SeqCst);
        let page = match log::after(&node.admin, last, 50).await {
            // So many connections are killed and made anew that a reader may get none for a while: it asks again.
            Err(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
            page => page.unwrap(),
        };
        if page.is_empty() && is_last {
            return seen;
        }
        for row in page {
            last = row.position;
            seen.push((row.position, row.event_id));
        }
        furthest.fetch_max(last, Ordering::SeqCst);
        tokio::task::yield_now().await;
    }
}

async fn kill(admin: &PgPool, running: &AtomicBool) {
    let mut chance = Chance(7);
    while running.load(Ordering::SeqCst) {
        match admin.execute(KILL).await {
            // Whoever gets no connection kills nobody this time.
            Ok(_) | Err(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => {}
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(chance.below(120))).await;
    }
}

/// Holds transactions open: some have written, some have the lock of the append.
async fn hold_lock(node: &TestApp, running: &AtomicBool) {
    let mut chance = Chance(8);
    let mut connection = other_connection(node).await;
    while running.load(Ordering::SeqCst) {
        let statement = match chance.below(2) {
            0 => "begin; select pg_advisory_xact_lock(7165746300)",
            _ => "begin; create temporary table other (id text) on commit drop",
        };
        connection.execute(statement).await.unwrap();
        tokio::time::sleep(Duration::from_millis(chance.below(60))).await;
        let end = if chance.below(2) == 0 {
            "commit"
        } else {
            "rollback"
        };
        connection.execute(end).await.unwrap();
        tokio::time::sleep(Duration::from_millis(chance.below(60))).await;
    }
}

/// Appends in transactions that stay open, until a reader is past them or for a while; half of them are rolled back.
async fn hold_appends(node: &TestApp, running: &AtomicBool, furthest: &AtomicI64, patience: u64) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut chance = Chance(9);
    let mut connection = other_connection(node).await;
    while running.load(Ordering::SeqCst) {
        let stream = format!("held-{}", NUMBER.fetch_add(1, Ordering::SeqCst));
        connection.execute("begin").await.unwrap();
        let events = 1 + chance.below(3) as i64;
        append(
            &mut connection,
            ("test", &stream),
            0,
            events,
            "held",
            json!({}),
        )
        .await
        .unwrap();
        let position: i64 =
            sqlx::query_scalar("select max(position) from events where aggregate_id = $1")
                .bind(&stream)
                .fetch_one(&mut connection)
                .await
                .unwrap();
        let until = Instant::now() + Duration::from_millis(chance.below(patience));
        while furthest.load(Ordering::SeqCst) < position && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let end = if chance.below(2) == 0 {
            "commit"
        } else {
            "rollback"
        };
        connection.execute(end).await.unwrap();
        tokio::time::sleep(Duration::from_millis(chance.below(40))).await;
    }
}

/// A connection of the service's role that is not killed.
async fn other_connection(node: &TestApp) -> PgConnection {
    let options = database::options(&node.database_url(Role::App)).unwrap();
    options.application_name("other").connect().await.unwrap()
}

async fn faults(admin: &PgPool, readers: Vec<Vec<(i64, Uuid)>>) -> Faults {
    let whole: Vec<(i64, Uuid)> =
        sqlx::query_as("select position, event_id from events order by position")
            .fetch_all(admin)
            .await
            .unwrap();
    let mut faults = Faults {
        gaps: (1..)
            .zip(&whole)
            .filter(|(expected, (position, _))| expected != position)
            .count(),
        ..Faults::default()
    };
    for seen in readers {
        let ids: BTreeSet<Uuid> = seen.iter().map(|(_, id)| *id).collect();
        faults.skipped += whole.iter().filter(|(_, id)| !ids.contains(id)).count();
        faults.repeated += seen.len() - ids.len();
        faults.out_of_order += seen
            .windows(2)
            .filter(|pair| pair[0].0 >= pair[1].0)
            .count();
    }
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_neither_skips_nor_repeats_nor_reorders_under_attack() {
    let one = TestApp::start(&[("MANA_AUTH_DATABASE_POOL", "12")]).await;
    let two = one.node(&[("MANA_AUTH_DATABASE_POOL", "12")]).await;
    let commands = if crate::is_long() { 400 } else { 12 };
    let (told, faults) = attack(&one, &two, commands, 40).await;
    println!(
        "{} asked, {} acknowledged, {} refused, the rest not available",
        told.asked,
        told.acknowledged.len(),
        told.refused.len()
    );
    assert_eq!(faults, Faults::default());
    assert_dense(&one.admin).await;
    assert!(
        told.acknowledged.len() > told.asked / 4,
        "the service got on"
    );
    assert!(told.refused.len() > told.asked / 20, "some were refused");

    let rows = sqlx::query(
        "select metadata ->> 'correlation_id' as request, count(*) as events, max(position) as last, count(distinct xmin::text) as transactions
         from events where metadata ->> 'correlation_id' like 'request-%' group by 1",
    )
    .fetch_all(&one.admin)
    .await
    .unwrap();
    let written: BTreeMap<String, (i64, i64, i64)> = rows
        .iter()
        .map(|row| {
            let numbers = (row.get("events"), row.get("last"), row.get("transactions"));
            (row.get("request"), numbers)
        })
        .collect();
    for (request, position) in &told.acknowledged {
        let (events, last, transactions) = written[request];
        assert_eq!((last, transactions), (*position, 1), "{request}");
        assert!(events <= 2, "{request} is there once");
    }
    for (request, (events, _, transactions)) in &written {
        assert!(!told.refused.contains(request), "{request} was refused");
        assert!(
            *transactions == 1 && *events <= 2,
            "{request} is there once"
        );
    }
}

/// The same attack on a log without the lock, whose positions come from a sequence: the check above would fail.
#[tokio::test(flavor = "multi_thread")]
async fn without_the_lock_the_same_attack_is_noticed() {
    let faults = attack_without_the_lock().await;
    println!("{faults:?}");
    assert!(faults.gaps > 0, "rolled back positions are missing");
    assert!(faults.skipped > 0, "what was held was read past");
}

async fn attack_without_the_lock() -> Faults {
    let one = TestApp::start(&[("MANA_AUTH_DATABASE_POOL", "12")]).await;
    let two = one.node(&[("MANA_AUTH_DATABASE_POOL", "12")]).await;
    let append: String =
        sqlx::query_scalar(
            "select pg_get_functiondef(oid) from pg_proc where proname = 'append' order by pronargs desc limit 1",
        )
            .fetch_one(&one.admin)
            .await
            .unwrap();
    let unlocked = append
        .replacen(
            "called := pg_advisory_xact_lock(7165746300) is null;",
            "",
            1,
        )
        .replacen(
            "select head + e.n, p_stream_type",
            "select nextval('loose'), p_stream_type",
            1,
        );
    assert!(!unlocked.contains("advisory") && unlocked.contains("loose"));
    for statement in [
        "create sequence loose start 1000",
        "grant usage on sequence loose to mana_auth_app",
        unlocked.as_str(),
    ] {
        one.admin.execute(statement).await.unwrap();
    }
    let commands = if crate::is_long() { 50 } else { 8 };
    // A reader always comes by while something is held: nothing keeps the writers from going on.
    attack(&one, &two, commands, 10_000).await.1
}
