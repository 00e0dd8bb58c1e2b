//! What can be read: tables kept up to date from events, and their queries.
//!
//! A projection is a pure fold from events to row changes. The append and a rebuild use the same
//! fold, so both give the same rows. Nothing here appends events or calls a command.

pub mod changes;
pub mod sessions;
pub mod signing_keys;
pub mod users;

use aggregates::log::LogEvent;
use aggregates::session::SessionEvent;
use aggregates::signing_keys::SigningKeysEvent;
use aggregates::user::UserEvent;
pub use changes::{Changes, Row, RowChange};

/// An event of any stream, with its personal data open where its subject still has a key.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyEvent {
    /// Of a user.
    User(UserEvent),
    /// Of a session.
    Session(SessionEvent),
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

/// A read model: its table is `read.<name>`, its key column `id`.
pub struct Projection {
    /// Name of the model and its table.
    pub name: &'static str,
    /// Raised when the fold or the columns change; a rebuild brings the table to this version.
    pub version: i32,
    /// Types of the streams that it reads.
    pub streams: &'static [&'static str],
    /// Columns of the table, in the order of a row.
    pub columns: &'static [&'static str],
    /// The fold: what one event of a stream (`id`, `event`) changes.
    pub apply: fn(id: &str, event: &AnyEvent, changes: &mut Changes),
}

/// Every read model. All of them are inline: written in the transaction of the append, because
/// decisions about who may do what are made from them.
pub const ALL: &[Projection] = &[
    users::PROJECTION,
    sessions::PROJECTION,
    signing_keys::PROJECTION,
];

/// The changes of one command's events to all inline models.
pub fn changes<'a>(id: &str, events: impl IntoIterator<Item = &'a AnyEvent>) -> Changes {
    let mut changes = Changes::default();
    for event in events {
        for projection in ALL {
            (projection.apply)(id, event, &mut changes);
        }
    }
    changes
}
