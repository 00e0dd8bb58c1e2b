//! The log and what is written with it, from inside the service, against PostgreSQL.
//!
//! The long form takes minutes: `MANA_AUTH_LONG=1 cargo test --test log`.

#![cfg(test)]

mod adversary;
mod all_or_nothing;
mod append_only;
mod by_hand;
mod crash;
mod forgery;
#[path = "../api/harness.rs"]
#[expect(
    dead_code,
    reason = "the tests of the API share it and need other parts"
)]
mod harness;
mod lost_connection;
mod mutations;
mod one_winner;
mod patience;
mod people;
mod plans;
mod preconditions;
mod proxy;
mod rfc9162;
mod sealing;
mod session_cache;
mod snapshots;
mod tables;
mod tree;

/// Whether to take minutes and look at everything, or seconds.
fn is_long() -> bool {
    std::env::var_os("MANA_AUTH_LONG").is_some()
}
