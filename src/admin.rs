//! What admins do to others: no HTTP here. The events say who did it, in whose stream, and in which session; from where
//! the admin came stands with that session, and not in the history of the other person.

use aggregates::session::{EndReason, SignInMethod};
use aggregates::user::{ErasureReason, User, UserCommand};
use aggregates::{EmailAddress, Roles, UserId};
use chrono::{DateTime, Utc};
use projections::users::UserRow;

use crate::accounts::{self, AccountError, Caller, NewAccount, Proof, Standing, Verification};
use crate::app::App;
use crate::crypto::password::Password;
use crate::entry::{self, Entered, In, Visit};
use crate::self_service::{self, ProfileChange};
use crate::sessions::Live;
use crate::store::Context;
use crate::{erasure, guard, links};

/// An admin at work.
pub struct Admin<'a> {
    /// Their session.
    pub live: &'a Live,
    /// The request.
    pub caller: &'a Caller,
}

impl Admin<'_> {
    fn context(&self) -> Context {
        let context = self.caller.context(self.live.actor());
        context.in_session(&self.live.session.id)
    }
}

/// Makes an account; no mail is sent.
///
/// # Errors
/// If the address is taken, or it cannot be written.
pub async fn create(
    app: &App,
    admin: &Admin<'_>,
    account: NewAccount,
    standing: Standing,
) -> Result<UserRow, AccountError> {
    let context = admin.context();
    accounts::register_as(app, account, standing, context, Verification::NONE).await
}

/// A change to somebody else's account; what is `None` or empty stays as it is.
#[derive(Default)]
pub struct UserChange {
    /// What they show of themselves.
    pub profile: ProfileChange,
    /// Another role.
    pub role: Option<Roles>,
    /// Another tier.
    pub tier: Option<aggregates::Tier>,
    /// Another address; all sessions end, and the old address gets the way back if it was proven.
    pub email: Option<EmailAddress>,
    /// Whether the address counts as proven.
    pub is_verified: Option<bool>,
    /// A ban, or its end.
    pub ban: Option<BanChange>,
}

/// What becomes of a ban.
pub enum BanChange {
    /// Nobody gets in any more.
    Ban {
        /// What the person is told.
        reason: Option<String>,
        /// When it ends by itself.
        until: Option<DateTime<Utc>>,
    },
    /// It ends now.
    Lift,
}

/// Changes an account, all of it or nothing; gives the person as they are then.
///
/// # Errors
/// `LastAdmin` if nobody would be an admin any more, `EmailTaken`; else when it cannot be written.
pub async fn change(
    app: &App,
    admin: &Admin<'_>,
    user: &UserRow,
    change: UserChange,
) -> Result<UserRow, AccountError> {
    let at = app.clock.now();
    let mut context = admin.context();
    let mut commands = vec![];
    let ProfileChange {
        name,
        image,
        locale,
    } = change.profile;
    commands.push(UserCommand::ChangeProfile {
        name,
        image,
        locale,
        at,
    });
    let email = change.email.filter(|email| email.as_str() != user.email);
    if let Some(to) = email.clone() {
        context = links::with_new_address(app, user, &to, at, context);
        commands.push(UserCommand::RequestEmailChange { to: to.clone(), at });
        commands.push(UserCommand::ChangeEmail {
            to,
            needs_consent: false,
            keep: None,
            at,
        });
    }
    if change.is_verified == Some(false) {
        commands.push(UserCommand::WithdrawEmailVerification { at });
    }
    if change.is_verified == Some(true) {
        // The address of this moment: if it is another one by then, nothing is proven.
        let email = match email {
            Some(email) => email,
            None => EmailAddress::parse(&user.email).map_err(|_| AccountError::OtherEmail)?,
        };
        commands.push(UserCommand::VerifyEmail { email, at });
    }
    if let Some(tier) = change.tier {
        commands.push(UserCommand::ChangeTier { tier, at });
    }
    if let Some(role) = change.role {
        if !role.contains(Roles::admin().as_str()) {
            context = context.unless_last_admin(&user.id);
        }
        commands.push(UserCommand::ChangeRole { role, at });
    }
    match change.ban {
        None => {}
        Some(BanChange::Ban { reason, until }) => {
            context = context.unless_last_admin(&user.id);
            commands.push(UserCommand::Ban { reason, until, at });
        }
        Some(BanChange::Lift) => commands.push(UserCommand::LiftBan { at }),
    }
    let command = UserCommand::All(commands);
    app.store.run::<User>(&user.id, command, context).await?;
    projections::users::find(&app.pool, &user.id)
        .await?
        .ok_or(AccountError::NoAccount)
}

