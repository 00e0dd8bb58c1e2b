//! One command from load to commit: the `EventStore` of cqrs-es, as a value that lives for one command
//! and holds what the command changes beside its events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aggregates::session::Session;
use aggregates::user::User;
use aggregates::{ClaimChange, StoredEvent};
use cqrs_es::event_sink::EventSink;
use cqrs_es::persist::PersistedEventRepository as _;
use cqrs_es::{
    Aggregate, AggregateContext, AggregateError, DomainEvent, EventEnvelope, EventStore,
};
use postgres_es::PostgresEventRepository;
use projections::{AnyEvent, Kind, Recorded, RowChange};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::appender::{self, Commit, NewEvent, RowWrite, Touched};
use super::context::Context;
use super::leaf::is_written_canonical;
use super::opening::{Opened, PartOf};
use super::sealed::{self, DataKeys, EventPlace};
use super::{Done, Inner, StoreError};
use crate::crypto::hex::encode as hex;

/// What commands of the same stream have in common: two of them are never in one batch.
fn stream_key(stream_type: &str, id: &str) -> Touched {
    Touched::of(&["stream", stream_type, id])
}

/// What is written with each event about how it came about: texts in the order of their names, so that it is written in
/// canonical form.
#[derive(Serialize)]
struct Metadata<'a> {
    actor: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    /// Whose key seals the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_subject: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    event_id: &'a str,
    node: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<&'a str>,
}

/// An aggregate and the version of its stream.
#[derive(Clone)]
pub(super) struct Folded<A> {
    id: String,
    pub aggregate: A,
    version: usize,
}

impl<A: Aggregate> Folded<A> {
    /// The aggregate as the caller has read it.
    pub fn known(id: &str, aggregate: A, version: i64) -> Self {
        Self {
            id: id.to_owned(),
            aggregate,
            version: usize::try_from(version).unwrap_or_default(),
        }
    }

    fn unwritten(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            aggregate: A::default(),
            version: 0,
        }
    }
}

impl<A: Aggregate> AggregateContext<A> for Folded<A> {
    fn aggregate(&mut self) -> &mut A {
        &mut self.aggregate
    }
}

/// The event store of one command.
pub(super) struct CommandStore<'a> {
    store: &'a Inner,
    context: &'a Context,
    /// Whether the aggregate is worth remembering: not where its state is read from elsewhere each time.
    remembers: bool,
    /// Position of the last event, once committed: the framework's `commit` has no place for it.
    position: Mutex<Option<i64>>,
}

impl<'a> CommandStore<'a> {
    pub fn new(store: &'a Inner, context: &'a Context) -> Self {
        Self {
            store,
            context,
            remembers: true,
            position: Mutex::new(None),
        }
    }

    /// The same, remembering nothing of the aggregate.
    pub fn forgetting(self) -> Self {
        Self {
            remembers: false,
            ..self
        }
    }

    /// Load, decide, commit.
    pub async fn carry_out<A>(
        &self,
        id: &str,
        command: A::Command,
    ) -> Result<Done<A>, AggregateError<A::Error>>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Command: Clone + Send,
        A::Event: StoredEvent + Into<AnyEvent>,
        A::Error: Send + Sync + 'static,
    {
        // A cached aggregate that is outdated loses at the append, where its version is checked. Only
        // there: a refusal or "nothing to do" that it leads to is decided again from the log.
        if let Some(folded) = self.cached::<A>(id).or_else(|| self.unwritten::<A>(id))
            && let Ok((folded, events)) = decide(folded, command.clone()).await
            && !events.is_empty()
        {
            return self.finish(folded, events).await;
        }
        let folded: Folded<A> = self.load_aggregate(id).await?;
        let (folded, events) = decide(folded, command)
            .await
            .map_err(AggregateError::UserError)?;
        self.finish(folded, events).await
    }

