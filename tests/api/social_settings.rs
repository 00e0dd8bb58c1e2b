//! What an operator may ask of a provider: that it says who it is, and that it makes accounts on request only.

#![cfg(test)]

use serde_json::{Value, json};

use crate::client::{Answer, UNVERIFIED};
use crate::provider::{CLIENT_ID, ISSUER, person};
use crate::stage::{Stage, begun};

const ON_REQUEST: [(&str, &str); 2] = [
    ("MANA_AUTH_SOCIAL_OIDC_DISABLE_IMPLICIT_SIGN_UP", "true"),
    ("MANA_AUTH_SOCIAL_PLAIN_DISABLE_IMPLICIT_SIGN_UP", "true"),
];
const NAMED: (&str, &str) = ("MANA_AUTH_SOCIAL_OIDC_REQUIRE_ISSUER", "true");
const ADA: &str = "ada@example.com";

/// The whole way of somebody who has asked for an account, or has not.
async fn come_back(stage: &Stage, id: &str, requests: Option<bool>, claims: Value) -> Answer {
    let mut body = json!({"provider": id, "callbackURL": "/in", "newUserCallbackURL": "/new", "errorCallbackURL": "/oops"});
    if let Some(requests) = requests {
        body["requestSignUp"] = json!(requests);
    }
    let begun = begun(&stage.app.post("/api/auth/sign-in/social", &body).await);
    let code = stage.agree(&begun, claims);
    stage.come_back(id, &begun, &format!("code={code}")).await
}

#[tokio::test]
async fn where_accounts_are_made_on_request_nobody_gets_one_without() {
    let stage = Stage::set(&ON_REQUEST).await;
    for (number, id) in ["oidc", "plain"].into_iter().enumerate() {
        let claims = || person("s1", &format!("{id}@example.com"), true);
        for requests in [None, Some(false)] {
            let refused = come_back(&stage, id, requests, claims()).await;
            assert_eq!(refused.header("location"), "/oops?error=signup_disabled");
            assert_eq!(refused.session_cookie(), "");
        }
        assert_eq!(stage.people().await, i64::try_from(number).unwrap());
        let made = come_back(&stage, id, Some(true), claims()).await;
        assert_eq!(made.header("location"), "/new");
        // Whoever has one comes back to it as ever.
        let known = come_back(&stage, id, None, claims()).await;
        assert_eq!(known.header("location"), "/in");
    }
}

/// The same for whoever shows an ID token; and whoever has an account already links it as ever.
#[tokio::test]
async fn an_id_token_makes_an_account_on_request_only() {
    let stage = Stage::set(&[ON_REQUEST[0], UNVERIFIED]).await;
    let now = stage.app.clock.now().timestamp();
    let mut claims = person("s1", ADA, true);
    for (name, value) in [
        ("iss", json!(ISSUER)),
        ("aud", json!(CLIENT_ID)),
        ("iat", json!(now)),
        ("exp", json!(now + 300)),
    ] {
        claims[name] = value;
    }
    let token = stage.provider.id_token(&claims);
    let mut body = json!({"provider": "oidc", "idToken": {"token": token}});
    let refused = stage.app.post("/api/auth/sign-in/social", &body).await;
    assert_eq!(refused.refusal(), (401, "OAUTH_LINK_ERROR".to_owned()));
    assert_eq!(refused.json()["message"], "signup disabled");
    assert_eq!(stage.people().await, 0);
    body["requestSignUp"] = json!(true);
    let made = stage.app.post("/api/auth/sign-in/social", &body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(stage.people().await, 1);
}

/// RFC 9207: who leads back without a name, or with another one, is not the provider that was asked.
#[tokio::test]
async fn a_provider_that_has_to_say_who_it_is_does() {
    let stage = Stage::set(&[NAMED]).await;
    for (query, location) in [
        ("", "/oops?error=issuer_missing"),
        ("&iss=", "/oops?error=issuer_missing"),
        ("&iss=https://evil.example", "/oops?error=issuer_mismatch"),
    ] {
        let begun = stage.begin("oidc").await;
        let code = stage.agree(&begun, person("s1", ADA, true));
        let query = format!("code={code}{query}");
        let refused = stage.come_back("oidc", &begun, &query).await;
        assert_eq!(refused.header("location"), location);
        assert_eq!(refused.session_cookie(), "");
    }
    let asked = stage.provider.with(|known| known.calls.len());
    assert_eq!(asked, 0, "the code was sent nowhere");
    let begun = stage.begin("oidc").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let query = format!("code={code}&iss={ISSUER}");
    let named = stage.come_back("oidc", &begun, &query).await;
    assert_eq!(named.header("location"), "/new");
}
