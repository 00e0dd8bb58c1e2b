//! Writing down that an account was locked: an event of the account, or a line of the door log if nobody has it. The
//! worker finds out which. The door queues the same for every address, so the try that locks takes as long with an
//! account as without one (S-20, S-23).

use aggregates::EmailAddress;
use aggregates::user::{User, UserCommand};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::accounts::{self, AccountError, Caller};
use crate::app::App;
use crate::door_log::{self, Tried};
use crate::effects;
use crate::store::{Actor, StoreError};

/// A lock that too many failed tries have put on an address.
#[derive(Serialize, Deserialize)]
pub struct Lockout {
    email: EmailAddress,
    until: DateTime<Utc>,
    at: DateTime<Utc>,
    caller: Caller,
}

/// Queues the note of a lock; the same work for every address.
///
/// # Errors
/// When it cannot be written.
pub async fn note(
    app: &App,
    email: &EmailAddress,
    until: DateTime<Utc>,
    caller: &Caller,
) -> Result<(), StoreError> {
    let lockout = Lockout {
        email: email.clone(),
        until,
        at: app.clock.now(),
        caller: caller.clone(),
    };
    effects::enqueue(app, &effects::lockout(&lockout)).await
}

/// Writes a lock down.
///
/// # Errors
/// When it cannot be written now; it is tried again.
pub async fn write(app: &App, lockout: &Lockout) -> Result<(), AccountError> {
    let (email, caller) = (&lockout.email, &lockout.caller);
    let Some(user) = accounts::find_by_email(app, email).await? else {
        let tried = Tried::AccountLocked;
        door_log::write(app, tried, email.as_str(), None, "ACCOUNT_LOCKED", caller).await?;
        return Ok(());
    };
    let command = UserCommand::LockOut {
        until: lockout.until,
        at: lockout.at,
    };
    let context = caller.context_about(Actor::System, &user.id);
    app.store.run::<User>(&user.id, command, context).await?;
    Ok(())
}
