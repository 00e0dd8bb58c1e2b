//! Makes the tree longer and signs what it has become: one node at a time, by a lease, after the events are in the log.
//! Whatever fails here is logged, shown in the metrics and tried again; nobody who signs in waits for it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use metrics::{counter, gauge};
use sqlx::PgPool;
use tlog_tiles::{Hash, record_hash};
use tokio::sync::watch;
use uuid::Uuid;

use super::checkpoints::{self, Current};
use super::texts;
use super::tiles::Edge;
use crate::app::App;
use crate::lag::Lag;
use crate::lease::{Held, Lease, RENEWED_EVERY};
use crate::store::leaf::leaf;
use crate::store::log;

/// Name of the lease.
const LEASE: &str = "tree";
/// Events that are added at a time.
const PAGE: i64 = 5_000;
/// A checkpoint is signed at most this often: what is written meanwhile comes into the next one.
const SIGNED_EVERY: Duration = Duration::from_millis(400);

/// What one look at the log came to.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Another node makes the tree.
    Standby,
    /// The tree has this size, and nothing was missing.
    UpToDate(u64),
    /// The tree was made longer.
    Grown {
        /// Up to this size.
        size: u64,
        /// Whether as many events were added as are added at a time, so that there are likely more.
        more: bool,
    },
}

/// Makes the tree until `stop` says so.
pub async fn work(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let builder = Builder::new(&app);
    let mut written = app.store.freshness().written();
    let mut shown = Shown::default();
    while !*stop.borrow() {
        let step = builder.step().await;
        shown.show(&step, app.store.freshness().applied());
        let (pause, woken) = match step {
            Ok(Step::Grown { more: true, .. }) => continue,
            Ok(Step::Grown { more: false, .. }) => (SIGNED_EVERY, false),
            Ok(Step::UpToDate(_)) => (RENEWED_EVERY, true),
            Ok(Step::Standby) => (RENEWED_EVERY, false),
            Err(error) => {
                counter!("transparency_failures_total").increment(1);
                tracing::warn!(error = %format!("{error:#}"), "cannot sign the log; it is tried again");
                // Another node may be able to.
                let _ = builder.lease.release().await;
                (RENEWED_EVERY, false)
            }
        };
        tokio::select! {
            _ = stop.changed() => {}
            _ = written.changed(), if woken => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
    if let Err(error) = builder.lease.release().await {
        tracing::debug!(error = %error, "cannot let go of the lease; it ends by itself");
    }
}

/// Makes the tree for one node.
pub struct Builder<'a> {
    app: &'a App,
    lease: Lease,
    /// The newest checkpoint that this node saw: life of the log, size and root.
    newest: Mutex<Option<(Uuid, i64, Vec<u8>)>>,
}

impl<'a> Builder<'a> {
    /// Of a node.
    pub fn new(app: &'a App) -> Self {
        let node = crate::crypto::tokens::random_token(16);
        Self {
            app,
            lease: Lease::new(app.pool.clone(), LEASE, &node),
            newest: Mutex::new(None),
        }
    }

    /// A database that was put back to an earlier time, without saying so, would have other trees signed in the place
    /// of those that others have seen.
    fn remember(&self, now: &Current) -> anyhow::Result<()> {
        let mut newest = self.newest.lock().expect("nothing panics while it is held");
        let last = now.last.as_ref();
        if let Some((epoch, size, root)) = &*newest {
            let stands = last
                .is_some_and(|last| *size < last.size || *size == last.size && *root == last.root);
            ensure!(
                stands || *epoch != now.epoch,
                "checkpoint {size} was signed and is gone: if the log is back from a backup, say so by \
                 `mana-auth restore`"
            );
        }
        *newest = last.map(|last| (last.epoch, last.size, last.root.clone()));
        Ok(())
    }

    /// Adds the next events to the tree and signs it, if this node has the lease. Everything is read anew each time; what
    /// is remembered only stops it.
    ///
    /// # Errors
    /// When the database does not answer, or the tree is not the one that was signed.
    pub async fn step(&self) -> anyhow::Result<Step> {
        let pool = &self.app.pool;
        let leaves = self.app.store.leaves();
        let Some(held) = self.lease.take().await? else {
            leaves.end();
            return Ok(Step::Standby);
        };
        let now = checkpoints::current(pool, self.app.store.custody(), &self.app.config).await?;
        let size = now.last.as_ref().map_or(0, |last| last.size);
        self.remember(&now)?;
        let mut edge = Edge::load(pool, size.unsigned_abs()).await?;
        check(&now, &edge)?;
        leaves.keep();
        let known = self.written_here(size).await?;
        known.iter().for_each(|(_, hash)| edge.push(*hash));
        let read = log::each_after(pool, edge.size() as i64, PAGE, |event| {
            let next = edge.size() as i64 + 1;
            ensure!(event.position == next, "event {next} is not in the log");
            edge.push(record_hash(&leaf(&event)?));
            Ok(())
        });
        let read = read.await?;
        if known.is_empty() && read == 0 {
            return Ok(Step::UpToDate(edge.size()));
        }
        if !write(pool, &held, &edge, &now).await? {
            // Who has the lease by now goes on from what stands in the database.
            return Ok(Step::Standby);
        }
        let (size, more) = (edge.size(), read == PAGE);
        Ok(Step::Grown { size, more })
    }

    /// The hashes of what this node has written after a position, as far as nobody else wrote in between. None if the last
    /// of these events is not in the log: a server that fell over may have come back without what it had said was written.
    async fn written_here(&self, after: i64) -> anyhow::Result<Vec<(Uuid, Hash)>> {
        let mut known = self.app.store.leaves().take(after);
        if let Some((last, _)) = known.last()
            && log::id_at(&self.app.pool, after + known.len() as i64).await? != Some(*last)
        {
            known.clear();
        }
        Ok(known)
    }
}

/// Nothing is signed on top of a tree that is not the one that was signed before.
fn check(now: &Current, edge: &Edge) -> anyhow::Result<()> {
    let Some(last) = &now.last else { return Ok(()) };
    let size = last.size;
    ensure!(
        last.root == edge.root().0,
        "the stored hashes are not those of checkpoint {size}: `mana-auth verify-log` says where they differ"
    );
    ensure!(
        last.epoch != now.epoch || now.newest().is_some(),
        "checkpoint {size} was not signed by the key of this log"
    );
    Ok(())
}

/// Writes tiles and checkpoint in one statement, if the lease is still this node's. It goes on from now.
async fn write(pool: &PgPool, held: &Held, edge: &Edge, now: &Current) -> anyhow::Result<bool> {
    let (size, root) = (edge.size(), edge.root());
    let text = texts::checkpoint(now.signer.name(), size, root);
    let note = now.signer.sign(&text).context("signing a checkpoint")?;
    let places = edge.tiles().keys();
    let (levels, numbers): (Vec<i16>, Vec<i64>) = places
        .map(|(level, number)| (i16::from(*level), *number as i64))
        .unzip();
    let hashes: Vec<&[u8]> = edge.tiles().values().map(Vec::as_slice).collect();
    let done = sqlx::query(
        "with held as (
             select from followers.leases where name = $1 and fence = $2 for update
         ), tiles as (
             insert into followers.tiles as t (level, number, hashes)
             select new.level, new.number, new.hashes
             from held, unnest($3::smallint[], $4::bigint[], $5::bytea[]) new (level, number, hashes)
             on conflict (level, number) do update set hashes = excluded.hashes
             where octet_length(t.hashes) < octet_length(excluded.hashes)
         )
         insert into followers.checkpoints (size, epoch, root, note)
         select $6, $7, $8, $9 from held",
    )
    .bind(held.name)
    .bind(held.fence)
    .bind(levels)
    .bind(numbers)
    .bind(hashes)
    .bind(size as i64)
    .bind(now.epoch)
    .bind(&root.0[..])
    .bind(note)
    .execute(pool)
    .await
    .context("writing a checkpoint")?;
    Ok(done.rows_affected() == 1)
}

