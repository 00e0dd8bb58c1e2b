//! `doctor` is content with what is whole, and names each kind of damage without anything personal.

use std::collections::BTreeMap;

use mana_auth::config::Config;
use mana_auth::maintenance::{LogHead, head_file};
use serde_json::json;
use tokio::net::TcpListener;

use crate::client::UNVERIFIED;
use crate::command::Said;
use crate::harness::TestApp;
use crate::place::{Place, beside};

const CONTINUES: &str = "log continues where it was";
const ROOM: &str = "log has room to grow";
const MAIL_SERVER: &str = "mail server is there";

/// What each check that failed found.
pub type Found = BTreeMap<String, Vec<String>>;

/// Asks `doctor`; fails if it says anything personal, or if its exit code lies.
pub async fn examine(place: &Place) -> Found {
    found(place.cli.run(&["doctor", "--json"]).await)
}

/// What failed, by what `doctor --json` said.
pub fn found(said: Said) -> Found {
    assert_eq!(said.err, "");
    for personal in ["@", "lovelace", "hopper"] {
        assert!(!said.out.contains(personal), "{}", said.out);
    }
    let report = said.json().pop().unwrap();
    let failed: Found = report["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["problems"] != json!([]))
        .map(|check| {
            let problems = serde_json::from_value(check["problems"].clone()).unwrap();
            (check["name"].as_str().unwrap().to_owned(), problems)
        })
        .collect();
    let healthy = failed.is_empty();
    assert_eq!(report["healthy"], healthy);
    assert_eq!(said.code, i32::from(!healthy));
    failed
}

/// What is found when one check fails.
pub fn only<T: ToString>(check: &str, problems: impl IntoIterator<Item = T>) -> Found {
    let problems = problems.into_iter().map(|problem| problem.to_string());
    Found::from([(check.to_owned(), problems.collect())])
}

#[tokio::test]
async fn a_healthy_database_is_well_and_stays_as_it_is() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let before = place.everything().await;
    let said = place.cli.run(&["doctor", "--deep"]).await.well();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "ok      key-encryption keys are the right ones: 1 checked",
            // Pepper, root, key of requests, key of the log, signing key; data key and password of one person.
            "ok      secrets open: 7 checked",
            "ok      log continues where it was: 0 checked",
            "ok      log has room to grow: 1 checked",
            "ok      mail server is there: 0 checked",
            "ok      events decode and open, positions are dense: 3 checked",
            "ok      streams have no holes: 2 checked",
            "ok      claims and people belong together: 1 checked",
            "ok      vaults open and agree with their events: 0 checked",
            "ok      read models follow the log: 1 checked",
            "ok      read model users equals its events: 1 checked",
            "ok      read model sessions equals its events: 0 checked",
            "ok      read model signing_keys equals its events: 1 checked",
            "ok      read model security_events equals its events: 1 checked",
            "ok      read model devices equals its events: 0 checked",
            "ok      read model erasures equals its events: 0 checked",
            "ok      read model accounts equals its events: 1 checked",
            "ok      read model passkeys equals its events: 0 checked",
            "ok      read model api_keys equals its events: 0 checked",
            "ok      read model organizations equals its events: 0 checked",
            "ok      read model members equals its events: 0 checked",
            "ok      read model invitations equals its events: 0 checked",
            "ok      read model organization_roles equals its events: 0 checked",
            "ok      read model teams equals its events: 0 checked",
            "ok      read model team_members equals its events: 0 checked",
            "ok      read model vault_audit equals its events: 0 checked",
        ]
    );
    assert_eq!(examine(&place).await, Found::new());
    assert_eq!(place.everything().await, before);
}

#[tokio::test]
async fn damage_is_told_in_lines_for_people_too() {
    let place = Place::new().await;
    for name in ["lovelace", "hopper"] {
        place.person(name).await;
    }
    place
        .tamper("delete from claims; delete from streams where type = 'user'")
        .await;
    let said = place.cli.run(&["doctor"]).await;
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    assert!(
        said.out
            .contains("FAILED  streams have no holes: 1 checked\n        user/")
    );
    assert!(
        said.out
            .contains("FAILED  claims and people belong together: 2 checked\n        user ")
    );
    assert!(said.out.contains("ok      secrets open: 9 checked\n"));
}

