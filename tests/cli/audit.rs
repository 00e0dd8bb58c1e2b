//! `audit`: bundles that are made here and checked anywhere.

use std::fs;

use mana_auth::crypto::aead::Key32;
use mana_auth::crypto::notes::Signer;
use serde_json::{Value, json};

use crate::client::{UNVERIFIED, answer};
use crate::command::{Cli, fresh_path};
use crate::harness::{TestApp, wait_until};
use crate::place::{beside, tamper};
use crate::tables::number;

/// Waits until the whole log is signed, and keeps the checkpoint in a file.
pub async fn checkpoint(app: &TestApp) -> String {
    wait_until("the whole log is signed", async || {
        let left = "select (select max(position) from events) - coalesce(max(size), 0) from followers.checkpoints";
        number(&app.admin, left).await == 0
    })
    .await;
    let file = fresh_path("checkpoint").display().to_string();
    fs::write(&file, app.get("/log/checkpoint").await.text).unwrap();
    file
}

#[tokio::test]
async fn a_bundle_is_checked_without_service_database_or_settings() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let early = checkpoint(&app).await;
    app.signed_in("hopper").await;
    let change = json!({"name": "Ada"});
    assert_eq!(
        app.post_as("/api/auth/update-user", &ada.cookie, &change)
            .await
            .status,
        200
    );
    let late = checkpoint(&app).await;
    let cli = beside(&app);
    let key = cli.run(&["audit", "key"]).await.well();
    assert_eq!(key, app.get("/log/key").await.text);
    let key = key.trim_end();
    let file = fresh_path("ada.bundle").display().to_string();
    let bundle = ["audit", "bundle", "user", &ada.user_id, "--out", &file];
    let said = cli
        .run(&[&bundle[..], &["--previous", &early]].concat())
        .await
        .well();
    assert!(
        said.contains(&format!(
            ": 3 events of user/{}, as of checkpoint ",
            ada.user_id
        )),
        "{said}"
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains("lovelace") && !text.contains("Ada"),
        "what is personal stays sealed"
    );

    // Nothing of a service is there, and what is set would stop one.
    let elsewhere = Cli::new()
        .with("NODE_ENV", "production")
        .with("DATABASE_URL", "nowhere");
    let verify = ["audit", "verify", &file, "--key", key];
    let said = elsewhere.run(&verify).await.well();
    assert!(
        said.starts_with("Proved:\n") && said.contains("Not proved:\n"),
        "{said}"
    );
    assert!(
        said.contains("Events 1 to 3 of user/") && said.contains("is taken at its word"),
        "{said}"
    );
    let said = elsewhere
        .run(&[&verify[..], &["--previous", &early]].concat())
        .await
        .well();
    assert!(
        said.contains("has only grown since the earlier checkpoint of "),
        "{said}"
    );
    let said = elsewhere
        .run(&[&verify[..], &["--previous", &late, "--json"]].concat())
        .await;
    assert_eq!(
        (said.code, &said.json()[0]["proved"]["events"]),
        (0, &json!(3))
    );

    for (arguments, complaint) in [
        (
            vec!["--full"],
            "the bundle does not hold every event of the log",
        ),
        (vec!["--previous", "/nowhere"], "reading /nowhere"),
    ] {
        let said = elsewhere
            .run(&[&verify[..], &arguments].concat())
            .await
            .refused(1);
        assert!(said.contains(complaint), "{said}");
    }
    let name = key.split_once('+').unwrap().0;
    let foreign = Signer::new(name, &Key32::generate()).unwrap().verifier();
    let said = elsewhere
        .run(&["audit", "verify", &file, "--key", &foreign.to_string()])
        .await
        .refused(1);
    assert!(
        said.contains("the checkpoint is not signed by this key"),
        "{said}"
    );

    let altered = fresh_path("altered.bundle").display().to_string();
    fs::write(&altered, text.replace("\"sequence\":2", "\"sequence\":3")).unwrap();
    let said = elsewhere
        .run(&["audit", "verify", &altered, "--key", key])
        .await
        .refused(1);
    assert!(
        said.starts_with("error: nothing is proved\n  because: line "),
        "{said}"
    );
    let said = elsewhere
        .run(&["audit", "verify", &altered, "--key", key, "--json"])
        .await;
    assert_eq!((said.code, &said.json()[0]["proved"]), (1, &Value::Null));

    let full = [
        "audit",
        "bundle",
        "user",
        &ada.user_id,
        "--out",
        &file,
        "--full",
    ];
    cli.run(&full).await.well();
    let said = elsewhere
        .run(&[&verify[..], &["--full", "--previous", &early]].concat())
        .await
        .well();
    assert!(
        said.contains("every event of the log was looked at"),
        "{said}"
    );
}

