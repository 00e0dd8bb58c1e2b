//! The keys of access tokens: they turn over under verifiers that remember the key set, and survive other secrets.

#![cfg(test)]

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use ed25519_dalek::{Signature, VerifyingKey};
use mana_auth::signing::PUBLISHED_BEFORE;
use mana_auth::store::Actor;
use serde_json::{Value, json};

use crate::client::{UNVERIFIED, claims};
use crate::harness::{TestApp, wait_until};

/// A verifier as other services have one: it asks for the key set when what it has is ten minutes old, never sooner.
struct Verifier {
    keys: BTreeMap<String, VerifyingKey>,
    asked_at: DateTime<Utc>,
}

impl Verifier {
    async fn new(app: &TestApp) -> Verifier {
        let set = app.get("/api/v1/auth/jwks").await.json();
        let key = |key: &Value| {
            let bytes = URL_SAFE_NO_PAD.decode(key["x"].as_str().unwrap()).unwrap();
            let key_id = key["kid"].as_str().unwrap().to_owned();
            (
                key_id,
                VerifyingKey::from_bytes(&bytes.try_into().unwrap()).unwrap(),
            )
        };
        Verifier {
            keys: set["keys"].as_array().unwrap().iter().map(key).collect(),
            asked_at: app.clock.now(),
        }
    }

    async fn accepts(&mut self, app: &TestApp, token: &str) -> bool {
        if app.clock.now() - self.asked_at >= TimeDelta::minutes(10) {
            *self = Verifier::new(app).await;
        }
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let signature = Signature::from_bytes(&signature.try_into().unwrap());
        self.keys
            .get(&kid(token))
            .is_some_and(|key| key.verify_strict(signed.as_bytes(), &signature).is_ok())
    }
}

fn kid(token: &str) -> String {
    let header = URL_SAFE_NO_PAD
        .decode(token.split('.').next().unwrap())
        .unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header["alg"], "EdDSA");
    header["kid"].as_str().unwrap().to_owned()
}

/// S-85: over 50 rotations no verifier refuses a token, however old its key set may be; two nodes sign in turns.
#[tokio::test]
async fn a_verifier_with_a_10_minute_cache_sees_no_failure_in_50_rotations_s85() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    // Three verifiers that ask at different times, one of them just before each rotation.
    let mut verifiers = vec![Verifier::new(&app).await];
    let mut kids = std::collections::BTreeSet::new();
    let mut alive: Vec<(DateTime<Utc>, String)> = Vec::new();
    for rotation in 0..50 {
        let before = Verifier::new(&app).await;
        let (_, active_from) = app
            .app
            .signing
            .rotate(PUBLISHED_BEFORE, Actor::System)
            .await
            .unwrap();
        // It has eleven minutes, which pass in a moment here.
        let head = mana_auth::store::log::head(&app.admin).await.unwrap();
        wait_until("the other node hears of it", async || {
            node.app.store.freshness().applied() >= head
        })
        .await;
        verifiers.truncate(2);
        verifiers.insert(0, before);
        let mut minute = 0;
        while app.clock.now() <= active_from {
            let signer = if minute % 2 == 0 { &app } else { &node };
            let token = signer.jwt(&session.cookie).await;
            kids.insert(kid(&token));
            let good_until =
                DateTime::from_timestamp(claims(&token)["exp"].as_i64().unwrap(), 0).unwrap();
            alive.retain(|(until, _)| *until > app.clock.now());
            alive.push((good_until, token));
            for verifier in &mut verifiers {
                for (_, token) in &alive {
                    assert!(
                        verifier.accepts(&app, token).await,
                        "rotation {rotation}, minute {minute}"
                    );
                }
            }
            app.clock.advance(TimeDelta::minutes(1));
            minute += 1;
        }
    }
    assert_eq!(kids.len(), 51, "every key signed");
}

#[tokio::test]
async fn one_rotation_at_a_time_and_a_retired_key_stays_published_for_30_days() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let published = async || {
        let set = app.get("/api/auth/jwks").await.json();
        assert_eq!(set, app.get("/api/v1/auth/jwks").await.json());
        set["keys"].as_array().unwrap().len()
    };
    assert_eq!(published().await, 1);
    let (_, active_from) = app
        .app
        .signing
        .rotate(PUBLISHED_BEFORE, Actor::System)
        .await
        .unwrap();
    assert!(
        app.app
            .signing
            .rotate(PUBLISHED_BEFORE, Actor::System)
            .await
            .is_err()
    );
    assert_eq!(
        published().await,
        2,
        "the next one is shown before it signs"
    );
    app.clock
        .advance(active_from - app.clock.now() + TimeDelta::days(30) - TimeDelta::milliseconds(1));
    assert_eq!(published().await, 2);
    app.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(published().await, 1);
}

/// A withdrawn key takes its tokens with it, and no node gives one of them out again, however young.
#[tokio::test]
async fn a_withdrawn_key_is_not_believed_and_its_tokens_are_not_given_out_again() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    let (_, active_from) = app
        .app
        .signing
        .rotate(PUBLISHED_BEFORE, Actor::System)
        .await
        .unwrap();
    app.clock.advance(active_from - app.clock.now());
    let stolen = app.jwt(&session.cookie).await;
    assert_eq!(node.jwt(&session.cookie).await.len(), stolen.len());
    app.app
        .signing
        .revoke(&kid(&stolen), Actor::System)
        .await
        .unwrap();

    let body = json!({"token": stolen});
    for node in [&app, &node] {
        // The node that withdrew it knows at once; the other hears of it from the log.
        wait_until("the key is known to be withdrawn", async || {
            node.post("/api/v1/auth/validate", &body).await.status == 401
        })
        .await;
        let token = node.jwt(&session.cookie).await;
        assert_ne!(kid(&token), kid(&stolen));
        assert_eq!(
            node.post("/api/v1/auth/validate", &json!({"token": token}))
                .await
                .status,
            200
        );
    }
}

/// S-86: signing keys are wrapped by the key-encryption key, so new app secrets change nothing for them.
#[tokio::test]
async fn signing_keys_survive_new_app_secrets_s86() {
    let one = (
        "BETTER_AUTH_SECRETS",
        "1:the-first-secret-of-this-test-0123456789",
    );
    let app = TestApp::start(&[UNVERIFIED, one]).await;
    let session = app.signed_in("ada").await;
    let token = app.jwt(&session.cookie).await;
    let keys = app.get("/api/auth/jwks").await.text;
    for secrets in [
        "2:the-second-secret-of-this-test-012345678,1:the-first-secret-of-this-test-0123456789",
        "3:quite-another-secret-of-this-test-01234567",
    ] {
        let node = app
            .node(&[UNVERIFIED, ("BETTER_AUTH_SECRETS", secrets)])
            .await;
        assert_eq!(node.get("/api/auth/jwks").await.text, keys);
        assert_eq!(
            node.post("/api/v1/auth/validate", &json!({"token": token}))
                .await
                .status,
            200
        );
        let fresh = node.sign_in("ada").await;
        let token = node.jwt(&fresh.cookie).await;
        assert_eq!(
            app.post("/api/v1/auth/validate", &json!({"token": token}))
                .await
                .status,
            200
        );
        assert_eq!(
            kid(&token),
            kid(&app.jwt(&session.cookie).await),
            "the same key signs"
        );
    }
}
