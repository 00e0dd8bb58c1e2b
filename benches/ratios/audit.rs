//! The audit log of the vaults: pages of a large table against those of a small one, and how fast it follows the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::DateTime;
use mana_auth::app::{App, Tasks};
use mana_auth::database;
use mana_auth::follower;
use mana_auth::store::log;
use projections::vault_audit::NAME;
use projections::vault_audit::page::{Asked, page};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Runtime;

use super::Options;
use super::append::superuser;
use super::database::Server;
use super::http::{World, wrk};
use super::measure::{Measured, take_turns};
use super::table::{Finding, Target};
use super::vault::{in_turn, init};

/// Rows of the table that pages are compared with.
const FEW: i64 = 100_000;
/// Whose rows they are; some have many more than others.
const PEOPLE: u64 = 10_000;
/// Pages of one measurement.
const PAGES: u64 = 300;
/// Rows of a page, and the one that tells whether there are more.
const LIMIT: i64 = 101;
/// A search ends after so many milliseconds.
const TIMEOUT: u32 = 5_000;
/// When the first row was written, in seconds since 1970; one follows each second.
const BEGUN: i64 = 1_780_000_000;
/// The longest range of time that is asked for, in seconds: a day.
const RANGE: u64 = 86_400;

/// Calls of vaults that are followed, at most.
const CALLS_MAX: i64 = 100_000;
/// People who make them, each on a connection.
const CALLERS: usize = 64;
/// Events per second that are asked for.
const FOLLOWED: f64 = 5_000.0;
/// Pause between two looks at how far the model is.
const POLL: Duration = Duration::from_millis(5);

/// Pages, then following.
///
/// # Errors
/// When a server does not start, or a page or a load tool fails.
pub fn all(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let mut findings = pages(options)?;
    findings.push(following(options)?);
    Ok(findings)
}

/// A service whose table was filled by SQL.
struct Filled {
    app: Arc<App>,
    tasks: Tasks,
    rows: i64,
    _server: Server,
}

/// Numbers that look random, the same in each run.
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        // Knuth's generator of 64 bits (MMIX); its high bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }

    fn position(&mut self, rows: i64) -> Option<i64> {
        Some(self.below(rows.unsigned_abs()) as i64 + 1)
    }
}

/// One page of a table with so many rows.
type Ask = fn(&mut Draw, i64) -> Asked;

const ASKED: [(&str, Ask); 9] = [
    ("somebody's own page", |draw, _| Asked {
        user_id: Some(format!("{:032}", draw.below(PEOPLE))),
        ..Asked::default()
    }),
    ("by action and status", |draw, rows| Asked {
        beyond: draw.position(rows),
        ..called(draw)
    }),
    ("by two actions", |draw, rows| {
        let (mut asked, other) = (called(draw), called(draw));
        asked.actions.extend(other.actions);
        asked.statuses.clear();
        asked.beyond = draw.position(rows);
        asked
    }),
    ("by a status", |draw, rows| Asked {
        actions: vec![],
        beyond: draw.position(rows),
        ..called(draw)
    }),
    ("by what never is", |draw, rows| Asked {
        actions: vec!["fetch".to_owned(), "zk_enable".to_owned()],
        statuses: vec![404],
        beyond: draw.position(rows),
        ..Asked::default()
    }),
    ("by address", |draw, _| Asked {
        ip_address: {
            let person = draw.below(PEOPLE);
            let (network, host) = (person / 250, person % 250);
            Some(format!("10.{network}.{host}.{}", draw.below(3)))
        },
        ..Asked::default()
    }),
    ("from a deep cursor", |draw, rows| Asked {
        oldest_first: draw.below(2) == 0,
        beyond: draw.position(rows),
        ..Asked::default()
    }),
    ("of a range of time", |draw, rows| {
        in_range(draw, rows, RANGE)
    }),
    (
        "by action and status, of a long range of time",
        |draw, rows| {
            let Asked {
                actions, statuses, ..
            } = called(draw);
            Asked {
                actions,
                statuses,
                ..in_range(draw, rows, rows.unsigned_abs())
            }
        },
    ),
];