/// Section 3: a vault's bundle proves each of its calls, the refused ones as well, and names neither key nor address.
#[tokio::test]
async fn a_vault_is_proven_call_by_call() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let mut keys = vec![];
    for (method, path, status) in [
        ("GET", "/key", 404),
        ("DELETE", "/recovery-wrap", 404),
        ("POST", "/init", 200),
        ("GET", "/key", 200),
        ("POST", "/rotate", 200),
    ] {
        let path = format!("/api/v1/me/encryption-vault{path}");
        let answered = answer(app.request(method, &path).bearer_auth(&ada.token)).await;
        assert_eq!(answered.status, status, "{}", answered.text);
        keys.extend(answered.json()["masterKey"].as_str().map(str::to_owned));
    }
    checkpoint(&app).await;
    let cli = beside(&app);
    let key = cli.run(&["audit", "key"]).await.well();
    let file = fresh_path("vault.bundle").display().to_string();
    cli.run(&["audit", "bundle", "vault", &ada.user_id, "--out", &file])
        .await
        .well();
    let text = fs::read_to_string(&file).unwrap();
    let types = [
        ("\"vault.refused\"", 2),
        ("\"vault.initialised\"", 1),
        ("\"vault.key_fetched\"", 1),
        ("\"vault.key_rotated\"", 1),
    ];
    for (event_type, times) in types {
        assert_eq!(text.matches(event_type).count(), times, "{event_type}");
    }
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| !text.contains(key.as_str())));
    let verify = ["audit", "verify", &file, "--key", key.trim_end(), "--json"];
    let said = Cli::new().run(&verify).await;
    assert_eq!(
        (said.code, &said.json()[0]["proved"]["events"]),
        (0, &json!(5)),
        "{}",
        said.out
    );
    // One call less, as if a refusal had never been.
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let at = lines
        .iter()
        .position(|line| line.contains("vault.refused"))
        .unwrap();
    fs::write(&file, [&lines[..at], &lines[at + 1..]].concat().concat()).unwrap();
    assert_eq!(Cli::new().run(&verify).await.code, 1);
}

#[tokio::test]
async fn what_is_not_there_makes_no_bundle() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    checkpoint(&app).await;
    let cli = beside(&app);
    let file = fresh_path("none.bundle");
    let path = file.display().to_string();
    for (arguments, complaint) in [
        (
            ["user", "nobody"],
            "there is no stream user/nobody in the signed log",
        ),
        (["nothing", &ada.user_id], "there is no stream nothing/"),
    ] {
        let bundle = [&["audit", "bundle"][..], &arguments, &["--out", &path]].concat();
        let said = cli.run(&bundle).await.refused(1);
        assert!(said.contains(complaint), "{said}");
        assert!(!file.exists());
    }
    let folder = file
        .with_file_name("no-folder")
        .join("x")
        .display()
        .to_string();
    let said = cli
        .run(&["audit", "bundle", "user", &ada.user_id, "--out", &folder])
        .await
        .refused(1);
    assert!(said.contains("writing "), "{said}");
}

/// Who takes the last events of a stream away behind our back does not get the log's word that there were no more.
#[tokio::test]
async fn the_log_does_not_sign_that_there_are_fewer_events_than_it_has_written() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let change = json!({"name": "Ada"});
    let changed = app
        .post_as("/api/auth/update-user", &ada.cookie, &change)
        .await;
    assert_eq!(changed.status, 200);
    checkpoint(&app).await;
    let cli = beside(&app);
    let file = fresh_path("fewer.bundle");
    let path = file.display().to_string();
    let bundle = ["audit", "bundle", "user", &ada.user_id, "--out", &path];
    cli.run(&bundle).await.well();
    fs::remove_file(&file).unwrap();
    let of_ada = format!(
        "from events where aggregate_type = 'user' and aggregate_id = '{}'",
        ada.user_id
    );
    let events = number(&app.admin, &format!("select count(*) {of_ada}")).await;
    let last = format!("delete {of_ada} and sequence = {events}");
    let all = format!("delete {of_ada}");
    for (taken, left) in [(last, events - 1), (all, 0)] {
        tamper(&app.admin, &taken).await;
        let said = cli.run(&bundle).await.refused(1);
        let complaint = format!(
            "the log has {left} events of user/{} where it has written {events}: run `mana-auth verify-log`",
            ada.user_id
        );
        assert!(said.contains(&complaint), "{said}");
        assert!(!file.exists());
    }
}
