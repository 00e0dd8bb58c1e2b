//! Organizations: what belongs to one stays in it, and who may do what.

#![cfg(test)]

mod bad_input;
mod endings;
mod invitations;
mod limits;
mod outage;
mod races;
pub mod tenants;

pub use bad_input::ROUTES;

use aggregates::organization::OrganizationEvent;
use mana_auth::store::log;
use projections::AnyEvent;
use serde_json::{Value, json};

use crate::client::{Answer, Session, UNVERIFIED};
use crate::harness::TestApp;

/// Every route of organizations, and people without a proven address.
pub const ALL_ON: [(&str, &str); 3] = [
    UNVERIFIED,
    ("MANA_AUTH_TEAMS", "true"),
    ("MANA_AUTH_DYNAMIC_ROLES", "true"),
];

/// An organization with its people.
pub struct Tenant {
    pub id: String,
    pub slug: String,
    pub owner: Session,
    pub admin: Session,
    pub member: Session,
    /// Member ids of the three.
    pub member_ids: [String; 3],
    /// Of an address that has no account.
    pub invitation: String,
    pub team: String,
    pub role: String,
}

impl TestApp {
    /// Asks for something about organizations.
    pub async fn organization(&self, who: &Session, route: &str, body: &Value) -> Answer {
        let path = format!("/api/auth/organization/{route}");
        self.post_as(&path, &who.cookie, body).await
    }

    /// The same; it is done.
    pub async fn organized(&self, who: &Session, route: &str, body: &Value) -> Value {
        let answer = self.organization(who, route, body).await;
        assert_eq!(answer.status, 200, "{route}: {}", answer.text);
        answer.json()
    }

    /// Reads something about organizations; `route` has its query.
    pub async fn organization_read(&self, who: &Session, route: &str) -> Answer {
        let path = format!("/api/auth/organization/{route}");
        self.get_as(&path, &who.cookie).await
    }

    /// Makes an organization that is named like its slug; gives its id.
    pub async fn founded(&self, owner: &Session, slug: &str) -> String {
        let body = json!({"name": slug, "slug": slug, "metadata": {"of": slug}});
        let made = self.organized(owner, "create", &body).await;
        made["id"].as_str().unwrap().to_owned()
    }

    /// Invites an address; gives the invitation's id.
    pub async fn invited(&self, by: &Session, into: &str, name: &str, role: &str) -> String {
        let body = json!({
            "email": format!("{name}@example.com"), "role": role, "organizationId": into,
        });
        let sent = self.organized(by, "invite-member", &body).await;
        sent["id"].as_str().unwrap().to_owned()
    }

    /// Signs somebody up who is invited and comes; gives their member id.
    pub async fn joined(
        &self,
        by: &Session,
        into: &str,
        name: &str,
        role: &str,
    ) -> (Session, String) {
        let session = self.signed_in(name).await;
        let invitation = self.invited(by, into, name, role).await;
        let body = json!({"invitationId": invitation});
        let accepted = self.organized(&session, "accept-invitation", &body).await;
        let member = accepted["member"]["id"].as_str().unwrap().to_owned();
        (session, member)
    }

    /// An organization with an owner, an admin and a member, an invitation, a role and a team that the member is in.
    pub async fn tenant(&self, slug: &str) -> Tenant {
        let owner = self.signed_in(&format!("{slug}.owner")).await;
        let id = self.founded(&owner, slug).await;
        let (admin, admin_id) = self
            .joined(&owner, &id, &format!("{slug}.admin"), "admin")
            .await;
        let (member, member_id) = self
            .joined(&owner, &id, &format!("{slug}.member"), "member")
            .await;
        let guest = format!("{slug}.guest");
        let invitation = self.invited(&owner, &id, &guest, "member").await;
        let body = json!({"name": format!("{slug} team")});
        let team = self.organized(&owner, "create-team", &body).await;
        let team = team["id"].as_str().unwrap().to_owned();
        let body = json!({"teamId": team, "userId": member.user_id});
        self.organized(&owner, "add-team-member", &body).await;
        let body = json!({"role": format!("{slug}-editor"), "permission": {"project": ["update"]}});
        let role = self.organized(&owner, "create-role", &body).await;
        let role = role["roleData"]["id"].as_str().unwrap().to_owned();
        let full = self
            .organization_read(&owner, "get-full-organization")
            .await;
        let owner_id = full.json()["members"][0]["id"].as_str().unwrap().to_owned();
        Tenant {
            id,
            slug: slug.to_owned(),
            owner,
            admin,
            member,
            member_ids: [owner_id, admin_id, member_id],
            invitation,
            team,
            role,
        }
    }

