//! What admins change about people, and how they find them.

#![cfg(test)]

use serde_json::{Value, json};

use crate::account::NEW;
use crate::admin::ADMINS;
use crate::client::PASSWORD;
use crate::harness::TestApp;

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
    // What is not said of a ban stays.
    let change = async |data: Value| {
        let body = json!({"userId": ada.user_id, "data": data});
        app.admin_call("update-user", &root.cookie, &body).await
    };
    let changed = change(json!({"banReason": "y"})).await.json();
    assert_eq!(
        (&changed["banReason"], &changed["banExpires"]),
        (&json!("y"), &json!("2099-01-01T00:00:00.000Z"))
    );
    let changed = change(json!({"banned": false, "image": null})).await.json();
    assert_eq!(
        (&changed["banned"], &changed["image"]),
        (&json!(false), &Value::Null)
    );
}

/// An address that counts as proven no more lets nobody in where proof is asked for, until it is proven again.
#[tokio::test]
async fn a_proof_that_an_admin_withdraws_has_to_be_given_again() {
    let app = TestApp::start(&[ADMINS[1]]).await;
    app.verified("root").await;
    app.verified("ada").await;
    let [root, ada] = [app.sign_in("root").await, app.sign_in("ada").await];
    let change = async |data: Value| {
        let body = json!({"userId": ada.user_id, "data": data});
        app.admin_does("update-user", &root, &body).await
    };
    let withdrawn = change(json!({"emailVerified": false})).await;
    assert_eq!(withdrawn["emailVerified"], json!(false));
    let shown = app.get_as("/api/auth/get-session", &ada.cookie).await;
    assert_eq!(shown.json()["user"]["emailVerified"], json!(false));
    // What is so already is no event.
    change(json!({"emailVerified": false})).await;
    let of_type = "events where event_type = 'user.email_verification_withdrawn'";
    assert_eq!(app.count(of_type).await, 1);
    let actor = app.last_actor("user.email_verification_withdrawn").await;
    assert_eq!(actor, format!("user:{}", root.user_id));
    let history = app
        .get_as("/api/v1/auth/security-events", &ada.cookie)
        .await;
    assert!(history.text.contains("email_verification_withdrawn"));

    let refused = app.try_sign_in("ada", PASSWORD).await;
    assert_eq!(refused.refusal(), (403, "EMAIL_NOT_VERIFIED".to_owned()));
    let email = json!({"email": "ada@example.com"});
    let asked = app.post("/api/auth/send-verification-email", &email).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let mail = app.wait_for_mail("ada@example.com", 1).await;
    assert_eq!(app.follow(&mail.url.unwrap()).await.status, 302);
    assert_eq!(app.try_sign_in("ada", PASSWORD).await.status, 200);

    let moved = change(json!({"email": "new@example.com", "emailVerified": false})).await;
    assert_eq!(
        (&moved["email"], &moved["emailVerified"]),
        (&json!("new@example.com"), &json!(false))
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
