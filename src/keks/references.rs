//! What each key-encryption key is needed for: counted where the wraps are, one by one, for nothing else is sure.

use std::collections::BTreeMap;

use sqlx::PgPool;

use crate::app::App;
use crate::store::{StoreError, log};
use crate::vault;

/// Owners of vaults that are read at a time.
const PAGE: i64 = 2_000;
/// Places that are named.
const NAMED: usize = 5;

/// How many secrets and vaults each key wraps.
#[derive(Default)]
pub struct References {
    /// Rows of custody, by key.
    pub secrets: BTreeMap<String, i64>,
    /// Keys of vaults, by key.
    pub vaults: BTreeMap<String, i64>,
    /// Keys of vaults that are wrapped as the original service did.
    unbound: BTreeMap<String, i64>,
    owners: BTreeMap<String, Vec<String>>,
}

impl References {
    /// Counts.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count(app: &App) -> Result<Self, StoreError> {
        let mut counted = Self::default();
        let mut owners = Owners::default();
        while let Some(page) = owners.next(&app.pool, PAGE).await? {
            for wrap in vault::wraps_of(&app.pool, &page).await? {
                if !wrap.is_made_by(&wrap.kek_id) {
                    *counted.unbound.entry(wrap.kek_id.clone()).or_default() += 1;
                }
                *counted.vaults.entry(wrap.kek_id.clone()).or_default() += 1;
                let named = counted.owners.entry(wrap.kek_id).or_default();
                if named.len() < NAMED {
                    named.push(wrap.owner);
                }
            }
        }
        counted.secrets = app.store.custody().wraps().await?.into_iter().collect();
        Ok(counted)
    }

    /// How much there is to wrap anew for one key to wrap everything.
    pub fn to_rewrap(&self, active: &str) -> i64 {
        let others = |counts: &BTreeMap<String, i64>| -> i64 {
            let others = counts.iter().filter(|(id, _)| *id != active);
            others.map(|(_, count)| count).sum()
        };
        let unbound = self.unbound.get(active).copied().unwrap_or_default();
        others(&self.secrets) + others(&self.vaults) + unbound
    }

    /// What needs a key, in an operator's words; nothing if nothing does.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn needing(&self, app: &App, id: &str) -> Result<Option<String>, StoreError> {
        let of = |counts: &BTreeMap<String, i64>| counts.get(id).copied().unwrap_or_default();
        let (secrets, vaults) = (of(&self.secrets), of(&self.vaults));
        if secrets + vaults == 0 {
            return Ok(None);
        }
        let some = app
            .store
            .custody()
            .some_wrapped_by(id, NAMED as i64)
            .await?;
        let some = some
            .into_iter()
            .map(|(kind, owner, id)| format!("custody {kind}/{owner}/{id}"));
        let owners = self.owners.get(id).into_iter().flatten();
        let places: Vec<String> = some
            .chain(owners.map(|owner| format!("vault {owner}")))
            .collect();
        Ok(Some(format!(
            "key-encryption key {id:?} still wraps {secrets} secrets and the keys of {vaults} vaults, such as {}: \
             run `mana-auth kek rewrap`",
            places.join(", ")
        )))
    }
}

/// Everybody who may have a vault, a page at a time. Row-level security hides who has one; but whoever does has a stream,
/// also when their row among the people is gone.
#[derive(Default)]
pub struct Owners {
    last: String,
}

impl Owners {
    /// The next page; none at the end.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn next(
        &mut self,
        pool: &PgPool,
        limit: i64,
    ) -> Result<Option<Vec<String>>, StoreError> {
        let page = log::owners_of_vaults_after(pool, &self.last, limit).await?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.last.clone_from(last);
        Ok(Some(page))
    }
}
