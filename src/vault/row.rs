//! The row of a vault: how it is read, and what becomes of it. The append writes it.

use std::sync::Arc;

use aggregates::vault::{Fault, Kept, Vault};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use sqlx::{PgExecutor, Row as _};

use crate::crypto::hex;
use crate::crypto::key_ring::{KeyRing, UnwrapError};
use crate::crypto::vault_key::{FORMAT_UNBOUND, KeyCheck, KeyWrap, MasterKey};
use crate::store::StoreError;

/// A vault as it stands.
#[derive(Clone)]
pub struct Stored {
    /// Whose.
    pub owner: String,
    /// Of its stream: the row is what the events up to here have made of it.
    pub version: i64,
    /// Which transaction wrote the row: PostgreSQL's `xmin`.
    pub written_by: Option<i64>,
    /// The log knows of something later than the row, which must have come back from a backup.
    pub older_than_log: bool,
    /// None, if there is no vault.
    pub row: Option<Arc<VaultRow>>,
    /// There is a row that cannot be read: it holds a time that is none, say.
    pub unreadable: bool,
}

impl Stored {
    /// The mode that it is in.
    ///
    /// # Errors
    /// If the row makes no sense, or is older than the log: it may hold a key that its owner has destroyed since.
    pub fn mode(&self) -> Result<Vault, Fault> {
        if self.unreadable {
            return Err(Fault::RowUnreadable);
        }
        let Some(row) = &self.row else {
            return Ok(Vault::Absent);
        };
        if self.older_than_log {
            return Err(Fault::RowOutdated);
        }
        row.mode().ok_or(Fault::RowUnreadable)
    }
}

/// Reads vaults; owners without one are there as well, and those whose row cannot be read.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: impl PgExecutor<'_>, owners: &[String]) -> Result<Vec<Stored>, StoreError> {
    let rows = sqlx::query(
        r#"select owner, version, written_by, older_than_log, "row" from vaults_of($1)"#,
    )
    .bind(owners)
    .fetch_all(db)
    .await?;
    rows.iter()
        .map(|stored| {
            let owner: String = stored.try_get("owner")?;
            let row: Result<Option<Json<VaultRow>>, _> = stored.try_get("row");
            // One row that makes no sense is no other owner's concern.
            let (row, unreadable) = match row {
                Ok(row) => (row.map(|Json(row)| Arc::new(row)), false),
                Err(sqlx::Error::ColumnDecode { .. }) => (None, true),
                Err(error) => return Err(error.into()),
            };
            Ok(Stored {
                row,
                unreadable,
                version: stored.try_get("version")?,
                written_by: stored.try_get("written_by")?,
                older_than_log: stored.try_get("older_than_log")?,
                owner,
            })
        })
        .collect()
}

/// The row, in the columns of the table. It holds the key only as others have wrapped it.
#[derive(Clone, Serialize, Deserialize)]
pub struct VaultRow {
    user_id: String,
    wrapped_mk: Option<String>,
    wrap_iv: Option<String>,
    /// Of the key, for clients.
    pub format_version: i16,
    /// Which key-encryption key wrapped it.
    pub kek_id: String,
    recovery_wrapped_mk: Option<String>,
    recovery_iv: Option<String>,
    recovery_format_version: i16,
    /// When the recovery wrap was set.
    pub recovery_set_at: Option<DateTime<Utc>>,
    zero_knowledge: bool,
    created_at: DateTime<Utc>,
    rotated_at: Option<DateTime<Utc>>,
    wrap_format: i16,
    wrap_version: i64,
    key_check: Option<Bytes>,
    recovery_key_check: Option<Bytes>,
}

/// Bytes as PostgreSQL writes them in JSON: `\x` and hexadecimal digits.
type Bytes = String;

/// A key as a person's recovery code wraps it: opaque to us.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryWrap {
    /// As the client made it.
    pub wrapped_mk: String,
    /// As the client made it.
    pub iv: String,
    /// In which way.
    pub format_version: i16,
}

