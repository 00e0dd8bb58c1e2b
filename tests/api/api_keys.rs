//! API keys: made, listed, shown by programs, revoked.

#![cfg(test)]

use aggregates::user::{User, UserCommand};
use chrono::TimeDelta;
use futures_util::future::join_all;
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::client::{Answer, UNVERIFIED, answer};
use crate::harness::TestApp;

const DOOR: &str = "/api/v1/api-keys";
const VALIDATE: &str = "/api/v1/api-keys/validate";

pub async fn ask(app: &TestApp, jwt: &str, method: &str, path: &str, body: &Value) -> Answer {
    let request = app.request(method, &format!("{DOOR}{path}"));
    answer(request.bearer_auth(jwt).json(body)).await
}

/// Makes a key; the answer that shows it.
pub async fn create(app: &TestApp, jwt: &str, body: &Value) -> Value {
    let created = ask(app, jwt, "POST", "", body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    created.json()
}

pub async fn validate(app: &TestApp, key: &str) -> Value {
    let answer = app.post(VALIDATE, &json!({"apiKey": key})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// mana-v1.md section 8, and S-26: the database knows the hash alone.
#[tokio::test]
async fn a_key_is_shown_once_and_good_until_it_is_revoked_s26() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    let made = create(&app, &jwt, &json!({"name": "Laptop"})).await;
    let key = made["key"].as_str().unwrap();
    let digits = key.strip_prefix("sk_live_").unwrap();
    assert_eq!(digits.len(), 64);
    let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
    assert!(digits.chars().all(is_hex));
    assert_eq!(made["keyPrefix"], json!(digits[..8]));
    assert_eq!(made["id"].as_str().unwrap().len(), 21);
    assert_eq!(made.get("keyHash"), None);
    let dump = app.dump().await;
    assert!(!dump.contains(&digits[8..]), "the key is nowhere");
    let hash: String = Sha256::digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert!(dump.contains(&hash));

    let mut listed = made.clone();
    listed.as_object_mut().unwrap().remove("key");
    let list = ask(&app, &jwt, "GET", "", &Value::Null).await.json();
    assert_eq!(list, json!([listed]));

    let events = app.count("events").await;
    let good = json!({
        "valid": true, "userId": ada.user_id, "scopes": ["stt", "tts"],
        "rateLimit": {"requests": 60, "window": 60},
    });
    for at in [&app, &node, &app] {
        app.clock.advance(TimeDelta::seconds(1));
        assert_eq!(validate(at, key).await, good);
    }
    assert_eq!(app.count("events").await, events, "a use is no event");
    let list = ask(&app, &jwt, "GET", "", &Value::Null).await.json();
    let now = app.clock.now().format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    assert_eq!(list[0]["lastUsedAt"], json!(now));

    for (scope, valid) in [("tts", true), ("vault", false)] {
        let body = json!({"apiKey": key, "scope": scope});
        let told = app.post(VALIDATE, &body).await.json();
        let wanted = if valid {
            good.clone()
        } else {
            json!({"valid": false, "reason": "scope_denied"})
        };
        assert_eq!(told, wanted, "{scope}");
    }

    let path = format!("/{}", made["id"].as_str().unwrap());
    // Again is as good as once.
    for _ in 0..2 {
        let revoked = ask(&app, &jwt, "DELETE", &path, &Value::Null).await;
        assert_eq!(
            (revoked.status, revoked.json()),
            (200, json!({"success": true}))
        );
        for at in [&app, &node] {
            assert_eq!(validate(at, key).await, json!({"valid": false}));
        }
    }
    let list = ask(&app, &jwt, "GET", "", &Value::Null).await.json();
    assert!(list[0]["revokedAt"].is_string(), "it stays in the list");
    let log = app
        .get_as("/api/v1/auth/security-events", &ada.cookie)
        .await;
    for kind in ["api_key_created", "api_key_revoked"] {
        assert_eq!(log.text.matches(kind).count(), 1, "{kind}");
    }
}

/// A key is its owner's: nobody else sees or revokes it, and it is worth nothing once they are banned.
#[tokio::test]
async fn a_key_is_its_owners() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, eve) = (app.signed_in("ada").await, app.signed_in("eve").await);
    let (jwt, eves) = (app.jwt(&ada.cookie).await, app.jwt(&eve.cookie).await);
    let made = create(&app, &jwt, &json!({"name": "x", "scopes": ["vault"]})).await;
    assert_eq!(made["scopes"], json!(["vault"]));
    assert_eq!(
        ask(&app, &eves, "GET", "", &Value::Null).await.json(),
        json!([])
    );
    let id = made["id"].as_str().unwrap();
    for (jwt, id) in [(&eves, id), (&jwt, "nope"), (&jwt, "%00")] {
        let refused = ask(&app, jwt, "DELETE", &format!("/{id}"), &Value::Null).await;
        let wanted = json!({"statusCode": 404, "message": "API key not found"});
        assert_eq!((refused.status, refused.json()), (404, wanted));
    }
    let key = made["key"].as_str().unwrap();
    assert_eq!(validate(&app, key).await["valid"], json!(true));

    let at = app.clock.now();
    let until = Some(at + TimeDelta::hours(1));
    let ban = UserCommand::Ban {
        reason: None,
        until,
        at,
    };
    let context = Context::of(Actor::Operator);
    let banned = app.app.store.run::<User>(&ada.user_id, ban, context).await;
    assert!(banned.is_ok());
    assert_eq!(validate(&app, key).await, json!({"valid": false}));
    app.clock.advance(TimeDelta::hours(1));
    assert_eq!(validate(&app, key).await["valid"], json!(true));
}

