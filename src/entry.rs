//! The one policy of all doors: what stands between somebody's proof of who they are and their session. Every door that
//! signs somebody in comes through here, so a ban, a second factor or a role that was configured is never forgotten at one
//! of them.

use aggregates::session::SignInMethod;
use aggregates::user::{User, UserCommand};
use projections::users::UserRow;

use crate::accounts::{self, AccountError, Caller, Proof, Started};
use crate::app::App;
use crate::second_factor;
use crate::store::{Actor, Context};
use crate::tokens;

/// How somebody comes in.
pub struct Visit<'a> {
    /// What they have shown.
    pub proof: Proof,
    /// Whether the session outlives the browser.
    pub remembered: bool,
    /// The id of a device that was trusted to do without a second factor.
    pub trusted_device: Option<&'a str>,
    /// The request.
    pub caller: &'a Caller,
}

/// What a proof has led to.
pub enum Entered {
    /// A session.
    In(Box<In>),
    /// A challenge: the session starts when a second factor is shown.
    SecondFactorNeeded {
        /// For the cookie.
        challenge: String,
        /// What may be shown.
        methods: Vec<&'static str>,
    },
}

/// Somebody who is in.
pub struct In {
    /// The person as they are now.
    pub user: UserRow,
    /// Their session.
    pub started: Started,
    /// The new id of the device that was trusted.
    pub trusted_device: Option<String>,
}

/// Lets somebody in, if nothing stands in the way.
///
/// # Errors
/// `Banned`; else when it cannot be written.
pub async fn enter(app: &App, user: UserRow, visit: Visit<'_>) -> Result<Entered, AccountError> {
    let Visit {
        proof,
        remembered,
        trusted_device,
        caller,
    } = visit;
    let user = without_old_ban(app, user).await?;
    let mut renewed = None;
    if user.two_factor_enabled && !proof.second_factor && asks(app, proof.method) {
        if let Some(id) = trusted_device {
            renewed = second_factor::renew_trust(app, &user.id, id).await?;
        }
        if renewed.is_none() {
            // No session starts that could use it up.
            if let Some(token) = &proof.token
                && !tokens::use_up(&app.pool, token).await?
            {
                return Err(AccountError::InvalidToken);
            }
            return Ok(Entered::SecondFactorNeeded {
                challenge: second_factor::challenge(app, &user, remembered, &proof).await?,
                methods: second_factor::methods(app, &user).await?,
            });
        }
    }
    let user = match proof.method {
        // An admin who acts as them must not become another admin by it.
        SignInMethod::Impersonation => user,
        _ => accounts::with_configured_role(app, user).await?,
    };
    let started = accounts::start_session(app, &user, remembered, proof, caller).await?;
    Ok(Entered::In(Box::new(In {
        user,
        started,
        trusted_device: renewed,
    })))
}

/// Whether a way in is followed by a second factor. The original asks after passwords
/// only.
fn asks(app: &App, method: SignInMethod) -> bool {
    match method {
        // A passkey that has verified the person has shown both factors (S-55): who only held it is asked.
        SignInMethod::Password | SignInMethod::Passkey => true,
        SignInMethod::EmailLink | SignInMethod::MagicLink | SignInMethod::Social => {
            app.config.two_factor_always
        }
        // Whoever signs up has none yet; the others follow from a session.
        SignInMethod::SignUp | SignInMethod::Session | SignInMethod::Impersonation => false,
    }
}

/// Refuses whoever is banned, and lifts a ban whose time is over.
///
/// # Errors
/// `Banned`; else when it cannot be written.
pub async fn without_old_ban(app: &App, user: UserRow) -> Result<UserRow, AccountError> {
    if !user.banned {
        return Ok(user);
    }
    let at = app.clock.now();
    if user.ban_expires.is_none_or(|until| until > at) {
        return Err(AccountError::Banned);
    }
    let context = Context::of(Actor::System);
    app.store
        .run::<User>(&user.id, UserCommand::LiftBan { at }, context)
        .await?;
    Ok(UserRow {
        banned: false,
        ban_reason: None,
        ban_expires: None,
        updated_at: at,
        ..user
    })
}
