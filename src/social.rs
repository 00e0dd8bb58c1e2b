//! Signing in by another provider, and linking an account there to one's own.
//!
//! What is kept of a sign-in until the provider leads back is sealed, good once and for ten minutes, and counts only in
//! the browser that began it. Somebody is known by the provider's id of them; by their address only if both sides know it
//! to be proven: an account that a stranger made for it stays theirs to lose, and nobody else's to win (S-67).

use aggregates::session::SignInMethod;
use aggregates::user::{NewLink, User, UserCommand, UserError};
use aggregates::{ClaimScope, EmailAddress, external_identity};
use chrono::TimeDelta;
use projections::users::UserRow;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::accounts::{self, AccountError, Caller, FirstLink, NewAccount, Proof, Verification};
use crate::app::App;
use crate::config::Provider;
use crate::crypto::tokens::{TokenKind, random_url_text};
use crate::effects::REQUESTS;
use crate::entry;
use crate::ids;
use crate::linked;
use crate::oauth::{Asked, Granted, Identity, OAuthError, all_scopes};
use crate::sessions::Live;
use crate::signups;
use crate::store::{Actor, RunError, StoreError};
use crate::tokens::{self, Found, NewToken};

/// A provider has so long to lead back (contract section 7).
const STATE_FOR: TimeDelta = TimeDelta::minutes(10);
/// The browser keeps its part for so long.
pub const COOKIE_FOR: TimeDelta = TimeDelta::minutes(5);
/// Characters of a state.
const LENGTH: usize = 32;
/// Longest name and address of a picture that are taken over, in characters.
const TEXT_MAX_CHARS: usize = 2048;

/// Why nobody is signed in or linked.
#[derive(Debug, thiserror::Error)]
pub enum SocialError {
    /// For a reason that the contract has this code for.
    #[error("{0}")]
    Code(&'static str),
    /// Another reason.
    #[error(transparent)]
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for SocialError {
    fn from(error: E) -> Self {
        Self::Account(error.into())
    }
}

/// Where a sign-in leads.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Callbacks {
    /// Afterwards.
    pub callback: Option<String>,
    /// If an account was made.
    pub new_user: Option<String>,
    /// If it came to nothing.
    pub error: Option<String>,
}

/// What is kept of a sign-in until the provider leads back.
#[derive(Serialize, Deserialize)]
struct Kept {
    provider: String,
    verifier: String,
    nonce: Option<String>,
    scopes: Vec<String>,
    callbacks: Callbacks,
    /// Whether they asked for an account.
    #[serde(default)]
    requests_sign_up: bool,
    /// The session of whoever links an account.
    link_in: Option<String>,
}

/// A sign-in that has begun.
pub struct Begun {
    /// Where the person goes.
    pub url: Url,
    /// For the cookie.
    pub state: String,
}

/// Begins a sign-in at a provider, or the link of an account there to that of a session.
///
/// # Errors
/// When it cannot be written.
pub async fn begin(
    app: &App,
    provider: &Provider,
    asked: &Asked,
    callbacks: Callbacks,
    requests_sign_up: bool,
    linking: Option<&Live>,
) -> Result<Begun, StoreError> {
    let state = random_url_text(LENGTH);
    let authorization = app.providers.authorize(provider, &state, asked);
    let kept = Kept {
        provider: provider.id.clone(),
        verifier: authorization.verifier,
        nonce: authorization.nonce,
        scopes: all_scopes(provider, asked),
        callbacks,
        requests_sign_up,
        link_in: linking.map(|live| live.session.id.clone()),
    };
    let about = serde_json::to_string(&kept).expect("it is plain JSON");
    let owner = linking.map_or(REQUESTS, |live| live.user.id.as_str());
    let until = app.clock.now() + STATE_FOR;
    let new = NewToken::of(TokenKind::SocialState, &state, owner, Some(&about), until);
    new.keep(&app.pool, app.store.custody()).await?;
    Ok(Begun {
        url: authorization.url,
        state,
    })
}

/// A sign-in that a provider has led back to.
pub struct Returned {
    found: Found,
    kept: Kept,
}

/// The sign-in of a state, if it still waits.
///
/// # Errors
/// When the database does not answer.
pub async fn find(app: &App, state: &str) -> Result<Option<Returned>, StoreError> {
    let (pool, custody, now) = (&app.pool, app.store.custody(), app.clock.now());
    let found = tokens::find(pool, custody, TokenKind::SocialState, state, now).await?;
    Ok(found.and_then(|found| {
        let kept = serde_json::from_str(found.about.as_ref()?).ok()?;
        Some(Returned { found, kept })
    }))
}

impl Returned {
    /// Where it leads.
    pub fn callbacks(&self) -> &Callbacks {
        &self.kept.callbacks
    }

