//! Everything that people can do here, and every secret that it shows on the wire or in a mail.

#![cfg(test)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use mana_auth::signing::PUBLISHED_BEFORE;
use mana_auth::store::Actor;
use serde_json::{Value, json};

use crate::account::last_link;
use crate::authenticator::Authenticator;
use crate::client::{Answer, ORIGIN, answer, link_token, session_of};
use crate::harness::TestApp;
use crate::passkeys::{ADD, SIGN_IN, begin, end};

pub const PASSWORD: &str = "geheimes-Kennwort-7431";
const WRONG_PASSWORD: &str = "falsches-Kennwort-9182";
const NAME: &str = "Augusta Lovelace-Byron";
pub const EMAIL: &str = "augusta.lovelace@analytical.example";
const OTHER_PASSWORD: &str = "anderes-Kennwort-5560";
const NEW_EMAIL: &str = "ada.king@engine.example";
const DELETED_EMAIL: &str = "charles.babbage@difference.example";
/// Everything that says who somebody is, and from where they came.
pub const PERSONAL: [&str; 10] = [
    NAME,
    EMAIL,
    NEW_EMAIL,
    DELETED_EMAIL,
    "augusta",
    "lovelace",
    "ada.king",
    "babbage",
    AGENT,
    "203.0.113.77",
];
/// Clients have addresses, and accounts are deleted by a mailed link.
pub const SETTINGS: [(&str, &str); 2] = [
    ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8"),
    ("MANA_AUTH_DELETE_USER_CONFIRM", "true"),
];
const AGENT: &str = "Difference-Engine/2.1";

/// Everything secret that a flow showed on the wire.
#[derive(Default)]
pub struct Seen(Vec<(&'static str, String)>);

impl Seen {
    fn add(&mut self, what: &'static str, text: &str) {
        assert!(
            text.len() >= 16,
            "{what}: {text:?} would be found by chance"
        );
        self.0.push((what, text.to_owned()));
    }

    /// Signature and content of a token in three parts, each a secret by itself.
    fn add_jwt(&mut self, what: &'static str, jwt: &str) {
        self.add(what, jwt);
        for part in jwt.split('.').skip(1) {
            self.add(what, part);
        }
    }

    /// How much of a kind was seen.
    pub fn count(&self, what: &str) -> usize {
        self.0.iter().filter(|(of, _)| *of == what).count()
    }

    /// The token of every link in every mail.
    fn add_mails(&mut self, app: &TestApp) {
        for mail in app.mails() {
            let links = mail.text.split_whitespace();
            for link in links.filter(|word| word.starts_with("http")) {
                if let Some((_, token)) = link.split_once("/reset-password/") {
                    self.add("reset token", token.split('?').next().unwrap());
                } else if link.contains("/verify-email?") {
                    self.add_jwt("mailed proof", link_token(link));
                } else if link.contains("token=") {
                    self.add("mailed token", link_token(link));
                }
            }
        }
    }

    /// Every token and cookie in an answer.
    pub fn add_answer(&mut self, answer: &Answer) {
        let body = answer.json();
        for listed in body.as_array().into_iter().flatten() {
            if let Some(token) = listed["token"].as_str() {
                self.add("listed token", token);
            }
        }
        for field in ["token", "refreshToken"] {
            match body[field].as_str() {
                Some(jwt) if jwt.contains('.') => self.add_jwt("access token", jwt),
                Some(token) => self.add("session token", token),
                None => {}
            }
        }
        if let Some(token) = body["session"]["token"].as_str() {
            self.add("session token", token);
        }
        for jwt in [
            body["accessToken"].as_str().unwrap_or_default(),
            answer.header("set-auth-jwt"),
        ] {
            if !jwt.is_empty() {
                self.add_jwt("access token", jwt);
            }
        }
        let cookie = answer.session_cookie();
        if let Some((_, value)) = cookie.split_once('=') {
            self.add("cookie value", value);
            self.add("cookie signature", value.split_once('.').unwrap().1);
        }
        let signed = answer.header("set-auth-token");
        if !signed.is_empty() {
            self.add("signed token", signed);
        }
    }

    /// Fails if the text holds any of it, as it is or as bytes in hexadecimal digits.
    pub fn is_absent_from(&self, text: &str, place: &str) {
        for (what, secret) in &self.0 {
            let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
            for form in [secret, &hex] {
                assert!(
                    !text.contains(form.as_str()),
                    "{place} holds a {what}: {}",
                    around(text, form)
                );
            }
        }
    }
}

fn around<'a>(text: &'a str, needle: &str) -> &'a str {
    let line = text.lines().find(|line| line.contains(needle));
    line.unwrap_or_default()
}

