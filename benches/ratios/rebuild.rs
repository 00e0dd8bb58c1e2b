//! Making a read model anew, against merely streaming its events out of PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Instant;

use anyhow::Context as _;
use futures_util::TryStreamExt as _;
use mana_auth::store::log::{self, StoredRow};
use mana_auth::{database, rebuild};
use sqlx::ConnectOptions as _;
use tokio::runtime::Runtime;

use super::Options;
use super::append::{Kind, Load, prepare};
use super::database::Server;
use super::measure::take_turns;
use super::table::{Finding, Target};

/// Fills a log by ordinary commands, then rebuilds the model that most of its events are about.
///
/// # Errors
/// When a server does not start or a rebuild fails.
pub fn sessions(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let server = Server::start(false)?;
    let runtime = Runtime::new()?;
    let (app, tasks) = runtime.block_on(server.app())?;
    let streams = Arc::new(runtime.block_on(prepare(&app))?);
    let load = Load {
        app: app.clone(),
        streams,
        minutes: Arc::new(AtomicI64::new(1)),
    };
    let events = loop {
        let head = runtime.block_on(log::head(&app.pool))?;
        eprintln!("  {head} of {} events", options.events);
        if head >= options.events {
            break head;
        }
        runtime.block_on(load.run(Kind::Extend, 5))?;
    };
    let service = database::options(&server.database_url())?;
    let model = rebuild::find("sessions").context("there is no model of sessions")?;
    let (ours, limit) = take_turns(
        options.rounds,
        || {
            let started = Instant::now();
            runtime.block_on(rebuild::rebuild(&app.store, &service, model, |_| {}))?;
            Ok(events as f64 / started.elapsed().as_secs_f64())
        },
        || {
            let started = Instant::now();
            let streamed = runtime.block_on(async {
                let mut connection = service.connect().await?;
                let mut rows =
                    sqlx::query_as::<_, StoredRow>("select * from events order by position")
                        .fetch(&mut connection);
                let mut count = 0_i64;
                while rows.try_next().await?.is_some() {
                    count += 1;
                }
                Ok::<_, sqlx::Error>(count)
            })?;
            anyhow::ensure!(streamed >= events, "only {streamed} events came");
            Ok(streamed as f64 / started.elapsed().as_secs_f64())
        },
    )?;
    drop(load);
    runtime.block_on(tasks.stop(app));
    Ok(vec![Finding {
        what: format!("rebuild of sessions from {events} events"),
        unit: "events/s",
        ours,
        limit,
        limit_is: "streaming all columns of all events into memory and dropping them".to_owned(),
        target: Target::AtLeast(0.4),
        notes: vec![],
    }])
}
