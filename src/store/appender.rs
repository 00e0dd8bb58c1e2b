//! The only writer of the log.
//!
//! Commands that commit at the same moment on this node are written by one call of `append`: one
//! transaction, one round trip, one lock. While a call runs, the next batch gathers by itself; an idle
//! appender waits only while everything that it has may wait. The losers of a batch are answered, the others are
//! written all the same.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use metrics::{counter, histogram};
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions as _, Connection as _, Row as _};
use tlog_tiles::record_hash;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::StoreError;
use super::callers::Callers;
use super::context::{SessionLives, VaultSeen};
use super::freshness::Freshness;
use super::leaf::{Json, Parts, leaf_of};
use super::leaves::Leaves;
use super::log::RecordedAt;
use super::opening::Opened;
use super::recent::Recent;

/// Most commands in one transaction: bounds how long the lock is held.
const BATCH_MAX: usize = 128;
/// Commands that may wait; more are refused at once.
const QUEUE_MAX: usize = 4096;
/// A stalled statement or transaction may hold the lock for this long at most, in milliseconds.
const LOCK_TIMEOUT_MS: &str = "2000";
/// How long a lost connection is sought again before callers are told.
const RECONNECT_FOR: Duration = Duration::from_secs(10);

/// Everything that one command writes.
pub(crate) struct Commit {
    pub stream_type: &'static str,
    pub stream_id: String,
    /// Version of the stream that the command has seen.
    pub expected: i64,
    /// Whose data key must still be there.
    pub subject: Option<String>,
    /// Which session must not have ended.
    pub lives: Option<SessionLives>,
    /// Which row of a vault must be as it was seen.
    pub vault_seen: Option<VaultSeen>,
    pub events: Vec<NewEvent>,
    /// The same as they were before they were sealed, where a model follows them; they have no position yet.
    pub followed: Vec<Opened>,
    /// Sections of `append`'s last argument, each entry a JSON object with at least one member, without its `command`.
    pub more: Vec<(&'static str, String)>,
    /// Row changes.
    pub rows: Vec<RowWrite>,
    /// What no other command of the same batch may touch.
    pub keys: Vec<Touched>,
    /// How long it may wait for others to be written with.
    pub patience: Duration,
}

/// Something that a command touches, as a number: two things that have the same by chance are touched in turn.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Touched(u64);

impl Touched {
    /// What these words name.
    pub fn of(words: &[&str]) -> Self {
        static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Self(HASHER.hash_one(words))
    }
}

/// What becomes of one row of a read model.
pub(crate) struct RowWrite {
    pub model: &'static str,
    /// `put`, `patch` or `delete`.
    pub operation: &'static str,
    /// Columns as JSON text, an object with at least one of them.
    pub row: String,
}

/// A sealed event.
pub(crate) struct NewEvent {
    pub sequence: i64,
    pub event_type: String,
    pub event_version: String,
    pub payload: String,
    /// Whether the payload stands there in canonical form.
    pub is_canonical: bool,
    /// In canonical form.
    pub metadata: String,
    pub event_id: Uuid,
}

struct Job {
    commit: Commit,
    answer: oneshot::Sender<Answer>,
    queued: Instant,
}

/// Where a commit is in the log.
#[derive(Clone, Copy)]
struct Written {
    /// Of its last event.
    position: i64,
    /// Of all its events.
    recorded_at: DateTime<Utc>,
    /// Over which connection it is known to be there.
    connection: u64,
}

struct Answer {
    outcome: Result<Written, StoreError>,
    /// Let go of where it was made: the appender has no time for it, and memory goes back to its thread.
    commit: Commit,
    /// Gone when the caller has taken the answer, or has gone itself.
    taken: Option<Taken>,
}

/// One for each answer of a batch: its channel closes when the last of them is dropped.
type Taken = mpsc::Sender<()>;

/// Hands commits to the one task that writes.
#[derive(Clone)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Job>,
    leaves: Arc<Leaves>,
}

