//! The table of secrets: passwords' hashes, people's data keys, signing keys and the service's own secrets.
//! Secrets of commands are written by the append; this file wraps, reads and opens them.

mod rewrap;

use std::collections::HashMap;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use futures_util::TryStreamExt as _;
use moka::sync::Cache;
use serde_json::{Value, json};
use sqlx::postgres::PgRow;
use sqlx::{PgExecutor, PgPool, Row as _};
use zeroize::Zeroizing;

use crate::crypto::aead::Key32;
use crate::crypto::hex::encode as hex;
use crate::crypto::key_ring::{KekUsedUp, KeyRing, Place, UnwrapError, Wrapped};

/// Kinds of secrets.
pub mod kind {
    /// A person's (or other subject's) data key, 32 bytes; its destruction is erasure.
    pub const DATA_KEY: &str = "data_key";
    /// A password hash, PHC text.
    pub const PASSWORD: &str = "password";
    /// What a person's authenticator app and the service share.
    pub const TOTP: &str = "totp";
    /// Keyed hashes of a person's backup codes, a JSON array of hex texts.
    pub const BACKUP_CODES: &str = "backup_codes";
    /// What another provider has given us for a person, as JSON; the id is that of the link.
    pub const PROVIDER_TOKENS: &str = "provider_tokens";
    /// A recovery wrap that was a vault's before, as JSON; the id says in which order they went.
    pub const RECOVERY_WRAP: &str = "recovery_wrap";
    /// The private half of a signing key, 32 bytes; the id is the `kid`.
    pub const SIGNING_KEY: &str = "signing_key";
    /// A random secret of the service; the id says which.
    pub const SERVICE: &str = "service";
}

/// Id of a secret of which its owner has only one.
pub const ONLY: &str = "1";

/// Owner of the service's own secrets.
pub const SERVICE_OWNER: &str = "service";

/// A change to custody that travels with a command.
#[derive(Clone)]
pub enum CustodyChange {
    /// Put or replace a secret.
    Put {
        /// What it is.
        kind: &'static str,
        /// Whose.
        owner: String,
        /// Which.
        id: String,
        /// Wrapped for this place.
        wrapped: Wrapped,
    },
    /// Destroy a secret.
    Delete {
        /// What it is.
        kind: &'static str,
        /// Whose.
        owner: String,
        /// Which.
        id: String,
    },
}

impl CustodyChange {
    /// The change as `append` wants it: section and entry.
    pub(crate) fn entry(&self) -> (&'static str, Value) {
        match self {
            Self::Put {
                kind,
                owner,
                id,
                wrapped,
            } => (
                "custody_put",
                json!({
                    "kind": kind, "owner": owner, "id": id, "kek_id": wrapped.kek_id, "format": wrapped.format,
                    "nonce": hex(&wrapped.nonce), "ciphertext": hex(&wrapped.ciphertext),
                }),
            ),
            Self::Delete { kind, owner, id } => (
                "custody_delete",
                json!({"kind": kind, "owner": owner, "id": id}),
            ),
        }
    }
}

/// Which version of a secret somebody saw.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is.
    pub kind: &'static str,
    /// Whose.
    pub owner: String,
    /// Raised by each replacement.
    pub version: i64,
}

impl Seen {
    pub(crate) fn entry(&self) -> Value {
        json!({"kind": self.kind, "owner": self.owner, "id": ONLY, "version": self.version})
    }
}

/// A secret as read.
pub struct Secret {
    /// Raised by each replacement.
    pub version: i64,
    /// Open.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Why a secret cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CustodyError {
    /// The database does not answer.
    #[error("reading custody")]
    Database(#[from] sqlx::Error),
    /// A secret is gone that other rows depend on.
    #[error(
        "{0} is not in custody, although it was used: restore custody, or what depends on it is lost"
    )]
    Lost(&'static str),
    /// The row does not open.
    #[error("custody row {kind}/{owner}/{id} does not open")]
    Unwrap {
        /// What it is.
        kind: String,
        /// Whose.
        owner: String,
        /// Which.
        id: String,
        /// Why not.
        source: UnwrapError,
    },
    /// The log knows of something later than the row, which must have come back from a backup.
    #[error(
        "custody row {kind}/{owner}/{id} is older than the log: it is not used until it is set anew"
    )]
    Older {
        /// What it is.
        kind: String,
        /// Whose.
        owner: String,
        /// Which.
        id: String,
    },
    /// Nothing more may be wrapped.
    #[error(transparent)]
    KekUsedUp(#[from] KekUsedUp),
}

