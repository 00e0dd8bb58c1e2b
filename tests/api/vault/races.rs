//! Calls of one vault that run at the same time, on one node and on two: none fails, and each is where it says that it
//! is.

use std::collections::BTreeSet;

use aggregates::vault::VaultEvent;
use futures_util::future::join_all;
use mana_auth::custody::kind;
use serde_json::{Value, json};

use super::Mode::{Absent, Standard, WithRecovery, ZeroKnowledge};
use super::custody::column;
use super::{Line, MODES, Mode, bring_to, line, mode_of, off, on, other_key, wrap};
use crate::account::email_of;
use crate::client::{PASSWORD, Session, UNVERIFIED};
use crate::harness::TestApp;

/// Section 5.3: of many first calls one makes the key, and all give it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_calls_at_once_give_the_same_key() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    for round in 0..5 {
        let ada = app.signed_in(&format!("p{round}")).await;
        let calls = (0..20).map(|number| {
            let at = [&app, &node][number % 2];
            let (ada, path) = (
                &ada,
                ["/init", "/init", "/rotate"][if round == 4 { number % 3 } else { 0 }],
            );
            async move { (path, at.vault_does(ada, "POST", path, &Value::Null).await) }
        });
        let given = join_all(calls).await;
        let of = |wanted: &str| -> BTreeSet<String> {
            let of_path = given.iter().filter(|(path, _)| *path == wanted);
            of_path
                .map(|(_, body)| body["masterKey"].to_string())
                .collect()
        };
        let lines = app.vault_lines(&ada.user_id).await;
        let created = lines.iter().filter(|line| line.1 == 201).count();
        assert_eq!((lines.len(), created), (20, 1));
        if round < 4 {
            assert_eq!(of("/init").len(), 1, "one key");
        } else {
            assert_eq!(of("/rotate").len(), 6, "each rotation makes one");
        }
        let last = app.vault_key(&ada).await;
        assert!(
            given
                .iter()
                .any(|(_, body)| body["masterKey"] == json!(last))
        );
    }
}

const CALLS: [(&str, &str); 7] = [
    ("POST", "/init"),
    ("GET", "/key"),
    ("POST", "/rotate"),
    ("POST", "/recovery-wrap"),
    ("DELETE", "/recovery-wrap"),
    ("POST", "/zero-knowledge on"),
    ("POST", "/zero-knowledge off"),
];

fn body_of(path: &str, key: &str) -> Value {
    match path {
        "/recovery-wrap" => wrap("second"),
        "/zero-knowledge on" => on(),
        "/zero-knowledge off" if key.is_empty() => off(&other_key()),
        "/zero-knowledge off" => off(key),
        _ => Value::Null,
    }
}

/// The mode that a line leads to.
fn after(mode: Mode, (action, status, context): &Line) -> Mode {
    match (action.as_str(), status, context.as_deref()) {
        ("init" | "rotate", 201, _) | ("rotate", 200, _) => Standard,
        ("recovery_set", 200, _) if mode == Standard => WithRecovery,
        ("recovery_clear", 200, _) if mode == WithRecovery => Standard,
        ("zk_enable", 200, None) => ZeroKnowledge,
        ("zk_disable", 200, None) => WithRecovery,
        _ => mode,
    }
}

