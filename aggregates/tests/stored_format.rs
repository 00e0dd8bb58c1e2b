//! Events are stored for ever: every stored version of every type has a golden file, byte for byte.
//!
//! A file holds one event as the store gets it, before personal values are sealed. Files are added, never changed: when a
//! shape changes, the new one gets a file of its own and the old ones go on to be read.

#![cfg(test)]

mod shapes;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::PathBuf;

use aggregates::log::LogEvent;
use aggregates::organization::{CloseReason, OrganizationEvent, RemovalReason};
use aggregates::session::{EndReason, Factor, SessionEvent, SignInMethod};
use aggregates::signing_keys::SigningKeysEvent;
use aggregates::user::{ErasureReason, PasswordCause, SecondFactorMethod, UserEvent};
use aggregates::vault::{ACTIONS, Action, Fault, Refusal, Vault, VaultEvent};
use aggregates::{ReadLog, Reading, Roles, Tier, UserId};
use cqrs_es::{Aggregate as _, DomainEvent};
use serde::Serialize;
use serde::de::DeserializeOwned;
use shapes::at;
use shapes::organization::organization_events;
use shapes::session::session_events;
use shapes::user::user_events;
use shapes::vault::vault_events;

/// Names the variants of an event or a choice; it does not compile when one is missing.
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
    let owner = UserId::new("u0000000000000000000000000000001");
    let of = ReadLog::Vault { owner };
    let filters = vec!["at".to_owned()];
    vec![
        (
            "",
            LogEvent::LogRestored {
                epoch: "0190163d-8694-739b-aea5-966c26f8ad91".to_owned(),
                lost_from: 4_000_000_001,
                lost_to: 4_000_000_042,
                at: at(11),
            },
        ),
        (
            "",
            LogEvent::AuditRead {
                reading: Reading { of, filters },
                at: at(38),
            },
        ),
        (
            "",
            LogEvent::KekActivated {
                kek_id: "k2".to_owned(),
                at: at(12),
            },
        ),
        (
            "",
            LogEvent::KekRewrapped {
                kek_id: "k2".to_owned(),
                secrets: 4_000_000_001,
                vaults: 100_000,
                failed: 1,
                at: at(13),
            },
        ),
        (
            "",
            LogEvent::KekRetired {
                kek_id: "env-v1".to_owned(),
                at: at(14),
            },
        ),
    ]
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

/// Checks that every variant is shown by one of the events that have a file.
fn check_variants<'a, T: 'a>(
    (name, all): (impl Fn(&T) -> &'static str, Vec<&'static str>),
    shown: impl Iterator<Item = &'a T>,
) {
    let shown: BTreeSet<&str> = shown.map(name).collect();
    assert_eq!(shown, all.into_iter().collect(), "every variant has a file");
}

fn events<'a, E>(shapes: &'a [(&str, E)]) -> impl Iterator<Item = &'a E> {
    shapes.iter().map(|(_, event)| event)
}

#[test]
fn every_stored_shape_is_written_and_read_as_ever() {
    let files = [
        check(&user_events()),
        check(&session_events()),
        check(&organization_events()),
        check(&vault_events()),
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
        variants!(
            UserEvent: Registered, EmailVerified, EmailVerificationWithdrawn, PasswordSet, EmailChangeRequested, EmailChangeConfirmed, EmailChanged,
            EmailChangeReverted, FormerEmailReleased, SessionsEnded, LockedOut, ErasureRequested, ProfileChanged,
            RoleChanged, TierChanged, PasswordRemoved, Banned, BanLifted, SecondFactorPrepared, SecondFactorEnabled,
            SecondFactorDisabled, BackupCodesReplaced, BackupCodeUsed, SecondFactorLocked, PasskeyAdded, PasskeyRenamed,
            PasskeyRemoved, PasskeyCounterWentBack, AccountLinked, AccountUnlinked, AccountScopesChanged, ApiKeyCreated,
            ApiKeyRevoked, AuditRead
        ),
        events(&user_events()),
    );
    check_variants(
        variants!(SessionEvent: Started, Extended, FactorShown, OrganizationActivated, Ended),
        events(&session_events()),
    );
    check_variants(
        variants!(
            OrganizationEvent: Created, Updated, SlugChanged, MemberAdded, MemberRoleChanged, MemberRemoved,
            InvitationSent, InvitationRenewed, InvitationAccepted, InvitationRejected, InvitationCanceled, InvitationErased,
            RoleCreated, RoleUpdated, RoleDeleted, TeamCreated, TeamRenamed, TeamRemoved, TeamMemberAdded,
            TeamMemberRemoved, Closed
        ),
        events(&organization_events()),
    );
    check_variants(
        variants!(
            VaultEvent: Initialised, KeyFetched, KeyNotOpened, KeyRotated, RecoveryWrapSet, RecoveryWrapCleared,
            RecoveryWrapRestored, ZeroKnowledgeEnabled, ZeroKnowledgeDisabled, NothingToDo, Refused, Failed,
            CallsLimited
        ),
        events(&vault_events()),
    );
    check_variants(
        variants!(SigningKeysEvent: Published, Revoked),
        events(&signing_keys_events()),
    );
    check_variants(
        variants!(LogEvent: LogRestored, AuditRead, KekActivated, KekRewrapped, KekRetired),
        events(&log_events()),
    );
}

