//! The work of one hasher thread: the formats of stored hashes, and computing them.

use argon2::{Algorithm, Argon2, Block, Version};
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use subtle::ConstantTimeEq;

use super::{HashParams, Password, PasswordHash, Verdict};
use crate::crypto::{hex, random_bytes};

/// Length of salts that we make.
const SALT_BYTES: usize = 16;
/// Length of hashes that we make.
const HASH_BYTES: usize = 32;

/// One thread's share: the cost of new hashes, and the memory in which they are computed.
pub struct Hasher {
    params: HashParams,
    /// Empty until the first job, so that an idle service stays small; then kept for good.
    pub memory: Vec<Block>,
}

impl Hasher {
    pub fn new(params: HashParams) -> Self {
        Self {
            params,
            memory: Vec::new(),
        }
    }

    pub fn hash(&mut self, password: &Password) -> PasswordHash {
        let hash = Argon2Hash {
            salt: random_bytes::<SALT_BYTES>().to_vec(),
            ..Argon2Hash::with(self.params)
        };
        let output = self
            .argon2(password.0.as_bytes(), &hash, HASH_BYTES)
            .expect("current parameters are valid");
        Argon2Hash { output, ..hash }.to_phc()
    }

    /// A key that costs as much to guess from as the hash of a password.
    pub fn stretch(&mut self, secret: [u8; 32], salt: [u8; 32]) -> [u8; 32] {
        let hash = Argon2Hash {
            salt: salt.to_vec(),
            ..Argon2Hash::with(self.params)
        };
        self.argon2(&secret, &hash, secret.len())
            .and_then(|output| output.try_into().ok())
            .expect("current parameters are valid")
    }

    pub fn verify(&mut self, password: &Password, stored: Option<&PasswordHash>) -> Verdict {
        let (matches, current) = match stored.and_then(|stored| Stored::parse(stored.expose())) {
            Some(Stored::Argon2(hash)) => {
                let output = self.argon2(password.0.as_bytes(), &hash, hash.output.len());
                let matches = output.is_some_and(|output| output.ct_eq(&hash.output).into());
                (matches, hash.is_current(self.params))
            }
            Some(Stored::BetterAuth { salt, key }) => {
                (better_auth_key(password, &salt).ct_eq(&key).into(), false)
            }
            None => {
                self.hash(password);
                (false, false)
            }
        };
        match (matches, current) {
            (false, _) => Verdict::Wrong,
            (true, true) => Verdict::Right,
            (true, false) => Verdict::RightButOutdated,
        }
    }

    /// Computes what `hash` should hold for `secret`; none if its parameters are impossible.
    fn argon2(&mut self, secret: &[u8], hash: &Argon2Hash, len: usize) -> Option<Vec<u8>> {
        let params = hash.params.bounded()?;
        let blocks = params.block_count();
        let kept_blocks = self.params.bounded()?.block_count();
        self.memory.resize(kept_blocks, Block::new());
        let mut borrowed = Vec::new();
        let memory = match self.memory.get_mut(..blocks) {
            Some(memory) => memory,
            // Only imported hashes can be dearer than ours, once per account.
            None => {
                borrowed.resize(blocks, Block::new());
                &mut borrowed[..]
            }
        };
        let mut output = vec![0; len];
        Argon2::new(hash.algorithm, hash.version, params)
            .hash_password_into_with_memory(secret, &hash.salt, &mut output, memory)
            .ok()?;
        Some(output)
    }
}

/// A stored hash that can be checked.
enum Stored {
    Argon2(Argon2Hash),
    BetterAuth { salt: String, key: [u8; 64] },
}

impl Stored {
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('$') {
            return Argon2Hash::parse(text).map(Self::Argon2);
        }
        let (salt, key) = text.split_once(':')?;
        hex::decode::<16>(salt)?;
        Some(Self::BetterAuth {
            salt: salt.to_owned(),
            key: hex::decode(key)?,
        })
    }
}

/// A hash in the PHC string format: `$argon2id$v=19$m=…,t=…,p=…$<salt>$<hash>`.
pub struct Argon2Hash {
    algorithm: Algorithm,
    version: Version,
    params: HashParams,
    pub salt: Vec<u8>,
    pub output: Vec<u8>,
}

impl Argon2Hash {
    /// As we make them, without salt and output.
    fn with(params: HashParams) -> Self {
        Self {
            algorithm: Algorithm::Argon2id,
            version: Version::V0x13,
            params,
            salt: Vec::new(),
            output: Vec::new(),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.strip_prefix('$')?.split('$').collect();
        // Hashes from before version 19 do not name their version.
        let (algorithm, version, params, salt, output) = match fields[..] {
            [algorithm, version, params, salt, output] => {
                (algorithm, version.strip_prefix("v=")?, params, salt, output)
            }
            [algorithm, params, salt, output] => (algorithm, "16", params, salt, output),
            _ => return None,
        };
        let mut params = params.split(',');
        let mut param = |name| params.next()?.strip_prefix(name)?.parse().ok();
        let hash = Self {
            algorithm: algorithm.parse().ok()?,
            version: version.parse::<u32>().ok()?.try_into().ok()?,
            params: HashParams {
                memory_kib: param("m=")?,
                iterations: param("t=")?,
                parallelism: param("p=")?,
            },
            salt: STANDARD_NO_PAD.decode(salt).ok()?,
            output: STANDARD_NO_PAD.decode(output).ok()?,
        };
        // A key id or associated data would need more than the password to check.
        let readable = params.next().is_none()
            && hash.params.bounded().is_some()
            && (8..=64).contains(&hash.salt.len())
            && (16..=64).contains(&hash.output.len());
        readable.then_some(hash)
    }

    fn to_phc(&self) -> PasswordHash {
        let HashParams {
            memory_kib,
            iterations,
            parallelism,
        } = self.params;
        PasswordHash::new(format!(
            "${}$v={}$m={memory_kib},t={iterations},p={parallelism}${}${}",
            self.algorithm,
            u32::from(self.version),
            STANDARD_NO_PAD.encode(&self.salt),
            STANDARD_NO_PAD.encode(&self.output),
        ))
    }

    fn is_current(&self, params: HashParams) -> bool {
        self.algorithm == Algorithm::Argon2id
            && self.version == Version::V0x13
            && self.params == params
            && self.salt.len() >= SALT_BYTES
            && self.output.len() >= HASH_BYTES
    }
}

/// The key that Better Auth derives: scrypt with N 16384, r 16, p 1 and the salt as hex text (S-03).
fn better_auth_key(password: &Password, salt: &str) -> [u8; 64] {
    let params = scrypt::Params::new(14, 16, 1).expect("these parameters are valid");
    let mut key = [0; 64];
    scrypt::scrypt(password.0.as_bytes(), salt.as_bytes(), &params, &mut key)
        .expect("64 bytes are a valid length");
    key
}
