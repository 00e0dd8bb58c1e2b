//! Closing an account for good: nobody gets in, and everything personal is destroyed. Each step may be repeated; a
//! crash after any of them is made good by the next look of any node.
//!
//! 1. `user.erasure_requested` closes the account in one transaction: its row, sessions and claims are gone, and
//!    nothing more is appended about its owner.
//! 2. The erasure is entered in a ledger outside of the database, and synced. A database that comes back from a
//!    backup does not know of it; the ledger does, and is replayed before the service answers.
//! 3. Their memberships end. An organization that only they owned goes to another member; one that nobody is left in
//!    is closed. Invitations to their addresses are erased, with their data keys.
//! 4. Where they were is blanked in the audit log of their vault, some rows at a time.
//! 5. Under the append lock, the person's data key and all their secrets are destroyed, and everything that is kept
//!    about them beside the log is deleted. From then on the log holds nothing readable about them, and nobody can
//!    write anything.
//!
//! The last mail outlives the person's key: it is sealed under one of its own, which is destroyed when the mail is
//! delivered, or after 72 hours.

use std::collections::HashSet;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use aggregates::user::{ErasureReason, User, UserCommand, UserEvent};
use anyhow::Context as _;
use chrono::{DateTime, Utc};
use projections::users::UserRow;
use projections::{AnyEvent, vault_audit};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

use crate::accounts::{AccountError, mail_to};
use crate::app::App;
use crate::config::Config;
use crate::effects;
use crate::follower;
use crate::ids;
use crate::mail::MailKind;
use crate::maintenance;
use crate::organizations;
use crate::store::{Actor, Context, Done, RunError, Store, StoreError, log};

/// Subjects of last mails begin like this.
const FAREWELL: &str = "farewell:";
/// A last mail that cannot be delivered is given up after so many hours.
const FAREWELL_HOURS: i32 = 72;
/// Rows of an audit log that are blanked at a time.
const BLANKED: i64 = 1_000;

/// Closes an account and destroys what is personal. Says whether it was open until now.
///
/// # Errors
/// `LastAdmin` if the service would have no admin any more; else when something could not be written. An account that
/// was closed by then stays closed, and the rest follows.
pub async fn erase(
    app: &App,
    user: &UserRow,
    reason: ErasureReason,
    context: Context,
) -> Result<bool, AccountError> {
    let subject = format!("{FAREWELL}{}", ids::event());
    let key = app.store.custody().new_data_key(&subject);
    let mail = mail_to(MailKind::AccountDeleted, user);
    let context = context
        .with_new_data_key(&subject, key)
        .unless_last_admin(&user.id)
        .then(effects::mail(&subject, &mail));
    let at = app.clock.now();
    let command = UserCommand::RequestErasure { reason, at };
    let done = app.store.run::<User>(&user.id, command, context).await?;
    finish(app, &user.id, at).await?;
    Ok(done.position.is_some())
}

/// Steps 2 to 5 for an account that is closed.
async fn finish(app: &App, user_id: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
    let entry = Entry {
        user_id: user_id.to_owned(),
        requested_at: at,
    };
    entry
        .enter(&app.config)
        .map_err(|error| StoreError::Unavailable(format!("{error:#}")))?;
    let addresses = proven_addresses(&app.store, &app.pool, user_id).await?;
    organizations::forget_person(app, user_id, &addresses).await?;
    blank_vault_audit(&app.pool, user_id).await?;
    destroy(&app.store, &app.pool, user_id).await?;
    app.store.custody().forget(user_id);
    tracing::info!(
        user_id,
        "what was personal about a closed account is destroyed"
    );
    Ok(())
}

/// Every table beside custody and the log that holds something about a person, and its column that says whom.
const STORES: [(&str, &str); 9] = [
    ("tokens", "user_id"),
    ("door_events", "user_id"),
    ("totp_steps", "user_id"),
    ("passkey_uses", "user_id"),
    ("api_key_uses", "user_id"),
    ("effects", "subject"),
    ("idempotency_keys", "subject"),
    ("claims", "owner"),
    ("encryption_vaults", "user_id"),
];

