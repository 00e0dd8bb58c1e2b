//! The audit log of the vaults: one's own history, and everybody's for admins and auditors, each of whose pages is
//! written down before it is given out.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/api/v1/me/encryption-vault/audit` | of one's own vault |
//! | GET | `/api/v1/admin/vaults/{id}/audit` | of somebody's vault |
//! | GET | `/api/v1/admin/audit/events` | of all vaults |

use std::io;

use aggregates::{ReadLog, Reading, UserId};
use axum::Json;
use axum::extract::Path;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use projections::vault_audit::page::{self, Asked};
use serde_json::json;

use super::answers;
use super::doors::Door;
use super::error::{Problem, Stated};
use super::request::Fields;
use super::web::Call;
use crate::store::log;
use crate::vault_audit::{self, At, CsvLines, Line, Page};
use crate::{follower, readings};

/// Rows in one answer: by default, at most as JSON, and at most as CSV.
const ROWS: (i64, i64, i64) = (100, 1_000, 10_000);
/// Parameters that narrow the log, which the event of a reading names; the log of all is also narrowed by `userId`.
const FILTERS: [&str; 6] = ["action", "status", "ipAddress", "from", "to", "at"];
/// The other parameters.
const OTHERS: [&str; 4] = ["order", "cursor", "limit", "format"];

const NO_POSITION: &str = "Invalid input: not a position that there is";

static TOO_SLOW: Stated = Stated {
    status: StatusCode::SERVICE_UNAVAILABLE,
    code: Some("SEARCH_TOO_SLOW"),
    message: "The search took too long. Narrow it, by from and to or to one vault.",
};

/// The door of `/api/v1/me/encryption-vault`. Shut to whoever acts as somebody, as the rest of the vault: an admin reads
/// others' history as an admin, and that is written down.
pub fn own_door() -> Door {
    Door::open(Method::GET, "/audit", get(own)).never_impersonated()
}

/// The doors of `/api/v1/admin`.
pub fn admin_doors() -> Vec<Door> {
    let door = |path, handler| Door::open(Method::GET, path, handler).never_impersonated();
    vec![
        door("/vaults/{id}/audit", get(of_vault)),
        door("/audit/events", get(of_all)),
    ]
}

async fn own(call: Call) -> Result<Response, Problem> {
    let live = call.required_stored_person().await?;
    call.admit(&live).await?;
    let mut wanted = Wanted::of(&call, false).await?;
    wanted.asked.user_id = Some(live.user.id.clone());
    answer(&call, wanted).await
}

async fn of_vault(Path(user_id): Path<String>, call: Call) -> Result<Response, Problem> {
    let live = call.required_auditor().await?;
    let mut wanted = Wanted::of(&call, false).await?;
    if !vault_audit::is_known(call.app(), &user_id).await? {
        return Err(Problem::NotFound);
    }
    let owner = UserId::new(&user_id);
    wanted.asked.user_id = Some(user_id);
    let reading = wanted.reading(ReadLog::Vault { owner });
    readings::of_auditor(call.app(), &live, &call.caller, reading).await?;
    answer(&call, wanted).await
}

async fn of_all(call: Call) -> Result<Response, Problem> {
    let live = call.required_auditor().await?;
    let wanted = Wanted::of(&call, true).await?;
    let of = match &wanted.asked.user_id {
        // What is nobody's id may say anything, and is not kept.
        Some(id) if vault_audit::is_known(call.app(), id).await? => ReadLog::Vault {
            owner: UserId::new(id),
        },
        Some(_) | None => ReadLog::Vaults,
    };
    let reading = wanted.reading(of);
    readings::of_auditor(call.app(), &live, &call.caller, reading).await?;
    answer(&call, wanted).await
}

/// What is asked for, and how it is to be given.
struct Wanted {
    asked: Asked,
    at: Option<At>,
    /// Position up to which the rows have to go.
    needed: i64,
    csv: bool,
    /// Names of what narrows it.
    filters: Vec<String>,
}

impl Wanted {
    /// Reads the query; every parameter that is not known or comes twice is a fault, so that no filter is believed to count
    /// that does not.
    async fn of(call: &Call, of_all: bool) -> Result<Self, Problem> {
        let mut fields = Fields::of_query(call.query.as_deref());
        let known = |name: &String| {
            let name = name.as_str();
            FILTERS.contains(&name) || OTHERS.contains(&name) || of_all && name == "userId"
        };
        let names = fields.names().map(str::to_owned);
        let (mut filters, unknown): (Vec<_>, Vec<_>) = names.partition(known);
        for name in unknown {
            fields.fault(&name, "Unrecognized key");
        }
        for name in Fields::repeated_in(call.query.as_deref()) {
            fields.fault(&name, "Invalid input: expected one, received several");
        }
        filters.retain(|name| !OTHERS.contains(&name.as_str()));
        let user_id = read(&mut fields, "userId", "an id", |text| {
            vault_audit::is_id(text).then(|| text.to_owned())
        });
        let actions = read(&mut fields, "action", "actions", vault_audit::actions);
        let statuses = read(&mut fields, "status", "statuses", vault_audit::statuses);
        let ip_address = read(&mut fields, "ipAddress", "an address", vault_audit::address);
        let from = read(&mut fields, "from", "an ISO 8601 time", vault_audit::time);
        let to = read(&mut fields, "to", "an ISO 8601 time", vault_audit::time);
        let at = read(
            &mut fields,
            "at",
            "a position or an ISO 8601 time",
            At::parse,
        );
        let order = fields.optional_choice("order", &["desc", "asc"]);
        let format = fields.optional_choice("format", &["json", "csv"]);
        let csv = format.map_or_else(|| prefers_csv(&call.headers), |format| format == "csv");
        let oldest_first = order == Some("asc");
        let beyond = read(&mut fields, "cursor", "a cursor of this order", |text| {
            read_cursor(text, oldest_first)
        });
        let max = if csv { ROWS.2 } else { ROWS.1 };
        let limit = read(&mut fields, "limit", &format!("1 to {max}"), |text| {
            text.parse().ok().filter(|limit| (1..=max).contains(limit))
        });
        let mut needed = min_position(&call.headers)?;
        if at.is_some() || needed > 0 {
            let head = log::head(&call.app().pool).await?;
            if matches!(at, Some(At::Position(position)) if position > head) {
                fields.fault("at", NO_POSITION);
            }
            if needed > head {
                return Err(bad_min_position());
            }
            // As it was then, not as far as it is followed by now.
            needed = match at {
                Some(At::Position(position)) => needed.max(position),
                Some(At::Time(_)) => head,
                None => needed,
            };
        }
        fields.done()?;
        let asked = Asked {
            user_id,
            actions: actions.unwrap_or_default(),
            statuses: statuses.unwrap_or_default(),
            ip_address,
            from,
            to,
            oldest_first,
            beyond,
            limit: limit.unwrap_or(ROWS.0),
        };
        Ok(Self {
            asked,
            at,
            needed,
            csv,
            filters,
        })
    }

