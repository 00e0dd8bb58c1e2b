//! Rate limits on the routes that check or make credentials or send mail. Counted in the database, so
//! that all nodes share them and a restart forgets nothing (S-18); when they cannot be counted, these
//! routes are closed (S-17).

use std::net::IpAddr;

use sqlx::PgPool;

use super::client::counting_key;
use super::error::Problem;
use crate::app::App;
use crate::crypto::aead;

/// So many requests of one client to one path in so much time.
#[derive(Clone, Copy)]
pub struct Limit {
    /// What is counted together.
    pub name: &'static str,
    requests: i32,
    window_secs: i32,
}

/// `/sign-in/*`, also through the service's own login.
pub const SIGN_IN: Limit = Limit {
    name: "sign-in",
    requests: 3,
    window_secs: 10,
};
/// `/sign-up/*`, also through the service's own registration.
pub const SIGN_UP: Limit = Limit {
    name: "sign-up",
    requests: 3,
    window_secs: 10,
};
/// `/send-verification-email`.
pub const VERIFICATION_MAIL: Limit = Limit {
    name: "send-verification-email",
    requests: 3,
    window_secs: 60,
};

impl Limit {
    /// Counts a request. A window begins anew when a whole one has passed since the last request that
    /// was let through; refused ones do not count (contract section 5).
    ///
    /// # Errors
    /// If there were too many, or they cannot be counted.
    pub async fn take(&self, app: &App, address: Option<IpAddr>) -> Result<(), Problem> {
        if !app.config.rate_limit {
            return Ok(());
        }
        let (allowed, wait): (bool, i32) = sqlx::query_as(
            "insert into rate_limits as r (key, count, allowed, allowed_at) values ($1, 1, true, clock_timestamp())
             on conflict (key) do update set
                 allowed = r.allowed_at + make_interval(secs => $3) <= clock_timestamp() or r.count < $2,
                 count = case when r.allowed_at + make_interval(secs => $3) <= clock_timestamp() then 1
                              when r.count < $2 then r.count + 1 else r.count end,
                 allowed_at = case when r.allowed_at + make_interval(secs => $3) <= clock_timestamp() or r.count < $2
                                   then clock_timestamp() else r.allowed_at end
             returning allowed, greatest(1, ceil(extract(epoch from allowed_at + make_interval(secs => $3) - clock_timestamp())))::integer",
        )
        .bind(self.key(app, &counting_key(address)).as_slice())
        .bind(self.requests)
        .bind(f64::from(self.window_secs))
        .fetch_one(&app.pool)
        .await?;
        if allowed {
            return Ok(());
        }
        metrics::counter!("rate_limited_total", "limit" => self.name).increment(1);
        Err(Problem::TooManyRequests {
            retry_after_secs: u64::try_from(wait).unwrap_or(1),
        })
    }

    fn key(&self, app: &App, client: &str) -> [u8; 32] {
        aead::hmac_sha256(app.root.expose(), &["rate limit", self.name, client])
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
