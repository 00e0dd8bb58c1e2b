//! Passkeys on both sides: adding them, signing in, looking after them.

#![cfg(test)]

use aggregates::user::{User, UserCommand};
use chrono::TimeDelta;
use mana_auth::guard::PASSKEY_LIMIT;
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use crate::authenticator::{Authenticator, BACKED_UP, BACKUP_ELIGIBLE};
use crate::client::{Answer, ORIGIN, Session, UNVERIFIED, answer};
use crate::harness::TestApp;
use crate::limits::LIMITED;

/// The cookie of a ceremony.
const COOKIE: &str = "mana.better-auth-passkey";
/// The doors of the official client that end a ceremony.
pub const ADD: &str = "/api/auth/passkey/verify-registration";
pub const SIGN_IN: &str = "/api/auth/passkey/verify-authentication";
/// The same of the apps' own clients.
pub const OWN_ADD: &str = "/api/v1/auth/passkeys/register/verify";
pub const OWN_SIGN_IN: &str = "/api/v1/auth/passkeys/authenticate/verify";

/// A ceremony that has begun.
pub struct Ceremony {
    pub options: Value,
    /// A `Cookie` header.
    pub cookie: String,
}

/// Begins a ceremony with the official client: to add a passkey in this session, or to sign in with none.
pub async fn begin(app: &TestApp, what: &str, session: &str) -> Ceremony {
    let path = format!("/api/auth/passkey/generate-{what}-options");
    begun(app.get_as(&path, session).await)
}

fn begun(answer: Answer) -> Ceremony {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let cookies = answer.cookies();
    let cookie = cookies.iter().find(|line| line.starts_with(COOKIE));
    let cookie = cookie.unwrap().split(';').next().unwrap().to_owned();
    Ceremony {
        options: answer.json(),
        cookie,
    }
}

/// Ends a ceremony: sends what the browser answers, with these cookies.
pub async fn end(app: &TestApp, path: &str, cookies: &str, response: &Value) -> Answer {
    app.post_as(path, cookies, &json!({"response": response}))
        .await
}

/// Adds a passkey to an account; it as clients see it.
pub async fn add(app: &TestApp, session: &Session, with: &Authenticator) -> Value {
    let begun = begin(app, "register", &session.cookie).await;
    let cookies = format!("{}; {}", session.cookie, begun.cookie);
    let added = end(app, ADD, &cookies, &with.create(&begun.options)).await;
    assert_eq!(added.status, 200, "{}", added.text);
    added.json()
}

/// Tries to sign in.
pub async fn sign_in(app: &TestApp, with: &Authenticator) -> Answer {
    let begun = begin(app, "authenticate", "").await;
    end(app, SIGN_IN, &begun.cookie, &with.get(&begun.options)).await
}

pub fn refusal(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        answer.refusal(),
        (status, code.to_owned()),
        "{}",
        answer.text
    );
    assert_eq!(answer.session_cookie(), "");
}

/// Types of the lines of somebody's own security log, newest first.
pub async fn security_log(app: &TestApp, session: &Session) -> Vec<String> {
    let lines = app
        .get_as("/api/v1/auth/security-events", &session.cookie)
        .await;
    let lines = lines.json();
    let types = lines.as_array().unwrap().iter();
    types
        .map(|line| line["eventType"].as_str().unwrap().to_owned())
        .collect()
}

/// Each kind of key that is asked for and can be made here, from its making to its end.
#[tokio::test]
async fn a_passkey_signs_in_until_it_is_deleted() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    for mut key in [Authenticator::new(), Authenticator::ed25519()] {
        key.flags |= BACKUP_ELIGIBLE | BACKED_UP;
        let added = add(&app, &ada, &key).await;
        assert_eq!(added["credentialID"], json!(key.id()));
        assert_eq!(
            (&added["deviceType"], &added["backedUp"]),
            (&json!("multiDevice"), &json!(true))
        );
        let entered = sign_in(&app, &key).await;
        assert_eq!(entered.status, 200, "{}", entered.text);
        assert_eq!(entered.json()["user"]["id"], json!(ada.user_id));
        assert!(app.is_live(&entered.session_cookie()).await);

        let id = json!({"id": added["id"]});
        let deleted = app.post_as("/api/auth/passkey/delete-passkey", &ada.cookie, &id);
        assert_eq!(deleted.await.json(), json!({"status": true}));
        refusal(&sign_in(&app, &key).await, 401, "PASSKEY_NOT_FOUND");
        // Its claim is free again.
        add(&app, &ada, &key).await;
    }
    assert_eq!(app.count("passkey_uses").await, 0, "gone with the passkeys");
}

