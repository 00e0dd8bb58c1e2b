//! The accounts that somebody has linked: listing them, taking one away, and using what its provider has given us.

use aggregates::user::{User, UserCommand, UserError};
use chrono::TimeDelta;
use projections::accounts::{self, AccountRow, CREDENTIAL};
use projections::users::UserRow;
use serde_json::{Map, Value};

use crate::accounts::{AccountError, Caller};
use crate::app::App;
use crate::config::Provider;
use crate::custody::{ONLY, kind};
use crate::oauth::{self, Granted, Identity, OAuthError, ProviderTokens};
use crate::social::Arrival;
use crate::store::{Actor, Context, RunError, StoreError};

/// An access token that ends within this time is renewed before it is given out.
const NEARLY_OVER: TimeDelta = TimeDelta::seconds(5);

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum LinkedError {
    /// The person has no such account.
    #[error("there is no such account")]
    NotFound,
    /// It would be the last one.
    #[error("it is the last account")]
    Last,
    /// It is the password.
    #[error("it is the password")]
    Credential,
    /// Its provider is not configured any more.
    #[error("its provider is not configured")]
    NoProvider,
    /// Its provider has given no access token.
    #[error("there is no access token")]
    NoAccessToken,
    /// Its provider has given no refresh token.
    #[error("there is no refresh token")]
    NoRefreshToken,
    /// Its provider does not answer as it should.
    #[error(transparent)]
    Provider(#[from] OAuthError),
    /// Another reason.
    #[error(transparent)]
    Account(AccountError),
}

impl From<AccountError> for LinkedError {
    fn from(error: AccountError) -> Self {
        Self::Account(error)
    }
}

impl From<sqlx::Error> for LinkedError {
    fn from(error: sqlx::Error) -> Self {
        Self::Account(error.into())
    }
}

/// The account of a person with this id.
async fn find(app: &App, user: &UserRow, id: &str) -> Result<AccountRow, LinkedError> {
    let account = accounts::find(&app.pool, id).await?;
    let own = account.filter(|account| account.user_id == user.id);
    own.ok_or(LinkedError::NotFound)
}

fn context(user: &UserRow, caller: &Caller) -> Context {
    caller.context_about(Actor::User(user.id.clone()), &user.id)
}

/// Takes an account away, and what its provider has given us.
///
/// # Errors
/// If there is none, or no other one.
pub async fn unlink(
    app: &App,
    user: &UserRow,
    id: &str,
    caller: &Caller,
) -> Result<(), LinkedError> {
    let account = find(app, user, id).await?;
    let (custody, at) = (app.store.custody(), app.clock.now());
    let (command, secret) = if account.provider_id == CREDENTIAL {
        let secret = custody.delete(kind::PASSWORD, &user.id, ONLY);
        (UserCommand::RemovePassword { at }, secret)
    } else {
        let secret = custody.delete(kind::PROVIDER_TOKENS, &user.id, id);
        let link_id = id.to_owned();
        (UserCommand::UnlinkAccount { link_id, at }, secret)
    };
    let context = context(user, caller).with_secret(secret);
    match app.store.run::<User>(&user.id, command, context).await {
        Ok(_) => Ok(()),
        Err(RunError::Refused(UserError::LastWayIn)) => Err(LinkedError::Last),
        Err(RunError::Refused(UserError::NoSuchAccount)) => Err(LinkedError::NotFound),
        Err(error) => Err(LinkedError::Account(error.into())),
    }
}

/// A linked account, its provider, and what that has given us.
struct Opened<'a> {
    account: AccountRow,
    provider: &'a Provider,
    tokens: ProviderTokens,
    version: i64,
}

async fn open<'a>(app: &'a App, user: &UserRow, id: &str) -> Result<Opened<'a>, LinkedError> {
    let account = find(app, user, id).await?;
    if account.provider_id == CREDENTIAL {
        return Err(LinkedError::Credential);
    }
    let provider = app
        .providers
        .find(&account.provider_id)
        .ok_or(LinkedError::NoProvider)?;
    let (tokens, version) = stored(app, user, id).await?.ok_or(LinkedError::NotFound)?;
    Ok(Opened {
        account,
        provider,
        tokens,
        version,
    })
}

/// What a provider has given us for a link, and its version in custody.
async fn stored(
    app: &App,
    user: &UserRow,
    id: &str,
) -> Result<Option<(ProviderTokens, i64)>, AccountError> {
    let custody = app.store.custody();
    let Some(secret) = custody.read(kind::PROVIDER_TOKENS, &user.id, id).await? else {
        return Ok(None);
    };
    let tokens = serde_json::from_slice(&secret.bytes)
        .map_err(|_| StoreError::Broken("a provider's tokens do not read".to_owned()))?;
    Ok(Some((tokens, secret.version)))
}

