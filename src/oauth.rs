//! The protocol of other providers: OAuth 2.1 with PKCE, and OpenID Connect where one gives ID tokens. Nothing is kept
//! here, and nobody signed in.

mod answers;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
};
use oauth2::{
    AuthType, AuthorizationCode, Client, ClientId, ClientSecret, EndpointNotSet, EndpointSet,
    HttpRequest, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    StandardRevocableToken, TokenUrl,
};
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value};
use url::Url;

use crate::config::Provider;
use crate::crypto::id_token::{Expected, KeySet};
use crate::crypto::tokens::random_token;
use crate::outgoing::{Outgoing, OutgoingError};
use answers::{Answer, granted};
pub use answers::{Granted, Identity, OAuthError, ProviderTokens, identity};

/// Published keys are read anew after this long.
const KEYS_FOR: TimeDelta = TimeDelta::hours(1);
/// They are read anew for a key that is not among them, but not more often than this.
const KEYS_AT_MOST_EVERY: TimeDelta = TimeDelta::minutes(1);
/// Characters of a nonce.
const NONCE_LENGTH: usize = 32;

/// A sign-in that is about to begin at a provider.
pub struct Authorization {
    /// Where the person goes.
    pub url: Url,
    /// Shows later that it was us who began (PKCE).
    pub verifier: String,
    /// Ties an ID token to this sign-in, where one is given.
    pub nonce: Option<String>,
}

/// What a sign-in at a provider is to be like.
#[derive(Default)]
pub struct Asked {
    /// Scopes beside the configured ones.
    pub scopes: Vec<String>,
    /// Who is probably going to sign in.
    pub login_hint: Option<String>,
    /// Parameters that only the provider knows.
    pub additional: Vec<(String, String)>,
}

impl Asked {
    /// How many bytes of an address it takes, about.
    pub fn size(&self) -> usize {
        let scopes = self.scopes.iter().map(String::len);
        let pairs = self
            .additional
            .iter()
            .map(|(name, value)| name.len() + value.len());
        scopes.chain(pairs).sum()
    }
}

type TokenClient = Client<
    BasicErrorResponse,
    Answer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// The configured providers, and what is remembered of them.
pub struct Providers {
    by_id: BTreeMap<String, Provider>,
    outgoing: Outgoing,
    base_url: String,
    keys: Mutex<HashMap<String, (KeySet, DateTime<Utc>)>>,
}

impl Providers {
    /// Providers that lead back to `base_url`.
    pub fn new(by_id: BTreeMap<String, Provider>, outgoing: Outgoing, base_url: &str) -> Self {
        Self {
            by_id,
            outgoing,
            base_url: base_url.to_owned(),
            keys: Mutex::default(),
        }
    }

    /// The provider with this id.
    pub fn find(&self, id: &str) -> Option<&Provider> {
        self.by_id.get(id)
    }

    fn redirect_url(&self, provider: &Provider) -> String {
        format!("{}/api/auth/callback/{}", self.base_url, provider.id)
    }

    /// Where somebody goes to sign in; `state` leads back to what we keep of it.
    pub fn authorize(&self, provider: &Provider, state: &str, asked: &Asked) -> Authorization {
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = provider
            .jwks_url
            .as_ref()
            .map(|_| random_token(NONCE_LENGTH));
        let mut url = provider.authorize_url.clone();
        // In the order of the original, for those who compare.
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", &provider.client_id)
            .append_pair("state", state)
            .append_pair("scope", &all_scopes(provider, asked).join(" "))
            .append_pair("redirect_uri", &self.redirect_url(provider));
        if let Some(hint) = &asked.login_hint {
            query.append_pair("login_hint", hint);
        }
        query
            .append_pair("code_challenge_method", challenge.method())
            .append_pair("code_challenge", challenge.as_str());
        if let Some(nonce) = &nonce {
            query.append_pair("nonce", nonce);
        }
        query.extend_pairs(&asked.additional);
        drop(query);
        let verifier = verifier.into_secret();
        Authorization {
            url,
            verifier,
            nonce,
        }
    }

    /// Makes tokens of the code that a provider has sent somebody back with.
    ///
    /// # Errors
    /// If the provider does not.
    pub async fn redeem(
        &self,
        provider: &Provider,
        code: &str,
        verifier: &str,
        now: DateTime<Utc>,
    ) -> Result<Granted, OAuthError> {
        let client = self.client(provider)?;
        let request = client
            .exchange_code(AuthorizationCode::new(code.to_owned()))
            .set_pkce_verifier(PkceCodeVerifier::new(verifier.to_owned()));
        granted(request.request_async(&self.outgoing).await, now)
    }

    /// Makes a new access token.
    ///
    /// # Errors
    /// If the provider does not.
    pub async fn refresh(
        &self,
        provider: &Provider,
        refresh_token: &str,
        now: DateTime<Utc>,
    ) -> Result<Granted, OAuthError> {
        let client = self.client(provider)?;
        let refresh_token = RefreshToken::new(refresh_token.to_owned());
        let request = client.exchange_refresh_token(&refresh_token);
        granted(request.request_async(&self.outgoing).await, now)
    }

