//! Step-up: what changes who gets in, or what becomes of others, is asked for by whoever has shown lately who they are,
//! and by as many factors as their account has (S-60). What was shown in a session is an event of it, so all nodes know.

use aggregates::session::{Factor, FactorTimes, Session, SessionCommand, SessionError};
use chrono::{DateTime, TimeDelta};
use projections::accounts::CREDENTIAL;
use projections::{accounts, passkeys};

use crate::accounts::{AccountError, Caller};
use crate::app::App;
use crate::custody::{ONLY, kind};
use crate::second_factor;
use crate::sessions::Live;
use crate::store::RunError;

/// A factor that was shown counts for so long (S-60).
const COUNTS_FOR: TimeDelta = TimeDelta::minutes(5);

/// The factor that has to be shown before a session may do something that asks for it.
pub fn missing(app: &App, live: &Live) -> Option<Factor> {
    let now = app.clock.now();
    let counts = |at: Option<DateTime<_>>| at.is_some_and(|at| now - at <= COUNTS_FOR);
    let FactorTimes { first, second } = live.session.factors();
    if !counts(first) {
        Some(Factor::First)
    } else if live.user.two_factor_enabled && !counts(second) {
        Some(Factor::Second)
    } else {
        None
    }
}

/// By what a person can show a factor, as clients know it: any one of them will do.
///
/// # Errors
/// When the database does not answer.
pub async fn methods(
    app: &App,
    live: &Live,
    factor: Factor,
) -> Result<Vec<&'static str>, AccountError> {
    let (pool, user) = (&app.pool, &live.user);
    let mut methods = match factor {
        Factor::First => {
            let mut accounts = accounts::of_user(pool, &user.id).await?.into_iter();
            let has_password = accounts.any(|account| account.provider_id == CREDENTIAL);
            has_password.then_some("password").into_iter().collect()
        }
        Factor::Second => {
            let mut methods = second_factor::methods(app, user).await?;
            let codes = app.store.custody().read(kind::BACKUP_CODES, &user.id, ONLY);
            if codes.await?.is_some() {
                methods.push("backup-code");
            }
            methods
        }
    };
    if !passkeys::of_user(pool, &user.id).await?.is_empty() {
        methods.push("passkey");
    }
    methods.push("sign-in");
    Ok(methods)
}

/// Notes that the person has shown a factor in their session, where anything asks for that.
///
/// # Errors
/// When it cannot be written; a session that is over stays over.
pub async fn note(
    app: &App,
    live: &Live,
    factor: Factor,
    caller: &Caller,
) -> Result<(), AccountError> {
    if !app.config.step_up {
        return Ok(());
    }
    let id = &live.session.id;
    let at = app.clock.now();
    let command = SessionCommand::ShowFactor { factor, at };
    let context = caller.context(live.actor()).in_session(id);
    match app.store.run::<Session>(id, command, context).await {
        Ok(_) | Err(RunError::Refused(SessionError::NotLive | SessionError::AlreadyStarted)) => {
            Ok(())
        }
        Err(RunError::Store(error)) => Err(error.into()),
    }
}

/// What the session has that takes the place of this one: what was shown here, and what was shown just now.
pub fn carried(app: &App, live: &Live, shown: Option<Factor>) -> FactorTimes {
    if !app.config.step_up {
        return FactorTimes::default();
    }
    let mut times = live.session.factors();
    if let Some(factor) = shown {
        times.note(factor, app.clock.now());
    }
    times
}
