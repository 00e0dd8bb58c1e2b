//! Second factors: what counts, how often, and what they keep closed.

#![cfg(test)]

use chrono::TimeDelta;
use futures_util::future::join_all;
use serde_json::{Value, json};
use totp_rs::{Algorithm, Builder, Secret, Totp};

use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, session_of};
use crate::harness::{TestApp, wait_until};

/// Somebody whose second factor is an authenticator app.
pub struct Careful {
    pub session: Session,
    pub user_id: String,
    pub codes: Vec<String>,
    app: Totp,
}

impl Careful {
    /// Signs up, sets the app up, and waits until the code that proved it is over.
    pub async fn start(app: &TestApp, name: &str) -> Careful {
        let session = app.signed_in(name).await;
        Careful::of(app, session, PASSWORD).await
    }

    /// The same with somebody who is signed in.
    pub async fn of(app: &TestApp, session: Session, password: &str) -> Careful {
        let user_id = session.user_id.clone();
        let body = json!({"password": password});
        let enabled = app
            .post_as("/api/auth/two-factor/enable", &session.cookie, &body)
            .await;
        assert_eq!(enabled.status, 200, "{}", enabled.text);
        let enabled = enabled.json();
        let uri = enabled["totpURI"].as_str().unwrap();
        let secret = uri
            .split_once("secret=")
            .unwrap()
            .1
            .split('&')
            .next()
            .unwrap();
        let totp = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_secret(Secret::try_from_base32(secret).unwrap())
            .build_noncompliant();
        let codes = enabled["backupCodes"].as_array().unwrap();
        let codes = codes
            .iter()
            .map(|code| code.as_str().unwrap().to_owned())
            .collect();
        let mut careful = Careful {
            session,
            user_id,
            codes,
            app: totp,
        };
        let body = json!({"code": careful.code(app)});
        let proven = app
            .post_as(
                "/api/auth/two-factor/verify-totp",
                &careful.session.cookie,
                &body,
            )
            .await;
        assert_eq!(proven.status, 200, "{}", proven.text);
        assert!(
            !app.is_live(&careful.session.cookie).await,
            "S-27: it takes more to sign in now"
        );
        careful.session = session_of(&proven);
        app.clock.advance(TimeDelta::seconds(60));
        careful
    }

    /// What the app shows now.
    pub fn code(&self, app: &TestApp) -> String {
        let now = u64::try_from(app.clock.now().timestamp()).unwrap();
        self.app.generate(now).to_string()
    }

    /// What the app was set up with, in base32.
    pub fn secret(&self) -> String {
        self.app.secret().to_base32()
    }

    /// A code that the app shows at none of the times near now.
    pub fn wrong_code(&self, app: &TestApp) -> String {
        let now = u64::try_from(app.clock.now().timestamp()).unwrap();
        let shown: Vec<String> = [now - 30, now, now + 30]
            .map(|time| self.app.generate(time).to_string())
            .into();
        let wrong = ["000000", "000001", "000002", "000003"];
        wrong
            .into_iter()
            .find(|code| !shown.iter().any(|shown| shown == code))
            .unwrap()
            .to_owned()
    }
}

/// Signs in as far as the second factor; gives the challenge's cookie.
pub async fn challenge(app: &TestApp, name: &str) -> String {
    let answer = app.try_sign_in(name, PASSWORD).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(body["twoFactorRedirect"], json!(true), "{body}");
    cookie_of(&answer, "two_factor").unwrap()
}

/// A cookie that an answer sets, as a request sends it back.
pub fn cookie_of(answer: &Answer, key: &str) -> Option<String> {
    let cookies = answer.cookies();
    let found = cookies
        .iter()
        .find(|cookie| cookie.contains(&format!(".{key}=")))?;
    let pair = found.split(';').next().unwrap().to_owned();
    (!pair.ends_with('=')).then_some(pair)
}

pub async fn show(app: &TestApp, what: &str, cookie: &str, body: &Value) -> Answer {
    app.post_as(&format!("/api/auth/two-factor/{what}"), cookie, body)
        .await
}

