//! Guessing at passwords: how many tries are looked at, whom a lock keeps out and for how long, and whom it does not.

#![cfg(test)]

use aggregates::EmailAddress;
use chrono::TimeDelta;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use mana_auth::guard::{self, ACCOUNT_LIMIT, NETWORK_LIMIT, Refused, Target};
use serde_json::json;

use crate::client::{Answer, PASSWORD, answer};
use crate::doors::{address, password_doors};
use crate::harness::{TestApp, wait_until};
use crate::limits::{LIMITED, hold};
use crate::passwords::busy_hasher;

/// The owner's address and browser.
const HOME: (&str, &str) = ("203.0.113.7", "Home browser");
/// The first lock, in seconds (contract section 14.2).
const FIRST_LOCK_SECS: i64 = 30 * 60;
/// The longest, in seconds.
const LONGEST_LOCK_SECS: i64 = 24 * 3600;

/// Signs in from an address, with a browser.
async fn sign_in_with(app: &TestApp, email: &str, password: &str, from: (&str, &str)) -> Answer {
    let body = json!({"email": email, "password": password});
    let request = app.request("POST", "/api/v1/auth/login").json(&body);
    let request = request
        .header("x-forwarded-for", from.0)
        .header("user-agent", from.1);
    answer(request).await
}

/// Tries to sign ada in, with a browser that nobody knows.
async fn attempt(app: &TestApp, password: &str, from: &str) -> Answer {
    sign_in_with(app, "ada@example.com", password, (from, "Another browser")).await
}

/// Signs ada up at home.
async fn ada_at_home(app: &TestApp) {
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
    let request = request
        .header("x-forwarded-for", HOME.0)
        .header("user-agent", HOME.1);
    assert_eq!(answer(request).await.status, 200);
}

