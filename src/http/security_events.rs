//! The security log over HTTP: one's own, and everybody's for admins and auditors, each of whose pages is written down
//! before it is given out.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/api/v1/auth/security-events` | one's own |
//! | GET | `/api/v1/admin/security-events` | everybody's, or one person's |

use aggregates::{ReadLog, Reading, UserId};
use axum::Json;
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use chrono::{DateTime, Utc};
use projections::security_events::{self, Asked, SecurityEventRow};
use serde_json::{Value, json};

use super::doors::Door;
use super::error::Problem;
use super::request::Fields;
use super::shapes::iso;
use super::web::Call;
use crate::{readings, vault_audit};

/// Lines in one answer: by default, and at most.
const EVENTS: (i64, i64) = (50, 200);

/// The door of `/api/v1/auth`.
pub fn own_door() -> Door {
    Door::open(Method::GET, "/security-events", get(own))
}

/// The door of `/api/v1/admin`.
pub fn admin_door() -> Door {
    Door::open(Method::GET, "/security-events", get(of_all))
}

/// A number of lines that may be asked for; whatever else is asked for counts as nothing.
fn limit_of(fields: &Fields) -> i64 {
    let asked = fields.raw("limit").and_then(Value::as_str);
    asked
        .and_then(|text| text.parse().ok())
        .filter(|lines| *lines >= 1)
        .map_or(EVENTS.0, |lines: i64| lines.min(EVENTS.1))
}

async fn own(call: Call) -> Result<Response, Problem> {
    let person = call.required_person().await?;
    let asked = Asked {
        user_id: Some(&person.live.user.id),
        limit: limit_of(&Fields::of_query(call.query.as_deref())),
        ..Asked::default()
    };
    let lines = security_events::page(&call.app().pool, asked).await?;
    // The names in small letters, as the apps show them.
    let list: Vec<Value> = lines
        .iter()
        .map(|row| event_json(row, row.event_type.to_lowercase()))
        .collect();
    Ok(Json(list).into_response())
}

fn event_json(row: &SecurityEventRow, event_type: String) -> Value {
    json!({
        "id": row.id, "eventType": event_type, "ipAddress": row.ip_address, "userAgent": row.user_agent,
        "metadata": row.metadata, "createdAt": iso(row.created_at),
    })
}

/// Everybody's security log, or one person's, in pages.
async fn of_all(call: Call) -> Result<Response, Problem> {
    let live = call.required_auditor().await?;
    let mut fields = Fields::of_query(call.query.as_deref());
    let user_id = fields.optional_text("userId");
    let event_type = fields.optional_text("type").map(|name| name.to_uppercase());
    let before = match fields.optional_text("before") {
        None => None,
        Some(cursor) => Some(read_cursor(&cursor).ok_or_else(|| {
            Problem::Validation("[query.before] Invalid input: not a cursor".to_owned())
        })?),
    };
    for asked in ["userId", "type"] {
        fields.check_kept(asked);
    }
    fields.done()?;
    let of = match &user_id {
        // What is nobody's id may say anything, and is not kept.
        Some(id) if vault_audit::is_known(call.app(), id).await? => ReadLog::SecurityLog {
            owner: UserId::new(id),
        },
        Some(_) | None => ReadLog::SecurityLogs,
    };
    let names = fields
        .names()
        .filter(|name| ["userId", "type"].contains(name));
    let filters = names.map(str::to_owned).collect();
    let reading = Reading { of, filters };
    readings::of_auditor(call.app(), &live, &call.caller, reading).await?;
    let limit = limit_of(&fields);
    let asked = Asked {
        user_id: user_id.as_deref(),
        event_type: event_type.as_deref(),
        before: before.as_ref().map(|(at, id)| (*at, id.as_str())),
        limit,
    };
    let lines = security_events::page(&call.app().pool, asked).await?;
    let is_full = i64::try_from(lines.len()).is_ok_and(|lines| lines == limit);
    let next = lines
        .last()
        .filter(|_| is_full)
        .map(|row| format!("{}_{}", row.created_at.timestamp_millis(), row.id));
    let events: Vec<Value> = lines
        .iter()
        .map(|row| {
            let mut event = event_json(row, row.event_type.clone());
            event["userId"] = json!(row.user_id);
            event
        })
        .collect();
    Ok(Json(json!({"events": events, "next": next})).into_response())
}

/// Time and id of the line that a page ended with: nothing that its reader does not know.
fn read_cursor(text: &str) -> Option<(DateTime<Utc>, String)> {
    let (millis, id) = text.split_once('_')?;
    let at = DateTime::from_timestamp_millis(millis.parse().ok()?)?;
    let is_id = |c: char| c.is_ascii_hexdigit() || c == '-';
    (id.len() == 36 && id.chars().all(is_id)).then(|| (at, id.to_owned()))
}