/// Keeps what a provider has given us anew for an account that is linked.
///
/// # Errors
/// When it cannot be written.
pub async fn renew(
    app: &App,
    user: &UserRow,
    provider: &str,
    arrival: &Arrival,
    caller: &Caller,
) -> Result<(), AccountError> {
    let accounts = accounts::of_user(&app.pool, &user.id).await?;
    let subject = &arrival.identity.subject;
    let mut these = accounts.into_iter();
    let Some(account) = these.find(|row| row.provider_id == provider && row.account_id == *subject)
    else {
        // Unlinked at this moment.
        return Ok(());
    };
    let Some((older, version)) = stored(app, user, &account.id).await? else {
        return Ok(());
    };
    let tokens = arrival.granted.tokens.clone().or(older);
    let scopes = arrival.scopes.as_ref();
    keep(app, user, &account, version, &tokens, scopes, caller).await
}

async fn keep(
    app: &App,
    user: &UserRow,
    account: &AccountRow,
    version: i64,
    tokens: &ProviderTokens,
    scopes: Option<&Vec<String>>,
    caller: &Caller,
) -> Result<(), AccountError> {
    // Tokens come and go without an event; whoever was faster has newer ones.
    let custody = app.store.custody();
    let kind = kind::PROVIDER_TOKENS;
    custody
        .replace(kind, &user.id, &account.id, version, &tokens.bytes())
        .await?;
    let Some(scopes) = scopes.filter(|scopes| **scopes != account.scopes) else {
        return Ok(());
    };
    let command = UserCommand::ChangeAccountScopes {
        link_id: account.id.clone(),
        scopes: scopes.clone(),
        at: app.clock.now(),
    };
    app.store
        .run::<User>(&user.id, command, context(user, caller))
        .await?;
    Ok(())
}

/// Tokens of an account, and what they allow.
pub struct Usable {
    /// The account's id.
    pub id: String,
    /// Its provider.
    pub provider: String,
    /// The tokens.
    pub tokens: ProviderTokens,
    /// What they allow.
    pub scopes: Vec<String>,
}

/// An access token that can be used now.
///
/// # Errors
/// If there is none, and the provider makes none.
pub async fn access_token(
    app: &App,
    user: &UserRow,
    id: &str,
    caller: &Caller,
) -> Result<Usable, LinkedError> {
    let opened = open(app, user, id).await?;
    let soon = app.clock.now() + NEARLY_OVER;
    let over = opened.tokens.expires_at.is_some_and(|end| end <= soon);
    if over && opened.tokens.refresh_token.is_some() {
        return refreshed(app, user, opened, caller).await;
    }
    Ok(opened.usable())
}

/// Makes a new access token.
///
/// # Errors
/// If the provider makes none.
pub async fn refresh(
    app: &App,
    user: &UserRow,
    id: &str,
    caller: &Caller,
) -> Result<Usable, LinkedError> {
    let opened = open(app, user, id).await?;
    refreshed(app, user, opened, caller).await
}

async fn refreshed(
    app: &App,
    user: &UserRow,
    opened: Opened<'_>,
    caller: &Caller,
) -> Result<Usable, LinkedError> {
    let Opened {
        account,
        provider,
        tokens: older,
        version,
    } = opened;
    let token = older
        .refresh_token
        .clone()
        .ok_or(LinkedError::NoRefreshToken)?;
    let Granted { tokens, scopes } = app
        .providers
        .refresh(provider, &token, app.clock.now())
        .await?;
    let tokens = tokens.or(older);
    keep(
        app,
        user,
        &account,
        version,
        &tokens,
        scopes.as_ref(),
        caller,
    )
    .await?;
    let scopes = scopes.unwrap_or(account.scopes.clone());
    Ok(Opened {
        account: AccountRow { scopes, ..account },
        provider,
        tokens,
        version,
    }
    .usable())
}

impl Opened<'_> {
    fn usable(self) -> Usable {
        Usable {
            id: self.account.id,
            provider: self.account.provider_id,
            tokens: self.tokens,
            scopes: self.account.scopes,
        }
    }
}

/// What the provider of an account says of it now; where it is not asked, what its last ID token said.
///
/// # Errors
/// If it says nothing.
pub async fn info(
    app: &App,
    user: &UserRow,
    id: &str,
    caller: &Caller,
) -> Result<(AccountRow, Identity), LinkedError> {
    let opened = open(app, user, id).await?;
    let (provider, account) = (opened.provider, opened.account.clone());
    let data: Map<String, Value> = if provider.userinfo_url.is_some() {
        let usable = access_token(app, user, id, caller).await?;
        if usable.tokens.access_token.is_none() {
            return Err(LinkedError::NoAccessToken);
        }
        app.providers.userinfo(provider, &usable.tokens).await?
    } else {
        // It was verified when it came, and has been in custody since.
        let token = opened.tokens.id_token.as_deref().unwrap_or_default();
        crate::crypto::id_token::claims_of(token).ok_or(LinkedError::NoAccessToken)?
    };
    Ok((account, oauth::identity(data)?))
}
