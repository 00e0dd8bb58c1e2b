//! What can have happened to a vault. Stored for ever: see `tests/stored_format`.
//!
//! Every call is one event, those that were refused and those that failed too. None holds a key or a wrap, in any form.

use chrono::{DateTime, Utc};
use cqrs_es::DomainEvent;
use serde::{Deserialize, Serialize};

use crate::{Personal, StoredEvent};

/// A fact about a vault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VaultEvent {
    /// A key was made for a person who had none, and given out.
    Initialised {
        /// By a first call, or by a rotation of nothing.
        action: Action,
        /// Which key-encryption key wraps it.
        kek_id: String,
        /// By whom and when.
        access: Access,
    },
    /// The key was given out; in zero-knowledge mode what the recovery code opens.
    KeyFetched {
        /// By `init` or `fetch`.
        action: Action,
        /// Whether it was in zero-knowledge mode.
        zero_knowledge: bool,
        /// By whom and when.
        access: Access,
    },
    /// The key was to be given out and does not open: what is stored was altered, or its key-encryption key is missing.
    KeyNotOpened {
        /// By `init` or `fetch`.
        action: Action,
        /// What is wrong; names no secret and no person.
        reason: String,
        /// By whom and when.
        access: Access,
    },
    /// Another key took the place of the one before, and was given out. There is no recovery wrap from then on.
    KeyRotated {
        /// Which key-encryption key wraps it.
        kek_id: String,
        /// By whom and when.
        access: Access,
    },
    /// The key is kept as a recovery code wraps it, in the place of any such wrap before.
    RecoveryWrapSet {
        /// By whom and when.
        access: Access,
    },
    /// The recovery wrap is gone.
    RecoveryWrapCleared {
        /// By whom and when.
        access: Access,
    },
    /// A recovery wrap of before was given out to its owner.
    RecoveryWrapRestored {
        /// Whether it also is the vault's again; one that holds another key is not.
        in_place: bool,
        /// By whom and when.
        access: Access,
    },
    /// The service can no longer open the key: what it could open was destroyed.
    ZeroKnowledgeEnabled {
        /// By whom and when.
        access: Access,
    },
    /// The person handed a key back, which the service can open from then on. The recovery wrap stays.
    ZeroKnowledgeDisabled {
        /// Which key-encryption key wraps it.
        kek_id: String,
        /// Whether it is another key than was handed out: the recovery wrap does not hold it, and what was encrypted
        /// before does not open with it.
        another_key: bool,
        /// By whom and when.
        access: Access,
    },
    /// What was asked for was so already.
    NothingToDo {
        /// What was asked for.
        action: Action,
        /// By whom and when.
        access: Access,
    },
    /// It was refused, and nothing changed.
    Refused {
        /// What was asked for.
        action: Action,
        /// Why.
        reason: Refusal,
        /// By whom and when.
        access: Access,
    },
    /// It could not be carried out, for what is stored, and nothing changed.
    Failed {
        /// What was asked for; whoever was to be given a key is told that it does not open.
        action: Action,
        /// What is wrong.
        fault: Fault,
        /// By whom and when.
        access: Access,
    },
    /// More was asked than the door lets through. Stands for all such calls of an hour.
    CallsLimited {
        /// By whom and when the first of them was.
        access: Access,
    },
}

/// What was asked for, in the words of the audit log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The key, new or not.
    Init,
    /// The key.
    Fetch,
    /// Another key.
    Rotate,
    /// A recovery wrap.
    RecoverySet,
    /// No recovery wrap.
    RecoveryClear,
    /// A recovery wrap of before.
    RecoveryRestore,
    /// Zero-knowledge mode.
    ZkEnable,
    /// Its end.
    ZkDisable,
}

/// Why a call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// There is no vault yet.
    NoVault,
    /// The service cannot do it without being able to open the key.
    ZeroKnowledge,
    /// The key would be lost: nothing but the service could open it.
    NoRecoveryWrap,
    /// No recovery wrap of before is kept.
    NothingKept,
    /// The key that was handed back is another one.
    AnotherKey,
    /// An admin asked in the owner's place.
    Impersonated,
    /// It takes the owner's password, or a session that has just begun.
    NotProven,
    /// The password that was shown is another one.
    WrongPassword,
    /// A password was shown, and the account has none.
    NoPassword,
    /// Passwords are not looked at for a while: too many were wrong.
    TooManyTries,
}

/// What is wrong with what is stored of a vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// The row is older than the log: it came back from a backup, or is another vault's.
    RowOutdated,
    /// The log knows of a vault that has no row.
    RowLost,
    /// The row makes no sense.
    RowUnreadable,
    /// The recovery wrap of before does not open.
    WrapNotOpened,
}

impl Fault {
    /// Its name in the audit log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RowOutdated => "row-outdated",
            Self::RowLost => "row-lost",
            Self::RowUnreadable => "row-unreadable",
            Self::WrapNotOpened => "wrap-not-opened",
        }
    }
}

/// Who asked, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Access {
    /// From where.
    pub client: Personal<Client>,
    /// When.
    pub at: DateTime<Utc>,
}

/// From where somebody asked.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Client {
    /// Address, empty if unknown.
    pub ip_address: String,
    /// `User-Agent`, empty if unknown.
    pub user_agent: String,
}

impl VaultEvent {
    /// The types of the events that bring a vault into another mode; all others leave it as it is.
    pub const CHANGING: [&str; 7] = [
        "vault.initialised",
        "vault.key_rotated",
        "vault.recovery_wrap_set",
        "vault.recovery_wrap_cleared",
        "vault.recovery_wrap_restored",
        "vault.zero_knowledge_enabled",
        "vault.zero_knowledge_disabled",
    ];

    /// Who asked, and when.
    pub fn access(&self) -> &Access {
        match self {
            Self::Initialised { access, .. }
            | Self::KeyFetched { access, .. }
            | Self::KeyNotOpened { access, .. }
            | Self::KeyRotated { access, .. }
            | Self::RecoveryWrapSet { access }
            | Self::RecoveryWrapCleared { access }
            | Self::RecoveryWrapRestored { access, .. }
            | Self::ZeroKnowledgeEnabled { access }
            | Self::ZeroKnowledgeDisabled { access, .. }
            | Self::NothingToDo { access, .. }
            | Self::Refused { access, .. }
            | Self::Failed { access, .. }
            | Self::CallsLimited { access } => access,
        }
    }
}

/// Type of the most frequent event, the one that leaves the vault's row as it is.
pub const KEY_FETCHED: &str = "vault.key_fetched";

impl DomainEvent for VaultEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Initialised { .. } => "vault.initialised",
            Self::KeyFetched { .. } => KEY_FETCHED,
            Self::KeyNotOpened { .. } => "vault.key_not_opened",
            Self::KeyRotated { .. } => "vault.key_rotated",
            Self::RecoveryWrapSet { .. } => "vault.recovery_wrap_set",
            Self::RecoveryWrapCleared { .. } => "vault.recovery_wrap_cleared",
            Self::RecoveryWrapRestored { .. } => "vault.recovery_wrap_restored",
            Self::ZeroKnowledgeEnabled { .. } => "vault.zero_knowledge_enabled",
            Self::ZeroKnowledgeDisabled { .. } => "vault.zero_knowledge_disabled",
            Self::NothingToDo { .. } => "vault.nothing_to_do",
            Self::Refused { .. } => "vault.refused",
            Self::Failed { .. } => "vault.failed",
            Self::CallsLimited { .. } => "vault.calls_limited",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for VaultEvent {}
