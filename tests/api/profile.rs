//! What people show of themselves: read and changed, by the official client and by the apps' own.

#![cfg(test)]

use serde_json::{Value, json};

use crate::account::Shown;
use crate::client::{Session, UNVERIFIED, answer};
use crate::harness::{TestApp, wait_until};

async fn update(app: &TestApp, ada: &Session, body: &Value) -> crate::client::Answer {
    app.post_as("/api/auth/update-user", &ada.cookie, body)
        .await
}

async fn profile(app: &TestApp, session: &Session, shown: Shown) -> Value {
    let request = app.request("GET", "/api/v1/auth/profile");
    let profile = answer(shown.on(app, session, request).await).await;
    assert_eq!(profile.status, 200, "{}", profile.text);
    profile.json()
}

async fn own(app: &TestApp, session: &Session) -> Value {
    app.get_as("/api/auth/get-session", &session.cookie)
        .await
        .json()
}

#[tokio::test]
async fn name_picture_and_language_are_changed_and_taken_away() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let bob = app.signed_in("bob").await;
    let bob_before = own(&app, &bob).await;
    let mut user = own(&app, &ada).await["user"].take();
    for (change, leaves) in [
        (json!({"name": "Ada"}), json!({"name": "Ada"})),
        (
            json!({"image": "https://pictures.example/ada", "locale": "en"}),
            Value::Null,
        ),
        (json!({"image": null}), json!({"image": null})),
        (
            json!({"name": "", "locale": null, "unknown": [1]}),
            json!({"name": "", "locale": null}),
        ),
        (json!({"name": ""}), json!({})),
    ] {
        assert!(
            node.is_live(&ada.cookie).await,
            "so that the other node has seen what it was"
        );
        let updated = update(&app, &ada, &change).await;
        assert_eq!(
            (updated.status, updated.json()),
            (200, json!({"status": true}))
        );
        assert_eq!(
            updated.session_cookie(),
            ada.cookie,
            "the cookie is set again"
        );
        let leaves = if leaves.is_null() { &change } else { &leaves };
        for (field, value) in leaves.as_object().unwrap() {
            user[field] = value.clone();
        }
        let mut now = own(&app, &ada).await["user"].take();
        now["updatedAt"] = user["updatedAt"].clone();
        assert_eq!(now, user);
        wait_until("the other node has heard of it", async || {
            own(&node, &ada).await["user"]["name"] == user["name"]
                && own(&node, &ada).await["user"]["image"] == user["image"]
        })
        .await;
    }
    assert_eq!(own(&app, &bob).await, bob_before);
}

/// S-36: nobody gives themselves a role, a tier or an address.
#[tokio::test]
async fn what_is_not_ones_own_to_change_is_refused_s36() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let before = own(&app, &ada).await;
    let events = app.count("events").await;
    for (body, code, message) in [
        (
            json!({"email": "x@example.com", "name": "x"}),
            "EMAIL_CAN_NOT_BE_UPDATED",
            "Email can not be updated",
        ),
        (
            json!({"role": "admin", "name": "x"}),
            "FIELD_NOT_ALLOWED",
            "role is not allowed to be set",
        ),
        (
            json!({"accessTier": "founder", "name": "x"}),
            "FIELD_NOT_ALLOWED",
            "accessTier is not allowed to be set",
        ),
        (json!({}), "", "No fields to update"),
        (
            json!({"emailVerified": true, "id": "x", "banned": false}),
            "",
            "No fields to update",
        ),
    ] {
        let refused = update(&app, &ada, &body).await;
        assert_eq!(refused.refusal(), (400, code.to_owned()), "{body}");
        assert_eq!(refused.json()["message"], message);
        let request = app.request("POST", "/api/v1/auth/profile").json(&body);
        let refused = answer(Shown::Jwt.on(&app, &ada, request).await).await;
        assert_eq!(refused.refusal(), (400, "VALIDATION".to_owned()), "{body}");
    }
    let nobody = app
        .post("/api/auth/update-user", &json!({"name": "x"}))
        .await;
    assert_eq!(nobody.refusal(), (401, "UNAUTHORIZED".to_owned()));
    assert_eq!(own(&app, &ada).await, before);
    assert_eq!(app.count("events").await, events);
}

/// Contract sections 3.6 and 3.12.
#[tokio::test]
async fn the_apps_clients_read_and_change_the_profile_by_cookie_or_bearer() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    for (number, shown) in [Shown::Cookie, Shown::Token, Shown::Jwt]
        .into_iter()
        .enumerate()
    {
        let name = format!("Ada {number}");
        let body = json!({"name": name, "image": null});
        let request = app.request("POST", "/api/v1/auth/profile").json(&body);
        let changed = answer(shown.on(&app, &ada, request).await).await;
        let known = own(&app, &ada).await;
        assert_eq!(known["user"]["name"], name.as_str());
        let wanted = json!({"status": true, "success": true, "user": known["user"]});
        assert_eq!((changed.status, changed.json()), (200, wanted));

        let mut profile = profile(&app, &ada, shown).await;
        let token = profile["session"]["token"].take();
        let known_token = known["session"]["token"].clone();
        assert_eq!(
            token == known_token,
            shown != Shown::Jwt,
            "an access token does not tell the other"
        );
        profile["session"]["token"] = known_token;
        assert_eq!(
            (&profile["session"], &profile["user"]),
            (&known["session"], &known["user"])
        );
        for (field, value) in known["user"].as_object().unwrap() {
            assert_eq!(&profile[field], value, "beside the nested one");
        }
    }
    assert_eq!(app.get("/api/v1/auth/profile").await.text, "null");
    let request = app.request("POST", "/api/v1/auth/profile");
    let forged = answer(
        request
            .header("cookie", &ada.cookie)
            .json(&json!({"name": "x"})),
    )
    .await;
    assert_eq!(forged.status, 403);
    app.post_as("/api/auth/sign-out", &ada.cookie, &json!({}))
        .await;
    let over = app.get_as("/api/v1/auth/profile", &ada.cookie).await;
    assert_eq!(over.text, "null");
    assert!(over.cookies().join("").contains("session_token=;"));
}
