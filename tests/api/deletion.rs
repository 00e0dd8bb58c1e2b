//! The ways in which people delete their account: what is asked of them, what they are answered, what is refused.

#![cfg(test)]

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::{Shown, assert_over, email_of, last_link, mails};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, answer, link_token};
use crate::harness::TestApp;

const NATIVE: &str = "/api/auth/delete-user";
const CALLBACK: &str = "/api/auth/delete-user/callback";
const V1: &str = "/api/v1/auth/account";
/// It takes a mailed link.
const BY_LINK: [(&str, &str); 2] = [UNVERIFIED, ("MANA_AUTH_DELETE_USER_CONFIRM", "true")];
/// A session counts as fresh for a day (contract section 2).
const FRESH_FOR: TimeDelta = TimeDelta::days(1);
/// A link that deletes an account is good for a day.
const LINK_FOR: TimeDelta = TimeDelta::hours(24);

/// Asks for a deletion at one of the two doors.
pub async fn delete(
    app: &TestApp,
    path: &str,
    (shown, session): (Shown, &Session),
    body: &Value,
) -> Answer {
    let method = if path == V1 {
        Method::DELETE
    } else {
        Method::POST
    };
    let request = app.request(method.as_str(), path).json(body);
    answer(shown.on(app, session, request).await).await
}

/// Deletes an account with its password.
pub async fn delete_account(app: &TestApp, session: &Session) {
    let body = json!({"password": PASSWORD});
    let deleted = delete(app, NATIVE, (Shown::Cookie, session), &body).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
}

async fn follow(app: &TestApp, session: &Session, query: &[(&str, &str)]) -> Answer {
    let request = app.request("GET", CALLBACK).query(query);
    answer(request.header("cookie", &session.cookie)).await
}

/// Asks for the link that deletes an account, and gives its token.
async fn mailed_token(app: &TestApp, name: &str, session: &Session) -> String {
    let body = json!({"password": PASSWORD});
    let asked = delete(app, NATIVE, (Shown::Cookie, session), &body).await;
    let wanted = json!({"success": true, "message": "Verification email sent"});
    assert_eq!((asked.status, asked.json()), (200, wanted));
    let link = last_link(app, "delete_account", &email_of(name)).await;
    link_token(&link).to_owned()
}

/// Fails unless the browser forgets the session.
fn assert_forgotten(answer: &Answer) {
    for name in ["session_token", "session_data", "dont_remember"] {
        let of_name = format!("{name}=;");
        let mut cookies = answer.cookies().into_iter();
        let cleared = cookies.find(|cookie| cookie.contains(&of_name));
        let cleared = cleared.unwrap_or_else(|| panic!("{name}: {:?}", answer.cookies()));
        assert!(cleared.contains("Max-Age=0"), "{cleared}");
    }
}

async fn assert_gone(here: &TestApp, there: &TestApp, name: &str, sessions: &[&Session]) {
    assert_over(here, there, sessions).await;
    for app in [here, there] {
        let refused = app.try_sign_in(name, PASSWORD).await.refusal();
        assert_eq!(refused, (401, "INVALID_EMAIL_OR_PASSWORD".to_owned()));
    }
    let of_user = format!("read.users where id = '{}'", sessions[0].user_id);
    assert_eq!(here.count(&of_user).await, 0);
    let told = mails(here, "account_deleted", &email_of(name)).await;
    assert_eq!(told.len(), 1, "one last mail");
}

/// With the password at both doors, whatever shows the session; without it while the session is fresh.
#[tokio::test]
async fn an_account_is_deleted_with_its_password_or_in_a_fresh_session() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let (nothing, password) = (json!({}), json!({"password": PASSWORD}));
    let ways = [
        (NATIVE, Shown::Cookie, &password, FRESH_FOR),
        (NATIVE, Shown::Token, &password, TimeDelta::zero()),
        (
            NATIVE,
            Shown::Cookie,
            &nothing,
            FRESH_FOR - TimeDelta::milliseconds(1),
        ),
        (NATIVE, Shown::Token, &nothing, TimeDelta::zero()),
        (V1, Shown::Cookie, &password, FRESH_FOR),
        (V1, Shown::Token, &password, TimeDelta::zero()),
        (V1, Shown::Jwt, &password, TimeDelta::zero()),
    ];
    for (number, (path, shown, body, age)) in ways.into_iter().enumerate() {
        let name = format!("person{number}");
        let first = app.signed_in(&name).await;
        app.clock.advance(age);
        let second = node.sign_in(&name).await;
        let deleted = delete(&app, path, (shown, &first), body).await;
        assert_eq!(deleted.status, 200, "{number}: {}", deleted.text);
        let wanted = match path {
            V1 => json!({"success": true}),
            _ => json!({"success": true, "message": "User deleted"}),
        };
        assert_eq!(deleted.json(), wanted, "{number}");
        assert_forgotten(&deleted);
        assert_gone(&app, &node, &name, &[&first, &second]).await;
    }
}

