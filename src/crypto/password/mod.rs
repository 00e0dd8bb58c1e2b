//! Passwords: Argon2id on a few threads of its own behind one bounded queue.
//!
//! Each thread owns one block of memory for good and the queue refuses when it is full, so a storm of
//! sign-ins costs `threads × memory_kib`, never slows the async runtime, and ends in a 503 (S-05).
//! Length rules for new passwords are the business of the handlers.
//!
//! Memory is not wiped between hashes: with two or more passes every block depends on the whole work, so
//! what is left over saves a guesser nothing, and wiping would add 6 % to each hash. Two things take more
//! memory for a moment, and only until the account's next good login replaces its hash: an Argon2 hash
//! dearer than ours, and scrypt (32 MiB), whose crate cannot be lent memory. A block as large as
//! scrypt's goes straight back to the system.

pub mod breach;
mod hasher;
pub mod rules;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use argon2::Params;
use metrics::{counter, gauge, histogram};
use thiserror::Error;
use tokio::sync::oneshot;
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use breach::BreachFilter;
use hasher::Hasher;

/// Longest password that is looked at, in bytes of UTF-8 as received (S-04).
const MAX_PASSWORD_BYTES: usize = 4096;
/// Most memory that one hash may ask for, in KiB.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
/// Most work that one hash may ask for: memory in KiB times iterations, about a second.
const MAX_WORK_KIB: u64 = 1024 * 1024;
/// Most lanes that one hash may ask for.
const MAX_PARALLELISM: u32 = 16;
/// A full queue is worked off in about this time.
const RETRY_AFTER_SECS: u64 = 2;

/// The cost of one Argon2id hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashParams {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over the memory.
    pub iterations: u32,
    /// Lanes, computed one after the other.
    pub parallelism: u32,
}

impl HashParams {
    /// The least that new hashes may cost (OWASP; S-01).
    pub const FLOOR: Self = Self {
        memory_kib: 19_456,
        iterations: 2,
        parallelism: 1,
    };

    fn above_floor(&self) -> bool {
        self.memory_kib >= Self::FLOOR.memory_kib
            && self.iterations >= Self::FLOOR.iterations
            && self.parallelism >= Self::FLOOR.parallelism
    }

    /// The parameters for `argon2`, unless a hash would cost more than we are ready to pay.
    fn bounded(&self) -> Option<Params> {
        let work = u64::from(self.memory_kib) * u64::from(self.iterations);
        if self.memory_kib > MAX_MEMORY_KIB
            || work > MAX_WORK_KIB
            || self.parallelism > MAX_PARALLELISM
        {
            return None;
        }
        Params::new(self.memory_kib, self.iterations, self.parallelism, None).ok()
    }
}

/// The configured cost cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BadHashParams {
    /// Cheaper than [`HashParams::FLOOR`].
    #[error("password hashing needs at least 19456 KiB of memory, 2 iterations and 1 lane")]
    BelowFloor,
    /// Dearer than what is accepted in stored hashes, or more lanes than the memory has room for.
    #[error("password hashing may cost at most 256 MiB, 16 lanes and 1 GiB of memory × iterations")]
    AboveCeiling,
}

/// The hasher has no room for another job: the caller should answer 503 with `Retry-After` (S-05).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("too many passwords are being checked")]
pub struct Overloaded {
    /// When to try again, in seconds.
    pub retry_after_secs: u64,
}

/// The password is longer than any that is hashed (S-04).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("password is longer than 4096 bytes")]
pub struct PasswordTooLong;

/// A password as typed, in Unicode form NFKC, wiped when dropped.
///
/// Normalised for every kind of hash: another keyboard or system may compose the same letters otherwise.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Takes a password of up to 4096 bytes; longer ones are refused before any work is done (S-04).
    ///
    /// # Errors
    /// [`PasswordTooLong`].
    pub fn new(typed: String) -> Result<Self, PasswordTooLong> {
        let typed = Zeroizing::new(typed);
        if typed.len() > MAX_PASSWORD_BYTES {
            return Err(PasswordTooLong);
        }
        // The full capacity at once: growing would leave unwiped copies behind.
        let len = typed.nfkc().map(char::len_utf8).sum();
        let mut normalised = Zeroizing::new(String::with_capacity(len));
        normalised.extend(typed.nfkc());
        Ok(Self(normalised))
    }
}

impl Password {
    /// Whether others know it, by the filter. The filter knows passwords as typed; one that normalising changed is
    /// not found.
    pub fn is_breached(&self, filter: &BreachFilter) -> bool {
        filter.contains(&self.0)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(***)")
    }
}

/// A password hash as stored: an Argon2 PHC string, or the old service's `<salt>:<key>`.
#[derive(Clone)]
pub struct PasswordHash(Zeroizing<String>);

impl PasswordHash {
    /// Takes a stored text; what cannot be read as a hash matches no password (S-09).
    pub fn new(stored: String) -> Self {
        Self(Zeroizing::new(stored))
    }

    /// The text to store.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("PasswordHash(***)")
    }
}

