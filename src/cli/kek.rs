//! `kek`: another key-encryption key for everything that is kept, while the service runs.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::output::{self, Meter, grouped};
use super::tools::Tools;
use crate::app::App;
use crate::config::{self, Config};
use crate::crypto::key_ring::SEALS_MAX;
use crate::keks::references::References;
use crate::keks::rewrap::{Failure, Tell};
use crate::keks::{self, KekRow, Node, file};
use crate::rebuild::Progress;

/// Commands about key-encryption keys.
#[derive(Subcommand)]
#[command(after_help = "\
To put another key in the place of one, in this order and without stopping anything:
  mana-auth kek add k2 --generate
  mana-auth kek status
  mana-auth kek activate k2
  mana-auth kek rewrap
  mana-auth kek retire env-v1
Backups made before that still need the old key: keep it where they are not.")]
pub enum Command {
    /// Make a configured key known; says which nodes cannot open with it yet
    Add {
        /// Id of the key
        #[arg(value_name = "ID")]
        id: String,
        /// Make a random key first, and add it to the file that MANA_AUTH_KEKS_FILE names
        #[arg(long)]
        generate: bool,
    },
    /// Let a key wrap from now on; every node that runs must have it
    Activate {
        /// Id of the key
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Wrap everything by the active key that another one wraps; may be interrupted and run again
    Rewrap {
        /// Wraps per second at most; 0 for as many as it goes
        #[arg(long, default_value_t = 500, value_name = "N")]
        rate: u32,
        /// Print progress and failures as lines of JSON, then what was done
        #[arg(long)]
        json: bool,
    },
    /// Take a key away from all nodes; refused while anything is wrapped by it
    Retire {
        /// Id of the key
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Show every key, what needs it, how often it has sealed, and which nodes can open with it
    Status {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
///
/// # Errors
/// When the command is refused or the database fails.
pub async fn run(command: Command, mut config: Config) -> anyhow::Result<ExitCode> {
    if let Command::Add { id, generate } = &command {
        prepare(&mut config, id, *generate)?;
    }
    let tools = Tools::open(config).await?;
    let outcome = carry_out(command, &tools.app).await;
    tools.close().await?;
    outcome
}

async fn carry_out(command: Command, app: &App) -> anyhow::Result<ExitCode> {
    match command {
        // Whoever connects makes the keys known that are configured.
        Command::Add { id, .. } => added(app, &id).await?,
        Command::Activate { id } => {
            keks::activate(app, &id).await?;
            output::line(format!(
                "Key {id} wraps from now on. What others wrap is wrapped by it after `mana-auth kek rewrap`."
            ))?;
        }
        Command::Rewrap { rate, json } => return rewrap(app, rate, json).await,
        Command::Retire { id } => {
            keks::retire(app, &id).await?;
            output::line(format!(
                "Key {id} opens nothing any more. Take it out of the configuration; backups of before still need it."
            ))?;
        }
        Command::Status { json } => status(app, json).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes sure that the key is configured where this command runs.
fn prepare(config: &mut Config, id: &str, generate: bool) -> anyhow::Result<()> {
    if generate {
        let path = config.keks_file.as_deref().with_context(|| {
            format!(
                "only a file can be added to, and MANA_AUTH_KEKS_FILE is not set. {}",
                by_hand(id)
            )
        })?;
        file::add(path, id)?;
        config.keks = config::keks_in_file(path).map_err(anyhow::Error::msg)?;
        output::line(format!("A new key {id} is in {}.", path.display()))?;
    }
    if !config.keks.iter().any(|kek| kek.id == id) {
        bail!("key {id:?} is not configured here. {}", by_hand(id));
    }
    Ok(())
}

fn by_hand(id: &str) -> String {
    format!(
        "Make a key by `openssl rand -base64 32`, set MANA_AUTH_KEKS to what it is now (MANA_AUTH_KEK with `env-v1:` \
         before it) and `,{id}:KEY` on every node, restart the nodes one after the other, and run this again"
    )
}

async fn added(app: &App, id: &str) -> anyhow::Result<()> {
    let state = keks::find(app, id).await?.state;
    output::line(format!("Key {id} is known and {state}."))?;
    for node in keks::nodes(&app.pool).await? {
        if !node.keks.iter().any(|kek| kek == id) {
            output::line(format!(
                "Node {} lacks it yet: with MANA_AUTH_KEKS_FILE it takes the key up within seconds of its being there.",
                node.node
            ))?;
        }
    }
    Ok(())
}

/// Shows a run.
struct Shown {
    meter: Meter,
    json: bool,
}

impl Tell for Shown {
    fn progress(&mut self, progress: Progress) {
        self.meter.show(progress);
    }

    fn failure(&mut self, Failure { place, why }: &Failure) -> anyhow::Result<()> {
        match self.json {
            true => output::json(&json!({"failed": place, "why": why})),
            false => Ok(output::line(format!("FAILED  {place}: {why}"))?),
        }
    }
}

async fn rewrap(app: &App, rate: u32, json: bool) -> anyhow::Result<ExitCode> {
    let mut shown = Shown {
        meter: Meter::new("rewrap", json),
        json,
    };
    let report = keks::rewrap::run(app, rate, &mut shown).await?;
    let seconds = shown.meter.finish().as_secs_f64();
    let failed = report.failed.len();
    if json {
        output::json(
            &json!({"kek": report.kek_id, "secrets": report.secrets, "vaults": report.vaults,
            "failed": failed, "seconds": (seconds * 1000.0).round() / 1000.0}),
        )?;
    } else {
        output::line(format!(
            "{} secrets and the keys of {} vaults were wrapped by {} in {seconds:.1} s; {failed} failed.",
            grouped(report.secrets),
            grouped(report.vaults),
            report.kek_id
        ))?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn status(app: &App, json: bool) -> anyhow::Result<()> {
    let rows = keks::all(&app.pool).await?;
    let nodes = keks::nodes(&app.pool).await?;
    let references = References::count(app).await?;
    let needs = |row: &KekRow| {
        let of = |counts: &std::collections::BTreeMap<String, i64>| {
            counts.get(&row.id).copied().unwrap_or_default()
        };
        (of(&references.secrets), of(&references.vaults))
    };
    if json {
        let keys: Vec<Value> = rows
            .iter()
            .map(|row| {
                let (secrets, vaults) = needs(row);
                json!({"id": row.id, "state": row.state, "secrets": secrets, "vaults": vaults, "seals": row.seals,
                    "seals_max": SEALS_MAX, "added_at": row.added_at, "activated_at": row.activated_at,
                    "retired_at": row.retired_at, "nodes": having(&nodes, row)})
            })
            .collect();
        let nodes: Vec<Value> = nodes
            .iter()
            .map(|node| json!({"node": node.node, "active": node.active, "keks": node.keks}))
            .collect();
        return output::json(&json!({"keks": keys, "nodes": nodes}));
    }
    for row in &rows {
        let (secrets, vaults) = needs(row);
        output::line(format!(
            "{}  {}  wraps {} secrets and the keys of {} vaults, has sealed {} of {} times, opens on {} of {} nodes",
            row.id,
            row.state,
            grouped(secrets),
            grouped(vaults),
            grouped(row.seals),
            grouped(SEALS_MAX),
            having(&nodes, row).len(),
            nodes.len()
        ))?;
    }
    for node in &nodes {
        let keks = node.keks.join(", ");
        output::line(format!(
            "node {}  wraps by {}, opens with {keks}",
            node.node, node.active
        ))?;
    }
    Ok(())
}

/// The nodes that open with a key.
fn having<'a>(nodes: &'a [Node], row: &KekRow) -> Vec<&'a str> {
    let having = nodes.iter().filter(|node| node.keks.contains(&row.id));
    having.map(|node| node.node.as_str()).collect()
}
