//! A client of the service, as far as tests need one: it sends, reads answers, signs people up and in.

#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mana_auth::follower;
use mana_auth::store::log;
use reqwest::RequestBuilder;
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use sqlx::Row as _;

use crate::harness::{PATIENCE, TestApp};

/// The password of everybody whose password does not matter.
pub const PASSWORD: &str = "correct horse battery";
/// A page that every development service trusts.
pub const ORIGIN: &str = "http://localhost:5173";
/// Sign-in without a proven address, for tests that are not about proving one.
pub const UNVERIFIED: (&str, &str) = ("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "false");

/// An answer of the service.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body; `null` if it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// A header's text; empty if it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The `Set-Cookie` lines.
    pub fn cookies(&self) -> Vec<&str> {
        let lines = self.headers.get_all("set-cookie").iter();
        lines.map(|line| line.to_str().unwrap()).collect()
    }

    /// Name and value of the session cookie that it sets, as a `Cookie` header; empty if it sets none.
    pub fn session_cookie(&self) -> String {
        let pairs = self
            .cookies()
            .into_iter()
            .map(|line| line.split(';').next().unwrap());
        let mut set = pairs.filter(|pair| pair.contains("session_token=") && !pair.ends_with('='));
        set.next().unwrap_or_default().to_owned()
    }

    /// Status and code, which most refusals are about.
    pub fn refusal(&self) -> (u16, String) {
        let code = self.json()["code"].as_str().unwrap_or_default().to_owned();
        (self.status, code)
    }
}

/// Sends a request; fails if it is not answered in time.
pub async fn answer(request: RequestBuilder) -> Answer {
    let response = request.timeout(PATIENCE).send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        text: response.text().await.unwrap(),
    }
}

/// A live session, as its client knows it.
#[derive(Clone, Debug)]
pub struct Session {
    pub user_id: String,
    pub token: String,
    /// A `Cookie` header.
    pub cookie: String,
}