    fn client(&self, provider: &Provider) -> Result<TokenClient, OAuthError> {
        let no_url = |error: url::ParseError| OAuthError::NoAnswer(error.to_string());
        let token_url = TokenUrl::new(provider.token_url.to_string()).map_err(no_url)?;
        let redirect_url = RedirectUrl::new(self.redirect_url(provider)).map_err(no_url)?;
        let mut client = Client::new(ClientId::new(provider.client_id.clone()))
            .set_token_uri(token_url)
            .set_redirect_uri(redirect_url)
            .set_auth_type(AuthType::RequestBody);
        if let Some(secret) = &provider.client_secret {
            client = client.set_client_secret(ClientSecret::new(secret.expose_secret().to_owned()));
        }
        Ok(client)
    }

    /// Who the holder of tokens is that the provider gave just now, for the sign-in with this nonce.
    ///
    /// # Errors
    /// If the provider does not say so, or the ID token is not one for us and this sign-in.
    pub async fn identify(
        &self,
        provider: &Provider,
        tokens: &ProviderTokens,
        nonce: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Identity, OAuthError> {
        let mut data = Map::new();
        if provider.jwks_url.is_some() {
            let token = tokens.id_token.as_deref().ok_or(OAuthError::NoIdToken)?;
            data = self.verified(provider, token, nonce, now).await?;
        }
        if provider.userinfo_url.is_some() {
            let told = self.userinfo(provider, tokens).await?;
            // An answer about somebody else must not be mixed in (OpenID Connect Core 1.0 section 5.3.2).
            if !data.is_empty() && data.get("sub") != told.get("sub") {
                return Err(OAuthError::NoIdToken);
            }
            data.extend(told);
        }
        identity(data)
    }

    /// Who an ID token is about that a client has got by itself. With a nonce in it, the client has to know it.
    ///
    /// # Errors
    /// If it is not one for us.
    pub async fn identify_by_token(
        &self,
        provider: &Provider,
        token: &str,
        nonce: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Identity, OAuthError> {
        identity(self.verified(provider, token, nonce, now).await?)
    }

    /// What the provider says of the holder of an access token.
    ///
    /// # Errors
    /// If it says nothing.
    pub async fn userinfo(
        &self,
        provider: &Provider,
        tokens: &ProviderTokens,
    ) -> Result<Map<String, Value>, OAuthError> {
        let (Some(url), Some(token)) = (&provider.userinfo_url, &tokens.access_token) else {
            return Err(OAuthError::Refused);
        };
        let mut request = oauth2::http::Request::get(url.as_str()).body(Vec::new());
        if let Ok(request) = &mut request {
            let bearer = oauth2::http::HeaderValue::from_str(&format!("Bearer {token}"));
            let mut bearer = bearer.map_err(|_| OAuthError::Refused)?;
            bearer.set_sensitive(true);
            request.headers_mut().insert("authorization", bearer);
        }
        let body = self.get(request.map_err(OutgoingError::from)?).await?;
        serde_json::from_slice(&body).map_err(|_| OAuthError::NoAnswer("no JSON object".to_owned()))
    }

    async fn get(&self, mut request: HttpRequest) -> Result<Vec<u8>, OAuthError> {
        let json = oauth2::http::HeaderValue::from_static("application/json");
        request.headers_mut().insert("accept", json);
        let answer = self.outgoing.send(request).await?;
        if answer.status().is_success() {
            Ok(answer.into_body())
        } else {
            Err(OAuthError::Refused)
        }
    }

    async fn verified(
        &self,
        provider: &Provider,
        token: &str,
        nonce: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<Map<String, Value>, OAuthError> {
        let (Some(issuer), Some(url)) = (&provider.issuer, &provider.jwks_url) else {
            return Err(OAuthError::NoIdToken);
        };
        let keys = self.keys_for(provider, url, token, now).await?;
        let expected = Expected {
            issuer,
            client_id: &provider.client_id,
            now: now.timestamp(),
        };
        let claims = keys
            .verify(token, &expected)
            .map_err(|_| OAuthError::NoIdToken)?;
        if claims.get("nonce").and_then(Value::as_str) != nonce {
            return Err(OAuthError::OtherSignIn);
        }
        Ok(claims)
    }

    async fn keys_for(
        &self,
        provider: &Provider,
        url: &Url,
        token: &str,
        now: DateTime<Utc>,
    ) -> Result<KeySet, OAuthError> {
        let known = self.lock().get(&provider.id).cloned();
        if let Some((keys, since)) = known {
            let age = now - since;
            if age < KEYS_FOR && (keys.knows(token) || age < KEYS_AT_MOST_EVERY) {
                return Ok(keys);
            }
        }
        let request = oauth2::http::Request::get(url.as_str()).body(Vec::new());
        let body = self.get(request.map_err(OutgoingError::from)?).await?;
        let keys =
            KeySet::parse(&body).ok_or_else(|| OAuthError::NoAnswer("no keys".to_owned()))?;
        self.lock().insert(provider.id.clone(), (keys.clone(), now));
        Ok(keys)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, (KeySet, DateTime<Utc>)>> {
        self.keys.lock().expect("nothing panics while it is held")
    }
}

/// The scopes that a sign-in asks for.
pub fn all_scopes(provider: &Provider, asked: &Asked) -> Vec<String> {
    let mut scopes = asked.scopes.clone();
    scopes.extend(provider.scopes.iter().cloned());
    scopes
}