/// Somewhere, and at most so many seconds long.
fn in_range(draw: &mut Draw, rows: i64, longest: u64) -> Asked {
    let from = BEGUN + draw.below(rows.unsigned_abs()) as i64;
    let to = from + draw.below(longest) as i64 + 1;
    Asked {
        oldest_first: draw.below(2) == 0,
        from: DateTime::from_timestamp(from, 0),
        to: DateTime::from_timestamp(to, 0),
        ..Asked::default()
    }
}

/// One of the kinds of calls, whether there are many of it or few.
fn called(draw: &mut Draw) -> Asked {
    const KINDS: [(&str, i32); 8] = [
        ("fetch", 200),
        ("failed_fetch", 404),
        ("init", 200),
        ("init", 201),
        ("rotate", 200),
        ("recovery_set", 200),
        ("rate_limited", 429),
        ("zk_enable", 200),
    ];
    let (action, status) = KINDS[draw.below(KINDS.len() as u64) as usize];
    Asked {
        actions: vec![action.to_owned()],
        statuses: vec![status],
        ..Asked::default()
    }
}

fn pages(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let runtime = Runtime::new()?;
    let many = runtime.block_on(filled(options.rows))?;
    let few = runtime.block_on(filled(FEW.min(options.rows)))?;
    let mut findings = vec![];
    for (what, ask) in ASKED {
        eprintln!("  {what}");
        let (mut of_many, mut of_few) = (Draw(1), Draw(1));
        let (ours, limit) = take_turns(
            options.rounds,
            || runtime.block_on(percentile_99(&many, ask, &mut of_many)),
            || runtime.block_on(percentile_99(&few, ask, &mut of_few)),
        )?;
        findings.push(Finding {
            what: format!("audit log of {} rows, {what}, 99 of 100 within", many.rows),
            unit: "ms",
            ours,
            limit,
            limit_is: format!("the same of {} rows", few.rows),
            target: Target::None,
            notes: vec![format!("{PAGES} pages of {LIMIT} rows in each measurement")],
        });
    }
    for filled in [many, few] {
        runtime.block_on(filled.tasks.stop(filled.app));
    }
    Ok(findings)
}

async fn filled(rows: i64) -> anyhow::Result<Filled> {
    let server = Server::start(false)?;
    let (app, tasks) = server.app().await?;
    eprintln!("  making {rows} rows");
    superuser(&server, &fill(rows)).await?;
    Ok(Filled {
        app,
        tasks,
        rows,
        _server: server,
    })
}

/// Nine of ten calls are fetches that were answered; a tenth of the people make a third of all calls. Without a
/// write-ahead log, and with indexes that are made at the end, it takes minutes only.
fn fill(rows: i64) -> String {
    format!(
        "alter table read.vault_audit set unlogged;
        update pg_index set indisready = false, indisvalid = false where indrelid = 'read.vault_audit'::regclass;
        insert into read.vault_audit
        select '00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'), n, lpad(person::text, 32, '0'),
               (array['fetch', 'failed_fetch', 'init', 'init', 'rotate', 'recovery_set', 'rate_limited',
                      'zk_enable'])[kind],
               (array[200, 404, 200, 201, 200, 200, 429, 200])[kind],
               (array[null, 'not-initialised', 'already-exists', 'created', null, null, 'too-many-calls', null])[kind],
               format('10.%s.%s.%s', person / 250, person % 250, device),
               'Mozilla/5.0 (Macintosh) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15',
               lpad((person * 3 + device)::text, 32, 's'), '00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'),
               to_timestamp({BEGUN} + n + random())
        from (select n, floor({PEOPLE} * power(random(), 2))::integer as person, floor(random() * 3)::integer as device,
                     1 + width_bucket(random(), '{{0.9, 0.95, 0.97, 0.98, 0.99, 0.997, 0.9995}}'::float8[]) as kind
              from generate_series(1, {rows}) n) calls;
        reindex table read.vault_audit;
        vacuum analyze read.vault_audit;
        checkpoint"
    )
}

