//! Changing the address: asked for, proven, taken back, released.

use chrono::TimeDelta;

use super::*;

pub fn request(to: &str) -> UserCommand {
    UserCommand::RequestEmailChange {
        to: email(to),
        at: at(),
    }
}

pub fn confirm(to: &str) -> UserCommand {
    UserCommand::ConfirmEmailChange {
        to: email(to),
        at: at(),
    }
}

pub fn change_to(to: &str) -> UserCommand {
    UserCommand::ChangeEmail {
        to: email(to),
        needs_consent: true,
        keep: Some(SessionId::new("s1")),
        at: at(),
    }
}

pub fn revert_to(to: &str) -> UserCommand {
    UserCommand::RevertEmail {
        to: email(to),
        at: at(),
    }
}

pub fn release(text: &str) -> UserCommand {
    UserCommand::ReleaseFormerEmail {
        email: email(text),
        left_at: at(),
        at: at(),
    }
}

fn personal(text: &str) -> Personal<EmailAddress> {
    Personal::about("u1", email(text))
}

fn requested(to: &str) -> UserEvent {
    UserEvent::EmailChangeRequested {
        to: personal(to),
        at: at(),
    }
}

fn changed(from: &str, to: &str) -> UserEvent {
    UserEvent::EmailChanged {
        from: personal(from),
        to: personal(to),
        at: at(),
    }
}

fn reverted(from: &str, to: &str) -> UserEvent {
    UserEvent::EmailChangeReverted {
        from: personal(from),
        to: personal(to),
        at: at(),
    }
}

fn released(text: &str) -> UserEvent {
    UserEvent::FormerEmailReleased {
        email: personal(text),
        at: at(),
    }
}

/// Ada, who has become King.
fn king() -> Vec<UserEvent> {
    vec![
        registered(),
        requested("king@example.com"),
        changed("ada@example.com", "king@example.com"),
    ]
}

fn with(mut events: Vec<UserEvent>, more: impl IntoIterator<Item = UserEvent>) -> Vec<UserEvent> {
    events.extend(more);
    events
}

fn state(events: Vec<UserEvent>) -> User {
    let mut user = User::default();
    for event in events {
        user.apply(event);
    }
    user
}

#[test]
fn a_change_is_asked_for_before_it_counts() {
    user()
        .given(vec![registered()])
        .when(request("king@example.com"))
        .then_expect_events(vec![requested("king@example.com")]);
    let waiting = state(vec![registered(), requested("king@example.com")]);
    assert_eq!(waiting.pending_email(), Some(&email("king@example.com")));
    user()
        .given(vec![registered(), requested("king@example.com")])
        .when(verify("king@example.com"))
        .then_expect_error(UserError::OtherEmail);
}

#[test]
fn asking_for_the_own_address_changes_nothing() {
    user()
        .given(vec![registered()])
        .when(request("ada@example.com"))
        .then_expect_events(vec![]);
}

#[test]
fn a_proven_change_ends_the_other_sessions() {
    user()
        .given(vec![registered(), requested("king@example.com")])
        .when(change_to("king@example.com"))
        .then_expect_events(vec![
            changed("ada@example.com", "king@example.com"),
            others_ended(Some("s1"), EndReason::EmailChanged),
        ]);
    assert_eq!(state(king()).pending_email(), None);
    user()
        .given(king())
        .when(verify("king@example.com"))
        .then_expect_events(vec![UserEvent::EmailVerified { at: at() }]);
}

#[test]
fn a_change_that_nobody_asked_for_is_refused() {
    user()
        .given(vec![registered()])
        .when(change_to("king@example.com"))
        .then_expect_error(UserError::NoSuchChange);
    user()
        .given(king())
        .when(change_to("king@example.com"))
        .then_expect_error(UserError::NoSuchChange);
}

