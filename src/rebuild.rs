//! Makes a read model anew beside the live one, under live traffic, and puts it in its place.
//!
//! All events are folded in memory, the rows are copied into a table of their own, and what happened
//! meanwhile is brought in by passes that get shorter. The last pass and the swap are one short
//! transaction under the append lock. A rebuild that dies leaves the live table as it was; the next one
//! starts over.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use projections::erasures;
use projections::{Changes, Kind, OwnedDelete, Projection, RowChange};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, FromRow as _, Row as _};
use tokio::task::JoinHandle;

use crate::follower;
use crate::rows::{Cells, cell, cells, copy};
use crate::store::Store;
use crate::store::log::{self, StoredRow};
use crate::store::opening::Opened;

/// Positions read at a time: a page is opened and folded while the next ones are read.
const PAGE: i64 = 5_000;
/// Passes go on until no more events than this are missing.
const NEARLY: i64 = 200;
/// No more events than this are folded while appends wait; they wait for 2 s at most.
const UNDER_LOCK: i64 = 2_000;
/// Tries to catch up and swap before a log that grows faster than we fold is given up.
const ATTEMPTS: u32 = 100;
/// How long the swap waits for readers of the live table while appends wait for the swap.
const LOCK_TIMEOUT: &str = "500ms";
/// Pause between two attempts to swap.
const PAUSE: Duration = Duration::from_millis(500);
/// Rows named by a comparison.
const NAMED_MAX: i64 = 100;
/// Whose accounts are closed while the log still tells where they were: in the live table that may be blank already.
const UNDER_WAY: &str =
    "select e.id from read.erasures e join custody k on k.kind = 'data_key' and k.owner = e.id";

/// How far a fold is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Progress {
    /// Positions that were folded.
    pub done: i64,
    /// Positions that there are.
    pub total: i64,
}

/// What a rebuild made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Rebuilt {
    /// Rows of the table.
    pub rows: usize,
    /// Every event up to here is in them.
    pub position: i64,
}

/// What the events say and what the live table says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Rows that the events give.
    pub rows: usize,
    /// The position up to which both were read.
    pub position: i64,
    /// Keys of rows that differ, are missing or should not be there; the first hundred.
    pub differing: Vec<String>,
}

/// The read model of this name.
pub fn find(name: &str) -> Option<&'static Projection> {
    projections::ALL.iter().find(|model| model.name == name)
}

/// Rebuilds a read model with the role that owns the schema `read`.
///
/// # Errors
/// When the database fails, an event does not open, or another rebuild of the model is under way; the live
/// table is as it was.
pub async fn rebuild(
    store: &Store,
    service: &PgConnectOptions,
    model: &'static Projection,
    mut progress: impl FnMut(Progress),
) -> anyhow::Result<Rebuilt> {
    let mut connection = connect(service).await?;
    take(&mut connection, model).await?;
    let mut fold = Fold::new(store, model);
    // Before the head: nothing about them comes after it.
    fold.shut = closed_accounts(&mut connection, model).await?;
    let head = log::head(&mut connection).await?;
    fold.everything(&mut connection, head, &mut progress)
        .await?;
    create(&mut connection, &fresh(model), model).await?;
    copy(&mut connection, &fresh(model), model, fold.rows.values()).await?;
    let indexes = build_indexes(&mut connection, model).await?;
    for _ in 0..ATTEMPTS {
        let head = log::head(&mut connection).await?;
        fold.further(&mut connection, head).await?;
        let mut tx = connection.begin().await?;
        fold.write(&mut tx).await?;
        fold.blanked = fold.closed_since(&mut tx).await?;
        fold.blank(&mut tx, &fold.blanked).await?;
        tx.commit().await?;
        fold.unwritten.clear();
        if log::head(&mut connection).await? - fold.position > NEARLY {
            continue;
        }
        if swap(&mut connection, &mut fold, &indexes).await? {
            let made = Rebuilt {
                rows: fold.rows.len(),
                position: fold.position,
            };
            connection.close().await?;
            return Ok(made);
        }
        // Appends may have waited for the attempt: they get time to themselves.
        tokio::time::sleep(PAUSE).await;
    }
    bail!(
        "{}: the log grows faster than the model can follow, or somebody reads the live table all the time; \
         try again when there is less traffic",
        model.name
    )
}