/// Data keys kept open per node: enough for the people who are active at one time.
const OPEN_DATA_KEYS: u64 = 50_000;
/// Keys that one thread opens in one go when all of them are read.
const OPENED_TOGETHER: usize = 2_000;
/// An open data key is dropped after this long without use.
const DATA_KEY_IDLE: Duration = Duration::from_secs(15 * 60);

/// The condition of a statement that writes something about a subject beside the log: they were not erased. An
/// erasure that comes meanwhile waits for the statement, and deletes what it has written.
pub(crate) fn still_there(subject: &str) -> String {
    format!(
        "exists (select from custody where kind = 'data_key' and owner = {subject} for key share)"
    )
}

/// Access to the secrets.
#[derive(Clone)]
pub struct Custody {
    pool: PgPool,
    ring: Arc<RwLock<Arc<KeyRing>>>,
    data_keys: Cache<String, Arc<Key32>>,
}

impl Custody {
    /// Custody in this database, under these keys.
    pub fn new(pool: PgPool, ring: KeyRing) -> Self {
        let data_keys = Cache::builder()
            .max_capacity(OPEN_DATA_KEYS)
            .time_to_idle(DATA_KEY_IDLE)
            .build();
        Self {
            pool,
            ring: Arc::new(RwLock::new(Arc::new(ring))),
            data_keys,
        }
    }

    /// The keys that wrap, as they are now.
    pub fn ring(&self) -> Arc<KeyRing> {
        self.ring
            .read()
            .expect("nothing panics while it is held")
            .clone()
    }

    /// Other keys, or another active one, from now on.
    pub fn set_ring(&self, ring: KeyRing) {
        *self.ring.write().expect("nothing panics while it is held") = Arc::new(ring);
    }

    /// Wraps a secret for a command to put.
    pub fn put(&self, kind: &'static str, owner: &str, id: &str, secret: &[u8]) -> CustodyChange {
        let wrapped = self.ring().wrap(Place { kind, owner, id }, secret);
        CustodyChange::Put {
            kind,
            owner: owner.to_owned(),
            id: id.to_owned(),
            wrapped,
        }
    }

    /// Destroys a secret with a command.
    pub fn delete(&self, kind: &'static str, owner: &str, id: &str) -> CustodyChange {
        CustodyChange::Delete {
            kind,
            owner: owner.to_owned(),
            id: id.to_owned(),
        }
    }

    /// Reads and opens a secret. One that is older than the log is as good as none.
    ///
    /// # Errors
    /// When the database does not answer or the row does not open. No row is no error.
    pub async fn read(
        &self,
        kind: &str,
        owner: &str,
        id: &str,
    ) -> Result<Option<Secret>, CustodyError> {
        let row = sqlx::query(
            "select version, kek_id, format, nonce, ciphertext, older_than_log from custody_read
             where kind = $1 and owner = $2 and id = $3",
        )
        .bind(kind)
        .bind(owner)
        .bind(id)
        .fetch_optional(&self.pool)
        .await?;
        let Some(row) = row else {
            return Ok(None);
        };
        self.secret(Place { kind, owner, id }, &row)
    }

