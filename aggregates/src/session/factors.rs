//! Which factors the person has shown in a session, and when: what may be asked for once more (S-60).

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{SessionEvent, SignInMethod};

/// A factor that was shown this lately is not worth an event once more: whoever shows it again and again would make the
/// log grow.
const WORTH_AN_EVENT: TimeDelta = TimeDelta::minutes(1);

/// What somebody shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Factor {
    /// What a sign-in begins with.
    First,
    /// What is asked for besides.
    Second,
}

/// When each factor was shown last; absent if it never was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactorTimes {
    /// Of the first one.
    pub first: Option<DateTime<Utc>>,
    /// Of the second one.
    pub second: Option<DateTime<Utc>>,
}

impl FactorTimes {
    /// What the beginning of a session shows.
    pub fn at_start(method: SignInMethod, second_factor: bool, at: DateTime<Utc>) -> Self {
        let shows = method.shows_factors();
        Self {
            first: shows.then_some(at),
            second: (shows && second_factor).then_some(at),
        }
    }

    /// Notes that a factor was shown.
    pub fn note(&mut self, factor: Factor, at: DateTime<Utc>) {
        match factor {
            Factor::First => self.first = Some(at),
            Factor::Second => self.second = Some(at),
        }
    }

    /// The events that say of another session what was shown here.
    pub(super) fn events(self) -> impl Iterator<Item = SessionEvent> {
        let shown = |factor| move |at| SessionEvent::FactorShown { factor, at };
        let first = self.first.map(shown(Factor::First));
        first
            .into_iter()
            .chain(self.second.map(shown(Factor::Second)))
    }

    pub(super) fn is_news(self, factor: Factor, at: DateTime<Utc>) -> bool {
        let last = match factor {
            Factor::First => self.first,
            Factor::Second => self.second,
        };
        last.is_none_or(|last| at - last >= WORTH_AN_EVENT)
    }
}

impl SignInMethod {
    /// Whether the session begins with factors of the person: an admin who acts as them has none of theirs, and what
    /// takes the place of another session has what was shown there.
    fn shows_factors(self) -> bool {
        match self {
            Self::Password
            | Self::SignUp
            | Self::EmailLink
            | Self::MagicLink
            | Self::Passkey
            | Self::Social => true,
            Self::Session | Self::Impersonation => false,
        }
    }
}
