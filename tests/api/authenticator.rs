//! An authenticator in software, and the browser around it: what they answer, well formed or not.

#![cfg(test)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::ORIGIN;

/// Bits of the authenticator's data (WebAuthn section 6.1).
pub const PRESENT: u8 = 1;
pub const VERIFIED: u8 = 1 << 2;
pub const BACKUP_ELIGIBLE: u8 = 1 << 3;
pub const BACKED_UP: u8 = 1 << 4;
pub const CREDENTIAL: u8 = 1 << 6;
pub const EXTENSIONS: u8 = 1 << 7;

/// What it signs with.
pub enum Key {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// An authenticator with one passkey. What it says may be changed before it says it.
pub struct Authenticator {
    pub key: Key,
    pub id: Vec<u8>,
    /// Shown as it is; the test counts.
    pub counter: u32,
    pub flags: u8,
    pub rp_id: String,
    pub origin: String,
    pub cross_origin: Option<bool>,
}

impl Authenticator {
    pub fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_ASN1_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
        Self::with(Key::P256(pair))
    }

    pub fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::with(Key::Ed25519(
            Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap(),
        ))
    }

    fn with(key: Key) -> Self {
        let mut id = vec![0; 16];
        SystemRandom::new().fill(&mut id).unwrap();
        Self {
            key,
            id,
            counter: 0,
            flags: PRESENT | VERIFIED,
            rp_id: "localhost".to_owned(),
            origin: ORIGIN.to_owned(),
            cross_origin: Some(false),
        }
    }

    /// Its passkey's id as the browser writes it.
    pub fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.id)
    }

    /// The public key as COSE has it.
    pub fn cose(&self) -> Vec<u8> {
        match &self.key {
            Key::P256(pair) => {
                let point = pair.public_key().as_ref();
                let head = [0xa5, 1, 2, 3, 0x26, 0x20, 1];
                [
                    &head[..],
                    &[0x21, 0x58, 32],
                    &point[1..33],
                    &[0x22, 0x58, 32],
                    &point[33..],
                ]
                .concat()
            }
            Key::Ed25519(pair) => {
                let head = [0xa4, 1, 1, 3, 0x27, 0x20, 6, 0x21, 0x58, 32];
                [&head[..], pair.public_key().as_ref()].concat()
            }
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        match &self.key {
            Key::P256(pair) => {
                let signature = pair.sign(&SystemRandom::new(), message).unwrap();
                signature.as_ref().to_vec()
            }
            Key::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// What the browser says of a ceremony.
    pub fn client_data(&self, ceremony: &str, options: &Value) -> Value {
        let mut data = json!({
            "type": ceremony, "challenge": options["challenge"], "origin": self.origin,
        });
        if let Some(cross_origin) = self.cross_origin {
            data["crossOrigin"] = json!(cross_origin);
        }
        data
    }

    /// What the authenticator says, up to the new credential.
    pub fn data(&self, flags: u8) -> Vec<u8> {
        let hash = Sha256::digest(&self.rp_id);
        [&hash[..], &[flags], &self.counter.to_be_bytes()].concat()
    }

    /// The same with the new credential.
    pub fn data_with_credential(&self) -> Vec<u8> {
        let length = u16::try_from(self.id.len()).unwrap().to_be_bytes();
        [
            self.data(self.flags | CREDENTIAL),
            vec![0; 16],
            length.to_vec(),
            self.id.clone(),
            self.cose(),
        ]
        .concat()
    }

    /// Makes its passkey.
    pub fn create(&self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.create", options).to_string();
        self.attest(
            client_data.as_bytes(),
            &attestation(&self.data_with_credential()),
        )
    }

    /// An answer with just these bytes.
    pub fn attest(&self, client_data: &[u8], object: &[u8]) -> Value {
        let encode = |bytes| URL_SAFE_NO_PAD.encode(bytes);
        self.answer(json!({
            "clientDataJSON": encode(client_data), "attestationObject": encode(object),
            "transports": ["internal", "hybrid"],
        }))
    }

    /// Signs with its passkey.
    pub fn get(&self, options: &Value) -> Value {
        let client_data = self.client_data("webauthn.get", options).to_string();
        self.assert(client_data.as_bytes(), &self.data(self.flags))
    }

    /// Signs just these bytes.
    pub fn assert(&self, client_data: &[u8], data: &[u8]) -> Value {
        let signed = [data, &Sha256::digest(client_data)].concat();
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        self.answer(json!({
            "clientDataJSON": encode(client_data), "authenticatorData": encode(data),
            "signature": encode(&self.sign(&signed)), "userHandle": encode(b"whoever"),
        }))
    }

    fn answer(&self, response: Value) -> Value {
        json!({
            "id": self.id(), "rawId": self.id(), "type": "public-key", "clientExtensionResults": {},
            "authenticatorAttachment": "platform", "response": response,
        })
    }
}

/// An attestation object that attests nothing, around the authenticator's data.
pub fn attestation(data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [
        &b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59"[..],
        &length,
        data,
    ]
    .concat()
}
