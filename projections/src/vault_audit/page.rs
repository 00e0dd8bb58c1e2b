//! Pages of the audit log, in the order of the log of events. Rows come in at one end and stay where they are, so pages
//! that go on after a position neither skip a row nor show one twice.

use chrono::{DateTime, Utc};
use sqlx::{PgPool, Postgres, QueryBuilder};

use super::AuditRow;

/// Which rows are asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Of one vault; else of all.
    pub user_id: Option<String>,
    /// With one of these actions; any, if there are none.
    pub actions: Vec<String>,
    /// With one of these statuses; any, if there are none.
    pub statuses: Vec<i32>,
    /// From this address.
    pub ip_address: Option<String>,
    /// Not before.
    pub from: Option<DateTime<Utc>>,
    /// Before.
    pub to: Option<DateTime<Utc>>,
    /// Whether the oldest come first.
    pub oldest_first: bool,
    /// Beyond the row at this position, with which the page before has ended.
    pub beyond: Option<i64>,
    /// At most so many.
    pub limit: i64,
}

/// The rows up to a position that are asked for. A search that takes longer than `timeout_ms` ends in an error that
/// [`took_too_long`] knows.
///
/// # Errors
/// When the database does not answer, or not in time.
pub async fn page(
    pool: &PgPool,
    asked: &Asked,
    until: i64,
    timeout_ms: u32,
) -> Result<Vec<AuditRow>, sqlx::Error> {
    let mut tx = pool.begin().await?;
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(timeout_ms.to_string())
        .fetch_one(&mut *tx)
        .await?;
    let mut query = query(asked, until);
    // A statement that is kept may get one plan for all values.
    let query = query.build_query_as().persistent(false);
    let rows = query.fetch_all(&mut *tx).await?;
    tx.commit().await?;
    Ok(rows)
}

/// Whether a search was ended because it took too long (SQLSTATE 57014).
pub fn took_too_long(error: &sqlx::Error) -> bool {
    let database = error.as_database_error();
    database.is_some_and(|error| error.code().as_deref() == Some("57014"))
}

/// Only what is asked for stands in the SQL, so that each search is planned for itself.
fn query(asked: &Asked, until: i64) -> QueryBuilder<'_, Postgres> {
    let mut query = QueryBuilder::new(
        "select id, position, user_id, action, status, context, ip_address, user_agent, session_id, request_id, created_at
         from read.vault_audit where position <= ",
    );
    query.push_bind(until);
    if let Some(user_id) = &asked.user_id {
        query.push(" and user_id = ").push_bind(user_id);
    }
    // An index gives the rows of one value in the order of positions, those of a list it does not.
    match asked.actions.as_slice() {
        [] => {}
        [action] => {
            query.push(" and action = ").push_bind(action);
        }
        actions => {
            query.push(" and action = any(");
            query.push_bind(actions).push(")");
        }
    }
    match asked.statuses.as_slice() {
        [] => {}
        [status] => {
            query.push(" and status = ").push_bind(status);
        }
        statuses => {
            query.push(" and status = any(");
            query.push_bind(statuses).push(")");
        }
    }
    if let Some(address) = &asked.ip_address {
        query.push(" and ip_address = ").push_bind(address);
    }
    if let Some(from) = asked.from {
        query.push(" and created_at >= ").push_bind(from);
    }
    if let Some(to) = asked.to {
        query.push(" and created_at < ").push_bind(to);
    }
    let (beyond, order) = match asked.oldest_first {
        true => (" and position > ", " order by position"),
        false => (" and position < ", " order by position desc"),
    };
    if let Some(position) = asked.beyond {
        query.push(beyond).push_bind(position);
    }
    query.push(order).push(" limit ").push_bind(asked.limit);
    query
}

/// Position of the last row of any vault that was written by a time; 0 if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn position_at(pool: &PgPool, at: DateTime<Utc>) -> Result<i64, sqlx::Error> {
    let found = sqlx::query_scalar(
        "select position from read.vault_audit where created_at <= $1
         order by created_at desc, position desc limit 1",
    );
    let found = found.bind(at).fetch_optional(pool).await?;
    Ok(found.unwrap_or(0))
}

/// Whether there is any row of a vault.
///
/// # Errors
/// When the database does not answer.
pub async fn has_rows(pool: &PgPool, user_id: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("select exists (select from read.vault_audit where user_id = $1)")
        .bind(user_id)
        .fetch_one(pool)
        .await
}
