//! A person's own sessions: seen, and ended from elsewhere.

#![cfg(test)]

use aggregates::session::{Session as SessionStream, SessionCommand};
use chrono::TimeDelta;
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use crate::account::{Shown, assert_over};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, answer, session_of};
use crate::harness::TestApp;

/// Clients have addresses.
const WITH_ADDRESSES: [(&str, &str); 2] =
    [UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")];

async fn listed(app: &TestApp, session: &Session) -> Vec<Value> {
    let list = app.get_as("/api/auth/list-sessions", &session.cookie).await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json().as_array().unwrap().clone()
}

async fn listed_v1(app: &TestApp, session: &Session, shown: Shown) -> Vec<Value> {
    let request = app.request("GET", "/api/v1/auth/sessions");
    let list = answer(shown.on(app, session, request).await).await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json().as_array().unwrap().clone()
}

async fn id_of(app: &TestApp, session: &Session) -> String {
    let shown = app.get_as("/api/auth/get-session", &session.cookie).await;
    shown.json()["session"]["id"].as_str().unwrap().to_owned()
}

fn token_of<'a>(list: &'a [Value], id: &str) -> &'a str {
    let of_id = list.iter().find(|session| session["id"] == id);
    of_id.unwrap()["token"].as_str().unwrap()
}

async fn revoke(app: &TestApp, session: &Session, token: &str) -> Answer {
    let body = json!({"token": token});
    let done = app.post_as("/api/auth/revoke-session", &session.cookie, &body);
    let done = done.await;
    assert_eq!((done.status, done.json()), (200, json!({"status": true})));
    done
}

async fn end(app: &TestApp, session: &Session, shown: Shown, id: &str) -> Answer {
    let request = app.request("DELETE", &format!("/api/v1/auth/sessions/{id}"));
    answer(shown.on(app, session, request).await).await
}

async fn all_live(app: &TestApp, sessions: &[&Session]) -> bool {
    let mut all = true;
    for session in sessions {
        all &= app.is_live(&session.cookie).await;
    }
    all
}

/// S-26: a list shows no secret but the one that its reader has shown already.
#[tokio::test]
async fn a_list_shows_the_own_token_and_handles_for_the_others_s26() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = [
        app.signed_in("ada").await,
        app.sign_in("ada").await,
        app.sign_in("ada").await,
    ];
    let bob = app.signed_in("bob").await;
    let mut seen_from = Vec::new();
    for this in &ada {
        let answer = app.get_as("/api/auth/list-sessions", &this.cookie).await;
        for other in ada
            .iter()
            .chain([&bob])
            .filter(|other| other.token != this.token)
        {
            assert!(!answer.text.contains(&other.token));
        }
        let list = listed(&app, this).await;
        assert_eq!((list.len(), &list[0]["token"]), (3, &json!(this.token)));
        assert!(
            list.iter()
                .all(|session| session["userId"] == json!(ada[0].user_id))
        );
        let own = app
            .get_as("/api/auth/get-session", &this.cookie)
            .await
            .json();
        assert_eq!(list[0], own["session"]);
        seen_from.push(list);
    }
    let id = id_of(&app, &ada[2]).await;
    let handle = token_of(&seen_from[0], &id);
    assert_eq!(
        handle,
        token_of(&seen_from[1], &id),
        "the same from everywhere"
    );
    assert!(handle.len() == 32 && handle.bytes().all(|b| b.is_ascii_alphanumeric()));

    // A handle opens nothing, whichever way it is shown.
    let signed = app.app.cookies.sign(handle);
    for request in [
        app.request("GET", "/api/auth/get-session")
            .bearer_auth(handle),
        app.request("GET", "/api/auth/get-session")
            .bearer_auth(&signed),
        app.request("GET", "/api/auth/get-session")
            .header("cookie", format!("mana.session_token={signed}")),
        app.request("GET", "/api/v1/auth/profile")
            .bearer_auth(handle),
    ] {
        assert_eq!(answer(request).await.json(), Value::Null);
    }
    let shown = app
        .request("GET", "/api/v1/auth/sessions")
        .bearer_auth(handle);
    assert_eq!(answer(shown).await.status, 401);
    let body = json!({"refreshToken": handle});
    let refreshed = app.post("/api/v1/auth/refresh", &body).await;
    assert_eq!(refreshed.json()["message"], "Invalid refresh token");
    app.post("/api/v1/auth/logout", &body).await;
    assert!(all_live(&app, &[&ada[2]]).await);

    // Elsewhere it is good for nothing, here it ends the session that it stands for.
    revoke(&app, &bob, handle).await;
    assert!(all_live(&app, &[&ada[2]]).await, "not for somebody else");
    assert!(revoke(&app, &ada[0], handle).await.cookies().is_empty());
    assert!(!app.is_live(&ada[2].cookie).await);
    assert!(all_live(&app, &[&ada[0], &ada[1], &bob]).await);
    revoke(&app, &ada[0], handle).await;
    assert_eq!(listed(&app, &ada[0]).await.len(), 2);
}

