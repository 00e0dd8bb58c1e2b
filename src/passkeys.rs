//! Passkeys: adding one to an account, signing in with one, and looking after them.
//!
//! A ceremony has an id that its client holds in a signed cookie. The server keeps the hash of that id as a token of the
//! ceremony's kind, and of the person it is for; the challenge is made of the id with the service's root secret. A try uses
//! the token up in one write, whatever comes of it, so no challenge is signed twice or in the other ceremony (S-54).

mod ceremony;

use aggregates::session::SignInMethod;
use aggregates::user::{User, UserCommand, UserError};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use projections::passkeys::{self as rows, Key, PasskeyRow};
use projections::users::UserRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use ceremony::{CEREMONY_FOR, Ceremony, begin, user_handle};

use crate::accounts::{AccountError, Caller, Proof};
use crate::app::App;
use crate::crypto::tokens::TokenKind;
use crate::crypto::webauthn::{Asserted, Registered};
use crate::custody::still_there;
use crate::door_log::{self, Tried};
use crate::guard;
use crate::ids;
use crate::links;
use crate::mail::MailKind;
use crate::store::{Actor, Context, RunError, StoreError};

/// Longest id of a passkey, in characters: 1,023 bytes in base64url (WebAuthn section 5.8.5).
const ID_MAX: usize = 1364;

/// Why a passkey is not added, does not sign in, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum PasskeyError {
    /// No ceremony waits for this answer.
    #[error("no challenge was given, or it was used")]
    NoChallenge,
    /// The ceremony was begun by somebody else.
    #[error("the challenge was for somebody else")]
    NotYours,
    /// Nobody has this passkey.
    #[error("there is no such passkey")]
    NotFound,
    /// The answer is not what was expected, or the passkey is taken.
    #[error("the passkey was not verified")]
    NotVerified,
    /// The account has as many as it may have.
    #[error("the account has too many passkeys")]
    TooMany,
    /// Another reason.
    #[error(transparent)]
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for PasskeyError {
    fn from(error: E) -> Self {
        Self::Account(error.into())
    }
}

/// What is known of a passkey from its registration: public, and kept in its event as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credential {
    /// As COSE has it, base64.
    pub public_key: String,
    /// How often it was used by then.
    pub counter: u32,
    /// Whether it may be copied to other devices.
    pub backup_eligible: bool,
    /// Whether it was by then.
    pub backed_up: bool,
    /// How its authenticator is reached.
    pub transports: Vec<String>,
    /// What kind of authenticator it is in, as a UUID.
    pub aaguid: String,
}

impl Credential {
    fn of(registered: &Registered, transports: Vec<String>) -> Self {
        Self {
            public_key: STANDARD.encode(&registered.public_key),
            counter: registered.counter,
            backup_eligible: registered.flags.backup_eligible,
            backed_up: registered.flags.backed_up,
            transports,
            aaguid: uuid::Uuid::from_bytes(registered.aaguid).to_string(),
        }
    }

    fn read(row: &PasskeyRow) -> Result<Self, StoreError> {
        serde_json::from_str(&row.credential)
            .map_err(|_| StoreError::Broken("a passkey's credential has another form".to_owned()))
    }
}

/// A passkey and how it was used.
pub struct Passkey {
    /// Whose it is, and how it is called.
    pub row: PasskeyRow,
    /// What is known of it.
    pub credential: Credential,
    /// How often it was used.
    pub counter: i64,
    /// When it last was.
    pub used_at: Option<DateTime<Utc>>,
}

/// Adds a passkey to the account of somebody who has proven to have it.
///
/// # Errors
/// If they have not, or it cannot be written.
pub async fn register(
    app: &App,
    user: &UserRow,
    ceremony: Option<&str>,
    response: &Value,
    name: Option<String>,
    caller: &Caller,
) -> Result<Passkey, PasskeyError> {
    let (challenge, of) = ceremony::end(app, TokenKind::PasskeyRegistration, ceremony).await?;
    if of != user.id {
        return Err(PasskeyError::NotYours);
    }
    let (registered, transports) = ceremony::registered(app, &challenge, response)?;
    let credential_id = URL_SAFE_NO_PAD.encode(&registered.credential_id);
    let credential = Credential::of(&registered, transports);
    let row = PasskeyRow {
        id: ids::passkey(),
        user_id: user.id.clone(),
        credential_id: credential_id.clone(),
        credential: serde_json::to_string(&credential).expect("it is plain JSON"),
        name: name.clone(),
        created_at: app.clock.now(),
    };
    let command = UserCommand::AddPasskey {
        passkey_id: row.id.clone(),
        credential_id,
        credential: row.credential.clone(),
        name,
        at: row.created_at,
    };
    run(app, &user.id, command, by_owner(&user.id, caller)).await?;
    Ok(Passkey {
        counter: i64::from(credential.counter),
        row,
        credential,
        used_at: None,
    })
}

