//! Reading the log: events as they are stored, in order.

use chrono::{DateTime, Utc};
use futures_util::TryStreamExt as _;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueRef};
use sqlx::types::Json;
use sqlx::{Decode, FromRow, PgExecutor, Postgres, Row as _, Type};
use uuid::Uuid;

/// After this event of a person, no node may go on using their data key.
pub const ERASURE: &str = "user.erasure_requested";

/// An event as it is stored: personal fields sealed, and JSON as the database sent it. What shows events to people has them
/// with `Value`s.
#[derive(Clone, Debug, Serialize)]
pub struct StoredRow<J = Box<RawValue>> {
    /// Dense from 1, in commit order.
    pub position: i64,
    /// Type of the stream.
    pub aggregate_type: String,
    /// Id of the stream.
    pub aggregate_id: String,
    /// Place in the stream, from 1.
    pub sequence: i64,
    /// What happened.
    pub event_type: String,
    /// In which version of its shape.
    pub event_version: String,
    /// The facts.
    pub payload: J,
    /// Who, why and where.
    pub metadata: J,
    /// UUID version 7.
    pub event_id: Uuid,
    /// When the database wrote it.
    pub recorded_at: DateTime<Utc>,
}

/// When an event was written. The database keeps times that are later than any that are known here, or for ever: no clock
/// has them, but who writes past the triggers can. They read as the last one there is, and nobody has to stop for them.
pub(super) struct RecordedAt(pub DateTime<Utc>);

impl RecordedAt {
    /// From microseconds since the year 2000, as PostgreSQL counts.
    fn of(micros: i64) -> Self {
        let since_1970 = micros.checked_add(946_684_800_000_000);
        let farthest = match micros < 0 {
            true => DateTime::<Utc>::MIN_UTC,
            false => DateTime::<Utc>::MAX_UTC,
        };
        let known = since_1970.and_then(DateTime::from_timestamp_micros);
        Self(known.unwrap_or(farthest))
    }
}

impl Type<Postgres> for RecordedAt {
    fn type_info() -> PgTypeInfo {
        DateTime::<Utc>::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for RecordedAt {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Postgres>>::decode(value).map(Self::of)
    }
}

/// By the places of `COLUMNS`: by its name each would be looked for, in each row.
impl<'r> FromRow<'r, PgRow> for StoredRow {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let json = |column: usize| row.try_get(column).map(|Json(json)| json);
        Ok(Self {
            position: row.try_get(0)?,
            aggregate_type: row.try_get(1)?,
            aggregate_id: row.try_get(2)?,
            sequence: row.try_get(3)?,
            event_type: row.try_get(4)?,
            event_version: row.try_get(5)?,
            payload: json(6)?,
            metadata: json(7)?,
            event_id: row.try_get(8)?,
            recorded_at: row.try_get(9).map(|RecordedAt(at)| at)?,
        })
    }
}

impl StoredRow {
    /// With its JSON taken apart.
    ///
    /// # Errors
    /// When it is nested too deep.
    pub fn parsed(self) -> Result<StoredRow<Value>, serde_json::Error> {
        Ok(StoredRow {
            payload: serde_json::from_str(self.payload.get())?,
            metadata: serde_json::from_str(self.metadata.get())?,
            position: self.position,
            aggregate_type: self.aggregate_type,
            aggregate_id: self.aggregate_id,
            sequence: self.sequence,
            event_type: self.event_type,
            event_version: self.event_version,
            event_id: self.event_id,
            recorded_at: self.recorded_at,
        })
    }
}

const COLUMNS: &str = "position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload, metadata, event_id, recorded_at";

/// Position of the last event; 0 in an empty log.
///
/// # Errors
/// When the database does not answer.
pub async fn head(db: impl PgExecutor<'_>) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select coalesce(max(position), 0) from events")
        .fetch_one(db)
        .await
}

/// The next events after a position, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn after(
    db: impl PgExecutor<'_>,
    position: i64,
    limit: i64,
) -> Result<Vec<StoredRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from events where position > $1 order by position limit $2"
    ))
    .bind(position)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Gives the next events after a position to `take`, oldest first, each as it arrives: many are never held at once. Says
/// how many there were.
///
/// # Errors
/// When the database does not answer, or `take` does not want an event.
pub async fn each_after(
    db: impl PgExecutor<'_>,
    position: i64,
    limit: i64,
    mut take: impl FnMut(StoredRow) -> anyhow::Result<()>,
) -> anyhow::Result<i64> {
    let query =
        format!("select {COLUMNS} from events where position > $1 order by position limit $2");
    let mut rows = sqlx::query_as(&query).bind(position).bind(limit).fetch(db);
    let mut taken = 0;
    while let Some(row) = rows.try_next().await? {
        take(row)?;
        taken += 1;
    }
    Ok(taken)
}

