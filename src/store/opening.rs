//! Opening stored events: personal fields as far as there are keys, in current versions, as the types of their aggregates.

use std::collections::BTreeSet;
use std::fmt::Display;

use aggregates::log::{Log, LogEvent};
use aggregates::organization::{Organization, OrganizationEvent};
use aggregates::personal::MARKER;
use aggregates::session::{Session, SessionEvent};
use aggregates::signing_keys::{SigningKeys, SigningKeysEvent};
use aggregates::user::{User, UserEvent};
use aggregates::vault::{Vault, VaultEvent};
use cqrs_es::Aggregate as _;
use cqrs_es::persist::SerializedEvent;
use projections::{AnyEvent, Client, Logged, Recorded};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::log::StoredRow;
use super::sealed::{self, DataKeys, EventPlace, SealError};
use super::{Store, StoreError};
use crate::crypto::hex;

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
    pub session_id: Option<String>,
    /// A request.
    pub request_id: Option<String>,
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
    row: &'r StoredRow,
    /// None where there is nothing to open and nothing to lift, as in most events.
    payload: Option<Value>,
    metadata: Metadata,
}

impl<'r> Apart<'r> {
    fn of(row: &'r StoredRow, is_old: bool) -> Result<Self, StoreError> {
        let broken = |error| broken(row.position, error);
        let is_plain = !is_old && !row.payload.get().contains(MARKER);
        let payload = match is_plain {
            true => None,
            false => Some(serde_json::from_str(row.payload.get()).map_err(broken)?),
        };
        let metadata: Option<Metadata> =
            serde_json::from_str(row.metadata.get()).map_err(broken)?;
        Ok(Self {
            row,
            payload,
            metadata: metadata.unwrap_or_default(),
        })
    }

    fn subjects(&self) -> BTreeSet<String> {
        let mut subjects = sealed::subjects(&self.payload);
        subjects.extend(self.metadata.client_subject.as_deref());
        subjects.into_iter().map(str::to_owned).collect()
    }
}

impl StoredRow {
    /// Whom the event's personal data is about: the subjects of its payload, and of the client that caused it. Nobody if it
    /// cannot be read: opening it says so.
    pub fn subjects(&self) -> BTreeSet<String> {
        Apart::of(self, false).map_or_else(|_| BTreeSet::new(), |apart| apart.subjects())
    }
}

impl StoredRow<Value> {
    /// Opens the personal fields whose subjects have a key among `keys`, and address and user agent of the client.
    ///
    /// # Errors
    /// If one of them was altered or moved.
    pub fn unseal(&mut self, keys: &DataKeys) -> Result<(), SealError> {
        let event_id = self.event_id.to_string();
        let place = EventPlace {
            aggregate_type: &self.aggregate_type,
            aggregate_id: &self.aggregate_id,
            event_id: &event_id,
            event_type: &self.event_type,
            event_version: &self.event_version,
        };
        sealed::open(&mut self.payload, place, keys)?;
        let [subject, sealed] =
            ["client_subject", "client"].map(|name| self.metadata[name].as_str());
        if let (Some(subject), Some(sealed)) = (subject, sealed)
            && let Some(client) = open_client(subject, sealed, &event_id, keys)?
        {
            self.metadata["client"] = client;
        }
        Ok(())
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
    pub async fn open(&self, rows: &[StoredRow]) -> Result<Vec<Opened>, StoreError> {
        let apart: Result<Vec<_>, _> = rows.iter().map(|row| self.take_apart(row)).collect();
        let apart = apart?;
        let subjects: BTreeSet<String> = apart.iter().flat_map(Apart::subjects).collect();
        let keys = self
            .custody()
            .data_keys(&subjects.into_iter().collect::<Vec<_>>())
            .await?;
        let open = |apart| self.open_one(apart, &keys);
        apart.into_iter().map(open).collect()
    }

    /// Opens stored events with keys that the caller has read; subjects without one count as erased.
    ///
    /// # Errors
    /// When an event does not open.
    pub fn open_with(
        &self,
        rows: &[StoredRow],
        keys: &DataKeys,
    ) -> Result<Vec<Opened>, StoreError> {
        let open = |row| self.open_one(self.take_apart(row)?, keys);
        rows.iter().map(open).collect()
    }

    fn take_apart<'r>(&self, row: &'r StoredRow) -> Result<Apart<'r>, StoreError> {
        let mut upcasters = self.upcasters().iter();
        let is_old =
            upcasters.any(|upcaster| upcaster.can_upcast(&row.event_type, &row.event_version));
        Apart::of(row, is_old)
    }

    fn open_one(&self, apart: Apart<'_>, keys: &DataKeys) -> Result<Opened, StoreError> {
        let Apart {
            row,
            payload,
            metadata,
        } = apart;
        let broken = |error: &dyn Display| broken(row.position, error);
        let event_id = row.event_id.to_string();
        let event = match payload {
            None => typed(&row.aggregate_type, &*row.payload),
            Some(mut payload) => {
                let place = EventPlace {
                    aggregate_type: &row.aggregate_type,
                    aggregate_id: &row.aggregate_id,
                    event_id: &event_id,
                    event_type: &row.event_type,
                    event_version: &row.event_version,
                };
                sealed::open(&mut payload, place, keys).map_err(|error| broken(&error))?;
                typed(&row.aggregate_type, self.lifted(row, payload))
            }
        };
        let client = match (&metadata.client_subject, &metadata.client) {
            (Some(subject), Some(sealed)) => {
                open_client(subject, sealed, &event_id, keys).map_err(|error| broken(&error))?
            }
            _ => None,
        };
        Ok(Opened {
            stream_id: row.aggregate_id.clone(),
            event_id: row.event_id,
            position: row.position,
            part_of: PartOf {
                session_id: metadata.session_id,
                request_id: metadata.correlation_id,
            },
            client: client.and_then(|client| serde_json::from_value(client).ok()),
            event: event.map_err(|error| broken(&error))?,
        })
    }

    /// An opened payload in the current version.
    fn lifted(&self, row: &StoredRow, payload: Value) -> Value {
        if self.upcasters().is_empty() {
            return payload;
        }
        let event = SerializedEvent {
            aggregate_id: row.aggregate_id.clone(),
            sequence: usize::try_from(row.sequence).unwrap_or_default(),
            aggregate_type: row.aggregate_type.clone(),
            event_type: row.event_type.clone(),
            event_version: row.event_version.clone(),
            payload,
            metadata: Value::Null,
        };
        super::upcast::upcast(event, self.upcasters()).payload
    }
}

