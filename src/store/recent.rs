//! What this node has written last, as it was before it was sealed: who follows the log on the same node need not read it
//! back and open it. Only a shortcut: whatever is not here is in the log.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use super::opening::Opened;

/// Most events that wait to be followed; those before them are read from the log.
const KEPT: usize = 4096;

/// The last events of this node that a model follows.
#[derive(Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Of the lease for which they are kept; none while this node does not follow.
    fence: Option<i64>,
    /// This node has written everything that stands in the log after this position...
    after: i64,
    /// ... and up to this one.
    until: i64,
    /// What is followed of it, in order.
    events: VecDeque<Opened>,
}

impl Recent {
    /// Keeps what is written from now on, while this node holds a lease. A new one begins with nothing.
    pub fn keep(&self, fence: i64) {
        let mut kept = self.lock();
        if kept.fence != Some(fence) {
            *kept = Kept {
                fence: Some(fence),
                ..Kept::default()
            };
        }
    }

    /// Keeps nothing any more.
    pub fn end(&self) {
        *self.lock() = Kept::default();
    }

    /// Lets go of what is there: somebody in it may have been erased.
    pub fn clear(&self) {
        let mut kept = self.lock();
        kept.events.clear();
        kept.after = kept.until;
    }

    /// This node has written some events, of which the last is in this place; with those that a model follows, which are
    /// all of them or none.
    pub(super) fn written(&self, last: i64, count: usize, followed: Vec<Opened>) {
        let mut kept = self.lock();
        if kept.fence.is_none() {
            return;
        }
        let before = last - i64::try_from(count).expect("few events are written at once");
        if before != kept.until {
            // Others have written in between.
            kept.events.clear();
            kept.after = before;
        }
        kept.until = last;
        for (position, event) in (before + 1..).zip(followed) {
            kept.events.push_back(Opened { position, ..event });
        }
        while kept.events.len() > KEPT
            && let Some(event) = kept.events.pop_front()
        {
            kept.after = event.position;
        }
    }

    /// Takes out what models follow of the events after one position and up to another; `None` if it has to be read, as
    /// by a second model. What stands before is let go of.
    pub fn take(&self, after: i64, until: i64) -> Option<Vec<Opened>> {
        let mut kept = self.lock();
        let is_all = kept.after <= after && until <= kept.until;
        let ended = kept.events.partition_point(|event| event.position <= until);
        let mut taken: Vec<Opened> = kept.events.drain(..ended).collect();
        kept.after = kept.after.max(until.min(kept.until));
        taken.retain(|event| event.position > after);
        is_all.then_some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

#[cfg(test)]
mod tests {
    use aggregates::vault::{Access, Action, Client, Refusal, VaultEvent};
    use aggregates::{Personal, UserId};
    use chrono::DateTime;
    use uuid::Uuid;

    use super::*;
    use crate::store::opening::PartOf;

    fn event() -> Opened {
        let client = Personal::about(UserId::new("u1").as_str(), Client::default());
        let at = DateTime::UNIX_EPOCH;
        let event = VaultEvent::Refused {
            action: Action::Fetch,
            reason: Refusal::NoVault,
            access: Access { client, at },
        };
        Opened {
            stream_id: "u1".to_owned(),
            event_id: Uuid::nil(),
            position: 0,
            part_of: PartOf::default(),
            client: None,
            event: event.into(),
        }
    }

    /// Positions of what is taken out.
    fn taken(recent: &Recent, after: i64, until: i64) -> Option<Vec<i64>> {
        let events = recent.take(after, until)?;
        Some(events.iter().map(|event| event.position).collect())
    }

    /// After another node's event in place 4, this one has written those in places 5 to 8: 6 and 7 are followed.
    fn recent() -> Recent {
        let recent = Recent::default();
        recent.keep(1);
        recent.written(3, 1, vec![event()]);
        recent.written(5, 1, vec![]);
        recent.written(7, 2, vec![event(), event()]);
        recent.written(8, 1, vec![]);
        recent
    }

    #[test]
    fn what_was_written_here_without_a_gap_need_not_be_read() {
        assert_eq!(taken(&recent(), 4, 8), Some(vec![6, 7]));
        assert_eq!(taken(&recent(), 6, 7), Some(vec![7]));
        assert_eq!(taken(&recent(), 7, 8), Some(vec![]));
        let recent = recent();
        assert_eq!(taken(&recent, 4, 6), Some(vec![6]));
        assert_eq!(taken(&recent, 6, 8), Some(vec![7]));
        recent.written(9, 1, vec![event()]);
        assert_eq!(taken(&recent, 8, 9), Some(vec![9]));
        assert_eq!(taken(&recent, 8, 9), None, "it is gone");
    }

    #[test]
    fn what_others_have_written_has_to_be_read() {
        assert_eq!(taken(&recent(), 3, 8), None);
        assert_eq!(taken(&recent(), 4, 9), None);
        let recent = recent();
        assert_eq!(taken(&recent, 2, 6), None);
        assert_eq!(taken(&recent, 6, 8), Some(vec![7]), "the next page is here");
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let recent = recent();
        recent.keep(1);
        assert_eq!(taken(&recent, 4, 5), Some(vec![]));
        recent.keep(2);
        assert_eq!(
            taken(&recent, 5, 8),
            None,
            "another may have followed meanwhile"
        );
        recent.end();
        recent.written(9, 1, vec![event()]);
        assert_eq!(taken(&recent, 8, 9), None);
    }

    #[test]
    fn what_is_cleared_has_to_be_read() {
        let recent = recent();
        recent.clear();
        recent.written(9, 1, vec![event()]);
        assert_eq!(taken(&recent, 8, 9), Some(vec![9]));
        assert_eq!(taken(&recent, 7, 9), None);
    }

    #[test]
    fn only_so_many_are_kept() {
        let recent = Recent::default();
        recent.keep(1);
        for position in 1..=5_000 {
            recent.written(position, 1, vec![event()]);
        }
        let kept = i64::try_from(KEPT).unwrap();
        assert_eq!(taken(&recent, 5_000 - kept - 1, 5_000), None);
        for position in 5_001..=10_000 {
            recent.written(position, 1, vec![event()]);
        }
        let events = recent.take(10_000 - kept, 10_000);
        assert_eq!(events.map(|events| events.len()), Some(KEPT));
    }
}
