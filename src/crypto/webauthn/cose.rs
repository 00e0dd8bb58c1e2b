//! The CBOR in it: the attestation object and public keys (RFC 9052, RFC 9053, RFC 8230) of the three algorithms that are
//! asked for.

use minicbor::Decoder;
use minicbor::data::Type;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};

use super::Fault;

/// Length of a coordinate of P-256 and of an Ed25519 key, in bytes.
const COORDINATE: usize = 32;

/// A public key.
#[derive(Debug, PartialEq)]
pub enum PublicKey {
    /// EdDSA with Ed25519: COSE algorithm -8.
    Ed25519([u8; COORDINATE]),
    /// ECDSA with P-256 and SHA-256: COSE algorithm -7. The point, not compressed.
    P256([u8; 1 + 2 * COORDINATE]),
    /// RSASSA-PKCS1-v1_5 with SHA-256: COSE algorithm -257. Modulus and exponent.
    Rsa(Vec<u8>, Vec<u8>),
}

/// The members of a key map that the three kinds of keys have. What -1 to -3 mean depends on the kind.
#[derive(Default)]
struct Members<'a> {
    kind: Option<i64>,
    algorithm: Option<i64>,
    curve: Option<i64>,
    minus_1: Option<&'a [u8]>,
    minus_2: Option<&'a [u8]>,
    minus_3: Option<&'a [u8]>,
}

impl PublicKey {
    /// Reads a key; it must be all there is.
    ///
    /// # Errors
    /// If it is of another kind, or broken.
    pub fn read(cose: &[u8]) -> Result<Self, Fault> {
        let mut decoder = Decoder::new(cose);
        let members = Members::read(&mut decoder).map_err(|_| Fault::Key)?;
        if decoder.position() != cose.len() {
            return Err(Fault::Key);
        }
        members.key().ok_or(Fault::Key)
    }

    /// Whether a signature is this key's.
    ///
    /// # Errors
    /// If it is not.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Fault> {
        let verified = match self {
            Self::Ed25519(key) => UnparsedPublicKey::new(&ED25519, key).verify(message, signature),
            Self::P256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature)
            }
            Self::Rsa(n, e) => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
        };
        verified.map_err(|_| Fault::Signature)
    }
}

impl<'a> Members<'a> {
    fn read(decoder: &mut Decoder<'a>) -> Result<Self, minicbor::decode::Error> {
        let mut members = Self::default();
        for _ in 0..definite_map(decoder)? {
            match decoder.i64()? {
                1 => set(&mut members.kind, decoder.i64()?)?,
                3 => set(&mut members.algorithm, decoder.i64()?)?,
                -1 if decoder.datatype()? == Type::Bytes => {
                    set(&mut members.minus_1, decoder.bytes()?)?;
                }
                -1 => set(&mut members.curve, decoder.i64()?)?,
                -2 => set(&mut members.minus_2, decoder.bytes()?)?,
                -3 => set(&mut members.minus_3, decoder.bytes()?)?,
                _ => decoder.skip()?,
            }
        }
        Ok(members)
    }

    /// The key, if its members fit together.
    fn key(self) -> Option<PublicKey> {
        match (self.kind?, self.algorithm?, self.curve) {
            (1, -8, Some(6)) => Some(PublicKey::Ed25519(self.minus_2?.try_into().ok()?)),
            (2, -7, Some(1)) => {
                let x: &[u8; COORDINATE] = self.minus_2?.try_into().ok()?;
                let y: &[u8; COORDINATE] = self.minus_3?.try_into().ok()?;
                let point = [&[4][..], x, y].concat();
                Some(PublicKey::P256(point.try_into().ok()?))
            }
            (3, -257, None) => {
                // 2,048 to 8,192 bits, as the verifier takes them.
                let (n, e) = (self.minus_1?, self.minus_2?);
                let is_key = (256..=1024).contains(&n.len()) && (1..=8).contains(&e.len());
                is_key.then(|| PublicKey::Rsa(n.to_vec(), e.to_vec()))
            }
            _ => None,
        }
    }
}

/// Sets what stands there once.
fn set<T>(member: &mut Option<T>, value: T) -> Result<(), minicbor::decode::Error> {
    match member.replace(value) {
        None => Ok(()),
        Some(_) => Err(minicbor::decode::Error::message(
            "a label stands there twice",
        )),
    }
}

/// The number of entries of a map; authenticators write all lengths (CTAP2 canonical form).
fn definite_map(decoder: &mut Decoder<'_>) -> Result<u64, minicbor::decode::Error> {
    let entries = decoder.map()?;
    entries.ok_or_else(|| minicbor::decode::Error::message("a map without a length"))
}

/// Splits the bytes after the map that they begin with.
pub fn split_map(bytes: &[u8]) -> Result<(&[u8], &[u8]), Fault> {
    let mut decoder = Decoder::new(bytes);
    let is_map = decoder.datatype().is_ok_and(|kind| kind == Type::Map);
    if !is_map || decoder.skip().is_err() {
        return Err(Fault::AuthenticatorData);
    }
    Ok(bytes.split_at(decoder.position()))
}

/// The authenticator's data in an attestation object (WebAuthn section 6.5.4).
pub fn authenticator_data_of(object: &[u8]) -> Result<&[u8], Fault> {
    let mut decoder = Decoder::new(object);
    let data = read_object(&mut decoder).map_err(|_| Fault::AuthenticatorData)?;
    match data {
        Some(data) if decoder.position() == object.len() => Ok(data),
        Some(_) | None => Err(Fault::AuthenticatorData),
    }
}

fn read_object<'a>(decoder: &mut Decoder<'a>) -> Result<Option<&'a [u8]>, minicbor::decode::Error> {
    let (mut format, mut statement, mut data) = (None, None, None);
    for _ in 0..definite_map(decoder)? {
        match decoder.str()? {
            "fmt" => set(&mut format, decoder.str()?)?,
            "authData" => set(&mut data, decoder.bytes()?)?,
            "attStmt" => {
                definite_map(&mut decoder.clone())?;
                set(&mut statement, decoder.skip()?)?;
            }
            _ => decoder.skip()?,
        }
    }
    Ok(format.and(statement).and(data))
}