/// Whether a line can stand after a vault was in this mode: each line is decided from the one before it.
fn fits(mode: Mode, (action, status, context): &Line) -> bool {
    let wanted = match (action.as_str(), mode) {
        ("init", Absent) => line("init", 201, "created"),
        ("init", Standard | WithRecovery) => line("init", 200, "already-exists"),
        ("init", ZeroKnowledge) => line("init", 200, "already-exists-zk"),
        ("failed_fetch", Absent) => line("failed_fetch", 404, "not-initialised"),
        ("fetch", Standard | WithRecovery) => line("fetch", 200, ""),
        ("fetch", ZeroKnowledge) => line("fetch", 200, "zk-recovery-blob"),
        ("rotate", Absent) => line("rotate", 201, "init-on-rotate"),
        ("rotate", Standard | WithRecovery) => line("rotate", 200, ""),
        ("rotate", ZeroKnowledge) => line("rotate", 409, "zk-rotate-forbidden"),
        ("recovery_set" | "recovery_clear" | "zk_enable" | "zk_disable", Absent) => {
            line(action, 404, "no-vault")
        }
        ("recovery_set", _) => line("recovery_set", 200, ""),
        ("recovery_clear", ZeroKnowledge) => line("recovery_clear", 409, "zk-active"),
        ("recovery_clear", _) => line("recovery_clear", 200, ""),
        ("zk_enable", Standard) => line("zk_enable", 400, "no-recovery-wrap"),
        ("zk_enable", WithRecovery) => line("zk_enable", 200, ""),
        ("zk_enable", ZeroKnowledge) => line("zk_enable", 200, "already-enabled"),
        ("zk_disable", ZeroKnowledge) => line("zk_disable", 200, ""),
        ("zk_disable", _) => line("zk_disable", 200, "already-disabled"),
        _ => return false,
    };
    wanted == (action.clone(), *status, context.clone())
}

async fn assert_consistent(app: &TestApp, who: &Session, calls: usize, what: &str) {
    let mut mode = Absent;
    let lines = app.vault_lines(&who.user_id).await;
    for line in &lines {
        assert!(fits(mode, line), "{what}: {line:?} in {mode:?}: {lines:?}");
        mode = after(mode, line);
    }
    assert_eq!(mode_of(app, who).await, mode, "{what}");
    assert_eq!(lines.len(), calls, "{what}: {lines:?}");
}

/// No two calls end in a failure or a mode that there is not, whichever comes first and wherever it comes to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_calls_at_once_fail_or_leave_what_cannot_be() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let mut number = 0;
    for mode in MODES {
        for one in CALLS {
            for other in CALLS {
                number += 1;
                let who = app.signed_in(&format!("p{number}")).await;
                let key = bring_to(&app, &who, mode).await;
                let what = format!("{one:?} and {other:?} in {mode:?}");
                let there = if number % 2 == 0 { &node } else { &app };
                let send = async |at: &TestApp, (method, path): (&str, &str)| {
                    let body = body_of(path, &key);
                    let path = path.split(' ').next().unwrap();
                    at.vault(&who, method, path, &body).await
                };
                let before = app.vault_lines(&who.user_id).await.len();
                let (first, second) = tokio::join!(send(&app, one), send(there, other));
                for answered in [first, second] {
                    assert!(
                        [200, 400, 404, 409].contains(&answered.status),
                        "{what}: {}",
                        answered.text
                    );
                    assert_ne!(
                        answered.header("x-log-position"),
                        "",
                        "{what}: {}",
                        answered.text
                    );
                }
                assert_consistent(&app, &who, before + 2, &what).await;
            }
        }
    }
}

/// Many calls at once, all of them of one vault: the history of the vault is one that could have been call by call, and
/// each key that was given out is the one that was the vault's then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_calls_is_one_history() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, WithRecovery).await;
    let calls = (0..140).map(|number| {
        let at = [&app, &node][number % 2];
        let (method, path) = CALLS[number / 2 % 7];
        let (ada, body) = (&ada, body_of(path, ""));
        let path = path.split(' ').next().unwrap();
        async move {
            let answered = at.vault(ada, method, path, &body).await;
            assert!(
                [200, 400, 404, 409].contains(&answered.status),
                "{path}: {}",
                answered.text
            );
            let position: i64 = answered
                .header("x-log-position")
                .parse()
                .expect(&answered.text);
            (position, path, answered.json()["masterKey"].clone())
        }
    });
    let mut answers = join_all(calls).await;
    assert_consistent(&app, &ada, 142, "a storm").await;
    // In the order of the log: after a rotation or a key handed back nobody is given the one before.
    answers.sort_by_key(|(position, ..)| *position);
    let positions: BTreeSet<i64> = answers.iter().map(|(position, ..)| *position).collect();
    assert_eq!(positions.len(), 140);
    let mut current = Value::Null;
    let mut keys = BTreeSet::new();
    for (_, path, key) in answers {
        if path == "/rotate" && key.is_string() {
            assert!(keys.insert(key.to_string()), "a rotation makes a new key");
            current = key;
        } else if path == "/zero-knowledge" {
            // It may have handed back another one.
            current = Value::Null;
        } else if key.is_string() {
            assert!(
                current.is_null() || current == key,
                "{path} gives the key of now"
            );
            current = key;
        }
    }
    assert!(!keys.is_empty());
}

