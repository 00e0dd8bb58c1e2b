//! Magic links: a mail that signs its reader in, and makes an account for an address that has none.
//!
//! Whether the address has an account is looked up by the worker that writes the mail, and once more when the link is
//! followed. The link is used up by the append that starts the session, so a crash burns none and of many that follow it
//! at once one gets in.

use aggregates::EmailAddress;
use aggregates::session::SignInMethod;
use aggregates::user::{User, UserCommand};
use chrono::TimeDelta;
use projections::users::UserRow;
use serde::{Deserialize, Serialize};

use crate::accounts::{self, AccountError, Caller, NewAccount, Proof, Verification, mail_to};
use crate::app::App;
use crate::crypto::tokens::TokenKind;
use crate::custody::{ONLY, kind};
use crate::effects::{self, REQUESTS};
use crate::links::{self, MailRequest};
use crate::mail::{Mail, MailKind};
use crate::self_service;
use crate::store::{Actor, RunError};
use crate::tokens;

/// A link is good for this long (contract section 7).
const LINK_FOR: TimeDelta = TimeDelta::minutes(10);
/// Characters of its token.
const LENGTH: usize = 32;

/// What is kept of a link, sealed.
#[derive(Serialize, Deserialize)]
struct About {
    email: EmailAddress,
    /// What a new account is called.
    name: Option<String>,
}

/// Why a link leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The address has no account, and links make none.
    #[error("no accounts are made by links")]
    SignUpDisabled,
    /// Another reason.
    #[error(transparent)]
    Account(AccountError),
}

impl<E: Into<AccountError>> From<E> for LinkError {
    fn from(error: E) -> Self {
        Self::Account(error.into())
    }
}

/// Mails a link to whoever reads at an address, with an account or without.
///
/// # Errors
/// When it cannot be written.
pub async fn send(
    app: &App,
    request: &MailRequest,
    user: Option<&UserRow>,
) -> Result<(), AccountError> {
    let email = &request.email;
    if !links::may_mail(app, email.as_str()).await? {
        return Ok(());
    }
    let about = About {
        email: email.clone(),
        name: request.name.clone(),
    };
    let about = serde_json::to_string(&about).expect("it is plain JSON");
    let owner = user.map_or(REQUESTS, |user| user.id.as_str());
    let until = app.clock.now() + LINK_FOR;
    let (token, new) = tokens::issue(TokenKind::MagicLink, LENGTH, owner, Some(&about), until);
    new.keep(&app.pool, app.store.custody()).await?;
    let path = if app.config.magic_link_page {
        "/api/v1/auth/magic-link"
    } else {
        "/api/auth/magic-link/verify"
    };
    let url = format!(
        "{}{path}?token={token}{}",
        app.config.base_url, request.callback
    );
    let mail = Mail {
        url: Some(url),
        ..match user {
            Some(user) => mail_to(MailKind::MagicLink, user),
            None => Mail::to(
                MailKind::MagicLink,
                email.as_str(),
                about_name(request),
                None,
            ),
        }
    };
    Ok(effects::enqueue(app, &effects::mail(owner, &mail)).await?)
}

fn about_name(request: &MailRequest) -> &str {
    request.name.as_deref().unwrap_or_default()
}

/// Somebody who has followed a good link. It is used up when their session starts.
pub struct Reader {
    /// The person.
    pub user: UserRow,
    /// Whether the account was made just now.
    pub is_new: bool,
    /// What they have shown.
    pub proof: Proof,
}

/// Finds whoever a link is for, or makes an account for them. An account whose address nobody had proven is theirs from
/// now on, and theirs alone: password, other ways in and sessions of whoever made it are gone.
///
/// # Errors
/// `InvalidToken` if the link is not good.
pub async fn follow(app: &App, token: &str, caller: &Caller) -> Result<Reader, LinkError> {
    let found = self_service::find_token(app, TokenKind::MagicLink, token, caller).await?;
    let about = found.about.as_ref();
    let About { email, name } = about
        .and_then(|about| serde_json::from_str(about).ok())
        .ok_or(AccountError::InvalidToken)?;
    let proof = Proof {
        token: Some(found.used(app.clock.now())),
        ..Proof::by(SignInMethod::MagicLink)
    };
    // Once more if somebody else makes the account at the same moment.
    for _ in 0..2 {
        if let Some(user) = accounts::find_by_email(app, &email).await? {
            // The address is another account's by now.
            if found.user_id != user.id && found.user_id != REQUESTS {
                return Err(AccountError::InvalidToken.into());
            }
            let user = proven(app, user, email, caller).await?;
            return Ok(Reader {
                user,
                is_new: false,
                proof,
            });
        }
        if found.user_id != REQUESTS {
            return Err(AccountError::InvalidToken.into());
        }
        if !app.config.magic_link_signup {
            return Err(LinkError::SignUpDisabled);
        }
        match sign_up(app, email.clone(), name.clone(), caller).await {
            Ok(user) => {
                return Ok(Reader {
                    user,
                    is_new: true,
                    proof,
                });
            }
            Err(AccountError::EmailTaken) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(AccountError::InvalidToken.into())
}

async fn sign_up(
    app: &App,
    email: EmailAddress,
    name: Option<String>,
    caller: &Caller,
) -> Result<UserRow, AccountError> {
    let account = NewAccount {
        email,
        name: name.unwrap_or_default(),
        password: None,
        email_verified: true,
        image: None,
        locale: None,
        link: None,
    };
    let context = caller.context_about(Actor::Anonymous, "");
    let user = accounts::register(app, account, context, Verification::NONE).await?;
    accounts::with_configured_role(app, user).await
}

/// The account, whose address was proven just now if it was not before.
async fn proven(
    app: &App,
    user: UserRow,
    email: EmailAddress,
    caller: &Caller,
) -> Result<UserRow, AccountError> {
    if user.email_verified {
        return Ok(user);
    }
    let at = app.clock.now();
    let custody = app.store.custody();
    let mut context = caller.context_about(Actor::User(user.id.clone()), &user.id);
    for kind in [kind::PASSWORD, kind::TOTP, kind::BACKUP_CODES] {
        context = context.with_secret(custody.delete(kind, &user.id, ONLY));
    }
    // Nor do the accounts at other providers stay.
    for account in projections::accounts::of_user(&app.pool, &user.id).await? {
        context = context.with_secret(custody.delete(kind::PROVIDER_TOKENS, &user.id, &account.id));
    }
    // The link itself is used up when the session starts.
    let context = self_service::without_tokens(&user.id, Some(TokenKind::MagicLink), context);
    let command = UserCommand::ProveByLink { email, at };
    match app.store.run::<User>(&user.id, command, context).await {
        Ok(_) => {}
        Err(RunError::Store(error)) => return Err(error.into()),
        Err(error) => return Err(error.into()),
    }
    let user = projections::users::find(&app.pool, &user.id)
        .await?
        .ok_or(AccountError::NoAccount)?;
    accounts::with_configured_role(app, user).await
}
