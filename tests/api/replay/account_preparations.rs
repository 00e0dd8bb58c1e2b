//! What happened before or between the recorded exchanges of those who look after their account.

use chrono::TimeDelta;
use serde_json::json;

use super::SECRET;
use super::placeholders::signed;
use super::player::Player;
use super::preparations::{PASSWORD, json_of};

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare_account(&mut self, area: &str, case: &str, step: usize) {
        match (area, case, step) {
            ("sign-in", "banned user", 0) => {
                self.somebody("banned1").await;
                self.banned("banned1", None).await;
            }
            ("sign-in", "ban that has expired is lifted on sign-in", 0) => {
                self.somebody("banned2").await;
                self.banned("banned2", Some(TimeDelta::hours(1))).await;
                self.wait(TimeDelta::hours(1) + TimeDelta::seconds(1));
            }
            ("sign-in", "account without a credential", 0) => {
                self.verified("in6").await;
                let id = self.user_id("in6").await;
                // No route takes a password away yet.
                sqlx::query("delete from custody where kind = 'password' and owner = $1")
                    .bind(&id)
                    .execute(&self.app.admin)
                    .await
                    .unwrap();
            }
            ("errors", "origin: cookie present", 0) => self.session_of_three_cases().await,
            ("rate-limit", "default: 100 per 10 s", 0) => {
                for _ in 0..100 {
                    let from = [("x-forwarded-for", "198.51.100.6".to_owned())];
                    assert_eq!(
                        self.send("GET", "/api/auth/ok", &from, None).await.status,
                        200
                    );
                }
            }

            ("session", "list-sessions", 0) => {
                self.session("s9").await;
                self.sign_in_elsewhere("s9").await;
            }
            ("session", "list-sessions with a session that is not fresh", 0) => {
                self.session("s10").await;
                self.wait(TimeDelta::days(2));
            }
            ("session", "revoke-session", 0) => self.two_sessions("s11").await,
            ("session", "revoke-session of another user does nothing", 0) => {
                self.session("s12").await;
                let foreign = self.person("s13").await.token;
                self.know("<id32#2>", &foreign);
            }
            ("session", "revoke-session of the own session clears cookies", 0) => {
                self.session("s14").await;
            }
            ("session", "revoke-other-sessions", 0) => self.two_sessions("s15").await,
            ("session", "revoke-sessions", 0) => self.two_sessions("s16").await,
            ("session", "update-session without session additional fields", 0) => {
                self.session("s17").await;
            }

            ("password-reset", "full flow", 0) => {
                let token = self.person("pr1").await.token;
                self.know("<id32#3>", &token);
            }
            ("password-reset", "token in the query", 0) => {
                self.somebody("pr2").await;
                self.ask_for_reset("pr2").await;
            }
            ("password-reset", "reset with an expired token", 0) => {
                self.reset_token("pr3").await;
                self.wait(TimeDelta::hours(1) + TimeDelta::seconds(1));
            }
            ("password-reset", "revokeSessionsOnPasswordReset ends sessions", 0) => {
                let token = self.reset_token("pr4").await;
                self.know("<id32#1>", &token);
            }

            ("user", "update-user", 0) => self.session("u1").await,
            ("user", "change-email from an unverified address", 0) => self.session("u2").await,
            ("user", "change-email from a verified address", 0) => {
                let person = self.person("u3").await;
                self.know("<id32#1>", &person.token);
                let path = format!("/api/auth/verify-email?token={}", person.link_jwt);
                assert_eq!(self.send("GET", &path, &[], None).await.status, 200);
            }
            ("user", "change-email failures", 0) => {
                self.session("u4").await;
                self.somebody("u5").await;
            }
            ("user", "change-password", 0) => self.session("u6").await,
            ("user", "change-password with revokeOtherSessions", 0) => {
                self.session("u7").await;
                let other = self.sign_in_elsewhere("u7").await;
                self.know("<id32#4>", &other);
            }
            ("user", "change-password without a credential account", 0) => {
                let person = self.person("u8").await;
                self.know("<id32#1>", &person.token);
                // No route takes a password away.
                sqlx::query("delete from custody where kind = 'password' and owner = $1")
                    .bind(&person.id)
                    .execute(&self.app.admin)
                    .await
                    .unwrap();
            }
            ("user", "set-password is server-only", 0) => self.session("u9").await,
            ("user", "verify-password", 0) => self.session("u10").await,
            ("user", "delete-user with password", 0) => self.session("u11").await,
            ("user", "delete-user with a fresh session", 0) => self.session("u12").await,
            ("user", "delete-user with a session that is not fresh", 0) => {
                self.session("u13").await;
                self.wait(TimeDelta::days(2));
            }
            ("user", "delete-user without a session, bad tokens", 0) => self.session("u14").await,
            ("user", "delete-user by e-mail confirmation, callback", 0) => {
                self.session("dc1").await;
                let other = self.person("dc2").await.token;
                self.know("<id32#3>", &other);
            }
            ("user", "delete-user by e-mail confirmation, callback", 3) => {
                let token = self.deletion_token("dc1").await;
                self.captures.learn("<id32#4>", &token);
            }
            ("user", "delete-user by e-mail confirmation, token in body", 0) => {
                self.session("dc3").await;
            }
            ("user", "delete-user by e-mail confirmation, token in body", 1) => {
                let token = self.mailed("dc3").await;
                self.captures.learn("<id32#2>", &token);
            }
            ("user", "change-email with a confirmation to the old address", 0) => {
                let person = self.person("cc1").await;
                self.know("<id32#1>", &person.token);
                let path = format!("/api/auth/verify-email?token={}", person.link_jwt);
                assert_eq!(self.send("GET", &path, &[], None).await.status, 200);
            }
            _ => self.prepare_factor(area, case, step).await,
        }
    }

    /// A session token by its placeholder, and the cookie that holds it.
    pub fn know(&mut self, placeholder: &str, token: &str) {
        self.captures.learn(placeholder, token);
        self.captures
            .learn(&format!("{placeholder}.<hmac-b64>"), &signed(SECRET, token));
    }

    /// Somebody's session, and another one of theirs.
    async fn two_sessions(&mut self, name: &str) {
        self.session(name).await;
        let other = self.sign_in_elsewhere(name).await;
        self.know("<id32#2>", &other);
    }

    async fn sign_in_elsewhere(&self, name: &str) -> String {
        let body = json!({ "email": format!("{name}@example.com"), "password": PASSWORD });
        let answer = json_of(&self.post("/api/auth/sign-in/email", &body).await);
        answer["token"].as_str().unwrap().to_owned()
    }

    /// A session of the person `x`, who signed up in another of their three cases or does so now.
    async fn session_of_three_cases(&mut self) {
        self.person_of_three_cases().await;
        let token = self.sign_in_elsewhere("or1").await;
        self.know("<id32#1>", &token);
    }

    async fn ask_for_reset(&self, name: &str) {
        let body = json!({ "email": format!("{name}@example.com") });
        json_of(&self.post("/api/auth/request-password-reset", &body).await);
    }

    /// Somebody with a token to choose a new password, which the case calls the first; gives their session.
    async fn reset_token(&mut self, name: &str) -> String {
        let session = self.person(name).await.token;
        self.ask_for_reset(name).await;
        let url = self.next_mail(&format!("{name}@example.com")).await.url;
        let url = url.expect("a mail about a reset has a link");
        let token = url.split_once("/reset-password/").unwrap().1;
        let token = token.split('?').next().unwrap();
        self.captures.learn("<id24#1>", token);
        session
    }

    /// Asks for another link that deletes the account, and gives its token.
    async fn deletion_token(&mut self, name: &str) -> String {
        let token = self
            .captures
            .get("<id32#1>")
            .expect("a session was prepared");
        let headers = [
            ("authorization", format!("Bearer {token}")),
            ("content-type", "application/json".to_owned()),
        ];
        let body = Some(json!({}).to_string());
        json_of(
            &self
                .send("POST", "/api/auth/delete-user", &headers, body)
                .await,
        );
        self.mailed(name).await
    }

    /// The token in the next mail to somebody.
    async fn mailed(&mut self, name: &str) -> String {
        let url = self.next_mail(&format!("{name}@example.com")).await.url;
        let url = url.expect("the mail has a link");
        let token = url.split_once("token=").unwrap().1;
        token.split('&').next().unwrap().to_owned()
    }
}
