//! The audit log: what its rows say, in pages and as of before, and what stays of it.

mod asked;
mod ranges;
mod readers;

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures_util::future::join_all;
use mana_auth::store::log;
use serde_json::{Value, json};

use super::Mode::{Absent, Standard, ZeroKnowledge};
use super::{MODES, VAULT, bring_to, line, off, on, other_key, wrap};
use crate::admin::ADMINS;
use crate::client::{Answer, PASSWORD, Session, answer};
use crate::erasure::PROXY;
use crate::harness::TestApp;

pub const ALL: &str = "/api/v1/admin/audit/events";
pub const READ: &str = "events where event_type = 'user.audit_read'";

pub fn of(user_id: &str) -> String {
    format!("/api/v1/admin/vaults/{user_id}/audit")
}

impl TestApp {
    /// Position of the last event, which readers wait for.
    pub async fn head(&self) -> i64 {
        log::head(&self.app.pool).await.unwrap()
    }

    /// The history of one's own vault, as the log has it by now.
    pub async fn own_audit(&self, who: &Session, query: &str) -> Answer {
        let request = self.request("GET", &format!("{VAULT}/audit{query}"));
        let request = request.header("x-min-position", self.head().await);
        answer(request.bearer_auth(&who.token)).await
    }

    /// What an admin or auditor reads, as the log has it by now.
    pub async fn audit(&self, who: &Session, path: &str) -> Answer {
        let request = self.request("GET", path);
        let request = request.header("x-min-position", self.head().await);
        answer(request.bearer_auth(self.jwt(&who.cookie).await)).await
    }
}

pub fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["events"].as_array().unwrap().clone()
}

pub fn lines(events: &[Value]) -> Vec<super::Line> {
    let of = |event: &Value| {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let status = event["status"].as_u64().unwrap();
        line(text("action"), status.try_into().unwrap(), text("context"))
    };
    events.iter().map(of).collect()
}

pub fn positions(events: &[Value]) -> Vec<i64> {
    let position = |event: &Value| event["position"].as_i64().unwrap();
    events.iter().map(position).collect()
}

/// Mana-v1.md section 5.4: every line of the table, and each refusal of a call is a row that the owner sees (S-75).
#[tokio::test]
async fn every_call_and_every_refusal_is_a_row_that_the_owner_sees_s75() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let mut shown = BTreeSet::new();
    for mode in MODES {
        let ada = app.signed_in(&format!("p{mode:?}").to_lowercase()).await;
        bring_to(&app, &ada, mode).await;
        for (method, path, body) in [
            ("GET", "/key", Value::Null),
            ("DELETE", "/recovery-wrap", Value::Null),
            ("POST", "/zero-knowledge", off(&other_key())),
            ("POST", "/zero-knowledge", on()),
            (
                "POST",
                "/recovery-wrap/restore",
                json!({"password": PASSWORD}),
            ),
            ("POST", "/recovery-wrap", wrap("second")),
            ("POST", "/zero-knowledge", on()),
            ("POST", "/zero-knowledge", on()),
            ("POST", "/rotate", Value::Null),
            ("DELETE", "/recovery-wrap", Value::Null),
            ("GET", "/key", Value::Null),
            ("POST", "/init", Value::Null),
            ("POST", "/init", Value::Null),
        ] {
            app.vault(&ada, method, path, &body).await;
        }
        let acting = app.impersonate(&root, &ada).await.session_cookie();
        app.get_as(&format!("{VAULT}/key"), &acting).await;
        let altered = "update encryption_vaults set wrap_version = 7 where wrapped_mk is not null";
        sqlx::query(altered).execute(&app.admin).await.unwrap();
        app.vault(&ada, "GET", "/key", &Value::Null).await;
        let rows = lines(&events(&app.own_audit(&ada, "?order=asc").await));
        assert_eq!(rows, app.vault_lines(&ada.user_id).await, "{mode:?}");
        shown.extend(rows);
    }
    let contract = [
        ("init", 201, "created"),
        ("init", 200, "already-exists"),
        ("init", 200, "already-exists-zk"),
        ("fetch", 200, ""),
        ("fetch", 200, "zk-recovery-blob"),
        ("failed_fetch", 404, "not-initialised"),
        ("rotate", 201, "init-on-rotate"),
        ("rotate", 409, "zk-rotate-forbidden"),
        ("recovery_set", 200, ""),
        ("recovery_set", 404, "no-vault"),
        ("recovery_clear", 200, ""),
        ("recovery_clear", 404, "no-vault"),
        ("recovery_clear", 409, "zk-active"),
        ("zk_enable", 200, ""),
        ("zk_enable", 200, "already-enabled"),
        ("zk_enable", 400, "no-recovery-wrap"),
        ("zk_enable", 404, "no-vault"),
        ("zk_disable", 200, ""),
        ("zk_disable", 200, "already-disabled"),
        ("zk_disable", 404, "no-vault"),
        ("failed_fetch", 403, "impersonated"),
    ];
    for (action, status, context) in contract {
        assert!(
            shown.contains(&line(action, status, context)),
            "{action} {status} {context} is not in {shown:?}"
        );
    }
    let failed = |(action, status, context): &super::Line| {
        let context = context.as_deref().unwrap_or_default();
        action == "failed_fetch" && *status == 500 && context.starts_with("unwrap-failed: ")
    };
    assert!(shown.iter().any(failed), "{shown:?}");
}