/// Everything that a person can do here, on all doors, with refusals in between.
pub async fn whole_flow(app: &TestApp) -> Seen {
    let mut seen = Seen::default();
    seen.add("password", PASSWORD);
    seen.add("password", WRONG_PASSWORD);
    let post = async |path: &str, cookie: &str, body: &serde_json::Value| {
        let request = app
            .request("POST", path)
            .json(body)
            .header("user-agent", AGENT);
        let request = request.header("origin", ORIGIN).header("cookie", cookie);
        answer(request.header("x-forwarded-for", "203.0.113.77")).await
    };
    let key = "idempotency-key-of-this-flow-1";
    seen.add("idempotency key", key);
    let account = json!({"name": NAME, "email": EMAIL, "password": PASSWORD});
    let request = app
        .request("POST", "/api/auth/sign-up/email")
        .json(&account);
    let signed_up = answer(request.header("idempotency-key", key)).await;
    assert_eq!(signed_up.status, 200);
    // Refusals: taken, unverified, wrong, unknown, broken.
    let wrong = json!({"email": EMAIL, "password": WRONG_PASSWORD});
    for (path, body) in [
        ("/api/v1/auth/register", &account),
        ("/api/auth/sign-up/email", &account),
        ("/api/auth/sign-in/email", &account),
        ("/api/auth/sign-in/email", &wrong),
        ("/api/v1/auth/login", &wrong),
        ("/api/auth/send-verification-email", &account),
    ] {
        assert!(post(path, "", body).await.status < 500);
    }
    let link = app.wait_for_mail(EMAIL, 0).await.url.unwrap();
    seen.add_jwt("mailed token", link_token(&link));
    let tampered = format!("{link}&x=y").replace("token=", "token=x");
    app.follow(&tampered).await;
    let followed = app.follow(&link).await;
    seen.add_answer(&followed);
    let credentials = json!({"email": EMAIL, "password": PASSWORD});
    let native = post("/api/auth/sign-in/email", "", &credentials).await;
    let login = post("/api/v1/auth/login", "", &credentials).await;
    for answer in [&native, &login] {
        assert_eq!(answer.status, 200, "{}", answer.text);
        seen.add_answer(answer);
    }
    let cookie = native.session_cookie();
    for step in 0..3 {
        for path in [
            "/api/auth/get-session",
            "/api/auth/token",
            "/api/v1/auth/session",
        ] {
            let answer = app.get_as(path, &cookie).await;
            assert_eq!(answer.status, 200, "{step} {path}: {}", answer.text);
            seen.add_answer(&answer);
        }
        app.app
            .signing
            .rotate(PUBLISHED_BEFORE, Actor::System)
            .await
            .unwrap();
        app.clock.advance(TimeDelta::hours(25));
    }
    let token = app.jwt(&cookie).await;
    seen.add_jwt("access token", &token);
    post("/api/v1/auth/validate", "", &json!({"token": token})).await;
    post(
        "/api/v1/auth/validate",
        "",
        &json!({"token": format!("{token}x")}),
    )
    .await;
    post(
        "/api/v1/auth/logout",
        "",
        &json!({"refreshToken": login.json()["refreshToken"]}),
    )
    .await;
    post("/api/auth/sign-out", &cookie, &json!({})).await;
    self_service(app, &mut seen).await;
    passkeys_and_keys(app, &mut seen).await;
    vault(app, &mut seen).await;
    app.effects_done().await;
    seen.add_mails(app);
    seen
}

