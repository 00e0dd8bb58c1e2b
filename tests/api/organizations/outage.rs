//! The doors of organizations while the database is away: closed, and nothing of what was refused comes later.

use std::collections::BTreeSet;

use mana_auth::http::doors::areas;
use serde_json::{Value, json};

use super::ALL_ON;
use super::tenants::{ids, requests, send};
use crate::harness::{TestApp, wait_until};
use crate::outage::{beside, give_back, take_away};

/// Requests that name nothing.
fn plain() -> Vec<(&'static str, Value)> {
    vec![
        ("POST create", json!({"name": "new", "slug": "new"})),
        ("POST check-slug", json!({"slug": "new"})),
        ("GET list", Value::Null),
        ("GET get-active-member", Value::Null),
        ("GET list-user-invitations", Value::Null),
    ]
}

/// S-17, S-69
#[tokio::test]
async fn without_the_database_no_door_of_organizations_opens_s69() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let requests = [requests(), plain()].concat();
    let tried: BTreeSet<&str> = requests
        .iter()
        .map(|(route, _)| route.split_once(' ').unwrap().1.split('?').next().unwrap())
        .collect();
    let doors = areas().into_iter().flat_map(|(_, doors)| doors);
    let doors: BTreeSet<&str> = doors
        .filter_map(|door| door.path.strip_prefix("/organization/"))
        .collect();
    assert_eq!(tried, doors, "every door is tried");

    app.effects_done().await;
    let before = app.of_organization(&tenant.id).await;
    let (mut connection, name) = beside(&app).await;
    take_away(&mut connection, &name).await;
    for request in &requests {
        let (sent, answer) = send(&app, &tenant.owner, request, &ids(&tenant)).await;
        let code = "SERVICE_UNAVAILABLE".to_owned();
        assert_eq!(answer.refusal(), (503, code), "{sent}: {}", answer.text);
        assert!(answer.cookies().is_empty(), "{sent}");
    }
    give_back(&mut connection, &name).await;
    wait_until("organizations are read again", async || {
        app.organization_read(&tenant.owner, "list").await.status == 200
    })
    .await;
    assert_eq!(app.of_organization(&tenant.id).await, before);
    assert_eq!(app.count("read.organizations").await, 1);
}
