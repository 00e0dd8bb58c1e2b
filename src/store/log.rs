//! Reading the log: events as they are stored, in order, and opening them.

use std::collections::BTreeSet;

use aggregates::log::{Log, LogEvent};
use aggregates::organization::{Organization, OrganizationEvent};
use aggregates::personal::MARKER;
use aggregates::session::{Session, SessionEvent};
use aggregates::signing_keys::{SigningKeys, SigningKeysEvent};
use aggregates::user::{User, UserEvent};
use aggregates::vault::{Vault, VaultEvent};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate as _;
use cqrs_es::persist::SerializedEvent;
use futures_util::TryStreamExt as _;
use projections::{AnyEvent, Client, Logged, Recorded};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow as _, PgExecutor, Row as _};
use uuid::Uuid;

use super::sealed::{self, DataKeys, EventPlace, SealError};
use super::{Store, StoreError};
use crate::crypto::hex;

/// After this event of a person, no node may go on using their data key.
pub const ERASURE: &str = "user.erasure_requested";

/// An event as it is stored: personal fields sealed.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct StoredRow {
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
    pub payload: Value,
    /// Who, why and where.
    pub metadata: Value,
    /// UUID version 7.
    pub event_id: Uuid,
    /// When the database wrote it.
    pub recorded_at: DateTime<Utc>,
}

impl StoredRow {
    /// Opens the personal fields of the payload whose subjects have a key among `keys`.
    ///
    /// # Errors
    /// If a field was altered or moved.
    pub fn unseal(&mut self, keys: &DataKeys) -> Result<(), SealError> {
        let event_id = self.event_id.to_string();
        let place = EventPlace {
            aggregate_type: &self.aggregate_type,
            aggregate_id: &self.aggregate_id,
            event_id: &event_id,
            event_type: &self.event_type,
            event_version: &self.event_version,
        };
        sealed::open(&mut self.payload, place, keys)
    }

    /// Whom the event's personal data is about: the subjects of its payload, and of the client that caused it.
    pub fn subjects(&self) -> BTreeSet<String> {
        let mut subjects = sealed::subjects(&self.payload);
        subjects.extend(self.client_subject().map(str::to_owned));
        subjects
    }

    /// Opens address and user agent of the client that caused the event: `None` if none was recorded or its
    /// subject has no key among `keys`.
    ///
    /// # Errors
    /// If they were altered or moved.
    pub fn client(&self, keys: &DataKeys) -> Result<Option<Value>, SealError> {
        let (Some(subject), Some(sealed)) =
            (self.client_subject(), self.metadata["client"].as_str())
        else {
            return Ok(None);
        };
        let Some(key) = keys.get(subject) else {
            return Ok(None);
        };
        let event_id = self.event_id.to_string();
        let place = ["metadata.client", &event_id, subject];
        let open = hex::decode_all(sealed)
            .and_then(|bytes| sealed::open_text(key, &place, &bytes))
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        open.map(Some)
            .ok_or_else(|| SealError::Altered("metadata.client".to_owned()))
    }

    fn client_subject(&self) -> Option<&str> {
        self.metadata["client_subject"].as_str()
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
/// sent them: `Store::open_sent` is left to the caller's threads. Metadata comes only if it is asked for.
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

/// An event that was read and opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// Id of its stream.
    pub stream_id: String,
    /// Its own id.
    pub event_id: Uuid,
    /// Its place in the log.
    pub position: i64,
    /// What it was a part of, if that was asked for and recorded.
    pub part_of: PartOf,
    /// Who caused it from where, if that was asked for, recorded, and its subject has a key.
    pub client: Option<Client>,
    /// What happened.
    pub event: AnyEvent,
}

/// What an event was a part of.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct PartOf {
    /// A session.
    session_id: Option<String>,
    /// A request.
    #[serde(rename = "correlation_id")]
    request_id: Option<String>,
}

impl Opened {
    /// As folds see it.
    pub fn recorded(&self) -> Recorded<'_> {
        Recorded {
            stream_id: &self.stream_id,
            event_id: self.event_id,
            client: self.client.as_ref(),
            logged: Some(Logged {
                position: self.position,
                session_id: self.part_of.session_id.as_deref(),
                request_id: self.part_of.request_id.as_deref(),
            }),
            event: &self.event,
        }
    }
}

impl Store {
    /// Opens stored events: unsealed as far as their subjects have keys, lifted to current versions.
    ///
    /// # Errors
    /// When keys cannot be read, or an event does not open.
    pub async fn open(&self, rows: Vec<StoredRow>) -> Result<Vec<Opened>, StoreError> {
        let subjects: BTreeSet<String> = rows.iter().flat_map(StoredRow::subjects).collect();
        let keys = self
            .custody()
            .data_keys(&subjects.into_iter().collect::<Vec<_>>())
            .await?;
        self.open_with(rows, &keys)
    }

