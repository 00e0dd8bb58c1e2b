//! ID tokens of other providers (OpenID Connect Core 1.0 section 3.1.3.7): signed with keys that they publish, by an
//! algorithm with two different keys, never by a shared secret.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::jwt::JwtError;

/// Clocks of two services may differ by so much, in seconds.
const LEEWAY_SECS: i64 = 60;
/// Keys that are tried for one token at most.
const KEYS_MAX: usize = 50;

/// The keys that a provider publishes (RFC 7517). What is of no use to us is left out.
#[derive(Clone, Default)]
pub struct KeySet(Vec<Jwk>);

#[derive(Clone, Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// What an ID token must say.
pub struct Expected<'a> {
    /// Who made it.
    pub issuer: &'a str,
    /// For whom.
    pub client_id: &'a str,
    /// The time, in seconds since 1970.
    pub now: i64,
}

impl KeySet {
    /// Reads a published set; `None` if it is none.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let set: Map<String, Value> = serde_json::from_slice(json).ok()?;
        let keys = set.get("keys")?.as_array()?;
        let keys = keys.iter().take(KEYS_MAX);
        let keys = keys.filter_map(|key| Jwk::deserialize(key).ok());
        Some(Self(keys.filter(Jwk::signs).collect()))
    }

    /// Verifies a token and gives its claims. Whether it belongs to a sign-in that somebody began is the caller's to see.
    ///
    /// # Errors
    /// [`JwtError::Malformed`] and [`JwtError::Invalid`]; [`JwtError::Expired`] only when everything else is right.
    pub fn verify(
        &self,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Map<String, Value>, JwtError> {
        let (content, signature) = token.rsplit_once('.').ok_or(JwtError::Malformed)?;
        let (header, claims) = content.split_once('.').ok_or(JwtError::Malformed)?;
        let header: Header = read(header)?;
        let signature = decode(signature)?;
        let good =
            |key: &&Jwk| key.fits(&header) && key.has_signed(&header.alg, content, &signature);
        // Extensions that must be understood are none that we know (RFC 7515 section 4.1.11).
        if header.crit.is_some() || !self.0.iter().any(|key| good(&key)) {
            return Err(JwtError::Invalid);
        }
        let claims: Map<String, Value> = read(claims)?;
        check(&claims, expected)?;
        Ok(claims)
    }

    /// Whether any key could have signed the token: if none, the provider may have new ones.
    pub fn knows(&self, token: &str) -> bool {
        let header = token
            .split('.')
            .next()
            .and_then(|header| read::<Header>(header).ok());
        header.is_some_and(|header| self.0.iter().any(|key| key.fits(&header)))
    }
}

/// What a token says that was verified before.
pub fn claims_of(token: &str) -> Option<Map<String, Value>> {
    read(token.split('.').nth(1)?).ok()
}

fn decode(part: &str) -> Result<Vec<u8>, JwtError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| JwtError::Malformed)
}

fn read<T: for<'a> Deserialize<'a>>(part: &str) -> Result<T, JwtError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| JwtError::Malformed)
}

fn check(claims: &Map<String, Value>, expected: &Expected<'_>) -> Result<(), JwtError> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str);
    let number = |name: &str| claims.get(name).and_then(Value::as_i64);
    let for_us = match claims.get("aud") {
        Some(Value::String(audience)) => audience == expected.client_id,
        // Of several that may use it, it must have been made for us.
        Some(Value::Array(all)) => {
            all.iter().any(|one| one == expected.client_id)
                && (all.len() == 1 || text("azp") == Some(expected.client_id))
        }
        _ => false,
    };
    let made_at = number("iat").ok_or(JwtError::Invalid)?;
    let ends_at = number("exp").ok_or(JwtError::Invalid)?;
    let too_early = made_at > expected.now + LEEWAY_SECS;
    if text("iss") != Some(expected.issuer) || !for_us || too_early {
        return Err(JwtError::Invalid);
    }
    if ends_at.saturating_add(LEEWAY_SECS) <= expected.now {
        return Err(JwtError::Expired);
    }
    Ok(())
}

impl Jwk {
    fn signs(&self) -> bool {
        self.usage.as_deref().is_none_or(|usage| usage == "sig")
    }

    fn fits(&self, header: &Header) -> bool {
        let curve = self.crv.as_deref();
        let of_kind = match header.alg.as_str() {
            "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => self.kty == "RSA",
            "ES256" => self.kty == "EC" && curve == Some("P-256"),
            "ES384" => self.kty == "EC" && curve == Some("P-384"),
            "EdDSA" => self.kty == "OKP" && curve == Some("Ed25519"),
            _ => false,
        };
        of_kind
            && self.alg.as_ref().is_none_or(|alg| *alg == header.alg)
            && header
                .kid
                .as_ref()
                .is_none_or(|kid| self.kid.as_ref() == Some(kid))
    }

