//! `Idempotency-Key` on the calls of a vault: what is sent again is carried out once, and no key of a vault is kept for it.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::Mode::{Absent, Standard, WithRecovery, ZeroKnowledge};
use super::{Mode, VAULT, bring_to, line, mode_of, off, on, other_key, wrap};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, answer};
use crate::harness::TestApp;

async fn once(app: &TestApp, who: &Session, call: (&str, &str), body: &Value, key: &str) -> Answer {
    let request = app.request(call.0, &format!("{VAULT}{}", call.1));
    let request = request
        .bearer_auth(&who.token)
        .header("idempotency-key", key);
    answer(match body {
        Value::Null => request,
        body => request.json(body),
    })
    .await
}

/// The answer of before, byte for byte, on every node, and nothing happens.
#[tokio::test]
async fn a_change_that_is_sent_again_is_answered_as_before_and_not_made_again() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let set = ("POST", "/recovery-wrap");
    let switch = ("POST", "/zero-knowledge");
    let restore = ("POST", "/recovery-wrap/restore");
    let calls: [(Mode, (&str, &str), Value); 5] = [
        (WithRecovery, set, wrap("second")),
        (WithRecovery, ("DELETE", "/recovery-wrap"), Value::Null),
        (WithRecovery, switch, on()),
        (ZeroKnowledge, switch, off(&other_key())),
        (WithRecovery, restore, json!({"password": PASSWORD})),
    ];
    for (number, (mode, call, body)) in calls.into_iter().enumerate() {
        let who = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &who, mode).await;
        if call == restore {
            app.vault_does(&who, "POST", "/recovery-wrap", &wrap("thief"))
                .await;
        }
        let first = once(&app, &who, call, &body, "a-key").await;
        assert_eq!(
            (first.status, first.header("idempotency-replayed")),
            (200, ""),
            "{call:?}"
        );
        app.effects_done().await;
        let before = (
            app.vault_lines(&who.user_id).await,
            mode_of(&app, &who).await,
            app.mails().len(),
        );
        for at in [&app, &node] {
            let again = once(at, &who, call, &body, "a-key").await;
            assert_eq!((again.status, &again.text), (200, &first.text), "{call:?}");
            assert_eq!(again.header("idempotency-replayed"), "true", "{call:?}");
        }
        app.effects_done().await;
        let after = (
            app.vault_lines(&who.user_id).await,
            mode_of(&app, &who).await,
            app.mails().len(),
        );
        assert_eq!(after, before, "{call:?}");
    }
}

/// A rotation that is sent again makes no other key; that the key is given out once more is a line as ever (S-80).
#[tokio::test]
async fn a_rotation_that_is_sent_again_gives_the_key_of_now_s80() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let (init, rotate) = (("POST", "/init"), ("POST", "/rotate"));
    for call in [init, rotate] {
        let first = once(&app, &ada, call, &Value::Null, "a-key").await.json();
        for at in [&app, &node] {
            let again = once(at, &ada, call, &Value::Null, "a-key").await;
            assert_eq!(
                (again.status, again.json()),
                (200, first.clone()),
                "{call:?}"
            );
        }
    }
    let another = once(&app, &ada, rotate, &Value::Null, "another-key")
        .await
        .json();
    let again = once(&app, &ada, rotate, &Value::Null, "a-key").await.json();
    assert_eq!(
        again["masterKey"], another["masterKey"],
        "not one of before"
    );
    app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("w"))
        .await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    let blob = once(&app, &ada, rotate, &Value::Null, "a-key").await.json();
    assert_eq!(blob["requiresRecoveryCode"], json!(true));
    let exists = || line("init", 200, "already-exists");
    let (fetch, rotated) = (|| line("fetch", 200, ""), || line("rotate", 200, ""));
    let wanted = [
        line("init", 201, "created"),
        exists(),
        exists(),
        rotated(),
        fetch(),
        fetch(),
        rotated(),
        fetch(),
        line("recovery_set", 200, ""),
        line("zk_enable", 200, ""),
        line("fetch", 200, "zk-recovery-blob"),
    ];
    assert_eq!(app.vault_lines(&ada.user_id).await, wanted);
    assert_eq!(app.count("idempotency_keys where sealed is null").await, 3);
}

