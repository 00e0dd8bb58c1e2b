//! Links in mails: making them, and following those that carry a signed proof instead of a token.
//!
//! | link | proof | good for |
//! |---|---|---|
//! | verify an address, confirm or verify a change | HS256 JWT, as clients know it | 1 h |
//! | reset a password | token, once | 1 h |
//! | delete the account | token, once | 24 h |
//! | take a change of address back, end all sessions | token, once | 7 d |
//!
//! What may be asked for by anybody (a reset, a verification) is queued under a key of the service and looked up by
//! the worker: the door does the same work for every address, and knows of none (S-22, S-23).

use aggregates::user::{User, UserCommand};
use aggregates::{ClaimScope, EmailAddress, SessionId};
use chrono::{DateTime, TimeDelta, Utc};
use projections::users::UserRow;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::accounts::{self, AccountError, Caller, mail_to};
use crate::app::App;
use crate::crypto::jwt::{self, JwtError};
use crate::crypto::tokens::TokenKind;
use crate::door_log::{self, Tried};
use crate::effects;
use crate::http::limits;
use crate::magic_link;
use crate::mail::{Device, Mail, MailKind, VaultChange};
use crate::store::{Actor, Context, StoreError};
use crate::tokens::{self, NewToken, TokenChange};

/// A signed link is good for this long, in seconds.
const PROOF_SECS: i64 = 3600;
/// A link to choose a new password is good for this long.
const RESET_FOR: TimeDelta = TimeDelta::hours(1);
/// A link that deletes the account is good for this long.
const DELETE_FOR: TimeDelta = TimeDelta::hours(24);
/// A link that takes something back is good for this long.
const REGRET_FOR: TimeDelta = TimeDelta::days(7);
/// Reset tokens have this many characters; all others have 32 (contract 1).
const RESET_LENGTH: usize = 24;
const LENGTH: usize = 32;

/// What a signed link to an address proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// The account's address.
    Verify,
    /// At the old address, that it is the owner who wants another one.
    ConfirmChange,
    /// The new address.
    VerifyChange,
}

impl Purpose {
    /// `requestType` of the proof (contract 8).
    fn request_type(self) -> Option<&'static str> {
        match self {
            Self::Verify => None,
            Self::ConfirmChange => Some("change-email-confirmation"),
            Self::VerifyChange => Some("change-email-verification"),
        }
    }
}

#[derive(Serialize)]
struct ProofClaims<'a> {
    email: &'a str,
    #[serde(rename = "updateTo", skip_serializing_if = "Option::is_none")]
    update_to: Option<&'a str>,
    #[serde(rename = "requestType", skip_serializing_if = "Option::is_none")]
    request_type: Option<&'a str>,
    #[serde(rename = "userId")]
    user_id: &'a str,
    iat: i64,
    exp: i64,
}

fn proof_url(
    app: &App,
    user: &UserRow,
    purpose: Purpose,
    update_to: Option<&str>,
    callback: &str,
) -> String {
    let iat = app.clock.now().timestamp();
    let claims = ProofClaims {
        email: &user.email,
        update_to,
        request_type: purpose.request_type(),
        user_id: &user.id,
        iat,
        exp: iat + PROOF_SECS,
    };
    let token = jwt::sign_hs256(&claims, app.mail_secrets()[0].as_bytes());
    // Links start with what was configured, never with what a request says (S-42).
    format!(
        "{}/api/auth/verify-email?token={token}&callbackURL={}",
        app.config.base_url,
        encoded(callback)
    )
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes())
        .collect::<String>()
        .replace('+', "%20")
}

/// The mail that asks to prove the account's address.
pub fn verification_mail(app: &App, user: &UserRow, callback: &str) -> Mail {
    Mail {
        url: Some(proof_url(app, user, Purpose::Verify, None, callback)),
        ..mail_to(MailKind::VerifyEmail, user)
    }
}

/// Queues a verification mail outside of any command: it may be asked for again and again.
///
/// # Errors
/// When the mail cannot be queued.
pub async fn send_verification(
    app: &App,
    user: &UserRow,
    callback: &str,
) -> Result<(), StoreError> {
    if !may_mail(app, &user.email).await? {
        return Ok(());
    }
    let mail = verification_mail(app, user, callback);
    effects::enqueue(app, &effects::mail(&user.id, &mail)).await
}

