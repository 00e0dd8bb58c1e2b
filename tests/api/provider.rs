//! Another provider, as far as sign-in by it needs one: it hands out codes and tokens, and says who somebody is.

#![cfg(test)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use mana_auth::crypto::jwt::{SigningKey32, jwk, sign_access};
use mana_auth::crypto::tokens::random_token;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use url::Url;

/// What it calls itself.
pub const ISSUER: &str = "https://fake.example";
/// What it calls us.
pub const CLIENT_ID: &str = "fake-client";
/// What it knows us by.
pub const CLIENT_SECRET: &str = "fake-secret-that-nobody-else-knows";
/// Where it sends people first.
pub const AUTHORIZE_URL: &str = "https://fake.example/authorize";
const SCOPES: &str = "openid email profile";

/// The provider.
pub struct FakeProvider {
    /// Where the service reaches it.
    pub url: String,
    world: Arc<World>,
}

struct World {
    key: SigningKey32,
    state: Mutex<Known>,
}

/// What it knows, and how it behaves.
#[derive(Default)]
pub struct Known {
    codes: BTreeMap<String, Grant>,
    access: BTreeMap<String, Grant>,
    refresh: BTreeMap<String, Grant>,
    /// Answers nothing but 503 at these paths.
    pub down: Vec<&'static str>,
    /// Leaves ID tokens out, or says this in them instead.
    pub id_token: Option<BTreeMap<&'static str, Value>>,
    /// Says this instead where it is asked who somebody is.
    pub userinfo: Option<Value>,
    /// How long access tokens last, in seconds; an hour if nothing is said.
    pub lasts_secs: Option<i64>,
    /// The paths that were called.
    pub calls: Vec<String>,
}

#[derive(Clone)]
struct Grant {
    claims: Value,
    challenge: String,
    nonce: Option<String>,
    now: DateTime<Utc>,
}

/// A person of the provider.
pub fn person(subject: &str, email: &str, verified: bool) -> Value {
    json!({"sub": subject, "email": email, "name": "Fake User", "email_verified": verified, "emailVerified": verified})
}

impl FakeProvider {
    pub async fn start() -> FakeProvider {
        let world = Arc::new(World {
            key: SigningKey32::generate(),
            state: Mutex::default(),
        });
        let known = Known {
            id_token: Some(BTreeMap::new()),
            ..Known::default()
        };
        *world.state.lock().unwrap() = known;
        let router = Router::new()
            .route("/token", post(token))
            .route("/userinfo", get(userinfo))
            .route("/jwks", get(keys))
            .with_state(world.clone());
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the test's runtime.
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        FakeProvider { url, world }
    }

    /// Looks at or changes what it knows.
    pub fn with<T>(&self, work: impl FnOnce(&mut Known) -> T) -> T {
        work(&mut self.world.state.lock().unwrap())
    }

    /// Settings of a service that knows it by `id`: with `oidc` by ID tokens, else by asking it.
    pub fn settings(&self, id: &str, oidc: bool) -> Vec<(String, String)> {
        let mut settings = vec![
            ("CLIENT_ID", CLIENT_ID.to_owned()),
            ("CLIENT_SECRET", CLIENT_SECRET.to_owned()),
            ("AUTHORIZE_URL", AUTHORIZE_URL.to_owned()),
            ("TOKEN_URL", format!("{}/token", self.url)),
        ];
        if oidc {
            settings.push(("ISSUER", ISSUER.to_owned()));
            settings.push(("JWKS_URL", format!("{}/jwks", self.url)));
        } else {
            settings.push(("USERINFO_URL", format!("{}/userinfo", self.url)));
        }
        let name = |(field, value)| {
            let name = format!("MANA_AUTH_SOCIAL_{}_{field}", id.to_uppercase());
            (name, value)
        };
        settings.into_iter().map(name).collect()
    }