/// What the apps' own clients do, with a bearer token as with the cookie (mana-v1.md section 11).
#[tokio::test]
async fn the_apps_own_clients_use_passkeys() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, eve) = (app.signed_in("ada").await, app.signed_in("eve").await);
    let jwt = app.jwt(&ada.cookie).await;
    let own = |method: &str, path: &str| {
        let path = format!("/api/v1/auth/passkeys{path}");
        app.request(method, &path).bearer_auth(&jwt)
    };
    let shown = app.get("/api/v1/auth/passkeys/capability").await;
    let wanted = json!({"enabled": true, "conditionalUIAvailable": true, "rpId": "localhost"});
    assert_eq!(shown.json(), wanted);

    let key = Authenticator::new();
    let ceremony = begun(answer(own("POST", "/register/options")).await);
    assert_eq!(ceremony.options["user"]["name"], json!("ada@example.com"));
    let body = json!({"response": key.create(&ceremony.options), "name": "Phone"});
    let request = own("POST", "/register/verify").header("cookie", &ceremony.cookie);
    let added = answer(request.header("origin", ORIGIN).json(&body)).await;
    assert_eq!(added.status, 200, "{}", added.text);
    let id = added.json()["id"].as_str().unwrap().to_owned();

    for flat in [true, false] {
        let path = "/api/v1/auth/passkeys/authenticate/options";
        let ceremony = begun(app.post(path, &json!({})).await);
        let response = key.get(&ceremony.options);
        let body = if flat {
            response
        } else {
            json!({"response": response})
        };
        let entered = app.post_as(OWN_SIGN_IN, &ceremony.cookie, &body).await;
        assert_eq!(entered.status, 200, "{}", entered.text);
        let told = entered.json();
        assert_eq!(told["user"]["email"], json!("ada@example.com"));
        assert_eq!(told["token"], told["refreshToken"]);
        assert!(told["accessToken"].as_str().unwrap().contains('.'));
        assert!(app.is_live(&entered.session_cookie()).await);
    }

    let list = answer(own("GET", "")).await.json();
    let one = &list[0];
    assert_eq!(list.as_array().unwrap().len(), 1);
    for (name, other) in [("credentialID", "credentialId"), ("name", "friendlyName")] {
        assert_eq!(one[name], one[other]);
    }
    assert_eq!(one["friendlyName"], json!("Phone"));
    assert!(one["lastUsedAt"].is_string() && one["createdAt"].is_string());

    for (field, name) in [("name", "Laptop"), ("friendlyName", "Key")] {
        let renamed = own("PATCH", &format!("/{id}")).json(&json!({field: name}));
        let renamed = answer(renamed).await;
        assert_eq!(renamed.json()["passkey"]["friendlyName"], json!(name));
    }
    // A passkey of somebody else is none, and neither is what is no id at all.
    for id in [id.as_str(), "nope", "%00", "%ff"] {
        let path = format!("/api/v1/auth/passkeys/{id}");
        for method in ["PATCH", "DELETE"] {
            let request = app.request(method, &path).json(&json!({"name": "Mine"}));
            let request = request.header("cookie", &eve.cookie);
            let refused = answer(request.header("origin", ORIGIN)).await;
            assert!([400, 404].contains(&refused.status), "{}", refused.text);
        }
    }
    let deleted = answer(own("DELETE", &format!("/{id}"))).await;
    assert_eq!(deleted.json(), json!({"success": true}));
    let gone = answer(own("DELETE", &format!("/{id}"))).await;
    assert_eq!(gone.refusal(), (404, "NOT_FOUND".to_owned()));

    refusal(
        &app.post(OWN_SIGN_IN, &json!({"id": key.id()})).await,
        401,
        "PASSKEY_VERIFICATION_FAILED",
    );
    let log = security_log(&app, &ada).await;
    let count = |kind| log.iter().filter(|line| *line == kind).count();
    for (kind, times) in [
        ("passkey_registered", 1),
        ("passkey_login_success", 2),
        ("passkey_renamed", 2),
        ("passkey_deleted", 1),
    ] {
        assert_eq!(count(kind), times, "{kind}: {log:?}");
    }
}

