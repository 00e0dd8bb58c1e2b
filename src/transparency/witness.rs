//! Witness: what somebody outside makes of a checkpoint beside the newest one that they have seen. Two that do not fit
//! together are kept and told; nobody can explain them away, because both are signed.

use thiserror::Error;
use tlog_tiles::{Checkpoint, Hash, check_tree};

/// Two checkpoints of one log that do not fit together.
#[derive(Debug, PartialEq, Error)]
pub enum Alarm {
    /// The end of the log is gone.
    #[error("the log has {shown} events and had {kept}")]
    Shrunk {
        /// How many there were.
        kept: u64,
        /// How many there are.
        shown: u64,
    },
    /// The log has signed two things about the same events.
    #[error("the log shows two histories of {0} events")]
    SplitView(u64),
    /// The log cannot show that it has only grown.
    #[error("the log does not prove that its {shown} events begin with the {kept} that it had")]
    Unproven {
        /// How many there were.
        kept: u64,
        /// How many there are.
        shown: u64,
    },
}

/// Whether a log that has signed `kept` may show `shown`; `proof` is what it gives to prove that one begins with the
/// other, where it has grown.
///
/// # Errors
/// When it may not.
pub fn compare(kept: &Checkpoint, shown: &Checkpoint, proof: &[Hash]) -> Result<(), Alarm> {
    let (before, now) = (kept.size(), shown.size());
    if now < before {
        return Err(Alarm::Shrunk {
            kept: before,
            shown: now,
        });
    }
    if now == before {
        let same = kept.hash() == shown.hash();
        return same.then_some(()).ok_or(Alarm::SplitView(now));
    }
    let grown = check_tree(&proof.to_vec(), now, *shown.hash(), before, *kept.hash());
    grown.map_err(|_| Alarm::Unproven {
        kept: before,
        shown: now,
    })
}
