//! Several people signed in on one device, where that is configured.

#![cfg(test)]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, session_of};
use crate::harness::TestApp;

const ON: [(&str, &str); 3] = [
    UNVERIFIED,
    ("MANA_AUTH_MULTI_SESSION", "true"),
    ("MANA_AUTH_ADMIN_EMAILS", "root@example.com"),
];

/// A browser: it keeps what it is given, and forgets what is cleared.
#[derive(Default)]
struct Browser(Vec<(String, String)>);

impl Browser {
    fn take(&mut self, answer: &Answer) {
        for line in answer.cookies() {
            let (name, value) = line.split(';').next().unwrap().split_once('=').unwrap();
            self.0.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.0.push((name.to_owned(), value.to_owned()));
            }
        }
    }

    fn cookies(&self) -> String {
        let pairs = self.0.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        pairs.join("; ")
    }

    /// How many sessions it may go over to.
    fn kept(&self) -> usize {
        let names = self.0.iter();
        names.filter(|(name, _)| name.contains("_multi-")).count()
    }

    async fn post(&mut self, app: &TestApp, path: &str, body: &Value) -> Answer {
        let answer = app.post_as(path, &self.cookies(), body).await;
        self.take(&answer);
        answer
    }

    async fn sign_in(&mut self, app: &TestApp, name: &str, remember: bool) -> Session {
        let body = json!({
            "email": format!("{name}@example.com"), "password": PASSWORD, "rememberMe": remember,
        });
        let answer = self.post(app, "/api/auth/sign-in/email", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        session_of(&answer)
    }

    /// Whom it may go over to, in the order of the list.
    async fn list(&mut self, app: &TestApp) -> Vec<String> {
        let path = "/api/auth/multi-session/list-device-sessions";
        let answer = app.get_as(path, &self.cookies()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        self.take(&answer);
        let list = answer.json();
        let list = list.as_array().unwrap().iter();
        list.map(|one| one["user"]["name"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Who it is just now.
    async fn who(&self, app: &TestApp) -> Value {
        let answer = app.get_as("/api/auth/get-session", &self.cookies()).await;
        answer.json()["user"]["name"].clone()
    }
}

/// Everybody of these tests, and a browser in which nobody is.
async fn people(app: &TestApp, names: &[&str]) -> Browser {
    for name in names {
        app.signed_in(name).await;
        // Sessions are listed in the order in which they began.
        app.clock.advance(TimeDelta::seconds(1));
    }
    Browser::default()
}

const SET_ACTIVE: &str = "/api/auth/multi-session/set-active";
const REVOKE: &str = "/api/auth/multi-session/revoke";

fn token(session: &Session) -> Value {
    json!({"sessionToken": session.token})
}

fn invalid() -> (u16, String) {
    (401, "INVALID_SESSION_TOKEN".to_owned())
}

#[tokio::test]
async fn where_it_is_off_there_are_neither_routes_nor_cookies() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    let ada = browser.sign_in(&node, "ada", true).await;
    assert_eq!(browser.kept(), 1);
    browser.sign_in(&app, "bob", true).await;
    assert_eq!(browser.kept(), 1, "none is added");
    for path in [SET_ACTIVE, REVOKE] {
        let answer = app.post_as(path, &browser.cookies(), &token(&ada)).await;
        assert_eq!((answer.status, answer.text.as_str()), (404, ""), "{path}");
    }
    let list = "/api/auth/multi-session/list-device-sessions";
    let answer = app.get_as(list, &browser.cookies()).await;
    assert_eq!((answer.status, answer.text.as_str()), (404, ""));
    browser.post(&app, "/api/auth/sign-out", &json!({})).await;
    assert!(
        app.is_live(&ada.cookie).await,
        "only the one that counts ends"
    );
}

#[tokio::test]
async fn a_device_goes_from_one_person_to_the_other_and_back() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    let ada = browser.sign_in(&app, "ada", true).await;
    app.clock.advance(TimeDelta::seconds(1));
    let bob = browser.sign_in(&app, "bob", false).await;
    assert_eq!(browser.list(&app).await, ["ada", "bob"]);
    assert_eq!(browser.who(&app).await, "bob");
    let active = browser.post(&app, SET_ACTIVE, &token(&ada)).await;
    assert_eq!(active.json()["user"]["name"], "ada");
    assert_eq!(browser.who(&app).await, "ada");
    assert!(
        !browser.cookies().contains("dont_remember"),
        "hers outlives the browser"
    );
    browser.post(&app, SET_ACTIVE, &token(&bob)).await;
    assert!(browser.cookies().contains("dont_remember"), "his does not");
    // The one that counts ends: the other takes its place. The last one ends: nobody is in.
    let revoked = browser.post(&app, REVOKE, &token(&bob)).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(browser.who(&app).await, "ada");
    assert!(!app.is_live(&bob.cookie).await);
    browser.post(&app, REVOKE, &token(&ada)).await;
    assert_eq!(browser.who(&app).await, Value::Null);
    assert_eq!(browser.cookies(), "");
}

#[tokio::test]
async fn one_that_does_not_count_ends_alone() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    let ada = browser.sign_in(&app, "ada", true).await;
    browser.sign_in(&app, "bob", true).await;
    let revoked = browser.post(&app, REVOKE, &token(&ada)).await;
    assert_eq!(revoked.session_cookie(), "");
    assert_eq!(browser.who(&app).await, "bob");
    assert_eq!(browser.list(&app).await, ["bob"]);
    assert_eq!(
        app.last_actor("session.ended").await,
        format!("user:{}", ada.user_id)
    );
}

/// S-62: only what the device shows by its own cookies counts.
#[tokio::test]
async fn a_token_without_its_cookie_is_worth_nothing_s62() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    browser.sign_in(&app, "ada", true).await;
    let foreign = app.sign_in("bob").await;
    let prefix = "mana.session_token_multi-";
    let signed = foreign.cookie.split_once('=').unwrap().1;
    let name = |token: &str| format!("{prefix}{}", token.to_lowercase());
    for forged in [
        String::new(),
        // Unsigned, under another name, and somebody else's signature.
        format!("; {}={}", name(&foreign.token), foreign.token),
        format!("; {}={signed}", name("x")),
        format!("; {}={}x", name(&foreign.token), signed),
    ] {
        let cookies = format!("{}{forged}", browser.cookies());
        for path in [SET_ACTIVE, REVOKE] {
            let refused = app.post_as(path, &cookies, &token(&foreign)).await;
            assert_eq!(refused.refusal(), invalid(), "{forged}");
            assert!(refused.cookies().is_empty());
        }
    }
    assert!(app.is_live(&foreign.cookie).await);
    let nobody = app.post(SET_ACTIVE, &token(&foreign)).await;
    assert_eq!(nobody.refusal(), invalid());
    // S-40
    let request = app.request("POST", SET_ACTIVE).json(&token(&foreign));
    let request = request.header("cookie", browser.cookies());
    let from_elsewhere = crate::client::answer(request.header("origin", "https://evil.example"));
    assert_eq!(from_elsewhere.await.refusal().1, "INVALID_ORIGIN");
}