    fn has_signed(&self, algorithm: &str, content: &str, signature: &[u8]) -> bool {
        let part =
            |part: &Option<String>| decode(part.as_deref().unwrap_or_default()).unwrap_or_default();
        let rsa = |parameters: &RsaParameters| {
            let key = RsaPublicKeyComponents {
                n: part(&self.n),
                e: part(&self.e),
            };
            key.verify(parameters, content.as_bytes(), signature)
                .is_ok()
        };
        let plain = |algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>| {
            UnparsedPublicKey::new(algorithm, key)
                .verify(content.as_bytes(), signature)
                .is_ok()
        };
        // An uncompressed point (SEC 1 section 2.3.3).
        let point = || [vec![4], part(&self.x), part(&self.y)].concat();
        match algorithm {
            "RS256" => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
            "RS384" => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
            "RS512" => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
            "PS256" => rsa(&signature::RSA_PSS_2048_8192_SHA256),
            "PS384" => rsa(&signature::RSA_PSS_2048_8192_SHA384),
            "PS512" => rsa(&signature::RSA_PSS_2048_8192_SHA512),
            "ES256" => plain(&signature::ECDSA_P256_SHA256_FIXED, point()),
            "ES384" => plain(&signature::ECDSA_P384_SHA384_FIXED, point()),
            "EdDSA" => plain(&signature::ED25519, part(&self.x)),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _,
    };
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_767_323_045;
    const EXPECTED: Expected<'_> = Expected {
        issuer: "https://acme.example",
        client_id: "mana",
        now: NOW,
    };

    /// The modulus of a key that OpenSSL made, and what it signed with it in both ways.
    const RSA_N: &str = "z9CMnOsy10d80sps2O9lA9iErcwGIej5gQ1LjkrKm_LadbEFJkbtEc2Pzv7aig4rsl443n2kqi-A1cQzntNabOd8w1OQKcffja1P\
        OBUcN2mGuffbrpL_XqHzjAAxXz8ua4hlJq6C_Q1boY7A2FF78_gGjHnN_r234XzewcOjGvxpTCG6oDVJBjO9TyLZreYTC7i-NFCh\
        JNE0DzOLTVjE76v5SUqAOsLsdRk2hbYDbJyEdTGoFYdYYBcKVpMaw3z73In0I0yO5226vCPb2p82VNTIZRmpzgxUVbkWu93R6y79\
        -BEZsvPN8h7BRA8S0dF0hItXeA27OfqCpL9P7X8Kvw";
    const SIGNED: &str = "aGVhZGVy.Y2xhaW1z";
    const RS256: &str = "Uux3v1cN-21BAjtBd05X3lSg0d2Hp85duOIFMv8LC4ZSa9N7CkAf7i1S7Gj5LeiSgDmvZQgNTdHAYVhCMvk7VC0drndFO3CUV0QH\
        ar2VM5nX-ZxeoxLlroWYQyPELiIoyYxjKeA3aSf75EisxX0632bqHb7RFSbadsI-NUx56RPuiXN_xo4mTcaptH9JFPEhMikXpZ7a\
        s2AuKCWeSuw74kUVYCbwzw59x2HN2rPSZ6J72J88X6YIu-1ww-jltkixnRrYiVENQ1JOv9sJZrUwmP_6MllpTDoX5vJo9BXxKiNF\
        IbUA2UbA5JbmJ_cnQ3ZlipSBcZi7A-8Ysx7obkvgmw";
    const PS256: &str = "Qtqx4dxD9vM_b6yAl9TJC8MLStsPc5PiVdb3cIpNStm_jKy0AXhxcRsdN9qhlo4kh9OBAEX3vMe2sQwZpcBn7yuZ8Qrh2HFUfa-n\
        loJB8oog27ZEp8WHmD9uIa6NF64auxh-6kmBS7_NWpBuzEQDDeIc6knxkqDxEDp7CIJT7HqhWBohWLBKClHdcLr4EoiM50H-ttih\
        6ojZnhUQ1Cc3k0zOj5WVIljm5wPUHm3fKSnnFlErfrT_k5KdZhvrxzdz03om7sgsZ3XdMqAcOEIXo4VvPrKTBYDnXGegxBfbeXyc\
        opLso7bstJP4IrLwEFevKaYFBKZ_9cZxfFqx7dHmYg";

    fn claims() -> Value {
        json!({"iss": "https://acme.example", "aud": "mana", "sub": "s1", "iat": NOW, "exp": NOW + 300})
    }

