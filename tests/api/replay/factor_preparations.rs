//! What happened before or between the recorded exchanges of second factors and magic links.

use aggregates::user::{User, UserCommand};
use chrono::TimeDelta;
use mana_auth::store::{Actor, Context};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use totp_rs::{Algorithm, Builder, Secret};

use super::SECRET;
use super::matching::Answer;
use super::placeholders::{encode, signed};
use super::player::Player;
use super::preparations::{PASSWORD, json_of};

/// A code that no app shows: the tests hold the clock, and have looked.
const WRONG: &str = "000000";

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare_factor(&mut self, area: &str, case: &str, step: usize) {
        match area {
            "two-factor" => self.prepare_second_factor(case, step).await,
            "magic-link" => self.prepare_magic_link(case, step).await,
            "passkey" => self.prepare_passkey(case, step).await,
            "admin" => self.prepare_admin(case, step).await,
            "multi-session" if step == 0 => {
                self.somebody("ms1").await;
                self.somebody("ms2").await;
            }
            "rate-limit" if case.starts_with("two-factor") => self.digits(WRONG),
            "accounts" | "social" => self.prepare_social(area, case, step).await,
            _ => self.prepare_organization(area, case, step).await,
        }
    }

    async fn prepare_second_factor(&mut self, case: &str, step: usize) {
        match (case, step) {
            ("enable and confirm TOTP", 0) => self.session("tf1").await,
            ("enable and confirm TOTP", 7) => self.digits(WRONG),
            ("enable and confirm TOTP", 8 | 14) => self.right_code("tf1").await,
            ("enable with a custom issuer", 0) => self.session("tf2").await,
            ("enable with method otp", 0) => self.session("tf3").await,
            ("sign-in with TOTP", 0) => {
                self.with_totp("tf4").await;
            }
            ("sign-in with TOTP", 2) => self.digits(WRONG),
            ("sign-in with TOTP", 4) => self.right_code("tf4").await,
            ("sign-in with rememberMe false carries over", 0) => {
                self.with_totp("tf5").await;
            }
            ("sign-in with rememberMe false carries over", 1) => self.right_code("tf5").await,
            ("five wrong codes end the challenge", 0) => {
                self.with_totp("tf6").await;
                self.challenge("tf6", 1).await;
                self.digits(WRONG);
            }
            ("five wrong codes end the challenge", 1) => self.wrong_codes("verify-totp", 3).await,
            ("ten wrong codes lock the account for 15 minutes", 0) => {
                let codes = self.with_totp("tf7").await;
                for _ in 0..2 {
                    self.challenge("tf7", 1).await;
                    self.wrong_codes("verify-totp", 5).await;
                }
                self.challenge("tf7", 1).await;
                self.right_code("tf7").await;
                self.captures.learn("<backup-code#1>", &codes[0]);
            }
            ("trusted device", 0) => {
                self.with_totp("tf8").await;
                self.challenge("tf8", 1).await;
                self.right_code("tf8").await;
            }
            ("backup codes", 0) => {
                let codes = self.with_totp("tf9").await;
                self.challenge("tf9", 1).await;
                self.captures.learn("<backup-code#1>", "aaaaa-aaaaa");
                self.captures.learn("<backup-code#2>", &codes[0]);
                self.captures.learn("<backup-code#3>", &codes[1]);
                self.captures.learn("<backup-code#14>", &codes[2]);
            }
            ("backup codes", 2) => self.challenge("tf9", 2).await,
            ("backup codes", 7) => self.challenge("tf9", 3).await,
            ("OTP by e-mail", 0) => {
                self.with_totp("tf10").await;
                self.challenge("tf10", 1).await;
                self.digits(WRONG);
            }
            ("OTP by e-mail", 4) => self.mailed_code("tf10").await,
            ("OTP attempts", 0) => {
                self.with_totp("tf11").await;
                self.challenge("tf11", 1).await;
                let sent = self.post_in_challenge("send-otp", &json!({})).await;
                assert_eq!(sent.status, 200, "{}", sent.body);
                self.digits(WRONG);
            }
            ("OTP attempts", 1) => self.wrong_codes("verify-otp", 4).await,
            ("disable", 0) => {
                self.with_totp("tf12").await;
                let token = self.captures.get("<session>").unwrap().to_owned();
                self.know_session(&token);
            }
            ("expired challenge", 0) => {
                self.with_totp("tf13").await;
                self.challenge("tf13", 1).await;
                self.digits(WRONG);
                self.wait(TimeDelta::minutes(10) + TimeDelta::seconds(1));
            }
            _ => {}
        }
    }

    async fn prepare_magic_link(&mut self, case: &str, step: usize) {
        match (case, step) {
            ("existing user, no callbackURL: JSON", 0) => self.verified("ml2").await,
            ("existing user with callbackURL", 0) => {
                self.verified("ml3").await;
                self.magic_link("ml3").await;
            }
            ("existing unverified user: earlier accounts and sessions are dropped", 0) => {
                let token = self.person("ml4").await.token;
                self.captures.learn("<id32#5>", &token);
                let cookie = signed(SECRET, &token);
                self.captures.learn("<id32#5>.<hmac-b64>", &cookie);
                self.magic_link("ml4").await;
            }
            ("expired", 0) => {
                self.magic_link("ml5").await;
                self.wait(TimeDelta::minutes(10) + TimeDelta::seconds(1));
            }
            ("banned user", 0) => {
                self.verified("ml6").await;
                self.banned("ml6", None).await;
                self.magic_link("ml6").await;
            }
            ("sign-up disabled", 1) => {
                let url = self.next_mail("mlx@example.com").await.url.unwrap();
                self.token_of(&url);
            }
            _ => {}
        }
    }

    fn digits(&mut self, code: &str) {
        self.captures.learn("<digits:6>", code);
    }

    pub async fn user_id(&self, name: &str) -> String {
        let email = aggregates::EmailAddress::parse(&format!("{name}@example.com")).unwrap();
        let user = mana_auth::accounts::find_by_email(&self.app.app, &email).await;
        user.unwrap().unwrap().id
    }

    /// Learns what a person's app shows next; each code is good once.
    async fn right_code(&mut self, name: &str) {
        self.wait(TimeDelta::seconds(30));
        let user_id = self.user_id(name).await;
        let custody = self.app.app.store.custody();
        let kept = custody.read("totp", &user_id, "1").await.unwrap().unwrap();
        let app = Builder::new()
            .with_algorithm(Algorithm::SHA1)
            .with_secret(Secret::new(kept.bytes.as_slice().into()))
            .build_noncompliant();
        let now = u64::try_from(self.app.clock.now().timestamp()).unwrap();
        let code = app.generate(now).to_string();
        assert_ne!(code, WRONG);
        self.digits(&code);
    }

    /// Somebody whose second factor is an app; gives the backup codes. Their session is known as `<session>`.
    async fn with_totp(&mut self, name: &str) -> Vec<String> {
        let token = self.person(name).await.token;
        let cookie = |token: &str| {
            let value = encode(&signed(SECRET, token));
            format!("better-auth.session_token={value}")
        };
        let body = json!({"password": PASSWORD});
        let enabled = self.post_with("enable", &cookie(&token), &body).await;
        let enabled = json_of(&enabled);
        self.right_code(name).await;
        let code = self.captures.get("<digits:6>").unwrap().to_owned();
        let body = json!({"code": code});
        let verified = self.post_with("verify-totp", &cookie(&token), &body).await;
        let token = json_of(&verified)["token"].as_str().unwrap().to_owned();
        self.captures.learn("<session>", &token);
        let codes = enabled["backupCodes"].as_array().unwrap();
        codes
            .iter()
            .map(|code| code.as_str().unwrap().to_owned())
            .collect()
    }

    async fn post_with(&self, path: &str, cookie: &str, body: &Value) -> Answer {
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("origin", "http://app.localhost:5173".to_owned()),
            ("cookie", cookie.to_owned()),
        ];
        let path = format!("/api/auth/two-factor/{path}");
        self.send("POST", &path, &headers, Some(body.to_string()))
            .await
    }

    /// Signs in as far as the second factor.
    async fn challenge(&mut self, name: &str, number: usize) {
        let body = json!({"email": format!("{name}@example.com"), "password": PASSWORD});
        let answer = self.post("/api/auth/sign-in/email", &body).await;
        let mut cookies = answer
            .headers
            .iter()
            .filter(|(header, _)| header == "set-cookie");
        let value = cookies
            .find_map(|(_, cookie)| cookie.strip_prefix("better-auth.two_factor="))
            .unwrap_or_else(|| panic!("no challenge: {}", answer.body));
        let value = value.split(';').next().unwrap();
        let value = percent_decode_str(value)
            .decode_utf8()
            .unwrap()
            .into_owned();
        self.captures
            .learn(&format!("2fa-<rand20#{number}>.<hmac-b64>"), &value);
    }

    async fn post_in_challenge(&self, path: &str, body: &Value) -> Answer {
        let cookie = self.captures.get("2fa-<rand20#1>.<hmac-b64>").unwrap();
        let cookie = format!("better-auth.two_factor={}", encode(cookie));
        self.post_with(path, &cookie, body).await
    }

    async fn wrong_codes(&self, path: &str, times: usize) {
        for _ in 0..times {
            let answer = self.post_in_challenge(path, &json!({"code": WRONG})).await;
            assert_eq!(answer.status, 401, "{}", answer.body);
        }
    }

    async fn mailed_code(&mut self, name: &str) {
        let mail = self.next_mail(&format!("{name}@example.com")).await;
        let code = mail.text.lines().find(|line| line.len() == 6).unwrap();
        self.digits(code);
    }

    pub async fn verified(&mut self, name: &str) {
        let path = format!(
            "/api/auth/verify-email?token={}",
            self.person(name).await.link_jwt
        );
        assert_eq!(self.send("GET", &path, &[], None).await.status, 200);
    }

    pub async fn banned(&self, name: &str, until: Option<TimeDelta>) {
        let at = self.app.clock.now();
        let command = UserCommand::Ban {
            reason: None,
            until: until.map(|time| at + time),
            at,
        };
        let context = Context::of(Actor::Operator);
        let store = &self.app.app.store;
        store
            .run::<User>(&self.user_id(name).await, command, context)
            .await
            .unwrap();
    }

    async fn magic_link(&mut self, name: &str) {
        let email = format!("{name}@example.com");
        let asked = self
            .post("/api/auth/sign-in/magic-link", &json!({"email": email}))
            .await;
        assert_eq!(asked.status, 200, "{}", asked.body);
        let url = self.next_mail(&email).await.url.unwrap();
        self.token_of(&url);
    }

    fn token_of(&mut self, url: &str) {
        let token = url.split_once("token=").unwrap().1;
        let token = token.split('&').next().unwrap();
        self.captures.learn("<id32#1>", token);
    }
}
