//! The security log: a line for each thing that happened to an account, there before the answer, and no more of them
//! than fit, however often somebody tries (contract section 14.1).

#![cfg(test)]

use std::collections::BTreeSet;

use chrono::TimeDelta;
use futures_util::StreamExt as _;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, session_of};
use crate::doors::address;
use crate::harness::TestApp;

const ADMIN: (&str, &str) = ("MANA_AUTH_ADMIN_EMAILS", "root@example.com");
pub const ALL: &str = "/api/v1/admin/security-events";
pub const OWN: &str = "/api/v1/auth/security-events";

/// A service with an admin.
pub struct Watched {
    pub app: TestApp,
    pub admin: Session,
    /// Ids of the lines that were looked at.
    seen: BTreeSet<String>,
}

impl Watched {
    pub async fn start(settings: &[(&str, &str)]) -> Watched {
        let app = TestApp::start(&[&[ADMIN], settings].concat()).await;
        if settings.contains(&UNVERIFIED) {
            app.sign_up("root").await;
        } else {
            app.verified("root").await;
        }
        let admin = app.sign_in("root").await;
        let seen = BTreeSet::new();
        let mut watched = Watched { app, admin, seen };
        watched.new_lines().await;
        watched
    }

    /// What the admin's view answers to a query.
    pub async fn ask(&self, query: &str) -> Answer {
        let token = self.app.jwt(&self.admin.cookie).await;
        let request = self.app.request("GET", &format!("{ALL}?{query}"));
        answer(request.bearer_auth(token)).await
    }

    /// The lines of the admin's view that were not there before, without those of its being read.
    async fn new_lines(&mut self) -> Vec<Value> {
        let answer = self.ask("limit=200").await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let lines = answer.json()["events"].as_array().unwrap().clone();
        lines
            .into_iter()
            .filter(|line| type_of(line) != "AUDIT_READ")
            .filter(|line| self.seen.insert(line["id"].as_str().unwrap().to_owned()))
            .collect()
    }

    /// Fails unless exactly these lines are new, and all about this person.
    async fn assert_new(&mut self, user_id: &str, wanted: &[&str]) {
        let lines = self.new_lines().await;
        let mut types: Vec<&str> = lines.iter().map(type_of).collect();
        types.sort_unstable();
        assert_eq!(types, wanted, "{lines:?}");
        for line in &lines {
            assert_eq!(line["userId"], user_id, "{line}");
        }
    }
}

pub fn type_of(line: &Value) -> &str {
    line["eventType"].as_str().unwrap()
}

pub fn with_cookie(request: RequestBuilder, session: &Session) -> RequestBuilder {
    request
        .header("cookie", &session.cookie)
        .header("origin", ORIGIN)
}