/// Whether an address may get one more mail that anybody can ask for (S-21); counts it.
///
/// # Errors
/// When it cannot be counted.
pub async fn may_mail(app: &App, email: &str) -> Result<bool, StoreError> {
    Ok(limits::MAILS_AN_HOUR.allows(app, email).await?
        && limits::MAILS_A_DAY.allows(app, email).await?)
}

/// Whether a person may take an address: nobody has it, or it is a former one of their own.
///
/// # Errors
/// When the database does not answer.
pub async fn is_free_for(
    app: &App,
    user: &UserRow,
    address: &EmailAddress,
) -> Result<bool, sqlx::Error> {
    let claims = app.store.claims();
    let owner = claims.owner(ClaimScope::Email, address.as_str()).await?;
    Ok(owner.is_none_or(|owner| owner == user.id))
}

/// The mail that starts a change of address: to the old address first, where it is proven and that is configured,
/// else to the new one.
pub fn change_mail(
    app: &App,
    user: &UserRow,
    to: &EmailAddress,
    callback: &str,
) -> (Mail, Option<NewToken>) {
    if user.email_verified && app.config.change_email_confirm {
        let purpose = Purpose::ConfirmChange;
        let (end_sessions_url, token) = end_sessions(app, user);
        let mail = Mail {
            url: Some(proof_url(app, user, purpose, Some(to.as_str()), callback)),
            new_email: Some(to.as_str().to_owned()),
            end_sessions_url: Some(end_sessions_url),
            ..mail_to(MailKind::ChangeEmailConfirmation, user)
        };
        (mail, Some(token))
    } else {
        (verify_change_mail(app, user, to, callback), None)
    }
}

fn verify_change_mail(app: &App, user: &UserRow, to: &EmailAddress, callback: &str) -> Mail {
    let purpose = Purpose::VerifyChange;
    Mail {
        to: to.as_str().to_owned(),
        url: Some(proof_url(app, user, purpose, Some(to.as_str()), callback)),
        ..mail_to(MailKind::VerifyEmail, user)
    }
}

/// A link that ends all sessions of a person, and its token.
pub fn end_sessions(app: &App, user: &UserRow) -> (String, NewToken) {
    let until = app.clock.now() + REGRET_FOR;
    let (token, new) = tokens::issue(TokenKind::EndSessions, LENGTH, &user.id, None, until);
    let base = &app.config.base_url;
    (
        format!("{base}/api/v1/auth/end-sessions?token={token}"),
        new,
    )
}

/// Adds the mail about a sign-in from a new device to the command that starts the session.
pub fn tell_of_new_device(app: &App, user: &UserRow, caller: &Caller, context: Context) -> Context {
    let (url, token) = end_sessions(app, user);
    let mail = Mail {
        url: Some(url),
        device: Some(Device {
            ip_address: caller.client.ip_address.clone(),
            user_agent: caller.client.user_agent.clone(),
            at: app.clock.now(),
        }),
        ..mail_to(MailKind::NewDevice, user)
    };
    context
        .with_token(TokenChange::Put(token))
        .then(effects::mail(&user.id, &mail))
}

/// Mails somebody who signed in with a password that others know, at most once a day: they cannot be kept out, and
/// should know (S-06).
///
/// # Errors
/// When the mail cannot be queued.
pub async fn tell_of_breached_password(app: &App, user: &UserRow) -> Result<(), StoreError> {
    if !limits::BREACH_MAIL.allows(app, &user.id).await? {
        return Ok(());
    }
    let mail = mail_to(MailKind::BreachedPassword, user);
    effects::enqueue(app, &effects::mail(&user.id, &mail)).await
}

/// Adds a mail that says what happened, and how to end all sessions, to the command that makes it happen.
pub fn tell(app: &App, kind: MailKind, user: &UserRow, context: Context) -> Context {
    let (url, token) = end_sessions(app, user);
    let mail = Mail {
        url: Some(url),
        ..mail_to(kind, user)
    };
    context
        .with_token(TokenChange::Put(token))
        .then(effects::mail(&user.id, &mail))
}

/// Adds the mail about how the data of a person is encrypted to the command that changes it (S-76).
pub fn tell_of_vault_change(
    app: &App,
    user: &UserRow,
    change: VaultChange,
    context: Context,
) -> Context {
    let (url, token) = end_sessions(app, user);
    let mail = Mail {
        url: Some(url),
        vault: Some(change),
        ..mail_to(MailKind::VaultChanged, user)
    };
    context
        .with_token(TokenChange::Put(token))
        .then(effects::mail(&user.id, &mail))
}

