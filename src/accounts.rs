//! What the doors share: making accounts, checking passwords, starting and ending sessions, proving
//! addresses. No HTTP here; every door gives the same commands.

use aggregates::session::{EndReason, Session, SessionCommand, SessionError};
use aggregates::user::{User, UserCommand, UserError};
use aggregates::{ClaimScope, EmailAddress, Role, UserId};
use chrono::TimeDelta;
use projections::sessions::SessionRow;
use projections::users::UserRow;
use serde::Serialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::app::App;
use crate::crypto::jwt::{self, JwtError};
use crate::crypto::password::{Overloaded, Password, PasswordHash, Verdict};
use crate::crypto::tokens::{TokenHash, TokenKind, random_token};
use crate::custody::{ONLY, kind};
use crate::effects;
use crate::ids;
use crate::mail::{Mail, MailKind};
use crate::sessions::Live;
use crate::signing::{Claims, LIFETIME_SECS};
use crate::store::idempotency::{Fingerprint, Outcome};
use crate::store::{Actor, Client, Context, RunError, StoreError};

/// A remembered session lasts this long from its last extension.
pub const SESSION_DAYS: i64 = 7;
/// A session that ends with the browser lasts this long at most.
const BRIEF_SESSION_DAYS: i64 = 1;
/// A remembered session is extended when it was last extended longer ago than this.
const EXTEND_AFTER_DAYS: i64 = 1;
/// Session tokens have this many characters of `[A-Za-z0-9]`.
pub const TOKEN_LENGTH: usize = 32;
/// A verification link is good for this long, in seconds.
const VERIFICATION_SECS: i64 = 3600;

/// Why an account or session operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Another account has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// No such account, no password, or another password: never told apart.
    #[error("wrong address or password")]
    WrongCredentials,
    /// The password was right, the address is not proven yet.
    #[error("the address is not verified")]
    EmailNotVerified,
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The log or custody failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The account does not exist (any more).
    #[error("there is no such account")]
    NoAccount,
    /// The proof is for another address.
    #[error("the proof is for another address")]
    OtherEmail,
}

impl From<RunError<UserError>> for AccountError {
    fn from(error: RunError<UserError>) -> Self {
        match error {
            RunError::Store(StoreError::ClaimTaken(_)) => Self::EmailTaken,
            RunError::Store(error) => Self::Store(error),
            RunError::Refused(UserError::OtherEmail) => Self::OtherEmail,
            RunError::Refused(UserError::NotRegistered) => Self::NoAccount,
            RunError::Refused(UserError::AlreadyRegistered) => Self::Store(StoreError::Conflict),
        }
    }
}

impl From<sqlx::Error> for AccountError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<crate::custody::CustodyError> for AccountError {
    fn from(error: crate::custody::CustodyError) -> Self {
        Self::Store(error.into())
    }
}

/// Who asks, from where, in which request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Address and agent; sealed wherever they are kept.
    pub client: Client,
    /// Echoed or made by us.
    pub request_id: String,
    /// W3C trace context, if the caller sent one.
    pub traceparent: Option<String>,
}

impl Caller {
    /// The context of a command that `actor` gives in this request.
    pub fn context(&self, actor: Actor) -> Context {
        Context::of(actor).because(&self.request_id, self.traceparent.as_deref())
    }

    /// The same, with the client sealed under the key of `subject`.
    pub fn context_about(&self, actor: Actor, subject: &str) -> Context {
        self.context(actor).from(subject, self.client.clone())
    }
}

/// An account to be made.
pub struct NewAccount {
    /// Unique.
    pub email: EmailAddress,
    /// May be empty.
    pub name: String,
    /// Checked for length by the door.
    pub password: Password,
    /// Address of a picture.
    pub image: Option<String>,
    /// Language tag.
    pub locale: Option<String>,
}

/// What follows a registration.
pub struct Verification<'a> {
    /// Where the verification link leads afterwards; `None` sends no mail.
    pub callback: Option<&'a str>,
    /// For a request that carried an `Idempotency-Key`.
    pub once: Option<Once>,
}

/// A request that is carried out once.
pub struct Once {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// Its answer, for a repetition; `None` if the answer holds a secret.
    pub outcome: fn(&UserRow) -> Option<Outcome>,
}

impl Verification<'_> {
    /// No mail, no key: an operator makes the account.
    pub const NONE: Verification<'static> = Verification {
        callback: None,
        once: None,
    };
}

