//! `devices`: from where people have signed in. A device is a network and a user agent; it is what a lockout
//! spares, and what a mail about a new one is measured by.

use std::net::IpAddr;

use aggregates::session::{SessionEvent, SignInMethod};
use aggregates::user::UserEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use sqlx::PgPool;

use crate::{AnyEvent, Changes, Client, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 2,
    kind: Kind::Inline,
    streams: &["session", "user"],
    columns: &["id", "user_id", "last_sign_in_at"],
    owner: Some(OWNER),
    reads_client: false,
    apply,
};

const NAME: &str = "devices";
const OWNER: &str = "user_id";

/// A device of a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRow {
    /// See [`id`].
    pub id: String,
    /// Whose.
    pub user_id: String,
    /// When they last signed in from it.
    pub last_sign_in_at: DateTime<Utc>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    match recorded.event {
        AnyEvent::Session(SessionEvent::Started {
            user_id,
            method:
                SignInMethod::Password
                | SignInMethod::SignUp
                | SignInMethod::EmailLink
                | SignInMethod::MagicLink
                | SignInMethod::Passkey
                | SignInMethod::Social,
            ip_address,
            user_agent,
            at,
            ..
        }) => {
            let (Some(ip_address), Some(user_agent)) = (ip_address.get(), user_agent.get()) else {
                return;
            };
            let client = Client {
                ip_address: ip_address.clone(),
                user_agent: user_agent.clone(),
            };
            if let Some(id) = id(user_id.as_str(), &client) {
                let row = DeviceRow {
                    id: id.clone(),
                    user_id: user_id.to_string(),
                    last_sign_in_at: *at,
                };
                changes.put(NAME, &id, &row);
            }
        }
        AnyEvent::User(UserEvent::ErasureRequested { .. }) => {
            changes.delete_owned(NAME, OWNER, recorded.stream_id, None);
        }
        AnyEvent::Session(_)
        | AnyEvent::User(_)
        | AnyEvent::Organization(_)
        | AnyEvent::Vault(_)
        | AnyEvent::SigningKeys(_)
        | AnyEvent::Log(_) => {}
    }
}

/// Names a person's device: SHA-256 of the person, their network (IPv4 /24, IPv6 /64) and the whole user agent,
/// lower-case hex. `None` where the address is unknown: then anybody could be there.
pub fn id(user_id: &str, client: &Client) -> Option<String> {
    let network: Vec<u8> = match client.ip_address.parse().ok()? {
        IpAddr::V4(address) => address.octets()[..3].to_vec(),
        IpAddr::V6(address) => address.octets()[..8].to_vec(),
    };
    let mut hash = Sha256::new();
    for part in [user_id.as_bytes(), &network, client.user_agent.as_bytes()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    Some(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

/// The devices of a person, by their ids.
///
/// # Errors
/// When the database does not answer.
pub async fn of_user(pool: &PgPool, user_id: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select id from read.devices where user_id = $1")
        .bind(user_id)
        .fetch_all(pool)
        .await
}

/// Whether its person has signed in from a device since then.
///
/// # Errors
/// When the database does not answer.
pub async fn is_known(pool: &PgPool, id: &str, since: DateTime<Utc>) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from read.devices where id = $1 and last_sign_in_at >= $2)",
    )
    .bind(id)
    .bind(since)
    .fetch_one(pool)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(address: &str, agent: &str) -> Option<String> {
        let client = Client {
            ip_address: address.into(),
            user_agent: agent.into(),
        };
        id("u1", &client)
    }

    #[test]
    fn a_device_is_a_network_and_an_agent() {
        assert_eq!(of("192.0.2.1", "x"), of("192.0.2.254", "x"));
        assert_eq!(of("2001:db8:1:2::1", "x"), of("2001:db8:1:2:ffff::9", "x"));
        for other in [
            of("192.0.3.1", "x"),
            of("192.0.2.1", "y"),
            of("2001:db8:1:3::1", "x"),
        ] {
            assert_ne!(of("192.0.2.1", "x"), other);
        }
    }

    #[test]
    fn an_unknown_address_is_no_device() {
        assert_eq!(of("", "x"), None);
    }
}
