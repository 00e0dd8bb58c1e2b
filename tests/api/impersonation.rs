//! An admin in somebody's place: how long, how far, and who can see it (S-66).

#![cfg(test)]

use std::collections::BTreeSet;

use chrono::TimeDelta;
use mana_auth::http::doors::areas;
use reqwest::Method;
use serde_json::{Value, json};

use crate::account::NEW;
use crate::admin::ADMINS;
use crate::client::{Answer, ORIGIN, PASSWORD, Session, answer, claims};
use crate::harness::TestApp;
use crate::step_up;

impl TestApp {
    pub async fn impersonate(&self, admin: &Session, person: &Session) -> Answer {
        let body = json!({"userId": person.user_id});
        self.admin_call("impersonate-user", &admin.cookie, &body)
            .await
    }
}

/// Everything that an answer sets, as a `Cookie` header.
pub fn jar(answer: &Answer) -> String {
    let pairs = answer.cookies();
    let pairs = pairs.iter().map(|line| line.split(';').next().unwrap());
    let set: Vec<&str> = pairs.filter(|pair| !pair.ends_with('=')).collect();
    set.join("; ")
}

/// What does more than read, and is open all the same.
const OPEN: [&str; 19] = [
    "DELETE /sessions/{id}",
    "POST /admin/has-permission",
    "POST /admin/stop-impersonating",
    "POST /get-session",
    "POST /logout",
    // Asking about organizations, and choosing one, changes the admin's own session only.
    "POST /organization/check-slug",
    "POST /organization/has-permission",
    "POST /organization/set-active",
    "POST /organization/set-active-team",
    "POST /profile",
    "POST /refresh",
    "POST /revoke-other-sessions",
    "POST /revoke-session",
    "POST /revoke-sessions",
    "POST /session-to-token",
    "POST /sign-out",
    "POST /update-session",
    "POST /update-user",
    "POST /validate",
];

/// S-66: whoever adds a door that changes something decides anew whether it is open.
#[test]
fn only_these_doors_change_anything_in_an_impersonated_session_s66() {
    let doors = areas();
    let open: BTreeSet<String> = doors
        .iter()
        .flat_map(|(_, doors)| doors)
        .filter(|door| door.impersonated && door.method != Method::GET)
        .map(|door| format!("{} {}", door.method, door.path))
        .collect();
    let wanted: BTreeSet<String> = OPEN.iter().map(|door| (*door).to_owned()).collect();
    assert_eq!(open, wanted);
}

