//! Master keys of vaults: how they look on the wire, how they are wrapped, and what they are known by.
//!
//! A key in the open is in a [`MasterKey`] and nowhere else of ours; it is wiped when dropped (S-79).

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::aead::{self, OpenError};
use super::key_ring::{KeyRing, UnwrapError};

/// Wraps of the original service: nothing is bound to them.
pub const FORMAT_UNBOUND: i16 = 0;
/// Wraps that are bound to owner, version and key-encryption key.
pub const FORMAT_BOUND: i16 = 1;
/// What check values are derived with and are of; part of both is a version of the scheme.
const CHECK: &str = "mana-key-check-v1";
/// As `atob` of browsers decodes, but for white space: padding may be missing (mana-v1.md section 5.1).
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The key that encrypts what a person keeps in the apps. Neither printed, copied nor serialised; and it stays where it
/// was made: whatever is moved leaves its bytes behind.
pub struct MasterKey(Box<Zeroizing<[u8; 32]>>);

impl MasterKey {
    /// Makes a random key.
    pub fn generate() -> Self {
        let mut key = Box::new(Zeroizing::new([0; 32]));
        getrandom::fill(key.as_mut_slice()).expect("the operating system always has random bytes");
        Self(key)
    }

    /// Reads a key as clients send it; none if it is not the base64 of 32 bytes. White space does not count.
    pub fn from_base64(text: &str) -> Option<Self> {
        let is_space = |byte: &u8| b"\t\n\x0c\r ".contains(byte);
        let mut packed = Zeroizing::new(Vec::with_capacity(text.len()));
        packed.extend(text.bytes().filter(|byte| !is_space(byte)));
        // The decoder estimates in whole groups of three.
        let mut decoded = Zeroizing::new([0; 36]);
        let length = LENIENT
            .decode_slice(packed.as_slice(), decoded.as_mut_slice())
            .ok()?;
        (length == 32)
            .then(|| Self::of_slice(&decoded[..32]))
            .flatten()
    }

    /// The key as clients read it: 44 characters.
    pub fn to_base64(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// What the key is known by: HMAC-SHA-256 of a fixed text under a key that HKDF-SHA-256 derives from it (RFC 5869,
    /// without salt). Clients can compute it, and nobody can compute the key from it (S-77).
    pub fn check_value(&self) -> KeyCheck {
        let derived = Zeroizing::new(aead::hkdf_sha256(self.0.as_slice(), CHECK.as_bytes()));
        KeyCheck(aead::hmac_sha256_of(derived.as_slice(), CHECK.as_bytes()))
    }

    fn of_slice(bytes: &[u8]) -> Option<Self> {
        let mut key = Box::new(Zeroizing::new([0; 32]));
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(bytes);
        Some(Self(key))
    }
}

/// What a master key is known by: 32 bytes, of which whoever has the key can make them, and nobody the key.
pub struct KeyCheck([u8; 32]);

impl KeyCheck {
    /// Reads one as clients send it; none if it is not the base64 of 32 bytes.
    pub fn from_base64(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The bytes, for storage.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is one that was kept.
    pub fn is(&self, kept: &[u8]) -> bool {
        self.0.as_slice().ct_eq(kept).into()
    }
}

/// A master key as it is kept.
#[derive(Clone, PartialEq)]
pub struct KeyWrap {
    /// Which key wrapped it.
    pub kek_id: String,
    /// How: see the formats above.
    pub format: i16,
    /// Which of its owner's wraps it is.
    pub version: i64,
    /// 12 bytes, base64.
    pub iv: String,
    /// With its tag 48 bytes, base64.
    pub ciphertext: String,
}

impl KeyRing {
    /// Wraps a person's master key under the active key, as their wrap number `version`.
    pub fn wrap_master_key(&self, owner: &str, version: i64, key: &MasterKey) -> KeyWrap {
        let (kek_id, kek) = self.active();
        let aad = aad(owner, version, kek_id);
        let (iv, ciphertext) = aead::seal(kek, &aad, key.0.as_slice());
        KeyWrap {
            kek_id: kek_id.to_owned(),
            format: FORMAT_BOUND,
            version,
            iv: STANDARD.encode(iv),
            ciphertext: STANDARD.encode(ciphertext),
        }
    }

