use cqrs_es::test::TestFramework;

use super::*;
use crate::UserId;

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn days(days: i64) -> DateTime<Utc> {
    at() + TimeDelta::days(days)
}

fn session() -> TestFramework<Session> {
    TestFramework::with(())
}

fn start() -> SessionCommand {
    SessionCommand::Start {
        user_id: UserId::new("u1"),
        token_hash: "00ff".into(),
        method: SignInMethod::Password,
        second_factor: false,
        impersonated_by: None,
        reason: None,
        carried: FactorTimes::default(),
        remembered: true,
        ip_address: "192.0.2.1".into(),
        user_agent: "x".into(),
        expires_at: days(7),
        at: at(),
    }
}

fn started() -> SessionEvent {
    SessionEvent::Started {
        user_id: UserId::new("u1"),
        token_hash: "00ff".into(),
        method: SignInMethod::Password,
        second_factor: false,
        impersonated_by: None,
        reason: None,
        remembered: true,
        ip_address: Personal::about("u1", "192.0.2.1".into()),
        user_agent: Personal::about("u1", "x".into()),
        expires_at: days(7),
        at: at(),
    }
}

fn ended() -> SessionEvent {
    SessionEvent::Ended {
        user_id: Some(UserId::new("u1")),
        reason: EndReason::SignedOut,
        at: at(),
    }
}

#[test]
fn a_session_starts_once() {
    session()
        .given_no_previous_events()
        .when(start())
        .then_expect_events(vec![started()]);
    session()
        .given(vec![started()])
        .when(start())
        .then_expect_error(SessionError::AlreadyStarted);
    session()
        .given(vec![started(), ended()])
        .when(start())
        .then_expect_error(SessionError::AlreadyStarted);
}

#[test]
fn a_live_session_can_be_extended() {
    let extend = SessionCommand::Extend {
        expires_at: days(9),
        at: days(2),
    };
    session()
        .given(vec![started()])
        .when(extend)
        .then_expect_events(vec![SessionEvent::Extended {
            expires_at: days(9),
            at: days(2),
        }]);
}

#[test]
fn a_second_extension_at_the_same_time_changes_nothing() {
    let extended = SessionEvent::Extended {
        expires_at: days(9),
        at: days(2),
    };
    let extend = SessionCommand::Extend {
        expires_at: days(9) + TimeDelta::seconds(5),
        at: days(2),
    };
    session()
        .given(vec![started(), extended])
        .when(extend)
        .then_expect_events(vec![]);
}

#[test]
fn what_is_over_cannot_be_extended() {
    let extend = |at| SessionCommand::Extend {
        expires_at: days(30),
        at,
    };
    session()
        .given_no_previous_events()
        .when(extend(days(1)))
        .then_expect_error(SessionError::NotLive);
    session()
        .given(vec![started(), ended()])
        .when(extend(days(1)))
        .then_expect_error(SessionError::NotLive);
    session()
        .given(vec![started()])
        .when(extend(days(7)))
        .then_expect_error(SessionError::NotLive);
}

#[test]
fn ending_twice_is_ending_once() {
    let end = SessionCommand::End {
        reason: EndReason::SignedOut,
        at: at(),
    };
    session()
        .given(vec![started()])
        .when(end.clone())
        .then_expect_events(vec![ended()]);
    session()
        .given(vec![started(), ended()])
        .when(end.clone())
        .then_expect_events(vec![]);
    session()
        .given_no_previous_events()
        .when(end)
        .then_expect_error(SessionError::NotLive);
}

#[test]
fn a_session_says_how_its_person_came_in() {
    for by in [
        SignInMethod::Password,
        SignInMethod::SignUp,
        SignInMethod::EmailLink,
        SignInMethod::Session,
        SignInMethod::MagicLink,
        SignInMethod::Passkey,
        SignInMethod::Social,
        SignInMethod::Impersonation,
    ] {
        let (mut command, mut event) = (start(), started());
        if let SessionCommand::Start { method, .. } = &mut command {
            *method = by;
        }
        if let SessionEvent::Started { method, .. } = &mut event {
            *method = by;
        }
        session()
            .given_no_previous_events()
            .when(command)
            .then_expect_events(vec![event]);
    }
}

