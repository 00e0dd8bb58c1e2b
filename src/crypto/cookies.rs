//! Signed cookie values, exactly as existing clients and services know them:
//! `value + "." + base64(HMAC-SHA-256(secret, value))`, percent-encoded in the `Cookie` header.
//!
//! Names, attributes and lifetimes of cookies are the business of `http`.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;

/// What `encodeURIComponent` leaves as it is, besides letters and digits.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Signs and verifies cookie values: the newest secret signs, all of them verify (S-87).
#[derive(Clone)]
pub struct CookieSigner {
    newest: Hmac<Sha256>,
    older: Vec<Hmac<Sha256>>,
}

impl CookieSigner {
    /// Takes the secrets, the newest first.
    ///
    /// # Panics
    /// Without any secret: the configuration makes sure that there is one.
    pub fn new<S: AsRef<[u8]>>(newest_first: &[S]) -> Self {
        let mut keyed = newest_first.iter().map(|secret| {
            Hmac::new_from_slice(secret.as_ref()).expect("HMAC takes keys of any length")
        });
        Self {
            newest: keyed.next().expect("the configuration has a secret"),
            older: keyed.collect(),
        }
    }

    /// Appends the signature of `value`: the decoded form, as sent in `set-auth-token`.
    pub fn sign(&self, value: &str) -> String {
        let signature = self.newest.clone().chain_update(value).finalize();
        format!("{value}.{}", STANDARD.encode(signature.into_bytes()))
    }

    /// The MAC of a text alone: base64url without padding.
    pub fn mac(&self, text: &str) -> String {
        let signature = self.newest.clone().chain_update(text).finalize();
        URL_SAFE_NO_PAD.encode(signature.into_bytes())
    }

    /// Gives the value of a signed text, percent-encoded or not, if one of the secrets signed it.
    pub fn verify(&self, raw_or_decoded: &str) -> Option<String> {
        // A signature ends in "=", so a text that verifies as it is was never percent-encoded.
        self.verify_decoded(raw_or_decoded).or_else(|| {
            let decoded = percent_decode_str(raw_or_decoded).decode_utf8().ok()?;
            self.verify_decoded(&decoded)
        })
    }

    fn verify_decoded(&self, signed: &str) -> Option<String> {
        let (value, signature) = signed.rsplit_once('.')?;
        let signature = STANDARD.decode(signature).ok()?;
        // `verify_slice` compares in constant time (S-33).
        std::iter::once(&self.newest)
            .chain(&self.older)
            .any(|key| {
                key.clone()
                    .chain_update(value)
                    .verify_slice(&signature)
                    .is_ok()
            })
            .then(|| value.to_owned())
    }
}

impl fmt::Debug for CookieSigner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CookieSigner(***)")
    }
}

/// Percent-encodes a signed value for a cookie, as `encodeURIComponent` does.
pub fn encode(signed: &str) -> String {
    utf8_percent_encode(signed, ENCODED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    const TOKEN: &str = "Zk3vQ0aT7bXc9dEf1gHi5jKl2mNo8pQr";

    fn signer() -> CookieSigner {
        CookieSigner::new(&[vectors()["secret"].as_str().unwrap()])
    }

    #[test]
    fn signed_values_equal_those_of_the_original_service() {
        let cookie = &vectors()["sessionCookie"];
        let signed = signer().sign(cookie["token"].as_str().unwrap());
        assert_eq!(signed, cookie["plain"].as_str().unwrap());
        assert_eq!(encode(&signed), cookie["cookieValue"].as_str().unwrap());

        let dont_remember = vectors()["dontRememberCookie"]["cookieValue"].clone();
        assert_eq!(
            encode(&signer().sign("true")),
            dont_remember.as_str().unwrap()
        );
    }

    #[test]
    fn both_forms_verify() {
        let cookie = &vectors()["sessionCookie"];
        for form in ["plain", "cookieValue"] {
            let value = signer().verify(cookie[form].as_str().unwrap());
            assert_eq!(value.as_deref(), Some(TOKEN), "{form}");
        }
    }

    #[test]
    fn values_with_dots_percents_and_any_letters_survive_both_forms() {
        for value in [
            "",
            "a.b.c",
            "mac!trust-device-x",
            "100%25",
            "%",
            "a b+c",
            "é€",
            "%zz.x=",
        ] {
            let signed = signer().sign(value);
            assert_eq!(signer().verify(&signed).as_deref(), Some(value));
            assert_eq!(signer().verify(&encode(&signed)).as_deref(), Some(value));
        }
    }

    #[test]
    fn encoding_is_that_of_encode_uri_component() {
        assert_eq!(encode("-_.!~*'()azAZ09"), "-_.!~*'()azAZ09");
        assert_eq!(encode("a+b/c=d e;é\n"), "a%2Bb%2Fc%3Dd%20e%3B%C3%A9%0A");
    }

    /// S-33: no changed character passes, in the value or in the signature.
    #[test]
    fn every_changed_character_is_refused() {
        let signed = signer().sign(TOKEN);
        for position in 0..signed.len() {
            for other in ['A', 'B', '.', '=', '%', ' '] {
                let mut forged = signed.clone();
                forged.replace_range(position..=position, &other.to_string());
                assert!(
                    forged == signed || signer().verify(&forged).is_none(),
                    "{forged}"
                );
            }
        }
    }

    /// S-33: nor does a signature that is cut, continued or written in another alphabet.
    #[test]
    fn malformed_signatures_are_refused() {
        let signed = signer().sign(TOKEN);
        let other_alphabet = signed.replace('+', "-").replace('/', "_");
        let forged = [
            "",
            ".",
            "=",
            TOKEN,
            &format!("{TOKEN}."),
            &format!("{TOKEN}.===="),
            "%",
            "%ff.%ff",
            &signed[1..],
            &signed[..signed.len() - 1],
            &signed[..signed.len() - 2],
            &format!("{signed}="),
            &format!("{signed}.{signed}"),
            &format!(" {signed}"),
            &format!("{signed} "),
            &encode(&encode(&signed)),
        ];
        for text in forged {
            assert!(signer().verify(text).is_none(), "{text}");
        }
        let slashed = (0..)
            .map(|n| signer().sign(&format!("v{n}")))
            .find(|s| s.contains('/'));
        let slashed = slashed.unwrap();
        assert!(signer().verify(&slashed.replace('/', "_")).is_none());
        assert!(other_alphabet == signed || signer().verify(&other_alphabet).is_none());
    }

    /// S-87: a rotation of secrets logs nobody out, and a retired secret is worth nothing.
    #[test]
    fn all_secrets_verify_and_the_newest_signs() {
        let (old, new) = (CookieSigner::new(&["old"]), CookieSigner::new(&["new"]));
        let rotated = CookieSigner::new(&["new", "middle", "old"]);
        assert_eq!(rotated.sign("v"), new.sign("v"));
        assert_eq!(rotated.verify(&old.sign("v")).as_deref(), Some("v"));
        assert_eq!(rotated.verify(&new.sign("v")).as_deref(), Some("v"));
        assert!(new.verify(&old.sign("v")).is_none());
    }

    #[test]
    fn debug_text_shows_no_secret() {
        assert_eq!(
            format!("{:?}", CookieSigner::new(&["s3cret"])),
            "CookieSigner(***)"
        );
    }
}
