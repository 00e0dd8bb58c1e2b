//! Sealing with AES-256-GCM, and the small things around it: associated data, keyed hashes, padding.
//!
//! Which key seals what is decided elsewhere; nothing here is stored.

use std::fmt;

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Padded values are a multiple of this many bytes.
const BUCKET_BYTES: usize = 32;

/// A 256-bit key, wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Key32([u8; 32]);

impl Key32 {
    /// Takes the bytes of an existing key.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Makes a random key.
    pub fn generate() -> Self {
        Self(super::random_bytes())
    }

    /// The raw bytes, for wrapping the key under another.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for Key32 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key32(***)")
    }
}

/// The key, the associated data or the bytes are not those that were sealed; which of them is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("sealed bytes do not open")]
pub struct OpenError;

/// Encrypts `plaintext` under a random nonce and binds it to `aad`.
///
/// Random nonces allow 2^32 messages per key (NIST SP 800-38D section 8.3): ample for one person's data.
pub fn seal(key: &Key32, aad: &[u8], plaintext: &[u8]) -> ([u8; 12], Vec<u8>) {
    let nonce: [u8; 12] = super::random_bytes();
    let payload = Payload {
        msg: plaintext,
        aad,
    };
    let ciphertext = cipher(key)
        .encrypt(&Nonce::from(nonce), payload)
        .expect("only plaintexts over 64 GiB are refused");
    (nonce, ciphertext)
}

/// Decrypts what [`seal`] made with the same key and associated data.
///
/// # Errors
/// When anything differs, and for ciphertexts shorter than their tag.
pub fn open(
    key: &Key32,
    nonce: &[u8; 12],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let payload = Payload {
        msg: ciphertext,
        aad,
    };
    cipher(key)
        .decrypt(&Nonce::from(*nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| OpenError)
}

fn cipher(key: &Key32) -> Aes256Gcm {
    Aes256Gcm::new(&key.0.into())
}

/// Joins `parts`, each behind its length, so that no two lists of parts give the same bytes.
pub fn aad(parts: &[&str]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_be_bytes());
        joined.extend_from_slice(part.as_bytes());
    }
    joined
}

/// HMAC-SHA-256 of `parts`, joined as by [`aad`].
pub fn hmac_sha256(key: &[u8], parts: &[&str]) -> [u8; 32] {
    hmac_sha256_of(key, &aad(parts))
}

/// HMAC-SHA-256 of bytes as they are.
pub fn hmac_sha256_of(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.chain_update(bytes).finalize().into_bytes().into()
}

/// 32 bytes of HKDF-SHA-256 without a salt (RFC 5869): one key from another, for the purpose that `info` names.
pub fn hkdf_sha256(key: &[u8], info: &[u8]) -> [u8; 32] {
    let extracted = Zeroizing::new(hmac_sha256_of(&[0; 32], key));
    hmac_sha256_of(extracted.as_slice(), &[info, &[1]].concat())
}

/// Hides the exact length of a short value: fills it up to the next multiple of 32 bytes, with at least
/// one byte (0x80, then zeros; ISO/IEC 7816-4).
pub fn pad(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let padded_len = (value.len() / BUCKET_BYTES + 1) * BUCKET_BYTES;
    // The full capacity at once: growing would leave unwiped copies behind.
    let mut padded = Zeroizing::new(Vec::with_capacity(padded_len));
    padded.extend_from_slice(value);
    padded.push(0x80);
    padded.resize(padded_len, 0);
    padded
}

/// Takes the padding off again; none if [`pad`] did not make these bytes.
pub fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let marker = padded.iter().rposition(|&byte| byte != 0)?;
    let padded_len = (marker / BUCKET_BYTES + 1) * BUCKET_BYTES;
    (padded[marker] == 0x80 && padded.len() == padded_len).then(|| &padded[..marker])
}

