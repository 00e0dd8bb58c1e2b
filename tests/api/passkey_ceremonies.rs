//! The ceremonies of passkeys: what proves nothing, what works once, and what counts as two factors.

#![cfg(test)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::json;

use crate::authenticator::{Authenticator, PRESENT, VERIFIED};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED};
use crate::harness::TestApp;
use crate::malformed_passkeys;
use crate::passkeys::{ADD, OWN_SIGN_IN, SIGN_IN, add, begin, end, refusal, security_log, sign_in};

/// S-54: an answer that is wrong in any one way proves nothing, and spends its challenge.
#[tokio::test]
async fn no_malformed_assertion_signs_in_s54() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let key = Authenticator::new();
    add(&app, &ada, &key).await;
    assert_eq!(sign_in(&app, &key).await.status, 200);
    let sessions = app.count("read.sessions").await;
    let cases = malformed_passkeys::assertions();
    assert!(cases.len() >= 30, "{}", cases.len());
    for (what, answer_with) in &cases {
        let begun = begin(&app, "authenticate", "").await;
        let response = answer_with(&key, &begun.options);
        let refused = end(&app, SIGN_IN, &begun.cookie, &response).await;
        let known = response["id"] == json!(key.id());
        let (status, code) = if known {
            (400, "AUTHENTICATION_FAILED")
        } else {
            (401, "PASSKEY_NOT_FOUND")
        };
        assert_eq!(refused.refusal(), (status, code.to_owned()), "{what}");
        // A good answer comes too late.
        let late = end(&app, SIGN_IN, &begun.cookie, &key.get(&begun.options)).await;
        refusal(&late, 400, "CHALLENGE_NOT_FOUND");
    }
    assert_eq!(app.count("read.sessions").await, sessions);
    let log = security_log(&app, &ada).await;
    let failures = log.iter().filter(|line| *line == "passkey_login_failure");
    assert!(failures.count() >= 30, "{log:?}");
}

/// S-54: nor does one make a passkey.
#[tokio::test]
async fn no_malformed_attestation_is_added_s54() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    for (what, answer_with) in malformed_passkeys::attestations() {
        let begun = begin(&app, "register", &ada.cookie).await;
        let cookies = format!("{}; {}", ada.cookie, begun.cookie);
        let response = answer_with(&Authenticator::new(), &begun.options);
        let refused = end(&app, ADD, &cookies, &response).await;
        let wanted = (400, "FAILED_TO_VERIFY_REGISTRATION".to_owned());
        assert_eq!(refused.refusal(), wanted, "{what}");
    }
    assert_eq!(app.count("read.passkeys").await, 0);
}

/// S-54: of a hundred that send the same good answer at once, to two nodes, one gets in.
#[tokio::test]
async fn of_100_redemptions_of_one_challenge_at_once_one_wins_s54() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let mut key = Authenticator::new();
    add(&app, &ada, &key).await;
    for (path, code) in [
        (SIGN_IN, "CHALLENGE_NOT_FOUND"),
        (OWN_SIGN_IN, "PASSKEY_VERIFICATION_FAILED"),
    ] {
        key.counter += 1;
        let begun = begin(&app, "authenticate", "").await;
        let response = key.get(&begun.options);
        let tries = (0..100).map(|number| {
            let (at, begun, response) = ([&app, &node][number % 2], &begun, &response);
            async move { end(at, path, &begun.cookie, response).await }
        });
        let (entered, refused): (Vec<Answer>, Vec<Answer>) = join_all(tries)
            .await
            .into_iter()
            .partition(|answer| answer.status == 200);
        assert_eq!((entered.len(), refused.len()), (1, 99), "{path}");
        assert!(refused.iter().all(|answer| answer.refusal().1 == code));
    }
    // The same when a passkey is added.
    let begun = begin(&app, "register", &ada.cookie).await;
    let cookies = format!("{}; {}", ada.cookie, begun.cookie);
    let response = Authenticator::new().create(&begun.options);
    let tries = (0..100).map(|number| {
        let (at, cookies, response) = ([&app, &node][number % 2], &cookies, &response);
        async move { end(at, ADD, cookies, response).await.status }
    });
    let answers = join_all(tries).await;
    assert_eq!(answers.iter().filter(|status| **status == 200).count(), 1);
    assert_eq!(app.count("read.passkeys").await, 2);
}

