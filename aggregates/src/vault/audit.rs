//! Events in the words of the audit log (mana-v1.md section 5.4): an action, a status and what there is to say.

use std::borrow::Cow;

use super::{Action, Refusal, VaultEvent};

/// A line of the audit log, but for who asked and when.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// What was asked for.
    pub action: &'static str,
    /// How it was answered, in numbers like those of HTTP.
    pub status: u16,
    /// More about it.
    pub context: Option<Cow<'static, str>>,
}

/// Every action that a line may have.
pub const ACTIONS: [&str; 10] = [
    "init",
    "fetch",
    "failed_fetch",
    "rotate",
    "recovery_set",
    "recovery_clear",
    "recovery_restore",
    "zk_enable",
    "zk_disable",
    "rate_limited",
];

impl VaultEvent {
    /// The event's line of the audit log.
    pub fn line(&self) -> Line {
        let line = |action, status, context: Option<&'static str>| Line {
            action,
            status,
            context: context.map(Cow::Borrowed),
        };
        match self {
            Self::Initialised { action, .. } => match action {
                Action::Rotate => line("rotate", 201, Some("init-on-rotate")),
                _ => line("init", 201, Some("created")),
            },
            Self::KeyFetched {
                action,
                zero_knowledge,
                ..
            } => match (action, zero_knowledge) {
                (Action::Init, false) => line("init", 200, Some("already-exists")),
                (Action::Init, true) => line("init", 200, Some("already-exists-zk")),
                (_, false) => line("fetch", 200, None),
                (_, true) => line("fetch", 200, Some("zk-recovery-blob")),
            },
            Self::KeyNotOpened { reason, .. } => Line {
                action: "failed_fetch",
                status: 500,
                context: Some(format!("unwrap-failed: {reason}").into()),
            },
            Self::KeyRotated { .. } => line("rotate", 200, None),
            Self::RecoveryWrapSet { .. } => line("recovery_set", 200, None),
            Self::RecoveryWrapCleared { .. } => line("recovery_clear", 200, None),
            Self::RecoveryWrapRestored { in_place, .. } => {
                let context = (!in_place).then_some("another-key");
                line("recovery_restore", 200, context)
            }
            Self::ZeroKnowledgeEnabled { .. } => line("zk_enable", 200, None),
            // The same whichever key came back, as the original has it.
            Self::ZeroKnowledgeDisabled { .. } => line("zk_disable", 200, None),
            Self::NothingToDo { action, .. } => {
                let context = match action {
                    Action::ZkEnable => Some("already-enabled"),
                    Action::ZkDisable => Some("already-disabled"),
                    _ => None,
                };
                line(action.as_str(), 200, context)
            }
            Self::Refused { action, reason, .. } => refused(*action, *reason),
            Self::Failed { action, fault, .. } => line(action.as_str(), 500, Some(fault.as_str())),
            Self::CallsLimited { .. } => line("rate_limited", 429, Some("too-many-calls")),
        }
    }
}

fn refused(action: Action, reason: Refusal) -> Line {
    let (status, context) = match (reason, action) {
        (Refusal::NoVault, Action::Fetch) => (404, "not-initialised"),
        (Refusal::NoVault, _) => (404, "no-vault"),
        (Refusal::ZeroKnowledge, Action::Rotate) => (409, "zk-rotate-forbidden"),
        (Refusal::ZeroKnowledge, _) => (409, "zk-active"),
        (Refusal::NoRecoveryWrap, _) => (400, "no-recovery-wrap"),
        (Refusal::NothingKept, _) => (404, "nothing-kept"),
        (Refusal::AnotherKey, _) => (409, "another-key"),
        (Refusal::Impersonated, _) => (403, "impersonated"),
        (Refusal::NotProven, _) => (403, "not-proven"),
        (Refusal::WrongPassword, _) => (401, "wrong-password"),
        (Refusal::NoPassword, _) => (400, "no-password"),
        (Refusal::TooManyTries, _) => (429, "too-many-tries"),
    };
    let action = match action {
        Action::Fetch => "failed_fetch",
        action => action.as_str(),
    };
    Line {
        action,
        status,
        context: Some(context.into()),
    }
}

impl Action {
    /// Its name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Fetch => "fetch",
            Self::Rotate => "rotate",
            Self::RecoverySet => "recovery_set",
            Self::RecoveryClear => "recovery_clear",
            Self::RecoveryRestore => "recovery_restore",
            Self::ZkEnable => "zk_enable",
            Self::ZkDisable => "zk_disable",
        }
    }
}
