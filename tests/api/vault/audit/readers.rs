//! Who reads the audit log, and what that leaves.

use std::collections::BTreeSet;

use mana_auth::http::doors::areas;
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{ALL, READ, events, of};
use crate::admin::ADMINS;
use crate::client::{Session, answer};
use crate::erasure::PROXY;
use crate::harness::TestApp;
use crate::vault::Mode::Standard;
use crate::vault::doors::CALLS;
use crate::vault::{VAULT, bring_to, wrap};

/// Nobody, people, auditors and admins; and what their reading leaves.
#[tokio::test]
async fn auditors_and_admins_read_and_each_page_is_written_down_before_it_is_given() {
    let app = TestApp::start(&[&ADMINS[..], &[PROXY]].concat()).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let watcher = app.auditor(&root, "watcher").await;
    let eve = app.signed_in("eve").await;
    for _ in 0..3 {
        bring_to(&app, &ada, Standard).await;
    }
    let own = format!("{VAULT}/audit");
    for path in [&own, &of(&ada.user_id), ALL] {
        let nobody = app.get(path).await;
        assert_eq!(nobody.refusal(), (401, "UNAUTHORIZED".to_owned()), "{path}");
    }
    let denied = json!({"error": "Forbidden", "message": "Admin access required"});
    for path in [&of(&ada.user_id), &of(&eve.user_id), ALL] {
        let refused = app.audit(&eve, path).await;
        assert_eq!(
            (refused.status, refused.json()),
            (403, denied.clone()),
            "{path}"
        );
        // An access token, and nothing that a browser sends by itself.
        assert_eq!(app.get_as(path, &root.cookie).await.status, 401, "{path}");
    }
    assert_eq!(events(&app.own_audit(&ada, "").await).len(), 3);
    assert_eq!(app.count(READ).await, 0, "one's own history is one's own");

    for reader in [&watcher, &root] {
        let before = app.count(READ).await;
        let first = app
            .audit(reader, &format!("{}?limit=2", of(&ada.user_id)))
            .await;
        assert_eq!(events(&first).len(), 2);
        let position: i64 = first.header("x-log-position").parse().unwrap();
        assert_eq!(
            position,
            app.head().await,
            "its event is the last of the log"
        );
        let next = first.json()["nextCursor"].as_str().unwrap().to_owned();
        app.audit(
            reader,
            &format!("{}?cursor={next}&action=init", of(&ada.user_id)),
        )
        .await;
        app.audit(
            reader,
            &format!("{ALL}?ipAddress=203.0.113.77&to=2030-01-01T00:00:00Z"),
        )
        .await;
        app.audit(reader, &format!("{ALL}?userId={}", ada.user_id))
            .await;
        app.audit(reader, &format!("{ALL}?userId=lovelace")).await;
        assert_eq!(app.count(READ).await, before + 5);
        let log = app
            .get_as("/api/v1/auth/security-events?limit=5", &reader.cookie)
            .await
            .json();
        let vault = |filters: Value| match filters.as_array().unwrap().is_empty() {
            true => json!({"of": "vault", "userId": ada.user_id}),
            false => json!({"of": "vault", "userId": ada.user_id, "filters": filters}),
        };
        let wanted = [
            json!({"of": "vaults", "filters": ["userId"]}),
            vault(json!(["userId"])),
            json!({"of": "vaults", "filters": ["ipAddress", "to"]}),
            vault(json!(["action"])),
            vault(json!([])),
        ];
        let shown: BTreeSet<String> = log
            .as_array()
            .unwrap()
            .iter()
            .map(|line| {
                assert_eq!(line["eventType"], "audit_read");
                line["metadata"].to_string()
            })
            .collect();
        assert_eq!(shown, wanted.iter().map(Value::to_string).collect());
    }
    let stored: Vec<String> =
        sqlx::query_scalar("select payload::text || metadata::text from events")
            .fetch_all(&app.admin)
            .await
            .unwrap();
    let all = stored.concat();
    assert!(!all.contains("203.0.113.77") && !all.contains("lovelace"));
}

/// An auditor changes nothing: what they may beyond others is to read.
#[tokio::test]
async fn what_auditors_may_use_only_reads() {
    let of_auditors = ["/api/v1/admin", "/log"];
    for (prefix, doors) in areas() {
        if of_auditors.contains(&prefix) {
            for door in doors {
                assert_eq!(door.method, "GET", "{prefix}{}", door.path);
            }
        }
    }
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let watcher = app.auditor(&root, "watcher").await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let before = app.vault_lines(&ada.user_id).await;
    // Their access token opens their own vault and nobody else's.
    let jwt = app.jwt(&watcher.cookie).await;
    for (method, path, _) in CALLS {
        let request = app.request(method, &format!("{VAULT}{path}?userId={}", ada.user_id));
        answer(request.bearer_auth(&jwt).json(&wrap("x"))).await;
    }
    assert_eq!(app.vault_lines(&ada.user_id).await, before);
}

/// I-4: what cannot be written down is not read.
#[tokio::test]
async fn nothing_is_read_when_the_reading_cannot_be_written_down_i4() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let entries = "/log/entries?from=1&to=1";
    app.checkpoint().await;
    let refuse = "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'refused' using errcode = '53100'; end $$;
         create trigger refuse before insert on events for each row execute function refuse()";
    app.admin.execute(refuse).await.unwrap();
    for path in [&of(&ada.user_id), ALL, entries] {
        for query in ["", "&format=csv"] {
            let mark = if path.contains('?') { "" } else { "?limit=1" };
            let query = if path == entries { "" } else { query };
            let refused = app.audit(&root, &format!("{path}{mark}{query}")).await;
            let wanted = (503, "SERVICE_UNAVAILABLE".to_owned());
            assert_eq!(refused.refusal(), wanted, "{path}: {}", refused.text);
            assert!(!refused.text.contains("init"), "{path}");
        }
    }
    // One's own history leaves no event and needs none.
    assert_eq!(events(&app.own_audit(&ada, "").await).len(), 1);
    app.admin
        .execute("drop trigger refuse on events")
        .await
        .unwrap();
    assert_eq!(app.audit(&root, ALL).await.status, 200);
}

/// S-66: an admin who acts as somebody reads neither their history as theirs nor as their own.
#[tokio::test]
async fn whoever_acts_as_somebody_reads_no_history_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let watcher = app.auditor(&root, "watcher").await;
    let acting = app.impersonate(&root, &watcher).await;
    let shown = Session {
        token: acting.json()["session"]["token"]
            .as_str()
            .unwrap()
            .to_owned(),
        user_id: watcher.user_id.clone(),
        cookie: acting.session_cookie(),
    };
    let wanted = (403, "NOT_WHILE_IMPERSONATING".to_owned());
    assert_eq!(app.own_audit(&shown, "").await.refusal(), wanted);
    for path in [&of(&root.user_id), ALL] {
        assert_eq!(app.audit(&shown, path).await.refusal(), wanted, "{path}");
    }
    assert_eq!(app.count(READ).await, 0);
}
