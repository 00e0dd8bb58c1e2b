//! `Idempotency-Key`: a request that is sent again is carried out once.

#![cfg(test)]

use futures_util::future::join_all;
use mana_auth::store::idempotency::{Fingerprint, Known};
use serde_json::{Value, json};

use crate::client::{Answer, Credits, PASSWORD, UNVERIFIED, answer};
use crate::harness::TestApp;

const DOORS: [&str; 2] = ["/api/auth/sign-up/email", "/api/v1/auth/register"];

async fn with_key(app: &TestApp, door: &str, key: &str, body: &Value) -> Answer {
    answer(
        app.request("POST", door)
            .json(body)
            .header("idempotency-key", key),
    )
    .await
}

fn ada(name: &str) -> Value {
    json!({"name": name, "email": "ada@example.com", "password": PASSWORD})
}

#[tokio::test]
async fn a_repeated_request_gets_its_first_answer_byte_for_byte() {
    for door in DOORS {
        let credits = Credits::start().await;
        let app = TestApp::start(&[("MANA_CREDITS_URL", &credits.url)]).await;
        let first = with_key(&app, door, "key-1", &ada("Ada")).await;
        assert_eq!(
            (first.status, first.header("idempotency-replayed")),
            (200, "")
        );
        app.effects_done().await;
        let before = app.state().await;
        let node = app.node(&[]).await;
        for node in [&app, &node] {
            let again = with_key(node, door, "key-1", &ada("Ada")).await;
            assert_eq!((again.status, &again.text), (200, &first.text), "{door}");
            assert_eq!(again.header("idempotency-replayed"), "true");
            assert_eq!(again.header("content-type"), "application/json");
        }
        app.effects_done().await;
        assert_eq!(app.state().await, before, "{door}");
        assert_eq!((app.mails().len(), credits.calls().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_key_is_good_for_one_request_only() {
    let app = TestApp::start(&[]).await;
    for (door, code) in [
        (DOORS[0], "IDEMPOTENCY_KEY_MISUSED"),
        (DOORS[1], "VALIDATION"),
    ] {
        let email = format!("{}@example.com", &code[..3]);
        let body = json!({"name": "Ada", "email": email, "password": PASSWORD});
        assert_eq!(with_key(&app, door, "key-1", &body).await.status, 200);
        let mut other = body.clone();
        other["name"] = json!("Eve");
        let refused = with_key(&app, door, "key-1", &other).await;
        assert_eq!(refused.refusal(), (422, code.to_owned()), "{door}");
        other["email"] = json!("somebody@example.com");
        assert_eq!(with_key(&app, door, "key-1", &other).await.status, 422);
    }
    assert_eq!(
        app.count("read.users").await,
        2,
        "each door has its own keys"
    );
    assert_eq!(
        app.count("read.users where email = 'somebody@example.com'")
            .await,
        0
    );
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused() {
    let app = TestApp::start(&[]).await;
    let before = app.state().await;
    let long = "k".repeat(256);
    let bad: [&[u8]; 5] = [b"", b"a b", b"\xff", "ä".as_bytes(), long.as_bytes()];
    for (door, code) in [
        (DOORS[0], "IDEMPOTENCY_KEY_INVALID"),
        (DOORS[1], "VALIDATION"),
    ] {
        for key in bad {
            let request = app
                .request("POST", door)
                .json(&ada("Ada"))
                .header("idempotency-key", key);
            assert_eq!(
                answer(request).await.refusal(),
                (400, code.to_owned()),
                "{door} {key:?}"
            );
        }
    }
    assert_eq!(app.state().await, before);
    assert_eq!(
        with_key(&app, DOORS[0], &long[..255], &ada("Ada"))
            .await
            .status,
        200
    );
}

/// Where the answer holds a session, only the fact is kept: whoever repeats it has to know the password still.
#[tokio::test]
async fn an_answer_with_a_session_is_not_kept_but_given_anew() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let first = with_key(&app, DOORS[0], "key-1", &ada("Ada")).await;
    let again = with_key(&app, DOORS[0], "key-1", &ada("Ada")).await;
    assert_eq!((first.status, again.status), (200, 200));
    assert_eq!(first.json()["user"], again.json()["user"]);
    assert_ne!(first.json()["token"], again.json()["token"]);
    for answer in [&first, &again] {
        assert!(app.is_live(&answer.session_cookie()).await);
    }
    assert_eq!(app.count("idempotency_keys where sealed is null").await, 1);
    assert_eq!(app.count("read.users").await, 1);
}

/// What is kept of a request costs as much to guess from as the hash of its password (S-01).
#[tokio::test]
async fn no_quick_hash_of_a_password_is_kept() {
    for door in DOORS {
        let app = TestApp::start(&[]).await;
        let body = ada("Ada");
        assert_eq!(with_key(&app, door, "key-1", &body).await.status, 200);
        let quick = Fingerprint::of(&app.app.root, door, "key-1", body.to_string().as_bytes());
        let look_up = async |request: Fingerprint| {
            let known = request.look_up(&app.app.pool, app.app.store.custody());
            known.await.unwrap()
        };
        assert!(matches!(look_up(quick).await, Known::Misused), "{door}");
        let slow = quick.stretched(&app.app.passwords).await.unwrap();
        assert!(
            matches!(look_up(slow).await, Known::Repeated(Some(_))),
            "{door}"
        );
    }
}

#[tokio::test]
async fn a_key_may_be_used_again_after_a_day() {
    let app = TestApp::start(&[]).await;
    with_key(&app, DOORS[1], "key-1", &ada("Ada")).await;
    sqlx::query("update idempotency_keys set created_at = created_at - interval '24 hours'")
        .execute(&app.admin)
        .await
        .unwrap();
    let conflict = with_key(&app, DOORS[1], "key-1", &ada("Ada")).await;
    assert_eq!(
        conflict.status, 409,
        "it is a new request, and the address is taken"
    );
}

/// S-29: 40 at once with one key make one account; each is told of that one, or to come back.
#[tokio::test]
async fn of_40_requests_with_one_key_one_is_carried_out_s29() {
    for (door, setting) in [
        (DOORS[0], ("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "true")),
        (DOORS[0], UNVERIFIED),
        (DOORS[1], UNVERIFIED),
        (DOORS[1], ("REGISTER_ENUMERATION_SAFE", "true")),
    ] {
        let app = TestApp::start(&[setting, ("MANA_AUTH_HASH_THREADS", "4")]).await;
        let node = app.node(&[setting, ("MANA_AUTH_HASH_THREADS", "4")]).await;
        let body = ada("Ada");
        let answers = join_all((0..40).map(|number| {
            let node = if number % 2 == 0 { &app } else { &node };
            with_key(node, door, "key-1", &body)
        }))
        .await;
        let (told, refused): (Vec<_>, Vec<_>) =
            answers.iter().partition(|answer| answer.status == 200);
        assert!(!told.is_empty());
        for answer in &told {
            assert_eq!(
                answer.json()["user"],
                told[0].json()["user"],
                "{door} {setting:?}"
            );
        }
        assert!(
            refused.iter().all(|answer| answer.status == 409),
            "{door} {setting:?}: {refused:?}"
        );
        assert_eq!(app.count("read.users").await, 1);
        assert_eq!(app.count("idempotency_keys").await, 1);
        assert_eq!(app.mails_of("verify_email", "ada@example.com").await, 1);
        assert_eq!(
            app.mails().len(),
            1,
            "nobody tells the owner that they signed up twice"
        );
    }
}

/// S-22: what is kept about a taken address is its owner's, and goes with them.
#[tokio::test]
async fn what_is_said_about_a_taken_address_is_kept_until_its_owner_goes_s22() {
    let app = TestApp::start(&[]).await;
    app.verified("ada").await;
    let session = app.sign_in("ada").await;
    let body = ada("Eve");
    let first = with_key(&app, DOORS[0], "key", &body).await;
    for again in join_all((0..10).map(|_| with_key(&app, DOORS[0], "key", &body))).await {
        assert_eq!(again.text, first.text);
        assert_eq!(again.header("idempotency-replayed"), "true");
    }
    let told = app.mails_of("account_exists", "ada@example.com").await;
    assert_eq!(told, 1);
    let of_ada = format!("idempotency_keys where subject = '{}'", session.user_id);
    assert_eq!(app.count(&of_ada).await, 1);
    let password = json!({"password": PASSWORD});
    let deleted = app
        .post_as("/api/auth/delete-user", &session.cookie, &password)
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    assert_eq!(app.count("idempotency_keys").await, 0);
    let new = with_key(&app, DOORS[0], "key", &body).await;
    assert_eq!((new.status, new.header("idempotency-replayed")), (200, ""));
}

/// S-22: of many at once about a taken address, all are told the same.
#[tokio::test]
async fn of_20_requests_with_one_key_about_a_taken_address_all_are_answered_alike_s22() {
    for (door, setting) in DOORS.into_iter().zip([
        ("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "true"),
        ("REGISTER_ENUMERATION_SAFE", "true"),
    ]) {
        let app = TestApp::start(&[setting]).await;
        app.verified("ada").await;
        let body = ada("Eve");
        let answers = join_all((0..20).map(|_| with_key(&app, door, "key", &body))).await;
        for answer in &answers {
            assert_eq!((answer.status, &answer.text), (200, &answers[0].text));
        }
        assert_eq!(app.count("idempotency_keys").await, 1);
    }
}
