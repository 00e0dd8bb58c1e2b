//! The only caller of `Utc::now`; tests hold the clock still and move it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Tells the time, in whole milliseconds: what JSON and clients can carry.
#[derive(Clone, Debug)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands still at the present until somebody moves it.
    pub fn held() -> Self {
        Self(Some(Arc::new(AtomicI64::new(
            system_now().timestamp_millis(),
        ))))
    }

    /// The time, in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            None => system_now(),
            Some(millis) => DateTime::from_timestamp_millis(millis.load(Ordering::SeqCst))
                .expect("a held clock stays within the calendar"),
        }
    }

    /// The time of a held clock; `None` if the machine's clock runs, and the database's may be used as well.
    pub fn held_at(&self) -> Option<DateTime<Utc>> {
        self.0.as_ref().map(|_| self.now())
    }

    /// Moves a held clock; a system clock cannot be moved.
    pub fn advance(&self, by: TimeDelta) {
        if let Some(millis) = &self.0 {
            millis.fetch_add(by.num_milliseconds(), Ordering::SeqCst);
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the place")]
fn system_now() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_millis(now.timestamp_millis()).unwrap_or(now)
}
