//! The log and what is written together with it.
//!
//! `Store::run` carries out one command: load the stream, let the aggregate decide, seal, append,
//! and try again if another node was faster. Everything that a command changes (events, claims,
//! custody, read models, queued effects) commits in one transaction or not at all.

mod appender;
mod callers;
pub mod checks;
pub mod claims;
mod command;
mod context;
pub mod freshness;
pub mod head;
pub mod idempotency;
pub mod leaf;
pub mod leaves;
pub mod log;
pub mod opening;
pub mod recent;
pub mod sealed;
pub mod together;
mod turns;
pub mod upcast;

use std::sync::Arc;

use aggregates::StoredEvent;
use cqrs_es::persist::EventUpcaster;
use cqrs_es::{Aggregate, AggregateError};
use projections::AnyEvent;
use quick_cache::sync::Cache;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::MutexGuard;
use uuid::Uuid;

use self::appender::Appender;
use self::claims::Claims;
use self::command::{CommandStore, Folded, decide};
pub use self::context::{Actor, Client, Context, EffectDraft};
use self::freshness::Freshness;
use self::leaves::Leaves;
use self::recent::Recent;
use self::turns::Turns;
use crate::crypto::key_ring::KekUsedUp;
use crate::custody::Custody;

tokio::task_local! {
    /// Position of the last event that the current request wrote, for its answer (`X-Log-Position`).
    pub static WRITTEN: std::cell::Cell<Option<i64>>;
}

/// Leaves the position of what this request wrote out of the answer, where it would tell too much.
pub fn forget_written() {
    // Outside of a request there is nothing to forget.
    let _ = WRITTEN.try_with(|written| written.set(None));
}

/// How often a command is tried when other nodes write to the same stream.
const ATTEMPTS: u32 = 5;
/// Folded aggregates kept; the stream version checked at the append proves them current.
const FOLDED: usize = 20_000;

/// Why a command could not be written. None of these is the fault of the command itself.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Another node changed the stream first, again and again.
    #[error("the stream was changed by somebody else")]
    Conflict,
    /// Another stream holds what the command wants to take.
    #[error("{0} is taken")]
    ClaimTaken(String),
    /// The person's data key is gone, or about to go: they were erased meanwhile.
    #[error("the subject has no data key")]
    NoDataKey,
    /// A secret was changed since the command saw it.
    #[error("a secret was changed by somebody else")]
    CustodyChanged,
    /// The token that the command uses up is gone: used, withdrawn or out of date.
    #[error("the token was used")]
    TokenUsed,
    /// The session that the command belongs to is over, or its person was banned.
    #[error("the session is over")]
    SessionOver,
    /// The service would have no admin any more.
    #[error("the last admin stays")]
    LastAdmin,
    /// A request with the same `Idempotency-Key` was carried out already.
    #[error("the idempotency key was used")]
    IdempotencyKeyUsed,
    /// Too many commands wait.
    #[error("too many commands wait to be written")]
    Busy,
    /// Nothing more may be wrapped by the active key-encryption key.
    #[error(transparent)]
    KekUsedUp(#[from] KekUsedUp),
    /// The database does not answer, or not in time.
    #[error("the database is not available: {0}")]
    Unavailable(String),
    /// Something is wrong with what is stored.
    #[error("the store is broken: {0}")]
    Broken(String),
}

impl StoreError {
    /// From the name of a lost precondition.
    fn from_refusal(reason: &str) -> Self {
        match reason {
            "stream_version" => Self::Conflict,
            "data_key" => Self::NoDataKey,
            "custody" => Self::CustodyChanged,
            "token" => Self::TokenUsed,
            "last_admin" => Self::LastAdmin,
            "session" => Self::SessionOver,
            // Read again, it is decided anew.
            "vault" => Self::Conflict,
            "idempotency_key" => Self::IdempotencyKeyUsed,
            _ => match reason.strip_prefix("claim:") {
                Some(scope) => Self::ClaimTaken(scope.to_owned()),
                None => Self::Broken(format!("unknown refusal {reason}")),
            },
        }
    }

