//! What each node does once a second: it notes what was sealed, does what the table says, and shows itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use metrics::gauge;
use sqlx::PgPool;
use tokio::sync::watch;

use super::{KekRow, all, configured, is_another, register, successor, worn, wrong};
use crate::app::App;
use crate::config;
use crate::crypto::key_ring::{Kek, KeyRing, SEALS_MAX};

/// How often a node looks at the table and shows itself.
const BEAT: Duration = Duration::from_secs(1);
/// How often it looks whether the file has more keys, when nothing asks for it.
const FILE_EVERY: Duration = Duration::from_secs(10);
/// More than a process seals in a second: what one that was killed has not noted, in seals.
const UNNOTED_MAX: u64 = 10_000;

/// Adds what the keys of a ring have sealed to what all have.
///
/// # Errors
/// When the database does not answer: then it is added the next time.
pub async fn note_seals(pool: &PgPool, ring: &KeyRing) -> Result<(), sqlx::Error> {
    for (id, kek) in ring.keys() {
        let fresh = kek.take_fresh();
        if fresh == 0 {
            continue;
        }
        let noted = sqlx::query(
            "insert into followers.kek_seals as s (kek_id, seals) values ($1, $2)
             on conflict (kek_id) do update set seals = s.seals + excluded.seals",
        )
        .bind(id)
        .bind(fresh.cast_signed())
        .execute(pool)
        .await;
        if let Err(error) = noted {
            kek.add_fresh(fresh);
            return Err(error);
        }
    }
    Ok(())
}

/// Counts what this process may seal without noting it, should it be killed.
pub(super) fn expect_crash(ring: &KeyRing) {
    ring.keys()[ring.active_id()].add_fresh(UNNOTED_MAX);
}

/// Follows the table until `stop` says so.
pub async fn work(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let ring = app.store.custody().ring();
    let mut known = ring.keys().clone();
    expect_crash(&ring);
    drop(ring);
    let mut file_read = Instant::now();
    while !*stop.borrow() {
        let is_due = file_read.elapsed() >= FILE_EVERY;
        if is_due {
            file_read = Instant::now();
        }
        if let Err(error) = beat(&app, &mut known, is_due).await {
            tracing::debug!(error = %format!("{error:#}"), "cannot look at the key-encryption keys; it is tried again");
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(BEAT) => {}
        }
    }
    let gone = sqlx::query("delete from followers.nodes where node = $1");
    if let Err(error) = gone.bind(app.store.node()).execute(&app.pool).await {
        tracing::debug!(error = %error, "this node counts as running for some seconds more");
    }
}

async fn beat(
    app: &App,
    known: &mut BTreeMap<String, Kek>,
    file_is_due: bool,
) -> anyhow::Result<()> {
    let rows = follow(app, known).await?;
    let lacks = |row: &KekRow| !row.is_retired() && !known.contains_key(&row.id);
    let lacking: Vec<&str> = rows
        .iter()
        .filter(|row| lacks(row))
        .map(|row| row.id.as_str())
        .collect();
    if file_is_due && !lacking.is_empty() {
        tracing::warn!(
            keks = lacking.join(","),
            "this node lacks key-encryption keys that others have"
        );
    }
    if file_is_due || !lacking.is_empty() {
        read_more(app, known, &rows).await?;
    }
    let ring = app.store.custody().ring();
    let ids: Vec<&String> = ring.keys().keys().collect();
    sqlx::query(
        "with old as (delete from followers.nodes where seen_at < clock_timestamp() - interval '1 hour')
         insert into followers.nodes (node, active, keks, seen_at) values ($1, $2, $3, clock_timestamp())
         on conflict (node) do update set active = excluded.active, keks = excluded.keks, seen_at = excluded.seen_at",
    )
    .bind(app.store.node())
    .bind(ring.active_id())
    .bind(ids)
    .execute(&app.pool)
    .await?;
    Ok(())
}

/// Notes what was sealed, and does from now on what the table says with the keys that are at hand.
pub(super) async fn follow(
    app: &App,
    known: &BTreeMap<String, Kek>,
) -> anyhow::Result<Vec<KekRow>> {
    let custody = app.store.custody();
    let ring = custody.ring();
    note_seals(&app.pool, &ring).await?;
    let rows = all(&app.pool).await?;
    let active = rows.iter().find(|row| row.is_active());
    let active = active.context("no key-encryption key is active")?;
    gauge!("kek_seals", "kek" => active.id.clone()).set(active.seals as f64);
    if let Some(kek) = known.get(&active.id)
        && active.is_worn()
        && kek.note(active.seals.unsigned_abs()) < SEALS_MAX / 2
    {
        tracing::warn!("{}", worn(active));
    }
    // Who lacks the active key goes on with the one before: what that wraps is found by the next rewrap.
    let at_hand = known.contains_key(&active.id);
    let active = if at_hand {
        &active.id
    } else {
        ring.active_id()
    };
    custody.set_ring(successor(active, &rows, known));
    Ok(rows)
}

/// Takes up keys that are in the file by now. What is there already stays, whatever the file says.
async fn read_more(
    app: &App,
    known: &mut BTreeMap<String, Kek>,
    rows: &[KekRow],
) -> anyhow::Result<()> {
    let Some(path) = app.config.keks_file.clone() else {
        return Ok(());
    };
    let read = tokio::task::spawn_blocking(move || config::keks_in_file(&path)).await?;
    let mut more = match read {
        Ok(keks) => configured(&keks),
        Err(problem) => {
            tracing::error!(problem, "the file of key-encryption keys cannot be used");
            return Ok(());
        }
    };
    more.retain(|id, _| !known.contains_key(id));
    if let Some(id) = wrong(rows, &more) {
        tracing::error!("{}", is_another(id));
        return Ok(());
    }
    if more.is_empty() {
        return Ok(());
    }
    for id in more.keys() {
        tracing::info!(kek = id, "a key-encryption key was added");
    }
    register(&app.pool, &more, app.store.custody().ring().active_id()).await?;
    known.extend(more);
    follow(app, known).await?;
    Ok(())
}
