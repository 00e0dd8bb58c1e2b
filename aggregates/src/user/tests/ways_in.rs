//! Passkeys, accounts at other providers, API keys, and what becomes of them when the owner of the address comes.

use chrono::TimeDelta;

use super::*;

fn personal(value: &str) -> Personal<String> {
    Personal::about("u1", value.to_owned())
}

fn add_passkey(id: &str) -> UserCommand {
    UserCommand::AddPasskey {
        passkey_id: id.into(),
        credential_id: format!("credential-{id}"),
        credential: "public".into(),
        name: Some("phone".into()),
        at: at(),
    }
}

fn passkey_added(id: &str) -> UserEvent {
    UserEvent::PasskeyAdded {
        passkey_id: id.into(),
        credential_id: personal(&format!("credential-{id}")),
        credential: personal("public"),
        name: Some(personal("phone")),
        at: at(),
    }
}

fn passkey_removed(id: &str) -> UserEvent {
    UserEvent::PasskeyRemoved {
        passkey_id: id.into(),
        credential_id: personal(&format!("credential-{id}")),
        at: at(),
    }
}

fn rename_passkey(id: &str, name: &str) -> UserCommand {
    UserCommand::RenamePasskey {
        passkey_id: id.into(),
        name: name.into(),
        at: at(),
    }
}

fn remove_passkey(id: &str) -> UserCommand {
    UserCommand::RemovePasskey {
        passkey_id: id.into(),
        at: at(),
    }
}

fn report_counter(id: &str) -> UserCommand {
    UserCommand::ReportPasskeyCounter {
        passkey_id: id.into(),
        known: 7,
        shown: 3,
        at: at(),
    }
}

fn link(id: &str, subject: &str) -> UserCommand {
    UserCommand::LinkAccount {
        link_id: id.into(),
        provider: "acme".into(),
        subject: subject.into(),
        scopes: vec!["email".into()],
        at: at(),
    }
}

fn linked(id: &str, subject: &str) -> UserEvent {
    UserEvent::AccountLinked {
        link_id: id.into(),
        provider: "acme".into(),
        subject: personal(subject),
        scopes: vec!["email".into()],
        at: at(),
    }
}

fn unlink(id: &str) -> UserCommand {
    UserCommand::UnlinkAccount {
        link_id: id.into(),
        at: at(),
    }
}

fn unlinked(id: &str, subject: &str) -> UserEvent {
    UserEvent::AccountUnlinked {
        link_id: id.into(),
        provider: "acme".into(),
        subject: personal(subject),
        at: at(),
    }
}

fn change_scopes(id: &str, scope: &str) -> UserCommand {
    UserCommand::ChangeAccountScopes {
        link_id: id.into(),
        scopes: vec![scope.into()],
        at: at(),
    }
}

const REMOVE_PASSWORD: UserCommand = UserCommand::RemovePassword {
    at: DateTime::UNIX_EPOCH,
};
const PASSWORD_REMOVED: UserEvent = UserEvent::PasswordRemoved {
    at: DateTime::UNIX_EPOCH,
};
const EMAIL_VERIFIED: UserEvent = UserEvent::EmailVerified {
    at: DateTime::UNIX_EPOCH,
};

fn create_key(id: &str) -> UserCommand {
    UserCommand::CreateApiKey {
        key_id: id.into(),
        name: "laptop".into(),
        prefix: "0123abcd".into(),
        key_hash: "00ff".into(),
        scopes: vec!["stt".into()],
        expires_at: None,
        at: at(),
    }
}

fn key_created(id: &str, expires_at: Option<DateTime<Utc>>) -> UserEvent {
    UserEvent::ApiKeyCreated {
        key_id: id.into(),
        name: personal("laptop"),
        prefix: "0123abcd".into(),
        key_hash: "00ff".into(),
        scopes: vec!["stt".into()],
        expires_at,
        at: at(),
    }
}

fn revoke_key(id: &str) -> UserCommand {
    UserCommand::RevokeApiKey {
        key_id: id.into(),
        at: at(),
    }
}

fn key_revoked(id: &str) -> UserEvent {
    UserEvent::ApiKeyRevoked {
        key_id: id.into(),
        at: at(),
    }
}

fn prove(text: &str) -> UserCommand {
    UserCommand::ProveByLink {
        email: email(text),
        at: at(),
    }
}

pub fn every_command() -> Vec<UserCommand> {
    vec![
        add_passkey("p1"),
        rename_passkey("p1", "x"),
        remove_passkey("p1"),
        report_counter("p1"),
        link("l1", "s1"),
        unlink("l1"),
        change_scopes("l1", "x"),
        REMOVE_PASSWORD,
        create_key("k1"),
        revoke_key("k1"),
        prove("ada@example.com"),
    ]
}

