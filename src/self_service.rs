//! What people do with their own account: passwords, addresses, profile, sessions.

use aggregates::session::EndReason;
use aggregates::user::{PasswordCause, User, UserCommand};
use aggregates::{EmailAddress, SessionId};
use projections::users::UserRow;

use crate::accounts::{AccountError, Caller};
use crate::app::App;
use crate::crypto::password::{Password, PasswordHash};
use crate::crypto::tokens::TokenKind;
use crate::custody::{ONLY, Seen, kind};
use crate::effects;
use crate::guard::{self, Attempt, Target};
use crate::links::{self, FormerEmail};
use crate::mail::MailKind;
use crate::sessions::Live;
use crate::store::{Actor, Context};
use crate::tokens::{self, Found, TokenChange};

/// Tokens that are worth nothing under another password (S-07).
const TIED_TO_PASSWORD: [TokenKind; 6] = [
    TokenKind::PasswordReset,
    TokenKind::DeleteAccount,
    TokenKind::MagicLink,
    TokenKind::Challenge,
    TokenKind::MailedCode,
    TokenKind::TrustedDevice,
];

/// Finds the person and token of a mailed link. A wrong one counts against the network that it comes from.
///
/// # Errors
/// `InvalidToken` if it is not good.
pub async fn find_token(
    app: &App,
    kind: TokenKind,
    token: &str,
    caller: &Caller,
) -> Result<Found, AccountError> {
    let target = Target {
        email: None,
        known_device: None,
        network: &caller.network,
    };
    let attempt = guard::admit(app, target).await?;
    let found = look_up(app, &attempt, kind, token).await;
    match &found {
        Ok(Some(_)) => attempt.succeeded(app).await?,
        Ok(None) => drop(attempt.failed(app).await?),
        Err(_) => attempt.withdrawn(app).await?,
    }
    found?.ok_or(AccountError::InvalidToken)
}

async fn look_up(
    app: &App,
    _: &Attempt,
    kind: TokenKind,
    token: &str,
) -> Result<Option<Found>, AccountError> {
    let (pool, custody) = (&app.pool, app.store.custody());
    Ok(tokens::find(pool, custody, kind, token, app.clock.now()).await?)
}

/// The account of a token.
///
/// # Errors
/// `InvalidToken` if it was closed.
pub async fn user_of(app: &App, found: &Found) -> Result<UserRow, AccountError> {
    projections::users::find(&app.pool, &found.user_id)
        .await?
        .ok_or(AccountError::InvalidToken)
}

/// Sets a new password for somebody who knew the old one. All other sessions end, and so do pending links (S-07).
/// Gives what a session that follows from it has to demand.
///
/// # Errors
/// If the old one was changed meanwhile, or it cannot be written.
pub async fn change_password(
    app: &App,
    user: &UserRow,
    seen: Seen,
    password: Password,
    keep: Option<&str>,
    caller: &Caller,
) -> Result<Seen, AccountError> {
    let hash = app.passwords.hash(password).await?;
    // The append puts the new one in the place of the one that was seen, and nowhere else.
    let new = Seen {
        version: seen.version + 1,
        ..seen.clone()
    };
    let context = context(caller, user).if_unchanged(seen);
    let keep = keep.map(SessionId::new);
    set_password(app, user, &hash, PasswordCause::Change, keep, context).await?;
    Ok(new)
}

/// Sets a new password for somebody who holds a token from a mail. All sessions end, and the locks of
/// account and devices.
///
/// # Errors
/// If the token was used meanwhile, or it cannot be written.
pub async fn reset_password(
    app: &App,
    found: &Found,
    user: &UserRow,
    password: Password,
    caller: &Caller,
) -> Result<(), AccountError> {
    // Before the token is used up: what fails afterwards could not be tried again.
    guard::clear(app, user).await?;
    let context = context(caller, user).with_token(found.used(app.clock.now()));
    set_forgotten_password(app, user, password, context).await
}

/// Sets a new password for somebody who shows none. All sessions end, and pending links.
///
/// # Errors
/// When it cannot be written.
pub async fn set_forgotten_password(
    app: &App,
    user: &UserRow,
    password: Password,
    context: Context,
) -> Result<(), AccountError> {
    let hash = app.passwords.hash(password).await?;
    set_password(app, user, &hash, PasswordCause::Reset, None, context).await
}

async fn set_password(
    app: &App,
    user: &UserRow,
    hash: &PasswordHash,
    cause: PasswordCause,
    keep: Option<SessionId>,
    mut context: Context,
) -> Result<(), AccountError> {
    let custody = app.store.custody();
    context =
        context.with_secret(custody.put(kind::PASSWORD, &user.id, ONLY, hash.expose().as_bytes()));
    let context = without_tokens(&user.id, None, context);
    let context = links::tell(app, MailKind::PasswordChanged, user, context);
    let at = app.clock.now();
    let command = UserCommand::SetPassword { cause, keep, at };
    app.store.run::<User>(&user.id, command, context).await?;
    Ok(())
}