    /// From a database error, by constraint name and SQLSTATE, never by guess.
    pub fn from_database(error: &sqlx::Error) -> Self {
        let sqlx::Error::Database(db) = error else {
            return Self::Unavailable(error.to_string());
        };
        let constraint = db.constraint().unwrap_or_default();
        // Partitions name their keys after themselves: events_000000_stream_key.
        if constraint == "streams_pkey"
            || constraint.starts_with("events_") && constraint.ends_with("_stream_key")
        {
            return Self::Conflict;
        }
        match (constraint, db.code().as_deref()) {
            ("claims_pkey", _) => Self::ClaimTaken("claim".to_owned()),
            ("idempotency_keys_pkey", _) => Self::IdempotencyKeyUsed,
            // Serialization failure, deadlock.
            (_, Some("40001" | "40P01")) => Self::Conflict,
            // Connection trouble, shutdown, resources, query cancelled by timeout.
            (_, Some(code))
                if matches!(&code[..2.min(code.len())], "08" | "53" | "57" | "55" | "25") =>
            {
                Self::Unavailable(format!("SQLSTATE {code}"))
            }
            (constraint, code) => Self::Broken(format!(
                "SQLSTATE {} {constraint}",
                code.unwrap_or("unknown")
            )),
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        Self::from_database(&error)
    }
}

impl From<crate::custody::CustodyError> for StoreError {
    fn from(error: crate::custody::CustodyError) -> Self {
        match error {
            crate::custody::CustodyError::Database(error) => Self::from_database(&error),
            crate::custody::CustodyError::KekUsedUp(used_up) => used_up.into(),
            crate::custody::CustodyError::Lost(_)
            | crate::custody::CustodyError::Older { .. }
            | crate::custody::CustodyError::Unwrap { .. } => Self::Broken(error.to_string()),
        }
    }
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E: std::error::Error> {
    /// The aggregate refused it.
    #[error(transparent)]
    Refused(E),
    /// It could not be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a command did.
#[derive(Clone, Debug, PartialEq)]
pub struct Done<A> {
    /// Position of its last event; `None` if nothing changed.
    pub position: Option<i64>,
    /// The aggregate afterwards.
    pub state: A,
}

/// The log in this database.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    pool: PgPool,
    appender: Appender,
    custody: Custody,
    claims: Claims,
    freshness: Arc<Freshness>,
    recent: Arc<Recent>,
    leaves: Arc<Leaves>,
    upcasters: Vec<Box<dyn EventUpcaster>>,
    folded: Cache<(&'static str, String), Arc<dyn std::any::Any + Send + Sync>>,
    turns: Turns,
    node: String,
}

impl Store {
    /// Opens the log and starts its writer; await the handle after dropping the store to know that
    /// everything queued has been written.
    pub fn start(
        pool: PgPool,
        options: &PgConnectOptions,
        custody: Custody,
        claims: Claims,
        node: String,
    ) -> (Self, tokio::task::JoinHandle<()>) {
        let freshness = Arc::new(Freshness::default());
        let recent = Arc::new(Recent::default());
        let leaves = Arc::new(Leaves::default());
        let (appender, task) =
            Appender::start(options, freshness.clone(), recent.clone(), leaves.clone());
        let folded = Cache::new(FOLDED);
        let upcasters = upcast::upcasters();
        (
            Self(Arc::new(Inner {
                pool,
                appender,
                custody,
                claims,
                freshness,
                recent,
                leaves,
                upcasters,
                folded,
                turns: Turns::default(),
                node,
            })),
            task,
        )
    }

    /// What this node knows of the log's head.
    pub fn freshness(&self) -> &Arc<Freshness> {
        &self.0.freshness
    }

    /// What this node has written last.
    pub fn recent(&self) -> &Arc<Recent> {
        &self.0.recent
    }

    /// The leaves of what this node has written last.
    pub fn leaves(&self) -> &Leaves {
        &self.0.leaves
    }

    /// Connections to the database of the log.
    pub fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// What this node is called in the log.
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Secrets.
    pub fn custody(&self) -> &Custody {
        &self.0.custody
    }

    /// Who holds what.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    pub(crate) fn upcasters(&self) -> &[Box<dyn EventUpcaster>] {
        &self.0.upcasters
    }

    /// Carries out a command on the stream `id`, with everything in `context` in the same transaction.
    ///
    /// # Errors
    /// The aggregate's refusal, or why it could not be written.
    pub async fn run<A>(
        &self,
        id: &str,
        command: A::Command,
        context: Context,
    ) -> Result<Done<A>, RunError<A::Error>>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Command: Clone + Send,
        A::Event: StoredEvent + Into<AnyEvent>,
        A::Error: Send + Sync + 'static,
    {
        // Whoever would lose against another command of this node waits for it instead.
        let _turn = if context.new_stream {
            None
        } else {
            Some(self.turn(A::TYPE, id).await)
        };
        let mut attempt = 1;
        loop {
            let store = CommandStore::new(&self.0, &context);
            match store.carry_out::<A>(id, command.clone()).await {
                Err(AggregateError::AggregateConflict) if attempt < ATTEMPTS => {
                    back_off(attempt).await;
                    attempt += 1;
                }
                Err(error) => return Err(run_error(error)),
                Ok(done) => return Ok(self.told(done)),
            }
        }
    }

    /// Waits until it is the turn of a command of this node on a stream, and holds it until the guard is dropped. For
    /// whoever reads what a command is decided from before [`Self::run_at`]; [`Self::run`] waits by itself.
    pub async fn turn(&self, stream_type: &str, id: &str) -> MutexGuard<'_, ()> {
        self.0.turns.of(stream_type, id).await
    }

