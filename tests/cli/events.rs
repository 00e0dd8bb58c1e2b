//! `events`: the log as it is stored, where nothing personal and no secret stands in clear.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::client::{PASSWORD, UNVERIFIED};
use crate::command::{end, signal};
use crate::harness::TestApp;
use crate::place::{Place, beside};

#[tokio::test]
async fn nothing_personal_and_no_secret_is_shown_unless_it_is_asked_for() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.1")]).await;
    let body = json!({"name": "Countess", "email": "lovelace@example.com", "password": PASSWORD, "locale": "en"});
    let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
    let request = request
        .header("x-forwarded-for", "203.0.113.9")
        .header("user-agent", "Analytical Engine");
    let session = crate::client::session_of(&crate::client::answer(request).await);
    let mail = app.wait_for_mail("lovelace@example.com", 0).await;
    app.follow(&mail.url.clone().unwrap()).await;
    let link_token = crate::client::link_token(mail.url.as_deref().unwrap()).to_owned();
    let cli = beside(&app);
    let id = session.user_id.as_str();
    let session_id = cli.run(&["events", "tail", "--json"]).await.json();
    let session_id = session_id
        .iter()
        .find(|event| event["aggregate_type"] == "session")
        .unwrap();
    let session_id = session_id["aggregate_id"].as_str().unwrap();

    let hidden = [
        "@example.com",
        "Countess",
        "203.0.113.9",
        "Analytical",
        PASSWORD,
        "$argon2",
        &session.token,
        &link_token,
    ];
    for arguments in [
        &["events", "tail"][..],
        &["events", "tail", "--json"],
        &["events", "show", "user", id],
        &["events", "show", "user", id, "--json"],
        &["events", "show", "session", session_id, "--json"],
        &["events", "show", "signing_keys", "jwt", "--json"],
    ] {
        let said = cli.run(arguments).await.well();
        for text in hidden {
            assert!(!said.contains(text), "{text} is in {said}");
        }
    }
    let sealed = cli.run(&["events", "show", "user", id]).await.well();
    assert!(sealed.contains("\"email\":\"<sealed>\""), "{sealed}");

    // Opened on purpose: people see what is personal, secrets are in no event at all.
    let open = cli
        .run(&["events", "show", "user", id, "--open"])
        .await
        .well();
    assert!(
        open.contains("\"email\":\"lovelace@example.com\"")
            && open.contains("\"name\":\"Countess\""),
        "{open}"
    );
    let open = cli
        .run(&["events", "show", "session", session_id, "--open"])
        .await
        .well();
    assert!(
        open.contains("203.0.113.9") && open.contains("Analytical Engine"),
        "{open}"
    );
    let open = cli
        .run(&["events", "show", "user", id, "--open", "--json"])
        .await
        .well();
    for secret in &hidden[4..] {
        assert!(!open.contains(secret), "{secret} is in {open}");
    }
}

#[tokio::test]
async fn the_tail_starts_where_it_is_told_to() {
    let place = Place::new().await;
    for number in 0..10 {
        place.person(&format!("person{number}")).await;
    }
    let positions = async |arguments: &[&str]| -> Vec<i64> {
        let said = place
            .cli
            .run(&[&["events", "tail"], arguments].concat())
            .await;
        let lines = said.well();
        let first = |line: &str| line.split_whitespace().next().unwrap().parse().unwrap();
        lines.lines().map(first).collect()
    };
    // The signing key and two for each person.
    assert_eq!(positions(&[]).await, (2..=21).collect::<Vec<_>>());
    assert_eq!(
        positions(&["--after", "0"]).await,
        (1..=21).collect::<Vec<_>>()
    );
    assert_eq!(positions(&["--after", "19"]).await, [20, 21]);
    assert_eq!(positions(&["--after", "21"]).await, [0; 0]);

    let events = place
        .cli
        .run(&["events", "tail", "--after", "20", "--json"])
        .await
        .json();
    let stored = place
        .text("select jsonb_build_object('position', position, 'payload', payload, 'metadata', metadata)::text from events where position = 21")
        .await;
    let stored: Value = serde_json::from_str(&stored).unwrap();
    for (name, value) in stored.as_object().unwrap() {
        assert_eq!(&events[0][name], value);
    }
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_told() {
    let place = Place::new().await;
    place.person("lovelace").await;
    for (stream, id) in [("user", "nobody"), ("planet", "earth")] {
        let complaint = place
            .cli
            .run(&["events", "show", stream, id])
            .await
            .refused(1);
        assert_eq!(
            complaint,
            format!("error: there is no stream {stream}/{id}\n")
        );
    }
}

#[tokio::test]
async fn the_tail_follows_until_it_is_interrupted() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let mut tail = place
        .cli
        .start(&["events", "tail", "--follow", "--after", "3", "--json"]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    let id = place.person("hopper").await;
    for kind in ["user.registered", "user.password_set"] {
        let line = lines.next_line().await.unwrap().unwrap();
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            (&event["event_type"], &event["aggregate_id"]),
            (&json!(kind), &json!(id))
        );
    }
    signal(&tail, "INT").await;
    let said = end(tail).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}

#[tokio::test]
async fn a_reader_that_has_seen_enough_is_no_error() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let mut tail = place.cli.start(&["events", "tail"]);
    drop(tail.stdout.take());
    let said = end(tail).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
}
