//! What can be asked of a vault.

use chrono::{DateTime, Utc};

use super::{Action, Client, Fault, Refusal};
use crate::UserId;

/// A call of a person's vault. No key and no wrap is in it: those travel beside the command, into custody.
#[derive(Clone)]
pub struct VaultCommand {
    /// What is asked.
    pub ask: Ask,
    /// Whose vault it is.
    pub owner: UserId,
    /// From where.
    pub client: Client,
    /// When.
    pub at: DateTime<Utc>,
}

/// What is asked, with what the service has found out for it.
#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    /// Give the key, after making one if there is none.
    Init {
        /// Which key-encryption key would wrap it.
        kek_id: String,
        /// Why the key that there is does not open.
        broken: Option<String>,
    },
    /// Give the key.
    Fetch {
        /// Why it does not open.
        broken: Option<String>,
    },
    /// Put a new key in the place of the old one.
    Rotate {
        /// Which key-encryption key wraps it.
        kek_id: String,
    },
    /// Keep the key as the person's recovery code wraps it.
    SetRecoveryWrap {
        /// Whether what the client has shown is known to be of another key, or nothing where something has to be.
        another_key: bool,
    },
    /// Keep it so no longer.
    ClearRecoveryWrap,
    /// Put back a recovery wrap of before.
    RestoreRecoveryWrap {
        /// The one that is kept, if there is any.
        kept: Option<Kept>,
    },
    /// Keep the key as the recovery code wraps it and in no other way.
    EnableZeroKnowledge,
    /// Keep a key that the person hands back.
    DisableZeroKnowledge {
        /// Which key-encryption key wraps it.
        kek_id: String,
        /// Whether it is the key that was handed out; unknown where no check value was kept.
        same_key: Option<bool>,
        /// Whether another key is refused.
        must_match: bool,
    },
    /// Whoever asks has not got past the door.
    Denied {
        /// For what they ask.
        action: Action,
        /// Why not.
        reason: Refusal,
    },
    /// What is stored does not let it be decided.
    Broken {
        /// For what they ask.
        action: Action,
        /// What is wrong.
        fault: Fault,
    },
    /// More is asked than the door lets through; said once in a while, not each time.
    TooMuch,
}

/// A recovery wrap of before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It holds the key that the vault has.
    ThisKey,
    /// It holds a key that the vault had before, or none that we know of.
    AnotherKey,
    /// It does not open.
    NotOpened,
}
