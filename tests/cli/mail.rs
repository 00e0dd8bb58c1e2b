//! `mail`: the queue as operators see it.

use serde_json::json;

use crate::place::{Place, tamper};

#[tokio::test]
async fn what_waits_is_listed_and_made_due_without_anything_personal() {
    let place = Place::new().await;
    assert_eq!(
        place.cli.run(&["mail", "waiting"]).await.well(),
        "Nothing waits.\n"
    );
    assert_eq!(
        place.cli.run(&["mail", "waiting", "--json"]).await.well(),
        "[]\n"
    );
    assert_eq!(
        place.cli.run(&["mail", "retry"]).await.well(),
        "0 due now.\n"
    );

    for name in ["lovelace", "hopper"] {
        place.person(name).await;
    }
    // One was tried in vain and waits an hour; the other one may be in the hands of a worker.
    let subject = place.text("select min(subject) from effects").await;
    tamper(
        &place.admin,
        &format!(
            "update effects set attempts = 3, last_error = 'credits answered 500', due_at = clock_timestamp() + interval '1 hour'
             where subject = '{subject}';
             update effects set attempts = 1, due_at = clock_timestamp() + interval '50 s' where subject <> '{subject}'"
        ),
    )
    .await;
    let said = place.cli.run(&["mail", "waiting"]).await.well();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(
        lines[0].contains("credits_init  attempts   1  due "),
        "{said}"
    );
    assert!(
        lines[1].contains("credits_init  attempts   3  due "),
        "{said}"
    );
    assert!(lines[1].ends_with("  credits answered 500"), "{said}");
    let list = place
        .cli
        .run(&["mail", "waiting", "--json"])
        .await
        .json()
        .pop()
        .unwrap();
    let fields: Vec<&String> = list[1].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "attempts",
            "due_at",
            "event_id",
            "kind",
            "last_error",
            "queued_at"
        ]
    );
    assert_eq!(
        (&list[1]["attempts"], &list[1]["last_error"]),
        (&json!(3), &json!("credits answered 500"))
    );

    assert_eq!(
        place.cli.run(&["mail", "retry"]).await.well(),
        "1 due now.\n"
    );
    let due =
        "select string_agg(attempts::text, ',') from effects where due_at <= clock_timestamp()";
    assert_eq!(place.text(due).await, "3");
    assert_eq!(
        place.cli.run(&["mail", "retry"]).await.well(),
        "0 due now.\n"
    );
}
