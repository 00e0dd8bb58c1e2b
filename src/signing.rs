//! The keys that sign access tokens: which one signs now, which are published, and how they turn over.
//!
//! A key is published at least as long as verifiers cache the key set before it signs (S-85), and
//! stays published for 30 days after another took over.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use aggregates::signing_keys::{
    NewKey, SIGNING_KEYS_ID, SigningKeys, SigningKeysCommand, SigningKeysError,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate as _;
use projections::signing_keys::SigningKeyRow;
use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::PgPool;

use crate::clock::Clock;
use crate::crypto::jwt::{self, JwtError, SigningKey32};
use crate::custody::{SERVICE_OWNER, kind};
use crate::ids;
use crate::store::{Actor, Context, RunError, Store, StoreError};

/// Access tokens are good for this long, in seconds.
pub const LIFETIME_SECS: i64 = 900;
/// Verifiers may keep the key set for 10 minutes (the default of `jose`); one more for slow clocks.
pub const PUBLISHED_BEFORE: TimeDelta = TimeDelta::minutes(11);
/// A key stays in the set this long after it stopped signing.
const PUBLISHED_AFTER: TimeDelta = TimeDelta::days(30);

/// What an access token says.
#[derive(Serialize)]
pub struct Claims<'a> {
    /// Issued at, seconds.
    pub iat: i64,
    /// The person.
    pub sub: &'a str,
    /// Their address.
    pub email: &'a str,
    /// Their role.
    pub role: &'a str,
    /// The session.
    pub sid: &'a str,
    /// Their tier, where configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tier: Option<&'a str>,
    /// Expires at, seconds.
    pub exp: i64,
    /// Issuer.
    pub iss: &'a str,
    /// Audience.
    pub aud: &'a str,
}

/// Where a key is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Published, does not sign yet.
    Next,
    /// Signs.
    Active,
    /// Signed once; its tokens may live.
    Retired,
    /// Not published any more.
    Gone,
    /// Withdrawn.
    Revoked,
}

/// The key set at one time.
struct KeySet {
    rows: Vec<SigningKeyRow>,
    private: HashMap<String, Arc<SigningKey32>>,
    public: HashMap<String, [u8; 32]>,
    /// Everything in the log up to here is included.
    seen: i64,
}

impl KeySet {
    fn stage(&self, row: &SigningKeyRow, now: DateTime<Utc>) -> Stage {
        if row.revoked_at.is_some() {
            return Stage::Revoked;
        }
        if row.active_from > now {
            return Stage::Next;
        }
        let successor = self
            .rows
            .iter()
            .filter(|r| r.revoked_at.is_none() && r.active_from <= now && follows(r, row));
        match successor.map(|r| r.active_from).min() {
            None => Stage::Active,
            Some(since) if now - since < PUBLISHED_AFTER => Stage::Retired,
            Some(_) => Stage::Gone,
        }
    }

    fn is_published(&self, row: &SigningKeyRow, now: DateTime<Utc>) -> bool {
        matches!(
            self.stage(row, now),
            Stage::Next | Stage::Active | Stage::Retired
        )
    }
}

fn follows(later: &SigningKeyRow, earlier: &SigningKeyRow) -> bool {
    (later.active_from, &later.id) > (earlier.active_from, &earlier.id)
}

/// Signs and verifies access tokens.
#[derive(Clone)]
pub struct Signing {
    pool: PgPool,
    store: Store,
    clock: Clock,
    keys: Arc<RwLock<Arc<KeySet>>>,
}

impl Signing {
    /// The keys of this database; makes the first one if there is none.
    ///
    /// # Errors
    /// When the keys cannot be read or made.
    pub async fn open(pool: PgPool, store: Store, clock: Clock) -> Result<Self, StoreError> {
        let empty = KeySet {
            rows: vec![],
            private: HashMap::new(),
            public: HashMap::new(),
            seen: -1,
        };
        let signing = Self {
            pool,
            store,
            clock,
            keys: Arc::new(RwLock::new(Arc::new(empty))),
        };
        let now = signing.clock.now();
        match signing
            .publish(now, SigningKeysCommand::PublishFirst, Actor::System)
            .await
        {
            Ok(_) => {}
            Err(RunError::Store(error)) => return Err(error),
            Err(RunError::Refused(refusal)) => return Err(StoreError::Broken(refusal.to_string())),
        }
        signing.reload().await?;
        Ok(signing)
    }

