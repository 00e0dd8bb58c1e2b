//! Another key-encryption key for secrets that are in use: a page at a time, compare and set. A secret keeps its version:
//! whoever has read it before has seen what it still is.

use sqlx::Row as _;

use super::{Custody, CustodyError};
use crate::crypto::hex::encode as hex;
use crate::crypto::key_ring::Place;
use crate::keks::Rewrapped;

/// A place in custody: kind, owner and id.
pub type At = (String, String, String);

impl Custody {
    /// How many secrets each key wraps, by id.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn wraps(&self) -> Result<Vec<(String, i64)>, sqlx::Error> {
        sqlx::query_as("select kek_id, count(*) from custody group by kek_id order by kek_id")
            .fetch_all(&self.pool)
            .await
    }

    /// Some of the secrets that a key wraps.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn some_wrapped_by(&self, kek_id: &str, limit: i64) -> Result<Vec<At>, sqlx::Error> {
        sqlx::query_as(
            "select kind, owner, id from custody where kek_id = $1 order by 1, 2, 3 limit $2",
        )
        .bind(kek_id)
        .bind(limit)
        .fetch_all(&self.pool)
        .await
    }

    /// Wraps the next secrets after a place by the active key, where another key wraps them; the place to go on from, if
    /// there may be more. What does not open stays as it is.
    ///
    /// # Errors
    /// When the database does not answer: then none is wrapped anew.
    pub async fn rewrap_after(
        &self,
        after: &At,
        limit: i64,
    ) -> Result<(Rewrapped, Option<At>), CustodyError> {
        let ring = self.ring();
        let rows = sqlx::query(
            "select kind, owner, id, kek_id, format, nonce, ciphertext from custody
             where (kind, owner, id) > ($1, $2, $3) and kek_id <> $4 order by kind, owner, id limit $5",
        )
        .bind(&after.0)
        .bind(&after.1)
        .bind(&after.2)
        .bind(ring.active_id())
        .bind(limit)
        .fetch_all(&self.pool)
        .await?;
        let mut rewrapped = Rewrapped::default();
        let (mut wraps, mut last) = (vec![], None);
        for row in &rows {
            let at: At = (
                row.try_get("kind")?,
                row.try_get("owner")?,
                row.try_get("id")?,
            );
            let (kind, owner, id) = (at.0.as_str(), at.1.as_str(), at.2.as_str());
            let place = Place { kind, owner, id };
            match self.open(place, row) {
                Ok(secret) => {
                    let seen: Vec<u8> = row.try_get("ciphertext")?;
                    let new = ring.wrap(place, &secret);
                    wraps.push(serde_json::json!({
                        "kind": kind, "owner": owner, "id": id, "seen": hex(&seen), "kek_id": new.kek_id,
                        "format": new.format, "nonce": hex(&new.nonce), "ciphertext": hex(&new.ciphertext),
                    }));
                }
                Err(CustodyError::Unwrap { source, .. }) => {
                    rewrapped.fails(format!("custody {kind}/{owner}/{id}"), &source);
                }
                Err(error) => return Err(error),
            }
            last = Some(at);
        }
        if !wraps.is_empty() {
            let done = sqlx::query(REWRAP)
                .bind(serde_json::json!(wraps))
                .execute(&self.pool)
                .await?;
            let done = usize::try_from(done.rows_affected()).unwrap_or_default();
            rewrapped.note(done, wraps.len());
        }
        Ok((rewrapped, last))
    }
}

/// Where somebody is just writing, nothing is done: a wait for them could be one for each other.
const REWRAP: &str = "
    with new as (
        select t.*, decode(t.seen, 'hex') as seen_bytes
        from jsonb_to_recordset($1) as t (kind text, owner text, id text, seen text, kek_id text, format smallint,
             nonce text, ciphertext text)
    ), free as (
        select k.kind, k.owner, k.id, new.kek_id, new.format, new.nonce, new.ciphertext
        from custody k join new on k.kind = new.kind and k.owner = new.owner and k.id = new.id
                                and k.ciphertext = new.seen_bytes
        for no key update of k skip locked
    )
    update custody k
    set kek_id = free.kek_id, format = free.format, nonce = decode(free.nonce, 'hex'),
        ciphertext = decode(free.ciphertext, 'hex')
    from free where k.kind = free.kind and k.owner = free.owner and k.id = free.id";