/// Whether two hashes are the same, found out in a time that depends on their lengths only.
pub fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::crypto::hex;

    #[test]
    fn sealed_bytes_open_with_the_same_key_and_associated_data() {
        for plaintext in [&b""[..], b"x", &[7; 100_000]] {
            let key = Key32::generate();
            let (nonce, ciphertext) = seal(&key, b"place", plaintext);
            assert_eq!(ciphertext.len(), plaintext.len() + 16);
            let same_key = Key32::from_bytes(*key.expose());
            assert_eq!(
                *open(&same_key, &nonce, b"place", &ciphertext).unwrap(),
                plaintext
            );
        }
    }

    /// Test case 16 of the GCM specification (McGrew and Viega), opened with this module.
    #[test]
    fn sealing_is_standard_aes_256_gcm() {
        let key = hex::decode("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let nonce = hex::decode("cafebabefacedbaddecaf888").unwrap();
        let aad: [u8; 20] = hex::decode("feedfacedeadbeeffeedfacedeadbeefabaddad2").unwrap();
        let ciphertext: [u8; 76] = hex::decode(concat!(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b10",
            "56828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b"
        ))
        .unwrap();
        let plaintext = open(&Key32::from_bytes(key.unwrap()), &nonce, &aad, &ciphertext).unwrap();
        assert_eq!(
            hex::encode(&plaintext),
            concat!(
                "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e24",
                "49a6b525b16aedf5aa0de657ba637b39"
            )
        );
    }

    #[test]
    fn nothing_opens_when_anything_was_changed() {
        let key = Key32::generate();
        let (nonce, ciphertext) = seal(&key, b"place", b"secret");
        for position in 0..ciphertext.len() {
            for bit in 0..8 {
                let mut changed = ciphertext.clone();
                changed[position] ^= 1 << bit;
                assert_eq!(open(&key, &nonce, b"place", &changed), Err(OpenError));
            }
        }
        for len in 0..ciphertext.len() {
            assert_eq!(
                open(&key, &nonce, b"place", &ciphertext[..len]),
                Err(OpenError)
            );
        }
        assert_eq!(
            open(&key, &nonce, b"elsewhere", &ciphertext),
            Err(OpenError)
        );
        assert_eq!(open(&key, &[0; 12], b"place", &ciphertext), Err(OpenError));
        assert_eq!(
            open(&Key32::generate(), &nonce, b"place", &ciphertext),
            Err(OpenError)
        );
    }

    #[test]
    fn nonces_do_not_repeat() {
        let key = Key32::generate();
        let nonces: HashSet<[u8; 12]> = (0..1000).map(|_| seal(&key, b"", b"").0).collect();
        assert_eq!(nonces.len(), 1000);
    }

    #[test]
    fn parts_cannot_be_shifted_between_fields() {
        let lists: [&[&str]; 9] = [
            &[],
            &[""],
            &["", ""],
            &["ab"],
            &["a", "b"],
            &["ab", ""],
            &["", "ab"],
            &["a", "", "b"],
            &["\0\0\0\0\0\0\0\u{1}a"],
        ];
        let joined: HashSet<Vec<u8>> = lists.iter().map(|parts| aad(parts)).collect();
        assert_eq!(joined.len(), lists.len());
        let hashes: HashSet<[u8; 32]> =
            lists.iter().map(|parts| hmac_sha256(b"k", parts)).collect();
        assert_eq!(hashes.len(), lists.len());
    }

    #[test]
    fn keyed_hash_is_hmac_sha_256_of_the_joined_parts() {
        // printf '\0\0\0\0\0\0\0\1a\0\0\0\0\0\0\0\2bc' | openssl dgst -sha256 -hmac key
        let expected = "ba41d3aaace0b4bb31fb49a559ae1df182e1fd8add9b6b3b5603e6cb342dce22";
        assert_eq!(hex::encode(&hmac_sha256(b"key", &["a", "bc"])), expected);
        assert_ne!(hmac_sha256(b"key", &["a"]), hmac_sha256(b"yek", &["a"]));
    }

    #[test]
    fn padded_values_fill_buckets_and_come_back() {
        for (len, padded_len) in [(0, 32), (1, 32), (31, 32), (32, 64), (63, 64), (64, 96)] {
            for byte in [0x00, 0x80, 0xff] {
                let value = vec![byte; len];
                assert_eq!(pad(&value).len(), padded_len);
                assert_eq!(unpad(&pad(&value)), Some(&value[..]));
            }
        }
    }

    #[test]
    fn what_was_not_padded_is_not_unpadded() {
        let mut wrong_marker = [0; 32];
        wrong_marker[5] = 0x81;
        let mut bucket_too_many = [0; 64];
        bucket_too_many[5] = 0x80;
        let malformed: [&[u8]; 6] = [
            &[],
            &[0; 32],
            &[0x80],
            &[1; 32],
            &wrong_marker,
            &bucket_too_many,
        ];
        for bytes in malformed {
            assert_eq!(unpad(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn debug_text_shows_no_key() {
        assert_eq!(format!("{:?}", Key32::from_bytes([65; 32])), "Key32(***)");
    }
}
