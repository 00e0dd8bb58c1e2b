//! What happened before or between the recorded exchanges of organizations.

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::player::Player;
use super::preparations::{Person, json_of};

/// An organization as a case begins with it.
struct Organization {
    id: String,
    owner: Person,
}

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare_organization(&mut self, area: &str, case: &str, step: usize) {
        match (area, case, step) {
            ("organization", "create", 0) => self.session("o1").await,
            ("organization", "check-slug", 0) => {
                self.session("o2").await;
                self.organization("o2b", "taken", Value::Null).await;
            }
            ("organization", "update", 0) => {
                let acme = self.organization("o3", "upd", json!({"a": 1})).await;
                self.joins(&acme, "o3m", "member", 3).await;
                self.organization("o3b", "upd2", Value::Null).await;
                self.outsider("o3x", 4).await;
            }
            ("organization", "delete", 0) => {
                let acme = self.organization("o4", "del", Value::Null).await;
                self.captures.learn("<id32#2>", &acme.id);
                self.joins(&acme, "o4a", "admin", 1).await;
                self.know("<id32#3>", &acme.owner.token);
            }
            ("organization", "set-active, get-organization, get-full-organization", 0) => {
                let acme = self.organization("o5", "act", json!({"k": "v"})).await;
                self.joins(&acme, "o5c", "member", 9).await;
                self.invites(&acme, "o5d", "admin").await;
                self.outsider("o5x", 10).await;
            }
            ("organization", "members", 0) => {
                let acme = self.organization("o6", "mem", Value::Null).await;
                self.joins(&acme, "o6a", "admin", 11).await;
                self.joins(&acme, "o6m", "member", 9).await;
                let outsider = self.outsider("o6x", 10).await;
                self.captures.learn("<id32#12>", &outsider);
            }
            ("organization", "invitations", 0) => {
                let acme = self.organization("o7", "inv", Value::Null).await;
                self.joins(&acme, "o7a", "admin", 7).await;
                self.joins(&acme, "o7m", "member", 6).await;
                self.outsider("o7x", 8).await;
                let guest = self.person("o7.guest").await;
                self.know("<id32#11>", &guest.token);
                self.captures.learn("<link>", &guest.link_jwt);
            }
            ("organization", "invitations", 26) => {
                let link = self.captures.get("<link>").unwrap().to_owned();
                self.verify(&link).await;
            }
            ("organization", "invitations: reject, cancel, expiry", 0) => {
                let acme = self.organization("o8", "rej", Value::Null).await;
                self.know("<id32#7>", &acme.owner.token);
                self.joins(&acme, "o8m", "member", 1).await;
                self.outsider("o8g", 3).await;
                let of_guest = self.invites(&acme, "o8g", "member").await;
                self.captures.learn("<id32#2>", &of_guest);
                let other = self.invites(&acme, "o8h", "member").await;
                self.captures.learn("<id32#6>", &other);
                self.captures.learn("<organization>", &acme.id);
            }
            ("organization", "invitations: reject, cancel, expiry", 9) => {
                let id = self.captures.get("<organization>").unwrap().to_owned();
                let token = self.captures.get("<id32#7>").unwrap().to_owned();
                let body =
                    json!({"email": "o8g@example.com", "role": "member", "organizationId": id});
                let sent = self.asks(&token, "invite-member", &body).await;
                let invitation = sent["id"].as_str().unwrap();
                self.captures.learn("<id32#8>", invitation);
                self.wait(TimeDelta::hours(48) + TimeDelta::seconds(1));
            }
            ("organization", "has-permission", 0) => {
                let acme = self.organization("o9", "perm", Value::Null).await;
                self.captures.learn("<id32#3>", &acme.id);
                self.joins(&acme, "o9m", "member", 2).await;
                self.outsider("o9x", 4).await;
            }
            ("organization", "team and role routes are absent when switched off", 0) => {
                self.organization("o10", "off", Value::Null).await;
            }
            ("organization", _, 0) if case.starts_with("requireEmailVerification") => {
                self.organization("s1", "strict", Value::Null).await;
                self.outsider("s2", 6).await;
            }
            ("organization-roles", "dynamic roles", 0) => {
                let acme = self.organization("r1", "roles", Value::Null).await;
                self.captures.learn("<id32#2>", &acme.id);
                let member = self.joins(&acme, "r1m", "member", 4).await;
                self.captures.learn("<id32#6>", &member);
                self.outsider("r1x", 5).await;
            }
            ("organization-roles", "dynamic roles", 23) => {
                let token = self.captures.get("<id32#1>").unwrap().to_owned();
                let member = self.captures.get("<id32#6>").unwrap().to_owned();
                let body = json!({"memberId": member, "role": "member"});
                self.asks(&token, "update-member-role", &body).await;
            }
            ("organization-teams", "create makes a default team", 0) => self.session("t1").await,
            ("organization-teams", "create, update, remove", 0) => {
                let acme = self.organization("t2", "teams2", Value::Null).await;
                self.captures.learn("<id32#2>", &acme.id);
                self.joins(&acme, "t2m", "member", 4).await;
                self.outsider("t2x", 5).await;
            }
            ("organization-teams", "team members", 0) => {
                let acme = self.organization("t3", "teams3", Value::Null).await;
                self.captures.learn("<id32#7>", &acme.id);
                self.captures.learn("<id32#9>", &acme.owner.id);
                let team = self.team(&acme, "Green").await;
                self.captures.learn("<id32#2>", &team);
                self.joins(&acme, "t3m", "member", 6).await;
                let member = self.user_id("t3m").await;
                self.captures.learn("<id32#3>", &member);
                let outsider = self.outsider("t3x", 8).await;
                self.captures.learn("<id32#5>", &outsider);
            }
            ("organization-teams", "invitation into teams", 0) => {
                let acme = self.organization("t4", "teams4", Value::Null).await;
                let team = self.team(&acme, "Blue").await;
                self.captures.learn("<id32#2>", &team);
                let guest = self.person("t4g").await;
                self.verify(&guest.link_jwt).await;
                self.know("<id32#7>", &guest.token);
            }
            _ => {}
        }
    }

    /// Asks for something as the person of a session.
    async fn asks(&self, token: &str, route: &str, body: &Value) -> Value {
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("authorization", format!("Bearer {token}")),
        ];
        let path = format!("/api/auth/organization/{route}");
        let answer = self.send("POST", &path, &headers, Some(body.to_string()));
        json_of(&answer.await)
    }

    /// Somebody with an organization, named like its slug. The first of a case has the case's first session.
    async fn organization(&mut self, owner: &str, slug: &str, metadata: Value) -> Organization {
        let owner = self.person(owner).await;
        if self.captures.get("<id32#1>").is_none() {
            self.know("<id32#1>", &owner.token);
        }
        let mut body = json!({"name": slug, "slug": slug});
        if !metadata.is_null() {
            body["metadata"] = metadata;
        }
        let made = self.asks(&owner.token, "create", &body).await;
        let id = made["id"].as_str().unwrap().to_owned();
        Organization { id, owner }
    }

    /// Somebody who belongs nowhere, with their session; gives their id.
    async fn outsider(&mut self, name: &str, session: usize) -> String {
        let person = self.person(name).await;
        self.know(&format!("<id32#{session}>"), &person.token);
        person.id
    }

    /// Somebody who was asked in, has proven their address, and came; gives their member id.
    async fn joins(
        &mut self,
        organization: &Organization,
        name: &str,
        role: &str,
        session: usize,
    ) -> String {
        let person = self.person(name).await;
        self.verify(&person.link_jwt).await;
        self.know(&format!("<id32#{session}>"), &person.token);
        let invitation = self.invites(organization, name, role).await;
        let body = json!({"invitationId": invitation});
        let accepted = self.asks(&person.token, "accept-invitation", &body).await;
        accepted["member"]["id"].as_str().unwrap().to_owned()
    }

    /// Asks an address in; gives the invitation's id.
    async fn invites(&self, organization: &Organization, name: &str, role: &str) -> String {
        let body = json!({
            "email": format!("{name}@example.com"), "role": role, "organizationId": organization.id,
        });
        let token = &organization.owner.token;
        let sent = self.asks(token, "invite-member", &body).await;
        sent["id"].as_str().unwrap().to_owned()
    }

    async fn team(&self, organization: &Organization, name: &str) -> String {
        let body = json!({"name": name});
        let token = &organization.owner.token;
        let made = self.asks(token, "create-team", &body).await;
        made["id"].as_str().unwrap().to_owned()
    }

    async fn verify(&self, link_jwt: &str) {
        let path = format!("/api/auth/verify-email?token={link_jwt}");
        assert_eq!(self.send("GET", &path, &[], None).await.status, 200);
    }
}