/// Addresses that the person has shown to be theirs, while the log still tells. Others may belong to somebody else.
async fn proven_addresses(
    store: &Store,
    pool: &PgPool,
    user_id: &str,
) -> Result<Vec<String>, StoreError> {
    let rows = log::stream(pool, "user", user_id).await?;
    let (mut proven, mut current) = (vec![], None);
    for opened in store.open(&rows).await? {
        match opened.event {
            AnyEvent::User(UserEvent::Registered { email, .. }) => current = Some(email),
            AnyEvent::User(UserEvent::EmailVerified { .. }) => proven.extend(current.clone()),
            AnyEvent::User(UserEvent::EmailVerificationWithdrawn { .. }) => {
                proven.retain(|email| Some(email) != current.as_ref());
            }
            AnyEvent::User(
                UserEvent::EmailChanged { to, .. } | UserEvent::EmailChangeReverted { to, .. },
            ) => {
                current = Some(to.clone());
                proven.push(to);
            }
            _ => {}
        }
    }
    let proven = proven.iter().filter_map(|email| email.get());
    Ok(proven.map(|email| email.as_str().to_owned()).collect())
}

/// The audit log of their vault stays, but for where they were. It may be long, so nobody waits for this.
async fn blank_vault_audit(pool: &PgPool, user_id: &str) -> Result<(), StoreError> {
    // Who adds to it ends first. Whoever begins from here on finds the account closed, and leaves out where they were.
    follower::hold(pool, vault_audit::NAME).await?;
    let mut blanked = Some(0_i64);
    while let Some(after) = blanked {
        blanked = sqlx::query_scalar(
            "with page as (
                 select position from read.vault_audit where user_id = $1 and position > $2 order by position limit $3
             ), blanked as (
                 update read.vault_audit r set ip_address = null, user_agent = null from page
                 where r.position = page.position and (r.ip_address is not null or r.user_agent is not null)
             )
             select max(position) from page",
        )
        .bind(user_id)
        .bind(after)
        .bind(BLANKED)
        .fetch_one(pool)
        .await?;
    }
    Ok(())
}

async fn destroy(store: &Store, pool: &PgPool, user_id: &str) -> Result<(), StoreError> {
    let mut tx = pool.begin().await?;
    // Nothing is appended about them meanwhile; afterwards they have no key, and nothing can be.
    sqlx::query("select pg_advisory_xact_lock(7165746300)")
        .execute(&mut *tx)
        .await?;
    // The row of a vault is reached as its owner.
    sqlx::query("select set_config('app.current_user_id', $1, true)")
        .bind(user_id)
        .execute(&mut *tx)
        .await?;
    store.custody().destroy_all(&mut *tx, user_id).await?;
    for (table, column) in STORES {
        sqlx::query(&format!("delete from {table} where {column} = $1"))
            .bind(user_id)
            .execute(&mut *tx)
            .await?;
    }
    tx.commit().await?;
    Ok(())
}

/// Takes up what a crash has left: closed accounts that are not in the ledger, still have a secret, or belong to an
/// organization.
///
/// # Errors
/// When the database does not answer or the ledger cannot be written.
pub async fn resume(app: &App) -> anyhow::Result<()> {
    let closed = projections::erasures::all(&app.pool).await?;
    if closed.is_empty() {
        return Ok(());
    }
    let entered: HashSet<String> = read(&app.config)?
        .into_iter()
        .map(|entry| entry.user_id)
        .collect();
    let owners: Vec<String> = closed.iter().map(|row| row.id.clone()).collect();
    let keyed = app.store.custody().owners_among(&owners).await?;
    let members = projections::members::members_among(&app.pool, &owners).await?;
    let left: HashSet<String> = keyed.into_iter().chain(members).collect();
    for row in closed {
        if left.contains(&row.id) || !entered.contains(&row.id) {
            finish(app, &row.id, row.requested_at).await?;
        }
    }
    Ok(())
}

