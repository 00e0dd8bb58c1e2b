//! `audit vault`: the history of one vault.

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use aggregates::{ReadLog, Reading, UserId};
use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use projections::vault_audit::AuditRow;
use projections::vault_audit::page::Asked;

use super::output::{self, Meter, grouped};
use super::tools::Tools;
use super::user;
use crate::app::App;
use crate::config::Config;
use crate::follower::{self, Follower, Step};
use crate::readings;
use crate::store::log;
use crate::vault_audit::{self, At, CsvLines, Line};

/// Rows read at a time.
const PAGE: i64 = 1_000;

/// Arguments of `audit vault`.
#[derive(Args)]
pub struct Arguments {
    /// Mail address or id of the account
    #[arg(value_name = "USER")]
    user: String,
    /// Not before this ISO 8601 time
    #[arg(long, value_name = "TIME", value_parser = time)]
    from: Option<DateTime<Utc>>,
    /// Before this ISO 8601 time
    #[arg(long, value_name = "TIME", value_parser = time)]
    to: Option<DateTime<Utc>>,
    /// As it was at this position of the log, or at this ISO 8601 time
    #[arg(long, value_name = "POSITION|TIME", value_parser = at)]
    at: Option<At>,
    /// Only these actions, between commas
    #[arg(long, value_name = "ACTIONS", value_parser = actions)]
    action: Option<Named<String>>,
    /// Only these statuses, between commas
    #[arg(long, value_name = "STATUSES", value_parser = statuses)]
    status: Option<Named<i32>>,
    /// How it is printed
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

/// Several values of one option.
#[derive(Clone)]
struct Named<T>(Vec<T>);

#[derive(Clone, Copy, Default, ValueEnum)]
enum Format {
    /// For people
    #[default]
    Table,
    /// One object a line
    Json,
    /// With a header row
    Csv,
}

fn time(text: &str) -> Result<DateTime<Utc>, &'static str> {
    vault_audit::time(text).ok_or("expected a time like 2026-11-26T12:00:00Z")
}

fn at(text: &str) -> Result<At, &'static str> {
    At::parse(text).ok_or("expected a position or a time like 2026-11-26T12:00:00Z")
}

fn actions(text: &str) -> Result<Named<String>, String> {
    let known = || {
        format!(
            "expected some of: {}",
            aggregates::vault::ACTIONS.join(", ")
        )
    };
    vault_audit::actions(text).map(Named).ok_or_else(known)
}

fn statuses(text: &str) -> Result<Named<i32>, &'static str> {
    vault_audit::statuses(text)
        .map(Named)
        .ok_or("expected numbers like 200,404")
}

/// Does it.
///
/// # Errors
/// When there is no such history, or it cannot be read or written down that it is.
pub async fn run(arguments: Arguments, config: Config) -> anyhow::Result<ExitCode> {
    let tools = Tools::open(config).await?;
    let outcome = show(&tools.app, arguments).await;
    tools.close().await?;
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn show(app: &App, arguments: Arguments) -> anyhow::Result<()> {
    let who = &arguments.user;
    let id = match user::look_up(app, who).await? {
        Some(user) => user.id,
        None => who.clone(),
    };
    ensure!(
        vault_audit::is_known(app, &id).await?,
        "there is no account {who}, and no history of one"
    );
    let owner = UserId::new(&id);
    readings::of_operator(app, arguments.reading(owner.clone()))
        .await
        .context("writing down that the history is read")?;
    let known = known_position(app).await?;
    let until = vault_audit::until(app, arguments.at, known).await?;
    let format = arguments.format;
    let mut out = Out::new(format)?;
    let mut meter = (!io::stdout().is_terminal()).then(|| Meter::new("audit vault", false));
    let mut asked = arguments.asked(id);
    let (mut rows, mut incomplete) = (0, false);
    loop {
        let page = vault_audit::read(app, asked.clone(), until).await?;
        for row in &page.rows {
            out.put(row)?;
            rows += 1;
        }
        incomplete |= page.incomplete;
        if let Some(meter) = &mut meter {
            meter.count(rows, None);
        }
        if page.next.is_none() {
            break;
        }
        asked.beyond = page.next;
    }
    if let Some(meter) = meter {
        meter.finish();
    }
    out.finish()?;
    if let Format::Table = format {
        let vault = vault_audit::as_of(app, &owner, until).await?;
        output::line(format!(
            "{} rows; the vault was {} after {} events, as of position {}.",
            grouped(rows),
            vault.state,
            grouped(vault.events),
            grouped(vault.position)
        ))?;
    }
    ensure!(
        !incomplete,
        "rows are missing, as an event of this vault cannot be read; mana-auth doctor names it"
    );
    Ok(())
}

impl Arguments {
    fn asked(self, user_id: String) -> Asked {
        Asked {
            user_id: Some(user_id),
            actions: self
                .action
                .map(|Named(actions)| actions)
                .unwrap_or_default(),
            statuses: self
                .status
                .map(|Named(statuses)| statuses)
                .unwrap_or_default(),
            from: self.from,
            to: self.to,
            oldest_first: true,
            limit: PAGE,
            ..Asked::default()
        }
    }

    fn reading(&self, owner: UserId) -> Reading {
        let given = [
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("at", self.at.is_some()),
            ("action", self.action.is_some()),
            ("status", self.status.is_some()),
        ];
        let given = given.into_iter().filter(|(_, given)| *given);
        Reading {
            of: ReadLog::Vault { owner },
            filters: given.map(|(name, _)| name.to_owned()).collect(),
        }
    }
}

/// Where rows are printed.
enum Out {
    Table,
    Json,
    Csv(Box<CsvLines<io::Stdout>>),
}

impl Out {
    fn new(format: Format) -> io::Result<Self> {
        Ok(match format {
            Format::Table => Self::Table,
            Format::Json => Self::Json,
            Format::Csv => Self::Csv(Box::new(CsvLines::new(io::stdout())?)),
        })
    }

    fn put(&mut self, row: &AuditRow) -> anyhow::Result<()> {
        match self {
            Self::Table => Ok(output::line(words(row))?),
            Self::Json => output::json(&Line::from(row)),
            Self::Csv(lines) => Ok(lines.put(&row.into())?),
        }
    }

    fn finish(self) -> io::Result<()> {
        match self {
            Self::Table | Self::Json => Ok(()),
            Self::Csv(lines) => lines.finish().map(|_| ()),
        }
    }
}

fn words(row: &AuditRow) -> String {
    let text = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
    format!(
        "{:>6}  {}  {:16} {}  {:20} {}  {}",
        row.position,
        row.created_at.format("%F %T UTC"),
        row.action,
        row.status,
        text(&row.context),
        text(&row.ip_address),
        // A client may send anything: control characters would reach the terminal.
        text(&row.user_agent).escape_debug()
    )
}

/// Position up to which the rows go; that of the log's end. Where no service runs, nobody has followed the log so far.
async fn known_position(app: &App) -> anyhow::Result<i64> {
    let head = log::head(&app.pool).await?;
    let follower = Follower::new(app);
    loop {
        match follower.step(vault_audit::MODEL).await? {
            Step::Behind(_) => {}
            Step::UpToDate(position) => return Ok(position),
            Step::Standby => break,
        }
    }
    Ok(follower::wait_for(&app.pool, vault_audit::MODEL.name, head).await?)
}
