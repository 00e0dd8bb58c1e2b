//! `/api/v1/me/encryption-vault/*`: the key that encrypts what somebody keeps in the apps (mana-v1.md section 5).
//!
//! | method | path | |
//! |---|---|---|
//! | GET | `/status` | which vault there is; the only call that is not written down |
//! | POST | `/init` | the key, made if there is none |
//! | GET | `/key` | the key; in zero-knowledge mode what the recovery code opens |
//! | POST | `/rotate` | another key |
//! | POST, DELETE | `/recovery-wrap` | set and take away what the recovery code opens |
//! | POST | `/recovery-wrap/restore` | put back what it was before |
//! | POST | `/zero-knowledge` | switch the mode on and off |

use std::sync::Arc;

use aggregates::vault::{Action, Refusal, Vault};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::MatchedPath;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::answers::replay;
use super::auth::known_password;
use super::doors::{Checks, Door};
use super::error::{Problem, Stated};
use super::limits::{self, Limit};
use super::request;
use super::shapes::iso;
use super::web::Call;
use crate::crypto::password::Password;
use crate::crypto::vault_key::{KeyCheck, MasterKey};
use crate::sessions::Live;
use crate::sign_in;
use crate::store::StoreError;
use crate::store::idempotency::{Fingerprint, Outcome as Answer};
use crate::vault::{self, Once, Outcome, RecoveryWrap, Visit, Wish};

/// Longest half of a recovery wrap, in characters; those of our clients have 64.
const WRAP_MAX_CHARS: usize = 2048;
/// Without the password, a recovery wrap is put back only in a session that began less than this ago (S-60).
const JUST_SIGNED_IN: TimeDelta = TimeDelta::minutes(5);

/// The doors.
pub fn doors() -> Vec<Door> {
    // A call above the coarse brake would leave no line; these have limits of their own, which do (S-75).
    let door = |method, path, handler| Door::open(method, path, handler).counting_people();
    let post_door = |path, handler| door(Method::POST, path, handler);
    vec![
        Door::open(Method::GET, "/status", get(status)).never_impersonated(),
        post_door("/init", post(init)),
        door(Method::GET, "/key", get(key)).never_impersonated(),
        post_door("/rotate", post(rotate)).after_step_up(),
        post_door("/recovery-wrap", post(set_recovery)).after_step_up(),
        door(Method::DELETE, "/recovery-wrap", delete(clear_recovery)).after_step_up(),
        post_door("/recovery-wrap/restore", post(restore_recovery)).checking(Checks::Password),
        post_door("/zero-knowledge", post(zero_knowledge)).after_step_up(),
    ]
}

const fn stated(status: StatusCode, code: &'static str, message: &'static str) -> Stated {
    Stated {
        status,
        code: Some(code),
        message,
    }
}

const fn bad_request(message: &'static str) -> Stated {
    stated(StatusCode::BAD_REQUEST, "BAD_REQUEST", message)
}

static NO_VAULT: Stated = stated(
    StatusCode::NOT_FOUND,
    "VAULT_NOT_INITIALISED",
    "vault not initialised",
);
static ROTATE_FORBIDDEN: Stated = stated(
    StatusCode::CONFLICT,
    "ZK_ROTATE_FORBIDDEN",
    "cannot rotate in zero-knowledge mode",
);
static ZK_ACTIVE: Stated = stated(
    StatusCode::CONFLICT,
    "ZK_ACTIVE",
    "cannot clear recovery wrap while zero-knowledge is active",
);
static NO_RECOVERY_WRAP: Stated = stated(
    StatusCode::BAD_REQUEST,
    "RECOVERY_WRAP_MISSING",
    "set a recovery wrap before enabling zero-knowledge",
);
static NOTHING_KEPT: Stated = stated(
    StatusCode::NOT_FOUND,
    "NO_PREVIOUS_RECOVERY_WRAP",
    "no previous recovery wrap is kept",
);
static OTHER_KEY: Stated = stated(
    StatusCode::CONFLICT,
    "MASTER_KEY_MISMATCH",
    "masterKey is not the key of this vault",
);
static OTHER_KEY_CHECK: Stated = stated(
    StatusCode::CONFLICT,
    "MASTER_KEY_MISMATCH",
    "keyCheck is not that of the key of this vault",
);
static WRAP_REQUIRED: Stated =
    bad_request("recoveryWrappedMk and recoveryIv are required (base64 strings)");
