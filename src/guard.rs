//! The one guard of every door that checks a secret: tries are counted before anything is checked, in the
//! database, for all nodes together (S-10 to S-20).
//!
//! Three budgets. An **account**'s is shared by everybody who tries from an unknown device; a **known device**
//! (one that the person signed in from in the last 30 days) has its own, so whoever empties the account's cannot
//! lock the owner out (S-13). A **network** (IPv4 address, IPv6 /64) has one over all accounts. Unknown addresses
//! have budgets like known ones (S-20). Nothing checks a password or a mailed token without an [`Attempt`].

use chrono::{DateTime, TimeDelta, Utc};
use projections::devices;
use projections::users::UserRow;
use sqlx::Row as _;

use crate::app::App;
use crate::store::StoreError;

/// Failed tries within the window that lock an account or a device (contract section 14.2).
pub const ACCOUNT_LIMIT: i32 = 5;
/// Failed tries within the window that lock a network, whatever accounts they were about.
pub const NETWORK_LIMIT: i32 = 100;
/// Wrong codes that end a challenge or a mailed code (contract section 7).
const CODE_LIMIT: i32 = 5;
/// Wrong codes of all kinds in a row that lock a person's second factor (contract section 7, S-19).
const SECOND_FACTOR_LIMIT: i32 = 10;
/// A second factor is locked for this long, in seconds.
const CODE_LOCK_SECS: f64 = 15.0 * 60.0;
/// Failures count this long, in seconds.
const WINDOW_SECS: f64 = 15.0 * 60.0;
/// The first lock lasts 30 minutes, each further one twice as long, up to a day (S-14), in seconds.
const LOCK_SECS: [f64; 2] = [30.0 * 60.0, 24.0 * 3600.0];
/// After so long without a failure the next lock is a first one again, in seconds.
const QUIET_SECS: f64 = 2.0 * 24.0 * 3600.0;
/// Failed tries with one passkey within its window that keep it from being tried (mana-v1.md section 11).
pub const PASSKEY_LIMIT: i32 = 10;
/// Failures of a passkey count this long, and it is not looked at for so long then, in seconds.
const PASSKEY_SECS: (f64, f64) = (60.0, 5.0 * 60.0);
/// A try that is checked for longer than this was lost with its node, in seconds.
const CHECKING_SECS: f64 = 60.0;
/// A device is known for this long after the last sign-in from it.
pub const KNOWN_FOR: TimeDelta = TimeDelta::days(30);

/// What a try is counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Budget {
    Account,
    Device,
    Network,
    /// Of one sign-in that waits for its second factor, or of one session that shows one.
    Challenge,
    /// Of one mailed code.
    MailedCode,
    /// Of one passkey.
    Passkey,
    /// Of all of a person's second factors together, over all challenges (S-19).
    SecondFactor,
}

/// Whom a try is about, and from where it comes.
pub struct Target<'a> {
    /// The canonical mail address that is tried; none for tokens, which name nobody.
    pub email: Option<&'a str>,
    /// The device, if the person is known to use it.
    pub known_device: Option<&'a str>,
    /// The network it comes from, as counted; empty if unknown.
    pub network: &'a str,
}

/// Whose second factor a try is about. It counts whether requests are limited or not.
pub struct Code<'a> {
    /// Whose.
    pub user_id: &'a str,
    /// The challenge or session that shows it.
    pub holder: &'a str,
    /// Whether it was mailed: such a code has tries of its own.
    pub mailed: bool,
}

/// Why a try is not looked at.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Too many failed: nothing is checked for a while.
    #[error("locked for {retry_after_secs} s")]
    Locked {
        /// Until the budget is open again, in seconds.
        retry_after_secs: u64,
    },
    /// The network's budget is empty, or as many tries as may fail are being checked just now.
    #[error("too many tries at once")]
    TooMany {
        /// Until another try is worth it, in seconds.
        retry_after_secs: u64,
    },
    /// The challenge, or the mailed code, has had as many wrong tries as it may have.
    #[error("no tries are left")]
    Spent,
    /// It cannot be counted, so it is not checked (S-17).
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for Refused {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A try that was counted: the right to check one secret. It has to be settled; one that is dropped stops
/// counting after a minute.
#[must_use]
pub struct Attempt {
    budgets: Vec<(Budget, [u8; 32])>,
    /// How long failures count, in seconds.
    window_secs: f64,
    /// Length of the first lock and of the longest, in seconds.
    lock_secs: [f64; 2],
}

/// What became of a budget that a failed try has locked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Locked {
    /// Whether it was the account's, not a single device's or a network's.
    pub account: bool,
    /// Until when.
    pub until: DateTime<Utc>,
}

