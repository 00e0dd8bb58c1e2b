//! Signing in by other providers: who is let in, who is not, and what happens when a provider does not play along.

#![cfg(test)]

use std::collections::BTreeMap;

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::client::{UNVERIFIED, answer};
use crate::provider::{CLIENT_ID, FakeProvider, ISSUER, person};
use crate::stage::{Stage, begun};

const ADA: &str = "ada@example.com";

#[tokio::test]
async fn somebody_new_gets_an_account_and_comes_back_to_it() {
    let stage = Stage::set(&[]).await;
    for id in ["oidc", "plain"] {
        let email = format!("{id}@example.com");
        stage.expect(id, person("s1", &email, true), "/new").await;
        // The provider's id of them is what counts, not the address of the day.
        stage
            .expect(id, person("s1", "new@example.com", true), "/in")
            .await;
        let came_back = stage.sign_in(id, person("s1", &email, true)).await;
        let session = stage
            .app
            .get_as("/api/auth/get-session", &came_back.session_cookie())
            .await;
        let user = &session.json()["user"];
        assert_eq!(
            (&user["email"], &user["emailVerified"], &user["name"]),
            (&json!(email), &json!(true), &json!("Fake User"))
        );
    }
    assert_eq!(stage.people().await, 2, "one at each provider");
}

/// The state is good once, however many come with it at the same time.
#[tokio::test]
async fn of_100_that_come_back_at_once_one_gets_in() {
    let stage = Stage::set(&[]).await;
    let begun = stage.begin("oidc").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let query = format!("code={code}");
    let answers = join_all((0..100).map(|_| stage.come_back("oidc", &begun, &query))).await;
    let (inside, outside): (Vec<_>, Vec<_>) = answers
        .iter()
        .map(|answer| answer.header("location"))
        .partition(|location| *location == "/new");
    assert_eq!(inside.len(), 1);
    // Whoever comes after its end does not even learn where it would have led.
    let refused = |location: &&str| location.ends_with("?error=state_mismatch");
    assert!(outside.iter().all(refused), "{outside:?}");
    let codes = stage
        .provider
        .with(|known| known.calls.iter().filter(|path| *path == "/token").count());
    assert_eq!(codes, 1, "the provider is asked once");
    assert_eq!(stage.app.count("read.sessions").await, 1);
}

#[tokio::test]
async fn a_state_counts_in_its_browser_and_for_ten_minutes() {
    let stage = Stage::set(&[]).await;
    let begun = stage.begin("oidc").await;
    let other = stage.begin("oidc").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let path = format!("/api/auth/callback/oidc?state={}&code={code}", begun.state);
    let oops = "/oops?error=state_mismatch";
    assert_eq!(stage.app.get(&path).await.header("location"), oops);
    let elsewhere = stage.app.get_as(&path, &other.cookie).await;
    assert_eq!(elsewhere.header("location"), oops);
    let (name, value) = begun.cookie.split_once('=').unwrap();
    let forged = format!(
        "{name}={}",
        value
            .replace("%3D", "%3d")
            .replace(&begun.state, &other.state)
    );
    assert_eq!(
        stage.app.get_as(&path, &forged).await.header("location"),
        oops
    );
    // None of them has used it up.
    let own = stage.app.get_as(&path, &begun.cookie).await;
    assert_eq!(own.header("location"), "/new");
    stage.app.clock.advance(TimeDelta::minutes(10));
    let late = stage.come_back("oidc", &other, "code=x").await;
    let error = format!(
        "{}/api/auth/error?error=state_mismatch",
        stage.app.app.config.base_url
    );
    assert_eq!(late.header("location"), error);
}

/// PKCE: a code that was given for another sign-in is worth nothing, whoever has stolen it.
#[tokio::test]
async fn a_code_of_another_sign_in_is_refused_by_its_verifier() {
    let stage = Stage::set(&[]).await;
    let (own, victims) = (stage.begin("plain").await, stage.begin("plain").await);
    let stolen = stage.agree(&victims, person("victim", ADA, true));
    let came_back = stage
        .come_back("plain", &own, &format!("code={stolen}"))
        .await;
    assert_eq!(came_back.header("location"), "/oops?error=invalid_code");
    assert_eq!(stage.people().await, 0);
}