/// S-54: a challenge is for its ceremony and its person, for five minutes, and for whoever holds its cookie.
#[tokio::test]
async fn a_challenge_is_for_one_ceremony_of_one_person_s54() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, eve) = (app.signed_in("ada").await, app.signed_in("eve").await);
    let (key, other) = (Authenticator::new(), Authenticator::new());
    add(&app, &ada, &key).await;
    add(&app, &eve, &other).await;

    let begun = begin(&app, "register", &ada.cookie).await;
    let signed = end(&app, SIGN_IN, &begun.cookie, &key.get(&begun.options)).await;
    refusal(&signed, 400, "CHALLENGE_NOT_FOUND");
    let made = Authenticator::new().create(&begun.options);
    let foreign = format!("{}; {}", eve.cookie, begun.cookie);
    let refused = end(&app, ADD, &foreign, &made).await;
    let not_yours = "YOU_ARE_NOT_ALLOWED_TO_REGISTER_THIS_PASSKEY";
    refusal(&refused, 401, not_yours);

    let begun = begin(&app, "authenticate", "").await;
    let cookies = format!("{}; {}", ada.cookie, begun.cookie);
    let made = Authenticator::new().create(&begun.options);
    refusal(
        &end(&app, ADD, &cookies, &made).await,
        400,
        "CHALLENGE_NOT_FOUND",
    );

    // Whoever is signed in, and has passkeys, was asked for one of them.
    let begun = begin(&app, "authenticate", &ada.cookie).await;
    assert_eq!(
        begun.options["allowCredentials"][0]["id"],
        json!(key.id()),
        "{}",
        begun.options
    );
    let refused = end(&app, SIGN_IN, &begun.cookie, &other.get(&begun.options)).await;
    refusal(&refused, 400, "AUTHENTICATION_FAILED");

    let begun = begin(&app, "authenticate", "").await;
    let unsigned = begun
        .cookie
        .split('.')
        .take(2)
        .collect::<Vec<_>>()
        .join(".");
    for cookie in ["", &unsigned] {
        let refused = end(&app, SIGN_IN, cookie, &key.get(&begun.options)).await;
        refusal(&refused, 400, "CHALLENGE_NOT_FOUND");
    }
    app.clock.advance(TimeDelta::minutes(5));
    let late = end(&app, SIGN_IN, &begun.cookie, &key.get(&begun.options)).await;
    refusal(&late, 400, "CHALLENGE_NOT_FOUND");
    assert_eq!(sign_in(&app, &key).await.status, 200);
}

/// S-54: a count that does not go up may be a copy's: it is refused on every node, and told.
#[tokio::test]
async fn a_count_that_goes_back_is_refused_and_an_event_s54() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let mut key = Authenticator::new();
    key.counter = 3;
    add(&app, &ada, &key).await;
    let events = app.count("events").await;
    for (at, counter, enters) in [
        (&app, 3, false),
        (&app, 7, true),
        (&node, 7, false),
        (&node, 0, false),
        (&node, 8, true),
        (&app, 4, false),
        (&app, u32::MAX, true),
    ] {
        key.counter = counter;
        let answer = sign_in(at, &key).await;
        assert_eq!(answer.status == 200, enters, "{counter}: {}", answer.text);
        if !enters {
            refusal(&answer, 400, "AUTHENTICATION_FAILED");
        }
    }
    let told = "events where event_type = 'user.passkey_counter_went_back'";
    assert_eq!(app.count(told).await, 4);
    assert_eq!(
        app.count("events").await - events,
        4 + 3,
        "a use that is good is the session's event alone"
    );
    let shown = app.get_as("/api/auth/passkey/list-user-passkeys", &ada.cookie);
    assert_eq!(shown.await.json()[0]["counter"], json!(u32::MAX));
}

/// Asks for a second factor from now on.
async fn with_second_factor(app: &TestApp, session: &Session) -> Session {
    let body = json!({"password": PASSWORD, "method": "otp"});
    let enabled = app
        .post_as("/api/auth/two-factor/enable", &session.cookie, &body)
        .await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    Session {
        cookie: enabled.session_cookie(),
        ..session.clone()
    }
}

/// S-55: only a passkey that has verified its person is both factors.
#[tokio::test]
async fn a_passkey_counts_as_both_factors_only_if_it_verified_the_person_s55() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let ada = with_second_factor(&app, &ada).await;
    let mut key = Authenticator::new();
    add(&app, &ada, &key).await;
    for path in [SIGN_IN, OWN_SIGN_IN] {
        key.flags = PRESENT | VERIFIED;
        let begun = begin(&app, "authenticate", "").await;
        let entered = end(&app, path, &begun.cookie, &key.get(&begun.options)).await;
        assert!(app.is_live(&entered.session_cookie()).await, "{path}");

        key.flags = PRESENT;
        let begun = begin(&app, "authenticate", "").await;
        let asked = end(&app, path, &begun.cookie, &key.get(&begun.options)).await;
        assert_eq!(asked.session_cookie(), "");
        let wanted = json!({"twoFactorRedirect": true, "twoFactorMethods": ["otp"]});
        assert_eq!(asked.json(), wanted, "{path}");
    }
    // Without a second factor there is nothing to ask for, unless the operator insists.
    let eve = app.signed_in("eve").await;
    let mut other = Authenticator::new();
    other.flags = PRESENT;
    add(&app, &eve, &other).await;
    assert_eq!(sign_in(&app, &other).await.status, 200);
    let strict = [
        UNVERIFIED,
        ("MANA_AUTH_PASSKEY_USER_VERIFICATION", "required"),
    ];
    let strict = app.node(&strict).await;
    let begun = begin(&strict, "authenticate", "").await;
    assert_eq!(begun.options["userVerification"], json!("required"));
    refusal(
        &sign_in(&strict, &other).await,
        400,
        "AUTHENTICATION_FAILED",
    );
    other.flags |= VERIFIED;
    assert_eq!(sign_in(&strict, &other).await.status, 200);
}

/// S-26: what a ceremony shows on the wire is not in the database, and the one that only looked is not there at all.
#[tokio::test]
async fn no_challenge_is_in_the_database_s26() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    for (what, session) in [("register", ada.cookie.as_str()), ("authenticate", "")] {
        let begun = begin(&app, what, session).await;
        let id = begun.cookie.split_once('=').unwrap().1;
        let id = id.split('.').next().unwrap();
        let dump = app.dump().await;
        for secret in [id, begun.options["challenge"].as_str().unwrap()] {
            assert!(secret.len() >= 32);
            assert!(!dump.contains(secret), "{what}");
        }
    }
}