/// What a password is worth against a stored hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It does not match, or there is nothing to match.
    Wrong,
    /// It matches.
    Right,
    /// It matches a hash of an old format or cost, which should be replaced now (S-02).
    RightButOutdated,
}

/// The handle to the hasher; the threads end when the last clone is dropped.
#[derive(Clone)]
pub struct Passwords {
    jobs: SyncSender<Job>,
    /// Jobs that no thread has begun.
    waiting: Arc<AtomicU32>,
}

type Job = Box<dyn FnOnce(&mut Hasher) + Send>;

impl Passwords {
    /// Starts `threads` threads (at least one) behind a queue of `queue` waiting jobs (at least one).
    ///
    /// # Errors
    /// When `params` lie below the floor (S-01) or above what one hash may cost.
    pub fn new(params: HashParams, threads: usize, queue: usize) -> Result<Self, BadHashParams> {
        if !params.above_floor() {
            return Err(BadHashParams::BelowFloor);
        }
        if params.bounded().is_none() {
            return Err(BadHashParams::AboveCeiling);
        }
        let (passwords, jobs) = Self::queue(queue);
        spawn(params, threads, jobs);
        Ok(passwords)
    }

    /// Hashes a new password: Argon2id with the current cost and a random salt, as PHC string (S-01).
    ///
    /// # Errors
    /// [`Overloaded`] at once when the queue is full.
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Overloaded> {
        self.run(move |hasher| hasher.hash(&password)).await
    }

    /// Checks a password against the stored hash of its account, `None` if there is no such account.
    ///
    /// Without an account, or with a hash that cannot be read, the answer costs the same as a wrong
    /// password against a current hash (S-23). A hash of the old service costs more until it is replaced.
    ///
    /// # Errors
    /// [`Overloaded`] at once when the queue is full.
    pub async fn verify(
        &self,
        password: Password,
        stored: Option<PasswordHash>,
    ) -> Result<Verdict, Overloaded> {
        self.run(move |hasher| hasher.verify(&password, stored.as_ref()))
            .await
    }

    /// A key that costs as much to guess from as the hash of a password, for what is kept of a request that holds one:
    /// Argon2id with the current cost, the same for the same secret and salt.
    ///
    /// # Errors
    /// [`Overloaded`] at once when the queue is full.
    pub async fn stretch(&self, secret: [u8; 32], salt: [u8; 32]) -> Result<[u8; 32], Overloaded> {
        self.run(move |hasher| hasher.stretch(secret, salt)).await
    }

    fn queue(places: usize) -> (Self, Receiver<Job>) {
        let (jobs, receiver) = sync_channel(places.max(1));
        let waiting = Arc::default();
        (Self { jobs, waiting }, receiver)
    }

    /// How many wait for a thread.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Hasher) -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let (reply, answer) = oneshot::channel();
        let queued_at = Instant::now();
        // Counted first, or the thread could count it out before it was in.
        let place = Place::taken(&self.waiting);
        let job: Job = Box::new(move |hasher| {
            drop(place);
            histogram!("hasher_wait_seconds").record(queued_at.elapsed());
            // The caller has gone away: a client that hung up costs no hash.
            if reply.is_closed() {
                return;
            }
            let started_at = Instant::now();
            let result = work(hasher);
            histogram!("hasher_hash_seconds").record(started_at.elapsed());
            // Nobody may be waiting by now.
            let _ = reply.send(result);
        });
        if self.jobs.try_send(job).is_err() {
            counter!("hasher_overflow_total").increment(1);
            return Err(Overloaded {
                retry_after_secs: RETRY_AFTER_SECS,
            });
        }
        answer.await.map_err(|_| Overloaded {
            retry_after_secs: RETRY_AFTER_SECS,
        })
    }
}

impl fmt::Debug for Passwords {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passwords")
    }
}

/// The place of a job in the queue, counted until it is begun or refused.
struct Place(Arc<AtomicU32>);

impl Place {
    fn taken(waiting: &Arc<AtomicU32>) -> Self {
        waiting.fetch_add(1, Ordering::Relaxed);
        gauge!("hasher_queue_depth").increment(1.0);
        Self(Arc::clone(waiting))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
        gauge!("hasher_queue_depth").decrement(1.0);
    }
}

fn spawn(params: HashParams, threads: usize, jobs: Receiver<Job>) -> Vec<JoinHandle<()>> {
    let jobs = Arc::new(Mutex::new(jobs));
    let run = |number| {
        let jobs = Arc::clone(&jobs);
        thread::Builder::new()
            .name(format!("hasher-{number}"))
            .spawn(move || {
                let mut hasher = Hasher::new(params);
                while let Some(job) = next(&jobs) {
                    job(&mut hasher);
                }
            })
            .expect("the system starts a few threads when the service starts")
    };
    (0..threads.max(1)).map(run).collect()
}

/// Waits for a job; none when no handle is left that could send one.
fn next(jobs: &Mutex<Receiver<Job>>) -> Option<Job> {
    jobs.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .recv()
        .ok()
}
