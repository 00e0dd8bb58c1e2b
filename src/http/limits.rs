//! How many requests a client may send (contract section 5). Routes that check or make credentials or send mail are
//! counted in the database, so that all nodes share the counters and a restart forgets nothing (S-18); when they
//! cannot be counted, these routes are closed (S-17). All others have a coarse brake in the memory of each node.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use moka::sync::Cache;
use sqlx::PgPool;

use super::client::counting_key;
use super::error::Problem;
use crate::app::App;
use crate::store::StoreError;

/// So many requests of one client to one path in so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is counted together.
    pub name: &'static str,
    requests: i32,
    window_secs: i32,
}

const fn limit(name: &'static str, requests: i32, window_secs: i32) -> Limit {
    Limit {
        name,
        requests,
        window_secs,
    }
}

/// `/sign-in/*`, also through the service's own login.
pub const SIGN_IN: Limit = limit("sign-in", 3, 10);
/// `/sign-in/social`.
pub const SIGN_IN_SOCIAL: Limit = limit("sign-in/social", 3, 10);
/// `/sign-up/*`, also through the service's own registration.
pub const SIGN_UP: Limit = limit("sign-up", 3, 10);
/// `/change-password`, on both sides.
pub const CHANGE_PASSWORD: Limit = limit("change-password", 3, 10);
/// `/change-email`, on both sides.
pub const CHANGE_EMAIL: Limit = limit("change-email", 3, 10);
/// Deleting an account, on both sides.
pub const DELETE_ACCOUNT: Limit = limit("delete-account", 3, 10);
/// `/send-verification-email` and its counterpart.
pub const VERIFICATION_MAIL: Limit = limit("send-verification-email", 3, 60);
/// `/request-password-reset` and its counterpart.
pub const RESET_MAIL: Limit = limit("request-password-reset", 3, 60);
/// Redeeming a mailed token.
pub const TOKEN: Limit = limit("token", 20, 60);
/// Mails to one address that anybody can ask for (S-21).
pub const MAILS_AN_HOUR: Limit = limit("mails an hour", 3, 3600);
/// The same, over a day.
pub const MAILS_A_DAY: Limit = limit("mails a day", 10, 24 * 3600);
/// `/sign-in/magic-link`.
pub const MAGIC_LINK: Limit = limit("sign-in/magic-link", 5, 60);
/// `/magic-link/verify`.
pub const MAGIC_LINK_VERIFY: Limit = limit("magic-link/verify", 5, 60);
/// `/two-factor/*`, each path by itself, in the order of the routes.
pub const TWO_FACTOR: [Limit; 8] = [
    limit("two-factor/enable", 3, 10),
    limit("two-factor/disable", 3, 10),
    limit("two-factor/get-totp-uri", 3, 10),
    limit("two-factor/generate-backup-codes", 3, 10),
    limit("two-factor/send-otp", 3, 10),
    limit("two-factor/verify-totp", 3, 10),
    limit("two-factor/verify-otp", 3, 10),
    limit("two-factor/verify-backup-code", 3, 10),
];
/// `/api/v1/auth/passkeys/authenticate/options` (mana-v1.md section 11).
pub const PASSKEY_OPTIONS: Limit = limit("passkeys/authenticate/options", 20, 60);
/// Codes that are mailed to one person as a second factor.
pub const CODE_MAIL: Limit = limit("code mail", 10, 3600);
/// Asking people into organizations: each sends a mail.
pub const INVITE: Limit = limit("invite-member", 30, 60);
/// Invitations that are mailed to one address, whoever sends them (S-21).
pub const INVITATION_MAIL: Limit = limit("invitation mail", 10, 24 * 3600);
/// Mails to one person that their password is known to others.
pub const BREACH_MAIL: Limit = limit("breach mail", 1, 24 * 3600);

/// Calls of a vault from one device, which is one session, that are written down each; those above are written down
/// together (S-80).
pub const VAULT_DEVICE: Limit = limit("vault device", 120, 60);
/// The same from all devices of one person.
pub const VAULT: Limit = limit("vault", 360, 60);
/// The same, for calls that change how the key is kept: each sends a mail, and keeps what it replaces for 30 days.
pub const VAULT_CHANGE: Limit = limit("vault change", 30, 3600);
/// Lines about calls above these limits in one person's audit log (I-11).
pub const VAULT_LIMITED: Limit = limit("vault limited", 1, 3600);

/// Requests of one client to one path that [`Brakes`] lets through in [`BRAKE_WINDOW`].
const BRAKE_REQUESTS: u32 = 100;
const BRAKE_WINDOW: Duration = Duration::from_secs(10);
/// Clients and paths that one node remembers.
const BRAKES: u64 = 100_000;

impl Limit {
    /// How long a window lasts, in seconds.
    pub fn window_secs(&self) -> u64 {
        u64::from(self.window_secs.unsigned_abs())
    }

    /// Counts a request.
    ///
    /// # Errors
    /// If there were too many, or they cannot be counted.
    pub async fn take(&self, app: &App, address: Option<IpAddr>) -> Result<(), Problem> {
        self.take_for(app, &counting_key(address)).await
    }

    /// The same for somebody.
    ///
    /// # Errors
    /// If there were too many, or they cannot be counted.
    pub async fn take_for(&self, app: &App, whom: &str) -> Result<(), Problem> {
        match self.count(app, whom).await? {
            None => Ok(()),
            Some(retry_after_secs) => {
                metrics::counter!("rate_limited_total", "limit" => self.name).increment(1);
                Err(Problem::TooManyRequests { retry_after_secs })
            }
        }
    }

