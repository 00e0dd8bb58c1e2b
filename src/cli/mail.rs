//! `mail`: the queue of work that follows from events. Nothing personal is shown.

use std::process::ExitCode;

use clap::Subcommand;
use sqlx::PgPool;

use super::database::Database;
use super::{output, tools};
use crate::config::Config;
use crate::effects;

/// Commands about the queue.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  mana-auth mail waiting
  mana-auth mail retry")]
pub enum Command {
    /// List what waits to be sent or called: event, kind, attempts, when it is due, why it failed last
    Waiting {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Make due now what waits for its next attempt; a mail that was refused twice for good is given up
    Retry,
}

/// Does it.
///
/// # Errors
/// When the database fails.
pub async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    let database = Database::find(&config).await?;
    let pool = database.pool();
    let outcome = carry_out(command, &pool).await;
    pool.close().await;
    database.stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(command: Command, pool: &PgPool) -> anyhow::Result<()> {
    tools::check_migrated(pool).await?;
    match command {
        Command::Waiting { json: true } => output::json(&effects::queue(pool).await?)?,
        Command::Waiting { json: false } => {
            let queue = effects::queue(pool).await?;
            if queue.is_empty() {
                output::line("Nothing waits.")?;
            }
            for waiting in queue {
                output::line(format!(
                    "{}  {:12}  attempts {:3}  due {}  {}",
                    waiting.event_id,
                    waiting.kind,
                    waiting.attempts,
                    waiting.due_at.format("%F %T UTC"),
                    waiting.last_error.unwrap_or_default()
                ))?;
            }
        }
        Command::Retry => {
            let due = effects::retry(pool).await?;
            output::line(format!("{} due now.", output::grouped(due)))?;
        }
    }
    Ok(())
}
