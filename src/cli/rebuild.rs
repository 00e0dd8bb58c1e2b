//! `rebuild`: read models from their events.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use projections::Projection;
use serde_json::json;

use super::output::{self, Meter, grouped};
use super::tools::Tools;
use crate::config::Config;
use crate::rebuild;

/// Arguments of `rebuild`.
#[derive(Args)]
#[command(after_help = "\
The model is made beside the live one and takes its place in one step; the service keeps running and no write
is lost. A rebuild that is interrupted changes nothing.

Examples:
  mana-auth rebuild users
  mana-auth rebuild --all --json")]
pub struct Arguments {
    #[arg(value_name = "NAME", required_unless_present = "all", help = format!("Name of the read model: {}", names()))]
    name: Option<String>,
    /// Rebuild every read model, one after the other
    #[arg(long, conflicts_with = "name")]
    all: bool,
    /// Print progress and results as lines of JSON
    #[arg(long)]
    json: bool,
}

fn names() -> String {
    let names: Vec<&str> = projections::ALL.iter().map(|model| model.name).collect();
    names.join(", ")
}

/// Rebuilds.
///
/// # Errors
/// When there is no such model, or the rebuild fails; the live table is as it was.
pub async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let models: Vec<&'static Projection> = match &arguments.name {
        None => projections::ALL.iter().collect(),
        Some(name) => match rebuild::find(name) {
            Some(model) => vec![model],
            None => bail!("there is no read model {name:?}; there are {}", names()),
        },
    };
    let tools = Tools::open(config).await?;
    let outcome = rebuild_all(&tools, &models, arguments.json).await;
    tools.close().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn rebuild_all(
    tools: &Tools,
    models: &[&'static Projection],
    json: bool,
) -> anyhow::Result<()> {
    for &model in models {
        let mut meter = Meter::new(model.name, json);
        let show = |progress| meter.show(progress);
        let made = rebuild::rebuild(&tools.app.store, &tools.database().service, model, show)
            .await
            .with_context(|| format!("rebuilding {}", model.name))?;
        let seconds = meter.finish().as_secs_f64();
        if json {
            output::json(
                &json!({"model": model.name, "rows": made.rows, "position": made.position, "seconds": seconds}),
            )?;
        } else {
            output::line(format!(
                "{}: {} rows from the log up to position {} in {seconds:.1} s ({} positions/s)",
                model.name,
                grouped(made.rows as u64),
                grouped(made.position),
                grouped((made.position as f64 / seconds.max(0.001)) as u64)
            ))?;
        }
    }
    Ok(())
}
