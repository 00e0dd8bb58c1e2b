//! For how long what follows the log has been behind it.

use std::time::Instant;

/// Since when something has been behind the log.
#[derive(Default)]
pub struct Lag {
    since: Option<Instant>,
}

impl Lag {
    /// For how many seconds it has been so, after another look: from the first one that was behind to the next that was not.
    pub fn seconds(&mut self, is_behind: bool) -> f64 {
        self.since = is_behind.then(|| self.since.unwrap_or_else(Instant::now));
        self.since
            .map_or(0.0, |since| since.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn it_counts_from_the_first_look_that_was_behind_to_the_next_that_was_not() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60));
        assert!(long_ago.is_some());
        let mut lag = Lag::default();
        assert!(lag.seconds(true) < 60.0);
        lag.since = long_ago;
        assert!(lag.seconds(true) >= 60.0);
        assert_eq!(lag.seconds(false), 0.0);
        assert!(lag.seconds(true) < 60.0, "it begins anew");
    }
}
