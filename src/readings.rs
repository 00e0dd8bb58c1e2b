//! Reading what is written down about others: every reading is an event before it is answered, so whoever keeps watch is
//! watched as well. What cannot be written down is not read (I-4).

use aggregates::Reading;
use aggregates::log::{LOG_ID, Log, LogCommand};
use aggregates::user::{User, UserCommand};

use crate::accounts::{AccountError, Caller};
use crate::app::App;
use crate::sessions::Live;
use crate::store::{Actor, Context, RunError, StoreError};

/// Writes down what an admin or auditor asks for, in their own stream.
///
/// # Errors
/// When it cannot be written.
pub async fn of_auditor(
    app: &App,
    live: &Live,
    caller: &Caller,
    reading: Reading,
) -> Result<(), AccountError> {
    let (id, at) = (&live.user.id, app.clock.now());
    let context = caller.context_about(live.actor(), id);
    let context = context.in_session(&live.session.id);
    let command = UserCommand::ReadAudit { reading, at };
    app.store.run::<User>(id, command, context).await?;
    Ok(())
}

/// Writes down what an operator asks for at the command line, in the log's own stream.
///
/// # Errors
/// When it cannot be written.
pub async fn of_operator(app: &App, reading: Reading) -> Result<(), StoreError> {
    let at = app.clock.now();
    let command = LogCommand::ReadAudit { reading, at };
    let context = Context::of(Actor::Operator);
    match app.store.run::<Log>(LOG_ID, command, context).await {
        Ok(_) => Ok(()),
        Err(RunError::Refused(never)) => match never {},
        Err(RunError::Store(error)) => Err(error),
    }
}
