use chrono::{DateTime, Utc};
use cqrs_es::test::TestFramework;

use super::*;
use crate::UserId;

fn at() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
}

fn client() -> Client {
    Client {
        ip_address: "192.0.2.1".into(),
        user_agent: "x".into(),
    }
}

fn access() -> Access {
    Access {
        client: Personal::about("u1", client()),
        at: at(),
    }
}

fn kek() -> String {
    "env-v1".to_owned()
}

fn initialised() -> VaultEvent {
    VaultEvent::Initialised {
        action: Action::Init,
        kek_id: kek(),
        access: access(),
    }
}

fn recovery_set() -> VaultEvent {
    VaultEvent::RecoveryWrapSet { access: access() }
}

fn zk_enabled() -> VaultEvent {
    VaultEvent::ZeroKnowledgeEnabled { access: access() }
}

/// What has happened before, for each mode.
fn history(mode: Vault) -> Vec<VaultEvent> {
    match mode {
        Vault::Absent => vec![],
        Vault::Standard => vec![initialised()],
        Vault::StandardWithRecovery => vec![initialised(), recovery_set()],
        Vault::ZeroKnowledge => vec![initialised(), recovery_set(), zk_enabled()],
    }
}

const MODES: [Vault; 4] = [
    Vault::Absent,
    Vault::Standard,
    Vault::StandardWithRecovery,
    Vault::ZeroKnowledge,
];

/// What follows in each of the modes, and the mode afterwards.
fn assert_follows(ask: Ask, follows: [(VaultEvent, Vault); 4]) {
    for (mode, (event, after)) in MODES.into_iter().zip(follows) {
        let command = VaultCommand {
            ask: ask.clone(),
            owner: UserId::new("u1"),
            client: client(),
            at: at(),
        };
        TestFramework::<Vault>::with(())
            .given(history(mode))
            .when(command)
            .then_expect_events(vec![event.clone()]);
        let mut vault = Vault::default();
        for event in history(mode).into_iter().chain([event]) {
            vault.apply(event);
        }
        assert_eq!(vault, after, "{ask:?} in {mode:?}");
    }
}

fn refusal(action: Action, reason: Refusal) -> VaultEvent {
    refused(action, reason, access())
}

fn fetched(action: Action, zero_knowledge: bool) -> VaultEvent {
    VaultEvent::KeyFetched {
        action,
        zero_knowledge,
        access: access(),
    }
}

fn not_opened(action: Action) -> VaultEvent {
    VaultEvent::KeyNotOpened {
        action,
        reason: "altered".into(),
        access: access(),
    }
}

fn nothing_to_do(action: Action) -> VaultEvent {
    VaultEvent::NothingToDo {
        action,
        access: access(),
    }
}

use Vault::{Absent, Standard, StandardWithRecovery as WithRecovery, ZeroKnowledge};

#[test]
fn the_first_call_makes_a_key_and_all_others_give_it() {
    let ask = |broken: Option<&str>| Ask::Init {
        kek_id: kek(),
        broken: broken.map(str::to_owned),
    };
    assert_follows(
        ask(None),
        [
            (initialised(), Standard),
            (fetched(Action::Init, false), Standard),
            (fetched(Action::Init, false), WithRecovery),
            (fetched(Action::Init, true), ZeroKnowledge),
        ],
    );
    assert_follows(
        ask(Some("altered")),
        [
            (initialised(), Standard),
            (not_opened(Action::Init), Standard),
            (not_opened(Action::Init), WithRecovery),
            (fetched(Action::Init, true), ZeroKnowledge),
        ],
    );
}

#[test]
fn a_key_is_given_where_there_is_one_that_opens() {
    let broken = Some("altered".to_owned());
    assert_follows(
        Ask::Fetch { broken: None },
        [
            (refusal(Action::Fetch, Refusal::NoVault), Absent),
            (fetched(Action::Fetch, false), Standard),
            (fetched(Action::Fetch, false), WithRecovery),
            (fetched(Action::Fetch, true), ZeroKnowledge),
        ],
    );
    assert_follows(
        Ask::Fetch { broken },
        [
            (refusal(Action::Fetch, Refusal::NoVault), Absent),
            (not_opened(Action::Fetch), Standard),
            (not_opened(Action::Fetch), WithRecovery),
            (fetched(Action::Fetch, true), ZeroKnowledge),
        ],
    );
}

