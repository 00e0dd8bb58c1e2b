//! Guessing at passwords: how many tries are looked at, whom a lock keeps out and for how long, and whom it does not.

#![cfg(test)]

use aggregates::EmailAddress;
use chrono::TimeDelta;
use futures_util::future::join_all;
use mana_auth::guard::{self, ACCOUNT_LIMIT};
use serde_json::json;

use crate::client::{Answer, PASSWORD, answer};
use crate::doors::{address, password_doors};
use crate::harness::TestApp;
use crate::limits::LIMITED;

/// The owner's address and browser.
pub const HOME: (&str, &str) = ("203.0.113.7", "Home browser");
/// The first lock, in seconds (contract section 14.2).
pub const FIRST_LOCK_SECS: i64 = 30 * 60;
/// The longest, in seconds.
const LONGEST_LOCK_SECS: i64 = 24 * 3600;

/// Signs in from an address, with a browser.
pub async fn sign_in_with(
    app: &TestApp,
    email: &str,
    password: &str,
    from: (&str, &str),
) -> Answer {
    let body = json!({"email": email, "password": password});
    let request = app.request("POST", "/api/v1/auth/login").json(&body);
    let request = request
        .header("x-forwarded-for", from.0)
        .header("user-agent", from.1);
    answer(request).await
}

/// Tries to sign ada in, with a browser that nobody knows.
pub async fn attempt(app: &TestApp, password: &str, from: &str) -> Answer {
    sign_in_with(app, "ada@example.com", password, (from, "Another browser")).await
}

/// Signs ada up at home.
pub async fn ada_at_home(app: &TestApp) {
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
    let request = request
        .header("x-forwarded-for", HOME.0)
        .header("user-agent", HOME.1);
    assert_eq!(answer(request).await.status, 200);
}

/// Tries as often as a budget allows, each time from the next address.
pub async fn lock(app: &TestApp, from: &mut impl Iterator<Item = String>) {
    for _ in 0..ACCOUNT_LIMIT {
        let wrong = attempt(app, "wrong", &from.next().unwrap()).await;
        assert_eq!(wrong.refusal(), (401, "INVALID_CREDENTIALS".to_owned()));
    }
}

/// Locks ada's account, and then her own device.
async fn lock_both(app: &TestApp, from: &mut impl Iterator<Item = String>) {
    lock(app, from).await;
    for number in 0..ACCOUNT_LIMIT {
        let home = (format!("203.0.113.{number}"), HOME.1);
        sign_in_with(app, "ada@example.com", "wrong", (&home.0, home.1)).await;
    }
    announced(&attempt(app, PASSWORD, &from.next().unwrap()).await);
    announced(&sign_in_with(app, "ada@example.com", PASSWORD, HOME).await);
}

/// For how many seconds an answer says that the account is locked, wherever it says so.
pub fn announced(answer: &Answer) -> i64 {
    assert_eq!(
        answer.refusal(),
        (429, "ACCOUNT_LOCKED".to_owned()),
        "{}",
        answer.text
    );
    let body = answer.json();
    let secs = body["remainingSeconds"].as_i64().unwrap();
    let wanted = json!({
        "error": "Account locked", "code": "ACCOUNT_LOCKED", "message": "Account temporarily locked", "status": 429,
        "remainingSeconds": secs, "retryAfterSec": secs,
    });
    assert_eq!(body, wanted);
    assert_eq!(answer.header("retry-after"), secs.to_string());
    assert_eq!(answer.header("x-retry-after"), secs.to_string());
    secs
}

pub fn secs(secs: i64) -> TimeDelta {
    TimeDelta::seconds(secs)
}

/// S-10, S-12: whoever knows the password by then does not get in either, by whichever door, and learns for how long.
#[tokio::test]
async fn the_sixth_try_is_refused_at_every_door_and_node_even_with_the_right_password_s10_s12() {
    let app = TestApp::start(&LIMITED).await;
    let node = app.node(&LIMITED).await;
    let mut from = (0..).map(address);
    let session = app.signed_in("ada").await;
    lock(&app, &mut from).await;
    for node in [&app, &node] {
        for recipe in password_doors() {
            let locked = recipe
                .attempt(node, "ada", &session, PASSWORD, &from.next().unwrap())
                .await;
            let path = recipe.path;
            assert_eq!(
                locked.refusal(),
                (429, "ACCOUNT_LOCKED".to_owned()),
                "{path}"
            );
            let wait = FIRST_LOCK_SECS.to_string();
            assert_eq!(locked.header("retry-after"), wait, "{path}");
            assert_eq!(locked.header("x-retry-after"), wait, "{path}");
            if path.contains("/v1/auth/") {
                assert_eq!(announced(&locked), FIRST_LOCK_SECS, "{path}");
            }
        }
    }
    assert!(app.is_live(&session.cookie).await, "sessions go on");
}