    /// Reads and opens all of somebody's secrets of a kind, by id, but those that are older than the log.
    ///
    /// # Errors
    /// When the database does not answer or a row does not open.
    pub async fn all_of(
        &self,
        kind: &str,
        owner: &str,
    ) -> Result<Vec<(String, Result<Secret, CustodyError>)>, CustodyError> {
        let rows = sqlx::query(
            "select id, version, kek_id, format, nonce, ciphertext, older_than_log from custody_read
             where kind = $1 and owner = $2 order by id",
        )
        .bind(kind)
        .bind(owner)
        .fetch_all(&self.pool)
        .await?;
        let mut found = vec![];
        for row in &rows {
            let id: String = row.try_get("id")?;
            let place = Place {
                kind,
                owner,
                id: &id,
            };
            let secret = match self.secret(place, row) {
                Ok(secret) => secret.map(Ok),
                Err(error @ CustodyError::Unwrap { .. }) => Some(Err(error)),
                Err(error) => return Err(error),
            };
            found.extend(secret.map(|secret| (id, secret)));
        }
        Ok(found)
    }

    /// A secret in a row that was read together with others; none if its `version` is null, or if it is older than the
    /// log.
    ///
    /// # Errors
    /// When a column is missing or the row does not open.
    pub fn in_row(
        &self,
        kind: &str,
        owner: &str,
        row: &PgRow,
    ) -> Result<Option<Secret>, CustodyError> {
        let id = ONLY;
        self.secret(Place { kind, owner, id }, row)
    }

    fn secret(&self, place: Place<'_>, row: &PgRow) -> Result<Option<Secret>, CustodyError> {
        let Some(version) = row.try_get("version")? else {
            return Ok(None);
        };
        match self.open_current(place, row) {
            Ok(bytes) => Ok(Some(Secret { version, bytes })),
            Err(error @ CustodyError::Older { .. }) => {
                tracing::error!(%error, "a secret is locked");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Opens a row of `custody_read`, unless it is older than the log.
    fn open_current(
        &self,
        place: Place<'_>,
        row: &PgRow,
    ) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let bytes = self.open(place, row)?;
        if row.try_get("older_than_log")? {
            return Err(CustodyError::Older {
                kind: place.kind.to_owned(),
                owner: place.owner.to_owned(),
                id: place.id.to_owned(),
            });
        }
        Ok(bytes)
    }

    /// Replaces a secret if nobody else has since it was read: maintenance without an event, such as
    /// hashing a password anew with current parameters. Says whether it did.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn replace(
        &self,
        kind: &str,
        owner: &str,
        id: &str,
        seen: i64,
        secret: &[u8],
    ) -> Result<bool, CustodyError> {
        let ring = self.ring();
        ring.check_budget()?;
        let wrapped = ring.wrap(Place { kind, owner, id }, secret);
        let done = sqlx::query(
            "update custody set version = version + 1, kek_id = $5, format = $6, nonce = $7, ciphertext = $8
             where kind = $1 and owner = $2 and id = $3 and version = $4",
        )
        .bind(kind)
        .bind(owner)
        .bind(id)
        .bind(seen)
        .bind(wrapped.kek_id)
        .bind(wrapped.format)
        .bind(wrapped.nonce)
        .bind(wrapped.ciphertext)
        .execute(&self.pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// A new data key for a subject, to be put by the command that first seals something under it.
    pub fn new_data_key(&self, subject: &str) -> (Arc<Key32>, CustodyChange) {
        let key = Key32::generate();
        let change = self.put(kind::DATA_KEY, subject, ONLY, key.expose());
        (Arc::new(key), change)
    }

    /// Makes the data key of a subject that is no person, once for all nodes.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ensure_data_key(&self, subject: &str) -> Result<(), CustodyError> {
        if self.data_key(subject).await?.is_some() {
            return Ok(());
        }
        let place = Place {
            kind: kind::DATA_KEY,
            owner: subject,
            id: ONLY,
        };
        self.insert_missing(place, Key32::generate().expose()).await
    }

    /// Destroys the data key of a subject and every other secret of theirs.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn destroy_all(
        &self,
        db: impl PgExecutor<'_>,
        owner: &str,
    ) -> Result<u64, sqlx::Error> {
        let done = sqlx::query("delete from custody where owner = $1")
            .bind(owner)
            .execute(db)
            .await?;
        self.forget(owner);
        Ok(done.rows_affected())
    }

    /// Drops the open data key of a subject from this node's memory.
    pub fn forget(&self, subject: &str) {
        self.data_keys.invalidate(subject);
    }

    /// Those of the given owners that still have a secret.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn owners_among(&self, owners: &[String]) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar("select distinct owner from custody where owner = any($1)")
            .bind(owners)
            .fetch_all(&self.pool)
            .await
    }