    fn reading(&self, of: ReadLog) -> Reading {
        let filters = self.filters.clone();
        Reading { of, filters }
    }
}

fn read<T>(
    fields: &mut Fields,
    name: &str,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Option<T> {
    let text = fields.optional_text(name)?;
    let value = parse(&text);
    if value.is_none() {
        fields.fault(name, &format!("Invalid input: expected {expected}"));
    }
    value
}

/// `X-Min-Position`: the answer is as new as this position at least.
fn min_position(headers: &HeaderMap) -> Result<i64, Problem> {
    let Some(value) = headers.get("x-min-position") else {
        return Ok(0);
    };
    let text = value.to_str().map_err(|_| bad_min_position())?;
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let position = text.parse().ok().filter(|_| digits);
    position.ok_or_else(bad_min_position)
}

fn bad_min_position() -> Problem {
    Problem::Validation(format!("[header.x-min-position] {NO_POSITION}"))
}

/// Whether CSV is the first of our formats that `Accept` names (RFC 9110 section 12.5.1, without weights).
fn prefers_csv(headers: &HeaderMap) -> bool {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let mut types = accept.unwrap_or_default().split(',').map(|range| {
        let name = range.split(';').next().unwrap_or_default();
        name.trim().to_ascii_lowercase()
    });
    types.find(|name| ["text/csv", "application/json", "*/*"].contains(&name.as_str()))
        == Some("text/csv".to_owned())
}

/// The order of a page, and the position of the row that it ended with: nothing that its reader does not know.
fn cursor(position: i64, oldest_first: bool) -> String {
    let order = if oldest_first { "asc" } else { "desc" };
    URL_SAFE_NO_PAD.encode(format!("{order}:{position}"))
}

fn read_cursor(text: &str, oldest_first: bool) -> Option<i64> {
    let read = String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let position = read.split_once(':')?.1.parse().ok()?;
    // Each position has one cursor.
    (cursor(position, oldest_first) == text && position > 0).then_some(position)
}

async fn answer(call: &Call, wanted: Wanted) -> Result<Response, Problem> {
    let app = call.app();
    let Wanted {
        asked,
        at,
        needed,
        csv,
        ..
    } = wanted;
    let (owner, oldest_first) = (asked.user_id.clone(), asked.oldest_first);
    let known = follower::wait_for(&app.pool, vault_audit::MODEL.name, needed).await?;
    let until = vault_audit::until(app, at, known).await?;
    let page = match vault_audit::read(app, asked, until).await {
        Err(error) if page::took_too_long(&error) => return Err(Problem::Stated(&TOO_SLOW, None)),
        page => page?,
    };
    let next = page.next.map(|position| cursor(position, oldest_first));
    let mut response = if csv {
        as_csv(&page).map_err(|_| Problem::Internal)?
    } else {
        let events: Vec<Line<'_>> = page.rows.iter().map(Line::from).collect();
        let incomplete = page.incomplete;
        let mut body = json!({"events": events, "nextCursor": next, "position": known, "incomplete": incomplete});
        if let Some(owner) = owner {
            body["vault"] = json!(vault_audit::as_of(app, &UserId::new(owner), until).await?);
        }
        Json(body).into_response()
    };
    let headers = response.headers_mut();
    headers.insert("x-model-position", HeaderValue::from(known));
    let incomplete = if page.incomplete { "true" } else { "false" };
    headers.insert("x-incomplete", HeaderValue::from_static(incomplete));
    if let Some(next) = next.and_then(|next| HeaderValue::from_str(&next).ok()) {
        headers.insert("x-next-cursor", next);
    }
    for name in ["X-Model-Position", "X-Incomplete", "X-Next-Cursor"] {
        answers::expose(&mut response, name);
    }
    Ok(response)
}

fn as_csv(page: &Page) -> io::Result<Response> {
    let mut lines = CsvLines::new(Vec::new())?;
    for row in &page.rows {
        lines.put(&row.into())?;
    }
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present"),
        (
            CONTENT_DISPOSITION,
            "attachment; filename=\"vault-audit.csv\"",
        ),
    ];
    Ok((headers, lines.finish()?).into_response())
}