/// S-66: no credential change, no deletion, by cookie, by token and by access token.
#[tokio::test]
async fn nobodys_credentials_change_by_whoever_acts_as_them_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let acting = app.impersonate(&root, &ada).await;
    let cookie = acting.session_cookie();
    let token = acting.json()["session"]["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let jwt = app.jwt(&cookie).await;
    app.effects_done().await;
    let before = app.state().await;
    let change = json!({"currentPassword": PASSWORD, "newPassword": NEW});
    for (method, path, body) in [
        ("POST", "/api/auth/change-password", change.clone()),
        (
            "POST",
            "/api/auth/change-email",
            json!({"newEmail": "eve@example.com"}),
        ),
        (
            "POST",
            "/api/auth/delete-user",
            json!({"password": PASSWORD}),
        ),
        ("GET", "/api/auth/delete-user/callback?token=x", json!({})),
        (
            "POST",
            "/api/auth/verify-password",
            json!({"password": PASSWORD}),
        ),
        (
            "POST",
            "/api/auth/two-factor/enable",
            json!({"password": PASSWORD}),
        ),
        (
            "POST",
            "/api/auth/two-factor/disable",
            json!({"password": PASSWORD}),
        ),
        (
            "POST",
            "/api/auth/two-factor/verify-totp",
            json!({"code": "000000"}),
        ),
        (
            "GET",
            "/api/auth/passkey/generate-register-options",
            json!({}),
        ),
        (
            "POST",
            "/api/auth/passkey/verify-registration",
            json!({"response": {}}),
        ),
        (
            "POST",
            "/api/auth/passkey/delete-passkey",
            json!({"id": "x"}),
        ),
        ("POST", "/api/v1/auth/passkeys/register/options", json!({})),
        ("DELETE", "/api/v1/auth/passkeys/x", json!({})),
        ("POST", "/api/v1/auth/change-password", change.clone()),
        (
            "POST",
            "/api/v1/auth/change-email",
            json!({"newEmail": "eve@example.com"}),
        ),
        (
            "DELETE",
            "/api/v1/auth/account",
            json!({"password": PASSWORD}),
        ),
    ] {
        let with = |name: &str, value: String| {
            let request = app
                .request(method, path)
                .json(&body)
                .header("origin", ORIGIN);
            request.header(name, value)
        };
        let mut requests = vec![
            with("cookie", cookie.clone()),
            with("authorization", format!("Bearer {token}")),
        ];
        if path.contains("/v1/") {
            requests.push(with("authorization", format!("Bearer {jwt}")));
        }
        for request in requests {
            let refused = answer(request).await;
            let wanted = (403, "NOT_WHILE_IMPERSONATING".to_owned());
            assert_eq!(refused.refusal(), wanted, "{path}: {}", refused.text);
        }
    }
    // Whatever would ask the person themselves for a step-up, linked accounts and API keys included.
    let acting = Session {
        user_id: ada.user_id.clone(),
        token,
        cookie,
    };
    for recipe in &step_up::RECIPES {
        let refused = recipe.send(&app, &acting).await;
        let wanted = (403, "NOT_WHILE_IMPERSONATING".to_owned());
        assert_eq!(refused.refusal(), wanted, "{}: {}", recipe.1, refused.text);
    }
    assert_eq!(app.state().await, before);
}

/// S-66: an hour, whatever is done with it.
#[tokio::test]
async fn it_ends_after_an_hour_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let acting = app.impersonate(&root, &ada).await;
    let cookies = acting.cookies();
    let set = cookies
        .iter()
        .find(|line| line.contains("session_token=") && !line.contains("Max-Age"));
    assert!(
        set.is_some(),
        "it ends with the browser as well: {cookies:?}"
    );
    let token = json!({"refreshToken": acting.json()["session"]["token"]});
    app.clock.advance(TimeDelta::minutes(59));
    assert!(app.is_live(&jar(&acting)).await);
    assert_eq!(app.post("/api/v1/auth/refresh", &token).await.status, 200);
    app.clock.advance(TimeDelta::minutes(2));
    assert!(!app.is_live(&jar(&acting)).await);
    assert_eq!(app.post("/api/v1/auth/refresh", &token).await.status, 401);
    assert!(app.is_live(&root.cookie).await);
}

/// S-66: who may be acted as.
#[tokio::test]
async fn nobody_acts_as_an_admin_or_as_somebody_who_is_banned_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let other = app.another_admin(&root, "other").await;
    let ada = app.signed_in("ada").await;
    let cannot = (403, "YOU_CANNOT_IMPERSONATE_ADMINS".to_owned());
    for admin in [&other, &root] {
        assert_eq!(app.impersonate(&root, admin).await.refusal(), cannot);
    }
    app.admin_does(
        "set-role",
        &root,
        &json!({"userId": ada.user_id, "role": "user,admin"}),
    )
    .await;
    assert_eq!(app.impersonate(&root, &ada).await.refusal(), cannot);
    app.admin_does(
        "set-role",
        &root,
        &json!({"userId": ada.user_id, "role": "user"}),
    )
    .await;
    app.admin_does("ban-user", &root, &json!({"userId": ada.user_id}))
        .await;
    assert_eq!(
        app.impersonate(&root, &ada).await.refusal(),
        (403, "BANNED_USER".to_owned())
    );
    assert_eq!(
        app.count("read.sessions where impersonated_by is not null")
            .await,
        0
    );
}