/// The events of some kinds of streams after one position and up to another, oldest first, as the database
/// sent them: taking the rows apart is left to the caller's threads. Metadata comes only if it is asked for.
///
/// # Errors
/// When the database does not answer.
pub async fn of_streams(
    db: impl PgExecutor<'_>,
    streams: &[&str],
    with_metadata: bool,
    after: i64,
    until: i64,
) -> Result<Vec<PgRow>, sqlx::Error> {
    // By their positions alone: an index that finds a type in an array would be read from end to end.
    sqlx::query(
        "select position, aggregate_type, aggregate_id, sequence, event_type, event_version, payload,
                case when $4 then metadata else 'null'::jsonb end as metadata, event_id, recorded_at
         from events where position > $1 and position <= $2
                       and array_position($3, aggregate_type) is not null order by position",
    )
    .bind(after)
    .bind(until)
    .bind(streams)
    .bind(with_metadata)
    .fetch_all(db)
    .await
}

/// The head of the log, if it is after a position, but not more than `most` events, and none of them is of these streams.
///
/// # Errors
/// When the database does not answer.
pub async fn head_without(
    db: impl PgExecutor<'_>,
    streams: &[&str],
    after: i64,
    most: i64,
) -> Result<Option<i64>, sqlx::Error> {
    // No index finds a type in an array: the few events in between are read along their positions.
    sqlx::query_scalar(
        "select head from (select max(position) as head from events) log
         where head > $1 and head <= $1 + $3
           and not exists (select from events where position > $1 and position <= head
                                                and array_position($2, aggregate_type) is not null)",
    )
    .bind(after)
    .bind(streams)
    .bind(most)
    .fetch_optional(db)
    .await
}

/// Id of the event in a place, if there is one.
///
/// # Errors
/// When the database does not answer.
pub async fn id_at(db: impl PgExecutor<'_>, position: i64) -> Result<Option<Uuid>, sqlx::Error> {
    sqlx::query_scalar("select event_id from events where position = $1")
        .bind(position)
        .fetch_optional(db)
        .await
}

/// One stream, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn stream(
    db: impl PgExecutor<'_>,
    aggregate_type: &str,
    id: &str,
) -> Result<Vec<StoredRow>, sqlx::Error> {
    sqlx::query_as(&format!("select {COLUMNS} from events where aggregate_type = $1 and aggregate_id = $2 order by sequence"))
        .bind(aggregate_type)
        .bind(id)
        .fetch_all(db)
        .await
}

/// The events of one stream after one of its own and up to a position of the log, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn in_stream(
    db: impl PgExecutor<'_>,
    (aggregate_type, id): (&str, &str),
    (after, until): (i64, i64),
    limit: i64,
) -> Result<Vec<StoredRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from events
         where aggregate_type = $1 and aggregate_id = $2 and sequence > $3 and position <= $4 order by sequence limit $5"
    ))
    .bind(aggregate_type)
    .bind(id)
    .bind(after)
    .bind(until)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// The events of some types in one stream up to a position of the log, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn of_types_in_stream(
    db: impl PgExecutor<'_>,
    (aggregate_type, id): (&str, &str),
    types: &[&str],
    until: i64,
) -> Result<Vec<StoredRow>, sqlx::Error> {
    sqlx::query_as(&format!(
        "select {COLUMNS} from events
         where aggregate_type = $1 and aggregate_id = $2 and event_type = any($3) and position <= $4 order by sequence"
    ))
    .bind(aggregate_type)
    .bind(id)
    .bind(types)
    .bind(until)
    .fetch_all(db)
    .await
}

/// How many events one stream has up to a position.
///
/// # Errors
/// When the database does not answer.
pub async fn count_in_stream(
    db: impl PgExecutor<'_>,
    (aggregate_type, id): (&str, &str),
    until: i64,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select count(*) from events where aggregate_type = $1 and aggregate_id = $2 and position <= $3",
    )
    .bind(aggregate_type)
    .bind(id)
    .bind(until)
    .fetch_one(db)
    .await
}