/// Counts a try, or refuses it.
///
/// # Errors
/// If a budget is empty, or the try cannot be counted.
pub async fn admit(app: &App, target: Target<'_>) -> Result<Attempt, Refused> {
    let attempt = Attempt {
        budgets: budgets(app, &target),
        window_secs: WINDOW_SECS,
        lock_secs: LOCK_SECS,
    };
    attempt.taken(app).await
}

/// The same for a code that is shown as a second factor.
///
/// # Errors
/// If a budget is empty, or the try cannot be counted.
pub async fn admit_code(app: &App, code: Code<'_>) -> Result<Attempt, Refused> {
    let own = if code.mailed {
        Budget::MailedCode
    } else {
        Budget::Challenge
    };
    let budgets = [(own, code.holder), (Budget::SecondFactor, code.user_id)]
        .map(|(budget, of)| (budget, budget.key(app, &[of])));
    let attempt = Attempt {
        budgets: budgets.to_vec(),
        window_secs: WINDOW_SECS,
        lock_secs: [CODE_LOCK_SECS; 2],
    };
    attempt.taken(app).await
}

/// The same for a passkey, by its own id. Whether somebody has such a passkey makes no difference.
///
/// # Errors
/// If the budget is empty, or the try cannot be counted.
pub async fn admit_passkey(app: &App, credential_id: &str) -> Result<Attempt, Refused> {
    let budget = Budget::Passkey;
    let counted = app.config.rate_limit;
    let (window_secs, lock_secs) = PASSKEY_SECS;
    let attempt = Attempt {
        budgets: counted
            .then(|| (budget, budget.key(app, &[credential_id])))
            .into_iter()
            .collect(),
        window_secs,
        lock_secs: [lock_secs; 2],
    };
    attempt.taken(app).await
}

/// Gives a new mailed code tries of its own.
///
/// # Errors
/// When the database does not answer.
pub async fn new_code(app: &App, holder: &str) -> Result<(), StoreError> {
    sqlx::query("delete from attempts where key = $1")
        .bind(Budget::MailedCode.key(app, &[holder]).as_slice())
        .execute(&app.pool)
        .await?;
    Ok(())
}

impl Attempt {
    /// Takes the try from all budgets, or from none.
    async fn taken(self, app: &App) -> Result<Self, Refused> {
        let attempt = self;
        if attempt.budgets.is_empty() {
            return Ok(attempt);
        }
        let row = sqlx::query(
            "select admitted, refused_by, wait_secs from take_attempt($1, $2, $3, $4, $5)",
        )
        .bind(attempt.keys())
        .bind(attempt.limits())
        .bind(attempt.window_secs)
        .bind(CHECKING_SECS)
        .bind(app.clock.held_at())
        .fetch_one(&app.pool)
        .await?;
        if row.try_get("admitted")? {
            return Ok(attempt);
        }
        let by: i32 = row.try_get("refused_by")?;
        let budget = usize::try_from(by - 1)
            .ok()
            .and_then(|n| attempt.budgets.get(n))
            .map_or(Budget::Network, |(budget, _)| *budget);
        metrics::counter!("attempts_refused_total", "budget" => budget.name()).increment(1);
        let wait: Option<f64> = row.try_get("wait_secs")?;
        let retry_after_secs = wait.map_or(1, |secs| secs.ceil().max(1.0) as u64);
        Err(match (budget, wait) {
            (Budget::Account | Budget::Device | Budget::SecondFactor, Some(_)) => {
                Refused::Locked { retry_after_secs }
            }
            (Budget::Challenge | Budget::MailedCode, Some(_)) => Refused::Spent,
            _ => Refused::TooMany { retry_after_secs },
        })
    }
}

fn budgets(app: &App, target: &Target<'_>) -> Vec<(Budget, [u8; 32])> {
    if !app.config.rate_limit {
        return vec![];
    }
    let key = |budget: Budget, parts: &[&str]| (budget, budget.key(app, parts));
    let mut budgets = Vec::with_capacity(2);
    match (target.email, target.known_device) {
        (Some(email), Some(device)) => budgets.push(key(Budget::Device, &[email, device])),
        (Some(email), None) => budgets.push(key(Budget::Account, &[email])),
        (None, _) => {}
    }
    // Everybody behind an unlisted proxy would share this one.
    if !target.network.is_empty() {
        budgets.push(key(Budget::Network, &[target.network]));
    }
    budgets
}

impl Budget {
    fn key(self, app: &App, parts: &[&str]) -> [u8; 32] {
        app.keyed_hash(&[&["attempts", self.name()], parts].concat())
    }