/// Where it takes a mail, asking deletes nothing; the link does, in whichever way it is redeemed.
#[tokio::test]
async fn an_account_is_deleted_by_the_link_that_was_mailed() {
    let app = TestApp::start(&BY_LINK).await;
    let node = app.node(&BY_LINK).await;
    // Where the callback leads; else whether the password goes along with the token.
    let ways = [Err(false), Err(true), Ok(""), Ok("/goodbye")];
    for (number, way) in ways.into_iter().enumerate() {
        let name = format!("person{number}");
        let first = app.signed_in(&name).await;
        let second = node.sign_in(&name).await;
        for (path, body) in [
            (NATIVE, json!({})),
            (V1, json!({"password": PASSWORD})),
            (NATIVE, json!({"callbackURL": "/goodbye"})),
        ] {
            let asked = delete(&app, path, (Shown::Cookie, &first), &body).await;
            let wanted = json!({"success": true, "message": "Verification email sent"});
            assert_eq!((asked.status, asked.json()), (200, wanted), "{path}");
        }
        let link = last_link(&app, "delete_account", &email_of(&name)).await;
        assert!(link.contains(CALLBACK), "{link}");
        assert!(link.ends_with("&callbackURL=%2Fgoodbye"), "{link}");
        let token = mailed_token(&app, &name, &first).await;
        assert!(node.is_live(&second.cookie).await, "nothing happened yet");
        // The token needs no fresh session.
        app.clock.advance(LINK_FOR - TimeDelta::milliseconds(1));
        let deleted = match way {
            Ok(target) => {
                let query = [("token", token.as_str()), ("callbackURL", target)];
                follow(&node, &second, &query).await
            }
            Err(with_password) => {
                let mut body = json!({"token": token});
                if with_password {
                    body["password"] = json!(PASSWORD);
                }
                delete(&node, NATIVE, (Shown::Cookie, &second), &body).await
            }
        };
        if way == Ok("/goodbye") {
            assert_eq!(deleted.status, 302, "{}", deleted.text);
            assert_eq!(deleted.header("location"), "/goodbye");
        } else {
            let wanted = json!({"success": true, "message": "User deleted"});
            assert_eq!((deleted.status, deleted.json()), (200, wanted));
        }
        assert_forgotten(&deleted);
        assert_gone(&node, &app, &name, &[&second, &first]).await;
        // All links that were mailed are gone with the account.
        let tokens = format!("tokens where user_id = '{}'", first.user_id);
        assert_eq!(app.count(&tokens).await, 0);
    }
}

/// Fails unless it is refused so, and the account is as it was.
async fn assert_refused(app: &TestApp, session: &Session, refused: &Answer, wanted: (u16, &str)) {
    let (status, code) = wanted;
    assert_eq!(
        refused.refusal(),
        (status, code.to_owned()),
        "{}",
        refused.text
    );
    let cleared = refused
        .cookies()
        .into_iter()
        .any(|line| line.contains("session_token=;"));
    assert!(!cleared || code == "UNAUTHORIZED", "{code}");
    assert!(app.is_live(&session.cookie).await);
    assert_eq!(app.count("read.erasures").await, 0);
}

