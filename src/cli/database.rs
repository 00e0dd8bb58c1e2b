//! Which database a command works on: the one that is configured, or the private cluster.

use std::time::Duration;

use anyhow::Context as _;
use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgPool};

use crate::cluster::{Cluster, Options, Role};
use crate::config::Config;
use crate::database::{self, Roles};

/// Connections of a command.
const POOL: u32 = 4;
/// How long a private cluster that another process is starting may take to accept us.
const STARTING: Duration = Duration::from_secs(10);
/// Pause between two looks at it.
const POLL: Duration = Duration::from_millis(100);

/// A database and the roles that reach it.
pub struct Database {
    /// Owns schema and log.
    pub migration: PgConnectOptions,
    /// Serves requests.
    pub service: PgConnectOptions,
    /// The private cluster, if we run it.
    cluster: Option<Cluster>,
}

impl Database {
    /// The one that is configured, if one is.
    ///
    /// # Errors
    /// When a URL cannot be read.
    pub fn configured(config: &Config) -> anyhow::Result<Option<Self>> {
        let Some(url) = &config.database_url else {
            return Ok(None);
        };
        let service = database::options(url.expose_secret()).context("DATABASE_URL")?;
        let migration = match &config.migration_url {
            Some(url) => {
                database::options(url.expose_secret()).context("MANA_AUTH_MIGRATION_URL")?
            }
            None => service.clone(),
        };
        Ok(Some(Self {
            migration,
            service,
            cluster: None,
        }))
    }

    /// The private cluster, started for as long as the value lives.
    ///
    /// # Errors
    /// When it cannot be started, for example because another process runs it.
    pub async fn start_private(config: &Config) -> anyhow::Result<Self> {
        let folder = config.data_dir.join("postgres");
        let start = move || Cluster::start(&folder, Options::default());
        let cluster = tokio::task::spawn_blocking(start)
            .await
            .context("starting the private PostgreSQL")??;
        Ok(Self {
            migration: database::options(&cluster.migration_url())?,
            service: database::options(&cluster.database_url())?,
            cluster: Some(cluster),
        })
    }

    /// For a command: what is configured, else the cluster that a service runs, else one started for the
    /// duration of the command. `stop` has to be called in the end.
    ///
    /// # Errors
    /// When there is none of these.
    pub async fn find(config: &Config) -> anyhow::Result<Self> {
        if let Some(database) = Self::configured(config)? {
            return Ok(database);
        }
        let folder = config.data_dir.join("postgres");
        let running = Self {
            migration: database::options(&Cluster::url_in(&folder, Role::Owner)?)?,
            service: database::options(&Cluster::url_in(&folder, Role::App)?)?,
            cluster: None,
        };
        if running.answers().await {
            return Ok(running);
        }
        match Self::start_private(config).await {
            Ok(own) => {
                own.migrate(config).await?;
                Ok(own)
            }
            // A service that was just starting has the cluster by now.
            Err(_) if running.answers().await => Ok(running),
            Err(error) => Err(error),
        }
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// See `database::migrate`.
    pub async fn migrate(&self, config: &Config) -> anyhow::Result<()> {
        database::migrate(Roles {
            migration: &self.migration,
            service: &self.service,
            production: config.is_production(),
        })
        .await
    }

    /// Connections with the service's role.
    pub fn pool(&self) -> PgPool {
        database::pool(&self.service, POOL)
    }

    /// Waits until the private cluster is gone without being asked to be; for ever if we run none.
    pub async fn gone(&self) {
        while !self.cluster.as_ref().is_some_and(Cluster::has_ended) {
            tokio::time::sleep(POLL).await;
        }
    }

    /// Stops the private cluster if we run it.
    ///
    /// # Errors
    /// When it had to be killed.
    pub async fn stop(self) -> anyhow::Result<()> {
        match self.cluster {
            None => Ok(()),
            Some(cluster) => tokio::task::spawn_blocking(|| cluster.stop())
                .await
                .context("stopping the private PostgreSQL")?,
        }
    }

    /// Whether somebody listens; waits for a server that is starting up.
    async fn answers(&self) -> bool {
        let attempts = STARTING.as_millis() / POLL.as_millis();
        for _ in 0..attempts {
            match self.service.connect().await {
                Ok(connection) => {
                    // It was only a question.
                    let _ = connection.close().await;
                    return true;
                }
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("57P03") => {
                    tokio::time::sleep(POLL).await;
                }
                Err(_) => return false,
            }
        }
        false
    }
}
