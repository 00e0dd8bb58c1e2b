//! Work that follows from events: mails and calls to other services. Queued in the append transaction,
//! sealed under the subject's key, done at least once, keyed by event id, deleted when done.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use metrics::{counter, gauge};
use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::json;
use sqlx::{PgPool, Row as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::custody::still_there;
use crate::erasure;
use crate::ids;
use crate::links::{self, MailRequest};
use crate::mail::{Mail, MailError};
use crate::store::{EffectDraft, StoreError, sealed};

/// Kinds of effects.
pub mod kind {
    /// Send a mail.
    pub const MAIL: &str = "mail";
    /// Look an address up that somebody asked a mail for, and queue the mail if it has an account.
    pub const MAIL_REQUEST: &str = "mail_request";
    /// Tell the credits service about a new person.
    pub const CREDITS_INIT: &str = "credits_init";
    /// Tell it about the pool of a new guild.
    pub const GUILD_POOL_INIT: &str = "guild_pool_init";
}

/// Effects of one queue that a node does at the same time.
const AT_ONCE: usize = 8;
/// Calls to the credits service have a queue of their own: mails do not wait until it answers.
const CALLS: [&str; 2] = [kind::CREDITS_INIT, kind::GUILD_POOL_INIT];
/// A worker that died gives its work back after this long, in seconds; longer than any effect may take.
const LEASE_SECS: f64 = 60.0;
/// How often the queue is looked at when nothing tells of new work.
const POLL: Duration = Duration::from_secs(1);
/// First and longest pause after a failure, in seconds.
const RETRY_SECS: (f64, f64) = (2.0, 3600.0);
/// A mail that the receiving server refuses for good is kept this long for the operator to see, in seconds.
const REFUSED_SECS: f64 = 24.0 * 3600.0;
/// Other services have this long to answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Under whose data key requests for mails wait: nobody's, since the door does not look the address up.
pub const REQUESTS: &str = "service:requests";

/// A mail as work to do, sealed under the data key of `subject`.
pub fn mail(subject: &str, mail: &Mail) -> EffectDraft {
    draft(
        kind::MAIL,
        subject,
        serde_json::to_vec(mail).expect("a mail is plain JSON"),
    )
}

/// A request for a mail as work to do.
pub fn mail_request(request: &MailRequest) -> EffectDraft {
    let payload = serde_json::to_vec(request).expect("a request is plain JSON");
    draft(kind::MAIL_REQUEST, REQUESTS, payload)
}

/// The first credits of a new person, as work to do.
pub fn credits_init(user_id: &str) -> EffectDraft {
    draft(kind::CREDITS_INIT, user_id, vec![])
}

/// The pool of a new guild, as work to do.
pub fn guild_pool_init(organization_id: &str) -> EffectDraft {
    draft(kind::GUILD_POOL_INIT, organization_id, vec![])
}

fn draft(kind: &'static str, subject: &str, payload: Vec<u8>) -> EffectDraft {
    EffectDraft {
        kind,
        subject: subject.to_owned(),
        payload: Zeroizing::new(payload),
    }
}

/// Queues work that no event stands for: an attacker must not be able to grow a victim's stream (I-11).
///
/// # Errors
/// When the database does not answer or the subject has no key.
pub async fn enqueue(app: &App, effect: &EffectDraft) -> Result<(), StoreError> {
    let key = app
        .store
        .custody()
        .data_key(&effect.subject)
        .await?
        .ok_or(StoreError::NoDataKey)?;
    let event_id = ids::event();
    let place = [
        event_id.to_string(),
        effect.kind.to_owned(),
        effect.subject.clone(),
    ];
    let sealed = sealed::seal_text(&key, &aad(&place), &effect.payload);
    let done = sqlx::query(&format!(
        "insert into effects (event_id, kind, subject, sealed, position) select $1, $2, $3, $4, 0 where {}",
        still_there("$3")
    ))
    .bind(event_id)
    .bind(effect.kind)
    .bind(&effect.subject)
    .bind(sealed)
    .execute(&app.pool)
    .await?;
    if done.rows_affected() == 0 {
        return Err(StoreError::NoDataKey);
    }
    app.store.freshness().effect_queued();
    Ok(())
}

fn aad(place: &[String; 3]) -> [&str; 4] {
    ["effects", &place[0], &place[1], &place[2]]
}

/// A row of the queue that this worker has a lease on.
struct Effect {
    event_id: Uuid,
    kind: String,
    subject: String,
    sealed: Vec<u8>,
    attempts: i32,
    /// Whether it was refused for good before.
    was_refused: bool,
}

/// Why an effect was not done.
enum Failure {
    /// It may work later.
    Temporary(String),
    /// It will never work as it is.
    Permanent(String),
}

/// The kinds that wait for the same outside service.
#[derive(Clone, Copy)]
enum Queue {
    /// All that are none of the others.
    Mails,
    /// [`CALLS`].
    Calls,
}

/// Works the queues off until `stop` says so; then finishes what is in hand.
pub async fn work(app: Arc<App>, stop: watch::Receiver<bool>) {
    tokio::join!(
        work_off(&app, Queue::Mails, stop.clone()),
        work_off(&app, Queue::Calls, stop.clone()),
        count(&app.pool, stop),
    );
}

async fn work_off(app: &Arc<App>, queue: Queue, mut stop: watch::Receiver<bool>) {
    let mut queued = app.store.freshness().effects();
    let mut in_hand = JoinSet::new();
    // Whether more may be due than was taken.
    let mut more = true;
    while !*stop.borrow() {
        let room = AT_ONCE - in_hand.len();
        if more && room > 0 {
            queued.mark_unchanged();
            let taken = match take(&app.pool, queue, room).await {
                Ok(taken) => taken,
                Err(error) => {
                    tracing::warn!(error = %error, "cannot read the effects queue");
                    vec![]
                }
            };
            more = taken.len() == room;
            for effect in taken {
                in_hand.spawn(carry_out(app.clone(), effect));
            }
        }
        tokio::select! {
            _ = stop.changed() => {}
            // Each that is done makes room for another one, however long the others take.
            Some(_) = in_hand.join_next() => while in_hand.try_join_next().is_some() {},
            _ = queued.changed(), if !more => more = true,
            () = tokio::time::sleep(POLL), if !more => more = true,
        }
    }
    while in_hand.join_next().await.is_some() {}
}

/// Shows how many effects wait.
async fn count(pool: &PgPool, mut stop: watch::Receiver<bool>) {
    while !*stop.borrow() {
        if let Ok(waiting) = waiting(pool).await {
            gauge!("effects_waiting").set(waiting as f64);
        }
        tokio::select! {
            _ = stop.changed() => {}
            () = tokio::time::sleep(POLL) => {}
        }
    }
}

async fn take(pool: &PgPool, queue: Queue, room: usize) -> Result<Vec<Effect>, sqlx::Error> {
    let rows = sqlx::query(
        "update effects set attempts = attempts + 1, due_at = clock_timestamp() + make_interval(secs => $1)
         where (event_id, kind) in (
             select event_id, kind from effects where due_at <= clock_timestamp() and (kind = any ($3)) = $4
             order by due_at limit $2 for update skip locked)
         returning event_id, kind, subject, sealed, attempts, refused_at is not null as was_refused",
    )
    .bind(LEASE_SECS)
    .bind(room as i64)
    .bind(CALLS)
    .bind(matches!(queue, Queue::Calls))
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|row| {
            Ok(Effect {
                event_id: row.try_get("event_id")?,
                kind: row.try_get("kind")?,
                subject: row.try_get("subject")?,
                sealed: row.try_get("sealed")?,
                attempts: row.try_get("attempts")?,
                was_refused: row.try_get("was_refused")?,
            })
        })
        .collect()
}

