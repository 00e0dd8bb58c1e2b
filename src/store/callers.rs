//! Whether the appender waits until the callers of a batch have taken their answers.
//!
//! Callers with another command at hand submit it in that moment, and the next batch has all of them. Those whose client has
//! to ask for it first come too late, and the database would be idle meanwhile.

/// Batches that are not waited for, once it was in vain.
const UNAWAITED: u32 = 64;
/// So many times in a row: now and then a batch misses its callers by chance.
const MISSES: u32 = 4;

/// What is known of the callers of the batches before.
#[derive(Default)]
pub(super) struct Callers {
    /// How many batches were waited for in vain, one after the other.
    missed: u32,
    /// How many batches more are not waited for.
    unawaited: u32,
}

impl Callers {
    /// Whether those of the next batch are waited for.
    pub fn are_awaited(&mut self) -> bool {
        let left = self.unawaited.checked_sub(1);
        self.unawaited = left.unwrap_or_default();
        left.is_none()
    }

    /// Tells how many jobs came while those of a batch were waited for. It was in vain if they are fewer than three
    /// quarters of them.
    pub fn came_back(&mut self, jobs: usize, answered: usize) {
        if jobs * 4 >= answered * 3 {
            self.missed = 0;
            return;
        }
        self.missed = self.missed.saturating_add(1);
        if self.missed >= MISSES {
            self.unawaited = UNAWAITED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many batches in a row are not waited for.
    fn unawaited(callers: &mut Callers) -> usize {
        std::iter::repeat_with(|| callers.are_awaited())
            .take_while(|is_awaited| !is_awaited)
            .count()
    }

    #[test]
    fn callers_that_come_back_are_waited_for_each_time() {
        let mut callers = Callers::default();
        for back in [64, 48, 64] {
            assert!(callers.are_awaited());
            callers.came_back(back, 64);
        }
        assert_eq!(unawaited(&mut callers), 0);
    }

    #[test]
    fn after_four_misses_in_a_row_64_batches_are_not_waited_for() {
        let mut callers = Callers::default();
        for _ in 0..3 {
            callers.came_back(47, 64);
        }
        assert_eq!(unawaited(&mut callers), 0);
        callers.came_back(47, 64);
        assert_eq!(unawaited(&mut callers), 64);
        // The next one is looked at: one more miss is enough, and one that comes back ends it.
        callers.came_back(0, 1);
        assert_eq!(unawaited(&mut callers), 64);
        callers.came_back(1, 1);
        callers.came_back(0, 1);
        assert_eq!(unawaited(&mut callers), 0);
    }

    #[test]
    fn misses_by_chance_do_not_add_up() {
        let mut callers = Callers::default();
        for _ in 0..10 {
            callers.came_back(0, 64);
            callers.came_back(63, 64);
        }
        assert_eq!(unawaited(&mut callers), 0);
    }
}
