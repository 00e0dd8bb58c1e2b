//! What happened before or between the recorded exchanges of admins.

use aggregates::Roles;
use aggregates::user::{User, UserCommand};
use chrono::TimeDelta;
use mana_auth::store::{Actor, Context};
use serde_json::json;

use super::player::Player;
use super::preparations::{PASSWORD, json_of};

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare_admin(&mut self, case: &str, step: usize) {
        if step > 0 {
            return;
        }
        match case {
            "list-users and its query parameters" => {
                self.admin("adm1").await;
                for number in 1..=4 {
                    // They came one after the other.
                    self.wait(TimeDelta::milliseconds(10));
                    self.somebody(&format!("zz-list{number}")).await;
                }
            }
            "not an admin / no session" => {
                self.session("adm2").await;
                self.target("<id32#2>", "adm3").await;
            }
            "get-user, set-role" => {
                self.admin("adm4").await;
                self.target("<id32#2>", "adm5").await;
            }
            "create-user" => {
                self.admin("adm6").await;
            }
            "update-user" => {
                let id = self.admin("adm7").await;
                self.captures.learn("<id32#3>", &id);
                self.target("<id32#2>", "adm8").await;
            }
            "ban and unban" => {
                let id = self.admin("adm9").await;
                self.captures.learn("<id32#5>", &id);
                let token = self.target("<id32#2>", "adm10").await;
                self.know("<id32#3>", &token);
            }
            "impersonation" => {
                let id = self.admin("adm11").await;
                self.captures.learn("<id32#5>", &id);
                self.target("<id32#2>", "adm12").await;
                self.promote("adm12").await;
                let token = self.target("<id32#3>", "adm13").await;
                self.know("<id32#8>", &token);
            }
            "user sessions" => {
                self.admin("adm14").await;
                let older = self.target("<id32#2>", "adm15").await;
                self.captures.learn("<id32#5>", &older);
                let body = json!({"email": "adm15@example.com", "password": PASSWORD});
                let newer = json_of(&self.post("/api/auth/sign-in/email", &body).await);
                let newer = newer["token"].as_str().unwrap();
                self.captures.learn("<id32#3>", newer);
            }
            "remove-user" => {
                let id = self.admin("adm16").await;
                self.captures.learn("<id32#3>", &id);
                let token = self.target("<id32#2>", "adm17").await;
                self.know("<id32#4>", &token);
            }
            "set-user-password" => {
                self.admin("adm18").await;
                self.target("<id32#2>", "adm19").await;
            }
            "has-permission" => {
                self.admin("adm20").await;
            }
            other => panic!("nothing is known of {other}"),
        }
    }

    /// An admin, whose session is the first token of the case; gives the id.
    async fn admin(&mut self, name: &str) -> String {
        let person = self.person(name).await;
        self.promote(name).await;
        self.know_session(&person.token);
        person.id
    }

    async fn promote(&self, name: &str) {
        let at = self.app.clock.now();
        let role = Roles::admin();
        let command = UserCommand::ChangeRole { role, at };
        let context = Context::of(Actor::Operator);
        let store = &self.app.app.store;
        store
            .run::<User>(&self.user_id(name).await, command, context)
            .await
            .unwrap();
    }

    /// Somebody to whom something is done, known by their id; gives the token of their session.
    async fn target(&mut self, placeholder: &str, name: &str) -> String {
        let person = self.person(name).await;
        self.captures.learn(placeholder, &person.id);
        person.token
    }
}
