//! Commands of this node on one stream take turns: each has to see the version that the one before has left, so of those
//! that run at once all but one would be in vain.

use std::hash::{BuildHasher as _, RandomState};

use tokio::sync::{Mutex, MutexGuard};

/// Two streams that share a slot only wait for each other.
const SLOTS: usize = 4096;

/// Whose turn it is.
pub(super) struct Turns {
    slots: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Turns {
    /// Waits until it is the turn of a command on this stream, and holds it until the guard is dropped.
    pub async fn of(&self, stream_type: &str, stream_id: &str) -> MutexGuard<'_, ()> {
        let slot = (self.hasher.hash_one((stream_type, stream_id)) as usize) % SLOTS;
        self.slots[slot].lock().await
    }
}
