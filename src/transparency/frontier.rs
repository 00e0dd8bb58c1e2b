//! Frontier: as much of a Merkle tree (RFC 6962 section 2.1) as it takes to make it longer and to know its root. The same
//! few lines make the tree, check it from its events, and check a bundle that has some of them.

use tlog_tiles::{EMPTY_HASH, Hash, node_hash};

/// The roots of the perfect subtrees that a tree consists of, the largest and leftmost first: one for each bit of its size.
#[derive(Clone, Default)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// How many leaves there are.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Adds the perfect subtree of the next `2^level` leaves; the leaves until now are a multiple of as many.
    pub fn push(&mut self, level: u8, hash: Hash) {
        debug_assert!(self.size.is_multiple_of(1 << level));
        let mut hash = hash;
        let mut left = self.size >> level;
        while left & 1 == 1 {
            let sibling = self.roots.pop().expect("each bit of the size has a root");
            hash = node_hash(sibling, hash);
            left >>= 1;
        }
        self.roots.push(hash);
        self.size += 1 << level;
    }

    /// The root of the tree.
    pub fn root(&self) -> Hash {
        let from_the_right = self.roots.iter().rev().copied();
        from_the_right
            .reduce(|right, left| node_hash(left, right))
            .unwrap_or(EMPTY_HASH)
    }
}

/// The perfect subtrees that cover the leaves after the first `from` up to `until`, from left to right: level, and number
/// within the level.
pub fn cover(from: u64, until: u64) -> impl Iterator<Item = (u8, u64)> {
    let mut at = from;
    std::iter::from_fn(move || {
        let left = until.checked_sub(at).filter(|left| *left > 0)?;
        let level = at.trailing_zeros().min(left.ilog2());
        let number = at >> level;
        at += 1 << level;
        Some((level as u8, number))
    })
}

#[cfg(test)]
mod tests {
    use tlog_tiles::record_hash;

    use super::*;

    /// RFC 6962 section 2.1, to the letter.
    fn tree_head(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_HASH,
            [leaf] => *leaf,
            leaves => {
                let (left, right) = leaves.split_at(1 << (leaves.len() - 1).ilog2());
                node_hash(tree_head(left), tree_head(right))
            }
        }
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| record_hash(&n.to_be_bytes())).collect()
    }

    #[test]
    fn a_tree_that_grows_has_the_root_of_the_definition() {
        let mut frontier = Frontier::default();
        let all = leaves(300);
        assert_eq!(frontier.root(), tree_head(&[]));
        for (n, leaf) in all.iter().enumerate() {
            frontier.push(0, *leaf);
            assert_eq!(frontier.root(), tree_head(&all[..=n]), "{n}");
        }
        assert_eq!(frontier.size(), 300);
    }

    #[test]
    fn whole_subtrees_stand_for_their_leaves() {
        let all = leaves(150);
        for from in 0..150_u64 {
            for until in [from, from + 1, (from + 150) / 2, 149, 150] {
                let until = until.clamp(from, 150);
                let mut frontier = Frontier::default();
                for leaf in &all[..from as usize] {
                    frontier.push(0, *leaf);
                }
                for (level, number) in cover(from, until) {
                    let first = (number << level) as usize;
                    frontier.push(level, tree_head(&all[first..first + (1 << level)]));
                }
                assert_eq!(frontier.size(), until);
                assert_eq!(
                    frontier.root(),
                    tree_head(&all[..until as usize]),
                    "{from} to {until}"
                );
            }
        }
    }
}