#[test]
fn a_proof_can_be_withdrawn_and_given_again() {
    let verified = UserEvent::EmailVerified { at: at() };
    let withdrawn = UserEvent::EmailVerificationWithdrawn { at: at() };
    let withdraw = UserCommand::WithdrawEmailVerification { at: at() };
    let verify = UserCommand::VerifyEmail {
        email: email("ada@example.com"),
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(withdraw.clone())
        .then_expect_events(vec![]);
    user()
        .given(vec![registered(), verified.clone()])
        .when(withdraw.clone())
        .then_expect_events(vec![withdrawn.clone()]);
    let without = vec![registered(), verified.clone(), withdrawn];
    user()
        .given(without.clone())
        .when(withdraw)
        .then_expect_events(vec![]);
    user()
        .given(without)
        .when(verify)
        .then_expect_events(vec![verified]);
}

#[test]
fn a_proven_address_agrees_before_another_one_counts() {
    let verified = UserEvent::EmailVerified { at: at() };
    let confirmed = UserEvent::EmailChangeConfirmed { at: at() };
    let waiting = vec![registered(), requested("king@example.com"), verified];
    let agreed = with(waiting.clone(), [confirmed.clone()]);
    user()
        .given(waiting.clone())
        .when(change_to("king@example.com"))
        .then_expect_error(UserError::NoSuchChange);
    user()
        .given(waiting.clone())
        .when(confirm("lovelace@example.com"))
        .then_expect_error(UserError::NoSuchChange);
    user()
        .given(waiting.clone())
        .when(confirm("king@example.com"))
        .then_expect_events(vec![confirmed]);
    user()
        .given(agreed.clone())
        .when(confirm("king@example.com"))
        .then_expect_events(vec![]);
    let changes = vec![
        changed("ada@example.com", "king@example.com"),
        others_ended(Some("s1"), EndReason::EmailChanged),
    ];
    user()
        .given(agreed.clone())
        .when(change_to("king@example.com"))
        .then_expect_events(changes.clone());
    // Consent is given to one request.
    user()
        .given(with(agreed, [requested("king@example.com")]))
        .when(change_to("king@example.com"))
        .then_expect_error(UserError::NoSuchChange);
    let unasked = UserCommand::ChangeEmail {
        to: email("king@example.com"),
        needs_consent: false,
        keep: Some(SessionId::new("s1")),
        at: at(),
    };
    user()
        .given(waiting)
        .when(unasked)
        .then_expect_events(changes);
}

#[test]
fn only_the_address_asked_for_last_counts() {
    let asked_twice = vec![
        registered(),
        requested("king@example.com"),
        requested("lovelace@example.com"),
    ];
    user()
        .given(asked_twice.clone())
        .when(change_to("king@example.com"))
        .then_expect_error(UserError::NoSuchChange);
    user()
        .given(asked_twice)
        .when(change_to("lovelace@example.com"))
        .then_expect_events(vec![
            changed("ada@example.com", "lovelace@example.com"),
            others_ended(Some("s1"), EndReason::EmailChanged),
        ]);
}

#[test]
fn a_new_password_takes_a_waiting_change_back() {
    for cause in [PasswordCause::Change, PasswordCause::Reset] {
        let events = vec![
            registered(),
            requested("king@example.com"),
            password_set(cause),
        ];
        assert_eq!(state(events.clone()).pending_email(), None);
        user()
            .given(events)
            .when(change_to("king@example.com"))
            .then_expect_error(UserError::NoSuchChange);
    }
}

#[test]
fn a_former_address_can_be_gone_back_to_and_all_sessions_end() {
    user()
        .given(king())
        .when(revert_to("ada@example.com"))
        .then_expect_events(vec![
            reverted("king@example.com", "ada@example.com"),
            others_ended(None, EndReason::EmailChanged),
        ]);
}

/// Ada, who has become King and then Lovelace.
fn lovelace() -> Vec<UserEvent> {
    with(
        king(),
        [
            requested("lovelace@example.com"),
            changed("king@example.com", "lovelace@example.com"),
        ],
    )
}

/// Else somebody who took the account over keeps a way back: two changes, and the link that the second one mailed.
#[test]
fn going_back_leaves_no_way_back_to_what_came_since() {
    let events = vec![
        reverted("lovelace@example.com", "ada@example.com"),
        released("king@example.com"),
        others_ended(None, EndReason::EmailChanged),
    ];
    user()
        .given(lovelace())
        .when(revert_to("ada@example.com"))
        .then_expect_events(events.clone());
    user()
        .given(with(lovelace(), events))
        .when(revert_to("king@example.com"))
        .then_expect_error(UserError::NoSuchChange);
}

#[test]
fn what_came_before_stays_a_way_back() {
    let events = vec![
        reverted("lovelace@example.com", "king@example.com"),
        others_ended(None, EndReason::EmailChanged),
    ];
    user()
        .given(lovelace())
        .when(revert_to("king@example.com"))
        .then_expect_events(events.clone());
    user()
        .given(with(lovelace(), events))
        .when(revert_to("ada@example.com"))
        .then_expect_events(vec![
            reverted("king@example.com", "ada@example.com"),
            others_ended(None, EndReason::EmailChanged),
        ]);
}

#[test]
fn a_change_to_a_former_address_is_going_back() {
    user()
        .given(with(lovelace(), [requested("ada@example.com")]))
        .when(change_to("ada@example.com"))
        .then_expect_events(vec![
            reverted("lovelace@example.com", "ada@example.com"),
            released("king@example.com"),
            others_ended(Some("s1"), EndReason::EmailChanged),
        ]);
}

#[test]
fn an_address_that_is_no_former_one_is_not_gone_back_to() {
    let back = with(king(), [reverted("king@example.com", "ada@example.com")]);
    for (events, to) in [
        (vec![registered()], "ada@example.com"),
        (king(), "king@example.com"),
        (king(), "eve@example.com"),
        (
            with(king(), [released("ada@example.com")]),
            "ada@example.com",
        ),
        (back.clone(), "ada@example.com"),
        (back, "king@example.com"),
    ] {
        user()
            .given(events)
            .when(revert_to(to))
            .then_expect_error(UserError::NoSuchChange);
    }
}

#[test]
fn going_back_takes_a_waiting_change_back() {
    let events = with(
        king(),
        [
            requested("eve@example.com"),
            reverted("king@example.com", "ada@example.com"),
        ],
    );
    user()
        .given(events)
        .when(change_to("eve@example.com"))
        .then_expect_error(UserError::NoSuchChange);
}

#[test]
fn a_former_address_is_released_once() {
    user()
        .given(king())
        .when(release("ada@example.com"))
        .then_expect_events(vec![released("ada@example.com")]);
    user()
        .given(with(king(), [released("ada@example.com")]))
        .when(release("ada@example.com"))
        .then_expect_events(vec![]);
}

/// Else the days that remain of the first time would be all that the second one gets.
#[test]
fn an_address_that_was_left_again_is_reserved_anew() {
    let again = at() + TimeDelta::days(6);
    let left_again = UserEvent::EmailChanged {
        from: personal("ada@example.com"),
        to: personal("eve@example.com"),
        at: again,
    };
    let back = reverted("king@example.com", "ada@example.com");
    let events = with(king(), [back, left_again]);
    user()
        .given(events.clone())
        .when(release("ada@example.com"))
        .then_expect_events(vec![]);
    user()
        .given(events)
        .when(UserCommand::ReleaseFormerEmail {
            email: email("ada@example.com"),
            left_at: again,
            at: at(),
        })
        .then_expect_events(vec![released("ada@example.com")]);
}

#[test]
fn what_is_no_former_address_is_not_released() {
    let back = with(king(), [reverted("king@example.com", "ada@example.com")]);
    for (events, text) in [
        (vec![registered()], "ada@example.com"),
        (king(), "king@example.com"),
        (back.clone(), "ada@example.com"),
        (back, "king@example.com"),
    ] {
        user()
            .given(events)
            .when(release(text))
            .then_expect_events(vec![]);
    }
}

#[test]
fn asking_for_an_address_takes_nothing_until_it_is_proven() {
    assert_claims(&requested("king@example.com"), &[]);
    assert_claims(
        &changed("ada@example.com", "king@example.com"),
        &[takes("king@example.com")],
    );
}

#[test]
fn going_back_releases_the_new_address_and_time_the_former_one() {
    assert_claims(
        &reverted("king@example.com", "ada@example.com"),
        &[releases("king@example.com")],
    );
    assert_claims(&released("ada@example.com"), &[releases("ada@example.com")]);
}

/// Erasure has released everything already, and nobody can say any more what it was.
#[test]
fn erased_addresses_take_and_release_nothing() {
    let erased = || -> Personal<EmailAddress> {
        serde_json::from_str(r#"{"$personal":{"subject":"u1","erased":true}}"#).unwrap()
    };
    let at = at();
    for event in [
        UserEvent::EmailChanged {
            from: erased(),
            to: erased(),
            at,
        },
        UserEvent::EmailChangeReverted {
            from: erased(),
            to: erased(),
            at,
        },
        UserEvent::FormerEmailReleased {
            email: erased(),
            at,
        },
    ] {
        assert_claims(&event, &[]);
    }
}
