//! What checking a bundle comes to, in words: what is proved and what is not, or why nothing is.

use std::io;

use serde::Serialize;
use thiserror::Error;

/// What was proved.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proven {
    /// Which log.
    pub origin: String,
    /// Size of its tree.
    pub size: u64,
    /// Root of its tree, base64.
    pub root: String,
    /// Type of the stream.
    pub stream_type: String,
    /// Id of the stream.
    pub stream_id: String,
    /// How many events it has.
    pub events: u64,
    /// Whether every event of the log was looked at, so that the stream has no other event whoever says so.
    pub complete: bool,
    /// Size of the earlier checkpoint that the log has grown from.
    pub previous: Option<u64>,
}

impl Proven {
    /// What was proved, and what was not, in words.
    pub fn words(&self) -> String {
        let Self {
            origin,
            size,
            root,
            stream_type,
            stream_id,
            events,
            complete,
            previous,
        } = self;
        let mut words = format!(
            "Proved:\n  The log {origin} has signed that it has {size} events, with the root {root}.\n  \
             Events 1 to {events} of {stream_type}/{stream_id} are among them as they are in the bundle: none was altered, \
             removed or moved.\n"
        );
        if *complete {
            words += "  The stream has no other event in this log: every event of the log was looked at.\n";
        }
        if let Some(previous) = previous {
            words += &format!(
                "  The log has only grown since the earlier checkpoint of {previous} events.\n"
            );
        }
        words += "Not proved:\n";
        if !*complete {
            words += "  That the stream has no other event: the log has signed that it has none, and is taken at its word. \
                      A bundle made with --full proves it.\n";
        }
        if previous.is_none() {
            words += "  That others are shown the same log: compare it with a checkpoint from elsewhere by --previous.\n";
        }
        words += "  What happened after the last of these events.\n";
        words
    }
}

/// Why nothing was proved.
#[derive(Debug, Error)]
pub enum Refused {
    /// The file cannot be read.
    #[error("the bundle cannot be read")]
    Unreadable(#[from] io::Error),
    /// A line is not what a bundle has there.
    #[error("line {line} is {what}")]
    Line {
        /// Number of the line, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A text is not signed by the key.
    #[error("the {0} is not signed by this key")]
    NotSigned(&'static str),
    /// A text was signed, and is not what it should be.
    #[error("the signed {0} says something else")]
    Another(&'static str),
    /// The bundle ends before the tree does.
    #[error("the bundle ends at event {at} of {size}")]
    Cut {
        /// Where it ends.
        at: u64,
        /// Where it should end.
        size: u64,
    },
    /// The events are not those of the signed tree.
    #[error("the events are not those of the tree that was signed: something was altered")]
    OtherTree,
    /// There are other events of the stream than was said.
    #[error("there are {found} events of the stream where {said} were signed")]
    Count {
        /// How many there are.
        found: u64,
        /// How many were said.
        said: u64,
    },
    /// The earlier checkpoint covers more than the bundle does.
    #[error(
        "the bundle's tree of {size} events is older than the earlier checkpoint of {previous}"
    )]
    Older {
        /// Of the bundle.
        size: u64,
        /// Of the earlier checkpoint.
        previous: u64,
    },
    /// The bundle was not made to be compared with this checkpoint.
    #[error(
        "the bundle does not show its tree at {0} events: make it with this earlier checkpoint"
    )]
    NotShown(u64),
    /// Two checkpoints of one log do not fit together.
    #[error(
        "the log shows two histories: what the earlier checkpoint of {0} events covers is not what this bundle's tree begins with"
    )]
    SplitView(u64),
}
