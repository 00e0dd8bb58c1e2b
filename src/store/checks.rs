//! What must be true of the log's tables, asked as questions: `doctor` reports the answers.

use sqlx::PgExecutor;

/// A stream whose length is not what the table of streams says.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct StreamMismatch {
    /// Type of the stream.
    pub aggregate_type: String,
    /// Id of the stream.
    pub aggregate_id: String,
    /// Length according to `streams`; 0 if it is not there.
    pub version: i64,
    /// Sequence of its last event; 0 if it has none.
    pub last: i64,
    /// How many events it has.
    pub events: i64,
}

/// How many streams there are.
///
/// # Errors
/// When the database does not answer.
pub async fn streams(db: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from streams")
        .fetch_one(db)
        .await
}

/// Streams with a hole, or of another length than `streams` says; a full pass over the log.
///
/// # Errors
/// When the database does not answer.
pub async fn stream_mismatches(
    db: impl PgExecutor<'_>,
) -> Result<Vec<StreamMismatch>, sqlx::Error> {
    sqlx::query_as(
        "select coalesce(s.type, e.type) as aggregate_type, coalesce(s.id, e.id) as aggregate_id,
                coalesce(s.version, 0) as version, coalesce(e.last, 0) as last, coalesce(e.events, 0) as events
         from streams s
         full join (
             select aggregate_type as type, aggregate_id as id, max(sequence) as last, count(*) as events
             from events group by 1, 2
         ) e on e.type = s.type and e.id = s.id
         where s.version is distinct from e.last or e.last <> e.events
         order by 1, 2",
    )
    .fetch_all(db)
    .await
}

/// How many positions fit behind the head before the log comes to an end of its partitions; what lies behind a
/// partition that is missing cannot be reached.
///
/// # Errors
/// When the database does not answer.
pub async fn room_ahead(db: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "with log as (select coalesce(max(position), 0) as head from events),
         partitions as (
             select bounds[1]::bigint as first, bounds[2]::bigint as next
             from pg_inherits i join pg_class c on c.oid = i.inhrelid
             cross join regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \\('(\\d+)'\\) TO \\('(\\d+)'\\)$$) bounds
             where i.inhparent = 'events'::regclass
         )
         select min(ends.at) - 1 - (select head from log)
         from (select head + 1 from log union all select next from partitions) ends (at)
         where ends.at > (select head from log)
           and not exists (select from partitions p where p.first <= ends.at and ends.at < p.next)",
    )
    .fetch_one(db)
    .await
}