static ENABLE_REQUIRED: Stated = bad_request("`enable: boolean` is required");
static KEY_REQUIRED: Stated =
    bad_request("`masterKey: base64` is required when disabling zero-knowledge");
static KEY_LENGTH: Stated = bad_request("masterKey must decode to 32 bytes");
static KEY_CHECK_LENGTH: Stated = bad_request("keyCheck must be the base64 of 32 bytes");
static TIME_REQUIRED: Stated = bad_request("at must be an ISO 8601 time");

fn refused(action: Action, reason: Refusal) -> Problem {
    let stated = match (reason, action) {
        (Refusal::NoVault, _) => &NO_VAULT,
        (Refusal::ZeroKnowledge, Action::Rotate) => &ROTATE_FORBIDDEN,
        (Refusal::ZeroKnowledge, _) => &ZK_ACTIVE,
        (Refusal::NoRecoveryWrap, _) => &NO_RECOVERY_WRAP,
        (Refusal::NothingKept, _) => &NOTHING_KEPT,
        (Refusal::AnotherKey, Action::RecoverySet) => &OTHER_KEY_CHECK,
        (Refusal::AnotherKey, _) => &OTHER_KEY,
        // These answer for themselves, before it comes to this.
        (Refusal::Impersonated, _) => return Problem::AdminOnly,
        (Refusal::NotProven, _) => return Problem::SessionNotFresh,
        (Refusal::WrongPassword, _) => return Problem::WrongCredentials,
        (Refusal::NoPassword, _) => return Problem::NoPassword,
        (Refusal::TooManyTries, _) => {
            return Problem::TooManyRequests {
                retry_after_secs: 1,
            };
        }
    };
    Problem::Stated(stated, None)
}

/// Who calls: by an access token, a session's token or its cookie, and nobody whose session is over when the call is
/// written down (I-9). Whoever acts as somebody is written down and refused (S-66), and so are whoever has to show anew
/// who they are (S-60) and calls above the limit, those once an hour (S-80, I-11).
async fn enter(call: &Call, action: Action, limit: &Limit) -> Result<Arc<Live>, Problem> {
    let shown = match action {
        // The most frequent call; whether the session lives is asked for once more where it is written down.
        Action::Fetch => call.required_remembered_person().await,
        _ => call.required_stored_person().await,
    };
    let live = match shown {
        Ok(live) => live,
        Err(problem) => {
            if problem.status().is_client_error() {
                call.count_as_nobodys()?;
            }
            return Err(problem);
        }
    };
    let visit = visit(call, &live);
    let counted = async {
        // One device that asks without end keeps no other out.
        let device = &live.session.id;
        limits::VAULT_DEVICE.take_for(call.app(), device).await?;
        limit.take_for(call.app(), &live.user.id).await
    };
    if let Err(problem) = counted.await {
        let is_too_much = matches!(problem, Problem::TooManyRequests { .. });
        if is_too_much
            && limits::VAULT_LIMITED
                .allows(call.app(), &live.user.id)
                .await?
        {
            vault::call(call.app(), &visit, &Wish::TooMuch).await?;
        }
        return Err(problem);
    }
    let mut admitted = call.admit(&live).await;
    if admitted.is_ok() && matches!(action, Action::Init | Action::Fetch) {
        admitted = call.step_up_on_unknown_device(&live).await;
    }
    if let Err(problem) = admitted {
        let reason = match problem {
            Problem::StepUpRequired { .. } => Refusal::NotProven,
            _ if live.session.impersonated_by.is_some() => Refusal::Impersonated,
            // The session has just ended, or nobody knows: that is no refusal.
            _ => return Err(problem),
        };
        let denied = Wish::Denied(action, reason);
        vault::call(call.app(), &visit, &denied).await?;
        return Err(problem);
    }
    Ok(live)
}