pub async fn show_code(app: &TestApp, what: &str, cookie: &str, code: &str) -> Answer {
    show(app, what, cookie, &json!({"code": code})).await
}

/// S-50: of many who show one code at once, on two nodes and in challenges of their own, one gets in.
#[tokio::test]
async fn a_code_of_an_app_is_good_once_s50() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let mut challenges = Vec::new();
    for _ in 0..9 {
        challenges.push(challenge(&app, "ada").await);
    }
    let code = ada.code(&app);
    let tries = challenges.iter().enumerate().map(|(number, cookie)| {
        let at = [&app, &node][number % 2];
        show_code(at, "verify-totp", cookie, &code)
    });
    let answers = join_all(tries).await;
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    let wrong = answers
        .iter()
        .filter(|answer| answer.refusal().1 == "INVALID_CODE")
        .count();
    assert_eq!((good, wrong), (1, 8));
    // Nor is the code before it, which would still be near enough.
    app.clock.advance(TimeDelta::seconds(30));
    let cookie = challenge(&app, "ada").await;
    assert_eq!(
        show_code(&app, "verify-totp", &cookie, &code).await.status,
        401
    );
    let next = ada.code(&app);
    assert_eq!(
        show_code(&node, "verify-totp", &cookie, &next).await.status,
        200
    );
}

/// Of 100 who show the same good code in the same challenge at once, one gets in, and nobody sees a fault.
#[tokio::test]
async fn of_100_who_go_on_from_one_challenge_one_gets_in_s29() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let before = app.count("read.sessions").await;
    let cookie = challenge(&app, "ada").await;
    let code = ada.code(&app);
    let tries =
        (0..100).map(|number| show_code([&app, &node][number % 2], "verify-totp", &cookie, &code));
    let answers = join_all(tries).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    assert!(answers.iter().all(|answer| answer.status < 500));
    assert_eq!(app.count("read.sessions").await, before + 1);
}

#[tokio::test]
async fn a_backup_code_is_good_once_and_a_new_set_ends_the_old_one() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let mut challenges = Vec::new();
    for _ in 0..9 {
        challenges.push(challenge(&app, "ada").await);
    }
    // Two codes at once, each of them several times.
    let tries = challenges.iter().enumerate().map(|(number, cookie)| {
        let at = [&app, &node][number % 2];
        show_code(at, "verify-backup-code", cookie, &ada.codes[number % 2])
    });
    let answers = join_all(tries).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        2
    );
    let wrong = |answer: &&Answer| answer.refusal() == (401, "INVALID_BACKUP_CODE".to_owned());
    assert_eq!(answers.iter().filter(wrong).count(), 7);

    let body = json!({"password": PASSWORD});
    let made = show(&app, "generate-backup-codes", &ada.session.cookie, &body)
        .await
        .json();
    let new = made["backupCodes"].as_array().unwrap();
    assert_eq!(new.len(), 10);
    app.clock.advance(TimeDelta::minutes(15));
    let cookie = challenge(&app, "ada").await;
    assert_eq!(
        show_code(&app, "verify-backup-code", &cookie, &ada.codes[5])
            .await
            .status,
        401
    );
    let code = new[0].as_str().unwrap();
    assert_eq!(
        show_code(&node, "verify-backup-code", &cookie, code)
            .await
            .status,
        200
    );
}