/// An account with a password, and what else happened.
fn with(events: impl IntoIterator<Item = UserEvent>) -> Vec<UserEvent> {
    let mut all = vec![registered(), password_set(PasswordCause::SignUp)];
    all.extend(events);
    all
}

#[test]
fn a_passkey_is_added_once_and_up_to_twenty() {
    user()
        .given(with([]))
        .when(add_passkey("p1"))
        .then_expect_events(vec![passkey_added("p1")]);
    user()
        .given(with([passkey_added("p1")]))
        .when(add_passkey("p1"))
        .then_expect_error(UserError::PasskeyKnown);
    let many = |count| (0..count).map(|n| passkey_added(&n.to_string()));
    user()
        .given(with(many(19)))
        .when(add_passkey("p1"))
        .then_expect_events(vec![passkey_added("p1")]);
    user()
        .given(with(many(20)))
        .when(add_passkey("p1"))
        .then_expect_error(UserError::TooManyPasskeys);
}

#[test]
fn a_passkey_is_renamed_reported_and_removed() {
    let renamed = UserEvent::PasskeyRenamed {
        passkey_id: "p1".into(),
        name: personal("key ring"),
        at: at(),
    };
    user()
        .given(with([passkey_added("p1")]))
        .when(rename_passkey("p1", "key ring"))
        .then_expect_events(vec![renamed.clone()]);
    user()
        .given(with([passkey_added("p1"), renamed]))
        .when(rename_passkey("p1", "key ring"))
        .then_expect_events(vec![]);
    user()
        .given(with([passkey_added("p1")]))
        .when(report_counter("p1"))
        .then_expect_events(vec![UserEvent::PasskeyCounterWentBack {
            passkey_id: "p1".into(),
            known: 7,
            shown: 3,
            at: at(),
        }]);
    user()
        .given(with([passkey_added("p1")]))
        .when(remove_passkey("p1"))
        .then_expect_events(vec![passkey_removed("p1")]);
}

#[test]
fn nothing_happens_to_a_passkey_that_is_not_theirs() {
    for command in [
        rename_passkey("p1", "x"),
        remove_passkey("p1"),
        report_counter("p1"),
    ] {
        for given in [
            with([passkey_added("p2")]),
            with([passkey_added("p1"), passkey_removed("p1")]),
        ] {
            user()
                .given(given)
                .when(command.clone())
                .then_expect_error(UserError::NoSuchPasskey);
        }
    }
}

#[test]
fn an_account_elsewhere_is_linked_once() {
    user()
        .given(with([]))
        .when(link("l1", "s1"))
        .then_expect_events(vec![linked("l1", "s1")]);
    user()
        .given(with([linked("l1", "s1")]))
        .when(link("l2", "s1"))
        .then_expect_error(UserError::LinkedAlready);
    user()
        .given(with([linked("l1", "s1"), unlinked("l1", "s1")]))
        .when(link("l2", "s1"))
        .then_expect_events(vec![linked("l2", "s1")]);
}

#[test]
fn the_only_account_is_not_unlinked() {
    user()
        .given(with([linked("l1", "s1")]))
        .when(unlink("l1"))
        .then_expect_events(vec![unlinked("l1", "s1")]);
    user()
        .given(vec![registered(), linked("l1", "s1"), linked("l2", "s2")])
        .when(unlink("l2"))
        .then_expect_events(vec![unlinked("l2", "s2")]);
    user()
        .given(vec![registered(), linked("l1", "s1"), passkey_added("p1")])
        .when(unlink("l1"))
        .then_expect_error(UserError::LastWayIn);
}

#[test]
fn scopes_change_only_when_they_differ() {
    let changed = UserEvent::AccountScopesChanged {
        link_id: "l1".into(),
        scopes: vec!["files".into()],
        at: at(),
    };
    user()
        .given(with([linked("l1", "s1")]))
        .when(change_scopes("l1", "files"))
        .then_expect_events(vec![changed.clone()]);
    user()
        .given(with([linked("l1", "s1"), changed]))
        .when(change_scopes("l1", "files"))
        .then_expect_events(vec![]);
}

#[test]
fn nothing_happens_to_an_account_that_is_not_theirs() {
    for command in [unlink("l2"), change_scopes("l2", "x")] {
        user()
            .given(with([linked("l1", "s1")]))
            .when(command)
            .then_expect_error(UserError::NoSuchAccount);
    }
}

#[test]
fn a_password_is_removed_if_another_way_in_stays() {
    for other in [linked("l1", "s1"), passkey_added("p1")] {
        user()
            .given(with([other.clone()]))
            .when(REMOVE_PASSWORD)
            .then_expect_events(vec![PASSWORD_REMOVED]);
        user()
            .given(with([other, PASSWORD_REMOVED]))
            .when(REMOVE_PASSWORD)
            .then_expect_error(UserError::NoSuchAccount);
    }
    user()
        .given(with([]))
        .when(REMOVE_PASSWORD)
        .then_expect_error(UserError::LastWayIn);
}