fn visit<'a>(call: &'a Call, live: &'a Live) -> Visit<'a> {
    Visit {
        live,
        caller: &call.caller,
        once: None,
    }
}

/// The `Idempotency-Key` of a call; everybody has their own.
fn fingerprint(call: &Call, live: &Live, body: &[u8]) -> Result<Option<Fingerprint>, Problem> {
    let path = call.path.as_ref().map_or("", MatchedPath::as_str);
    call.idempotency_of(&format!("{} {path} {}", call.method, live.user.id), body)
}

/// A change that gives out no key. Whoever repeats it by its `Idempotency-Key` gets the answer of before, and nothing is
/// done or written down.
async fn change(
    call: &Call,
    live: &Live,
    once: Option<Fingerprint>,
    wish: Wish,
    body: impl Fn(&Outcome) -> Value + Sync,
) -> Result<Response, Problem> {
    if let Some(Some(first)) = call.repeated(once).await? {
        return Ok(replay(first));
    }
    let answer = |outcome: &Outcome| {
        let body = body(outcome).to_string().into_bytes();
        Some(Answer { status: 200, body })
    };
    let visit = once_only(visit(call, live), once, &answer);
    match vault::call(call.app(), &visit, &wish).await {
        // The same request was faster on another connection.
        Err(StoreError::IdempotencyKeyUsed) => match call.repeated(once).await? {
            Some(Some(first)) => Ok(replay(first)),
            _ => Err(Problem::Conflict),
        },
        done => {
            let done = carried_out(done?)?;
            Ok(Json(body(&done)).into_response())
        }
    }
}

fn once_only<'a>(
    visit: Visit<'a>,
    fingerprint: Option<Fingerprint>,
    answer: &'a (dyn Fn(&Outcome) -> Option<Answer> + Sync),
) -> Visit<'a> {
    let once = fingerprint.map(|fingerprint| Once {
        fingerprint,
        answer,
    });
    Visit { once, ..visit }
}

/// The body; what is no JSON object counts as missing.
fn body(call: &Call) -> Value {
    request::read_any(&call.bytes).unwrap_or_default()
}

/// Takes a text out of a body, to be wiped; none if it is empty or no text.
fn secret_text(body: &mut Value, field: &str) -> Option<Zeroizing<String>> {
    match body.get_mut(field).map(Value::take) {
        Some(Value::String(text)) if !text.is_empty() => Some(Zeroizing::new(text)),
        _ => None,
    }
}

async fn status(call: Call) -> Result<Response, Problem> {
    let live = call.required_stored_person().await?;
    call.admit(&live).await?;
    let vault::Status {
        mode,
        recovery_set_at,
    } = vault::status(call.app(), &live.user.id).await?;
    let has_recovery = matches!(mode, Vault::StandardWithRecovery | Vault::ZeroKnowledge);
    let body = json!({
        "vaultExists": mode != Vault::Absent, "hasRecoveryWrap": has_recovery,
        "zeroKnowledge": mode == Vault::ZeroKnowledge, "recoverySetAt": recovery_set_at.map(iso),
    });
    Ok(Json(body).into_response())
}

async fn init(call: Call) -> Result<Response, Problem> {
    give(&call, Action::Init, &limits::VAULT, Wish::Init).await
}

async fn key(call: Call) -> Result<Response, Problem> {
    give(&call, Action::Fetch, &limits::VAULT, Wish::Fetch).await
}

async fn rotate(call: Call) -> Result<Response, Problem> {
    give(&call, Action::Rotate, &limits::VAULT_CHANGE, Wish::Rotate).await
}