/// Tries as often as a budget allows, each time from the next address.
async fn lock(app: &TestApp, from: &mut impl Iterator<Item = String>) {
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
fn announced(answer: &Answer) -> i64 {
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

fn secs(secs: i64) -> TimeDelta {
    TimeDelta::seconds(secs)
}

/// S-12: counted before anything is checked, so that a burst gains nothing, on however many nodes.
#[tokio::test]
async fn of_1000_wrong_passwords_at_once_five_are_looked_at_s12() {
    let app = TestApp::start(&LIMITED).await;
    let node = app.node(&LIMITED).await;
    ada_at_home(&app).await;
    let tries = (0..1000).map(|number| {
        let node = if number % 2 == 0 { &app } else { &node };
        async move { attempt(node, "wrong", &address(number)).await.status }
    });
    // As many at once as sockets allow where they are scarce.
    let answers: Vec<u16> = futures_util::stream::iter(tries)
        .buffer_unordered(250)
        .collect()
        .await;
    let of = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!((of(401), of(429)), (5, 995));
    let failures = "door_events where event_type = 'LOGIN_FAILURE'";
    assert_eq!(app.count(failures).await, 5);
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
            if path.contains("/v1/") {
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

/// S-11: an account has one counter, however its address is written.
#[tokio::test]
async fn sixty_four_spellings_of_an_address_share_one_counter_s11() {
    let app = TestApp::start(&LIMITED).await;
    ada_at_home(&app).await;
    let mut looked_at = 0;
    for spelling in 0..64_u32 {
        // Each of the six bits is a letter that is small or not.
        let mut letter = 0;
        let email: String = "ada@example.com"
            .chars()
            .map(|c| {
                let is_capital = letter < 6 && c.is_alphabetic() && spelling >> letter & 1 == 1;
                letter += u32::from(c.is_alphabetic());
                if is_capital {
                    c.to_ascii_uppercase()
                } else {
                    c
                }
            })
            .collect();
        let from = (address(spelling), "Another browser");
        let answer = sign_in_with(&app, &email, "wrong", (&from.0, from.1)).await;
        looked_at += i32::from(answer.status == 401);
        assert!([401, 429].contains(&answer.status), "{email}");
    }
    assert_eq!(looked_at, ACCOUNT_LIMIT);
}

/// S-15: whoever tries a password on many accounts is stopped by where they come from, however that is written; nobody
/// else is.
#[tokio::test]
async fn a_network_that_tries_100_accounts_is_locked_and_no_other_s15() {
    for (one, other, outside) in [
        ("203.0.113.9", "::ffff:203.0.113.9", "203.0.113.10"),
        (
            "2001:db8:1:2::1",
            "2001:0DB8:1:2:ffff:ffff:ffff:ffff",
            "2001:db8:1:3::1",
        ),
    ] {
        let app = TestApp::start(&LIMITED).await;
        let attempt = async |number: i32, from| {
            let email = format!("person{number}@example.com");
            sign_in_with(&app, &email, "wrong", (from, "Another browser")).await
        };
        for number in 0..NETWORK_LIMIT {
            if number % 3 == 0 {
                app.clock.advance(secs(10));
            }
            let from = if number % 2 == 0 { one } else { other };
            assert_eq!(attempt(number, from).await.status, 401);
        }
        app.clock.advance(secs(10));
        for from in [one, other] {
            let refused = attempt(1000, from).await;
            assert_eq!(refused.refusal(), (429, "RATE_LIMITED".to_owned()));
            let wait: i64 = refused.header("retry-after").parse().unwrap();
            assert_eq!(wait, FIRST_LOCK_SECS - 10, "not the limit of requests");
        }
        assert_eq!(attempt(1001, outside).await.status, 401);
    }
}

/// S-18: what is counted is in the database: another node and a restart change nothing.
#[tokio::test]
async fn a_restart_and_another_node_forget_no_failure_s18() {
    let one = TestApp::start(&LIMITED).await;
    let two = one.node(&LIMITED).await;
    ada_at_home(&one).await;
    for (number, node) in [&one, &two, &one].into_iter().enumerate() {
        let from = address(u32::try_from(number).unwrap());
        assert_eq!(attempt(node, "wrong", &from).await.status, 401);
    }
    drop(one);
    let three = two.node(&LIMITED).await;
    drop(two);
    let tries = (10..50).map(|number| {
        let three = &three;
        async move { attempt(three, "wrong", &address(number)).await.status }
    });
    let answers = join_all(tries).await;
    let looked_at = answers.iter().filter(|status| **status == 401).count();
    assert_eq!(looked_at, 2, "five in all");
    let four = three.node(&LIMITED).await;
    drop(three);
    announced(&attempt(&four, PASSWORD, &address(60)).await);
}

/// S-18: a try that a node was checking when it died counts, and not for ever.
#[tokio::test]
async fn a_try_that_was_never_settled_counts_for_a_minute_s18() {
    let app = TestApp::start(&LIMITED).await;
    let network = address(0);
    let target = || Target {
        email: Some("ada@example.com"),
        known_device: None,
        network: &network,
    };
    for _ in 0..ACCOUNT_LIMIT {
        drop(guard::admit(&app.app, target()).await.unwrap());
    }
    app.clock.advance(secs(59));
    let refused = guard::admit(&app.app, target()).await.err();
    assert!(
        matches!(
            refused,
            Some(Refused::TooMany {
                retry_after_secs: 1
            })
        ),
        "{refused:?}"
    );
    app.clock.advance(secs(1));
    let attempt = guard::admit(&app.app, target()).await.unwrap();
    assert_eq!(attempt.failed(&app.app).await.unwrap(), None);
}

/// S-17: what cannot be counted is not checked, and does not count afterwards.
#[tokio::test]
async fn no_password_is_checked_while_tries_cannot_be_counted_s17() {
    let mut settings = LIMITED.to_vec();
    settings.push(("MANA_AUTH_HASH_THREADS", "1"));
    let app = TestApp::start(&settings).await;
    let session = app.signed_in("ada").await;
    // A hash would be answered with another 503.
    let hasher = busy_hasher(&app).await;
    let holder = hold(&app, "attempts").await;
    let mut from = (0..).map(address);
    for recipe in password_doors() {
        for secret in ["wrong", PASSWORD] {
            let closed = recipe
                .attempt(&app, "ada", &session, secret, &from.next().unwrap())
                .await;
            let path = recipe.path;
            assert_eq!(
                closed.refusal(),
                (503, "SERVICE_UNAVAILABLE".to_owned()),
                "{path}"
            );
            let message = &closed.json()["message"];
            assert_eq!(message, "Service temporarily unavailable", "{path}");
        }
    }
    drop(hasher);
    holder.let_go().await;
    wait_until("the doors are open again", async || {
        attempt(&app, PASSWORD, &from.next().unwrap()).await.status == 200
    })
    .await;
    assert_eq!(app.count("door_events").await, 0);
    lock(&app, &mut from).await;
    announced(&attempt(&app, PASSWORD, &from.next().unwrap()).await);
}

/// S-17: a service that is too busy to check is not told a wrong password.
#[tokio::test]
async fn a_try_that_the_hasher_has_no_room_for_does_not_count_s17() {
    let mut settings = LIMITED.to_vec();
    settings.push(("MANA_AUTH_HASH_THREADS", "1"));
    let app = TestApp::start(&settings).await;
    ada_at_home(&app).await;
    let hasher = busy_hasher(&app).await;
    let mut from = (0..).map(address);
    let mut refused = 0;
    while refused < 2 * ACCOUNT_LIMIT {
        let answer = attempt(&app, PASSWORD, &from.next().unwrap()).await;
        // Somebody may be lucky and find the one place that is free for a moment.
        assert!([200, 503].contains(&answer.status), "{}", answer.text);
        refused += i32::from(answer.status == 503);
    }
    drop(hasher);
    let counted = "attempts where checking > 0 or cardinality(failed_at) > 0";
    assert_eq!(app.count(counted).await, 0);
}

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
