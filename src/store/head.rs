//! Following the head of the log: what nodes tell each other, and what each reads to keep up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use sqlx::postgres::PgListener;

use super::freshness::Freshness;
use super::log;

/// Channel on which nodes tell each other that the log has grown.
const CHANNEL: &str = "mana_auth_log";
/// How long the head may go unread when nobody tells of anything.
const POLL: Duration = Duration::from_millis(250);
/// The head is read at most this often: under load many changes come with one reading.
const FOLLOW_EVERY: Duration = Duration::from_millis(25);
/// Other nodes are told at most this often.
const NOTIFY_EVERY: Duration = Duration::from_millis(25);
/// Events read at a time.
const PAGE: i64 = 5_000;

/// Follows the head until the task is dropped: every event is told to `freshness`, by whichever node it was written.
/// Begins at the current head; what came before is in the read models. While this node alone writes, nothing is read:
/// its appender knows as much.
pub async fn follow(pool: PgPool, freshness: Arc<Freshness>) {
    let mut began = false;
    let mut written = freshness.written();
    let mut listener: Option<PgListener> = None;
    loop {
        match catch_up(&pool, &freshness, &mut began).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => {
                // Nothing is lost: without a confirmation the node stops trusting what it remembers.
                tracing::warn!(error = %error, "cannot read the head of the log");
                listener = None;
            }
        }
        if listener.is_none() {
            listener = listen(&pool).await.ok();
        }
        let mut known_of = 0;
        let is_up_to_date =
            |known_of| freshness.applied() >= known_of && freshness.is_confirmed_within(POLL);
        loop {
            let told = async {
                match &mut listener {
                    Some(listener) => listener.try_recv().await.ok().flatten(),
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                heard = told => match heard {
                    // A note that is no position says that there is something.
                    Some(note) => known_of = note.payload().parse().unwrap_or(i64::MAX),
                    None => listener = None,
                },
                _ = written.changed() => known_of = *written.borrow_and_update(),
                () = tokio::time::sleep(POLL) => {}
            }
            tokio::time::sleep(FOLLOW_EVERY).await;
            if listener.is_none() || !is_up_to_date(known_of) {
                break;
            }
        }
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Reads one page; says whether there may be more.
async fn catch_up(
    pool: &PgPool,
    freshness: &Freshness,
    began: &mut bool,
) -> Result<bool, sqlx::Error> {
    let asked = Instant::now();
    if !*began {
        freshness.confirm(log::head(pool).await?, asked);
        *began = true;
        return Ok(false);
    }
    let written: Vec<(i64, String, String, String)> =
        sqlx::query_as("select position, aggregate_type, aggregate_id, event_type from events where position > $1 order by position limit $2")
            .bind(freshness.applied())
            .bind(PAGE)
            .fetch_all(pool)
            .await?;
    for (position, stream_type, id, event_type) in &written {
        freshness.tell(stream_type, id, event_type, *position);
    }
    if let Some((last, ..)) = written.last() {
        freshness.advance(*last);
    }
    if written.len() as i64 == PAGE {
        return Ok(true);
    }
    freshness.confirm(freshness.applied(), asked);
    Ok(false)
}

/// Tells the other nodes that this one has written, coalesced and outside of any transaction.
pub async fn notify(pool: PgPool, freshness: Arc<Freshness>) {
    let mut written = freshness.written();
    while written.changed().await.is_ok() {
        let position = *written.borrow_and_update();
        if let Err(error) = sqlx::query("select pg_notify($1, $2)")
            .bind(CHANNEL)
            .bind(position.to_string())
            .execute(&pool)
            .await
        {
            // The other nodes find out by themselves when they next look.
            tracing::debug!(error = %error, "cannot notify other nodes");
        }
        tokio::time::sleep(NOTIFY_EVERY).await;
    }
}
