//! Every shape of a user's events about bans, second factors, passkeys, accounts at other providers and API keys.

use aggregates::user::{SecondFactorMethod, UserEvent};
use chrono::TimeDelta;

use super::{about_ada, at, erased, name};

/// One event of every shape, with what tells it from the others of its type.
pub fn ways_in() -> Vec<(&'static str, UserEvent)> {
    [bans(), second_factors(), passkeys(), links(), api_keys()].concat()
}

fn bans() -> Vec<(&'static str, UserEvent)> {
    let banned = |reason, until| UserEvent::Banned {
        reason,
        until,
        at: at(50),
    };
    let spam = || about_ada("Spam, \"again\"".to_owned());
    vec![
        ("", banned(Some(spam()), Some(at(50) + TimeDelta::days(1)))),
        (".least", banned(None, None)),
        (".erased", banned(Some(erased()), None)),
        ("", UserEvent::BanLifted { at: at(51) }),
    ]
}

fn second_factors() -> Vec<(&'static str, UserEvent)> {
    let enabled = |method| UserEvent::SecondFactorEnabled { method, at: at(53) };
    vec![
        ("", UserEvent::SecondFactorPrepared { at: at(52) }),
        (".totp", enabled(SecondFactorMethod::Totp)),
        (".otp", enabled(SecondFactorMethod::Otp)),
        ("", UserEvent::SecondFactorDisabled { at: at(54) }),
        ("", UserEvent::BackupCodesReplaced { at: at(55) }),
        ("", UserEvent::BackupCodeUsed { at: at(56) }),
        (
            "",
            UserEvent::SecondFactorLocked {
                until: at(57) + TimeDelta::minutes(15),
                at: at(57),
            },
        ),
    ]
}

fn passkeys() -> Vec<(&'static str, UserEvent)> {
    let passkey_id = || "p0000000000000000000000000000001".to_owned();
    let credential_id = || about_ada("3q2-7wABAgM".to_owned());
    let added = |credential_id, credential, name| UserEvent::PasskeyAdded {
        passkey_id: passkey_id(),
        credential_id,
        credential,
        name,
        at: at(58),
    };
    let renamed = |name| UserEvent::PasskeyRenamed {
        passkey_id: passkey_id(),
        name,
        at: at(59),
    };
    let removed = |credential_id| UserEvent::PasskeyRemoved {
        passkey_id: passkey_id(),
        credential_id,
        at: at(60),
    };
    let credential = || about_ada(r#"{"cred":{"counter":0}}"#.to_owned());
    vec![
        ("", added(credential_id(), credential(), Some(name()))),
        (".least", added(credential_id(), credential(), None)),
        (".erased", added(erased(), erased(), Some(erased()))),
        ("", renamed(name())),
        (".erased", renamed(erased())),
        ("", removed(credential_id())),
        (".erased", removed(erased())),
        (
            "",
            UserEvent::PasskeyCounterWentBack {
                passkey_id: passkey_id(),
                known: u32::MAX,
                shown: 0,
                at: at(61),
            },
        ),
    ]
}

fn links() -> Vec<(&'static str, UserEvent)> {
    let link_id = || "l0000000000000000000000000000001".to_owned();
    let subject = || about_ada("110169484474386276334".to_owned());
    let scopes = || vec!["openid".to_owned(), "email".to_owned()];
    let linked = |subject, scopes| UserEvent::AccountLinked {
        link_id: link_id(),
        provider: "google".to_owned(),
        subject,
        scopes,
        at: at(62),
    };
    let unlinked = |subject| UserEvent::AccountUnlinked {
        link_id: link_id(),
        provider: "google".to_owned(),
        subject,
        at: at(63),
    };
    vec![
        ("", linked(subject(), scopes())),
        (".least", linked(subject(), vec![])),
        (".erased", linked(erased(), scopes())),
        ("", unlinked(subject())),
        (".erased", unlinked(erased())),
        (
            "",
            UserEvent::AccountScopesChanged {
                link_id: link_id(),
                scopes: scopes(),
                at: at(64),
            },
        ),
        ("", UserEvent::PasswordRemoved { at: at(65) }),
    ]
}

fn api_keys() -> Vec<(&'static str, UserEvent)> {
    let key_id = || "k0000000000000000000000000000001".to_owned();
    let created = |name, scopes, expires_at| UserEvent::ApiKeyCreated {
        key_id: key_id(),
        name,
        prefix: "0123abcd".to_owned(),
        key_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned(),
        scopes,
        expires_at,
        at: at(66),
    };
    let scopes = vec!["stt".to_owned(), "tts".to_owned()];
    let end = at(66) + TimeDelta::days(90);
    vec![
        ("", created(name(), scopes, Some(end))),
        (".least", created(name(), vec![], None)),
        (".erased", created(erased(), vec![], None)),
        (
            "",
            UserEvent::ApiKeyRevoked {
                key_id: key_id(),
                at: at(67),
            },
        ),
    ]
}
