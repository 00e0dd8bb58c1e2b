mod addresses;
mod doors;
mod factors;
mod ways_in;

use cqrs_es::test::TestFramework;

use super::*;
use crate::{ClaimChange, ClaimScope, ReadLog, Reading, Roles, StoredEvent, UserId};

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
        role: Roles::user(),
        password: true,
        email_verified: false,
        link: None,
        at: at(),
    }
}

fn registered() -> UserEvent {
    UserEvent::Registered {
        email: Personal::about("u1", email("ada@example.com")),
        name: Personal::about("u1", "Ada".into()),
        image: None,
        locale: Some(Personal::about("u1", "de".into())),
        role: Roles::user(),
        tier: Tier::Public,
        at: at(),
    }
}

fn password_set(cause: PasswordCause) -> UserEvent {
    UserEvent::PasswordSet {
        cause,
        added: false,
        at: at(),
    }
}

/// What the account says to its sessions.
fn others_ended(keep: Option<&str>, reason: EndReason) -> UserEvent {
    UserEvent::SessionsEnded {
        except: keep.map(SessionId::new),
        reason,
        at: at(),
    }
}

fn takes(email: &str) -> ClaimChange {
    ClaimChange::Take(ClaimScope::Email, email.into())
}

fn releases(email: &str) -> ClaimChange {
    ClaimChange::Release(ClaimScope::Email, email.into())
}

/// Compares without printing: a claim's value is clear.
fn assert_claims(event: &UserEvent, expected: &[ClaimChange]) {
    assert!(event.claims() == expected, "claims of {event:?}");
}

/// One of every command.
fn every_command() -> Vec<UserCommand> {
    vec![
        register(),
        verify("ada@example.com"),
        UserCommand::WithdrawEmailVerification { at: at() },
        set_password(PasswordCause::Change),
        addresses::request("king@example.com"),
        addresses::confirm("king@example.com"),
        addresses::change_to("king@example.com"),
        addresses::revert_to("ada@example.com"),
        addresses::release("ada@example.com"),
        doors::end_sessions(None),
        doors::lock_out(),
        doors::close(),
        read_audit(),
        change(Some("x"), None),
        UserCommand::ChangeRole {
            role: Roles::admin(),
            at: at(),
        },
        UserCommand::ChangeTier {
            tier: Tier::Beta,
            at: at(),
        },
    ]
    .into_iter()
    .chain(factors::every_command())
    .chain(ways_in::every_command())
    .collect()
}

fn verify(text: &str) -> UserCommand {
    UserCommand::VerifyEmail {
        email: email(text),
        at: at(),
    }
}

fn set_password(cause: PasswordCause) -> UserCommand {
    UserCommand::SetPassword {
        cause,
        keep: Some(SessionId::new("s1")),
        at: at(),
    }
}

fn reading() -> Reading {
    let owner = UserId::new("u2");
    Reading {
        of: ReadLog::Vault { owner },
        filters: vec!["ipAddress".to_owned()],
    }
}

fn read_audit() -> UserCommand {
    UserCommand::ReadAudit {
        reading: reading(),
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
fn each_reading_of_others_history_is_a_fact_and_changes_nothing_else() {
    let read = || UserEvent::AuditRead {
        reading: reading(),
        at: at(),
    };
    user()
        .given(vec![registered(), read()])
        .when(read_audit())
        .then_expect_events(vec![read()]);
    let mut account = User::default();
    account.apply(registered());
    let before = account.clone();
    account.apply(read());
    assert_eq!(account, before);
}

#[test]
fn sign_up_makes_an_account_with_a_password() {
    user()
        .given_no_previous_events()
        .when(register())
        .then_expect_events(vec![registered(), password_set(PasswordCause::SignUp)]);
}

#[test]
fn an_account_may_be_made_without_a_password_and_with_a_proven_address() {
    let mut command = register();
    if let UserCommand::Register {
        password,
        email_verified,
        ..
    } = &mut command
    {
        (*password, *email_verified) = (false, true);
    }
    user()
        .given_no_previous_events()
        .when(command)
        .then_expect_events(vec![registered(), UserEvent::EmailVerified { at: at() }]);
}

#[test]
fn an_account_may_be_made_from_one_at_another_provider() {
    let mut command = register();
    if let UserCommand::Register { password, link, .. } = &mut command {
        *password = false;
        *link = Some(NewLink {
            link_id: "l1".into(),
            provider: "acme".into(),
            subject: "s1".into(),
            scopes: vec!["email".into()],
        });
    }
    let linked = UserEvent::AccountLinked {
        link_id: "l1".into(),
        provider: "acme".into(),
        subject: Personal::about("u1", "s1".into()),
        scopes: vec!["email".into()],
        at: at(),
    };
    user()
        .given_no_previous_events()
        .when(command)
        .then_expect_events(vec![registered(), linked]);
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
    assert_claims(&registered(), &[takes("ada@example.com")]);
}

#[test]
fn nothing_happens_to_somebody_who_is_not_registered() {
    for command in every_command() {
        if !matches!(command, UserCommand::Register { .. }) {
            user()
                .given_no_previous_events()
                .when(command)
                .then_expect_error(UserError::NotRegistered);
        }
    }
}

#[test]
fn an_address_is_verified_once() {
    user()
        .given(vec![registered()])
        .when(verify("ada@example.com"))
        .then_expect_events(vec![UserEvent::EmailVerified { at: at() }]);
    user()
        .given(vec![registered(), UserEvent::EmailVerified { at: at() }])
        .when(verify("ada@example.com"))
        .then_expect_events(vec![]);
}

#[test]
fn a_proof_of_another_address_is_refused() {
    user()
        .given(vec![registered()])
        .when(verify("eve@example.com"))
        .then_expect_error(UserError::OtherEmail);
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
        .when(role(Roles::user()))
        .then_expect_events(vec![]);
    user()
        .given(vec![registered()])
        .when(role(Roles::admin()))
        .then_expect_events(vec![UserEvent::RoleChanged {
            role: Roles::admin(),
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
