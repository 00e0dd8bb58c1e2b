//! `/log/*`: what everybody may check, and what only auditors read.

#![cfg(test)]

use aggregates::Roles;
use serde_json::Value;

use crate::admin::ADMINS;
use crate::client::{Answer, Session, UNVERIFIED, answer};
use crate::harness::{TestApp, wait_until};

impl TestApp {
    /// Size and note of the checkpoint that covers everything in the log.
    pub async fn checkpoint(&self) -> (u64, String) {
        let mut found = (0, String::new());
        wait_until("the whole log is signed", async || {
            let head = self.count("events").await.unsigned_abs();
            let answer = self.get("/log/checkpoint").await;
            let size = answer
                .text
                .lines()
                .nth(1)
                .and_then(|line| line.parse().ok());
            found = (size.unwrap_or_default(), answer.text);
            found.0 == head
        })
        .await;
        found
    }

    async fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        let response = self.request("GET", path).send().await.unwrap();
        (
            response.status().as_u16(),
            response.bytes().await.unwrap().to_vec(),
        )
    }

    async fn entries(&self, session: &Session, query: &str) -> Answer {
        let jwt = self.jwt(&session.cookie).await;
        let request = self.request("GET", &format!("/log/entries{query}"));
        answer(request.bearer_auth(jwt)).await
    }
}

