//! Reading the log: events as they are stored, in order, and opening them.

use std::collections::BTreeSet;
use std::fmt::Display;

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
        open_client(subject, sealed, self.event_id, keys)
    }

    fn client_subject(&self) -> Option<&str> {
        self.metadata["client_subject"].as_str()
    }
}

/// An event as the database sent it: personal fields sealed, and what is JSON not taken apart.
pub struct Sent<'r> {
    /// Dense from 1, in commit order.
    pub position: i64,
    /// Type of the stream.
    pub aggregate_type: &'r str,
    /// Id of the stream.
    pub aggregate_id: &'r str,
    /// Place in the stream, from 1.
    pub sequence: i64,
    /// What happened.
    pub event_type: &'r str,
    /// In which version of its shape.
    pub event_version: &'r str,
    /// The facts.
    pub payload: &'r RawValue,
    /// Who, why and where.
    pub metadata: &'r RawValue,
    /// UUID version 7.
    pub event_id: Uuid,
    /// When the database wrote it.
    pub recorded_at: DateTime<Utc>,
}

impl<'r> Sent<'r> {
    /// Of a row of `COLUMNS`, which are found by their places: by their names each would be looked for.
    ///
    /// # Errors
    /// When the row has other columns.
    pub fn of(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let json = |column: usize| row.try_get(column).map(|Json(text)| text);
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
            recorded_at: row.try_get(9)?,
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
    mut take: impl FnMut(Sent<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<i64> {
    let query =
        format!("select {COLUMNS} from events where position > $1 order by position limit $2");
    let mut rows = sqlx::query(&query).bind(position).bind(limit).fetch(db);
    let mut taken = 0;
    while let Some(row) = rows.try_next().await? {
        take(Sent::of(&row)?)?;
        taken += 1;
    }
    Ok(taken)
}

/// The events of some kinds of streams after one position and up to another, oldest first, as the database
/// sent them (`Sent::of`): opening them is left to the caller's threads. Metadata comes only if it is asked for.
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
    let rows = sent_of_stream(db, aggregate_type, id).await?;
    rows.iter().map(StoredRow::from_row).collect()
}

/// One stream, oldest first, as the database sent it (`Sent::of`).
///
/// # Errors
/// When the database does not answer.
pub async fn sent_of_stream(
    db: impl PgExecutor<'_>,
    aggregate_type: &str,
    id: &str,
) -> Result<Vec<PgRow>, sqlx::Error> {
    sqlx::query(&format!("select {COLUMNS} from events where aggregate_type = $1 and aggregate_id = $2 order by sequence"))
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
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartOf {
    /// A session.
    session_id: Option<String>,
    /// A request.
    request_id: Option<String>,
}

/// What is read of an event's metadata.
#[derive(Default, Deserialize)]
struct Metadata {
    session_id: Option<String>,
    correlation_id: Option<String>,
    client_subject: Option<String>,
    client: Option<String>,
}

/// An event that is taken apart, but not open yet.
struct Apart<'r> {
    position: i64,
    aggregate_type: &'r str,
    aggregate_id: &'r str,
    sequence: i64,
    event_type: &'r str,
    event_version: &'r str,
    event_id: Uuid,
    payload: Payload<'r>,
    metadata: Metadata,
}

/// The facts of an event.
enum Payload<'r> {
    /// With nothing to open and nothing to lift, as in most events: no need to take the JSON apart.
    Plain(&'r RawValue),
    /// Any other.
    Value(Value),
}

impl<'r> Apart<'r> {
    /// Takes the payload out of an event.
    fn of(row: &'r mut StoredRow) -> Result<Self, StoreError> {
        let metadata = Option::<Metadata>::deserialize(&row.metadata)
            .map_err(|error| broken(row.position, impersonal(&error.to_string())))?;
        Ok(Self {
            position: row.position,
            aggregate_type: &row.aggregate_type,
            aggregate_id: &row.aggregate_id,
            sequence: row.sequence,
            event_type: &row.event_type,
            event_version: &row.event_version,
            event_id: row.event_id,
            payload: Payload::Value(row.payload.take()),
            metadata: metadata.unwrap_or_default(),
        })
    }

    fn subjects(&self) -> impl Iterator<Item = String> {
        let sealed = match &self.payload {
            Payload::Plain(_) => BTreeSet::new(),
            Payload::Value(payload) => sealed::subjects(payload),
        };
        sealed
            .into_iter()
            .chain(self.metadata.client_subject.clone())
    }
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
    pub async fn open(&self, mut rows: Vec<StoredRow>) -> Result<Vec<Opened>, StoreError> {
        let apart: Result<Vec<_>, _> = rows.iter_mut().map(Apart::of).collect();
        self.open_apart(apart?).await
    }

    /// Opens stored events with keys that the caller has read; subjects without one count as erased.
    ///
    /// # Errors
    /// When an event does not open.
    pub fn open_with(
        &self,
        mut rows: Vec<StoredRow>,
        keys: &DataKeys,
    ) -> Result<Vec<Opened>, StoreError> {
        let open = |row| self.open_one(Apart::of(row)?, keys);
        rows.iter_mut().map(open).collect()
    }

    /// Opens events as the database sent them.
    ///
    /// # Errors
    /// When keys cannot be read, or an event does not open.
    pub async fn open_sent(&self, rows: &[PgRow]) -> Result<Vec<Opened>, StoreError> {
        let apart: Result<Vec<_>, _> = rows.iter().map(|row| self.take_apart(row)).collect();
        self.open_apart(apart?).await
    }

    /// Opens events as the database sent them, with keys that the caller has read.
    ///
    /// # Errors
    /// When an event does not open.
    pub fn open_sent_with(
        &self,
        rows: &[PgRow],
        keys: &DataKeys,
    ) -> Result<Vec<Opened>, StoreError> {
        let open = |row| self.open_one(self.take_apart(row)?, keys);
        rows.iter().map(open).collect()
    }

    async fn open_apart(&self, rows: Vec<Apart<'_>>) -> Result<Vec<Opened>, StoreError> {
        let subjects: BTreeSet<String> = rows.iter().flat_map(Apart::subjects).collect();
        let keys = self
            .custody()
            .data_keys(&subjects.into_iter().collect::<Vec<_>>())
            .await?;
        let open = |row| self.open_one(row, &keys);
        rows.into_iter().map(open).collect()
    }

    fn take_apart<'r>(&self, row: &'r PgRow) -> Result<Apart<'r>, StoreError> {
        let sent = Sent::of(row)?;
        let (event_type, event_version) = (sent.event_type, sent.event_version);
        let payload =
            if self.is_old(event_type, event_version) || sent.payload.get().contains(MARKER) {
                let value = serde_json::from_str(sent.payload.get());
                Payload::Value(value.map_err(|error| broken(sent.position, error))?)
            } else {
                Payload::Plain(sent.payload)
            };
        let metadata: Option<Metadata> = serde_json::from_str(sent.metadata.get())
            .map_err(|error| broken(sent.position, impersonal(&error.to_string())))?;
        Ok(Apart {
            position: sent.position,
            aggregate_type: sent.aggregate_type,
            aggregate_id: sent.aggregate_id,
            sequence: sent.sequence,
            event_type,
            event_version,
            event_id: sent.event_id,
            payload,
            metadata: metadata.unwrap_or_default(),
        })
    }