    /// Counts something that is no request, and says whether it may be.
    ///
    /// # Errors
    /// When it cannot be counted.
    pub async fn allows(&self, app: &App, whom: &str) -> Result<bool, StoreError> {
        Ok(self.count(app, whom).await?.is_none())
    }

    /// Counts; gives the seconds to wait if there were too many. A window begins anew when a whole one has passed
    /// since the last request that was let through; refused ones do not count.
    async fn count(&self, app: &App, whom: &str) -> Result<Option<u64>, sqlx::Error> {
        if !app.config.rate_limit {
            return Ok(None);
        }
        let key = app.keyed_hash(&["rate limit", self.name, whom]);
        // Nobody waits for the disk: what a power cut takes back is a few requests of the last moment.
        let (allowed, wait, _): (bool, i32, String) = sqlx::query_as(
            "insert into rate_limits as r (key, count, allowed, allowed_at)
             values ($1, 1, true, coalesce($4, clock_timestamp()))
             on conflict (key) do update set
                 allowed = r.allowed_at + make_interval(secs => $3) <= excluded.allowed_at or r.count < $2,
                 count = case when r.allowed_at + make_interval(secs => $3) <= excluded.allowed_at then 1
                              when r.count < $2 then r.count + 1 else r.count end,
                 allowed_at = case when r.allowed_at + make_interval(secs => $3) <= excluded.allowed_at or r.count < $2
                                   then excluded.allowed_at else r.allowed_at end
             returning allowed,
                 greatest(1, ceil(extract(epoch from allowed_at + make_interval(secs => $3) - coalesce($4, clock_timestamp()))))::integer,
                 set_config('synchronous_commit', 'off', true)",
        )
        .bind(key.as_slice())
        .bind(self.requests)
        .bind(f64::from(self.window_secs))
        .bind(app.clock.held_at())
        .fetch_one(&app.pool)
        .await?;
        Ok((!allowed).then(|| u64::try_from(wait).unwrap_or(1)))
    }
}

/// The coarse brake on all other routes. A database write for each session check would cost more than it protects,
/// so each node counts for itself; an unknown client address is not counted, because everybody would share it.
pub struct Brakes {
    counters: Cache<(&'static str, String), Arc<Mutex<Counter>>>,
}

struct Counter {
    requests: u32,
    last_allowed: Instant,
}

impl Default for Brakes {
    fn default() -> Self {
        Self {
            counters: Cache::builder()
                .max_capacity(BRAKES)
                .time_to_idle(BRAKE_WINDOW)
                .build(),
        }
    }
}

impl Brakes {
    /// Counts a request to a path.
    ///
    /// # Errors
    /// If there were too many.
    pub fn take(&self, path: &'static str, address: Option<IpAddr>) -> Result<(), Problem> {
        let Some(address) = address else {
            return Ok(());
        };
        let now = Instant::now();
        let counter = self
            .counters
            .get_with((path, counting_key(Some(address))), || {
                Arc::new(Mutex::new(Counter {
                    requests: 0,
                    last_allowed: now,
                }))
            });
        let mut counter = counter.lock().expect("nothing panics while it is held");
        if now.saturating_duration_since(counter.last_allowed) >= BRAKE_WINDOW {
            counter.requests = 0;
        }
        if counter.requests >= BRAKE_REQUESTS {
            let wait = BRAKE_WINDOW.saturating_sub(now - counter.last_allowed);
            return Err(Problem::TooManyRequests {
                retry_after_secs: wait.as_secs_f64().ceil().max(1.0) as u64,
            });
        }
        counter.requests += 1;
        counter.last_allowed = now;
        Ok(())
    }
}

/// Forgets all counters: an operator has looked. Returns how many there were.
///
/// # Errors
/// When the database does not answer.
pub async fn clear(pool: &PgPool) -> Result<u64, sqlx::Error> {
    Ok(sqlx::query("delete from rate_limits")
        .execute(pool)
        .await?
        .rows_affected())
}

#[cfg(test)]
mod tests {
    use crate::http::doors::areas;

    /// Requests and seconds that the original's clients are held to on a path (contract section 5), beside the brake.
    fn contract(path: &str) -> Option<(i32, i32)> {
        let begins = |starts: &[&str]| starts.iter().any(|start| path.starts_with(start));
        match path {
            "/sign-in/magic-link" | "/magic-link/verify" => Some((5, 60)),
            "/request-password-reset" | "/send-verification-email" => Some((3, 60)),
            _ if begins(&["/two-factor/"]) => Some((3, 10)),
            _ if begins(&["/sign-in", "/sign-up", "/change-password", "/change-email"]) => {
                Some((3, 10))
            }
            _ => None,
        }
    }

    #[test]
    fn every_limit_of_the_contract_is_kept() {
        let mut limited = 0;
        for (_, doors) in areas().iter().filter(|(prefix, _)| *prefix == "/api/auth") {
            for door in doors {
                let Some(wanted) = contract(door.path) else {
                    continue;
                };
                let limit = door
                    .limit
                    .as_ref()
                    .map(|limit| (limit.requests, limit.window_secs));
                assert_eq!(limit, Some(wanted), "{}", door.path);
                limited += 1;
            }
        }
        assert_eq!(limited, 17, "as many routes have one");
    }
}
