//! What every call answers in every mode, and what it leaves in the log (mana-v1.md sections 5.2 to 5.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mana_auth::crypto::vault_key::MasterKey;
use serde_json::{Value, json};

use super::Mode::{Absent, Standard, WithRecovery, ZeroKnowledge};
use super::{Line, MODES, Mode, VAULT, bring_to, line, mode_of, off, on, other_key, wrap};
use crate::client::{Answer, UNVERIFIED, answer};
use crate::harness::TestApp;

/// What a call answers.
#[derive(Clone, Debug)]
enum Gives {
    /// The key of before.
    Key,
    /// Another key.
    NewKey,
    /// What the recovery code opens.
    Recovery,
    /// This body.
    Body(Value),
    /// Status, code and sentence.
    Refusal(u16, &'static str, &'static str),
}

/// What becomes of a call in a mode: its answer, the mode afterwards, and its line; no line if it is none of the
/// vault's.
type Cell = (Gives, Mode, Option<Line>);

/// Plays a call in all modes.
async fn play(
    app: &TestApp,
    method: &str,
    path: &str,
    body: impl Fn(&str) -> Value,
    row: [Cell; 4],
) {
    for (mode, (gives, after, line)) in MODES.into_iter().zip(row) {
        let name = format!("p{}", app.count("read.users").await);
        let who = app.signed_in(&name).await;
        let key = bring_to(app, &who, mode).await;
        let before = app.vault_lines(&who.user_id).await;
        let body = body(&key);
        let what = format!("{method} {path} {body} in {mode:?}");
        let answered = app.vault(&who, method, path, &body).await;
        assert_eq!(answered.header("cache-control"), "no-store", "{what}");
        assert_gives(&answered, &gives, &key, &what);
        assert_eq!(mode_of(app, &who).await, after, "{what}");
        let mut lines = app.vault_lines(&who.user_id).await;
        assert_eq!(lines[..before.len()], before, "{what}");
        lines.drain(..before.len());
        assert_eq!(lines, Vec::from_iter(line), "{what}");
        // What was refused leaves the key alone.
        if matches!(gives, Gives::Refusal(..)) && matches!(after, Standard | WithRecovery) {
            assert_eq!(app.vault_key(&who).await, key, "{what}");
        }
    }
}

fn assert_gives(answered: &Answer, gives: &Gives, key: &str, what: &str) {
    let body = answered.json();
    let wanted = match gives {
        Gives::Key => json!({"masterKey": key, "formatVersion": 1, "kekId": "env-v1"}),
        Gives::NewKey => {
            let new = body["masterKey"].as_str().unwrap_or_default();
            assert_ne!(new, key, "{what}");
            assert_eq!(STANDARD.decode(new).unwrap().len(), 32, "{what}");
            json!({"masterKey": new, "formatVersion": 1, "kekId": "env-v1"})
        }
        Gives::Recovery => json!({
            "requiresRecoveryCode": true, "recoveryWrappedMk": "first-wrapped", "recoveryIv": "first-iv",
            "formatVersion": 1,
        }),
        Gives::Body(body) => body.clone(),
        Gives::Refusal(_, code, error) => json!({"error": error, "code": code}),
    };
    let status = match gives {
        Gives::Refusal(status, ..) => *status,
        _ => 200,
    };
    assert_eq!((answered.status, body), (status, wanted), "{what}");
    assert_eq!(
        answered.header("content-type"),
        "application/json",
        "{what}"
    );
}

fn no_vault(action: &str) -> Cell {
    let context = if action == "failed_fetch" {
        "not-initialised"
    } else {
        "no-vault"
    };
    let refusal = Gives::Refusal(404, "VAULT_NOT_INITIALISED", "vault not initialised");
    (refusal, Absent, Some(line(action, 404, context)))
}

fn done(after: Mode, action: &str, context: &str) -> Cell {
    let body = match action {
        "zk_enable" => json!({"ok": true, "zeroKnowledge": true}),
        "zk_disable" => json!({"ok": true, "zeroKnowledge": false}),
        _ => json!({"ok": true}),
    };
    (Gives::Body(body), after, Some(line(action, 200, context)))
}