/// S-14: each lock lasts to the second what it announces, and the next one twice as long, up to a day.
#[tokio::test]
async fn a_lock_lasts_what_it_announces_and_each_further_one_twice_as_long_s14() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut from = (0..).map(address);
    let mut lasts = FIRST_LOCK_SECS;
    for _ in 0..8 {
        lock(&app, &mut from).await;
        let now = announced(&attempt(&app, PASSWORD, &from.next().unwrap()).await);
        assert_eq!(now, lasts);
        app.clock.advance(secs(lasts / 2));
        let half = announced(&attempt(&app, "wrong", &from.next().unwrap()).await);
        assert_eq!(
            half,
            lasts - lasts / 2,
            "a refused try does not lengthen it"
        );
        app.clock
            .advance(secs(lasts - lasts / 2) - TimeDelta::milliseconds(1));
        let last = announced(&attempt(&app, PASSWORD, &from.next().unwrap()).await);
        assert_eq!(last, 1);
        app.clock.advance(TimeDelta::milliseconds(1));
        lasts = (lasts * 2).min(LONGEST_LOCK_SECS);
    }
    let good = attempt(&app, PASSWORD, &from.next().unwrap()).await;
    assert_eq!(good.status, 200, "and it is open right after");
    lock(&app, &mut from).await;
    let first = announced(&attempt(&app, PASSWORD, &from.next().unwrap()).await);
    assert_eq!(
        first, FIRST_LOCK_SECS,
        "a good sign-in forgets what was before"
    );
}

/// S-14: nobody is punished for ever.
#[tokio::test]
async fn how_often_an_account_was_locked_is_forgotten_after_two_quiet_days_s14() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut from = (0..).map(address);
    for (quiet_secs, lasts) in [
        (0, FIRST_LOCK_SECS),
        (2 * 24 * 3600, 2 * FIRST_LOCK_SECS),
        (2 * 24 * 3600 + 1, FIRST_LOCK_SECS),
    ] {
        app.clock.advance(secs(quiet_secs));
        lock(&app, &mut from).await;
        let found = announced(&attempt(&app, "wrong", &from.next().unwrap()).await);
        assert_eq!(found, lasts, "after {quiet_secs} s");
    }
}

/// Contract section 14.2: five within 15 minutes.
#[tokio::test]
async fn failures_older_than_15_minutes_do_not_count_s14() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut from = (0..).map(address);
    for _ in 0..3 {
        for _ in 1..ACCOUNT_LIMIT {
            let wrong = attempt(&app, "wrong", &from.next().unwrap()).await;
            assert_eq!(wrong.status, 401);
        }
        app.clock.advance(secs(15 * 60));
    }
    for wait in [0, 5 * 60, 5 * 60, 4 * 60, 59] {
        app.clock.advance(secs(wait));
        let wrong = attempt(&app, "wrong", &from.next().unwrap()).await;
        assert_eq!(wrong.status, 401);
    }
    let locked = attempt(&app, PASSWORD, &from.next().unwrap()).await;
    assert_eq!(announced(&locked), FIRST_LOCK_SECS, "14:59 is within");
}

/// S-13: a day of guessing from 10,000 addresses does not keep the owner out of their own device for a moment.
#[tokio::test]
async fn a_day_of_guessing_does_not_lock_the_owner_out_s13() {
    // 420 tries an hour are 10,080 in a day.
    const AT_ONCE: usize = 3;
    const ROUNDS: i32 = 140;
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let (mut looked_at, mut from) = (0, (0..).map(address));
    for hour in 0..24 {
        for _ in 0..ROUNDS {
            let addresses: Vec<String> = from.by_ref().take(AT_ONCE).collect();
            let tries = addresses.iter().map(|from| attempt(&app, "wrong", from));
            for answer in join_all(tries).await {
                match answer.status {
                    401 => looked_at += 1,
                    status => assert_eq!(status, 429, "{}", answer.text),
                }
            }
            app.clock.advance(secs(3600) / ROUNDS);
        }
        let same_network = (format!("203.0.113.{hour}"), HOME.1);
        let home = (same_network.0.as_str(), same_network.1);
        let good = sign_in_with(&app, "ada@example.com", PASSWORD, home).await;
        assert_eq!(good.status, 200, "hour {hour}: {}", good.text);
        let elsewhere = attempt(&app, PASSWORD, &format!("198.51.100.{hour}")).await;
        announced(&elsewhere);
    }
    // The locks of 0.5, 1, 2, 4, 8 and 16 hours leave room for six budgets.
    assert_eq!(looked_at, 6 * ACCOUNT_LIMIT);
}

