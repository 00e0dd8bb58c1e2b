//! The way back to a former address: what its link does, how long it is good, and who may have the address until then
//! (S-61).

#![cfg(test)]

use chrono::TimeDelta;
use mana_auth::maintenance;
use serde_json::json;

use crate::account::{assert_no_reset, assert_over, email_of, last_link, mails, reset_token};
use crate::change_email::{
    DOORS, UNCONFIRMED, address_of, ask, change_to, comes_to_have, enters, follow, own_lines,
};
use crate::client::{Answer, PASSWORD, UNVERIFIED, answer, link_token, session_of};
use crate::harness::TestApp;

const DOOR: &str = "/api/v1/auth/revert-email";
/// A former address is kept for its owner, and the link back good, for so long.
const BACK_FOR: TimeDelta = TimeDelta::days(7);
const A_MOMENT: TimeDelta = TimeDelta::milliseconds(1);

/// The link that was mailed to an address when it was left.
async fn link_back(app: &TestApp, to: &str) -> String {
    last_link(app, "email_changed", to).await
}

/// Presses the button of the page behind a link.
async fn press(app: &TestApp, link: &str) -> Answer {
    let form = [("token", link_token(link))];
    answer(app.request("POST", DOOR).form(&form)).await
}

/// Does the chores of both nodes, as each does every minute.
async fn chores(app: &TestApp, node: &TestApp) {
    for at in [app, node] {
        maintenance::chores(&at.app).await.unwrap();
    }
}

/// Whether somebody else may have an address: tried by a sign-up, which a free one makes an account of.
async fn is_free(app: &TestApp, email: &str) -> bool {
    let body = json!({"name": "Bob", "email": email, "password": PASSWORD});
    match app.post("/api/auth/sign-up/email", &body).await.status {
        200 => true,
        422 => false,
        other => panic!("{other}"),
    }
}

/// S-45, S-61: the link shows a page; its button gives the address back, ends every session, and works once.
#[tokio::test]
async fn the_link_back_shows_a_page_and_its_button_works_once_s45_s61() {
    let app = TestApp::start(&[]).await;
    let node = app.node(&[]).await;
    app.verified("ada").await;
    let (old, new) = ("ada@example.com", "new@example.com");
    let ada = app.sign_in("ada").await;
    change_to(&node, &ada, old, new).await;
    let intruder = json!({"email": new, "password": PASSWORD});
    let intruder = node.post("/api/auth/sign-in/email", &intruder).await;
    let intruder = session_of(&intruder);
    let reset = reset_token(&app, "/api/auth/request-password-reset", new).await;
    ask(&app, DOORS[1], &ada, "third@example.com").await;
    let consent = last_link(&app, "change_email_confirmation", new).await;
    let link = link_back(&app, old).await;
    let path = link.strip_prefix(&app.app.config.base_url).unwrap();

    let before = app.state().await;
    for number in 0..20 {
        let method = ["GET", "HEAD"][number % 2];
        let scan = [&app, &node][number / 2 % 2].request(method, path);
        let scan = scan.header("user-agent", format!("Mail scanner {number}"));
        let page = answer(scan.header("cookie", &ada.cookie)).await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("cache-control"), "no-store");
        assert!(method == "HEAD" || page.text.contains(r#"<form method="post">"#));
    }
    assert_eq!(app.state().await, before, "nothing was consumed or written");

    let pressed = press(&node, &link).await;
    assert_eq!(pressed.status, 200, "{}", pressed.text);
    assert!(pressed.cookies().is_empty(), "it signs nobody in");
    assert_over(&node, &app, &[&ada, &intruder]).await;
    for at in [&app, &node] {
        assert_eq!(enters(at, new, PASSWORD).await, 401);
        assert_eq!(enters(at, old, PASSWORD).await, 200);
    }
    assert_no_reset(&app, &reset).await;
    let ada = app.sign_in("ada").await;
    assert_eq!(address_of(&app, &ada).await, (old.to_owned(), true));
    let refused = follow(&app, &consent, "").await;
    assert_eq!(refused, "/settings?error=USER_NOT_FOUND");

    for at in [&app, &node] {
        assert_eq!(press(at, &link).await.status, 400);
    }
    assert!(node.is_live(&ada.cookie).await, "it works once");
    let mut lines = own_lines(&app, &ada.cookie).await;
    let mut last = lines.split_off(lines.len() - 2);
    last.sort_unstable();
    assert_eq!(last, ["email_change_reverted", "sessions_ended"]);
    // What it had in between is anybody's.
    app.verified("new").await;
}

/// S-61: for seven days to the millisecond, and the former address is kept as long.
#[tokio::test]
async fn a_former_address_is_kept_and_can_be_gone_back_to_for_seven_days_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    app.signed_in("eve").await;
    for (name, wait, in_time) in [("ada", BACK_FOR - A_MOMENT, true), ("zoe", BACK_FOR, false)] {
        let (old, new) = (email_of(name), format!("new-{name}@example.com"));
        let this = app.signed_in(name).await;
        change_to(&app, &this, &old, &new).await;
        let link = link_back(&app, &old).await;
        let eve = node.sign_in("eve").await;
        for door in DOORS {
            assert!(!is_free(&node, &old).await);
            ask(&node, door, &eve, &old).await;
        }
        let body = json!({"email": old, "password": PASSWORD});
        let taken = node.post("/api/v1/auth/register", &body).await;
        assert_eq!(taken.status, 409, "{}", taken.text);

        app.clock.advance(wait);
        if in_time {
            chores(&app, &node).await;
            assert!(!is_free(&app, &old).await, "it is kept to the end");
            assert_eq!(press(&node, &link).await.status, 200);
            assert_eq!(enters(&app, &old, PASSWORD).await, 200);
            app.clock.advance(BACK_FOR);
            chores(&app, &node).await;
            assert!(!is_free(&app, &old).await, "it is in use again");
        } else {
            // Whether or not it was given free by then.
            assert_eq!(press(&app, &link).await.status, 400);
            assert_eq!(enters(&app, &old, PASSWORD).await, 401);
            chores(&app, &node).await;
            assert_eq!(press(&node, &link).await.status, 400);
            assert!(is_free(&node, &old).await);
            assert!(!is_free(&node, &old).await);
            assert_eq!(enters(&app, &new, PASSWORD).await, 200);
        }
        // All that somebody else asked for it has led to.
        let to_old = mails(&app, "verify_email", &old).await;
        assert_eq!(
            to_old.len(),
            if in_time { 1 } else { 2 },
            "a mail for each sign-up"
        );
    }
}