/// Gives somebody a new password; all of their sessions and pending links end (S-07), and so do their locks.
///
/// # Errors
/// When it cannot be written.
pub async fn set_password(
    app: &App,
    admin: &Admin<'_>,
    user: &UserRow,
    password: Password,
) -> Result<(), AccountError> {
    self_service::set_forgotten_password(app, user, password, admin.context()).await?;
    Ok(guard::clear(app, user).await?)
}

/// Closes somebody's account for good.
///
/// # Errors
/// `LastAdmin` if nobody would be an admin any more; else when it cannot be written.
pub async fn remove(app: &App, admin: &Admin<'_>, user: &UserRow) -> Result<(), AccountError> {
    erasure::erase(app, user, ErasureReason::AdminRequest, admin.context()).await?;
    Ok(())
}

/// Ends one session of anybody.
///
/// # Errors
/// When it cannot be written.
pub async fn end_session(app: &App, admin: &Admin<'_>, id: &str) -> Result<(), AccountError> {
    accounts::end_session(app, id, EndReason::Revoked, admin.context()).await
}

/// Ends all sessions of somebody; of nobody there are none.
///
/// # Errors
/// When it cannot be written.
pub async fn end_sessions(app: &App, admin: &Admin<'_>, user_id: &str) -> Result<(), AccountError> {
    match self_service::end_sessions(app, user_id, None, admin.context()).await {
        Ok(()) | Err(AccountError::NoAccount) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Starts a session in which the admin acts as somebody who is none, for an hour (S-66). The reason is told to nobody but
/// the person and the admins, in the security log.
///
/// # Errors
/// `Banned`; else when it cannot be written.
pub async fn impersonate(
    app: &App,
    admin: &Admin<'_>,
    user: UserRow,
    reason: Option<String>,
) -> Result<Box<In>, AccountError> {
    let proof = Proof {
        impersonated_by: Some(UserId::new(&admin.live.user.id)),
        reason,
        ..Proof::by(SignInMethod::Impersonation)
    };
    let visit = Visit {
        proof,
        remembered: false,
        trusted_device: None,
        caller: admin.caller,
    };
    match entry::enter(app, user, visit).await? {
        Entered::In(entered) => Ok(entered),
        Entered::SecondFactorNeeded { .. } => unreachable!("an admin has shown their own"),
    }
}

/// Ends such a session.
///
/// # Errors
/// When it cannot be written.
pub async fn stop_impersonating(
    app: &App,
    live: &Live,
    caller: &Caller,
) -> Result<(), AccountError> {
    let context = caller.context(live.actor());
    accounts::end_session(app, &live.session.id, EndReason::Impersonation, context).await
}

/// What admins may do, by resource; nobody else may do any of it.
const PERMISSIONS: [(&str, &[&str]); 2] = [
    (
        "user",
        &[
            "create",
            "list",
            "set-role",
            "ban",
            "impersonate",
            "delete",
            "set-password",
            "set-email",
            "get",
            "update",
        ],
    ),
    ("session", &["list", "revoke", "delete"]),
];

/// Whether somebody may do `action` to `resource`.
pub fn may(user: &UserRow, resource: &str, action: &str) -> bool {
    let known = PERMISSIONS
        .iter()
        .any(|(name, actions)| *name == resource && actions.contains(&action));
    known && user.has_role(Roles::admin().as_str())
}
