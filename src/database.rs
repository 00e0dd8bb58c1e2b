//! The database: connecting with patience, migrating, and the rights of the service's role.

use std::str::FromStr as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sqlx::{ConnectOptions as _, Connection as _, PgPool};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// A request waits this long for a connection; then the database counts as not available.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that was in use this short a time ago is not asked whether it still stands.
const SURELY_OPEN: Duration = Duration::from_millis(100);
/// No statement of a request runs longer, in milliseconds.
const STATEMENT_TIMEOUT_MS: &str = "10000";

/// How to connect, without logging what statements hold.
///
/// # Errors
/// When the URL cannot be read; the message does not quote it.
pub fn options(url: &str) -> anyhow::Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| anyhow::anyhow!("the database URL cannot be read"))?;
    Ok(options.disable_statement_logging())
}

/// A pool for requests.
pub fn pool(options: &PgConnectOptions, connections: u32) -> PgPool {
    let options = options.clone().application_name("mana-auth").options([
        ("statement_timeout", STATEMENT_TIMEOUT_MS),
        // What is asked here finds a few rows. Where statistics are old, PostgreSQL may expect many, and compile
        // the query or start helpers for each of them.
        ("jit", "off"),
        ("max_parallel_workers_per_gather", "0"),
    ]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > SURELY_OPEN {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}

/// Which roles reach the database.
pub struct Roles<'a> {
    /// Owns schema and log.
    pub migration: &'a PgConnectOptions,
    /// Serves requests.
    pub service: &'a PgConnectOptions,
    /// Whether one role being both is refused.
    pub production: bool,
}

/// Brings the schema up to date and gives the service's role its rights. Safe to repeat, and to run on
/// several nodes at once.
///
/// # Errors
/// When the database cannot be reached, is newer than this program, or the roles do not suffice.
pub async fn migrate(roles: Roles<'_>) -> anyhow::Result<()> {
    let mut connection = roles
        .migration
        .connect()
        .await
        .context("connecting with the migration role")?;
    MIGRATIONS.run(&mut connection).await.map_err(explain)?;
    let role: String = {
        let mut service = roles
            .service
            .connect()
            .await
            .context("connecting with the service's role")?;
        let role = sqlx::query_scalar("select current_user::text")
            .fetch_one(&mut service)
            .await?;
        service.close().await?;
        role
    };
    let owner: String = sqlx::query_scalar("select current_user::text")
        .fetch_one(&mut connection)
        .await?;
    if role == owner {
        if roles.production {
            bail!("{}", one_role(&role));
        }
        tracing::warn!(role, "{}", one_role(&role));
    } else {
        grant(&mut connection, &role)
            .await
            .with_context(|| format!("giving role {role} its rights"))?;
    }
    connection.close().await?;
    Ok(())
}

fn one_role(role: &str) -> String {
    format!(
        "the role {role} both owns the log and serves requests: give MANA_AUTH_MIGRATION_URL a role of its own \
         (README, \"Database roles\")"
    )
}

/// Checks that the schema is the one that this program knows, for nodes that do not migrate.
fn explain(error: MigrateError) -> anyhow::Error {
    match error {
        MigrateError::VersionMissing(version) => anyhow::anyhow!(
            "the database is newer than this program: it has migration {version}, which this version does not know. Run a newer mana-auth"
        ),
        MigrateError::VersionMismatch(version) => {
            anyhow::anyhow!(
                "migration {version} was applied in another form than this program has it"
            )
        }
        other => anyhow::Error::new(other).context("migrating"),
    }
}

/// Whether an error of `migrate` may go away by waiting: the database cannot be reached (yet).
pub fn is_temporary(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| match cause.downcast_ref::<sqlx::Error>() {
            Some(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut) => true,
            // Starting up, shutting down, out of connections.
            Some(sqlx::Error::Database(db)) => db
                .code()
                .is_some_and(|code| code.starts_with("57P") || code.starts_with("53")),
            _ => false,
        })
}

async fn grant(connection: &mut PgConnection, role: &str) -> anyhow::Result<()> {
    let role = format!("\"{}\"", role.replace('"', "\"\""));
    let mut tx = connection.begin().await?;
    // Two nodes that start together would otherwise update the same catalog rows at once.
    sqlx::query("select pg_advisory_xact_lock(7165746302)")
        .execute(&mut *tx)
        .await?;
    sqlx::raw_sql(&GRANTS.replace("{role}", &role))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(())
}

/// What the service's role may do. The log: read and append, nothing else.
const GRANTS: &str = "
    grant usage on schema public, read, followers to {role};
    grant create on schema read to {role};
    grant select, insert on events, log_epochs to {role};
    grant select, insert, update on streams, custody_positions to {role};
    grant select on custody_read to {role};
    grant select, insert, update, delete on claims, custody, effects, idempotency_keys, rate_limits,
        tokens, attempts, door_events, totp_steps, passkey_uses, api_key_uses, encryption_vaults to {role};
    grant select, insert, update on keks, followers.kek_seals, followers.leases, followers.tiles to {role};
    grant select, insert, update, delete on followers.nodes to {role};
    grant select, insert on followers.checkpoints to {role};
    grant select, update on followers.models to {role};
    grant select, insert, delete on followers.parked to {role};
    do $$
    declare
        item record;
    begin
        -- Rebuilds make tables, so the service's role owns the read models.
        for item in select tablename as name from pg_tables where schemaname = 'read' and tableowner = current_user loop
            execute format('alter table read.%I owner to {role}', item.name);
        end loop;
    end $$;
";
