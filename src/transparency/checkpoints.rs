//! Signed checkpoints as they are stored, and the key that signs them.

use sqlx::{PgExecutor, PgPool};
use tlog_tiles::Checkpoint;
use uuid::Uuid;

use super::texts;
use crate::config::Config;
use crate::crypto::notes::Signer;
use crate::custody::{Custody, CustodyError};
use crate::store::{StoreError, log};

/// Id of the signing key in custody.
const KEY_ID: &str = "log-1";

/// A checkpoint as it was signed.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Stored {
    /// How many events it covers.
    pub size: i64,
    /// Life of the log in which it was signed.
    pub epoch: Uuid,
    /// Root of the tree.
    pub root: Vec<u8>,
    /// The signed text.
    pub note: String,
}

impl Stored {
    /// Whether the row is about this checkpoint.
    pub fn says(&self, checkpoint: &Checkpoint) -> bool {
        i64::try_from(checkpoint.size()) == Ok(self.size) && checkpoint.hash().0 == self.root[..]
    }
}

/// The log that a checkpoint names.
fn origin_of(note: &str) -> &str {
    note.lines().next().unwrap_or_default()
}

/// The newest checkpoint.
///
/// # Errors
/// When the database does not answer.
pub async fn last(db: impl PgExecutor<'_>) -> Result<Option<Stored>, sqlx::Error> {
    sqlx::query_as(
        "select size, epoch, root, note from followers.checkpoints order by size desc limit 1",
    )
    .fetch_optional(db)
    .await
}

/// Checkpoints of more than `size` events, the smallest first.
///
/// # Errors
/// When the database does not answer.
pub async fn after(
    db: impl PgExecutor<'_>,
    size: i64,
    limit: i64,
) -> Result<Vec<Stored>, sqlx::Error> {
    sqlx::query_as(
        "select size, epoch, root, note from followers.checkpoints where size > $1 order by size limit $2",
    )
    .bind(size)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Makes the key of the log, once for all nodes.
///
/// # Errors
/// When the database does not answer.
pub async fn ensure_key(custody: &Custody) -> Result<(), CustodyError> {
    custody.service_secret(KEY_ID).await.map(drop)
}

/// The log in its present life.
pub struct Current {
    /// Which life.
    pub epoch: Uuid,
    /// The newest checkpoint, of whichever life.
    pub last: Option<Stored>,
    /// Signs for the log.
    pub signer: Signer,
}

impl Current {
    /// Reads a checkpoint that this log has signed, in whichever life.
    pub fn open(&self, note: &str) -> Option<Checkpoint> {
        let key = self.signer.named(origin_of(note))?.verifier();
        let read = texts::read_checkpoint(&key.open(note)?)?;
        (read.origin() == key.name()).then_some(read)
    }

    /// The newest checkpoint of the present life as it was signed.
    pub fn newest(&self) -> Option<(&Stored, Checkpoint)> {
        let last = self.last.as_ref().filter(|last| last.epoch == self.epoch)?;
        let read = self.open(&last.note).filter(|read| last.says(read))?;
        Some((last, read))
    }
}

/// The log as it is now. Each life is a log of its own for those who check it, because positions were given out again: its
/// name holds the epoch, and is the name of its key as C2SP has it.
///
/// # Errors
/// When the database does not answer or the key does not open.
pub async fn current(
    pool: &PgPool,
    custody: &Custody,
    config: &Config,
) -> Result<Current, StoreError> {
    let key = custody.service_secret(KEY_ID).await?;
    let epoch = log::epoch(pool).await?.epoch;
    let last = last(pool).await?;
    // Once something was signed, the name stays, whatever address the service has by then.
    let origin = match &last {
        Some(last) if last.epoch == epoch => origin_of(&last.note).to_owned(),
        Some(_) | None => origin(&config.base_url, epoch),
    };
    let unfit = || StoreError::Broken(format!("the log cannot be named {origin}"));
    let signer = Signer::new(&origin, &key).ok_or_else(unfit)?;
    Ok(Current {
        epoch,
        last,
        signer,
    })
}

/// The name of a log: a URL without scheme (C2SP tlog-checkpoint), and the life that the log is in.
fn origin(base_url: &str, epoch: Uuid) -> String {
    let place = base_url
        .split_once("://")
        .map_or(base_url, |(_, place)| place);
    format!("{}/log/{epoch}", place.trim_end_matches('/'))
}
