//! Follows the log for the read models that are not written with it: one node at a time, by a lease. Rows and the
//! position up to which they go are written in one transaction, so a crash repeats nothing and leaves nothing out.
//!
//! An event that does not open, or that this version does not know, parks its stream for the model: the others go on, and
//! the parked one is tried again every minute. Until then it is shown by `doctor`, in the metrics and in the log.

mod lag;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use metrics::{counter, gauge};
use projections::{Changes, Kind, Projection, Row, RowChange};
use serde_json::Value;
use sqlx::postgres::PgConnection;
use sqlx::{FromRow as _, PgExecutor, PgPool};
use tokio::sync::watch;

use self::lag::Lag;
use crate::app::App;
use crate::custody::kind;
use crate::lease::{Held, Lease, RENEWED_EVERY};
use crate::store::log::{self, Opened, StoredRow};
use crate::store::{Store, StoreError};

/// Name of the lease.
const LEASE: &str = "models";
/// Positions that are followed in one transaction.
const PAGE: i64 = 2_000;
/// What is written meanwhile is followed together.
const FOLLOWED_EVERY: Duration = Duration::from_millis(100);
/// Parked streams are tried again this often.
const RETRIED_EVERY: Duration = Duration::from_secs(60);
/// A reader waits this long for a model to follow.
const WAIT: Duration = Duration::from_secs(5);
/// It looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(25);

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
                tracing::debug!(model = model.name, error = %format!("{error:#}"), "parked streams wait");
            }
            let step = follower.step(model).await;
            lags.entry(model.name).or_default().show(model.name, &step);
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
            return Ok(Step::Standby);
        };
        gauge!("follower_leader").set(1.0);
        let mut tx = self.pool.begin().await?;
        let Some(position) = held_position(&mut tx, model, &held).await? else {
            return Ok(Step::Standby);
        };
        let head = log::head(&mut *tx).await?;
        let until = head.min(position + PAGE);
        if until > position {
            let rows = log::of_streams(&mut *tx, model.streams, true, position, until).await?;
            let rows: Vec<StoredRow> = rows
                .iter()
                .map(StoredRow::from_row)
                .collect::<Result<_, _>>()?;
            let (events, poison) = self.open(rows, parked(&mut *tx, model.name).await?).await?;
            self.write(&mut tx, model, &events).await?;
            for event in &poison {
                park(&mut tx, model, event).await?;
            }
            go_to(&mut tx, model.name, until).await?;
            tx.commit().await?;
            counter!("follower_rows_total", "model" => model.name).increment(events.len() as u64);
            for event in poison {
                tracing::error!(
                    model = model.name,
                    stream_type = event.row.aggregate_type,
                    stream_id = event.row.aggregate_id,
                    position = event.row.position,
                    error = event.error,
                    "a stream is parked: one of its events does not open"
                );
            }
        }
        gauge!("follower_position", "model" => model.name).set(until as f64);
        gauge!("follower_lag_events", "model" => model.name).set((head - until) as f64);
        Ok(match until < head {
            true => Step::Behind(until),
            false => Step::UpToDate(until),
        })
    }

    /// Tries the parked streams of a model again: each from the event that it waits for.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn retry(&self, model: &'static Projection) -> anyhow::Result<()> {
        let Some(held) = self.lease.take().await? else {
            return Ok(());
        };
        let waiting = parked(self.pool, model.name).await?;
        gauge!("follower_parked_streams", "model" => model.name).set(waiting.len() as f64);
        for stream in waiting {
            let mut tx = self.pool.begin().await?;
            let Some(position) = held_position(&mut tx, model, &held).await? else {
                return Ok(());
            };
            let (stream_type, stream_id) = (&stream.stream_type, &stream.stream_id);
            let mut rows = log::stream(&mut *tx, stream_type, stream_id).await?;
            rows.retain(|row| (stream.position..=position).contains(&row.position));
            match self.store.open(rows).await {
                Ok(events) => self.write(&mut tx, model, &events).await?,
                Err(StoreError::Broken(_)) => continue,
                Err(error) => return Err(error.into()),
            }
            sqlx::query(
                "delete from followers.parked where model = $1 and stream_type = $2 and stream_id = $3",
            )
            .bind(model.name)
            .bind(stream_type)
            .bind(stream_id)
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            tracing::info!(
                model = model.name,
                stream_type,
                stream_id,
                "a parked stream goes on"
            );
        }
        Ok(())
    }

    /// Opens events; those that do not open come back apart, and what follows them in their streams waits.
    async fn open(
        &self,
        mut rows: Vec<StoredRow>,
        parked: Vec<Parked>,
    ) -> anyhow::Result<(Vec<Opened>, Vec<Poison>)> {
        let mut waits: HashSet<(String, String)> = parked
            .into_iter()
            .map(|parked| (parked.stream_type, parked.stream_id))
            .collect();
        let stream = |row: &StoredRow| (row.aggregate_type.clone(), row.aggregate_id.clone());
        rows.retain(|row| waits.is_empty() || !waits.contains(&stream(row)));
        match self.store.open(rows.clone()).await {
            Ok(events) => return Ok((events, vec![])),
            Err(StoreError::Broken(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let (mut events, mut poison) = (vec![], vec![]);
        for row in rows {
            if waits.contains(&stream(&row)) {
                continue;
            }
            match self.store.open(vec![row.clone()]).await {
                Ok(opened) => events.extend(opened),
                Err(StoreError::Broken(error)) => {
                    waits.insert(stream(&row));
                    poison.push(Poison { row, error });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok((events, poison))
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
        let (mut put, mut gone) = (vec![], vec![]);
        for (_, key, change) in changes.into_rows() {
            match change {
                RowChange::Put(row) => put.push(row),
                RowChange::Delete => gone.push(key),
                RowChange::Patch(_) => bail!("{} patches rows, which followers do not", model.name),
            }
        }
        self.forget_erased(tx, &mut put).await?;
        let (table, columns) = (model.name, model.columns.join(", "));
        if !gone.is_empty() {
            sqlx::query(&format!("delete from read.{table} where id = any($1)"))
                .bind(gone)
                .execute(&mut *tx)
                .await?;
        }
        if !put.is_empty() {
            let updates: Vec<String> = model
                .columns
                .iter()
                .map(|column| format!("{column} = excluded.{column}"))
                .collect();
            sqlx::query(&format!(
                "insert into read.{table} ({columns})
                 select {columns} from jsonb_populate_recordset(null::read.{table}, $1)
                 on conflict (id) do update set {}",
                updates.join(", ")
            ))
            .bind(Value::Array(put.into_iter().map(Value::Object).collect()))
            .execute(&mut *tx)
            .await?;
        }
        Ok(())
    }

    /// Takes out where people were who have been erased since their events were opened. Whoever is not erased by now
    /// cannot be until the rows are written: who destroys their key waits for the lock on it, and then finds the rows.
    async fn forget_erased(&self, tx: &mut PgConnection, rows: &mut [Row]) -> anyhow::Result<()> {
        const PERSONAL: [&str; 2] = ["ip_address", "user_agent"];
        let owner = |row: &Row| row["user_id"].as_str().map(str::to_owned);
        let owners: HashSet<String> = rows
            .iter()
            .filter(|row| PERSONAL.iter().any(|column| !row[*column].is_null()))
            .filter_map(owner)
            .collect();
        let mut owners: Vec<String> = owners.into_iter().collect();
        owners.sort_unstable();
        let there: Vec<String> = sqlx::query_scalar(
            "select owner from custody where kind = $1 and owner = any($2) order by owner for key share",
        )
        .bind(kind::DATA_KEY)
        .bind(&owners)
        .fetch_all(tx)
        .await
        .context("looking for erased people")?;
        let there: HashSet<String> = there.into_iter().collect();
        for row in rows {
            if owner(row).is_none_or(|owner| !there.contains(&owner)) {
                for column in PERSONAL {
                    row.insert(column.to_owned(), Value::Null);
                }
            }
        }
        Ok(())
    }
}

/// An event that does not open.
struct Poison {
    row: StoredRow,
    error: String,
}

/// A stream that a model cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Parked {
    /// Type of the stream.
    pub stream_type: String,
    /// Id of the stream.
    pub stream_id: String,
    /// Of the event that it waits for.
    pub position: i64,
    /// What is wrong with it; names nothing personal.
    pub error: String,
}

/// The streams that a model cannot follow.
///
/// # Errors
/// When the database does not answer.
pub async fn parked(db: impl PgExecutor<'_>, model: &str) -> Result<Vec<Parked>, sqlx::Error> {
    sqlx::query_as(
        "select stream_type, stream_id, position, error from followers.parked where model = $1 order by position",
    )
    .bind(model)
    .fetch_all(db)
    .await
}

/// Whether rows of a model are missing up to a position because streams wait, or one stream of this id if it is named.
///
/// # Errors
/// When the database does not answer.
pub async fn is_incomplete(
    db: impl PgExecutor<'_>,
    model: &str,
    stream_id: Option<&str>,
    until: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from followers.parked
                        where model = $1 and ($2 is null or stream_id = $2) and position <= $3)",
    )
    .bind(model)
    .bind(stream_id)
    .bind(until)
    .fetch_one(db)
    .await
}

async fn park(
    tx: &mut PgConnection,
    model: &Projection,
    Poison { row, error }: &Poison,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into followers.parked (model, stream_type, stream_id, position, error) values ($1, $2, $3, $4, $5)",
    )
    .bind(model.name)
    .bind(&row.aggregate_type)
    .bind(&row.aggregate_id)
    .bind(row.position)
    .bind(error)
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to where a model goes, for as long as the transaction holds it; none if this node has no right to it any more.
async fn held_position(
    tx: &mut PgConnection,
    model: &Projection,
    held: &Held,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "select m.position from followers.leases l, followers.models m
         where l.name = $1 and l.fence = $2 and m.name = $3 for update of m for share of l",
    )
    .bind(held.name)
    .bind(held.fence)
    .bind(model.name)
    .fetch_optional(tx)
    .await
}

/// Up to where a model goes.
///
/// # Errors
/// When the database does not answer, or there is no such model.
pub async fn position(db: impl PgExecutor<'_>, model: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select position from followers.models where name = $1")
        .bind(model)
        .fetch_one(db)
        .await
}

/// Keeps a model where it is until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn hold(db: impl PgExecutor<'_>, model: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select from followers.models where name = $1 for update")
        .bind(model)
        .execute(db)
        .await?;
    Ok(())
}

/// Lets a model go on from a position, with no stream parked: all of it is in its rows.
///
/// # Errors
/// When the database does not answer.
pub async fn begin_at(
    tx: &mut PgConnection,
    model: &str,
    position: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from followers.parked where model = $1")
        .bind(model)
        .execute(&mut *tx)
        .await?;
    go_to(tx, model, position).await
}

async fn go_to(tx: &mut PgConnection, model: &str, position: i64) -> Result<(), sqlx::Error> {
    sqlx::query("update followers.models set position = $2 where name = $1")
        .bind(model)
        .bind(position)
        .execute(tx)
        .await?;
    Ok(())
}

/// Waits until a model goes up to a position; gives the one up to which it goes.
///
/// # Errors
/// `Unavailable` if it does not within 5 s.
pub async fn wait_for(pool: &PgPool, model: &str, wanted: i64) -> Result<i64, StoreError> {
    let started = Instant::now();
    loop {
        let reached = position(pool, model).await?;
        if reached >= wanted {
            return Ok(reached);
        }
        if started.elapsed() > WAIT {
            let behind = format!("{model} goes up to position {reached}, not {wanted}");
            return Err(StoreError::Unavailable(behind));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
