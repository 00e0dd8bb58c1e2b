//! Reading what is written down about others: a fact by itself, in the stream of whoever reads.

use serde::{Deserialize, Serialize};

use crate::UserId;

/// What was read. The names of filters are kept and their values are not: an address may be one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Which log.
    pub of: ReadLog,
    /// Names of the filters that narrowed it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
}

/// A log that holds what people did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadLog {
    /// The audit log of one vault.
    Vault {
        /// Whose.
        owner: UserId,
    },
    /// The audit log of all vaults.
    Vaults,
    /// The security log of one person.
    SecurityLog {
        /// Whose.
        owner: UserId,
    },
    /// The security log of all people.
    SecurityLogs,
    /// The events themselves as they are stored, personal fields sealed.
    Events {
        /// First position.
        from: u64,
        /// Last position.
        to: u64,
    },
}
