//! Guilds: organizations through the apps' own clients, by an access token (mana-v1.md section 10).

#![cfg(test)]

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};

use crate::client::{Answer, Session, UNVERIFIED, answer};
use crate::harness::{TestApp, wait_until};

const PATH: &str = "/api/v1/gilden";

/// Calls a route as somebody.
async fn call(app: &TestApp, who: &Session, method: &str, path: &str, body: &Value) -> Answer {
    let request = app.request(method, &format!("{PATH}{path}"));
    let request = request.bearer_auth(app.jwt(&who.cookie).await);
    answer(if body.is_null() {
        request
    } else {
        request.json(body)
    })
    .await
}

/// The same; it is done.
async fn done(app: &TestApp, who: &Session, method: &str, path: &str, body: Value) -> Value {
    let answer = call(app, who, method, path, &body).await;
    assert!(
        [200, 201].contains(&answer.status),
        "{method} {path}: {}",
        answer.text
    );
    assert!(answer.cookies().is_empty(), "{method} {path}");
    answer.json()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// From its making to its end, and the official client sees the same.
#[tokio::test]
async fn a_guild_lives_like_any_organization() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let [olga, mia] = [app.signed_in("olga").await, app.signed_in("mia").await];
    let body = json!({"name": "Weavers", "slug": "weavers"});
    let made = call(&app, &olga, "POST", "", &body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let id = text(&made["gilde"]["id"]);
    let owner = &made["gilde"]["members"][0];
    assert_eq!(
        made,
        json!({
            "gilde": {
                "id": id, "name": "Weavers", "slug": "weavers", "logo": null,
                "createdAt": made["gilde"]["createdAt"],
                "members": [{
                    "id": owner["id"], "organizationId": id, "userId": olga.user_id, "role": "owner",
                    "createdAt": owner["createdAt"],
                }],
            },
            "pool": {"balance": 0},
        })
    );
    // As with the official client: the session is in it now.
    let session = app.get_as("/api/auth/get-session", &olga.cookie).await;
    let active = session.json()["session"]["activeOrganizationId"].clone();
    assert_eq!(active, json!(id));

    let guild = format!("/{id}");
    let changed = done(&app, &olga, "PUT", &guild, json!({"name": "Spinners"})).await;
    assert_eq!(
        (&changed["name"], &changed["slug"]),
        (&json!("Spinners"), &json!("weavers"))
    );
    let list = done(&app, &olga, "GET", "", Value::Null).await;
    assert_eq!(list, app.organization_read(&olga, "list").await.json());
    assert_eq!(done(&app, &mia, "GET", "", Value::Null).await, json!([]));

    let invite = json!({"email": "mia@example.com"});
    let sent = done(&app, &olga, "POST", &format!("{guild}/invite"), invite).await;
    assert_eq!(
        (&sent["role"], &sent["status"]),
        (&json!("member"), &json!("pending"))
    );
    assert_eq!(app.mails_of("invitation", "mia@example.com").await, 1);
    let accept = json!({"invitationId": sent["id"]});
    let joined = done(&app, &mia, "POST", "/accept-invitation", accept).await;
    assert_eq!(joined["invitation"]["status"], "accepted");
    let member = text(&joined["member"]["id"]);

    let full = done(&app, &mia, "GET", &guild, Value::Null).await;
    let same = app
        .organization_read(&mia, &format!("get-full-organization?organizationId={id}"))
        .await;
    assert_eq!(full, same.json());
    assert_eq!(full["members"].as_array().unwrap().len(), 2);

    let path = format!("{guild}/members/{member}/role");
    let promoted = done(&app, &olga, "PUT", &path, json!({"role": "admin"})).await;
    assert_eq!(
        (&promoted["id"], &promoted["role"]),
        (&json!(member), &json!("admin"))
    );
    let path = format!("{guild}/members/{member}");
    let removed = done(&app, &olga, "DELETE", &path, Value::Null).await;
    assert_eq!(removed, json!({"success": true}));
    let closed = done(&app, &olga, "DELETE", &guild, Value::Null).await;
    assert_eq!(closed, json!({"success": true}));
    assert_eq!(app.count("read.organizations").await, 0);
}

/// The rules are those of organizations, and their words with them; who is nobody hears what all such routes say.
#[tokio::test]
async fn refusals_are_those_of_the_official_clients_routes_s62() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let [olga, eve] = [app.signed_in("olga").await, app.signed_in("eve").await];
    let id = app.founded(&olga, "weavers").await;
    let (mia, _) = app.joined(&olga, &id, "mia", "member").await;
    let owner = app
        .organization_read(&olga, "get-active-member")
        .await
        .json();
    let owner = text(&owner["id"]);
    let guild = format!("/{id}");
    let (invite, member) = (
        format!("{guild}/invite"),
        format!("{guild}/members/{owner}"),
    );
    let role = format!("{member}/role");
    let taken = json!({"name": "x", "slug": "weavers"});
    let before = app.of_organization(&id).await;
    for (who, method, path, body, status, code) in [
        (&olga, "POST", "", taken, 400, "ORGANIZATION_ALREADY_EXISTS"),
        (
            &olga,
            "POST",
            "",
            json!({"slug": "x"}),
            400,
            "VALIDATION_ERROR",
        ),
        (&olga, "PUT", &guild, json!({}), 400, ""),
        (
            &olga,
            "GET",
            "/none",
            Value::Null,
            400,
            "ORGANIZATION_NOT_FOUND",
        ),
        (
            &olga,
            "GET",
            "/%00",
            Value::Null,
            400,
            "ORGANIZATION_NOT_FOUND",
        ),
        (
            &eve,
            "GET",
            &guild,
            Value::Null,
            403,
            "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION",
        ),
        (
            &eve,
            "PUT",
            &guild,
            json!({"name": "x"}),
            400,
            "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION",
        ),
        (
            &mia,
            "PUT",
            &guild,
            json!({"name": "x"}),
            403,
            "YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_ORGANIZATION",
        ),
        (
            &mia,
            "DELETE",
            &guild,
            Value::Null,
            403,
            "YOU_ARE_NOT_ALLOWED_TO_DELETE_THIS_ORGANIZATION",
        ),
        (
            &mia,
            "POST",
            &invite,
            json!({"email": "eve@example.com"}),
            403,
            "YOU_ARE_NOT_ALLOWED_TO_INVITE_USERS_TO_THIS_ORGANIZATION",
        ),
        (
            &olga,
            "POST",
            &invite,
            json!({"email": "nope"}),
            400,
            "INVALID_EMAIL",
        ),
        (
            &eve,
            "POST",
            "/accept-invitation",
            json!({"invitationId": "x"}),
            400,
            "INVITATION_NOT_FOUND",
        ),
        (
            &eve,
            "DELETE",
            &member,
            Value::Null,
            400,
            "MEMBER_NOT_FOUND",
        ),
        (
            &mia,
            "DELETE",
            &member,
            Value::Null,
            400,
            "YOU_CANNOT_LEAVE_THE_ORGANIZATION_AS_THE_ONLY_OWNER",
        ),
        (
            &mia,
            "PUT",
            &role,
            json!({"role": "member"}),
            403,
            "YOU_ARE_NOT_ALLOWED_TO_UPDATE_THIS_MEMBER",
        ),
        (
            &olga,
            "PUT",
            &role,
            json!({"role": ","}),
            400,
            "ROLE_NOT_FOUND",
        ),
        (
            &olga,
            "PUT",
            &role,
            json!({"role": "member"}),
            400,
            "YOU_CANNOT_LEAVE_THE_ORGANIZATION_WITHOUT_AN_OWNER",
        ),
    ] {
        let refused = call(&app, who, method, path, &body).await;
        let wanted = (status, code.to_owned());
        assert_eq!(
            refused.refusal(),
            wanted,
            "{method} {path}: {}",
            refused.text
        );
        assert!(refused.json()["message"].is_string(), "{method} {path}");
    }
    assert_eq!(app.of_organization(&id).await, before);

    // A cookie is no access token.
    let nobody = app.get_as(PATH, &olga.cookie).await;
    assert_eq!(
        nobody.json(),
        json!({"statusCode": 401, "message": "Missing or invalid Authorization header", "code": "UNAUTHORIZED"})
    );
    let request = app.request("GET", PATH).bearer_auth("x.y.z");
    assert_eq!(answer(request).await.json()["statusCode"], json!(401));
}