impl Appender {
    /// Starts the task. It ends, after writing what is queued, when the last handle is gone.
    pub fn start(
        options: &PgConnectOptions,
        freshness: Arc<Freshness>,
        recent: Arc<Recent>,
        leaves: Arc<Leaves>,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let options = options
            .clone()
            .application_name("mana-auth appender")
            .options([
                ("statement_timeout", LOCK_TIMEOUT_MS),
                ("idle_in_transaction_session_timeout", LOCK_TIMEOUT_MS),
                // Options travel as one text, where a blank has to be escaped.
                ("default_transaction_isolation", "read\\ committed"),
                // Every statement of `append` finds a few rows by their keys: one plan for each, made once,
                // that does not turn into a scan because the tables were small that day.
                ("plan_cache_mode", "force_generic_plan"),
                ("enable_seqscan", "off"),
                ("enable_hashjoin", "off"),
                ("enable_mergejoin", "off"),
                ("jit", "off"),
            ]);
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let writer = Writer {
            jobs,
            options,
            connection: None,
            freshness,
            recent,
            leaves: leaves.clone(),
            connections: 0,
            waiting: VecDeque::new(),
            taken: None,
            queued: 0,
            callers: Callers::default(),
        };
        (Self { queue, leaves }, on_a_thread(writer.run()))
    }

    /// Writes a commit; answers with the position of its last event.
    pub async fn append(&self, commit: Commit) -> Result<i64, StoreError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            commit,
            answer,
            queued: Instant::now(),
        };
        self.queue.try_send(job).map_err(|_| StoreError::Busy)?;
        // The task answers every job; it is gone only when the service stops.
        let answer = answered.await.map_err(|_| StoreError::Busy)?;
        // The next batch waits for this, and for nothing of what follows.
        drop(answer.taken);
        let written = answer.outcome?;
        // Here and not by the appender, which everybody waits for. Who goes away before leaves it to the log.
        answer.commit.leave(written, &self.leaves);
        Ok(written.position)
    }
}

/// Runs a task on a thread of its own: it waits behind no request, and everybody waits for it.
fn on_a_thread(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    let (ended, end) = oneshot::channel::<()>();
    std::thread::Builder::new()
        .name("appender".to_owned())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime without threads needs a few file handles");
            runtime.block_on(task);
            drop(ended);
        })
        .expect("the service starts with one thread more");
    tokio::spawn(async move {
        let _ = end.await;
    })
}

struct Writer {
    jobs: mpsc::Receiver<Job>,
    options: PgConnectOptions,
    connection: Option<PgConnection>,
    freshness: Arc<Freshness>,
    recent: Arc<Recent>,
    leaves: Arc<Leaves>,
    /// Which connection this is.
    connections: u64,
    /// Jobs that came in but touch what a batch before them touches.
    waiting: VecDeque<Job>,
    /// For the answers of the batch that is being written, if it is waited until they are taken.
    taken: Option<Taken>,
    /// How many jobs had come in when the last batch was answered.
    queued: usize,
    /// Whether it is waited for those of the next one.
    callers: Callers,
}

impl Writer {
    async fn run(mut self) {
        loop {
            if self.waiting.is_empty() {
                match self.jobs.recv().await {
                    Some(job) => self.waiting.push_back(job),
                    None => return,
                }
            }
            while self.waiting.len() < QUEUE_MAX {
                match self.jobs.try_recv() {
                    Ok(job) => self.waiting.push_back(job),
                    Err(_) => break,
                }
            }
            // Whoever comes may be in a hurry.
            if let Some(pause) = self.patience()
                && let Ok(Some(job)) = tokio::time::timeout(pause, self.jobs.recv()).await
            {
                self.waiting.push_back(job);
                continue;
            }
            let batch = self.next_batch();
            let started = Instant::now();
            histogram!("appender_batch_size").record(batch.len() as f64);
            for job in &batch {
                histogram!("appender_wait_seconds").record(started - job.queued);
            }
            let answered = batch.len();
            let (taken, mut all_taken) = mpsc::channel(1);
            self.taken = self.callers.are_awaited().then_some(taken);
            self.queued = self.jobs.len();
            self.write(batch).await;
            let is_awaited = self.taken.take().is_some();
            let took = started.elapsed();
            histogram!("appender_append_seconds").record(took);
            if is_awaited {
                // Nothing is ever sent here: the channel closes.
                let _ = tokio::time::timeout(took, all_taken.recv()).await;
                self.callers
                    .came_back(self.jobs.len() - self.queued, answered);
            }
        }
    }

    /// How long all that wait may go on waiting for company; none if a batch is full or one of them may not.
    fn patience(&self) -> Option<Duration> {
        let left = |job: &Job| job.commit.patience.saturating_sub(job.queued.elapsed());
        let least = self.waiting.iter().map(left).min()?;
        (self.waiting.len() < BATCH_MAX && !least.is_zero()).then_some(least)
    }

