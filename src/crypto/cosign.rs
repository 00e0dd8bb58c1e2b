//! Cosignatures (C2SP tlog-cosignature): what a witness puts below a checkpoint that agrees with all that it has seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signer as _, SigningKey};
use signed_note::{Signature as NoteSignature, is_key_name_valid, key_id};
use zeroize::Zeroizing;

use super::aead::Key32;

/// First byte of an Ed25519 key that makes cosignatures.
const COSIGNER: u8 = 4;
/// What the text of a key begins with (C2SP signed-note).
const SECRET: &str = "PRIVATE+KEY";

/// The key of a witness, and its name.
pub struct Cosigner {
    name: String,
    key: SigningKey,
}

impl Cosigner {
    /// Makes a key; `None` if nobody may have the name: it is empty, or holds a space or plus.
    pub fn generate(name: &str) -> Option<Self> {
        let key = SigningKey::from_bytes(Key32::generate().expose());
        let name = name.to_owned();
        is_key_name_valid(&name).then_some(Self { name, key })
    }

    /// Reads a key as [`Self::secret`] gives it.
    pub fn parse(secret: &str) -> Option<Self> {
        let rest = secret.strip_prefix(SECRET)?.strip_prefix('+')?;
        // The key is in base64, which may hold a plus.
        let mut parts = rest.splitn(3, '+');
        let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
        let key = Zeroizing::new(STANDARD.decode(key).ok()?);
        let (kind, seed) = key.split_first()?;
        let read = Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(seed.try_into().ok()?),
        };
        let fits =
            *kind == COSIGNER && is_key_name_valid(name) && format!("{:08x}", read.id()) == id;
        fits.then_some(read)
    }

    /// The key as a file holds it.
    pub fn secret(&self) -> Zeroizing<String> {
        let key = Zeroizing::new([&[COSIGNER][..], self.key.as_bytes()].concat());
        let key = Zeroizing::new(STANDARD.encode(&*key));
        Zeroizing::new(format!("{SECRET}+{}+{:08x}+{}", self.name, self.id(), *key))
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The verifier key, with which others check the cosignatures.
    pub fn verifier_key(&self) -> String {
        let key = STANDARD.encode(self.public());
        format!("{}+{:08x}+{key}", self.name, self.id())
    }

    /// A signed note with the cosignature of its text below it: at `time`, in seconds since 1970, nothing that was seen
    /// spoke against it. `None` if the time is after all that can be written.
    pub fn cosign(&self, note: &str, text: &str, time: i64) -> Option<String> {
        let seconds = u64::try_from(time).ok()?;
        let signed = format!("cosignature/v1\ntime {seconds}\n{text}");
        let signed = self.key.sign(signed.as_bytes()).to_bytes();
        let signature = [&seconds.to_be_bytes()[..], &signed].concat();
        let signature = NoteSignature::new(self.name.clone(), self.id(), signature).ok()?;
        let line = String::from_utf8(signature.to_bytes()).ok()?;
        Some(format!("{note}{line}"))
    }

    fn id(&self) -> u32 {
        key_id(&self.name, &self.public())
    }

    fn public(&self) -> Vec<u8> {
        [&[COSIGNER][..], self.key.verifying_key().as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::super::notes::{Signer, Verifier};
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_in_no_other_form() {
        let key = Cosigner::generate("witness.example.org").unwrap();
        let secret = key.secret();
        let read = Cosigner::parse(&secret).unwrap();
        assert_eq!(*read.secret(), *secret);
        assert_eq!(read.verifier_key(), key.verifier_key());
        assert!(Cosigner::generate("a b").is_none() && Cosigner::generate("a+b").is_none());
        for other in [
            secret.replace("witness", "witless"),
            secret.replace(SECRET, "PUBLIC+KEY"),
            secret[..secret.len() - 4].to_owned(),
            key.verifier_key(),
            String::new(),
        ] {
            assert!(Cosigner::parse(&other).is_none(), "{other}");
        }
        // It checks cosignatures and nothing else.
        assert!(Verifier::parse(&key.verifier_key()).is_none());
    }

    #[test]
    fn a_cosigned_note_opens_with_the_key_of_its_log_and_holds_the_time() {
        let log = Signer::new("auth.example.com/log/1", &Key32::from_bytes([7; 32])).unwrap();
        let note = log.sign("one\ntwo\n").unwrap();
        let witness = Cosigner::generate("witness.example.org").unwrap();
        let cosigned = witness.cosign(&note, "one\ntwo\n", 1_700_000_000).unwrap();
        assert_eq!(log.verifier().open(&cosigned).unwrap(), "one\ntwo\n");
        let line = cosigned.lines().last().unwrap();
        let signature = line.strip_prefix("— witness.example.org ").unwrap();
        let signature = STANDARD.decode(signature).unwrap();
        assert_eq!(signature.len(), 4 + 8 + 64);
        assert_eq!(signature[..4], witness.id().to_be_bytes());
        assert_eq!(signature[4..12], 1_700_000_000_u64.to_be_bytes());
        let signed = ed25519_dalek::Signature::from_slice(&signature[12..]).unwrap();
        let text = b"cosignature/v1\ntime 1700000000\none\ntwo\n";
        assert!(
            witness
                .key
                .verifying_key()
                .verify_strict(text, &signed)
                .is_ok()
        );
        assert_eq!(witness.cosign(&note, "one\ntwo\n", -1), None);
    }
}