/// A call that gives the key out. Of one with an `Idempotency-Key` only that it was carried out is kept: whoever repeats
/// it gets the key of now, which is written down as any other time (S-80).
async fn give(call: &Call, action: Action, limit: &Limit, wish: Wish) -> Result<Response, Problem> {
    let live = enter(call, action, limit).await?;
    let once = match action {
        Action::Fetch => None,
        _ => fingerprint(call, &live, &call.bytes)?,
    };
    let again = async || {
        let again = if action == Action::Init {
            Wish::Init
        } else {
            Wish::Fetch
        };
        vault::call(call.app(), &visit(call, &live), &again).await
    };
    let given = if call.repeated(once).await?.is_some() {
        again().await?
    } else {
        let visit = once_only(visit(call, &live), once, &|_| None);
        match vault::call(call.app(), &visit, &wish).await {
            // The same request was faster on another connection, or another one with its key.
            Err(StoreError::IdempotencyKeyUsed) if call.repeated(once).await?.is_some() => {
                again().await?
            }
            Err(StoreError::SessionOver) => return Err(is_over(call).await),
            given => given?,
        }
    };
    match carried_out(given)? {
        Outcome::Key {
            key,
            format_version,
            kek_id,
        } => Ok(key_answer(&key, format_version, &kek_id)),
        Outcome::Recovery { wrap, .. } => {
            let mut body = recovery_json(&wrap);
            body["requiresRecoveryCode"] = json!(true);
            Ok(Json(body).into_response())
        }
        _ => Ok(Json(done(&Outcome::Done)).into_response()),
    }
}

/// What is told to whoever shows a session that was over when the call was to be written down.
async fn is_over(call: &Call) -> Problem {
    match call.required_stored_person().await {
        Err(problem) => problem,
        Ok(_) => Problem::Conflict,
    }
}