    /// Takes jobs in order, leaving those that touch the same stream, claim or secret as one before them.
    fn next_batch(&mut self) -> Vec<Job> {
        let mut touched: HashSet<Touched> = HashSet::new();
        let mut batch = Vec::new();
        let mut left = VecDeque::new();
        for job in self.waiting.drain(..) {
            let free =
                batch.len() < BATCH_MAX && !job.commit.keys.iter().any(|key| touched.contains(key));
            touched.extend(&job.commit.keys);
            if free {
                batch.push(job)
            } else {
                left.push_back(job)
            }
        }
        self.waiting = left;
        batch
    }

    /// Writes a batch, if need be over several connections, and answers all of it.
    async fn write(&mut self, mut batch: Vec<Job>) {
        let mut deadline = None;
        while let Err((unsure, error)) = self.try_to_write(batch).await {
            counter!("appender_reconnects_total").increment(1);
            tracing::warn!(error = %error, commands = unsure.len(), "the appender lost its connection");
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + RECONNECT_FOR);
            batch = self.recover(unsure, deadline).await;
        }
    }

    /// Gives back the jobs whose outcome is unknown because the connection broke; the others are answered.
    async fn try_to_write(&mut self, batch: Vec<Job>) -> Result<(), (Vec<Job>, sqlx::Error)> {
        if batch.is_empty() {
            return Ok(());
        }
        let commits: Vec<&Commit> = batch.iter().map(|job| &job.commit).collect();
        match self.call(&commits).await {
            Ok(outcomes) => self.answer_all(batch, outcomes),
            Err(error) if is_lost(&error) => return Err((batch, error)),
            Err(error) => match StoreError::from_database(&error) {
                // No command is to blame, and one at a time they would wait even longer.
                StoreError::Unavailable(reason) => {
                    for job in batch {
                        self.answer(job, Err(StoreError::Unavailable(reason.clone())));
                    }
                }
                // The database refused something in the batch: one at a time, so that it fails alone.
                _ if batch.len() > 1 => return self.write_one_by_one(batch, &error).await,
                error => {
                    if let Some(job) = batch.into_iter().next() {
                        self.answer(job, Err(error));
                    }
                }
            },
        }
        Ok(())
    }

    async fn write_one_by_one(
        &mut self,
        batch: Vec<Job>,
        error: &sqlx::Error,
    ) -> Result<(), (Vec<Job>, sqlx::Error)> {
        counter!("appender_batch_errors_total").increment(1);
        let code = error.as_database_error().and_then(|error| error.code());
        tracing::warn!(
            code = code.as_deref(),
            commands = batch.len(),
            "a batch was refused; writing one by one"
        );
        let mut jobs = batch.into_iter();
        while let Some(job) = jobs.next() {
            match self.call(&[&job.commit]).await {
                Err(error) if is_lost(&error) => {
                    return Err((std::iter::once(job).chain(jobs).collect(), error));
                }
                outcome => self.answer_one(job, outcome),
            }
        }
        Ok(())
    }

    fn answer_all(&mut self, batch: Vec<Job>, outcomes: Vec<Result<Written, String>>) {
        self.queued = self.jobs.len();
        for (job, outcome) in batch.into_iter().zip(outcomes) {
            self.answer(
                job,
                outcome.map_err(|reason| StoreError::from_refusal(&reason)),
            );
        }
    }

    fn answer_one(&self, job: Job, outcome: Result<Vec<Result<Written, String>>, sqlx::Error>) {
        let outcome = match outcome {
            Ok(mut outcomes) => outcomes
                .pop()
                .unwrap_or(Err("lost".to_owned()))
                .map_err(|reason| StoreError::from_refusal(&reason)),
            Err(error) => Err(StoreError::from_database(&error)),
        };
        self.answer(job, outcome);
    }

    /// On this node, what was written is known at once.
    fn tell(&self, commit: &Commit, position: i64) {
        for event in &commit.events {
            self.freshness.tell(
                commit.stream_type,
                &commit.stream_id,
                &event.event_type,
                position,
            );
        }
    }

    fn answer(&self, mut job: Job, outcome: Result<Written, StoreError>) {
        if let Ok(written) = outcome {
            let followed = std::mem::take(&mut job.commit.followed);
            self.recent
                .written(written.position, job.commit.events.len(), followed);
        }
        // A caller that went away changes nothing: the events stand.
        let _ = job.answer.send(Answer {
            outcome,
            commit: job.commit,
            taken: self.taken.clone(),
        });
    }

    /// The connection broke: whether the transaction committed is looked up before anyone is answered
    /// or anything is tried again. Gives back the jobs that are not in the log.
    async fn recover(&mut self, batch: Vec<Job>, deadline: Instant) -> Vec<Job> {
        let mut pause = Duration::from_millis(10);
        loop {
            self.connection = None;
            let error = match self.written(&batch).await {
                Ok(found) => {
                    let mut rest = Vec::new();
                    for (job, written) in batch.into_iter().zip(found) {
                        match written {
                            Some(written) => {
                                self.tell(&job.commit, written.position);
                                self.freshness.grown(written.position);
                                self.answer(job, Ok(written));
                            }
                            None if Instant::now() >= deadline => {
                                let reason = "the connection breaks again and again".to_owned();
                                self.answer(job, Err(StoreError::Unavailable(reason)));
                            }
                            None => rest.push(job),
                        }
                    }
                    return rest;
                }
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                for job in batch {
                    self.answer(job, Err(StoreError::Unavailable(error.to_string())));
                }
                return vec![];
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(1));
        }
    }

    /// Where those commits are that did reach the log. Takes the append lock first, so that a
    /// transaction of the broken connection has ended one way or the other.
    async fn written(&mut self, batch: &[Job]) -> Result<Vec<Option<Written>>, sqlx::Error> {
        // A commit without an event has nothing in the log.
        let last = |job: &Job| job.commit.events.last().map(|event| event.event_id);
        let ids: Vec<Uuid> = batch
            .iter()
            .map(|job| last(job).unwrap_or_default())
            .collect();
        let connection = self.connect().await?;
        let mut tx = connection.begin().await?;
        sqlx::query("select pg_advisory_xact_lock(7165746300)")
            .execute(&mut *tx)
            .await?;
        let found: Vec<(Uuid, i64, RecordedAt)> = sqlx::query_as(
            "select event_id, position, recorded_at from events where event_id = any ($1)",
        )
        .bind(&ids)
        .fetch_all(&mut *tx)
        .await?;
        tx.commit().await?;
        let at = |(id, position, RecordedAt(recorded_at))| {
            let written = Written {
                position,
                recorded_at,
                connection: self.connections,
            };
            (id, written)
        };
        let found: HashMap<Uuid, Written> = found.into_iter().map(at).collect();
        Ok(ids.iter().map(|id| found.get(id).copied()).collect())
    }

    async fn connect(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        if self.connection.is_none() {
            self.connection = Some(self.options.connect().await?);
            self.connections = self.leaves.connected();
        }
        Ok(self.connection.as_mut().expect("it was connected just now"))
    }

    /// One call of `append`: for each commit where it is, or the precondition that it lost.
    async fn call(
        &mut self,
        commits: &[&Commit],
    ) -> Result<Vec<Result<Written, String>>, sqlx::Error> {
        let mut more: BTreeMap<&'static str, String> = BTreeMap::new();
        let mut command = Vec::with_capacity(commits.len());
        for (n, commit) in (1..).zip(commits) {
            command.extend(std::iter::repeat_n(n, commit.events.len()));
            for (section, entry) in &commit.more {
                add_entry(more.entry(section).or_default(), n, entry);
            }
        }
        let (models, rows) = row_writes(commits);
        let events = || commits.iter().flat_map(|commit| &commit.events);
        let of_commits = |version: fn(&Commit) -> i64| -> Vec<i64> {
            commits.iter().map(|commit| version(commit)).collect()
        };
        let texts = |text: fn(&NewEvent) -> &str| -> Vec<&str> { events().map(text).collect() };
        let query = sqlx::query(
            "select head, losers, reasons, recorded_at
             from append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18,
                         $19::text::jsonb)",
        )
        .bind(commits.iter().map(|c| c.stream_type).collect::<Vec<_>>())
        .bind(
            commits
                .iter()
                .map(|c| c.stream_id.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(of_commits(|commit| commit.expected))
        .bind(of_commits(Commit::version))
        .bind(of_some(commits, |c| c.subject.as_deref()))
        .bind(of_some(commits, |c| Some(c.lives.as_ref()?.id.as_str())))
        .bind(of_some(commits, |c| Some(c.lives.as_ref()?.user_id.as_str())))
        .bind(of_some(commits, |c| Some(c.vault_seen.as_ref()?.owner.as_str())))
        .bind(of_some(commits, |c| c.vault_seen.as_ref()?.written_by))
        .bind::<Vec<i32>>(command)
        .bind(events().map(|e| e.sequence).collect::<Vec<_>>())
        .bind(texts(|event| &event.event_type))
        .bind(texts(|event| &event.event_version))
        .bind(texts(|event| &event.payload))
        .bind(texts(|event| &event.metadata))
        .bind(events().map(|e| e.event_id).collect::<Vec<_>>())
        .bind(models)
        .bind(rows)
        .bind(object_of(more));
        let connection = self.connect().await?;
        let asked = Instant::now();
        let answer = query.fetch_one(connection).await?;
        let losers: Vec<i32> = answer.try_get("losers")?;
        let reasons: Vec<String> = answer.try_get("reasons")?;
        let lost: HashMap<i32, String> = losers.into_iter().zip(reasons).collect();
        let head: i64 = answer.try_get("head")?;
        let recorded_at = answer.try_get("recorded_at")?;
        let mut position = head;
        let outcomes = (1..).zip(commits).map(|(n, commit)| match lost.get(&n) {
            Some(reason) => Err(reason.clone()),
            None => {
                position += commit.version() - commit.expected;
                self.tell(commit, position);
                Ok(Written {
                    position,
                    recorded_at,
                    connection: self.connections,
                })
            }
        });
        let outcomes = outcomes.collect();
        self.freshness.appended(head, position, asked);
        Ok(outcomes)
    }
}

