//! Session: from a proof of identity to its end. One stream each, so that devices never conflict.

mod commands;
mod events;
mod factors;
#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

pub use commands::SessionCommand;
pub use events::{EndReason, SessionEvent, SignInMethod};
pub use factors::{Factor, FactorTimes};

use crate::{Personal, UserId};

/// A session in its stages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Session {
    /// Not begun.
    #[default]
    Absent,
    /// Its token is good until `expires_at`.
    Live {
        /// Whose.
        user_id: UserId,
        /// When it ends by itself.
        expires_at: DateTime<Utc>,
        /// The organization that it works for, and the team.
        active: (Option<String>, Option<String>),
        /// When the person showed what.
        shown: FactorTimes,
    },
    /// Over for good.
    Ended,
}

/// Why a command on a session is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SessionError {
    /// The id is in use.
    #[error("the session has been started already")]
    AlreadyStarted,
    /// It ended, expired, or never was.
    #[error("the session is not live")]
    NotLive,
}

/// An extension by less than this is not worth an event: parallel requests ask for the same one.
const LEAST_EXTENSION: TimeDelta = TimeDelta::minutes(1);

impl Session {
    /// Says which events follow from `command`, or why it is refused.
    ///
    /// # Errors
    /// The reason, if the command is refused. A request that is already true yields no events.
    pub fn decide(&self, command: SessionCommand) -> Result<Vec<SessionEvent>, SessionError> {
        match command {
            SessionCommand::Start {
                user_id,
                token_hash,
                method,
                second_factor,
                impersonated_by,
                reason,
                carried,
                remembered,
                ip_address,
                user_agent,
                expires_at,
                at,
            } => {
                if *self != Self::Absent {
                    return Err(SessionError::AlreadyStarted);
                }
                let ip_address = Personal::about(user_id.as_str(), ip_address);
                let user_agent = Personal::about(user_id.as_str(), user_agent);
                let reason = reason.map(|reason| Personal::about(user_id.as_str(), reason));
                let started = SessionEvent::Started {
                    user_id,
                    token_hash,
                    method,
                    second_factor,
                    impersonated_by,
                    reason,
                    remembered,
                    ip_address,
                    user_agent,
                    expires_at,
                    at,
                };
                Ok([started].into_iter().chain(carried.events()).collect())
            }
            SessionCommand::ShowFactor { factor, at } => self.show_factor(factor, at),
            SessionCommand::Extend { expires_at, at } => self.extend(expires_at, at),
            SessionCommand::SetActive {
                organization_id,
                team_id,
                at,
            } => self.set_active(organization_id, team_id, at),
            SessionCommand::End { reason, at } => match self {
                Self::Absent => Err(SessionError::NotLive),
                Self::Live { user_id, .. } => Ok(vec![SessionEvent::Ended {
                    user_id: Some(user_id.clone()),
                    reason,
                    at,
                }]),
                Self::Ended => Ok(vec![]),
            },
        }
    }

    fn extend(
        &self,
        until: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<Vec<SessionEvent>, SessionError> {
        match self {
            Self::Live { expires_at, .. } if *expires_at > at => {
                let worth_it = until - *expires_at >= LEAST_EXTENSION;
                Ok(worth_it
                    .then_some(SessionEvent::Extended {
                        expires_at: until,
                        at,
                    })
                    .into_iter()
                    .collect())
            }
            Self::Absent | Self::Live { .. } | Self::Ended => Err(SessionError::NotLive),
        }
    }

    fn show_factor(
        &self,
        factor: Factor,
        at: DateTime<Utc>,
    ) -> Result<Vec<SessionEvent>, SessionError> {
        match self {
            Self::Live {
                expires_at, shown, ..
            } if *expires_at > at => {
                let is_news = shown.is_news(factor, at);
                let event = is_news.then_some(SessionEvent::FactorShown { factor, at });
                Ok(event.into_iter().collect())
            }
            Self::Absent | Self::Live { .. } | Self::Ended => Err(SessionError::NotLive),
        }
    }

    fn set_active(
        &self,
        organization_id: Option<String>,
        team_id: Option<String>,
        at: DateTime<Utc>,
    ) -> Result<Vec<SessionEvent>, SessionError> {
        match self {
            Self::Live {
                expires_at, active, ..
            } if *expires_at > at => {
                if (&active.0, &active.1) == (&organization_id, &team_id) {
                    return Ok(vec![]);
                }
                Ok(vec![SessionEvent::OrganizationActivated {
                    organization_id,
                    team_id,
                    at,
                }])
            }
            Self::Absent | Self::Live { .. } | Self::Ended => Err(SessionError::NotLive),
        }
    }
}

impl Aggregate for Session {
    const TYPE: &'static str = "session";
    type Command = SessionCommand;
    type Event = SessionEvent;
    type Error = SessionError;
    type Services = ();

    async fn handle(
        &mut self,
        command: SessionCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SessionError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: SessionEvent) {
        match (&mut *self, event) {
            (
                _,
                SessionEvent::Started {
                    user_id,
                    method,
                    second_factor,
                    expires_at,
                    at,
                    ..
                },
            ) => {
                *self = Self::Live {
                    user_id,
                    expires_at,
                    active: (None, None),
                    shown: FactorTimes::at_start(method, second_factor, at),
                };
            }
            (
                Self::Live { expires_at, .. },
                SessionEvent::Extended {
                    expires_at: until, ..
                },
            ) => {
                *expires_at = until;
            }
            (
                Self::Live { active, .. },
                SessionEvent::OrganizationActivated {
                    organization_id,
                    team_id,
                    ..
                },
            ) => *active = (organization_id, team_id),
            (Self::Live { shown, .. }, SessionEvent::FactorShown { factor, at }) => {
                shown.note(factor, at);
            }
            (
                Self::Absent | Self::Ended,
                SessionEvent::Extended { .. }
                | SessionEvent::OrganizationActivated { .. }
                | SessionEvent::FactorShown { .. },
            ) => {}
            (_, SessionEvent::Ended { .. }) => *self = Self::Ended,
        }
    }
}
