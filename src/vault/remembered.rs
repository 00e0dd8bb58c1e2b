//! Vaults as this node saw them last.
//!
//! What is remembered is good only until it is used: the append refuses what was decided from another row or another
//! version of the stream. What is changed on another node, or erased, is forgotten as soon as the log tells of it (I-7).

use std::time::Duration;

use moka::sync::Cache;

use super::row::Stored;

const MOST: u64 = 50_000;
const FOR: Duration = Duration::from_mins(10);

/// Vaults by their owners, each with the position of the event that it was seen at.
pub struct Remembered(Cache<String, (i64, Stored)>);

impl Default for Remembered {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(MOST).time_to_live(FOR);
        Self(cache.build())
    }
}

impl Remembered {
    /// A vault as it was.
    pub(super) fn get(&self, owner: &str) -> Option<Stored> {
        self.0.get(owner).map(|(_, stored)| stored)
    }

    /// Remembers a vault as it is after the event at `position`.
    pub(super) fn put(&self, stored: Stored, position: i64) {
        self.0.insert(stored.owner.clone(), (position, stored));
    }

    /// Forgets a vault, unless it was seen at `position` or later.
    pub fn forget(&self, owner: &str, position: i64) {
        if self.0.get(owner).is_some_and(|(seen, _)| seen < position) {
            self.0.invalidate(owner);
        }
    }
}