/// How many effects are not done yet.
///
/// # Errors
/// When the database does not answer.
pub async fn waiting(pool: &PgPool) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select count(*) from effects")
        .fetch_one(pool)
        .await
}

/// A row of the queue as operators see it: nothing personal.
#[derive(Debug, Serialize, sqlx::FromRow)]
pub struct Waiting {
    /// What it follows from.
    pub event_id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// How often it was tried.
    pub attempts: i32,
    /// Since when it waits.
    pub queued_at: DateTime<Utc>,
    /// When it is tried next, or given back by a worker that died.
    pub due_at: DateTime<Utc>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
}

/// The queue, next one first.
///
/// # Errors
/// When the database does not answer.
pub async fn queue(pool: &PgPool) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as(
        "select event_id, kind, attempts, queued_at, due_at, last_error from effects order by due_at, event_id",
    )
    .fetch_all(pool)
    .await
}

/// Makes due now what waits for another attempt. What is due within a lease's time is left alone: a worker
/// may be doing it. Says how many.
///
/// # Errors
/// When the database does not answer.
pub async fn retry(pool: &PgPool) -> Result<u64, sqlx::Error> {
    let done = sqlx::query(
        "update effects set due_at = clock_timestamp() where due_at > clock_timestamp() + make_interval(secs => $1)",
    )
    .bind(LEASE_SECS)
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

async fn carry_out(app: Arc<App>, effect: Effect) {
    let outcome = attempt(&app, &effect).await;
    let kind = effect.kind.clone();
    let result = match &outcome {
        Ok(()) => "done",
        Err(Failure::Temporary(_)) => "retried",
        Err(Failure::Permanent(_)) => "refused",
    };
    counter!("effects_total", "kind" => kind, "result" => result).increment(1);
    if let Err(error) = settle(&app.pool, &effect, outcome).await {
        // The lease runs out and the effect is done again: at least once.
        tracing::warn!(error = %error, event_id = %effect.event_id, kind = effect.kind, "cannot settle an effect");
    }
}

async fn attempt(app: &App, effect: &Effect) -> Result<(), Failure> {
    let later = |error: String| Failure::Temporary(error);
    let key = app
        .store
        .custody()
        .data_key(&effect.subject)
        .await
        .map_err(|error| later(error.to_string()))?;
    // Whoever was erased gets no mail any more.
    let Some(key) = key else { return Ok(()) };
    let place = [
        effect.event_id.to_string(),
        effect.kind.clone(),
        effect.subject.clone(),
    ];
    let payload = sealed::open_text(&key, &aad(&place), &effect.sealed)
        .ok_or_else(|| Failure::Permanent("does not open".into()))?;
    match effect.kind.as_str() {
        kind::MAIL => {
            let mail: Mail = serde_json::from_slice(&payload)
                .map_err(|_| Failure::Permanent("is not a mail".into()))?;
            let from = app.config.mail_from.to_string();
            app.mailer
                .send(&effect.event_id.to_string(), &from, &mail)
                .await
                .map_err(|error| match error {
                    MailError::Temporary(reason) => Failure::Temporary(reason),
                    MailError::Permanent(reason) => Failure::Permanent(reason),
                })
        }
        kind::MAIL_REQUEST => {
            let request: MailRequest = serde_json::from_slice(&payload)
                .map_err(|_| Failure::Permanent("is not a request".into()))?;
            let done = Box::pin(links::answer_request(app, &request)).await;
            done.map_err(|error| later(error.to_string()))
        }
        kind::CREDITS_INIT => {
            let body = json!({"userId": effect.subject});
            credits(app, effect, "credits/init", &body).await
        }
        kind::GUILD_POOL_INIT => {
            let body = json!({"organizationId": effect.subject});
            credits(app, effect, "guild-pool/init", &body).await
        }
        other => Err(Failure::Permanent(format!("unknown kind {other}"))),
    }
}

/// Calls the credits service, if there is one.
async fn credits(
    app: &App,
    effect: &Effect,
    route: &str,
    body: &serde_json::Value,
) -> Result<(), Failure> {
    let Some(base) = &app.config.credits_url else {
        return Ok(());
    };
    let url = format!(
        "{}/api/v1/internal/{route}",
        base.as_str().trim_end_matches('/')
    );
    let request = app
        .http
        .post(url)
        .header("X-Service-Key", app.config.service_key.expose_secret())
        .header("Idempotency-Key", effect.event_id.to_string())
        .timeout(CALL_TIMEOUT)
        .json(body);
    match request.send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        // Newer versions of that service keep no pools of guilds.
        Ok(answer) if answer.status().as_u16() == 404 && effect.kind == kind::GUILD_POOL_INIT => {
            Ok(())
        }
        Ok(answer) => Err(Failure::Temporary(format!(
            "credits answered {}",
            answer.status().as_u16()
        ))),
        Err(error) => Err(Failure::Temporary(error.without_url().to_string())),
    }
}

