//! What the doors share: making accounts and finding them, starting and ending sessions. No HTTP here; every door
//! gives the same commands.

use std::time::Duration;

use aggregates::session::{
    EndReason, FactorTimes, Session, SessionCommand, SessionError, SignInMethod,
};
use aggregates::user::{NewLink, User, UserCommand, UserError};
use aggregates::{ClaimScope, EmailAddress, Roles, Tier, UserId};
use chrono::TimeDelta;
use projections::sessions::SessionRow;
use projections::users::UserRow;

use crate::app::App;
use crate::crypto::password::{Overloaded, Password};
use crate::crypto::tokens::{TokenHash, TokenKind, random_token};
use crate::custody::{ONLY, Seen, kind};
use crate::effects;
use crate::guard::Refused;
use crate::ids;
use crate::links;
use crate::mail::{Mail, MailKind};
use crate::oauth::ProviderTokens;
use crate::sessions::Live;
use crate::signing::{Claims, LIFETIME_SECS};
use crate::store::idempotency::{Fingerprint, Outcome};
use crate::store::{Actor, Client, Context, RunError, StoreError};
use crate::tokens::TokenChange;

/// A remembered session lasts this long from its last extension.
pub const SESSION_DAYS: i64 = 7;
/// The same, as a time.
pub const SESSION: TimeDelta = TimeDelta::days(SESSION_DAYS);
/// A session that ends with the browser lasts this long at most.
const BRIEF_SESSION_DAYS: i64 = 1;
/// A remembered session is extended when it was last extended longer ago than this.
const EXTEND_AFTER_DAYS: i64 = 1;
/// A session in which an admin acts as somebody lasts this long (S-66).
const IMPERSONATION: TimeDelta = TimeDelta::hours(1);
/// A sign-in waits so long for each password that waits to be hashed, but for no more than four of them: they are
/// written together then, and what the database saves is hashed with.
const FOR_EACH_WAITING: Duration = Duration::from_millis(10);
/// Session tokens have this many characters of `[A-Za-z0-9]`.
pub const TOKEN_LENGTH: usize = 32;

/// Why an account or session operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// Another account has the address.
    #[error("the address is taken")]
    EmailTaken,
    /// No such account, no password, or another password: never told apart.
    #[error("wrong address or password")]
    WrongCredentials,
    /// Nothing is checked for a while: too many tries failed.
    #[error("locked for {retry_after_secs} s")]
    Locked {
        /// Until tries are checked again, in seconds.
        retry_after_secs: u64,
    },
    /// Too many tries at once.
    #[error("too many tries")]
    TooMany {
        /// Until another try is worth it, in seconds.
        retry_after_secs: u64,
    },
    /// Nobody gets in, whatever they show.
    #[error("the account is banned")]
    Banned,
    /// The account has no password to check.
    #[error("the account has no password")]
    NoPassword,
    /// The password was right, the address is not proven yet.
    #[error("the address is not verified")]
    EmailNotVerified,
    /// Too many passwords wait to be hashed.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// The log or custody failed.
    #[error(transparent)]
    Store(StoreError),
    /// The account does not exist (any more).
    #[error("there is no such account")]
    NoAccount,
    /// The proof is for another address, or for a change that nobody waits for.
    #[error("the proof is for another address")]
    OtherEmail,
    /// The token is not good: unknown, used, withdrawn or out of date.
    #[error("the token is not good")]
    InvalidToken,
    /// The service would have no admin any more.
    #[error("the last admin stays")]
    LastAdmin,
    /// The account does not allow it, for a reason that the door has words of its own for.
    #[error(transparent)]
    Refused(UserError),
}

impl From<RunError<UserError>> for AccountError {
    fn from(error: RunError<UserError>) -> Self {
        match error {
            RunError::Store(error) => error.into(),
            RunError::Refused(UserError::OtherEmail | UserError::NoSuchChange) => Self::OtherEmail,
            RunError::Refused(UserError::NotRegistered) => Self::NoAccount,
            RunError::Refused(UserError::AlreadyRegistered) => Self::Store(StoreError::Conflict),
            RunError::Refused(
                refusal @ (UserError::TotpEnabled
                | UserError::SecondFactorOff
                | UserError::NoSuchPasskey
                | UserError::PasskeyKnown
                | UserError::TooManyPasskeys
                | UserError::NoSuchAccount
                | UserError::LinkedAlready
                | UserError::LastWayIn
                | UserError::NoSuchApiKey
                | UserError::TooManyApiKeys),
            ) => Self::Refused(refusal),
        }
    }
}

impl From<StoreError> for AccountError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::ClaimTaken(scope) if scope == ClaimScope::Email.as_str() => {
                Self::EmailTaken
            }
            StoreError::TokenUsed => Self::InvalidToken,
            StoreError::NoDataKey => Self::NoAccount,
            StoreError::LastAdmin => Self::LastAdmin,
            error => Self::Store(error),
        }
    }
}