/// A recovery wrap of before, as it is kept in custody.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeptWrap {
    /// The wrap.
    pub wrap: RecoveryWrap,
    /// What the key in it is known by; unknown for keys of the original service.
    pub key_check: Option<Bytes>,
    /// When it was set.
    pub set_at: Option<DateTime<Utc>>,
    /// Until when it was the vault's.
    pub replaced_at: DateTime<Utc>,
}

impl VaultRow {
    /// The first row of a vault, without any key yet.
    pub fn new(owner: &str, at: DateTime<Utc>) -> Self {
        Self {
            user_id: owner.to_owned(),
            wrapped_mk: None,
            wrap_iv: None,
            format_version: 1,
            kek_id: String::new(),
            recovery_wrapped_mk: None,
            recovery_iv: None,
            recovery_format_version: 1,
            recovery_set_at: None,
            zero_knowledge: false,
            created_at: at,
            rotated_at: None,
            wrap_format: FORMAT_UNBOUND,
            wrap_version: 0,
            key_check: None,
            recovery_key_check: None,
        }
    }

    /// As the database takes it.
    ///
    /// # Errors
    /// Never: it is plain JSON.
    pub fn to_json(&self) -> Result<serde_json::Value, StoreError> {
        serde_json::to_value(self).map_err(|error| StoreError::Broken(error.to_string()))
    }

    /// The wrap of the key, as nobody else's is; none in zero-knowledge mode.
    pub(super) fn wrap_as_it_is(&self) -> Option<&str> {
        self.wrapped_mk.as_deref()
    }

    /// Whether the active key of a ring wraps the key, bound to its place, or there is none to wrap.
    pub(super) fn is_wrapped_by(&self, ring: &KeyRing) -> bool {
        let is_bound = self.wrap_format != FORMAT_UNBOUND;
        self.wrapped_by()
            .is_none_or(|by| by == ring.active_id() && is_bound)
    }

    /// Which key-encryption key wraps the key; none in zero-knowledge mode.
    pub fn wrapped_by(&self) -> Option<&str> {
        self.wrapped_mk.is_some().then_some(self.kek_id.as_str())
    }

    /// Whether the key is there, in the same wrap as in another row.
    pub fn keeps_wrap_of(&self, other: &Self) -> bool {
        self.wrapped_mk.is_some() && self.wrapped_mk == other.wrapped_mk
    }

    fn mode(&self) -> Option<Vault> {
        let keys = (&self.wrapped_mk, &self.recovery_wrapped_mk);
        match (keys, self.zero_knowledge) {
            ((Some(_), None), false) => Some(Vault::Standard),
            ((Some(_), Some(_)), false) => Some(Vault::StandardWithRecovery),
            ((None, Some(_)), true) => Some(Vault::ZeroKnowledge),
            _ => None,
        }
    }

    /// Opens the key; none in zero-knowledge mode.
    ///
    /// # Errors
    /// If the wrap was altered or belongs elsewhere, or its key-encryption key is not configured.
    pub fn open(&self, ring: &KeyRing) -> Option<Result<MasterKey, UnwrapError>> {
        let wrap = KeyWrap {
            kek_id: self.kek_id.clone(),
            format: self.wrap_format,
            version: self.wrap_version,
            iv: self.wrap_iv.clone()?,
            ciphertext: self.wrapped_mk.clone()?,
        };
        Some(ring.unwrap_master_key(&self.user_id, &wrap))
    }

    /// Whether a key is the vault's; unknown for keys of the original service.
    pub fn is_its_key(&self, key: &MasterKey) -> Option<bool> {
        self.is_known_by(&key.check_value())
    }

    /// Whether the vault's key is known by this value; unknown for keys of the original service.
    pub fn is_known_by(&self, shown: &KeyCheck) -> Option<bool> {
        let kept = hex::decode_all(self.key_check.as_deref()?.strip_prefix("\\x")?)?;
        Some(shown.is(&kept))
    }

