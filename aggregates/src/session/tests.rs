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
        remembered: true,
        ip_address: Personal::about("u1", "192.0.2.1".into()),
        user_agent: Personal::about("u1", "x".into()),
        expires_at: days(7),
        at: at(),
    }
}

fn ended() -> SessionEvent {
    SessionEvent::Ended {
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