/// S-61: once it is given free, somebody else's account may have it.
#[tokio::test]
async fn a_former_address_that_was_given_free_can_be_changed_to_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    app.signed_in("eve").await;
    change_to(&app, &ada, "ada@example.com", "new@example.com").await;
    app.clock.advance(BACK_FOR);
    chores(&app, &node).await;
    let eve = app.sign_in("eve").await;
    ask(&node, DOORS[0], &eve, "ada@example.com").await;
    let link = last_link(&node, "verify_email", "ada@example.com").await;
    assert_eq!(follow(&app, &link, &eve.cookie).await, "/settings");
    assert_eq!(address_of(&app, &eve).await.0, "ada@example.com");
    assert_eq!(enters(&node, "ada@example.com", PASSWORD).await, 200);
}

/// S-61: whoever has taken an account over does not get it back by what was mailed to an address of theirs.
#[tokio::test]
async fn an_address_in_between_is_no_way_back_s61() {
    let settings = [UNVERIFIED, UNCONFIRMED];
    let app = TestApp::start(&settings).await;
    let node = app.node(&settings).await;
    for (name, first) in [("ada", true), ("zoe", false)] {
        let old = email_of(name);
        let [evil, worse] = ["evil", "worse"].map(|kind| format!("{kind}-{name}@example.com"));
        app.verified(name).await;
        let this = app.sign_in(name).await;
        change_to(&app, &this, &old, &evil).await;
        app.clock.advance(TimeDelta::days(1));
        change_to(&node, &this, &evil, &worse).await;
        let [owners, intruders] = [link_back(&app, &old).await, link_back(&app, &evil).await];
        if !first {
            // The intruder gains nothing by pressing theirs before.
            assert_eq!(press(&node, &intruders).await.status, 200);
            assert_eq!(enters(&app, &evil, PASSWORD).await, 200);
        }
        assert_eq!(press(&app, &owners).await.status, 200);
        for at in [&app, &node] {
            assert_eq!(press(at, &intruders).await.status, 400);
            assert_eq!(enters(at, &old, PASSWORD).await, 200);
            for theirs in [&evil, &worse] {
                assert_eq!(enters(at, theirs, PASSWORD).await, 401);
            }
        }
        let ada = app.sign_in(name).await;
        assert_eq!(address_of(&node, &ada).await, (old, true));
        // Both are anybody's now, and the time of the link that is worth nothing takes them from nobody.
        for theirs in [&evil, &worse] {
            assert!(is_free(&node, theirs).await);
        }
        app.clock.advance(BACK_FOR);
        chores(&app, &node).await;
        for theirs in [&evil, &worse] {
            assert_eq!(enters(&app, theirs, PASSWORD).await, 200);
        }
    }
}

/// S-61: an address that was gone back to and left again is kept for seven days from then.
#[tokio::test]
async fn an_address_that_is_left_again_is_kept_anew_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let old = "ada@example.com";
    change_to(&app, &ada, old, "new@example.com").await;
    let first = link_back(&app, old).await;
    app.clock.advance(TimeDelta::days(3));
    // The owner may go back the other way as well.
    ask(&node, DOORS[1], &ada, old).await;
    let link = last_link(&app, "verify_email", old).await;
    assert_eq!(follow(&node, &link, &ada.cookie).await, "/settings");
    comes_to_have(&app, &ada, old, false).await;
    let nothing_left = press(&node, &first).await;
    assert_eq!(nothing_left.status, 400);
    assert!(app.is_live(&ada.cookie).await);
    change_to(&app, &ada, old, "other@example.com").await;
    let second = link_back(&app, old).await;

    app.clock.advance(TimeDelta::days(4));
    chores(&app, &node).await;
    assert_eq!(press(&app, &first).await.status, 400);
    assert!(!is_free(&node, old).await);
    app.clock.advance(TimeDelta::days(3) - A_MOMENT);
    chores(&app, &node).await;
    assert!(!is_free(&node, old).await);
    assert_eq!(press(&node, &second).await.status, 200);
    assert_eq!(enters(&app, old, PASSWORD).await, 200);
}
