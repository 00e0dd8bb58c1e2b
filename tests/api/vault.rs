//! The encryption vault (mana-v1.md section 5): what its tests share, and what a call leaves in the log.

#![cfg(test)]

mod audit;
mod custody;
mod doors;
mod erased;
mod floods;
mod followed;
mod idempotency;
mod promise;
mod races;
mod recovery;
mod remembered;
mod rewrap;
mod speed;
mod table;

use aggregates::vault::{Client, VaultEvent};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mana_auth::store::log;
use projections::AnyEvent;
use serde_json::{Value, json};

use crate::client::{Answer, Session, UNVERIFIED, answer};
use crate::harness::TestApp;

pub const VAULT: &str = "/api/v1/me/encryption-vault";

/// A line of the audit log: action, status and context.
pub type Line = (String, u16, Option<String>);

pub fn line(action: &str, status: u16, context: &str) -> Line {
    let context = (!context.is_empty()).then(|| context.to_owned());
    (action.to_owned(), status, context)
}

impl TestApp {
    /// Calls a vault; without a body if that is null.
    pub async fn vault(&self, who: &Session, method: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(method, &format!("{VAULT}{path}"));
        let request = request.bearer_auth(&who.token);
        answer(match body {
            Value::Null => request,
            body => request.json(body),
        })
        .await
    }

    /// The same for calls that succeed.
    pub async fn vault_does(&self, who: &Session, method: &str, path: &str, body: &Value) -> Value {
        let done = self.vault(who, method, path, body).await;
        assert_eq!(done.status, 200, "{method} {path}: {}", done.text);
        done.json()
    }

