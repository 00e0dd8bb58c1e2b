//! `verify-log`: whether the log is the one that was signed.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use sqlx::PgPool;

use super::audit;
use super::database::Database;
use super::output::{self, Meter, grouped};
use crate::config::Config;
use crate::transparency::whole::{self, Report};

/// Arguments of `verify-log`.
#[derive(Args)]
#[command(after_help = "\
Makes the whole tree anew from the events, compares it with every checkpoint that was signed, and names the first
position where the log is not what it was. Whoever can write to the database past its triggers can also take
checkpoints away: give those that were kept elsewhere, by a witness or an auditor, with --checkpoint. The exit code is 1
if anything is wrong.

Examples:
  mana-auth verify-log
  mana-auth verify-log --checkpoint /mnt/witness/*.checkpoint --json")]
pub struct Arguments {
    /// Checkpoints that were kept outside of the database
    #[arg(long, value_name = "FILE", num_args = 1..)]
    checkpoint: Vec<PathBuf>,
    /// Print progress as lines of JSON, then one object with what was found
    #[arg(long)]
    json: bool,
}

/// Checks.
///
/// # Errors
/// When the database fails or a checkpoint cannot be read.
pub async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let database = Database::find(&config).await?;
    let pool = database.pool();
    let outcome = check(&arguments, &pool, &config).await;
    pool.close().await;
    database.stop().await?;
    outcome
}

async fn check(arguments: &Arguments, pool: &PgPool, config: &Config) -> anyhow::Result<ExitCode> {
    let now = audit::current(pool, config).await?;
    let read = |path: &PathBuf| {
        fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
    };
    let elsewhere = arguments
        .checkpoint
        .iter()
        .map(read)
        .collect::<Result<Vec<_>, _>>()?;
    let mut meter = Meter::new("events", arguments.json);
    let show = |done, total| meter.count(done, Some(total));
    let report = whole::check(pool, &now, &elsewhere, show).await?;
    meter.finish();
    if arguments.json {
        output::json(&report)?;
    } else {
        for line in words(&report) {
            output::line(line)?;
        }
    }
    let is_good = report.first_bad.is_none() && report.problems.is_empty();
    Ok(if is_good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn words(report: &Report) -> Vec<String> {
    let mut lines = vec![];
    match &report.first_bad {
        Some(bad) if bad.position == bad.until => {
            lines.push(format!("FAILED  position {}: {}", bad.position, bad.what));
        }
        Some(bad) => lines.push(format!(
            "FAILED  somewhere from position {} to {}: {}",
            bad.position, bad.until, bad.what
        )),
        None => lines.push(format!(
            "ok      {} events are as they were signed, at {} checkpoints",
            grouped(report.good_until),
            grouped(report.checkpoints)
        )),
    }
    if report.first_bad.is_some() {
        lines.push(match report.good_until {
            0 => "        no checkpoint before it agrees with the log".to_owned(),
            good => format!(
                "        the events up to {} are as they were signed",
                grouped(good)
            ),
        });
    }
    lines.extend(
        report
            .problems
            .iter()
            .map(|problem| format!("FAILED  {problem}")),
    );
    if report.unsigned > 0 {
        lines.push(format!(
            "        {} events are newer than the last checkpoint",
            grouped(report.unsigned)
        ));
    }
    lines
}
