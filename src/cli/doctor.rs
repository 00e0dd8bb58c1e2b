//! `doctor`: whether everything that is stored is whole and opens.

mod vaults;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::process::ExitCode;
use std::time::Duration;

use aggregates::ClaimScope;
use aggregates::claims::external_identity;
use clap::Args;
use serde::Serialize;
use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _, PgPool};
use tokio::net::TcpStream;

use super::database::Database;
use super::output::{self, Meter, grouped};
use super::tools;
use crate::config::Config;
use crate::custody::Custody;
use crate::follower;
use crate::keks;
use crate::rebuild::{self, Progress};
use crate::store::claims::{self, Claims};
use crate::store::log::{self, StoredRow};
use crate::store::{Store, checks};

/// Rows read at a time.
const PAGE: i64 = 2_000;
/// Problems listed per check; JSON lists all.
const LISTED: usize = 20;
/// The mail server has this long to accept a connection.
const SMTP_TIMEOUT: Duration = Duration::from_secs(5);
/// Positions that should be free in the log's partitions.
const ROOM: i64 = 10_000_000;

/// Arguments of `doctor`.
#[derive(Args)]
#[command(after_help = "\
Checks, as of one moment and beside a running service: the key-encryption keys are the right ones and not worn out;
every secret and every vault opens with them and is as new as the log;
every event decodes, its personal fields open, positions and streams have no holes; claims and people belong together;
the log is the one that was last seen and has room to grow; the mail server is there. The exit code is 1 if anything
fails.

Examples:
  mana-auth doctor
  mana-auth doctor --deep --json")]
pub struct Arguments {
    /// Also fold all events in memory and compare every read model row for row, and every vault
    #[arg(long)]
    deep: bool,
    /// Print progress as lines of JSON, then one object with all checks and every problem
    #[arg(long)]
    json: bool,
}

/// One check and what it found.
#[derive(Serialize)]
struct Check {
    name: String,
    checked: u64,
    problems: Vec<String>,
}

impl Check {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            checked: 0,
            problems: vec![],
        }
    }

    fn problem(&mut self, problem: impl Into<String>) {
        self.problems.push(problem.into());
    }
}