#[tokio::test]
async fn what_is_no_key_is_not_good() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    let made = create(&app, &jwt, &json!({"name": "x"})).await;
    let key = made["key"].as_str().unwrap();
    let hash: String = Sha256::digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tries = [
        "".to_owned(),
        "\0".to_owned(),
        key[..71].to_owned(),
        format!("{key}0"),
        format!(" {key}"),
        key.to_uppercase(),
        key["sk_live_".len()..].to_owned(),
        hash,
        jwt.clone(),
        ada.token.clone(),
        "x".repeat(1 << 20),
    ];
    for tried in tries {
        let told = validate(&app, &tried).await;
        assert_eq!(told, json!({"valid": false}), "{tried:.80}");
    }
    for body in [
        json!({}),
        json!({"name": ""}),
        json!({"name": 1}),
        json!({"name": "a\0b"}),
        json!({"name": "x".repeat(3000)}),
        json!({"name": "x", "scopes": "stt"}),
        json!({"name": "x", "scopes": [1]}),
        json!({"name": "x", "scopes": [""]}),
        json!({"name": "x", "scopes": ["a\0b"]}),
        json!({"name": "x", "scopes": vec!["s"; 51]}),
        json!([]),
    ] {
        let refused = ask(&app, &jwt, "POST", "", &body).await;
        let wanted = (400, "VALIDATION_ERROR".to_owned());
        assert_eq!(refused.refusal(), wanted, "{body:.80}");
        assert_eq!(refused.json()["statusCode"], json!(400));
    }
    // A session's own cookie or token is no access token.
    for request in [
        app.request("GET", DOOR).header("cookie", &ada.cookie),
        app.request("GET", DOOR).bearer_auth(&ada.token),
    ] {
        assert_eq!(answer(request).await.status, 401);
    }
    assert_eq!(app.count("read.api_keys").await, 1);
}

/// An account has fifty keys at most, however many are asked for at once.
#[tokio::test]
async fn an_account_has_fifty_keys_at_most() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    for _ in 0..45 {
        create(&app, &jwt, &json!({"name": "x"})).await;
    }
    let body = json!({"name": "y"});
    let tries = (0..20).map(|number| {
        let (at, jwt, body) = ([&app, &node][number % 2], &jwt, &body);
        async move { ask(at, jwt, "POST", "", body).await }
    });
    for answer in join_all(tries).await {
        assert!([201, 409].contains(&answer.status), "{}", answer.text);
    }
    // Whoever lost to others at the same moment may try again, until it is full.
    while app.count("read.api_keys").await < 50 {
        create(&app, &jwt, &body).await;
    }
    let refused = ask(&app, &jwt, "POST", "", &body).await;
    assert_eq!(refused.refusal(), (409, "TOO_MANY_API_KEYS".to_owned()));
    assert_eq!(app.count("read.api_keys").await, 50);
}