/// Contract section 14.1: a journey through an account, each step with its lines before it is answered, and no others.
#[tokio::test]
async fn each_step_of_an_account_has_its_line_before_the_answer() {
    let mut watched = Watched::start(&[
        ("MANA_AUTH_RATE_LIMIT", "on"),
        ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8"),
    ])
    .await;
    let base = watched.app.base.clone();
    let client = watched.app.client.clone();
    let mut from = (0..).map(address);
    let mut send = async |request: RequestBuilder| {
        let request = request.header("x-forwarded-for", from.next().unwrap());
        answer(request).await
    };
    let post = |path: &str, body: &Value| client.post(format!("{base}{path}")).json(body);
    let credentials = |email: &str, password: &str| json!({"email": email, "password": password});
    let (ada, new) = ("ada@example.com", "another good password");

    let registered = send(post("/api/v1/auth/register", &credentials(ada, PASSWORD))).await;
    let id = registered.json()["user"]["id"].as_str().unwrap().to_owned();
    watched.assert_new(&id, &["REGISTER"]).await;
    let refused = send(post("/api/v1/auth/login", &credentials(ada, PASSWORD))).await;
    assert_eq!(refused.status, 403);
    watched.assert_new(&id, &["LOGIN_FAILURE"]).await;
    let link = watched.app.wait_for_mail(ada, 0).await.url.unwrap();
    watched.app.follow(&link).await;
    // The proof signs in.
    let wanted = ["EMAIL_VERIFIED", "LOGIN_SUCCESS"];
    watched.assert_new(&id, &wanted).await;
    watched.app.follow(&link).await;
    watched.assert_new(&id, &[]).await;

    for (door, out) in [
        ("/api/auth/sign-in/email", "/api/auth/sign-out"),
        ("/api/v1/auth/login", "/api/v1/auth/logout"),
    ] {
        let signed_in = send(post(door, &credentials(ada, PASSWORD))).await;
        let session = session_of(&signed_in);
        watched.assert_new(&id, &["LOGIN_SUCCESS"]).await;
        let wrong = send(post(door, &credentials(ada, "wrong"))).await;
        assert_eq!(wrong.status, 401);
        watched.assert_new(&id, &["LOGIN_FAILURE"]).await;
        send(with_cookie(post(out, &json!({})), &session)).await;
        watched.assert_new(&id, &["LOGOUT"]).await;
        send(with_cookie(post(out, &json!({})), &session)).await;
        watched.assert_new(&id, &[]).await;
    }

    let signed_in = send(post("/api/v1/auth/login", &credentials(ada, PASSWORD))).await;
    let session = session_of(&signed_in);
    watched.assert_new(&id, &["LOGIN_SUCCESS"]).await;
    for (path, name) in [
        ("/api/auth/update-user", "A"),
        ("/api/v1/auth/profile", "B"),
    ] {
        send(with_cookie(post(path, &json!({"name": name})), &session)).await;
        watched.assert_new(&id, &["PROFILE_UPDATED"]).await;
    }
    let body = json!({"name": "Engines", "slug": "engines"});
    let path = "/api/auth/organization/create";
    let founded = send(with_cookie(post(path, &body), &session)).await;
    let organization = json!({"organizationId": founded.json()["id"]});
    watched.assert_new(&id, &["ORG_CREATED"]).await;
    let path = "/api/auth/organization/delete";
    for wanted in [&["ORG_DELETED"][..], &[]] {
        send(with_cookie(post(path, &organization), &session)).await;
        watched.assert_new(&id, wanted).await;
    }
    let own = send(with_cookie(client.get(format!("{base}{OWN}")), &session)).await;
    let deleted = own.json()[0].clone();
    assert_eq!(deleted["eventType"], "org_deleted");
    assert_eq!(deleted["metadata"], organization);
    assert!(
        deleted["ipAddress"]
            .as_str()
            .unwrap()
            .starts_with("100.64.")
    );
    for (path, old, next) in [
        ("/api/auth/change-password", PASSWORD, new),
        ("/api/v1/auth/change-password", new, PASSWORD),
    ] {
        let body = |current: &str| json!({"currentPassword": current, "newPassword": next});
        send(with_cookie(post(path, &body("wrong")), &session)).await;
        watched.assert_new(&id, &["PASSWORD_CHANGE_FAILED"]).await;
        let changed = send(with_cookie(post(path, &body(old)), &session)).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        let wanted = ["PASSWORD_CHANGED", "SESSIONS_ENDED"];
        watched.assert_new(&id, &wanted).await;
    }

    let body = json!({"newEmail": "lovelace@example.com"});
    send(with_cookie(
        post("/api/v1/auth/change-email", &body),
        &session,
    ))
    .await;
    watched.assert_new(&id, &["EMAIL_CHANGE_REQUESTED"]).await;
    watched.app.effects_done().await;
    let mails = watched.app.mails();
    let confirm = mails
        .iter()
        .find(|mail| mail.kind == "change_email_confirmation");
    watched
        .app
        .follow(confirm.unwrap().url.as_ref().unwrap())
        .await;
    watched.assert_new(&id, &["EMAIL_CHANGE_CONFIRMED"]).await;
    let verify = watched.app.wait_for_mail("lovelace@example.com", 0).await;
    watched.app.follow(&verify.url.unwrap()).await;
    let wanted = ["EMAIL_CHANGED", "SESSIONS_ENDED"];
    watched.assert_new(&id, &wanted).await;
    let lovelace = "lovelace@example.com";

    send(post(
        "/api/v1/auth/forgot-password",
        &json!({"email": lovelace}),
    ))
    .await;
    // Whose address it is, is looked up behind the answer.
    watched.app.effects_done().await;
    watched.assert_new(&id, &["PASSWORD_RESET_REQUESTED"]).await;
    let mails = watched.app.mails();
    let mail = mails.iter().find(|mail| mail.kind == "reset_password");
    let url = mail.unwrap().url.as_ref().unwrap();
    let token = url.rsplit_once('/').unwrap().1.split('?').next().unwrap();
    let body = json!({"token": token, "newPassword": new});
    let reset = send(post("/api/v1/auth/reset-password", &body)).await;
    assert_eq!(reset.status, 200, "{}", reset.text);
    let wanted = ["PASSWORD_RESET_COMPLETED", "SESSIONS_ENDED"];
    watched.assert_new(&id, &wanted).await;

    let stream = format!("events where aggregate_id = '{id}'");
    let events = watched.app.count(&stream).await;
    for _ in 0..4 {
        send(post("/api/v1/auth/login", &credentials(lovelace, "wrong"))).await;
        watched.assert_new(&id, &["LOGIN_FAILURE"]).await;
    }
    assert_eq!(watched.app.count(&stream).await, events, "I-11");
    send(post("/api/v1/auth/login", &credentials(lovelace, "wrong"))).await;
    let wanted = ["ACCOUNT_LOCKED", "LOGIN_FAILURE"];
    watched.assert_new(&id, &wanted).await;
    assert_eq!(watched.app.count(&stream).await, events + 1, "I-11");
    send(post("/api/v1/auth/login", &credentials(lovelace, new))).await;
    watched.assert_new(&id, &[]).await;

    watched.app.clock.advance(TimeDelta::minutes(30));
    let signed_in = send(post("/api/v1/auth/login", &credentials(lovelace, new))).await;
    let session = session_of(&signed_in);
    watched.assert_new(&id, &["LOGIN_SUCCESS"]).await;
    let request = client.delete(format!("{base}/api/v1/auth/account"));
    let request = request.json(&json!({"password": new}));
    let deleted = send(with_cookie(request, &session)).await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    let left = watched.ask(&format!("userId={id}")).await.json();
    let left = left["events"].as_array().unwrap();
    assert_eq!(left.len(), 1, "nothing else is left of them: {left:?}");
    assert_eq!(type_of(&left[0]), "ACCOUNT_DELETED");
    assert_eq!(left[0]["ipAddress"], "");
    let about = format!("door_events where user_id = '{id}'");
    assert_eq!(watched.app.count(&about).await, 0);
}

