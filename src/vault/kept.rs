//! Recovery wraps that were replaced, removed or ended by a rotation. Whoever stole a session can do that; so they are
//! kept in custody for 30 days, for their owner to put back (S-76). Erasure destroys them with everything else there.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgPool;
use zeroize::Zeroizing;

use super::row::KeptWrap;
use crate::custody::{Custody, CustodyChange, kind};
use crate::ids;
use crate::store::StoreError;

/// For so many days.
const KEPT_DAYS: i32 = 30;

/// Keeps a wrap from now on.
///
/// # Errors
/// Never: it is plain JSON.
pub fn put(custody: &Custody, owner: &str, wrap: &KeptWrap) -> Result<CustodyChange, StoreError> {
    let json = serde_json::to_vec(wrap).map_err(|error| StoreError::Broken(error.to_string()))?;
    let json = Zeroizing::new(json);
    let id = ids::event().to_string();
    Ok(custody.put(kind::RECOVERY_WRAP, owner, &id, &json))
}

/// Keeps a wrap no longer.
pub fn delete(custody: &Custody, owner: &str, id: &str) -> CustodyChange {
    custody.delete(kind::RECOVERY_WRAP, owner, id)
}

/// A wrap that was looked for.
pub enum Found {
    /// There is none.
    Nothing,
    /// The wrap, with its id.
    Wrap(String, KeptWrap),
    /// It does not open.
    NotOpened,
}

/// The wrap that a person's vault had at a time, else the one that was replaced last. Others that do not open stand in
/// nobody's way.
///
/// # Errors
/// When the database does not answer.
pub async fn find(
    custody: &Custody,
    owner: &str,
    had_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<Found, StoreError> {
    let mut kept: Vec<(String, KeptWrap)> = Vec::new();
    // Ids grow with time.
    let mut last_not_opened = None;
    for (id, secret) in custody.all_of(kind::RECOVERY_WRAP, owner).await? {
        let wrap = match secret {
            Ok(secret) => serde_json::from_slice(&secret.bytes)
                .map_err(|_| format!("what is kept as {id} is no wrap")),
            Err(error) => Err(error.to_string()),
        };
        match wrap {
            Ok(wrap) => kept.push((id, wrap)),
            Err(error) => {
                tracing::error!(user_id = owner, error, "a recovery wrap is passed over");
                last_not_opened = Some(id);
            }
        }
    }
    // Expiry is checked at use, never left to a cleaner (S-32).
    kept.retain(|(_, wrap)| now - wrap.replaced_at < TimeDelta::days(KEPT_DAYS.into()));
    let was_there = |wrap: &KeptWrap, at| {
        at < wrap.replaced_at && wrap.set_at.is_none_or(|set_at| set_at <= at)
    };
    if let Some(at) = had_at {
        kept.retain(|(_, wrap)| was_there(wrap, at));
    }
    let found = kept.into_iter().max_by_key(|(_, wrap)| wrap.replaced_at);
    Ok(match (found, last_not_opened) {
        // The one that was replaced last; the times of the others are known to be other ones.
        (Some((id, _)), Some(last)) if had_at.is_none() && id < last => Found::NotOpened,
        (Some((id, wrap)), _) => Found::Wrap(id, wrap),
        (None, Some(_)) => Found::NotOpened,
        (None, None) => Found::Nothing,
    })
}

/// Destroys wraps whose time is over.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_old(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from custody where kind = $1 and created_at < clock_timestamp() - make_interval(days => $2)",
    )
    .bind(kind::RECOVERY_WRAP)
    .bind(KEPT_DAYS)
    .execute(pool)
    .await?;
    Ok(())
}
