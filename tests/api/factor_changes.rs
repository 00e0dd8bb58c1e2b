//! Who sees a second factor, whose it is, and who hears that one is gone.

#![cfg(test)]

use futures_util::future::join_all;
use mana_auth::http::doors::areas;
use serde_json::{Value, json};

use crate::account::last_link;
use crate::authenticator::Authenticator;
use crate::client::{ORIGIN, PASSWORD, UNVERIFIED, answer};
use crate::harness::TestApp;
use crate::passkeys;
use crate::two_factor::{Careful, challenge, cookie_of, show, show_code};

/// S-51: nobody is asked for a second factor before they have shown that their app has it.
#[tokio::test]
async fn a_second_factor_counts_from_the_first_good_code_s51() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let body = json!({"password": PASSWORD});
    let enabled = show(&app, "enable", &ada.cookie, &body).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    for code in ["000000", "", "12345x", "1234567"] {
        let refused = show_code(&app, "verify-totp", &ada.cookie, code).await;
        assert!((400..500).contains(&refused.status), "{}", refused.text);
    }
    let entered = app.try_sign_in("ada", PASSWORD).await.json();
    assert!(entered["token"].is_string(), "{entered}");
    assert_eq!(entered["user"]["twoFactorEnabled"], json!(false));
}

/// S-51: what an app was set up with is shown by one route, to its owner with their password.
#[tokio::test]
async fn a_secret_is_shown_by_one_route_only_s51() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let mut ada = Careful::start(&app, "ada").await;
    let mut shown = Vec::new();
    for (number, (prefix, door)) in areas()
        .iter()
        .flat_map(|(prefix, doors)| doors.iter().map(move |door| (prefix, door)))
        .enumerate()
    {
        if !app.is_live(&ada.session.cookie).await {
            ada = Careful::start(&app, &format!("ada{number}")).await;
        }
        let path = format!("{prefix}{}", door.path);
        if path.ends_with("/two-factor/enable") {
            // That makes another secret, and shows it.
            continue;
        }
        let request = app.request(door.method.as_str(), &path.replace(['{', '}'], ""));
        let request = request.json(&json!({"password": PASSWORD}));
        let request = request.header("cookie", &ada.session.cookie);
        let seen = answer(request.header("origin", ORIGIN)).await;
        if seen.text.contains(&ada.secret()) {
            shown.push(path);
        }
    }
    assert_eq!(shown, ["/api/auth/two-factor/get-totp-uri"]);
    let secret = ada.secret();
    for body in [json!({"password": "wrong"}), json!({})] {
        let seen = show(&app, "get-totp-uri", &ada.session.cookie, &body).await;
        assert_eq!(seen.status, 400, "{}", seen.text);
        assert!(!seen.text.contains(&secret));
    }
}

/// S-50, S-52: a code is good for whom it was made, as it was made.
#[tokio::test]
async fn codes_of_somebody_else_are_worth_nothing_s52() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let bob = Careful::start(&app, "bob").await;
    let cookie = challenge(&app, "ada").await;
    let spaced = |code: &str| format!("{} {}", &code[..3], &code[3..]);
    for (what, code) in [
        ("verify-backup-code", bob.codes[0].clone()),
        ("verify-totp", bob.code(&app)),
        ("verify-totp", spaced(&ada.code(&app))),
    ] {
        let refused = show_code(&app, what, &cookie, &code).await;
        assert_eq!(refused.status, 401, "{what}: {}", refused.text);
    }
    let good = show_code(&app, "verify-backup-code", &cookie, &ada.codes[0]).await;
    assert_eq!(good.status, 200, "{}", good.text);
    // Bob's was not used up.
    let cookie = challenge(&app, "bob").await;
    let good = show_code(&app, "verify-backup-code", &cookie, &bob.codes[0]).await;
    assert_eq!(good.status, 200, "{}", good.text);
}