/// S-66: both people are in every event.
#[tokio::test]
async fn whatever_is_done_names_the_admin_and_the_person_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let organization = json!({"name": "Acme", "slug": "acme"});
    let made = app
        .post_as("/api/auth/organization/create", &ada.cookie, &organization)
        .await;
    let before: i64 = app.count("events").await;
    let acting = app.impersonate(&root, &ada).await;
    let cookie = acting.session_cookie();
    let jwt = app.jwt(&cookie).await;
    let into = json!({"organizationId": made.json()["id"]});
    app.post_as("/api/auth/organization/set-active", &cookie, &into)
        .await;
    assert_eq!(claims(&jwt)["sub"], json!(ada.user_id));
    let renamed = app
        .post_as(
            "/api/auth/update-user",
            &cookie,
            &json!({"name": "Lovelace"}),
        )
        .await;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    let request = app
        .request("POST", "/api/v1/auth/profile")
        .bearer_auth(&jwt);
    assert_eq!(
        answer(request.json(&json!({"name": "King"}))).await.status,
        200
    );
    // One session for each way to end one.
    let logout = app.request("POST", "/api/v1/auth/logout").bearer_auth(&jwt);
    assert_eq!(answer(logout).await.status, 200);
    let by_sign_out = app.impersonate(&root, &ada).await.session_cookie();
    app.post_as("/api/auth/sign-out", &by_sign_out, &json!({}))
        .await;
    let stopped = app.impersonate(&root, &ada).await;
    app.admin_call("stop-impersonating", &jar(&stopped), &json!({}))
        .await;
    let own = app
        .get_as("/api/auth/list-sessions", &ada.cookie)
        .await
        .json();
    let revoking = app.impersonate(&root, &ada).await.session_cookie();
    app.post_as(
        "/api/auth/revoke-session",
        &revoking,
        &json!({"token": ada.token}),
    )
    .await;
    assert!(!app.is_live(&ada.cookie).await);
    app.post_as("/api/auth/revoke-sessions", &revoking, &json!({}))
        .await;
    assert!(!app.is_live(&revoking).await);
    assert_eq!(own.as_array().unwrap().len(), 1);

    let actors: Vec<(String, String)> = sqlx::query_as(
        "select event_type, metadata ->> 'actor' from events where position > $1 order by position",
    )
    .bind(before)
    .fetch_all(&app.admin)
    .await
    .unwrap();
    let both = format!("user:{} as user:{}", root.user_id, ada.user_id);
    assert_eq!(actors.len(), 12, "{actors:?}");
    for (event_type, actor) in actors {
        assert_eq!(actor, both, "{event_type}");
    }
}

/// S-66: the person sees it in their history, not among their sessions.
#[tokio::test]
async fn the_person_can_see_it_s66() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let acting = app.impersonate(&root, &ada).await;
    let id = acting.json()["session"]["id"].clone();
    for (path, cookie) in [
        ("/api/auth/list-sessions", &ada.cookie),
        ("/api/v1/auth/sessions", &ada.cookie),
        ("/api/auth/list-sessions", &acting.session_cookie()),
    ] {
        let listed = app.get_as(path, cookie).await.json();
        let ids: Vec<&Value> = listed
            .as_array()
            .unwrap()
            .iter()
            .map(|session| &session["id"])
            .collect();
        assert_eq!(ids.len(), 1, "{path}");
        assert!(!ids.contains(&&id), "{path}");
    }
    let listed = app
        .admin_does("list-user-sessions", &root, &json!({"userId": ada.user_id}))
        .await;
    let sessions = listed["sessions"].as_array().unwrap();
    let shown = sessions.iter().find(|session| session["id"] == id).unwrap();
    assert_eq!(shown["impersonatedBy"], json!(root.user_id));
    app.admin_call("stop-impersonating", &jar(&acting), &json!({}))
        .await;
    let history = app
        .get_as("/api/v1/auth/security-events", &ada.cookie)
        .await
        .json();
    let types: Vec<&str> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|line| line["eventType"].as_str().unwrap())
        .collect();
    for wanted in ["impersonation_started", "impersonation_ended"] {
        assert!(types.contains(&wanted), "{types:?}");
    }
    assert_eq!(app.mails_of("new_device", "ada@example.com").await, 0);
}