#[tokio::test]
async fn nobody_deletes_an_account_who_does_not_show_that_it_is_theirs() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let nobody = Session {
        user_id: String::new(),
        token: "x".repeat(32),
        cookie: String::new(),
    };
    let wrong = json!({"password": "another good password"});
    let right = json!({"password": PASSWORD});
    let elsewhere = "https://evil.example/";
    let foreign = json!({"password": PASSWORD, "callbackURL": elsewhere});
    for (session, path, body, wanted) in [
        (&nobody, NATIVE, &right, (401, "UNAUTHORIZED")),
        (&nobody, V1, &right, (401, "UNAUTHORIZED")),
        (&ada, NATIVE, &wrong, (400, "INVALID_PASSWORD")),
        (&ada, V1, &wrong, (401, "INVALID_CREDENTIALS")),
        (&ada, V1, &json!({}), (400, "VALIDATION")),
        (&ada, V1, &json!({"password": 1}), (400, "VALIDATION")),
        (
            &ada,
            NATIVE,
            &json!({"password": 1}),
            (400, "VALIDATION_ERROR"),
        ),
        (
            &ada,
            NATIVE,
            &json!({"token": "x".repeat(32)}),
            (404, "INVALID_TOKEN"),
        ),
        (&ada, NATIVE, &foreign, (403, "INVALID_CALLBACK_URL")),
    ] {
        let refused = delete(&app, path, (Shown::Token, session), body).await;
        assert_refused(&app, &ada, &refused, wanted).await;
    }
    let refused = app.post(NATIVE, &right).await;
    assert_refused(&app, &ada, &refused, (401, "UNAUTHORIZED")).await;
    // A page that is not trusted.
    let request = app.request("POST", NATIVE).json(&right);
    let request = request.header("cookie", &ada.cookie);
    let refused = answer(request.header("origin", elsewhere)).await;
    assert_refused(&app, &ada, &refused, (403, "INVALID_ORIGIN")).await;
    // Whoever finds a browser that was left open yesterday.
    app.clock.advance(FRESH_FOR);
    let refused = delete(&app, NATIVE, (Shown::Cookie, &ada), &json!({})).await;
    assert_refused(&app, &ada, &refused, (400, "SESSION_EXPIRED")).await;
    delete_account(&app, &ada).await;
}

/// A link works once, for a day, for whom it was mailed to, and leads nowhere else.
#[tokio::test]
async fn a_link_deletes_nothing_for_whom_it_was_not_mailed_to() {
    let app = TestApp::start(&BY_LINK).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    let invalid = (404, "INVALID_TOKEN");
    let token = mailed_token(&app, "ada", &ada).await;

    // Nobody is signed in, or it would lead elsewhere: the token stays good.
    let request = app.request("GET", CALLBACK).query(&[("token", &token)]);
    let refused = answer(request).await;
    assert_refused(&app, &ada, &refused, (404, "FAILED_TO_GET_USER_INFO")).await;
    for target in [
        "https://evil.example/",
        "//evil.example",
        "javascript:alert(1)",
    ] {
        let query = [("token", token.as_str()), ("callbackURL", target)];
        let refused = follow(&app, &ada, &query).await;
        assert_refused(&app, &ada, &refused, (403, "INVALID_CALLBACK_URL")).await;
        let body = json!({"token": token, "callbackURL": target});
        let refused = delete(&app, NATIVE, (Shown::Cookie, &ada), &body).await;
        assert_refused(&app, &ada, &refused, (403, "INVALID_CALLBACK_URL")).await;
    }
    let good = format!(
        "tokens where kind = 'delete-account' and user_id = '{}'",
        ada.user_id
    );
    assert_eq!(app.count(&good).await, 1);

    // Somebody else tries it, and spends it.
    let refused = follow(&app, &bob, &[("token", &token)]).await;
    assert_refused(&app, &bob, &refused, invalid).await;
    let refused = follow(&app, &ada, &[("token", &token)]).await;
    assert_refused(&app, &ada, &refused, invalid).await;
    let token = mailed_token(&app, "ada", &ada).await;
    let body = json!({"token": token, "password": PASSWORD});
    let refused = delete(&app, NATIVE, (Shown::Cookie, &bob), &body).await;
    assert_refused(&app, &bob, &refused, invalid).await;
    let refused = delete(&app, NATIVE, (Shown::Cookie, &ada), &body).await;
    assert_refused(&app, &ada, &refused, invalid).await;

    // Tokens of other kinds, and one whose time is over.
    let token = mailed_token(&app, "ada", &ada).await;
    let mail = mails(&app, "delete_account", &email_of("ada")).await;
    let (_, other) = mail
        .last()
        .unwrap()
        .text
        .split_once("end-sessions?token=")
        .unwrap();
    let other = other.split_whitespace().next().unwrap();
    for token in [other, ada.token.as_str(), ""] {
        let refused = follow(&app, &ada, &[("token", token)]).await;
        assert_refused(&app, &ada, &refused, invalid).await;
    }
    app.clock.advance(LINK_FOR);
    let refused = follow(&app, &ada, &[("token", &token)]).await;
    assert_refused(&app, &ada, &refused, invalid).await;
}