/// Adds what goes with another address that an admin gives: links to choose a password are worth nothing any more, and
/// the old address is told. One that nobody has proven is not: it may be a stranger's, who would get the way back.
pub fn with_new_address(
    app: &App,
    user: &UserRow,
    to: &EmailAddress,
    at: DateTime<Utc>,
    context: Context,
) -> Context {
    let context = context.with_token(TokenChange::Withdraw {
        user_id: user.id.clone(),
        kind: TokenKind::PasswordReset,
    });
    if user.email_verified {
        tell_of_new_address(app, user, to, at, context)
    } else {
        context
    }
}

/// Adds the mail to the old address, with the way back, to the command that changes the address.
fn tell_of_new_address(
    app: &App,
    user: &UserRow,
    to: &EmailAddress,
    at: DateTime<Utc>,
    context: Context,
) -> Context {
    let former = FormerEmail {
        email: user.email.clone(),
        left_at: at,
    };
    let about = serde_json::to_string(&former).expect("an address and a time are plain JSON");
    let (revert, revert_token) = tokens::issue(
        TokenKind::RevertEmail,
        LENGTH,
        &user.id,
        Some(&about),
        at + REGRET_FOR,
    );
    let (end_sessions_url, end_token) = end_sessions(app, user);
    let mail = Mail {
        url: Some(format!(
            "{}/api/v1/auth/revert-email?token={revert}",
            app.config.base_url
        )),
        new_email: Some(to.as_str().to_owned()),
        end_sessions_url: Some(end_sessions_url),
        ..mail_to(MailKind::EmailChanged, user)
    };
    context
        .with_token(TokenChange::Put(revert_token))
        .with_token(TokenChange::Put(end_token))
        .then(effects::mail(&user.id, &mail))
}

/// What a link back to a former address is about.
#[derive(Serialize, Deserialize)]
pub struct FormerEmail {
    /// The address.
    pub email: String,
    /// When the account left it.
    pub left_at: DateTime<Utc>,
}

impl FormerEmail {
    /// Of a token.
    pub fn of(found: &tokens::Found) -> Option<(EmailAddress, DateTime<Utc>)> {
        let former: Self = serde_json::from_str(found.about.as_ref()?).ok()?;
        Some((EmailAddress::parse(&former.email).ok()?, former.left_at))
    }
}

/// Mails the link that deletes the account.
///
/// # Errors
/// When it cannot be queued.
pub async fn send_deletion(app: &App, user: &UserRow, callback: &str) -> Result<(), StoreError> {
    let until = app.clock.now() + DELETE_FOR;
    let (token, new) = tokens::issue(TokenKind::DeleteAccount, LENGTH, &user.id, None, until);
    let (end_sessions_url, end_token) = end_sessions(app, user);
    let (pool, custody) = (&app.pool, app.store.custody());
    new.keep(pool, custody).await?;
    end_token.keep(pool, custody).await?;
    let mail = Mail {
        url: Some(format!(
            "{}/api/auth/delete-user/callback?token={token}&callbackURL={}",
            app.config.base_url,
            encoded(callback)
        )),
        end_sessions_url: Some(end_sessions_url),
        ..mail_to(MailKind::DeleteAccount, user)
    };
    effects::enqueue(app, &effects::mail(&user.id, &mail)).await
}

/// A mail that anybody may ask for, by an address that may have no account.
#[derive(Serialize, Deserialize)]
pub struct MailRequest {
    /// What is asked for.
    pub wanted: Wanted,
    /// Canonical.
    pub email: EmailAddress,
    /// Where the link leads afterwards.
    pub callback: String,
    /// The line of the door log about it, which then says whose account it was.
    pub noted: Option<String>,
    /// What an account is called that a magic link makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What can be asked for by anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The link that proves the account's address, unless it is proven.
    Verification,
    /// The link to choose a new password.
    PasswordReset,
    /// The link that signs in, for an address with an account or without.
    MagicLink,
}

