//! What admins do to others, who may not, and what stays true while they do it.

#![cfg(test)]

use std::collections::BTreeSet;

use mana_auth::http::doors::areas;
use serde_json::{Value, json};

use crate::account::NEW;
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED};
use crate::harness::{TestApp, wait_until};
use crate::outage::{beside, give_back, take_away};

/// `root@example.com` is an admin from the start.
pub const ADMINS: [(&str, &str); 2] = [UNVERIFIED, ("MANA_AUTH_ADMIN_EMAILS", "root@example.com")];

/// Every route of the area with a good request, and how whoever is no admin is refused.
const ROUTES: [(&str, &str, &str); 13] = [
    ("list-users", "{}", "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS"),
    ("get-user", "{}", "YOU_ARE_NOT_ALLOWED_TO_GET_USER"),
    (
        "create-user",
        r#"{"email": "new@example.com", "name": "New"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_CREATE_USERS",
    ),
    (
        "update-user",
        r#"{"userId": "ID", "data": {"name": "Other"}}"#,
        "YOU_ARE_NOT_ALLOWED_TO_UPDATE_USERS",
    ),
    (
        "remove-user",
        r#"{"userId": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_DELETE_USERS",
    ),
    (
        "set-role",
        r#"{"userId": "ID", "role": "admin"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_CHANGE_USERS_ROLE",
    ),
    (
        "ban-user",
        r#"{"userId": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_BAN_USERS",
    ),
    (
        "unban-user",
        r#"{"userId": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_BAN_USERS",
    ),
    (
        "set-user-password",
        r#"{"userId": "ID", "newPassword": "another good password"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_SET_USERS_PASSWORD",
    ),
    (
        "list-user-sessions",
        r#"{"userId": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_LIST_USERS_SESSIONS",
    ),
    (
        "revoke-user-session",
        r#"{"sessionToken": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS",
    ),
    (
        "revoke-user-sessions",
        r#"{"userId": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_REVOKE_USERS_SESSIONS",
    ),
    (
        "impersonate-user",
        r#"{"userId": "ID"}"#,
        "YOU_ARE_NOT_ALLOWED_TO_IMPERSONATE_USERS",
    ),
];
/// Routes that are there for everybody who is signed in.
const FOR_ALL: [&str; 2] = ["has-permission", "stop-impersonating"];

impl TestApp {
    /// Calls a route of admins with a cookie, empty for nobody.
    pub async fn admin_call(&self, route: &str, cookie: &str, body: &Value) -> Answer {
        let path = format!("/api/auth/admin/{route}");
        match route.split('?').next().unwrap() {
            "list-users" | "get-user" => self.get_as(&path, cookie).await,
            _ => self.post_as(&path, cookie, body).await,
        }
    }

    /// The same, as an admin who may.
    pub async fn admin_does(&self, route: &str, admin: &Session, body: &Value) -> Value {
        let answer = self.admin_call(route, &admin.cookie, body).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        answer.json()
    }

    /// Another admin.
    pub async fn another_admin(&self, root: &Session, name: &str) -> Session {
        let session = self.signed_in(name).await;
        let body = json!({"userId": session.user_id, "role": "admin"});
        self.admin_does("set-role", root, &body).await;
        session
    }

    /// Somebody who reads what everybody did.
    pub async fn auditor(&self, root: &Session, name: &str) -> Session {
        let session = self.signed_in(name).await;
        let body = json!({"userId": session.user_id, "role": "auditor"});
        self.admin_does("set-role", root, &body).await;
        session
    }

    /// Who caused the last event of a type.
    pub async fn last_actor(&self, event_type: &str) -> String {
        sqlx::query_scalar(
            "select metadata ->> 'actor' from events where event_type = $1 order by position desc limit 1",
        )
        .bind(event_type)
        .fetch_one(&self.admin)
        .await
        .unwrap()
    }
}

/// The requests of a route, about one person.
pub fn request_of(route: &str, body: &str, id: &str) -> (String, Value) {
    let body = serde_json::from_str(&body.replace("ID", id)).unwrap();
    match route {
        "get-user" => (format!("get-user?id={id}"), body),
        route => (route.to_owned(), body),
    }
}