/// Also when it has expired meanwhile: whoever lists what was ended misses none.
#[test]
fn the_end_says_whose_session_it_was_and_why() {
    for reason in [
        EndReason::SignedOut,
        EndReason::Revoked,
        EndReason::PasswordChanged,
        EndReason::PasswordReset,
        EndReason::EmailChanged,
        EndReason::Banned,
        EndReason::Impersonation,
        EndReason::Replaced,
        EndReason::AccountTakenOver,
    ] {
        let end = SessionCommand::End {
            reason,
            at: days(8),
        };
        session()
            .given(vec![started()])
            .when(end)
            .then_expect_events(vec![SessionEvent::Ended {
                user_id: Some(UserId::new("u1")),
                reason,
                at: days(8),
            }]);
    }
}

#[test]
fn an_end_of_the_first_kind_is_an_end() {
    let ended = SessionEvent::Ended {
        user_id: None,
        reason: EndReason::Revoked,
        at: at(),
    };
    session()
        .given(vec![started(), ended])
        .when(SessionCommand::Extend {
            expires_at: days(9),
            at: days(2),
        })
        .then_expect_error(SessionError::NotLive);
}

#[test]
fn an_extension_is_worth_an_event_from_a_minute_on() {
    let extend = |expires_at| SessionCommand::Extend {
        expires_at,
        at: days(2),
    };
    let a_minute_later = days(7) + TimeDelta::minutes(1);
    session()
        .given(vec![started()])
        .when(extend(a_minute_later))
        .then_expect_events(vec![SessionEvent::Extended {
            expires_at: a_minute_later,
            at: days(2),
        }]);
    for too_little in [a_minute_later - TimeDelta::milliseconds(1), days(3)] {
        session()
            .given(vec![started()])
            .when(extend(too_little))
            .then_expect_events(vec![]);
    }
}

#[test]
fn a_session_says_who_acts_and_whether_a_second_factor_was_shown() {
    let (mut command, mut event) = (start(), started());
    if let SessionCommand::Start {
        second_factor,
        impersonated_by,
        reason,
        ..
    } = &mut command
    {
        (*second_factor, *impersonated_by) = (true, Some(UserId::new("u2")));
        *reason = Some("a ticket".into());
    }
    if let SessionEvent::Started {
        second_factor,
        impersonated_by,
        reason,
        ..
    } = &mut event
    {
        (*second_factor, *impersonated_by) = (true, Some(UserId::new("u2")));
        *reason = Some(Personal::about("u1", "a ticket".into()));
    }
    session()
        .given_no_previous_events()
        .when(command)
        .then_expect_events(vec![event]);
}

fn set_active(organization: Option<&str>, team: Option<&str>, at: DateTime<Utc>) -> SessionCommand {
    SessionCommand::SetActive {
        organization_id: organization.map(str::to_owned),
        team_id: team.map(str::to_owned),
        at,
    }
}

fn activated(organization: Option<&str>, team: Option<&str>) -> SessionEvent {
    SessionEvent::OrganizationActivated {
        organization_id: organization.map(str::to_owned),
        team_id: team.map(str::to_owned),
        at: days(1),
    }
}

#[test]
fn a_live_session_works_for_an_organization_a_team_or_none() {
    for (before, after) in [
        ((None, None), (Some("o1"), None)),
        ((Some("o1"), None), (Some("o1"), Some("t1"))),
        ((Some("o1"), Some("t1")), (Some("o2"), None)),
        ((Some("o1"), Some("t1")), (None, None)),
    ] {
        session()
            .given(vec![started(), activated(before.0, before.1)])
            .when(set_active(after.0, after.1, days(1)))
            .then_expect_events(vec![activated(after.0, after.1)]);
        session()
            .given(vec![started(), activated(after.0, after.1)])
            .when(set_active(after.0, after.1, days(1)))
            .then_expect_events(vec![]);
    }
}