/// Whether the connection is gone, so that nobody knows yet what became of the transaction. A server that
/// ends a session says so before it hangs up.
fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            code.starts_with("08") || code.starts_with("57P") || code == "25P03"
        }),
        _ => true,
    }
}

impl Commit {
    /// Adds an entry to a section of `append`'s last argument.
    pub fn add(&mut self, section: &'static str, entry: &impl Serialize) {
        self.more.push((section, json(entry)));
    }

    /// Leaves the hashes of what was written to who makes the tree.
    fn leave(&self, written: Written, leaves: &Leaves) {
        let Written {
            recorded_at,
            connection,
            ..
        } = written;
        for (position, event) in (1..=written.position).rev().zip(self.events.iter().rev()) {
            let leaf = || {
                leaf_of(&Parts {
                    position,
                    aggregate_type: self.stream_type,
                    aggregate_id: &self.stream_id,
                    sequence: event.sequence,
                    event_type: &event.event_type,
                    event_version: &event.event_version,
                    payload: match event.is_canonical {
                        true => Json::Canonical(&event.payload),
                        false => Json::Any(&event.payload),
                    },
                    metadata: Json::Canonical(&event.metadata),
                    event_id: event.event_id,
                    recorded_at,
                })
            };
            let event = (position, event.event_id);
            // One that cannot be made is told of where the log is read for it.
            leaves.add(connection, event, || Some(record_hash(&leaf().ok()?)));
        }
    }