    /// Whether it is known of the vault's key what it is known by.
    pub fn has_key_check(&self) -> bool {
        self.key_check.is_some()
    }

    /// Makes a key the vault's.
    pub fn put_key(&mut self, ring: &KeyRing, key: &MasterKey) {
        self.wrap(ring, key);
        self.key_check = Some(check_of(key));
    }

    fn wrap(&mut self, ring: &KeyRing, key: &MasterKey) {
        let wrap = ring.wrap_master_key(&self.user_id, self.wrap_version + 1, key);
        self.kek_id = wrap.kek_id;
        self.wrap_format = wrap.format;
        self.wrap_version = wrap.version;
        self.wrap_iv = Some(wrap.iv);
        self.wrapped_mk = Some(wrap.ciphertext);
        self.zero_knowledge = false;
    }

    /// Notes the time of a rotation.
    pub fn rotated(&mut self, at: DateTime<Utc>) {
        self.rotated_at = Some(at);
    }

    /// Binds a key that the original service wrapped. One that does not open stays as it is: whoever asks for it is
    /// told.
    pub fn bind(&mut self, ring: &KeyRing) {
        if self.wrap_format == FORMAT_UNBOUND
            && let Err(error) = self.rewrap(ring)
        {
            tracing::warn!(user_id = self.user_id, %error, "a vault's key stays as it is wrapped");
        }
    }

    /// Wraps the key anew under the active key, and notes what it is known by if that was not done yet. In
    /// zero-knowledge mode there is nothing to wrap.
    ///
    /// # Errors
    /// If the key does not open: then the row stays as it is.
    pub(super) fn rewrap(&mut self, ring: &KeyRing) -> Result<(), UnwrapError> {
        let Some(key) = self.open(ring).transpose()? else {
            return Ok(());
        };
        self.wrap(ring, &key);
        if self.key_check.is_none() {
            self.key_check = Some(check_of(&key));
            self.recovery_key_check = self.recovery().and(self.key_check.clone());
        }
        Ok(())
    }

    /// Takes away what the service can open.
    pub fn forget_key(&mut self) {
        self.wrapped_mk = None;
        self.wrap_iv = None;
        self.zero_knowledge = true;
    }

    /// The recovery wrap, if there is one.
    pub fn recovery(&self) -> Option<RecoveryWrap> {
        Some(RecoveryWrap {
            wrapped_mk: self.recovery_wrapped_mk.clone()?,
            iv: self.recovery_iv.clone()?,
            format_version: self.recovery_format_version,
        })
    }

    /// Sets the recovery wrap of the vault's key.
    pub fn set_recovery(&mut self, wrap: RecoveryWrap, at: DateTime<Utc>) {
        self.recovery_wrapped_mk = Some(wrap.wrapped_mk);
        self.recovery_iv = Some(wrap.iv);
        self.recovery_format_version = wrap.format_version;
        self.recovery_set_at = Some(at);
        self.recovery_key_check = self.key_check.clone();
    }

    /// Takes the recovery wrap out, to be kept for a while.
    pub fn take_recovery(&mut self, at: DateTime<Utc>) -> Option<KeptWrap> {
        let kept = KeptWrap {
            wrap: self.recovery()?,
            key_check: self.recovery_key_check.take(),
            set_at: self.recovery_set_at.take(),
            replaced_at: at,
        };
        self.recovery_wrapped_mk = None;
        self.recovery_iv = None;
        Some(kept)
    }

    /// Whose key a recovery wrap of before holds.
    pub fn holder_of(&self, kept: &KeptWrap) -> Kept {
        if kept.key_check == self.key_check {
            Kept::ThisKey
        } else {
            Kept::AnotherKey
        }
    }
}

fn check_of(key: &MasterKey) -> Bytes {
    format!("\\x{}", hex::encode(key.check_value().bytes()))
}