/// Within how many milliseconds 99 of 100 pages are read.
async fn percentile_99(filled: &Filled, ask: Ask, draw: &mut Draw) -> anyhow::Result<f64> {
    let mut millis = vec![];
    for _ in 0..PAGES {
        let mut asked = ask(draw, filled.rows);
        asked.limit = LIMIT;
        let started = Instant::now();
        page(&filled.app.pool, &asked, filled.rows, TIMEOUT)
            .await
            .with_context(|| format!("reading {asked:?}"))?;
        millis.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    millis.sort_by(f64::total_cmp);
    Ok(millis[millis.len() * 99 / 100])
}

/// Lets the model follow a log again that was written before by ordinary calls.
fn following(options: &Options) -> anyhow::Result<Finding> {
    let world = World::start()?;
    let mut tokens = vec![];
    for n in 0..CALLERS {
        let person = world.sign_up(n)?;
        world.runtime.block_on(init(&world.ours, &person.token))?;
        tokens.push(person.token);
    }
    let (lua, url) = (
        in_turn(&tokens)?,
        format!("{}/api/v1/me/encryption-vault/key", world.ours),
    );
    let head = || world.runtime.block_on(log::head(&world.app.pool));
    let wanted = options.events.min(CALLS_MAX);
    let head = loop {
        let head = head()?;
        eprintln!("  {head} of {wanted} events");
        if head >= wanted {
            break head;
        }
        wrk(&url, &[], &lua, CALLERS, options.seconds)?;
    };
    let mut followed = Measured::default();
    for round in 1..=options.rounds {
        let rate = world.runtime.block_on(follow(&world, head))?;
        eprintln!("  round {round}: {rate:.0} events/s");
        followed.add(rate);
    }
    Ok(Finding {
        what: "audit log: following what was written before".to_owned(),
        unit: "events/s",
        ours: followed,
        limit: Measured::fixed(FOLLOWED),
        limit_is: "what was asked for".to_owned(),
        target: Target::AtLeast(1.0),
        notes: vec![format!("{head} events, calls of {CALLERS} vaults")],
    })
}

/// Events per second from the first transaction, whenever the follower looks, to the head of the log.
async fn follow(world: &World, head: i64) -> anyhow::Result<f64> {
    let pool = &world.app.pool;
    let reached = async || follower::position(pool, NAME).await;
    while reached().await? < head {
        tokio::time::sleep(POLL).await;
    }
    let superuser = database::options(&world.server.superuser_url())?;
    // One transaction: the follower finds all of it or nothing.
    let forget = "update followers.models set position = 0 where name = 'vault_audit'; truncate read.vault_audit";
    superuser.connect().await?.execute(forget).await?;
    let begun = loop {
        let position = reached().await?;
        if position > 0 {
            break position;
        }
        tokio::time::sleep(POLL).await;
    };
    let started = Instant::now();
    while reached().await? < head {
        tokio::time::sleep(POLL).await;
    }
    let rate = (head - begun) as f64 / started.elapsed().as_secs_f64();
    let [calls, rows]: [i64; 2] = {
        let count = "select array[(select count(*) from events where aggregate_type = 'vault' and position <= $1),
                                  (select count(*) from read.vault_audit where position <= $1)]";
        let counted: Vec<i64> = sqlx::query_scalar(count).bind(head).fetch_one(pool).await?;
        counted
            .try_into()
            .ok()
            .context("two numbers were asked for")?
    };
    ensure!(rows == calls, "{rows} rows of {calls} calls");
    Ok(rate)
}
