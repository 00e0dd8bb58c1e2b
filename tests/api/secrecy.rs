//! What is secret or personal stands neither in the database nor in the log lines.

#![cfg(test)]

use std::io::Write;
use std::sync::{Arc, Mutex};

use chrono::TimeDelta;
use mana_auth::store::Actor;
use serde_json::json;
use tracing::Dispatch;
use tracing_subscriber::fmt::MakeWriter;

use crate::client::{Answer, ORIGIN, answer, link_token};
use crate::harness::TestApp;

const PASSWORD: &str = "geheimes-Kennwort-7431";
const WRONG_PASSWORD: &str = "falsches-Kennwort-9182";
const NAME: &str = "Augusta Lovelace-Byron";
const EMAIL: &str = "augusta.lovelace@analytical.example";
const AGENT: &str = "Difference-Engine/2.1";

/// Everything secret that a flow showed on the wire.
#[derive(Default)]
struct Seen(Vec<(&'static str, String)>);

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

    fn add_answer(&mut self, answer: &Answer) {
        let body = answer.json();
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
    fn is_absent_from(&self, text: &str, place: &str) {
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
async fn whole_flow(app: &TestApp) -> Seen {
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
    app.effects_done().await;
    for mail in app.mails() {
        if let Some(url) = mail.url {
            seen.add_jwt("mailed token", link_token(&url));
        }
    }
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
        app.app.signing.rotate(Actor::System).await.unwrap();
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
    app.effects_done().await;
    seen
}

/// S-26, I-5, I-6: a copy of the database signs nobody in, and its log names nobody.
#[tokio::test]
async fn the_database_holds_no_usable_secret_s26() {
    let app = TestApp::start(&[("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let seen = whole_flow(&app).await;
    // Live sessions and waiting mails are there as well.
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let live = app.post("/api/auth/sign-in/email", &body).await;
    assert_eq!(live.status, 200);
    let dump = app.dump().await;
    assert!(
        dump.contains("public.custody") && dump.contains("read.sessions") && dump.len() > 10_000
    );
    seen.is_absent_from(&dump, "the database");
    let mut rest = Seen::default();
    rest.add_answer(&live);
    rest.is_absent_from(&dump, "the database");

    let events: Vec<String> = sqlx::query_scalar("select e::text from events e")
        .fetch_all(&app.admin)
        .await
        .unwrap();
    let events = events.join("\n").to_lowercase();
    for personal in [NAME, EMAIL, "augusta", "lovelace", AGENT, "203.0.113.77"] {
        assert!(
            !events.contains(&personal.to_lowercase()),
            "the log names {personal}"
        );
    }
}

/// Collects log lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

/// S-37: whatever is written to the log at the most talkative level, nobody is named and nothing is given away. The
/// test's runtime has one thread, so the service in it writes here.
#[tokio::test]
async fn log_lines_hold_no_secret_and_name_nobody_s37() {
    let lines = Lines::default();
    let subscriber = || {
        let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        Dispatch::new(subscriber.with_writer(lines.clone()).finish())
    };
    // While there is only one, each thread decides for all whether a line is wanted; so there are two.
    let _second = subscriber();
    let guard = tracing::dispatcher::set_default(&subscriber());
    let app = TestApp::start(&[("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let seen = whole_flow(&app).await;
    // Failures talk more than successes.
    sqlx::query("alter table read.sessions rename to hidden")
        .execute(&app.admin)
        .await
        .unwrap();
    let body = json!({"email": EMAIL, "password": PASSWORD});
    let failed = app.post("/api/auth/sign-in/email", &body).await;
    assert_eq!(failed.status, 500, "{}", failed.text);
    assert!(
        !failed.text.contains("sessions"),
        "what failed is for the log"
    );
    sqlx::query("alter table read.hidden rename to sessions")
        .execute(&app.admin)
        .await
        .unwrap();
    drop(guard);
    let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(
        lines.contains("request failed") && lines.contains("/api/auth/sign-in/email"),
        "lines were caught"
    );
    seen.is_absent_from(&lines, "the log");
    for personal in [NAME, EMAIL, "augusta", "lovelace", AGENT, "203.0.113.77"] {
        let line = lines
            .lines()
            .find(|line| line.to_lowercase().contains(&personal.to_lowercase()));
        assert_eq!(line, None, "{personal}");
    }
}