#[test]
fn a_rotation_makes_a_key_ends_the_recovery_wrap_and_is_refused_in_zero_knowledge_mode() {
    let rotated = VaultEvent::KeyRotated {
        kek_id: kek(),
        access: access(),
    };
    let first = VaultEvent::Initialised {
        action: Action::Rotate,
        kek_id: kek(),
        access: access(),
    };
    let forbidden = refusal(Action::Rotate, Refusal::ZeroKnowledge);
    assert_follows(
        Ask::Rotate { kek_id: kek() },
        [
            (first, Standard),
            (rotated.clone(), Standard),
            (rotated, Standard),
            (forbidden, ZeroKnowledge),
        ],
    );
}

#[test]
fn a_recovery_wrap_is_set_and_replaced_wherever_there_is_a_vault() {
    assert_follows(
        Ask::SetRecoveryWrap { another_key: false },
        [
            (refusal(Action::RecoverySet, Refusal::NoVault), Absent),
            (recovery_set(), WithRecovery),
            (recovery_set(), WithRecovery),
            (recovery_set(), ZeroKnowledge),
        ],
    );
}

/// S-77
#[test]
fn a_recovery_wrap_of_another_key_is_set_nowhere() {
    let mismatch = refusal(Action::RecoverySet, Refusal::AnotherKey);
    assert_follows(
        Ask::SetRecoveryWrap { another_key: true },
        [
            (refusal(Action::RecoverySet, Refusal::NoVault), Absent),
            (mismatch.clone(), Standard),
            (mismatch.clone(), WithRecovery),
            (mismatch, ZeroKnowledge),
        ],
    );
}

#[test]
fn a_recovery_wrap_is_cleared_unless_nothing_else_holds_the_key() {
    let cleared = VaultEvent::RecoveryWrapCleared { access: access() };
    let forbidden = refusal(Action::RecoveryClear, Refusal::ZeroKnowledge);
    assert_follows(
        Ask::ClearRecoveryWrap,
        [
            (refusal(Action::RecoveryClear, Refusal::NoVault), Absent),
            (nothing_to_do(Action::RecoveryClear), Standard),
            (cleared, Standard),
            (forbidden, ZeroKnowledge),
        ],
    );
}

#[test]
fn a_recovery_wrap_of_before_is_put_back_only_if_it_holds_the_key_of_now() {
    let action = Action::RecoveryRestore;
    let restored = |in_place| VaultEvent::RecoveryWrapRestored {
        in_place,
        access: access(),
    };
    let no_vault = refusal(action, Refusal::NoVault);
    let nothing = refusal(action, Refusal::NothingKept);
    assert_follows(
        Ask::RestoreRecoveryWrap {
            kept: Some(Kept::ThisKey),
        },
        [
            (no_vault.clone(), Absent),
            (restored(true), WithRecovery),
            (restored(true), WithRecovery),
            (restored(true), ZeroKnowledge),
        ],
    );
    assert_follows(
        Ask::RestoreRecoveryWrap {
            kept: Some(Kept::AnotherKey),
        },
        [
            (no_vault.clone(), Absent),
            (restored(false), Standard),
            (restored(false), WithRecovery),
            (restored(false), ZeroKnowledge),
        ],
    );
    assert_follows(
        Ask::RestoreRecoveryWrap { kept: None },
        [
            (no_vault, Absent),
            (nothing.clone(), Standard),
            (nothing.clone(), WithRecovery),
            (nothing, ZeroKnowledge),
        ],
    );
}

#[test]
fn zero_knowledge_mode_needs_a_recovery_wrap() {
    assert_follows(
        Ask::EnableZeroKnowledge,
        [
            (refusal(Action::ZkEnable, Refusal::NoVault), Absent),
            (refusal(Action::ZkEnable, Refusal::NoRecoveryWrap), Standard),
            (zk_enabled(), ZeroKnowledge),
            (nothing_to_do(Action::ZkEnable), ZeroKnowledge),
        ],
    );
}

