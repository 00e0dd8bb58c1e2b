//! Events are stored for ever: every stored version of every type has a golden file, byte for byte.
//!
//! A file holds one event as the store gets it, before personal values are sealed. Files are added, never changed: when a
//! shape changes, the new one gets a file of its own and the old ones go on to be read.

#![cfg(test)]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use aggregates::log::LogEvent;
use aggregates::session::{EndReason, SessionEvent};
use aggregates::signing_keys::SigningKeysEvent;
use aggregates::user::{Change, UserEvent};
use aggregates::{EmailAddress, Personal, Role, Tier, UserId};
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::DomainEvent;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Names the variants of an event; it does not compile when one is missing.
macro_rules! variants {
    ($event:ident: $($variant:ident),+) => {
        (
            |event: &$event| match event {
                $($event::$variant { .. } => stringify!($variant),)+
            },
            vec![$(stringify!($variant)),+],
        )
    };
}

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
        + TimeDelta::days(20_000)
        + TimeDelta::minutes(minutes)
        + TimeDelta::milliseconds(7)
}

fn about_ada<T>(value: T) -> Personal<T> {
    Personal::about("u0000000000000000000000000000001", value)
}

/// Text that JSON has to escape, and that is not ASCII.
fn name() -> Personal<String> {
    about_ada("Ada \"Countess\" Lovelace, Gräfin\n👩‍💻".to_owned())
}

fn email() -> Personal<EmailAddress> {
    about_ada(EmailAddress::parse("ada@example.com").unwrap())
}

/// A value whose subject was erased, as the store gives it back.
fn erased<T: DeserializeOwned>() -> Personal<T> {
    let json = r#"{"$personal":{"subject":"u0000000000000000000000000000001","erased":true}}"#;
    serde_json::from_str(json).unwrap()
}

/// Every shape that a user's events can have, with what tells it from the others of its type.
fn user_events() -> Vec<(&'static str, UserEvent)> {
    let profile = |name, image, locale| UserEvent::ProfileChanged {
        name,
        image,
        locale,
        at: at(3),
    };
    vec![
        (
            "",
            UserEvent::Registered {
                email: email(),
                name: name(),
                image: Some(about_ada("https://example.com/ada.png".to_owned())),
                locale: Some(about_ada("de".to_owned())),
                role: Role::Admin,
                tier: Tier::Founder,
                at: at(0),
            },
        ),
        (
            ".least",
            UserEvent::Registered {
                email: email(),
                name: about_ada(String::new()),
                image: None,
                locale: None,
                role: Role::default(),
                tier: Tier::default(),
                at: at(0),
            },
        ),
        (
            ".erased",
            UserEvent::Registered {
                email: erased(),
                name: erased(),
                image: Some(erased()),
                locale: Some(erased()),
                role: Role::User,
                tier: Tier::Public,
                at: at(0),
            },
        ),
        ("", UserEvent::EmailVerified { at: at(1) }),
        ("", UserEvent::PasswordSet { at: at(2) }),
        (
            "",
            profile(
                Some(name()),
                Change::Set(about_ada("https://example.com/king.png".to_owned())),
                Change::Set(about_ada("en-GB".to_owned())),
            ),
        ),
        (".removed", profile(None, Change::Removed, Change::Removed)),
        (".kept", profile(Some(name()), Change::Kept, Change::Kept)),
        (
            ".erased",
            profile(Some(erased()), Change::Set(erased()), Change::Kept),
        ),
        (
            "",
            UserEvent::RoleChanged {
                role: Role::Service,
                at: at(4),
            },
        ),
        (
            "",
            UserEvent::TierChanged {
                tier: Tier::Beta,
                at: at(5),
            },
        ),
    ]
}

