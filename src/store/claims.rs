//! Who holds what only one may hold. The table knows keyed hashes, never the values.

use std::sync::Arc;

use aggregates::ClaimScope;
use sqlx::{PgExecutor, PgPool};

use crate::crypto::aead::{self, Key32};
use crate::custody::{Custody, CustodyError, SERVICE_OWNER, kind};

/// Id of the pepper in custody and in `claims.pepper_id`.
const PEPPER_ID: &str = "pepper-1";

/// Access to the claims.
#[derive(Clone)]
pub struct Claims {
    pool: PgPool,
    pepper: Arc<Key32>,
}

/// A claim as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct ClaimRow {
    /// Keyed hash of the value.
    pub key_hash: Vec<u8>,
    /// Who holds it.
    pub owner: String,
}

/// The claims of some owners.
///
/// # Errors
/// When the database does not answer.
pub async fn of_owners(
    db: impl PgExecutor<'_>,
    scope: ClaimScope,
    owners: &[&str],
) -> Result<Vec<ClaimRow>, sqlx::Error> {
    sqlx::query_as("select key_hash, owner from claims where scope = $1 and owner = any($2)")
        .bind(scope.as_str())
        .bind(owners)
        .fetch_all(db)
        .await
}

/// The next claims after a hash, in order of their hashes.
///
/// # Errors
/// When the database does not answer.
pub async fn after(
    db: impl PgExecutor<'_>,
    scope: ClaimScope,
    key_hash: &[u8],
    limit: i64,
) -> Result<Vec<ClaimRow>, sqlx::Error> {
    sqlx::query_as(
        "select key_hash, owner from claims where scope = $1 and key_hash > $2 order by key_hash limit $3",
    )
    .bind(scope.as_str())
    .bind(key_hash)
    .bind(limit)
    .fetch_all(db)
    .await
}

impl Claims {
    /// Claims in this database, with the pepper from custody.
    ///
    /// # Errors
    /// When the pepper cannot be read, or is gone while there are claims: with a new one, no address would
    /// be found and every address would be free.
    pub async fn open(pool: PgPool, custody: &Custody) -> Result<Self, CustodyError> {
        let known = custody
            .read(kind::SERVICE, SERVICE_OWNER, PEPPER_ID)
            .await?;
        let used: bool = sqlx::query_scalar("select exists (select from claims)")
            .fetch_one(&pool)
            .await?;
        if known.is_none() && used {
            return Err(CustodyError::Lost(PEPPER_ID));
        }
        let pepper = Arc::new(custody.service_secret(PEPPER_ID).await?);
        Ok(Self { pool, pepper })
    }

    /// Whose the value is.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn owner(
        &self,
        scope: ClaimScope,
        value: &str,
    ) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar("select owner from claims where scope = $1 and key_hash = $2")
            .bind(scope.as_str())
            .bind(self.hash(scope, value).as_slice())
            .fetch_optional(&self.pool)
            .await
    }

    /// Whether `key_hash`, as stored, is the hash of the value.
    pub fn matches(&self, scope: ClaimScope, value: &str, key_hash: &[u8]) -> bool {
        self.hash(scope, value) == key_hash
    }

    /// HMAC-SHA-256 of scope and value under the pepper.
    pub(crate) fn hash(&self, scope: ClaimScope, value: &str) -> [u8; 32] {
        aead::hmac_sha256(self.pepper.expose(), &[scope.as_str(), value])
    }

    pub(crate) fn pepper_id(&self) -> &'static str {
        PEPPER_ID
    }
}