/// S-19: a new challenge does not give new tries, nor does another kind of code or another node.
#[tokio::test]
async fn ten_wrong_codes_lock_the_second_factor_whatever_they_were_shown_for_s19() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    for at in [&app, &node] {
        let cookie = challenge(at, "ada").await;
        for number in 0..5 {
            let what = ["verify-totp", "verify-backup-code"][number % 2];
            assert_eq!(
                show_code(at, what, &cookie, &ada.wrong_code(at))
                    .await
                    .status,
                401
            );
        }
        // The last wrong try of ten locks, of five it ends the challenge.
    }
    let cookie = challenge(&app, "ada").await;
    for what in ["verify-totp", "verify-backup-code"] {
        let code = if what == "verify-totp" {
            ada.code(&app)
        } else {
            ada.codes[0].clone()
        };
        let locked = show_code(&node, what, &cookie, &code).await;
        assert_eq!(
            locked.refusal(),
            (429, "ACCOUNT_TEMPORARILY_LOCKED".to_owned())
        );
        let wait: i64 = locked.header("retry-after").parse().unwrap();
        assert!((1..=900).contains(&wait), "{wait}");
    }
    let lines = "read.security_events where event_type = 'TWO_FACTOR_LOCKED'";
    assert_eq!(app.count(lines).await, 1);
    app.clock.advance(TimeDelta::minutes(15));
    let cookie = challenge(&app, "ada").await;
    let code = ada.code(&app);
    assert_eq!(
        show_code(&app, "verify-totp", &cookie, &code).await.status,
        200
    );
}

/// S-35: whoever has shown a password only gets nowhere but to the second factor.
#[tokio::test]
async fn a_challenge_opens_nothing_but_the_routes_of_second_factors_s35() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let cookie = challenge(&app, "ada").await;
    assert_eq!(
        app.get_as("/api/auth/get-session", &cookie).await.text,
        "null"
    );
    for path in [
        "/api/auth/list-sessions",
        "/api/auth/token",
        "/api/v1/auth/security-events",
    ] {
        assert_eq!(app.get_as(path, &cookie).await.status, 401, "{path}");
    }
    for path in [
        "/api/auth/update-user",
        "/api/auth/two-factor/disable",
        "/api/auth/two-factor/enable",
        "/api/auth/two-factor/generate-backup-codes",
        "/api/auth/two-factor/get-totp-uri",
        "/api/v1/auth/session-to-token",
    ] {
        let body = json!({"name": "Eve", "password": PASSWORD});
        assert_eq!(
            app.post_as(path, &cookie, &body).await.status,
            401,
            "{path}"
        );
    }
    // Its value in the place of a session's is nothing either.
    let value = cookie.split_once('=').unwrap().1;
    let as_session = ada.session.cookie.split_once('=').unwrap().0;
    assert!(!app.is_live(&format!("{as_session}={value}")).await);
}

#[tokio::test]
async fn a_challenge_is_good_for_ten_minutes_and_under_one_password_s07() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let cookie = challenge(&app, "ada").await;
    app.clock
        .advance(TimeDelta::minutes(10) - TimeDelta::milliseconds(1));
    assert_eq!(
        show_code(&app, "verify-totp", &cookie, &ada.wrong_code(&app))
            .await
            .status,
        401
    );
    app.clock.advance(TimeDelta::milliseconds(1));
    let over = show_code(&app, "verify-totp", &cookie, &ada.code(&app)).await;
    assert_eq!(
        over.refusal(),
        (401, "INVALID_TWO_FACTOR_COOKIE".to_owned())
    );

    let cookie = challenge(&app, "ada").await;
    let body = json!({"currentPassword": PASSWORD, "newPassword": "another good password"});
    let changed = app
        .post_as("/api/auth/change-password", &ada.session.cookie, &body)
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let over = show_code(&app, "verify-totp", &cookie, &ada.code(&app)).await;
    assert_eq!(
        over.refusal(),
        (401, "INVALID_TWO_FACTOR_COOKIE".to_owned())
    );
}

/// Signs in on a device that may be trusted.
pub async fn sign_in_on(app: &TestApp, device: &str, name: &str, password: &str) -> Answer {
    let body = json!({"email": format!("{name}@example.com"), "password": password});
    app.post_as("/api/auth/sign-in/email", device, &body).await
}