#[test]
fn every_reason_has_a_golden_file_in_each_event_that_has_one() {
    let (users, sessions) = (user_events(), session_events());
    let reasons = || variants!(EndReason: SignedOut, Revoked, PasswordChanged, PasswordReset, EmailChanged, Banned, Impersonation, AccountTakenOver, Replaced);
    check_variants(
        reasons(),
        events(&users).filter_map(|event| match event {
            UserEvent::SessionsEnded { reason, .. } => Some(reason),
            _ => None,
        }),
    );
    check_variants(
        reasons(),
        events(&sessions).filter_map(|event| match event {
            SessionEvent::Ended {
                user_id: Some(_),
                reason,
                ..
            } => Some(reason),
            _ => None,
        }),
    );
    check_variants(
        variants!(SignInMethod: Password, SignUp, EmailLink, Session, MagicLink, Passkey, Social, Impersonation),
        events(&sessions).filter_map(|event| match event {
            SessionEvent::Started { method, .. } => Some(method),
            _ => None,
        }),
    );
    check_variants(
        variants!(Factor: First, Second),
        events(&sessions).filter_map(|event| match event {
            SessionEvent::FactorShown { factor, .. } => Some(factor),
            _ => None,
        }),
    );
    check_variants(
        variants!(PasswordCause: SignUp, Change, Reset),
        events(&users).filter_map(|event| match event {
            UserEvent::PasswordSet { cause, .. } => Some(cause),
            _ => None,
        }),
    );
    check_variants(
        variants!(SecondFactorMethod: Totp, Otp),
        events(&users).filter_map(|event| match event {
            UserEvent::SecondFactorEnabled { method, .. } => Some(method),
            _ => None,
        }),
    );
    check_variants(
        variants!(ReadLog: Vault, Vaults, SecurityLog, SecurityLogs, Events),
        events(&users).filter_map(|event| match event {
            UserEvent::AuditRead { reading, .. } => Some(&reading.of),
            _ => None,
        }),
    );
    check_variants(
        variants!(ErasureReason: OwnRequest, AdminRequest),
        events(&users).filter_map(|event| match event {
            UserEvent::ErasureRequested { reason, .. } => Some(reason),
            _ => None,
        }),
    );
}

#[test]
fn every_end_of_a_membership_and_an_organization_has_a_golden_file() {
    let organizations = organization_events();
    check_variants(
        variants!(RemovalReason: Removed, Left, Erased),
        events(&organizations).filter_map(|event| match event {
            OrganizationEvent::MemberRemoved { reason, .. } => Some(reason),
            _ => None,
        }),
    );
    check_variants(
        variants!(CloseReason: Deleted, Deserted),
        events(&organizations).filter_map(|event| match event {
            OrganizationEvent::Closed { reason, .. } => Some(reason),
            _ => None,
        }),
    );
}

#[test]
fn every_refusal_and_fault_of_a_vault_has_a_golden_file() {
    let vaults = vault_events();
    check_variants(
        variants!(Refusal: NoVault, ZeroKnowledge, NoRecoveryWrap, NothingKept, AnotherKey, Impersonated, NotProven, WrongPassword, NoPassword, TooManyTries),
        events(&vaults).filter_map(|event| match event {
            VaultEvent::Refused { reason, .. } => Some(reason),
            _ => None,
        }),
    );
    check_variants(
        variants!(Fault: RowOutdated, RowLost, RowUnreadable, WrapNotOpened),
        events(&vaults).filter_map(|event| match event {
            VaultEvent::Failed { fault, .. } => Some(fault),
            _ => None,
        }),
    );
    let actions = variants!(Action: Init, Fetch, Rotate, RecoverySet, RecoveryClear, RecoveryRestore, ZkEnable, ZkDisable);
    check_variants(
        actions,
        events(&vaults).filter_map(|event| match event {
            VaultEvent::Initialised { action, .. }
            | VaultEvent::KeyFetched { action, .. }
            | VaultEvent::NothingToDo { action, .. }
            | VaultEvent::Refused { action, .. } => Some(action),
            _ => None,
        }),
    );
}

/// The texts of choices are stored too.
#[test]
fn roles_and_tiers_keep_their_texts() {
    let texts = |json: serde_json::Value| json.to_string();
    assert_eq!(
        texts(
            serde_json::to_value(["user", "admin", "service", "user,admin"].map(Roles::parse))
                .unwrap()
        ),
        r#"["user","admin","service","user,admin"]"#
    );
    assert_eq!(
        texts(serde_json::to_value(Tier::ALL).unwrap()),
        r#"["guest","public","beta","alpha","founder"]"#
    );
}

#[test]
fn every_event_of_a_vault_has_an_action_that_can_be_asked_for() {
    let vaults = vault_events();
    let shown: BTreeSet<&str> = events(&vaults).map(|event| event.line().action).collect();
    assert_eq!(shown, BTreeSet::from(ACTIONS));
}

#[test]
fn the_events_that_change_a_vault_are_known_by_their_types() {
    let modes = [
        Vault::Absent,
        Vault::Standard,
        Vault::StandardWithRecovery,
        Vault::ZeroKnowledge,
    ];
    let mut changing = BTreeSet::new();
    for (_, event) in vault_events() {
        for before in modes {
            let mut after = before;
            after.apply(event.clone());
            if after != before {
                changing.insert(event.event_type());
            }
        }
    }
    assert_eq!(changing, VaultEvent::CHANGING.map(str::to_owned).into());
}
