//! What is kept about each model that follows the log: up to where it goes, and the streams that it cannot follow.

use std::time::{Duration, Instant};

use projections::Projection;
use sqlx::postgres::PgConnection;
use sqlx::{PgExecutor, PgPool};

use crate::lease::Held;
use crate::store::StoreError;

/// A reader waits this long for a model to follow.
const WAIT: Duration = Duration::from_secs(5);
/// It looks this often.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A stream that a model cannot follow.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Parked {
    /// Type of the stream.
    pub stream_type: String,
    /// Id of the stream.
    pub stream_id: String,
    /// Of the event that it waits for.
    pub position: i64,
    /// What is wrong with it; names nothing personal.
    pub error: String,
}

/// The streams that a model cannot follow.
///
/// # Errors
/// When the database does not answer.
pub async fn parked(db: impl PgExecutor<'_>, model: &str) -> Result<Vec<Parked>, sqlx::Error> {
    sqlx::query_as(
        "select stream_type, stream_id, position, error from followers.parked where model = $1 order by position",
    )
    .bind(model)
    .fetch_all(db)
    .await
}

/// Whether rows of a model are missing up to a position because streams wait, or one stream of this id if it is named.
///
/// # Errors
/// When the database does not answer.
pub async fn is_incomplete(
    db: impl PgExecutor<'_>,
    model: &str,
    stream_id: Option<&str>,
    until: i64,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "select exists (select from followers.parked
                        where model = $1 and ($2 is null or stream_id = $2) and position <= $3)",
    )
    .bind(model)
    .bind(stream_id)
    .bind(until)
    .fetch_one(db)
    .await
}

/// Parks a stream.
pub(super) async fn park(
    tx: &mut PgConnection,
    model: &Projection,
    stream: &Parked,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "insert into followers.parked (model, stream_type, stream_id, position, error) values ($1, $2, $3, $4, $5)",
    )
    .bind(model.name)
    .bind(&stream.stream_type)
    .bind(&stream.stream_id)
    .bind(stream.position)
    .bind(&stream.error)
    .execute(tx)
    .await?;
    Ok(())
}

/// Up to where a model goes, for as long as the transaction holds it; none if this node has no right to it any more.
pub(super) async fn held_position(
    tx: &mut PgConnection,
    model: &Projection,
    held: &Held,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "select m.position from followers.leases l, followers.models m
         where l.name = $1 and l.fence = $2 and m.name = $3 for update of m for share of l",
    )
    .bind(held.name)
    .bind(held.fence)
    .bind(model.name)
    .fetch_optional(tx)
    .await
}

/// Up to where a model goes.
///
/// # Errors
/// When the database does not answer, or there is no such model.
pub async fn position(db: impl PgExecutor<'_>, model: &str) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar("select position from followers.models where name = $1")
        .bind(model)
        .fetch_one(db)
        .await
}

/// Keeps a model where it is until the transaction ends.
///
/// # Errors
/// When the database does not answer.
pub async fn hold(db: impl PgExecutor<'_>, model: &str) -> Result<(), sqlx::Error> {
    sqlx::query("select from followers.models where name = $1 for update")
        .bind(model)
        .execute(db)
        .await?;
    Ok(())
}

/// Lets a model go on from a position, with no stream parked: all of it is in its rows.
///
/// # Errors
/// When the database does not answer.
pub async fn begin_at(
    tx: &mut PgConnection,
    model: &str,
    position: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("delete from followers.parked where model = $1")
        .bind(model)
        .execute(&mut *tx)
        .await?;
    go_to(tx, model, position).await
}

/// Says up to where a model goes.
pub(super) async fn go_to(
    tx: &mut PgConnection,
    model: &str,
    position: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query("update followers.models set position = $2 where name = $1")
        .bind(model)
        .bind(position)
        .execute(tx)
        .await?;
    Ok(())
}

/// Takes a model from one position to another, between which it follows nothing; whether it was there.
pub(super) async fn pass_over(
    db: impl PgExecutor<'_>,
    model: &Projection,
    held: &Held,
    (from, to): (i64, i64),
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "update followers.models m set position = $5 from followers.leases l
         where l.name = $1 and l.fence = $2 and m.name = $3 and m.position = $4",
    )
    .bind(held.name)
    .bind(held.fence)
    .bind(model.name)
    .bind(from)
    .bind(to)
    .execute(db)
    .await?;
    Ok(moved.rows_affected() > 0)
}

/// Waits until a model goes up to a position; gives the one up to which it goes.
///
/// # Errors
/// `Unavailable` if it does not within 5 s.
pub async fn wait_for(pool: &PgPool, model: &str, wanted: i64) -> Result<i64, StoreError> {
    let started = Instant::now();
    loop {
        let reached = position(pool, model).await?;
        if reached >= wanted {
            return Ok(reached);
        }
        if started.elapsed() > WAIT {
            let behind = format!("{model} goes up to position {reached}, not {wanted}");
            return Err(StoreError::Unavailable(behind));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
