//! Passwords that others know, or could guess from the account: refused where one is chosen, told of where one is used
//! (S-06, S-08).

#![cfg(test)]

use chrono::TimeDelta;
use mana_auth::crypto::password::breach::{BreachFilter, Key};
use serde_json::json;
use tempfile::TempDir;

use crate::account::{Shown, change, mails, reset_token};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, session_of};
use crate::harness::TestApp;

/// In the list, as typed; the last one in another form than it is kept in.
const BREACHED: [&str; 4] = ["password1", "trustno1", "iloveyou!", "pa\u{308}sswort-ﬁ"];
const EMAIL: &str = "augusta.king@lovelace.example";
const NAME: &str = "Ada Byron";
/// Address and name, or little more.
const SIMILAR: [&str; 6] = [
    EMAIL,
    "augusta.king",
    "Augusta123",
    "ada byron",
    "nORybADA2024!",
    "lovelace1815",
];

/// A file with the list, for as long as the folder lives.
fn list() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("breached");
    let mut filter = BreachFilter::with_room_for(BREACHED.len());
    for password in BREACHED {
        filter.add(Key::of_password(password.as_bytes()));
    }
    filter.write(&file).unwrap();
    let path = file.to_str().unwrap().to_owned();
    (folder, path)
}

async fn sign_up(app: &TestApp, door: &str, password: &str) -> Answer {
    let body = json!({"name": NAME, "email": EMAIL, "password": password});
    app.post(door, &body).await
}

async fn sign_in(app: &TestApp, door: &str, email: &str, password: &str) -> Answer {
    let body = json!({"email": email, "password": password});
    let signed_in = app.post(door, &body).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    signed_in
}

/// Fails unless an answer refuses a password, in the words of its area.
fn assert_refused(answer: &Answer, v1: bool, code: &str) {
    let code = if v1 { "WEAK_PASSWORD" } else { code };
    assert_eq!(answer.refusal(), (400, code.to_owned()), "{}", answer.text);
}

/// The passwords that are refused, and why.
fn refused() -> impl Iterator<Item = (&'static str, &'static str)> {
    let breached = BREACHED.map(|password| (password, "PASSWORD_COMPROMISED"));
    let similar = SIMILAR.map(|password| (password, "PASSWORD_TOO_SIMILAR"));
    breached.into_iter().chain(similar)
}

/// S-06, S-08: at every door where a password is chosen, and nothing has happened then.
#[tokio::test]
async fn a_password_that_others_know_or_guess_is_refused_at_every_door_s06_s08() {
    let (_folder, file) = list();
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_BREACHED_PASSWORDS", &file)]).await;
    let doors = [
        ("/api/auth/sign-up/email", false),
        ("/api/v1/auth/register", true),
    ];
    for (password, code) in refused() {
        for (door, v1) in doors {
            assert_refused(&sign_up(&app, door, password).await, v1, code);
        }
    }
    assert_eq!(app.count("events where aggregate_type = 'user'").await, 0);
    let ada: Session = session_of(&sign_up(&app, doors[0].0, PASSWORD).await);

    let token = reset_token(&app, "/api/auth/request-password-reset", EMAIL).await;
    let before = app.count("events").await;
    for (password, code) in refused() {
        for (door, v1) in [
            ("/api/auth/change-password", false),
            ("/api/v1/auth/change-password", true),
        ] {
            let way = (door, Shown::Cookie, None);
            let weak = change(&app, way, &ada, (PASSWORD, password)).await;
            assert_refused(&weak, v1, code);
        }
        for (door, v1) in [
            ("/api/auth/reset-password", false),
            ("/api/v1/auth/reset-password", true),
        ] {
            let body = json!({"token": token, "newPassword": password});
            assert_refused(&app.post(door, &body).await, v1, code);
        }
    }
    assert_eq!(app.count("events").await, before);
    assert!(app.is_live(&ada.cookie).await);

    // The token is still good, and so is what only looks like one of the list.
    let body = json!({"token": token, "newPassword": "Password1"});
    let reset = app.post("/api/auth/reset-password", &body).await;
    assert_eq!(reset.status, 200, "{}", reset.text);
    sign_in(&app, "/api/auth/sign-in/email", EMAIL, "Password1").await;
}

/// Without the list only what is the account's own is refused.
#[tokio::test]
async fn without_a_list_no_password_is_taken_for_a_breached_one_s06() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let similar = sign_up(&app, "/api/auth/sign-up/email", SIMILAR[0]).await;
    assert_refused(&similar, false, "PASSWORD_TOO_SIMILAR");
    assert_eq!(
        sign_up(&app, "/api/auth/sign-up/email", BREACHED[0])
            .await
            .status,
        200
    );
    sign_in(&app, "/api/v1/auth/login", EMAIL, BREACHED[0]).await;
    assert_eq!(mails(&app, "breached_password", EMAIL).await.len(), 0);
}

/// S-06: who has such a password already gets in, and gets a mail, but not each time.
#[tokio::test]
async fn a_breached_password_signs_in_and_is_told_of_once_a_day_s06() {
    const EMAIL: &str = "ada@example.com";
    let (_folder, file) = list();
    let limited = ("MANA_AUTH_RATE_LIMIT", "on");
    // The account is older than the list.
    let app = TestApp::start(&[UNVERIFIED, limited]).await;
    for (name, password) in [("ada", BREACHED[0]), ("bob", PASSWORD)] {
        let body =
            json!({"name": name, "email": format!("{name}@example.com"), "password": password});
        assert_eq!(app.post("/api/auth/sign-up/email", &body).await.status, 200);
    }
    let settings = [
        UNVERIFIED,
        limited,
        ("MANA_AUTH_BREACHED_PASSWORDS", file.as_str()),
    ];
    let app = app.node(&settings).await;
    let node = app.node(&settings).await;
    let told = async || mails(&app, "breached_password", EMAIL).await.len();

    let wrong = json!({"email": EMAIL, "password": BREACHED[1]});
    assert_eq!(
        app.post("/api/auth/sign-in/email", &wrong).await.status,
        401
    );
    assert_eq!(told().await, 0, "it is in the list, but not theirs");
    let session = sign_in(&app, "/api/auth/sign-in/email", EMAIL, BREACHED[0]).await;
    assert!(app.is_live(&session.session_cookie()).await);
    assert_eq!(told().await, 1);
    app.clock.advance(TimeDelta::seconds(10));
    sign_in(&node, "/api/v1/auth/login", EMAIL, BREACHED[0]).await;
    app.clock
        .advance(TimeDelta::days(1) - TimeDelta::seconds(11));
    sign_in(&app, "/api/v1/auth/login", EMAIL, BREACHED[0]).await;
    assert_eq!(told().await, 1);
    app.clock.advance(TimeDelta::seconds(1));
    sign_in(&node, "/api/v1/auth/login", EMAIL, BREACHED[0]).await;
    assert_eq!(told().await, 2, "and the next day once more");

    app.clock.advance(TimeDelta::seconds(10));
    sign_in(&app, "/api/auth/sign-in/email", "bob@example.com", PASSWORD).await;
    assert_eq!(
        mails(&app, "breached_password", "bob@example.com")
            .await
            .len(),
        0
    );
    let mail = mails(&app, "breached_password", EMAIL).await.pop().unwrap();
    for part in [&mail.subject, &mail.text, &mail.html] {
        assert!(!part.contains(BREACHED[0]));
    }
}
