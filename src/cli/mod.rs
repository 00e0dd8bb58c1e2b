//! The command line: the service itself, and the tools of those who run it.

mod audit;
mod breach;
mod config;
mod database;
mod doctor;
mod events;
mod health;
mod kek;
mod keys;
mod mail;
mod migrate;
mod output;
mod rebuild;
mod restore;
mod serve;
mod tools;
mod user;
mod vault_audit;
mod verify_log;
mod witness;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::config::Config;
use crate::{process, telemetry};

/// Settings that cannot be used, as wrong arguments: the caller has to change something.
const USAGE: u8 = 2;
/// Blocking work that a command left behind may take this long.
const LEFTOVERS: Duration = Duration::from_secs(1);

/// Central authentication service: accounts, sessions, tokens; every fact is an event in PostgreSQL.
#[derive(Parser)]
#[command(
    name = "mana-auth",
    version,
    after_help = "\
Examples:
  mana-auth serve                              start; without settings a private PostgreSQL is set up
  mana-auth events tail --follow               watch what happens
  mana-auth user set-role ada@example.com admin
  mana-auth config show                        what is set, and by whom

Settings come from environment variables and an optional TOML file. Commands beside a running service use its database."
)]
pub struct Cli {
    /// Read settings from this TOML file as well; environment variables win
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service
    Serve(serve::Arguments),
    /// Bring the database's schema up to date and give the service's role its rights
    Migrate(migrate::Arguments),
    /// Check or show the settings
    #[command(subcommand)]
    Config(config::Command),
    /// Check that everything stored is whole and opens
    Doctor(doctor::Arguments),
    /// Ask the service on this machine whether it is ready; exit code 1 if it is not
    Health(health::Arguments),
    /// Make accounts and change them, with the same events as the API
    #[command(subcommand)]
    User(user::Command),
    /// Read the log of events
    #[command(subcommand)]
    Events(events::Command),
    /// Make a read model anew from the events, while the service runs
    Rebuild(rebuild::Arguments),
    /// Put another key-encryption key in the place of one, while the service runs
    #[command(subcommand)]
    Kek(kek::Command),
    /// List, rotate and revoke the keys that sign access tokens
    #[command(subcommand)]
    Keys(keys::Command),
    /// Say that the database came back from a backup on purpose
    #[command(subcommand)]
    Restore(restore::Command),
    /// Look at the queue of mails and calls to other services
    #[command(subcommand)]
    Mail(mail::Command),
    /// Make the file of passwords that are refused
    #[command(subcommand)]
    Breach(breach::Command),
    /// Prove what a stream holds, and check such proofs
    #[command(subcommand)]
    Audit(audit::Command),
    /// Check that the log is the one that was signed, from its first event to its last
    VerifyLog(verify_log::Arguments),
}

/// Does what the arguments say. Errors and their causes go to standard error.
pub fn run(cli: Cli) -> ExitCode {
    if let Err(error) = process::hide_memory() {
        return output::failure(&error.into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&error.into()),
    };
    // Whoever checks a bundle has no service, and no settings of one.
    if let Command::Audit(audit::Command::Outside(command)) = &cli.command {
        let outcome = runtime.block_on(audit::outside(command));
        return outcome.unwrap_or_else(|error| output::failure(&error));
    }
    let mut settings = match Config::load(cli.config.as_deref()) {
        Ok(settings) => settings,
        Err(errors) => {
            eprintln!("error: the settings cannot be used");
            for problem in errors.problems() {
                eprintln!("  {problem}");
            }
            return ExitCode::from(USAGE);
        }
    };
    // What the service logs in passing would only get between a command's own lines. A pool complains of connections
    // that were on their way back to it when the private cluster stopped: commands hear of real errors themselves.
    if !matches!(cli.command, Command::Serve(_)) && settings.log_filter == "info" {
        settings.log_filter = "warn,sqlx_core::pool=error".to_owned();
    }
    telemetry::logs(&settings);
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Serve(arguments) => serve::run(arguments, settings).await,
            Command::Migrate(arguments) => migrate::run(arguments, settings).await,
            Command::Config(command) => config::run(command, &settings),
            Command::Doctor(arguments) => doctor::run(arguments, settings).await,
            Command::Health(arguments) => health::run(arguments, settings).await,
            Command::User(command) => user::run(command, settings).await,
            Command::Events(command) => events::run(command, settings).await,
            Command::Rebuild(arguments) => rebuild::run(arguments, settings).await,
            Command::Kek(command) => kek::run(command, settings).await,
            Command::Keys(command) => keys::run(command, settings).await,
            Command::Restore(command) => restore::run(command, settings).await,
            Command::Mail(command) => mail::run(command, settings).await,
            Command::Breach(command) => breach::run(command),
            Command::Audit(command) => audit::run(command, settings).await,
            Command::VerifyLog(arguments) => verify_log::run(arguments, settings).await,
        }
    });
    runtime.shutdown_timeout(LEFTOVERS);
    outcome.unwrap_or_else(|error| output::failure(&error))
}