    /// The data key of a subject, if it (still) has one.
    ///
    /// # Errors
    /// When the database does not answer or the row does not open.
    pub async fn data_key(&self, subject: &str) -> Result<Option<Arc<Key32>>, CustodyError> {
        if let Some(key) = self.data_keys.get(subject) {
            return Ok(Some(key));
        }
        let Some(secret) = self.read(kind::DATA_KEY, subject, ONLY).await? else {
            return Ok(None);
        };
        Ok(self.keep(subject, &secret.bytes))
    }

    /// The data keys of many subjects at once; those without one are left out.
    ///
    /// # Errors
    /// When the database does not answer or a row does not open.
    pub async fn data_keys(
        &self,
        subjects: &[impl AsRef<str>],
    ) -> Result<HashMap<String, Arc<Key32>>, CustodyError> {
        let mut found = HashMap::with_capacity(subjects.len());
        let mut missing = Vec::new();
        for subject in subjects.iter().map(AsRef::as_ref) {
            match self.data_keys.get(subject) {
                Some(key) => {
                    found.insert(subject.to_owned(), key);
                }
                None => missing.push(subject),
            }
        }
        if missing.is_empty() {
            return Ok(found);
        }
        let rows = sqlx::query(
            "select owner, kek_id, format, nonce, ciphertext from custody_read
             where kind = $1 and id = $2 and owner = any($3) and not older_than_log",
        )
        .bind(kind::DATA_KEY)
        .bind(ONLY)
        .bind(&missing)
        .fetch_all(&self.pool)
        .await?;
        for row in rows {
            let owner: String = row.try_get("owner")?;
            let bytes = self.open(
                Place {
                    kind: kind::DATA_KEY,
                    owner: &owner,
                    id: ONLY,
                },
                &row,
            )?;
            if let Some(key) = self.keep(&owner, &bytes) {
                found.insert(owner, key);
            }
        }
        Ok(found)
    }

    /// Every data key, as `db` sees them: for folds over the whole log.
    ///
    /// # Errors
    /// When the database does not answer or a row does not open.
    pub async fn all_data_keys(
        &self,
        db: impl PgExecutor<'_>,
    ) -> Result<HashMap<String, Arc<Key32>>, CustodyError> {
        let mut rows = sqlx::query(
            "select owner, kek_id, format, nonce, ciphertext from custody_read
             where kind = $1 and id = $2 and not older_than_log",
        )
        .bind(kind::DATA_KEY)
        .bind(ONLY)
        .fetch(db)
        .try_chunks(OPENED_TOGETHER);
        // Other threads open what came while this one reads on.
        let mut opening = vec![];
        while let Some(rows) = rows.try_next().await.map_err(|error| error.1)? {
            let custody = self.clone();
            opening.push(tokio::task::spawn_blocking(move || {
                custody.open_data_keys(&rows)
            }));
        }
        let mut found = HashMap::new();
        for keys in opening {
            found.extend(keys.await.expect("opening keys does not panic")?);
        }
        Ok(found)
    }

    fn open_data_keys(&self, rows: &[PgRow]) -> Result<Vec<(String, Arc<Key32>)>, CustodyError> {
        let mut keys = Vec::with_capacity(rows.len());
        for row in rows {
            let owner: String = row.try_get("owner")?;
            let place = Place {
                kind: kind::DATA_KEY,
                owner: &owner,
                id: ONLY,
            };
            let bytes = self.open(place, row)?;
            if let Ok(bytes) = bytes.as_slice().try_into() {
                keys.push((owner, Arc::new(Key32::from_bytes(bytes))));
            }
        }
        Ok(keys)
    }