/// With the end of all tokens of a person that are worth nothing under another password, but those of one kind.
pub fn without_tokens(user_id: &str, but: Option<TokenKind>, context: Context) -> Context {
    let kinds = TIED_TO_PASSWORD
        .into_iter()
        .filter(|kind| Some(*kind) != but);
    kinds.fold(context, |context, kind| {
        let user_id = user_id.to_owned();
        context.with_token(TokenChange::Withdraw { user_id, kind })
    })
}

/// Notes that another address is wanted, and mails whoever has to agree. A taken address, and one that has had mails
/// enough (S-21), gets no mail. Neither the answer nor the mail to the old address says so (S-22).
///
/// # Errors
/// When it cannot be written.
pub async fn request_email_change(
    app: &App,
    user: &UserRow,
    to: EmailAddress,
    callback: &str,
    caller: &Caller,
) -> Result<(), AccountError> {
    let mut context = context(caller, user);
    let (mail, token) = links::change_mail(app, user, &to, callback);
    let to_old = mail.to == user.email;
    if (to_old || links::is_free_for(app, user, &to).await?)
        && links::may_mail(app, &mail.to).await?
    {
        context = context.then(effects::mail(&user.id, &mail));
        if let Some(token) = token {
            context = context.with_token(TokenChange::Put(token));
        }
    }
    let at = app.clock.now();
    let command = UserCommand::RequestEmailChange { to, at };
    app.store.run::<User>(&user.id, command, context).await?;
    Ok(())
}

/// Takes a change of address back.
///
/// # Errors
/// `InvalidToken` if the token was used meanwhile or nothing is left to take back.
pub async fn revert_email(app: &App, found: &Found, caller: &Caller) -> Result<(), AccountError> {
    let user = user_of(app, found).await?;
    let (to, _) = FormerEmail::of(found).ok_or(AccountError::InvalidToken)?;
    let context = context(caller, &user)
        .with_token(found.used(app.clock.now()))
        .with_token(TokenChange::Withdraw {
            user_id: user.id.clone(),
            kind: TokenKind::PasswordReset,
        });
    let at = app.clock.now();
    let command = UserCommand::RevertEmail { to, at };
    match app.store.run::<User>(&user.id, command, context).await {
        Ok(_) => Ok(()),
        Err(error) => match AccountError::from(error) {
            AccountError::OtherEmail => Err(AccountError::InvalidToken),
            error => Err(error),
        },
    }
}

/// Ends all sessions of the person that a mailed link belongs to.
///
/// # Errors
/// `InvalidToken` if the token was used meanwhile.
pub async fn end_sessions_by_link(
    app: &App,
    found: &Found,
    caller: &Caller,
) -> Result<(), AccountError> {
    let user = user_of(app, found).await?;
    let context = context(caller, &user).with_token(found.used(app.clock.now()));
    end_sessions(app, &user.id, None, context).await
}

/// Ends all sessions of a person, or all but one.
///
/// # Errors
/// When it cannot be written.
pub async fn end_sessions(
    app: &App,
    user_id: &str,
    keep: Option<&str>,
    context: Context,
) -> Result<(), AccountError> {
    let command = UserCommand::EndSessions {
        keep: keep.map(SessionId::new),
        reason: EndReason::Revoked,
        at: app.clock.now(),
    };
    app.store.run::<User>(user_id, command, context).await?;
    Ok(())
}

/// A change to what a person shows of themselves; `None` leaves a field as it is.
#[derive(Default)]
pub struct ProfileChange {
    /// New name.
    pub name: Option<String>,
    /// New picture; `Some(None)` removes it.
    pub image: Option<Option<String>>,
    /// New language; `Some(None)` removes it.
    pub locale: Option<Option<String>>,
}

/// Changes the profile.
///
/// # Errors
/// When it cannot be written.
pub async fn change_profile(
    app: &App,
    live: &Live,
    change: ProfileChange,
    caller: &Caller,
) -> Result<(), AccountError> {
    let user_id = &live.user.id;
    let command = UserCommand::ChangeProfile {
        name: change.name,
        image: change.image,
        locale: change.locale,
        at: app.clock.now(),
    };
    let context = caller.context_about(live.actor(), user_id);
    app.store.run::<User>(user_id, command, context).await?;
    Ok(())
}

/// The context of what a person does with their own account.
fn context(caller: &Caller, user: &UserRow) -> Context {
    caller.context_about(Actor::User(user.id.clone()), &user.id)
}