    /// Opens stored events with keys that the caller has read; subjects without one count as erased.
    ///
    /// # Errors
    /// When an event does not open.
    pub fn open_with(
        &self,
        rows: Vec<StoredRow>,
        keys: &DataKeys,
    ) -> Result<Vec<Opened>, StoreError> {
        rows.into_iter()
            .map(|mut row| {
                let position = row.position;
                let broken = |error: &dyn std::fmt::Display| {
                    StoreError::Broken(format!("event at {position}: {error}"))
                };
                row.unseal(keys).map_err(|error| broken(&error))?;
                let client = row.client(keys).map_err(|error| broken(&error))?;
                let client = client.and_then(|client| serde_json::from_value(client).ok());
                let (stream_id, event_id) = (row.aggregate_id.clone(), row.event_id);
                let part_of = Option::<PartOf>::deserialize(&row.metadata);
                let part_of = part_of.map_err(|error| broken(&error))?.unwrap_or_default();
                let event = super::upcast::upcast(
                    SerializedEvent {
                        aggregate_id: row.aggregate_id,
                        sequence: usize::try_from(row.sequence).unwrap_or_default(),
                        aggregate_type: row.aggregate_type,
                        event_type: row.event_type,
                        event_version: row.event_version,
                        payload: row.payload,
                        metadata: row.metadata,
                    },
                    self.upcasters(),
                );
                let event =
                    typed(&event.aggregate_type, event.payload).map_err(|error| broken(&error))?;
                Ok(Opened {
                    stream_id,
                    event_id,
                    position,
                    part_of,
                    client,
                    event,
                })
            })
            .collect()
    }
}

impl Store {
    /// Opens events as `of_streams` gave them, with keys that the caller has read.
    ///
    /// # Errors
    /// When an event does not open.
    pub fn open_sent(&self, rows: &[PgRow], keys: &DataKeys) -> Result<Vec<Opened>, StoreError> {
        let mut events = Vec::with_capacity(rows.len());
        for row in rows {
            let Json(payload): Json<&RawValue> = row.try_get("payload")?;
            let (event_type, version) = (row.try_get("event_type")?, row.try_get("event_version")?);
            let is_old = self
                .upcasters()
                .iter()
                .any(|upcaster| upcaster.can_upcast(event_type, version));
            let Json(metadata): Json<&RawValue> = row.try_get("metadata")?;
            let has_client = metadata.get().contains("client_subject");
            if is_old || has_client || payload.get().contains(MARKER) {
                events.extend(self.open_with(vec![StoredRow::from_row(row)?], keys)?);
                continue;
            }
            // Nothing to open and nothing to lift, as in most events: no need to take the JSON apart.
            let position: i64 = row.try_get("position")?;
            let broken = |error| StoreError::Broken(format!("event at {position}: {error}"));
            let event = typed(row.try_get("aggregate_type")?, payload).map_err(broken)?;
            let part_of: Option<PartOf> = serde_json::from_str(metadata.get())
                .map_err(|error| broken(impersonal(&error.to_string())))?;
            events.push(Opened {
                stream_id: row.try_get("aggregate_id")?,
                event_id: row.try_get("event_id")?,
                position,
                part_of: part_of.unwrap_or_default(),
                client: None,
                event,
            });
        }
        Ok(events)
    }
}

fn typed<'a>(
    aggregate_type: &str,
    payload: impl Deserializer<'a, Error = serde_json::Error>,
) -> Result<AnyEvent, String> {
    fn read<'a, E: Deserialize<'a>>(
        payload: impl Deserializer<'a, Error = serde_json::Error>,
    ) -> Result<E, String> {
        E::deserialize(payload).map_err(|error| impersonal(&error.to_string()))
    }
    match aggregate_type {
        User::TYPE => read::<UserEvent>(payload).map(AnyEvent::from),
        Session::TYPE => read::<SessionEvent>(payload).map(AnyEvent::from),
        Organization::TYPE => read::<OrganizationEvent>(payload).map(AnyEvent::from),
        Vault::TYPE => read::<VaultEvent>(payload).map(AnyEvent::from),
        SigningKeys::TYPE => read::<SigningKeysEvent>(payload).map(AnyEvent::from),
        Log::TYPE => read::<LogEvent>(payload).map(AnyEvent::from),
        other => Err(format!("unknown stream type {other}")),
    }
}

/// Why a payload is no event, without the value that was found in place of the expected one: whoever altered the
/// payload may have put something personal there in clear.
fn impersonal(error: &str) -> String {
    match error.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => error.to_owned(),
    }
}
