//! `config`: what is set, and whether it can be used.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::{Map, json};

use super::output;
use crate::config::Config;

/// Commands about settings.
#[derive(Subcommand)]
pub enum Command {
    /// Say whether the settings can be used; problems are listed and the exit code is 2
    Check,
    /// List every setting with its value and where it came from; secrets show as ***
    #[command(after_help = "\
Examples:
  mana-auth config show
  NODE_ENV=production mana-auth config show --config /etc/mana-auth.toml --json")]
    Show {
        /// Print one JSON object: name to value and source
        #[arg(long)]
        json: bool,
    },
}

/// Does it. Settings that cannot be used do not get here.
///
/// # Errors
/// When standard output cannot be written.
pub fn run(command: Command, config: &Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check => {
            for warning in &config.warnings {
                output::line(format!("warning: {warning}"))?;
            }
            output::line("The settings can be used.")?;
        }
        Command::Show { json: true } => {
            let settings: Map<_, _> = config
                .show()
                .into_iter()
                .map(|(name, value, source)| {
                    (
                        name.to_owned(),
                        json!({"value": value, "source": source.to_string()}),
                    )
                })
                .collect();
            output::json(&settings)?;
        }
        Command::Show { json: false } => {
            let settings = config.show();
            let width = settings.iter().map(|s| s.0.len()).max().unwrap_or_default();
            for (name, value, source) in settings {
                output::line(format!("{name:width$}  {:7}  {value}", source.to_string()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
