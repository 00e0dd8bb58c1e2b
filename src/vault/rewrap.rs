//! Another key-encryption key for vaults that are in use: many at a time, compare and set, and no event of any vault.

use serde_json::json;
use sqlx::PgExecutor;

use super::row::{Stored, VaultRow};
use crate::crypto::key_ring::KeyRing;
use crate::crypto::vault_key::FORMAT_UNBOUND;
use crate::keks::Rewrapped;
use crate::store::StoreError;

/// Why the key of a vault stays as it is wrapped.
const UNREADABLE: &str = "its row makes no sense";

/// By what the key of a vault is wrapped.
#[derive(sqlx::FromRow)]
pub struct Wrap {
    /// Whose vault.
    pub owner: String,
    /// Which key wrapped it.
    pub kek_id: String,
    wrap_format: i16,
}

impl Wrap {
    /// Whether it was made by a key that is to be the one for all, and bound to its place.
    pub fn is_made_by(&self, active: &str) -> bool {
        self.kek_id == active && self.wrap_format != FORMAT_UNBOUND
    }
}

/// By what the keys of vaults are wrapped; owners without such a key are left out.
///
/// # Errors
/// When the database does not answer.
pub async fn wraps_of(db: impl PgExecutor<'_>, owners: &[String]) -> Result<Vec<Wrap>, StoreError> {
    let wraps = sqlx::query_as("select owner, kek_id, wrap_format from vault_wraps_of($1)");
    Ok(wraps.bind(owners).fetch_all(db).await?)
}

/// Wraps the keys of vaults, as they were read, by the active key of the ring, where that is not so already. What does
/// not open stays as it is.
///
/// # Errors
/// When the database does not answer: then none is wrapped anew.
pub async fn rewrap(
    db: impl PgExecutor<'_>,
    ring: &KeyRing,
    stored: &[Stored],
) -> Result<Rewrapped, StoreError> {
    let mut rewrapped = Rewrapped::default();
    let mut wraps = vec![];
    for stored in stored {
        if stored.unreadable {
            rewrapped.fails(format!("vault {}", stored.owner), &UNREADABLE);
        }
        let Some(row) = stored.row.as_ref().filter(|row| !row.is_wrapped_by(ring)) else {
            continue;
        };
        let mut new = VaultRow::clone(row);
        match new.rewrap(ring) {
            Ok(()) => wraps.push(json!({"row": new, "seen": row.wrap_as_it_is()})),
            Err(error) => rewrapped.fails(format!("vault {}", stored.owner), &error),
        }
    }
    if wraps.is_empty() {
        return Ok(rewrapped);
    }
    let done: Vec<String> = sqlx::query_scalar("select rewrap_vaults($1)")
        .bind(json!(wraps))
        .fetch_all(db)
        .await?;
    rewrapped.note(done.len(), wraps.len());
    Ok(rewrapped)
}
