//! A session is absent, live until some time, or over.

use aggregates::UserId;
use aggregates::session::{
    EndReason, Factor, FactorTimes, Session, SessionCommand, SessionError, SessionEvent,
    SignInMethod,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{LENGTH, Outcome, Seen, Stream, assert_agree, for_all, minute};

/// A request, and how many minutes after the one before it comes.
#[derive(Clone, Copy, Debug)]
struct Request {
    after: i64,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// Lasting so many minutes.
    Start(i64, Entry),
    /// To so many minutes from now.
    Extend(i64),
    /// For an organization and a team.
    Activate(Active),
    Show(Factor),
    End(EndReason),
}

/// How a session begins.
#[derive(Clone, Copy, Debug)]
enum Entry {
    /// The person shows who they are; with a second factor or without.
    Shown(bool),
    /// An admin acts as them, and shows none of their factors.
    ActedAs,
    /// It takes the place of one in which they were shown so many minutes ago.
    InPlace(Times),
}

/// Of the first factor and the second.
type Times = [Option<i64>; 2];

type Active = (Option<&'static str>, Option<&'static str>);

/// What is known without events: minutes since the beginning of time.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Model {
    Absent,
    Live {
        until: i64,
        active: Active,
        shown: Times,
    },
    Over,
}

impl Model {
    fn expect(&mut self, what: What, now: i64) -> Outcome<SessionError> {
        match (what, *self) {
            (What::Start(lasting, entry), Self::Absent) => {
                let mut expected = vec!["session.started"];
                let shown = match entry {
                    Entry::Shown(second) => [Some(now), second.then_some(now)],
                    Entry::ActedAs => [None, None],
                    Entry::InPlace(ago) => {
                        expected.extend(ago.iter().flatten().map(|_| "session.factor_shown"));
                        ago.map(|ago| Some(now - ago?))
                    }
                };
                *self = Self::Live {
                    until: now + lasting,
                    active: (None, None),
                    shown,
                };
                Ok(expected)
            }
            (What::Start(..), _) => Err(SessionError::AlreadyStarted),
            (
                What::Extend(lasting),
                Self::Live {
                    until,
                    active,
                    shown,
                },
            ) if now < until => {
                if now + lasting <= until {
                    return Ok(vec![]);
                }
                *self = Self::Live {
                    until: now + lasting,
                    active,
                    shown,
                };
                Ok(vec!["session.extended"])
            }
            (What::Show(factor), Self::Live { until, shown, .. }) if now < until => {
                let last = shown[factor as usize];
                if last == Some(now) {
                    return Ok(vec![]);
                }
                if let Self::Live { shown, .. } = self {
                    shown[factor as usize] = Some(now);
                }
                Ok(vec!["session.factor_shown"])
            }
            (
                What::Activate(wanted),
                Self::Live {
                    until,
                    active,
                    shown,
                },
            ) if now < until => {
                *self = Self::Live {
                    until,
                    active: wanted,
                    shown,
                };
                Ok(if wanted == active {
                    vec![]
                } else {
                    vec!["session.organization_activated"]
                })
            }
            (What::Extend(_) | What::Activate(_) | What::Show(_), _)
            | (What::End(_), Self::Absent) => Err(SessionError::NotLive),
            (What::End(_), Self::Over) => Ok(vec![]),
            (What::End(_), Self::Live { .. }) => {
                *self = Self::Over;
                Ok(vec!["session.ended"])
            }
        }
    }

    fn of(session: &Session) -> Self {
        match session {
            Session::Absent => Self::Absent,
            Session::Live {
                user_id,
                expires_at,
                active: (organization, team),
                shown,
            } => {
                assert_eq!(user_id.as_str(), "u1");
                Self::Live {
                    until: (*expires_at - minute(0)).num_minutes(),
                    active: (known(organization), known(team)),
                    shown: [shown.first, shown.second]
                        .map(|time| Some((time? - minute(0)).num_minutes())),
                }
            }
            Session::Ended => Self::Over,
        }
    }
}

/// Of organizations and teams.
const IDS: [&str; 2] = ["i1", "i2"];

fn known(id: &Option<String>) -> Option<&'static str> {
    let id = id.as_deref()?;
    IDS.into_iter().find(|known| *known == id)
}