/// The credits service is told of each guild until it has heard; one that keeps no pools is told once.
#[tokio::test]
async fn the_credits_service_is_told_of_a_guild() {
    let heard: Arc<Mutex<Vec<Value>>> = Arc::default();
    let init = async |State(heard): State<Arc<Mutex<Vec<Value>>>>, Json(body): Json<Value>| {
        let mut heard = heard.lock().unwrap();
        heard.push(body);
        // It stumbles at first.
        [StatusCode::SERVICE_UNAVAILABLE, StatusCode::OK][usize::from(heard.len() > 1)]
    };
    let router = Router::new()
        .route("/api/v1/internal/guild-pool/init", post(init))
        .route(
            "/api/v1/internal/credits/init",
            post(async || StatusCode::OK),
        )
        .with_state(heard.clone());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
        .await
        .unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // Ends with the test's runtime.
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let app = TestApp::start(&[UNVERIFIED, ("MANA_CREDITS_URL", &url)]).await;
    let olga = app.signed_in("olga").await;
    app.founded(&olga, "no-guild").await;
    let body = json!({"name": "Weavers", "slug": "weavers"});
    let made = done(&app, &olga, "POST", "", body).await;
    wait_until("it has heard twice", async || {
        heard.lock().unwrap().len() == 2
    })
    .await;
    app.effects_done().await;
    let told = json!({"organizationId": made["gilde"]["id"]});
    assert_eq!(*heard.lock().unwrap(), [told.clone(), told]);

    let none = crate::client::Credits::start().await;
    let app = TestApp::start(&[UNVERIFIED, ("MANA_CREDITS_URL", &none.url)]).await;
    let olga = app.signed_in("olga").await;
    let body = json!({"name": "Weavers", "slug": "weavers"});
    done(&app, &olga, "POST", "", body).await;
    app.effects_done().await;
}