#[tokio::test]
async fn everybody_may_check_the_log_without_reading_it() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let (size, note) = app.checkpoint().await;
    let key = app.get("/log/key").await;
    assert_eq!(key.header("cache-control"), "public, max-age=60");
    let name = key.text.split_once('+').unwrap().0;
    assert_eq!(
        note.lines().next().unwrap(),
        name,
        "the name of the key is the origin"
    );
    let checkpoint = app.get("/log/checkpoint").await;
    assert_eq!(
        checkpoint.header("content-type"),
        "text/plain; charset=utf-8"
    );
    assert_eq!(checkpoint.header("cache-control"), "public, max-age=1");

    let tile = app.get(&format!("/log/tile/0/000.p/{size}")).await;
    assert_eq!(tile.status, 200);
    assert_eq!(tile.header("content-type"), "application/octet-stream");
    assert_eq!(tile.header("cache-control"), "public, max-age=60");
    let (_, hashes) = app.bytes(&format!("/log/tile/0/000.p/{size}")).await;
    assert_eq!(hashes.len() as u64, 32 * size);
    let (_, fewer) = app.bytes("/log/tile/0/000.p/3").await;
    assert_eq!(fewer, hashes[..96]);

    // The hashes are those of the events that auditors see.
    let entries = app.entries(&root, &format!("?from=1&to={size}")).await;
    assert_eq!(entries.header("cache-control"), "no-store");
    let lines: Vec<&str> = entries.text.lines().collect();
    assert_eq!(lines.len() as u64, size);
    for (line, hash) in lines.iter().zip(hashes.chunks(32)) {
        assert_eq!(tlog_tiles::record_hash(line.as_bytes()).0, hash);
    }
    let proof = app
        .get(&format!("/log/proof/inclusion?index=2&size={size}"))
        .await;
    assert_eq!(proof.header("cache-control"), "public, max-age=60");
    assert!(!proof.json()["proof"].as_array().unwrap().is_empty());
    let proof = app
        .get(&format!("/log/proof/consistency?from=2&to={size}"))
        .await;
    assert!(!proof.json()["proof"].as_array().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_not_signed_yet_is_not_shown_and_what_is_no_tile_is_refused() {
    let app = TestApp::start(&[]).await;
    let (size, _) = app.checkpoint().await;
    for path in [
        format!("/log/tile/0/000.p/{}", size + 1),
        "/log/tile/0/000".to_owned(),
        "/log/tile/0/001.p/1".to_owned(),
        "/log/tile/1/000.p/1".to_owned(),
        "/log/tile/7/x999/x999/999".to_owned(),
        format!("/log/proof/inclusion?index=0&size={}", size + 1),
        format!("/log/proof/consistency?from=1&to={}", size + 1),
        format!("/log/proof/consistency?from=1&to={}", i64::MAX),
    ] {
        let answer = app.get(&path).await;
        assert_eq!(answer.refusal(), (404, "NOT_FOUND".to_owned()), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    for path in [
        "/log/tile/0/0",
        "/log/tile/0/00",
        "/log/tile/0/1000",
        "/log/tile/0/x1/000",
        "/log/tile/0/000.p/0",
        "/log/tile/0/000.p/256",
        "/log/tile/0/000.p/01",
        "/log/tile/0/000.p/-1",
        "/log/tile/64/000",
        "/log/tile/-1/000",
        "/log/tile/data/000",
        "/log/tile/0",
        "/log/tile/0/000/",
        "/log/tile/0/%00",
        "/log/tile/0/99999999999999999999",
        "/log/proof/inclusion?index=1&size=1",
        "/log/proof/inclusion?index=-1&size=1",
        "/log/proof/inclusion?index=0&size=99999999999999999999",
        "/log/proof/inclusion?index=0",
        "/log/proof/consistency?from=0&to=1",
        "/log/proof/consistency?from=2&to=1",
        "/log/proof/consistency?from=1&to=+1",
    ] {
        let answer = app.get(path).await;
        assert_eq!(
            answer.refusal(),
            (400, "VALIDATION_ERROR".to_owned()),
            "{path}"
        );
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
}

#[tokio::test]
async fn only_admins_and_auditors_read_events_and_nothing_personal_is_in_clear() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("lovelace").await;
    let eve = app.signed_in("eve").await;
    let set = serde_json::json!({"userId": ada.user_id, "role": Roles::auditor().as_str()});
    let done = app.admin_call("set-role", &root.cookie, &set).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let (size, _) = app.checkpoint().await;
    let all = format!("?from=1&to={size}");
    assert_eq!(
        app.get(&format!("/log/entries{all}")).await.refusal(),
        (401, "UNAUTHORIZED".to_owned())
    );
    assert_eq!(app.entries(&eve, &all).await.status, 403);
    for reader in [&root, &ada] {
        let read = app.entries(reader, &all).await;
        assert_eq!(read.status, 200, "{}", read.text);
        assert!(!read.text.contains("@example.com") && !read.text.contains("lovelace"));
        let first: Value = serde_json::from_str(read.text.lines().next().unwrap()).unwrap();
        assert_eq!(first["position"], 1);
        let one = app.entries(reader, "?from=2&to=2").await;
        assert_eq!(
            one.text.lines().collect::<Vec<_>>(),
            [read.text.lines().nth(1).unwrap()]
        );
        // Each reading is an event of the reader, there before the answer, and in their security log.
        let log = app
            .get_as("/api/v1/auth/security-events?limit=2", &reader.cookie)
            .await;
        for (line, (from, to)) in log
            .json()
            .as_array()
            .unwrap()
            .iter()
            .zip([(2, 2), (1, size)])
        {
            assert_eq!(line["eventType"], "audit_read");
            let metadata = serde_json::json!({"of": "events", "from": from, "to": to});
            assert_eq!(line["metadata"], metadata);
        }
    }
    let read = "events where event_type = 'user.audit_read'";
    assert_eq!(app.count(read).await, 4);
    for query in ["", "?from=0&to=1", "?from=3&to=2", "?from=1&to=x"] {
        assert_eq!(
            app.entries(&root, query).await.refusal(),
            (400, "VALIDATION_ERROR".to_owned()),
            "{query}"
        );
    }
    let beyond = format!("?from=1&to={}", app.checkpoint().await.0 + 1);
    assert_eq!(app.entries(&root, &beyond).await.status, 404);
    assert_eq!(app.count(read).await, 4, "what is refused shows nothing");
}

/// An auditor reads, and changes nothing of anybody.
#[tokio::test]
async fn an_auditor_reads_the_security_log_and_is_no_admin() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let eve = app.signed_in("eve").await;
    let set = serde_json::json!({"userId": ada.user_id, "role": "auditor"});
    assert_eq!(
        app.admin_call("set-role", &root.cookie, &set).await.status,
        200
    );
    let jwt = app.jwt(&ada.cookie).await;
    // Each reading is an event of the reader, there before the answer: it names whose log, and no value of a filter.
    let read = "events where event_type = 'user.audit_read'";
    let user_id = format!("userId={}", ada.user_id);
    for (n, (query, metadata)) in [
        ("", serde_json::json!({"of": "security_logs"})),
        (
            user_id.as_str(),
            serde_json::json!({"of": "security_log", "userId": ada.user_id, "filters": ["userId"]}),
        ),
        (
            "userId=lovelace&type=login_success&limit=5",
            serde_json::json!({"of": "security_logs", "filters": ["type", "userId"]}),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let request = app.request("GET", &format!("/api/v1/admin/security-events?{query}"));
        let shown = answer(request.bearer_auth(&jwt)).await;
        assert_eq!(shown.status, 200, "{}", shown.text);
        assert_eq!(app.count(read).await, n as i64 + 1, "{query}");
        let position: i64 = shown.header("x-log-position").parse().unwrap();
        assert_eq!(
            position,
            app.head().await,
            "its event is the last of the log"
        );
        let log = app
            .get_as("/api/v1/auth/security-events?limit=100", &ada.cookie)
            .await
            .json();
        let is_it =
            |line: &&Value| line["eventType"] == "audit_read" && line["metadata"] == metadata;
        let lines = log.as_array().unwrap().iter().filter(is_it);
        assert_eq!(lines.count(), 1, "{query}: {log}");
    }
    for (who, query, status) in [(&eve, "", 403), (&ada, "before=x", 400)] {
        let jwt = app.jwt(&who.cookie).await;
        let request = app.request("GET", &format!("/api/v1/admin/security-events?{query}"));
        assert_eq!(answer(request.bearer_auth(&jwt)).await.status, status);
    }
    assert_eq!(app.count(read).await, 3, "what is refused shows nothing");
    app.effects_done().await;
    let before = app.state().await;
    for (what, body) in [
        (
            "set-role",
            serde_json::json!({"userId": ada.user_id, "role": "admin"}),
        ),
        ("ban-user", serde_json::json!({"userId": eve.user_id})),
        ("remove-user", serde_json::json!({"userId": eve.user_id})),
        (
            "set-user-password",
            serde_json::json!({"userId": eve.user_id, "newPassword": "another good password"}),
        ),
        (
            "update-user",
            serde_json::json!({"userId": eve.user_id, "data": {"name": "Eva"}}),
        ),
        (
            "create-user",
            serde_json::json!({"email": "new@example.com", "name": "New", "password": "another good password"}),
        ),
        (
            "revoke-user-sessions",
            serde_json::json!({"userId": eve.user_id}),
        ),
        (
            "impersonate-user",
            serde_json::json!({"userId": eve.user_id}),
        ),
    ] {
        let refused = app.admin_call(what, &ada.cookie, &body).await;
        assert_eq!(refused.status, 403, "{what}: {}", refused.text);
    }
    assert_eq!(app.state().await, before);
}

/// Section 3: nobody waits for the tree. It cannot be made, and people sign up and in and use their vaults all the same.
#[tokio::test]
async fn a_tree_that_cannot_be_made_stops_neither_sign_in_nor_vault() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (before, _) = app.checkpoint().await;
    let failures = || {
        let metrics = app.app.metrics.render();
        let line = metrics
            .lines()
            .find(|line| line.starts_with("transparency_failures_total"));
        line.map_or("0", |line| line.rsplit(' ').next().unwrap())
            .to_owned()
    };
    let rename = async |from: &str, to: &str| {
        let rename = format!("alter table followers.{from} rename to {to}");
        sqlx::query(&rename).execute(&app.admin).await.unwrap();
    };
    rename("tiles", "tiles_gone").await;
    let ada = app.signed_in("ada").await;
    wait_until("it fails", async || failures() != "0").await;
    app.sign_in("ada").await;
    let made = app.vault_does(&ada, "POST", "/init", &Value::Null).await;
    assert_eq!(app.vault_key(&ada).await, made["masterKey"]);
    app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    let signed = app.get("/log/checkpoint").await;
    assert_eq!(
        signed.text.lines().nth(1),
        Some(before.to_string().as_str())
    );
    rename("tiles_gone", "tiles").await;
    let (now, _) = app.checkpoint().await;
    assert!(now > before + 4, "all of it is made up for");
}