    fn is_old(&self, event_type: &str, version: &str) -> bool {
        let mut upcasters = self.upcasters().iter();
        upcasters.any(|upcaster| upcaster.can_upcast(event_type, version))
    }

    fn open_one(&self, row: Apart<'_>, keys: &DataKeys) -> Result<Opened, StoreError> {
        let broken = |error: &dyn Display| broken(row.position, error);
        let event = match row.payload {
            Payload::Plain(payload) => typed(row.aggregate_type, payload),
            Payload::Value(mut payload) => {
                let place = EventPlace {
                    aggregate_type: row.aggregate_type,
                    aggregate_id: row.aggregate_id,
                    event_id: &row.event_id.to_string(),
                    event_type: row.event_type,
                    event_version: row.event_version,
                };
                sealed::open(&mut payload, place, keys).map_err(|error| broken(&error))?;
                if self.is_old(row.event_type, row.event_version) {
                    let event = SerializedEvent {
                        aggregate_id: row.aggregate_id.to_owned(),
                        sequence: usize::try_from(row.sequence).unwrap_or_default(),
                        aggregate_type: row.aggregate_type.to_owned(),
                        event_type: row.event_type.to_owned(),
                        event_version: row.event_version.to_owned(),
                        payload,
                        metadata: Value::Null,
                    };
                    payload = super::upcast::upcast(event, self.upcasters()).payload;
                }
                typed(row.aggregate_type, payload)
            }
        };
        let Metadata {
            session_id,
            correlation_id: request_id,
            client_subject,
            client,
        } = row.metadata;
        let client = match (client_subject, client) {
            (Some(subject), Some(sealed)) => open_client(&subject, &sealed, row.event_id, keys)
                .map_err(|error| broken(&error))?,
            _ => None,
        };
        Ok(Opened {
            stream_id: row.aggregate_id.to_owned(),
            event_id: row.event_id,
            position: row.position,
            part_of: PartOf {
                session_id,
                request_id,
            },
            client: client.and_then(|client| serde_json::from_value(client).ok()),
            event: event.map_err(|error| broken(&error))?,
        })
    }
}

fn broken(position: i64, error: impl Display) -> StoreError {
    StoreError::Broken(format!("event at {position}: {error}"))
}

/// Opens address and user agent of a client; none if its subject has no key among `keys`.
fn open_client(
    subject: &str,
    sealed: &str,
    event_id: Uuid,
    keys: &DataKeys,
) -> Result<Option<Value>, SealError> {
    let Some(key) = keys.get(subject) else {
        return Ok(None);
    };
    let event_id = event_id.to_string();
    let place = ["metadata.client", &event_id, subject];
    let open = hex::decode_all(sealed)
        .and_then(|bytes| sealed::open_text(key, &place, &bytes))
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    open.map(Some)
        .ok_or_else(|| SealError::Altered("metadata.client".to_owned()))
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