    /// Opens a person's master key.
    ///
    /// # Errors
    /// If the key-encryption key is not configured, or the wrap was altered or is somebody else's.
    pub fn unwrap_master_key(&self, owner: &str, wrap: &KeyWrap) -> Result<MasterKey, UnwrapError> {
        let aad = match wrap.format {
            FORMAT_UNBOUND => vec![],
            FORMAT_BOUND => aad(owner, wrap.version, &wrap.kek_id),
            other => return Err(UnwrapError::UnknownFormat(other)),
        };
        let kek = self.key(&wrap.kek_id)?;
        let decode = |text: &str| STANDARD.decode(text).map_err(|_| OpenError);
        let iv = decode(&wrap.iv)?
            .as_slice()
            .try_into()
            .map_err(|_| OpenError)?;
        let key = aead::open(kek, &iv, &aad, &decode(&wrap.ciphertext)?)?;
        Ok(MasterKey::of_slice(&key).ok_or(OpenError)?)
    }
}

/// What a bound wrap belongs to. A person has one vault, under their own id.
fn aad(owner: &str, version: i64, kek_id: &str) -> Vec<u8> {
    let (version, format) = (version.to_string(), FORMAT_BOUND.to_string());
    aead::aad(&["vault", owner, &version, kek_id, &format])
}

#[cfg(test)]
mod tests {
    use super::super::aead::Key32;
    use super::*;

    const VECTOR_KEK: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

    /// Fails to compile if the type has the trait.
    macro_rules! assert_lacks {
        ($type:ty: $($bound:path),+) => {$({
            trait Ambiguous<A> {
                fn check() {}
            }
            struct Has;
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $bound> Ambiguous<Has> for T {}
            let _ = <$type as Ambiguous<_>>::check;
        })+};
    }

    /// S-79.
    #[test]
    fn a_master_key_can_be_neither_printed_nor_copied_nor_serialised_s79() {
        assert_lacks!(
            MasterKey: std::fmt::Debug, std::fmt::Display, Clone, serde::Serialize, PartialEq, AsRef<[u8]>
        );
    }

    fn kek(byte: u8) -> Key32 {
        Key32::from_bytes([byte; 32])
    }

    fn ring() -> KeyRing {
        KeyRing::new("b", [("a".to_owned(), kek(1)), ("b".to_owned(), kek(2))])
    }

    fn key() -> MasterKey {
        MasterKey(Box::new(Zeroizing::new([7; 32])))
    }

    fn opens(owner: &str, wrap: &KeyWrap) -> bool {
        let opened = ring().unwrap_master_key(owner, wrap);
        opened.is_ok_and(|opened| opened.0 == key().0)
    }

    #[test]
    fn a_key_is_44_characters_on_the_wire_and_comes_back() {
        let key = MasterKey::generate();
        let text = key.to_base64();
        assert_eq!(text.len(), 44);
        assert_eq!(MasterKey::from_base64(&text).unwrap().0, key.0);
        assert_ne!(MasterKey::generate().0, key.0);
    }

    /// mana-v1.md section 5.1: what `atob` takes.
    #[test]
    fn a_key_is_read_as_browsers_decode_base64() {
        for text in [
            VECTOR_KEK.to_owned(),
            VECTOR_KEK.trim_end_matches('=').to_owned(),
            format!(" {}\t\r\n\x0c{} ", &VECTOR_KEK[..9], &VECTOR_KEK[9..]),
        ] {
            let key = MasterKey::from_base64(&text).unwrap();
            assert_eq!(key.0.as_slice(), (1..=32).collect::<Vec<u8>>(), "{text:?}");
        }
        let long = "A".repeat(100_000);
        for text in [
            "",
            "AAAA",
            "not base64",
            &VECTOR_KEK.replace("yA=", "y-="),
            &VECTOR_KEK.replace("yA=", "y_="),
            &format!("{VECTOR_KEK}="),
            &format!("{}A", VECTOR_KEK.trim_end_matches('=')),
            &format!("{VECTOR_KEK}AAAA"),
            &VECTOR_KEK[..42],
            "\u{e4}",
            &long,
        ] {
            assert!(MasterKey::from_base64(text).is_none(), "{text:.60}");
        }
    }