    /// Publishes the next key, which signs from then on without further ado. Says from when: `ahead` is
    /// [`PUBLISHED_BEFORE`], or nothing where the active one has to go.
    ///
    /// # Errors
    /// While a rotation is under way and this key would have to wait as well, or when the store fails.
    pub async fn rotate(
        &self,
        ahead: TimeDelta,
        actor: Actor,
    ) -> Result<(String, DateTime<Utc>), RunError<SigningKeysError>> {
        let active_from = self.clock.now() + ahead;
        let kid = self
            .publish(active_from, SigningKeysCommand::PublishNext, actor)
            .await?;
        Ok((kid, active_from))
    }

    /// Withdraws a key and all tokens that it signed.
    ///
    /// # Errors
    /// If the key is unknown or the only one, or when the store fails.
    pub async fn revoke(&self, kid: &str, actor: Actor) -> Result<(), RunError<SigningKeysError>> {
        let command = SigningKeysCommand::Revoke {
            kid: kid.to_owned(),
            at: self.clock.now(),
        };
        self.store
            .run::<SigningKeys>(SIGNING_KEYS_ID, command, Context::of(actor))
            .await
            .map(drop)
    }

    /// Every key with its stage, oldest first.
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub async fn list(&self) -> Result<Vec<(SigningKeyRow, Stage)>, StoreError> {
        let keys = self.current().await?;
        let now = self.clock.now();
        Ok(keys
            .rows
            .iter()
            .map(|row| (row.clone(), keys.stage(row, now)))
            .collect())
    }

    async fn publish(
        &self,
        active_from: DateTime<Utc>,
        command: impl FnOnce(NewKey) -> SigningKeysCommand,
        actor: Actor,
    ) -> Result<String, RunError<SigningKeysError>> {
        let key = SigningKey32::generate();
        let kid = ids::signing_key();
        let public_key = URL_SAFE_NO_PAD.encode(key.public_key());
        let secret =
            self.store
                .custody()
                .put(kind::SIGNING_KEY, SERVICE_OWNER, &kid, key.expose_seed());
        let new_key = NewKey {
            kid: kid.clone(),
            public_key,
            active_from,
            at: self.clock.now(),
        };
        self.store
            .run::<SigningKeys>(
                SIGNING_KEYS_ID,
                command(new_key),
                Context::of(actor).with_secret(secret),
            )
            .await?;
        Ok(kid)
    }

    /// Signs claims with the active key.
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub async fn sign(&self, claims: &Claims<'_>) -> Result<String, StoreError> {
        let signer = self.signer().await?;
        Ok(signer.sign(claims))
    }

    /// The active key, for signing without waiting.
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub async fn signer(&self) -> Result<Signer, StoreError> {
        let keys = self.current().await?;
        let now = self.clock.now();
        let active = keys
            .rows
            .iter()
            .find(|row| keys.stage(row, now) == Stage::Active);
        let missing = || StoreError::Broken("no signing key is active".to_owned());
        let row = active.ok_or_else(missing)?;
        let key = keys.private.get(&row.id).ok_or_else(missing)?.clone();
        Ok(Signer {
            kid: row.id.clone(),
            key,
        })
    }

    /// Verifies an access token of ours.
    ///
    /// # Errors
    /// The outer one when the keys cannot be read, the inner one when the token is not good.
    pub async fn verify(
        &self,
        token: &str,
        issuer: &str,
        audience: &str,
    ) -> Result<Result<Map<String, Value>, JwtError>, StoreError> {
        let keys = self.current().await?;
        let now = self.clock.now();
        let published = |kid: &str| {
            let row = keys.rows.iter().find(|row| row.id == kid)?;
            keys.is_published(row, now)
                .then(|| keys.public.get(kid).copied())
                .flatten()
        };
        Ok(jwt::verify_access(
            token,
            published,
            issuer,
            audience,
            now.timestamp(),
        ))
    }

