//! Proofs from the stored tree (RFC 6962 section 2.1), for whoever holds a checkpoint.

use sqlx::PgPool;
use tlog_tiles::{Hash, prove_record, prove_tree};

use super::tiles::{Tiles, TreeError};

/// That the tree of `size` leaves has a leaf `index`, counted from 0: the hashes from the leaf up to the root.
///
/// # Errors
/// When the database does not answer or there is no such leaf.
pub async fn inclusion(pool: &PgPool, index: u64, size: u64) -> Result<Vec<Hash>, TreeError> {
    Tiles::answer(pool, |tiles| prove_record(size, index, tiles)).await
}

/// That the tree of `from` leaves is what the tree of `to` leaves begins with.
///
/// # Errors
/// When the database does not answer or there are no such trees.
pub async fn consistency(pool: &PgPool, from: u64, to: u64) -> Result<Vec<Hash>, TreeError> {
    Tiles::answer(pool, |tiles| prove_tree(to, from, tiles)).await
}
