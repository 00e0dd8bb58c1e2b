//! The leaves of what this node has written last, as their hashes: who makes the tree on the same node need not read those
//! events back. Only a shortcut: whatever is not here is in the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use tlog_tiles::Hash;
use uuid::Uuid;

/// Most hashes that wait for the tree; those of older events are made from the log.
const KEPT: usize = 16_384;

/// The hashes of this node's last leaves.
#[derive(Default)]
pub struct Leaves(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Whether this node makes the tree.
    wanted: bool,
    /// Over which connection their events were written: a server that takes over may lack what the one before has said was
    /// written.
    connection: u64,
    /// By the positions of their events, whose ids they are with.
    hashes: BTreeMap<i64, (Uuid, Hash)>,
}

impl Leaves {
    /// Keeps them from now on.
    pub fn keep(&self) {
        self.lock().wanted = true;
    }

    /// Keeps none any more.
    pub fn end(&self) {
        let mut kept = self.lock();
        kept.wanted = false;
        kept.hashes.clear();
    }

    /// A new connection writes from now on; says which.
    pub(super) fn connected(&self) -> u64 {
        let mut kept = self.lock();
        kept.connection += 1;
        kept.hashes.clear();
        kept.connection
    }

    /// Keeps the hash of an event's leaf, which is made only if it is of use.
    pub(super) fn add(
        &self,
        connection: u64,
        (position, event_id): (i64, Uuid),
        hash: impl FnOnce() -> Option<Hash>,
    ) {
        if self.lock().wants(connection)
            && let Some(hash) = hash()
        {
            let mut kept = self.lock();
            // It may not be so any more.
            if !kept.wants(connection) {
                return;
            }
            kept.hashes.insert(position, (event_id, hash));
            if kept.hashes.len() > KEPT {
                kept.hashes.pop_first();
            }
        }
    }

    /// Takes out those that come next after a position, without a gap, with the ids of their events. What stands before is
    /// let go of.
    pub fn take(&self, after: i64) -> Vec<(Uuid, Hash)> {
        let mut kept = self.lock();
        kept.hashes = kept.hashes.split_off(&(after + 1));
        let places = kept.hashes.keys().copied();
        let next = (after + 1..)
            .zip(places)
            .take_while(|(next, place)| next == place);
        let last = next.last().map_or(after, |(last, _)| last);
        let rest = kept.hashes.split_off(&(last + 1));
        std::mem::replace(&mut kept.hashes, rest)
            .into_values()
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

impl Kept {
    fn wants(&self, connection: u64) -> bool {
        self.wanted && self.connection == connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(leaves: &Leaves, connection: u64, position: i64) {
        let id = Uuid::from_u128(position.unsigned_abs().into());
        leaves.add(connection, (position, id), || Some(Hash([0; 32])));
    }

    /// With what was written over the first connection.
    fn leaves(positions: impl IntoIterator<Item = i64>) -> Leaves {
        let leaves = Leaves::default();
        leaves.keep();
        let connection = leaves.connected();
        for position in positions {
            add(&leaves, connection, position);
        }
        leaves
    }

    fn taken(leaves: &Leaves, after: i64) -> Vec<u128> {
        let taken = leaves.take(after).into_iter();
        taken.map(|(id, _)| id.as_u128()).collect()
    }

    #[test]
    fn what_comes_next_is_taken_in_whichever_order_it_came() {
        let leaves = leaves([7, 5, 6, 9]);
        assert_eq!(taken(&leaves, 3), [0; 0], "4 was written elsewhere");
        assert_eq!(taken(&leaves, 4), [5, 6, 7]);
        assert_eq!(taken(&leaves, 4), [0; 0], "they are gone");
        add(&leaves, 1, 8);
        assert_eq!(taken(&leaves, 7), [8, 9]);
    }

    #[test]
    fn what_is_in_the_tree_already_is_let_go_of() {
        let leaves = leaves(1..=9);
        assert_eq!(taken(&leaves, 7), [8, 9]);
        assert_eq!(taken(&leaves, 0), [0; 0]);
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let none = Leaves::default();
        none.add(none.connected(), (1, Uuid::nil()), || {
            unreachable!("nobody wants it")
        });
        let leaves = leaves([1]);
        leaves.end();
        leaves.keep();
        assert_eq!(taken(&leaves, 0), [0; 0]);
        add(&leaves, 1, 1);
        leaves.add(1, (2, Uuid::nil()), || {
            leaves.end();
            Some(Hash([0; 32]))
        });
        leaves.keep();
        assert_eq!(taken(&leaves, 0), [0; 0]);
    }

    #[test]
    fn nothing_stays_of_a_connection_that_is_over() {
        let leaves = leaves([1, 2]);
        let second = leaves.connected();
        add(&leaves, 1, 3);
        assert_eq!(taken(&leaves, 0), [0; 0]);
        assert_eq!(taken(&leaves, 2), [0; 0]);
        add(&leaves, second, 3);
        assert_eq!(taken(&leaves, 2), [3]);
    }

    #[test]
    fn only_so_many_are_kept() {
        let most = KEPT as i64;
        let leaves = leaves(1..=most + 2);
        assert_eq!(taken(&leaves, 1), [0; 0]);
        assert_eq!(taken(&leaves, 2).len(), KEPT);
    }
}