    /// The published key set (RFC 7517).
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub async fn jwks(&self) -> Result<Value, StoreError> {
        let keys = self.current().await?;
        let now = self.clock.now();
        let published = keys.rows.iter().filter(|row| keys.is_published(row, now));
        let list: Vec<Value> = published
            .filter_map(|row| Some(jwt::jwk(&row.id, keys.public.get(&row.id)?)))
            .collect();
        Ok(json!({"keys": list}))
    }

    async fn current(&self) -> Result<Arc<KeySet>, StoreError> {
        let keys = self
            .keys
            .read()
            .expect("nothing panics while it is held")
            .clone();
        let freshness = self.store.freshness();
        if freshness.is_trusted()
            && freshness.unchanged_since(SigningKeys::TYPE, SIGNING_KEYS_ID, keys.seen)
        {
            return Ok(keys);
        }
        self.reload().await
    }

    async fn reload(&self) -> Result<Arc<KeySet>, StoreError> {
        let known = self
            .keys
            .read()
            .expect("nothing panics while it is held")
            .clone();
        let seen = self.store.freshness().applied();
        let rows = projections::signing_keys::all(&self.pool).await?;
        let mut private = HashMap::new();
        let mut public = HashMap::new();
        for row in &rows {
            let key = match known.private.get(&row.id) {
                Some(key) => key.clone(),
                None => {
                    let secret = self
                        .store
                        .custody()
                        .read(kind::SIGNING_KEY, SERVICE_OWNER, &row.id)
                        .await?;
                    let seed = secret.and_then(|s| {
                        <[u8; 32]>::try_from(s.bytes.as_slice())
                            .ok()
                            .map(zeroize::Zeroizing::new)
                    });
                    let Some(seed) = seed else {
                        return Err(StoreError::Broken(format!(
                            "signing key {} is not in custody",
                            row.id
                        )));
                    };
                    Arc::new(SigningKey32::from_seed(&seed))
                }
            };
            let bytes = URL_SAFE_NO_PAD
                .decode(&row.public_key)
                .ok()
                .and_then(|bytes| bytes.try_into().ok());
            let Some(bytes) = bytes else {
                return Err(StoreError::Broken(format!(
                    "signing key {} is not 32 bytes",
                    row.id
                )));
            };
            public.insert(row.id.clone(), bytes);
            private.insert(row.id.clone(), key);
        }
        let keys = Arc::new(KeySet {
            rows,
            private,
            public,
            seen,
        });
        *self.keys.write().expect("nothing panics while it is held") = keys.clone();
        Ok(keys)
    }
}

/// The active key at one moment.
pub struct Signer {
    kid: String,
    key: Arc<SigningKey32>,
}

impl Signer {
    /// Which key it is.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Claims<'_>) -> String {
        jwt::sign_access(claims, &self.kid, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn days(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn row(id: &str, active_from: i64, revoked: bool) -> SigningKeyRow {
        let revoked_at = revoked.then(|| days(active_from));
        SigningKeyRow {
            id: id.into(),
            public_key: String::new(),
            active_from: days(active_from),
            created_at: days(0),
            revoked_at,
        }
    }

    /// S-85: next, active, retired, gone, by the clock alone.
    #[test]
    fn a_key_goes_through_its_life_by_the_clock() {
        let rows = vec![row("a", 0, false), row("b", 10, false), row("c", 12, true)];
        let keys = KeySet {
            rows,
            private: HashMap::new(),
            public: HashMap::new(),
            seen: 0,
        };
        let stages = |day| {
            keys.rows
                .iter()
                .map(|row| keys.stage(row, days(day)))
                .collect::<Vec<_>>()
        };
        assert_eq!(stages(9), [Stage::Active, Stage::Next, Stage::Revoked]);
        assert_eq!(stages(10), [Stage::Retired, Stage::Active, Stage::Revoked]);
        assert_eq!(stages(39), [Stage::Retired, Stage::Active, Stage::Revoked]);
        assert_eq!(stages(40), [Stage::Gone, Stage::Active, Stage::Revoked]);
    }
}