#[tokio::test]
async fn whoever_is_no_admin_gets_through_none_of_the_doors() {
    let here: BTreeSet<_> = ROUTES
        .iter()
        .map(|(route, ..)| *route)
        .chain(FOR_ALL)
        .collect();
    let doors = areas();
    let doors = doors.iter().flat_map(|(_, doors)| doors);
    let there: BTreeSet<_> = doors
        .filter_map(|door| door.path.strip_prefix("/admin/"))
        .collect();
    assert_eq!(here, there);

    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let user = app.signed_in("user").await;
    let eve = app.signed_in("eve").await;
    let watcher = app.auditor(&root, "watcher").await;
    let body = json!({"userId": eve.user_id});
    let acting = app
        .admin_call("impersonate-user", &root.cookie, &body)
        .await;
    let acting = acting.session_cookie();
    app.effects_done().await;
    let before = app.state().await;
    for (route, body, code) in ROUTES {
        let (route, body) = request_of(route, body, &user.user_id);
        let nobody = app.admin_call(&route, "", &body).await;
        assert_eq!((nobody.status, nobody.text.as_str()), (401, ""), "{route}");
        for no_admin in [&eve, &watcher] {
            let refused = app.admin_call(&route, &no_admin.cookie, &body).await;
            assert_eq!(refused.refusal(), (403, code.to_owned()), "{route}");
            assert!(
                refused.json().get("total").is_none(),
                "S-25: nothing is counted for them"
            );
        }
        let refused = app.admin_call(&route, &acting, &body).await;
        let wanted = (403, "NOT_WHILE_IMPERSONATING".to_owned());
        assert_eq!(refused.refusal(), wanted, "{route}");
    }
    for route in FOR_ALL {
        let body = json!({"permissions": {"user": ["list"]}});
        let nobody = app.admin_call(route, "", &body).await;
        assert_eq!((nobody.status, nobody.text.as_str()), (401, ""), "{route}");
    }
    assert_eq!(app.state().await, before);
}

#[tokio::test]
async fn what_makes_somebody_an_admin_is_looked_up_for_every_request() {
    let app = TestApp::start(&ADMINS).await;
    let node = app.node(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.another_admin(&root, "ada").await;
    // Remembered on the other node.
    assert!(node.is_live(&ada.cookie).await);
    node.admin_does("list-users", &ada, &json!({})).await;
    let body = json!({"userId": ada.user_id, "role": ["user", "administrator"]});
    app.admin_does("set-role", &root, &body).await;
    let refused = node.admin_call("list-users", &ada.cookie, &json!({})).await;
    assert_eq!(refused.status, 403, "at once: {}", refused.text);
    let body = json!({"userId": ada.user_id, "role": "support,admin"});
    app.admin_does("set-role", &root, &body).await;
    node.admin_does("list-users", &ada, &json!({})).await;
    app.admin_does(
        "revoke-user-sessions",
        &root,
        &json!({"userId": ada.user_id}),
    )
    .await;
    let refused = node.admin_call("list-users", &ada.cookie, &json!({})).await;
    assert_eq!((refused.status, refused.text.as_str()), (401, ""));
    assert_eq!(
        refused.cookies().len(),
        3,
        "the cookies of what is over are cleared"
    );
}

#[tokio::test]
async fn an_event_names_the_admin_and_stands_with_the_person() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    for (route, body) in [
        (
            "ban-user",
            json!({"userId": ada.user_id, "banReason": "spam"}),
        ),
        ("unban-user", json!({"userId": ada.user_id})),
        (
            "set-role",
            json!({"userId": ada.user_id, "role": "support"}),
        ),
        (
            "update-user",
            json!({"userId": ada.user_id, "data": {"name": "Lovelace", "accessTier": "beta"}}),
        ),
        (
            "set-user-password",
            json!({"userId": ada.user_id, "newPassword": NEW}),
        ),
        ("revoke-user-sessions", json!({"userId": ada.user_id})),
        ("remove-user", json!({"userId": ada.user_id})),
    ] {
        let from: i64 = app.count("events").await;
        app.admin_does(route, &root, &body).await;
        let found: Vec<(String, String, bool)> = sqlx::query_as(
            "select aggregate_id, metadata ->> 'actor', metadata ? 'session_id' from events where position > $1",
        )
        .bind(from)
        .fetch_all(&app.admin)
        .await
        .unwrap();
        assert!(!found.is_empty(), "{route}");
        for event in found {
            let wanted = (ada.user_id.clone(), format!("user:{}", root.user_id), true);
            assert_eq!(event, wanted, "{route}");
        }
    }
    let reason: String = sqlx::query_scalar("select reason from read.erasures")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    assert_eq!(reason, "admin_request");
    let lines = app
        .admin_call("get-user?id=x", &root.cookie, &json!({}))
        .await;
    assert_eq!(lines.refusal(), (404, "USER_NOT_FOUND".to_owned()));
}

/// S-07
#[tokio::test]
async fn a_password_by_an_admin_ends_everything_that_the_old_one_led_to_s07() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    app.post(
        "/api/auth/request-password-reset",
        &json!({"email": "ada@example.com"}),
    )
    .await;
    app.effects_done().await;
    let tokens = format!(
        "tokens where user_id = '{}' and kind = 'password-reset'",
        ada.user_id
    );
    assert_eq!(app.count(&tokens).await, 1);
    for (password, code) in [
        ("short", "PASSWORD_TOO_SHORT"),
        (&*"x".repeat(129), "PASSWORD_TOO_LONG"),
        ("ada@example.com", "PASSWORD_TOO_SIMILAR"),
        ("", "VALIDATION_ERROR"),
    ] {
        let body = json!({"userId": ada.user_id, "newPassword": password});
        let refused = app
            .admin_call("set-user-password", &root.cookie, &body)
            .await;
        assert_eq!(refused.refusal(), (400, code.to_owned()));
    }
    assert!(app.is_live(&ada.cookie).await);
    let body = json!({"userId": ada.user_id, "newPassword": NEW});
    app.admin_does("set-user-password", &root, &body).await;
    assert!(!app.is_live(&ada.cookie).await);
    assert_eq!(app.count(&tokens).await, 0);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 401);
    assert_eq!(app.try_sign_in("ada", NEW).await.status, 200);
    assert!(app.is_live(&root.cookie).await);
}

