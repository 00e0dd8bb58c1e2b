//! Tokens that are mailed and good once: known by their hash, redeemed by the append that does what they allow.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::{PgPool, Row as _};
use zeroize::Zeroizing;

use crate::crypto::hex::encode as hex;
use crate::crypto::tokens::{TokenHash, TokenKind, random_token};
use crate::custody::{Custody, still_there};
use crate::store::StoreError;
use crate::store::sealed::{self, DataKeys};

/// What becomes of a token, together with a command.
#[derive(Clone)]
pub enum TokenChange {
    /// It is good from now on.
    Put(NewToken),
    /// It is used up; the command is refused if it is not there or out of date.
    Use {
        /// Which.
        hash: TokenHash,
        /// Whose.
        user_id: String,
        /// When.
        at: DateTime<Utc>,
    },
    /// All tokens of a kind that a person has are worth nothing any more.
    Withdraw {
        /// Whose.
        user_id: String,
        /// Of what kind.
        kind: TokenKind,
    },
}

/// A token as it will be kept.
#[derive(Clone)]
pub struct NewToken {
    hash: TokenHash,
    kind: TokenKind,
    user_id: String,
    about: Option<Zeroizing<String>>,
    expires_at: DateTime<Utc>,
}

/// Makes a token of `length` characters of `[A-Za-z0-9]` for a person: itself, for the mail, and what is kept of it.
/// `about` is sealed with it and given back by [`find`].
pub fn issue(
    kind: TokenKind,
    length: usize,
    user_id: &str,
    about: Option<&str>,
    expires_at: DateTime<Utc>,
) -> (String, NewToken) {
    let token = random_token(length);
    let new = NewToken::of(kind, &token, user_id, about, expires_at);
    (token, new)
}

impl TokenChange {
    /// Whose data key seals a part of it.
    pub(crate) fn subject(&self) -> Option<&str> {
        match self {
            Self::Put(NewToken {
                user_id,
                about: Some(_),
                ..
            }) => Some(user_id),
            Self::Put(_) | Self::Use { .. } | Self::Withdraw { .. } => None,
        }
    }

    /// The change as `append` wants it: section and entry.
    pub(crate) fn entry(&self, keys: &DataKeys) -> Result<(&'static str, Value), StoreError> {
        Ok(match self {
            Self::Put(new) => (
                "tokens_put",
                json!({
                    "hash": new.hash.to_hex(), "kind": new.kind.label(), "user_id": new.user_id,
                    "sealed": new.sealed(keys)?.map(|sealed| hex(&sealed)), "expires_at": new.expires_at,
                }),
            ),
            Self::Use { hash, user_id, at } => (
                "tokens_use",
                json!({"hash": hash.to_hex(), "user_id": user_id, "at": at}),
            ),
            Self::Withdraw { user_id, kind } => (
                "tokens_withdraw",
                json!({"user_id": user_id, "kind": kind.label()}),
            ),
        })
    }
}

impl NewToken {
    /// A token whose text the caller has made.
    pub fn of(
        kind: TokenKind,
        token: &str,
        user_id: &str,
        about: Option<&str>,
        expires_at: DateTime<Utc>,
    ) -> Self {
        Self {
            hash: TokenHash::of(kind, token),
            kind,
            user_id: user_id.to_owned(),
            about: about.map(|about| Zeroizing::new(about.to_owned())),
            expires_at,
        }
    }

    /// Puts the token in the place of another one of its kind and person, if that is still good; says whether it was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn replace(
        &self,
        pool: &PgPool,
        old: &str,
        now: DateTime<Utc>,
    ) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "update tokens set hash = $1, expires_at = $2
             where hash = $3 and kind = $4 and user_id = $5 and expires_at > $6 and sealed is null",
        )
        .bind(self.hash.as_bytes().as_slice())
        .bind(self.expires_at)
        .bind(TokenHash::of(self.kind, old).as_bytes().as_slice())
        .bind(self.kind.label())
        .bind(&self.user_id)
        .bind(now)
        .execute(pool)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    fn sealed(&self, keys: &DataKeys) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(about) = &self.about else {
            return Ok(None);
        };
        let key = keys.get(&self.user_id).ok_or(StoreError::NoDataKey)?;
        let hash = self.hash.to_hex();
        Ok(Some(sealed::seal_text(
            key,
            &place(&hash, &self.user_id),
            about.as_bytes(),
        )))
    }

    /// Keeps the token outside of any command: it may be asked for again and again, so no event stands for it.
    ///
    /// # Errors
    /// When the database does not answer or the person was erased.
    pub async fn keep(&self, pool: &PgPool, custody: &Custody) -> Result<(), StoreError> {
        let keys = custody
            .data_keys(std::slice::from_ref(&self.user_id))
            .await?;
        let done = sqlx::query(&format!(
            "insert into tokens (hash, kind, user_id, sealed, expires_at) select $1, $2, $3, $4, $5 where {}",
            still_there("$3")
        ))
        .bind(self.hash.as_bytes().as_slice())
        .bind(self.kind.label())
        .bind(&self.user_id)
        .bind(self.sealed(&keys)?)
        .bind(self.expires_at)
        .execute(pool)
        .await?;
        if done.rows_affected() == 0 {
            return Err(StoreError::NoDataKey);
        }
        Ok(())
    }
}

fn place<'a>(hash: &'a str, user_id: &'a str) -> [&'a str; 3] {
    ["tokens", hash, user_id]
}