/// Folds all events and compares the result row for row with the live table, both as of one moment.
///
/// # Errors
/// When the database fails or an event does not open.
pub async fn compare(
    store: &Store,
    service: &PgConnectOptions,
    model: &'static Projection,
    mut progress: impl FnMut(Progress),
) -> anyhow::Result<Comparison> {
    let mut connection = connect(service).await?;
    // Rolled back in the end, so the table beside the live one is never seen by anybody else.
    let mut tx = connection.begin().await?;
    sqlx::query("set transaction isolation level repeatable read")
        .execute(&mut *tx)
        .await?;
    let mut fold = Fold::new(store, model);
    let until = match model.kind {
        Kind::Inline => log::head(&mut *tx).await?,
        Kind::Async => follower::position(&mut *tx, model.name).await?,
    };
    fold.everything(&mut tx, until, &mut progress).await?;
    let folded = format!("{}_compare", model.name);
    create(&mut tx, &folded, model).await?;
    copy(&mut tx, &folded, model, fold.rows.values()).await?;
    let of = |table: &str| {
        let columns: Vec<String> = model
            .columns
            .iter()
            .map(|c| match has_places(model) && follower::PLACE.contains(c) {
                true => format!(
                    "case when {table}.user_id in ({UNDER_WAY}) then null else {table}.{c} end"
                ),
                false => format!("{table}.{c}"),
            })
            .collect();
        format!("row({})", columns.join(", "))
    };
    let differing = sqlx::query_scalar(&format!(
        "select coalesce(live.id, folded.id) from read.{} live full join read.{folded} folded on folded.id = live.id
         where {} is distinct from {} order by 1 limit $1",
        model.name,
        of("live"),
        of("folded"),
    ))
    .bind(NAMED_MAX)
    .fetch_all(&mut *tx)
    .await?;
    tx.rollback().await?;
    connection.close().await?;
    Ok(Comparison {
        rows: fold.rows.len(),
        position: fold.position,
        differing,
    })
}

/// What a page of events changes in one row.
enum CellChange {
    Put(Cells),
    Patch(Vec<(usize, Option<Box<str>>)>),
    Delete,
}

/// The rows of a model as the events up to a position give them.
struct Fold {
    store: Store,
    model: &'static Projection,
    rows: HashMap<String, Cells>,
    /// Place of the column that says whose a row is, where rows of one owner end together.
    owner_column: Option<usize>,
    /// Keys of their rows by owner; some may be gone already.
    owned: HashMap<String, Vec<String>>,
    position: i64,
    /// Keys whose rows the table does not show as they are here.
    unwritten: HashSet<String>,
    /// Who was erased before: where they were did not open.
    shut: HashSet<String>,
    /// Whose accounts were closed since, as far as the table knows.
    blanked: Vec<String>,
}

impl Fold {
    fn new(store: &Store, model: &'static Projection) -> Self {
        Self {
            store: store.clone(),
            model,
            rows: HashMap::new(),
            owner_column: model
                .owner
                .and_then(|owner| model.columns.iter().position(|&column| column == owner)),
            owned: HashMap::new(),
            position: 0,
            unwritten: HashSet::new(),
            shut: HashSet::new(),
            blanked: vec![],
        }
    }

    /// Folds everything up to the position `total`, with several pages in hand at once.
    async fn everything(
        &mut self,
        connection: &mut PgConnection,
        total: i64,
        progress: &mut impl FnMut(Progress),
    ) -> anyhow::Result<()> {
        // Read after the head: whoever has no key by now was erased.
        let keys = Arc::new(
            self.store
                .custody()
                .all_data_keys(&mut *connection)
                .await
                .context("reading the data keys")?,
        );
        self.shut.retain(|id| !keys.contains_key(id));
        let ahead = std::thread::available_parallelism().map_or(2, usize::from) + 1;
        let mut pages: VecDeque<(i64, JoinHandle<anyhow::Result<_>>)> = VecDeque::new();
        let mut read = 0;
        while read < total || !pages.is_empty() {
            while read < total && pages.len() < ahead {
                let until = (read + PAGE).min(total);
                let (streams, with_metadata) = (self.model.streams, self.model.reads_client);
                let rows =
                    log::of_streams(&mut *connection, streams, with_metadata, read, until).await?;
                let (store, model, keys) = (self.store.clone(), self.model, keys.clone());
                let page = tokio::task::spawn_blocking(move || {
                    let rows: Result<Vec<_>, _> = rows.iter().map(StoredRow::from_row).collect();
                    Ok(changes(model, &store.open_with(&rows?, &keys)?))
                });
                pages.push_back((until, page));
                read = until;
            }
            if let Some((until, page)) = pages.pop_front() {
                self.apply_all(page.await??);
                self.position = until;
                progress(Progress { done: until, total });
            }
        }
        Ok(())
    }