#[test]
fn what_is_over_works_for_nobody() {
    for (given, at) in [
        (vec![], days(1)),
        (vec![started(), ended()], days(1)),
        (vec![started()], days(7)),
    ] {
        session()
            .given(given)
            .when(set_active(Some("o1"), None, at))
            .then_expect_error(SessionError::NotLive);
    }
}

fn shown(factor: Factor, at: DateTime<Utc>) -> SessionEvent {
    SessionEvent::FactorShown { factor, at }
}

/// S-60: whoever shows the same again and again makes the log grow by an event a minute at most.
#[test]
fn a_factor_is_worth_an_event_a_minute_after_it_was_shown_last_s60() {
    let show = |factor, at| SessionCommand::ShowFactor { factor, at };
    let minute = at() + TimeDelta::minutes(1);
    let just_before = minute - TimeDelta::milliseconds(1);
    for (given, factor, at, is_news) in [
        (vec![started()], Factor::First, just_before, false),
        (vec![started()], Factor::First, minute, true),
        // Nobody has shown a second one yet.
        (vec![started()], Factor::Second, at(), true),
        (
            vec![started(), shown(Factor::Second, at())],
            Factor::Second,
            just_before,
            false,
        ),
        (
            vec![started(), shown(Factor::Second, at())],
            Factor::Second,
            minute,
            true,
        ),
    ] {
        session()
            .given(given)
            .when(show(factor, at))
            .then_expect_events(is_news.then(|| shown(factor, at)).into_iter().collect());
    }
    for (given, at) in [
        (vec![], at()),
        (vec![started(), ended()], minute),
        (vec![started()], days(7)),
    ] {
        session()
            .given(given)
            .when(show(Factor::First, at))
            .then_expect_error(SessionError::NotLive);
    }
}

/// S-60: what takes the place of a session has what was shown in that one, and nothing else.
#[test]
fn a_session_that_replaces_another_shows_what_was_shown_there_s60() {
    let carried = FactorTimes {
        first: Some(days(-1)),
        second: Some(days(-2)),
    };
    let (mut command, mut event) = (start(), started());
    if let SessionCommand::Start {
        method, carried: c, ..
    } = &mut command
    {
        (*method, *c) = (SignInMethod::Session, carried);
    }
    if let SessionEvent::Started {
        method,
        second_factor,
        ..
    } = &mut event
    {
        (*method, *second_factor) = (SignInMethod::Session, false);
    }
    let events = vec![
        event,
        shown(Factor::First, days(-1)),
        shown(Factor::Second, days(-2)),
    ];
    session()
        .given_no_previous_events()
        .when(command)
        .then_expect_events(events.clone());
    let mut replaced = Session::default();
    for event in events {
        replaced.apply(event);
    }
    let Session::Live { shown, .. } = replaced else {
        panic!("{replaced:?}")
    };
    assert_eq!(shown, carried);
    for (method, second_factor, first, second) in [
        (SignInMethod::Password, false, true, false),
        (SignInMethod::Passkey, true, true, true),
        (SignInMethod::Session, true, false, false),
        (SignInMethod::Impersonation, false, false, false),
    ] {
        let times = FactorTimes::at_start(method, second_factor, at());
        assert_eq!(
            (times.first.is_some(), times.second.is_some()),
            (first, second),
            "{method:?}"
        );
    }
}

#[test]
fn a_session_holds_nothing_that_must_be_unique() {
    let shown = shown(Factor::First, days(1));
    for event in [started(), activated(Some("o1"), None), shown, ended()] {
        assert!(crate::StoredEvent::claims(&event).is_empty());
    }
}