/// What is wrong with an event, without a value of it.
fn broken(position: i64, error: impl Display) -> StoreError {
    let error = impersonal(&error.to_string());
    StoreError::Broken(format!("event at {position}: {error}"))
}

/// Opens address and user agent of a client; none if its subject has no key among `keys`.
fn open_client(
    subject: &str,
    sealed: &str,
    event_id: &str,
    keys: &DataKeys,
) -> Result<Option<Value>, SealError> {
    let Some(key) = keys.get(subject) else {
        return Ok(None);
    };
    let place = ["metadata.client", event_id, subject];
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
        E::deserialize(payload).map_err(|error| error.to_string())
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use serde_json::json;
    use serde_json::value::to_raw_value;

    use super::*;

    fn stored(payload: &Value, metadata: &Value) -> StoredRow {
        StoredRow {
            position: 7,
            aggregate_type: "user".to_owned(),
            aggregate_id: "u1".to_owned(),
            sequence: 1,
            event_type: "user.registered".to_owned(),
            event_version: "1".to_owned(),
            payload: to_raw_value(payload).unwrap(),
            metadata: to_raw_value(metadata).unwrap(),
            event_id: Uuid::nil(),
            recorded_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn subjects_are_those_of_payload_and_client() {
        let payload = json!({"a": [{MARKER: {"subject": "u1"}}], "b": {MARKER: {"subject": "u2"}}});
        let row = stored(&payload, &json!({"client_subject": "u3", "client": "00"}));
        assert_eq!(row.subjects(), ["u1", "u2", "u3"].map(str::to_owned).into());
        assert_eq!(stored(&json!({}), &Value::Null).subjects(), [].into());
        // Whoever opens it is told what is wrong.
        assert_eq!(stored(&payload, &json!("u1")).subjects(), [].into());
    }

    #[test]
    fn what_somebody_wrote_in_the_place_of_metadata_is_not_told() {
        for metadata in [
            json!("ada@people.example"),
            json!({"session_id": 47_110_815}),
        ] {
            let row = stored(&json!({}), &metadata);
            let Err(StoreError::Broken(told)) = Apart::of(&row, false) else {
                panic!("{metadata} was read");
            };
            assert!(told.starts_with("event at 7: expected "), "{told}");
            assert!(!told.contains("people") && !told.contains("4711"), "{told}");
        }
    }
}
