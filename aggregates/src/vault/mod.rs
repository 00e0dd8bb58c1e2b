//! Vault: the key that encrypts what a person keeps in the apps, in the modes of mana-v1.md section 5.2. One stream for
//! each person, under the person's id.
//!
//! Every call is an event, also one that is refused: who asked for somebody's key in vain is what an auditor wants to
//! see. So a decision is always exactly one event, and there is no error.

mod audit;
mod commands;
mod events;
#[cfg(test)]
mod tests;

use cqrs_es::Aggregate;
use cqrs_es::event_sink::EventSink;
use serde::{Deserialize, Serialize};

pub use audit::{ACTIONS, Line};
pub use commands::{Ask, Kept, VaultCommand};
pub use events::{Access, Action, Client, Fault, KEY_FETCHED, Refusal, VaultEvent};

use crate::Personal;

/// A vault in its modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Vault {
    /// There is none.
    #[default]
    Absent,
    /// The service can open the key, and nobody else.
    Standard,
    /// The service can open it, and so can the recovery code.
    StandardWithRecovery,
    /// Nobody but the recovery code can open it.
    ZeroKnowledge,
}

/// Nothing is refused without an event.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum VaultError {}

impl Vault {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Standard => "standard",
            Self::StandardWithRecovery => "standard-with-recovery",
            Self::ZeroKnowledge => "zero-knowledge",
        }
    }

    /// Says which event follows from `command`.
    pub fn decide(&self, command: VaultCommand) -> VaultEvent {
        let VaultCommand {
            ask,
            owner,
            client,
            at,
        } = command;
        let access = Access {
            client: Personal::about(owner.as_str(), client),
            at,
        };
        match ask {
            Ask::Init { kek_id, broken } => self.init(kek_id, broken, access),
            Ask::Fetch { broken } => self.fetch(Action::Fetch, broken, access),
            Ask::Rotate { kek_id } => self.rotate(kek_id, access),
            Ask::SetRecoveryWrap { another_key } => self.set_recovery_wrap(another_key, access),
            Ask::ClearRecoveryWrap => self.clear_recovery_wrap(access),
            Ask::RestoreRecoveryWrap { kept } => self.restore_recovery_wrap(kept, access),
            Ask::EnableZeroKnowledge => self.enable_zero_knowledge(access),
            Ask::DisableZeroKnowledge {
                kek_id,
                same_key,
                must_match,
            } => self.disable_zero_knowledge(kek_id, same_key, must_match, access),
            Ask::Denied { action, reason } => refused(action, reason, access),
            Ask::Broken { action, fault } => broken(action, fault, access),
            Ask::TooMuch => VaultEvent::CallsLimited { access },
        }
    }

    fn init(&self, kek_id: String, broken: Option<String>, access: Access) -> VaultEvent {
        let action = Action::Init;
        match self {
            Self::Absent => VaultEvent::Initialised {
                action,
                kek_id,
                access,
            },
            Self::Standard | Self::StandardWithRecovery | Self::ZeroKnowledge => {
                self.fetch(action, broken, access)
            }
        }
    }

    fn fetch(&self, action: Action, broken: Option<String>, access: Access) -> VaultEvent {
        match (self, broken) {
            (Self::Absent, _) => refused(action, Refusal::NoVault, access),
            (Self::ZeroKnowledge, _) => VaultEvent::KeyFetched {
                action,
                zero_knowledge: true,
                access,
            },
            (Self::Standard | Self::StandardWithRecovery, None) => VaultEvent::KeyFetched {
                action,
                zero_knowledge: false,
                access,
            },
            (Self::Standard | Self::StandardWithRecovery, Some(reason)) => {
                VaultEvent::KeyNotOpened {
                    action,
                    reason,
                    access,
                }
            }
        }
    }

    fn rotate(&self, kek_id: String, access: Access) -> VaultEvent {
        match self {
            Self::Absent => VaultEvent::Initialised {
                action: Action::Rotate,
                kek_id,
                access,
            },
            Self::Standard | Self::StandardWithRecovery => {
                VaultEvent::KeyRotated { kek_id, access }
            }
            // The new key could be given to nobody who could give it back.
            Self::ZeroKnowledge => refused(Action::Rotate, Refusal::ZeroKnowledge, access),
        }
    }

    fn clear_recovery_wrap(&self, access: Access) -> VaultEvent {
        let action = Action::RecoveryClear;
        match self {
            Self::Absent => refused(action, Refusal::NoVault, access),
            Self::Standard => VaultEvent::NothingToDo { action, access },
            Self::StandardWithRecovery => VaultEvent::RecoveryWrapCleared { access },
            Self::ZeroKnowledge => refused(action, Refusal::ZeroKnowledge, access),
        }
    }

    fn restore_recovery_wrap(&self, kept: Option<Kept>, access: Access) -> VaultEvent {
        let action = Action::RecoveryRestore;
        match (self, kept) {
            (Self::Absent, _) => refused(action, Refusal::NoVault, access),
            (_, None) => refused(action, Refusal::NothingKept, access),
            (_, Some(Kept::NotOpened)) => broken(action, Fault::WrapNotOpened, access),
            // One that holds another key would promise a recovery that does not work.
            (_, Some(kept)) => VaultEvent::RecoveryWrapRestored {
                in_place: kept == Kept::ThisKey,
                access,
            },
        }
    }

    fn enable_zero_knowledge(&self, access: Access) -> VaultEvent {
        let action = Action::ZkEnable;
        match self {
            Self::Absent => refused(action, Refusal::NoVault, access),
            Self::Standard => refused(action, Refusal::NoRecoveryWrap, access),
            Self::StandardWithRecovery => VaultEvent::ZeroKnowledgeEnabled { access },
            Self::ZeroKnowledge => VaultEvent::NothingToDo { action, access },
        }
    }

    fn set_recovery_wrap(&self, another_key: bool, access: Access) -> VaultEvent {
        let action = Action::RecoverySet;
        match self {
            Self::Absent => refused(action, Refusal::NoVault, access),
            _ if another_key => refused(action, Refusal::AnotherKey, access),
            Self::Standard | Self::StandardWithRecovery | Self::ZeroKnowledge => {
                VaultEvent::RecoveryWrapSet { access }
            }
        }
    }

    fn disable_zero_knowledge(
        &self,
        kek_id: String,
        same_key: Option<bool>,
        must_match: bool,
        access: Access,
    ) -> VaultEvent {
        let action = Action::ZkDisable;
        let another_key = same_key == Some(false);
        match self {
            Self::Absent => refused(action, Refusal::NoVault, access),
            Self::Standard | Self::StandardWithRecovery => {
                VaultEvent::NothingToDo { action, access }
            }
            Self::ZeroKnowledge if another_key && must_match => {
                refused(action, Refusal::AnotherKey, access)
            }
            Self::ZeroKnowledge => VaultEvent::ZeroKnowledgeDisabled {
                kek_id,
                another_key,
                access,
            },
        }
    }
}

