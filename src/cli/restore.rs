//! `restore`: what an operator says about a log that came back from a backup.

use std::process::ExitCode;

use aggregates::log::{LOG_ID, Log, LogCommand};
use anyhow::Context as _;
use clap::Subcommand;
use sqlx::PgPool;

use super::database::Database;
use super::output::{self, grouped};
use super::tools;
use crate::clock::Clock;
use crate::config::Config;
use crate::custody::Custody;
use crate::keks;
use crate::maintenance::{Continuity, LogHead, head_file};
use crate::store::claims::Claims;
use crate::store::{Actor, Context, Store, log};

/// Commands about restored logs.
#[derive(Subcommand)]
pub enum Command {
    /// Accept the log as it is in the database: a new epoch begins, and the log says what was lost
    #[command(after_help = "\
After a restore the service is not ready until this was run, because positions that clients know are given out
again. Run it once, on the machine whose service says so. It does nothing where nothing was restored.

Example:
  mana-auth restore accept")]
    Accept,
}

/// Does it.
///
/// # Errors
/// When the database fails or the head of the log cannot be written down.
pub async fn run(Command::Accept: Command, config: Config) -> anyhow::Result<ExitCode> {
    let database = Database::find(&config).await?;
    let pool = database.pool();
    let outcome = accept(&config, &database, &pool).await;
    pool.close().await;
    database.stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn accept(config: &Config, database: &Database, pool: &PgPool) -> anyhow::Result<()> {
    tools::check_migrated(pool).await?;
    let file = head_file(config);
    let continuity = tools::continuity(config, pool).await?;
    let known = LogHead::load(&file)?;
    let (Some(continuity), Some(known)) = (continuity, known) else {
        output::line("Nothing to accept: no head of a log was written down before.")?;
        return Ok(());
    };
    if continuity == Continuity::Continues {
        output::line("Nothing to accept: the log goes on where it was.")?;
        return Ok(());
    }
    // The epoch is seen only once the event that tells of it is in the log; a crash before that leaves
    // everything to be accepted again.
    let mut tx = pool.begin().await?;
    let head = log::head(&mut *tx).await?;
    let epoch = log::begin_epoch(&mut *tx, head).await?;
    let lost_to = known.head.max(head);
    let command = LogCommand::AcceptRestore {
        epoch: epoch.epoch.to_string(),
        lost_from: head + 1,
        lost_to,
        at: Clock::system().now(),
    };
    record(config, database, pool, command)
        .await
        .context("recording the restore")?;
    tx.commit().await?;
    LogHead::read(pool).await?.write(&file)?;
    output::line(format!(
        "Accepted: epoch {} begins at position {}; {} events are gone.",
        epoch.number,
        grouped(epoch.from_position),
        grouped(lost_to - head)
    ))?;
    Ok(())
}

/// Appends what happened to the log. Nothing else of the service starts: a log that has not even a signing key
/// would be given one, before the event that must be the first of the new epoch.
async fn record(
    config: &Config,
    database: &Database,
    pool: &PgPool,
    command: LogCommand,
) -> anyhow::Result<()> {
    let custody = Custody::new(pool.clone(), keks::ring_of(config));
    let claims = Claims::open(pool.clone(), &custody).await?;
    let node = "restore".to_owned();
    let (store, appender) = Store::start(pool.clone(), &database.service, custody, claims, node);
    let context = Context::of(Actor::Operator);
    let recorded = store.run::<Log>(LOG_ID, command, context).await;
    drop(store);
    // Nothing else is queued, so it ends at once.
    let _ = appender.await;
    recorded?;
    Ok(())
}
