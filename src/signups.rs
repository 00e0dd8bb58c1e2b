//! How many accounts may be made in a day: a brake on the whole service, which says nothing of any address (S-21).

use chrono::{DateTime, Days, NaiveTime, Utc};

use crate::app::App;

/// Where the day stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Accounts that may be made in a day (UTC).
    pub limit: i64,
    /// Accounts that were made today and still exist.
    pub today: i64,
    /// When the next day begins.
    pub resets_at: DateTime<Utc>,
}

impl Status {
    /// Accounts that may still be made today.
    pub fn remaining(&self) -> i64 {
        (self.limit - self.today).max(0)
    }
}

/// Where the day stands; `None` if there is no limit.
///
/// # Errors
/// When the database does not answer.
pub async fn status(app: &App) -> Result<Option<Status>, sqlx::Error> {
    let limit = i64::from(app.config.max_daily_signups);
    if limit == 0 {
        return Ok(None);
    }
    let now = app.clock.now();
    let midnight = now.date_naive().and_time(NaiveTime::MIN).and_utc();
    Ok(Some(Status {
        limit,
        today: projections::users::made_since(&app.pool, midnight).await?,
        resets_at: midnight + Days::new(1),
    }))
}