fn request() -> impl Strategy<Value = Request> {
    let reason = prop::sample::select(vec![
        EndReason::SignedOut,
        EndReason::Revoked,
        EndReason::PasswordChanged,
        EndReason::PasswordReset,
        EndReason::EmailChanged,
        EndReason::Banned,
        EndReason::Impersonation,
        EndReason::AccountTakenOver,
        EndReason::Replaced,
    ]);
    let id = || prop::option::of(prop::sample::select(IDS.to_vec()));
    let ago = || prop::option::of(0..8i64);
    let entry = prop_oneof![
        2 => any::<bool>().prop_map(Entry::Shown),
        1 => Just(Entry::ActedAs),
        1 => [ago(), ago()].prop_map(Entry::InPlace),
    ];
    let what = prop_oneof![
        4 => (1..40i64, entry).prop_map(|(lasting, entry)| What::Start(lasting, entry)),
        6 => (-5..40i64).prop_map(What::Extend),
        4 => (id(), id()).prop_map(What::Activate),
        4 => prop::sample::select(vec![Factor::First, Factor::Second]).prop_map(What::Show),
        1 => reason.prop_map(What::End),
    ];
    (0..8i64, what).prop_map(|(after, what)| Request { after, what })
}

fn command(what: What, now: i64) -> SessionCommand {
    let at = minute(now);
    match what {
        What::Start(lasting, entry) => SessionCommand::Start {
            user_id: UserId::new("u1"),
            token_hash: "00ff".to_owned(),
            method: match entry {
                Entry::Shown(_) => SignInMethod::EmailLink,
                Entry::ActedAs => SignInMethod::Impersonation,
                Entry::InPlace(_) => SignInMethod::Session,
            },
            second_factor: matches!(entry, Entry::Shown(true)),
            impersonated_by: matches!(entry, Entry::ActedAs).then(|| UserId::new("u2")),
            reason: matches!(entry, Entry::ActedAs).then(|| "asked to".to_owned()),
            carried: match entry {
                Entry::InPlace([first, second]) => FactorTimes {
                    first: first.map(|ago| minute(now - ago)),
                    second: second.map(|ago| minute(now - ago)),
                },
                Entry::Shown(_) | Entry::ActedAs => FactorTimes::default(),
            },
            remembered: true,
            ip_address: String::new(),
            user_agent: String::new(),
            expires_at: minute(now + lasting),
            at,
        },
        What::Extend(lasting) => SessionCommand::Extend {
            expires_at: minute(now + lasting),
            at,
        },
        What::Activate((organization, team)) => SessionCommand::SetActive {
            organization_id: organization.map(str::to_owned),
            team_id: team.map(str::to_owned),
            at,
        },
        What::Show(factor) => SessionCommand::ShowFactor { factor, at },
        What::End(reason) => SessionCommand::End { reason, at },
    }
}

#[test]
fn a_session_does_what_its_model_says() {
    let seen = Seen::default();
    for_all(vec(request(), LENGTH), |requests| {
        let (mut model, mut stream) = (Model::Absent, Stream::<Session>::new());
        let mut now = 0;
        for Request { after, what } in requests {
            now += after;
            let was_over = model == Model::Over;
            let expected = model.expect(what, now);
            seen.note(&expected);

            let decided = stream.running.decide(command(what, now));
            assert_agree(&decided, &expected, &what);
            let happened = decided.is_ok();
            let events = decided.unwrap_or_default();
            assert!(!was_over || events.is_empty(), "nothing follows the end");
            for event in &events {
                if let SessionEvent::Ended { user_id, .. } = event {
                    assert_eq!(user_id.as_ref().map(UserId::as_str), Some("u1"));
                }
            }
            stream.append(&events);
            assert_eq!(Model::of(&stream.running), model);

            // What is true already is no event; only to start what has started is refused.
            if happened && !matches!(what, What::Start(..)) {
                assert_eq!(stream.running.decide(command(what, now)), Ok(vec![]));
            }
        }
    });
    seen.assert_often(&[
        "session.started",
        "session.extended",
        "session.organization_activated",
        "session.factor_shown",
        "session.ended",
        "nothing",
        "AlreadyStarted",
        "NotLive",
    ]);
}