#[tokio::test]
async fn an_empty_database_is_no_healthy_one() {
    let place = Place::new().await;
    place.tamper("drop schema read cascade").await;
    let complaint = place.cli.run(&["doctor"]).await.refused(1);
    assert_eq!(
        complaint,
        "error: the database is empty: run `mana-auth migrate`, or start the service once\n"
    );
}

#[tokio::test]
async fn a_log_that_is_not_the_one_that_was_last_seen_is_found() {
    let place = Place::new().await;
    let file = note_of(&place);
    place.person("lovelace").await;
    let here = LogHead::read(&place.admin).await.unwrap();
    here.write(&file).unwrap();
    assert_eq!(examine(&place).await, Found::new());

    let ahead = LogHead {
        head: here.head + 4,
        ..here.clone()
    };
    ahead.write(&file).unwrap();
    let restored = "the log came back from a backup: events 4 to 7 are gone. \
                    If that is right, run `mana-auth restore accept`";
    assert_eq!(examine(&place).await, only(CONTINUES, [restored]));

    let foreign = LogHead {
        epoch: uuid::Uuid::nil(),
        ..here
    };
    foreign.write(&file).unwrap();
    let other = "the database holds another log than this service last worked with. \
                 If that is right, run `mana-auth restore accept`";
    assert_eq!(examine(&place).await, only(CONTINUES, [other]));

    std::fs::write(&file, "{\"epoch\"").unwrap();
    let found = examine(&place).await;
    assert!(found[CONTINUES][0].starts_with(&format!("reading {}", file.display())));
}

/// Where the command line of a place notes the head of the log.
pub fn note_of(place: &Place) -> std::path::PathBuf {
    let settings = [
        "DATABASE_URL",
        "MANA_AUTH_MIGRATION_URL",
        "MANA_AUTH_DATA_DIR",
    ];
    let settings = settings.map(|name| (name.to_owned(), place.cli.setting(name).to_owned()));
    head_file(&Config::from_values(&settings.into(), None).unwrap())
}

#[tokio::test]
async fn partitions_that_are_missing_ahead_are_found() {
    let place = Place::new().await;
    place.person("lovelace").await;
    let only_so_many = |room: &str| {
        let problem = format!(
            "only {room} positions are left in the partitions that exist; \
             `mana-auth migrate` or the running service makes more"
        );
        only(ROOM, [problem])
    };
    // One in the middle: what lies behind it cannot be reached.
    place.tamper("drop table events_000001").await;
    assert_eq!(examine(&place).await, only_so_many("9,999,996"));
    place.tamper("drop table events_000002").await;
    assert_eq!(examine(&place).await, only_so_many("9,999,996"));
    place.tamper("select ensure_event_partitions()").await;
    assert_eq!(examine(&place).await, Found::new());
}

#[tokio::test]
async fn a_mail_server_that_is_not_there_is_found() {
    let mut place = Place::new().await;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    place.cli = place
        .cli
        .with("SMTP_HOST", "127.0.0.1")
        .with("SMTP_PORT", &port);
    assert_eq!(examine(&place).await, Found::new());
    drop(listener);
    let found = examine(&place).await;
    assert!(found[MAIL_SERVER][0].starts_with(&format!("127.0.0.1:{port}: Connection refused")));
}

#[tokio::test]
async fn a_read_model_that_is_not_what_its_events_give_is_found() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("lovelace").await;
    let cli = beside(&app);
    let deep = async || found(cli.run(&["doctor", "--deep", "--json"]).await);
    assert_eq!(deep().await, Found::new());
    let key: String = sqlx::query_scalar("select id from read.signing_keys")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    let id: String = sqlx::query_scalar("select id from read.sessions")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    for (statement, model, row) in [
        (
            "update read.users set role = 'admin'",
            "users",
            &session.user_id,
        ),
        ("delete from read.sessions", "sessions", &id),
        (
            "update read.signing_keys set active_from = active_from + interval '1 ms'",
            "signing_keys",
            &key,
        ),
    ] {
        sqlx::query(statement).execute(&app.admin).await.unwrap();
        let name = format!("read model {model} equals its events");
        let problem = format!("row {row} differs; `mana-auth rebuild {model}` makes it anew");
        assert_eq!(deep().await, only(&name, [problem]));
        cli.run(&["rebuild", model]).await.well();
        assert_eq!(deep().await, Found::new());
    }
}