/// The recovery wraps of before that are kept of a vault, by name.
async fn kept(app: &TestApp, who: &Session) -> Vec<String> {
    let custody = app.app.store.custody();
    let kept = custody.all_of(kind::RECOVERY_WRAP, &who.user_id).await;
    let name = |bytes: &[u8]| {
        let kept: Value = serde_json::from_slice(bytes).unwrap();
        kept["wrap"]["wrapped_mk"].as_str().unwrap().to_owned()
    };
    kept.unwrap()
        .iter()
        .map(|(_, secret)| name(&secret.as_ref().unwrap().bytes))
        .collect()
}

/// S-76, one change at a time: of a thief and an owner who change the recovery wrap at once, on two nodes, each finds what
/// the other has left. So no wrap is lost between two changes, none is in two places, and each change is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_at_once_lose_no_recovery_wrap_s76() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    for (number, mode) in [Standard, WithRecovery, ZeroKnowledge]
        .into_iter()
        .enumerate()
    {
        let ada = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &ada, mode).await;
        let calls = (0..40).map(|number| {
            let (at, ada) = ([&app, &node][number % 2], &ada);
            let (method, path, body) = match number % 8 {
                5 => ("DELETE", "/recovery-wrap", Value::Null),
                6 => (
                    "POST",
                    "/recovery-wrap/restore",
                    json!({"password": PASSWORD}),
                ),
                7 => ("POST", "/zero-knowledge", on()),
                _ => ("POST", "/recovery-wrap", wrap(&format!("w{number}"))),
            };
            async move {
                let answered = at.vault(ada, method, path, &body).await;
                assert!(
                    [200, 400, 404, 409].contains(&answered.status),
                    "{path}: {}",
                    answered.text
                );
                (path, body, answered.status)
            }
        });
        let answers = join_all(calls).await;
        let mut wraps = BTreeSet::new();
        if mode != Standard {
            wraps.insert("first-wrapped".to_owned());
        }
        for (path, body, status) in &answers {
            if *path == "/recovery-wrap" && body.is_object() {
                assert_eq!(*status, 200);
                wraps.insert(body["recoveryWrappedMk"].as_str().unwrap().to_owned());
            }
        }
        let mut found = kept(&app, &ada).await;
        let there: Option<String> = column(&app, &ada, "recovery_wrapped_mk").await;
        found.extend(there);
        assert_eq!(found.len(), wraps.len(), "each is in one place: {found:?}");
        assert_eq!(BTreeSet::from_iter(found), wraps, "{mode:?}");
        let events = app.vault_events(&ada.user_id).await;
        let changed = |event: &&VaultEvent| {
            matches!(
                event,
                VaultEvent::RecoveryWrapSet { .. }
                    | VaultEvent::RecoveryWrapCleared { .. }
                    | VaultEvent::RecoveryWrapRestored { in_place: true, .. }
                    | VaultEvent::ZeroKnowledgeEnabled { .. }
            )
        };
        let changes = events.iter().filter(changed).count();
        let told = app
            .mails_of("vault_changed", &email_of(&format!("p{number}")))
            .await;
        assert!(changes >= 25, "{changes}");
        assert_eq!(told, changes, "{mode:?}");
    }
}
