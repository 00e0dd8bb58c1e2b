//! `events`: the log, as it is stored.

use std::process::ExitCode;
use std::time::Duration;

use aggregates::personal::MARKER;
use clap::Subcommand;
use serde_json::{Map, Value, json};
use sqlx::PgPool;

use super::database::Database;
use super::output;
use super::tools;
use crate::config::Config;
use crate::custody::Custody;
use crate::keks;
use crate::store::log::{self, StoredRow};

/// Events shown by `tail` when nobody says where to start.
const LAST: i64 = 20;
/// Events read at a time.
const PAGE: i64 = 1_000;
/// How often `--follow` looks for new events.
const FOLLOW_POLL: Duration = Duration::from_millis(250);

/// Commands about the log.
#[derive(Subcommand)]
pub enum Command {
    /// Show the newest events, or those after a position; personal fields stay sealed
    #[command(after_help = "\
Examples:
  mana-auth events tail --follow
  mana-auth events tail --after 0 --json > log.jsonl")]
    Tail {
        /// Start after this position instead of at the last 20 events
        #[arg(long, value_name = "POSITION")]
        after: Option<i64>,
        /// Go on showing events as they happen
        #[arg(long)]
        follow: bool,
        /// Print events as stored, one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show every event of one stream
    #[command(after_help = "\
Examples:
  mana-auth events show user tcN9rJgqZ5dXw0m2bK7hLf4sVa8yPe1u --open
  mana-auth events show signing_keys jwt")]
    Show {
        /// Type of the stream: user, session, organization, vault, signing_keys or log
        #[arg(value_name = "STREAM-TYPE")]
        stream_type: String,
        /// Id of the stream
        #[arg(value_name = "ID")]
        id: String,
        /// Open personal fields, which shows them to whoever reads this terminal
        #[arg(long)]
        open: bool,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// Does it.
///
/// # Errors
/// When the database fails or a field does not open.
pub async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Tail {
            after,
            follow,
            json,
        } => {
            let database = Database::find(&config).await?;
            let pool = database.pool();
            let interrupted = tokio::signal::ctrl_c();
            let outcome = tokio::select! {
                outcome = tail(&pool, after, follow, json) => outcome,
                // The private cluster may be ours to stop.
                _ = interrupted => Ok(()),
            };
            pool.close().await;
            database.stop().await?;
            outcome?;
        }
        Command::Show {
            stream_type,
            id,
            open,
            json,
        } => {
            let database = Database::find(&config).await?;
            let pool = database.pool();
            // No more of the service than this: looking at a log must not write to it.
            let custody = Custody::new(pool.clone(), keks::ring_of(&config));
            let keys = open.then_some(&custody);
            let outcome = show(&pool, (&stream_type, &id), keys, json).await;
            pool.close().await;
            database.stop().await?;
            outcome?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn tail(pool: &PgPool, after: Option<i64>, follow: bool, json: bool) -> anyhow::Result<()> {
    tools::check_migrated(pool).await?;
    let mut position = match after {
        Some(position) => position,
        None => (log::head(pool).await? - LAST).max(0),
    };
    loop {
        let rows = log::after(pool, position, PAGE).await?;
        let is_end = rows.is_empty();
        for row in rows {
            position = row.position;
            print(&row.parsed()?, json)?;
        }
        if !is_end {
            continue;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(FOLLOW_POLL).await;
    }
}

/// Shows a stream; personal fields are opened with the keys of `custody`, if it is given.
async fn show(
    pool: &PgPool,
    (stream_type, id): (&str, &str),
    custody: Option<&Custody>,
    json: bool,
) -> anyhow::Result<()> {
    tools::check_migrated(pool).await?;
    let rows = log::stream(pool, stream_type, id).await?;
    if rows.is_empty() {
        anyhow::bail!("there is no stream {stream_type}/{id}");
    }
    let mut keys = None;
    if let Some(custody) = custody {
        let subjects: Vec<String> = rows.iter().flat_map(StoredRow::subjects).collect();
        keys = Some(custody.data_keys(&subjects).await?);
    }
    let rows: Result<Vec<_>, _> = rows.into_iter().map(StoredRow::parsed).collect();
    let mut rows = rows?;
    // All of them before any is shown.
    for row in &mut rows {
        if let Some(keys) = &keys {
            row.unseal(keys)?;
        }
    }
    for row in &rows {
        print(row, json)?;
    }
    Ok(())
}

fn print(row: &StoredRow<Value>, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(row);
    }
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let client = match &row.metadata["client"] {
        Value::Object(client) => format!("  from {}", Value::Object(client.clone())),
        _ => String::new(),
    };
    Ok(output::line(format!(
        "{:>6}  {}  {:23} {}/{} #{}  by {}{client}  {}",
        row.position,
        row.recorded_at.format("%F %T%.3f"),
        row.event_type,
        row.aggregate_type,
        row.aggregate_id,
        row.sequence,
        text(&row.metadata["actor"]),
        facts(&row.payload)
    ))?)
}

/// The facts of an event for people: without the name that the type says already, personal fields as values or as
/// words that say why there is none.
fn facts(payload: &Value) -> Value {
    let facts = match payload {
        Value::Object(map) if map.len() == 1 => map.values().next().unwrap_or(payload),
        _ => payload,
    };
    plain(facts)
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => match map.get(MARKER) {
            Some(personal) if personal["sealed"].is_string() => json!("<sealed>"),
            Some(personal) if personal["erased"] == true => json!("<erased>"),
            Some(personal) => personal["value"].clone(),
            None => {
                let plain = map.iter().map(|(name, value)| (name.clone(), plain(value)));
                Value::Object(plain.collect::<Map<_, _>>())
            }
        },
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facts_show_personal_fields_only_when_they_are_open() {
        let payload = json!({"registered": {
            "email": {"$personal": {"subject": "u1", "key": 1, "sealed": "AAAA"}},
            "name": {"$personal": {"subject": "u1", "erased": true}},
            "image": {"$personal": {"subject": "u1", "value": "x"}},
            "role": "user",
        }});
        assert_eq!(
            facts(&payload),
            json!({"email": "<sealed>", "name": "<erased>", "image": "x", "role": "user"})
        );
    }
}
