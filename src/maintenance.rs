//! What has to be done now and then: partitions ahead, forgetting what is over, and the small file that
//! tells a restored log from a living one.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aggregates::user::{User, UserCommand};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;
use tokio::sync::watch;
use uuid::Uuid;

use crate::app::App;
use crate::config::Config;
use crate::crypto::tokens::TokenKind;
use crate::links::FormerEmail;
use crate::store::{Actor, Context, Done, RunError, idempotency, log};
use crate::{door_log, erasure, guard, tokens, vault};

/// How often the head is written down: what a restore loses is known to a second.
const HEAD_EVERY: Duration = Duration::from_secs(1);
/// How often the rest is done.
const CHORES_EVERY: Duration = Duration::from_secs(60);

/// Does the chores until `stop` says so.
pub async fn work(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut last_chores: Option<Instant> = None;
    let mut written = None;
    while !*stop.borrow() {
        match LogHead::read(&app.pool).await {
            Ok(head) if written.as_ref() != Some(&head) => {
                match head.write(&head_file(&app.config)) {
                    Ok(()) => written = Some(head),
                    Err(error) => {
                        tracing::warn!(error = %format!("{error:#}"), "cannot write down the head of the log")
                    }
                }
            }
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %error, "cannot read the head of the log"),
        }
        if last_chores.is_none_or(|at| at.elapsed() >= CHORES_EVERY) {
            if let Err(error) = chores(&app).await {
                tracing::warn!(error = %error, "chores failed; they are tried again in a minute");
            }
            last_chores = Some(Instant::now());
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(HEAD_EVERY) => {}
        }
    }
}

/// Does the chores once.
///
/// # Errors
/// When the database does not answer.
pub async fn chores(app: &App) -> anyhow::Result<()> {
    let pool = &app.pool;
    let made: i32 = sqlx::query_scalar("select ensure_event_partitions()")
        .fetch_one(pool)
        .await?;
    if made > 0 {
        tracing::info!(made, "made partitions of the log ahead");
    }
    idempotency::forget_old(pool).await?;
    sqlx::query("delete from rate_limits where allowed_at < clock_timestamp() - interval '1 day'")
        .execute(pool)
        .await?;
    guard::forget_old(app).await?;
    door_log::forget_old(app).await?;
    release_former_addresses(app).await?;
    tokens::forget_overdue(pool, TokenKind::RevertEmail, app.clock.now()).await?;
    vault::forget_old(pool).await?;
    erasure::give_up_farewells(pool).await?;
    erasure::resume(app).await
}

/// Gives addresses free that nobody has gone back to in time. The token that would have led back goes last, so a
/// crash in between repeats the command, which then changes nothing.
async fn release_former_addresses(app: &App) -> anyhow::Result<()> {
    let (pool, custody, now) = (&app.pool, app.store.custody(), app.clock.now());
    for token in tokens::overdue(pool, custody, TokenKind::RevertEmail, now).await? {
        if let Some((email, left_at)) = FormerEmail::of(&token) {
            let command = UserCommand::ReleaseFormerEmail {
                email,
                left_at,
                at: now,
            };
            let context = Context::of(Actor::System);
            match app.store.run(&token.user_id, command, context).await {
                // A closed account has nothing left to release.
                Ok(Done::<User> { .. }) | Err(RunError::Refused(_)) => {}
                Err(RunError::Store(error)) => return Err(error.into()),
            }
        }
        tokens::spend(pool, &token).await?;
    }
    Ok(())
}

/// How far the log had come when somebody last looked: kept outside the database, beside the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogHead {
    /// Life of the log.
    pub epoch: Uuid,
    /// Position of the last event.
    pub head: i64,
}

/// What the written head says about the log in the database.
#[derive(Debug, PartialEq)]
pub enum Continuity {
    /// The log goes on from there, or nothing was written down yet.
    Continues,
    /// The log is older than what was written down: it came back from a backup.
    Restored {
        /// First position that is gone.
        lost_from: i64,
        /// Last position that was known.
        lost_to: i64,
    },
    /// The file is about another log.
    OtherLog,
}

impl LogHead {
    /// Of the log in the database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn read(pool: &PgPool) -> Result<Self, sqlx::Error> {
        Ok(Self {
            epoch: log::epoch(pool).await?.epoch,
            head: log::head(pool).await?,
        })
    }

    /// Writes the file so that a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("making {}", folder.display()))?;
        }
        let fresh = file.with_extension("new");
        let written = std::fs::File::create(&fresh).and_then(|mut note| {
            note.write_all(&serde_json::to_vec(self)?)?;
            // On disk before it takes the old one's place: a power cut must not leave an empty note.
            note.sync_all()
        });
        written.with_context(|| format!("writing {}", fresh.display()))?;
        std::fs::rename(&fresh, file).with_context(|| format!("writing {}", file.display()))
    }

    /// Reads the file, if there is one.
    ///
    /// # Errors
    /// When it cannot be read or is not what `write` writes.
    pub fn load(file: &Path) -> anyhow::Result<Option<Self>> {
        match std::fs::read(file) {
            Ok(bytes) => Ok(Some(
                serde_json::from_slice(&bytes)
                    .with_context(|| format!("reading {}", file.display()))?,
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }

    /// Compares what was written down with the log in the database.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn continuity(&self, pool: &PgPool) -> Result<Continuity, sqlx::Error> {
        let now = Self::read(pool).await?;
        let known: bool =
            sqlx::query_scalar("select exists (select from log_epochs where epoch = $1)")
                .bind(self.epoch)
                .fetch_one(pool)
                .await?;
        Ok(if !known {
            Continuity::OtherLog
        } else if now.epoch == self.epoch && now.head < self.head {
            Continuity::Restored {
                lost_from: now.head + 1,
                lost_to: self.head,
            }
        } else {
            Continuity::Continues
        })
    }
}

/// Where the head of this database's log is written down. Each database has a file of its own, so that
/// one folder may serve several.
pub fn head_file(config: &Config) -> PathBuf {
    database_file(config, "log-head", "json")
}

/// A file beside the data that is about one database.
pub fn database_file(config: &Config, what: &str, ending: &str) -> PathBuf {
    use secrecy::ExposeSecret as _;
    let place = match &config.database_url {
        None => "private".to_owned(),
        Some(url) => {
            // Host and name of the database, not the password: it may change.
            let place = url::Url::parse(url.expose_secret()).map_or_else(
                |_| String::new(),
                |url| {
                    format!(
                        "{}:{:?}{}",
                        url.host_str().unwrap_or_default(),
                        url.port(),
                        url.path()
                    )
                },
            );
            crate::crypto::hex::encode(&Sha256::digest(place.as_bytes())[..8])
        }
    };
    config.data_dir.join(format!("{what}.{place}.{ending}"))
}