fn session_events() -> Vec<(&'static str, SessionEvent)> {
    let ended = |reason| SessionEvent::Ended { reason, at: at(8) };
    vec![
        (
            "",
            SessionEvent::Started {
                user_id: UserId::new("u0000000000000000000000000000001"),
                token_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
                    .to_owned(),
                remembered: true,
                ip_address: about_ada("2001:db8::1".to_owned()),
                user_agent: about_ada("Mozilla/5.0 (\"quoted\")".to_owned()),
                expires_at: at(6) + TimeDelta::days(7),
                at: at(6),
            },
        ),
        (
            ".erased",
            SessionEvent::Started {
                user_id: UserId::new("u0000000000000000000000000000001"),
                token_hash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
                    .to_owned(),
                remembered: false,
                ip_address: erased(),
                user_agent: erased(),
                expires_at: at(6) + TimeDelta::days(1),
                at: at(6),
            },
        ),
        (
            "",
            SessionEvent::Extended {
                expires_at: at(7) + TimeDelta::days(7),
                at: at(7),
            },
        ),
        (".signed_out", ended(EndReason::SignedOut)),
        (".revoked", ended(EndReason::Revoked)),
    ]
}

fn signing_keys_events() -> Vec<(&'static str, SigningKeysEvent)> {
    vec![
        (
            "",
            SigningKeysEvent::Published {
                kid: "k0000000000000000000000000000001".to_owned(),
                public_key: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo".to_owned(),
                active_from: at(20),
                at: at(9),
            },
        ),
        (
            "",
            SigningKeysEvent::Revoked {
                kid: "k0000000000000000000000000000001".to_owned(),
                at: at(10),
            },
        ),
    ]
}

fn log_events() -> Vec<(&'static str, LogEvent)> {
    vec![(
        "",
        LogEvent::LogRestored {
            epoch: "0190163d-8694-739b-aea5-966c26f8ad91".to_owned(),
            lost_from: 4_000_000_001,
            lost_to: 4_000_000_042,
            at: at(11),
        },
    )]
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/stored_format")
}

/// Where an event is kept: its stored type and version, and what tells its shape from others.
fn file_name<E: DomainEvent>(shape: &str, event: &E) -> String {
    format!(
        "{}.v{}{shape}.json",
        event.event_type(),
        event.event_version()
    )
}

/// Checks both ways, and gives back the names of the files.
fn check<E>(events: &[(&str, E)]) -> Vec<String>
where
    E: DomainEvent + Serialize + DeserializeOwned + PartialEq + Debug,
{
    let mut files = Vec::new();
    for (shape, event) in events {
        let file = file_name(shape, event);
        let written = serde_json::to_string_pretty(event).unwrap() + "\n";
        let stored = fs::read_to_string(folder().join(&file))
            .unwrap_or_else(|error| panic!("{file}: {error}; it would hold\n{written}"));
        assert_eq!(written, stored, "{file} is written as it was");
        let read: E = serde_json::from_str(&stored).unwrap();
        assert_eq!(&read, event, "{file} is read as it was");
        files.push(file);
    }
    files
}

fn check_variants<E: Debug>(
    (name, all): (impl Fn(&E) -> &'static str, Vec<&'static str>),
    events: &[(&str, E)],
) {
    let shown: BTreeSet<&str> = events.iter().map(|(_, event)| name(event)).collect();
    assert_eq!(shown, all.into_iter().collect(), "every variant has a file");
}

#[test]
fn every_stored_shape_is_written_and_read_as_ever() {
    let files = [
        check(&user_events()),
        check(&session_events()),
        check(&signing_keys_events()),
        check(&log_events()),
    ]
    .concat();
    let known: BTreeSet<String> = files.iter().cloned().collect();
    assert_eq!(known.len(), files.len(), "each shape has a file of its own");
    let there: BTreeSet<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(there, known, "every file is checked");
}

#[test]
fn every_event_type_has_a_golden_file() {
    check_variants(
        variants!(UserEvent: Registered, EmailVerified, PasswordSet, ProfileChanged, RoleChanged, TierChanged),
        &user_events(),
    );
    check_variants(
        variants!(SessionEvent: Started, Extended, Ended),
        &session_events(),
    );
    check_variants(
        variants!(SigningKeysEvent: Published, Revoked),
        &signing_keys_events(),
    );
    check_variants(variants!(LogEvent: LogRestored), &log_events());
}

/// The texts of choices are stored too.
#[test]
fn roles_and_tiers_keep_their_texts() {
    let texts = |json: serde_json::Value| json.to_string();
    assert_eq!(
        texts(serde_json::to_value(Role::ALL).unwrap()),
        r#"["user","admin","service"]"#
    );
    assert_eq!(
        texts(serde_json::to_value(Tier::ALL).unwrap()),
        r#"["guest","public","beta","alpha","founder"]"#
    );
}
