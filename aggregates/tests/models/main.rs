//! Aggregates against models: random requests, and a second opinion on what follows from each.
//!
//! A model knows nothing of commands, events or `apply`. It keeps a few plain values, and says for every request
//! which types of events follow or why it is refused. After every request the aggregate must agree, and so must
//! the same aggregate replayed from what is stored.

#![cfg(test)]

mod organization;
mod parts;
mod session;
mod user;
mod vault;
mod ways_in;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};
use cqrs_es::{Aggregate, DomainEvent};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

/// Sequences tried for each aggregate.
const SEQUENCES: u32 = 10_000;

/// Requests in a sequence.
const LENGTH: RangeInclusive<usize> = 1..=20;

/// What a model expects: the types of the events that follow, or the refusal.
type Outcome<E> = Result<Vec<&'static str>, E>;

fn minute(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
}

/// An aggregate as it runs, and what the log holds of it.
struct Stream<A: Aggregate> {
    running: A,
    stored: Vec<A::Event>,
}

impl<A: Aggregate + PartialEq + Debug> Stream<A> {
    fn new() -> Self {
        Self {
            running: A::default(),
            stored: Vec::new(),
        }
    }

    /// Takes up what was decided: the running aggregate as it is, the log as it comes back from JSON.
    fn append(&mut self, events: &[A::Event]) {
        for event in events {
            self.running.apply(event.clone());
            let json = serde_json::to_string(event).unwrap();
            self.stored.push(serde_json::from_str(&json).unwrap());
        }
        let mut replayed = A::default();
        for event in &self.stored {
            replayed.apply(event.clone());
        }
        assert_eq!(replayed, self.running, "a replay gives the same state");
    }
}

/// Checks that the aggregate decided what the model expects.
fn assert_agree<E, R>(decided: &Result<Vec<E>, R>, expected: &Outcome<R>, request: &impl Debug)
where
    E: DomainEvent,
    R: Debug + PartialEq,
{
    let types = |events: &Vec<E>| events.iter().map(DomainEvent::event_type).collect();
    let decided: Result<Vec<String>, &R> = decided.as_ref().map(types);
    let owned = |types: &Vec<&str>| types.iter().map(ToString::to_string).collect();
    assert_eq!(decided, expected.as_ref().map(owned), "{request:?}");
}

/// How often each outcome came up, so that a test whose requests have gone dull fails.
#[derive(Default)]
struct Seen(RefCell<BTreeMap<String, u32>>);

impl Seen {
    fn note<E: Debug>(&self, outcome: &Outcome<E>) {
        let mut seen = self.0.borrow_mut();
        let mut count = |what: String| *seen.entry(what).or_default() += 1;
        match outcome {
            Ok(types) if types.is_empty() => count("nothing".to_owned()),
            Ok(types) => types.iter().for_each(|what| count((*what).to_owned())),
            Err(refusal) => count(format!("{refusal:?}")),
        }
    }

    /// Checks that everything in `all` came up often.
    fn assert_often(&self, all: &[&str]) {
        let seen = self.0.borrow();
        for what in all {
            let times = seen.get(*what).copied().unwrap_or_default();
            assert!(times >= SEQUENCES / 100, "{what} came up {times} times");
        }
    }
}

/// Runs many sequences of requests; one that fails is made as short as it goes and printed.
fn for_all<R: Debug>(sequences: impl Strategy<Value = Vec<R>>, check: impl Fn(Vec<R>)) {
    let mut runner = TestRunner::new(Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    });
    let checked = runner.run(&sequences, |requests| {
        check(requests);
        Ok::<(), TestCaseError>(())
    });
    if let Err(failure) = checked {
        panic!("{failure}");
    }
}