#[test]
fn whoever_ends_zero_knowledge_mode_hands_a_key_back_and_keeps_the_recovery_wrap() {
    for (same_key, must_match) in [
        (Some(true), true),
        (Some(true), false),
        (None, true),
        (None, false),
        (Some(false), false),
        (Some(false), true),
    ] {
        let ended = VaultEvent::ZeroKnowledgeDisabled {
            kek_id: kek(),
            another_key: same_key == Some(false),
            access: access(),
        };
        // S-77: only where the operator wants it, and only where it is known.
        let last = if same_key == Some(false) && must_match {
            let mismatch = refusal(Action::ZkDisable, Refusal::AnotherKey);
            (mismatch, ZeroKnowledge)
        } else {
            (ended, WithRecovery)
        };
        assert_follows(
            Ask::DisableZeroKnowledge {
                kek_id: kek(),
                same_key,
                must_match,
            },
            [
                (refusal(Action::ZkDisable, Refusal::NoVault), Absent),
                (nothing_to_do(Action::ZkDisable), Standard),
                (nothing_to_do(Action::ZkDisable), WithRecovery),
                last,
            ],
        );
    }
}

/// S-66, S-75, I-11: what comes to nothing at the door is written down, and changes nothing.
#[test]
fn what_the_door_refuses_is_an_event_in_every_mode_s75() {
    let limited = VaultEvent::CallsLimited { access: access() };
    assert_follows(Ask::TooMuch, MODES.map(|mode| (limited.clone(), mode)));
    for action in ACTIONS {
        for reason in [Refusal::Impersonated, Refusal::NotProven] {
            let denied = refusal(action, reason);
            assert_follows(
                Ask::Denied { action, reason },
                MODES.map(|mode| (denied.clone(), mode)),
            );
        }
    }
}

const ACTIONS: [Action; 8] = [
    Action::Init,
    Action::Fetch,
    Action::Rotate,
    Action::RecoverySet,
    Action::RecoveryClear,
    Action::RecoveryRestore,
    Action::ZkEnable,
    Action::ZkDisable,
];

/// S-75: the same for what fails; whoever was to be given a key is told that it does not open.
#[test]
fn what_is_stored_in_disorder_is_an_event_in_every_mode_s75() {
    for action in ACTIONS {
        for fault in FAULTS {
            let event = match action {
                Action::Init | Action::Fetch => VaultEvent::KeyNotOpened {
                    action,
                    reason: fault.as_str().to_owned(),
                    access: access(),
                },
                _ => failed(action, fault),
            };
            assert_follows(
                Ask::Broken { action, fault },
                MODES.map(|mode| (event.clone(), mode)),
            );
        }
    }
    let action = Action::RecoveryRestore;
    let not_opened = failed(action, Fault::WrapNotOpened);
    assert_follows(
        Ask::RestoreRecoveryWrap {
            kept: Some(Kept::NotOpened),
        },
        [
            (refusal(action, Refusal::NoVault), Absent),
            (not_opened.clone(), Standard),
            (not_opened.clone(), WithRecovery),
            (not_opened, ZeroKnowledge),
        ],
    );
}

fn failed(action: Action, fault: Fault) -> VaultEvent {
    VaultEvent::Failed {
        action,
        fault,
        access: access(),
    }
}

const FAULTS: [Fault; 4] = [
    Fault::RowOutdated,
    Fault::RowLost,
    Fault::RowUnreadable,
    Fault::WrapNotOpened,
];

