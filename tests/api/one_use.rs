//! What is good once is good once, however many show it at the same moment and on whichever node (S-29, S-50): the kinds
//! that have no such test where they are at home.

#![cfg(test)]

use futures_util::future::join_all;
use serde_json::json;

use crate::client::{Answer, PASSWORD, UNVERIFIED};
use crate::harness::TestApp;
use crate::organizations::ALL_ON;
use crate::password_races::Held;
use crate::provider::person;
use crate::stage::{Stage, come_back};
use crate::two_factor::{Careful, challenge, cookie_of, mailed_code, show, show_code, sign_in_on};

/// How many show the same at once.
const TRIES: usize = 100;
/// There are places at the hasher for all of them on two nodes.
const SETTINGS: [(&str, &str); 2] = [UNVERIFIED, ("MANA_AUTH_HASH_THREADS", "4")];

/// Fails unless one answer is good, all others are refusals, and as many sessions began.
async fn assert_one(app: &TestApp, answers: &[Answer], sessions_before: i64, what: &str) {
    let good = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(good, 1, "{what}");
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let is_refusal = [400, 401, 429].contains(&answer.status);
        assert!(is_refusal, "{what}: {} {}", answer.status, answer.text);
        assert_eq!(answer.session_cookie(), "", "{what}");
    }
    let began = app
        .count("events where event_type = 'session.started'")
        .await
        - sessions_before;
    assert_eq!(began, 1, "{what}");
}

/// S-50, S-29: a code, whatever its kind, in challenges of their own as in one, with spaces in it or without.
#[tokio::test]
async fn of_100_who_show_a_code_at_once_one_gets_in_s29_s50() {
    let app = TestApp::start(&SETTINGS).await;
    let node = app.node(&SETTINGS).await;
    for (what, challenges) in [
        ("verify-totp", 20),
        ("verify-backup-code", 20),
        ("verify-backup-code", 1),
        // Mailed for one challenge, and good in no other.
        ("verify-otp", 1),
    ] {
        let name = format!("{what}-{challenges}");
        let ada = Careful::start(&app, &name).await;
        let mut waiting = vec![];
        for _ in 0..challenges {
            waiting.push(challenge(&app, &name).await);
        }
        let code = match what {
            "verify-totp" => ada.code(&app),
            "verify-backup-code" => ada.codes[0].clone(),
            _ => {
                let sent = show(&app, "send-otp", &waiting[0], &json!({})).await;
                assert_eq!(sent.status, 200, "{}", sent.text);
                mailed_code(&app, &format!("{name}@example.com"), 1).await
            }
        };
        let spaced = format!("{} {}", &code[..3], &code[3..]);
        let started = "events where event_type = 'session.started'";
        let before = app.count(started).await;
        let tries = (0..TRIES).map(|number| {
            let at = [&app, &node][number % 2];
            let shown = match what {
                "verify-totp" => [&code, &spaced][number / 2 % 2],
                _ => &code,
            };
            show_code(at, what, &waiting[number % waiting.len()], shown)
        });
        let answers = join_all(tries).await;
        assert_one(&app, &answers, before, &name).await;
    }
}

/// S-29: a trusted device gets another id at each sign-in, so of many who show the same one, one does without.
#[tokio::test]
async fn of_100_sign_ins_on_one_trusted_device_one_does_without_s29() {
    let app = TestApp::start(&SETTINGS).await;
    let node = app.node(&SETTINGS).await;
    let ada = Careful::start(&app, "ada").await;
    let waits = challenge(&app, "ada").await;
    let body = json!({"code": ada.code(&app), "trustDevice": true});
    let entered = show(&app, "verify-totp", &waits, &body).await;
    let device = cookie_of(&entered, "trust_device").unwrap();
    let started = "events where event_type = 'session.started'";
    let before = app.count(started).await;
    let tries = (0..TRIES).map(|number| {
        let at = [&app, &node][number % 2];
        sign_in_on(at, &device, "ada", PASSWORD)
    });
    let answers = join_all(tries).await;
    let inside = |answer: &&Answer| answer.json()["token"].is_string();
    assert_eq!(answers.iter().filter(inside).count(), 1);
    let waiting = |answer: &&Answer| answer.json()["twoFactorRedirect"] == json!(true);
    assert_eq!(answers.iter().filter(waiting).count(), TRIES - 1);
    assert_eq!(app.count(started).await - before, 1);
}

/// S-29: a state, over two nodes; the provider's code is redeemed once.
#[tokio::test]
async fn of_100_who_come_back_at_once_to_two_nodes_one_gets_in_s29() {
    let stage = Stage::set(&[]).await;
    let node = stage.node().await;
    let begun = stage.begin("plain").await;
    let code = stage.agree(&begun, person("s1", "ada@example.com", true));
    let query = format!("code={code}");
    let tries = (0..TRIES).map(|number| {
        let at = [&stage.app, &node][number % 2];
        come_back(at, "plain", &begun, &query)
    });
    let answers = join_all(tries).await;
    let inside = |answer: &&Answer| answer.header("location") == "/new";
    assert_eq!(answers.iter().filter(inside).count(), 1);
    for outside in answers.iter().filter(|answer| !inside(answer)) {
        let location = outside.header("location");
        assert!(location.ends_with("?error=state_mismatch"), "{location}");
    }
    let asked = |known: &mut crate::provider::Known| {
        known.calls.iter().filter(|path| *path == "/token").count()
    };
    assert_eq!(stage.provider.with(asked), 1);
    assert_eq!(stage.app.count("read.sessions").await, 1);
}

/// S-29, S-63: an invitation, by whichever of its two answers.
#[tokio::test]
async fn of_100_answers_to_an_invitation_at_once_one_counts_s29() {
    let app = TestApp::start(&ALL_ON).await;
    let node = app.node(&ALL_ON).await;
    let owner = app.signed_in("owner").await;
    let organization = app.founded(&owner, "acme").await;
    let guest = app.signed_in("guest").await;
    let invitation = app.invited(&owner, &organization, "guest", "member").await;
    let body = json!({"invitationId": invitation});
    let tries = (0..TRIES).map(|number| {
        let at = [&app, &node][number % 2];
        let route = ["accept-invitation", "reject-invitation"][number / 2 % 2];
        at.organization(&guest, route, &body)
    });
    // Each node has decided at least once before either writes anything.
    let held = Held::start(&app).await;
    let let_go = async {
        held.waited_for_by(&app, 2).await;
        held.let_go().await;
    };
    let (answers, ()) = tokio::join!(join_all(tries), let_go);
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 200).count(),
        1
    );
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        let is_refusal = [400, 409].contains(&answer.status);
        assert!(is_refusal, "{} {}", answer.status, answer.text);
    }
    let answered = "events where event_type like 'organization.invitation_%ed' \
                    and event_type not like '%renewed'";
    assert_eq!(app.count(answered).await, 1);
}