/// The key with what belongs to it. The text is wiped when it is sent.
fn key_answer(key: &MasterKey, format_version: i16, kek_id: &str) -> Response {
    let (key, kek_id) = (key.to_base64(), Value::from(kek_id));
    let capacity = key.len() + kek_id.to_string().len() + 64;
    // The full capacity at once: growing would leave unwiped copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(capacity));
    body.extend_from_slice(br#"{"masterKey":""#);
    body.extend_from_slice(key.as_bytes());
    let rest = format!(r#"","formatVersion":{format_version},"kekId":{kek_id}}}"#);
    body.extend_from_slice(rest.as_bytes());
    let mut response = Response::new(Body::from(Bytes::from_owner(body)));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

fn recovery_json(wrap: &RecoveryWrap) -> Value {
    json!({
        "recoveryWrappedMk": wrap.wrapped_mk, "recoveryIv": wrap.iv, "formatVersion": wrap.format_version,
    })
}

fn done(_: &Outcome) -> Value {
    json!({"ok": true})
}

/// A call that is done, or is not.
fn carried_out(outcome: Outcome) -> Result<Outcome, Problem> {
    match outcome {
        Outcome::Refused(action, reason) => Err(refused(action, reason)),
        Outcome::NotOpened => Err(Problem::Internal),
        done => Ok(done),
    }
}

async fn set_recovery(call: Call) -> Result<Response, Problem> {
    let live = enter(&call, Action::RecoverySet, &limits::VAULT_CHANGE).await?;
    let mut body = body(&call);
    let mut half = |field: &str| match body.get_mut(field).map(Value::take) {
        Some(Value::String(text)) if is_half_of_wrap(&text) => Ok(text),
        _ => Err(Problem::Stated(&WRAP_REQUIRED, None)),
    };
    let wrap = RecoveryWrap {
        wrapped_mk: half("recoveryWrappedMk")?,
        iv: half("recoveryIv")?,
        format_version: 1,
    };
    let shown = match &body["keyCheck"] {
        Value::Null => None,
        shown => {
            let check = shown.as_str().and_then(KeyCheck::from_base64);
            Some(check.ok_or(Problem::Stated(&KEY_CHECK_LENGTH, None))?)
        }
    };
    let once = fingerprint(&call, &live, &call.bytes)?;
    change(&call, &live, once, Wish::SetRecovery(wrap, shown), done).await
}

/// Opaque to us, but a text that can be kept.
fn is_half_of_wrap(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= WRAP_MAX_CHARS && !text.contains('\0')
}

async fn clear_recovery(call: Call) -> Result<Response, Problem> {
    let live = enter(&call, Action::RecoveryClear, &limits::VAULT_CHANGE).await?;
    let once = fingerprint(&call, &live, &call.bytes)?;
    change(&call, &live, once, Wish::ClearRecovery, done).await
}

/// Only for whoever shows the password, or has just signed in (S-76).
async fn restore_recovery(call: Call) -> Result<Response, Problem> {
    let live = enter(&call, Action::RecoveryRestore, &limits::VAULT_CHANGE).await?;
    let mut body = body(&call);
    let had_at = match body.get("at") {
        None | Some(Value::Null) => None,
        Some(at) => Some(time(at).ok_or(Problem::Stated(&TIME_REQUIRED, None))?),
    };
    let password = secret_text(&mut body, "password");
    let password = password
        .map(|password| known_password(password.to_string()))
        .transpose()?;
    if let Err(problem) = prove(&call, &live, password).await {
        if let Some(reason) = unproven(&problem) {
            let denied = Wish::Denied(Action::RecoveryRestore, reason);
            vault::call(call.app(), &visit(&call, &live), &denied).await?;
        }
        return Err(problem);
    }
    // Not the password: nothing quick to compute may be kept of it.
    let asked = json!({"at": had_at}).to_string();
    let once = fingerprint(&call, &live, asked.as_bytes())?;
    change(&call, &live, once, Wish::RestoreRecovery(had_at), restored).await
}

fn restored(outcome: &Outcome) -> Value {
    let mut body = done(outcome);
    if let Outcome::Recovery { wrap, in_place } = outcome {
        body = recovery_json(wrap);
        body["ok"] = json!(true);
        body["restored"] = json!(in_place);
    }
    body
}

/// Whether it is the owner who calls, whom a stolen session does not show.
async fn prove(call: &Call, live: &Live, password: Option<Password>) -> Result<(), Problem> {
    let Some(password) = password else {
        let age = call.app().clock.now() - live.session.created_at;
        return (age < JUST_SIGNED_IN)
            .then_some(())
            .ok_or(Problem::SessionNotFresh);
    };
    sign_in::confirm_password(call.app(), &live.user, password, &call.caller).await?;
    Ok(())
}

/// Why somebody is refused who was to prove who they are; none if nothing was found out.
fn unproven(problem: &Problem) -> Option<Refusal> {
    Some(match problem {
        Problem::WrongCredentials => Refusal::WrongPassword,
        Problem::NoPassword => Refusal::NoPassword,
        Problem::TooManyRequests { .. } | Problem::AccountLocked { .. } => Refusal::TooManyTries,
        problem if problem.status().is_client_error() => Refusal::NotProven,
        _ => return None,
    })
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    let time = DateTime::parse_from_rfc3339(value.as_str()?).ok()?;
    Some(time.to_utc())
}

async fn zero_knowledge(call: Call) -> Result<Response, Problem> {
    let mut body = body(&call);
    let enable = body.get("enable").and_then(Value::as_bool);
    let action = match enable {
        Some(false) => Action::ZkDisable,
        Some(true) | None => Action::ZkEnable,
    };
    let live = enter(&call, action, &limits::VAULT_CHANGE).await?;
    let stated = |stated| Problem::Stated(stated, None);
    let enable = enable.ok_or(stated(&ENABLE_REQUIRED))?;
    let wish = if enable {
        Wish::EnableZeroKnowledge
    } else {
        let text = secret_text(&mut body, "masterKey").ok_or(stated(&KEY_REQUIRED))?;
        let key = MasterKey::from_base64(&text).ok_or(stated(&KEY_LENGTH))?;
        Wish::DisableZeroKnowledge(key)
    };
    let once = fingerprint(&call, &live, &call.bytes)?;
    let body = |_: &Outcome| json!({"ok": true, "zeroKnowledge": enable});
    change(&call, &live, once, wish, body).await
}