#[tokio::test]
async fn an_account_by_an_admin_is_as_they_say() {
    let app = TestApp::start(&[("MANA_AUTH_ADMIN_EMAILS", "root@example.com")]).await;
    app.verified("root").await;
    let root = app.sign_in("root").await;
    let body = json!({
        "email": "ada@example.com", "name": "Ada", "password": PASSWORD, "role": ["user", "support"],
        "data": {"emailVerified": true, "accessTier": "founder", "locale": "de", "role": "admin", "banned": true},
    });
    let made = app.admin_does("create-user", &root, &body).await;
    let user = &made["user"];
    for (field, value) in [
        ("emailVerified", json!(true)),
        ("role", json!("user,support")),
        ("accessTier", json!("founder")),
        ("banned", json!(false)),
    ] {
        assert_eq!(user[field], value, "{field}");
    }
    let ada = app.sign_in("ada").await;
    let read = app
        .admin_does(&format!("get-user?id={}", ada.user_id), &root, &json!({}))
        .await;
    assert_eq!(read, *user);
    assert_eq!(app.mails_of("verify_email", "ada@example.com").await, 0);
    assert_eq!(
        app.last_actor("user.registered").await,
        format!("user:{}", root.user_id)
    );
}

#[tokio::test]
async fn a_session_of_anybody_is_revoked_by_what_stands_for_its_token_and_by_the_token() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let other = app.sign_in("ada").await;
    let body = json!({"userId": ada.user_id});
    let listed = app.admin_does("list-user-sessions", &root, &body).await;
    let tokens: Vec<&str> = listed["sessions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|session| session["token"].as_str().unwrap())
        .collect();
    assert_eq!(tokens.len(), 2);
    assert!(!tokens.contains(&ada.token.as_str()) && !tokens.contains(&other.token.as_str()));
    for token in &tokens {
        let as_bearer = app
            .request("GET", "/api/auth/get-session")
            .bearer_auth(token);
        assert_eq!(
            crate::client::answer(as_bearer).await.text,
            "null",
            "it signs nobody in"
        );
    }
    app.admin_does(
        "revoke-user-session",
        &root,
        &json!({"sessionToken": ada.token}),
    )
    .await;
    assert!(!app.is_live(&ada.cookie).await && app.is_live(&other.cookie).await);
    for token in tokens.into_iter().chain(["no such", "\0"]) {
        app.admin_does(
            "revoke-user-session",
            &root,
            &json!({"sessionToken": token}),
        )
        .await;
    }
    assert!(!app.is_live(&other.cookie).await);
    assert!(app.is_live(&root.cookie).await);
    assert_eq!(
        app.last_actor("session.ended").await,
        format!("user:{}", root.user_id)
    );
}

#[tokio::test]
async fn permissions_are_those_of_whoever_asks() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    for (permissions, may) in [
        (
            json!({"user": ["list", "ban"], "session": ["revoke"]}),
            true,
        ),
        (json!({"user": ["list", "impersonate-admins"]}), false),
        (json!({"user": ["list"], "nothing": ["x"]}), false),
        (json!({"user": []}), false),
        (json!({"user": "list"}), false),
        (json!({"user": [1]}), false),
    ] {
        let ask = json!({"permissions": permissions, "userId": root.user_id, "role": "admin"});
        let answer = app.admin_does("has-permission", &root, &ask).await;
        assert_eq!(
            answer,
            json!({"error": null, "success": may}),
            "{permissions}"
        );
        let answer = app.admin_does("has-permission", &ada, &ask).await;
        assert_eq!(
            answer["success"], false,
            "S-62: who asks is not said by the body"
        );
    }
}

/// S-69: without the database nobody is an admin by what is remembered, and nobody is told that they are none.
#[tokio::test]
async fn without_the_database_every_route_says_so_s69() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    app.effects_done().await;
    let (mut connection, name) = beside(&app).await;
    take_away(&mut connection, &name).await;
    for (route, body, _) in ROUTES {
        let (route, body) = request_of(route, body, &ada.user_id);
        let answer = app.admin_call(&route, &root.cookie, &body).await;
        let wanted = (503, "SERVICE_UNAVAILABLE".to_owned());
        assert_eq!(answer.refusal(), wanted, "{route}");
        assert!(answer.cookies().is_empty(), "{route}");
    }
    for route in FOR_ALL {
        let body = json!({"permissions": {"user": ["list"]}});
        let answer = app.admin_call(route, &root.cookie, &body).await;
        assert_eq!(answer.status, 503, "{route}");
    }
    give_back(&mut connection, &name).await;
    wait_until("admins get on with it", async || {
        let nothing = json!({});
        let answer = app.admin_call("list-users", &root.cookie, &nothing).await;
        answer.status == 200
    })
    .await;
    assert!(app.is_live(&ada.cookie).await, "nothing came of it");
}
