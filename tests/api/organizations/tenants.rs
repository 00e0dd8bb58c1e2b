//! S-62, S-64: no id in a request opens another tenant's door, and whoever is out can do nothing.

use std::collections::BTreeMap;
use std::fmt::Display;

use aggregates::user::{User, UserCommand};
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use super::{ALL_ON, Tenant};
use crate::client::{Answer, Session};
use crate::harness::TestApp;

/// Ids of a tenant by the name that requests have for them.
pub fn ids(tenant: &Tenant) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("organization", tenant.id.clone()),
        ("slug", tenant.slug.clone()),
        ("member", tenant.member_ids[2].clone()),
        ("admin", tenant.member_ids[1].clone()),
        ("user", tenant.member.user_id.clone()),
        ("address", format!("{}.member@example.com", tenant.slug)),
        ("invitation", tenant.invitation.clone()),
        ("team", tenant.team.clone()),
        ("role", tenant.role.clone()),
        ("role name", format!("{}-editor", tenant.slug)),
    ])
}

/// Every request that names something, with `{name}` where an id stands. Those that end something come last.
pub fn requests() -> Vec<(&'static str, Value)> {
    let of = |fields: Value| {
        let mut fields = fields;
        fields["organizationId"] = json!("{organization}");
        fields
    };
    vec![
        (
            "GET get-organization?organizationId={organization}",
            Value::Null,
        ),
        ("GET get-organization?organizationSlug={slug}", Value::Null),
        (
            "GET get-full-organization?organizationId={organization}",
            Value::Null,
        ),
        (
            "GET get-full-organization?organizationSlug={slug}",
            Value::Null,
        ),
        (
            "GET list-members?organizationId={organization}",
            Value::Null,
        ),
        ("GET list-members?organizationSlug={slug}", Value::Null),
        (
            "GET list-members?organizationId={organization}&filterField=userId&filterValue={user}",
            Value::Null,
        ),
        (
            "GET get-active-member-role?organizationId={organization}&userId={user}",
            Value::Null,
        ),
        (
            "GET get-active-member-role?organizationSlug={slug}",
            Value::Null,
        ),
        ("GET get-active-member-role?userId={user}", Value::Null),
        (
            "GET list-invitations?organizationId={organization}",
            Value::Null,
        ),
        ("GET get-invitation?id={invitation}", Value::Null),
        ("GET list-roles?organizationId={organization}", Value::Null),
        (
            "GET get-role?organizationId={organization}&roleId={role}",
            Value::Null,
        ),
        (
            "GET get-role?organizationId={organization}&roleName={role name}",
            Value::Null,
        ),
        ("GET list-teams?organizationId={organization}", Value::Null),
        (
            "GET list-user-teams?organizationId={organization}&userId={user}",
            Value::Null,
        ),
        ("GET list-user-teams?userId={user}", Value::Null),
        ("GET list-team-members?teamId={team}", Value::Null),
        (
            "POST has-permission",
            of(json!({"permissions": {"ac": ["read"]}})),
        ),
        ("POST set-active", of(json!({}))),
        ("POST set-active", json!({"organizationSlug": "{slug}"})),
        ("POST set-active-team", json!({"teamId": "{team}"})),
        ("POST update", of(json!({"data": {"name": "taken over"}}))),
        (
            "POST invite-member",
            of(json!({"email": "eve@example.com", "role": "member"})),
        ),
        (
            "POST invite-member",
            of(json!({"email": "eve2@example.com", "role": "{role name}", "teamId": "{team}"})),
        ),
        (
            "POST invite-member",
            of(json!({"email": "{address}", "role": "member", "resend": true})),
        ),
        (
            "POST accept-invitation",
            json!({"invitationId": "{invitation}"}),
        ),
        (
            "POST reject-invitation",
            json!({"invitationId": "{invitation}"}),
        ),
        (
            "POST update-member-role",
            of(json!({"memberId": "{member}", "role": "admin"})),
        ),
        (
            "POST create-role",
            of(json!({"role": "taken-over", "permission": {"ac": ["read"]}})),
        ),
        (
            "POST update-role",
            of(json!({"roleId": "{role}", "data": {"permission": {"ac": ["read"]}}})),
        ),
        ("POST create-team", of(json!({"name": "taken over"}))),
        (
            "POST update-team",
            json!({"teamId": "{team}", "data": {"name": "taken over", "organizationId": "{organization}"}}),
        ),
        (
            "POST add-team-member",
            of(json!({"teamId": "{team}", "userId": "{user}"})),
        ),
        (
            "POST remove-team-member",
            of(json!({"teamId": "{team}", "userId": "{user}"})),
        ),
        ("POST remove-team", of(json!({"teamId": "{team}"}))),
        (
            "POST cancel-invitation",
            json!({"invitationId": "{invitation}"}),
        ),
        ("POST delete-role", of(json!({"roleName": "{role name}"}))),
        ("POST delete-role", of(json!({"roleId": "{role}"}))),
        (
            "POST remove-member",
            of(json!({"memberIdOrEmail": "{admin}"})),
        ),
        (
            "POST remove-member",
            of(json!({"memberIdOrEmail": "{address}"})),
        ),
        ("POST leave", of(json!({}))),
        ("POST delete", of(json!({}))),
    ]
}