/// Makes an account with a password, queues the verification mail and the first credits.
///
/// # Errors
/// If the address is taken, or nothing could be written.
pub async fn register(
    app: &App,
    account: NewAccount,
    context: Context,
    verification: Verification<'_>,
) -> Result<UserRow, AccountError> {
    let NewAccount {
        email,
        name,
        password,
        image,
        locale,
    } = account;
    let hash = app.passwords.hash(password).await?;
    let id = ids::user();
    let now = app.clock.now();
    let role = if app.config.require_email_verification {
        Role::User
    } else {
        configured_role(app, email.as_str(), Role::User)
    };
    let row = UserRow {
        id: id.to_string(),
        email: email.as_str().to_owned(),
        email_verified: false,
        name: name.clone(),
        image: image.clone(),
        locale: locale.clone(),
        role: role.as_str().to_owned(),
        tier: aggregates::Tier::default().as_str().to_owned(),
        created_at: now,
        updated_at: now,
    };
    let custody = app.store.custody();
    let mut context = context
        .with_new_data_key(id.as_str(), custody.new_data_key(id.as_str()))
        .with_secret(custody.put(kind::PASSWORD, id.as_str(), ONLY, hash.expose().as_bytes()))
        .then(effects::credits_init(&id));
    if let Some(callback) = verification.callback {
        context = context.then(effects::mail(&id, &verification_mail(app, &row, callback)));
    }
    if let Some(Once {
        fingerprint,
        outcome,
    }) = verification.once
    {
        context = context.once(Some(fingerprint.with(id.as_str(), outcome(&row))));
    }
    let command = UserCommand::Register {
        id: id.clone(),
        email,
        name,
        image,
        locale,
        role,
        at: now,
    };
    app.store.run::<User>(id.as_str(), command, context).await?;
    Ok(row)
}

/// Tells the owner of an address that somebody tried to sign up with it (S-24).
///
/// # Errors
/// When the mail cannot be queued.
pub async fn tell_account_exists(app: &App, email: &EmailAddress) -> Result<(), AccountError> {
    let Some(user) = find_by_email(app, email).await? else {
        return Ok(());
    };
    let mail = Mail::to(
        MailKind::AccountExists,
        &user.email,
        &user.name,
        user.locale.as_deref(),
    );
    Ok(effects::enqueue(
        &app.pool,
        app.store.custody(),
        &effects::mail(&UserId::new(&user.id), &mail),
    )
    .await?)
}

/// The account of an address.
///
/// # Errors
/// When the database does not answer.
pub async fn find_by_email(
    app: &App,
    email: &EmailAddress,
) -> Result<Option<UserRow>, AccountError> {
    let Some(owner) = app
        .store
        .claims()
        .owner(ClaimScope::Email, email.as_str())
        .await?
    else {
        return Ok(None);
    };
    Ok(projections::users::find(&app.pool, &owner).await?)
}

/// Checks a password. Unknown addresses and accounts without a password cost the same time as wrong ones.
/// An old hash is replaced by a current one after a good check, never after a failed one (S-02).
///
/// # Errors
/// `WrongCredentials` whatever the reason; an outage never looks like one.
pub async fn check_password(
    app: &App,
    email: &EmailAddress,
    password: Password,
) -> Result<UserRow, AccountError> {
    let user = find_by_email(app, email).await?;
    let custody = app.store.custody();
    let secret = match &user {
        Some(user) => custody.read(kind::PASSWORD, &user.id, ONLY).await?,
        None => None,
    };
    let stored = secret
        .as_ref()
        .map(|secret| PasswordHash::new(String::from_utf8_lossy(&secret.bytes).into_owned()));
    match (
        app.passwords.verify(password.clone(), stored).await?,
        user,
        secret,
    ) {
        (Verdict::Right, Some(user), _) => Ok(user),
        (Verdict::RightButOutdated, Some(user), Some(secret)) => {
            let fresh = app.passwords.hash(password).await?;
            // Somebody who changed it meanwhile wins.
            custody
                .replace(
                    kind::PASSWORD,
                    &user.id,
                    ONLY,
                    secret.version,
                    fresh.expose().as_bytes(),
                )
                .await?;
            Ok(user)
        }
        _ => Err(AccountError::WrongCredentials),
    }
}

/// Whether the person may sign in now; mails the verification link again where configured.
///
/// # Errors
/// `EmailNotVerified` where verification is required and missing.
pub async fn admit(
    app: &App,
    user: UserRow,
    mail_again_to: Option<&str>,
) -> Result<UserRow, AccountError> {
    if app.config.require_email_verification && !user.email_verified {
        if let Some(callback) = mail_again_to {
            send_verification(app, &user, callback).await?;
        }
        return Err(AccountError::EmailNotVerified);
    }
    with_configured_role(app, user).await
}

