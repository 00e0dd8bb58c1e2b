//! The `mana-auth` binary: reads the arguments and does what they say.

use std::process::ExitCode;

use clap::Parser as _;
use mana_auth::cli::Cli;

fn main() -> ExitCode {
    mana_auth::cli::run(Cli::parse())
}