    fn name(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Device => "device",
            Self::Network => "network",
            Self::Challenge => "challenge",
            Self::MailedCode => "mailed_code",
            Self::Passkey => "passkey",
            Self::SecondFactor => "second_factor",
        }
    }

    fn limit(self) -> i32 {
        match self {
            Self::Account | Self::Device => ACCOUNT_LIMIT,
            Self::Network => NETWORK_LIMIT,
            Self::Challenge | Self::MailedCode => CODE_LIMIT,
            Self::Passkey => PASSKEY_LIMIT,
            Self::SecondFactor => SECOND_FACTOR_LIMIT,
        }
    }
}

impl Attempt {
    /// The secret was wrong. Says what that has locked.
    ///
    /// # Errors
    /// When the database does not answer; the try then goes on counting for a minute.
    pub async fn failed(self, app: &App) -> Result<Option<Locked>, StoreError> {
        let locked = self.settle(app, "failed").await?;
        let mut found = None;
        for ((budget, _), until) in self.budgets.iter().zip(locked) {
            let Some(until) = until else { continue };
            metrics::counter!("locks_total", "budget" => budget.name()).increment(1);
            tracing::warn!(budget = budget.name(), %until, "too many failed tries: locked");
            let account = matches!(budget, Budget::Account | Budget::SecondFactor);
            if account || *budget == Budget::Device {
                found = Some(Locked { account, until });
            }
        }
        Ok(found)
    }

    /// The secret was right: the account, or the device, starts afresh. The network does not: an attacker may
    /// have an account of their own.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn succeeded(self, app: &App) -> Result<(), StoreError> {
        self.settle(app, "good").await.map(drop)
    }

    /// It could not be checked, or was right and led nowhere for another reason: it never was.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn withdrawn(self, app: &App) -> Result<(), StoreError> {
        self.settle(app, "withdrawn").await.map(drop)
    }

    async fn settle(
        &self,
        app: &App,
        outcome: &'static str,
    ) -> Result<Vec<Option<DateTime<Utc>>>, StoreError> {
        if self.budgets.is_empty() {
            return Ok(vec![]);
        }
        let cleared: Vec<bool> = self
            .budgets
            .iter()
            .map(|(budget, _)| *budget != Budget::Network)
            .collect();
        let locked = sqlx::query_scalar("select settle_attempt($1, $2, $3, $4, $5, $6, $7, $8)")
            .bind(self.keys())
            .bind(self.limits())
            .bind(self.window_secs)
            .bind(self.lock_secs.as_slice())
            .bind(QUIET_SECS)
            .bind(outcome)
            .bind(cleared)
            .bind(app.clock.held_at())
            .fetch_one(&app.pool)
            .await?;
        Ok(locked)
    }

    fn keys(&self) -> Vec<&[u8]> {
        self.budgets.iter().map(|(_, key)| key.as_slice()).collect()
    }

    fn limits(&self) -> Vec<i32> {
        self.budgets
            .iter()
            .map(|(budget, _)| budget.limit())
            .collect()
    }
}

/// Forgets the failures of an account and of all devices of its owner, who has proven to be it by mail, or whom an
/// operator has looked at: whoever forgot their password has locked their own device first.
///
/// # Errors
/// When the database does not answer.
pub async fn clear(app: &App, user: &UserRow) -> Result<(), StoreError> {
    let devices = devices::of_user(&app.pool, &user.id).await?;
    let of_devices = devices
        .iter()
        .map(|device| Budget::Device.key(app, &[&user.email, device]));
    let of_account = Budget::Account.key(app, &[&user.email]);
    let keys: Vec<Vec<u8>> = of_devices
        .chain([of_account])
        .map(|key| key.to_vec())
        .collect();
    // In the order in which tries lock them, so that nobody waits in a circle.
    sqlx::query(
        "delete from attempts where key in (
             select key from attempts where key = any ($1) order by key for update)",
    )
    .bind(keys)
    .execute(&app.pool)
    .await?;
    Ok(())
}

/// Forgets budgets that nothing has touched for so long that they say nothing any more.
///
/// # Errors
/// When the database does not answer.
pub async fn forget_old(app: &App) -> Result<(), sqlx::Error> {
    sqlx::query(
        "delete from attempts
         where checking_since < coalesce($1, clock_timestamp()) - make_interval(secs => $2)
           and coalesce(locked_until, '-infinity') < coalesce($1, clock_timestamp())",
    )
    .bind(app.clock.held_at())
    .bind(QUIET_SECS)
    .execute(&app.pool)
    .await?;
    Ok(())
}