/// Checks everything.
///
/// # Errors
/// When a check cannot be made, for example because the database does not answer.
pub async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let database = Database::find(&config).await?;
    let outcome = examine(&arguments, &config, &database).await;
    database.stop().await?;
    let checks = outcome?;
    let healthy = checks.iter().all(|check| check.problems.is_empty());
    if arguments.json {
        output::json(&json!({"healthy": healthy, "checks": checks}))?;
    } else {
        for check in &checks {
            report(check)?;
        }
    }
    Ok(if healthy {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn report(check: &Check) -> std::io::Result<()> {
    let word = if check.problems.is_empty() {
        "ok"
    } else {
        "FAILED"
    };
    output::line(format!(
        "{word:6}  {}: {} checked",
        check.name,
        grouped(check.checked)
    ))?;
    for problem in check.problems.iter().take(LISTED) {
        output::line(format!("        {problem}"))?;
    }
    let more = check.problems.len().saturating_sub(LISTED);
    if more > 0 {
        output::line(format!(
            "        and {} more (--json lists all)",
            grouped(more as u64)
        ))?;
    }
    Ok(())
}

async fn examine(
    arguments: &Arguments,
    config: &Config,
    database: &Database,
) -> anyhow::Result<Vec<Check>> {
    let pool = database.pool();
    tools::check_migrated(&pool).await?;
    let custody = Custody::new(pool.clone(), keks::ring_of(config));
    let mut checks = vec![
        key_encryption_keys(&custody, &pool).await?,
        secrets(&custody, arguments.json).await?,
        continuity(config, &pool).await?,
        partitions(&pool).await?,
        mail_server(config).await,
    ];
    // Whatever is below needs the service's own secrets.
    let claims = match Claims::open(pool.clone(), &custody).await {
        Ok(claims) => claims,
        Err(error) => {
            let mut check = Check::new("events, streams and claims");
            check.problem(format!("not checked: {}", because(&error)));
            checks.push(check);
            return Ok(checks);
        }
    };
    let node = "doctor".to_owned();
    let (store, appender) = Store::start(
        pool.clone(),
        &database.service,
        custody,
        claims.clone(),
        node,
    );
    // All of it as of one moment, while the service goes on writing.
    let mut connection = connect(database).await?;
    let mut snapshot = connection.begin().await?;
    sqlx::query("set transaction isolation level repeatable read")
        .execute(&mut *snapshot)
        .await?;
    checks.push(events(&store, &mut snapshot, arguments.json).await?);
    checks.push(streams(&mut snapshot).await?);
    checks.push(addresses(&claims, &mut snapshot).await?);
    checks.push(vaults::check(&store, &mut snapshot, arguments.deep).await?);
    checks.push(followers(&mut snapshot).await?);
    snapshot.rollback().await?;
    connection.close().await?;
    if arguments.deep {
        for model in projections::ALL {
            checks.push(read_model(&store, database, model, arguments.json).await?);
        }
    }
    drop(store);
    // Nothing was queued, so it ends at once.
    let _ = appender.await;
    pool.close().await;
    Ok(checks)
}

/// A connection whose statements may take as long as they need.
async fn connect(database: &Database) -> anyhow::Result<PgConnection> {
    let options = database
        .service
        .clone()
        .application_name("mana-auth doctor");
    Ok(options
        .options([("statement_timeout", "0")])
        .connect()
        .await?)
}

/// The configured keys are those that the nodes agree on, and the active one may go on sealing (S-74).
async fn key_encryption_keys(custody: &Custody, pool: &PgPool) -> anyhow::Result<Check> {
    let mut check = Check::new("key-encryption keys are the right ones");
    let rows = keks::all(pool).await?;
    check.checked = rows.len() as u64;
    check.problems = keks::problems(&rows, &custody.ring());
    Ok(check)
}

/// Every row of custody opens with the configured keys.
async fn secrets(custody: &Custody, json: bool) -> anyhow::Result<Check> {
    let mut check = Check::new("secrets open");
    let total = custody.count().await?;
    let mut meter = Meter::new("secrets", json);
    custody
        .check_all(|outcome| {
            check.checked += 1;
            if let Err(error) = outcome {
                check.problem(because(&error));
            }
            let done = i64::try_from(check.checked).unwrap_or(total);
            meter.show(Progress { done, total });
        })
        .await?;
    meter.finish();
    Ok(check)
}

/// The log is the one whose head was last written down, or its continuation.
async fn continuity(config: &Config, pool: &PgPool) -> anyhow::Result<Check> {
    let mut check = Check::new("log continues where it was");
    match tools::continuity(config, pool).await {
        Ok(None) => {}
        Ok(Some(continuity)) => {
            check.checked = 1;
            check.problems.extend(tools::obstacle(&continuity));
        }
        Err(error) => check.problem(format!("{error:#}")),
    }
    Ok(check)
}

async fn partitions(pool: &PgPool) -> anyhow::Result<Check> {
    let mut check = Check::new("log has room to grow");
    let room = checks::room_ahead(pool).await?;
    check.checked = 1;
    if room < ROOM {
        check.problem(format!(
            "only {} positions are left in the partitions that exist; `mana-auth migrate` or the running service makes more",
            grouped(room)
        ));
    }
    Ok(check)
}

/// Somebody listens where mails are sent.
async fn mail_server(config: &Config) -> Check {
    let mut check = Check::new("mail server is there");
    let Some(smtp) = &config.smtp else {
        return check;
    };
    check.checked = 1;
    let connecting = TcpStream::connect((smtp.host.as_str(), smtp.port));
    match tokio::time::timeout(SMTP_TIMEOUT, connecting).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => check.problem(format!("{}:{}: {error}", smtp.host, smtp.port)),
        Err(_) => check.problem(format!(
            "{}:{}: no answer within {} s",
            smtp.host,
            smtp.port,
            SMTP_TIMEOUT.as_secs()
        )),
    }
    check
}

/// Every event decodes, what is sealed in it opens, and no position is missing.
async fn events(store: &Store, db: &mut PgConnection, json: bool) -> anyhow::Result<Check> {
    let mut check = Check::new("events decode and open, positions are dense");
    let total = log::head(&mut *db).await?;
    let mut meter = Meter::new("events", json);
    let mut position = 0;
    loop {
        let rows = log::after(&mut *db, position, PAGE).await?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            if row.position != position + 1 {
                check.problem(format!(
                    "positions {} to {} are missing",
                    position + 1,
                    row.position - 1
                ));
            }
            position = row.position;
        }
        check.checked += rows.len() as u64;
        check.problems.extend(broken(store, rows).await?);
        meter.show(Progress {
            done: position,
            total,
        });
    }
    meter.finish();
    Ok(check)
}

/// What is wrong with the events of a page; one by one only if something is.
async fn broken(store: &Store, rows: Vec<StoredRow>) -> anyhow::Result<Vec<String>> {
    let mut problems = vec![];
    let subjects: Vec<String> = rows.iter().flat_map(StoredRow::subjects).collect();
    let mut keys = store.custody().data_keys(&subjects).await;
    if keys.is_err() {
        // A key that does not open is a problem of its own; the others can still be used.
        let mut found = HashMap::new();
        for subject in subjects {
            if let Ok(Some(key)) = store.custody().data_key(&subject).await {
                found.insert(subject, key);
            }
        }
        keys = Ok(found);
    }
    let keys = keys?;
    if store.open_with(&rows, &keys).is_err() {
        for row in rows {
            if let Err(error) = store.open_with(&[row], &keys) {
                problems.push(error.to_string());
            }
        }
    }
    Ok(problems)
}

/// Every model that follows the log does so with all streams.
async fn followers(db: &mut PgConnection) -> anyhow::Result<Check> {
    let mut check = Check::new("read models follow the log");
    for model in follower::models() {
        check.checked += 1;
        for parked in follower::parked(&mut *db, model.name).await? {
            check.problem(format!(
                "{}: {}/{} waits since position {}: {}",
                model.name, parked.stream_type, parked.stream_id, parked.position, parked.error
            ));
        }
    }
    Ok(check)
}