fn refused(action: Action, reason: Refusal, access: Access) -> VaultEvent {
    VaultEvent::Refused {
        action,
        reason,
        access,
    }
}

/// A key that was to be given out does not open, whatever the reason.
fn broken(action: Action, fault: Fault, access: Access) -> VaultEvent {
    match action {
        Action::Init | Action::Fetch => VaultEvent::KeyNotOpened {
            action,
            reason: fault.as_str().to_owned(),
            access,
        },
        _ => VaultEvent::Failed {
            action,
            fault,
            access,
        },
    }
}

impl Aggregate for Vault {
    const TYPE: &'static str = "vault";
    type Command = VaultCommand;
    type Event = VaultEvent;
    type Error = VaultError;
    type Services = ();

    async fn handle(
        &mut self,
        command: VaultCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), VaultError> {
        sink.write(self.decide(command), self).await;
        Ok(())
    }

    fn apply(&mut self, event: VaultEvent) {
        match event {
            VaultEvent::Initialised { .. }
            | VaultEvent::KeyRotated { .. }
            | VaultEvent::RecoveryWrapCleared { .. } => *self = Self::Standard,
            VaultEvent::RecoveryWrapSet { .. }
            | VaultEvent::RecoveryWrapRestored { in_place: true, .. } => {
                if *self == Self::Standard {
                    *self = Self::StandardWithRecovery;
                }
            }
            VaultEvent::ZeroKnowledgeEnabled { .. } => *self = Self::ZeroKnowledge,
            VaultEvent::ZeroKnowledgeDisabled { .. } => *self = Self::StandardWithRecovery,
            VaultEvent::KeyFetched { .. }
            | VaultEvent::KeyNotOpened { .. }
            | VaultEvent::RecoveryWrapRestored {
                in_place: false, ..
            }
            | VaultEvent::NothingToDo { .. }
            | VaultEvent::Refused { .. }
            | VaultEvent::Failed { .. }
            | VaultEvent::CallsLimited { .. } => {}
        }
    }
}