    fn content(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}", part(header), part(claims))
    }

    struct Signer(Ed25519KeyPair);

    impl Signer {
        fn new() -> Self {
            Self(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
        }

        fn keys(&self) -> KeySet {
            let x = URL_SAFE_NO_PAD.encode(self.0.public_key());
            set(json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x}))
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let content = content(header, claims);
            let signature = URL_SAFE_NO_PAD.encode(self.0.sign(content.as_bytes()));
            format!("{content}.{signature}")
        }

        fn token(&self, claims: &Value) -> String {
            self.sign(&json!({"alg": "EdDSA", "kid": "k1"}), claims)
        }
    }

    fn set(key: Value) -> KeySet {
        KeySet::parse(
            json!({"keys": [{"kty": "new"}, 1, key]})
                .to_string()
                .as_bytes(),
        )
        .unwrap()
    }

    #[test]
    fn a_token_for_us_is_taken_and_every_other_is_not() {
        let signer = Signer::new();
        let check = |name: &str, value: Value| {
            let mut claims = claims();
            claims[name] = value;
            signer
                .keys()
                .verify(&signer.token(&claims), &EXPECTED)
                .map(drop)
        };
        let invalid = Err(JwtError::Invalid);
        assert_eq!(check("sub", json!("s2")), Ok(()));
        assert_eq!(check("iss", json!("https://evil.example")), invalid);
        assert_eq!(check("iss", json!(null)), invalid);
        assert_eq!(check("aud", json!("other")), invalid);
        assert_eq!(check("aud", json!(["mana"])), Ok(()));
        assert_eq!(check("aud", json!(["mana", "other"])), invalid);
        assert_eq!(check("aud", json!([])), invalid);
        assert_eq!(check("iat", json!(NOW + 61)), invalid);
        assert_eq!(check("iat", json!(null)), invalid);
        assert_eq!(check("exp", json!(null)), invalid);
        assert_eq!(check("exp", json!(NOW - 59)), Ok(()));
        assert_eq!(check("exp", json!(NOW - 60)), Err(JwtError::Expired));
        let mut several = claims();
        (several["aud"], several["azp"]) = (json!(["mana", "other"]), json!("mana"));
        assert!(
            signer
                .keys()
                .verify(&signer.token(&several), &EXPECTED)
                .is_ok()
        );
    }

    #[test]
    fn no_header_talks_its_way_past_the_signature() {
        let signer = Signer::new();
        let good = signer.token(&claims());
        let verify = |token: &str| signer.keys().verify(token, &EXPECTED).map(drop);
        assert_eq!(verify(&good), Ok(()));
        for header in [
            json!({"alg": "none"}),
            json!({"alg": "HS256", "kid": "k1"}),
            json!({"alg": "RS256", "kid": "k1"}),
            json!({"alg": "eddsa", "kid": "k1"}),
            json!({"alg": "EdDSA", "kid": "k2"}),
            json!({"alg": "EdDSA", "kid": "k1", "crit": ["b64"]}),
        ] {
            assert_eq!(
                verify(&signer.sign(&header, &claims())),
                Err(JwtError::Invalid),
                "{header}"
            );
        }
        let (unsigned, signature) = good.rsplit_once('.').unwrap();
        let mut other = claims();
        other["sub"] = json!("victim");
        let forged = format!(
            "{}.{signature}",
            content(&json!({"alg": "EdDSA", "kid": "k1"}), &other)
        );
        assert_eq!(verify(&forged), Err(JwtError::Invalid));
        assert_eq!(verify(&format!("{unsigned}.")), Err(JwtError::Invalid));
        for malformed in ["", ".", "..", "a.b.c", unsigned] {
            assert_eq!(verify(malformed), Err(JwtError::Malformed), "{malformed}");
        }
        let foreign = set(json!({"kty": "OKP", "crv": "Ed25519", "kid": "k2", "x": "AAAA"}));
        assert!(signer.keys().knows(&good) && !foreign.knows(&good));
    }

    #[test]
    fn a_key_for_something_else_signs_nothing() {
        let signer = Signer::new();
        let x = URL_SAFE_NO_PAD.encode(signer.0.public_key());
        for (name, value) in [
            ("use", "enc"),
            ("alg", "ES256"),
            ("crv", "X25519"),
            ("kid", "k2"),
        ] {
            let mut key = json!({"kty": "OKP", "crv": "Ed25519", "kid": "k1", "x": x});
            key[name] = json!(value);
            let refused = set(key).verify(&signer.token(&claims()), &EXPECTED);
            assert_eq!(refused, Err(JwtError::Invalid), "{name}");
        }
    }

    #[test]
    fn elliptic_curves_are_read_from_their_coordinates() {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let coordinate = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        let keys =
            set(json!({"kty": "EC", "crv": "P-256", "x": coordinate(x), "y": coordinate(y)}));
        let content = content(&json!({"alg": "ES256"}), &claims());
        let signature = pair.sign(&random, content.as_bytes()).unwrap();
        let token = format!("{content}.{}", coordinate(signature.as_ref()));
        assert!(keys.verify(&token, &EXPECTED).is_ok());
    }

    #[test]
    fn rsa_is_that_of_openssl() {
        let keys = set(json!({"kty": "RSA", "n": RSA_N, "e": "AQAB"}));
        let signed = |algorithm, content, signature| {
            keys.0[1].has_signed(algorithm, content, &decode(signature).unwrap())
        };
        assert!(signed("RS256", SIGNED, RS256) && signed("PS256", SIGNED, PS256));
        assert!(!signed("PS256", SIGNED, RS256) && !signed("RS256", SIGNED, PS256));
        assert!(!signed("RS256", &SIGNED[1..], RS256));
    }
}
