//! The events that the golden files hold: one of every shape that was ever stored.

pub mod organization;
pub mod session;
pub mod user;
pub mod vault;
pub mod ways_in;

use aggregates::{EmailAddress, Personal};
use chrono::{DateTime, TimeDelta, Utc};
use serde::de::DeserializeOwned;

/// A time within the events' day.
pub fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH
        + TimeDelta::days(20_000)
        + TimeDelta::minutes(minutes)
        + TimeDelta::milliseconds(7)
}

/// The id of the one person in these files.
pub const ADA: &str = "u0000000000000000000000000000001";

/// A value about her.
pub fn about_ada<T>(value: T) -> Personal<T> {
    Personal::about(ADA, value)
}

/// Text that JSON has to escape, and that is not ASCII.
pub fn name() -> Personal<String> {
    about_ada("Ada \"Countess\" Lovelace, Gräfin\n👩‍💻".to_owned())
}

/// An address of hers.
pub fn email(text: &str) -> Personal<EmailAddress> {
    about_ada(EmailAddress::parse(text).unwrap())
}

/// A value whose subject was erased, as the store gives it back.
pub fn erased<T: DeserializeOwned>() -> Personal<T> {
    let json = r#"{"$personal":{"subject":"u0000000000000000000000000000001","erased":true}}"#;
    serde_json::from_str(json).unwrap()
}
