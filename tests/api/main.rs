//! The running service from outside, over HTTP; files are named like those of `src/http`.

mod account;
mod admin;
mod admin_emails;
mod api_keys;
mod auth;
mod authenticator;
mod bad_input;
mod breached;
mod change_email;
mod change_email_links;
mod change_email_races;
mod client;
mod cookies;
mod deletion;
mod devices;
mod doors;
mod enumeration;
mod erasure;
mod erasure_ledger;
mod erasure_races;
mod guard;
#[expect(
    dead_code,
    reason = "the tests of the log share it and need other parts"
)]
mod harness;
mod idempotency;
mod impersonation;
mod interrupted;
mod layers;
mod limits;
mod lockout;
mod magic_link;
mod mail_limits;
mod mailed;
mod mails;
mod malformed_passkeys;
mod multi_session;
mod nodes;
mod nodes_self_service;
mod organizations;
mod origin;
mod outage;
mod outage_doors;
mod own_sessions;
mod passkey_ceremonies;
mod passkeys;
mod password_races;
mod passwords;
mod profile;
mod rebuild;
mod refresh;
mod replay;
mod revert_email;
mod secrecy;
mod security_log;
mod security_views;
mod seen;
mod signing_keys;
mod signups;
mod token_kinds;
mod tokens;
mod two_factor;
mod v1_account;
mod v1_auth;
