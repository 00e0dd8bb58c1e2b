//! Key-encryption keys by id: one is active, the older ones stay readable.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use super::aead::{self, Key32, OpenError};

/// The one way in which wraps are made today; part of what they are bound to.
const FORMAT: i16 = 1;

/// The keys that wrap what custody holds.
pub struct KeyRing {
    active: String,
    keys: BTreeMap<String, Key32>,
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
        let keys: BTreeMap<_, _> = keys.into_iter().collect();
        assert!(
            keys.contains_key(active),
            "the active key-encryption key must be on the ring"
        );
        Self {
            active: active.to_owned(),
            keys,
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

    /// The key that wraps, and its id.
    pub(super) fn active(&self) -> (&str, &Key32) {
        (&self.active, &self.keys[&self.active])
    }

    /// The key with an id.
    pub(super) fn key(&self, id: &str) -> Result<&Key32, UnwrapError> {
        let key = self.keys.get(id);
        key.ok_or_else(|| UnwrapError::UnknownKek(id.to_owned()))
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
}