fn by_owner(user_id: &str, caller: &Caller) -> Context {
    caller.context_about(Actor::User(user_id.to_owned()), user_id)
}

async fn run(
    app: &App,
    user_id: &str,
    command: UserCommand,
    context: Context,
) -> Result<(), PasskeyError> {
    match app.store.run::<User>(user_id, command, context).await {
        Ok(_) => Ok(()),
        Err(RunError::Refused(UserError::NoSuchPasskey)) => Err(PasskeyError::NotFound),
        Err(RunError::Refused(UserError::TooManyPasskeys)) => Err(PasskeyError::TooMany),
        // Whether it is somebody else's is nobody's business.
        Err(
            RunError::Refused(UserError::PasskeyKnown) | RunError::Store(StoreError::ClaimTaken(_)),
        ) => Err(PasskeyError::NotVerified),
        Err(error) => Err(error.into()),
    }
}

/// Checks the passkey of somebody who wants to sign in: the person, and the proof that a session may start with. One that
/// has verified its person counts as both factors (S-55).
///
/// # Errors
/// If it proves nothing, or was tried too often in vain.
pub async fn sign_in(
    app: &App,
    ceremony: Option<&str>,
    response: &Value,
    caller: &Caller,
) -> Result<(UserRow, Proof), PasskeyError> {
    // What is no id of any passkey counts as none.
    let is_id = |id: &&str| id.len() <= ID_MAX && id.bytes().all(is_base64url);
    let id = response["id"].as_str().filter(is_id).unwrap_or_default();
    let attempt = guard::admit_passkey(app, id).await?;
    let passkey = match rows::find(&app.pool, Key::CredentialId(id)).await {
        Ok(passkey) => passkey,
        Err(error) => {
            attempt.withdrawn(app).await?;
            return Err(error.into());
        }
    };
    match check(app, passkey.as_ref(), ceremony, response, caller).await {
        Ok(found) => {
            attempt.succeeded(app).await?;
            Ok(found)
        }
        Err(PasskeyError::Account(error)) => {
            attempt.withdrawn(app).await?;
            Err(error.into())
        }
        Err(error) => {
            attempt.failed(app).await?;
            write_failure(app, id, passkey.as_ref(), caller).await?;
            Err(error)
        }
    }
}

/// Writes down that a passkey was tried in vain, before anybody is answered.
async fn write_failure(
    app: &App,
    credential_id: &str,
    passkey: Option<&PasskeyRow>,
    caller: &Caller,
) -> Result<(), PasskeyError> {
    let (tried, code) = (Tried::PasskeyLoginFailure, "PASSKEY_VERIFICATION_FAILED");
    let user_id = passkey.map(|passkey| passkey.user_id.as_str());
    door_log::write(app, tried, credential_id, user_id, code, caller).await?;
    Ok(())
}

async fn check(
    app: &App,
    passkey: Option<&PasskeyRow>,
    ceremony: Option<&str>,
    response: &Value,
    caller: &Caller,
) -> Result<(UserRow, Proof), PasskeyError> {
    let (challenge, of) = ceremony::end(app, TokenKind::PasskeySignIn, ceremony).await?;
    let passkey = passkey.ok_or(PasskeyError::NotFound)?;
    if of != ceremony::WHOEVER && of != passkey.user_id {
        return Err(PasskeyError::NotVerified);
    }
    let credential = Credential::read(passkey)?;
    let Asserted { counter, flags } =
        ceremony::asserted(app, &challenge, &credential.public_key, response)?;
    if let Some(known) = went_back(app, passkey, credential.counter, counter).await? {
        let command = UserCommand::ReportPasskeyCounter {
            passkey_id: passkey.id.clone(),
            known,
            shown: counter,
            at: app.clock.now(),
        };
        let context = by_owner(&passkey.user_id, caller);
        run(app, &passkey.user_id, command, context).await?;
        return Err(PasskeyError::NotVerified);
    }
    let user = projections::users::find(&app.pool, &passkey.user_id).await?;
    let user = user.ok_or(PasskeyError::NotFound)?;
    let proof = Proof {
        second_factor: flags.user_verified,
        ..Proof::by(SignInMethod::Passkey)
    };
    Ok((user, proof))
}