#[tokio::test]
async fn a_trusted_device_does_without_for_30_days_from_its_last_sign_in_s07() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    Careful::start(&app, "bob").await;
    let cookie = challenge(&app, "ada").await;
    let body = json!({"code": ada.code(&app), "trustDevice": true});
    let signed_in = show(&app, "verify-totp", &cookie, &body).await;
    let first = cookie_of(&signed_in, "trust_device").unwrap();

    app.clock
        .advance(TimeDelta::days(30) - TimeDelta::seconds(1));
    let again = sign_in_on(&node, &first, "ada", PASSWORD).await;
    assert!(again.json()["token"].is_string(), "{}", again.text);
    let second = cookie_of(&again, "trust_device").unwrap();
    assert_ne!(first, second);
    let needed = |answer: &Answer| answer.json()["twoFactorRedirect"] == json!(true);
    assert!(
        needed(&sign_in_on(&app, &first, "ada", PASSWORD).await),
        "it was renewed"
    );
    assert!(
        needed(&sign_in_on(&app, &second, "bob", PASSWORD).await),
        "it is nobody else's"
    );
    let third = sign_in_on(&app, &second, "ada", PASSWORD).await;
    let third = cookie_of(&third, "trust_device").unwrap();

    app.clock.advance(TimeDelta::days(30));
    assert!(
        needed(&sign_in_on(&app, &third, "ada", PASSWORD).await),
        "it was forgotten"
    );

    let cookie = challenge(&app, "ada").await;
    let body = json!({"code": ada.code(&app), "trustDevice": true});
    let signed_in = show(&app, "verify-totp", &cookie, &body).await;
    let trusted = cookie_of(&signed_in, "trust_device").unwrap();
    let session = session_of(&signed_in);
    let new = "another good password";
    let body = json!({"currentPassword": PASSWORD, "newPassword": new});
    let changed = app
        .post_as("/api/auth/change-password", &session.cookie, &body)
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(
        needed(&sign_in_on(&node, &trusted, "ada", new).await),
        "it ended with the password"
    );
}

/// The code of the mail number `nth` (from 1) to an address.
pub async fn mailed_code(app: &TestApp, email: &str, nth: usize) -> String {
    wait_until("the code is there", async || {
        app.mails_of("sign_in_code", email).await == nth
    })
    .await;
    let mails = app.mails();
    let mail = mails
        .iter()
        .rfind(|mail| mail.kind == "sign_in_code" && mail.to == email)
        .unwrap();
    mail.text
        .lines()
        .find(|line| line.len() == 6)
        .unwrap()
        .to_owned()
}

/// A mailed code is good for three minutes, once, and only where it was asked for.
#[tokio::test]
async fn a_mailed_code_is_good_for_three_minutes_once_and_in_its_challenge() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let email = "ada@example.com";
    Careful::start(&app, "ada").await;
    let (here, there) = (challenge(&app, "ada").await, challenge(&app, "ada").await);
    assert_eq!(show(&app, "send-otp", &here, &json!({})).await.status, 200);
    let code = mailed_code(&app, email, 1).await;
    let foreign = show_code(&app, "verify-otp", &there, &code).await;
    assert_eq!(foreign.refusal(), (401, "INVALID_CODE".to_owned()));
    app.clock.advance(TimeDelta::minutes(3));
    let late = show_code(&app, "verify-otp", &here, &code).await;
    assert_eq!(late.refusal(), (400, "OTP_HAS_EXPIRED".to_owned()));

    assert_eq!(show(&node, "send-otp", &here, &json!({})).await.status, 200);
    let first = mailed_code(&app, email, 2).await;
    assert_eq!(show(&node, "send-otp", &here, &json!({})).await.status, 200);
    let second = mailed_code(&app, email, 3).await;
    if first != second {
        assert_eq!(
            show_code(&app, "verify-otp", &here, &first).await.status,
            401
        );
    }
    let tries =
        (0..4).map(|number| show_code([&app, &node][number % 2], "verify-otp", &here, &second));
    let answers = join_all(tries).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    assert!(answers.iter().all(|answer| answer.status < 500));
}

#[tokio::test]
async fn nobody_gets_more_than_ten_codes_an_hour() {
    let limits = ("MANA_AUTH_RATE_LIMIT", "on");
    let app = TestApp::start(&[UNVERIFIED]).await;
    let limited = app
        .node(&[
            UNVERIFIED,
            limits,
            ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8"),
        ])
        .await;
    Careful::start(&app, "ada").await;
    let cookie = challenge(&app, "ada").await;
    let ask = async |number: usize| {
        let request = limited
            .request("POST", "/api/auth/two-factor/send-otp")
            .json(&json!({}));
        let request = request.header("cookie", &cookie).header("origin", ORIGIN);
        answer(request.header("x-forwarded-for", format!("203.0.113.{number}")))
            .await
            .status
    };
    for number in 0..10 {
        assert_eq!(ask(number).await, 200);
    }
    assert_eq!(ask(10).await, 429);
}