fn bad_in(modes: [Mode; 4], error: &'static str) -> [Cell; 4] {
    modes.map(|mode| (Gives::Refusal(400, "BAD_REQUEST", error), mode, None))
}

const KEY_REQUIRED: &str = "`masterKey: base64` is required when disabling zero-knowledge";
const KEY_LENGTH: &str = "masterKey must decode to 32 bytes";
const ENABLE_REQUIRED: &str = "`enable: boolean` is required";
const WRAP_REQUIRED: &str = "recoveryWrappedMk and recoveryIv are required (base64 strings)";

/// Section 5.2: every mode and every call, with the own key, another one, and bad bodies.
#[tokio::test]
async fn every_call_in_every_mode_does_what_the_table_says() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (nothing, key, fetched) = (
        |_: &str| Value::Null,
        Gives::Key,
        |context| Some(line("fetch", 200, context)),
    );
    let init = |context| Some(line("init", 200, context));
    for body in [
        Value::Null,
        json!({}),
        json!("x"),
        json!({"masterKey": other_key()}),
    ] {
        let row = [
            (Gives::NewKey, Standard, Some(line("init", 201, "created"))),
            (key.clone(), Standard, init("already-exists")),
            (key.clone(), WithRecovery, init("already-exists")),
            (Gives::Recovery, ZeroKnowledge, init("already-exists-zk")),
        ];
        play(&app, "POST", "/init", |_| body.clone(), row).await;
    }
    let row = [
        no_vault("failed_fetch"),
        (key.clone(), Standard, fetched("")),
        (key, WithRecovery, fetched("")),
        (Gives::Recovery, ZeroKnowledge, fetched("zk-recovery-blob")),
    ];
    play(&app, "GET", "/key", nothing, row).await;
    let forbidden = Gives::Refusal(
        409,
        "ZK_ROTATE_FORBIDDEN",
        "cannot rotate in zero-knowledge mode",
    );
    let row = [
        (
            Gives::NewKey,
            Standard,
            Some(line("rotate", 201, "init-on-rotate")),
        ),
        (Gives::NewKey, Standard, Some(line("rotate", 200, ""))),
        (Gives::NewKey, Standard, Some(line("rotate", 200, ""))),
        (
            forbidden,
            ZeroKnowledge,
            Some(line("rotate", 409, "zk-rotate-forbidden")),
        ),
    ];
    play(&app, "POST", "/rotate", nothing, row).await;
    let row = || {
        [
            no_vault("recovery_set"),
            done(WithRecovery, "recovery_set", ""),
            done(WithRecovery, "recovery_set", ""),
            done(ZeroKnowledge, "recovery_set", ""),
        ]
    };
    play(&app, "POST", "/recovery-wrap", |_| wrap("second"), row()).await;
    let short = json!({"recoveryWrappedMk": "AAAA", "recoveryIv": "BBBB", "more": 1});
    play(&app, "POST", "/recovery-wrap", |_| short.clone(), row()).await;
    let active = Gives::Refusal(
        409,
        "ZK_ACTIVE",
        "cannot clear recovery wrap while zero-knowledge is active",
    );
    let row = [
        no_vault("recovery_clear"),
        done(Standard, "recovery_clear", ""),
        done(Standard, "recovery_clear", ""),
        (
            active,
            ZeroKnowledge,
            Some(line("recovery_clear", 409, "zk-active")),
        ),
    ];
    play(&app, "DELETE", "/recovery-wrap", nothing, row).await;
    let missing = Gives::Refusal(
        400,
        "RECOVERY_WRAP_MISSING",
        "set a recovery wrap before enabling zero-knowledge",
    );
    let row = [
        no_vault("zk_enable"),
        (
            missing,
            Standard,
            Some(line("zk_enable", 400, "no-recovery-wrap")),
        ),
        done(ZeroKnowledge, "zk_enable", ""),
        done(ZeroKnowledge, "zk_enable", "already-enabled"),
    ];
    play(&app, "POST", "/zero-knowledge", |_| on(), row).await;
    let row = |context| {
        [
            no_vault("zk_disable"),
            done(Standard, "zk_disable", "already-disabled"),
            done(WithRecovery, "zk_disable", "already-disabled"),
            done(WithRecovery, "zk_disable", context),
        ]
    };
    let own = |key: &str| {
        off(if key.is_empty() {
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
        } else {
            key
        })
    };
    play(&app, "POST", "/zero-knowledge", own, row("")).await;
    // As the original takes it: the server does not ask whether it is the key.
    play(
        &app,
        "POST",
        "/zero-knowledge",
        |_| off(&other_key()),
        row(""),
    )
    .await;
}