impl From<Refused> for AccountError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Locked { retry_after_secs } => Self::Locked { retry_after_secs },
            Refused::TooMany { retry_after_secs } => Self::TooMany { retry_after_secs },
            Refused::Spent => Self::InvalidToken,
            Refused::Store(error) => error.into(),
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
    /// The network that the request is counted for; empty if unknown.
    pub network: String,
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
    /// Checked for length by the door; none if there are other ways in.
    pub password: Option<Password>,
    /// Whether the address is proven already.
    pub email_verified: bool,
    /// Address of a picture.
    pub image: Option<String>,
    /// Language tag.
    pub locale: Option<String>,
    /// The account at another provider that it is made from.
    pub link: Option<FirstLink>,
}

/// An account at another provider, with what that has given us.
pub struct FirstLink {
    /// The account.
    pub link: NewLink,
    /// Into custody.
    pub tokens: ProviderTokens,
}

/// What somebody may do and see from the start.
#[derive(Default)]
pub struct Standing {
    /// What they may do; by default what their address is configured for.
    pub role: Option<Roles>,
    /// How early they see new things.
    pub tier: Tier,
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
    register_as(app, account, Standing::default(), context, verification).await
}

/// The same, for somebody whom an admin gives a standing of their own.
///
/// # Errors
/// If the address is taken, or nothing could be written.
pub async fn register_as(
    app: &App,
    account: NewAccount,
    standing: Standing,
    context: Context,
    verification: Verification<'_>,
) -> Result<UserRow, AccountError> {
    let NewAccount {
        email,
        name,
        password,
        email_verified,
        image,
        locale,
        link,
    } = account;
    let hash = match password {
        Some(password) => Some(app.passwords.hash(password).await?),
        None => None,
    };
    let id = ids::user();
    let now = app.clock.now();
    let counts = email_verified || !app.config.require_email_verification;
    let role = match standing.role {
        Some(role) => role,
        None if counts && is_configured_admin(app, email.as_str()) => Roles::admin(),
        None => Roles::user(),
    };
    let tier = standing.tier;
    let row = UserRow {
        id: id.to_string(),
        email: email.as_str().to_owned(),
        email_verified,
        name: name.clone(),
        image: image.clone(),
        locale: locale.clone(),
        role: role.as_str().to_owned(),
        tier: tier.as_str().to_owned(),
        banned: false,
        ban_reason: None,
        ban_expires: None,
        two_factor_enabled: false,
        created_at: now,
        updated_at: now,
    };
    let custody = app.store.custody();
    let mut context = context
        .on_new_stream()
        .about(id.as_str())
        .with_new_data_key(id.as_str(), custody.new_data_key(id.as_str()))
        .then(effects::credits_init(id.as_str()));
    if let Some(hash) = &hash {
        let hash = hash.expose().as_bytes();
        context = context.with_secret(custody.put(kind::PASSWORD, id.as_str(), ONLY, hash));
    }
    let (link, tokens) = link.map(|first| (first.link, first.tokens)).unzip();
    if let (Some(link), Some(tokens)) = (&link, &tokens) {
        context = context.with_secret(tokens.put(custody, id.as_str(), &link.link_id));
    }
    if let Some(callback) = verification.callback {
        context = context.then(effects::mail(
            id.as_str(),
            &links::verification_mail(app, &row, callback),
        ));
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
        password: hash.is_some(),
        email_verified,
        link,
        at: now,
    };
    let command = UserCommand::All(vec![command, UserCommand::ChangeTier { tier, at: now }]);
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
    if !links::may_mail(app, &user.email).await? {
        return Ok(());
    }
    let mail = mail_to(MailKind::AccountExists, &user);
    Ok(effects::enqueue(app, &effects::mail(&user.id, &mail)).await?)
}

/// A mail to a person, in their language.
pub fn mail_to(kind: MailKind, user: &UserRow) -> Mail {
    Mail::to(kind, &user.email, &user.name, user.locale.as_deref())
}

/// The account of an address. A former address that is still reserved belongs to nobody.
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
    let user = projections::users::find(&app.pool, &owner).await?;
    Ok(user.filter(|user| user.email == email.as_str()))
}

/// A session that began just now.
pub struct Started {
    /// Known to the client alone from now on.
    pub token: String,
    /// The session.
    pub session: SessionRow,
}