/// Without a second factor nothing of it is left.
#[tokio::test]
async fn what_is_switched_off_is_destroyed() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let kept = "custody where kind in ('totp', 'backup_codes')";
    assert_eq!(app.count(kept).await, 2);
    let cookie = challenge(&app, "ada").await;
    let off = show(
        &app,
        "disable",
        &ada.session.cookie,
        &json!({"password": PASSWORD}),
    )
    .await;
    assert_eq!(off.status, 200, "{}", off.text);
    assert!(!app.is_live(&ada.session.cookie).await);
    assert!(
        app.is_live(&cookie_of(&off, "session_token").unwrap())
            .await
    );
    assert_eq!(app.count(kept).await, 0);
    let over = show_code(&app, "verify-totp", &cookie, &ada.code(&app)).await;
    assert_eq!(
        over.refusal(),
        (401, "INVALID_TWO_FACTOR_COOKIE".to_owned())
    );
    let signed_in = app.try_sign_in("ada", PASSWORD).await.json();
    assert!(signed_in["token"].is_string(), "{signed_in}");
}

/// S-26: neither the secret nor a code stands anywhere in clear.
#[tokio::test]
async fn secrets_of_second_factors_are_nowhere_in_clear_s26() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let cookie = challenge(&app, "ada").await;
    assert_eq!(
        show(&app, "send-otp", &cookie, &json!({})).await.status,
        200
    );
    let id = cookie.split_once("2fa-").unwrap().1;
    let id = format!("2fa-{}", &id[..20]);
    let dump = app.dump().await;
    let secret = String::from_utf8(ada.app.secret().as_bytes().to_vec()).unwrap();
    for text in [&secret, &ada.app.secret().to_base32(), &id]
        .into_iter()
        .chain(&ada.codes)
    {
        assert!(!dump.contains(text.as_str()));
    }
}

/// The apps' own clients are handed on to the second factor, and have a token afterwards.
#[tokio::test]
async fn the_apps_clients_go_on_with_the_cookie() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = Careful::start(&app, "ada").await;
    let body = json!({"email": "ada@example.com", "password": PASSWORD});
    let first = app.post("/api/v1/auth/login", &body).await;
    assert_eq!(
        (first.status, &first.json()["twoFactorRedirect"]),
        (200, &json!(true))
    );
    assert!(first.json().get("accessToken").is_none());
    let cookie = cookie_of(&first, "two_factor").unwrap();
    let session = session_of(&show_code(&app, "verify-totp", &cookie, &ada.code(&app)).await);
    let tokens = app
        .post_as("/api/v1/auth/session-to-token", &session.cookie, &json!({}))
        .await;
    assert!(tokens.json()["accessToken"].is_string(), "{}", tokens.text);
}

/// S-10: a sign-up that is repeated with its key is a sign-in, and asks for what one asks for.
#[tokio::test]
async fn a_repeated_sign_up_is_no_way_past_the_second_factor_s10() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let body = json!({"name": "ada", "email": "ada@example.com", "password": PASSWORD});
    let sign_up = || {
        let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
        answer(request.header("idempotency-key", "once"))
    };
    let session = session_of(&sign_up().await);
    assert!(sign_up().await.json()["token"].is_string());
    let body = json!({"password": PASSWORD, "method": "otp"});
    let enabled = show(&app, "enable", &session.cookie, &body).await;
    assert_eq!(enabled.status, 200, "{}", enabled.text);
    let again = sign_up().await;
    assert_eq!(
        again.json()["twoFactorRedirect"],
        json!(true),
        "{}",
        again.text
    );
    assert!(cookie_of(&again, "session_token").is_none());
}
