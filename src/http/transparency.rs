//! `/log/*`: the transparency log for whoever wants to check it (C2SP tlog-tiles, with `/log` as its prefix). Hashes and
//! proofs say nothing of anybody and are for everybody; events are for admins and auditors.
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/checkpoint` | the newest signed checkpoint |
//! | GET | `/key` | the verifier key of the log |
//! | GET | `/tile/{level}/{number}`, `/tile/{level}/{number}.p/{width}` | hashes of the tree |
//! | GET | `/proof/inclusion?index&size` | that leaf `index` (event `index + 1`) is in the tree of `size` |
//! | GET | `/proof/consistency?from&to` | that the tree of `from` is the beginning of the tree of `to` |
//! | GET | `/entries?from&to` | the leaves of these positions, one a line |

use aggregates::{ReadLog, Reading};
use axum::Json;
use axum::extract::Path;
use axum::http::Method;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::json;
use tlog_tiles::Hash;

use super::doors::Door;
use super::error::Problem;
use super::request::Fields;
use super::web::Call;
use crate::readings;
use crate::store::leaf::leaf;
use crate::store::{StoreError, log};
use crate::transparency::tiles::{self, TreeError, WIDTH};
use crate::transparency::{checkpoints, proofs};

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
const LINES: &str = "application/jsonl";
/// Changes with every event.
const BRIEFLY: &str = "public, max-age=1";
/// Changes when the log comes back from a backup.
const A_MINUTE: &str = "public, max-age=60";
/// Leaves in one answer.
const ENTRIES_MAX: u64 = 1_000;

/// The doors.
pub fn doors() -> Vec<Door> {
    let door = |path, handler| Door::open(Method::GET, path, handler);
    vec![
        door("/checkpoint", get(checkpoint)),
        door("/key", get(key)),
        door("/tile/{*place}", get(tile)),
        door("/proof/inclusion", get(inclusion)),
        door("/proof/consistency", get(consistency)),
        door("/entries", get(entries)).never_impersonated(),
    ]
}

impl From<TreeError> for Problem {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Database(error) => error.into(),
            TreeError::Missing { .. } | TreeError::Short { .. } | TreeError::Hashes(_) => {
                tracing::error!(error = %error, "the stored tree cannot be read");
                Self::Internal
            }
        }
    }
}

/// Size of the newest signed tree: what is beyond it is nobody's business yet.
async fn signed_size(call: &Call) -> Result<u64, Problem> {
    let last = checkpoints::last(&call.app().pool).await?;
    Ok(last.map_or(0, |last| last.size.unsigned_abs()))
}

async fn checkpoint(call: Call) -> Result<Response, Problem> {
    let last = checkpoints::last(&call.app().pool).await?;
    // The first one is signed a moment after the first start.
    let note = last.ok_or(Problem::Unavailable)?.note;
    Ok(([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, BRIEFLY)], note).into_response())
}

async fn key(call: Call) -> Result<Response, Problem> {
    let app = call.app();
    let now = checkpoints::current(&app.pool, app.store.custody(), &app.config).await?;
    let key = format!("{}\n", now.signer.verifier());
    Ok(([(CONTENT_TYPE, TEXT), (CACHE_CONTROL, A_MINUTE)], key).into_response())
}

async fn tile(Path(place): Path<String>, call: Call) -> Result<Response, Problem> {
    let (place, width) = read_place(&place)
        .ok_or_else(|| Problem::Validation("[path] Invalid input: not a tile".to_owned()))?;
    let size = signed_size(&call).await?;
    let (level, number) = place;
    if number.saturating_mul(WIDTH).saturating_add(width) > tiles::hashes_on(level, size) {
        return Err(Problem::NotFound);
    }
    let hashes = tiles::hashes(&call.app().pool, place, width).await?;
    let hashes = hashes.ok_or(TreeError::Missing { level, number })?;
    Ok(([(CONTENT_TYPE, BYTES), (CACHE_CONTROL, A_MINUTE)], hashes).into_response())
}

/// Level and number of a tile, and how many of its hashes are asked for. Each tile has one path and no other.
fn read_place(path: &str) -> Option<(tiles::Place, u64)> {
    let (level, rest) = path.split_once('/')?;
    let level = level
        .parse()
        .ok()
        .filter(|read: &u8| *read < 64 && read.to_string() == level)?;
    let (number, width) = match rest.split_once(".p/") {
        None => (rest, WIDTH),
        Some((number, width)) => {
            let read: u64 = width.parse().ok()?;
            ((1..WIDTH).contains(&read) && read.to_string() == width).then_some((number, read))?
        }
    };
    // Three digits at a time; all but the last are marked, and none comes first that says nothing.
    let mut groups: Vec<&str> = number.split('/').collect();
    let last = groups.pop()?;
    let mut digits = String::new();
    for group in groups {
        digits += group.strip_prefix('x').filter(|group| group.len() == 3)?;
    }
    digits += Some(last).filter(|group| group.len() == 3)?;
    let is_shortest = digits.len() == 3 || !digits.starts_with("000");
    let is_number = is_shortest && digits.len() <= 18 && digits.bytes().all(|b| b.is_ascii_digit());
    let number = digits.parse().ok().filter(|_| is_number)?;
    Some(((level, number), width))
}

async fn inclusion(call: Call) -> Result<Response, Problem> {
    let [index, size] = numbers(&call, ["index", "size"])?;
    if index >= size {
        return Err(invalid("index"));
    }
    check_size(&call, size).await?;
    let proof = proofs::inclusion(&call.app().pool, index, size).await?;
    Ok(proof_answer(json!({"index": index, "size": size}), &proof))
}

async fn consistency(call: Call) -> Result<Response, Problem> {
    let [from, to] = numbers(&call, ["from", "to"])?;
    if from == 0 || from > to {
        return Err(invalid("from"));
    }
    check_size(&call, to).await?;
    let proof = proofs::consistency(&call.app().pool, from, to).await?;
    Ok(proof_answer(json!({"from": from, "to": to}), &proof))
}

async fn check_size(call: &Call, size: u64) -> Result<(), Problem> {
    match size <= signed_size(call).await? {
        true => Ok(()),
        false => Err(Problem::NotFound),
    }
}

fn proof_answer(mut body: serde_json::Value, proof: &[Hash]) -> Response {
    let hashes: Vec<String> = proof.iter().map(Hash::to_string).collect();
    body["proof"] = json!(hashes);
    ([(CACHE_CONTROL, A_MINUTE)], Json(body)).into_response()
}

/// Leaves as they are in the tree: personal fields sealed, but who did what and when is readable. So whoever reads them is
/// written down, too.
async fn entries(call: Call) -> Result<Response, Problem> {
    let live = call.required_auditor().await?;
    let [from, to] = numbers(&call, ["from", "to"])?;
    if from == 0 || from > to {
        return Err(invalid("from"));
    }
    check_size(&call, to).await?;
    let to = to.min(from + (ENTRIES_MAX - 1));
    let reading = Reading {
        of: ReadLog::Events { from, to },
        filters: vec![],
    };
    readings::of_auditor(call.app(), &live, &call.caller, reading).await?;
    let limit = (to - from + 1) as i64;
    let events = log::after(&call.app().pool, from as i64 - 1, limit).await?;
    let mut lines = Vec::new();
    for event in &events {
        let broken = |error| StoreError::Broken(format!("event at {}: {error}", event.position));
        lines.extend(leaf(event).map_err(broken)?);
        lines.push(b'\n');
    }
    Ok(([(CONTENT_TYPE, LINES)], lines).into_response())
}

/// Numbers of a query, as many as the database can count to.
fn numbers<const N: usize>(call: &Call, names: [&'static str; N]) -> Result<[u64; N], Problem> {
    let mut fields = Fields::of_query(call.query.as_deref());
    let texts = names.map(|name| fields.text(name));
    fields.done()?;
    let mut numbers = [0; N];
    for ((number, text), name) in numbers.iter_mut().zip(texts).zip(names) {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let read = text.parse::<i64>().ok().filter(|_| digits);
        *number = read.ok_or_else(|| invalid(name))?.unsigned_abs();
    }
    Ok(numbers)
}

fn invalid(name: &str) -> Problem {
    Problem::Validation(format!(
        "[query.{name}] Invalid input: not a number that there is"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tile_has_one_path() {
        for (path, place, width) in [
            ("0/000", (0, 0), 256),
            ("3/067.p/8", (3, 67), 8),
            ("0/x001/x234/067", (0, 1_234_067), 256),
            ("0/x001/x234/067.p/255", (0, 1_234_067), 255),
            ("63/x999/999", (63, 999_999), 256),
            ("1/x001/000", (1, 1_000), 256),
        ] {
            assert_eq!(read_place(path), Some((place, width)), "{path}");
        }
        for path in [
            "",
            "0",
            "0/",
            "0/0",
            "0/0000",
            "0/x000/001",
            "0/x01/001",
            "0/001/001",
            "0/x001/x001",
            "00/000",
            "64/000",
            "+1/000",
            "0/+01",
            "0/000.p/0",
            "0/000.p/256",
            "0/000.p/08",
            "0/000.p/",
            "0/000.p/1.p/1",
            "0/000/",
            "0//000",
            "x0/000",
            "0/x999/x999/x999/x999/x999/x999/999",
            "data/000",
            "entries/000",
        ] {
            assert_eq!(read_place(path), None, "{path}");
        }
    }
}