/// How somebody has proved who they are.
#[derive(Clone)]
pub struct Proof {
    /// By what.
    pub method: SignInMethod,
    /// Whether they showed a second factor too.
    pub second_factor: bool,
    /// The admin who acts as them in the session.
    pub impersonated_by: Option<UserId>,
    /// Why they do, in their words.
    pub reason: Option<String>,
    /// What they have shown in the session that this one takes the place of.
    pub carried: FactorTimes,
    /// The password that was checked: a session that would start after it was changed does not.
    pub password: Option<Seen>,
    /// Whether they come from a device that they had not come from before, and have come from others.
    pub new_device: bool,
    /// The token that they have shown, which the session's start uses up.
    pub token: Option<TokenChange>,
}

impl Proof {
    /// By another means than a password, and by nothing else.
    pub fn by(method: SignInMethod) -> Self {
        Self {
            method,
            second_factor: false,
            impersonated_by: None,
            reason: None,
            carried: FactorTimes::default(),
            password: None,
            new_device: false,
            token: None,
        }
    }
}

/// Starts a session for somebody who has proved who they are. Always a new id and token (S-27).
///
/// # Errors
/// When it cannot be written.
pub async fn start_session(
    app: &App,
    user: &UserRow,
    remembered: bool,
    proof: Proof,
    caller: &Caller,
) -> Result<Started, AccountError> {
    let now = app.clock.now();
    let lifetime = match (&proof.impersonated_by, remembered) {
        (Some(_), _) => IMPERSONATION,
        (None, true) => TimeDelta::days(SESSION_DAYS),
        (None, false) => TimeDelta::days(BRIEF_SESSION_DAYS),
    };
    let actor = match &proof.impersonated_by {
        None => Actor::User(user.id.clone()),
        Some(admin) => Actor::Impersonation {
            admin: admin.to_string(),
            person: user.id.clone(),
        },
    };
    let token = random_token(TOKEN_LENGTH);
    let id = ids::session();
    let shown = FactorTimes::at_start(proof.method, proof.second_factor, now);
    let session = SessionRow {
        id: id.to_string(),
        token_hash: TokenHash::of(TokenKind::Session, &token).to_hex(),
        user_id: user.id.clone(),
        remembered,
        ip_address: caller.client.ip_address.clone(),
        user_agent: caller.client.user_agent.clone(),
        created_at: now,
        updated_at: now,
        expires_at: now + lifetime,
        active_organization_id: None,
        active_team_id: None,
        impersonated_by: proof.impersonated_by.as_ref().map(ToString::to_string),
        first_factor_at: shown.first.or(proof.carried.first),
        second_factor_at: shown.second.or(proof.carried.second),
    };
    let command = SessionCommand::Start {
        user_id: UserId::new(&user.id),
        token_hash: session.token_hash.clone(),
        method: proof.method,
        second_factor: proof.second_factor,
        impersonated_by: proof.impersonated_by.clone(),
        reason: proof.reason,
        carried: proof.carried,
        remembered,
        ip_address: session.ip_address.clone(),
        user_agent: session.user_agent.clone(),
        expires_at: session.expires_at,
        at: now,
    };
    let mut context = caller
        .context(actor)
        .in_session(id.as_str())
        .on_new_stream()
        .with_patience(FOR_EACH_WAITING * app.passwords.waiting().min(4));
    if let Some(token) = proof.token {
        context = context.with_token(token);
    }
    if let Some(seen) = proof.password {
        context = context.if_unchanged(seen);
    }
    if proof.new_device {
        context = links::tell_of_new_device(app, user, caller, context);
    }
    match app
        .store
        .run::<Session>(id.as_str(), command, context)
        .await
    {
        Ok(_) => Ok(Started { token, session }),
        // The password was changed while it was checked, or the account closed: it opens nothing any more.
        Err(RunError::Store(StoreError::CustodyChanged | StoreError::NoDataKey)) => {
            Err(AccountError::WrongCredentials)
        }
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

/// Ends a session; one that is over already, by itself or with its account, stays over.
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
        Ok(_)
        | Err(RunError::Refused(SessionError::NotLive | SessionError::AlreadyStarted))
        | Err(RunError::Store(StoreError::NoDataKey)) => Ok(()),
        Err(RunError::Store(error)) => Err(error.into()),
    }
}

/// Whether the address is configured to be an admin's.
fn is_configured_admin(app: &App, email: &str) -> bool {
    app.config.admin_emails.iter().any(|admin| admin == email)
}

/// Gives the role admin to an account whose address is configured for it, once the address counts.
pub async fn with_configured_role(app: &App, user: UserRow) -> Result<UserRow, AccountError> {
    let counts = user.email_verified || !app.config.require_email_verification;
    if !counts || user.role != Roles::user().as_str() || !is_configured_admin(app, &user.email) {
        return Ok(user);
    }
    let (at, role) = (app.clock.now(), Roles::admin());
    let text = role.as_str().to_owned();
    let command = UserCommand::ChangeRole { role, at };
    app.store
        .run::<User>(&user.id, command, Context::of(Actor::System))
        .await?;
    Ok(UserRow {
        role: text,
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
