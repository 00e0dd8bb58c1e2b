//! Every shape that a vault's events can have.

use aggregates::vault::{Access, Action, Client, Fault, Refusal, VaultEvent};

use super::{about_ada, at, erased};

/// One event of every shape, with what tells it from the others of its type.
pub fn vault_events() -> Vec<(&'static str, VaultEvent)> {
    let initialised = |action| VaultEvent::Initialised {
        action,
        kek_id: kek(),
        access: access(),
    };
    let fetched = |action, zero_knowledge| VaultEvent::KeyFetched {
        action,
        zero_knowledge,
        access: access(),
    };
    let not_opened = |action| VaultEvent::KeyNotOpened {
        action,
        reason: "the wrapped secret does not belong here or was altered".to_owned(),
        access: access(),
    };
    let restored = |in_place| VaultEvent::RecoveryWrapRestored {
        in_place,
        access: access(),
    };
    let disabled = |another_key| VaultEvent::ZeroKnowledgeDisabled {
        kek_id: kek(),
        another_key,
        access: access(),
    };
    let nothing = |action| VaultEvent::NothingToDo {
        action,
        access: access(),
    };
    let refused = |action, reason| VaultEvent::Refused {
        action,
        reason,
        access: access(),
    };
    let failed = |action, fault| VaultEvent::Failed {
        action,
        fault,
        access: access(),
    };
    vec![
        ("", initialised(Action::Init)),
        (".rotate", initialised(Action::Rotate)),
        ("", fetched(Action::Fetch, false)),
        (".zero_knowledge", fetched(Action::Fetch, true)),
        (".init", fetched(Action::Init, false)),
        (".erased", erased_fetch()),
        ("", not_opened(Action::Fetch)),
        (".init", not_opened(Action::Init)),
        (
            "",
            VaultEvent::KeyRotated {
                kek_id: kek(),
                access: access(),
            },
        ),
        ("", VaultEvent::RecoveryWrapSet { access: access() }),
        ("", VaultEvent::RecoveryWrapCleared { access: access() }),
        ("", restored(true)),
        (".another_key", restored(false)),
        ("", VaultEvent::ZeroKnowledgeEnabled { access: access() }),
        ("", disabled(false)),
        (".another_key", disabled(true)),
        (".recovery_clear", nothing(Action::RecoveryClear)),
        (".zk_enable", nothing(Action::ZkEnable)),
        (".zk_disable", nothing(Action::ZkDisable)),
        (".no_vault", refused(Action::RecoverySet, Refusal::NoVault)),
        (
            ".zero_knowledge",
            refused(Action::Rotate, Refusal::ZeroKnowledge),
        ),
        (
            ".no_recovery_wrap",
            refused(Action::ZkEnable, Refusal::NoRecoveryWrap),
        ),
        (
            ".nothing_kept",
            refused(Action::RecoveryRestore, Refusal::NothingKept),
        ),
        (
            ".another_key",
            refused(Action::ZkDisable, Refusal::AnotherKey),
        ),
        (
            ".impersonated",
            refused(Action::RecoveryClear, Refusal::Impersonated),
        ),
        (
            ".not_proven",
            refused(Action::RecoveryRestore, Refusal::NotProven),
        ),
        (
            ".wrong_password",
            refused(Action::RecoveryRestore, Refusal::WrongPassword),
        ),
        (
            ".no_password",
            refused(Action::RecoveryRestore, Refusal::NoPassword),
        ),
        (
            ".too_many_tries",
            refused(Action::RecoveryRestore, Refusal::TooManyTries),
        ),
        (".fetch", refused(Action::Fetch, Refusal::NoVault)),
        (".row_outdated", failed(Action::Rotate, Fault::RowOutdated)),
        (".row_lost", failed(Action::Rotate, Fault::RowLost)),
        (
            ".row_unreadable",
            failed(Action::RecoverySet, Fault::RowUnreadable),
        ),
        (
            ".wrap_not_opened",
            failed(Action::RecoveryRestore, Fault::WrapNotOpened),
        ),
        ("", VaultEvent::CallsLimited { access: access() }),
    ]
}

fn erased_fetch() -> VaultEvent {
    VaultEvent::KeyFetched {
        action: Action::Fetch,
        zero_knowledge: false,
        access: Access {
            client: erased(),
            at: at(50),
        },
    }
}

fn kek() -> String {
    "env-v1".to_owned()
}

fn access() -> Access {
    Access {
        client: about_ada(Client {
            ip_address: "2001:db8::1".to_owned(),
            user_agent: "Mozilla/5.0 (\"quoted\")".to_owned(),
        }),
        at: at(50),
    }
}