    /// Version of the stream afterwards.
    fn version(&self) -> i64 {
        self.events
            .last()
            .map_or(self.expected, |event| event.sequence)
    }
}

/// What each commit has of something that many have not; nothing at all if none has it.
fn of_some<'a, T>(commits: &[&'a Commit], of: fn(&'a Commit) -> Option<T>) -> Vec<Option<T>> {
    let all: Vec<_> = commits.iter().map(|commit| of(commit)).collect();
    if all.iter().any(Option::is_some) {
        all
    } else {
        vec![]
    }
}

/// As JSON text, without growing into the size that most of it has.
pub(super) fn json(value: &impl Serialize) -> String {
    let mut text = Vec::with_capacity(512);
    serde_json::to_writer(&mut text, value)
        .expect("what the store writes is JSON, and memory takes it");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// Adds a JSON object to the text of an array that is still open, with the number of its command.
fn add_entry(array: &mut String, command: i32, object: &str) {
    array.push(if array.is_empty() { '[' } else { ',' });
    // It is text already: the number goes in before its closing brace.
    array.push_str(object.strip_suffix('}').unwrap_or(object));
    let _ = write!(array, ",\"command\":{command}}}");
}

/// Closes such arrays and makes them the members of an object.
fn object_of(arrays: BTreeMap<&str, String>) -> String {
    let members = arrays
        .iter()
        .map(|(name, entries)| format!("\"{name}\":{entries}]"));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// The row changes of all commits as `append` wants them: models, and for each an object of operations.
fn row_writes(commits: &[&Commit]) -> (Vec<&'static str>, Vec<String>) {
    let mut models: BTreeMap<&'static str, BTreeMap<&'static str, String>> = BTreeMap::new();
    for (n, commit) in (1..).zip(commits) {
        for write in &commit.rows {
            let rows = models.entry(write.model).or_default();
            add_entry(rows.entry(write.operation).or_default(), n, &write.row);
        }
    }
    models
        .into_iter()
        .map(|(model, operations)| (model, object_of(operations)))
        .unzip()
}
