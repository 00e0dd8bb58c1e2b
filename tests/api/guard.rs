//! What the guard counts: before anything is checked, in one place for all nodes, by whom and where it is about and not
//! by how that is written. When it cannot count, nothing is checked.

#![cfg(test)]

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use mana_auth::guard::{self, ACCOUNT_LIMIT, NETWORK_LIMIT, Refused, Target};

use crate::client::PASSWORD;
use crate::doors::{address, password_doors};
use crate::harness::{TestApp, wait_until};
use crate::limits::{LIMITED, hold};
use crate::lockout::{FIRST_LOCK_SECS, ada_at_home, announced, attempt, lock, secs, sign_in_with};
use crate::passwords::busy_hasher;

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
