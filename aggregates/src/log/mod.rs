//! Log: what happened to the log itself. One stream, `log`.

use chrono::{DateTime, Utc};
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

use crate::{Reading, StoredEvent};

/// Id of the one stream.
pub const LOG_ID: &str = "log";

/// The log has nothing to decide: an operator says what happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Log;

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
}

/// A fact about the log.
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
}

/// Nothing is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum LogError {}

impl DomainEvent for LogEvent {
    fn event_type(&self) -> String {
        match self {
            Self::LogRestored { .. } => "log.restored",
            Self::AuditRead { .. } => "log.audit_read",
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
        let event = match command {
            LogCommand::AcceptRestore {
                epoch,
                lost_from,
                lost_to,
                at,
            } => LogEvent::LogRestored {
                epoch,
                lost_from,
                lost_to,
                at,
            },
            LogCommand::ReadAudit { reading, at } => LogEvent::AuditRead { reading, at },
        };
        sink.write(event, self).await;
        Ok(())
    }

    fn apply(&mut self, _: LogEvent) {}
}

#[cfg(test)]
mod tests {
    use cqrs_es::test::TestFramework;

    use super::*;
    use crate::ReadLog;

    #[test]
    fn an_operator_who_reads_is_a_fact() {
        let (of, at) = (ReadLog::Vaults, DateTime::UNIX_EPOCH);
        let reading = || Reading {
            of: of.clone(),
            filters: vec![],
        };
        let command = LogCommand::ReadAudit {
            reading: reading(),
            at,
        };
        let event = LogEvent::AuditRead {
            reading: reading(),
            at,
        };
        TestFramework::<Log>::with(())
            .given_no_previous_events()
            .when(command)
            .then_expect_events(vec![event]);
    }
}