/// Erases again whoever is in the ledger and back in the database.
///
/// # Errors
/// When the database does not answer or the ledger cannot be read.
pub async fn replay(app: &App) -> anyhow::Result<()> {
    let entries = read(&app.config)?;
    let owners: Vec<String> = entries.iter().map(|entry| entry.user_id.clone()).collect();
    let back: HashSet<String> = app
        .store
        .custody()
        .owners_among(&owners)
        .await?
        .into_iter()
        .collect();
    for entry in entries {
        if !back.contains(&entry.user_id) {
            continue;
        }
        tracing::warn!(
            user_id = entry.user_id,
            "an erased person is back, as after a restore: erasing again"
        );
        let command = UserCommand::RequestErasure {
            reason: ErasureReason::OwnRequest,
            at: entry.requested_at,
        };
        let context = Context::of(Actor::System);
        match app.store.run(&entry.user_id, command, context).await {
            // A log that is older than their account has nothing to close; their secrets go all the same.
            Ok(Done::<User> { .. }) | Err(RunError::Refused(_)) => {}
            Err(RunError::Store(error)) => return Err(error.into()),
        }
        finish(app, &entry.user_id, entry.requested_at).await?;
    }
    Ok(())
}

/// Whether a data key belongs to a last mail.
pub fn is_farewell(subject: &str) -> bool {
    subject.starts_with(FAREWELL)
}

/// Destroys the key of a last mail that was delivered.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_farewell(pool: &PgPool, subject: &str) -> Result<(), sqlx::Error> {
    sqlx::query("delete from custody where owner = $1")
        .bind(subject)
        .execute(pool)
        .await?;
    Ok(())
}

/// Gives up last mails that could not be delivered in time.
///
/// # Errors
/// When the database does not answer.
pub async fn give_up_farewells(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "with gone as (
             delete from custody where owner like $1 and created_at < clock_timestamp() - make_interval(hours => $2)
             returning owner
         )
         delete from effects where subject in (select owner from gone)",
    )
    .bind(format!("{FAREWELL}%"))
    .bind(FAREWELL_HOURS)
    .execute(pool)
    .await?;
    Ok(())
}

/// A line of the ledger: nothing personal.
#[derive(Serialize, Deserialize)]
struct Entry {
    user_id: String,
    requested_at: DateTime<Utc>,
}

impl Entry {
    /// Adds the line and makes sure that it is on disk.
    fn enter(&self, config: &Config) -> anyhow::Result<()> {
        let file = ledger_file(config);
        let context = || format!("writing {}", file.display());
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder).with_context(context)?;
        }
        let mut ledger = std::fs::OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .open(&file)
            .with_context(context)?;
        // Nodes may share the folder.
        ledger.lock().with_context(context)?;
        let mut text = String::new();
        ledger.read_to_string(&mut text).with_context(context)?;
        let whole = whole_lines(&text).len();
        if whole < text.len() {
            ledger.set_len(whole as u64).with_context(context)?;
        }
        let line = serde_json::to_string(self).context("an entry is plain JSON")? + "\n";
        ledger.write_all(line.as_bytes()).with_context(context)?;
        ledger.sync_all().with_context(context)
    }
}

fn read(config: &Config) -> anyhow::Result<Vec<Entry>> {
    let file = ledger_file(config);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
    };
    whole_lines(&text)
        .lines()
        .map(|line| {
            serde_json::from_str(line).with_context(|| format!("reading {}", file.display()))
        })
        .collect()
}

/// The ledger without a line that a crash has cut off: it was not synced, so nothing was destroyed for it yet.
fn whole_lines(text: &str) -> &str {
    text.rfind('\n').map_or("", |end| &text[..=end])
}

fn ledger_file(config: &Config) -> PathBuf {
    maintenance::database_file(config, "erasure-ledger", "jsonl")
}
