//! JSON Web Tokens: access tokens (EdDSA over Ed25519) and the mail-verification tokens of the wire
//! (HS256), with the cryptography of crates that we have anyway behind `jsonwebtoken`.
//!
//! Which keys are published, active or retired is decided elsewhere; the time arrives as an argument.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use hmac::{Hmac, KeyInit, Mac};
use jsonwebtoken::crypto::{CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error as TokenError, ErrorKind};
use jsonwebtoken::signature::{Error as SignatureError, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

/// An Ed25519 signing key, wiped when dropped.
///
/// It keeps the public half beside the seed: deriving that anew would double the cost of a signature.
#[derive(Clone)]
pub struct SigningKey32(SigningKey);

impl SigningKey32 {
    /// Takes the 32-byte seed (the private key of RFC 8032) of an existing key.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// Makes a random key.
    pub fn generate() -> Self {
        Self::from_seed(&Zeroizing::new(super::random_bytes()))
    }

    /// The seed, for storing it sealed.
    pub fn expose_seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public half, for verifiers.
    pub fn public_key(&self) -> [u8; 32] {
        self.0.verifying_key().to_bytes()
    }
}

impl fmt::Debug for SigningKey32 {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("SigningKey32(***)")
    }
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JwtError {
    /// Not three unpadded base64url parts of which the first two are JSON objects we can read.
    #[error("token is malformed")]
    Malformed,
    /// Signed with another algorithm or key, or not made for this verifier.
    #[error("token is not valid")]
    Invalid,
    /// Genuine, but its time is over.
    #[error("token has expired")]
    Expired,
}

impl From<TokenError> for JwtError {
    fn from(error: TokenError) -> Self {
        match error.kind() {
            ErrorKind::InvalidToken
            | ErrorKind::Base64(_)
            | ErrorKind::Json(_)
            | ErrorKind::Utf8(_) => Self::Malformed,
            _ => Self::Invalid,
        }
    }
}

/// Signs an access token; its header is exactly `{"alg":"EdDSA","kid":…}`.
///
/// # Panics
/// When the claims have no JSON form, which no struct of plain values lacks.
pub fn sign_access<C: Serialize>(claims: &C, kid: &str, key: &SigningKey32) -> String {
    let header = Header {
        kid: Some(kid.to_owned()),
        ..bare_header(Algorithm::EdDSA)
    };
    sign(&header, claims, |message| key.0.sign(message).to_bytes())
}

/// Verifies an access token and gives its claims; `keys` finds the public key of a key id.
///
/// There is no leeway: issuer and verifier share their clock.
///
/// # Errors
/// [`JwtError::Expired`] only when everything else about the token is right.
pub fn verify_access(
    token: &str,
    keys: impl Fn(&str) -> Option<[u8; 32]>,
    issuer: &str,
    audience: &str,
    now_unix: i64,
) -> Result<Map<String, Value>, JwtError> {
    let header = jsonwebtoken::decode_header(token)?;
    let kid = header.kid.as_deref().ok_or(JwtError::Invalid)?;
    let public_key = keys(kid).ok_or(JwtError::Invalid)?;
    let claims = verify(
        token,
        &DecodingKey::from_ed_der(&public_key),
        Algorithm::EdDSA,
    )?;
    let is =
        |name: &str, expected: &str| claims.get(name).and_then(Value::as_str) == Some(expected);
    if !is("iss", issuer) || !is("aud", audience) {
        return Err(JwtError::Invalid);
    }
    unexpired(claims, now_unix)
}

/// Signs a mail-verification token; its header is exactly `{"alg":"HS256"}`.
///
/// # Panics
/// When the claims have no JSON form, which no struct of plain values lacks.
pub fn sign_hs256<C: Serialize>(claims: &C, secret: &[u8]) -> String {
    let header = bare_header(Algorithm::HS256);
    sign(&header, claims, |message| {
        hs256(secret).chain_update(message).finalize().into_bytes()
    })
}

/// Verifies a token signed with any of `secrets` and gives its claims.
///
/// # Errors
/// [`JwtError::Expired`] only when the signature is right.
pub fn verify_hs256<S: AsRef<[u8]>>(
    token: &str,
    secrets: &[S],
    now_unix: i64,
) -> Result<Map<String, Value>, JwtError> {
    let mut refusal = JwtError::Invalid;
    for secret in secrets {
        match verify(
            token,
            &DecodingKey::from_secret(secret.as_ref()),
            Algorithm::HS256,
        ) {
            Ok(claims) => return unexpired(claims, now_unix),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

/// One entry of the published key set (RFC 8037), with the fields that existing verifiers know.
pub fn jwk(kid: &str, public_key: &[u8; 32]) -> Value {
    json!({
        "alg": "EdDSA",
        "crv": "Ed25519",
        "kty": "OKP",
        "x": URL_SAFE_NO_PAD.encode(public_key),
        "kid": kid,
    })
}

/// Gives `jsonwebtoken` our verifiers, once per process; further calls change nothing.
///
/// The verifying functions here call it themselves.
pub fn install_provider() {
    // Refused only when it is there already.
    let _ = PROVIDER.install_default();
}

static PROVIDER: CryptoProvider = CryptoProvider {
    // `sign` below signs with parsed keys; the crate would parse and derive them for every token.
    signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, TokenError> {
    // A public key must never serve as an HMAC secret, whatever the caller allows.
    if !key.family().algorithms().contains(algorithm) {
        return Err(ErrorKind::InvalidAlgorithm.into());
    }
    let key = key.try_get_as_bytes()?;
    match algorithm {
        Algorithm::EdDSA => {
            let key = <&[u8; 32]>::try_from(key).map_err(|_| ErrorKind::InvalidEddsaKey)?;
            let key = VerifyingKey::from_bytes(key).map_err(|_| ErrorKind::InvalidEddsaKey)?;
            Ok(Box::new(EdDsa(key)))
        }
        Algorithm::HS256 => Ok(Box::new(Hs256(hs256(key)))),
        _ => Err(ErrorKind::InvalidAlgorithm.into()),
    }
}

struct EdDsa(VerifyingKey);

impl Verifier<Vec<u8>> for EdDsa {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let signature = Signature::from_slice(signature).map_err(|_| SignatureError::new())?;
        // The strict form refuses weak keys and second encodings of a signature.
        self.0
            .verify_strict(message, &signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for EdDsa {
    fn algorithm(&self) -> Algorithm {
        Algorithm::EdDSA
    }
}

struct Hs256(Hmac<Sha256>);

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), SignatureError> {
        let mac = self.0.clone().chain_update(message);
        mac.verify_slice(signature)
            .map_err(|_| SignatureError::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

fn hs256(secret: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(secret).expect("HMAC takes keys of any length")
}

fn bare_header(algorithm: Algorithm) -> Header {
    Header {
        typ: None,
        ..Header::new(algorithm)
    }
}

fn sign<C: Serialize, S: AsRef<[u8]>>(
    header: &Header,
    claims: &C,
    signature: impl FnOnce(&[u8]) -> S,
) -> String {
    let header = serde_json::to_vec(header).expect("a header has a JSON form");
    let claims = serde_json::to_vec(claims).expect("claims are structs of plain values");
    let mut token = URL_SAFE_NO_PAD.encode(header);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut token);
    let signature = signature(token.as_bytes());
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    token
}

/// Checks form, algorithm, header and signature; no claim.
fn verify(
    token: &str,
    key: &DecodingKey,
    algorithm: Algorithm,
) -> Result<Map<String, Value>, JwtError> {
    install_provider();
    let mut validation = Validation::new(algorithm);
    // We check the claims ourselves: the crate reads the system clock and takes lists for `iss` and `aud`.
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let token = jsonwebtoken::decode::<Map<String, Value>>(token, key, &validation)?;
    // We write no other header fields, so one that we might have to understand is not ours.
    let expected = Header {
        kid: token.header.kid.clone(),
        ..bare_header(algorithm)
    };
    if token.header != expected {
        return Err(JwtError::Invalid);
    }
    Ok(token.claims)
}

fn unexpired(claims: Map<String, Value>, now_unix: i64) -> Result<Map<String, Value>, JwtError> {
    let expires_at = claims
        .get("exp")
        .and_then(Value::as_i64)
        .ok_or(JwtError::Invalid)?;
    // "On or after which" a token is refused (RFC 7519 section 4.1.4).
    if expires_at <= now_unix {
        Err(JwtError::Expired)
    } else {
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::vectors;

    const ISSUER: &str = "http://localhost:3001";
    const NOW: i64 = 1_767_323_045;

    fn key() -> SigningKey32 {
        SigningKey32::from_seed(&[7; 32])
    }

    fn keys(kid: &str) -> Option<[u8; 32]> {
        (kid == "k1").then(|| key().public_key())
    }

    fn claims() -> Value {
        json!({ "sub": "u1", "sid": "s1", "role": "user", "email": "ada@example.com",
            "iat": NOW, "exp": NOW + 900, "iss": ISSUER, "aud": "mana" })
    }

    fn claims_with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn signed(claims: &Value) -> String {
        sign_access(claims, "k1", &key())
    }

    fn check(token: &str) -> Result<Map<String, Value>, JwtError> {
        verify_access(token, keys, ISSUER, "mana", NOW)
    }

    /// A token with this header and these claims, correctly signed with our Ed25519 key.
    fn with_header(header: &str) -> String {
        let message = [header, &claims().to_string()]
            .map(|part| URL_SAFE_NO_PAD.encode(part))
            .join(".");
        let signature = key().0.sign(message.as_bytes()).to_bytes();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn decoded(part: Option<&str>) -> String {
        String::from_utf8(URL_SAFE_NO_PAD.decode(part.unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn access_tokens_verify_and_give_their_claims() {
        assert_eq!(Value::Object(check(&signed(&claims())).unwrap()), claims());
    }

    #[test]
    fn headers_are_exactly_those_of_the_wire() {
        let access = signed(&claims());
        assert_eq!(
            decoded(access.split('.').next()),
            r#"{"alg":"EdDSA","kid":"k1"}"#
        );
        let mail = sign_hs256(&claims(), b"secret");
        assert_eq!(decoded(mail.split('.').next()), r#"{"alg":"HS256"}"#);
    }

    #[test]
    fn claims_keep_the_order_of_their_struct() {
        #[derive(Serialize)]
        struct Claims {
            sub: &'static str,
            exp: i64,
            aud: &'static str,
        }
        let token = sign_access(
            &Claims {
                sub: "u1",
                exp: NOW,
                aud: "mana",
            },
            "k1",
            &key(),
        );
        let payload = decoded(token.split('.').nth(1));
        assert_eq!(
            payload,
            format!(r#"{{"sub":"u1","exp":{NOW},"aud":"mana"}}"#)
        );
    }

    /// RFC 8037 appendix A: key, JWK and signature of the example.
    #[test]
    fn signatures_and_keys_are_those_of_the_standard() {
        let seed = URL_SAFE_NO_PAD
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap();
        let key = SigningKey32::from_seed(&seed.try_into().unwrap());
        let jwk = jwk("k1", &key.public_key());
        assert_eq!(
            jwk,
            json!({ "alg": "EdDSA", "crv": "Ed25519", "kty": "OKP", "kid": "k1",
                "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" })
        );
        let message = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
        assert_eq!(
            URL_SAFE_NO_PAD.encode(key.0.sign(message.as_bytes()).to_bytes()),
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn tokens_expire_on_the_second() {
        let token = signed(&claims());
        let at = |now| verify_access(&token, keys, ISSUER, "mana", now);
        assert!(at(NOW + 899).is_ok());
        assert_eq!(at(NOW + 900), Err(JwtError::Expired));
    }

    /// S-34: a signature alone is not enough.
    #[test]
    fn other_issuers_audiences_and_times_are_refused() {
        let refused = [
            claims_with("iss", json!("http://localhost:3001/")),
            claims_with("iss", json!([ISSUER])),
            claims_with("iss", Value::Null),
            claims_with("aud", json!("other")),
            claims_with("aud", json!(["mana"])),
            claims_with("aud", Value::Null),
            claims_with("exp", Value::Null),
            claims_with("exp", json!((NOW + 900).to_string())),
            claims_with("exp", json!(1e18)),
            claims_with("exp", json!(u64::MAX)),
            json!({}),
        ];
        for claims in refused {
            assert_eq!(check(&signed(&claims)), Err(JwtError::Invalid), "{claims}");
        }
        assert_eq!(
            check(&signed(&claims_with("exp", json!(-1)))),
            Err(JwtError::Expired)
        );
    }

    /// S-34.
    #[test]
    fn missing_unknown_and_foreign_keys_are_refused() {
        let other = SigningKey32::generate();
        assert_eq!(
            check(&sign_access(&claims(), "k1", &other)),
            Err(JwtError::Invalid)
        );
        assert_eq!(
            check(&sign_access(&claims(), "k2", &key())),
            Err(JwtError::Invalid)
        );
        assert_eq!(
            check(&with_header(r#"{"alg":"EdDSA"}"#)),
            Err(JwtError::Invalid)
        );
    }

    /// S-34: the header is ours or the token is not, even under a good signature.
    #[test]
    fn other_headers_are_refused() {
        assert!(check(&with_header(r#"{"alg":"EdDSA","kid":"k1"}"#)).is_ok());
        for header in [
            r#"{"alg":"none","kid":"k1"}"#,
            r#"{"alg":"None","kid":"k1"}"#,
            r#"{"alg":"eddsa","kid":"k1"}"#,
            r#"{"alg":"Ed25519","kid":"k1"}"#,
            r#"{"alg":"HS256","kid":"k1"}"#,
            r#"{"alg":"RS256","kid":"k1"}"#,
            r#"{"alg":"ES256","kid":"k1"}"#,
            r#"{"alg":"","kid":"k1"}"#,
            r#"{"alg":null,"kid":"k1"}"#,
            r#"{"kid":"k1"}"#,
            r#"{"alg":"EdDSA","kid":1}"#,
            r#"{"alg":"EdDSA","kid":"k1","typ":"JWT"}"#,
            r#"{"alg":"EdDSA","kid":"k1","crit":["exp"]}"#,
            r#"{"alg":"EdDSA","kid":"k1","b64":false}"#,
            r#"{"alg":"EdDSA","kid":"k1","jwk":{"kty":"OKP","crv":"Ed25519","x":"AAAA"}}"#,
            r#"{"alg":"EdDSA","alg":"none","kid":"k1"}"#,
            "[]",
            "null",
            "",
        ] {
            assert!(check(&with_header(header)).is_err(), "{header}");
        }
    }

    /// S-34: the public key is no HMAC secret, and no key serves another algorithm.
    #[test]
    fn algorithms_cannot_be_confused() {
        let public_key = key().public_key();
        let header = Header {
            kid: Some("k1".into()),
            ..bare_header(Algorithm::HS256)
        };
        let confused = sign(&header, &claims(), |message| {
            hs256(&public_key)
                .chain_update(message)
                .finalize()
                .into_bytes()
        });
        assert_eq!(check(&confused), Err(JwtError::Invalid));

        let ed25519 = DecodingKey::from_ed_der(&public_key);
        assert!(verifier(&Algorithm::HS256, &ed25519).is_err());
        assert!(verifier(&Algorithm::EdDSA, &DecodingKey::from_secret(&public_key)).is_err());

        let access = signed(&claims());
        assert_eq!(
            verify_hs256(&access, &[public_key], NOW),
            Err(JwtError::Invalid)
        );
    }

    /// S-34.
    #[test]
    fn unsigned_truncated_padded_and_extended_tokens_are_refused() {
        let token = signed(&claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        for len in 0..token.len() {
            assert!(check(&token[..len]).is_err(), "{len}");
        }
        let (header, payload) = message.split_once('.').unwrap();
        for forged in [
            format!("{message}."),
            format!("{token}="),
            format!("{token}=="),
            format!("{header}=.{payload}.{signature}"),
            format!("{header}.{payload}=.{signature}"),
            format!("{token}."),
            format!("{token}.{signature}"),
            format!(".{token}"),
            format!("{header}.{token}"),
            format!("{message}..{signature}"),
            format!(" {token}"),
            format!("{token}\n"),
            format!("{header}.{payload}.{}", "A".repeat(86)),
            "..".into(),
            "é.é.é".into(),
        ] {
            assert!(check(&forged).is_err(), "{forged}");
        }
    }

    /// S-34: no byte of a token can be another, whatever it stands for.
    #[test]
    fn every_changed_byte_is_refused() {
        let access = signed(&claims());
        let mail = sign_hs256(&claims(), b"secret");
        for position in 0..access.len() {
            for bit in 0..7 {
                let forged = changed(&access, position, bit);
                assert!(check(&forged).is_err(), "{forged}");
            }
        }
        for position in 0..mail.len() {
            for bit in 0..7 {
                let forged = changed(&mail, position, bit);
                assert!(verify_hs256(&forged, &["secret"], NOW).is_err(), "{forged}");
            }
        }
    }

    fn changed(token: &str, position: usize, bit: u32) -> String {
        let mut bytes = token.as_bytes().to_vec();
        bytes[position] ^= 1 << bit;
        String::from_utf8(bytes).unwrap()
    }

    /// S-34: the unused bits of the last letter do not give a signature a second spelling.
    #[test]
    fn signatures_have_one_spelling() {
        let access = signed(&claims());
        let mail = sign_hs256(&claims(), b"secret");
        for letter in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".chars() {
            let forged = format!("{}{letter}", &access[..access.len() - 1]);
            assert_eq!(check(&forged).is_ok(), forged == access, "{forged}");
            let forged = format!("{}{letter}", &mail[..mail.len() - 1]);
            let accepted = verify_hs256(&forged, &["secret"], NOW).is_ok();
            assert_eq!(accepted, forged == mail, "{forged}");
        }
    }

    /// S-34: strict verification knows no second form of a signature, nor keys that verify anything.
    #[test]
    fn signature_malleability_and_weak_keys_are_refused() {
        // The group order, little-endian: s + L is the same scalar written differently.
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let token = signed(&claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut carry = 0;
        for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(order) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert_eq!(check(&forged), Err(JwtError::Invalid));

        // The neutral element as key and as R, with s = 0, satisfies the loose equation for all messages.
        let mut identity = [0; 32];
        identity[0] = 1;
        let signature = [identity, [0; 32]].concat();
        let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        let answer = verify_access(&forged, |_| Some(identity), ISSUER, "mana", NOW);
        assert_eq!(answer, Err(JwtError::Invalid));
    }

    #[test]
    fn keys_of_wrong_length_or_off_the_curve_are_refused_without_panic() {
        install_provider();
        install_provider();
        for x in ["", "AAAA", &"A".repeat(42), &"A".repeat(44)] {
            let key = DecodingKey::from_ed_components(x).unwrap();
            assert!(
                verify(&signed(&claims()), &key, Algorithm::EdDSA).is_err(),
                "{x}"
            );
        }
        let off_the_curve = (0..=255).filter(|&n| VerifyingKey::from_bytes(&[n; 32]).is_err());
        for n in off_the_curve {
            let answer = verify_access(&signed(&claims()), |_| Some([n; 32]), ISSUER, "mana", NOW);
            assert_eq!(answer, Err(JwtError::Invalid));
        }
    }

    #[test]
    fn mail_tokens_of_the_original_service_verify() {
        let vectors = vectors();
        let (token, secret) = (
            &vectors["emailVerificationJwt"]["token"],
            &vectors["secret"],
        );
        let (token, secret) = (token.as_str().unwrap(), secret.as_str().unwrap());
        let claims = verify_hs256(token, &[secret], 1_795_471_269).unwrap();
        let expected = json!({ "email": "ada@example.com", "userId": "u1",
            "iat": 1_795_467_670, "exp": 1_795_471_270 });
        assert_eq!(Value::Object(claims), expected);
        assert_eq!(
            verify_hs256(token, &[secret], 1_795_471_270),
            Err(JwtError::Expired)
        );
        assert_eq!(verify_hs256(token, &["other"], NOW), Err(JwtError::Invalid));
    }

    /// S-87: links in mails survive a rotation of the secret.
    #[test]
    fn any_secret_verifies_mail_tokens() {
        let token = sign_hs256(&claims(), b"old");
        assert!(verify_hs256(&token, &["new", "old"], NOW).is_ok());
        assert_eq!(
            verify_hs256(&token, &["old", "new"], NOW + 900),
            Err(JwtError::Expired)
        );
        assert_eq!(verify_hs256(&token, &["new"], NOW), Err(JwtError::Invalid));
        assert_eq!(
            verify_hs256::<&str>(&token, &[], NOW),
            Err(JwtError::Invalid)
        );
        assert_eq!(
            verify_hs256("no token", &["old"], NOW),
            Err(JwtError::Malformed)
        );
    }

    #[test]
    fn generated_keys_differ_and_come_back_from_their_seed() {
        let key = SigningKey32::generate();
        assert_ne!(key.public_key(), SigningKey32::generate().public_key());
        let same = SigningKey32::from_seed(key.expose_seed());
        assert_eq!(same.public_key(), key.public_key());
    }

    #[test]
    fn debug_text_shows_no_key() {
        assert_eq!(format!("{:?}", key()), "SigningKey32(***)");
    }
}
