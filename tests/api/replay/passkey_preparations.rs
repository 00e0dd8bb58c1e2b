//! What happened before or between the recorded exchanges of passkeys, and what the browser answered in them.

use chrono::TimeDelta;
use serde_json::Value;

use super::SECRET;
use super::placeholders::{encode, signed};
use super::player::Player;
use super::preparations::json_of;
use crate::authenticator::Authenticator;

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare_passkey(&mut self, case: &str, step: usize) {
        match (case, step) {
            ("full ceremonies with a software authenticator", 0) => self.session("pk1").await,
            ("full ceremonies with a software authenticator", 1)
            | ("register with createSession", 1) => self.create_passkey(),
            ("full ceremonies with a software authenticator", 6) => self.sign_by_passkey(),
            ("register with createSession", 0) => self.session("pk2").await,
            ("update and delete", 0) => {
                self.session("pk3").await;
                self.ceremony("register", 1).await;
                self.create_passkey();
            }
            ("update and delete", 4) => {
                let token = self.person("pk4").await.token;
                let cookie = signed(SECRET, &token);
                self.captures.learn("<id32#4>.<hmac-b64>", &cookie);
            }
            ("failures", 0) => self.session("pk5").await,
            ("failures", 6) => self.ceremony("register", 1).await,
            ("failures", 7) => self.ceremony("authenticate", 2).await,
            ("failures", 8) => {
                self.ceremony("register", 5).await;
                self.create_passkey();
                self.verify_registration(5).await;
                self.ceremony("authenticate", 3).await;
                self.sign_by_passkey();
                self.passkey_answer["response"]["signature"] = "MAA".into();
            }
            ("failures", 9) => {
                let cookie = signed(SECRET, &"x".repeat(32));
                self.captures.learn("<rand32#4>.<hmac-b64>", &cookie);
                self.wait(TimeDelta::days(1));
            }
            _ => {}
        }
    }

    fn passkey(&mut self) -> &mut Authenticator {
        self.authenticator.get_or_insert_with(|| Authenticator {
            origin: "http://app.localhost:5173".to_owned(),
            ..Authenticator::new()
        })
    }

    fn create_passkey(&mut self) {
        let options = self.last_body.clone();
        self.passkey_answer = self.passkey().create(&options);
    }

    fn sign_by_passkey(&mut self) {
        let options = self.last_body.clone();
        self.passkey_answer = self.passkey().get(&options);
    }

    /// Begins a ceremony in the session of the case; its cookie gets the number.
    async fn ceremony(&mut self, what: &str, number: usize) {
        let path = format!("/api/auth/passkey/generate-{what}-options");
        let headers = match what {
            "register" => vec![("cookie", self.session_cookie())],
            _ => vec![],
        };
        let begun = self.send("GET", &path, &headers, None).await;
        self.last_body = json_of(&begun);
        let mut cookies = begun.headers.iter().map(|(_, value)| value.as_str());
        let value = cookies
            .find_map(|value| value.strip_prefix("better-auth.better-auth-passkey="))
            .unwrap();
        let value = value.split(';').next().unwrap();
        let value = percent_encoding::percent_decode_str(value)
            .decode_utf8()
            .unwrap();
        self.captures
            .learn(&format!("<rand32#{number}>.<hmac-b64>"), &value);
    }

    fn session_cookie(&self) -> String {
        let session = self.captures.get("<id32#1>.<hmac-b64>").unwrap();
        format!("better-auth.session_token={}", encode(session))
    }

    async fn verify_registration(&self, number: usize) {
        let cookie = format!("<rand32#{number}>.<hmac-b64>");
        let cookie = encode(self.captures.get(&cookie).unwrap());
        let cookie = format!(
            "{}; better-auth.better-auth-passkey={cookie}",
            self.session_cookie()
        );
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("origin", "http://app.localhost:5173".to_owned()),
            ("cookie", cookie),
        ];
        let body = serde_json::json!({"response": self.passkey_answer});
        let path = "/api/auth/passkey/verify-registration";
        let added = self.send("POST", path, &headers, Some(body.to_string()));
        json_of(&added.await);
    }

    /// A recorded body with the answer of this browser in the place of the recorded one's.
    pub fn with_passkey_answer(&self, body: &Value) -> Value {
        let mut body = body.clone();
        if body["response"]["rawId"].is_string() {
            body["response"] = self.passkey_answer.clone();
        }
        body
    }
}
