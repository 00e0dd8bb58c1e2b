//! The last admin stays, whoever sends whom away at the same moment (S-65).

#![cfg(test)]

use serde_json::json;

use crate::admin::{ADMINS, request_of};
use crate::client::PASSWORD;
use crate::harness::TestApp;
use crate::password_races::Held;

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
