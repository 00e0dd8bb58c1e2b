//! Follows the log for the read models that are not written with it: one node at a time, by a lease. Rows and the
//! position up to which they go are written in one transaction, so a crash repeats nothing and leaves nothing out.
//!
//! An event that does not open, that this version does not know, or whose row the database refuses, parks its stream for
//! the model: the others go on, and the parked one is tried again every minute. Until then it is shown by `doctor`, in the
//! metrics and in the log.

mod kept;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use metrics::{counter, gauge};
use projections::erasures;
use projections::{Changes, Kind, Projection, Row, RowChange};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, FromRow as _, PgPool};
use tokio::sync::watch;

pub use self::kept::{Parked, begin_at, hold, is_incomplete, parked, position, wait_for};
use self::kept::{go_to, held_position, park, pass_over};
use crate::app::App;
use crate::lag::Lag;
use crate::lease::{Held, Lease, RENEWED_EVERY};
use crate::rows::{Cells, cells, copy};
use crate::store::log::{self, StoredRow};
use crate::store::opening::Opened;
use crate::store::{Store, StoreError};

/// Name of the lease.
const LEASE: &str = "models";
/// Positions that are followed in one transaction: so few that requests are not kept waiting while they are opened.
const PAGE: i64 = 500;
/// What is written meanwhile is followed together.
const FOLLOWED_EVERY: Duration = Duration::from_millis(100);
/// Parked streams are tried again this often.
const RETRIED_EVERY: Duration = Duration::from_secs(60);
/// Columns that say where somebody was. Nobody fills them whose account is closed.
pub const PLACE: [&str; 2] = ["ip_address", "user_agent"];

/// What one look at the log came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another node follows.
    Standby,
    /// The model goes up to this position, which was the last.
    UpToDate(i64),
    /// The model goes up to this position, and there is more.
    Behind(i64),
}

/// Follows until `stop` says so.
pub async fn work(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let follower = Follower::new(&app);
    let mut written = app.store.freshness().written();
    let mut retried: Option<Instant> = None;
    let mut lags: HashMap<&str, Lag> = HashMap::new();
    while !*stop.borrow() {
        let mut pause = RENEWED_EVERY;
        let mut woken = true;
        let is_due = retried.is_none_or(|at| at.elapsed() > RETRIED_EVERY);
        if is_due {
            retried = Some(Instant::now());
        }
        for model in models() {
            if is_due && let Err(error) = follower.retry(model).await {
                tracing::warn!(
                    model = model.name, error = %format!("{error:#}"),
                    "parked streams cannot be looked at; they are tried again in a minute"
                );
            }
            let step = follower.step(model).await;
            show(model.name, lags.entry(model.name).or_default(), &step);
            match step {
                Ok(Step::Behind(_)) => pause = Duration::ZERO,
                Ok(Step::UpToDate(_)) => {}
                Ok(Step::Standby) => woken = false,
                Err(error) => {
                    counter!("follower_failures_total", "model" => model.name).increment(1);
                    tracing::warn!(
                        model = model.name, error = %format!("{error:#}"),
                        "a read model cannot follow the log; it is tried again"
                    );
                    // Another node may be able to.
                    let _ = follower.lease.release().await;
                    woken = false;
                }
            }
        }
        if pause.is_zero() {
            continue;
        }
        tokio::select! {
            _ = stop.changed() => continue,
            _ = written.changed(), if woken => {}
            () = tokio::time::sleep(pause) => continue,
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(FOLLOWED_EVERY) => {}
        }
    }
    if let Err(error) = follower.lease.release().await {
        tracing::debug!(error = %error, "cannot let go of the lease; it ends by itself");
    }
}

/// Shows what a look at the log came to. A model that cannot be looked at counts as behind. What was written during a look
/// does not: while others write there is always something.
fn show(model: &'static str, lag: &mut Lag, step: &anyhow::Result<Step>) {
    if let Ok(Step::Standby) = step {
        // The node that follows shows how far it is.
        gauge!("follower_lag_events", "model" => model).set(0.0);
        gauge!("follower_parked_streams", "model" => model).set(0.0);
    }
    let seconds = lag.seconds(matches!(step, Ok(Step::Behind(_)) | Err(_)));
    gauge!("follower_lag_seconds", "model" => model).set(seconds);
}

