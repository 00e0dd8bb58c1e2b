//! Prints what the service reaches beside the limit that it is compared with, each pair from one run.
//!
//! `cargo bench --bench ratios [-- NAME...]`. The two sides of a ratio take turns (A, B, B, A), because a
//! machine is not equally fast all the time. Nothing here passes or fails: the table says what was reached.

mod append;
mod audit;
mod database;
mod http;
mod kek;
mod measure;
mod process;
mod rebuild;
mod table;
mod timing;
mod transparency;
mod vault;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

use table::Finding;

/// Every benchmark: name, what it needs to be told apart, how it runs.
const ALL: &[(&str, Benchmark)] = &[
    ("append", append::on_this_disk),
    ("append-slow-disk", append::on_a_slow_disk),
    ("sign-in", http::sign_in),
    ("get-session", http::get_session),
    ("process", process::start_and_memory),
    ("rebuild", rebuild::sessions),
    ("transparency", transparency::all),
    ("audit", audit::all),
    ("vault", vault::keys),
    ("used-vault", vault::used),
    ("kek", kek::rewraps),
    ("timing", timing::known_and_unknown),
];

type Benchmark = fn(&Options) -> anyhow::Result<Vec<Finding>>;

/// Prints what the service reaches beside the limit that it is compared with.
#[derive(Parser)]
struct Options {
    /// Which benchmarks; all when none is named.
    names: Vec<String>,
    /// Also write the table as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Rounds of four measurements (ours, limit, limit, ours).
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Length of one measurement, in seconds.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Events in the log that is rebuilt.
    #[arg(long, default_value_t = 1_000_000)]
    events: i64,
    /// Rows of the audit log of the vaults that pages are read from.
    #[arg(long, default_value_t = 10_000_000)]
    rows: i64,
    /// Answers of each kind that are timed for an address with an account, and as many for one without.
    #[arg(long, default_value_t = 10_000)]
    samples: usize,
    /// The same for sign-ins, each of which hashes: on two cores, 10,000 take about 15 minutes.
    #[arg(long, default_value_t = 2_000)]
    sign_ins: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    // Refused only when it is there already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = Options::parse();
    for name in &options.names {
        let known = ALL.iter().any(|(known, _)| known == name);
        let names: Vec<&str> = ALL.iter().map(|(name, _)| *name).collect();
        anyhow::ensure!(known, "there is no {name}, only {}", names.join(", "));
    }
    let mut findings = Vec::new();
    for (name, run) in ALL {
        if options.names.is_empty() || options.names.iter().any(|wanted| wanted == name) {
            eprintln!("{name} ...");
            findings.extend(run(&options).with_context(|| format!("running {name}"))?);
        }
    }
    print!("{}", table::text(&findings));
    if let Some(file) = &options.json {
        std::fs::write(file, table::json(&findings)?)
            .with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}