/// The same without looking at each of them: sequences are dense and grow with positions, so the last one until there is
/// searched for by halves.
///
/// # Errors
/// When the database does not answer.
pub async fn last_sequence_in_stream(
    db: impl PgExecutor<'_> + Copy,
    (aggregate_type, id): (&str, &str),
    until: i64,
) -> Result<i64, sqlx::Error> {
    let found = sqlx::query_scalar(
        "with recursive search (low, high) as (
             select 0::bigint, version from streams where type = $1 and id = $2
             union all
             select case when e.position <= $3 then middle else low end,
                    case when e.position <= $3 then high else middle - 1 end
             from search
             cross join lateral (select (low + high + 1) / 2 as middle) m
             cross join lateral (
                 select position from events where aggregate_type = $1 and aggregate_id = $2 and sequence = middle
             ) e
             where low < high
         )
         select low from search where low = high",
    )
    .bind(aggregate_type)
    .bind(id)
    .bind(until)
    .fetch_optional(db)
    .await?;
    match found {
        Some(sequence) => Ok(sequence),
        // There is no such stream, or not all of it.
        None => count_in_stream(db, (aggregate_type, id), until).await,
    }
}

/// How many events one stream has, by several accounts of one moment.
#[derive(Clone, Copy, Debug, PartialEq, sqlx::FromRow)]
pub struct Counted {
    /// Up to a position.
    pub until: i64,
    /// In the whole log.
    pub events: i64,
    /// By the place of the last one.
    pub last: i64,
    /// As the table of streams says.
    pub version: i64,
}

impl Counted {
    /// Whether all accounts are the same.
    pub fn agrees(&self) -> bool {
        self.events == self.version && self.last == self.version
    }
}

/// Counts the events of one stream up to a position, and what its length should be.
///
/// # Errors
/// When the database does not answer.
pub async fn counted(
    db: impl PgExecutor<'_>,
    (aggregate_type, id): (&str, &str),
    until: i64,
) -> Result<Counted, sqlx::Error> {
    // One statement sees one moment, whatever is appended meanwhile.
    sqlx::query_as(
        "select count(*) filter (where position <= $3) as until, count(*) as events, coalesce(max(sequence), 0) as last,
                coalesce((select version from streams where type = $1 and id = $2), 0) as version
         from events where aggregate_type = $1 and aggregate_id = $2",
    )
    .bind(aggregate_type)
    .bind(id)
    .bind(until)
    .fetch_one(db)
    .await
}

/// Ids after one of all who have an account or a vault, or had one, in order. A vault has the id of its owner.
///
/// # Errors
/// When the database does not answer.
pub async fn owners_of_vaults_after(
    db: impl PgExecutor<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "(select id from streams where type = 'user' and id > $1 order by id limit $2)
         union
         (select id from streams where type = 'vault' and id > $1 order by id limit $2)
         order by id limit $2",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// The life that the log is in.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Epoch {
    /// From 1.
    pub number: i32,
    /// Part of each cursor.
    pub epoch: Uuid,
    /// Where it began.
    pub from_position: i64,
}

/// The current epoch.
///
/// # Errors
/// When the database does not answer.
pub async fn epoch(db: impl PgExecutor<'_>) -> Result<Epoch, sqlx::Error> {
    sqlx::query_as(
        "select number, epoch, from_position from log_epochs order by number desc limit 1",
    )
    .fetch_one(db)
    .await
}

/// Begins a new epoch after `head`.
///
/// # Errors
/// When the database does not answer.
pub async fn begin_epoch(db: impl PgExecutor<'_>, head: i64) -> Result<Epoch, sqlx::Error> {
    sqlx::query_as(
        "insert into log_epochs (number, epoch, from_position)
         select max(number) + 1, gen_random_uuid(), $1 from log_epochs returning number, epoch, from_position",
    )
    .bind(head + 1)
    .fetch_one(db)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_that_the_database_can_keep_is_read() {
        let read = |micros| RecordedAt::of(micros).0;
        for (micros, time) in [
            (0, "2000-01-01T00:00:00Z"),
            (846_464_400_123_456, "2026-10-28T01:00:00.123456Z"),
            (-1, "1999-12-31T23:59:59.999999Z"),
        ] {
            assert_eq!(read(micros), time.parse::<DateTime<Utc>>().unwrap());
        }
        // For ever, and the last and first that are not.
        for micros in [i64::MAX, 9_223_371_331_199_999_999] {
            assert_eq!(read(micros), DateTime::<Utc>::MAX_UTC);
        }
        assert_eq!(read(i64::MIN), DateTime::<Utc>::MIN_UTC);
        assert!(read(-211_813_488_000_000_000) < read(-1));
    }
}