/// Whose a row is, from where, in which session and request.
#[tokio::test]
async fn a_row_says_who_asked_from_where_in_which_session_and_request() {
    let app = TestApp::start(&[&ADMINS[..], &[PROXY]].concat()).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let request = app.request("POST", &format!("{VAULT}/init"));
    let request = request
        .header("x-request-id", "the-request")
        .header("x-forwarded-for", "2001:db8::7")
        .header("user-agent", "Difference-Engine/2.1");
    let made = answer(request.bearer_auth(&ada.token)).await;
    let position: i64 = made.header("x-log-position").parse().unwrap();
    let session = app
        .get_as("/api/auth/get-session", &ada.cookie)
        .await
        .json();
    let own = app.own_audit(&ada, "").await;
    assert_eq!(own.header("cache-control"), "no-store");
    let mut row = events(&own).remove(0);
    assert!(!row["id"].take().as_str().unwrap().is_empty());
    let at = app
        .clock
        .now()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let wanted = json!({
        "id": null, "position": position, "userId": ada.user_id, "action": "init", "status": 201,
        "context": "created", "ipAddress": "2001:db8::7", "userAgent": "Difference-Engine/2.1",
        "sessionId": session["session"]["id"], "requestId": "the-request", "createdAt": at,
    });
    assert_eq!(row, wanted);
    let body = own.json();
    assert_eq!(
        (&body["nextCursor"], own.header("x-next-cursor")),
        (&Value::Null, "")
    );
    assert_eq!(own.header("x-model-position"), body["position"].to_string());
    assert!(body["position"].as_i64().unwrap() >= position);
    assert_eq!(body["vault"]["state"], "standard");
    // What others read is the same, and everybody's has no vault of its own.
    for path in [
        of(&ada.user_id),
        format!("{ALL}?userId={}", ada.user_id),
        ALL.to_owned(),
    ] {
        let read = app.audit(&root, &path).await;
        assert_eq!(events(&read)[0]["id"], events(&own)[0]["id"], "{path}");
        assert_eq!(read.json()["vault"].is_null(), path == ALL, "{path}");
    }
}

/// Pages of any size, from both ends, while rows come in: each row once and in order.
#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_while_rows_come_in() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let mut people = Vec::new();
    for name in ["ada", "bob", "eve"] {
        let who = app.signed_in(name).await;
        bring_to(&app, &who, Standard).await;
        for _ in 0..6 {
            app.vault_key(&who).await;
        }
        people.push(who);
    }
    for order in ["desc", "asc"] {
        let before = positions(&events(
            &app.audit(&root, &format!("{ALL}?limit=1000&order=asc"))
                .await,
        ));
        let mut read = Vec::new();
        let mut cursor = String::new();
        for page in 0.. {
            let path = format!("{ALL}?limit=4&order={order}{cursor}");
            let answer = app.audit(&root, &path).await;
            let rows = positions(&events(&answer));
            assert!(rows.len() <= 4);
            read.extend(rows);
            // New rows between pages, by all at once; not for ever.
            if page < 5 {
                join_all(people.iter().map(|who| app.vault_key(who))).await;
            }
            match answer.json()["nextCursor"].as_str() {
                None => break,
                Some(next) => {
                    assert_eq!(answer.header("x-next-cursor"), next);
                    cursor = format!("&cursor={next}");
                }
            }
        }
        let all = positions(&events(
            &app.audit(&root, &format!("{ALL}?limit=1000&order=asc"))
                .await,
        ));
        let mut wanted = if order == "asc" { all } else { before };
        if order == "desc" {
            wanted.reverse();
        }
        assert_eq!(read, wanted, "{order}");
    }
}

