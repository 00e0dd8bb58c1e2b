//! What happened before or between the recorded exchanges with another provider.

use chrono::TimeDelta;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::SECRET;
use super::placeholders::{encode, signed};
use super::player::Player;
use super::preparations::json_of;
use crate::provider::person;

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare_social(&mut self, area: &str, case: &str, step: usize) {
        match (area, case, step) {
            ("accounts", "list, unlink the last one", 0) => self.session("ac1").await,
            ("accounts", "link, tokens, info, unlink", 0) => {
                self.session("ac2").await;
                self.a_moment();
            }
            ("accounts", "link, tokens, info, unlink", 1) => self.agree("sub-l1", "ac2", true),
            ("accounts", "link-social failures", 0) => self.session("ac3").await,
            ("accounts", "link-social failures", 2) => {
                let token = self.person("ac4").await.token;
                self.captures.learn("<id32#2>", &token);
                let cookie = signed(SECRET, &token);
                self.captures.learn("<id32#2>.<hmac-b64>", &cookie);
                self.begin_link("<id32#2>", 1).await;
                self.agree("sub-l2", "ac4", true);
            }
            ("accounts", "link-social failures", 3) => {
                self.begin_link("<id32#1>", 2).await;
                self.agree("sub-l2", "ac4", true);
            }

            ("social", "new user through the provider", 1 | 4) => {
                self.agree("sub-1", "soc1", true);
            }
            ("social", "callback failures", 7) => self.begin_sign_in(2).await,
            ("social", "existing unverified-by-provider address is not linked implicitly", 0) => {
                self.verified("soc2").await;
                self.begin_sign_in(1).await;
                self.agree("sub-2", "soc2", false);
            }
            (
                "social",
                "existing address, provider says verified, local address not verified",
                0,
            ) => {
                self.somebody("soc3").await;
                self.begin_sign_in(1).await;
                self.agree("sub-3", "soc3", true);
            }
            ("social", "existing address, both verified: linked", 0) => {
                self.verified("soc4").await;
                self.a_moment();
                self.begin_sign_in(1).await;
                self.agree("sub-4", "soc4", true);
            }
            _ => {}
        }
    }

    /// Lists are in the order of time, which has to go on for that.
    fn a_moment(&mut self) {
        self.wait(TimeDelta::seconds(1));
    }

    /// The provider sends somebody back from where the last answer sent them.
    fn agree(&mut self, subject: &str, name: &str, verified: bool) {
        let last: Value = serde_json::from_str(&self.last).unwrap();
        let claims = person(subject, &format!("{name}@example.com"), verified);
        let url = last["url"].as_str().unwrap();
        let code = self.provider.consent(url, claims, self.app.clock.now());
        self.captures.learn("<provider-code>", &code);
    }

    async fn begin_sign_in(&mut self, number: usize) {
        self.begin("/api/auth/sign-in/social", "/app", String::new(), number)
            .await;
    }

    async fn begin_link(&mut self, token: &str, number: usize) {
        let cookie = self.captures.get(&format!("{token}.<hmac-b64>")).unwrap();
        let cookie = format!("better-auth.session_token={}", encode(cookie));
        self.begin("/api/auth/link-social", "/linked", cookie, number)
            .await;
    }

    /// Begins a sign-in whose state and cookie the recording shows only later.
    async fn begin(&mut self, path: &str, callback: &str, cookie: String, number: usize) {
        let body =
            json!({"provider": "fake", "callbackURL": callback, "errorCallbackURL": "/oops"});
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("origin", "http://app.localhost:5173".to_owned()),
            ("cookie", cookie),
        ];
        let answer = self
            .send("POST", path, &headers, Some(body.to_string()))
            .await;
        json_of(&answer);
        let mut cookies = answer.cookies().into_iter();
        let cookie = cookies
            .find(|cookie| cookie.name.ends_with(".state"))
            .unwrap();
        let cookie = percent_decode_str(&cookie.raw)
            .decode_utf8()
            .unwrap()
            .into_owned();
        let state = cookie.split('.').next().unwrap();
        self.captures.learn(&format!("<rand32#{number}>"), state);
        self.captures
            .learn(&format!("<rand32#{number}>.<hmac-b64>"), &cookie);
        self.last = answer.body;
    }
}