/// Section 5.3: bad bodies are refused before the vault is looked at, and have no line.
#[tokio::test]
async fn bad_bodies_are_refused_in_every_mode_and_have_no_line() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let huge = "x".repeat(2049);
    for body in [
        Value::Null,
        json!([]),
        json!({"recoveryWrappedMk": "x"}),
        json!({"recoveryWrappedMk": "", "recoveryIv": "x"}),
        json!({"recoveryWrappedMk": "x", "recoveryIv": 1}),
        json!({"recoveryWrappedMk": "x", "recoveryIv": "a\0b"}),
        json!({"recoveryWrappedMk": huge, "recoveryIv": "x"}),
    ] {
        let rows = bad_in(MODES, WRAP_REQUIRED);
        play(&app, "POST", "/recovery-wrap", |_| body.clone(), rows).await;
    }
    for (body, error) in [
        (Value::Null, ENABLE_REQUIRED),
        (json!({"enable": "true"}), ENABLE_REQUIRED),
        (json!({"masterKey": other_key()}), ENABLE_REQUIRED),
        (json!({"enable": false}), KEY_REQUIRED),
        (json!({"enable": false, "masterKey": 1}), KEY_REQUIRED),
        (off(""), KEY_REQUIRED),
        (off("AAAA"), KEY_LENGTH),
        (off("not base64!"), KEY_LENGTH),
        (off(&"A".repeat(10_000)), KEY_LENGTH),
    ] {
        play(
            &app,
            "POST",
            "/zero-knowledge",
            |_| body.clone(),
            bad_in(MODES, error),
        )
        .await;
    }
}

/// What is no JSON counts as missing, whatever type it is said to have (section 5.3).
#[tokio::test]
async fn what_is_no_json_counts_as_missing() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let send = async |path: &str, content_type: &str, body: &'static str| {
        let request = app.request("POST", &format!("{VAULT}{path}")).body(body);
        let request = request.header("content-type", content_type);
        answer(request.bearer_auth(&ada.token)).await
    };
    assert_eq!(send("/init", "text/plain", "{broken").await.status, 200);
    for broken in ["", "{", "enable=true", "\u{0}"] {
        for content_type in ["application/json", "text/plain"] {
            let refused = send("/zero-knowledge", content_type, broken).await;
            assert_eq!(refused.refusal(), (400, "BAD_REQUEST".to_owned()));
            assert_eq!(refused.json()["error"], json!(ENABLE_REQUIRED));
        }
    }
    let read = send("/zero-knowledge", "text/plain", r#"{"enable":true}"#).await;
    assert_eq!(read.refusal(), (400, "RECOVERY_WRAP_MISSING".to_owned()));
    assert_eq!(app.vault_lines(&ada.user_id).await.len(), 2);
}

