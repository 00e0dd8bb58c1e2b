//! The command line as an operator uses it: the real binary on a database of the shared cluster. A file per command.

#![cfg(test)]

mod audit;
#[path = "../api/client.rs"]
#[expect(
    dead_code,
    reason = "the tests of the API share it and need other parts"
)]
mod client;
mod command;
mod config;
mod doctor;
mod doctor_claims;
mod doctor_log;
mod doctor_secrets;
mod doctor_vaults;
mod events;
#[path = "../api/harness.rs"]
#[expect(
    dead_code,
    reason = "the tests of the API share it and need other parts"
)]
mod harness;
mod kek;
mod kek_killed;
mod keys;
mod mail;
mod memory;
mod migrate;
mod place;
mod private;
mod rebuild;
mod restore;
mod serve;
#[path = "../log/tables.rs"]
#[expect(
    dead_code,
    reason = "the tests of the log share it and need other parts"
)]
mod tables;
mod user;
mod vault_audit;
mod verify_log;
mod witness;
