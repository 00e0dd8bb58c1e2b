//! mana-auth: the central authentication service.
//!
//! Facts are events in PostgreSQL. `aggregates` decides which facts may happen, `projections` turns
//! facts into tables to read, and this crate talks to the world: HTTP, keys, mail, clock, command line.

/// glibc's allocator keeps far more than it is asked for under many short-lived threads of work, and
/// requests are mostly small allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub mod accounts;
pub mod admin;
pub mod api_keys;
pub mod app;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod crypto;
pub mod custody;
pub mod database;
pub mod door_log;
pub mod effects;
pub mod entry;
pub mod erasure;
pub mod follower;
pub mod guard;
pub mod http;
pub mod ids;
pub mod keks;
pub mod lag;
pub mod lease;
pub mod linked;
pub mod links;
pub mod magic_link;
pub mod mail;
pub mod maintenance;
pub mod oauth;
pub mod organizations;
pub mod outgoing;
pub mod passkeys;
pub mod process;
pub mod readings;
pub mod rebuild;
mod rows;
pub mod second_factor;
pub mod self_service;
pub mod sessions;
pub mod sign_in;
pub mod signing;
pub mod signups;
pub mod social;
pub mod step_up;
pub mod store;
pub mod telemetry;
pub mod tokens;
pub mod transparency;
pub mod vault;
pub mod vault_audit;