    /// Everything that is stored of an organization: equal if and only if nothing of it changed.
    pub async fn of_organization(&self, id: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (table, column) in [
            ("read.organizations", "id"),
            ("read.members", "organization_id"),
            ("read.invitations", "organization_id"),
            ("read.organization_roles", "organization_id"),
            ("read.teams", "organization_id"),
            ("read.team_members", "organization_id"),
            ("events", "aggregate_id"),
            ("claims", "owner"),
        ] {
            let rows = format!("select t::text from {table} t where {column} = $1 order by 1");
            let rows: Vec<String> = sqlx::query_scalar(&rows)
                .bind(id)
                .fetch_all(&self.admin)
                .await
                .unwrap();
            found.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        found
    }

    /// What happened to an organization.
    pub async fn organization_events(&self, id: &str) -> Vec<OrganizationEvent> {
        let rows = log::stream(&self.admin, "organization", id).await.unwrap();
        let opened = self.app.store.open(&rows).await.unwrap();
        opened
            .into_iter()
            .map(|opened| match opened.event {
                AnyEvent::Organization(event) => event,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Role by address, as a member sees it.
    pub async fn roles_in(&self, who: &Session, id: &str) -> Vec<(String, String)> {
        let list = self
            .organization_read(who, &format!("list-members?organizationId={id}"))
            .await;
        assert_eq!(list.status, 200, "{}", list.text);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let list = list.json();
        let members = list["members"].as_array().unwrap().iter();
        members
            .map(|member| (text(&member["user"]["email"]), text(&member["role"])))
            .collect()
    }
}

#[tokio::test]
async fn metadata_come_back_in_the_order_in_which_they_were_sent() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let sent = r#"{"name":"Acme","slug":"acme","metadata":{ "b" : 1, "a": "x y" }}"#;
    let request = app
        .request("POST", "/api/auth/organization/create")
        .header("content-type", "application/json")
        .bearer_auth(&ada.token)
        .body(sent);
    let made = crate::client::answer(request).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert!(made.text.contains(r#""metadata":{"b":1,"a":"x y"}"#));
    let list = app.organization_read(&ada, "list").await.json();
    assert_eq!(list[0]["metadata"], r#"{"b":1,"a":"x y"}"#);
}

#[tokio::test]
async fn metadata_that_are_too_big_are_refused() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let body = json!({"name": "a", "slug": "a", "metadata": {"a": "x".repeat(17 * 1024)}});
    let refused = app.organization(&ada, "create", &body).await;
    assert_eq!(refused.refusal(), (400, "VALIDATION_ERROR".to_owned()));
}

/// What an organization is called is sealed in the log, and so is whom it invites.
#[tokio::test]
async fn the_log_names_no_organization_and_no_guest() {
    let app = TestApp::start(&ALL_ON).await;
    let tenant = app.tenant("wonderworks").await;
    let rows: Vec<String> = sqlx::query_scalar(
        "select payload::text || metadata::text from events where aggregate_id = $1",
    )
    .bind(&tenant.id)
    .fetch_all(&app.admin)
    .await
    .unwrap();
    assert!(rows.len() > 10);
    for row in rows {
        // A role is part of the rules and is named.
        assert!(
            !row.replace("wonderworks-editor", "")
                .contains("wonderworks"),
            "{row}"
        );
    }
}

/// Clients know a session's team where there are teams, and no such field where there are none.
#[tokio::test]
async fn a_session_in_no_team_says_so_where_there_are_teams() {
    let app = TestApp::start(&ALL_ON).await;
    let without = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let team_of = async |at: &TestApp| {
        let shown = at.get_as("/api/auth/get-session", &ada.cookie).await;
        shown.json()["session"].get("activeTeamId").cloned()
    };
    assert_eq!(team_of(&app).await, Some(Value::Null));
    app.founded(&ada, "acme").await;
    assert!(team_of(&app).await.unwrap().is_string());
    let out = json!({"organizationId": null});
    app.organized(&ada, "set-active", &out).await;
    assert_eq!(team_of(&app).await, Some(Value::Null));
    assert_eq!(team_of(&without).await, None);
}