    /// S-70: whatever of it is exchanged, it does not open.
    #[test]
    fn a_wrap_opens_for_its_owner_as_it_was_made_s70() {
        let wrap = ring().wrap_master_key("u1", 3, &key());
        assert_eq!((wrap.ciphertext.len(), wrap.iv.len()), (64, 16));
        assert!(opens("u1", &wrap));
        assert!(!opens("u2", &wrap));
        let other = ring().wrap_master_key("u1", 3, &key());
        let flipped = |text: &str| {
            let first = if text.starts_with('A') { "B" } else { "A" };
            format!("{first}{}", &text[1..])
        };
        for changed in [
            KeyWrap {
                version: 2,
                ..wrap.clone()
            },
            KeyWrap {
                kek_id: "a".into(),
                ..wrap.clone()
            },
            KeyWrap {
                kek_id: "c".into(),
                ..wrap.clone()
            },
            KeyWrap {
                format: FORMAT_UNBOUND,
                ..wrap.clone()
            },
            KeyWrap {
                format: 2,
                ..wrap.clone()
            },
            KeyWrap {
                iv: other.iv.clone(),
                ..wrap.clone()
            },
            KeyWrap {
                ciphertext: other.ciphertext.clone(),
                ..wrap.clone()
            },
            KeyWrap {
                iv: flipped(&wrap.iv),
                ..wrap.clone()
            },
            KeyWrap {
                iv: String::new(),
                ..wrap.clone()
            },
            KeyWrap {
                ciphertext: flipped(&wrap.ciphertext),
                ..wrap.clone()
            },
            KeyWrap {
                ciphertext: "?".into(),
                ..wrap.clone()
            },
        ] {
            assert!(!opens("u1", &changed));
        }
    }

    /// As the original service wraps: a fresh nonce, no associated data.
    #[test]
    fn a_wrap_of_the_original_opens() {
        let kek = MasterKey::from_base64(VECTOR_KEK).unwrap();
        let kek = Key32::from_bytes(**kek.0);
        let (iv, ciphertext) = aead::seal(&kek, &[], key().0.as_slice());
        let wrap = KeyWrap {
            kek_id: "env-v1".into(),
            format: FORMAT_UNBOUND,
            version: 0,
            iv: STANDARD.encode(iv),
            ciphertext: STANDARD.encode(ciphertext),
        };
        let ring = KeyRing::new("env-v1", [("env-v1".to_owned(), kek)]);
        let opened = ring.unwrap_master_key("u1", &wrap).unwrap();
        assert_eq!(opened.0, key().0);
        let bound = KeyWrap {
            format: FORMAT_BOUND,
            ..wrap
        };
        assert!(ring.unwrap_master_key("u1", &bound).is_err());
    }

    /// What is wrapped under a key and is no master key is none.
    #[test]
    fn a_wrap_of_something_else_does_not_open() {
        let (iv, ciphertext) = aead::seal(&kek(2), &aad("u1", 1, "b"), &[7; 31]);
        let wrap = KeyWrap {
            kek_id: "b".into(),
            format: FORMAT_BOUND,
            version: 1,
            iv: STANDARD.encode(iv),
            ciphertext: STANDARD.encode(ciphertext),
        };
        assert!(ring().unwrap_master_key("u1", &wrap).is_err());
    }

    #[test]
    fn a_key_is_known_by_its_check_value() {
        // openssl kdf -keylen 32 -kdfopt digest:SHA256 -kdfopt hexkey:0707… -kdfopt info:mana-key-check-v1 HKDF,
        // and printf mana-key-check-v1 | openssl dgst -sha256 -mac HMAC -macopt hexkey:…
        let value = key().check_value();
        assert_eq!(
            super::super::hex::encode(value.bytes()),
            "c99f9cc83ab5952e65bbe5f56c7a8b9b8431d0f7242db4c0df613004c42af1eb"
        );
        assert!(key().check_value().is(value.bytes()));
        assert!(!key().check_value().is(&value.bytes()[1..]));
        assert!(!MasterKey::generate().check_value().is(value.bytes()));
        let sent = STANDARD.encode(value.bytes());
        assert!(KeyCheck::from_base64(&sent).is_some_and(|sent| sent.is(value.bytes())));
        for broken in ["", "c99f", &sent[4..], &format!("{sent}AAAA"), "not base64"] {
            assert!(KeyCheck::from_base64(broken).is_none(), "{broken}");
        }
    }
}
