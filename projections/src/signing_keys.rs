//! `signing_keys`: the public halves of the keys that sign access tokens.

use aggregates::signing_keys::SigningKeysEvent;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::PgPool;

use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: "signing_keys",
    version: 1,
    kind: Kind::Inline,
    streams: &["signing_keys"],
    columns: &[
        "id",
        "public_key",
        "active_from",
        "created_at",
        "revoked_at",
    ],
    owner: None,
    reads_client: false,
    apply,
};

/// A key that was published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, sqlx::FromRow)]
pub struct SigningKeyRow {
    /// The `kid`.
    pub id: String,
    /// Ed25519 public key, base64url without padding.
    pub public_key: String,
    /// When it starts to sign.
    pub active_from: DateTime<Utc>,
    /// When it was published.
    pub created_at: DateTime<Utc>,
    /// When it was withdrawn.
    pub revoked_at: Option<DateTime<Utc>>,
}

const NAME: &str = "signing_keys";

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    let AnyEvent::SigningKeys(event) = recorded.event else {
        return;
    };
    match event {
        SigningKeysEvent::Published {
            kid,
            public_key,
            active_from,
            at,
        } => {
            let row = SigningKeyRow {
                id: kid.clone(),
                public_key: public_key.clone(),
                active_from: *active_from,
                created_at: *at,
                revoked_at: None,
            };
            changes.put(NAME, kid, &row);
        }
        SigningKeysEvent::Revoked { kid, at } => {
            changes.patch(NAME, kid, json!({"id": kid, "revoked_at": at}))
        }
    }
}

/// Every key, in the order in which they sign.
///
/// # Errors
/// When the database does not answer.
pub async fn all(pool: &PgPool) -> Result<Vec<SigningKeyRow>, sqlx::Error> {
    sqlx::query_as("select id, public_key, active_from, created_at, revoked_at from read.signing_keys order by active_from, id")
        .fetch_all(pool)
        .await
}
