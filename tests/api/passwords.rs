//! Passwords: how they are stored, what old hashes become, and what happens when too many come at once.

#![cfg(test)]

use std::time::Duration;

use mana_auth::crypto::password::Password;
use mana_auth::custody::{ONLY, kind};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::client::{PASSWORD, UNVERIFIED, answer};
use crate::harness::{TestApp, wait_until};

/// More jobs than one thread's queue has places for.
const TOO_MANY: usize = 48;

async fn stored_hash(app: &TestApp, user_id: &str) -> String {
    let secret = app
        .app
        .store
        .custody()
        .read(kind::PASSWORD, user_id, ONLY)
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(secret.bytes.to_vec()).unwrap()
}

async fn store_hash(app: &TestApp, user_id: &str, hash: &str) {
    let custody = app.app.store.custody();
    let seen = custody
        .read(kind::PASSWORD, user_id, ONLY)
        .await
        .unwrap()
        .unwrap()
        .version;
    assert!(
        custody
            .replace(kind::PASSWORD, user_id, ONLY, seen, hash.as_bytes())
            .await
            .unwrap()
    );
}

async fn sign_in(app: &TestApp, email: &str, password: &str) -> u16 {
    let body = json!({"email": email, "password": password});
    app.post("/api/auth/sign-in/email", &body).await.status
}

/// Keeps the hasher of a service with one thread full until dropped. A place that falls free is taken again at once,
/// so nearly every request that needs a hash is refused, and one that needs none never is.
pub async fn busy_hasher(app: &TestApp) -> JoinSet<()> {
    let mut jobs = JoinSet::new();
    for _ in 0..TOO_MANY {
        let passwords = app.app.passwords.clone();
        jobs.spawn(async move {
            loop {
                if passwords
                    .hash(Password::new(PASSWORD.to_owned()).unwrap())
                    .await
                    .is_err()
                {
                    tokio::time::sleep(Duration::from_micros(200)).await;
                }
            }
        });
    }
    wait_until("the hasher is full", async || {
        let password = Password::new(PASSWORD.to_owned()).unwrap();
        app.app.passwords.hash(password).await.is_err()
    })
    .await;
    jobs
}

/// S-01
#[tokio::test]
async fn a_new_password_is_stored_as_argon2id_at_the_floor_or_above_s01() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let bob = app.signed_in("bob").await;
    let hash = stored_hash(&app, &ada.user_id).await;
    let fields: Vec<&str> = hash.split('$').collect();
    let ["", "argon2id", "v=19", params, salt, output] = fields[..] else {
        panic!("{hash}")
    };
    let numbers: Vec<u32> = params
        .split(',')
        .map(|param| param[2..].parse().unwrap())
        .collect();
    assert!(
        params.starts_with("m=") && numbers[0] >= 19_456 && numbers[1] >= 2 && numbers[2] >= 1,
        "{params}"
    );
    assert!(
        salt.len() >= 22 && output.len() >= 43,
        "16 and 32 bytes: {hash}"
    );
    let other = stored_hash(&app, &bob.user_id).await;
    assert_ne!(
        other.split('$').nth(4),
        Some(salt),
        "the same password has another salt"
    );
}

/// S-02, S-03: hashes of the old service are good until the next good sign-in replaces them, and no bad one does.
#[tokio::test]
async fn an_old_hash_signs_in_and_is_replaced_then_and_only_then_s02_s03() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let vectors: Value = serde_json::from_str(include_str!("../contract/vectors.json")).unwrap();
    let vectors = vectors["passwordHash"].as_array().unwrap();
    assert!(!vectors.is_empty());
    for (number, vector) in vectors.iter().enumerate() {
        let email = format!("p{number}@example.com");
        let password = vector["password"].as_str().unwrap();
        let old = vector["hash"].as_str().unwrap();
        let id = app.signed_in(&format!("p{number}")).await.user_id;
        store_hash(&app, &id, old).await;

        assert_eq!(sign_in(&app, &email, "another password").await, 401);
        assert_eq!(sign_in(&app, &email, PASSWORD).await, 401, "the one before");
        assert_eq!(
            stored_hash(&app, &id).await,
            old,
            "a failed sign-in replaces nothing"
        );
        let events = app.count("events where aggregate_type = 'user'").await;
        assert_eq!(sign_in(&app, &email, password).await, 200, "{password}");
        let new = stored_hash(&app, &id).await;
        assert!(new.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{new}");
        assert_eq!(
            app.count("events where aggregate_type = 'user'").await,
            events,
            "it is upkeep, not an event"
        );
        assert_eq!(sign_in(&app, &email, password).await, 200);
        assert_eq!(stored_hash(&app, &id).await, new, "once");
        assert_eq!(sign_in(&app, &email, "another password").await, 401);
        assert!(!app.dump().await.contains(old));
    }
}

