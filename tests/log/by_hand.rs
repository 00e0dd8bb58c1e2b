//! Calls of `append` without the store, for what no command of ours brings about.

use serde_json::{Value, json};
use sqlx::postgres::PgConnection;

/// Appends events to a stream that has `expected` of them; answers with the precondition that was lost.
pub async fn append(
    connection: &mut PgConnection,
    (stream_type, stream_id): (&str, &str),
    expected: i64,
    events: i64,
    request: &str,
    more: Value,
) -> Result<Option<String>, sqlx::Error> {
    let stream = (stream_type, stream_id);
    append_about(connection, &[], stream, expected, events, request, more).await
}

/// The same, sealed under the data key of a subject, or of none.
pub async fn append_about(
    connection: &mut PgConnection,
    subject: &[&str],
    (stream_type, stream_id): (&str, &str),
    expected: i64,
    events: i64,
    request: &str,
    more: Value,
) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar(
        "with e as (select n from generate_series(1, $4::bigint) n)
         select reasons[1] from append(
             p_stream_type => array[$1], p_stream_id => array[$2], p_expected => array[$3::bigint],
             p_version => array[$3 + $4], p_subject => $7,
             p_session => '{}', p_session_of => '{}', p_vault => '{}', p_written_by => '{}',
             p_command => (select array_agg(1) from e),
             p_sequence => (select array_agg($3 + n order by n) from e),
             p_event_type => (select array_agg('test.happened'::text) from e),
             p_event_version => (select array_agg('1'::text) from e),
             p_payload => (select array_agg('{}'::text) from e),
             p_metadata => (select array_agg($5::text) from e),
             p_event_id => (select array_agg(gen_random_uuid()) from e),
             p_model => '{}', p_rows => '{}', p_more => $6)",
    )
    .bind(stream_type)
    .bind(stream_id)
    .bind(expected)
    .bind(events)
    .bind(json!({ "correlation_id": request }).to_string())
    .bind(more)
    .bind(subject)
    .fetch_one(connection)
    .await
}
