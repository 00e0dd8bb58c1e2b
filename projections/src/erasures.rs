//! `erasures`: people whose account was closed for good. Nothing personal; says what is still to be destroyed
//! after a crash.

use aggregates::user::UserEvent;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{PgExecutor, PgPool};

use crate::{AnyEvent, Changes, Kind, Projection, Recorded};

/// The model.
pub const PROJECTION: Projection = Projection {
    name: NAME,
    version: 1,
    kind: Kind::Inline,
    streams: &["user"],
    columns: &["id", "reason", "requested_at"],
    owner: None,
    reads_client: false,
    apply,
};

const NAME: &str = "erasures";

/// A closed account.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow)]
pub struct ErasureRow {
    /// Whose.
    pub id: String,
    /// Why: see `ErasureReason`.
    pub reason: String,
    /// When it was closed.
    pub requested_at: DateTime<Utc>,
}

fn apply(recorded: Recorded<'_>, changes: &mut Changes) {
    if let AnyEvent::User(UserEvent::ErasureRequested { reason, at }) = recorded.event {
        let row = ErasureRow {
            id: recorded.stream_id.to_owned(),
            reason: reason.as_str().to_owned(),
            requested_at: *at,
        };
        changes.put(NAME, recorded.stream_id, &row);
    }
}

/// Every closed account.
///
/// # Errors
/// When the database does not answer.
pub async fn all(pool: &PgPool) -> Result<Vec<ErasureRow>, sqlx::Error> {
    sqlx::query_as("select id, reason, requested_at from read.erasures order by requested_at, id")
        .fetch_all(pool)
        .await
}

/// Whose accounts were closed.
///
/// # Errors
/// When the database does not answer.
pub async fn ids(db: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select id from read.erasures")
        .fetch_all(db)
        .await
}

/// Those among some people whose accounts were closed.
///
/// # Errors
/// When the database does not answer.
pub async fn among(db: impl PgExecutor<'_>, ids: &[String]) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("select id from read.erasures where id = any($1)")
        .bind(ids)
        .fetch_all(db)
        .await
}
