//! Who gets in: passwords, sessions, locks, and the end of an account.

use chrono::TimeDelta;

use super::*;

pub fn end_sessions(keep: Option<&str>) -> UserCommand {
    UserCommand::EndSessions {
        keep: keep.map(SessionId::new),
        reason: EndReason::Revoked,
        at: at(),
    }
}

pub fn lock_out() -> UserCommand {
    UserCommand::LockOut {
        until: at() + TimeDelta::minutes(15),
        at: at(),
    }
}

pub fn close() -> UserCommand {
    UserCommand::RequestErasure {
        reason: ErasureReason::OwnRequest,
        at: at(),
    }
}

fn locked_out() -> UserEvent {
    UserEvent::LockedOut {
        until: at() + TimeDelta::minutes(15),
        at: at(),
    }
}

fn closed() -> UserEvent {
    UserEvent::ErasureRequested {
        reason: ErasureReason::OwnRequest,
        at: at(),
    }
}

#[test]
fn a_new_password_is_a_fact_without_the_password_and_ends_sessions() {
    for (cause, reason) in [
        (PasswordCause::SignUp, EndReason::PasswordChanged),
        (PasswordCause::Change, EndReason::PasswordChanged),
        (PasswordCause::Reset, EndReason::PasswordReset),
    ] {
        user()
            .given(vec![registered(), password_set(PasswordCause::SignUp)])
            .when(set_password(cause))
            .then_expect_events(vec![password_set(cause), others_ended(Some("s1"), reason)]);
    }
}

#[test]
fn a_password_reset_may_end_every_session() {
    let reset = UserCommand::SetPassword {
        cause: PasswordCause::Reset,
        keep: None,
        at: at(),
    };
    user()
        .given(vec![registered(), password_set(PasswordCause::SignUp)])
        .when(reset)
        .then_expect_events(vec![
            password_set(PasswordCause::Reset),
            others_ended(None, EndReason::PasswordReset),
        ]);
}

#[test]
fn all_sessions_end_or_all_but_one() {
    for keep in [None, Some("s1")] {
        user()
            .given(vec![registered()])
            .when(end_sessions(keep))
            .then_expect_events(vec![others_ended(keep, EndReason::Revoked)]);
    }
}

#[test]
fn a_lock_says_until_when_and_the_owner_still_gets_a_new_password() {
    user()
        .given(vec![registered()])
        .when(lock_out())
        .then_expect_events(vec![locked_out()]);
    user()
        .given(vec![
            registered(),
            password_set(PasswordCause::SignUp),
            locked_out(),
        ])
        .when(set_password(PasswordCause::Reset))
        .then_expect_events(vec![
            password_set(PasswordCause::Reset),
            others_ended(Some("s1"), EndReason::PasswordReset),
        ]);
}

#[test]
fn an_account_is_closed_once() {
    user()
        .given(vec![registered()])
        .when(close())
        .then_expect_events(vec![closed()]);
    user()
        .given(vec![registered(), closed()])
        .when(close())
        .then_expect_events(vec![]);
}

#[test]
fn a_closed_account_refuses_every_other_command() {
    for command in every_command() {
        let refusal = match command {
            UserCommand::RequestErasure { .. } => continue,
            UserCommand::Register { .. } => UserError::AlreadyRegistered,
            _ => UserError::NotRegistered,
        };
        user()
            .given(vec![registered(), closed()])
            .when(command)
            .then_expect_error(refusal);
    }
}

#[test]
fn nothing_of_a_closed_account_stays_in_memory() {
    let mut closed_user = User::default();
    closed_user.apply(registered());
    closed_user.apply(closed());
    assert_eq!(closed_user, User::Closed);
    closed_user.apply(registered());
    assert_eq!(closed_user, User::Closed);
}

#[test]
fn closing_releases_everything_and_the_rest_nothing() {
    assert_claims(&closed(), &[ClaimChange::ReleaseAll]);
    for event in [
        password_set(PasswordCause::Reset),
        others_ended(None, EndReason::Revoked),
        locked_out(),
    ] {
        assert_claims(&event, &[]);
    }
}

#[test]
fn several_changes_are_decided_one_upon_the_other() {
    let to = email("king@example.com");
    let asked = UserCommand::RequestEmailChange {
        to: to.clone(),
        at: at(),
    };
    let proven = UserCommand::ChangeEmail {
        to: to.clone(),
        needs_consent: false,
        keep: None,
        at: at(),
    };
    let verified = UserCommand::VerifyEmail {
        email: to.clone(),
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(UserCommand::All(vec![asked, proven, verified]))
        .then_expect_events(vec![
            UserEvent::EmailChangeRequested {
                to: Personal::about("u1", to.clone()),
                at: at(),
            },
            UserEvent::EmailChanged {
                from: Personal::about("u1", email("ada@example.com")),
                to: Personal::about("u1", to),
                at: at(),
            },
            others_ended(None, EndReason::EmailChanged),
            UserEvent::EmailVerified { at: at() },
        ]);
}

#[test]
fn of_several_changes_none_happens_if_one_is_refused() {
    let renamed = UserCommand::ChangeProfile {
        name: Some("King".into()),
        image: None,
        locale: None,
        at: at(),
    };
    let proven = UserCommand::VerifyEmail {
        email: email("king@example.com"),
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(UserCommand::All(vec![renamed, proven]))
        .then_expect_error(UserError::OtherEmail);
}
