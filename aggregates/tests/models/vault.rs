//! A vault is kept in two ways, one of them, the other, or not at all.

use aggregates::UserId;
use aggregates::vault::{
    Action, Ask, Client, Fault, Kept, Refusal, Vault, VaultCommand, VaultEvent,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{LENGTH, Outcome, Seen, Stream, assert_agree, for_all, minute};

/// Who can open the key, without events.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Model {
    by_service: bool,
    by_code: bool,
}

impl Model {
    /// The type of the one event, and the line of the audit log.
    fn expect(&mut self, ask: &Ask) -> (&'static str, &'static str, u16) {
        let exists = self.by_service || self.by_code;
        let fetched = |action| match action {
            Action::Init => ("vault.key_fetched", "init", 200),
            _ => ("vault.key_fetched", "fetch", 200),
        };
        let given = |broken: &Option<String>, action| match broken {
            Some(_) if self.by_service => ("vault.key_not_opened", "failed_fetch", 500),
            _ => fetched(action),
        };
        match ask {
            Ask::Init { broken, .. } if exists => given(broken, Action::Init),
            Ask::Init { .. } => {
                self.by_service = true;
                ("vault.initialised", "init", 201)
            }
            Ask::Fetch { .. } if !exists => ("vault.refused", "failed_fetch", 404),
            Ask::Fetch { broken } => given(broken, Action::Fetch),
            Ask::Rotate { .. } if exists && !self.by_service => ("vault.refused", "rotate", 409),
            Ask::Rotate { .. } => {
                (self.by_service, self.by_code) = (true, false);
                if exists {
                    ("vault.key_rotated", "rotate", 200)
                } else {
                    ("vault.initialised", "rotate", 201)
                }
            }
            Ask::SetRecoveryWrap { .. } if !exists => ("vault.refused", "recovery_set", 404),
            Ask::SetRecoveryWrap { another_key: true } => ("vault.refused", "recovery_set", 409),
            Ask::SetRecoveryWrap { another_key: false } => {
                self.by_code = true;
                ("vault.recovery_wrap_set", "recovery_set", 200)
            }
            Ask::ClearRecoveryWrap if !exists => ("vault.refused", "recovery_clear", 404),
            Ask::ClearRecoveryWrap if !self.by_service => ("vault.refused", "recovery_clear", 409),
            Ask::ClearRecoveryWrap if !self.by_code => {
                ("vault.nothing_to_do", "recovery_clear", 200)
            }
            Ask::ClearRecoveryWrap => {
                self.by_code = false;
                ("vault.recovery_wrap_cleared", "recovery_clear", 200)
            }
            Ask::RestoreRecoveryWrap { kept } => match kept {
                Some(Kept::NotOpened) if exists => ("vault.failed", "recovery_restore", 500),
                Some(kept) if exists => {
                    self.by_code |= *kept == Kept::ThisKey;
                    ("vault.recovery_wrap_restored", "recovery_restore", 200)
                }
                _ => ("vault.refused", "recovery_restore", 404),
            },
            Ask::EnableZeroKnowledge if !exists => ("vault.refused", "zk_enable", 404),
            Ask::EnableZeroKnowledge if !self.by_code => ("vault.refused", "zk_enable", 400),
            Ask::EnableZeroKnowledge if !self.by_service => {
                ("vault.nothing_to_do", "zk_enable", 200)
            }
            Ask::EnableZeroKnowledge => {
                self.by_service = false;
                ("vault.zero_knowledge_enabled", "zk_enable", 200)
            }
            Ask::DisableZeroKnowledge { .. } if !exists => ("vault.refused", "zk_disable", 404),
            Ask::DisableZeroKnowledge { .. } if self.by_service => {
                ("vault.nothing_to_do", "zk_disable", 200)
            }
            Ask::DisableZeroKnowledge {
                same_key: Some(false),
                must_match: true,
                ..
            } => ("vault.refused", "zk_disable", 409),
            Ask::DisableZeroKnowledge { .. } => {
                self.by_service = true;
                ("vault.zero_knowledge_disabled", "zk_disable", 200)
            }
            Ask::Denied { .. } => ("vault.refused", "rotate", 403),
            Ask::Broken { .. } => ("vault.failed", "rotate", 500),
            Ask::TooMuch => ("vault.calls_limited", "rate_limited", 429),
        }
    }

    fn of(vault: Vault) -> Self {
        let (by_service, by_code) = match vault {
            Vault::Absent => (false, false),
            Vault::Standard => (true, false),
            Vault::StandardWithRecovery => (true, true),
            Vault::ZeroKnowledge => (false, true),
        };
        Self {
            by_service,
            by_code,
        }
    }
}

fn ask() -> impl Strategy<Value = Ask> {
    let kek_id = || "k1".to_owned();
    let broken = || prop::option::weighted(0.2, Just("altered".to_owned()));
    let kept = prop::option::of(prop::sample::select(vec![
        Kept::ThisKey,
        Kept::AnotherKey,
        Kept::NotOpened,
    ]));
    prop_oneof![
        3 => broken().prop_map(move |broken| Ask::Init { kek_id: kek_id(), broken }),
        3 => broken().prop_map(|broken| Ask::Fetch { broken }),
        2 => Just(Ask::Rotate { kek_id: kek_id() }),
        4 => any::<bool>().prop_map(|another_key| Ask::SetRecoveryWrap { another_key }),
        2 => Just(Ask::ClearRecoveryWrap),
        2 => kept.prop_map(|kept| Ask::RestoreRecoveryWrap { kept }),
        4 => Just(Ask::EnableZeroKnowledge),
        4 => (prop::option::of(any::<bool>()), any::<bool>()).prop_map(move |(same_key, must_match)| {
            Ask::DisableZeroKnowledge { kek_id: kek_id(), same_key, must_match }
        }),
        1 => Just(Ask::Denied { action: Action::Rotate, reason: Refusal::Impersonated }),
        1 => Just(Ask::Broken { action: Action::Rotate, fault: Fault::RowLost }),
        1 => Just(Ask::TooMuch),
    ]
}

#[test]
fn a_vault_does_what_its_model_says() {
    let seen = Seen::default();
    for_all(vec(ask(), LENGTH), |asked| {
        let (mut model, mut stream) = (Model::default(), Stream::<Vault>::new());
        for (now, ask) in (0..).zip(asked) {
            let (event_type, action, status) = model.expect(&ask);
            let expected: Outcome<String> = Ok(vec![event_type]);
            seen.note(&expected);
            let event: VaultEvent = stream.running.decide(VaultCommand {
                ask: ask.clone(),
                owner: UserId::new("u1"),
                client: Client::default(),
                at: minute(now),
            });
            assert_agree(&Ok(vec![event.clone()]), &expected, &ask);
            let line = event.line();
            assert_eq!((line.action, line.status), (action, status), "{ask:?}");
            assert_eq!(event.access().at, minute(now));
            let before = stream.running;
            stream.append(&[event]);
            assert_eq!(Model::of(stream.running), model, "{ask:?}");
            // I-4: what was refused has changed nothing.
            assert!(status < 400 || stream.running == before, "{ask:?}");
        }
    });
    seen.assert_often(&[
        "vault.initialised",
        "vault.key_fetched",
        "vault.key_not_opened",
        "vault.key_rotated",
        "vault.recovery_wrap_set",
        "vault.recovery_wrap_cleared",
        "vault.recovery_wrap_restored",
        "vault.zero_knowledge_enabled",
        "vault.zero_knowledge_disabled",
        "vault.nothing_to_do",
        "vault.refused",
        "vault.failed",
        "vault.calls_limited",
    ]);
}