/// What people do with their own account and with the links in their mails; with refusals in between. In the end the
/// first account is as it was, and another one is deleted.
async fn self_service(app: &TestApp, seen: &mut Seen) {
    seen.add("password", OTHER_PASSWORD);
    let mut send = async |method: &str, path: &str, cookie: &str, body: &Value| {
        let path = path.strip_prefix(&app.app.config.base_url).unwrap_or(path);
        let request = app.request(method, path).header("user-agent", AGENT);
        let request = request.header("origin", ORIGIN).header("cookie", cookie);
        let request = request.header("x-forwarded-for", "203.0.113.77");
        let done = answer(match method {
            "GET" => request,
            _ => request.json(body),
        })
        .await;
        assert!(done.status < 500, "{method} {path}: {}", done.text);
        seen.add_answer(&done);
        done
    };
    let none = Value::Null;
    let sign_in = |email: &str, password: &str| json!({"email": email, "password": password});
    let login = "/api/auth/sign-in/email";
    let signed_in = send("POST", login, "", &sign_in(EMAIL, PASSWORD)).await;
    let cookie = signed_in.session_cookie();

    for current in [WRONG_PASSWORD, PASSWORD] {
        let body = json!({
            "currentPassword": current, "newPassword": OTHER_PASSWORD, "revokeOtherSessions": true,
        });
        send("POST", "/api/auth/change-password", &cookie, &body).await;
    }
    let link = last_link(app, "password_changed", EMAIL).await;
    let button = json!({"token": link_token(&link)});
    for _ in 0..2 {
        send("GET", &link, "", &none).await;
        send("POST", "/api/v1/auth/end-sessions", "", &button).await;
    }

    for email in [EMAIL, "nobody@analytical.example"] {
        let body = json!({"email": email});
        send("POST", "/api/auth/request-password-reset", "", &body).await;
        send("POST", "/api/v1/auth/forgot-password", "", &body).await;
        send("POST", "/api/v1/auth/resend-verification", "", &body).await;
    }
    let link = last_link(app, "reset_password", EMAIL).await;
    send("GET", &link, "", &none).await;
    let token = link.split_once("/reset-password/").unwrap().1;
    let token = token.split('?').next().unwrap();
    for (token, password) in [
        (token, "short"),
        ("x", PASSWORD),
        (token, PASSWORD),
        (token, PASSWORD),
    ] {
        let body = json!({"token": token, "newPassword": password});
        send("POST", "/api/v1/auth/reset-password", "", &body).await;
    }

    let signed_in = send("POST", login, "", &sign_in(EMAIL, PASSWORD)).await;
    assert_eq!(signed_in.status, 200, "the new password is good");
    let cookie = signed_in.session_cookie();
    send("GET", "/api/auth/list-sessions", &cookie, &none).await;
    let body = json!({"newEmail": NEW_EMAIL});
    send("POST", "/api/v1/auth/change-email", &cookie, &body).await;
    for (kind, to) in [
        ("change_email_confirmation", EMAIL),
        ("verify_email", NEW_EMAIL),
    ] {
        let link = last_link(app, kind, to).await;
        for _ in 0..2 {
            send("GET", &link, &cookie, &none).await;
        }
    }
    let changed = send("POST", login, "", &sign_in(NEW_EMAIL, PASSWORD)).await;
    assert_eq!(changed.status, 200, "the new address is the account's");
    let link = last_link(app, "email_changed", EMAIL).await;
    let button = json!({"token": link_token(&link)});
    for _ in 0..2 {
        send("GET", &link, "", &none).await;
        send("POST", "/api/v1/auth/revert-email", "", &button).await;
    }

    let account = json!({"name": "Charles", "email": DELETED_EMAIL, "password": PASSWORD});
    send("POST", "/api/v1/auth/register", "", &account).await;
    let link = last_link(app, "verify_email", DELETED_EMAIL).await;
    let cookie = send("GET", &link, "", &none).await.session_cookie();
    let wrong = json!({"password": WRONG_PASSWORD});
    send("POST", "/api/auth/delete-user", &cookie, &wrong).await;
    send("POST", "/api/auth/delete-user", &cookie, &json!({})).await;
    let link = last_link(app, "delete_account", DELETED_EMAIL).await;
    let deleted = send("GET", &link, &cookie, &none).await;
    assert_eq!(deleted.status, 302, "{}", deleted.text);
    send("GET", &link, &cookie, &none).await;
}

