//! Signed notes (C2SP signed-note): texts with Ed25519 signatures below them, and the keys that make and check them. The
//! form is read and written by `signed_note`; signing and checking are ours, with the library that everything else uses.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use signed_note::{Note, Signature as NoteSignature, VerifierList, is_key_name_valid, key_id};

use super::aead::Key32;

/// First byte of an Ed25519 key (C2SP signed-note).
const ED25519: u8 = 1;

/// Signs notes under a name.
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl Signer {
    /// With the key of this seed; `None` if nobody may have the name: it is empty, or holds a space or plus.
    pub fn new(name: &str, seed: &Key32) -> Option<Self> {
        let key = SigningKey::from_bytes(seed.expose());
        let name = name.to_owned();
        is_key_name_valid(&name).then_some(Self { name, key })
    }

    /// The same key under another name.
    pub fn named(&self, name: &str) -> Option<Self> {
        let key = self.key.clone();
        let name = name.to_owned();
        is_key_name_valid(&name).then_some(Self { name, key })
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What checks what this signs.
    pub fn verifier(&self) -> Verifier {
        Verifier {
            name: self.name.clone(),
            key: self.key.verifying_key(),
        }
    }

    /// The note of a text; `None` if the text cannot be one: it has control characters, or no line break at its end.
    pub fn sign(&self, text: &str) -> Option<String> {
        let signature = self.key.sign(text.as_bytes()).to_bytes().to_vec();
        let signature = NoteSignature::new(self.name.clone(), self.verifier().id(), signature);
        let note = Note::new(text.as_bytes(), &[signature.ok()?]).ok()?;
        String::from_utf8(note.to_bytes()).ok()
    }
}

/// Checks notes that were signed under a name.
#[derive(Clone, PartialEq)]
pub struct Verifier {
    name: String,
    key: VerifyingKey,
}

impl Verifier {
    /// Reads a verifier key: `NAME+ID+KEY`.
    pub fn parse(text: &str) -> Option<Self> {
        // The key is in base64, which may hold a plus.
        let mut parts = text.splitn(3, '+');
        let (name, id, key) = (
            parts.next()?,
            parts.next()?,
            STANDARD.decode(parts.next()?).ok()?,
        );
        let (kind, key) = key.split_first()?;
        let key = VerifyingKey::from_bytes(key.try_into().ok()?).ok()?;
        let read = Self {
            name: name.to_owned(),
            key,
        };
        let fits =
            *kind == ED25519 && is_key_name_valid(name) && format!("{:08x}", read.id()) == id;
        fits.then_some(read)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The text of a note, if it is signed by this key.
    pub fn open(&self, note: &str) -> Option<String> {
        let note = Note::from_bytes(note.as_bytes()).ok()?;
        note.verify(&VerifierList::new(vec![Box::new(self.clone())]))
            .ok()?;
        String::from_utf8(note.text().to_vec()).ok()
    }

    fn id(&self) -> u32 {
        key_id(&self.name, &self.bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        [&[ED25519][..], self.key.as_bytes()].concat()
    }
}

impl signed_note::Verifier for Verifier {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id()
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| self.key.verify_strict(text, &signature).is_ok())
    }
}

/// The verifier key as others read it.
impl fmt::Display for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode(self.bytes());
        write!(formatter, "{}+{:08x}+{key}", self.name, self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const NOTE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer() -> Signer {
        Signer::new("auth.example.com/log/1", &Key32::from_bytes([7; 32])).unwrap()
    }

    #[test]
    fn a_note_of_somebody_else_opens_with_their_key() {
        let key = Verifier::parse(KEY).unwrap();
        assert_eq!(key.to_string(), KEY);
        assert_eq!(
            key.open(NOTE).unwrap(),
            NOTE.split_once("\n\n").unwrap().0.to_owned() + "\n"
        );
        assert_eq!(key.open(&NOTE.replace("think", "drink")), None);
        assert_eq!(signer().verifier().open(NOTE), None);
    }

    #[test]
    fn what_is_signed_opens_and_nothing_else_does() {
        let note = signer().sign("one\ntwo\n").unwrap();
        let key = Verifier::parse(&signer().verifier().to_string()).unwrap();
        assert_eq!(key.open(&note).unwrap(), "one\ntwo\n");
        for n in 0..note.len() {
            let mut bytes = note.clone().into_bytes();
            bytes[n] ^= 1;
            let opened = String::from_utf8(bytes)
                .ok()
                .and_then(|note| key.open(&note));
            assert_eq!(opened, None, "byte {n}");
        }
        let renamed = signer().named("auth.example.com/log/2").unwrap();
        assert_eq!(renamed.verifier().open(&note), None);
        assert_eq!(signer().sign("no line break"), None);
        assert!(signer().named("a b").is_none() && signer().named("a+b").is_none());
    }

    #[test]
    fn a_key_that_is_not_what_its_id_says_is_none() {
        let key = signer().verifier().to_string();
        assert!(Verifier::parse(&key).is_some());
        for other in [
            key.replace("/1+", "/2+"),
            key.replacen('+', "+0", 1),
            key[..key.len() - 4].to_owned(),
            key.replace("+AT", "+BT"),
            String::new(),
            "a+b".to_owned(),
        ] {
            assert!(other == key || Verifier::parse(&other).is_none(), "{other}");
        }
    }
}