/// mana-v1.md section 5.4, line by line; then what it does not know.
#[test]
fn every_event_has_its_line_of_the_audit_log() {
    let initialised_by_rotation = VaultEvent::Initialised {
        action: Action::Rotate,
        kek_id: kek(),
        access: access(),
    };
    let rotated = VaultEvent::KeyRotated {
        kek_id: kek(),
        access: access(),
    };
    let disabled = |another_key| VaultEvent::ZeroKnowledgeDisabled {
        kek_id: kek(),
        another_key,
        access: access(),
    };
    let restored = |in_place| VaultEvent::RecoveryWrapRestored {
        in_place,
        access: access(),
    };
    let cleared = VaultEvent::RecoveryWrapCleared { access: access() };
    let limited = VaultEvent::CallsLimited { access: access() };
    for (event, action, status, context) in [
        (initialised(), "init", 201, "created"),
        (fetched(Action::Init, false), "init", 200, "already-exists"),
        (
            fetched(Action::Init, true),
            "init",
            200,
            "already-exists-zk",
        ),
        (fetched(Action::Fetch, false), "fetch", 200, ""),
        (
            fetched(Action::Fetch, true),
            "fetch",
            200,
            "zk-recovery-blob",
        ),
        (
            refusal(Action::Fetch, Refusal::NoVault),
            "failed_fetch",
            404,
            "not-initialised",
        ),
        (
            not_opened(Action::Fetch),
            "failed_fetch",
            500,
            "unwrap-failed: altered",
        ),
        (
            not_opened(Action::Init),
            "failed_fetch",
            500,
            "unwrap-failed: altered",
        ),
        (rotated, "rotate", 200, ""),
        (initialised_by_rotation, "rotate", 201, "init-on-rotate"),
        (
            refusal(Action::Rotate, Refusal::ZeroKnowledge),
            "rotate",
            409,
            "zk-rotate-forbidden",
        ),
        (recovery_set(), "recovery_set", 200, ""),
        (
            refusal(Action::RecoverySet, Refusal::NoVault),
            "recovery_set",
            404,
            "no-vault",
        ),
        (cleared, "recovery_clear", 200, ""),
        (
            nothing_to_do(Action::RecoveryClear),
            "recovery_clear",
            200,
            "",
        ),
        (
            refusal(Action::RecoveryClear, Refusal::NoVault),
            "recovery_clear",
            404,
            "no-vault",
        ),
        (
            refusal(Action::RecoveryClear, Refusal::ZeroKnowledge),
            "recovery_clear",
            409,
            "zk-active",
        ),
        (zk_enabled(), "zk_enable", 200, ""),
        (
            nothing_to_do(Action::ZkEnable),
            "zk_enable",
            200,
            "already-enabled",
        ),
        (
            refusal(Action::ZkEnable, Refusal::NoRecoveryWrap),
            "zk_enable",
            400,
            "no-recovery-wrap",
        ),
        (
            refusal(Action::ZkEnable, Refusal::NoVault),
            "zk_enable",
            404,
            "no-vault",
        ),
        (disabled(false), "zk_disable", 200, ""),
        (
            nothing_to_do(Action::ZkDisable),
            "zk_disable",
            200,
            "already-disabled",
        ),
        (
            refusal(Action::ZkDisable, Refusal::NoVault),
            "zk_disable",
            404,
            "no-vault",
        ),
        (disabled(true), "zk_disable", 200, ""),
        (
            refusal(Action::ZkDisable, Refusal::AnotherKey),
            "zk_disable",
            409,
            "another-key",
        ),
        (restored(true), "recovery_restore", 200, ""),
        (restored(false), "recovery_restore", 200, "another-key"),
        (
            refusal(Action::RecoveryRestore, Refusal::NoVault),
            "recovery_restore",
            404,
            "no-vault",
        ),
        (
            refusal(Action::RecoveryRestore, Refusal::NothingKept),
            "recovery_restore",
            404,
            "nothing-kept",
        ),
        (
            refusal(Action::Fetch, Refusal::Impersonated),
            "failed_fetch",
            403,
            "impersonated",
        ),
        (
            refusal(Action::ZkEnable, Refusal::Impersonated),
            "zk_enable",
            403,
            "impersonated",
        ),
        (
            refusal(Action::RecoveryRestore, Refusal::NotProven),
            "recovery_restore",
            403,
            "not-proven",
        ),
        (
            refusal(Action::RecoveryRestore, Refusal::WrongPassword),
            "recovery_restore",
            401,
            "wrong-password",
        ),
        (
            refusal(Action::RecoveryRestore, Refusal::NoPassword),
            "recovery_restore",
            400,
            "no-password",
        ),
        (
            refusal(Action::RecoveryRestore, Refusal::TooManyTries),
            "recovery_restore",
            429,
            "too-many-tries",
        ),
        (
            failed(Action::Rotate, Fault::RowOutdated),
            "rotate",
            500,
            "row-outdated",
        ),
        (
            failed(Action::Rotate, Fault::RowLost),
            "rotate",
            500,
            "row-lost",
        ),
        (
            failed(Action::ZkEnable, Fault::RowUnreadable),
            "zk_enable",
            500,
            "row-unreadable",
        ),
        (
            failed(Action::RecoveryRestore, Fault::WrapNotOpened),
            "recovery_restore",
            500,
            "wrap-not-opened",
        ),
        (limited, "rate_limited", 429, "too-many-calls"),
    ] {
        let line = event.line();
        let context = (!context.is_empty()).then(|| context.into());
        let wanted = Line {
            action,
            status,
            context,
        };
        assert_eq!(line, wanted, "{event:?}");
        assert_eq!(event.access(), &access());
    }
}

#[test]
fn an_event_says_nothing_of_its_person_in_clear() {
    let text = format!("{:?}", recovery_set());
    assert!(!text.contains("192.0.2.1"), "{text}");
    assert!(crate::StoredEvent::claims(&recovery_set()).is_empty());
}
