//! `audit`: what the log proves, and checking it.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use sqlx::PgPool;

use super::database::Database;
use super::output::{self, Meter, grouped};
use super::{tools, vault_audit, witness};
use crate::config::Config;
use crate::crypto::notes::Verifier;
use crate::custody::Custody;
use crate::keks;
use crate::transparency::bundle::{self, Wanted};
use crate::transparency::checkpoints::{self, Current};
use crate::transparency::verify::{self, Proven};

/// Commands about what the log proves.
#[derive(Subcommand)]
pub enum Command {
    /// Beside the service.
    #[command(flatten)]
    Inside(Inside),
    /// Anywhere else.
    #[command(flatten)]
    Outside(Outside),
    /// Show the history of a vault: who asked for its key, from where, and what became of it
    #[command(after_help = "\
USER is a mail address or the id of an account; the history of an erased one is found by its id. All of it is printed,
oldest first; JSON is one object a line. That it was read is an event, with the names of the options that narrowed it.

Examples:
  mana-auth audit vault ada@example.com
  mana-auth audit vault ada@example.com --at 2026-11-01T00:00:00Z --action zk_enable,zk_disable
  mana-auth audit vault tcN9rJgqZ5dXw0m2bK7hLf4sVa8yPe1u --status 403,409 --format csv > history.csv")]
    Vault(vault_audit::Arguments),
}

/// What needs the database.
#[derive(Subcommand)]
pub enum Inside {
    /// Write the events of one stream to a file, with the proof that they are all of them and as they were
    #[command(after_help = "\
The file holds the events as they are stored, personal fields sealed, up to the newest signed checkpoint. It can be
checked anywhere by `mana-auth audit verify`, without this service and its database. The vault of a person is the stream
`vault` with the id of that person.

Examples:
  mana-auth audit bundle vault tcN9rJgqZ5dXw0m2bK7hLf4sVa8yPe1u --out ada.bundle
  mana-auth audit bundle organization 3pWm0x1fY5bqkD2sVtJ8aZcRnE7uHgLo --out org.bundle --previous checkpoint")]
    Bundle(BundleArguments),
    /// Show the verifier key of the log: what checkpoints and bundles are checked with
    Key,
}

/// What needs neither the service, its database nor its settings.
#[derive(Subcommand)]
pub enum Outside {
    /// Check a bundle, without database or service, and say what it proves; exit code 1 if it proves nothing
    #[command(after_help = "\
The key is the line that `mana-auth audit key` and GET /log/key give. Take it from whom you trust, not from whoever
gave you the bundle.

Examples:
  mana-auth audit verify ada.bundle --key 'auth.example.com/log/0f8b…+5c0e1d2a+AQ…'
  mana-auth audit verify ada.bundle --key \"$(cat log.key)\" --previous checkpoint --json")]
    Verify(VerifyArguments),
    /// Look at the log from another machine: keep its newest checkpoint, and cosign it if it fits to those before
    #[command(after_help = "\
Run it every minute, where whoever can write to the database cannot write. Each run keeps and cosigns the newest
checkpoint (C2SP tlog-cosignature) in a file of its own; `verify-log --checkpoint` and `audit verify --previous` take
them. A checkpoint that does not fit to those before is never cosigned: both are kept in the file ALARM, and the exit
code is 3, now and at each later run, until that file is moved away. Exit code 1: the log could not be looked at.

Examples:
  mana-auth audit witness https://auth.example.com/log --key \"$(cat log.key)\" --keep /var/lib/witness \\
    --name witness.example.org")]
    Witness(witness::Arguments),
}