#[tokio::test]
async fn what_is_over_is_no_choice_any_more() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    let ada = browser.sign_in(&app, "ada", true).await;
    browser.sign_in(&app, "bob", true).await;
    let ended = app
        .post_as("/api/auth/sign-out", &ada.cookie, &json!({}))
        .await;
    assert_eq!(ended.status, 200);
    let refused = browser.post(&app, SET_ACTIVE, &token(&ada)).await;
    assert_eq!(refused.refusal(), invalid());
    assert_eq!(browser.kept(), 1, "its cookie is cleared");
    assert_eq!(browser.list(&app).await, ["bob"]);
}

#[tokio::test]
async fn a_device_keeps_five_and_one_of_each_person() {
    let app = TestApp::start(&ON).await;
    let names = ["a", "b", "c", "d", "e", "f"];
    let mut browser = people(&app, &names).await;
    for name in names {
        browser.sign_in(&app, name, true).await;
        app.clock.advance(TimeDelta::seconds(1));
    }
    assert_eq!(browser.who(&app).await, "f", "the sixth is in all the same");
    assert_eq!(browser.list(&app).await, names[..5]);
    // Whoever comes back takes their own place.
    browser.sign_in(&app, "b", true).await;
    assert_eq!(browser.list(&app).await, ["a", "c", "d", "e", "b"]);
}

#[tokio::test]
async fn signing_out_ends_every_session_of_the_device() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    let ada = browser.sign_in(&app, "ada", true).await;
    let bob = browser.sign_in(&app, "bob", true).await;
    let elsewhere = app.sign_in("ada").await;
    browser.post(&app, "/api/auth/sign-out", &json!({})).await;
    assert_eq!(browser.cookies(), "");
    for session in [&ada, &bob] {
        assert!(!app.is_live(&session.cookie).await);
    }
    assert!(app.is_live(&elsewhere.cookie).await);
}

#[tokio::test]
async fn a_session_that_begins_anew_takes_the_place_of_the_old_one() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["ada", "bob"]).await;
    browser.sign_in(&app, "bob", true).await;
    app.clock.advance(TimeDelta::seconds(1));
    browser.sign_in(&app, "ada", true).await;
    let change = json!({
        "currentPassword": PASSWORD, "newPassword": "another good password", "revokeOtherSessions": true,
    });
    let changed = browser
        .post(&app, "/api/auth/change-password", &change)
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(browser.kept(), 2);
    assert_eq!(browser.list(&app).await, ["bob", "ada"]);
}

/// S-66: acting as somebody is none of the device's sessions.
#[tokio::test]
async fn an_impersonated_session_is_not_kept_s66() {
    let app = TestApp::start(&ON).await;
    let mut browser = people(&app, &["root", "ada"]).await;
    let ada = app.sign_in("ada").await;
    browser.sign_in(&app, "root", true).await;
    let path = "/api/auth/admin/impersonate-user";
    let acting = browser
        .post(&app, path, &json!({"userId": ada.user_id}))
        .await;
    assert_eq!(acting.status, 200, "{}", acting.text);
    assert_eq!(browser.who(&app).await, "ada");
    assert_eq!(browser.list(&app).await, ["root"]);
    let token = json!({"sessionToken": acting.json()["session"]["token"]});
    assert_eq!(
        browser.post(&app, SET_ACTIVE, &token).await.refusal(),
        invalid()
    );
    browser
        .post(&app, "/api/auth/admin/stop-impersonating", &json!({}))
        .await;
    assert_eq!(browser.who(&app).await, "root");
}
