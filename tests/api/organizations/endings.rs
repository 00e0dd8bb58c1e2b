//! What is left when an organization is closed, or the account of somebody in it.

use aggregates::organization::{CloseReason, OrganizationEvent, RemovalReason};
use aggregates::user::{ErasureReason, User, UserCommand};
use mana_auth::erasure;
use mana_auth::store::{Actor, Context};
use serde_json::json;

use super::ALL_ON;
use crate::client::{PASSWORD, Session, UNVERIFIED};
use crate::harness::TestApp;

async fn delete_account(app: &TestApp, who: &Session) {
    let body = json!({"password": PASSWORD});
    let done = app
        .post_as("/api/auth/delete-user", &who.cookie, &body)
        .await;
    assert_eq!(done.status, 200, "{}", done.text);
}

async fn keys_of(app: &TestApp, id: &str) -> i64 {
    app.count(&format!(
        "custody where owner = '{id}' or owner like '{id}/%'"
    ))
    .await
}

/// Whether a text stands anywhere in the database.
async fn is_stored(app: &TestApp, text: &str) -> bool {
    app.dump().await.contains(text)
}

#[tokio::test]
async fn a_deleted_organization_leaves_nothing_readable() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("wonderworks").await;
    app.effects_done().await;
    assert_eq!(keys_of(&app, &tenant.id).await, 4);
    assert!(is_stored(&app, "wonderworks.guest@example.com").await);
    let body = json!({"organizationId": tenant.id});
    let deleted = app.organized(&tenant.owner, "delete", &body).await;
    assert_eq!(deleted["name"], "wonderworks");

    assert_eq!(keys_of(&app, &tenant.id).await, 0);
    assert!(!is_stored(&app, "wonderworks.guest@example.com").await);
    assert!(!is_stored(&app, "wonderworks team").await);
    let events = app.organization_events(&tenant.id).await;
    let OrganizationEvent::Created { name, .. } = &events[0] else {
        panic!("{events:?}")
    };
    assert_eq!(name.get(), None);
    // Its name is free, and nobody is in it.
    app.founded(&tenant.owner, "wonderworks").await;
    let read = app
        .organization_read(&tenant.member, "get-active-member")
        .await;
    assert_eq!(read.status, 400);
    let again = app.organization(&tenant.owner, "delete", &body).await;
    let code = "USER_IS_NOT_A_MEMBER_OF_THE_ORGANIZATION".to_owned();
    assert_eq!(again.refusal(), (400, code));
}

#[tokio::test]
async fn an_organization_whose_only_owner_is_erased_goes_to_an_admin() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    delete_account(&app, &tenant.owner).await;
    let roles = app.roles_in(&tenant.admin, &tenant.id).await;
    let role = |name: &str, role: &str| (format!("acme.{name}@example.com"), role.to_owned());
    assert_eq!(roles, [role("admin", "owner"), role("member", "member")]);
    assert!(!is_stored(&app, "acme.owner@example.com").await);
}

#[tokio::test]
async fn an_organization_that_nobody_is_left_in_is_closed() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    app.invited(&olga, &id, "ida", "member").await;
    delete_account(&app, &olga).await;
    let closed = app.organization_events(&id).await.pop().unwrap();
    assert!(matches!(
        closed,
        OrganizationEvent::Closed {
            reason: CloseReason::Deserted,
            ..
        }
    ));
    assert_eq!(keys_of(&app, &id).await, 0);
    assert_eq!(app.count("read.organizations").await, 0);
    assert_eq!(app.count("read.invitations").await, 0);
}

/// What others wrote about a person goes with them, wherever it stands; what is about somebody else stays.
#[tokio::test]
async fn the_invitations_of_an_erased_person_are_erased_with_them() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    app.verified("ida").await;
    let ida = app.sign_in("ida").await;
    app.invited(&olga, &id, "ida", "member").await;
    app.invited(&olga, &id, "bo", "member").await;
    app.effects_done().await;
    delete_account(&app, &ida).await;
    assert!(!is_stored(&app, "ida@example.com").await);
    assert_eq!(keys_of(&app, &id).await, 2, "of the organization and of bo");
    let list = app.organization_read(&olga, "list-invitations").await;
    assert_eq!(list.json().as_array().unwrap().len(), 1);
    assert_eq!(list.json()[0]["email"], "bo@example.com");
    // The stream goes on.
    app.invited(&olga, &id, "ida", "member").await;
}

/// Whoever signs up with a stranger's address and never proves it takes nothing of theirs along.
#[tokio::test]
async fn an_address_that_was_not_proven_takes_no_invitation_along() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let olga = app.signed_in("olga").await;
    let id = app.founded(&olga, "acme").await;
    app.invited(&olga, &id, "victim", "member").await;
    let squatter = app.signed_in("victim").await;
    delete_account(&app, &squatter).await;
    let list = app.organization_read(&olga, "list-invitations").await;
    assert_eq!(list.json()[0]["email"], "victim@example.com");
}

/// A crash between the end of an account and that of its memberships is made good.
#[tokio::test]
async fn memberships_that_a_crash_has_left_are_ended_later() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let command = UserCommand::RequestErasure {
        reason: ErasureReason::OwnRequest,
        at: app.clock.now(),
    };
    let member = &tenant.member.user_id;
    let store = &app.app.store;
    store
        .run::<User>(member, command, Context::of(Actor::System))
        .await
        .unwrap();
    let roles = app.roles_in(&tenant.owner, &tenant.id).await;
    assert_eq!(roles.len(), 2, "nobody sees them from the first step on");
    let left = format!("read.members where user_id = '{member}'");
    assert_eq!(app.count(&left).await, 1);
    erasure::resume(&app.app).await.unwrap();
    assert_eq!(app.count(&left).await, 0);
    let in_team = format!("read.team_members where user_id = '{member}'");
    assert_eq!(app.count(&in_team).await, 0);
    let last = app.organization_events(&tenant.id).await.pop().unwrap();
    assert!(matches!(
        last,
        OrganizationEvent::MemberRemoved {
            reason: RemovalReason::Erased,
            ..
        }
    ));
}