/// S-02: of many good sign-ins at once, each is let in and one hash is left.
#[tokio::test]
async fn an_old_hash_may_be_replaced_by_many_at_once_s02() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let vectors: Value = serde_json::from_str(include_str!("../contract/vectors.json")).unwrap();
    let vector = &vectors["passwordHash"][0];
    let id = app.signed_in("ada").await.user_id;
    store_hash(&app, &id, vector["hash"].as_str().unwrap()).await;
    let password = vector["password"].as_str().unwrap();
    let tries = (0..8).map(|_| sign_in(&app, "ada@example.com", password));
    assert_eq!(futures_util::future::join_all(tries).await, [200; 8]);
    assert!(stored_hash(&app, &id).await.starts_with("$argon2id$"));
    assert_eq!(app.count("custody where kind = 'password'").await, 1);
}

/// S-03: a password is the same however a keyboard composes it (NFKC), and not the same in other cases.
#[tokio::test]
async fn unicode_forms_of_a_password_are_one_password_s03() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": "pa\u{308}sswo\u{308}rd-ﬁ-ＡＢＣ"});
    assert_eq!(app.post("/api/auth/sign-up/email", &body).await.status, 200);
    for same in [
        "pässwörd-fi-ABC",
        "p\u{e4}ssw\u{f6}rd-ﬁ-ＡＢＣ",
        "pa\u{308}sswörd-fi-ABC",
    ] {
        assert_eq!(sign_in(&app, "ada@example.com", same).await, 200, "{same}");
    }
    for other in [
        "Pässwörd-fi-ABC",
        "passwort-fi-ABC",
        "pässwörd-fi-ABC ",
        "pässwörd-fi-ABC\0",
    ] {
        assert_eq!(
            sign_in(&app, "ada@example.com", other).await,
            401,
            "{other}"
        );
    }
}

/// S-09: whatever stands there instead of a hash matches no password and breaks nothing.
#[tokio::test]
async fn a_stored_hash_that_is_none_matches_nothing_s09() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let id = app.signed_in("ada").await.user_id;
    for broken in [
        "",
        ":",
        "$",
        "$argon2id$",
        "$argon2id$v=19$m=4294967295,t=4294967295,p=16777215$AAAAAAAAAAA$AAAAAAAAAAA",
        "$2b$10$é",
        "plain text",
        "00:00",
        "😀:😀",
    ] {
        store_hash(&app, &id, broken).await;
        assert_eq!(
            sign_in(&app, "ada@example.com", PASSWORD).await,
            401,
            "{broken}"
        );
    }
}

/// S-04, S-05: with the hasher full, what needs a hash is told to come back, and what needs none is answered as ever.
#[tokio::test]
async fn a_full_hasher_refuses_and_disturbs_nobody_else_s04_s05() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_HASH_THREADS", "1")]).await;
    let session = app.signed_in("ada").await;
    let jobs = busy_hasher(&app).await;
    let body = json!({"name": "Bob", "email": "bob@example.com", "password": PASSWORD});
    for (door, code) in [
        ("/api/auth/sign-in/email", "SERVICE_UNAVAILABLE"),
        ("/api/v1/auth/login", "SERVICE_UNAVAILABLE"),
        ("/api/auth/sign-up/email", "SERVICE_UNAVAILABLE"),
        ("/api/v1/auth/register", "SERVICE_UNAVAILABLE"),
    ] {
        let mut refused = app.post(door, &body).await;
        // Somebody may be lucky and find the one place that is free for a moment.
        while refused.status != 503 {
            refused = app.post(door, &body).await;
        }
        assert_eq!(refused.refusal(), (503, code.to_owned()), "{door}");
        assert_eq!(refused.header("retry-after"), "2");
        let text = if door.contains("v1") {
            "Service temporarily unavailable"
        } else {
            "The service is busy. Please try again."
        };
        assert_eq!(refused.json()["message"], text);
        if door.contains("v1") {
            assert_eq!(
                (&refused.json()["status"], &refused.json()["retryAfterSec"]),
                (&json!(503), &json!(2))
            );
        }
        assert!(
            app.is_live(&session.cookie).await,
            "sessions do not wait for passwords"
        );
    }
    let huge = "x".repeat(1024 * 1024);
    for (door, code) in [
        ("/api/auth/sign-in/email", "PASSWORD_TOO_LONG"),
        ("/api/v1/auth/login", "WEAK_PASSWORD"),
        ("/api/auth/sign-up/email", "PASSWORD_TOO_LONG"),
        ("/api/v1/auth/register", "WEAK_PASSWORD"),
    ] {
        for _ in 0..5 {
            let body = json!({"name": "Eve", "email": "eve@example.com", "password": huge});
            let refused = app.post(door, &body).await;
            assert_eq!(
                refused.refusal(),
                (400, code.to_owned()),
                "{door}: no hash was asked for"
            );
        }
    }
    drop(jobs);
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    wait_until("the hasher has room again", async || {
        answer(app.request("POST", "/api/auth/sign-in/email").json(&body))
            .await
            .status
            == 200
    })
    .await;
}