    /// Carries out a command on a stream whose state the caller has read together with its version, instead of from its
    /// events; `with` adds what goes with those that follow. Once: whoever was too late reads again.
    ///
    /// # Errors
    /// The aggregate's refusal, or why it could not be written: `Conflict` if the stream is longer by now.
    pub async fn run_at<A>(
        &self,
        id: &str,
        (state, version): (A, i64),
        command: A::Command,
        with: impl FnOnce(&[A::Event]) -> Result<Context, StoreError>,
    ) -> Result<Done<A>, RunError<A::Error>>
    where
        A: Aggregate<Services = ()> + Clone + 'static,
        A::Command: Clone + Send,
        A::Event: StoredEvent + Into<AnyEvent>,
        A::Error: Send + Sync + 'static,
    {
        let folded = Folded::known(id, state, version);
        let (folded, events) = decide(folded, command).await.map_err(RunError::Refused)?;
        let context = with(&events)?;
        let done = CommandStore::new(&self.0, &context)
            .forgetting()
            .finish(folded, events)
            .await;
        Ok(self.told(done.map_err(run_error)?))
    }

    /// Leaves the position where the answer to the request finds it.
    fn told<A>(&self, done: Done<A>) -> Done<A> {
        // Outside of a request nobody waits for it.
        let _ = WRITTEN.try_with(|written| written.set(done.position.or(written.get())));
        done
    }

    /// The aggregate as it stands.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn load<A>(&self, id: &str) -> Result<A, StoreError>
    where
        A: Aggregate + Clone + 'static,
        A::Event: StoredEvent + Into<AnyEvent>,
        A::Error: Send + Sync + 'static,
    {
        let context = Context::of(Actor::System);
        let folded: Folded<A> = CommandStore::new(&self.0, &context).load(id).await?;
        Ok(folded.aggregate)
    }
}

/// Waits before the next attempt on a stream that another node writes to as well. The pause grows, and two nodes rarely
/// choose the same one (full jitter).
pub(crate) async fn back_off(attempt: u32) {
    metrics::counter!("store_conflicts_total").increment(1);
    let limit = 2_u64.pow(attempt) * 2;
    let pause = u64::from(Uuid::as_bytes(&crate::ids::event())[15]) * limit / 255;
    tokio::time::sleep(std::time::Duration::from_millis(pause)).await;
}

fn run_error<E: std::error::Error>(error: AggregateError<E>) -> RunError<E> {
    match error {
        AggregateError::AggregateConflict => StoreError::Conflict.into(),
        AggregateError::UserError(refusal) => RunError::Refused(refusal),
        AggregateError::DatabaseConnectionError(error)
        | AggregateError::DeserializationError(error)
        | AggregateError::UnexpectedError(error) => {
            let error = error.downcast::<StoreError>().map_or_else(
                |other| StoreError::Broken(other.to_string()),
                |error| *error,
            );
            error.into()
        }
    }
}