/// A session that began just now.
pub struct Started {
    /// Known to the client alone from now on.
    pub token: String,
    /// The session.
    pub session: SessionRow,
}

/// Starts a session for somebody who has proved who they are. Always a new id and token (S-27).
///
/// # Errors
/// When it cannot be written.
pub async fn start_session(
    app: &App,
    user: &UserRow,
    remembered: bool,
    caller: &Caller,
) -> Result<Started, AccountError> {
    let now = app.clock.now();
    let days = if remembered {
        SESSION_DAYS
    } else {
        BRIEF_SESSION_DAYS
    };
    let token = random_token(TOKEN_LENGTH);
    let id = ids::session();
    let session = SessionRow {
        id: id.to_string(),
        token_hash: TokenHash::of(TokenKind::Session, &token).to_hex(),
        user_id: user.id.clone(),
        remembered,
        ip_address: caller.client.ip_address.clone(),
        user_agent: caller.client.user_agent.clone(),
        created_at: now,
        updated_at: now,
        expires_at: now + TimeDelta::days(days),
    };
    let command = SessionCommand::Start {
        user_id: UserId::new(&user.id),
        token_hash: session.token_hash.clone(),
        remembered,
        ip_address: session.ip_address.clone(),
        user_agent: session.user_agent.clone(),
        expires_at: session.expires_at,
        at: now,
    };
    let context = caller
        .context(Actor::User(user.id.clone()))
        .in_session(id.as_str());
    match app
        .store
        .run::<Session>(id.as_str(), command, context)
        .await
    {
        Ok(_) => Ok(Started { token, session }),
        Err(RunError::Store(StoreError::NoDataKey)) => Err(AccountError::NoAccount),
        Err(RunError::Store(error)) => Err(error.into()),
        Err(RunError::Refused(SessionError::AlreadyStarted | SessionError::NotLive)) => {
            Err(StoreError::Conflict.into())
        }
    }
}

/// Whether using this session now makes it last longer.
pub fn is_due_for_extension(app: &App, session: &SessionRow) -> bool {
    session.remembered
        && session.expires_at - TimeDelta::days(SESSION_DAYS) + TimeDelta::days(EXTEND_AFTER_DAYS)
            <= app.clock.now()
}

/// Makes a used session last its full time again; `None` if it ended meanwhile.
///
/// # Errors
/// When it cannot be written.
pub async fn extend_session(
    app: &App,
    session: &SessionRow,
    caller: &Caller,
) -> Result<Option<SessionRow>, AccountError> {
    let now = app.clock.now();
    let expires_at = now + TimeDelta::days(SESSION_DAYS);
    let context = caller
        .context(Actor::User(session.user_id.clone()))
        .in_session(&session.id);
    match app
        .store
        .run::<Session>(
            &session.id,
            SessionCommand::Extend {
                expires_at,
                at: now,
            },
            context,
        )
        .await
    {
        Ok(_) => Ok(Some(SessionRow {
            expires_at,
            updated_at: now,
            ..session.clone()
        })),
        Err(RunError::Refused(SessionError::NotLive | SessionError::AlreadyStarted)) => Ok(None),
        Err(RunError::Store(error)) => Err(error.into()),
    }
}

/// Ends a session; one that is over already stays over.
///
/// # Errors
/// When it cannot be written.
pub async fn end_session(
    app: &App,
    id: &str,
    reason: EndReason,
    context: Context,
) -> Result<(), AccountError> {
    let command = SessionCommand::End {
        reason,
        at: app.clock.now(),
    };
    match app
        .store
        .run::<Session>(id, command, context.in_session(id))
        .await
    {
        Ok(_) | Err(RunError::Refused(SessionError::NotLive | SessionError::AlreadyStarted)) => {
            Ok(())
        }
        Err(RunError::Store(error)) => Err(error.into()),
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
) -> Result<(), AccountError> {
    let mail = verification_mail(app, user, callback);
    Ok(effects::enqueue(
        &app.pool,
        app.store.custody(),
        &effects::mail(&UserId::new(&user.id), &mail),
    )
    .await?)
}

#[derive(Serialize)]
struct VerificationClaims<'a> {
    email: &'a str,
    #[serde(rename = "userId")]
    user_id: &'a str,
    iat: i64,
    exp: i64,
}