/// S-53: whoever's account is protected by less is told, once for each change, and the link ends all sessions.
#[tokio::test]
async fn who_loses_a_factor_is_mailed_s53() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let email = "ada@example.com";
    let ada = Careful::start(&app, "ada").await;
    let disable = async |cookie: &str, password: &str| {
        let body = json!({"password": password});
        show(&app, "disable", cookie, &body).await
    };
    let refused = disable(&ada.session.cookie, "wrong").await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(app.mails_of("two_factor_disabled", email).await, 0);
    let off = disable(&ada.session.cookie, PASSWORD).await;
    let cookie = cookie_of(&off, "session_token").unwrap();
    assert_eq!(app.mails_of("two_factor_disabled", email).await, 1);
    disable(&cookie, PASSWORD).await;
    let twice = app.mails_of("two_factor_disabled", email).await;
    assert_eq!(twice, 1, "there was none to lose");

    let session = app.sign_in("ada").await;
    for route in ["wire", "apps"] {
        passkeys::add(&app, &session, &Authenticator::new()).await;
        let before = app.mails_of("passkey_removed", email).await;
        let own = app
            .get_as("/api/auth/passkey/list-user-passkeys", &session.cookie)
            .await;
        let own: Value = own.json();
        let id = own[0]["id"].as_str().unwrap();
        let remove = async |id: &str| {
            if route == "wire" {
                let body = json!({"id": id});
                app.post_as("/api/auth/passkey/delete-passkey", &session.cookie, &body)
                    .await
            } else {
                let request = app.request("DELETE", &format!("/api/v1/auth/passkeys/{id}"));
                let request = request.header("cookie", &session.cookie);
                answer(request.header("origin", ORIGIN)).await
            }
        };
        assert_eq!(remove("x").await.status, 404);
        assert_eq!(app.mails_of("passkey_removed", email).await, before);
        assert_eq!(remove(id).await.status, 200);
        assert_eq!(app.mails_of("passkey_removed", email).await, before + 1);
    }
    for kind in ["two_factor_disabled", "passkey_removed"] {
        let session = app.sign_in("ada").await;
        let link = last_link(&app, kind, email).await;
        let (_, token) = link.split_once("/api/v1/auth/end-sessions?token=").unwrap();
        let body = json!({"token": token});
        let ended = app.post("/api/v1/auth/end-sessions", &body).await;
        assert_eq!(ended.status, 200, "{}", ended.text);
        assert!(!app.is_live(&session.cookie).await);
    }
}

/// Where mailed codes are switched off, they are no second factor and nobody is offered one.
#[tokio::test]
async fn mailed_codes_can_be_switched_off() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TWO_FACTOR_OTP", "false")]).await;
    let refusal = (400, "OTP_NOT_CONFIGURED".to_owned());
    let ada = app.signed_in("ada").await;
    let body = json!({"password": PASSWORD, "method": "otp"});
    let refused = show(&app, "enable", &ada.cookie, &body).await;
    assert_eq!(refused.refusal(), refusal, "{}", refused.text);
    let bob = Careful::start(&app, "bob").await;
    let entered = app.try_sign_in("bob", PASSWORD).await.json();
    assert_eq!(entered["twoFactorMethods"], json!(["totp"]), "{entered}");
    let cookie = challenge(&app, "bob").await;
    for cookie in [&cookie, &bob.session.cookie] {
        let refused = show(&app, "send-otp", cookie, &json!({})).await;
        assert_eq!(refused.refusal(), refusal, "{}", refused.text);
    }
    app.effects_done().await;
    assert_eq!(app.mails_of("sign_in_code", "bob@example.com").await, 0);
}

/// S-19: of a hundred wrong codes that come at once on two nodes, in twenty challenges, ten are looked at; then also the
/// right one is not.
#[tokio::test]
async fn of_100_wrong_codes_at_once_ten_are_looked_at_s19() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let mut challenges = vec![];
    for _ in 0..20 {
        challenges.push(challenge(&app, "ada").await);
    }
    let tries = (0..100).map(|n| {
        let what = ["verify-totp", "verify-backup-code"][n / 2 % 2];
        let code = if what == "verify-totp" {
            ada.wrong_code(&app)
        } else {
            format!("{n:05}-wrong")
        };
        let (at, cookie) = ([&app, &node][n % 2], &challenges[n % 20]);
        async move { show_code(at, what, cookie, &code).await }
    });
    let answers = join_all(tries).await;
    let wrong = ["INVALID_CODE", "INVALID_BACKUP_CODE"];
    let looked_at = answers
        .iter()
        .filter(|answer| wrong.contains(&answer.refusal().1.as_str()));
    assert_eq!(looked_at.count(), 10);
    assert!(
        answers
            .iter()
            .all(|answer| (400..500).contains(&answer.status))
    );
    let cookie = challenge(&app, "ada").await;
    let late = show_code(&node, "verify-totp", &cookie, &ada.code(&app)).await;
    assert_eq!(late.status, 429, "{}", late.text);
}