#[tokio::test]
async fn a_session_is_revoked_by_its_own_token_and_never_somebody_elses() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = [app.signed_in("ada").await, app.sign_in("ada").await];
    let bob = app.signed_in("bob").await;
    let handle_of_bob =
        mana_auth::http::account::session_handle(&app.app, &id_of(&app, &bob).await);
    let events = app.count("events").await;
    for foreign in [bob.token.as_str(), &handle_of_bob, "unknown", ""] {
        revoke(&app, &ada[0], foreign).await;
    }
    assert_eq!(app.count("events").await, events, "nothing happened");
    assert!(all_live(&app, &[&ada[0], &ada[1], &bob]).await);

    // Whoever has another of their own tokens may show it.
    revoke(&app, &ada[0], &ada[1].token).await;
    assert!(!app.is_live(&ada[1].cookie).await);
    let own = revoke(&app, &ada[0], &ada[0].token).await;
    let cleared = own.cookies().join("\n");
    assert!(
        cleared.contains("session_token=;") && cleared.contains("Max-Age=0"),
        "{cleared}"
    );
    assert!(!app.is_live(&ada[0].cookie).await);
    let body = json!({"token": bob.token});
    let over = app.post_as("/api/auth/revoke-session", &ada[0].cookie, &body);
    assert_eq!(over.await.refusal(), (401, "UNAUTHORIZED".to_owned()));
    assert!(app.is_live(&bob.cookie).await);
}

#[tokio::test]
async fn all_sessions_or_all_others_end_on_every_node_and_nobody_elses() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let bob = app.signed_in("bob").await;
    app.sign_up("ada").await;
    for door in ["revoke-other-sessions", "revoke-sessions"] {
        let sessions = [
            app.sign_in("ada").await,
            node.sign_in("ada").await,
            app.sign_in("ada").await,
        ];
        let [this, others @ ..] = &sessions;
        for at in [&app, &node] {
            assert!(all_live(at, &[this, &others[0], &others[1], &bob]).await);
        }
        let door = format!("/api/auth/{door}");
        let done = app.post_as(&door, &this.cookie, &json!({})).await;
        assert_eq!(done.json(), json!({"status": true}));
        assert_over(&app, &node, &[&others[0], &others[1]]).await;
        if door.ends_with("revoke-sessions") {
            assert!(done.cookies().join("").contains("session_token=;"));
            assert_over(&app, &node, &[this]).await;
        } else {
            assert!(done.cookies().is_empty());
            assert!(all_live(&node, &[this]).await);
            assert_eq!(listed(&node, this).await.len(), 1);
        }
        for at in [&app, &node] {
            assert!(all_live(at, &[&bob]).await);
        }
    }
}

/// Whoever finds an old session on a borrowed device does not see where else its owner is.
#[tokio::test]
async fn the_list_is_for_sessions_that_began_less_than_a_day_ago() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let old = app.signed_in("ada").await;
    app.clock
        .advance(TimeDelta::days(1) - TimeDelta::milliseconds(1));
    assert_eq!(listed(&app, &old).await.len(), 1);
    app.clock.advance(TimeDelta::milliseconds(1));
    let refused = app.get_as("/api/auth/list-sessions", &old.cookie).await;
    assert_eq!(refused.refusal(), (403, "SESSION_NOT_FRESH".to_owned()));
    let fresh = app.sign_in("ada").await;
    assert_eq!(listed(&app, &fresh).await.len(), 2);
    app.clock.advance(TimeDelta::days(6));
    let fresh = app.sign_in("ada").await;
    let ids = listed(&app, &fresh).await.len();
    assert_eq!(ids, 2, "the oldest has expired");
}