#[tokio::test]
async fn an_id_token_of_another_sign_in_or_for_somebody_else_is_refused() {
    let stage = Stage::set(&[]).await;
    let now = stage.app.clock.now().timestamp();
    for (name, value, code) in [
        ("nonce", json!("another"), "nonce_binding_missing"),
        ("nonce", Value::Null, "nonce_binding_missing"),
        (
            "iss",
            json!("https://evil.example"),
            "unable_to_get_user_info",
        ),
        ("aud", json!("another-client"), "unable_to_get_user_info"),
        ("exp", json!(now - 61), "unable_to_get_user_info"),
    ] {
        stage
            .provider
            .with(|known| known.id_token = Some(BTreeMap::from([(name, value.clone())])));
        let location = format!("/oops?error={code}");
        stage
            .expect("oidc", person("s1", ADA, true), &location)
            .await;
    }
    stage.provider.with(|known| known.id_token = None);
    stage
        .expect(
            "oidc",
            person("s1", ADA, true),
            "/oops?error=unable_to_get_user_info",
        )
        .await;
    assert_eq!(stage.people().await, 0);
}

/// Mix-up: an answer counts only from the provider that somebody was sent to (RFC 9207).
#[tokio::test]
async fn an_answer_of_another_provider_is_refused() {
    let stage = Stage::set(&[]).await;
    let begun = stage.begin("oidc").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let query = format!("code={code}");
    let elsewhere = stage.come_back("plain", &begun, &query).await;
    assert_eq!(elsewhere.header("location"), "/oops?error=state_mismatch");
    let nowhere = stage.come_back("nope", &begun, &query).await;
    assert_eq!(
        nowhere.header("location"),
        "/oops?error=oauth_provider_not_found"
    );
    let foreign = stage
        .come_back("oidc", &begun, &format!("{query}&iss=https://evil.example"))
        .await;
    assert_eq!(foreign.header("location"), "/oops?error=issuer_mismatch");
    assert!(
        stage.provider.with(|known| known.calls.is_empty()),
        "the code was sent nowhere"
    );
    let begun = stage.begin("plain").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let query = format!("code={code}&iss=https://plain.example");
    let unknown = stage.come_back("plain", &begun, &query).await;
    assert_eq!(
        unknown.header("location"),
        "/new",
        "no issuer is configured"
    );
    let begun = stage.begin("oidc").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let own = stage
        .come_back("oidc", &begun, &format!("code={code}&iss={ISSUER}"))
        .await;
    assert_eq!(own.header("location"), "/in");
}

/// S-67: who made an account for an address first is not who has the address.
#[tokio::test]
async fn an_account_that_waits_for_somebody_elses_address_is_not_joined_s67() {
    let stage = Stage::set(&[UNVERIFIED]).await;
    let waiting = stage.app.signed_in("ada").await;
    let oops = "/oops?error=account_not_linked";
    stage.expect("oidc", person("owner", ADA, true), oops).await;
    let accounts = stage
        .app
        .get_as("/api/auth/list-accounts", &waiting.cookie)
        .await;
    assert_eq!(accounts.json().as_array().unwrap().len(), 1);
    // Nor does a provider that only repeats what it was told get anybody into a proven account.
    stage.app.verified("bob").await;
    stage
        .expect("oidc", person("stranger", "bob@example.com", false), oops)
        .await;
    assert_eq!(stage.people().await, 2);
    stage
        .expect("oidc", person("owner", "bob@example.com", true), "/in")
        .await;
}

/// S-67, the other way round: nobody waits by a provider that proves no addresses.
#[tokio::test]
async fn an_unproven_address_makes_no_account_where_proof_is_asked_for_s67() {
    let stage = Stage::set(&[]).await;
    stage
        .expect(
            "plain",
            person("s1", ADA, false),
            "/oops?error=email_not_verified",
        )
        .await;
    // Whether the address has an account is nobody's to find out this way (S-22).
    stage.app.verified("ada").await;
    let location = "/oops?error=email_not_verified";
    stage
        .expect("plain", person("s1", ADA, false), location)
        .await;
    let nobody = json!({"sub": "s2", "email_verified": true});
    stage
        .expect("plain", nobody, "/oops?error=email_not_found")
        .await;
    assert_eq!((stage.people().await, stage.app.mails().len()), (1, 1));
}

#[tokio::test]
async fn whoever_is_banned_stays_out_and_the_limit_of_the_day_holds() {
    let stage = Stage::set(&[("MAX_DAILY_SIGNUPS", "1")]).await;
    stage.expect("oidc", person("s1", ADA, true), "/new").await;
    stage
        .expect(
            "oidc",
            person("s2", "bob@example.com", true),
            "/oops?error=signup_disabled",
        )
        .await;
    let banned = "update read.users set banned = true";
    sqlx::query(banned).execute(&stage.app.admin).await.unwrap();
    for subject in ["s1", "s3"] {
        let refused = stage.sign_in("oidc", person(subject, ADA, true)).await;
        assert_eq!(refused.refusal(), (403, "BANNED_USER".to_owned()));
    }
    let links = stage.app.count("read.accounts").await;
    assert_eq!(links, 1, "nothing is linked to a banned account");
}

