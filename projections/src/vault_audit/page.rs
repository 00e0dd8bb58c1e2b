//! Pages of the audit log, in the order of the log of events. Rows come in at one end and stay where they are, so pages
//! that go on after a position neither skip a row nor show one twice.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Postgres, QueryBuilder};

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

/// Positions of one block, as a power of two: `vault_audit_block_idx` has the times of each.
const BLOCK_BITS: u32 = 14;

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
    // While the table is small, a scan for each block would seem as cheap as an index.
    sqlx::query(
        "select set_config('statement_timeout', $1, true),
                set_config('enable_seqscan', 'off', true)",
    )
    .bind(timeout_ms.to_string())
    .fetch_one(&mut *tx)
    .await?;
    let Some(within) = within(&mut tx, asked, until).await? else {
        return Ok(vec![]);
    };
    // The rows of a person or an address are few enough to be looked through; those of an action or a status are not.
    let is_narrow = asked.user_id.is_some() || asked.ip_address.is_some();
    let names_pairs = !(asked.actions.is_empty() && asked.statuses.is_empty());
    let pairs = match !is_narrow && names_pairs {
        true => Some(pairs(&mut tx, asked).await?),
        false => None,
    };
    if pairs.as_ref().is_some_and(Vec::is_empty) {
        return Ok(vec![]);
    }
    let mut query = query(asked, &within, pairs.as_deref());
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

/// The positions, both ends included, outside of which nothing is that is asked for; none if there are none. The rest of
/// a range of time is at most a block at either end, or what a clock that stepped back has put among others.
async fn within(
    tx: &mut PgConnection,
    asked: &Asked,
    until: i64,
) -> Result<Option<RangeInclusive<i64>>, sqlx::Error> {
    let (mut first, mut last) = (1, until);
    match (asked.beyond, asked.oldest_first) {
        (Some(position), true) => first = position.saturating_add(1),
        (Some(position), false) => last = last.min(position - 1),
        (None, _) => {}
    }
    if let Some(from) = asked.from {
        let found = block(tx, first..=last, "created_at >= ", from, "").await?;
        let Some(block) = found else { return Ok(None) };
        first = first.max(block << BLOCK_BITS);
    }
    if let Some(to) = asked.to {
        let found = block(tx, first..=last, "created_at < ", to, " desc").await?;
        let Some(block) = found else { return Ok(None) };
        last = last.min(((block + 1) << BLOCK_BITS) - 1);
    }
    Ok((first <= last).then_some(first..=last))
}

/// The first block, or the last one, in which there is such a time.
async fn block(
    db: &mut PgConnection,
    within: RangeInclusive<i64>,
    is_there: &str,
    time: DateTime<Utc>,
    order: &str,
) -> Result<Option<i64>, sqlx::Error> {
    // An ordered subquery, so that no block is looked at after the one that is found.
    sqlx::query_scalar(&format!(
        "select block from (select generate_series($1, $2) as block order by 1{order}) blocks
         cross join lateral (select from read.vault_audit
                             where position >> {BLOCK_BITS} = block and {is_there} $3 limit 1) found
         order by block{order} limit 1"
    ))
    .bind(within.start() >> BLOCK_BITS)
    .bind(within.end() >> BLOCK_BITS)
    .bind(time)
    .fetch_optional(db)
    .await
}

/// The pairs of an action and a status that are asked for and that there are: each is found from the one before by one
/// look at `vault_audit_action_idx`.
async fn pairs(tx: &mut PgConnection, asked: &Asked) -> Result<Vec<(String, i32)>, sqlx::Error> {
    sqlx::query_as(
        "with recursive pairs as (
             (select action, status from read.vault_audit order by action, status limit 1)
             union all
             select next.action, next.status from pairs cross join lateral (
                 select action, status from read.vault_audit rows
                 where (rows.action, rows.status) > (pairs.action, pairs.status) order by action, status limit 1) next
         )
         select action, status from pairs
         where (cardinality($1) = 0 or action = any($1)) and (cardinality($2) = 0 or status = any($2))",
    )
    .bind(&asked.actions)
    .bind(&asked.statuses)
    .fetch_all(tx)
    .await
}

/// Only what is asked for stands in the SQL, so that each search is planned for itself. With `pairs`, the rows of each are
/// read in the order of positions, which its index has, and merged.
fn query<'a>(
    asked: &'a Asked,
    within: &RangeInclusive<i64>,
    pairs: Option<&'a [(String, i32)]>,
) -> QueryBuilder<'a, Postgres> {
    let mut query = QueryBuilder::new("");
    let Some(pairs) = pairs else {
        push_rows(&mut query, asked, within);
        if !asked.actions.is_empty() {
            query.push(" and action = any(");
            query.push_bind(&asked.actions).push(")");
        }
        if !asked.statuses.is_empty() {
            query.push(" and status = any(");
            query.push_bind(&asked.statuses).push(")");
        }
        push_order(&mut query, asked);
        return query;
    };
    for (n, (action, status)) in pairs.iter().enumerate() {
        query.push(if n > 0 { " union all (" } else { "(" });
        push_rows(&mut query, asked, within);
        query.push(" and action = ").push_bind(action);
        query.push(" and status = ").push_bind(status);
        // Only a part with an order of its own is read along an index.
        push_order(&mut query, asked);
        query.push(")");
    }
    // What is in parentheses alone has its order already, and may have no other.
    if pairs.len() > 1 {
        push_order(&mut query, asked);
    }
    query
}

fn push_order<'a>(query: &mut QueryBuilder<'a, Postgres>, asked: &'a Asked) {
    query.push(match asked.oldest_first {
        true => " order by position limit ",
        false => " order by position desc limit ",
    });
    query.push_bind(asked.limit);
}

fn push_rows<'a>(
    query: &mut QueryBuilder<'a, Postgres>,
    asked: &'a Asked,
    within: &RangeInclusive<i64>,
) {
    query.push(
        "select id, position, user_id, action, status, context, ip_address, user_agent, session_id, request_id, created_at
         from read.vault_audit where position between ",
    );
    query.push_bind(*within.start()).push(" and ");
    query.push_bind(*within.end());
    if let Some(user_id) = &asked.user_id {
        query.push(" and user_id = ").push_bind(user_id);
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
}

/// The last position, up to `known`, of a row of any vault that was written by a time; 0 if there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn position_at(pool: &PgPool, at: DateTime<Utc>, known: i64) -> Result<i64, sqlx::Error> {
    let mut db = pool.acquire().await?;
    let Some(block) = block(&mut db, 0..=known, "created_at <= ", at, " desc").await? else {
        return Ok(0);
    };
    let found = sqlx::query_scalar(
        "select position from read.vault_audit where position between $1 and $2 and created_at <= $3
         order by position desc limit 1",
    );
    let (first, next) = (block << BLOCK_BITS, (block + 1) << BLOCK_BITS);
    let found = found.bind(first).bind(known.min(next - 1)).bind(at);
    Ok(found.fetch_optional(&mut *db).await?.unwrap_or(0))
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