#[test]
fn a_password_says_whether_there_was_none() {
    for given in [
        vec![registered()],
        with([passkey_added("p1"), PASSWORD_REMOVED]),
    ] {
        let set = UserEvent::PasswordSet {
            cause: PasswordCause::Reset,
            added: true,
            at: at(),
        };
        user()
            .given(given)
            .when(set_password(PasswordCause::Reset))
            .then_expect_events(vec![
                set,
                others_ended(Some("s1"), EndReason::PasswordReset),
            ]);
    }
}

#[test]
fn an_api_key_is_made_while_there_is_room() {
    let many = |count, end| (0..count).map(move |n| key_created(&n.to_string(), end));
    let later = Some(at() + TimeDelta::days(1));
    for room in [
        with([]),
        with(many(49, later)),
        with(many(50, Some(at()))),
        with(many(50, None).chain([key_revoked("7")])),
    ] {
        user()
            .given(room)
            .when(create_key("k1"))
            .then_expect_events(vec![key_created("k1", None)]);
    }
    user()
        .given(with(many(50, later)))
        .when(create_key("k1"))
        .then_expect_error(UserError::TooManyApiKeys);
}

#[test]
fn an_api_key_is_revoked_once() {
    user()
        .given(with([key_created("k1", None)]))
        .when(revoke_key("k1"))
        .then_expect_events(vec![key_revoked("k1")]);
    user()
        .given(with([key_created("k1", None), key_revoked("k1")]))
        .when(revoke_key("k1"))
        .then_expect_events(vec![]);
    user()
        .given(with([key_created("k2", None)]))
        .when(revoke_key("k1"))
        .then_expect_error(UserError::NoSuchApiKey);
}

#[test]
fn the_owner_of_an_address_shuts_what_a_stranger_set_up() {
    let set_up = [
        linked("l1", "s1"),
        passkey_added("p1"),
        UserEvent::SecondFactorPrepared { at: at() },
        key_created("k1", None),
        key_created("k2", None),
        key_revoked("k2"),
    ];
    user()
        .given(with(set_up))
        .when(prove("ada@example.com"))
        .then_expect_events(vec![
            PASSWORD_REMOVED,
            unlinked("l1", "s1"),
            passkey_removed("p1"),
            UserEvent::SecondFactorDisabled { at: at() },
            key_revoked("k1"),
            others_ended(None, EndReason::AccountTakenOver),
            EMAIL_VERIFIED,
        ]);
    user()
        .given(vec![registered()])
        .when(prove("ada@example.com"))
        .then_expect_events(vec![
            others_ended(None, EndReason::AccountTakenOver),
            EMAIL_VERIFIED,
        ]);
}

#[test]
fn the_owner_of_a_proven_address_keeps_everything() {
    user()
        .given(with([linked("l1", "s1"), EMAIL_VERIFIED]))
        .when(prove("ada@example.com"))
        .then_expect_events(vec![]);
    user()
        .given(with([]))
        .when(prove("eve@example.com"))
        .then_expect_error(UserError::OtherEmail);
}

#[test]
fn an_address_change_that_a_stranger_asked_for_is_off() {
    let asked = UserEvent::EmailChangeRequested {
        to: Personal::about("u1", email("eve@example.com")),
        at: at(),
    };
    user()
        .given(vec![
            registered(),
            asked,
            others_ended(None, EndReason::AccountTakenOver),
        ])
        .when(addresses::change_to("eve@example.com"))
        .then_expect_error(UserError::NoSuchChange);
}

#[test]
fn passkeys_and_accounts_elsewhere_are_held_by_one_account() {
    let passkey = || "credential-p1".to_owned();
    let identity = || "acme\ns1".to_owned();
    for (event, claim) in [
        (
            passkey_added("p1"),
            ClaimChange::Take(ClaimScope::Passkey, passkey()),
        ),
        (
            passkey_removed("p1"),
            ClaimChange::Release(ClaimScope::Passkey, passkey()),
        ),
        (
            linked("l1", "s1"),
            ClaimChange::Take(ClaimScope::ExternalIdentity, identity()),
        ),
        (
            unlinked("l1", "s1"),
            ClaimChange::Release(ClaimScope::ExternalIdentity, identity()),
        ),
    ] {
        assert_claims(&event, &[claim]);
    }
    for event in [key_created("k1", None), key_revoked("k1"), PASSWORD_REMOVED] {
        assert_claims(&event, &[]);
    }
}
