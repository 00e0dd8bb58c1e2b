//! How far this node has followed the log, and which streams changed meanwhile.
//!
//! Whatever was read from a read model is good as long as (1) its streams have not changed since the
//! position that the read is known to include, and (2) this node confirmed the head of the log within
//! the last second (I-9). Both are answered here without a lock.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{OnceLock, RwLock};
use std::time::{Duration, Instant};

use aggregates::vault::Vault;
use cqrs_es::Aggregate as _;
use tokio::sync::watch;

/// How far behind the log a cached answer may be.
pub const MAX_BEHIND: Duration = Duration::from_secs(1);

/// Slots for streams. Two streams that share one only cost each other a read.
const SLOTS: usize = 1 << 16;

type Slots = Box<[AtomicI64]>;
/// Hears of every event: the id of its stream, its type and its position.
type Listener = Box<dyn Fn(&str, &str, i64) + Send + Sync>;

/// What this node knows of the log.
pub struct Freshness {
    /// Last position of a change, by hash of the stream.
    slots: Slots,
    /// Those of vaults. Each key that is given out is a change, and would cost the sessions of a shared slot a read.
    vaults: Slots,
    hasher: RandomState,
    /// Every event up to here has been seen.
    applied: AtomicI64,
    /// When a query of the head began all of whose events have been seen.
    confirmed: RwLock<Option<Instant>>,
    /// Last position that this node knows of: wakes those who follow the log.
    written: watch::Sender<i64>,
    /// Wakes those who work the queues of effects off.
    queued: watch::Sender<()>,
    listener: OnceLock<Listener>,
}

impl Default for Freshness {
    fn default() -> Self {
        let slots = || (0..SLOTS).map(|_| AtomicI64::new(0)).collect();
        Self {
            slots: slots(),
            vaults: slots(),
            hasher: RandomState::new(),
            applied: AtomicI64::new(0),
            confirmed: RwLock::new(None),
            written: watch::Sender::new(0),
            queued: watch::Sender::new(()),
            listener: OnceLock::new(),
        }
    }
}