/// The models that follow the log by themselves.
pub fn models() -> impl Iterator<Item = &'static Projection> {
    projections::ALL
        .iter()
        .filter(|model| model.kind == Kind::Async)
}

/// Follows for one node.
pub struct Follower<'a> {
    pool: &'a PgPool,
    store: &'a Store,
    lease: Lease,
}

impl<'a> Follower<'a> {
    /// Of a node.
    pub fn new(app: &'a App) -> Self {
        let node = crate::crypto::tokens::random_token(16);
        Self {
            pool: &app.pool,
            store: &app.store,
            lease: Lease::new(app.pool.clone(), LEASE, &node),
        }
    }

    /// Takes a model some events further, if this node has the lease.
    ///
    /// # Errors
    /// When the database does not answer: then nothing was written.
    pub async fn step(&self, model: &'static Projection) -> anyhow::Result<Step> {
        let Some(held) = self.lease.take().await? else {
            gauge!("follower_leader").set(0.0);
            self.store.recent().end();
            return Ok(Step::Standby);
        };
        gauge!("follower_leader").set(1.0);
        self.store.recent().keep(held.fence);
        if let Some(position) = self.pass_over(model, &held).await? {
            gauge!("follower_position", "model" => model.name).set(position as f64);
            gauge!("follower_lag_events", "model" => model.name).set(0.0);
            return Ok(Step::UpToDate(position));
        }
        let mut tx = self.pool.begin().await?;
        let Some(position) = held_position(&mut tx, model, &held).await? else {
            return Ok(Step::Standby);
        };
        let head = log::head(&mut *tx).await?;
        let until = head.min(position + PAGE);
        let waiting = parked(&mut *tx, model.name).await?;
        let (mut taken, mut newly) = (0, vec![]);
        if until > position {
            let page = (position, until);
            (taken, newly) = self.take_in(&mut tx, model, page, &waiting).await?;
            for stream in &newly {
                park(&mut tx, model, stream).await?;
            }
            go_to(&mut tx, model.name, until).await?;
        }
        tx.commit().await?;
        let waiting = waiting.len() + newly.len();
        for stream in newly {
            tracing::error!(
                model = model.name,
                stream_type = stream.stream_type,
                stream_id = stream.stream_id,
                position = stream.position,
                error = stream.error,
                "a stream is parked: one of its events cannot be taken in"
            );
        }
        counter!("follower_rows_total", "model" => model.name).increment(taken);
        gauge!("follower_parked_streams", "model" => model.name).set(waiting as f64);
        gauge!("follower_position", "model" => model.name).set(until as f64);
        gauge!("follower_lag_events", "model" => model.name).set((head - until) as f64);
        Ok(match until < head {
            true => Step::Behind(until),
            false => Step::UpToDate(until),
        })
    }

    /// Goes on to the head of the log where nothing was written that the model follows; up to where it goes then.
    async fn pass_over(&self, model: &Projection, held: &Held) -> anyhow::Result<Option<i64>> {
        let from = position(self.pool, model.name).await?;
        let Some(head) = log::head_without(self.pool, model.streams, from, PAGE).await? else {
            return Ok(None);
        };
        let passed = pass_over(self.pool, model, held, (from, head)).await?;
        Ok(passed.then_some(head))
    }

