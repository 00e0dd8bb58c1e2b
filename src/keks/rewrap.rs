//! Wraps everything that another key wraps by the active one, while the service runs. What is done needs no note of it:
//! it is simply not there to be done any more, so a run that was killed is gone on with by the next.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::{Duration, Instant};

use aggregates::log::LogCommand;
use anyhow::{Context as _, bail, ensure};

use super::changes::note;
use super::following::{expect_crash, follow};
use super::nodes;
use super::references::{Owners, References};
use crate::app::App;
use crate::lease::{HELD_FOR, Lease, RENEWED_EVERY};
use crate::rebuild::Progress;
use crate::vault;

/// Name of the lease.
const LEASE: &str = "kek-rewrap";
/// Wraps that are written at a time, at most.
const BATCH_MAX: i64 = 500;
/// Batches in a second, where the rate is limited.
const BATCHES_PER_SECOND: u32 = 10;
/// Owners of vaults that are looked at together: most of them may have nothing to do.
const OWNERS: i64 = 2_000;
/// How long nodes may take to wrap by the active key.
const NODES_FOLLOW: Duration = Duration::from_secs(15);
/// Pause between two looks at something that others do.
const POLL: Duration = Duration::from_millis(200);

/// What became of wraps that were to be made anew.
#[derive(Debug, Default, PartialEq)]
pub struct Rewrapped {
    /// They were.
    pub done: i64,
    /// Somebody else was just writing, or has written since.
    pub busy: i64,
    /// They do not open.
    pub failed: Vec<Failure>,
}

/// What does not open, and why.
#[derive(Debug, PartialEq)]
pub struct Failure {
    /// Where it is.
    pub place: String,
    /// Why it does not.
    pub why: String,
}

impl Rewrapped {
    /// Adds a failure.
    pub fn fails(&mut self, place: String, why: &dyn Display) {
        let why = why.to_string();
        self.failed.push(Failure { place, why });
    }

    /// Adds how many of those that were tried were done.
    pub fn note(&mut self, done: usize, tried: usize) {
        self.done += done as i64;
        self.busy += (tried - done) as i64;
    }
}

/// What a run has come to.
pub struct Report {
    /// The key that wraps everything now, but for what has failed.
    pub kek_id: String,
    /// Secrets that were wrapped anew.
    pub secrets: i64,
    /// Keys of vaults that were.
    pub vaults: i64,
    /// What has failed: place and reason.
    pub failed: BTreeMap<String, String>,
}

/// Where progress and failures are told as they come.
pub trait Tell {
    /// How far it is.
    fn progress(&mut self, progress: Progress);
    /// Something does not open.
    ///
    /// # Errors
    /// When nobody can be told.
    fn failure(&mut self, failure: &Failure) -> anyhow::Result<()>;
}

/// Wraps everything by the active key, at most `rate` per second if that is not 0.
///
/// # Errors
/// When another run is on its way, nodes do not follow, or the database does not answer. What was done until then stays.
pub async fn run(app: &App, rate: u32, tell: &mut dyn Tell) -> anyhow::Result<Report> {
    let ring = app.store.custody().ring();
    ring.check_budget()?;
    expect_crash(&ring);
    let active = ring.active_id().to_owned();
    nodes_follow(app, &active).await?;
    let total = References::count(app).await?.to_rewrap(&active);
    let holder = crate::crypto::tokens::random_token(16);
    let lease = Lease::new(app.pool.clone(), LEASE, &holder);
    let until = Instant::now() + HELD_FOR + RENEWED_EVERY;
    while lease.take().await?.is_none() {
        // One that was killed holds it for a few seconds more.
        ensure!(Instant::now() < until, "another rewrap is on its way");
        tokio::time::sleep(POLL).await;
    }
    let mut run = Run {
        app,
        tell,
        rate,
        lease: &lease,
        renewed: Instant::now(),
        due: Instant::now(),
        total,
        report: Report {
            kek_id: active,
            secrets: 0,
            vaults: 0,
            failed: BTreeMap::new(),
        },
    };
    // What was being written during one pass is found by the next.
    while run.pass().await? {
        tokio::time::sleep(POLL).await;
    }
    let Report {
        kek_id,
        secrets,
        vaults,
        failed,
    } = &run.report;
    let command = LogCommand::NoteRewrap {
        kek_id: kek_id.clone(),
        secrets: secrets.unsigned_abs(),
        vaults: vaults.unsigned_abs(),
        failed: failed.len() as u64,
        at: app.clock.now(),
    };
    note(app, command).await?;
    let report = run.report;
    lease.release().await?;
    Ok(report)
}

