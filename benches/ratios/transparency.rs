//! The transparency log: checking a bundle on one core, making the tree, and how soon an event is signed for.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use mana_auth::app::App;
use mana_auth::store::log;
use mana_auth::transparency::bundle::{self, Wanted};
use mana_auth::transparency::checkpoints::{self, Current};
use mana_auth::transparency::verify;
use sqlx::PgPool;
use tokio::runtime::Runtime;

use super::Options;
use super::append::{Kind, Load, prepare, superuser};
use super::database::Server;
use super::measure::Measured;
use super::table::{Finding, Target};

/// Events in the log that is checked, at most: its bundle is in memory.
const EVENTS_MAX: i64 = 200_000;
/// Events per second that are verified on one core.
const VERIFIED: f64 = 200_000.0;
/// Events per second that the tree takes.
const BUILT: f64 = 5_000.0;
/// Until an event is signed for, in seconds.
const SIGNED_WITHIN: f64 = 1.0;
/// A small bundle is checked again and again for this long.
const A_MOMENT: Duration = Duration::from_millis(500);

/// Fills a log by ordinary commands, at the end of which everything is measured.
///
/// # Errors
/// When a server does not start, or a bundle does not prove what it should.
pub fn all(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let server = Server::start(false)?;
    let runtime = Runtime::new()?;
    let (app, tasks) = runtime.block_on(server.app())?;
    let streams = Arc::new(runtime.block_on(prepare(&app))?);
    let load = Load {
        app: app.clone(),
        streams,
        minutes: Arc::new(AtomicI64::new(1)),
    };
    let head = loop {
        let head = runtime.block_on(log::head(&app.pool))?;
        let wanted = options.events.min(EVENTS_MAX);
        eprintln!("  {head} of {wanted} events");
        if head >= wanted {
            break head;
        }
        runtime.block_on(load.run(Kind::Extend, 5))?;
    };
    runtime.block_on(signed(&app.pool, head))?;
    let lag = runtime.block_on(lag(&app.pool))?;
    let now = checkpoints::current(&app.pool, app.store.custody(), &app.config);
    let now = runtime.block_on(now)?;
    let session = runtime.block_on(a_session(&app.pool))?;
    let full = runtime.block_on(bundle(&app, &now, &session, true))?;
    let one = runtime.block_on(bundle(&app, &now, &session, false))?;
    drop(load);
    runtime.block_on(tasks.stop(app));
    let (mut verified, mut scattered) = (Measured::default(), Measured::default());
    let mut built = Measured::default();
    for _ in 0..options.rounds {
        let started = Instant::now();
        let proven = verify::verify(&full[..], &now.signer.verifier(), None)?;
        verified.add(proven.size as f64 / started.elapsed().as_secs_f64());
        let started = Instant::now();
        let mut events = 0;
        while started.elapsed() < A_MOMENT {
            events += verify::verify(&one[..], &now.signer.verifier(), None)?.events;
        }
        scattered.add(events as f64 / started.elapsed().as_secs_f64());
        runtime.block_on(superuser(&server, FORGET))?;
        // A node that has seen a checkpoint signs nothing in the place of it: each time another one makes the tree.
        let (app, tasks) = runtime.block_on(server.app())?;
        let started = Instant::now();
        runtime.block_on(signed(&app.pool, head))?;
        built.add(head as f64 / started.elapsed().as_secs_f64());
        runtime.block_on(tasks.stop(app));
    }
    let finding = |what: &str, unit, ours, limit, target| Finding {
        what: what.to_owned(),
        unit,
        ours,
        limit: Measured::fixed(limit),
        limit_is: "what was asked for".to_owned(),
        target,
        notes: vec![format!("{head} events in the log")],
    };
    let least = Target::AtLeast(1.0);
    Ok(vec![
        finding(
            "log: checking a bundle of all events, one core",
            "events/s",
            verified,
            VERIFIED,
            least,
        ),
        finding(
            "log: checking a bundle of one of 1,024 streams, one core",
            "events/s",
            scattered,
            VERIFIED,
            least,
        ),
        finding("log: making the tree", "events/s", built, BUILT, least),
        finding(
            "log: until an event is signed for, 99 of 100, under full load",
            "s",
            lag,
            SIGNED_WITHIN,
            Target::AtMost,
        ),
    ])
}

/// The tree has to be made anew.
const FORGET: &str = "set session_replication_role = replica;
    delete from followers.checkpoints; delete from followers.tiles";

/// Waits until everything up to a position is signed.
async fn signed(pool: &PgPool, position: i64) -> anyhow::Result<()> {
    while checkpoints::last(pool)
        .await?
        .is_none_or(|last| last.size < position)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The 99th percentile over all events of the log.
async fn lag(pool: &PgPool) -> anyhow::Result<Measured> {
    let seconds: f64 = sqlx::query_scalar(
        "select percentile_cont(0.99) within group (order by extract(epoch from c.signed_at - e.recorded_at)::float8)
         from events e,
         lateral (select signed_at from followers.checkpoints where size >= e.position order by size limit 1) c",
    )
    .fetch_one(pool)
    .await?;
    Ok(Measured::fixed(seconds))
}

async fn a_session(pool: &PgPool) -> anyhow::Result<String> {
    let session = "select aggregate_id from events where aggregate_type = 'session' limit 1";
    Ok(sqlx::query_scalar(session).fetch_one(pool).await?)
}

async fn bundle(app: &App, now: &Current, session: &str, full: bool) -> anyhow::Result<Vec<u8>> {
    let wanted = Wanted {
        stream_type: "session",
        stream_id: session,
        previous: None,
        full,
    };
    let mut bundle = vec![];
    let written = bundle::write(&app.pool, now, &wanted, &mut bundle, |_, _| {});
    written.await.context("making a bundle")?;
    Ok(bundle)
}