/// S-77, by configuration: the server knows the key that it gave out, and takes no other back.
#[tokio::test]
async fn another_key_is_not_taken_back_where_the_operator_says_so_s77() {
    let checked = ("MANA_AUTH_VAULT_CHECK_MASTER_KEY", "true");
    let app = TestApp::start(&[UNVERIFIED, checked]).await;
    let mismatch = Gives::Refusal(
        409,
        "MASTER_KEY_MISMATCH",
        "masterKey is not the key of this vault",
    );
    let row = [
        no_vault("zk_disable"),
        done(Standard, "zk_disable", "already-disabled"),
        done(WithRecovery, "zk_disable", "already-disabled"),
        (
            mismatch,
            ZeroKnowledge,
            Some(line("zk_disable", 409, "another-key")),
        ),
    ];
    play(&app, "POST", "/zero-knowledge", |_| off(&other_key()), row).await;
    let ada = app.signed_in("ada").await;
    let first = bring_to(&app, &ada, Standard).await;
    let rotated = app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    let key = rotated["masterKey"].as_str().unwrap();
    app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("w"))
        .await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    let refused = app
        .vault(&ada, "POST", "/zero-knowledge", &off(&first))
        .await;
    assert_eq!(
        refused.refusal(),
        (409, "MASTER_KEY_MISMATCH".to_owned()),
        "the key of before the rotation"
    );
    app.vault_does(&ada, "POST", "/zero-knowledge", &off(key))
        .await;
    assert_eq!(app.vault_key(&ada).await, key);
}

/// S-77: whoever has a session and not the key sets no recovery wrap, where the client or the operator asks for it.
#[tokio::test]
async fn a_recovery_wrap_is_set_only_with_what_the_key_is_known_by_s77() {
    let known_by = |key: &str| {
        let key = MasterKey::from_base64(key).unwrap();
        STANDARD.encode(key.check_value().bytes())
    };
    let proven = |name: &str, check: &Value| {
        let mut body = wrap(name);
        body["keyCheck"] = check.clone();
        body
    };
    let mismatch = (409, "MASTER_KEY_MISMATCH".to_owned());
    let malformed = (400, "BAD_REQUEST".to_owned());
    let asked = ("MANA_AUTH_VAULT_CHECK_RECOVERY_WRAP", "true");
    for settings in [vec![UNVERIFIED], vec![UNVERIFIED, asked]] {
        let app = TestApp::start(&settings).await;
        for mode in [Standard, WithRecovery, ZeroKnowledge] {
            let name = format!("{mode:?}").to_lowercase();
            let who = app.signed_in(&name).await;
            let made = app.vault_does(&who, "POST", "/init", &Value::Null).await;
            let key = made["masterKey"].as_str().unwrap();
            let check = json!(known_by(key));
            let set = async |body: &Value| app.vault(&who, "POST", "/recovery-wrap", body).await;
            if mode != Standard {
                assert_eq!(set(&proven("first", &check)).await.status, 200);
            }
            if mode == ZeroKnowledge {
                app.vault_does(&who, "POST", "/zero-knowledge", &on()).await;
            }
            let before = app.vault_lines(&who.user_id).await.len();
            let others = json!(known_by(&other_key()));
            let zeroes = json!(STANDARD.encode([0; 32]));
            for check in [&others, &zeroes] {
                let refused = set(&proven("theirs", check)).await;
                assert_eq!(refused.refusal(), mismatch, "{}", refused.text);
            }
            for check in [json!(""), json!(7), json!("AAAA"), json!([&check])] {
                let refused = set(&proven("theirs", &check)).await;
                assert_eq!(refused.refusal(), malformed, "{check}");
            }
            let mut lines = vec![line("recovery_set", 409, "another-key"); 2];
            for check in [None, Some(Value::Null)] {
                let body = check.map_or(wrap("unproven"), |check| proven("unproven", &check));
                let unproven = set(&body).await;
                if settings.len() == 1 {
                    assert_eq!(unproven.status, 200, "{}", unproven.text);
                    lines.push(line("recovery_set", 200, ""));
                } else {
                    assert_eq!(unproven.refusal(), mismatch, "{}", unproven.text);
                    lines.push(line("recovery_set", 409, "another-key"));
                }
            }
            assert_eq!(set(&proven("mine", &check)).await.status, 200);
            lines.push(line("recovery_set", 200, ""));
            assert_eq!(app.vault_lines(&who.user_id).await[before..], lines);
        }
    }
}