/// Shows how far the tree is behind the log.
#[derive(Default)]
struct Shown {
    size: u64,
    lag: Lag,
}

impl Shown {
    fn show(&mut self, step: &anyhow::Result<Step>, head: i64) {
        gauge!("transparency_leader").set(match step {
            Ok(Step::UpToDate(_) | Step::Grown { .. }) => 1.0,
            Ok(Step::Standby) | Err(_) => 0.0,
        });
        match step {
            Ok(Step::UpToDate(size) | Step::Grown { size, .. }) => self.size = *size,
            // The node that makes the tree shows how far it is.
            Ok(Step::Standby) => self.size = head.unsigned_abs(),
            Err(_) => {}
        }
        let missing = head.unsigned_abs().saturating_sub(self.size);
        let seconds = self.lag.seconds(is_behind(step));
        gauge!("transparency_tree_events").set(self.size as f64);
        gauge!("transparency_lag_events").set(missing as f64);
        gauge!("transparency_lag_seconds").set(seconds);
    }
}

/// A log that cannot be signed counts as behind. What was written during a look does not: while others write there is always
/// something.
fn is_behind(step: &anyhow::Result<Step>) -> bool {
    matches!(step, Ok(Step::Grown { more: true, .. }) | Err(_))
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn what_is_written_during_a_look_is_no_lag() {
        let grown = |more| Ok(Step::Grown { size: 7, more });
        let recorder = PrometheusBuilder::new().build_recorder();
        let mut shown = Shown::default();
        for (step, is_late) in [
            (grown(false), false),
            (grown(true), true),
            (grown(false), false),
            (Err(anyhow::anyhow!("no answer")), true),
            (Ok(Step::UpToDate(7)), false),
            (grown(true), true),
            (Ok(Step::Standby), false),
        ] {
            metrics::with_local_recorder(&recorder, || shown.show(&step, 9));
            let metrics = recorder.handle().render();
            let none = metrics.contains("\ntransparency_lag_seconds 0\n");
            assert_eq!(none, !is_late, "{step:?}: {metrics}");
        }
    }
}
