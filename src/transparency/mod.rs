//! The transparency log: a Merkle tree over all events whose signed checkpoints let others prove that nothing was
//! changed, removed, reordered or cut off. It follows the log and is never part of a write.
//!
//! `frontier`, `outcome`, `texts`, `verify` and `witness` know no database: they are what an auditor runs.

pub mod builder;
pub mod bundle;
pub mod checkpoints;
pub mod frontier;
pub mod outcome;
pub mod proofs;
pub mod texts;
pub mod tiles;
pub mod verify;
pub mod whole;
pub mod witness;