/// The log as it was: at a position, or at a time.
#[tokio::test]
async fn the_log_and_the_vault_are_read_as_they_were() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let mut moments = Vec::new();
    for (n, (method, path, body, state)) in [
        ("GET", "/key", Value::Null, "absent"),
        ("POST", "/init", Value::Null, "standard"),
        (
            "POST",
            "/recovery-wrap",
            wrap("first"),
            "standard-with-recovery",
        ),
        ("POST", "/zero-knowledge", on(), "zero-knowledge"),
        ("POST", "/rotate", Value::Null, "zero-knowledge"),
        (
            "POST",
            "/zero-knowledge",
            off(&other_key()),
            "standard-with-recovery",
        ),
        ("DELETE", "/recovery-wrap", Value::Null, "standard"),
    ]
    .into_iter()
    .enumerate()
    {
        app.clock.advance(TimeDelta::minutes(1));
        let done = app.vault(&ada, method, path, &body).await;
        let position: i64 = done.header("x-log-position").parse().unwrap();
        // Others do something as well.
        let other = app.vault(&root, "GET", "/key", &Value::Null).await;
        let last: i64 = other.header("x-log-position").parse().unwrap();
        moments.push((position, last, app.clock.now(), state, n + 1));
    }
    for (position, last, time, state, count) in moments {
        let later = time + TimeDelta::seconds(59);
        let later = later.format("%FT%T%.3fZ").to_string();
        // A time is as good as the position of the last row until then, whose ever it is.
        for (at, until) in [(position.to_string(), position), (later, last)] {
            let own = app.own_audit(&ada, &format!("?at={at}")).await;
            let read = app
                .audit(&root, &format!("{}?at={at}", of(&ada.user_id)))
                .await;
            for answer in [own, read] {
                let vault = json!({"state": state, "events": count, "position": until});
                assert_eq!(answer.json()["vault"], vault, "{at}");
                assert_eq!(events(&answer).len(), count, "{at}");
                assert_eq!(positions(&events(&answer))[0], position, "{at}");
            }
        }
        let all = app.audit(&root, &format!("{ALL}?at={position}")).await;
        assert_eq!(positions(&events(&all))[0], position);
        assert_eq!(events(&all).len(), 2 * count - 1);
    }
    let before = app.own_audit(&ada, "?at=1").await;
    let nothing = json!({"state": "absent", "events": 0, "position": 1});
    assert_eq!(
        (events(&before).len(), &before.json()["vault"]),
        (0, &nothing)
    );
}

/// How many events a vault had is found without counting them.
#[tokio::test]
async fn the_events_of_a_vault_are_as_many_as_its_last_sequence() {
    let app = TestApp::start(&ADMINS).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    for number in 0..40 {
        for who in if number % 3 == 0 {
            vec![&ada, &bob]
        } else {
            vec![&ada]
        } {
            app.vault(who, "GET", "/key", &Value::Null).await;
        }
    }
    let pool = &app.app.pool;
    for id in [&ada.user_id, &bob.user_id, "nobody"] {
        for position in 0..app.head().await + 2 {
            let stream = ("vault", id);
            let counted = log::count_in_stream(pool, stream, position).await.unwrap();
            let found = log::last_sequence_in_stream(pool, stream, position)
                .await
                .unwrap();
            assert_eq!(found, counted, "{id} {position}");
        }
    }
}

/// S-90: what an erased person's vault did stays readable, without anything that says who they were.
#[tokio::test]
async fn the_history_of_an_erased_person_stays_without_address_and_agent() {
    let app = TestApp::start(&[&ADMINS[..], &[PROXY]].concat()).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let empty = app.signed_in("empty").await;
    for mode in [Absent, ZeroKnowledge] {
        let request = app.request("GET", &format!("{VAULT}/key"));
        let request = request.header("x-forwarded-for", "203.0.113.9");
        answer(
            request
                .header("user-agent", "Engine")
                .bearer_auth(&ada.token),
        )
        .await;
        bring_to(&app, &ada, mode).await;
    }
    let path = of(&ada.user_id);
    let mut before = events(&app.audit(&root, &path).await);
    let found = events(
        &app.audit(&root, &format!("{ALL}?ipAddress=203.0.113.9"))
            .await,
    );
    assert_eq!(found.len(), 2);
    for who in [&ada, &empty] {
        app.admin_does("remove-user", &root, &json!({"userId": who.user_id}))
            .await;
    }
    let after = app.audit(&root, &path).await;
    for row in &mut before {
        row["ipAddress"] = Value::Null;
        row["userAgent"] = Value::Null;
    }
    assert_eq!(events(&after), before);
    assert_eq!(after.json()["vault"]["state"], "zero-knowledge");
    let nothing = events(
        &app.audit(&root, &format!("{ALL}?ipAddress=203.0.113.9"))
            .await,
    );
    assert_eq!(nothing, Vec::<Value>::new());
    // Somebody of whom nothing is left is nobody.
    let reads = app.count(READ).await;
    let long = "x".repeat(5_000);
    for id in [
        &empty.user_id,
        "nobody",
        "%00",
        "a@example.com",
        long.as_str(),
    ] {
        assert_eq!(app.audit(&root, &of(id)).await.refusal().0, 404, "{id}");
    }
    assert_eq!(app.count(READ).await, reads);
    // Whoever has no vault yet has an empty history.
    let new = app.signed_in("new").await;
    let read = app.audit(&root, &of(&new.user_id)).await;
    assert_eq!(
        (events(&read).len(), &read.json()["vault"]["state"]),
        (0, &json!("absent"))
    );
}
