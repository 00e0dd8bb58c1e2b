//! `migrate`: the schema, without starting the service.

use std::process::ExitCode;

use clap::Args;

use super::database::Database;
use super::output;
use crate::config::Config;

/// Arguments of `migrate`.
#[derive(Args)]
#[command(after_help = "\
Signs in with MANA_AUTH_MIGRATION_URL, in development with DATABASE_URL if that is all there is.
`serve` does the same at each start; run this first where the service is not given the migration role.

Example:
  MANA_AUTH_MIGRATION_URL=postgres://owner@db/auth DATABASE_URL=postgres://app@db/auth mana-auth migrate")]
pub struct Arguments {}

/// Migrates.
///
/// # Errors
/// When the database cannot be reached, is newer than this program, or the roles do not suffice.
pub async fn run(_: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let database = Database::find(&config).await?;
    let migrated = database.migrate(&config).await;
    let stopped = database.stop().await;
    migrated?;
    stopped?;
    output::line("The database is up to date.")?;
    Ok(ExitCode::SUCCESS)
}
