//! Codes of an authenticator app: TOTP of RFC 6238 with HMAC-SHA-1, six digits and steps of 30 seconds, and secrets as
//! the original service makes them (contract 9).

use totp_rs::{Algorithm, Builder, Secret, Totp};
use url::form_urlencoded;
use zeroize::Zeroizing;

/// Characters of a secret; the key is their text, so 192 bits of randomness.
const SECRET_LENGTH: usize = 32;
/// Steps before and after the current one whose codes count (RFC 6238 section 5.2).
const SKEW_STEPS: u16 = 1;

/// What an app and the service share.
pub struct TotpSecret(Zeroizing<String>);

impl TotpSecret {
    /// A new one.
    pub fn random() -> Self {
        Self(Zeroizing::new(super::tokens::random_url_text(
            SECRET_LENGTH,
        )))
    }

    /// One that was kept; none if its bytes are no text.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        Some(Self(Zeroizing::new(text.to_owned())))
    }

    /// The bytes to keep.
    pub fn to_keep(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// What an app reads from a QR code.
    pub fn uri(&self, issuer: &str, email: &str) -> String {
        let label = |text| encoded(text).replace('+', "%20");
        format!(
            "otpauth://totp/{}:{}?secret={}&issuer={}&digits=6&period=30",
            label(issuer),
            label(email),
            self.totp().secret().to_base32(),
            encoded(issuer),
        )
    }

    /// The step whose code this is, near a time in seconds since 1970; none if it is another code. A step counts once:
    /// the caller keeps the last one.
    pub fn step_of(&self, code: &str, unix_secs: u64) -> Option<u64> {
        self.totp().check(code, unix_secs)
    }

    fn totp(&self) -> Totp {
        Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_digits(6)
            .with_skew(SKEW_STEPS)
            .with_step_duration(30)
            .with_secret(Secret::new(self.to_keep().into()))
            .build_noncompliant()
    }
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_uri_are_those_of_the_original() {
        let vectors = crate::crypto::vectors();
        let known = &vectors["totp"];
        let secret = TotpSecret::from_bytes(known["secret"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(secret.uri("Mana", "ada@example.com"), known["uri"]);
        for code in known["codes"].as_array().unwrap() {
            let unix = code["unix"].as_u64().unwrap();
            let text = code["code"].as_str().unwrap();
            assert_eq!(secret.step_of(text, unix), Some(unix / 30));
            for near in [unix - 30, unix + 30] {
                assert_eq!(secret.step_of(text, near), Some(unix / 30));
            }
            for far in unix.checked_sub(61).into_iter().chain([unix + 61]) {
                assert_eq!(secret.step_of(text, far), None, "{far}");
            }
        }
    }

    #[test]
    fn what_is_no_code_matches_nothing() {
        let secret = TotpSecret::random();
        for code in [
            "",
            "12345",
            "1234567",
            "abcdef",
            "١٢٣٤٥٦",
            "12 34 5",
            "-12345",
        ] {
            assert_eq!(secret.step_of(code, 59), None, "{code}");
        }
    }

    #[test]
    fn an_issuer_may_hold_any_text() {
        let uri = TotpSecret::random().uri("Other App", "a+b@example.com");
        assert!(uri.starts_with("otpauth://totp/Other%20App:a%2Bb%40example.com?secret="));
        assert!(uri.ends_with("&issuer=Other+App&digits=6&period=30"));
    }
}
