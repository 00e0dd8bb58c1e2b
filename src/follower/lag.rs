//! For how long a read model has been behind the log, in the metrics.

use std::time::Instant;

use metrics::gauge;

use super::Step;

/// For how long a model has been behind the log.
#[derive(Default)]
pub struct Lag {
    since: Option<Instant>,
}

impl Lag {
    /// Shows what a look at the log came to.
    pub fn show(&mut self, model: &'static str, step: &anyhow::Result<Step>) {
        if let Ok(Step::Standby) = step {
            // The node that follows shows how far it is.
            gauge!("follower_lag_events", "model" => model).set(0.0);
            gauge!("follower_parked_streams", "model" => model).set(0.0);
        }
        gauge!("follower_lag_seconds", "model" => model).set(self.seconds(step));
    }

    /// A model that cannot be looked at counts as behind. What was written during a look does not: while others write
    /// there is always something.
    fn seconds(&mut self, step: &anyhow::Result<Step>) -> f64 {
        self.since = match step {
            Ok(Step::UpToDate(_) | Step::Standby) => None,
            Ok(Step::Behind(_)) | Err(_) => self.since.or_else(|| Some(Instant::now())),
        };
        self.since
            .map_or(0.0, |since| since.elapsed().as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::anyhow;

    use super::*;

    #[test]
    fn it_counts_from_when_the_model_fell_behind_until_it_has_caught_up() {
        let long_ago = Instant::now().checked_sub(Duration::from_secs(60));
        assert!(long_ago.is_some());
        for behind in [Ok(Step::Behind(7)), Err(anyhow!("no answer"))] {
            let mut lag = Lag::default();
            assert!(lag.seconds(&behind) < 60.0);
            lag.since = long_ago;
            assert!(lag.seconds(&behind) >= 60.0);
            for caught_up in [Step::UpToDate(7), Step::Standby] {
                lag.since = long_ago;
                assert_eq!(lag.seconds(&Ok(caught_up)), 0.0);
                assert!(lag.seconds(&behind) < 60.0, "it begins anew");
            }
        }
    }
}
