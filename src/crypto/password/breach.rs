//! Passwords that others know (S-06): a Bloom filter, and the file that it comes from.
//!
//! Nothing leaves the machine and nothing is asked of another service. A filter never misses a password
//! that was put in and takes one of 500,000 others for one of them.
//!
//! The file, numbers with their lowest byte first: the text `mana-auth breach`, version (4 bytes), hashes for
//! each entry (4), entries (8), words (8), the words of the filter (8 each), SHA-256 of everything before (32).

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use fastbloom::BloomFilter;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::Password;

#[cfg(test)]
mod tests;

/// First bytes of every filter file.
const MAGIC: &[u8; 16] = b"mana-auth breach";
/// Version of the file, and of how keys are spread over the bits: the crate that spreads them may change its
/// mind with any release, which a test with a fixed file notices.
const VERSION: u32 = 1;
/// How often a password that is not in the list is taken for one: a fifth of what S-06 allows.
const FALSE_POSITIVES: f64 = 2e-6;
/// Most hashes for each entry that a file may ask for; ours ask for 19, those of a few entries for up to 44.
const MAX_HASHES: u32 = 64;
const HEAD_BYTES: usize = 40;
const CHECKSUM_BYTES: usize = 32;
/// Words that are read or written at once: 64 KiB.
const CHUNK_WORDS: usize = 8192;

/// Why a file cannot be used as a filter.
#[derive(Debug, Error)]
pub enum BreachError {
    /// The system does not give it out.
    #[error("the file cannot be read")]
    Unreadable(#[from] io::Error),
    /// It never was one.
    #[error("the file is no filter of breached passwords; `mana-auth breach build` makes one")]
    NotAFilter,
    /// A newer or older program made it.
    #[error("the filter has version {0}, this program reads version {VERSION}; build it again")]
    OtherVersion(u32),
    /// A copy was cut off, or something was added.
    #[error("the filter has {found} bytes where it should have {expected}: copy or build it again")]
    WrongLength {
        /// Bytes that there are.
        found: u64,
        /// Bytes that there should be.
        expected: u128,
    },
    /// It is not what was written.
    #[error("the filter is damaged, its checksum does not fit: copy or build it again")]
    Damaged,
}

/// What stands for a password in a filter: the first 8 bytes of its SHA-1, as public lists have it.
#[derive(Clone, Copy)]
pub struct Key(u64);

impl Key {
    /// Of a password's bytes as somebody typed them.
    pub fn of_password(typed: &[u8]) -> Self {
        Self::of_sha1(Sha1::digest(typed).into())
    }

    /// Of a password's SHA-1.
    pub fn of_sha1(digest: [u8; 20]) -> Self {
        Self(u64::from_be_bytes(std::array::from_fn(|n| digest[n])))
    }
}

/// A list of passwords, of which only whether one is in it can be asked.
pub struct BreachFilter {
    bloom: BloomFilter,
    entries: u64,
}

impl BreachFilter {
    /// An empty one with room for so many passwords; with more it refuses more strangers.
    pub fn with_room_for(passwords: usize) -> Self {
        Self {
            bloom: BloomFilter::with_false_pos(FALSE_POSITIVES).expected_items(passwords),
            entries: 0,
        }
    }

    /// Puts a password in.
    pub fn add(&mut self, Key(key): Key) {
        let known = self.bloom.insert_hash(key);
        self.entries += u64::from(!known);
    }

    /// How many different passwords are in it; one that was taken for another when it was put in does not count.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Whether a password is in it, as typed or in the normalised form that opens the account as well.
    pub fn contains(&self, typed: &str) -> bool {
        let known = |text: &str| {
            let Key(key) = Key::of_password(text.as_bytes());
            self.bloom.contains_hash(key)
        };
        let known_otherwise =
            || Password::new(typed.to_owned()).is_ok_and(|normal| known(&normal.0));
        known(typed) || !typed.is_ascii() && known_otherwise()
    }

