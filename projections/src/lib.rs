//! What can be read: tables kept up to date from events, and their queries.
//!
//! A projection is a pure fold from events to row changes. The append and a rebuild use the same
//! fold, so both give the same rows. Nothing here appends events or calls a command.

pub mod accounts;
pub mod api_keys;
pub mod changes;
pub mod devices;
pub mod erasures;
pub mod invitations;
pub mod members;
pub mod organization_roles;
pub mod organizations;
pub mod passkeys;
pub mod security_events;
pub mod sessions;
pub mod signing_keys;
pub mod team_members;
pub mod teams;
pub mod users;
pub mod vault_audit;

use std::fmt;

use aggregates::log::LogEvent;
use aggregates::organization::OrganizationEvent;
use aggregates::session::SessionEvent;
use aggregates::signing_keys::SigningKeysEvent;
use aggregates::user::UserEvent;
use aggregates::vault::VaultEvent;
use serde::{Deserialize, Serialize};
use sqlx::types::Uuid;

pub use changes::{Changes, OwnedDelete, Row, RowChange};

/// An event of any stream, with its personal data open where its subject still has a key.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyEvent {
    /// Of a user.
    User(UserEvent),
    /// Of a session.
    Session(SessionEvent),
    /// Of an organization.
    Organization(OrganizationEvent),
    /// Of a vault.
    Vault(VaultEvent),
    /// Of the signing keys.
    SigningKeys(SigningKeysEvent),
    /// Of the log itself.
    Log(LogEvent),
}

impl From<UserEvent> for AnyEvent {
    fn from(event: UserEvent) -> Self {
        Self::User(event)
    }
}

impl From<SessionEvent> for AnyEvent {
    fn from(event: SessionEvent) -> Self {
        Self::Session(event)
    }
}

impl From<OrganizationEvent> for AnyEvent {
    fn from(event: OrganizationEvent) -> Self {
        Self::Organization(event)
    }
}

impl From<VaultEvent> for AnyEvent {
    fn from(event: VaultEvent) -> Self {
        Self::Vault(event)
    }
}

impl From<SigningKeysEvent> for AnyEvent {
    fn from(event: SigningKeysEvent) -> Self {
        Self::SigningKeys(event)
    }
}

impl From<LogEvent> for AnyEvent {
    fn from(event: LogEvent) -> Self {
        Self::Log(event)
    }
}

/// Where a request came from. Personal data: sealed in metadata, never logged.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Address, empty if unknown.
    pub ip_address: String,
    /// `User-Agent`, empty if unknown.
    pub user_agent: String,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Client(***)")
    }
}

/// An event in its place, as a fold sees it.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'a> {
    /// Id of the stream.
    pub stream_id: &'a str,
    /// Id of the event.
    pub event_id: Uuid,
    /// Who caused it from where, if that was recorded and its subject was not erased.
    pub client: Option<&'a Client>,
    /// Its place in the log. What is written with the event itself does not know it yet.
    pub logged: Option<Logged<'a>>,
    /// What happened.
    pub event: &'a AnyEvent,
}

/// The place of an event in the log, and what it was a part of.
#[derive(Clone, Copy, Debug)]
pub struct Logged<'a> {
    /// Dense from 1.
    pub position: i64,
    /// In which session it was caused.
    pub session_id: Option<&'a str>,
    /// By which request.
    pub request_id: Option<&'a str>,
}

/// When the rows of a model are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In the transaction of the append: decisions are made from them.
    Inline,
    /// After it, by whichever node follows the log. Only whole rows are put or deleted.
    Async,
}

/// A read model: its table is `read.<name>`, its key column `id`.
pub struct Projection {
    /// Name of the model and its table.
    pub name: &'static str,
    /// Raised when the fold or the columns change; a rebuild brings the table to this version.
    pub version: i32,
    /// When its rows are written.
    pub kind: Kind,
    /// Types of the streams that it reads.
    pub streams: &'static [&'static str],
    /// Columns of the table, in the order of a row.
    pub columns: &'static [&'static str],
    /// The column that says whose a row is, where rows end together.
    pub owner: Option<&'static str>,
    /// Whether the fold reads metadata: `Recorded::client`, and what stands in `Recorded::logged`.
    pub reads_client: bool,
    /// The fold: what one event changes.
    pub apply: fn(recorded: Recorded<'_>, changes: &mut Changes),
}

/// Every read model.
pub const ALL: &[Projection] = &[
    users::PROJECTION,
    sessions::PROJECTION,
    signing_keys::PROJECTION,
    security_events::PROJECTION,
    devices::PROJECTION,
    erasures::PROJECTION,
    accounts::PROJECTION,
    passkeys::PROJECTION,
    api_keys::PROJECTION,
    organizations::PROJECTION,
    members::PROJECTION,
    invitations::PROJECTION,
    organization_roles::PROJECTION,
    teams::PROJECTION,
    team_members::PROJECTION,
    vault_audit::PROJECTION,
];

/// Whose a row of a model is, where rows of one owner end together.
pub fn owner_of<'a>(model: &str, row: &'a Row) -> Option<&'a str> {
    let projection = ALL.iter().find(|projection| projection.name == model)?;
    row.get(projection.owner?)?.as_str()
}

/// Whether a model of a kind reads streams of a type.
pub fn any_reads(stream_type: &str, kind: Kind) -> bool {
    ALL.iter()
        .any(|model| model.kind == kind && model.streams.contains(&stream_type))
}

/// The changes of one command's events to all inline models.
pub fn changes<'a>(events: impl IntoIterator<Item = Recorded<'a>>) -> Changes {
    let mut changes = Changes::default();
    for recorded in events {
        for projection in ALL.iter().filter(|model| model.kind == Kind::Inline) {
            (projection.apply)(recorded, &mut changes);
        }
    }
    changes
}

/// The row changes of events of one stream that nobody's client caused, for tests of folds.
#[cfg(test)]
fn rows_of(model: &str, stream_id: &str, events: &[AnyEvent]) -> Vec<(String, RowChange)> {
    let recorded = events.iter().map(|event| Recorded {
        stream_id,
        event_id: Uuid::nil(),
        client: None,
        logged: None,
        event,
    });
    changes(recorded)
        .into_rows()
        .filter(|(name, ..)| *name == model)
        .map(|(_, key, change)| (key, change))
        .collect()
}
