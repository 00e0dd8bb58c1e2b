//! Everything that touches raw key bytes: passwords, tokens, cookies, JWTs and sealing.
//!
//! No module here knows the database, HTTP or the clock: times arrive as arguments, randomness comes
//! from the operating system.

pub mod aead;
pub mod cookies;
pub mod cosign;
pub mod hex;
pub mod id_token;
pub mod jwt;
pub mod key_ring;
pub mod notes;
pub mod password;
pub mod tokens;
pub mod totp;
pub mod vault_key;
pub mod webauthn;

/// Bytes from the operating system's random generator.
fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system always has random bytes");
    bytes
}

/// The values that the original service computed, which ours have to equal.
#[cfg(test)]
fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../../tests/contract/vectors.json")).unwrap()
}