    /// Somebody follows an address to it, agrees, and is sent back with a code.
    pub fn consent(&self, url: &str, claims: Value, now: DateTime<Utc>) -> String {
        let url = Url::parse(url).unwrap();
        let query: BTreeMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(query["response_type"], "code");
        assert_eq!(query["client_id"], CLIENT_ID);
        assert_eq!(query["code_challenge_method"], "S256");
        let grant = Grant {
            claims,
            challenge: query["code_challenge"].clone(),
            nonce: query.get("nonce").cloned(),
            now,
        };
        let code = random_token(24);
        self.with(|known| known.codes.insert(code.clone(), grant));
        code
    }

    /// An ID token as it would sign it.
    pub fn id_token(&self, claims: &Value) -> String {
        sign_access(claims, "k1", &self.world.key)
    }
}

type Answer = Result<Json<Value>, StatusCode>;

impl World {
    fn called(&self, path: &str) -> Result<(), StatusCode> {
        let mut known = self.state.lock().unwrap();
        known.calls.push(path.to_owned());
        if known.down.contains(&path) {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        Ok(())
    }

    fn granted(&self, grant: Grant) -> Value {
        let mut known = self.state.lock().unwrap();
        let (access, refresh) = (random_token(40), random_token(40));
        known.access.insert(access.clone(), grant.clone());
        known.refresh.insert(refresh.clone(), grant.clone());
        let mut answer = json!({
            "access_token": access, "refresh_token": refresh, "token_type": "Bearer", "scope": SCOPES,
            "expires_in": known.lasts_secs.unwrap_or(3600),
        });
        // As the original's fake: plain OAuth gives none.
        let (Some(changes), Some(nonce)) = (&known.id_token, &grant.nonce) else {
            return answer;
        };
        let mut claims = grant.claims;
        let now = grant.now.timestamp();
        for (name, value) in [
            ("iss", json!(ISSUER)),
            ("aud", json!(CLIENT_ID)),
            ("nonce", json!(nonce)),
            ("iat", json!(now)),
            ("exp", json!(now + 300)),
        ] {
            claims[name] = changes.get(name).cloned().unwrap_or(value);
        }
        answer["id_token"] = json!(sign_access(&claims, "k1", &self.key));
        answer
    }
}

async fn token(State(world): State<Arc<World>>, body: String) -> Answer {
    let form: BTreeMap<_, _> = form_urlencoded::parse(body.as_bytes())
        .into_owned()
        .collect();
    world.called("/token")?;
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    if (field("client_id"), field("client_secret")) != (CLIENT_ID, CLIENT_SECRET) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let grant = match field("grant_type") {
        "authorization_code" => {
            let grant = world.state.lock().unwrap().codes.remove(field("code"));
            let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(field("code_verifier")));
            grant.filter(|grant| grant.challenge == challenge)
        }
        "refresh_token" => {
            let mut known = world.state.lock().unwrap();
            let grant = known.refresh.remove(field("refresh_token"));
            grant.map(|grant| Grant {
                nonce: None,
                ..grant
            })
        }
        _ => None,
    };
    let grant = grant.ok_or(StatusCode::BAD_REQUEST)?;
    Ok(Json(world.granted(grant)))
}

async fn userinfo(State(world): State<Arc<World>>, headers: HeaderMap) -> Answer {
    world.called("/userinfo")?;
    let known = world.state.lock().unwrap();
    let bearer = headers
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer "));
    let grant = token.and_then(|token| known.access.get(token));
    let grant = grant.ok_or(StatusCode::UNAUTHORIZED)?;
    Ok(Json(
        known
            .userinfo
            .clone()
            .unwrap_or_else(|| grant.claims.clone()),
    ))
}

async fn keys(State(world): State<Arc<World>>) -> Answer {
    world.called("/jwks")?;
    let key = jwk("k1", &world.key.public_key());
    Ok(Json(json!({"keys": [key]})))
}
