//! Commands of one event on existing streams, against bare inserts of as many bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aggregates::session::{FactorTimes, Session, SessionCommand, SignInMethod};
use aggregates::user::{User, UserCommand};
use aggregates::{EmailAddress, Roles, Tier};
use chrono::TimeDelta;
use mana_auth::app::App;
use mana_auth::crypto::tokens::{TokenHash, TokenKind, random_token};
use mana_auth::ids;
use mana_auth::store::{Actor, Client, Context};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Runtime;

use super::Options;
use super::database::{Sent, Server};
use super::measure::{family_seconds, own_seconds, take_turns};
use super::table::{Finding, Target};

/// Commands at work at the same time, and clients of `pgbench`.
const AT_ONCE: usize = 64;
/// Streams of each kind; each is used again and again.
const STREAMS: usize = 1024;

/// The table that `pgbench` fills: the columns and keys of one partition of the log.
pub const TABLE: &str = "
    create table bare_events (
        position       bigint      not null generated always as identity,
        aggregate_type text        not null,
        aggregate_id   text        not null,
        sequence       bigint      not null,
        event_type     text        not null,
        event_version  text        not null,
        payload        jsonb       not null,
        metadata       jsonb       not null,
        event_id       uuid        not null,
        recorded_at    timestamptz not null default clock_timestamp(),
        constraint bare_events_pkey primary key (position),
        constraint bare_events_stream_key unique (aggregate_type, aggregate_id, sequence),
        constraint bare_events_event_id_key unique (event_id)
    );
    create table bare_rows (like bare_events including defaults including identity, primary key (position));";

/// An event as a command of ours writes it. `pgbench` takes a colon before a letter or digit for a variable.
pub struct Like {
    stream_type: &'static str,
    event_type: &'static str,
    payload: &'static str,
    metadata: &'static str,
}

/// What extending a session writes.
pub const EXTENDED: Like = Like {
    stream_type: "session",
    event_type: "session.extended",
    payload: r#"{"extended":{"expires_at":"2026-11-08T09.00.00Z","at":"2026-11-01T09.00.00Z"}}"#,
    metadata: r#"{"actor":"user=abcdefghijklmnopqrstuvwxyzabcdef","event_id":"01993d5e-1c5a-7b3e-9d0a-2f6a4c8e1b7d","node":"abcdefgh"}"#,
};

/// What handing out a key writes.
pub const FETCHED: Like = Like {
    stream_type: "vault",
    event_type: "vault.key_fetched",
    payload: r#"{"key_fetched":{"access":{"at":"2026-11-28T12.08.23.568Z","client":{"$personal":{"key": 1,"sealed":"+2QveQYmKBwN8By5zzDnkrqnBWXYGj2eJZxB8/TSKf5IWqBStQDdwaHEuqIF9DqniIiPX/u5VOozBtJ1dIZeM1Ot15D3XclOHnakrhllU3UWDwtRCNIwOEFz/mo=","subject":"abcdefghijklmnopqrstuvwxyzabcdef"}}},"action":"fetch","zero_knowledge": false}}"#,
    metadata: r#"{"actor":"user=abcdefghijklmnopqrstuvwxyzabcdef","correlation_id":"abcdefghij003e24","event_id":"01993d5e-1c5a-7b3e-9d0a-2f6a4c8e1b7d","node":"abcdefgh","session_id":"abcdefghijklmnopqrstuvwxyzabcdef"}"#,
};

/// One insert of such an event into a table.
pub fn script(table: &str, like: &Like) -> String {
    let Like {
        stream_type,
        event_type,
        payload,
        metadata,
    } = like;
    format!(
        r"\set sequence random(1, 1000000000000000000)
\set stream random(1, {STREAMS})
insert into {table} (aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id)
values ('{stream_type}', 'abcdefghijklmnopqrstuvwxyz' || :stream, :sequence, '{event_type}', '1', '{payload}', '{metadata}',
        gen_random_uuid());
"
    )
}

/// On the disk as it is.
pub fn on_this_disk(options: &Options) -> anyhow::Result<Vec<Finding>> {
    compare(options, false, "")
}

/// With every flush 2 ms later.
pub fn on_a_slow_disk(options: &Options) -> anyhow::Result<Vec<Finding>> {
    compare(options, true, ", fdatasync + 2 ms")
}

