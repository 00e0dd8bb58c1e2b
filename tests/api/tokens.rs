//! Tokens: each is good for what it was made for and for nothing else, and only as it was made.

#![cfg(test)]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use mana_auth::crypto::jwt;
use mana_auth::signing::Claims;
use serde_json::{Value, json};

use crate::client::{UNVERIFIED, claims, link_token};
use crate::harness::TestApp;

/// S-34: an access token is good only as it was made.
#[tokio::test]
async fn an_altered_access_token_is_refused_s34() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    let token = app.jwt(&session.cookie).await;
    let is_good = async |token: &str| {
        let answer = app
            .post("/api/v1/auth/validate", &json!({"token": token}))
            .await;
        match answer.status {
            200 => {
                assert_eq!(answer.json()["valid"], true);
                true
            }
            401 => {
                assert_eq!(answer.text, r#"{"valid":false}"#);
                false
            }
            other => panic!("{other}: {}", answer.text),
        }
    };
    assert!(is_good(&token).await);

    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("{token}")
    };
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let kid =
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()["kid"]
            .clone();
    let jwks = app.get("/api/auth/jwks").await.json();
    let x = jwks["keys"][0]["x"].as_str().unwrap();
    let said = claims(&token);
    let mut later = said.clone();
    later["exp"] = json!(said["exp"].as_i64().unwrap() + 1);
    let mut admin = said.clone();
    admin["role"] = json!("admin");

    let mut altered: Vec<String> = (1..token.len())
        .step_by(5)
        .map(|end| token[..end].to_owned())
        .collect();
    // Each letter in turn, which reaches every bit of signature and claims; the last one of a part has bits to spare.
    for at in 0..token.len() {
        let other = match token.as_bytes()[at] {
            b'A' => "B",
            b'.' => "",
            _ => "A",
        };
        altered.push(format!("{}{other}{}", &token[..at], &token[at + 1..]));
    }
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = |part: &str| part[..part.len() - 1].to_owned();
    for letter in alphabet.chars() {
        for changed in [
            format!("{}{letter}.{payload}.{signature}", last(header)),
            format!("{header}.{}{letter}.{signature}", last(payload)),
            format!("{header}.{payload}.{}{letter}", last(signature)),
        ] {
            if changed != token {
                altered.push(changed);
            }
        }
    }
    let hs256 = |key: &[u8]| jwt::sign_hs256(&said, key);
    altered.extend([
        format!("{token}="),
        format!("{token}=="),
        format!("{token}."),
        format!(".{token}"),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}\n"),
        format!("Bearer {token}"),
        format!("{token}.{signature}"),
        format!(
            "{header}.{payload}.{}",
            STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap())
        ),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}.{}.{signature}", encode(&later)),
        format!("{header}.{}.{signature}", encode(&admin)),
        format!("{}.{payload}.", encode(&json!({"alg": "none", "kid": kid}))),
        format!("{}.{payload}.", encode(&json!({"alg": "none"}))),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({"alg": "none", "kid": kid}))
        ),
        format!("{}.{payload}.{signature}", encode(&json!({"alg": "EdDSA"}))),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({"alg": "EdDSA", "kid": "other"}))
        ),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({"alg": "ES256", "kid": kid}))
        ),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({"alg": "EdDSA", "kid": kid, "jwk": jwks["keys"][0]}))
        ),
        format!(
            "{}.{payload}.{signature}",
            encode(&json!({"alg": "EdDSA", "kid": [kid]}))
        ),
        hs256(x.as_bytes()),
        hs256(&URL_SAFE_NO_PAD.decode(x).unwrap()),
        hs256(b""),
    ]);
    for token in altered {
        assert!(!is_good(&token).await, "{token}");
    }

    // Signed by us and still not for this.
    let now = app.clock.now().timestamp();
    let config = &app.app.config;
    let sign = async |iss: &str, aud: &str, exp: i64| {
        let claims = Claims {
            iat: now,
            sub: &session.user_id,
            email: "ada@example.com",
            role: "user",
            sid: "x",
            tier: None,
            exp,
            iss,
            aud,
        };
        app.app.signing.sign(&claims).await.unwrap()
    };
    assert!(is_good(&sign(&config.jwt_issuer, &config.jwt_audience, now + 1).await).await);
    for other in [
        sign("https://other.example", &config.jwt_audience, now + 1).await,
        sign("", &config.jwt_audience, now + 1).await,
        sign(
            &format!("{}/", config.jwt_issuer),
            &config.jwt_audience,
            now + 1,
        )
        .await,
        sign(&config.jwt_issuer, "other", now + 1).await,
        sign(&config.jwt_issuer, "", now + 1).await,
        sign(&config.jwt_issuer, &config.jwt_audience, now).await,
        sign(&config.jwt_issuer, &config.jwt_audience, now - 1).await,
    ] {
        assert!(!is_good(&other).await, "{:?}", claims(&other));
    }
    app.clock.advance(TimeDelta::seconds(899));
    assert!(is_good(&token).await);
    app.clock.advance(TimeDelta::seconds(1));
    assert!(!is_good(&token).await, "after 15 minutes it is over");
}

/// S-34 for the token in a verification link.
#[tokio::test]
async fn an_altered_verification_token_is_refused_s34() {
    const SECRET: &str = "a-secret-of-this-test-0123456789";
    let app = TestApp::start(&[("BETTER_AUTH_SECRET", SECRET)]).await;
    app.sign_up("ada").await;
    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    app.effects_done().await;
    let token = link_token(&link).to_owned();
    let said = claims(&token);
    let mut altered: Vec<String> = (0..token.len())
        .map(|at| {
            let other = if token.as_bytes()[at] == b'A' {
                "B"
            } else {
                "A"
            };
            format!("{}{other}{}", &token[..at], &token[at + 1..])
        })
        .collect();
    let with = |name: &str, value: Value| {
        let mut claims = said.clone();
        claims[name] = value;
        jwt::sign_hs256(&claims, SECRET.as_bytes())
    };
    let payload = token.split('.').nth(1).unwrap();
    altered.extend([
        jwt::sign_hs256(&said, b"another secret"),
        jwt::sign_hs256(&said, b""),
        format!("{}.{payload}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#)),
        // Rightly signed, for something else or somebody else.
        with("userId", json!("other")),
        with("updateTo", json!("eve@example.com")),
        with("requestType", json!("change-email-verification")),
        with("email", json!(["ada@example.com"])),
        with("email", json!("")),
        with("exp", json!(app.clock.now().timestamp())),
        with("exp", json!("never")),
        with("exp", Value::Null),
    ]);
    let before = app.state().await;
    for token in altered {
        let answer = app
            .get(&format!("/api/auth/verify-email?token={token}"))
            .await;
        assert_eq!(
            answer.status,
            401,
            "{:?}: {}",
            claims_or_text(&token),
            answer.text
        );
    }
    assert_eq!(app.state().await, before);
    let unknown = app
        .get(&format!(
            "/api/auth/verify-email?token={}",
            with("email", json!("eve@example.com"))
        ))
        .await;
    assert_eq!(unknown.refusal(), (401, "USER_NOT_FOUND".to_owned()));
    assert_eq!(app.follow(&link).await.status, 302);
}

fn claims_or_text(token: &str) -> String {
    let payload = token
        .split('.')
        .nth(1)
        .and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    payload.map_or_else(
        || token.to_owned(),
        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
    )
}