pub fn filled(text: &str, ids: &BTreeMap<&'static str, String>) -> String {
    ids.iter().fold(text.to_owned(), |text, (name, id)| {
        text.replace(&format!("{{{name}}}"), id)
    })
}

pub async fn send(
    app: &TestApp,
    who: &Session,
    request: &(&'static str, Value),
    ids: &BTreeMap<&'static str, String>,
) -> (String, Answer) {
    let (route, body) = request;
    let sent = format!("{} {}", filled(route, ids), filled(&body.to_string(), ids));
    let (method, path) = route.split_once(' ').unwrap();
    let answer = if method == "GET" {
        app.organization_read(who, &filled(path, ids)).await
    } else {
        let body = serde_json::from_str(&filled(&body.to_string(), ids)).unwrap();
        app.organization(who, path, &body).await
    };
    (sent, answer)
}

/// Every request as it stands for one tenant, with each of its ids, and all of them, from another one.
pub fn swaps<R: Display>(
    request: &(R, Value),
    own: &BTreeMap<&'static str, String>,
    foreign: &BTreeMap<&'static str, String>,
) -> Vec<BTreeMap<&'static str, String>> {
    let text = format!("{} {}", request.0, request.1);
    let named: Vec<_> = own
        .keys()
        .filter(|name| text.contains(&format!("{{{name}}}")))
        .collect();
    assert!(!named.is_empty(), "{text} names nothing");
    let mut swaps: Vec<_> = named
        .iter()
        .map(|name| {
            let mut ids = own.clone();
            ids.insert(name, foreign[*name].clone());
            ids
        })
        .collect();
    swaps.push(foreign.clone());
    swaps
}

/// S-62
#[tokio::test]
async fn no_id_of_another_tenant_reads_or_writes_anything_s62() {
    let app = TestApp::start(&ALL_ON).await;
    let (own, foreign) = (app.tenant("acme").await, app.tenant("evilcorp").await);
    let stranger = app.signed_in("stranger").await;
    let (own_ids, foreign_ids) = (ids(&own), ids(&foreign));
    let before = app.of_organization(&foreign.id).await;
    let mut tried = 0;
    for request in requests() {
        for ids in swaps(&request, &own_ids, &foreign_ids) {
            for who in [&own.member, &own.admin, &own.owner, &stranger] {
                // What is the caller's own may end: only the other tenant's is looked at.
                let (sent, answer) = send(&app, who, &request, &ids).await;
                tried += 1;
                assert!(answer.status < 500, "{sent}: {}", answer.text);
                assert_eq!(app.of_organization(&foreign.id).await, before, "{sent}");
                let secrets = foreign_ids.values().chain([
                    &foreign.owner.user_id,
                    &foreign.admin.user_id,
                    &foreign.member_ids[0],
                ]);
                for secret in secrets {
                    assert!(
                        sent.contains(secret.as_str()) || !answer.text.contains(secret.as_str()),
                        "{sent} tells of {secret}: {}",
                        answer.text
                    );
                }
                assert!(
                    !answer.text.contains("evilcorp.") || sent.contains("evilcorp."),
                    "{sent} tells of people: {}",
                    answer.text
                );
            }
        }
    }
    assert!(tried > 400, "{tried}");
}