    /// Tries the parked streams of a model again: each from the event that it waits for. Those that cannot be tried are
    /// warned of, and hold up no other.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retry(&self, model: &'static Projection) -> anyhow::Result<()> {
        let Some(held) = self.lease.take().await? else {
            return Ok(());
        };
        for stream in parked(self.pool, model.name).await? {
            let (stream_type, stream_id) = (&stream.stream_type, &stream.stream_id);
            match self.retry_stream(model, &held, &stream).await {
                Ok(true) => tracing::info!(
                    model = model.name,
                    stream_type,
                    stream_id,
                    "a parked stream goes on"
                ),
                Ok(false) => {}
                Err(error) => tracing::warn!(
                    model = model.name, stream_type, stream_id, error = %format!("{error:#}"),
                    "a parked stream cannot be tried; it is tried again in a minute"
                ),
            }
        }
        Ok(())
    }

    /// Tries one of them; says whether it goes on.
    async fn retry_stream(
        &self,
        model: &'static Projection,
        held: &Held,
        stream: &Parked,
    ) -> anyhow::Result<bool> {
        let mut tx = self.pool.begin().await?;
        let Some(position) = held_position(&mut tx, model, held).await? else {
            return Ok(false);
        };
        let mut rows = log::stream(&mut *tx, &stream.stream_type, &stream.stream_id).await?;
        rows.retain(|row| (stream.position..=position).contains(&row.position));
        if self.take_all(&mut tx, model, &rows).await?.is_err() {
            return Ok(false);
        }
        sqlx::query(
            "delete from followers.parked where model = $1 and stream_type = $2 and stream_id = $3",
        )
        .bind(model.name)
        .bind(&stream.stream_type)
        .bind(&stream.stream_id)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Takes in the events between two positions, all at once; one by one if something is wrong with any of them. Says how
    /// many it took in, and in which streams something is wrong: what follows there waits, as in those that wait already.
    async fn take_in(
        &self,
        tx: &mut PgConnection,
        model: &'static Projection,
        page: (i64, i64),
        waiting: &[Parked],
    ) -> anyhow::Result<(u64, Vec<Parked>)> {
        let waiting = waiting
            .iter()
            .map(|parked| (parked.stream_type.clone(), parked.stream_id.clone()));
        let mut waits: HashSet<_> = waiting.collect();
        // Taken in any case: what is read instead is not kept. What is wrong with any of them shows when they are read.
        let kept = self.store.recent().take(page.0, page.1);
        if waits.is_empty()
            && let Some(events) = kept
            && self.add(tx, model, &events).await?.is_ok()
        {
            return Ok((events.len() as u64, vec![]));
        }
        let together = followed(tx, model, page, &waits).await?;
        let all = together.len() as u64;
        if self.take_all(tx, model, &together).await?.is_ok() {
            return Ok((all, vec![]));
        }
        let (mut taken, mut newly) = (0, vec![]);
        for row in followed(tx, model, page, &waits).await? {
            let stream = stream(&row);
            if waits.contains(&stream) {
                continue;
            }
            let position = row.position;
            let Err(error) = self.take_all(tx, model, &[row]).await? else {
                taken += 1;
                continue;
            };
            waits.insert(stream.clone());
            let (stream_type, stream_id) = stream;
            newly.push(Parked {
                stream_type,
                stream_id,
                position,
                error,
            });
        }
        Ok((taken, newly))
    }

    /// Takes all of some events in, or none and says what is wrong with one of them.
    async fn take_all(
        &self,
        tx: &mut PgConnection,
        model: &'static Projection,
        rows: &[StoredRow],
    ) -> anyhow::Result<Result<(), String>> {
        let events = match self.store.open(rows).await {
            Ok(events) => events,
            Err(StoreError::Broken(error)) => return Ok(Err(error)),
            Err(error) => return Err(error.into()),
        };
        self.add(tx, model, &events).await
    }

    /// The same, of events that are open.
    async fn add(
        &self,
        tx: &mut PgConnection,
        model: &'static Projection,
        events: &[Opened],
    ) -> anyhow::Result<Result<(), String>> {
        let mut savepoint = tx.begin().await?;
        if let Err(error) = self.write(&mut savepoint, model, events).await {
            savepoint.rollback().await?;
            return refusal(&error).map(Err).ok_or(error);
        }
        savepoint.commit().await?;
        Ok(Ok(()))
    }

    /// Writes what events change, all rows at once.
    async fn write(
        &self,
        tx: &mut PgConnection,
        model: &'static Projection,
        events: &[Opened],
    ) -> anyhow::Result<()> {
        let mut changes = Changes::default();
        for opened in events {
            (model.apply)(opened.recorded(), &mut changes);
        }
        ensure!(
            changes.take_owned().is_empty(),
            "{} deletes rows by their owner, which followers do not",
            model.name
        );
        let (mut put, mut keys, mut gone) = (vec![], vec![], vec![]);
        for (_, key, change) in changes.into_rows() {
            match change {
                RowChange::Put(row) => {
                    put.push(row);
                    keys.push(key);
                }
                RowChange::Delete => gone.push(key),
                RowChange::Patch(_) => bail!("{} patches rows, which followers do not", model.name),
            }
        }
        self.forget_closed(tx, &mut put).await?;
        if !gone.is_empty() {
            delete(tx, model, &gone).await?;
        }
        if put.is_empty() {
            return Ok(());
        }
        let rows: Vec<Cells> = put.into_iter().map(|row| cells(model, row)).collect();
        // The rows of new events are not there yet. Looking for them costs a third of all, so it is done only if one is.
        let mut savepoint = tx.begin().await?;
        match copy(&mut savepoint, model.name, model, rows.iter()).await {
            Ok(()) => return Ok(savepoint.commit().await?),
            Err(error) if is_there_already(&error) => savepoint.rollback().await?,
            Err(error) => return Err(error),
        }
        delete(tx, model, &keys).await?;
        copy(tx, model.name, model, rows.iter()).await
    }

    /// Takes out where people were whose accounts are closed (I-7). One that is not closed by now is not blanked until
    /// these rows are there: whoever blanks them waits for the lock on the model's position.
    async fn forget_closed(&self, tx: &mut PgConnection, rows: &mut [Row]) -> anyhow::Result<()> {
        let owner = |row: &Row| row["user_id"].as_str().map(str::to_owned);
        let owners: HashSet<String> = rows.iter().filter_map(owner).collect();
        let owners: Vec<String> = owners.into_iter().collect();
        let closed = erasures::among(tx, &owners)
            .await
            .context("looking for closed accounts")?;
        let closed: HashSet<String> = closed.into_iter().collect();
        for row in rows {
            if owner(row).is_none_or(|owner| closed.contains(&owner)) {
                for column in PLACE {
                    row.insert(column.to_owned(), Value::Null);
                }
            }
        }
        Ok(())
    }
}

