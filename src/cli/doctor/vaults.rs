//! Whether vaults open, and are what the log says of them.

use aggregates::vault::Vault;
use sqlx::postgres::PgConnection;

use super::{Check, PAGE};
use crate::store::Store;
use crate::vault::{self, Stored};

/// Every vault's key opens; with `deep` its mode is also the one that its events lead to.
pub async fn check(store: &Store, db: &mut PgConnection, deep: bool) -> anyhow::Result<Check> {
    let mut check = Check::new("vaults open and agree with their events");
    let mut last = String::new();
    loop {
        let people = projections::users::addresses_after(&mut *db, &last, PAGE).await?;
        let Some((id, _)) = people.last() else {
            return Ok(check);
        };
        last = id.clone();
        let owners: Vec<String> = people.into_iter().map(|(id, _)| id).collect();
        // As they are now: their rows are not a part of the moment that the other checks are made of.
        for stored in vault::read(store.pool(), &owners).await? {
            if stored.unreadable {
                check.checked += 1;
                check.problem(format!("vault {}: its row makes no sense", stored.owner));
            }
            if let Some(row) = &stored.row {
                check.checked += 1;
                if let Some(Err(error)) = row.open(&store.custody().ring()) {
                    check.problem(format!("vault {}: {error}", stored.owner));
                }
                if stored.older_than_log {
                    let owner = &stored.owner;
                    check.problem(format!("vault {owner}: its row is older than the log"));
                }
            }
            if deep && stored.version > 0 && !stored.older_than_log && !stored.unreadable {
                agree(store, stored, &mut check).await?;
            }
        }
    }
}

/// Compares a row with the events, until both were read of the same version.
async fn agree(store: &Store, mut stored: Stored, check: &mut Check) -> anyhow::Result<()> {
    loop {
        let folded: Vault = store.load(&stored.owner).await?;
        let shown = stored.mode();
        if shown.as_ref().is_ok_and(|mode| *mode == folded) {
            return Ok(());
        }
        let owners = [stored.owner.clone()];
        let Some(again) = vault::read(store.pool(), &owners).await?.pop() else {
            return Ok(());
        };
        if again.version == stored.version {
            let shown = shown.map_or_else(
                |fault| fault.as_str().to_owned(),
                |mode| format!("{mode:?}"),
            );
            let owner = &stored.owner;
            check.problem(format!(
                "vault {owner}: its row says {shown}, its events say {folded:?}"
            ));
            return Ok(());
        }
        stored = again;
    }
}