#[tokio::test]
async fn a_second_factor_is_asked_for_where_that_is_configured() {
    let stage = Stage::set(&[("MANA_AUTH_TWO_FACTOR_ALWAYS", "true")]).await;
    stage.expect("oidc", person("s1", ADA, true), "/new").await;
    let enabled = "update read.users set two_factor_enabled = true";
    sqlx::query(enabled)
        .execute(&stage.app.admin)
        .await
        .unwrap();
    let waits = stage.sign_in("oidc", person("s1", ADA, true)).await;
    assert_eq!(
        (waits.status, waits.json()["twoFactorRedirect"].clone()),
        (302, json!(true))
    );
    assert_eq!(waits.session_cookie(), "");
    assert!(
        waits
            .cookies()
            .iter()
            .any(|line| line.contains(".two_factor="))
    );
}

/// A provider that is down, or answers nonsense, costs a sign-in and nothing else.
#[tokio::test]
async fn a_provider_that_fails_leaves_nothing_behind() {
    let stage = Stage::set(&[]).await;
    for (id, path, code) in [
        ("plain", "/token", "invalid_code"),
        ("plain", "/userinfo", "unable_to_get_user_info"),
        ("oidc", "/jwks", "unable_to_get_user_info"),
    ] {
        stage.provider.with(|known| known.down = vec![path]);
        let location = format!("/oops?error={code}");
        stage.expect(id, person("s1", ADA, true), &location).await;
    }
    stage.provider.with(|known| known.down.clear());
    for nonsense in [
        json!([]),
        json!({}),
        json!({"sub": ""}),
        json!("x".repeat(300 * 1024)),
    ] {
        stage.provider.with(|known| known.userinfo = Some(nonsense));
        let location = "/oops?error=unable_to_get_user_info";
        stage
            .expect("plain", person("s1", ADA, true), location)
            .await;
    }
    stage.provider.with(|known| known.userinfo = None);
    assert_eq!(stage.people().await, 0);
    for table in ["read.sessions", "read.accounts", "tokens", "claims"] {
        assert_eq!(stage.app.count(table).await, 0, "{table}");
    }
    stage.expect("plain", person("s1", ADA, true), "/new").await;
}

/// S-46: what is configured counts for nothing if it leads into the private network.
#[tokio::test]
async fn no_provider_leads_into_the_private_network_s46() {
    let provider = FakeProvider::start().await;
    let port = provider.url.rsplit_once(':').unwrap().1.to_owned();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        let mut settings = provider.settings("plain", false);
        for (name, url) in &mut settings {
            if name.ends_with("TOKEN_URL") || name.ends_with("USERINFO_URL") {
                *url = format!("https://{host}:{port}/token");
            }
        }
        settings.push((
            "MANA_AUTH_ALLOW_PRIVATE_PROVIDERS".to_owned(),
            "false".to_owned(),
        ));
        let stage = Stage::with(FakeProvider::start().await, settings).await;
        let oops = "/oops?error=invalid_code";
        stage.expect("plain", person("s1", ADA, true), oops).await;
    }
    assert!(provider.with(|known| known.calls.is_empty()));
}

#[tokio::test]
async fn two_that_come_first_at_the_same_moment_share_one_account() {
    let stage = Stage::set(&[]).await;
    let both = join_all((0..4).map(|_| stage.sign_in("oidc", person("s1", ADA, true)))).await;
    let new = both
        .iter()
        .filter(|answer| answer.header("location") == "/new")
        .count();
    assert!(
        both.iter()
            .all(|answer| !answer.session_cookie().is_empty())
    );
    assert_eq!((new, stage.people().await), (1, 1));
}