/// Streams are as long as the table of streams says, without holes.
async fn streams(db: &mut PgConnection) -> anyhow::Result<Check> {
    let mut check = Check::new("streams have no holes");
    check.checked = u64::try_from(checks::streams(&mut *db).await?).unwrap_or_default();
    for stream in checks::stream_mismatches(&mut *db).await? {
        check.problem(format!(
            "{}/{}: {} events up to sequence {}, but version {} in the table of streams",
            stream.aggregate_type, stream.aggregate_id, stream.events, stream.last, stream.version
        ));
    }
    Ok(check)
}

/// Everybody holds the claim of their own address and no other, and no claim is held by nobody.
async fn addresses(claims: &Claims, db: &mut PgConnection) -> anyhow::Result<Check> {
    let mut check = Check::new("claims and people belong together");
    let mut last = String::new();
    loop {
        let people = projections::users::addresses_after(&mut *db, &last, PAGE).await?;
        let Some((id, _)) = people.last() else { break };
        last = id.clone();
        let ids: Vec<&str> = people.iter().map(|(id, _)| id.as_str()).collect();
        let mut held: HashMap<String, Vec<Vec<u8>>> = HashMap::new();
        for claim in claims::of_owners(&mut *db, ClaimScope::Email, &ids).await? {
            held.entry(claim.owner).or_default().push(claim.key_hash);
        }
        for (id, email) in &people {
            check.checked += 1;
            match held.get(id).map(Vec::as_slice) {
                None => check.problem(format!("user {id} holds no claim of their address")),
                Some([hash]) if claims.matches(ClaimScope::Email, email, hash) => {}
                Some([_]) => check.problem(format!("user {id} holds the claim of another address")),
                Some(_) => check.problem(format!("user {id} holds claims of several addresses")),
            }
        }
        ways_in(claims, db, &ids, &mut check).await?;
    }
    for &scope in ClaimScope::OF_PEOPLE {
        let mut last = vec![];
        loop {
            let page = claims::after(&mut *db, scope, &last, PAGE).await?;
            let Some(claim) = page.last() else { break };
            last = claim.key_hash.clone();
            let owners: Vec<&str> = page.iter().map(|claim| claim.owner.as_str()).collect();
            let existing = projections::users::existing(&mut *db, &owners).await?;
            let existing: HashSet<&str> = existing.iter().map(String::as_str).collect();
            for owner in owners {
                if !existing.contains(owner) {
                    check.problem(format!(
                        "user {owner} holds a claim but is not among the people"
                    ));
                }
            }
        }
    }
    Ok(check)
}

/// These people hold the claims of their passkeys and of their accounts at other providers, and no others.
async fn ways_in(
    claims: &Claims,
    db: &mut PgConnection,
    ids: &[&str],
    check: &mut Check,
) -> anyhow::Result<()> {
    let passkeys = projections::passkeys::of_people(&mut *db, ids).await?;
    let accounts = projections::accounts::of_people(&mut *db, ids)
        .await?
        .into_iter()
        .map(|(owner, provider, subject)| (owner, external_identity(&provider, &subject)))
        .collect();
    for (scope, had, what) in [
        (ClaimScope::Passkey, passkeys, "passkeys"),
        (
            ClaimScope::ExternalIdentity,
            accounts,
            "accounts at other providers",
        ),
    ] {
        let held: HashSet<(String, Vec<u8>)> = claims::of_owners(&mut *db, scope, ids)
            .await?
            .into_iter()
            .map(|claim| (claim.owner, claim.key_hash))
            .collect();
        let had: HashSet<(String, Vec<u8>)> = had
            .into_iter()
            .map(|(owner, value)| (owner, claims.hash(scope, &value).to_vec()))
            .collect();
        let wrong: BTreeSet<&String> = held.symmetric_difference(&had).map(|(id, _)| id).collect();
        for id in wrong {
            check.problem(format!(
                "user {id} does not hold the claims of their {what}"
            ));
        }
    }
    Ok(())
}

/// The live table is what the events give.
async fn read_model(
    store: &Store,
    database: &Database,
    model: &'static projections::Projection,
    json: bool,
) -> anyhow::Result<Check> {
    let mut check = Check::new(&format!("read model {} equals its events", model.name));
    let mut meter = Meter::new(model.name, json);
    let compared = rebuild::compare(store, &database.service, model, |progress| {
        meter.show(progress)
    })
    .await;
    meter.finish();
    match compared {
        Ok(compared) => {
            check.checked = compared.rows as u64;
            for id in compared.differing {
                check.problem(format!(
                    "row {id} differs; `mana-auth rebuild {}` makes it anew",
                    model.name
                ));
            }
        }
        Err(error) => check.problem(format!("cannot be compared: {error:#}")),
    }
    Ok(check)
}

/// An error with its causes on one line.
fn because(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