/// S-66: it is worth what the admin's standing is worth, on every node and at once.
#[tokio::test]
async fn it_ends_with_what_it_takes_s66() {
    let ends: [(&str, &str, &str); 7] = [
        ("set-role", "admin", r#"{"userId": "ID", "role": "user"}"#),
        ("ban-user", "admin", r#"{"userId": "ID"}"#),
        ("remove-user", "admin", r#"{"userId": "ID"}"#),
        ("revoke-user-sessions", "admin", r#"{"userId": "ID"}"#),
        (
            "set-user-password",
            "admin",
            r#"{"userId": "ID", "newPassword": "another good password"}"#,
        ),
        ("set-role", "person", r#"{"userId": "ID", "role": "admin"}"#),
        ("ban-user", "person", r#"{"userId": "ID"}"#),
    ];
    let app = TestApp::start(&ADMINS).await;
    let node = app.node(&ADMINS).await;
    let root = app.signed_in("root").await;
    for (number, (route, of, body)) in ends.into_iter().enumerate() {
        let admin = app.another_admin(&root, &format!("admin{number}")).await;
        let person = app.signed_in(&format!("person{number}")).await;
        let acting = app.impersonate(&admin, &person).await.session_cookie();
        let jwt = app.jwt(&acting).await;
        assert!(node.is_live(&acting).await);
        let id = if of == "admin" {
            &admin.user_id
        } else {
            &person.user_id
        };
        let body = serde_json::from_str(&body.replace("ID", id)).unwrap();
        app.admin_does(route, &root, &body).await;
        assert!(!node.is_live(&acting).await, "{route} of the {of}");
        let by_jwt = node
            .request("GET", "/api/v1/auth/sessions")
            .bearer_auth(jwt);
        assert_eq!(answer(by_jwt).await.status, 401, "{route} of the {of}");
    }
}

#[tokio::test]
async fn the_way_back_leads_to_the_admin_who_came_and_to_nobody_else() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let other = app.another_admin(&root, "other").await;
    let ada = app.signed_in("ada").await;
    let way_back = |answer: &Answer| {
        let jar = jar(answer);
        let pair = jar
            .split("; ")
            .find(|pair| pair.contains("admin_session"))
            .unwrap();
        pair.to_owned()
    };
    let of_other = way_back(&app.impersonate(&other, &ada).await);
    let nobodys = [
        String::new(),
        of_other,
        "mana.admin_session=x.y".to_owned(),
        // The session's cookie is signed as well, and no way back.
        root.cookie.replace("session_token", "admin_session"),
    ];
    for cookie in nobodys {
        let acting = app.impersonate(&root, &ada).await;
        let jar = format!("{}; {cookie}", acting.session_cookie());
        let stopped = app.admin_call("stop-impersonating", &jar, &json!({})).await;
        assert_eq!(
            (stopped.status, stopped.session_cookie()),
            (401, String::new()),
            "{cookie}"
        );
        assert!(
            !app.is_live(&acting.session_cookie()).await,
            "it ends all the same"
        );
    }
    let acting = app.impersonate(&root, &ada).await;
    let stopped = app
        .admin_call("stop-impersonating", &jar(&acting), &json!({}))
        .await;
    assert_eq!(stopped.json()["session"]["token"], json!(root.token));
    assert_eq!(stopped.session_cookie(), root.cookie);
    assert!(!app.is_live(&acting.session_cookie()).await && app.is_live(&root.cookie).await);
    assert!(
        app.is_live(&ada.cookie).await,
        "the person's own session is none of it"
    );
    let again = app
        .admin_call("stop-impersonating", &root.cookie, &json!({}))
        .await;
    assert_eq!(again.status, 400);
}