    /// Reads the file; takes as much memory as it is long.
    ///
    /// # Errors
    /// [`BreachError`]: nothing but a whole and untouched file is accepted.
    pub fn open(path: &Path) -> Result<Self, BreachError> {
        let file = File::open(path)?;
        let found = file.metadata()?.len();
        let mut file = BufReader::new(file);
        let mut head = Vec::new();
        file.by_ref()
            .take(HEAD_BYTES as u64)
            .read_to_end(&mut head)?;
        let numbers = head.strip_prefix(MAGIC).ok_or(BreachError::NotAFilter)?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let [version_and_hashes, entries, words] = numbers else {
            let expected = (HEAD_BYTES + CHECKSUM_BYTES) as u128;
            return Err(BreachError::WrongLength { found, expected });
        };
        let version_and_hashes = u64::from_le_bytes(*version_and_hashes);
        let (version, hashes) = (version_and_hashes as u32, (version_and_hashes >> 32) as u32);
        if version != VERSION {
            return Err(BreachError::OtherVersion(version));
        }
        let words = u64::from_le_bytes(*words);
        // Compared before memory is asked for, so that a damaged number asks for none.
        let expected = u128::from(words) * 8 + (HEAD_BYTES + CHECKSUM_BYTES) as u128;
        if u128::from(found) != expected {
            return Err(BreachError::WrongLength { found, expected });
        }
        let (bits, sum) = read_words(&mut file, words as usize, Sha256::new_with_prefix(&head))?;
        let mut checksum = [0; CHECKSUM_BYTES];
        file.read_exact(&mut checksum)?;
        let usable = !bits.is_empty() && (1..=MAX_HASHES).contains(&hashes);
        if sum.finalize()[..] != checksum || !usable {
            return Err(BreachError::Damaged);
        }
        Ok(Self {
            bloom: BloomFilter::from_vec(bits).hashes(hashes),
            entries: u64::from_le_bytes(*entries),
        })
    }

    /// Writes the file so that a crash leaves the old one or the new one; how many bytes it has.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<u64> {
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let fresh = PathBuf::from(fresh);
        let written = self
            .write_new(&fresh)
            .and_then(|bytes| fs::rename(&fresh, path).map(|()| bytes));
        if written.is_err() {
            // What is left of it helps nobody; the first error is the one to tell.
            let _ = fs::remove_file(&fresh);
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        written
    }

    fn write_new(&self, path: &Path) -> io::Result<u64> {
        let mut file = BufWriter::new(File::create(path)?);
        let mut sum = Sha256::new();
        let mut put = |bytes: &[u8]| {
            sum.update(bytes);
            file.write_all(bytes)
        };
        let words = self.bloom.as_slice();
        put(MAGIC)?;
        put(&VERSION.to_le_bytes())?;
        put(&self.bloom.num_hashes().to_le_bytes())?;
        put(&self.entries.to_le_bytes())?;
        put(&(words.len() as u64).to_le_bytes())?;
        for chunk in words.chunks(CHUNK_WORDS) {
            let bytes: Vec<u8> = chunk.iter().flat_map(|word| word.to_le_bytes()).collect();
            put(&bytes)?;
        }
        file.write_all(&sum.finalize())?;
        let file = file.into_inner().map_err(|error| error.into_error())?;
        // On disk before it takes the old one's place.
        file.sync_all()?;
        Ok(file.metadata()?.len())
    }
}

/// Reads the words of a filter, and goes on with the checksum over them.
fn read_words(
    file: &mut impl Read,
    words: usize,
    mut sum: Sha256,
) -> io::Result<(Vec<u64>, Sha256)> {
    let mut bits = Vec::with_capacity(words);
    let mut chunk = vec![0; 8 * CHUNK_WORDS];
    while bits.len() < words {
        let bytes = &mut chunk[..8 * CHUNK_WORDS.min(words - bits.len())];
        file.read_exact(bytes)?;
        sum.update(&*bytes);
        let (read, _) = bytes.as_chunks::<8>();
        bits.extend(read.iter().map(|word| u64::from_le_bytes(*word)));
    }
    Ok((bits, sum))
}
