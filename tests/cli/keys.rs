//! `keys`: the public life of the keys that sign access tokens.

use serde_json::{Value, json};

use crate::place::Place;

/// Ids and stages, oldest first.
async fn stages(place: &Place) -> Vec<(String, String)> {
    let list = place
        .cli
        .run(&["keys", "list", "--json"])
        .await
        .json()
        .pop()
        .unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let keys = list.as_array().unwrap().iter();
    keys.map(|key| (text(&key["kid"]), text(&key["stage"])))
        .collect()
}

#[tokio::test]
async fn keys_are_listed_rotated_and_withdrawn() {
    let place = Place::new().await;
    let first = stages(&place).await;
    let [(first, stage)] = &first[..] else {
        panic!("one key, not {first:?}")
    };
    assert_eq!(stage, "active");

    let said = place.cli.run(&["keys", "rotate"]).await.well();
    let is = |kid: &str, stage: &str| (kid.to_owned(), stage.to_owned());
    let both = stages(&place).await;
    let next = both[1].0.as_str();
    assert_eq!(both, [is(first, "active"), is(next, "next")]);
    assert!(
        said.starts_with(&format!("Key {next} is published and signs from ")),
        "{said}"
    );
    let lines = place.cli.run(&["keys", "list"]).await.well();
    let lines: Vec<&str> = lines.lines().collect();
    assert!(
        lines[0].starts_with(&format!("{first}  active   signs from ")),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with(&format!("{next}  next     signs from ")),
        "{lines:?}"
    );

    let before = place.everything().await;
    for (arguments, complaint) in [
        (
            &["keys", "rotate"][..],
            "a key waits to become active already",
        ),
        (
            &["keys", "revoke", first],
            "no other key signs yet: `keys rotate --now` makes one that does",
        ),
        (&["keys", "revoke", "nobody"], "there is no such key"),
    ] {
        let said = place.cli.run(arguments).await.refused(1);
        assert_eq!(said, format!("error: {complaint}\n"));
    }
    assert_eq!(place.everything().await, before);

    // A key that leaked is withdrawn at once all the same: another one signs first.
    let said = place.cli.run(&["keys", "rotate", "--now"]).await.well();
    let three = stages(&place).await;
    let now = three[1].0.as_str();
    assert_eq!(
        three,
        [is(first, "retired"), is(now, "active"), is(next, "next")]
    );
    assert!(
        said.starts_with(&format!("Key {now} is published and signs from ")),
        "{said}"
    );
    place.cli.run(&["keys", "revoke", first]).await.well();

    let said = place.cli.run(&["keys", "revoke", next]).await.well();
    assert_eq!(said, format!("Key {next} is withdrawn.\n"));
    assert_eq!(
        stages(&place).await,
        [is(first, "revoked"), is(now, "active"), is(next, "revoked")]
    );
    let again = place.cli.run(&["keys", "revoke", next]).await.refused(1);
    assert_eq!(again, "error: there is no such key\n");

    let events = place
        .cli
        .run(&["events", "show", "signing_keys", "jwt", "--json"])
        .await
        .json();
    let told: Vec<_> = events
        .iter()
        .map(|event| (&event["event_type"], &event["metadata"]["actor"]))
        .collect();
    let (published, revoked) = (
        json!("signing_keys.published"),
        json!("signing_keys.revoked"),
    );
    let (system, operator) = (json!("system"), json!("operator"));
    assert_eq!(
        told,
        [
            (&published, &system),
            (&published, &operator),
            (&published, &operator),
            (&revoked, &operator),
            (&revoked, &operator)
        ]
    );
}

#[tokio::test]
async fn only_the_public_half_of_a_key_is_shown() {
    let place = Place::new().await;
    let list = place
        .cli
        .run(&["keys", "list", "--json"])
        .await
        .json()
        .pop()
        .unwrap();
    let fields: Vec<&String> = list[0].as_object().unwrap().keys().collect();
    assert_eq!(
        fields,
        [
            "active_from",
            "created_at",
            "kid",
            "public_key",
            "revoked_at",
            "stage"
        ]
    );
    let public = place.text("select public_key from read.signing_keys").await;
    assert_eq!(list[0]["public_key"], public);
}