/// A kind of command.
#[derive(Clone, Copy)]
pub enum Kind {
    Extend,
    ChangeTier,
}

fn compare(options: &Options, slow: bool, suffix: &str) -> anyhow::Result<Vec<Finding>> {
    eprintln!("  starting a server");
    let server = Server::start(slow)?;
    let runtime = Runtime::new()?;
    let (app, tasks) = runtime.block_on(server.app())?;
    eprintln!("  making {STREAMS} people and sessions");
    let streams = Arc::new(runtime.block_on(prepare(&app))?);
    runtime.block_on(superuser(&server, TABLE))?;
    let load = Load {
        app: app.clone(),
        streams,
        minutes: Arc::new(AtomicI64::new(1)),
    };
    for kind in [Kind::Extend, Kind::ChangeTier] {
        runtime.block_on(load.run(kind, 1))?;
    }
    runtime.block_on(superuser(&server, "vacuum analyze; checkpoint"))?;

    let cases = [
        (
            Kind::Extend,
            ("bare_events", Sent::Prepared),
            "append: extend a session",
            Target::AtLeast(1.0),
        ),
        (
            Kind::Extend,
            ("bare_events", Sent::AsText),
            "append: extend a session, against inserts sent as text",
            Target::None,
        ),
        (
            Kind::ChangeTier,
            ("bare_events", Sent::Prepared),
            "append: change a tier",
            Target::None,
        ),
        (
            Kind::Extend,
            ("bare_rows", Sent::Prepared),
            "append: extend a session, against a table with one key",
            Target::None,
        ),
    ];
    let mut findings = Vec::new();
    for (kind, (table, sent), what, target) in cases {
        eprintln!("  {what}{suffix}");
        let mut cost = Cost::default();
        let batches = Batches::so_far(&app);
        let (ours, limit) = take_turns(
            options.rounds,
            || {
                let before = (own_seconds()?, family_seconds(server.pid())?);
                let rate = runtime.block_on(load.run(kind, options.seconds))?;
                cost.own += own_seconds()? - before.0;
                cost.server += family_seconds(server.pid())? - before.1;
                cost.commands += rate * options.seconds as f64;
                Ok(rate)
            },
            || server.pgbench(&script(table, &EXTENDED), sent, AT_ONCE, options.seconds),
        )?;
        findings.push(Finding {
            what: format!("{what}{suffix}"),
            unit: "per second",
            ours,
            limit,
            limit_is: format!(
                "pgbench: one insert into {table} per transaction, {AT_ONCE} clients"
            ),
            target,
            notes: vec![cost.to_string(), Batches::so_far(&app).since(&batches)],
        });
    }
    drop(load);
    runtime.block_on(tasks.stop(app));
    Ok(findings)
}

/// Processor time of our side.
#[derive(Default)]
struct Cost {
    own: f64,
    server: f64,
    commands: f64,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let each = |seconds: f64| seconds / self.commands * 1e6;
        write!(
            f,
            "processor time per command: {:.0} us in the service, {:.0} us in PostgreSQL",
            each(self.own),
            each(self.server)
        )
    }
}

/// What the appender says of its batches.
struct Batches {
    commands: f64,
    batches: f64,
    seconds: f64,
}

impl Batches {
    fn so_far(app: &App) -> Batches {
        let metrics = app.metrics.render();
        let value = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse().ok())
                .unwrap_or(0.0)
        };
        Batches {
            commands: value("appender_batch_size_sum"),
            batches: value("appender_batch_size_count"),
            seconds: value("appender_append_seconds_sum"),
        }
    }

    fn since(&self, before: &Batches) -> String {
        let batches = self.batches - before.batches;
        format!(
            "{:.0} commands in a batch, {:.2} ms for each batch",
            (self.commands - before.commands) / batches,
            (self.seconds - before.seconds) / batches * 1e3
        )
    }
}

/// Carries out statements as the superuser.
///
/// # Errors
/// When one fails.
pub async fn superuser(server: &Server, sql: &str) -> anyhow::Result<()> {
    let options = mana_auth::database::options(&server.superuser_url())?;
    let mut connection = options.connect().await?;
    for statement in sql
        .split(';')
        .filter(|statement| !statement.trim().is_empty())
    {
        connection.execute(statement).await?;
    }
    Ok(())
}

/// A person and one of their sessions.
pub struct Stream {
    user: String,
    session: String,
}