    /// Commits what was decided.
    pub async fn finish<A>(
        &self,
        folded: Folded<A>,
        events: Vec<A::Event>,
    ) -> Result<Done<A>, AggregateError<A::Error>>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Event: StoredEvent + Into<AnyEvent>,
        A::Error: Send + Sync + 'static,
    {
        let state = folded.aggregate.clone();
        if !events.is_empty() {
            EventStore::<A>::commit(self, events, folded, HashMap::new()).await?;
        }
        Ok(Done {
            position: *self
                .position
                .lock()
                .expect("nothing panics while it is held"),
            state,
        })
    }

    /// The aggregate as this node last wrote it, which others may have changed since.
    fn cached<A: Aggregate + Clone + 'static>(&self, id: &str) -> Option<Folded<A>> {
        let cached = self.store.folded.get(&(A::TYPE, id.to_owned()))?;
        let folded = cached.downcast::<Folded<A>>().ok()?;
        Some(Folded::clone(&folded))
    }

    /// The aggregate before its first event, where the id was made just now.
    fn unwritten<A: Aggregate>(&self, id: &str) -> Option<Folded<A>> {
        self.context.new_stream.then(|| Folded::unwritten(id))
    }

    /// The aggregate from the log.
    pub async fn load<A>(&self, id: &str) -> Result<Folded<A>, StoreError>
    where
        A: Aggregate + Clone + 'static,
        A::Event: StoredEvent + Into<AnyEvent>,
        A::Error: Send + Sync + 'static,
    {
        let events = self.read::<A>(id).await?;
        let mut folded = Folded::<A>::unwritten(id);
        for event in events {
            folded.version = event.sequence;
            folded.aggregate.apply(event.payload);
        }
        Ok(folded)
    }

    async fn read<A>(&self, id: &str) -> Result<Vec<EventEnvelope<A>>, StoreError>
    where
        A: Aggregate,
    {
        let repository = PostgresEventRepository::new(self.store.pool.clone());
        let stored = repository
            .get_events::<A>(id)
            .await
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        let subjects = sealed::subjects(stored.iter().map(|event| &event.payload));
        let keys = self
            .store
            .custody
            .data_keys(&subjects.into_iter().collect::<Vec<_>>())
            .await?;
        stored
            .into_iter()
            .map(|mut event| {
                let broken = |error: &dyn std::fmt::Display| {
                    StoreError::Broken(format!(
                        "{} {id} event {}: {error}",
                        A::TYPE,
                        event.sequence
                    ))
                };
                let event_id = event.metadata["event_id"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                let place = EventPlace {
                    aggregate_type: A::TYPE,
                    aggregate_id: id,
                    event_id: &event_id,
                    event_type: &event.event_type,
                    event_version: &event.event_version,
                };
                sealed::open(&mut event.payload, place, &keys).map_err(|error| broken(&error))?;
                let event = super::upcast::upcast(event, &self.store.upcasters);
                let sequence = event.sequence;
                EventEnvelope::try_from(event).map_err(|error| {
                    StoreError::Broken(format!("{} {id} event {sequence}: {error}", A::TYPE))
                })
            })
            .collect()
    }

    async fn write<A>(&self, events: &[A::Event], folded: &Folded<A>) -> Result<i64, StoreError>
    where
        A: Aggregate,
        A::Event: StoredEvent + Into<AnyEvent>,
    {
        if self.context.brings_wraps() {
            self.store.custody.ring().check_budget()?;
        }
        let id = folded.id.as_str();
        let payloads: Vec<Value> = events
            .iter()
            .map(|event| {
                serde_json::to_value(event).map_err(|error| StoreError::Broken(error.to_string()))
            })
            .collect::<Result<_, _>>()?;
        let keys = self.keys(&payloads).await?;

        let mut commit = Commit {
            stream_type: A::TYPE,
            stream_id: id.to_owned(),
            expected: as_i64(folded.version),
            // Where several subjects appear, all keys were present a moment ago; one that may be erased meanwhile
            // is checked under the lock.
            subject: keys
                .keys()
                .find(|subject| !self.context.new_keys.contains_key(*subject))
                .or(keys.keys().next())
                .cloned(),
            lives: self.context.lives.clone(),
            vault_seen: self.context.vault_seen.clone(),
            events: Vec::with_capacity(events.len()),
            followed: vec![],
            more: vec![],
            rows: vec![],
            keys: vec![stream_key(A::TYPE, id)],
            patience: self.context.patience,
        };
        for (n, (event, mut payload)) in events.iter().zip(payloads).enumerate() {
            let event_id = crate::ids::event();
            let (event_type, event_version) = (event.event_type(), event.event_version());
            let text_id = event_id.to_string();
            let place = EventPlace {
                aggregate_type: A::TYPE,
                aggregate_id: id,
                event_id: &text_id,
                event_type: &event_type,
                event_version: &event_version,
            };
            sealed::seal(&mut payload, place, &keys)
                .map_err(|error| StoreError::Broken(error.to_string()))?;
            commit.events.push(NewEvent {
                sequence: as_i64(folded.version + 1 + n),
                event_type,
                event_version,
                payload: appender::json(&payload),
                is_canonical: is_written_canonical(&payload),
                metadata: self.metadata(&text_id, &keys),
                event_id,
            });
            self.add_claims(&mut commit, event);
        }
        self.add_effects(&mut commit, &keys)?;
        for seen in &self.context.seen {
            let entry = seen.entry();
            commit.keys.push(secret(&entry));
            commit.add("custody_seen", &entry);
        }
        for change in &self.context.tokens {
            let (section, entry) = change.entry(&keys)?;
            // Tokens of a person are withdrawn together, so their commands take turns.
            let user_id = entry["user_id"].as_str().unwrap_or_default();
            commit.keys.push(Touched::of(&["tokens", user_id]));
            commit.add(section, &entry);
        }
        if let Some(user_id) = &self.context.admin_leaves {
            // Two who leave in one batch would each see the other stay.
            commit.keys.push(Touched::of(&["admins"]));
            commit.add("admin_leaves", &json!({"user_id": user_id}));
        }
        for change in &self.context.custody {
            let (section, entry) = change.entry();
            commit.keys.push(secret(&entry));
            commit.add(section, &entry);
        }
        if let Some(session) = &self.context.lives {
            // Whoever ends it in the same batch comes before or after.
            commit.keys.push(stream_key(Session::TYPE, &session.id));
            commit.keys.push(stream_key(User::TYPE, &session.user_id));
        }
        if let Some(entry) = &self.context.vault {
            // Its stream's version guards it.
            commit.add("vault_put", entry);
        }
        if let Some(idempotent) = &self.context.idempotent {
            let entry = idempotent.entry(&keys)?;
            let key_hash = entry["key_hash"].as_str().unwrap_or_default();
            commit.keys.push(Touched::of(&["idempotency", key_hash]));
            commit.add("idempotency", &entry);
        }
        let any: Vec<AnyEvent> = events.iter().cloned().map(Into::into).collect();
        if projections::any_reads(A::TYPE, Kind::Inline) {
            self.add_rows(&mut commit, &any);
        }
        if projections::any_reads(A::TYPE, Kind::Async) {
            let opened = |(new, event): (&NewEvent, _)| self.opened(id, new.event_id, event);
            commit.followed = commit.events.iter().zip(any).map(opened).collect();
        }
        let position = self.store.appender.append(commit).await?;
        if !self.context.effects.is_empty() {
            self.store.freshness.effect_queued();
        }
        Ok(position)
    }

    /// An event as it will be read.
    fn opened(&self, stream_id: &str, event_id: Uuid, event: AnyEvent) -> Opened {
        let context = self.context;
        Opened {
            stream_id: stream_id.to_owned(),
            event_id,
            position: 0,
            part_of: PartOf {
                session_id: context.session_id.clone(),
                request_id: context.correlation_id.clone(),
            },
            client: context.client.as_ref().map(|(_, client)| client.clone()),
            event,
        }
    }

    fn add_rows(&self, commit: &mut Commit, events: &[AnyEvent]) {
        let recorded = events
            .iter()
            .zip(&commit.events)
            .map(|(event, new)| Recorded {
                stream_id: &commit.stream_id,
                event_id: new.event_id,
                client: self.context.client.as_ref().map(|(_, client)| client),
                logged: None,
                event,
            });
        let mut changes = projections::changes(recorded);
        for delete in changes.take_owned() {
            commit.keys.push(owned(delete.model, &delete.owner));
            commit.rows.push(RowWrite {
                model: delete.model,
                operation: "delete",
                row: appender::json(&delete),
            });
        }
        for (model, key, change) in changes.into_rows() {
            let (operation, row) = match change {
                RowChange::Put(row) => {
                    if let Some(owner) = projections::owner_of(model, &row) {
                        commit.keys.push(owned(model, owner));
                    }
                    ("put", Value::Object(row))
                }
                RowChange::Patch(row) => ("patch", Value::Object(row)),
                RowChange::Delete => ("delete", json!({"id": key})),
            };
            commit.rows.push(RowWrite {
                model,
                operation,
                row: appender::json(&row),
            });
        }
    }

    /// Data keys of all subjects in the events and the context.
    async fn keys(&self, payloads: &[Value]) -> Result<DataKeys, StoreError> {
        let context = self.context;
        let mut subjects = sealed::subjects(payloads);
        subjects.extend(context.client.iter().map(|(subject, _)| subject.as_str()));
        subjects.extend(context.effects.iter().map(|effect| effect.subject.as_str()));
        subjects.extend(context.tokens.iter().filter_map(|change| change.subject()));
        subjects.extend(context.idempotent.iter().map(|once| once.subject()));
        subjects.retain(|subject| !context.new_keys.contains_key(*subject));
        let known: Vec<&str> = subjects.into_iter().collect();
        let mut keys = self.store.custody.data_keys(&known).await?;
        if keys.len() < known.len() {
            return Err(StoreError::NoDataKey);
        }
        keys.extend(context.new_keys.clone());
        Ok(keys)
    }

    fn metadata(&self, event_id: &str, keys: &DataKeys) -> String {
        let context = self.context;
        let client = context.client.as_ref().and_then(|(subject, client)| {
            let key = keys.get(subject)?;
            let clear = json!({"ip_address": client.ip_address, "user_agent": client.user_agent})
                .to_string();
            let place = ["metadata.client", event_id, subject];
            let sealed = sealed::seal_text(key, &place, clear.as_bytes());
            Some((subject.as_str(), hex(&sealed)))
        });
        let (client_subject, client) = client.unzip();
        appender::json(&Metadata {
            actor: context.actor.metadata(),
            client,
            client_subject,
            correlation_id: context.correlation_id.as_deref(),
            event_id,
            node: &self.store.node,
            session_id: context.session_id.as_deref(),
            traceparent: context.traceparent.as_deref(),
        })
    }

    fn add_claims<E: StoredEvent>(&self, commit: &mut Commit, event: &E) {
        for change in event.claims() {
            let (section, scope, value) = match &change {
                ClaimChange::Take(scope, value) => ("claims_take", scope, value),
                ClaimChange::Release(scope, value) => ("claims_release", scope, value),
                ClaimChange::ReleaseAll => {
                    let owner = json!({"owner": commit.stream_id});
                    commit.add("claims_release_all", &owner);
                    continue;
                }
            };
            let key_hash = hex(&self.store.claims.hash(*scope, value));
            let claim = ["claim", scope.as_str(), &key_hash];
            commit.keys.push(Touched::of(&claim));
            let entry = json!({"scope": scope.as_str(), "key_hash": key_hash, "owner": commit.stream_id, "pepper_id": self.store.claims.pepper_id()});
            commit.add(section, &entry);
        }
    }

    fn add_effects(&self, commit: &mut Commit, keys: &DataKeys) -> Result<(), StoreError> {
        let Some(event_id) = commit
            .events
            .first()
            .map(|event| event.event_id.to_string())
        else {
            return Ok(());
        };
        for effect in &self.context.effects {
            let key = keys.get(&effect.subject).ok_or(StoreError::NoDataKey)?;
            let sealed = sealed::seal_text(
                key,
                &["effects", &event_id, effect.kind, &effect.subject],
                &effect.payload,
            );
            commit.add("effects", &json!({"event_id": event_id, "kind": effect.kind, "subject": effect.subject, "sealed": hex(&sealed)}));
        }
        Ok(())
    }
}