/// S-13: who guesses at a person's own device locks that one, and no other.
#[tokio::test]
async fn a_known_device_has_a_budget_of_its_own_s13() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    for number in 0..ACCOUNT_LIMIT {
        let home = (format!("203.0.113.{number}"), HOME.1);
        let home = (home.0.as_str(), home.1);
        let wrong = sign_in_with(&app, "ada@example.com", "wrong", home).await;
        assert_eq!(wrong.status, 401);
    }
    let locked = sign_in_with(&app, "ada@example.com", PASSWORD, HOME).await;
    assert_eq!(announced(&locked), FIRST_LOCK_SECS);
    for number in 0..2 {
        let other = attempt(&app, PASSWORD, &address(number)).await;
        assert_eq!(other.status, 200, "a device of no other network or browser");
    }
    // Nobody else has that device, though they share network and browser with it.
    let nobody = sign_in_with(&app, "eve@example.com", "wrong", (HOME.0, HOME.1)).await;
    assert_eq!(nobody.status, 401);
}

/// S-13
#[tokio::test]
async fn a_device_is_known_for_30_days_after_the_last_sign_in_s13() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut from = (0..).map(address);
    for (wait, known) in [(30 * 86_400, true), (30 * 86_400 + 1, false)] {
        app.clock.advance(secs(wait));
        lock(&app, &mut from).await;
        let home = sign_in_with(&app, "ada@example.com", PASSWORD, HOME).await;
        assert_eq!(home.status, if known { 200 } else { 429 }, "{}", home.text);
    }
}

/// S-15: whoever tries a password on many accounts is stopped by where they come from, however that is written; nobody
/// Whoever proves that the mailbox is theirs need not wait, wherever they sit.
#[tokio::test]
async fn a_new_password_by_mail_ends_the_locks_of_account_and_devices() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut from = (0..).map(address);
    lock_both(&app, &mut from).await;
    let body = json!({"email": "ada@example.com"});
    app.post("/api/auth/request-password-reset", &body).await;
    let mail = app.wait_for_mail("ada@example.com", 1).await;
    assert_eq!(mail.kind, "reset_password");
    let url = mail.url.unwrap();
    let token = url.rsplit_once('/').unwrap().1.split('?').next().unwrap();
    let body = json!({"token": token, "newPassword": "another good password"});
    let reset = app.post("/api/auth/reset-password", &body).await;
    assert_eq!(reset.status, 200, "{}", reset.text);

    let good = attempt(&app, "another good password", &from.next().unwrap()).await;
    assert_eq!(good.status, 200, "{}", good.text);
    let home = sign_in_with(&app, "ada@example.com", "another good password", HOME).await;
    assert_eq!(home.status, 200, "{}", home.text);
    lock(&app, &mut from).await;
    let first = announced(&attempt(&app, "wrong", &from.next().unwrap()).await);
    assert_eq!(
        first, FIRST_LOCK_SECS,
        "how often it was locked is forgotten"
    );
}

/// The same by an operator's word.
#[tokio::test]
async fn an_operator_ends_the_locks_of_account_and_devices() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut from = (0..).map(address);
    lock_both(&app, &mut from).await;
    let email = EmailAddress::parse("ada@example.com").unwrap();
    let user = mana_auth::accounts::find_by_email(&app.app, &email).await;
    guard::clear(&app.app, &user.unwrap().unwrap())
        .await
        .unwrap();
    let good = attempt(&app, PASSWORD, &from.next().unwrap()).await;
    let home = sign_in_with(&app, "ada@example.com", PASSWORD, HOME).await;
    assert_eq!((good.status, home.status), (200, 200));
}