    /// Folds what came since, up to `head`.
    async fn further(&mut self, connection: &mut PgConnection, head: i64) -> anyhow::Result<()> {
        while self.position < head {
            let mut rows = log::after(&mut *connection, self.position, PAGE).await?;
            let Some(last) = rows.last().map(|row| row.position) else {
                break;
            };
            rows.retain(|row| self.model.streams.contains(&row.aggregate_type.as_str()));
            let events = self.store.open(&rows).await?;
            let touched = self.apply_all(changes(self.model, &events));
            self.unwritten.extend(touched);
            self.position = last;
        }
        Ok(())
    }

    /// Folds a page; gives back the keys of rows that it touched.
    fn apply_all(&mut self, page: Page) -> Vec<String> {
        let mut touched = Vec::new();
        for OwnedDelete { owner, except, .. } in page.owned {
            let Some(keys) = self.owned.get_mut(owner.as_str()) else {
                continue;
            };
            let (kept, gone): (Vec<String>, Vec<String>) = std::mem::take(keys)
                .into_iter()
                .partition(|key| Some(key) == except.as_ref());
            *keys = kept;
            for key in gone {
                self.rows.remove(&key);
                touched.push(key);
            }
        }
        for (key, change) in page.rows {
            self.apply(key.clone(), change);
            touched.push(key);
        }
        touched
    }

    fn apply(&mut self, key: String, change: CellChange) {
        match change {
            CellChange::Put(cells) => {
                if let Some(column) = self.owner_column
                    && let Some(owner) = &cells[column]
                    && !self.rows.contains_key(&key)
                {
                    let keys = self.owned.entry(owner.to_string()).or_default();
                    keys.push(key.clone());
                }
                self.rows.insert(key, cells);
            }
            CellChange::Patch(patch) => {
                // As in the live table: a patch of a row that is not there changes nothing.
                if let Some(cells) = self.rows.get_mut(&key) {
                    for (column, cell) in patch {
                        cells[column] = cell;
                    }
                }
            }
            CellChange::Delete => {
                self.rows.remove(&key);
            }
        }
    }

    /// Brings the fresh table up to what was folded.
    async fn write(&self, connection: &mut PgConnection) -> anyhow::Result<()> {
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let table = fresh(self.model);
        let keys: Vec<&str> = self.unwritten.iter().map(String::as_str).collect();
        sqlx::query(&format!("delete from read.{table} where id = any($1)"))
            .bind(keys)
            .execute(&mut *connection)
            .await?;
        let rows = self.unwritten.iter().filter_map(|key| self.rows.get(key));
        copy(connection, &table, self.model, rows).await
    }

    /// Whose accounts were closed since all events were opened. No key is destroyed before.
    async fn closed_since(&self, connection: &mut PgConnection) -> anyhow::Result<Vec<String>> {
        let closed = closed_accounts(connection, self.model).await?;
        Ok(closed.difference(&self.shut).cloned().collect())
    }