/// S-29: many at once with one key, on two nodes, are one change.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_20_rotations_with_one_key_one_is_made_s29() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    for (number, mode) in [Absent, Standard, WithRecovery].into_iter().enumerate() {
        let who = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &who, mode).await;
        for (path, body, action) in [
            ("/rotate", Value::Null, "rotate"),
            ("/recovery-wrap", wrap("second"), "recovery_set"),
        ] {
            let calls = (0..20).map(|number| {
                let at = [&app, &node][number % 2];
                once(at, &who, ("POST", path), &body, "a-key")
            });
            for answered in join_all(calls).await {
                assert_eq!(answered.status, 200, "{}", answered.text);
            }
            let lines = app.vault_lines(&who.user_id).await;
            let made = lines.iter().filter(|(of, status, context)| {
                of == action && (context.is_none() || *status == 201)
            });
            let before = usize::from(mode == WithRecovery && action == "recovery_set");
            assert_eq!(made.count(), 1 + before, "{mode:?} {action}: {lines:?}");
        }
    }
}

/// A key is good for one request of one person; what was refused may be asked for again.
#[tokio::test]
async fn a_key_is_good_for_one_request_of_one_person() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    let set = ("POST", "/recovery-wrap");
    for who in [&ada, &bob] {
        assert_eq!(
            once(&app, who, set, &wrap("first"), "a-key").await.status,
            404
        );
        bring_to(&app, who, Standard).await;
        assert_eq!(
            once(&app, who, set, &wrap("first"), "a-key").await.status,
            200
        );
        let other = once(&app, who, set, &wrap("second"), "a-key").await;
        assert_eq!(other.refusal(), (422, "IDEMPOTENCY_KEY_MISUSED".to_owned()));
        // Of another call it is another key.
        let clear = ("DELETE", "/recovery-wrap");
        assert_eq!(
            once(&app, who, clear, &Value::Null, "a-key").await.status,
            200
        );
        for bad in ["", "a b", &"k".repeat(256)] {
            let refused = once(&app, who, set, &wrap("first"), bad).await;
            assert_eq!(
                refused.refusal(),
                (400, "IDEMPOTENCY_KEY_INVALID".to_owned())
            );
        }
        assert_eq!(app.vault_lines(&who.user_id).await.len(), 4);
        assert_eq!(mode_of(&app, who).await, Standard);
    }
    // Each fetch is a fetch.
    for _ in 0..2 {
        let fetched = once(&app, &ada, ("GET", "/key"), &Value::Null, "a-key").await;
        assert_eq!(fetched.status, 200);
    }
    assert_eq!(app.vault_lines(&ada.user_id).await.len(), 6);
}

/// S-26: what is kept for a repetition holds neither a key nor a password, and goes with its person.
#[tokio::test]
async fn what_is_kept_for_a_repetition_holds_no_secret_s26() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let call = async |path: &str, body: Value| {
        let done = once(&app, &ada, ("POST", path), &body, "a-key-of-ada").await;
        assert_eq!(done.status, 200, "{}", done.text);
        done.json()["masterKey"].as_str().map(str::to_owned)
    };
    let mut secrets = vec![PASSWORD.to_owned(), "a-key-of-ada".to_owned()];
    secrets.extend(call("/init", Value::Null).await);
    secrets.extend(call("/rotate", Value::Null).await);
    call("/recovery-wrap", wrap("first")).await;
    app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("thief"))
        .await;
    call("/recovery-wrap/restore", json!({"password": PASSWORD})).await;
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    call("/zero-knowledge", off(&other_key())).await;
    secrets.push(other_key());
    let dump = app.dump().await;
    assert_eq!((secrets.len(), app.count("idempotency_keys").await), (5, 5));
    for secret in &secrets {
        assert!(!dump.contains(secret.as_str()), "{secret}");
    }
    let kept: Vec<Vec<u8>> = sqlx::query_scalar(
        "select key_hash || body_hash || coalesce(sealed, '') from idempotency_keys where subject = $1",
    )
    .bind(&ada.user_id)
    .fetch_all(&app.admin)
    .await
    .unwrap();
    for text in ["wrapped", "restored", "masterKey"] {
        let stands = |bytes: &Vec<u8>| {
            bytes
                .windows(text.len())
                .any(|part| part == text.as_bytes())
        };
        assert!(!kept.iter().any(stands), "{text}");
    }
    crate::deletion::delete_account(&app, &ada).await;
    assert_eq!(app.count("idempotency_keys").await, 0);
}
