//! What happens at the same time as a change of address: one address has one account, one link one effect (S-29, S-61).

#![cfg(test)]

use futures_util::future::join_all;
use serde_json::json;

use crate::account::{last_link, mails};
use crate::change_email::{
    DOORS, REFUSED, address_of, ask, comes_to_have, enters, follow, own_lines, verify_link,
};
use crate::client::{PASSWORD, UNVERIFIED, link_token};
use crate::harness::TestApp;
use crate::password_races::Held;

const LED: &str = "/settings";

/// S-61: two accounts want an address, over two nodes: one has it, and the other is as it was.
#[tokio::test]
async fn of_two_changes_to_one_address_at_once_one_wins_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    for round in 0..10 {
        let wanted = format!("wanted{round}@example.com");
        let mut people = Vec::new();
        for name in ["ada", "eve"].map(|name| format!("{name}{round}")) {
            let session = app.signed_in(&name).await;
            ask(&node, DOORS[round % 2], &session, &wanted).await;
            let link = last_link(&app, "verify_email", &wanted).await;
            people.push((format!("{name}@example.com"), session, link));
        }
        let [(_, ada, first), (_, eve, second)] = &people[..] else {
            panic!("two of them")
        };
        let changes = (
            follow(&app, first, &ada.cookie),
            follow(&node, second, &eve.cookie),
        );
        let (one, two) = match round {
            0 => overtaken(&app, changes.0, changes.1).await,
            1 => {
                let (two, one) = overtaken(&app, changes.1, changes.0).await;
                (one, two)
            }
            _ => tokio::join!(changes.0, changes.1),
        };
        let mut won = 0;
        for (led, (old, session, _)) in [one, two].iter().zip(&people) {
            // Each was changed on a node of its own.
            let at = if session.user_id == ada.user_id {
                &app
            } else {
                &node
            };
            let has = address_of(at, session).await.0;
            let told = mails(&app, "email_changed", old).await.len();
            let of_theirs = format!(
                "tokens where kind = 'revert-email' and user_id = '{}'",
                session.user_id
            );
            let links = app.count(&of_theirs).await;
            let lines = own_lines(&node, &session.cookie).await;
            let changed = lines.iter().any(|line| line == "email_changed");
            if led == LED {
                won += 1;
                assert_eq!((has, told, links, changed), (wanted.clone(), 1, 1, true));
                assert_eq!(enters(&node, old, PASSWORD).await, 401);
            } else {
                assert_eq!(led, REFUSED);
                assert_eq!((has, told, links, changed), (old.clone(), 0, 0, false));
                assert_eq!(enters(&node, old, PASSWORD).await, 200);
            }
        }
        assert_eq!(won, 1);
        assert_eq!(enters(&app, &wanted, PASSWORD).await, 200);
    }
}

/// Lets two things happen at once: both have looked whether they may when the first one is written.
async fn overtaken<F, S>(
    app: &TestApp,
    first: impl Future<Output = F>,
    then: impl Future<Output = S>,
) -> (F, S) {
    let held = Held::start(app).await;
    let later = async {
        held.waited_for_by(app, 1).await;
        let let_go = async {
            held.waited_for_by(app, 2).await;
            held.let_go().await;
        };
        tokio::join!(then, let_go).0
    };
    tokio::join!(first, later)
}

/// S-61: the same where somebody signs up with the address, before and after.
#[tokio::test]
async fn of_a_change_and_a_sign_up_for_one_address_at_once_one_wins_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    for round in 0..4 {
        let (name, wanted) = (format!("ada{round}"), format!("wanted{round}@example.com"));
        let old = format!("{name}@example.com");
        let ada = app.signed_in(&name).await;
        let link = verify_link(&app, &ada, &old, &wanted).await;
        let password = "the password of somebody else";
        let body = json!({"name": "Eve", "email": wanted, "password": password});
        let (door, taken) = [
            ("/api/auth/sign-up/email", 422),
            ("/api/v1/auth/register", 409),
        ][round % 2];
        let change = follow(&app, &link, &ada.cookie);
        let sign_up = node.post(door, &body);
        if round < 2 {
            let (led, signed_up) = overtaken(&app, change, sign_up).await;
            assert_eq!((led.as_str(), signed_up.status), (LED, taken));
            comes_to_have(&node, &ada, &wanted, false).await;
            assert_eq!(enters(&app, &wanted, PASSWORD).await, 200);
            assert_eq!(enters(&app, &wanted, password).await, 401);
        } else {
            let (signed_up, led) = overtaken(&app, sign_up, change).await;
            assert_eq!((led.as_str(), signed_up.status), (REFUSED, 200));
            assert_eq!(address_of(&app, &ada).await.0, old);
            assert_eq!(enters(&app, &wanted, PASSWORD).await, 401);
            assert_eq!(enters(&app, &wanted, password).await, 200);
            assert!(mails(&app, "email_changed", &old).await.is_empty());
        }
    }
}

/// S-29: however many follow the links of a change at once, and where, each step is done once.
#[tokio::test]
async fn of_20_redemptions_of_each_link_at_once_one_counts_s29() {
    let app = TestApp::start(&[]).await;
    let node = app.node(&[]).await;
    let nodes = [&app, &node];
    let (old, new) = ("ada@example.com", "new@example.com");
    app.verified("ada").await;
    let ada = app.sign_in("ada").await;
    ask(&app, DOORS[0], &ada, new).await;

    let confirm = last_link(&app, "change_email_confirmation", old).await;
    let tries = (0..20).map(|number| follow(nodes[number % 2], &confirm, &ada.cookie));
    let answers = join_all(tries).await;
    // Consent that was given is not taken back by giving it again.
    assert!(answers.iter().all(|led| led == LED), "{answers:?}");
    assert_eq!(mails(&app, "verify_email", new).await.len(), 1);
    let lines = own_lines(&app, &ada.cookie).await;
    assert_eq!(lines[2..], ["email_change_confirmed"]);

    let verify = last_link(&app, "verify_email", new).await;
    let tries = (0..20).map(|number| follow(nodes[number % 2], &verify, &ada.cookie));
    let answers = join_all(tries).await;
    assert_eq!(
        answers.iter().filter(|led| *led == LED).count(),
        1,
        "{answers:?}"
    );
    assert!(
        answers
            .iter()
            .all(|led| led == LED || led.contains("?error="))
    );
    // Where it counted it shows at once, at the other node when that has heard of it.
    let at = answers.iter().position(|led| led == LED).unwrap() % 2;
    assert_eq!(address_of(nodes[at], &ada).await, (new.to_owned(), true));
    comes_to_have(nodes[1 - at], &ada, new, true).await;
    assert_eq!(mails(&app, "email_changed", old).await.len(), 1);

    let back = last_link(&app, "email_changed", old).await;
    let body = json!({"token": link_token(&back)});
    let tries = (0..20).map(|number| nodes[number % 2].post("/api/v1/auth/revert-email", &body));
    let answers: Vec<u16> = join_all(tries)
        .await
        .iter()
        .map(|answer| answer.status)
        .collect();
    assert_eq!(
        answers.iter().filter(|status| **status == 200).count(),
        1,
        "{answers:?}"
    );
    assert_eq!(
        answers.iter().filter(|status| **status == 400).count(),
        19,
        "{answers:?}"
    );
    assert_eq!(enters(&node, old, PASSWORD).await, 200);
}
