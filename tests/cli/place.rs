//! A database of its own with the command line on it, where nothing else runs.

use mana_auth::cluster::Role;
use mana_auth::database;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

use crate::client::PASSWORD;
use crate::command::Cli;
use crate::harness::{Database, TestApp};
use crate::tables::{Snapshot, snapshot};

/// A database of its own with the command line on it.
pub struct Place {
    /// The command line, with the settings of a development service on the database.
    pub cli: Cli,
    /// The superuser on the database.
    pub admin: PgPool,
    database: Database,
}

impl Place {
    /// On a migrated database.
    pub async fn new() -> Place {
        let database = Database::create().await;
        let admin = database::options(&database.url(Role::Superuser)).unwrap();
        Place {
            cli: on(|role| database.url(role)),
            admin: PgPoolOptions::new()
                .max_connections(2)
                .connect_lazy_with(admin),
            database,
        }
    }

    /// The name of the database.
    pub fn name(&self) -> &str {
        &self.database.name
    }

    /// The URL of the database for a role.
    pub fn url(&self, role: Role) -> String {
        self.database.url(role)
    }

    /// Makes the account `<name>@example.com`; answers with its id.
    pub async fn person(&self, name: &str) -> String {
        let email = format!("{name}@example.com");
        let create = ["user", "create", &email, "--name", name, "--password-stdin"];
        let made = self.cli.run_reading(&create, PASSWORD).await.well();
        made.trim_end().to_owned()
    }

    /// Everything that is in the database.
    pub async fn everything(&self) -> Snapshot {
        snapshot(&self.admin).await
    }

    /// Runs statements as the superuser, past the triggers that guard the log.
    pub async fn tamper(&self, statements: &str) {
        tamper(&self.admin, statements).await;
    }

    /// A text that a query gives.
    pub async fn text(&self, query: &str) -> String {
        let found = sqlx::query_scalar(query).fetch_one(&self.admin);
        found.await.unwrap()
    }
}

/// The command line on the database of a service that runs inside of the test.
pub fn beside(app: &TestApp) -> Cli {
    on(|role| app.database_url(role))
}

fn on(url: impl Fn(Role) -> String) -> Cli {
    Cli::new()
        .with("DATABASE_URL", &url(Role::App))
        .with("MANA_AUTH_MIGRATION_URL", &url(Role::Owner))
}

/// Runs statements as the superuser, past the triggers that guard the log.
pub async fn tamper(admin: &PgPool, statements: &str) {
    let all = format!("begin; set local session_replication_role = replica; {statements}; commit");
    sqlx::raw_sql(&all).execute(admin).await.unwrap();
}