    /// Takes out of the fresh table where people were.
    async fn blank(&self, connection: &mut PgConnection, people: &[String]) -> anyhow::Result<()> {
        if people.is_empty() {
            return Ok(());
        }
        let each = |what: &str| follower::PLACE.map(|column| format!("{column} {what}"));
        sqlx::query(&format!(
            "update read.{} set {} where user_id = any($1) and ({})",
            fresh(self.model),
            each("= null").join(", "),
            each("is not null").join(" or ")
        ))
        .bind(people)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Whose accounts are closed, where that matters.
async fn closed_accounts(
    connection: &mut PgConnection,
    model: &Projection,
) -> Result<HashSet<String>, sqlx::Error> {
    if !has_places(model) {
        return Ok(HashSet::new());
    }
    Ok(erasures::ids(connection).await?.into_iter().collect())
}

/// What a page of events changes: rows of an owner that end together come first.
struct Page {
    owned: Vec<OwnedDelete>,
    rows: Vec<(String, CellChange)>,
}

/// The changes of a page of events, the last one per row.
fn changes(model: &Projection, events: &[Opened]) -> Page {
    let mut changes = Changes::default();
    for opened in events {
        (model.apply)(opened.recorded(), &mut changes);
    }
    Page {
        owned: changes.take_owned(),
        rows: changes
            .into_rows()
            .map(|(_, key, change)| (key, cell_change(model, change)))
            .collect(),
    }
}

fn cell_change(model: &Projection, change: RowChange) -> CellChange {
    match change {
        RowChange::Put(row) => CellChange::Put(cells(model, row)),
        RowChange::Patch(row) => CellChange::Patch(
            row.into_iter()
                .filter_map(|(name, value)| {
                    let column = model.columns.iter().position(|&c| c == name)?;
                    Some((column, cell(value)))
                })
                .collect(),
        ),
        RowChange::Delete => CellChange::Delete,
    }
}

/// Whether rows say where people were, also of those who are erased: they are blanked then, and stay. Inline models lose
/// them by the event that closes the account.
fn has_places(model: &Projection) -> bool {
    model.kind == Kind::Async && model.reads_client
}

/// Name of the table beside the live one.
fn fresh(model: &Projection) -> String {
    format!("{}_rebuild", model.name)
}

/// A connection whose statements may take as long as they need.
async fn connect(service: &PgConnectOptions) -> anyhow::Result<PgConnection> {
    let options = service
        .clone()
        .application_name("mana-auth rebuild")
        .options([("statement_timeout", "0")]);
    options.connect().await.context("connecting")
}

/// Makes sure that nobody else rebuilds the model; held as long as the connection.
async fn take(connection: &mut PgConnection, model: &Projection) -> anyhow::Result<()> {
    let taken: bool = sqlx::query_scalar("select pg_try_advisory_lock(71657463, hashtext($1))")
        .bind(model.name)
        .fetch_one(connection)
        .await?;
    if !taken {
        bail!("{} is being rebuilt by somebody else", model.name);
    }
    Ok(())
}

/// Makes an empty table of the live one's shape, with all its rules except indexes.
async fn create(
    connection: &mut PgConnection,
    table: &str,
    model: &Projection,
) -> anyhow::Result<()> {
    let live = model.name;
    sqlx::raw_sql(&format!(
        "drop table if exists read.{table};
         create table read.{table} (like read.{live} including all excluding indexes)"
    ))
    .execute(&mut *connection)
    .await
    .with_context(|| format!("making the table read.{table}"))?;
    // Of which columns the planner keeps no samples is not part of the shape that PostgreSQL copies.
    let unsampled: Option<String> = sqlx::query_scalar(
        "select string_agg(format('alter column %I set statistics 0', attname), ', ') from pg_attribute
         where attrelid = ('read.' || $1)::regclass and attstattarget = 0 and attnum > 0 and not attisdropped",
    )
    .bind(live)
    .fetch_one(&mut *connection)
    .await?;
    if let Some(changes) = unsampled {
        sqlx::raw_sql(&format!("alter table read.{table} {changes}"))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// An index of the live table and the one that will take its place.
struct Index {
    name: String,
    fresh: String,
    /// Whether a constraint stands on it: then both have one name.
    is_constraint: bool,
}

/// Builds the live table's indexes and keys on the full table: cheaper than before it was filled.
async fn build_indexes(
    connection: &mut PgConnection,
    model: &Projection,
) -> anyhow::Result<Vec<Index>> {
    let found = sqlx::query(
        "select c.relname::text as name, i.indisunique as is_unique, k.contype::text as constraint,
                substring(pg_get_indexdef(i.indexrelid) from ' USING .*') as definition
         from pg_index i
         join pg_class c on c.oid = i.indexrelid
         left join pg_constraint k on k.conindid = i.indexrelid and k.conrelid = i.indrelid
         where i.indrelid = ('read.' || $1)::regclass order by 1",
    )
    .bind(model.name)
    .fetch_all(&mut *connection)
    .await?;
    let table = fresh(model);
    let mut indexes = Vec::new();
    for (n, row) in found.iter().enumerate() {
        let name: String = row.try_get("name")?;
        let unique = if row.try_get("is_unique")? {
            "unique"
        } else {
            ""
        };
        let definition: String = row.try_get("definition")?;
        let constraint: Option<String> = row.try_get("constraint")?;
        let index = Index {
            name,
            fresh: format!("{table}_{n}"),
            is_constraint: constraint.is_some(),
        };
        let mut statement = format!(
            "create {unique} index {} on read.{table} {definition};",
            index.fresh
        );
        match constraint.as_deref() {
            None => {}
            Some(kind @ ("p" | "u")) => {
                let kind = if kind == "p" { "primary key" } else { "unique" };
                statement += &format!(
                    "alter table read.{table} add constraint {0} {kind} using index {0};",
                    index.fresh
                );
            }
            Some(other) => bail!(
                "{} has a constraint of kind {other:?}, which a rebuild cannot make",
                model.name
            ),
        }
        sqlx::raw_sql(&statement)
            .execute(&mut *connection)
            .await
            .with_context(|| format!("building the index {}", index.name))?;
        indexes.push(index);
    }
    sqlx::raw_sql(&format!("analyze read.{table}"))
        .execute(&mut *connection)
        .await?;
    Ok(indexes)
}

/// Folds the rest under the append lock and puts the fresh table in the live one's place. Says whether it
/// did: if too much is left, or readers hold the live table, appends must not be kept waiting.
async fn swap(
    connection: &mut PgConnection,
    fold: &mut Fold,
    indexes: &[Index],
) -> anyhow::Result<bool> {
    let mut tx = connection.begin().await?;
    let outcome = put_in_place(&mut tx, fold, indexes).await;
    match outcome {
        Ok(true) => {
            tx.commit().await?;
            fold.unwritten.clear();
            Ok(true)
        }
        Ok(false) => {
            tx.rollback().await?;
            Ok(false)
        }
        Err(error) if is_lock_timeout(&error) => {
            tx.rollback().await?;
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn put_in_place(
    tx: &mut PgConnection,
    fold: &mut Fold,
    indexes: &[Index],
) -> anyhow::Result<bool> {
    sqlx::raw_sql(&format!("set local lock_timeout = '{LOCK_TIMEOUT}'"))
        .execute(&mut *tx)
        .await?;
    // Before the tables, as every append does.
    sqlx::query("select pg_advisory_xact_lock(7165746300)")
        .execute(&mut *tx)
        .await?;
    if fold.model.kind == Kind::Async {
        // Whoever follows the log for this model waits until it goes on from the fresh table.
        follower::hold(&mut *tx, fold.model.name).await?;
    }
    let head = log::head(&mut *tx).await?;
    if head - fold.position > UNDER_LOCK {
        return Ok(false);
    }
    // Where somebody was who has just closed their account may be much to blank; the next attempt finds it done.
    let closed = fold.closed_since(&mut *tx).await?;
    if closed.len() > fold.blanked.len() {
        return Ok(false);
    }
    fold.further(&mut *tx, head).await?;
    fold.write(&mut *tx).await?;
    fold.blank(&mut *tx, &closed).await?;
    let (live, table) = (fold.model.name, fresh(fold.model));
    let mut statement =
        format!("drop table read.{live}; alter table read.{table} rename to {live};");
    for index in indexes {
        statement += &if index.is_constraint {
            format!(
                "alter table read.{live} rename constraint {} to \"{}\";",
                index.fresh, index.name
            )
        } else {
            format!(
                "alter index read.{} rename to \"{}\";",
                index.fresh, index.name
            )
        };
    }
    sqlx::raw_sql(&statement).execute(&mut *tx).await?;
    sqlx::query(
        "insert into read.models (name, version, rebuilt_at) values ($1, $2, clock_timestamp())
         on conflict (name) do update set version = excluded.version, rebuilt_at = excluded.rebuilt_at",
    )
    .bind(live)
    .bind(fold.model.version)
    .execute(&mut *tx)
    .await?;
    if fold.model.kind == Kind::Async {
        follower::begin_at(&mut *tx, live, fold.position).await?;
    }
    Ok(true)
}

fn is_lock_timeout(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<sqlx::Error>()
        .and_then(sqlx::Error::as_database_error)
        .is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_is_found_by_its_name() {
        for model in projections::ALL {
            assert_eq!(find(model.name).map(|m| m.name), Some(model.name));
        }
        assert!(find("nothing").is_none());
    }
}