    /// Whether the person asked for an account.
    pub fn requests_sign_up(&self) -> bool {
        self.kept.requests_sign_up
    }

    /// Whether this is the provider that the person was sent to.
    pub fn is_from(&self, provider: &Provider) -> bool {
        self.kept.provider == provider.id
    }

    /// Uses the state up; says whether it was still there.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn spend(&self, app: &App) -> Result<bool, sqlx::Error> {
        tokens::spend(&app.pool, &self.found).await
    }

    /// Asks the provider who has come back, with the code that it gave them.
    ///
    /// # Errors
    /// If it does not say.
    pub async fn identify(
        &self,
        app: &App,
        provider: &Provider,
        code: &str,
    ) -> Result<Arrival, SocialError> {
        let now = app.clock.now();
        let redeemed = app
            .providers
            .redeem(provider, code, &self.kept.verifier, now);
        let granted = redeemed
            .await
            .map_err(|error| logged(provider, &error, "invalid_code"))?;
        let nonce = self.kept.nonce.as_deref();
        let identified = app
            .providers
            .identify(provider, &granted.tokens, nonce, now);
        let identity = identified.await.map_err(|error| {
            let code = match error {
                OAuthError::OtherSignIn => "nonce_binding_missing",
                OAuthError::NoAnswer(_) | OAuthError::Refused | OAuthError::NoIdToken => {
                    "unable_to_get_user_info"
                }
            };
            logged(provider, &error, code)
        })?;
        Ok(Arrival {
            identity,
            scopes: granted.scopes.clone().or(Some(self.kept.scopes.clone())),
            granted,
        })
    }

    /// The session of whoever wanted to link an account, if it is still live; `None` if somebody signs in.
    ///
    /// # Errors
    /// If the session is over: whatever ended it has ended this, too (S-07).
    pub async fn linking(&self, app: &App) -> Result<Option<UserRow>, SocialError> {
        let Some(session_id) = &self.kept.link_in else {
            return Ok(None);
        };
        let live = app.sessions.find_by_id(session_id, app.clock.now()).await?;
        let live = live.filter(|live| live.user.id == self.found.user_id);
        let live = live.ok_or(SocialError::Code("unable_to_link_account"))?;
        Ok(Some(live.user.clone()))
    }
}

fn logged(provider: &Provider, error: &OAuthError, code: &'static str) -> SocialError {
    tracing::warn!(provider = provider.id, %error, code, "a provider did not say who somebody is");
    SocialError::Code(code)
}

/// Somebody whom a provider vouches for.
pub struct Arrival {
    /// Who they are there.
    pub identity: Identity,
    /// What the provider gave us for them.
    pub granted: Granted,
    /// What that allows, if anybody knows.
    pub scopes: Option<Vec<String>>,
}

impl Arrival {
    fn link(&self, provider: &Provider) -> FirstLink {
        FirstLink {
            link: NewLink {
                link_id: ids::link(),
                provider: provider.id.clone(),
                subject: self.identity.subject.clone(),
                scopes: self.scopes.clone().unwrap_or_default(),
            },
            tokens: self.granted.tokens.clone(),
        }
    }

    fn email(&self) -> Result<EmailAddress, SocialError> {
        let email = self.identity.email.as_deref();
        let email = email.and_then(|email| EmailAddress::parse(email).ok());
        email.ok_or(SocialError::Code("email_not_found"))
    }
}

/// Finds whoever has arrived, or makes an account for them, if they asked for one or need not ask.
///
/// # Errors
/// If there is no account for them, and none may be made.
pub async fn sign_in(
    app: &App,
    provider: &Provider,
    arrival: &Arrival,
    callback: Option<&str>,
    requests_sign_up: bool,
    caller: &Caller,
) -> Result<(UserRow, bool), SocialError> {
    let may_sign_up = requests_sign_up || !provider.disable_implicit_sign_up;
    // Once more if somebody else makes or links the account at the same moment.
    for _ in 0..2 {
        match find_or_make(app, provider, arrival, callback, may_sign_up, caller).await {
            Err(SocialError::Account(AccountError::EmailTaken)) => {}
            Err(SocialError::Account(AccountError::Store(StoreError::ClaimTaken(_)))) => {}
            done => return done,
        }
    }
    Err(StoreError::Conflict.into())
}

