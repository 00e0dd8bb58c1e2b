//! Live sessions by token: the hottest read. Remembered per node, invalidated by the log (I-9).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aggregates::session::Session;
use aggregates::user::User;
use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::Aggregate as _;
use metrics::counter;
use moka::sync::Cache;
use projections::sessions::{Key, SessionRow};
use projections::users::UserRow;
use sqlx::PgPool;

use crate::crypto::tokens::{TokenHash, TokenKind};
use crate::store::freshness::Freshness;
use crate::store::together::Together;
use crate::store::{Actor, StoreError};

/// Sessions remembered per node.
const REMEMBERED: u64 = 100_000;
/// Read again after this long whatever happens.
const REMEMBERED_FOR: Duration = Duration::from_secs(30);
/// An access token this young is given out again instead of signing another one.
const YOUNG: TimeDelta = TimeDelta::seconds(60);

/// A session and its person, as they stood at `seen`.
#[derive(Debug)]
pub struct Live {
    /// The session.
    pub session: SessionRow,
    /// Whose.
    pub user: UserRow,
    /// Everything in the log up to here is included.
    seen: i64,
    /// The last access token, the key that signed it, and when.
    jwt: Mutex<Option<(String, String, DateTime<Utc>)>>,
    /// What clients see of both, around the token: that is not kept.
    shown: OnceLock<(String, String)>,
}

impl Live {
    /// A session as read just now, at a time when everything up to `seen` was in the read models.
    pub fn new(session: SessionRow, user: UserRow, seen: i64) -> Self {
        Self {
            session,
            user,
            seen,
            jwt: Mutex::new(None),
            shown: OnceLock::new(),
        }
    }

    /// Who does what is done in this session: the person, or an admin in their place.
    pub fn actor(&self) -> Actor {
        let person = self.user.id.clone();
        match &self.session.impersonated_by {
            None => Actor::User(person),
            Some(admin) => Actor::Impersonation {
                admin: admin.clone(),
                person,
            },
        }
    }

    /// What clients see of session and person, before and after the token, made by `show` on first need.
    pub fn shown(&self, show: impl FnOnce() -> (String, String)) -> &(String, String) {
        self.shown.get_or_init(show)
    }

    /// An access token for this session, signed by the key `kid`: a young one again, else a new one from
    /// `sign`. What another key signed is not given out again: that key may have been withdrawn.
    ///
    /// # Errors
    /// Whatever `sign` fails with.
    pub fn jwt<E>(
        &self,
        kid: &str,
        now: DateTime<Utc>,
        sign: impl FnOnce() -> Result<String, E>,
    ) -> Result<String, E> {
        let mut kept = self.jwt.lock().expect("nothing panics while it is held");
        if let Some((jwt, signed_by, signed_at)) = &*kept
            && signed_by == kid
            && now - *signed_at < YOUNG
        {
            return Ok(jwt.clone());
        }
        let jwt = sign()?;
        *kept = Some((jwt.clone(), kid.to_owned(), now));
        Ok(jwt)
    }
}

fn memory<K: std::hash::Hash + Eq + Send + Sync + 'static>() -> Cache<K, Arc<Live>> {
    let builder = Cache::builder().max_capacity(REMEMBERED);
    builder.time_to_live(REMEMBERED_FOR).build()
}

/// Finds sessions by their token.
#[derive(Clone)]
pub struct Sessions {
    pool: PgPool,
    freshness: Arc<Freshness>,
    remembered: Cache<[u8; 32], Arc<Live>>,
    remembered_ids: Cache<String, Arc<Live>>,
    by_token: Arc<Together<String, Option<Arc<Live>>>>,
    by_id: Arc<Together<String, Option<Arc<Live>>>>,
}

impl Sessions {
    /// Sessions in this database.
    pub fn new(pool: PgPool, freshness: Arc<Freshness>) -> Self {
        Self {
            pool,
            freshness,
            remembered: memory(),
            remembered_ids: memory(),
            by_token: Arc::default(),
            by_id: Arc::default(),
        }
    }

    /// The live session of a token: not ended, not expired at `now`.
    ///
    /// # Errors
    /// When the database has to be asked and does not answer.
    pub async fn find(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Live>>, StoreError> {
        let hash = TokenHash::of(TokenKind::Session, token);
        let live = match self.remembered.get(hash.as_bytes()) {
            Some(live) if self.is_current(&live) => Some(live),
            _ => self.read(&hash).await?,
        };
        // Expiry is checked at use, never left to a cleaner (S-32).
        Ok(live.filter(|live| live.session.expires_at > now))
    }

    /// The same, always read afresh: for what an admin does, where a second is too long (I-9).
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_stored(
        &self,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Live>>, StoreError> {
        let live = self.read(&TokenHash::of(TokenKind::Session, token)).await?;
        Ok(live.filter(|live| live.session.expires_at > now))
    }

    /// The live session with an id, as this node remembers it if it can be trusted, like [`find`](Self::find).
    ///
    /// # Errors
    /// When the database has to be asked and does not answer.
    pub async fn find_by_id_lately(
        &self,
        id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Live>>, StoreError> {
        match self.remembered_ids.get(id) {
            Some(live) if self.is_current(&live) => {
                Ok(Some(live).filter(|live| live.session.expires_at > now))
            }
            _ => self.find_by_id(id, now).await,
        }
    }

    /// The live session with an id, always read afresh.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn find_by_id(
        &self,
        id: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Arc<Live>>, StoreError> {
        // One that cannot be would fail those who ask at the same time.
        if id.contains('\0') {
            return Ok(None);
        }
        let read = async |ids| self.read_all(Key::Id, ids).await;
        let live = self.by_id.get(id.to_owned(), read).await?;
        match &live {
            Some(live) => self.remembered_ids.insert(id.to_owned(), live.clone()),
            None => self.remembered_ids.invalidate(id),
        }
        Ok(live.filter(|live| live.session.expires_at > now))
    }

    fn is_current(&self, live: &Live) -> bool {
        let unchanged = |kind, id: &str| self.freshness.unchanged_since(kind, id, live.seen);
        // The session of an admin who acts as somebody is always read: it ends with what makes them an admin.
        live.session.impersonated_by.is_none()
            && self.freshness.is_trusted()
            && unchanged(Session::TYPE, &live.session.id)
            && unchanged(User::TYPE, &live.user.id)
    }

    async fn read(&self, hash: &TokenHash) -> Result<Option<Arc<Live>>, StoreError> {
        counter!("session_cache_misses_total").increment(1);
        let read = async |hashes| self.read_all(Key::TokenHash, hashes).await;
        let live = self.by_token.get(hash.to_hex(), read).await?;
        match &live {
            Some(live) => self.remembered.insert(*hash.as_bytes(), live.clone()),
            None => self.remembered.invalidate(hash.as_bytes()),
        }
        Ok(live)
    }

    async fn read_all(
        &self,
        key: Key,
        values: Vec<String>,
    ) -> Result<Vec<Option<Arc<Live>>>, StoreError> {
        // Taken before the query: what is written meanwhile outdates the answer.
        let seen = self.freshness.applied();
        let found = projections::sessions::with_users(&self.pool, key, &values).await?;
        let found: HashMap<String, Arc<Live>> = found
            .into_iter()
            .map(|(session, user)| {
                let value = key.of(&session).to_owned();
                (value, Arc::new(Live::new(session, user, seen)))
            })
            .collect();
        Ok(values
            .iter()
            .map(|value| found.get(value).cloned())
            .collect())
    }
}