    /// The events of a vault.
    pub async fn vault_events(&self, user_id: &str) -> Vec<VaultEvent> {
        let rows = log::stream(&self.app.pool, "vault", user_id).await.unwrap();
        let opened = self.app.store.open(&rows).await.unwrap();
        opened
            .into_iter()
            .map(|opened| match opened.event {
                AnyEvent::Vault(event) => event,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// The audit log of a vault, from its events; the read model says the same.
    pub async fn vault_lines(&self, user_id: &str) -> Vec<Line> {
        let events = self.vault_events(user_id).await;
        let of = |event: &VaultEvent| {
            let line = event.line();
            let context = line.context.map(|context| context.into_owned());
            (line.action.to_owned(), line.status, context)
        };
        let lines: Vec<Line> = events.iter().map(of).collect();
        self.followed().await;
        let rows: Vec<(String, i32, Option<String>)> = sqlx::query_as(
            "select action, status, context from read.vault_audit where user_id = $1 order by position",
        )
        .bind(user_id)
        .fetch_all(&self.admin)
        .await
        .unwrap();
        let rows: Vec<Line> = rows
            .into_iter()
            .map(|(action, status, context)| (action, status.try_into().unwrap(), context))
            .collect();
        assert_eq!(rows, lines);
        lines
    }

    /// The key that a fetch gives.
    pub async fn vault_key(&self, who: &Session) -> String {
        let given = self.vault_does(who, "GET", "/key", &Value::Null).await;
        given["masterKey"].as_str().expect("a key").to_owned()
    }
}

/// A recovery wrap that is told from others by its name.
pub fn wrap(name: &str) -> Value {
    json!({"recoveryWrappedMk": format!("{name}-wrapped"), "recoveryIv": format!("{name}-iv")})
}

pub fn off(key: &str) -> Value {
    json!({"enable": false, "masterKey": key})
}

pub fn on() -> Value {
    json!({"enable": true})
}

/// A key that is nobody's.
pub fn other_key() -> String {
    STANDARD.encode([9; 32])
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Absent,
    Standard,
    WithRecovery,
    ZeroKnowledge,
}
use Mode::{Absent, Standard, WithRecovery, ZeroKnowledge};

pub const MODES: [Mode; 4] = [Absent, Standard, WithRecovery, ZeroKnowledge];

/// Brings a vault into a mode; gives its key.
pub async fn bring_to(app: &TestApp, who: &Session, mode: Mode) -> String {
    let nothing = Value::Null;
    if mode == Absent {
        return String::new();
    }
    let made = app.vault_does(who, "POST", "/init", &nothing).await;
    if mode != Standard {
        let wrap = wrap("first");
        app.vault_does(who, "POST", "/recovery-wrap", &wrap).await;
    }
    if mode == ZeroKnowledge {
        app.vault_does(who, "POST", "/zero-knowledge", &on()).await;
    }
    made["masterKey"].as_str().unwrap().to_owned()
}

/// The mode that a vault says that it is in.
pub async fn mode_of(app: &TestApp, who: &Session) -> Mode {
    let status = app.vault_does(who, "GET", "/status", &Value::Null).await;
    let flag = |name: &str| status[name].as_bool().unwrap();
    let flags = ["vaultExists", "hasRecoveryWrap", "zeroKnowledge"].map(flag);
    assert_eq!(status["recoverySetAt"].is_string(), flags[1], "{status}");
    match flags {
        [false, false, false] => Absent,
        [true, false, false] => Standard,
        [true, true, false] => WithRecovery,
        [true, true, true] => ZeroKnowledge,
        _ => panic!("{status}"),
    }
}

/// Section 5.4 and S-80: who asked, from where, in which session and request.
#[tokio::test]
async fn every_line_says_who_asked_from_where_and_in_which_request_s80() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    let ada = app.signed_in("ada").await;
    let send = async |method: &str, path: &str| {
        let request = app.request(method, &format!("{VAULT}{path}"));
        let request = request
            .bearer_auth(&ada.token)
            .header("x-request-id", "the-request");
        let request = request.header("x-forwarded-for", "203.0.113.77");
        answer(request.header("user-agent", "Difference-Engine/2.1")).await
    };
    let calls = [
        ("GET", "/key"),
        ("POST", "/init"),
        ("POST", "/recovery-wrap"),
        ("GET", "/status"),
        ("GET", "/key"),
    ];
    for (method, path) in calls {
        send(method, path).await;
    }
    let events = app.vault_events(&ada.user_id).await;
    assert_eq!(events.len(), 3, "neither the bad body nor the status");
    for event in &events {
        let client = Client {
            ip_address: "203.0.113.77".to_owned(),
            user_agent: "Difference-Engine/2.1".to_owned(),
        };
        assert!(event.access().client.get() == Some(&client));
        assert_eq!(event.access().at, app.clock.now());
    }
    let session = app
        .get_as("/api/auth/get-session", &ada.cookie)
        .await
        .json();
    let rows = log::stream(&app.app.pool, "vault", &ada.user_id)
        .await
        .unwrap();
    for row in rows {
        let row = row.parsed().unwrap();
        assert_eq!(
            row.metadata["actor"],
            json!(format!("user:{}", ada.user_id))
        );
        assert_eq!(row.metadata["session_id"], session["session"]["id"]);
        assert_eq!(row.metadata["correlation_id"], json!("the-request"));
        let text = format!("{} {}", row.payload, row.metadata);
        assert!(
            !text.contains("203.0.113") && !text.contains("Engine"),
            "{text}"
        );
    }
}

/// A write is answered with its position, and so is a refusal: it was written, too.
#[tokio::test]
async fn the_line_is_in_the_log_before_the_answer_s75() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    for (method, path) in [
        ("GET", "/key"),
        ("POST", "/init"),
        ("GET", "/key"),
        ("DELETE", "/recovery-wrap"),
    ] {
        let answered = app.vault(&ada, method, path, &Value::Null).await;
        let position: i64 = answered.header("x-log-position").parse().unwrap();
        assert_eq!(position, log::head(&app.app.pool).await.unwrap());
    }
    let status = app.vault(&ada, "GET", "/status", &Value::Null).await;
    assert_eq!(status.header("x-log-position"), "");
}