/// The same for the apps' own clients (contract section 3.17).
#[tokio::test]
async fn the_apps_clients_see_their_sessions_and_end_them_by_id() {
    let app = TestApp::start(&WITH_ADDRESSES).await;
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
    let request = request.header("x-forwarded-for", "203.0.113.7");
    let ada = session_of(
        &answer(request.header(
            "user-agent",
            "Mozilla/5.0 (X11; Linux x86_64; rv:130.0) Gecko/20100101 Firefox/130.0",
        ))
        .await,
    );
    let other = app.sign_in("ada").await;
    let bob = app.signed_in("bob").await;
    let (own, elsewhere) = (id_of(&app, &ada).await, id_of(&app, &other).await);
    for shown in [Shown::Cookie, Shown::Token, Shown::Jwt] {
        let list = listed_v1(&app, &ada, shown).await;
        assert_eq!(list.len(), 2);
        for session in &list {
            let is_own = session["id"] == json!(own);
            assert_eq!(session["current"], is_own, "{shown:?}");
            let address = if is_own { "203.0.113.7" } else { "" };
            assert_eq!(session["ipAddress"], address);
            assert!(session["token"].is_null());
            for field in [
                "deviceName",
                "userAgent",
                "lastActivityAt",
                "createdAt",
                "expiresAt",
            ] {
                assert!(session[field].is_string(), "{field}");
            }
        }
        let text = json!(list).to_string();
        assert!(text.contains("Firefox") && !text.contains(&ada.token));
    }

    let of_bob = id_of(&app, &bob).await;
    for shown in [Shown::Cookie, Shown::Token, Shown::Jwt] {
        for foreign in [
            of_bob.as_str(),
            "no-such-session",
            "%00",
            "%F0%9F%98%80",
            &"x".repeat(3000),
        ] {
            let refused = end(&app, &ada, shown, foreign).await;
            assert_eq!(
                refused.refusal(),
                (404, "NOT_FOUND".to_owned()),
                "{foreign}: {}",
                refused.text
            );
        }
    }
    assert!(all_live(&app, &[&ada, &other, &bob]).await);
    let request = app.request("DELETE", &format!("/api/v1/auth/sessions/{elsewhere}"));
    let forged = answer(request.header("cookie", &ada.cookie)).await;
    assert_eq!(forged.status, 403, "no page that is trusted has sent it");
    assert!(app.is_live(&other.cookie).await);

    let ended = end(&app, &ada, Shown::Jwt, &elsewhere).await;
    assert_eq!(
        (ended.status, ended.json()),
        (200, json!({"success": true}))
    );
    assert!(ended.cookies().is_empty() && !app.is_live(&other.cookie).await);
    let again = end(&app, &ada, Shown::Cookie, &elsewhere).await;
    assert_eq!(again.status, 404);
    let last = end(&app, &ada, Shown::Cookie, &own).await;
    assert!(last.cookies().join("").contains("session_token=;"));
    assert!(!app.is_live(&ada.cookie).await && app.is_live(&bob.cookie).await);
    assert_eq!(end(&app, &ada, Shown::Cookie, &own).await.status, 401);
}

/// A session that was ended as one of all is not brought back by what a node still does about it.
#[tokio::test]
async fn extending_a_session_that_was_ended_with_all_does_not_bring_it_back() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let here = app.signed_in("ada").await;
    let id = id_of(&app, &here).await;
    app.post_as("/api/auth/revoke-sessions", &here.cookie, &json!({}))
        .await;
    let at = app.clock.now();
    let command = SessionCommand::Extend {
        expires_at: at + TimeDelta::days(30),
        at,
    };
    let context = Context::of(Actor::System);
    let extended = app.app.store.run::<SessionStream>(&id, command, context);
    extended.await.unwrap();
    assert_eq!(app.count("read.sessions").await, 0);
    assert!(!app.is_live(&here.cookie).await);
}
