//! A database that came back from a backup: nothing is written to it until an operator accepts it.

use mana_auth::cluster::Role;
use mana_auth::database;
use mana_auth::maintenance::LogHead;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};

use crate::doctor::note_of;
use crate::harness::{Shared, wait_until};
use crate::place::Place;
use crate::serve::Served;

/// Takes a backup of a place, lets it live on, and brings the backup back.
async fn restore(place: &Place, live_on: impl AsyncFnOnce()) {
    let name = place.name();
    let url = Shared::get().url(Role::Superuser, "postgres");
    let mut postgres = database::options(&url).unwrap().connect().await.unwrap();
    // A database with connections cannot be copied; pools connect again when they are asked.
    let copy = |from: &str, to: &str| {
        format!(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = '{from}';
             create database {to} template {from} owner mana_auth_owner"
        )
    };
    let backup = format!("{name}_backup");
    for statement in copy(name, &backup).split(';') {
        postgres.execute(statement).await.unwrap();
    }
    live_on().await;
    let drop = format!("drop database {name} with (force)");
    postgres.execute(drop.as_str()).await.unwrap();
    for statement in copy(&backup, name).split(';') {
        postgres.execute(statement).await.unwrap();
    }
    postgres.close().await.unwrap();
}

#[tokio::test]
async fn a_restored_database_waits_until_it_is_accepted() {
    let place = Place::new().await;
    let lovelace = place.person("lovelace").await;
    restore(&place, async || {
        place.person("hopper").await;
        // The service notes the head of the log.
        let service = Served::start(&place.cli).await;
        service.wait_until_ready().await;
        wait_until("the head is noted", async || note_of(&place).exists()).await;
        service.stop().await;
    })
    .await;
    let before = place.everything().await;
    let obstacle = "the log came back from a backup: events 4 to 5 are gone. \
                    If that is right, run `mana-auth restore accept`";

    // The service says so and serves nothing; nothing is written, by it or by any other command.
    let service = Served::start(&place.cli).await;
    let reason = json!({"status": "not ready", "reason": obstacle});
    service.wait_for(503, &reason).await;
    let health = service.cli.run(&["health"]).await;
    assert_eq!((health.code, &health.json()[0]), (1, &reason));
    assert_eq!(service.get("/api/auth/get-session").await.0, 503);
    let refused = format!("error: {obstacle}\n");
    for arguments in [
        &["user", "set-role", &lovelace, "admin"][..],
        &["keys", "rotate"],
        &["rebuild", "users"],
    ] {
        assert_eq!(place.cli.run(arguments).await.refused(1), refused);
    }
    // Looking is allowed.
    assert_eq!(
        place
            .cli
            .run(&["events", "tail"])
            .await
            .well()
            .lines()
            .count(),
        3
    );
    place
        .cli
        .run(&["events", "show", "user", &lovelace])
        .await
        .well();
    assert_eq!(place.everything().await, before);

    let said = place.cli.run(&["restore", "accept"]).await.well();
    assert_eq!(
        said,
        "Accepted: epoch 2 begins at position 4; 2 events are gone.\n"
    );
    service.wait_until_ready().await;
    let epoch = place
        .text("select epoch::text from log_epochs where number = 2")
        .await;
    let events = place
        .cli
        .run(&["events", "tail", "--after", "3", "--json"])
        .await
        .json();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["event_type"], "log.restored");
    assert_eq!(events[0]["metadata"]["actor"], "operator");
    let restored = &events[0]["payload"]["log_restored"];
    assert_eq!(
        (
            &restored["epoch"],
            &restored["lost_from"],
            &restored["lost_to"]
        ),
        (&json!(epoch), &json!(4), &json!(5))
    );
    place.cli.run(&["doctor"]).await.well();
    place
        .cli
        .run(&["user", "set-role", &lovelace, "admin"])
        .await
        .well();
    service.stop().await;

    let again = place.everything().await;
    let said = place.cli.run(&["restore", "accept"]).await.well();
    assert_eq!(said, "Nothing to accept: the log goes on where it was.\n");
    assert_eq!(place.everything().await, again);
}

#[tokio::test]
async fn a_log_from_before_its_first_event_is_accepted_from_there() {
    let place = Place::new().await;
    restore(&place, async || {
        place.person("lovelace").await;
        LogHead::read(&place.admin)
            .await
            .unwrap()
            .write(&note_of(&place))
            .unwrap();
    })
    .await;
    let said = place.cli.run(&["restore", "accept"]).await.well();
    assert_eq!(
        said,
        "Accepted: epoch 2 begins at position 1; 3 events are gone.\n"
    );
    let events = place.cli.run(&["events", "tail", "--json"]).await.json();
    assert_eq!(events[0]["event_type"], "log.restored");
}

#[tokio::test]
async fn another_log_is_accepted_too() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let foreign = LogHead {
        epoch: uuid::Uuid::nil(),
        head: 2,
    };
    foreign.write(&note_of(&place)).unwrap();
    let obstacle = place.cli.run(&["keys", "list"]).await.refused(1);
    assert!(
        obstacle.starts_with("error: the database holds another log"),
        "{obstacle}"
    );
    let said = place.cli.run(&["restore", "accept"]).await.well();
    assert_eq!(
        said,
        "Accepted: epoch 2 begins at position 4; 0 events are gone.\n"
    );
    place.cli.run(&["keys", "list"]).await.well();
}

#[tokio::test]
async fn where_no_head_was_noted_there_is_nothing_to_accept() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let before = place.everything().await;
    let said = place.cli.run(&["restore", "accept"]).await.well();
    assert_eq!(
        said,
        "Nothing to accept: no head of a log was written down before.\n"
    );
    assert_eq!(place.everything().await, before);
}
