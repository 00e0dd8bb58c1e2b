//! The protocol of other providers: OAuth 2.1 with PKCE, and OpenID Connect where one gives ID tokens. Nothing is kept
//! here, and nobody signed in.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;

use chrono::{DateTime, TimeDelta, Utc};
use oauth2::basic::{
    BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse,
    BasicTokenType,
};
use oauth2::{
    AuthType, AuthorizationCode, Client, ClientId, ClientSecret, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RefreshToken,
    RequestTokenError, StandardRevocableToken, StandardTokenResponse, TokenResponse as _, TokenUrl,
};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;
use zeroize::Zeroizing;

use crate::config::Provider;
use crate::crypto::id_token::{Expected, KeySet};
use crate::crypto::tokens::random_token;
use crate::custody::{Custody, CustodyChange, kind};
use crate::outgoing::{Outgoing, OutgoingError};

/// Published keys are read anew after this long.
const KEYS_FOR: TimeDelta = TimeDelta::hours(1);
/// They are read anew for a key that is not among them, but not more often than this.
const KEYS_AT_MOST_EVERY: TimeDelta = TimeDelta::minutes(1);
/// Characters of a nonce.
const NONCE_LENGTH: usize = 32;

/// Why a provider has not said what we wanted to know.
#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    /// It does not answer, or with something else than the protocol has.
    #[error("the provider does not answer as it should: {0}")]
    NoAnswer(String),
    /// It refuses.
    #[error("the provider refuses")]
    Refused,
    /// Its ID token is missing, or not one for us.
    #[error("there is no good ID token")]
    NoIdToken,
    /// Its ID token does not belong to the sign-in that was begun.
    #[error("the ID token belongs to another sign-in")]
    OtherSignIn,
}

impl From<OutgoingError> for OAuthError {
    fn from(error: OutgoingError) -> Self {
        Self::NoAnswer(error.to_string())
    }
}

/// What a provider has given us for somebody; kept in custody alone, so there is no `Debug`.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct ProviderTokens {
    /// Shows that we may ask.
    pub access_token: Option<String>,
    /// Makes new access tokens.
    pub refresh_token: Option<String>,
    /// The last ID token.
    pub id_token: Option<String>,
    /// When the access token ends, if that is known.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the refresh token ends, if that is known.
    pub refresh_expires_at: Option<DateTime<Utc>>,
}

impl ProviderTokens {
    /// The tokens as the secret of a link.
    pub fn put(&self, custody: &Custody, user_id: &str, link_id: &str) -> CustodyChange {
        custody.put(kind::PROVIDER_TOKENS, user_id, link_id, &self.bytes())
    }

    /// What is kept in custody.
    pub fn bytes(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(serde_json::to_vec(self).expect("tokens are plain texts and times"))
    }

    /// The same with what only `older` ones have: providers do not send a refresh token each time.
    pub fn or(self, older: Self) -> Self {
        let keeps = self.refresh_token.is_none();
        Self {
            access_token: self.access_token.or(older.access_token),
            refresh_token: self.refresh_token.or(older.refresh_token),
            id_token: self.id_token.or(older.id_token),
            expires_at: self.expires_at,
            refresh_expires_at: if keeps {
                older.refresh_expires_at
            } else {
                self.refresh_expires_at
            },
        }
    }
}

/// Tokens, and what they allow.
pub struct Granted {
    /// The tokens.
    pub tokens: ProviderTokens,
    /// What they allow, if the provider says so.
    pub scopes: Option<Vec<String>>,
}

/// Who somebody is at a provider.
pub struct Identity {
    /// Their id there.
    pub subject: String,
    /// Their mail address, as the provider writes it.
    pub email: Option<String>,
    /// Whether the provider says that the address is theirs.
    pub email_verified: bool,
    /// Their name, or nothing.
    pub name: String,
    /// The address of a picture.
    pub image: Option<String>,
    /// All that it says.
    pub data: Map<String, Value>,
}

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

/// What is in the answers of token endpoints beside what OAuth has.
#[derive(Debug, Serialize, Deserialize)]
struct Extra {
    id_token: Option<String>,
    refresh_token_expires_in: Option<i64>,
}

impl ExtraTokenFields for Extra {}

type Answer = StandardTokenResponse<Extra, BasicTokenType>;
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

fn granted<E: std::error::Error>(
    answer: Result<Answer, RequestTokenError<E, BasicErrorResponse>>,
    now: DateTime<Utc>,
) -> Result<Granted, OAuthError> {
    let answer = answer.map_err(|error| match error {
        RequestTokenError::ServerResponse(_) => OAuthError::Refused,
        RequestTokenError::Request(error) => OAuthError::NoAnswer(error.to_string()),
        // Neither is shown: what cannot be read may still hold a token.
        RequestTokenError::Parse(..) | RequestTokenError::Other(_) => {
            OAuthError::NoAnswer("not what a token endpoint answers".to_owned())
        }
    })?;
    let after = |secs: i64| now.checked_add_signed(TimeDelta::try_seconds(secs)?);
    let extra = answer.extra_fields();
    let lasts = answer
        .expires_in()
        .and_then(|time| i64::try_from(time.as_secs()).ok());
    Ok(Granted {
        tokens: ProviderTokens {
            access_token: Some(answer.access_token().secret().clone()),
            refresh_token: answer.refresh_token().map(|token| token.secret().clone()),
            id_token: extra.id_token.clone(),
            expires_at: lasts.and_then(after),
            refresh_expires_at: extra.refresh_token_expires_in.and_then(after),
        },
        scopes: answer
            .scopes()
            .map(|scopes| scopes.iter().map(|scope| scope.to_string()).collect()),
    })
}

/// Who is meant by the claims of OpenID Connect, or by what providers without it call the same.
pub fn identity(data: Map<String, Value>) -> Result<Identity, OAuthError> {
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let subject = match data.get("sub").or_else(|| data.get("id")) {
        Some(Value::String(subject)) if !subject.is_empty() => subject.clone(),
        Some(Value::Number(subject)) => subject.to_string(),
        _ => return Err(OAuthError::Refused),
    };
    Ok(Identity {
        subject,
        email: text("email"),
        // Some write it as text.
        email_verified: match data.get("email_verified") {
            Some(Value::Bool(verified)) => *verified,
            Some(Value::String(verified)) => verified == "true",
            _ => false,
        },
        name: text("name").unwrap_or_default(),
        image: text("picture"),
        data,
    })
}