/// Passkeys and API keys, good and wrong ones, of the account that is left.
async fn passkeys_and_keys(app: &TestApp, seen: &mut Seen) {
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let entered = app.post("/api/auth/sign-in/email", &body).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    seen.add_answer(&entered);
    let cookie = entered.session_cookie();
    let key = Authenticator::new();
    for (what, door) in [
        ("register", ADD),
        ("authenticate", SIGN_IN),
        ("authenticate", SIGN_IN),
    ] {
        let begun = begin(app, what, if door == ADD { &cookie } else { "" }).await;
        seen.add("challenge", begun.options["challenge"].as_str().unwrap());
        let (_, value) = begun.cookie.split_once('=').unwrap();
        let (id, signature) = value.split_once('.').unwrap();
        seen.add("ceremony", id);
        seen.add("cookie signature", signature);
        let (cookies, response) = if door == ADD {
            (
                format!("{cookie}; {}", begun.cookie),
                key.create(&begun.options),
            )
        } else {
            (begun.cookie, key.get(&begun.options))
        };
        let body = json!({"response": response, "name": "Augusta's phone"});
        let done = app.post_as(door, &cookies, &body).await;
        assert_eq!(done.status, 200, "{}", done.text);
        seen.add_answer(&done);
        // Its challenge is spent.
        assert_eq!(end(app, door, &cookies, &response).await.status, 400);
    }
    let jwt = app.jwt(&cookie).await;
    seen.add_jwt("access token", &jwt);
    let request = app.request("POST", "/api/v1/api-keys").bearer_auth(&jwt);
    let made = answer(request.json(&json!({"name": "Augusta's key"}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json()["key"].as_str().unwrap().to_owned();
    seen.add("API key", &made);
    for key in [made.clone(), format!("{made}0")] {
        let body = json!({"apiKey": key});
        let told = app.post("/api/v1/api-keys/validate", &body).await;
        assert_eq!(told.json()["valid"], json!(key == made));
    }
}

/// The vault of the account that is left, through all of its modes.
async fn vault(app: &TestApp, seen: &mut Seen) {
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let entered = app.post("/api/auth/sign-in/email", &body).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    seen.add_answer(&entered);
    let session = session_of(&entered);
    let mut keys = Vec::new();
    let mut send = async |method: &str, path: &str, body: Value| {
        let answered = app.vault(&session, method, path, &body).await;
        assert!(answered.status < 500, "{method} {path}: {}", answered.text);
        keys.extend(answered.json()["masterKey"].as_str().map(str::to_owned));
        answered
    };
    let wrap = json!({"recoveryWrappedMk": "x".repeat(64), "recoveryIv": "y".repeat(16)});
    send("GET", "/key", Value::Null).await;
    send("POST", "/init", Value::Null).await;
    send("POST", "/rotate", Value::Null).await;
    let key = send("GET", "/key", Value::Null).await.json()["masterKey"].clone();
    for (path, body) in [
        ("/recovery-wrap", wrap),
        (
            "/recovery-wrap/restore",
            json!({"password": WRONG_PASSWORD}),
        ),
        ("/zero-knowledge", json!({"enable": true})),
        ("/init", Value::Null),
        (
            "/zero-knowledge",
            json!({"enable": false, "masterKey": "AAAA"}),
        ),
        (
            "/zero-knowledge",
            json!({"enable": false, "masterKey": key}),
        ),
        ("/zero-knowledge", json!({"enable": true})),
    ] {
        send("POST", path, body).await;
    }
    assert_eq!(keys.len(), 3, "{}", keys.len());
    for key in keys {
        let bytes = STANDARD.decode(&key).unwrap();
        seen.add("master key", &key);
        seen.add("master key", &mana_auth::crypto::hex::encode(&bytes));
    }
}
