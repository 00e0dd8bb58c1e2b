use cqrs_es::test::TestFramework;

use super::*;
use crate::{ClaimChange, ClaimScope, StoredEvent, UserId};

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn user() -> TestFramework<User> {
    TestFramework::with(())
}

fn email(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn register() -> UserCommand {
    UserCommand::Register {
        id: UserId::new("u1"),
        email: email("ada@example.com"),
        name: "Ada".into(),
        image: None,
        locale: Some("de".into()),
        role: Role::User,
        at: at(),
    }
}

fn registered() -> UserEvent {
    UserEvent::Registered {
        email: Personal::about("u1", email("ada@example.com")),
        name: Personal::about("u1", "Ada".into()),
        image: None,
        locale: Some(Personal::about("u1", "de".into())),
        role: Role::User,
        tier: Tier::Public,
        at: at(),
    }
}

fn change(name: Option<&str>, image: Option<Option<&str>>) -> UserCommand {
    UserCommand::ChangeProfile {
        name: name.map(Into::into),
        image: image.map(|i| i.map(Into::into)),
        locale: None,
        at: at(),
    }
}

#[test]
fn sign_up_makes_an_account_with_a_password() {
    user()
        .given_no_previous_events()
        .when(register())
        .then_expect_events(vec![registered(), UserEvent::PasswordSet { at: at() }]);
}

#[test]
fn an_id_is_registered_once() {
    user()
        .given(vec![registered()])
        .when(register())
        .then_expect_error(UserError::AlreadyRegistered);
}

#[test]
fn registering_takes_the_address() {
    assert!(
        registered().claims()
            == vec![ClaimChange::Take(
                ClaimScope::Email,
                "ada@example.com".into()
            )]
    );
}

#[test]
fn nothing_happens_to_somebody_who_is_not_registered() {
    let commands = [
        UserCommand::VerifyEmail {
            email: email("ada@example.com"),
            at: at(),
        },
        UserCommand::SetPassword { at: at() },
        change(Some("x"), None),
        UserCommand::ChangeRole {
            role: Role::Admin,
            at: at(),
        },
        UserCommand::ChangeTier {
            tier: Tier::Beta,
            at: at(),
        },
    ];
    for command in commands {
        user()
            .given_no_previous_events()
            .when(command)
            .then_expect_error(UserError::NotRegistered);
    }
}

#[test]
fn an_address_is_verified_once() {
    let verify = UserCommand::VerifyEmail {
        email: email("ada@example.com"),
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(verify.clone())
        .then_expect_events(vec![UserEvent::EmailVerified { at: at() }]);
    user()
        .given(vec![registered(), UserEvent::EmailVerified { at: at() }])
        .when(verify)
        .then_expect_events(vec![]);
}

#[test]
fn a_proof_of_another_address_is_refused() {
    let verify = UserCommand::VerifyEmail {
        email: email("eve@example.com"),
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(verify)
        .then_expect_error(UserError::OtherEmail);
}

#[test]
fn a_new_password_is_a_fact_without_the_password() {
    user()
        .given(vec![registered()])
        .when(UserCommand::SetPassword { at: at() })
        .then_expect_events(vec![UserEvent::PasswordSet { at: at() }]);
}

#[test]
fn only_changed_fields_are_recorded() {
    let event = UserEvent::ProfileChanged {
        name: None,
        image: Change::Set(Personal::about("u1", "https://x.example/a.png".into())),
        locale: Change::Kept,
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(change(Some("Ada"), Some(Some("https://x.example/a.png"))))
        .then_expect_events(vec![event.clone()]);
    user()
        .given(vec![registered(), event.clone()])
        .when(change(None, Some(Some("https://x.example/a.png"))))
        .then_expect_events(vec![]);
    let removed = UserEvent::ProfileChanged {
        name: None,
        image: Change::Removed,
        locale: Change::Kept,
        at: at(),
    };
    user()
        .given(vec![registered(), event])
        .when(change(None, Some(None)))
        .then_expect_events(vec![removed]);
    user()
        .given(vec![registered()])
        .when(change(None, Some(None)))
        .then_expect_events(vec![]);
}

#[test]
fn roles_and_tiers_change_only_when_they_differ() {
    let role = |role| UserCommand::ChangeRole { role, at: at() };
    user()
        .given(vec![registered()])
        .when(role(Role::User))
        .then_expect_events(vec![]);
    user()
        .given(vec![registered()])
        .when(role(Role::Admin))
        .then_expect_events(vec![UserEvent::RoleChanged {
            role: Role::Admin,
            at: at(),
        }]);
    let tier = |tier| UserCommand::ChangeTier { tier, at: at() };
    let beta = UserEvent::TierChanged {
        tier: Tier::Beta,
        at: at(),
    };
    user()
        .given(vec![registered()])
        .when(tier(Tier::Beta))
        .then_expect_events(vec![beta.clone()]);
    user()
        .given(vec![registered(), beta])
        .when(tier(Tier::Beta))
        .then_expect_events(vec![]);
}
