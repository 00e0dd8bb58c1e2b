//! What admins do to others, who may not, and what stays true while they do it.

#![cfg(test)]

use std::collections::BTreeSet;

use chrono::TimeDelta;
use mana_auth::http::doors::areas;
use serde_json::{Value, json};

use crate::account::NEW;
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED};
use crate::harness::{TestApp, wait_until};
use crate::outage::{beside, give_back, take_away};
use crate::password_races::Held;

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
fn request_of(route: &str, body: &str, id: &str) -> (String, Value) {
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
        let refused = app.admin_call(&route, &eve.cookie, &body).await;
        assert_eq!(refused.refusal(), (403, code.to_owned()), "{route}");
        assert!(
            refused.json().get("total").is_none(),
            "S-25: nothing is counted for them"
        );
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

/// Every way in which an admin can go, with the person in the place of `ID`.
const WAYS_OUT: [(&str, &str); 5] = [
    ("set-role", r#"{"userId": "ID", "role": "user"}"#),
    (
        "update-user",
        r#"{"userId": "ID", "data": {"role": ["user", "support"]}}"#,
    ),
    (
        "update-user",
        r#"{"userId": "ID", "data": {"banned": true}}"#,
    ),
    ("ban-user", r#"{"userId": "ID", "banExpiresIn": 60}"#),
    ("remove-user", r#"{"userId": "ID"}"#),
];

const THE_ADMINS: &str =
    "read.users where 'admin' = any (string_to_array(role, ',')) and not banned";

/// S-65
#[tokio::test]
async fn the_last_admin_cannot_go_s65() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let last = (400, "LAST_ADMIN".to_owned());
    for body in [
        json!({"userId": root.user_id, "role": "user"}),
        json!({"userId": root.user_id, "role": ["user", "admins"]}),
    ] {
        let refused = app.admin_call("set-role", &root.cookie, &body).await;
        assert_eq!(refused.refusal(), last);
    }
    let own = app
        .post_as(
            "/api/auth/delete-user",
            &root.cookie,
            &json!({"password": PASSWORD}),
        )
        .await;
    assert_eq!(own.refusal(), last);
    for (route, code) in [("ban-user", "BAN"), ("remove-user", "REMOVE")] {
        let refused = app
            .admin_call(route, &root.cookie, &json!({"userId": root.user_id}))
            .await;
        assert_eq!(
            refused.refusal(),
            (400, format!("YOU_CANNOT_{code}_YOURSELF"))
        );
    }
    // One who is banned does not count.
    let ada = app.another_admin(&root, "ada").await;
    app.admin_does("ban-user", &root, &json!({"userId": ada.user_id}))
        .await;
    let body = json!({"userId": root.user_id, "role": "user"});
    let refused = app.admin_call("set-role", &root.cookie, &body).await;
    assert_eq!(refused.refusal(), last);
    app.admin_does("unban-user", &root, &json!({"userId": ada.user_id}))
        .await;
    app.admin_does("set-role", &root, &body).await;
    assert_eq!(app.count(THE_ADMINS).await, 1);
}

/// S-65: two admins send each other away at the same moment, each on a node of their own. Both requests are decided
/// before either is written.
#[tokio::test]
async fn two_admins_who_send_each_other_away_leave_one_s65() {
    for (route, body) in WAYS_OUT {
        let app = TestApp::start(&ADMINS).await;
        let node = app.node(&ADMINS).await;
        let root = app.signed_in("root").await;
        let ada = app.another_admin(&root, "ada").await;
        let (_, of_ada) = request_of(route, body, &ada.user_id);
        let (_, of_root) = request_of(route, body, &root.user_id);
        let held = Held::start(&app).await;
        let let_go = async {
            held.waited_for_by(&app, 2).await;
            held.let_go().await;
        };
        let (one, other, ()) = tokio::join!(
            app.admin_call(route, &root.cookie, &of_ada),
            node.admin_call(route, &ada.cookie, &of_root),
            let_go,
        );
        let mut answers = [one.refusal(), other.refusal()];
        answers.sort();
        assert_eq!(answers[0].0, 200, "{route}: {answers:?}");
        assert_eq!(answers[1], (400, "LAST_ADMIN".to_owned()), "{route}");
        assert_eq!(app.count(THE_ADMINS).await, 1, "{route}");
    }
}

/// S-65: the same on one node, where both may come into one batch.
#[tokio::test]
async fn ten_admins_who_all_leave_at_once_leave_one_s65() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let mut admins = vec![root.clone()];
    for number in 1..10 {
        admins.push(app.another_admin(&root, &format!("a{number}")).await);
    }
    let leaving = admins.iter().map(async |admin| {
        let body = json!({"userId": admin.user_id, "role": "user"});
        app.admin_call("set-role", &admin.cookie, &body)
            .await
            .status
    });
    let answers = futures_util::future::join_all(leaving).await;
    assert_eq!(
        answers.iter().filter(|status| **status == 200).count(),
        9,
        "{answers:?}"
    );
    assert_eq!(app.count(THE_ADMINS).await, 1);
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

#[tokio::test]
async fn several_changes_happen_together_or_not_at_all() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    app.signed_in("bob").await;
    app.effects_done().await;
    let before = app.state().await;
    for (data, code) in [
        (
            json!({"name": "King", "email": "bob@example.com"}),
            "USER_ALREADY_EXISTS_USE_ANOTHER_EMAIL",
        ),
        (json!({"name": "King", "email": "nope"}), "INVALID_EMAIL"),
        (json!({"name": "King", "role": [""]}), "INVALID_ROLE_TYPE"),
        (
            json!({"name": "King", "role": ["user", 1]}),
            "INVALID_ROLE_TYPE",
        ),
        (
            json!({"name": "King", "password": NEW}),
            "PASSWORD_CANNOT_BE_UPDATED_VIA_UPDATE_USER",
        ),
        (
            json!({"name": "King", "id": "x"}),
            "USER_ID_CANNOT_BE_UPDATED",
        ),
        (json!({"name": "K\0ng"}), "VALIDATION_ERROR"),
        (
            json!({"name": "King", "accessTier": "gold"}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"name": "King", "emailVerified": "yes"}),
            "VALIDATION_ERROR",
        ),
        (
            json!({"name": "King", "banned": true, "banExpires": "soon"}),
            "VALIDATION_ERROR",
        ),
        (json!({"name": "King", "image": 1}), "VALIDATION_ERROR"),
        (json!({}), "NO_DATA_TO_UPDATE"),
        (
            json!({"twoFactorEnabled": false, "createdAt": "2020-01-01T00:00:00Z"}),
            "NO_DATA_TO_UPDATE",
        ),
    ] {
        let body = json!({"userId": ada.user_id, "data": data});
        let refused = app.admin_call("update-user", &root.cookie, &body).await;
        assert_eq!(refused.refusal(), (400, code.to_owned()), "{data}");
        assert_eq!(app.state().await, before, "{data}");
    }
    let data = json!({
        "name": "King", "image": "https://example.com/k.png", "locale": "de", "role": ["user", "support"],
        "accessTier": "alpha", "email": "King@Example.com", "emailVerified": true, "banned": true, "banReason": "x",
        "banExpires": "2099-01-01T00:00:00.000Z",
    });
    let body = json!({"userId": ada.user_id, "data": data});
    let changed = app.admin_does("update-user", &root, &body).await;
    for (field, value) in [
        ("name", json!("King")),
        ("image", json!("https://example.com/k.png")),
        ("locale", json!("de")),
        ("role", json!("user,support")),
        ("accessTier", json!("alpha")),
        ("email", json!("king@example.com")),
        ("emailVerified", json!(true)),
        ("banned", json!(true)),
        ("banReason", json!("x")),
        ("banExpires", json!("2099-01-01T00:00:00.000Z")),
    ] {
        assert_eq!(changed[field], value, "{field}");
    }
    assert_eq!(
        app.mails_of("email_changed", "ada@example.com").await,
        0,
        "nobody has proven to be there"
    );
    // What is not said of a ban stays, and what is proven stays proven.
    let change = async |data: Value| {
        let body = json!({"userId": ada.user_id, "data": data});
        app.admin_call("update-user", &root.cookie, &body).await
    };
    let changed = change(json!({"banReason": "y"})).await.json();
    assert_eq!(
        (&changed["banReason"], &changed["banExpires"]),
        (&json!("y"), &json!("2099-01-01T00:00:00.000Z"))
    );
    assert_eq!(
        change(json!({"emailVerified": false})).await.refusal().1,
        "FIELD_NOT_ALLOWED"
    );
    let changed = change(json!({"banned": false, "image": null})).await.json();
    assert_eq!(
        (&changed["banned"], &changed["image"]),
        (&json!(false), &Value::Null)
    );
}

/// S-61: an address that an admin takes away leads its owner back, if it was proven to be theirs.
#[tokio::test]
async fn another_address_ends_sessions_and_tells_the_proven_one_s61() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    app.verified("ada").await;
    let ada = app.sign_in("ada").await;
    let body = json!({"userId": ada.user_id, "data": {"email": "eve@example.com"}});
    app.admin_does("update-user", &root, &body).await;
    assert!(!app.is_live(&ada.cookie).await);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 401);
    assert_eq!(app.try_sign_in("eve", PASSWORD).await.status, 200);
    assert_eq!(app.mails_of("email_changed", "ada@example.com").await, 1);
    assert_eq!(
        app.last_actor("user.email_changed").await,
        format!("user:{}", root.user_id)
    );
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
async fn a_ban_ends_sessions_at_once_and_by_itself_when_its_time_is_over() {
    let app = TestApp::start(&ADMINS).await;
    let node = app.node(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let jwt = app.jwt(&ada.cookie).await;
    for secs in [json!(-1), json!(1e300), json!(4e9)] {
        let body = json!({"userId": ada.user_id, "banExpiresIn": secs});
        let refused = app.admin_call("ban-user", &root.cookie, &body).await;
        assert_eq!(
            refused.refusal(),
            (400, "VALIDATION_ERROR".to_owned()),
            "{secs}"
        );
    }
    let body = json!({"userId": ada.user_id, "banExpiresIn": 3600});
    node.admin_does("ban-user", &root, &body).await;
    assert!(!node.is_live(&ada.cookie).await);
    let profile = app.request("GET", "/api/v1/auth/sessions").bearer_auth(jwt);
    assert_eq!(crate::client::answer(profile).await.status, 401);
    assert_eq!(
        app.try_sign_in("ada", PASSWORD).await.refusal(),
        (403, "BANNED_USER".to_owned())
    );
    app.clock.advance(TimeDelta::seconds(3601));
    let ada = app.sign_in("ada").await;
    let person = app
        .admin_does(&format!("get-user?id={}", ada.user_id), &root, &json!({}))
        .await;
    assert_eq!(
        (&person["banned"], &person["banReason"]),
        (&json!(false), &Value::Null)
    );
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

/// S-25
#[tokio::test]
async fn no_list_and_no_total_says_anything_about_what_is_not_shown_s25() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    for name in ["ada", "a_a", "bob"] {
        app.signed_in(name).await;
    }
    let list = async |query: &str| {
        let body = app
            .admin_does(&format!("list-users?{query}"), &root, &json!({}))
            .await;
        let names: Vec<String> = body["users"]
            .as_array()
            .unwrap()
            .iter()
            .map(|user| user["name"].as_str().unwrap().to_owned())
            .collect();
        (names.join(" "), body["total"].as_i64().unwrap())
    };
    for hidden in [
        "password",
        "tokenHash",
        "token_hash",
        "email_verified",
        "id;",
        "1",
        "users.id",
        "*",
    ] {
        for query in [
            format!("sortBy={hidden}"),
            format!("filterField={hidden}&filterValue=a&filterOperator=ne"),
        ] {
            assert_eq!(list(&query).await, (String::new(), 0), "{query}");
        }
    }
    for (query, names, total) in [
        ("sortBy=name&searchField=name&searchValue=a_a", "a_a", 1),
        ("searchValue=%25", "", 0),
        ("searchValue=%5C", "", 0),
        ("searchValue=%00", "", 0),
        ("searchValue=' or true --", "", 0),
        ("searchValue=ADA%40", "ada", 1),
        (
            "filterField=email&filterOperator=not_in&filterValue=ada@example.com&filterValue=bob@example.com&sortBy=email&sortDirection=desc",
            "root a_a",
            2,
        ),
        ("filterValue=bob@example.com", "bob", 1),
        (
            "filterValue=bob@example.com&filterValue=ada@example.com",
            "",
            0,
        ),
        ("filterField=banned&filterValue=maybe", "", 0),
        (
            "filterField=banned&filterValue=false&limit=1&sortBy=name",
            "a_a",
            4,
        ),
        (
            "filterField=createdAt&filterOperator=contains&filterValue=2",
            "",
            0,
        ),
        (
            "filterField=createdAt&filterOperator=lt&filterValue=2020-01-01T00:00:00Z",
            "",
            0,
        ),
        (
            "filterField=name&filterOperator=starts_with&filterValue=b&searchValue=bob",
            "bob",
            1,
        ),
        ("sortBy=name&offset=3&limit=5", "root", 4),
        ("limit=-1", "", 0),
        ("offset=-1", "", 0),
    ] {
        assert_eq!(list(query).await, (names.to_owned(), total), "{query}");
    }
    let capped = app
        .admin_does("list-users?limit=1000000", &root, &json!({}))
        .await;
    assert_eq!(capped["limit"], 1000);
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

/// A ban holds at the door of a link that proves an address and would sign in.
#[tokio::test]
async fn whoever_is_banned_is_not_let_in_by_a_verification_link() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let link = app.wait_for_mail("ada@example.com", 0).await.url.unwrap();
    app.admin_does("ban-user", &root, &json!({"userId": ada.user_id}))
        .await;
    let followed = app.follow(&link).await;
    assert_eq!(followed.session_cookie(), "", "{}", followed.text);
    let of_ada = format!("read.sessions where user_id = '{}'", ada.user_id);
    assert_eq!(app.count(&of_ada).await, 0);
}

/// The sign-in is let in before the ban is written, and its session begins after it.
#[tokio::test]
async fn a_sign_in_that_is_overtaken_by_a_ban_leads_nowhere() {
    let app = TestApp::start(&ADMINS).await;
    let node = app.node(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    let held = Held::start(&app).await;
    let banning = async {
        let body = json!({"userId": ada.user_id});
        node.admin_does("ban-user", &root, &body).await;
    };
    let signing_in = async {
        held.waited_for_by(&app, 1).await;
        let signing_in = app.try_sign_in("ada", PASSWORD);
        let let_go = async {
            held.waited_for_by(&app, 2).await;
            held.let_go().await;
        };
        tokio::join!(signing_in, let_go).0
    };
    let ((), signed_in) = tokio::join!(banning, signing_in);
    assert_eq!(
        signed_in.status, 200,
        "it was decided before: {}",
        signed_in.text
    );
    for node in [&app, &node] {
        assert!(!node.is_live(&signed_in.session_cookie()).await);
    }
}
