//! `keys`: the keys that sign access tokens.

use std::process::ExitCode;

use chrono::TimeDelta;
use clap::Subcommand;
use serde_json::{Value, json};

use super::output;
use super::tools::Tools;
use crate::app::App;
use crate::config::Config;
use crate::signing::PUBLISHED_BEFORE;
use crate::store::Actor;

/// Commands about signing keys.
#[derive(Subcommand)]
#[command(after_help = "\
Examples:
  mana-auth keys list
  mana-auth keys rotate
  mana-auth keys rotate --now
  mana-auth keys revoke 3pWm0x1fY5bqkD2sVtJ8aZcRnE7uHgLo")]
pub enum Command {
    /// List every key and where it is in its life
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Publish the next key; it signs from 11 minutes later, when verifiers have fetched it
    Rotate {
        /// Let it sign at once, so that a key that leaked can be withdrawn. Verifiers refuse new tokens until they fetch
        /// the key set again, which most do when they meet a key that they do not know
        #[arg(long)]
        now: bool,
    },
    /// Withdraw a key at once; tokens that it signed are refused. The only key that signs cannot be withdrawn
    Revoke {
        /// Id of the key
        #[arg(value_name = "KID")]
        kid: String,
    },
}

/// Does it.
///
/// # Errors
/// When the command is refused or the database fails.
pub async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    let tools = Tools::open(config).await?;
    let outcome = carry_out(command, &tools.app).await;
    tools.close().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn carry_out(command: Command, app: &App) -> anyhow::Result<()> {
    match command {
        Command::List { json } => {
            let keys = app.signing.list().await?;
            if json {
                let list: Vec<Value> = keys
                    .iter()
                    .map(|(row, stage)| json!({"kid": row.id, "stage": stage, "public_key": row.public_key,
                        "created_at": row.created_at, "active_from": row.active_from, "revoked_at": row.revoked_at}))
                    .collect();
                output::json(&list)?;
            } else {
                for (row, stage) in keys {
                    let stage = serde_json::to_value(stage)?;
                    let stage = stage.as_str().unwrap_or_default();
                    output::line(format!(
                        "{}  {stage:7}  signs from {}",
                        row.id,
                        row.active_from.format("%F %T UTC")
                    ))?;
                }
            }
        }
        Command::Rotate { now } => {
            let ahead = if now {
                TimeDelta::zero()
            } else {
                PUBLISHED_BEFORE
            };
            let (kid, active_from) = app.signing.rotate(ahead, Actor::Operator).await?;
            output::line(format!(
                "Key {kid} is published and signs from {}.",
                active_from.format("%F %T UTC")
            ))?;
        }
        Command::Revoke { kid } => {
            app.signing.revoke(&kid, Actor::Operator).await?;
            output::line(format!("Key {kid} is withdrawn."))?;
        }
    }
    Ok(())
}