impl TestApp {
    pub fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.base);
        self.client.request(method.parse().unwrap(), url)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        answer(self.request("POST", path).json(body)).await
    }

    /// With cookies, as from a trusted page.
    pub async fn post_as(&self, path: &str, cookie: &str, body: &Value) -> Answer {
        let request = self.request("POST", path).json(body);
        answer(request.header("cookie", cookie).header("origin", ORIGIN)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.request("GET", path)).await
    }

    pub async fn get_as(&self, path: &str, cookie: &str) -> Answer {
        answer(self.request("GET", path).header("cookie", cookie)).await
    }

    /// Follows a link in a mail: the base URL in it is configured and leads elsewhere.
    pub async fn follow(&self, url: &str) -> Answer {
        let path = url.strip_prefix(&self.app.config.base_url).unwrap();
        self.get(path).await
    }

    /// Signs `<name>@example.com` up.
    pub async fn sign_up(&self, name: &str) -> Answer {
        let email = format!("{name}@example.com");
        let body = json!({"name": name, "email": email, "password": PASSWORD});
        self.post("/api/auth/sign-up/email", &body).await
    }

    /// Signs `<name>@example.com` up and proves the address.
    pub async fn verified(&self, name: &str) -> Answer {
        let signed_up = self.sign_up(name).await;
        assert_eq!(signed_up.status, 200, "{}", signed_up.text);
        let mail = self.wait_for_mail(&format!("{name}@example.com"), 0).await;
        let followed = self.follow(&mail.url.unwrap()).await;
        assert_eq!(followed.status, 302, "{}", followed.text);
        signed_up
    }

    /// Tries to sign `<name>@example.com` in.
    pub async fn try_sign_in(&self, name: &str, password: &str) -> Answer {
        let body = json!({"email": format!("{name}@example.com"), "password": password});
        self.post("/api/auth/sign-in/email", &body).await
    }

    /// Signs `<name>@example.com` in.
    pub async fn sign_in(&self, name: &str) -> Session {
        let answer = self.try_sign_in(name, PASSWORD).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        session_of(&answer)
    }

    /// Signs `<name>@example.com` up, where no proof of the address is asked for, and in.
    pub async fn signed_in(&self, name: &str) -> Session {
        let answer = self.sign_up(name).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        session_of(&answer)
    }

    /// Whether a session cookie is worth anything here.
    pub async fn is_live(&self, cookie: &str) -> bool {
        let answer = self.get_as("/api/auth/get-session", cookie).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        !answer.json().is_null()
    }

    /// A new access token of a session.
    pub async fn jwt(&self, cookie: &str) -> String {
        let answer = self.get_as("/api/auth/token", cookie).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["token"].as_str().unwrap().to_owned()
    }

    /// Rows and digest of every table: equal if and only if nothing changed.
    pub async fn state(&self) -> BTreeMap<String, String> {
        self.followed().await;
        let mut state = BTreeMap::new();
        for table in self.tables().await {
            let digest = format!(
                "select count(*) || ' rows ' || md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from {table} t"
            );
            let row = sqlx::query(&digest).fetch_one(&self.admin).await.unwrap();
            state.insert(table, row.get(0));
        }
        state
    }

    /// Waits until the models that follow the log are where it is.
    pub async fn followed(&self) {
        let head = log::head(&self.admin).await.unwrap();
        for model in follower::models() {
            let reached = follower::wait_for(&self.admin, model.name, head).await;
            reached.unwrap();
        }
    }

    /// Every row of every table as text.
    pub async fn dump(&self) -> String {
        self.followed().await;
        let mut dump = String::new();
        for table in self.tables().await {
            let rows = sqlx::query_scalar::<_, String>(&format!("select t::text from {table} t"))
                .fetch_all(&self.admin)
                .await
                .unwrap();
            dump += &format!("{table}\n{}\n", rows.join("\n"));
        }
        dump
    }

    /// The samples of columns that the planner has kept.
    pub async fn samples(&self) -> String {
        let samples: Vec<String> = sqlx::query_scalar(
            "select t::text from pg_stats t where schemaname in ('public', 'read', 'followers')",
        )
        .fetch_all(&self.admin)
        .await
        .unwrap();
        samples.join("\n")
    }

    pub async fn tables(&self) -> Vec<String> {
        sqlx::query_scalar(
            "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'read')",
        )
        .fetch_all(&self.admin)
        .await
        .unwrap()
    }

    /// How many rows a query finds.
    pub async fn count(&self, from: &str) -> i64 {
        sqlx::query_scalar(&format!("select count(*) from {from}"))
            .fetch_one(&self.admin)
            .await
            .unwrap()
    }

    /// How many mails of a kind went to an address, once every mail has left.
    pub async fn mails_of(&self, kind: &str, to: &str) -> usize {
        self.effects_done().await;
        let mails = self.mails();
        let these = mails
            .iter()
            .filter(|mail| mail.kind == kind && mail.to == to);
        these.count()
    }
}

/// The session that an answer starts.
pub fn session_of(answer: &Answer) -> Session {
    let body = answer.json();
    Session {
        user_id: body["user"]["id"].as_str().unwrap().to_owned(),
        token: body["token"].as_str().unwrap().to_owned(),
        cookie: answer.session_cookie(),
    }
}

/// The token in a mailed link.
pub fn link_token(url: &str) -> &str {
    let token = url.split_once("token=").unwrap().1;
    token.split('&').next().unwrap()
}

/// What a JWT says, unverified.
pub fn claims(jwt: &str) -> Value {
    let payload = jwt.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// The credits service, as far as ours calls it.
pub struct Credits {
    pub url: String,
    calls: Arc<Mutex<Vec<String>>>,
}

impl Credits {
    pub async fn start() -> Credits {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let init = async |State(calls): State<Arc<Mutex<Vec<String>>>>, Json(body): Json<Value>| {
            calls
                .lock()
                .unwrap()
                .push(body["userId"].as_str().unwrap().to_owned());
        };
        let router = Router::new()
            .route("/api/v1/internal/credits/init", post(init))
            .with_state(calls.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Credits { url, calls }
    }

    /// The people for whom it was called.
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }
}
