//! `Idempotency-Key`: a request that a client sends again is carried out once. The outcome is kept for
//! 24 hours, sealed under the person's key, and given again byte for byte; where the answer held a
//! secret only the fact is kept.

use serde_json::{Value, json};
use sqlx::{PgPool, Row as _};

use super::StoreError;
use super::sealed::{self, DataKeys};
use crate::crypto::aead;
use crate::crypto::hex::encode as hex;
use crate::crypto::password::{Overloaded, Passwords};
use crate::custody::Custody;

/// A key may be used again after this many hours.
pub const KEPT_HOURS: i32 = 24;

/// A request's key and body, as hashes, with the outcome that a repetition gets.
#[derive(Clone)]
pub struct Idempotent {
    request: Fingerprint,
    subject: String,
    outcome: Option<Outcome>,
}

/// Which request it is.
#[derive(Clone, Copy, PartialEq)]
pub struct Fingerprint {
    key_hash: [u8; 32],
    body_hash: [u8; 32],
}

/// An answer as it was given.
#[derive(Clone, PartialEq)]
pub struct Outcome {
    /// HTTP status.
    pub status: u16,
    /// JSON bytes.
    pub body: Vec<u8>,
}

/// What is known of a key.
pub enum Known {
    /// Nothing.
    New,
    /// The same request was carried out; its answer, unless it held a secret.
    Repeated(Option<Outcome>),
    /// The key was used for another request.
    Misused,
}

impl Fingerprint {
    /// Of a request to `route` with this key and body. `root` keeps the hashes from being guessed.
    pub fn of(root: &aead::Key32, route: &str, key: &str, body: &[u8]) -> Self {
        let body = hex(body);
        Self {
            key_hash: aead::hmac_sha256(root.expose(), &["idempotency key", route, key]),
            body_hash: aead::hmac_sha256(root.expose(), &["idempotency body", route, &body]),
        }
    }

    /// The same for a body that holds a password: whoever has the hash and `root` learns it no sooner than from the hash of
    /// the password.
    ///
    /// # Errors
    /// When the hasher has no room.
    pub async fn stretched(self, passwords: &Passwords) -> Result<Self, Overloaded> {
        let body_hash = passwords.stretch(self.body_hash, self.key_hash).await?;
        Ok(Self { body_hash, ..self })
    }

    /// Ties the request to a command about `subject`. Without `outcome` (it holds a secret) a
    /// repetition is answered afresh.
    pub fn with(self, subject: &str, outcome: Option<Outcome>) -> Idempotent {
        Idempotent {
            request: self,
            subject: subject.to_owned(),
            outcome,
        }
    }

    /// Looks a request up.
    ///
    /// # Errors
    /// When the database does not answer or the outcome does not open.
    pub async fn look_up(&self, pool: &PgPool, custody: &Custody) -> Result<Known, StoreError> {
        let row = sqlx::query(
            "select body_hash, subject, status, sealed from idempotency_keys
             where key_hash = $1 and created_at > clock_timestamp() - make_interval(hours => $2)",
        )
        .bind(self.key_hash.as_slice())
        .bind(KEPT_HOURS)
        .fetch_optional(pool)
        .await?;
        let Some(row) = row else {
            return Ok(Known::New);
        };
        if row.try_get::<Vec<u8>, _>("body_hash")? != self.body_hash {
            return Ok(Known::Misused);
        }
        let Some(sealed) = row.try_get::<Option<Vec<u8>>, _>("sealed")? else {
            return Ok(Known::Repeated(None));
        };
        let subject: String = row.try_get("subject")?;
        let key = custody
            .data_key(&subject)
            .await?
            .ok_or(StoreError::NoDataKey)?;
        let body = sealed::open_text(&key, &self.place(&subject), &sealed)
            .ok_or_else(|| StoreError::Broken("an idempotent outcome does not open".to_owned()))?;
        let status = u16::try_from(row.try_get::<i16, _>("status")?).unwrap_or(500);
        Ok(Known::Repeated(Some(Outcome {
            status,
            body: body.to_vec(),
        })))
    }

    fn place<'a>(&self, subject: &'a str) -> [&'a str; 2] {
        ["idempotency", subject]
    }
}

impl Idempotent {
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    /// Keeps the outcome of a request that no command stands for, because it was to change nothing. Says whether nobody
    /// else was faster.
    ///
    /// # Errors
    /// When the database does not answer or the subject has no key.
    pub async fn keep(&self, pool: &PgPool, custody: &Custody) -> Result<bool, StoreError> {
        let key = custody.data_key(&self.subject).await?;
        let key = key.ok_or(StoreError::NoDataKey)?;
        let done = sqlx::query(
            "insert into idempotency_keys (key_hash, body_hash, subject, status, sealed, position)
             values ($1, $2, $3, $4, $5, 0) on conflict do nothing",
        )
        .bind(self.request.key_hash.as_slice())
        .bind(self.request.body_hash.as_slice())
        .bind(&self.subject)
        .bind(i16::try_from(self.status()).unwrap_or(500))
        .bind(self.sealed(&key))
        .execute(pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    pub(super) fn entry(&self, keys: &DataKeys) -> Result<Value, StoreError> {
        let key = keys.get(&self.subject).ok_or(StoreError::NoDataKey)?;
        Ok(json!({
            "key_hash": hex(&self.request.key_hash),
            "body_hash": hex(&self.request.body_hash),
            "subject": self.subject,
            "status": self.status(),
            "sealed": self.sealed(key).map(|sealed| hex(&sealed)),
        }))
    }

    fn status(&self) -> u16 {
        self.outcome.as_ref().map_or(200, |outcome| outcome.status)
    }

    fn sealed(&self, key: &aead::Key32) -> Option<Vec<u8>> {
        let outcome = self.outcome.as_ref()?;
        let place = self.request.place(&self.subject);
        Some(sealed::seal_text(key, &place, &outcome.body))
    }
}

/// Forgets keys whose time is over. Returns how many.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_old(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("delete from idempotency_keys where created_at <= clock_timestamp() - make_interval(hours => $1)")
        .bind(KEPT_HOURS)
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}