/// A token that is good.
pub struct Found {
    hash: TokenHash,
    /// Whose it is.
    pub user_id: String,
    /// What it is about.
    pub about: Option<Zeroizing<String>>,
}

impl Found {
    /// Uses the token up, in the transaction of the command that it allows.
    pub fn used(&self, at: DateTime<Utc>) -> TokenChange {
        TokenChange::Use {
            hash: self.hash,
            user_id: self.user_id.clone(),
            at,
        }
    }
}

/// Looks a token up that was sent as one of `kind`: not used, not withdrawn and not out of date at `now`.
///
/// # Errors
/// When the database does not answer, or the token does not open.
pub async fn find(
    pool: &PgPool,
    custody: &Custody,
    kind: TokenKind,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Option<Found>, StoreError> {
    let hash = TokenHash::of(kind, token);
    let row = sqlx::query(
        "select user_id, sealed from tokens where hash = $1 and kind = $2 and expires_at > $3",
    )
    .bind(hash.as_bytes().as_slice())
    .bind(kind.label())
    .bind(now)
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let user_id: String = row.try_get("user_id")?;
    let about = open(custody, &hash, &user_id, row.try_get("sealed")?).await?;
    Ok(Some(Found {
        hash,
        user_id,
        about,
    }))
}

/// What a token is about, opened; none if it is about nothing, or its person was erased.
async fn open(
    custody: &Custody,
    hash: &TokenHash,
    user_id: &str,
    sealed: Option<Vec<u8>>,
) -> Result<Option<Zeroizing<String>>, StoreError> {
    let (Some(sealed), Some(key)) = (sealed, custody.data_key(user_id).await?) else {
        return Ok(None);
    };
    let open = sealed::open_text(&key, &place(&hash.to_hex(), user_id), &sealed)
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok())
        .ok_or_else(|| StoreError::Broken("a token does not open".to_owned()))?;
    Ok(Some(Zeroizing::new(open)))
}

/// Uses up a token that was sent as one of `kind`, in one write: of many who send it, one is told whose it is.
///
/// # Errors
/// When the database does not answer.
pub async fn take(
    pool: &PgPool,
    kind: TokenKind,
    token: &str,
    now: DateTime<Utc>,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "delete from tokens where hash = $1 and kind = $2 and expires_at > $3 returning user_id",
    )
    .bind(TokenHash::of(kind, token).as_bytes().as_slice())
    .bind(kind.label())
    .bind(now)
    .fetch_optional(pool)
    .await
}

/// Uses a token up by itself: whoever tried it in vain spends it, too. Says whether it was there.
///
/// # Errors
/// When the database does not answer.
pub async fn spend(pool: &PgPool, found: &Found) -> Result<bool, sqlx::Error> {
    let done = sqlx::query("delete from tokens where hash = $1")
        .bind(found.hash.as_bytes().as_slice())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Forgets all tokens of a kind that a person has.
///
/// # Errors
/// When the database does not answer.
pub async fn forget(pool: &PgPool, kind: TokenKind, user_id: &str) -> Result<u64, sqlx::Error> {
    let done = sqlx::query("delete from tokens where user_id = $1 and kind = $2")
        .bind(user_id)
        .bind(kind.label())
        .execute(pool)
        .await?;
    Ok(done.rows_affected())
}

/// Whether a person has a token of a kind that is good at `now`.
///
/// # Errors
/// When the database does not answer.
pub async fn exists(
    pool: &PgPool,
    kind: TokenKind,
    user_id: &str,
    now: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from tokens where user_id = $1 and kind = $2 and expires_at > $3)",
    )
    .bind(user_id)
    .bind(kind.label())
    .bind(now)
    .fetch_one(pool)
    .await
}

/// Uses a token up outside of any command, where it leads to nothing that is written. Says whether it was still there.
///
/// # Errors
/// When the database does not answer.
pub async fn use_up(pool: &PgPool, change: &TokenChange) -> Result<bool, sqlx::Error> {
    let TokenChange::Use { hash, .. } = change else {
        return Ok(true);
    };
    let done = sqlx::query("delete from tokens where hash = $1")
        .bind(hash.as_bytes().as_slice())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Tokens of a kind whose time is over, at most 1,000 of them.
///
/// # Errors
/// When the database does not answer, or a token does not open.
pub async fn overdue(
    pool: &PgPool,
    custody: &Custody,
    kind: TokenKind,
    now: DateTime<Utc>,
) -> Result<Vec<Found>, StoreError> {
    let rows = sqlx::query(
        "select hash, user_id, sealed from tokens where kind = $1 and expires_at <= $2 order by expires_at limit 1000",
    )
    .bind(kind.label())
    .bind(now)
    .fetch_all(pool)
    .await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let hash: Vec<u8> = row.try_get("hash")?;
        let hash = TokenHash::from_slice(&hash)
            .ok_or_else(|| StoreError::Broken("a token's hash has another length".to_owned()))?;
        let user_id: String = row.try_get("user_id")?;
        let about = open(custody, &hash, &user_id, row.try_get("sealed")?).await?;
        found.push(Found {
            hash,
            user_id,
            about,
        });
    }
    Ok(found)
}

/// Forgets tokens whose time is over, but those of a kind whose end has consequences of its own.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_overdue(
    pool: &PgPool,
    but: TokenKind,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from tokens where expires_at <= $1 and kind <> $2")
        .bind(now)
        .bind(but.label())
        .execute(pool)
        .await?;
    Ok(())
}