/// What a line says, and of an address that nobody has.
#[tokio::test]
async fn a_line_says_from_where_and_why() {
    let mut watched =
        Watched::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let ada = watched.app.signed_in("ada").await;
    watched.new_lines().await;
    for (name, user_id) in [("ada", json!(ada.user_id)), ("nobody", Value::Null)] {
        let body = json!({"email": format!("{name}@example.com"), "password": "wrong"});
        let request = watched
            .app
            .request("POST", "/api/v1/auth/login")
            .json(&body);
        let request = request
            .header("x-forwarded-for", "203.0.113.7")
            .header("user-agent", "A browser");
        answer(request).await;
        let lines = watched.new_lines().await;
        let mut line = lines[0].clone();
        assert_eq!(line["id"].take().as_str().unwrap().len(), 36);
        let at = watched.app.clock.now();
        let wanted = json!({
            "id": null, "userId": user_id, "eventType": "LOGIN_FAILURE", "ipAddress": "203.0.113.7",
            "userAgent": "A browser", "metadata": {"code": "INVALID_CREDENTIALS"},
            "createdAt": at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        });
        assert_eq!((lines.len(), line), (1, wanted));
        // S-37: nothing in the database names the address that was tried.
        let named = format!("door_events d where d::text like '%{name}@%'");
        assert_eq!(watched.app.count(&named).await, 0);
    }
}

/// I-11: who tries 500 times fills neither the log of doors nor anybody's stream.
#[tokio::test]
async fn five_hundred_failures_leave_fifty_lines_and_no_event_i11() {
    const AT_ONCE: usize = 8;
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    app.signed_in("eve").await;
    app.try_sign_in("eve", "wrong").await;
    let events = app.count("events").await;
    let tries = (0..500).map(|_| app.try_sign_in("ada", "wrong"));
    let statuses: Vec<u16> = futures_util::stream::iter(tries)
        .buffer_unordered(AT_ONCE)
        .map(|answer| answer.status)
        .collect()
        .await;
    assert!(statuses.iter().all(|status| *status == 401));
    let of_ada = format!("door_events where user_id = '{}'", ada.user_id);
    let lines = usize::try_from(app.count(&of_ada).await).unwrap();
    assert!(
        lines < 50 + AT_ONCE,
        "{lines}: those that were written at once do not see each other"
    );
    app.clock.advance(TimeDelta::seconds(1));
    app.try_sign_in("ada", "wrong").await;
    assert_eq!(app.count(&of_ada).await, 50);
    assert_eq!(app.count("door_events").await, 51, "eve's line stays");
    assert_eq!(app.count("events").await, events);
    let newest = app
        .get_as(&format!("{OWN}?limit=1"), &ada.cookie)
        .await
        .json();
    let now = app
        .clock
        .now()
        .to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    assert_eq!(newest[0]["createdAt"], now, "the oldest go");

    for number in 0..60 {
        let door = [
            "/api/auth/request-password-reset",
            "/api/v1/auth/forgot-password",
        ][number % 2];
        app.post(door, &json!({"email": "nobody@example.com"}))
            .await;
    }
    assert_eq!(app.count("door_events where user_id is null").await, 50);
    app.effects_done().await;
    assert_eq!(app.count("events").await, events);
}