/// A passkey belongs to one account, whoever else shows it.
#[tokio::test]
async fn a_passkey_is_added_once() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, eve) = (app.signed_in("ada").await, app.signed_in("eve").await);
    let key = Authenticator::new();
    add(&app, &ada, &key).await;
    for session in [&ada, &eve] {
        let begun = begin(&app, "register", &session.cookie).await;
        let cookies = format!("{}; {}", session.cookie, begun.cookie);
        let again = end(&app, ADD, &cookies, &key.create(&begun.options)).await;
        refusal(&again, 400, "FAILED_TO_VERIFY_REGISTRATION");
    }
    let entered = sign_in(&app, &key).await;
    assert_eq!(entered.json()["user"]["id"], json!(ada.user_id));
    // An account has so many at most.
    for _ in 1..20 {
        add(&app, &ada, &Authenticator::new()).await;
    }
    let begun = begin(&app, "register", &ada.cookie).await;
    let excluded = begun.options["excludeCredentials"].as_array().unwrap();
    assert_eq!(excluded.len(), 20);
    let cookies = format!("{}; {}", ada.cookie, begun.cookie);
    let made = Authenticator::new().create(&begun.options);
    refusal(
        &end(&app, ADD, &cookies, &made).await,
        400,
        "TOO_MANY_PASSKEYS",
    );
}

/// S-10: who is banned does not get in by a passkey either, and a passkey's failures do not lock the password.
#[tokio::test]
async fn bans_hold_and_failures_are_the_passkeys_own_s10() {
    let app = TestApp::start(&LIMITED).await;
    let ada = app.signed_in("ada").await;
    let mut key = Authenticator::new();
    add(&app, &ada, &key).await;
    let wrong = async |key: &mut Authenticator| {
        key.origin = "http://evil.example".to_owned();
        let refused = sign_in(&app, key).await;
        key.origin = ORIGIN.to_owned();
        refused
    };
    for _ in 1..PASSKEY_LIMIT {
        refusal(&wrong(&mut key).await, 400, "AUTHENTICATION_FAILED");
    }
    // A good one clears the budget.
    assert_eq!(sign_in(&app, &key).await.status, 200);
    for _ in 0..PASSKEY_LIMIT {
        refusal(&wrong(&mut key).await, 400, "AUTHENTICATION_FAILED");
    }
    assert_eq!(sign_in(&app, &key).await.status, 429);
    let in_time = app.try_sign_in("ada", crate::client::PASSWORD).await;
    assert_eq!(in_time.status, 200, "{}", in_time.text);
    app.clock.advance(TimeDelta::minutes(5));
    assert_eq!(sign_in(&app, &key).await.status, 200);

    let at = app.clock.now();
    let ban = UserCommand::Ban {
        reason: None,
        until: None,
        at,
    };
    let context = Context::of(Actor::Operator);
    let banned = app.app.store.run::<User>(&ada.user_id, ban, context).await;
    assert!(banned.is_ok());
    refusal(&sign_in(&app, &key).await, 403, "BANNED_USER");
}

/// Twenty requests for a challenge in a minute from one address (mana-v1.md section 11).
#[tokio::test]
async fn challenges_are_limited_for_each_address() {
    let app = TestApp::start(&LIMITED).await;
    let ask = async |from: &str| {
        let request = app.request("POST", "/api/v1/auth/passkeys/authenticate/options");
        answer(request.header("x-forwarded-for", from)).await
    };
    for _ in 0..20 {
        assert_eq!(ask("203.0.113.7").await.status, 200);
    }
    let refused = ask("203.0.113.7").await;
    assert_eq!(refused.refusal(), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(refused.header("retry-after"), "60");
    assert_eq!(ask("203.0.113.8").await.status, 200);
    app.clock.advance(TimeDelta::minutes(1));
    assert_eq!(ask("203.0.113.7").await.status, 200);
}

/// A session has to be young to add a passkey, on both sides.
#[tokio::test]
async fn an_old_session_adds_no_passkey() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let begun = begin(&app, "register", &ada.cookie).await;
    let cookies = format!("{}; {}", ada.cookie, begun.cookie);
    let made = Authenticator::new().create(&begun.options);
    app.clock.advance(TimeDelta::days(1));
    for path in [ADD, OWN_ADD] {
        refusal(
            &end(&app, path, &cookies, &made).await,
            403,
            "SESSION_NOT_FRESH",
        );
    }
    let nothing = json!({});
    let asked = app.post_as(
        "/api/v1/auth/passkeys/register/options",
        &ada.cookie,
        &nothing,
    );
    refusal(&asked.await, 403, "SESSION_NOT_FRESH");
}