/// Type and id of an event's stream.
fn stream(row: &StoredRow) -> (String, String) {
    (row.aggregate_type.clone(), row.aggregate_id.clone())
}

async fn delete(tx: &mut PgConnection, model: &Projection, keys: &[String]) -> sqlx::Result<()> {
    let query = format!("delete from read.{} where id = any($1)", model.name);
    sqlx::query(&query).bind(keys).execute(tx).await?;
    Ok(())
}

/// Whether a row was refused because one with its key is there (PostgreSQL, appendix A: unique_violation).
fn is_there_already(error: &anyhow::Error) -> bool {
    code(error).as_deref() == Some("23505")
}

fn code(error: &anyhow::Error) -> Option<Cow<'_, str>> {
    let error = error.downcast_ref::<sqlx::Error>()?;
    error.as_database_error()?.code()
}

/// What a model follows between two positions, but for streams that wait.
async fn followed(
    tx: &mut PgConnection,
    model: &'static Projection,
    (after, until): (i64, i64),
    waits: &HashSet<(String, String)>,
) -> Result<Vec<StoredRow>, sqlx::Error> {
    let rows = log::of_streams(tx, model.streams, true, after, until).await?;
    let rows: Result<Vec<_>, _> = rows.iter().map(StoredRow::from_row).collect();
    let mut rows = rows?;
    rows.retain(|row| waits.is_empty() || !waits.contains(&stream(row)));
    Ok(rows)
}

/// What is wrong with a row that the database refuses for what is in it, and will refuse again; none if it is something
/// else. The database's own words may hold a part of the row.
fn refusal(error: &anyhow::Error) -> Option<String> {
    let code = code(error)?;
    // Data, rules and limits of size (PostgreSQL, appendix A).
    ["22", "23", "54"]
        .iter()
        .any(|class| code.starts_with(class))
        .then(|| format!("the database refuses its row ({code})"))
}
