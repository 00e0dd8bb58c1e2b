//! How far this node has followed the log, and which streams changed meanwhile.
//!
//! Whatever was read from a read model is good as long as (1) its streams have not changed since the
//! position that the read is known to include, and (2) this node confirmed the head of the log within
//! the last second (I-9). Both are answered here without a lock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::RwLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

/// How far behind the log a cached answer may be.
pub const MAX_BEHIND: Duration = Duration::from_secs(1);

/// Slots for streams. Two streams that share one only cost each other a read.
const SLOTS: usize = 1 << 16;

/// What this node knows of the log.
pub struct Freshness {
    /// Last position of a change, by hash of the stream.
    slots: Box<[AtomicI64]>,
    hasher: RandomState,
    /// Every event up to here has been seen.
    applied: AtomicI64,
    /// When a query of the head began all of whose events have been seen.
    confirmed: RwLock<Option<Instant>>,
    /// Last position written by this node: wakes those who follow the log.
    written: watch::Sender<i64>,
    /// Wakes the worker of the queue of effects.
    queued: Notify,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicI64::new(0)).collect(),
            hasher: RandomState::new(),
            applied: AtomicI64::new(0),
            confirmed: RwLock::new(None),
            written: watch::Sender::new(0),
            queued: Notify::new(),
        }
    }
}

impl Freshness {
    /// An event of the stream is in the log at `position`.
    pub fn changed(&self, stream_type: &str, stream_id: &str, position: i64) {
        self.slot(stream_type, stream_id)
            .fetch_max(position, Ordering::SeqCst);
        self.written.send_if_modified(|written| {
            let newer = position > *written;
            *written = position.max(*written);
            newer
        });
    }

    /// Every event up to `position` has been told by `changed`, and that was all there was when a query
    /// began at `asked`.
    pub fn confirm(&self, position: i64, asked: Instant) {
        self.applied.fetch_max(position, Ordering::SeqCst);
        *self
            .confirmed
            .write()
            .expect("nothing panics while it is held") = Some(asked);
    }

    /// Events up to here are included in every read that begins now.
    pub fn applied(&self) -> i64 {
        self.applied.load(Ordering::SeqCst)
    }

    /// Whether a read that included everything up to `position` still shows the stream as it is.
    pub fn unchanged_since(&self, stream_type: &str, stream_id: &str, position: i64) -> bool {
        self.slot(stream_type, stream_id).load(Ordering::SeqCst) <= position
    }

    /// Whether this node has followed the log closely enough to trust what it remembers.
    pub fn is_trusted(&self) -> bool {
        let confirmed = *self
            .confirmed
            .read()
            .expect("nothing panics while it is held");
        confirmed.is_some_and(|at| at.elapsed() < MAX_BEHIND)
    }

    /// Follows what this node writes.
    pub fn written(&self) -> watch::Receiver<i64> {
        self.written.subscribe()
    }

    /// This node has put something into the queue of effects.
    pub fn effect_queued(&self) {
        self.queued.notify_one();
    }

    /// Waits until this node has put something into the queue of effects.
    pub async fn effects(&self) {
        self.queued.notified().await;
    }

    fn slot(&self, stream_type: &str, stream_id: &str) -> &AtomicI64 {
        let hash = self.hasher.hash_one((stream_type, stream_id));
        &self.slots[(hash as usize) % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_outdates_what_was_read_before_it() {
        let freshness = Freshness::default();
        assert!(freshness.unchanged_since("user", "u1", 4));
        freshness.changed("user", "u1", 5);
        assert!(!freshness.unchanged_since("user", "u1", 4));
        assert!(freshness.unchanged_since("user", "u1", 5));
    }

    #[test]
    fn a_node_that_never_saw_the_head_trusts_nothing() {
        let freshness = Freshness::default();
        assert!(!freshness.is_trusted());
        freshness.confirm(7, Instant::now());
        assert!(freshness.is_trusted());
        assert_eq!(freshness.applied(), 7);
        freshness.confirm(7, Instant::now().checked_sub(MAX_BEHIND).unwrap());
        assert!(
            !freshness.is_trusted(),
            "a confirmation counts from the start of its query"
        );
    }

    #[test]
    fn writers_wake_those_who_follow() {
        let freshness = Freshness::default();
        let mut written = freshness.written();
        freshness.changed("user", "u1", 5);
        assert!(written.has_changed().unwrap());
        assert_eq!(*written.borrow_and_update(), 5);
        freshness.changed("user", "u1", 4);
        assert!(!written.has_changed().unwrap());
    }
}
