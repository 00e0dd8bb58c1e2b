//! `doctor` opens every vault, and with `--deep` compares it with what happened to it.

use serde_json::{Value, json};

use crate::client::{Session, UNVERIFIED, answer};
use crate::doctor::{Found, found, only};
use crate::harness::TestApp;
use crate::place::{beside, tamper};

const VAULTS: &str = "vaults open and agree with their events";

async fn call(app: &TestApp, who: &Session, path: &str, body: &Value) {
    let path = format!("/api/v1/me/encryption-vault{path}");
    let request = app.request("POST", &path).bearer_auth(&who.token);
    let done = answer(request.json(body)).await;
    assert_eq!(done.status, 200, "{path}: {}", done.text);
}

#[tokio::test]
async fn a_vault_that_does_not_open_or_is_not_what_its_events_say_is_found() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let cli = beside(&app);
    let examine = async |deep: bool| {
        let arguments: &[&str] = if deep {
            &["doctor", "--deep", "--json"]
        } else {
            &["doctor", "--json"]
        };
        found(cli.run(arguments).await)
    };
    let (ada, bob) = (
        app.signed_in("lovelace").await,
        app.signed_in("hopper").await,
    );
    for who in [&ada, &bob] {
        call(&app, who, "/init", &json!({})).await;
    }
    let wrap = json!({"recoveryWrappedMk": "x", "recoveryIv": "x"});
    call(&app, &bob, "/recovery-wrap", &wrap).await;
    call(&app, &bob, "/zero-knowledge", &json!({"enable": true})).await;
    app.effects_done().await;
    assert_eq!(examine(true).await, Found::new());

    let (ada, bob) = (&ada.user_id, &bob.user_id);
    let of = |who: &str| format!("where user_id = '{who}'");
    let set =
        |changes: &str, who: &str| format!("update encryption_vaults set {changes} {}", of(who));
    tamper(&app.admin, &set("wrap_version = 7", ada)).await;
    let altered = format!("vault {ada}: the wrapped secret does not belong here or was altered");
    for deep in [false, true] {
        assert_eq!(examine(deep).await, only(VAULTS, [&altered]));
    }
    tamper(&app.admin, &set("wrap_version = 1", ada)).await;

    let older = format!("vault {ada}: its row is older than the log");
    for change in ["- 1", "+ 1"] {
        let change = format!("event_position = event_position {change}");
        tamper(&app.admin, &set(&change, ada)).await;
        for deep in [false, true] {
            let expected = match change.contains('-') {
                true => only(VAULTS, [&older]),
                false => Found::new(),
            };
            assert_eq!(examine(deep).await, expected);
        }
    }

    let gone = format!(
        "create table copy as table encryption_vaults; delete from encryption_vaults {}",
        of(ada)
    );
    tamper(&app.admin, &gone).await;
    assert_eq!(
        examine(false).await,
        Found::new(),
        "only the events know of it"
    );
    let missing = format!("vault {ada}: its row says Absent, its events say Standard");
    assert_eq!(examine(true).await, only(VAULTS, [missing]));
    let back = format!(
        "insert into encryption_vaults select * from copy {}",
        of(ada)
    );
    tamper(&app.admin, &back).await;

    // A row of before: the wrap is there again, which zero-knowledge mode has destroyed.
    let old = "zero_knowledge = false, (wrapped_mk, wrap_iv) = (select wrapped_mk, wrap_iv from copy where wrapped_mk is not null)";
    tamper(&app.admin, &set(old, bob)).await;
    let other_mode =
        format!("vault {bob}: its row says StandardWithRecovery, its events say ZeroKnowledge");
    let problems = examine(true).await.remove(VAULTS).unwrap();
    assert_eq!(problems.last(), Some(&other_mode));
    tamper(
        &app.admin,
        &set(
            "zero_knowledge = false, wrapped_mk = null, wrap_iv = null",
            bob,
        ),
    )
    .await;
    let nonsense =
        format!("vault {bob}: its row says row-unreadable, its events say ZeroKnowledge");
    assert_eq!(examine(true).await, only(VAULTS, [nonsense]));
}