async fn settle(
    pool: &PgPool,
    effect: &Effect,
    outcome: Result<(), Failure>,
) -> Result<(), sqlx::Error> {
    let (reason, pause, refused) = match outcome {
        Ok(()) => {
            delete(pool, effect).await?;
            return Ok(());
        }
        Err(Failure::Temporary(reason)) => (
            reason,
            (RETRY_SECS.0 * 2_f64.powi(effect.attempts - 1)).min(RETRY_SECS.1),
            false,
        ),
        Err(Failure::Permanent(reason)) if effect.was_refused => {
            // Kept a day after the first refusal, so that an operator sees it; then given up.
            tracing::error!(event_id = %effect.event_id, kind = effect.kind, reason, "an effect was given up");
            delete(pool, effect).await?;
            return Ok(());
        }
        Err(Failure::Permanent(reason)) => (reason, REFUSED_SECS, true),
    };
    tracing::warn!(event_id = %effect.event_id, kind = effect.kind, attempts = effect.attempts, reason, "an effect failed");
    sqlx::query(
        "update effects set last_error = $3, due_at = clock_timestamp() + make_interval(secs => $4),
             refused_at = case when $5 then clock_timestamp() else refused_at end
         where event_id = $1 and kind = $2",
    )
    .bind(effect.event_id)
    .bind(&effect.kind)
    .bind(reason)
    .bind(pause)
    .bind(refused)
    .execute(pool)
    .await?;
    Ok(())
}

async fn delete(pool: &PgPool, effect: &Effect) -> Result<(), sqlx::Error> {
    sqlx::query("delete from effects where event_id = $1 and kind = $2")
        .bind(effect.event_id)
        .bind(&effect.kind)
        .execute(pool)
        .await?;
    if erasure::is_farewell(&effect.subject) {
        erasure::forget_farewell(pool, &effect.subject).await?;
    }
    Ok(())
}