pub async fn prepare(app: &Arc<App>) -> anyhow::Result<Vec<Stream>> {
    let mut made = Vec::new();
    let numbers: Vec<usize> = (0..STREAMS).collect();
    for chunk in numbers.chunks(AT_ONCE) {
        let tasks: Vec<_> = chunk
            .iter()
            .map(|n| tokio::spawn(register(app.clone(), *n)))
            .collect();
        for task in tasks {
            made.push(task.await??);
        }
    }
    Ok(made)
}

async fn register(app: Arc<App>, n: usize) -> anyhow::Result<Stream> {
    let user = ids::user();
    let now = app.clock.now();
    let command = UserCommand::Register {
        id: user.clone(),
        email: EmailAddress::parse(&format!("person-{n}@example.com"))?,
        name: format!("Person {n}"),
        image: None,
        locale: None,
        role: Roles::user(),
        password: true,
        email_verified: false,
        link: None,
        at: now,
    };
    let key = app.store.custody().new_data_key(user.as_str());
    let context = Context::of(Actor::Anonymous).with_new_data_key(user.as_str(), key);
    app.store
        .run::<User>(user.as_str(), command, context)
        .await?;
    let session = ids::session();
    let client = Client {
        ip_address: "192.0.2.1".to_owned(),
        user_agent: "Mozilla/5.0 (X11; Linux x86_64)".to_owned(),
    };
    let command = SessionCommand::Start {
        user_id: user.clone(),
        token_hash: TokenHash::of(TokenKind::Session, &random_token(32)).to_hex(),
        method: SignInMethod::Password,
        second_factor: false,
        impersonated_by: None,
        reason: None,
        carried: FactorTimes::default(),
        remembered: true,
        ip_address: client.ip_address.clone(),
        user_agent: client.user_agent.clone(),
        expires_at: now + TimeDelta::days(7),
        at: now,
    };
    let context = Context::of(Actor::User(user.to_string())).from(user.as_str(), client);
    app.store
        .run::<Session>(session.as_str(), command, context)
        .await?;
    Ok(Stream {
        user: user.to_string(),
        session: session.to_string(),
    })
}

/// Commands without pause.
pub struct Load {
    pub app: Arc<App>,
    pub streams: Arc<Vec<Stream>>,
    /// Each extension is a minute longer than the one before, or it would not be an event.
    pub minutes: Arc<AtomicI64>,
}

impl Load {
    /// Commands per second.
    pub async fn run(&self, kind: Kind, seconds: u64) -> anyhow::Result<f64> {
        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let workers: Vec<_> = (0..AT_ONCE)
            .map(|worker| {
                let (app, streams, minutes) =
                    (self.app.clone(), self.streams.clone(), self.minutes.clone());
                let (stop, done) = (stop.clone(), done.clone());
                tokio::spawn(async move {
                    let mut round = 0;
                    while !stop.load(Ordering::Relaxed) {
                        for n in (worker..STREAMS).step_by(AT_ONCE) {
                            if command(&app, &streams[n], kind, &minutes, round).await? {
                                done.fetch_add(1, Ordering::Relaxed);
                            }
                            if stop.load(Ordering::Relaxed) {
                                break;
                            }
                        }
                        round += 1;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let (count, elapsed) = (done.load(Ordering::Relaxed), started.elapsed());
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.await??;
        }
        Ok(count as f64 / elapsed.as_secs_f64())
    }
}

/// Carries out one command; says whether it wrote an event.
async fn command(
    app: &App,
    stream: &Stream,
    kind: Kind,
    minutes: &AtomicI64,
    round: usize,
) -> anyhow::Result<bool> {
    let at = app.clock.now();
    let context = Context::of(Actor::User(stream.user.clone()));
    let position = match kind {
        Kind::Extend => {
            let until =
                TimeDelta::days(7) + TimeDelta::minutes(minutes.fetch_add(1, Ordering::Relaxed));
            let command = SessionCommand::Extend {
                expires_at: at + until,
                at,
            };
            app.store
                .run::<Session>(&stream.session, command, context)
                .await?
                .position
        }
        Kind::ChangeTier => {
            let tier = Tier::ALL[round % Tier::ALL.len()];
            let command = UserCommand::ChangeTier { tier, at };
            app.store
                .run::<User>(&stream.user, command, context)
                .await?
                .position
        }
    };
    Ok(position.is_some())
}