fn verification_mail(app: &App, user: &UserRow, callback: &str) -> Mail {
    let iat = app.clock.now().timestamp();
    let claims = VerificationClaims {
        email: &user.email,
        user_id: &user.id,
        iat,
        exp: iat + VERIFICATION_SECS,
    };
    let token = jwt::sign_hs256(&claims, app.mail_secrets()[0].as_bytes());
    let callback: String = form_urlencoded::byte_serialize(callback.as_bytes())
        .collect::<String>()
        .replace('+', "%20");
    let locale = user.locale.as_deref();
    Mail {
        // Links start with what was configured, never with what a request says (S-42).
        url: Some(format!(
            "{}/api/auth/verify-email?token={token}&callbackURL={callback}",
            app.config.base_url
        )),
        ..Mail::to(MailKind::VerifyEmail, &user.email, &user.name, locale)
    }
}

/// Why a verification link leads nowhere.
#[derive(Debug)]
pub enum VerificationError {
    /// Not ours, altered, or for another address.
    Invalid,
    /// Older than an hour.
    Expired,
    /// The account is gone.
    UserNotFound,
    /// Something else failed.
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for VerificationError {
    fn from(error: E) -> Self {
        Self::Account(error.into())
    }
}

/// What a good verification link did.
pub enum Verified {
    /// The address was proven just now.
    Now(UserRow),
    /// It had been proven before.
    Before,
}

/// Follows a verification link. It may be followed again while it is good: that changes nothing.
///
/// # Errors
/// If the link is no good, or nothing could be written.
pub async fn verify_email(
    app: &App,
    token: &str,
    caller: &Caller,
) -> Result<Verified, VerificationError> {
    let claims = jwt::verify_hs256(token, app.mail_secrets(), app.clock.now().timestamp())
        .map_err(|error| match error {
            JwtError::Expired => VerificationError::Expired,
            JwtError::Invalid | JwtError::Malformed => VerificationError::Invalid,
        })?;
    let text = |claims: &Map<String, Value>, name: &str| {
        claims.get(name).and_then(Value::as_str).map(str::to_owned)
    };
    let email = text(&claims, "email")
        .and_then(|email| EmailAddress::parse(&email).ok())
        .ok_or(VerificationError::Invalid)?;
    // A token that asks for something else is of another kind (S-28).
    if claims.contains_key("requestType") || claims.contains_key("updateTo") {
        return Err(VerificationError::Invalid);
    }
    let Some(user) = find_by_email(app, &email).await? else {
        return Err(VerificationError::UserNotFound);
    };
    if text(&claims, "userId").is_some_and(|id| id != user.id) {
        return Err(VerificationError::Invalid);
    }
    if user.email_verified {
        return Ok(Verified::Before);
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
        return Ok(Verified::Before);
    }
    let user = projections::users::find(&app.pool, &user.id)
        .await?
        .ok_or(VerificationError::UserNotFound)?;
    Ok(Verified::Now(with_configured_role(app, user).await?))
}

fn configured_role(app: &App, email: &str, role: Role) -> Role {
    if app.config.admin_emails.iter().any(|admin| admin == email) {
        Role::Admin
    } else {
        role
    }
}

/// Gives the role admin to an account whose address is configured for it, once the address counts.
async fn with_configured_role(app: &App, user: UserRow) -> Result<UserRow, AccountError> {
    let counts = user.email_verified || !app.config.require_email_verification;
    if !counts
        || user.role != Role::User.as_str()
        || configured_role(app, &user.email, Role::User) == Role::User
    {
        return Ok(user);
    }
    let at = app.clock.now();
    app.store
        .run::<User>(
            &user.id,
            UserCommand::ChangeRole {
                role: Role::Admin,
                at,
            },
            Context::of(Actor::System),
        )
        .await?;
    Ok(UserRow {
        role: Role::Admin.as_str().to_owned(),
        updated_at: at,
        ..user
    })
}

/// The access token of a session: role and tier as they are now.
///
/// # Errors
/// When the signing keys cannot be read.
pub async fn access_token(app: &App, live: &Live) -> Result<String, StoreError> {
    let signer = app.signing.signer().await?;
    let now = app.clock.now();
    live.jwt(signer.kid(), now, || {
        let iat = now.timestamp();
        Ok(signer.sign(&Claims {
            iat,
            sub: &live.user.id,
            email: &live.user.email,
            role: &live.user.role,
            sid: &live.session.id,
            tier: app.config.jwt_tier.then_some(live.user.tier.as_str()),
            exp: iat + LIFETIME_SECS,
            iss: &app.config.jwt_issuer,
            aud: &app.config.jwt_audience,
        }))
    })
}
