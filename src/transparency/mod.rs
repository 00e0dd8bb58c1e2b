//! The transparency log: a Merkle tree over all events whose signed checkpoints let others prove that nothing was
//! changed, removed, reordered or cut off. It follows the log and is never part of a write.

pub mod builder;
pub mod checkpoints;
pub mod frontier;
pub mod leaf;
pub mod proofs;
pub mod texts;
pub mod tiles;
pub mod whole;
