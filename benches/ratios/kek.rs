//! Another key-encryption key for everything: how fast it goes, and what those notice who use their vaults meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use mana_auth::app::App;
use mana_auth::crypto::vault_key::MasterKey;
use mana_auth::keks;
use mana_auth::keks::rewrap::{self, Failure, Tell};
use mana_auth::rebuild::Progress;
use mana_auth::vault::VaultRow;
use serde_json::json;
use sqlx::{ConnectOptions as _, PgConnection};

use super::Options;
use super::http::{Person, World};
use super::measure::{Measured, take_turns};
use super::table::{Finding, Target};

const KEKS: (&str, &str) = (
    "MANA_AUTH_KEKS",
    "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,k2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=",
);
/// Vaults that are wrapped anew.
const VAULTS: usize = 20_000;
/// Vaults that are put into the database by one statement.
const BATCH: usize = 2_000;
/// Wraps per second that are asked for on two cores.
const WANTED: f64 = 5_000.0;
/// Wraps per second while vaults are in use: what the command does unless it is told otherwise.
const RATE: u32 = 500;
/// People who fetch their keys all the time.
const PEOPLE: usize = 4;
/// How much longer they may wait, at the 99th percentile, than when nothing is wrapped anew.
const SLOWER: f64 = 1.5;
/// Pause between two looks at something that has to happen.
const POLL: Duration = Duration::from_millis(10);

/// Wraps all vaults anew at full speed, then at the speed that is the default beside people who fetch their keys.
///
/// # Errors
/// When the service does not start or a fetch fails.
pub fn rewraps(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let world = World::start_with(&[KEKS, ("MANA_AUTH_RATE_LIMIT", "off")])?;
    let people = (0..PEOPLE)
        .map(|n| world.sign_up(n))
        .collect::<Result<Vec<_>, _>>()?;
    let World { runtime, app, .. } = &world;
    for person in &people {
        runtime.block_on(call(&world, person, reqwest::Method::POST, "init"))?;
    }
    runtime.block_on(fill(&world))?;
    let mut full_speed = Measured::default();
    for round in 0..options.rounds {
        for kek in ["k2", "k1"] {
            runtime.block_on(activate(app, kek))?;
            let started = Instant::now();
            let report = runtime.block_on(rewrap::run(app, 0, &mut &Begun::default()))?;
            ensure!(report.failed.is_empty(), "some keys do not open");
            let done = (report.secrets + report.vaults) as f64;
            full_speed.add(done / started.elapsed().as_secs_f64());
            eprintln!("  round {round}: {done} wraps by {kek}");
        }
    }
    runtime.block_on(activate(app, "k2"))?;
    let length = Duration::from_secs(options.seconds);
    let calm = || runtime.block_on(percentile_99(&world, &people, length));
    let busy = || runtime.block_on(beside_a_rewrap(&world, &people, length));
    let (busy, calm) = take_turns(options.rounds, busy, || Ok(calm()? * SLOWER))?;
    Ok(vec![
        Finding {
            what: "key-encryption key: wrapping all vaults anew".to_owned(),
            unit: "wraps/s",
            ours: full_speed,
            limit: Measured::fixed(WANTED),
            limit_is: "what was asked for".to_owned(),
            target: Target::AtLeast(1.0),
            notes: vec![format!("{VAULTS} vaults, in the process that serves")],
        },
        Finding {
            what: format!("fetching a key beside {RATE} wraps/s, 99 of 100 within"),
            unit: "ms",
            ours: busy,
            limit: calm,
            limit_is: format!("{SLOWER} times the same while nothing is wrapped anew"),
            target: Target::AtMost,
            notes: vec![format!("{PEOPLE} people, each one fetch after the other")],
        },
    ])
}

/// Notes that a run has begun to wrap.
#[derive(Default)]
struct Begun(AtomicBool);

impl Tell for &Begun {
    fn progress(&mut self, progress: Progress) {
        self.0.fetch_or(progress.done > 0, Ordering::Relaxed);
    }

    fn failure(&mut self, failure: &Failure) -> anyhow::Result<()> {
        anyhow::bail!("{} does not open: {}", failure.place, failure.why)
    }
}

async fn activate(app: &App, kek: &str) -> anyhow::Result<()> {
    // The node has to be seen with both keys first.
    while keks::nodes(&app.pool)
        .await?
        .iter()
        .all(|node| node.keks.len() < 2)
    {
        tokio::time::sleep(POLL).await;
    }
    keks::activate(app, kek).await?;
    while app.store.custody().ring().active_id() != kek {
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// Vaults of nobody in particular, as if they had been made by calls.
async fn fill(world: &World) -> anyhow::Result<()> {
    let ring = world.app.store.custody().ring();
    let mut admin: PgConnection = mana_auth::database::options(&world.server.superuser_url())?
        .connect()
        .await?;
    let owners: Vec<String> = (0..VAULTS).map(|n| format!("{n:032}")).collect();
    for owners in owners.chunks(BATCH) {
        let mut rows = vec![];
        for owner in owners {
            let mut row = VaultRow::new(owner, world.app.clock.now());
            row.put_key(&ring, &MasterKey::generate());
            rows.push(row.to_json()?);
        }
        for insert in [
            "insert into encryption_vaults select r.* from jsonb_array_elements($1) e,
                 jsonb_populate_record(null::encryption_vaults, e || '{\"event_position\": 0}') r",
            "insert into streams select 'vault', e ->> 'user_id', 1 from jsonb_array_elements($1) e",
        ] {
            sqlx::query(insert)
                .bind(json!(rows))
                .execute(&mut admin)
                .await?;
        }
    }
    Ok(())
}

/// Goes on with a rewrap for as long as it takes to measure beside it.
async fn beside_a_rewrap(
    world: &World,
    people: &[Person],
    length: Duration,
) -> anyhow::Result<f64> {
    let begun = Begun::default();
    let mut tell = &begun;
    let rewrap = rewrap::run(&world.app, RATE, &mut tell);
    let measure = async {
        while !begun.0.load(Ordering::Relaxed) {
            tokio::time::sleep(POLL).await;
        }
        percentile_99(world, people, length).await
    };
    tokio::select! {
        measured = measure => measured,
        report = rewrap => {
            report?;
            anyhow::bail!("everything was wrapped anew before the end: measure for a shorter time")
        }
    }
}

/// Within how many milliseconds 99 of 100 fetches are answered.
async fn percentile_99(world: &World, people: &[Person], length: Duration) -> anyhow::Result<f64> {
    let until = Instant::now() + length;
    let fetching = people.iter().map(|person| async move {
        let mut millis = vec![];
        while Instant::now() < until {
            let started = Instant::now();
            call(world, person, reqwest::Method::GET, "key").await?;
            millis.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        anyhow::Ok(millis)
    });
    let mut millis = futures_util::future::try_join_all(fetching).await?.concat();
    millis.sort_by(f64::total_cmp);
    let place = (millis.len() * 99 / 100).min(millis.len().saturating_sub(1));
    millis.get(place).copied().context("nothing was fetched")
}

async fn call(
    world: &World,
    person: &Person,
    method: reqwest::Method,
    path: &str,
) -> anyhow::Result<()> {
    let url = format!("{}/api/v1/me/encryption-vault/{path}", world.ours);
    let answer = world
        .client
        .request(method, url)
        .bearer_auth(&person.token)
        .send()
        .await?;
    ensure!(
        answer.status().is_success(),
        "{path} was answered with {}",
        answer.status()
    );
    answer.bytes().await?;
    Ok(())
}
