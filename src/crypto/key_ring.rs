//! Key-encryption keys by id: one is active, the others stay readable. Which is which follows from the database
//! (`keks`); a ring never changes, another one takes its place.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use super::aead::{self, Key32, OpenError};

/// The one way in which wraps are made today; part of what they are bound to.
const FORMAT: i16 = 1;
/// What check values are derived with and are of; part of both is a version of the scheme.
const CHECK: &str = "mana-kek-check-v1";
/// How often a key may seal under random nonces (NIST SP 800-38D section 8.3, S-74).
pub const SEALS_MAX: u64 = 1 << 32;
/// Room for what other nodes seal before this one hears of it.
const SEALS_SPARE: u64 = 1 << 20;

/// The keys that wrap what custody holds.
pub struct KeyRing {
    active: String,
    keys: BTreeMap<String, Kek>,
}

/// A key-encryption key and how often it was used; all rings of a node share the count.
#[derive(Clone)]
pub struct Kek {
    key: Key32,
    seals: Arc<Seals>,
}

/// How often a key has sealed.
#[derive(Default)]
struct Seals {
    /// On any node, as the database says.
    noted: AtomicU64,
    /// On this node since then.
    fresh: AtomicU64,
}

/// The active key has sealed as often as is safe.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "key-encryption key {0:?} has sealed as often as is safe: another one has to become active"
)]
pub struct KekUsedUp(pub String);

impl Kek {
    /// A key that nobody has counted yet.
    pub fn new(key: Key32) -> Self {
        Self {
            key,
            seals: Arc::default(),
        }
    }

    /// What the key is known by: HMAC-SHA-256 of a fixed text under a key that HKDF-SHA-256 derives from it (RFC 5869,
    /// without salt). Nobody can compute the key from it.
    pub fn check_value(&self) -> [u8; 32] {
        let derived = Zeroizing::new(aead::hkdf_sha256(self.key.expose(), CHECK.as_bytes()));
        aead::hmac_sha256_of(derived.as_slice(), CHECK.as_bytes())
    }

    /// Takes the seals that nobody has noted yet.
    pub fn take_fresh(&self) -> u64 {
        self.seals.fresh.swap(0, Ordering::Relaxed)
    }

    /// Adds seals that have to be noted.
    pub fn add_fresh(&self, seals: u64) {
        self.seals.fresh.fetch_add(seals, Ordering::Relaxed);
    }

    /// How often it had sealed when the database was last asked; gives what was known before.
    pub fn note(&self, seals: u64) -> u64 {
        self.seals.noted.swap(seals, Ordering::Relaxed)
    }

    fn is_used_up(&self) -> bool {
        let Seals { noted, fresh } = &*self.seals;
        let seals = noted.load(Ordering::Relaxed) + fresh.load(Ordering::Relaxed);
        seals >= SEALS_MAX - SEALS_SPARE
    }
}

/// A secret wrapped for one place in custody: it opens nowhere else.
#[derive(Clone)]
pub struct Wrapped {
    /// Which key wrapped it.
    pub kek_id: String,
    /// How it was wrapped.
    pub format: i16,
    /// 12 bytes.
    pub nonce: Vec<u8>,
    /// With the tag.
    pub ciphertext: Vec<u8>,
}

/// Why a wrapped secret does not open.
#[derive(Debug, thiserror::Error)]
pub enum UnwrapError {
    /// The key-encryption key is not configured.
    #[error("key-encryption key {0:?} is not configured")]
    UnknownKek(String),
    /// Wrapped in a way that this version does not know.
    #[error("unknown wrap format {0}")]
    UnknownFormat(i16),
    /// Altered, or moved from another place.
    #[error("the wrapped secret does not belong here or was altered")]
    Altered(#[from] OpenError),
}

/// The place of a secret in custody, to which its wrap is bound.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What it is: `password`, `data_key`, …
    pub kind: &'a str,
    /// Whose it is.
    pub owner: &'a str,
    /// Which of the owner's.
    pub id: &'a str,
}

impl KeyRing {
    /// A ring of keys by id.
    ///
    /// # Panics
    /// If the active id is not among them.
    pub fn new(active: &str, keys: impl IntoIterator<Item = (String, Key32)>) -> Self {
        let keys = keys.into_iter().map(|(id, key)| (id, Kek::new(key)));
        Self::of(active, keys.collect())
    }

    /// A ring of keys that are counted.
    ///
    /// # Panics
    /// If the active id is not among them.
    pub fn of(active: &str, keys: BTreeMap<String, Kek>) -> Self {
        assert!(
            keys.contains_key(active),
            "the active key-encryption key must be on the ring"
        );
        Self {
            active: active.to_owned(),
            keys,
        }
    }

    /// Which key wraps.
    pub fn active_id(&self) -> &str {
        &self.active
    }

    /// The keys by id.
    pub fn keys(&self) -> &BTreeMap<String, Kek> {
        &self.keys
    }

    /// Whether what the active key wraps may be kept. A wrap that is dropped does no harm, so whoever stores one asks.
    ///
    /// # Errors
    /// If it has sealed too often (S-74).
    pub fn check_budget(&self) -> Result<(), KekUsedUp> {
        match self.keys[&self.active].is_used_up() {
            true => Err(KekUsedUp(self.active.clone())),
            false => Ok(()),
        }
    }

