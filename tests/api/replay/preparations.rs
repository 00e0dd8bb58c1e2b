//! What happened before or between the recorded exchanges, brought about by the real routes and the held clock.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::TimeDelta;
use serde_json::{Value, json};

use super::SECRET;
use super::matching::Answer;
use super::placeholders::{encode, hmac, signed};
use super::player::Player;

/// The password of everyone in the recordings.
pub const PASSWORD: &str = "password1234";

/// Somebody who signed up before the case began.
pub struct Person {
    pub id: String,
    /// The token of the session that the sign-up started; empty where verification is required first.
    pub token: String,
    /// The JWT in the mailed verification link.
    pub link_jwt: String,
}

impl Player<'_> {
    /// Does what the recording leaves unsaid before a step. The people are named like their addresses.
    pub async fn prepare(&mut self, area: &str, case: &str, step: usize) {
        match (area, case, step) {
            ("sign-up", "duplicate e-mail, verification not required", 0) => {
                self.somebody("dup").await
            }
            (
                "sign-up",
                "verification required: duplicate e-mail answers with a synthetic user",
                0,
            ) => {
                self.somebody("vdup").await;
            }

            ("sign-in", "success", 0) => self.somebody("in").await,
            ("sign-in", "rememberMe false", 0) => self.somebody("in2").await,
            ("sign-in", "callbackURL trusted", 0) => self.somebody("in3").await,
            ("sign-in", "form-urlencoded body", 0) => self.somebody("in4").await,
            ("sign-in", "wrong password", 0) => self.somebody("in5").await,
            ("sign-in", "e-mail not verified", 0) => self.somebody("unv").await,

            ("sign-out", "with a session", 0) => self.session("out1").await,
            ("sign-out", "without a body", 0) => self.session("out2").await,
            ("sign-out", "with a tampered cookie", 0) => {
                let token = self.person("out3").await.token;
                let cookie = signed(SECRET, &token);
                self.captures
                    .learn("<id32#1>.<hmac-b64>", &tampered(&cookie, 0));
                self.captures.learn("<id32#2>", &token);
                self.captures.learn("<id32#2>.<hmac-b64>", &cookie);
            }

            ("jwt", "token", 0) => self.session("j1").await,
            ("jwt", "token for an admin", 0) => self.session("j2").await,

            ("bearer", "raw token", 0) => self.session("b1").await,
            ("bearer", "signed token", 0) => {
                self.session("b2").await;
                self.change_cookie(encode);
            }
            ("bearer", "signed token", 1) => {
                self.change_cookie(|cookie| signed(SECRET, &cookie[..32]))
            }
            ("bearer", "signed token", 2) => self.change_cookie(|cookie| tampered(cookie, 33)),
            ("bearer", "failures", 0) => self.session("b3").await,
            ("bearer", "set-auth-token on sign-in", 0) => self.somebody("b4").await,

            ("email-verification", "send without a session", 0) => self.somebody("ev1").await,
            ("email-verification", "send with a session", 0) => self.session("ev2").await,
            ("email-verification", "send with a session", 2) => {
                self.follow_verification_link("ev2").await
            }
            ("email-verification", "verify without callbackURL", 0) => {
                self.mailed_token("ev3").await
            }
            ("email-verification", "verify with callbackURL", 0) => self.mailed_token("ev4").await,
            ("email-verification", "verify with a session of the same user", 0) => {
                let person = self.person("ev5").await;
                self.captures.learn("<jwt#1>", &person.link_jwt);
                self.know_session(&person.token);
            }
            ("email-verification", "failures", 0) => self.useless_verification_tokens("ev6").await,

            ("session", "get with a session", 0) => self.session("s1").await,
            ("session", "POST get-session", 0) => self.session("s2").await,
            ("session", "get with a tampered signature", 0) => {
                self.session("s3").await;
                self.change_cookie(|cookie| tampered(cookie, 33));
            }
            ("session", "get with an unsigned token", 0) => self.session("s4").await,
            ("session", "expired session", 0) => {
                self.session("s5").await;
                self.wait(TimeDelta::days(7) + TimeDelta::seconds(1));
            }
            ("session", "refresh after updateAge", 0) => {
                self.session("s6").await;
                self.wait(TimeDelta::hours(25));
            }
            ("session", "disableRefresh keeps expiresAt", 0) => {
                self.session("s7").await;
                self.wait(TimeDelta::days(2));
            }
            ("session", "dont_remember session is never refreshed", 0) => {
                self.unremembered_session("s8").await;
                self.wait(TimeDelta::days(1) - TimeDelta::minutes(10));
            }
            ("session", "cookie cache: sign-in sets session_data", 0) => {
                self.somebody("c1").await;
                self.made_up_cookie_cache();
            }
            (
                "session",
                "cookie cache: a revoked session is still seen until the cache ends",
                0,
            ) => {
                self.session("c2").await;
                self.sign_out().await;
                self.made_up_cookie_cache();
            }
            ("session", "cookie cache: missing session_data is rebuilt", 0) => {
                self.session("c3").await
            }
            ("session", "cookie cache: tampered session_data is dropped", 0) => {
                self.session("c4").await;
                self.made_up_cookie_cache();
            }
            ("session", "cookie cache: rememberMe false has no Max-Age", 0) => {
                self.somebody("c5").await
            }
            ("session", "cookie cache: sign-out clears it", 0) => {
                self.session("c6").await;
                self.made_up_cookie_cache();
            }

            (
                "errors",
                "origin: no cookie" | "fetch metadata on sign-in" | "callback URL checks",
                0,
            ) => {
                self.person_of_three_cases().await;
            }
            _ => self.prepare_account(area, case, step).await,
        }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let headers = [
            ("content-type", "application/json".to_owned()),
            ("origin", "http://app.localhost:5173".to_owned()),
        ];
        self.send("POST", path, &headers, Some(body.to_string()))
            .await
    }

    async fn sign_up(&self, name: &str, email: &str) -> Answer {
        let body = json!({ "name": name, "email": email, "password": PASSWORD });
        self.post("/api/auth/sign-up/email", &body).await
    }

    /// Signs a person up and takes the verification mail, so that no later step takes it for its own.
    pub async fn person(&mut self, name: &str) -> Person {
        let email = format!("{name}@example.com");
        let answer = json_of(&self.sign_up(name, &email).await);
        let url = self
            .next_mail(&email)
            .await
            .url
            .expect("a verification mail has a link");
        let after_name = url
            .split_once("token=")
            .expect("a verification link carries its token")
            .1;
        Person {
            id: answer["user"]["id"].as_str().unwrap().to_owned(),
            token: answer["token"].as_str().unwrap_or_default().to_owned(),
            link_jwt: after_name.split('&').next().unwrap_or_default().to_owned(),
        }
    }

    pub async fn somebody(&mut self, name: &str) {
        self.person(name).await;
    }

    /// The person `x` of three cases: the first of them finds nobody yet.
    pub async fn person_of_three_cases(&self) {
        let status = self.sign_up("x", "or1@example.com").await.status;
        assert!(
            matches!(status, 200 | 422),
            "sign-up of or1@example.com answered {status}"
        );
    }

    /// Somebody's session, as the first token of the case.
    pub async fn session(&mut self, name: &str) {
        let token = self.person(name).await.token;
        self.know_session(&token);
    }

    pub fn know_session(&mut self, token: &str) {
        self.captures.learn("<id32#1>", token);
        self.captures
            .learn("<id32#1>.<hmac-b64>", &signed(SECRET, token));
    }

    async fn unremembered_session(&mut self, name: &str) {
        self.person(name).await;
        let body = json!({ "email": format!("{name}@example.com"), "password": PASSWORD, "rememberMe": false });
        let answer = json_of(&self.post("/api/auth/sign-in/email", &body).await);
        self.know_session(answer["token"].as_str().unwrap());
        self.captures
            .learn("true.<hmac-b64>", &signed(SECRET, "true"));
    }

    /// Changes the signed session token that the next requests send.
    fn change_cookie(&mut self, change: impl FnOnce(&str) -> String) {
        let name = "<id32#1>.<hmac-b64>";
        let changed = change(self.captures.get(name).expect("a session was prepared"));
        self.captures.learn(name, &changed);
    }

    async fn sign_out(&self) {
        let cookie = encode(
            self.captures
                .get("<id32#1>.<hmac-b64>")
                .expect("a session was prepared"),
        );
        let headers = [
            ("cookie", format!("better-auth.session_token={cookie}")),
            ("origin", "http://app.localhost:5173".to_owned()),
        ];
        let answer = self
            .send("POST", "/api/auth/sign-out", &headers, None)
            .await;
        assert_eq!(answer.status, 200);
    }

    /// The service sets no cookie cache; what a client may still have of an older one must not matter.
    fn made_up_cookie_cache(&mut self) {
        self.captures
            .learn("<b64url-json>", &URL_SAFE_NO_PAD.encode("{}"));
    }

    async fn mailed_token(&mut self, name: &str) {
        let jwt = self.person(name).await.link_jwt;
        self.captures.learn("<jwt#1>", &jwt);
    }

    async fn follow_verification_link(&mut self, name: &str) {
        let url = self
            .next_mail(&format!("{name}@example.com"))
            .await
            .url
            .expect("a verification mail has a link");
        // The link names the configured base URL, which is not where the test reaches the service.
        let from = url.find("/api/").expect("the link leads to the API");
        assert_eq!(self.send("GET", &url[from..], &[], None).await.status, 302);
    }

    /// Verification tokens that must not verify: too old, with a foreign signature, of nobody, of somebody else.
    async fn useless_verification_tokens(&mut self, name: &str) {
        let person = self.person(name).await;
        self.wait(TimeDelta::minutes(61));
        let email = format!("{name}@example.com");
        let nobody = "0".repeat(32);
        self.captures.learn("<jwt#1>", &person.link_jwt);
        self.captures.learn(
            "<jwt#2>",
            &self.verification_token("another secret", &email, &person.id),
        );
        self.captures.learn(
            "<jwt#3>",
            &self.verification_token(SECRET, "nobody@example.com", &nobody),
        );
        self.captures
            .learn("<jwt#4>", &self.verification_token(SECRET, &email, &nobody));
    }

    fn verification_token(&self, secret: &str, email: &str, user_id: &str) -> String {
        let now = self.app.clock.now().timestamp();
        let payload = json!({ "email": email, "userId": user_id, "iat": now, "exp": now + 3600 });
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let content = format!("{}.{}", part(&json!({ "alg": "HS256" })), part(&payload));
        format!(
            "{content}.{}",
            URL_SAFE_NO_PAD.encode(hmac(secret, &content))
        )
    }

    pub fn wait(&mut self, time: TimeDelta) {
        self.app.clock.advance(time);
        self.captures.clock_moved(self.app.clock.now());
    }
}

/// The body of a good answer.
pub fn json_of(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "while preparing: {}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

/// The same text with another letter at `index`.
fn tampered(text: &str, index: usize) -> String {
    let other = if text[index..].starts_with('A') {
        'B'
    } else {
        'A'
    };
    format!("{}{other}{}", &text[..index], &text[index + 1..])
}