/// Queues a request for a mail; the same work for every address.
///
/// # Errors
/// When it cannot be written.
pub async fn request(
    app: &App,
    wanted: Wanted,
    email: EmailAddress,
    callback: &str,
    caller: &Caller,
) -> Result<(), StoreError> {
    let noted = match wanted {
        Wanted::Verification | Wanted::MagicLink => None,
        Wanted::PasswordReset => {
            let tried = Tried::PasswordResetRequested;
            Some(door_log::write(app, tried, email.as_str(), None, "OK", caller).await?)
        }
    };
    let request = MailRequest {
        wanted,
        email,
        callback: callback.to_owned(),
        noted,
        name: None,
    };
    effects::enqueue(app, &effects::mail_request(&request)).await
}

/// Queues a request for a magic link; the same work for every address. `query` names where the link may lead.
///
/// # Errors
/// When it cannot be written.
pub async fn request_magic_link(
    app: &App,
    email: EmailAddress,
    name: Option<String>,
    query: &str,
) -> Result<(), StoreError> {
    let request = MailRequest {
        wanted: Wanted::MagicLink,
        email,
        callback: query.to_owned(),
        noted: None,
        name,
    };
    effects::enqueue(app, &effects::mail_request(&request)).await
}

/// Does what was asked for, if the address has an account.
///
/// # Errors
/// When it cannot be done now; it is tried again.
pub async fn answer_request(app: &App, request: &MailRequest) -> Result<(), AccountError> {
    let found = accounts::find_by_email(app, &request.email).await?;
    if request.wanted == Wanted::MagicLink {
        return magic_link::send(app, request, found.as_ref()).await;
    }
    let Some(user) = found else {
        return Ok(());
    };
    if let Some(noted) = &request.noted {
        door_log::attribute(app, noted, &user.id).await?;
    }
    match request.wanted {
        Wanted::Verification if user.email_verified => Ok(()),
        Wanted::MagicLink => unreachable!("it was answered above"),
        Wanted::Verification => Ok(send_verification(app, &user, &request.callback).await?),
        Wanted::PasswordReset => {
            if !may_mail(app, &user.email).await? {
                return Ok(());
            }
            let until = app.clock.now() + RESET_FOR;
            let (token, new) = tokens::issue(
                TokenKind::PasswordReset,
                RESET_LENGTH,
                &user.id,
                None,
                until,
            );
            new.keep(&app.pool, app.store.custody()).await?;
            let mail = Mail {
                url: Some(format!(
                    "{}/api/auth/reset-password/{token}?callbackURL={}",
                    app.config.base_url,
                    encoded(&request.callback)
                )),
                ..mail_to(MailKind::ResetPassword, &user)
            };
            Ok(effects::enqueue(app, &effects::mail(&user.id, &mail)).await?)
        }
    }
}