/// Notes that a passkey was used, unless its count is not higher than before: then there may be a copy of it, and this
/// gives the count that was known. Authenticators that do not count always show 0.
async fn went_back(
    app: &App,
    passkey: &PasskeyRow,
    registered: u32,
    shown: u32,
) -> Result<Option<u32>, sqlx::Error> {
    if shown <= registered && (shown, registered) != (0, 0) {
        return Ok(Some(registered));
    }
    let noted = sqlx::query(&format!(
        "insert into passkey_uses as u (passkey_id, user_id, counter, used_at) select $1, $2, $3, $4 where {}
         on conflict (passkey_id) do update set counter = excluded.counter, used_at = excluded.used_at
         where u.counter < excluded.counter or (u.counter = 0 and excluded.counter = 0)",
        still_there("$2")
    ))
    .bind(&passkey.id)
    .bind(&passkey.user_id)
    .bind(i64::from(shown))
    .bind(app.clock.now())
    .execute(&app.pool)
    .await?;
    if noted.rows_affected() == 1 {
        return Ok(None);
    }
    let known: Option<i64> =
        sqlx::query_scalar("select counter from passkey_uses where passkey_id = $1")
            .bind(&passkey.id)
            .fetch_optional(&app.pool)
            .await?;
    Ok(Some(
        known
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(registered),
    ))
}

/// A person's passkeys, oldest first.
///
/// # Errors
/// When the database does not answer.
pub async fn list(app: &App, user_id: &str) -> Result<Vec<Passkey>, PasskeyError> {
    let rows = rows::of_user(&app.pool, user_id).await?;
    let uses: Vec<(String, i64, DateTime<Utc>)> =
        sqlx::query_as("select passkey_id, counter, used_at from passkey_uses where user_id = $1")
            .bind(user_id)
            .fetch_all(&app.pool)
            .await?;
    rows.into_iter()
        .map(|row| {
            let credential = Credential::read(&row)?;
            let used = uses.iter().find(|(id, ..)| *id == row.id);
            Ok(Passkey {
                counter: used.map_or(i64::from(credential.counter), |(_, counter, _)| *counter),
                used_at: used.map(|(.., used_at)| *used_at),
                row,
                credential,
            })
        })
        .collect()
}

/// Gives a passkey another name.
///
/// # Errors
/// `NotFound`, `NotYours`, or it cannot be written.
pub async fn rename(
    app: &App,
    user_id: &str,
    id: &str,
    name: String,
    caller: &Caller,
) -> Result<Passkey, PasskeyError> {
    own(app, user_id, id).await?;
    let command = UserCommand::RenamePasskey {
        passkey_id: id.to_owned(),
        name,
        at: app.clock.now(),
    };
    run(app, user_id, command, by_owner(user_id, caller)).await?;
    let mut passkeys = list(app, user_id).await?.into_iter();
    passkeys
        .find(|passkey| passkey.row.id == id)
        .ok_or(PasskeyError::NotFound)
}

/// Takes a passkey away, and mails that to its owner (S-53).
///
/// # Errors
/// `NotFound`, `NotYours`, or it cannot be written.
pub async fn remove(
    app: &App,
    user: &UserRow,
    id: &str,
    caller: &Caller,
) -> Result<(), PasskeyError> {
    own(app, &user.id, id).await?;
    let command = UserCommand::RemovePasskey {
        passkey_id: id.to_owned(),
        at: app.clock.now(),
    };
    let context = links::tell(
        app,
        MailKind::PasskeyRemoved,
        user,
        by_owner(&user.id, caller),
    );
    run(app, &user.id, command, context).await?;
    sqlx::query("delete from passkey_uses where passkey_id = $1")
        .bind(id)
        .execute(&app.pool)
        .await?;
    Ok(())
}

/// Whether a passkey is a person's.
async fn own(app: &App, user_id: &str, id: &str) -> Result<(), PasskeyError> {
    // A text of other characters could not even be looked up.
    let is_id = id.bytes().all(is_base64url);
    let found = rows::find(&app.pool, Key::Id(if is_id { id } else { "" })).await?;
    match found {
        None => Err(PasskeyError::NotFound),
        Some(passkey) if passkey.user_id != user_id => Err(PasskeyError::NotYours),
        Some(_) => Ok(()),
    }
}

fn is_base64url(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}