#[tokio::test]
async fn an_id_token_signs_in_by_itself() {
    let stage = Stage::set(&[]).await;
    let now = stage.app.clock.now().timestamp();
    let claims = |nonce: Option<&str>| {
        let mut claims = person("s1", ADA, true);
        claims["iss"] = json!(ISSUER);
        claims["aud"] = json!(CLIENT_ID);
        (claims["iat"], claims["exp"]) = (json!(now), json!(now + 300));
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        stage.provider.id_token(&claims)
    };
    let try_token = async |id: &str, token: String, nonce: Option<&str>| {
        let mut shown = json!({"token": token});
        if let Some(nonce) = nonce {
            shown["nonce"] = json!(nonce);
        }
        let body = json!({"provider": id, "idToken": shown});
        stage.app.post("/api/auth/sign-in/social", &body).await
    };
    let invalid = (401, "INVALID_TOKEN".to_owned());
    for (token, nonce) in [
        (claims(Some("n1")), None),
        (claims(Some("n1")), Some("n2")),
        (claims(None), Some("n1")),
        ("a.b.c".to_owned(), None),
    ] {
        assert_eq!(try_token("oidc", token, nonce).await.refusal(), invalid);
    }
    let unsupported = try_token("plain", claims(None), None).await;
    assert_eq!(
        unsupported.refusal(),
        (404, "ID_TOKEN_NOT_SUPPORTED".to_owned())
    );
    let signed_in = try_token("oidc", claims(Some("n1")), Some("n1")).await;
    assert_eq!(signed_in.json()["user"]["email"], ADA);
    assert!(stage.app.is_live(&signed_in.session_cookie()).await);
    // What was granted before stays, since the token says nothing of it.
    let begun_before = stage.sign_in("oidc", person("s1", ADA, true)).await;
    assert_eq!(begun_before.header("location"), "/in");
    let again = try_token("oidc", claims(None), None).await;
    let accounts = "/api/auth/list-accounts";
    let accounts = stage.app.get_as(accounts, &again.session_cookie()).await;
    let scopes = json!(["openid", "email", "profile"]);
    assert_eq!(accounts.json()[0]["scopes"], scopes);
    stage.app.clock.advance(TimeDelta::seconds(361));
    assert_eq!(
        try_token("oidc", claims(None), None).await.refusal(),
        invalid
    );
}

/// What a provider comes back with in a form becomes a query, whoever sends the form: nothing happens yet.
#[tokio::test]
async fn a_form_of_the_providers_page_becomes_a_query() {
    let stage = Stage::set(&[]).await;
    let begun = stage.begin("oidc").await;
    let code = stage.agree(&begun, person("s1", ADA, true));
    let form = [
        ("code", code.as_str()),
        ("state", &begun.state),
        ("user", "{}"),
    ];
    let request = stage
        .app
        .request("POST", "/api/auth/callback/oidc")
        .form(&form);
    let redirected = answer(request.header("origin", ISSUER)).await;
    assert_eq!(redirected.status, 302);
    let base = &stage.app.app.config.base_url;
    let path = redirected
        .header("location")
        .strip_prefix(base.as_str())
        .unwrap();
    let came_back = stage.app.get_as(path, &begun.cookie).await;
    assert_eq!(came_back.header("location"), "/new");
    let long = [("code", "x".repeat(5000))];
    let request = stage
        .app
        .request("POST", "/api/auth/callback/oidc")
        .form(&long);
    assert_eq!(
        answer(request).await.refusal(),
        (400, "VALIDATION_ERROR".to_owned())
    );
}

/// What is asked for goes into an address, and waits in the database.
#[tokio::test]
async fn nobody_asks_for_more_than_an_address_holds() {
    let stage = Stage::set(&[]).await;
    let long = "x".repeat(4097);
    for (name, value) in [
        ("loginHint", json!(long)),
        ("callbackURL", json!(format!("/{long}"))),
        ("scopes", json!([long])),
        ("scopes", json!(["a", 1])),
        ("scopes", json!("a")),
        ("additionalParams", json!({"prompt": long})),
        ("additionalParams", json!({"prompt": 1})),
        ("additionalParams", json!({"nonce": "n"})),
        ("idToken", json!({"nonce": "n"})),
        ("idToken", json!("a.b.c")),
    ] {
        let mut body = json!({"provider": "oidc"});
        body[name] = value;
        let refused = stage.app.post("/api/auth/sign-in/social", &body).await;
        let wanted = (400, "VALIDATION_ERROR".to_owned());
        assert_eq!(refused.refusal(), wanted, "{name}: {}", refused.text);
    }
    let body = json!({"provider": "oidc", "additionalParams": {"prompt": "login"}});
    let begun = begun(&stage.app.post("/api/auth/sign-in/social", &body).await);
    assert!(begun.url.ends_with("&prompt=login") && begun.url.contains("&nonce="));
    assert_eq!(stage.app.count("tokens").await, 1);
}