/// The requests above do what they say where they may: what the test before found harmless is no misspelling.
#[tokio::test]
async fn the_same_requests_work_for_the_tenant_itself() {
    let app = TestApp::start(&ALL_ON).await;
    let mut answered = BTreeMap::new();
    let shared = app.tenant("shared").await;
    for (number, request) in requests().iter().enumerate() {
        // Writes each have a tenant of their own, as some of them end what others need.
        let own;
        let tenant = if request.0.starts_with("GET") {
            &shared
        } else {
            own = app.tenant(&format!("tenant{number}")).await;
            &own
        };
        let who = match request.0 {
            "POST leave" => &tenant.admin,
            "POST set-active-team" => &tenant.member,
            route if route.contains("list-team-members") => &tenant.member,
            _ => &tenant.owner,
        };
        let (_, answer) = send(&app, who, request, &ids(tenant)).await;
        answered.insert(format!("{number} {}", request.0), answer);
    }
    let refused: Vec<_> = answered
        .iter()
        .filter(|(_, answer)| answer.status != 200)
        .map(|(route, answer)| (route.split_once(' ').unwrap().1, answer.refusal()))
        .collect();
    // Only whoever is invited reads and answers an invitation, and whoever is a member is not invited.
    let recipient = "YOU_ARE_NOT_THE_RECIPIENT_OF_THE_INVITATION".to_owned();
    let member = "USER_IS_ALREADY_A_MEMBER_OF_THIS_ORGANIZATION".to_owned();
    let mut expected = vec![
        (
            "GET get-invitation?id={invitation}",
            (403, recipient.clone()),
        ),
        ("POST accept-invitation", (403, recipient.clone())),
        ("POST reject-invitation", (403, recipient)),
        ("POST invite-member", (400, member)),
    ];
    let mut refused = refused;
    refused.sort();
    expected.sort();
    assert_eq!(refused, expected);
}

/// Nobody of them may do anything in the organization, on whichever node.
async fn can_do_nothing(app: &TestApp, tenant: &Tenant, who: &Session, but: &[&str]) {
    let other = app.node(&ALL_ON).await;
    let before = app.of_organization(&tenant.id).await;
    let ids = ids(tenant);
    for request in requests() {
        if but.iter().any(|but| request.0.contains(but)) {
            continue;
        }
        for node in [app, &other] {
            let (sent, answer) = send(node, who, &request, &ids).await;
            let what = format!("{sent}: {} {}", answer.status, answer.text);
            assert!((400..500).contains(&answer.status), "{what}");
            assert_eq!(app.of_organization(&tenant.id).await, before, "{what}");
        }
    }
    for route in [
        "get-active-member",
        "list-teams",
        "list-roles",
        "list-members",
    ] {
        let answer = app.organization_read(who, route).await;
        assert_ne!(answer.status, 200, "{route}: {}", answer.text);
    }
    let list = app.organization_read(who, "list").await.json();
    assert!(!list.to_string().contains(&tenant.id), "{list}");
}

/// One's own teams are shown wherever they are; here they are none.
const OWN: &str = "list-user-teams?userId";

/// S-64: whoever was taken out does nothing more, although their session still says that they are in there.
#[tokio::test]
async fn whoever_was_taken_out_does_nothing_more_s64() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let body = json!({"memberIdOrEmail": tenant.member_ids[1], "organizationId": tenant.id});
    app.organized(&tenant.owner, "remove-member", &body).await;
    can_do_nothing(&app, &tenant, &tenant.admin, &[OWN]).await;
}

/// S-64: whoever is invited and has not come yet can only answer.
#[tokio::test]
async fn whoever_is_invited_does_nothing_but_answer_s64() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let guest = app.signed_in("acme.guest").await;
    let answers = [
        OWN,
        "get-invitation",
        "accept-invitation",
        "reject-invitation",
    ];
    can_do_nothing(&app, &tenant, &guest, &answers).await;
}

/// S-64: whoever is banned has no session, whatever they are in an organization.
#[tokio::test]
async fn whoever_is_banned_does_nothing_s64() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("acme").await;
    let command = UserCommand::Ban {
        reason: None,
        until: None,
        at: app.clock.now(),
    };
    let banned =
        app.app
            .store
            .run::<User>(&tenant.owner.user_id, command, Context::of(Actor::Operator));
    banned.await.unwrap();
    can_do_nothing(&app, &tenant, &tenant.owner, &[]).await;
}
