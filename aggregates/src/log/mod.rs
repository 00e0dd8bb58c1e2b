//! Log: what operators did to the log, and to the keys that keep what belongs to it. One stream, `log`.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

use crate::{Reading, StoredEvent};

/// Id of the one stream.
pub const LOG_ID: &str = "log";

/// What was said of key-encryption keys. The rest is not decided here: an operator says what happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log {
    active: Option<String>,
    retired: BTreeSet<String>,
}

/// What can be asked of the log.
#[derive(Clone)]
pub enum LogCommand {
    /// Accept that the database came back from a backup.
    AcceptRestore {
        /// The epoch that begins.
        epoch: String,
        /// First position that was lost.
        lost_from: i64,
        /// Last position that was known to exist before.
        lost_to: i64,
        /// When.
        at: DateTime<Utc>,
    },
    /// Write down that an operator reads what is written down about people.
    ReadAudit {
        /// What they read.
        reading: Reading,
        /// When.
        at: DateTime<Utc>,
    },
    /// Another key-encryption key wraps.
    ActivateKek {
        /// Its id.
        kek_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// Secrets were wrapped anew.
    NoteRewrap {
        /// By which key-encryption key.
        kek_id: String,
        /// How many secrets.
        secrets: u64,
        /// How many keys of vaults.
        vaults: u64,
        /// How many did not open.
        failed: u64,
        /// When.
        at: DateTime<Utc>,
    },
    /// A key-encryption key opens nothing any more.
    RetireKek {
        /// Its id.
        kek_id: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// A fact about the log or its keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogEvent {
    /// The database came back from a backup: positions from `lost_from` to `lost_to` of the epoch
    /// before are gone and are given out again in this one.
    LogRestored {
        /// The epoch that begins.
        epoch: String,
        /// First position that was lost.
        lost_from: i64,
        /// Last position that was known to exist before.
        lost_to: i64,
        /// When.
        at: DateTime<Utc>,
    },
    /// An operator asked for what is written down about people, at the command line: one event for each command,
    /// before it was answered.
    AuditRead {
        /// What they asked for.
        reading: Reading,
        /// When.
        at: DateTime<Utc>,
    },
    /// From here on this key-encryption key wraps; nodes follow within seconds.
    KekActivated {
        /// Its id.
        kek_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// A run has wrapped everything by this key-encryption key that another one wrapped, but for what does not open. A
    /// run that is killed leaves no event; what it did is not counted by the next.
    KekRewrapped {
        /// The key that wraps it now.
        kek_id: String,
        /// How many secrets were wrapped anew.
        secrets: u64,
        /// How many keys of vaults were.
        vaults: u64,
        /// How many did not open.
        failed: u64,
        /// When.
        at: DateTime<Utc>,
    },
    /// Nothing was wrapped by this key-encryption key any more, and nothing is opened by it from here on. Backups of
    /// before still need it.
    KekRetired {
        /// Its id.
        kek_id: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Nothing is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum LogError {}

impl DomainEvent for LogEvent {
    fn event_type(&self) -> String {
        match self {
            Self::LogRestored { .. } => "log.restored",
            Self::AuditRead { .. } => "log.audit_read",
            Self::KekActivated { .. } => "log.kek_activated",
            Self::KekRewrapped { .. } => "log.kek_rewrapped",
            Self::KekRetired { .. } => "log.kek_retired",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for LogEvent {}

impl Aggregate for Log {
    const TYPE: &'static str = "log";
    type Command = LogCommand;
    type Event = LogEvent;
    type Error = LogError;
    type Services = ();

    async fn handle(
        &mut self,
        command: LogCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), LogError> {
        if let Some(event) = self.follows(command) {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: LogEvent) {
        match event {
            LogEvent::LogRestored { .. }
            | LogEvent::AuditRead { .. }
            | LogEvent::KekRewrapped { .. } => {}
            LogEvent::KekActivated { kek_id, .. } => {
                self.active = Some(kek_id);
            }
            LogEvent::KekRetired { kek_id, .. } => {
                self.retired.insert(kek_id);
            }
        }
    }
}

impl Log {
    /// What was not so already.
    fn follows(&self, command: LogCommand) -> Option<LogEvent> {
        match command {
            LogCommand::AcceptRestore {
                epoch,
                lost_from,
                lost_to,
                at,
            } => Some(LogEvent::LogRestored {
                epoch,
                lost_from,
                lost_to,
                at,
            }),
            LogCommand::ReadAudit { reading, at } => Some(LogEvent::AuditRead { reading, at }),
            LogCommand::ActivateKek { kek_id, at } => (self.active.as_ref() != Some(&kek_id))
                .then_some(LogEvent::KekActivated { kek_id, at }),
            LogCommand::NoteRewrap {
                secrets: 0,
                vaults: 0,
                failed: 0,
                ..
            } => None,
            LogCommand::NoteRewrap {
                kek_id,
                secrets,
                vaults,
                failed,
                at,
            } => Some(LogEvent::KekRewrapped {
                kek_id,
                secrets,
                vaults,
                failed,
                at,
            }),
            LogCommand::RetireKek { kek_id, at } => {
                (!self.retired.contains(&kek_id)).then_some(LogEvent::KekRetired { kek_id, at })
            }
        }
    }
}