    /// Wraps a secret for its place under the active key.
    pub fn wrap(&self, place: Place<'_>, secret: &[u8]) -> Wrapped {
        let (kek_id, key) = self.active();
        let (nonce, ciphertext) = aead::seal(key, &aad(place, kek_id, FORMAT), secret);
        Wrapped {
            kek_id: kek_id.to_owned(),
            format: FORMAT,
            nonce: nonce.to_vec(),
            ciphertext,
        }
    }

    /// Opens a wrapped secret at its place.
    ///
    /// # Errors
    /// If the key is not configured, or the wrap was altered or belongs elsewhere.
    pub fn unwrap(
        &self,
        place: Place<'_>,
        wrapped: &Wrapped,
    ) -> Result<Zeroizing<Vec<u8>>, UnwrapError> {
        if wrapped.format != FORMAT {
            return Err(UnwrapError::UnknownFormat(wrapped.format));
        }
        let key = self.key(&wrapped.kek_id)?;
        let nonce = wrapped.nonce.as_slice().try_into().map_err(|_| OpenError)?;
        Ok(aead::open(
            key,
            nonce,
            &aad(place, &wrapped.kek_id, wrapped.format),
            &wrapped.ciphertext,
        )?)
    }

    /// The key that wraps, and its id, for one seal.
    pub(super) fn active(&self) -> (&str, &Key32) {
        let kek = &self.keys[&self.active];
        kek.add_fresh(1);
        (&self.active, &kek.key)
    }

    /// The key with an id.
    pub(super) fn key(&self, id: &str) -> Result<&Key32, UnwrapError> {
        let kek = self.keys.get(id);
        kek.map(|kek| &kek.key)
            .ok_or_else(|| UnwrapError::UnknownKek(id.to_owned()))
    }
}

fn aad(place: Place<'_>, kek_id: &str, format: i16) -> Vec<u8> {
    aead::aad(&[
        "custody",
        place.kind,
        place.owner,
        place.id,
        kek_id,
        &format.to_string(),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'_> = Place {
        kind: "password",
        owner: "u1",
        id: "1",
    };

    fn key(byte: u8) -> Key32 {
        Key32::from_bytes([byte; 32])
    }

    fn ring() -> KeyRing {
        KeyRing::new("b", [("a".to_owned(), key(1)), ("b".to_owned(), key(2))])
    }

    #[test]
    fn a_secret_opens_only_at_its_place() {
        let wrapped = ring().wrap(PLACE, b"secret");
        assert_eq!(
            ring().unwrap(PLACE, &wrapped).unwrap().as_slice(),
            b"secret"
        );
        for other in [
            Place {
                kind: "totp",
                ..PLACE
            },
            Place {
                owner: "u2",
                ..PLACE
            },
            Place { id: "2", ..PLACE },
        ] {
            assert!(
                matches!(ring().unwrap(other, &wrapped), Err(UnwrapError::Altered(_))),
                "{other:?}"
            );
        }
        let renamed = Wrapped {
            kek_id: "a".into(),
            ..wrapped.clone()
        };
        assert!(matches!(
            ring().unwrap(PLACE, &renamed),
            Err(UnwrapError::Altered(_))
        ));
        let reformatted = Wrapped {
            format: 2,
            ..wrapped
        };
        assert!(matches!(
            ring().unwrap(PLACE, &reformatted),
            Err(UnwrapError::UnknownFormat(2))
        ));
    }

    #[test]
    fn an_older_key_still_opens_and_an_unknown_one_is_named() {
        let old = KeyRing::new("a", [("a".to_owned(), key(1))]);
        let wrapped = old.wrap(PLACE, b"secret");
        assert_eq!(
            ring().unwrap(PLACE, &wrapped).unwrap().as_slice(),
            b"secret"
        );
        let newer = ring().wrap(PLACE, b"secret");
        assert!(matches!(old.unwrap(PLACE, &newer), Err(UnwrapError::UnknownKek(id)) if id == "b"));
    }

    /// The check value is of the key alone; another implementation has computed it.
    #[test]
    fn a_key_is_known_by_its_check_value() {
        let value = |byte| Kek::new(key(byte)).check_value();
        assert_eq!(
            crate::crypto::hex::encode(&value(1)),
            "3dd722acc18b01951fb9dcef28ec048f94dac271923dfc34e9d9280f653211f5"
        );
        assert_ne!(value(1), value(2));
    }

    /// S-74.
    #[test]
    fn a_key_that_has_sealed_too_often_is_refused_s74() {
        let ring = ring();
        let active = &ring.keys()["b"];
        ring.wrap(PLACE, b"secret");
        assert_eq!((active.take_fresh(), active.take_fresh()), (1, 0));
        active.note(SEALS_MAX - SEALS_SPARE - 1);
        assert!(ring.check_budget().is_ok());
        ring.wrap(PLACE, b"secret");
        let used_up = ring.check_budget().unwrap_err();
        assert_eq!(used_up.0, "b");
        ring.keys()["a"].note(SEALS_MAX);
        active.note(0);
        assert!(ring.check_budget().is_ok(), "only the active key counts");
    }
}
