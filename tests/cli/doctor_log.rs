//! `doctor` reads every event, and compares streams with what the table of streams says.

use serde_json::{Value, json};

use crate::doctor::{Found, examine, found, only};
use crate::harness::TestApp;
use crate::place::{Place, beside, tamper};
use crate::tables::number;

const EVENTS: &str = "events decode and open, positions are dense";
const STREAMS: &str = "streams have no holes";

/// Position of an event of a stream.
async fn event(place: &Place, stream: &str, kind: &str) -> i64 {
    let query = format!(
        "select position from events where aggregate_id = '{stream}' and event_type = '{kind}'"
    );
    number(&place.admin, &query).await
}

#[tokio::test]
async fn an_event_that_was_altered_is_found() {
    let place = Place::new().await;
    let (ada, bob) = (place.person("lovelace").await, place.person("hopper").await);
    let position = event(&place, &ada, "user.registered").await;
    let original = place
        .text(&format!(
            "select payload::text from events where position = {position}"
        ))
        .await;
    let set = |payload: &str| {
        format!("update events set payload = '{payload}' where position = {position}")
    };
    let broken = |what: &str| {
        only(
            EVENTS,
            [format!("the store is broken: event at {position}: {what}")],
        )
    };

    let mut payload: Value = serde_json::from_str(&original).unwrap();
    let sealed = payload["registered"]["email"]["$personal"]["sealed"]
        .as_str()
        .unwrap();
    let first = if sealed.starts_with('A') { "B" } else { "A" };
    payload["registered"]["email"]["$personal"]["sealed"] =
        json!(format!("{first}{}", &sealed[1..]));
    place.tamper(&set(&payload.to_string())).await;
    let does_not_open = broken("field .registered.email does not open");
    assert_eq!(examine(&place).await, does_not_open);

    // Bob's own field, whole, in Ada's event: under Bob's key it is not bound to this place.
    place
        .tamper(&format!(
            "update events set payload = jsonb_set('{original}', '{{registered,email}}',
                 (select payload #> '{{registered,email}}' from events
                  where aggregate_id = '{bob}' and event_type = 'user.registered'))
             where position = {position}"
        ))
        .await;
    assert_eq!(examine(&place).await, does_not_open);

    let mut payload: Value = serde_json::from_str(&original).unwrap();
    payload["registered"]["name"]["$personal"]["key"] = json!("first");
    place.tamper(&set(&payload.to_string())).await;
    let shape = broken("field .registered.name has an unknown shape");
    assert_eq!(examine(&place).await, shape);

    place.tamper(&set(&original)).await;
    assert_eq!(examine(&place).await, Found::new());
}

#[tokio::test]
async fn what_somebody_wrote_into_an_event_in_clear_is_not_repeated() {
    let place = Place::new().await;
    let ada = place.person("lovelace").await;
    let position = event(&place, &ada, "user.registered").await;
    for (payload, expected) in [
        (
            "jsonb_set(payload, '{registered,email}', '\"lovelace@example.com, expected by nobody\"')",
            "expected struct Outer",
        ),
        (
            "'{\"lovelace@example.com\": {}}'",
            "expected one of `registered`, ",
        ),
    ] {
        let alter = format!("update events set payload = {payload} where position = {position}");
        place.tamper(&alter).await;
        let problem = format!("the store is broken: event at {position}: {expected}");
        let found = examine(&place).await;
        assert!(found[EVENTS][0].starts_with(&problem), "{found:?}");
    }
}

#[tokio::test]
async fn a_client_that_was_altered_is_found() {
    let app = TestApp::start(&[]).await;
    app.verified("lovelace").await;
    let cli = beside(&app);
    let examine = async || found(cli.run(&["doctor", "--json"]).await);
    assert_eq!(examine().await, Found::new());
    let with_client = "select max(position) from events where metadata ? 'client'";
    let position = number(&app.admin, with_client).await;
    tamper(
        &app.admin,
        &format!(
            "update events set metadata = jsonb_set(metadata, '{{client}}', to_jsonb(reverse(metadata ->> 'client')))
             where position = {position}"
        ),
    )
    .await;
    let altered =
        format!("the store is broken: event at {position}: field metadata.client does not open");
    assert_eq!(examine().await, only(EVENTS, [altered]));
}

#[tokio::test]
async fn a_hole_in_the_log_is_found() {
    let place = Place::new().await;
    let ada = place.person("lovelace").await;
    place
        .cli
        .run(&["user", "set-tier", &ada, "beta"])
        .await
        .well();
    let hole = event(&place, &ada, "user.password_set").await;
    place
        .tamper(&format!("delete from events where position = {hole}"))
        .await;
    let expected = Found::from([
        (
            EVENTS.to_owned(),
            vec![format!("positions {hole} to {hole} are missing")],
        ),
        (
            STREAMS.to_owned(),
            vec![format!(
                "user/{ada}: 2 events up to sequence 3, but version 3 in the table of streams"
            )],
        ),
    ]);
    assert_eq!(examine(&place).await, expected);
}

#[tokio::test]
async fn streams_that_are_not_as_long_as_they_say_are_found() {
    let place = Place::new().await;
    let ada = place.person("lovelace").await;
    let is = |events: i64, last: i64, version: i64| {
        let problem = format!(
            "user/{ada}: {events} events up to sequence {last}, but version {version} in the table of streams"
        );
        only(STREAMS, [problem])
    };
    for (statement, expected) in [
        (
            format!("update streams set version = 3 where id = '{ada}'"),
            is(2, 2, 3),
        ),
        (
            format!("update streams set version = 1 where id = '{ada}'"),
            is(2, 2, 1),
        ),
        (
            format!("delete from streams where id = '{ada}'"),
            is(2, 2, 0),
        ),
    ] {
        place.tamper(&statement).await;
        assert_eq!(examine(&place).await, expected);
    }
    place
        .tamper(&format!(
            "insert into streams values ('user', '{ada}', 2), ('session', 'nobody', 1)"
        ))
        .await;
    let nobody = "session/nobody: 0 events up to sequence 0, but version 1 in the table of streams";
    assert_eq!(examine(&place).await, only(STREAMS, [nobody]));
}