/// Arguments of `audit bundle`.
#[derive(Args)]
pub struct BundleArguments {
    /// Type of the stream, such as user, organization or vault
    #[arg(value_name = "TYPE")]
    stream_type: String,
    /// Id of the stream
    #[arg(value_name = "ID")]
    id: String,
    /// File to make; it appears, or is replaced, when it is complete
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// A checkpoint that somebody kept earlier, so that the bundle can be compared with it
    #[arg(long, value_name = "CHECKPOINT")]
    previous: Option<PathBuf>,
    /// Put every event of the log into the file, which proves that the stream has no other events
    #[arg(long)]
    full: bool,
    /// Print progress and result as lines of JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `audit verify`.
#[derive(Args)]
pub struct VerifyArguments {
    /// The bundle
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Verifier key of the log
    #[arg(long, value_name = "VKEY")]
    key: String,
    /// A checkpoint of the same log that was kept earlier
    #[arg(long, value_name = "CHECKPOINT")]
    previous: Option<PathBuf>,
    /// Refuse a bundle that does not hold every event of the log
    #[arg(long)]
    full: bool,
    /// Print what was proved as one object of JSON
    #[arg(long)]
    json: bool,
}

/// Does it.
///
/// # Errors
/// When the database fails or nothing can be proved.
pub async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    let command = match command {
        Command::Outside(command) => return outside(&command).await,
        Command::Vault(arguments) => return vault_audit::run(arguments, config).await,
        Command::Inside(command) => command,
    };
    let database = Database::find(&config).await?;
    let pool = database.pool();
    let outcome = inside(&command, &pool, &config).await;
    pool.close().await;
    database.stop().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Does what needs no settings.
///
/// # Errors
/// When nothing is proved, or the log cannot be looked at.
pub async fn outside(command: &Outside) -> anyhow::Result<ExitCode> {
    match command {
        Outside::Verify(arguments) => verify(arguments),
        Outside::Witness(arguments) => witness::run(arguments).await,
    }
}

/// The log as it is now.
///
/// # Errors
/// When the database does not answer, was never migrated, or the key does not open.
pub async fn current(pool: &PgPool, config: &Config) -> anyhow::Result<Current> {
    tools::check_migrated(pool).await?;
    let custody = Custody::new(pool.clone(), keks::ring_of(config));
    Ok(checkpoints::current(pool, &custody, config).await?)
}

async fn inside(command: &Inside, pool: &PgPool, config: &Config) -> anyhow::Result<()> {
    let now = current(pool, config).await?;
    match command {
        Inside::Key => Ok(output::line(now.signer.verifier().to_string())?),
        Inside::Bundle(arguments) => make_bundle(arguments, pool, &now).await,
    }
}

async fn make_bundle(
    arguments: &BundleArguments,
    pool: &PgPool,
    now: &Current,
) -> anyhow::Result<()> {
    let previous = arguments.previous.as_deref().map(read).transpose()?;
    let wanted = Wanted {
        stream_type: &arguments.stream_type,
        stream_id: &arguments.id,
        previous: previous.as_deref(),
        full: arguments.full,
    };
    let mut fresh = arguments.out.clone().into_os_string();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    let writing = || format!("writing {}", fresh.display());
    let file = File::create(&fresh).with_context(writing)?;
    let mut meter = Meter::new("bundle", arguments.json);
    let show = |done, total| meter.count(done, Some(total));
    let made = bundle::write(pool, now, &wanted, BufWriter::new(file), show).await;
    let proven = made.and_then(|_| {
        // Whoever gets the bundle would find out otherwise.
        let bundle = BufReader::new(File::open(&fresh).with_context(writing)?);
        let key = now.signer.verifier();
        verify::verify(bundle, &key, previous.as_deref())
            .context("the bundle does not prove what it should: run `mana-auth verify-log`")
    });
    meter.finish();
    let proven = proven.inspect_err(|_| {
        // Half a bundle is of no use to anybody.
        let _ = fs::remove_file(&fresh);
    })?;
    fs::rename(&fresh, &arguments.out).with_context(writing)?;
    if arguments.json {
        return output::json(&proven);
    }
    Ok(output::line(format!(
        "{}: {} events of {}/{}, as of checkpoint {}",
        arguments.out.display(),
        grouped(proven.events),
        proven.stream_type,
        proven.stream_id,
        grouped(proven.size)
    ))?)
}

fn verify(arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let key = Verifier::parse(&arguments.key).context("--key is not the verifier key of a log")?;
    let previous = arguments.previous.as_deref().map(read).transpose()?;
    let path = &arguments.bundle;
    let file = File::open(path).with_context(|| format!("reading {}", path.display()))?;
    let checked = verify::verify(BufReader::new(file), &key, previous.as_deref());
    let checked = checked.map_err(anyhow::Error::from).and_then(|proven| {
        ensure!(
            proven.complete || !arguments.full,
            "the bundle does not hold every event of the log"
        );
        Ok(proven)
    });
    match (checked, arguments.json) {
        (Ok(proven), true) => output::json(&json!({"proved": proven}))?,
        (Ok(proven), false) => output::line(Proven::words(&proven).trim_end())?,
        (Err(error), true) => {
            output::json(&json!({"proved": null, "refused": output::causes(&error)}))?;
            return Ok(ExitCode::FAILURE);
        }
        (Err(error), false) => return Err(error.context("nothing is proved")),
    }
    Ok(ExitCode::SUCCESS)
}

/// A small file of text.
fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))
}