/// What follows from a command, with the aggregate as it is then.
pub(super) async fn decide<A>(
    mut folded: Folded<A>,
    command: A::Command,
) -> Result<(Folded<A>, Vec<A::Event>), A::Error>
where
    A: Aggregate<Services = ()>,
{
    let sink = EventSink::default();
    folded.aggregate().handle(command, &(), &sink).await?;
    let events = sink.collect().await;
    Ok((folded, events))
}

/// Rows of an owner that end together are not put by another command of the same batch: within a batch, all
/// deletes come first.
fn owned(model: &str, owner: &str) -> Touched {
    Touched::of(&["owned", model, owner])
}

/// The secret that an entry is about.
fn secret(entry: &Value) -> Touched {
    let [kind, owner, id] =
        ["kind", "owner", "id"].map(|name| entry[name].as_str().unwrap_or_default());
    Touched::of(&["custody", kind, owner, id])
}

fn as_i64(version: usize) -> i64 {
    i64::try_from(version).expect("no stream has 2^63 events")
}

impl<A> EventStore<A> for CommandStore<'_>
where
    A: Aggregate + Clone + 'static,
    A::Event: StoredEvent + Into<AnyEvent>,
    A::Error: Send + Sync + 'static,
{
    type AC = Folded<A>;

    async fn load_events(
        &self,
        id: &str,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        self.read(id).await.map_err(framework_error)
    }

    async fn load_aggregate(&self, id: &str) -> Result<Folded<A>, AggregateError<A::Error>> {
        self.load(id).await.map_err(framework_error)
    }

    /// Writes what `handle` has applied already, with everything that the context adds.
    async fn commit(
        &self,
        events: Vec<A::Event>,
        mut folded: Folded<A>,
        metadata: HashMap<String, String>,
    ) -> Result<Vec<EventEnvelope<A>>, AggregateError<A::Error>> {
        let cached = (A::TYPE, folded.id.clone());
        let position = match self.write(&events, &folded).await {
            Ok(position) => position,
            Err(error) => {
                self.store.folded.remove(&cached);
                return Err(framework_error(error));
            }
        };
        *self
            .position
            .lock()
            .expect("nothing panics while it is held") = Some(position);
        let first = folded.version + 1;
        folded.version += events.len();
        let id = folded.id.clone();
        if self.remembers {
            self.store.folded.insert(cached, Arc::new(folded));
        }
        let envelope = |(n, payload)| EventEnvelope {
            aggregate_id: id.clone(),
            sequence: first + n,
            payload,
            metadata: metadata.clone(),
        };
        Ok(events.into_iter().enumerate().map(envelope).collect())
    }
}

fn framework_error<E: std::error::Error>(error: StoreError) -> AggregateError<E> {
    match error {
        StoreError::Conflict => AggregateError::AggregateConflict,
        StoreError::Unavailable(_) | StoreError::Busy => {
            AggregateError::DatabaseConnectionError(Box::new(error))
        }
        other => AggregateError::UnexpectedError(Box::new(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_written_in_canonical_form() {
        let text = appender::json(&Metadata {
            actor: "user:u1".to_owned(),
            client: Some("00ff".to_owned()),
            client_subject: Some("u1"),
            correlation_id: Some("r-1"),
            event_id: "01932c07-2a7b-7c3e-8a5b-0123456789ab",
            node: "n1",
            session_id: Some("s1"),
            traceparent: Some("00-00-00-00"),
        });
        let read: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read.to_string(), text);
        assert!(is_written_canonical(&read));
    }
}