/// Nodes that still wrap by another key would make more to do.
async fn nodes_follow(app: &App, active: &str) -> anyhow::Result<()> {
    let until = Instant::now() + NODES_FOLLOW;
    loop {
        let nodes = nodes(&app.pool).await?;
        let Some(other) = nodes.iter().find(|node| node.active != active) else {
            return Ok(());
        };
        if Instant::now() > until {
            bail!(
                "node {} wraps by key-encryption key {:?} and not by {active:?}",
                other.node,
                other.active
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

struct Run<'a> {
    app: &'a App,
    tell: &'a mut dyn Tell,
    rate: u32,
    lease: &'a Lease,
    renewed: Instant,
    /// When the next batch may begin.
    due: Instant,
    total: i64,
    report: Report,
}

impl Run<'_> {
    /// Goes through everything once; whether another pass may find more.
    async fn pass(&mut self) -> anyhow::Result<bool> {
        let (mut moved, mut after) = (0, Some(Default::default()));
        let batch = self.batch();
        while let Some(at) = after {
            let (rewrapped, next) = self.app.store.custody().rewrap_after(&at, batch).await?;
            self.report.secrets += rewrapped.done;
            moved += rewrapped.done + rewrapped.busy;
            self.after_batch(rewrapped).await?;
            after = next;
        }
        let (pool, mut owners) = (&self.app.pool, Owners::default());
        while let Some(page) = owners.next(pool, OWNERS).await? {
            let active = &self.report.kek_id;
            for owners in owners_to_do(self.app, &page, active)
                .await?
                .chunks(batch.unsigned_abs() as usize)
            {
                let stored = vault::read(pool, owners).await?;
                let ring = self.app.store.custody().ring();
                let rewrapped = vault::rewrap(pool, &ring, &stored).await?;
                self.report.vaults += rewrapped.done;
                moved += rewrapped.done + rewrapped.busy;
                self.after_batch(rewrapped).await?;
            }
        }
        Ok(moved > 0)
    }

    fn batch(&self) -> i64 {
        match self.rate {
            0 => BATCH_MAX,
            rate => i64::from(rate / BATCHES_PER_SECOND).clamp(1, BATCH_MAX),
        }
    }

    /// Tells of a batch, makes sure that this run may go on, and waits until the rate allows the next.
    async fn after_batch(&mut self, rewrapped: Rewrapped) -> anyhow::Result<()> {
        let moved = rewrapped.done;
        for failure in rewrapped.failed {
            if !self.report.failed.contains_key(&failure.place) {
                self.tell.failure(&failure)?;
            }
            self.report.failed.insert(failure.place, failure.why);
        }
        let done = self.report.secrets + self.report.vaults;
        let total = self.total.max(done);
        self.tell.progress(Progress { done, total });
        if self.renewed.elapsed() >= RENEWED_EVERY {
            self.lease
                .take()
                .await?
                .context("another rewrap has taken over")?;
            let known = self.app.store.custody().ring().keys().clone();
            follow(self.app, &known).await?;
            let active = self.app.store.custody().ring().active_id().to_owned();
            ensure!(
                active == self.report.kek_id,
                "key-encryption key {active:?} has become active: run it again"
            );
            self.renewed = Instant::now();
        }
        self.app.store.custody().ring().check_budget()?;
        if self.rate > 0 {
            self.due += Duration::from_secs_f64(moved as f64 / f64::from(self.rate));
            tokio::time::sleep_until(self.due.into()).await;
            // What was slow is not made up for: those who use the service would feel it.
            self.due = Instant::now();
        }
        Ok(())
    }
}

/// Those of a page whose vaults are wrapped by another key.
async fn owners_to_do(app: &App, page: &[String], active: &str) -> anyhow::Result<Vec<String>> {
    let wraps = vault::wraps_of(&app.pool, page).await?;
    let others = wraps.into_iter().filter(|wrap| !wrap.is_made_by(active));
    Ok(others.map(|wrap| wrap.owner).collect())
}
