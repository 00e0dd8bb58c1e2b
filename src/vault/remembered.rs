//! Vaults as this node saw them last.
//!
//! What is remembered is good only until it is used: the append refuses what was decided from another row or another
//! version of the stream. What is changed on another node, or erased, is forgotten as soon as the log tells of it (I-7).
//! A key that was given out changes only the version: what was remembered before is passed over.

use aggregates::user::User;
use aggregates::vault::{KEY_FETCHED, Vault};
use cqrs_es::Aggregate as _;
use quick_cache::sync::Cache;

use super::row::Stored;
use crate::store::freshness::Freshness;

const MOST: usize = 20_000;

/// Vaults by their owners, each with the position of the event that it was seen at.
pub struct Remembered(Cache<String, (i64, Stored)>);

impl Default for Remembered {
    fn default() -> Self {
        Self(Cache::new(MOST))
    }
}

impl Remembered {
    /// A vault as it was, unless the log has told of a later event.
    pub(super) fn get(&self, freshness: &Freshness, owner: &str) -> Option<Stored> {
        let (position, stored) = self.0.get(owner)?;
        is_last(freshness, owner, position).then_some(stored)
    }

    /// Remembers a vault as it is after the event at `position`, unless the log has told of a later one of the vault or of
    /// its owner by then.
    pub(super) fn put(&self, freshness: &Freshness, stored: Stored, position: i64) {
        let owner = stored.owner.clone();
        self.0.insert(owner.clone(), (position, stored));
        // Looked at afterwards: whoever tells of it now finds the vault here and forgets it.
        if !is_last(freshness, &owner, position) {
            self.0.remove(&owner);
        }
    }

    /// Hears of an event of a vault or of its owner, who have the same id.
    pub fn hear(&self, owner: &str, event_type: &str, position: i64) {
        if event_type != KEY_FETCHED {
            self.forget(owner, position);
        }
    }

    /// Forgets a vault, unless it was seen at `position` or later.
    pub(super) fn forget(&self, owner: &str, position: i64) {
        self.0.remove_if(owner, |(seen, _)| *seen < position);
    }
}

/// Whether nothing happened to a vault or its owner after `position`, as far as this node knows.
fn is_last(freshness: &Freshness, owner: &str, position: i64) -> bool {
    let unchanged = |stream_type| freshness.unchanged_since(stream_type, owner, position);
    unchanged(Vault::TYPE) && unchanged(User::TYPE)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;

    use super::super::row::VaultRow;
    use super::*;

    fn seen() -> Stored {
        Stored {
            owner: "u1".to_owned(),
            version: 1,
            written_by: Some(1),
            older_than_log: false,
            unreadable: false,
            row: Some(Arc::new(VaultRow::new("u1", DateTime::UNIX_EPOCH))),
        }
    }

    #[test]
    fn what_happened_later_is_the_end_of_it() {
        let (remembered, freshness) = (Remembered::default(), Freshness::default());
        freshness.tell(Vault::TYPE, "u1", KEY_FETCHED, 7);
        remembered.put(&freshness, seen(), 7);
        remembered.hear("u1", "vault.key_rotated", 7);
        remembered.hear("u2", "vault.key_rotated", 9);
        assert!(remembered.get(&freshness, "u1").is_some());
        remembered.hear("u1", "vault.key_rotated", 8);
        assert!(remembered.get(&freshness, "u1").is_none());
    }

    /// I-7: also when it was told of before the vault was there to be forgotten.
    #[test]
    fn what_was_told_of_too_early_is_the_end_of_it_as_well() {
        for stream_type in [Vault::TYPE, User::TYPE] {
            let (remembered, freshness) = (Remembered::default(), Freshness::default());
            freshness.tell(stream_type, "u1", "", 8);
            remembered.hear("u1", "", 8);
            remembered.put(&freshness, seen(), 7);
            assert_eq!(remembered.0.get("u1").map(drop), None, "{stream_type}");
        }
    }

    /// What another node has given out is in no row, but the version is another one.
    #[test]
    fn a_key_that_was_given_out_elsewhere_is_seen_when_it_is_used() {
        let (remembered, freshness) = (Remembered::default(), Freshness::default());
        remembered.put(&freshness, seen(), 7);
        freshness.tell(Vault::TYPE, "u1", KEY_FETCHED, 8);
        remembered.hear("u1", KEY_FETCHED, 8);
        assert!(remembered.0.get("u1").is_some());
        assert!(remembered.get(&freshness, "u1").is_none());
        remembered.put(&freshness, seen(), 9);
        assert!(remembered.get(&freshness, "u1").is_some());
    }
}
