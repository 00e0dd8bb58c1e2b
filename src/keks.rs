//! Key-encryption keys over all nodes: which there are, which one wraps, who can open with them, and how often each has
//! sealed. The keys are configured on the nodes; the table `keks` says what they are for, and nodes follow it while they
//! run. See ARCHITECTURE.md, "Key-encryption keys".

mod changes;
pub mod file;
mod following;
pub mod references;
pub mod rewrap;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use crate::config::{self, Config};
use crate::crypto::aead::Key32;
use crate::crypto::key_ring::{Kek, KeyRing, SEALS_MAX};
pub use changes::{activate, find, retire};
pub use following::{note_seals, work};
pub use rewrap::Rewrapped;

/// A node that was not seen for this long does not run.
const NODE_LIVES: Duration = Duration::from_secs(10);

/// What the database knows of a key.
#[derive(Clone, sqlx::FromRow)]
pub struct KekRow {
    /// Names it in every wrap that it made.
    pub id: String,
    check_value: Vec<u8>,
    /// `readable`, `active`, `retiring` or `retired`.
    pub state: String,
    /// How often it has sealed, at most.
    pub seals: i64,
    /// When a node first had it.
    pub added_at: DateTime<Utc>,
    /// When it last became active.
    pub activated_at: Option<DateTime<Utc>>,
    /// When it was retired.
    pub retired_at: Option<DateTime<Utc>>,
}

impl KekRow {
    /// Whether it wraps.
    pub fn is_active(&self) -> bool {
        self.state == "active"
    }

    /// Whether it opens nothing any more.
    pub fn is_retired(&self) -> bool {
        self.state == "retired"
    }

    /// Whether half of what is safe is used up.
    pub fn is_worn(&self) -> bool {
        self.seals.unsigned_abs() >= SEALS_MAX / 2
    }

    fn is(&self, kek: &Kek) -> bool {
        self.check_value == kek.check_value()
    }
}

/// A node that runs.
#[derive(sqlx::FromRow)]
pub struct Node {
    /// What it is called in the log.
    pub node: String,
    /// With which key it wraps.
    pub active: String,
    /// With which keys it opens.
    pub keks: Vec<String>,
}

/// The keys of a configuration, the first of them active: for those who only read.
pub fn ring_of(config: &Config) -> KeyRing {
    KeyRing::of(&config.keks[0].id, configured(&config.keks))
}

fn configured(keks: &[config::Kek]) -> BTreeMap<String, Kek> {
    let keys = keks.iter().map(|kek| {
        let key = Key32::from_bytes(*kek.key.expose());
        (kek.id.clone(), Kek::new(key))
    });
    keys.collect()
}

/// The keys of a configuration as the database wants them used. Those that it does not know are made known; in a new
/// database the first is active.
///
/// # Errors
/// When a key is another one than is known by its id, the active one is missing, or the database does not answer.
pub async fn join(pool: &PgPool, config: &Config) -> anyhow::Result<KeyRing> {
    let known = configured(&config.keks);
    register(pool, &known, &config.keks[0].id).await?;
    let rows = all(pool).await?;
    if let Some(id) = wrong(&rows, &known) {
        bail!("{}", is_another(id));
    }
    let active = rows.iter().find(|row| row.is_active());
    let active = active.context("no key-encryption key is active")?;
    ensure!(
        known.contains_key(&active.id),
        "key-encryption key {:?} is the active one, and is not configured",
        active.id
    );
    Ok(successor(&active.id, &rows, &known))
}

/// Adds keys that the database does not know.
async fn register(
    pool: &PgPool,
    known: &BTreeMap<String, Kek>,
    first: &str,
) -> Result<(), sqlx::Error> {
    let ids: Vec<&String> = known.keys().collect();
    let values: Vec<Vec<u8>> = known
        .values()
        .map(|kek| kek.check_value().to_vec())
        .collect();
    let there: i64 = sqlx::query_scalar("select count(*) from keks where id = any($1)")
        .bind(&ids)
        .fetch_one(pool)
        .await?;
    if there.unsigned_abs() == ids.len() as u64 {
        return Ok(());
    }
    let mut tx = pool.begin().await?;
    // Of nodes that start together one decides which key is active.
    sqlx::query("lock table keks in share row exclusive mode")
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "insert into keks (id, check_value, state)
         select id, check_value, 'readable' from unnest($1::text[], $2::bytea[]) new (id, check_value)
         on conflict (id) do nothing",
    )
    .bind(&ids)
    .bind(values)
    .execute(&mut *tx)
    .await?;
    sqlx::query(
        "update keks set state = 'active', activated_at = clock_timestamp()
         where id = $1 and not exists (select from keks where state = 'active')",
    )
    .bind(first)
    .execute(&mut *tx)
    .await?;
    tx.commit().await
}

/// Every key that any node ever had.
///
/// # Errors
/// When the database does not answer.
pub async fn all(pool: &PgPool) -> Result<Vec<KekRow>, sqlx::Error> {
    sqlx::query_as(
        "select id, check_value, state, coalesce(seals, 0) as seals, added_at, activated_at, retired_at
         from keks left join followers.kek_seals on kek_id = id order by added_at, id",
    )
        .fetch_all(pool)
        .await
}

/// The nodes that run.
///
/// # Errors
/// When the database does not answer.
pub async fn nodes(pool: &PgPool) -> Result<Vec<Node>, sqlx::Error> {
    sqlx::query_as(
        "select node, active, keks from followers.nodes
         where seen_at > clock_timestamp() - make_interval(secs => $1) order by node",
    )
    .bind(NODE_LIVES.as_secs_f64())
    .fetch_all(pool)
    .await
}

/// What is wrong with the keys of a ring.
pub fn problems(rows: &[KekRow], ring: &KeyRing) -> Vec<String> {
    let mut problems: Vec<String> = wrong(rows, ring.keys())
        .map(is_another)
        .into_iter()
        .collect();
    for row in rows.iter().filter(|row| row.is_active()) {
        if !ring.keys().contains_key(&row.id) {
            problems.push(format!(
                "key-encryption key {:?} is the active one, and is not configured",
                row.id
            ));
        }
        if row.is_worn() {
            problems.push(worn(row));
        }
    }
    problems
}

fn wrong<'a>(rows: &'a [KekRow], known: &BTreeMap<String, Kek>) -> Option<&'a str> {
    let wrong = |row: &&KekRow| known.get(&row.id).is_some_and(|kek| !row.is(kek));
    rows.iter().find(wrong).map(|row| row.id.as_str())
}

fn is_another(id: &str) -> String {
    format!("key-encryption key {id:?} is another one than this database knows by that id")
}

fn worn(row: &KekRow) -> String {
    let KekRow { id, seals, .. } = row;
    format!(
        "key-encryption key {id:?} has sealed {seals} times, of {SEALS_MAX} that are safe: let another one become active"
    )
}

/// The ring that follows from the table. Retired keys are not on it.
fn successor(active: &str, rows: &[KekRow], known: &BTreeMap<String, Kek>) -> KeyRing {
    let mut keys = known.clone();
    for row in rows {
        if let Some(kek) = keys.get(&row.id) {
            kek.note(row.seals.unsigned_abs());
        }
        if row.is_retired() && row.id != active {
            keys.remove(&row.id);
        }
    }
    KeyRing::of(active, keys)
}
