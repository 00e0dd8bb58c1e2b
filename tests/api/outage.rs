//! The database goes away and comes back: 503 in the shape of each door, never a refusal that would be a lie.

#![cfg(test)]

use mana_auth::cluster::Role;
use mana_auth::database;
use serde_json::json;
use sqlx::{ConnectOptions as _, Executor as _, PgConnection};

use crate::client::{PASSWORD, UNVERIFIED};
use crate::harness::{TestApp, wait_until};

/// A connection beside the database, and its name.
pub async fn beside(app: &TestApp) -> (PgConnection, String) {
    let name = sqlx::query_scalar("select current_database()")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    let options = database::options(&app.database_url(Role::Superuser)).unwrap();
    (options.database("postgres").connect().await.unwrap(), name)
}

pub async fn take_away(connection: &mut PgConnection, name: &str) {
    let refuse = format!("alter database {name} with allow_connections false");
    connection.execute(refuse.as_str()).await.unwrap();
    // Whatever the service was doing there has come to nothing before this returns.
    let end = format!(
        "select pg_terminate_backend(pid, 30000) from pg_stat_activity
         where datname = '{name}' and application_name like 'mana-auth%'"
    );
    connection.execute(end.as_str()).await.unwrap();
}

pub async fn give_back(connection: &mut PgConnection, name: &str) {
    let allow = format!("alter database {name} with allow_connections true");
    connection.execute(allow.as_str()).await.unwrap();
}

#[tokio::test]
async fn without_the_database_every_door_says_so_and_opens_again_by_itself() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    app.effects_done().await;
    let before = app.state().await;
    let (mut connection, name) = beside(&app).await;
    take_away(&mut connection, &name).await;

    let right = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    let wrong = json!({"name": "Ada", "email": "ada@example.com", "password": "wrong password"});
    let new = json!({"name": "Bob", "email": "bob@example.com", "password": PASSWORD});
    for (door, body) in [
        ("/api/auth/sign-in/email", &right),
        ("/api/auth/sign-in/email", &wrong),
        ("/api/v1/auth/login", &right),
        ("/api/v1/auth/login", &wrong),
        ("/api/auth/sign-up/email", &new),
        ("/api/auth/sign-up/email", &right),
        ("/api/v1/auth/register", &new),
        ("/api/auth/send-verification-email", &new),
    ] {
        let answer = app.post(door, body).await;
        assert_eq!(answer.status, 503, "{door}: {}", answer.text);
        assert_eq!(answer.header("retry-after"), "1");
        let wanted = if door.contains("/v1/") {
            json!({
                "error": "Service temporarily unavailable", "code": "SERVICE_UNAVAILABLE",
                "message": "Service temporarily unavailable", "status": 503, "retryAfterSec": 1,
            })
        } else {
            json!({"message": "Service temporarily unavailable", "code": "SERVICE_UNAVAILABLE"})
        };
        assert_eq!(answer.json(), wanted, "{door}");
    }
    // What is remembered is trusted for a second; then nobody is told that they have no session.
    wait_until("the node trusts its memory no longer", async || {
        app.get_as("/api/auth/get-session", &session.cookie)
            .await
            .status
            == 503
    })
    .await;
    for path in ["/api/auth/token", "/api/v1/auth/session"] {
        let answer = app.get_as(path, &session.cookie).await;
        assert_eq!((answer.status, answer.cookies().len()), (503, 0), "{path}");
    }
    for door in ["/api/auth/sign-out", "/api/v1/auth/logout"] {
        let answer = app.post_as(door, &session.cookie, &json!({})).await;
        assert_eq!(
            (answer.status, answer.cookies().len()),
            (503, 0),
            "{door} does not claim to have ended it"
        );
    }
    assert_eq!(app.get("/api/auth/ok").await.status, 200);

    give_back(&mut connection, &name).await;
    wait_until("sign-in works again", async || {
        app.try_sign_in("ada", PASSWORD).await.status == 200
    })
    .await;
    assert_eq!(app.try_sign_in("ada", "wrong password").await.status, 401);
    assert!(app.is_live(&session.cookie).await, "nobody was logged out");
    for (table, rows) in before {
        if ["public.custody", "public.claims", "read.users"].contains(&table.as_str()) {
            assert_eq!(
                app.state().await[&table],
                rows,
                "{table}: nothing came of what was refused"
            );
        }
    }
    wait_until("sign-up works again", async || {
        app.sign_up("carol").await.status != 503
    })
    .await;
    app.effects_done().await;
    assert!(
        app.mails()
            .iter()
            .any(|mail| mail.to == "carol@example.com"),
        "mails leave again"
    );
}