    fn keep(&self, subject: &str, bytes: &[u8]) -> Option<Arc<Key32>> {
        let key = Arc::new(Key32::from_bytes(bytes.try_into().ok()?));
        self.data_keys.insert(subject.to_owned(), key.clone());
        Some(key)
    }

    /// A random secret of the service, made on first need and the same on every node from then on.
    ///
    /// # Errors
    /// When the database does not answer or the row does not open.
    pub async fn service_secret(&self, id: &str) -> Result<Key32, CustodyError> {
        if let Some(secret) = self.read(kind::SERVICE, SERVICE_OWNER, id).await?
            && let Ok(bytes) = secret.bytes.as_slice().try_into()
        {
            return Ok(Key32::from_bytes(bytes));
        }
        let place = Place {
            kind: kind::SERVICE,
            owner: SERVICE_OWNER,
            id,
        };
        self.insert_missing(place, Key32::generate().expose())
            .await?;
        // Another node may have been first: what stands in the table is the secret.
        Box::pin(self.service_secret(id)).await
    }

    /// Puts a secret where there is none, or one that is older than the log: a later event has destroyed that.
    async fn insert_missing(&self, place: Place<'_>, secret: &[u8]) -> Result<(), CustodyError> {
        let ring = self.ring();
        ring.check_budget()?;
        let wrapped = ring.wrap(place, secret);
        sqlx::query(
            "insert into custody as k (kind, owner, id, kek_id, format, nonce, ciphertext, event_position)
             values ($1, $2, $3, $4, $5, $6, $7, coalesce(
                 (select position from custody_positions where kind = $1 and owner = $2 and id = $3), 0))
             on conflict (kind, owner, id) do update set
                 version = k.version + 1, kek_id = excluded.kek_id, format = excluded.format, nonce = excluded.nonce,
                 ciphertext = excluded.ciphertext, event_position = excluded.event_position
             where k.event_position < excluded.event_position",
        )
        .bind(place.kind)
        .bind(place.owner)
        .bind(place.id)
        .bind(wrapped.kek_id)
        .bind(wrapped.format)
        .bind(wrapped.nonce)
        .bind(wrapped.ciphertext)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How many secrets there are.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn count(&self) -> Result<i64, CustodyError> {
        Ok(sqlx::query_scalar("select count(*) from custody")
            .fetch_one(&self.pool)
            .await?)
    }

    /// Tries to open every row, in batches; `each` hears of every row and whether it opened and is used.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn check_all(
        &self,
        mut each: impl FnMut(Result<(), CustodyError>),
    ) -> Result<(), CustodyError> {
        let mut after = (String::new(), String::new(), String::new());
        loop {
            let rows = sqlx::query(
                "select kind, owner, id, kek_id, format, nonce, ciphertext, older_than_log from custody_read
                 where (kind, owner, id) > ($1, $2, $3) order by kind, owner, id limit 1000",
            )
            .bind(&after.0)
            .bind(&after.1)
            .bind(&after.2)
            .fetch_all(&self.pool)
            .await?;
            let Some(last) = rows.last() else {
                return Ok(());
            };
            after = (
                last.try_get("kind")?,
                last.try_get("owner")?,
                last.try_get("id")?,
            );
            for row in &rows {
                let (kind, owner, id): (String, String, String) = (
                    row.try_get("kind")?,
                    row.try_get("owner")?,
                    row.try_get("id")?,
                );
                let place = Place {
                    kind: &kind,
                    owner: &owner,
                    id: &id,
                };
                each(self.open_current(place, row).map(drop));
            }
        }
    }

    fn open(&self, place: Place<'_>, row: &PgRow) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
        let wrapped = Wrapped {
            kek_id: row.try_get("kek_id")?,
            format: row.try_get("format")?,
            nonce: row.try_get("nonce")?,
            ciphertext: row.try_get("ciphertext")?,
        };
        self.ring()
            .unwrap(place, &wrapped)
            .map_err(|source| CustodyError::Unwrap {
                kind: place.kind.to_owned(),
                owner: place.owner.to_owned(),
                id: place.id.to_owned(),
                source,
            })
    }
}
