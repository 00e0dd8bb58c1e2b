//! `restore`: what an operator says about a log that came back from a backup.

use std::process::ExitCode;

use aggregates::log::{LOG_ID, Log, LogCommand};
use anyhow::Context as _;
use clap::Subcommand;

use super::output::{self, grouped};
use super::tools::{self, Tools};
use crate::app::App;
use crate::config::Config;
use crate::maintenance::{Continuity, LogHead, head_file};
use crate::store::{Actor, Context, log};

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
    let tools = Tools::open_restored(config).await?;
    let outcome = accept(&tools.app).await;
    tools.close().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn accept(app: &App) -> anyhow::Result<()> {
    let file = head_file(&app.config);
    let continuity = tools::continuity(&app.config, &app.pool).await?;
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
    let mut tx = app.pool.begin().await?;
    let head = log::head(&mut *tx).await?;
    let epoch = log::begin_epoch(&mut *tx, head).await?;
    let lost_to = known.head.max(head);
    let command = LogCommand::AcceptRestore {
        epoch: epoch.epoch.to_string(),
        lost_from: head + 1,
        lost_to,
        at: app.clock.now(),
    };
    app.store
        .run::<Log>(LOG_ID, command, Context::of(Actor::Operator))
        .await
        .context("recording the restore")?;
    tx.commit().await?;
    LogHead::read(&app.pool).await?.write(&file)?;
    output::line(format!(
        "Accepted: epoch {} begins at position {}; {} events are gone.",
        epoch.number,
        grouped(epoch.from_position),
        grouped(lost_to - head)
    ))?;
    Ok(())
}
