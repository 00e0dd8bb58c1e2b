//! The ceremonies of passkeys: their challenges, and reading what browsers answer.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::TimeDelta;
use serde::Deserialize;
use serde_json::Value;

use super::PasskeyError;
use crate::accounts::AccountError;
use crate::app::App;
use crate::crypto::tokens::{TokenKind, random_token, random_url_text};
use crate::crypto::webauthn::{Asserted, Expected, Fault, Registered};
use crate::effects;
use crate::tokens::{self, NewToken};

/// A ceremony has to end within this time.
pub const CEREMONY_FOR: TimeDelta = TimeDelta::minutes(5);
/// Whom the ceremonies of whoever comes belong to: the service itself, which has a data key like people have.
pub(super) const WHOEVER: &str = effects::REQUESTS;
/// Length of a ceremony's id, in characters.
const ID_LENGTH: usize = 32;
/// How an authenticator may be reached (WebAuthn section 5.8.4, and `cable`, as `hybrid` was called).
const TRANSPORTS: [&str; 7] = [
    "ble",
    "cable",
    "hybrid",
    "internal",
    "nfc",
    "smart-card",
    "usb",
];

/// A ceremony that has begun.
pub struct Ceremony {
    /// For the client's cookie.
    pub id: String,
    /// To be signed, base64url.
    pub challenge: String,
}

/// Begins a ceremony: for a person, or for whoever comes.
///
/// # Errors
/// When it cannot be written.
pub async fn begin(
    app: &App,
    kind: TokenKind,
    user_id: Option<&str>,
) -> Result<Ceremony, AccountError> {
    let id = random_url_text(ID_LENGTH);
    let challenge = challenge_of(app, kind, &id);
    let until = app.clock.now() + CEREMONY_FOR;
    NewToken::of(kind, &id, user_id.unwrap_or(WHOEVER), None, until)
        .keep(&app.pool, app.store.custody())
        .await?;
    Ok(Ceremony { id, challenge })
}

fn challenge_of(app: &App, kind: TokenKind, id: &str) -> String {
    URL_SAFE_NO_PAD.encode(app.keyed_hash(&["passkey challenge", kind.label(), id]))
}

/// Uses a ceremony up: its challenge, and whom it is for.
pub(super) async fn end(
    app: &App,
    kind: TokenKind,
    ceremony: Option<&str>,
) -> Result<(String, String), PasskeyError> {
    let id = ceremony.ok_or(PasskeyError::NoChallenge)?;
    let user_id = tokens::take(&app.pool, kind, id, app.clock.now()).await?;
    let user_id = user_id.ok_or(PasskeyError::NoChallenge)?;
    Ok((challenge_of(app, kind, id), user_id))
}

fn expected<'a>(app: &'a App, challenge: &'a str) -> Expected<'a> {
    let settings = &app.config.passkeys;
    Expected {
        challenge,
        rp_id: &settings.rp_id,
        origins: &settings.origins,
        user_verification: settings.user_verification,
    }
}

/// An id for the person that a new passkey keeps; it is never asked for.
pub fn user_handle() -> String {
    URL_SAFE_NO_PAD.encode(random_token(ID_LENGTH))
}

/// What a browser sends in both ceremonies (WebAuthn section 5.1).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<R> {
    id: String,
    raw_id: String,
    #[serde(rename = "type")]
    kind: String,
    response: R,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attestation {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    attestation_object: String,
    #[serde(default)]
    transports: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Assertion {
    #[serde(rename = "clientDataJSON")]
    client_data: String,
    authenticator_data: String,
    signature: String,
}

impl<R: for<'de> Deserialize<'de>> Answer<R> {
    fn read(response: &Value) -> Option<Self> {
        let answer = Self::deserialize(response).ok()?;
        (answer.kind == "public-key" && answer.id == answer.raw_id).then_some(answer)
    }
}

fn bytes(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn not_verified(fault: Fault) -> PasskeyError {
    tracing::debug!(reason = %fault, "a passkey is refused");
    PasskeyError::NotVerified
}

/// Checks the answer to a request to make a passkey; gives it, and how its authenticator is reached.
pub(super) fn registered(
    app: &App,
    challenge: &str,
    response: &Value,
) -> Result<(Registered, Vec<String>), PasskeyError> {
    let read = || {
        let answer = Answer::<Attestation>::read(response)?;
        let client_data = bytes(&answer.response.client_data)?;
        let object = bytes(&answer.response.attestation_object)?;
        Some((answer, client_data, object))
    };
    let (answer, client_data, object) = read().ok_or(PasskeyError::NotVerified)?;
    let registered = expected(app, challenge)
        .registered(&client_data, &object)
        .map_err(not_verified)?;
    if bytes(&answer.id).as_ref() != Some(&registered.credential_id) {
        return Err(PasskeyError::NotVerified);
    }
    // In the order in which the browser prefers them.
    let mut transports: Vec<String> = vec![];
    for shown in answer.response.transports.unwrap_or_default() {
        if TRANSPORTS.contains(&shown.as_str()) && !transports.contains(&shown) {
            transports.push(shown);
        }
    }
    Ok((registered, transports))
}

/// Checks the answer to a request to sign with a passkey whose key, in base64, is known.
pub(super) fn asserted(
    app: &App,
    challenge: &str,
    public_key: &str,
    response: &Value,
) -> Result<Asserted, PasskeyError> {
    let read = || {
        let answer = Answer::<Assertion>::read(response)?.response;
        let key = STANDARD.decode(public_key).ok()?;
        let client_data = bytes(&answer.client_data)?;
        let data = bytes(&answer.authenticator_data)?;
        Some((key, client_data, data, bytes(&answer.signature)?))
    };
    let (key, client_data, data, signature) = read().ok_or(PasskeyError::NotVerified)?;
    expected(app, challenge)
        .asserted(&key, &client_data, &data, &signature)
        .map_err(not_verified)
}