impl Freshness {
    /// Tells `listener` of every event that is written from now on, by whichever node. Only the first one is heard.
    pub fn on_event(&self, listener: impl Fn(&str, &str, i64) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// An event of this type and stream is in the log.
    pub fn tell(&self, stream_type: &str, stream_id: &str, event_type: &str, position: i64) {
        self.slot(stream_type, stream_id)
            .fetch_max(position, Ordering::SeqCst);
        if let Some(listener) = self.listener.get() {
            listener(stream_id, event_type, position);
        }
    }

    /// Wakes those who follow the log: it goes up to `position` at least.
    pub fn grown(&self, position: i64) {
        self.written.send_if_modified(|written| {
            let newer = position > *written;
            *written = position.max(*written);
            newer
        });
    }

    /// Every event up to `position` has been told.
    pub fn advance(&self, position: i64) {
        self.applied.fetch_max(position, Ordering::SeqCst);
        self.grown(position);
    }

    /// The same, and that was all there was at some time after `asked`.
    pub fn confirm(&self, position: i64, asked: Instant) {
        self.advance(position);
        let mut confirmed = self
            .confirmed
            .write()
            .expect("nothing panics while it is held");
        *confirmed = confirmed.max(Some(asked));
    }

    /// This node has written, some time after `asked`, what stands in the log behind `head` and up to `position`, and has
    /// told of it. If it knew everything before, it need not look: nobody else has written anything in between.
    pub fn appended(&self, head: i64, position: i64, asked: Instant) {
        if self.applied() >= head {
            self.confirm(position, asked);
        } else {
            self.grown(position);
        }
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
        self.is_confirmed_within(MAX_BEHIND)
    }

    /// Whether the head of the log has been confirmed less than this ago.
    pub fn is_confirmed_within(&self, age: Duration) -> bool {
        let confirmed = *self
            .confirmed
            .read()
            .expect("nothing panics while it is held");
        confirmed.is_some_and(|at| at.elapsed() < age)
    }

    /// Follows how the log grows.
    pub fn written(&self) -> watch::Receiver<i64> {
        self.written.subscribe()
    }

    /// This node has put something into a queue of effects.
    pub fn effect_queued(&self) {
        self.queued.send_replace(());
    }

    /// Hears when this node has put something into a queue of effects.
    pub fn effects(&self) -> watch::Receiver<()> {
        self.queued.subscribe()
    }

    fn slot(&self, stream_type: &str, stream_id: &str) -> &AtomicI64 {
        let slots = match stream_type {
            Vault::TYPE => &self.vaults,
            _ => &self.slots,
        };
        let hash = self.hasher.hash_one((stream_type, stream_id));
        &slots[(hash as usize) % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_outdates_what_was_read_before_it() {
        let freshness = Freshness::default();
        assert!(freshness.unchanged_since("user", "u1", 4));
        freshness.tell("user", "u1", "user.banned", 5);
        assert!(!freshness.unchanged_since("user", "u1", 4));
        assert!(freshness.unchanged_since("user", "u1", 5));
    }

    #[test]
    fn no_vault_outdates_what_was_read_of_others() {
        let freshness = Freshness::default();
        for n in 0..2 * SLOTS {
            freshness.tell(Vault::TYPE, &n.to_string(), "vault.key_fetched", 5);
        }
        assert!(freshness.unchanged_since("session", "s1", 4));
        assert!(!freshness.unchanged_since(Vault::TYPE, "1", 4));
    }

    #[test]
    fn a_node_that_never_saw_the_head_trusts_nothing() {
        let freshness = Freshness::default();
        assert!(!freshness.is_trusted());
        freshness.confirm(7, Instant::now());
        assert!(freshness.is_trusted());
        assert_eq!(freshness.applied(), 7);
        let freshness = Freshness::default();
        freshness.confirm(7, Instant::now().checked_sub(MAX_BEHIND).unwrap());
        assert!(
            !freshness.is_trusted(),
            "a confirmation counts from the start of its query"
        );
    }

    #[test]
    fn what_a_node_appends_where_it_has_followed_to_is_confirmed_by_that() {
        let freshness = Freshness::default();
        freshness.confirm(7, Instant::now().checked_sub(MAX_BEHIND).unwrap());
        // Somebody else has written 8.
        freshness.appended(8, 9, Instant::now());
        assert_eq!((freshness.applied(), freshness.is_trusted()), (7, false));
        freshness.advance(9);
        assert!(
            !freshness.is_trusted(),
            "nobody has looked whether that is all"
        );
        freshness.appended(9, 10, Instant::now());
        assert_eq!((freshness.applied(), freshness.is_trusted()), (10, true));
        freshness.confirm(9, Instant::now().checked_sub(MAX_BEHIND).unwrap());
        assert_eq!((freshness.applied(), freshness.is_trusted()), (10, true));
    }

    #[test]
    fn every_event_is_told_to_the_listener() {
        let freshness = Freshness::default();
        let heard = std::sync::Arc::new(RwLock::new(vec![]));
        let hears = heard.clone();
        freshness.on_event(move |id, kind, position| {
            let told = (id.to_owned(), kind.to_owned(), position);
            hears.write().unwrap().push(told);
        });
        freshness.tell("user", "u1", "user.banned", 5);
        let expected = ("u1".to_owned(), "user.banned".to_owned(), 5);
        assert_eq!(*heard.read().unwrap(), [expected]);
        assert!(!freshness.unchanged_since("user", "u1", 4));
    }

    #[test]
    fn writers_wake_those_who_follow() {
        let freshness = Freshness::default();
        let mut written = freshness.written();
        freshness.appended(0, 5, Instant::now());
        assert!(written.has_changed().unwrap());
        assert_eq!(*written.borrow_and_update(), 5);
        freshness.appended(3, 4, Instant::now());
        assert!(!written.has_changed().unwrap());
        // Somebody else has written 6.
        freshness.appended(6, 7, Instant::now());
        assert_eq!(*written.borrow_and_update(), 7);
        freshness.advance(8);
        assert_eq!(*written.borrow_and_update(), 8);
    }
}