async fn find_or_make(
    app: &App,
    provider: &Provider,
    arrival: &Arrival,
    callback: Option<&str>,
    may_sign_up: bool,
    caller: &Caller,
) -> Result<(UserRow, bool), SocialError> {
    let must_be_proven = app.config.require_email_verification;
    if let Some(user) = owner(app, provider, arrival).await? {
        let user = entry::without_old_ban(app, user).await?;
        if must_be_proven && !user.email_verified {
            return Err(SocialError::Code("email_not_verified"));
        }
        linked::renew(app, &user, &provider.id, arrival, caller).await?;
        return Ok((user, false));
    }
    let email = arrival.email()?;
    let verified = arrival.identity.email_verified;
    // Whoever could get in with an address that is not theirs could wait there for its owner, and whoever is told more
    // could find out which addresses have accounts (S-22).
    if must_be_proven && !verified {
        return Err(SocialError::Code("email_not_verified"));
    }
    if let Some(user) = accounts::find_by_email(app, &email).await? {
        // S-67
        if !verified || !user.email_verified {
            return Err(SocialError::Code("account_not_linked"));
        }
        let user = entry::without_old_ban(app, user).await?;
        add_link(app, &user, arrival.link(provider), caller).await?;
        return Ok((user, false));
    }
    if !may_sign_up {
        return Err(SocialError::Code("signup_disabled"));
    }
    let signups = signups::status(app).await?;
    if signups.is_some_and(|status| status.remaining() == 0) {
        return Err(SocialError::Code("signup_disabled"));
    }
    let account = NewAccount {
        email,
        name: shortened(&arrival.identity.name),
        password: None,
        email_verified: verified,
        image: arrival.identity.image.as_deref().map(shortened),
        locale: None,
        link: Some(arrival.link(provider)),
    };
    let verification = Verification {
        callback: (!verified).then_some(callback.unwrap_or("/")),
        once: None,
    };
    let context = caller.context_about(Actor::Anonymous, "");
    let user = accounts::register(app, account, context, verification).await?;
    Ok((accounts::with_configured_role(app, user).await?, true))
}

/// What another service calls somebody, as far as we would have taken it from themselves.
fn shortened(text: &str) -> String {
    text.chars()
        .filter(|c| *c != '\0')
        .take(TEXT_MAX_CHARS)
        .collect()
}

async fn owner(
    app: &App,
    provider: &Provider,
    arrival: &Arrival,
) -> Result<Option<UserRow>, AccountError> {
    let identity = external_identity(&provider.id, &arrival.identity.subject);
    let claims = app.store.claims();
    let Some(owner) = claims
        .owner(ClaimScope::ExternalIdentity, &identity)
        .await?
    else {
        return Ok(None);
    };
    Ok(projections::users::find(&app.pool, &owner).await?)
}

/// Links the account of whoever has arrived to that of somebody who is signed in.
///
/// # Errors
/// If it is somebody else's, or another address.
pub async fn link(
    app: &App,
    provider: &Provider,
    arrival: &Arrival,
    user: &UserRow,
    caller: &Caller,
) -> Result<(), SocialError> {
    const FOREIGN: SocialError = SocialError::Code("account_already_linked_to_different_user");
    match owner(app, provider, arrival).await? {
        Some(owner) if owner.id == user.id => {
            return Ok(linked::renew(app, user, &provider.id, arrival, caller).await?);
        }
        Some(_) => return Err(FOREIGN),
        None => {}
    }
    if arrival.email()?.as_str() != user.email {
        return Err(SocialError::Code("email_does_not_match"));
    }
    if !arrival.identity.email_verified {
        return Err(SocialError::Code("unable_to_link_account"));
    }
    match add_link(app, user, arrival.link(provider), caller).await {
        Err(AccountError::Store(StoreError::ClaimTaken(_))) => Err(FOREIGN),
        done => Ok(done?),
    }
}

async fn add_link(
    app: &App,
    user: &UserRow,
    FirstLink { link, tokens }: FirstLink,
    caller: &Caller,
) -> Result<(), AccountError> {
    let context = caller
        .context_about(Actor::User(user.id.clone()), &user.id)
        .with_secret(tokens.put(app.store.custody(), &user.id, &link.link_id));
    let command = UserCommand::LinkAccount {
        link_id: link.link_id,
        provider: link.provider,
        subject: link.subject,
        scopes: link.scopes,
        at: app.clock.now(),
    };
    match app.store.run::<User>(&user.id, command, context).await {
        // By another request of theirs, at the same moment.
        Ok(_) | Err(RunError::Refused(UserError::LinkedAlready)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What somebody has shown who comes from a provider.
pub fn proof() -> Proof {
    Proof::by(SignInMethod::Social)
}