/// Why a signed link leads nowhere.
#[derive(Debug)]
pub enum ProofError {
    /// Not ours, altered, or for something that nobody waits for.
    Invalid,
    /// Older than an hour.
    Expired,
    /// The account is gone.
    UserNotFound,
    /// Something else failed.
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for ProofError {
    fn from(error: E) -> Self {
        match error.into() {
            AccountError::OtherEmail => Self::Invalid,
            AccountError::NoAccount => Self::UserNotFound,
            error => Self::Account(error),
        }
    }
}

/// What a good signed link did.
pub enum Followed {
    /// The address was proven just now.
    Verified(UserRow),
    /// It had been proven before.
    Before,
    /// The new address was mailed a link of its own.
    Confirmed,
    /// The account has the new address.
    Changed(UserRow),
}

/// Follows a signed link. `session` is the session that the request shows, with its person: it goes on when the
/// address changes. A link may be followed again while it is good: that changes nothing.
///
/// # Errors
/// If the link is no good, or nothing could be written.
pub async fn follow(
    app: &App,
    token: &str,
    callback: &str,
    session: Option<(&str, &str)>,
    caller: &Caller,
) -> Result<Followed, ProofError> {
    let claims = jwt::verify_hs256(token, app.mail_secrets(), app.clock.now().timestamp())
        .map_err(|error| match error {
            JwtError::Expired => ProofError::Expired,
            JwtError::Invalid | JwtError::Malformed => ProofError::Invalid,
        })?;
    let text = |claims: &Map<String, Value>, name: &str| {
        claims.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let email_of = |name: &str| {
        text(&claims, name)
            .and_then(|email| EmailAddress::parse(&email).ok())
            .ok_or(ProofError::Invalid)
    };
    let email = email_of("email")?;
    let request_type = text(&claims, "requestType");
    // A token that asks for something else is of another kind (S-28).
    let purpose = [
        Purpose::Verify,
        Purpose::ConfirmChange,
        Purpose::VerifyChange,
    ]
    .into_iter()
    .find(|purpose| purpose.request_type() == request_type.as_deref())
    .filter(|purpose| (*purpose == Purpose::Verify) != claims.contains_key("updateTo"))
    .filter(|_| request_type.is_some() == claims.contains_key("requestType"))
    .ok_or(ProofError::Invalid)?;
    let Some(user) = accounts::find_by_email(app, &email).await? else {
        return Err(ProofError::UserNotFound);
    };
    if text(&claims, "userId").is_some_and(|id| id != user.id) {
        return Err(ProofError::Invalid);
    }
    match purpose {
        Purpose::Verify => verify(app, user, email, caller).await,
        Purpose::ConfirmChange => {
            confirm_change(app, user, email_of("updateTo")?, callback, caller).await
        }
        Purpose::VerifyChange => {
            let keep = session
                .filter(|(_, user_id)| *user_id == user.id)
                .map(|(id, _)| SessionId::new(id));
            change(app, user, email_of("updateTo")?, keep, caller).await
        }
    }
}

async fn verify(
    app: &App,
    user: UserRow,
    email: EmailAddress,
    caller: &Caller,
) -> Result<Followed, ProofError> {
    if user.email_verified {
        return Ok(Followed::Before);
    }
    let context = caller.context_about(Actor::User(user.id.clone()), &user.id);
    let command = UserCommand::VerifyEmail {
        email,
        at: app.clock.now(),
    };
    let done = app
        .store
        .run::<User>(&user.id, command, context)
        .await
        .map_err(AccountError::from)?;
    if done.position.is_none() {
        return Ok(Followed::Before);
    }
    let user = find_again(app, &user.id).await?;
    Ok(Followed::Verified(
        accounts::with_configured_role(app, user).await?,
    ))
}

/// The owner of the old address agrees: now the new one has to be proven. Whoever has it already hears nothing.
async fn confirm_change(
    app: &App,
    user: UserRow,
    to: EmailAddress,
    callback: &str,
    caller: &Caller,
) -> Result<Followed, ProofError> {
    let account: User = app.store.load(&user.id).await?;
    if account.pending_email() != Some(&to) {
        return Err(ProofError::Invalid);
    }
    // Whoever follows the link again takes no mail from the new address's budget.
    if account.change_is_confirmed() {
        return Ok(Followed::Confirmed);
    }
    let mut context = caller.context_about(Actor::User(user.id.clone()), &user.id);
    if is_free_for(app, &user, &to).await? {
        // Consent without the mail that follows would lead nowhere: the link may be followed again later.
        if !may_mail(app, to.as_str()).await? {
            return Ok(Followed::Confirmed);
        }
        let mail = verify_change_mail(app, &user, &to, callback);
        context = context.then(effects::mail(&user.id, &mail));
    }
    let at = app.clock.now();
    let command = UserCommand::ConfirmEmailChange { to, at };
    let done = app.store.run::<User>(&user.id, command, context).await;
    done.map_err(AccountError::from)?;
    Ok(Followed::Confirmed)
}

async fn change(
    app: &App,
    user: UserRow,
    to: EmailAddress,
    keep: Option<SessionId>,
    caller: &Caller,
) -> Result<Followed, ProofError> {
    let at = app.clock.now();
    let context = caller.context_about(Actor::User(user.id.clone()), &user.id);
    let context = tell_of_new_address(app, &user, &to, at, context);
    let context = context.with_token(TokenChange::Withdraw {
        user_id: user.id.clone(),
        kind: TokenKind::PasswordReset,
    });
    let command = UserCommand::ChangeEmail {
        to,
        needs_consent: app.config.change_email_confirm,
        keep,
        at,
    };
    match app.store.run::<User>(&user.id, command, context).await {
        Ok(_) => {
            let user = find_again(app, &user.id).await?;
            let user = accounts::with_configured_role(app, user).await?;
            Ok(Followed::Changed(user))
        }
        Err(error) => match AccountError::from(error) {
            // Somebody else has taken the address since it was asked for.
            AccountError::EmailTaken => Err(ProofError::Invalid),
            error => Err(error.into()),
        },
    }
}

async fn find_again(app: &App, id: &str) -> Result<UserRow, ProofError> {
    projections::users::find(&app.pool, id)
        .await?
        .ok_or(ProofError::UserNotFound)
}
