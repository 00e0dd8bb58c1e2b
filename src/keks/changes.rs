//! What an operator does with keys: one becomes active, one is retired.

use aggregates::log::{LOG_ID, Log, LogCommand};
use anyhow::{Context as _, bail, ensure};

use super::references::References;
use super::{KekRow, Node, all, nodes};
use crate::app::App;
use crate::store::{Actor, Context};

/// Lets a key wrap from now on. Nodes follow within seconds.
///
/// # Errors
/// When a node that runs lacks it, it is unknown or retired, or the database does not answer.
pub async fn activate(app: &App, id: &str) -> anyhow::Result<()> {
    let row = find(app, id).await?;
    ensure!(!row.is_retired(), "key-encryption key {id:?} is retired");
    let nodes = nodes(&app.pool).await?;
    let lacking = nodes
        .iter()
        .filter(|node| !node.keks.iter().any(|kek| kek == id));
    let lacking: Vec<&str> = lacking.map(|node| node.node.as_str()).collect();
    ensure!(
        lacking.is_empty(),
        "node {} cannot open what key-encryption key {id:?} wraps: add the key there first",
        lacking.join(", ")
    );
    ensure!(
        !nodes.is_empty() || app.store.custody().ring().keys().contains_key(id),
        "key-encryption key {id:?} is not configured, and no node runs that has it"
    );
    let mut tx = app.pool.begin().await?;
    sqlx::query("update keks set state = 'readable' where state = 'active' and id <> $1")
        .bind(id)
        .execute(&mut *tx)
        .await?;
    let done = sqlx::query(
        "update keks set state = 'active', activated_at = clock_timestamp()
         where id = $1 and state in ('readable', 'retiring')",
    )
    .bind(id)
    .execute(&mut *tx)
    .await?;
    ensure!(
        row.is_active() || done.rows_affected() == 1,
        "key-encryption key {id:?} was retired meanwhile"
    );
    tx.commit().await?;
    // After a crash in between, the same command again writes the event.
    let (kek_id, at) = (id.to_owned(), app.clock.now());
    note(app, LogCommand::ActivateKek { kek_id, at }).await
}

/// Takes a key away that nothing needs any more.
///
/// # Errors
/// When something is wrapped by it, it is active or unknown, or the database does not answer.
pub async fn retire(app: &App, id: &str) -> anyhow::Result<()> {
    let row = find(app, id).await?;
    ensure!(
        !row.is_active(),
        "key-encryption key {id:?} is the active one: let another become active first"
    );
    if !row.is_retired() {
        let nodes = nodes(&app.pool).await?;
        let wraps = nodes.iter().find(|node| node.active == id);
        if let Some(Node { node, .. }) = wraps {
            bail!("node {node} still wraps by key-encryption key {id:?}");
        }
        unneeded(app, id).await?;
        // From here on nobody can wrap by it, and whoever was about to has done so.
        set_state(app, id, "retiring").await?;
        for lock in [
            "lock table custody in share mode",
            "lock table encryption_vaults in share mode",
        ] {
            let mut tx = app.pool.begin().await?;
            sqlx::query(lock).execute(&mut *tx).await?;
            tx.commit().await?;
        }
        if let Err(needed) = unneeded(app, id).await {
            set_state(app, id, "readable").await?;
            return Err(needed);
        }
        set_state(app, id, "retired").await?;
    }
    let (kek_id, at) = (id.to_owned(), app.clock.now());
    note(app, LogCommand::RetireKek { kek_id, at }).await
}

async fn unneeded(app: &App, id: &str) -> anyhow::Result<()> {
    let references = References::count(app).await?;
    if let Some(needed) = references.needing(app, id).await? {
        bail!("{needed}");
    }
    Ok(())
}

async fn set_state(app: &App, id: &str, state: &str) -> anyhow::Result<()> {
    let set = sqlx::query(
        "update keks set state = $2, retired_at = case $2 when 'retired' then clock_timestamp() end
         where id = $1 and state <> 'active'",
    )
    .bind(id)
    .bind(state)
    .execute(&app.pool)
    .await?;
    ensure!(
        set.rows_affected() == 1,
        "key-encryption key {id:?} has become active meanwhile"
    );
    Ok(())
}

/// A key by its id.
///
/// # Errors
/// When no node ever had it, or the database does not answer.
pub async fn find(app: &App, id: &str) -> anyhow::Result<KekRow> {
    let rows = all(&app.pool).await?;
    let found = rows.into_iter().find(|row| row.id == id);
    found.with_context(|| format!("no node has a key-encryption key {id:?}"))
}

/// Writes down what an operator did.
pub(super) async fn note(app: &App, command: LogCommand) -> anyhow::Result<()> {
    let context = Context::of(Actor::Operator);
    app.store.run::<Log>(LOG_ID, command, context).await?;
    Ok(())
}
