//! What providers answer: tokens, what they allow, and who somebody is.

use chrono::{DateTime, TimeDelta, Utc};
use oauth2::basic::{BasicErrorResponse, BasicTokenType};
use oauth2::{ExtraTokenFields, RequestTokenError, StandardTokenResponse, TokenResponse as _};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::custody::{Custody, CustodyChange, kind};
use crate::outgoing::OutgoingError;

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
        Self::NoAnswer(error.in_full())
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
        // An end belongs to its token.
        let (access_token, expires_at) = match self.access_token {
            Some(token) => (Some(token), self.expires_at),
            None => (older.access_token, older.expires_at),
        };
        let (refresh_token, refresh_expires_at) = match self.refresh_token {
            Some(token) => (Some(token), self.refresh_expires_at),
            None => (older.refresh_token, older.refresh_expires_at),
        };
        Self {
            access_token,
            refresh_token,
            id_token: self.id_token.or(older.id_token),
            expires_at,
            refresh_expires_at,
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

/// What is in the answers of token endpoints beside what OAuth has.
#[derive(Debug, Serialize, Deserialize)]
pub struct Extra {
    id_token: Option<String>,
    refresh_token_expires_in: Option<i64>,
}

impl ExtraTokenFields for Extra {}

/// The answer of a token endpoint.
pub type Answer = StandardTokenResponse<Extra, BasicTokenType>;
/// The tokens of an answer.
///
/// # Errors
/// If it is none that grants anything.
pub fn granted(
    answer: Result<Answer, RequestTokenError<OutgoingError, BasicErrorResponse>>,
    now: DateTime<Utc>,
) -> Result<Granted, OAuthError> {
    let answer = answer.map_err(|error| match error {
        RequestTokenError::ServerResponse(_) => OAuthError::Refused,
        RequestTokenError::Request(error) => error.into(),
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
