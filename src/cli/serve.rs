//! `serve`: the process around the service, from the first signal of life to the last.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustix::process::{Resource, getrlimit, setrlimit};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::database::Database;
use super::{output, tools};
use crate::app::{self, App, Parts, Tasks};
use crate::clock::Clock;
use crate::config::Config;
use crate::http::gate::Gate;
use crate::{database, http, telemetry};

/// First and longest pause while the database cannot be reached.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// A database that takes longer to accept a connection counts as not reachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often we look whether a restored log was accepted.
const ACCEPTED_POLL: Duration = Duration::from_secs(1);
/// How long a connection may take until the head of its next request is there: longer than the minute for which proxies
/// keep connections that they do not use.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// Running requests may take this long after the signal to stop.
const REQUESTS_TIMEOUT: Duration = Duration::from_secs(30);
/// Samples of histograms are put into their buckets this often when nobody reads them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);
/// Exit code of a process that was interrupted for good.
const INTERRUPTED: i32 = 130;

/// Arguments of `serve`.
#[derive(Args)]
#[command(after_help = "\
Without DATABASE_URL a private PostgreSQL cluster runs in MANA_AUTH_DATA_DIR, as long as the service does.
With it, that database is brought up to date at the start; while it cannot be reached, the service waits
and /health/ready says why.

SIGTERM and Ctrl-C stop gracefully: running requests get 30 seconds. A second one stops at once.

Examples:
  mana-auth serve
  PORT=8080 BASE_URL=https://auth.example.com mana-auth serve --config /etc/mana-auth.toml")]
pub struct Arguments {}

/// Runs until somebody says stop.
///
/// # Errors
/// When the service cannot start and waiting would not help.
pub async fn run(_: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let stop = stop_on_signal()?;
    allow_many_connections();
    let listener = TcpListener::bind((config.host, config.port))
        .await
        .with_context(|| format!("listening on {}", SocketAddr::new(config.host, config.port)))?;
    let address = listener.local_addr()?;
    let gate = Gate::new(Clock::system());
    let server = tokio::spawn(gate.clone().serve(listener, stop.clone(), HEAD_TIMEOUT));
    tracing::info!(%address, "listening");
    tokio::spawn(upkeep());

    let database = match Database::configured(&config)? {
        Some(database) => database,
        None => {
            gate.not_ready("the private PostgreSQL is starting");
            Database::start_private(&config).await?
        }
    };
    let outcome = with_database(&config, &database, &gate, server, address, stop).await;
    // Last, whatever happened: everything else writes to it.
    let stopped = database.stop().await;
    outcome?;
    stopped?;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

async fn with_database(
    config: &Config,
    database: &Database,
    gate: &Gate,
    mut server: JoinHandle<()>,
    address: SocketAddr,
    mut stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let started = tokio::select! {
        started = start(config, database, gate) => Some(started?),
        _ = stop.wait_for(|stop| *stop) => None,
    };
    if let Some((app, _)) = &started {
        gate.open(app.clone(), http::router(app.clone()));
        tracing::info!(%address, "ready");
        greet(config, address)?;
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            ended = &mut server => ended.context("the HTTP server")?,
            // Whoever starts us again starts it as well; without it every answer would be an outage.
            () = database.gone() => anyhow::bail!("the private PostgreSQL ended by itself: start the service again"),
        }
    }
    gate.not_ready("the service is stopping");
    if !server.is_finished()
        && tokio::time::timeout(REQUESTS_TIMEOUT, &mut server)
            .await
            .is_err()
    {
        tracing::warn!("requests that still run are cut off");
    }
    gate.close();
    if let Some((app, tasks)) = started {
        tasks.stop(app).await;
    }
    Ok(())
}

/// Lifts the bound of open files to what the system allows: shells and service managers begin with 1,024, and each
/// connection is one.
fn allow_many_connections() {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, files) {
        tracing::warn!(%error, "the number of open files stays bounded");
    }
}

/// Turns the first SIGTERM or SIGINT into a value that many can wait for; the second one ends the process.
fn stop_on_signal() -> anyhow::Result<watch::Receiver<bool>> {
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        tracing::info!("stopping; a second signal stops at once");
        stop.send_replace(true);
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        std::process::exit(INTERRUPTED);
    });
    Ok(stopped)
}

/// Brings the database up to date, makes sure that it is the one we knew, and starts the app.
async fn start(
    config: &Config,
    database: &Database,
    gate: &Gate,
) -> anyhow::Result<(Arc<App>, Tasks)> {
    gate.not_ready("the database is being brought up to date");
    patiently(gate, async || {
        for role in [&database.migration, &database.service] {
            // A host that swallows packets would keep us waiting for minutes without a word.
            let late = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, role.connect()).await;
            connected
                .map_err(late)
                .flatten()
                .context("connecting")?
                .close()
                .await?;
        }
        database.migrate(config).await
    })
    .await?;
    check_continuity(config, database, gate).await?;
    gate.not_ready("the service is starting");
    patiently(gate, async || {
        let parts = Parts {
            clock: Clock::system(),
            database: database.service.clone(),
        };
        app::start(config.clone(), parts).await
    })
    .await
}

/// Does the work, again and again as long as it fails only because the database cannot be reached.
async fn patiently<T>(gate: &Gate, work: impl AsyncFn() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let (mut pause, longest) = PAUSES;
    loop {
        match work().await {
            Err(error) if database::is_temporary(&error) => {
                let causes = output::causes(&error).join(": ");
                let reason = format!("the database cannot be reached: {causes}");
                tracing::warn!(pause_millis = pause.as_millis() as u64, "{reason}");
                gate.not_ready(&reason);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            outcome => return outcome,
        }
    }
}

/// Waits until the log in the database is the one that we knew, or an operator has accepted that it is not.
async fn check_continuity(config: &Config, database: &Database, gate: &Gate) -> anyhow::Result<()> {
    let pool = database.pool();
    let mut said = None;
    loop {
        let continuity = patiently(gate, async || tools::continuity(config, &pool).await).await?;
        let obstacle = continuity.as_ref().and_then(tools::obstacle);
        let Some(obstacle) = obstacle else { break };
        gate.not_ready(&obstacle);
        if said.as_ref() != Some(&obstacle) {
            tracing::error!("{obstacle}");
            said = Some(obstacle);
        }
        tokio::time::sleep(ACCEPTED_POLL).await;
    }
    pool.close().await;
    Ok(())
}

/// A few words for the person at the terminal.
fn greet(config: &Config, address: SocketAddr) -> std::io::Result<()> {
    if !std::io::stdout().is_terminal() {
        return Ok(());
    }
    output::line(format!("\nmana-auth is ready at {}", config.base_url))?;
    if config.smtp.is_none() {
        let port = address.port();
        output::line(format!("  mails     http://localhost:{port}/dev/mail"))?;
    }
    if config.database_url.is_none() {
        output::line(format!("  data      {}", config.data_dir.display()))?;
    }
    output::line("  events    mana-auth events tail --follow")?;
    output::line("Stop with Ctrl-C.\n")
}

async fn upkeep() {
    let metrics = telemetry::metrics();
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        metrics.run_upkeep();
    }
}
