//! Reading the audit log of the vaults: what may be asked for, as of when, and in which form it is given. Whoever reads
//! others' history is written down first, by the callers (`readings`).

mod csv;

use std::net::IpAddr;

use aggregates::UserId;
use aggregates::vault::{ACTIONS, Vault, VaultEvent};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate as _;
use projections::vault_audit::AuditRow;
use projections::vault_audit::page::{self, Asked};
use projections::{AnyEvent, Projection};
use serde::Serialize;

use crate::app::App;
use crate::follower;
use crate::http::shapes::iso;
use crate::store::{StoreError, log};

pub use csv::CsvLines;

/// The read model.
pub const MODEL: &Projection = &projections::vault_audit::PROJECTION;
/// A search that takes longer is given up, in milliseconds: it would hold a connection.
const SEARCH_MAX_MS: u32 = 5_000;

/// The moment as of which the log is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// A position of the log of events.
    Position(i64),
    /// A time.
    Time(DateTime<Utc>),
}

impl At {
    /// From a position from 1 on, or an ISO 8601 time.
    pub fn parse(text: &str) -> Option<Self> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let position = text.parse().ok().filter(|position| *position > 0);
            return position.map(Self::Position);
        }
        time(text).map(Self::Time)
    }
}

/// An ISO 8601 time with its offset.
pub fn time(text: &str) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc3339(text).ok()?.to_utc())
}

/// Actions of the audit log, between commas.
pub fn actions(text: &str) -> Option<Vec<String>> {
    let known = |action: &str| ACTIONS.contains(&action).then(|| action.to_owned());
    text.split(',').map(known).collect()
}

/// Statuses of the audit log, between commas.
pub fn statuses(text: &str) -> Option<Vec<i32>> {
    let known = |status: &str| {
        let status = status.parse().ok();
        status.filter(|status| (100..600).contains(status))
    };
    text.split(',').map(known).collect()
}

/// An address, written as the log has it.
pub fn address(text: &str) -> Option<String> {
    let address: IpAddr = text.parse().ok()?;
    Some(address.to_canonical().to_string())
}

/// A line of the audit log, as it is given out.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Line<'a> {
    id: &'a str,
    position: i64,
    user_id: &'a str,
    action: &'a str,
    status: i32,
    context: Option<&'a str>,
    ip_address: Option<&'a str>,
    user_agent: Option<&'a str>,
    session_id: Option<&'a str>,
    request_id: Option<&'a str>,
    created_at: String,
}

impl<'a> From<&'a AuditRow> for Line<'a> {
    fn from(row: &'a AuditRow) -> Self {
        Self {
            id: &row.id,
            position: row.position,
            user_id: &row.user_id,
            action: &row.action,
            status: row.status,
            context: row.context.as_deref(),
            ip_address: row.ip_address.as_deref(),
            user_agent: row.user_agent.as_deref(),
            session_id: row.session_id.as_deref(),
            request_id: row.request_id.as_deref(),
            created_at: iso(row.created_at),
        }
    }
}

/// A vault as it was.
#[derive(Serialize)]
pub struct AsOf {
    /// In which mode.
    pub state: &'static str,
    /// How many events it had.
    pub events: i64,
    /// At which position of the log.
    pub position: i64,
}

/// A page of the audit log.
pub struct Page {
    /// The rows.
    pub rows: Vec<AuditRow>,
    /// Position of the last one, if there are more.
    pub next: Option<i64>,
    /// How far the rows can reach: the position as of which the log is read.
    pub until: i64,
    /// Whether rows are missing, because an event of the vault, or of any, cannot be read.
    pub incomplete: bool,
}

/// The position as of which the log is read, where `known` is the last position that the model has.
///
/// # Errors
/// When the database does not answer.
pub async fn until(app: &App, at: Option<At>, known: i64) -> Result<i64, sqlx::Error> {
    let until = match at {
        None => known,
        Some(At::Position(position)) => position,
        Some(At::Time(at)) => page::position_at(&app.pool, at, known).await?,
    };
    Ok(until.min(known))
}

/// Reads a page.
///
/// # Errors
/// When the database does not answer, or the search takes too long.
pub async fn read(app: &App, mut asked: Asked, until: i64) -> Result<Page, sqlx::Error> {
    let limit = usize::try_from(asked.limit).unwrap_or(0);
    let (model, owner) = (MODEL.name, asked.user_id.as_deref());
    // Before the rows: a vault that goes on meanwhile is then called incomplete once too often, not once too seldom.
    let incomplete = follower::is_incomplete(&app.pool, model, owner, until).await?;
    // One more tells whether there are more.
    asked.limit += 1;
    let mut rows = page::page(&app.pool, &asked, until, SEARCH_MAX_MS).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|row| row.position);
    Ok(Page {
        rows,
        next,
        until,
        incomplete,
    })
}

/// Whether a text may be an id of a person.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// Whether anything is known of somebody: an account, or what is left of one that was erased.
///
/// # Errors
/// When the database does not answer.
pub async fn is_known(app: &App, user_id: &str) -> Result<bool, sqlx::Error> {
    if !is_id(user_id) {
        return Ok(false);
    }
    let user = projections::users::find(&app.pool, user_id).await?;
    Ok(user.is_some() || page::has_rows(&app.pool, user_id).await?)
}

/// A vault as it was at a position, from its events alone.
///
/// # Errors
/// When the log cannot be read.
pub async fn as_of(app: &App, owner: &UserId, position: i64) -> Result<AsOf, StoreError> {
    let stream = (Vault::TYPE, owner.as_str());
    let events = log::last_sequence_in_stream(&app.pool, stream, position).await?;
    let types = &VaultEvent::CHANGING;
    let changes = log::of_types_in_stream(&app.pool, stream, types, position).await?;
    let mut vault = Vault::default();
    // Nothing personal changes a mode, so no key is needed.
    for opened in app.store.open_with(&changes, &Default::default())? {
        if let AnyEvent::Vault(event) = opened.event {
            vault.apply(event);
        }
    }
    Ok(AsOf {
        state: vault.as_str(),
        events,
        position,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_asked_for_is_read_or_refused() {
        assert_eq!(At::parse("17"), Some(At::Position(17)));
        let at = time("2026-11-26T01:00:00+01:00").unwrap();
        assert_eq!(at, time("2026-11-26T00:00:00Z").unwrap());
        assert_eq!(At::parse("2026-11-26T00:00:00Z"), Some(At::Time(at)));
        for text in [
            "",
            "0",
            "-1",
            "+1",
            "99999999999999999999",
            "yesterday",
            "2026-11-26",
        ] {
            assert_eq!(At::parse(text), None, "{text}");
        }
        assert_eq!(actions("init,zk_enable").unwrap(), ["init", "zk_enable"]);
        for text in ["", "init,", "INIT", "init;fetch"] {
            assert_eq!(actions(text), None, "{text}");
        }
        assert_eq!(statuses("200,404").unwrap(), [200, 404]);
        for text in ["", "99", "600", "200,", "ok"] {
            assert_eq!(statuses(text), None, "{text}");
        }
        assert_eq!(address("2001:DB8::0:1").unwrap(), "2001:db8::1");
        assert_eq!(address("::ffff:192.0.2.1").unwrap(), "192.0.2.1");
        for text in ["", "192.0.2", "example.com", "192.0.2.1\0"] {
            assert_eq!(address(text), None, "{text}");
        }
    }
}
