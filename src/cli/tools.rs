//! The parts of the service that commands work with.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use sqlx::PgPool;

use super::database::Database;
use crate::app::{self, App, Parts, Tasks};
use crate::clock::Clock;
use crate::config::Config;
use crate::maintenance::{Continuity, LogHead, head_file};

/// Everything that a command may need.
pub struct Tools {
    /// The service's parts, without its background work.
    pub app: Arc<App>,
    tasks: Tasks,
    database: Database,
}

impl Tools {
    /// Connects. Refuses a log that came back from a backup: what is written before that is accepted would be
    /// taken for its continuation.
    ///
    /// # Errors
    /// When the database does not answer, was never migrated, or was restored.
    pub async fn open(config: Config) -> anyhow::Result<Self> {
        let database = Database::find(&config).await?;
        let pool = database.pool();
        check_migrated(&pool).await?;
        let obstacle = continuity(&config, &pool).await?.and_then(|c| obstacle(&c));
        if let Some(obstacle) = obstacle {
            bail!(obstacle);
        }
        pool.close().await;
        let parts = Parts {
            clock: Clock::system(),
            database: database.service.clone(),
        };
        let (app, tasks) = app::for_command(config, parts).await?;
        Ok(Self {
            app,
            tasks,
            database,
        })
    }

    /// The database's roles.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Lets go of everything, after what was queued for the log is written.
    ///
    /// # Errors
    /// When the private cluster does not stop.
    pub async fn close(self) -> anyhow::Result<()> {
        self.tasks.stop(self.app).await;
        self.database.stop().await
    }
}

/// Whether the schema is there.
///
/// # Errors
/// When it is not, or the database does not answer.
pub async fn check_migrated(pool: &PgPool) -> anyhow::Result<()> {
    let migrated: bool = sqlx::query_scalar("select to_regclass('read.models') is not null")
        .fetch_one(pool)
        .await
        .context("connecting to the database")?;
    if !migrated {
        bail!("the database is empty: run `mana-auth migrate`, or start the service once");
    }
    Ok(())
}

/// What the head of the log that was written down says about the log in the database; `None` if nothing was.
///
/// # Errors
/// When the file cannot be read or the database does not answer.
pub async fn continuity(config: &Config, pool: &PgPool) -> anyhow::Result<Option<Continuity>> {
    match LogHead::load(&head_file(config))? {
        None => Ok(None),
        Some(head) => Ok(Some(head.continuity(pool).await?)),
    }
}

/// Why a log is not written to, in an operator's words; `None` if nothing is wrong.
pub fn obstacle(continuity: &Continuity) -> Option<String> {
    const REMEDY: &str = "If that is right, run `mana-auth restore accept`";
    match continuity {
        Continuity::Continues => None,
        Continuity::Restored { lost_from, lost_to } => Some(format!(
            "the log came back from a backup: events {lost_from} to {lost_to} are gone. {REMEDY}"
        )),
        Continuity::OtherLog => Some(format!(
            "the database holds another log than this service last worked with. {REMEDY}"
        )),
    }
}
