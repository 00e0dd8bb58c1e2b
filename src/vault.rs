//! The vaults: giving keys out, changing how they are kept, and writing every call down before it is answered.
//!
//! A call reads the vault's row with the version of its stream, lets [`Vault`] decide, and appends the one event that
//! follows, with the row as it is then: in one transaction, and only if nobody was faster. So the key that is given out
//! is the vault's at the position of the event that says so, and what a refusal changes is nothing.

mod changes;
mod kept;
mod remembered;
mod rewrap;
mod row;

use aggregates::UserId;
use aggregates::vault::{Action, Client, Refusal, Vault, VaultCommand, VaultEvent};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate as _;
use projections::users::UserRow;

use crate::accounts::Caller;
use crate::app::App;
use crate::crypto::vault_key::{KeyCheck, MasterKey};
use crate::links;
use crate::sessions::Live;
use crate::store::idempotency::{Fingerprint, Outcome as Answer};
use crate::store::{Context, RunError, StoreError, back_off};
use changes::{Change, Prepared};

pub use kept::forget_old;
pub use remembered::Remembered;
pub use rewrap::{Wrap, rewrap, wraps_of};
pub use row::{RecoveryWrap, Stored, VaultRow, read};

/// How often a call is tried when other nodes write to the same vault. On one node calls of a vault take turns.
const ATTEMPTS: u32 = 20;
/// The longest pause between two attempts is that after this many.
const PAUSES: u32 = 5;

/// Who calls: somebody in a session of their own, unless an admin acts as them.
pub struct Visit<'a> {
    /// The session, as it stands in the database.
    pub live: &'a Live,
    /// From where.
    pub caller: &'a Caller,
    /// For a request that carried an `Idempotency-Key`.
    pub once: Option<Once<'a>>,
}

/// A call that is carried out once.
#[derive(Clone, Copy)]
pub struct Once<'a> {
    /// Which one.
    pub fingerprint: Fingerprint,
    /// Its answer, for a repetition; `None` if the answer holds a key.
    pub answer: &'a (dyn Fn(&Outcome) -> Option<Answer> + Sync),
}

/// What is wanted of a vault.
pub enum Wish {
    /// The key, new or not.
    Init,
    /// The key.
    Fetch,
    /// Another key.
    Rotate,
    /// This recovery wrap, of the key that is known by the value, if one is shown.
    SetRecovery(RecoveryWrap, Option<KeyCheck>),
    /// No recovery wrap.
    ClearRecovery,
    /// The recovery wrap that was there at a time, else the one that was replaced last.
    RestoreRecovery(Option<DateTime<Utc>>),
    /// Zero-knowledge mode.
    EnableZeroKnowledge,
    /// Its end, with the key that the client hands back.
    DisableZeroKnowledge(MasterKey),
    /// Only that it was asked for in vain by somebody who has not got past the door.
    Denied(Action, Refusal),
    /// Only that too much is asked for.
    TooMuch,
}

impl Wish {
    /// What is asked of what is stored; none where nothing is.
    fn action(&self) -> Option<Action> {
        Some(match self {
            Self::Init => Action::Init,
            Self::Fetch => Action::Fetch,
            Self::Rotate => Action::Rotate,
            Self::SetRecovery(..) => Action::RecoverySet,
            Self::ClearRecovery => Action::RecoveryClear,
            Self::RestoreRecovery(_) => Action::RecoveryRestore,
            Self::EnableZeroKnowledge => Action::ZkEnable,
            Self::DisableZeroKnowledge(_) => Action::ZkDisable,
            Self::Denied(..) | Self::TooMuch => return None,
        })
    }
}

/// How a call ends that was written down.
pub enum Outcome {
    /// The key is given out.
    Key {
        /// The key.
        key: MasterKey,
        /// For clients.
        format_version: i16,
        /// Which key-encryption key wraps it.
        kek_id: String,
    },
    /// What the recovery code opens is given out.
    Recovery {
        /// The wrap.
        wrap: RecoveryWrap,
        /// Whether it is the vault's.
        in_place: bool,
    },
    /// It is done, or was so already.
    Done,
    /// It is refused.
    Refused(Action, Refusal),
    /// The key does not open, or something else that is stored is in disorder.
    NotOpened,
}

/// What the service knows of a vault without giving anything out.
pub struct Status {
    /// The mode that it is in.
    pub mode: Vault,
    /// When the recovery wrap was set.
    pub recovery_set_at: Option<DateTime<Utc>>,
}

/// Looks at somebody's vault.
///
/// # Errors
/// When the database does not answer.
pub async fn status(app: &App, user_id: &str) -> Result<Status, StoreError> {
    let stored = stored(app, user_id).await?;
    Ok(Status {
        mode: stored
            .mode()
            .map_err(|fault| StoreError::Broken(format!("vault {user_id}: {}", fault.as_str())))?,
        recovery_set_at: stored.row.and_then(|row| row.recovery_set_at),
    })
}

/// Carries out a call and writes it down.
///
/// # Errors
/// When it cannot be written down, or was carried out before: then nothing was done.
pub async fn call(app: &App, visit: &Visit<'_>, wish: &Wish) -> Result<Outcome, StoreError> {
    let user_id = visit.live.user.id.as_str();
    let _turn = app.store.turn(Vault::TYPE, user_id).await;
    let mut attempt = 1;
    loop {
        match call_once(app, visit, wish).await {
            Err(StoreError::Conflict) if attempt < ATTEMPTS => {
                app.remembered_vaults.forget(user_id, i64::MAX);
                back_off(attempt.min(PAUSES)).await;
                attempt += 1;
            }
            outcome => return outcome,
        }
    }
}

async fn call_once(app: &App, visit: &Visit<'_>, wish: &Wish) -> Result<Outcome, StoreError> {
    let Visit { live, caller, once } = visit;
    let stored = stored_or_remembered(app, &live.user.id).await?;
    // What is decided of a vault in disorder is the same in every mode.
    let mode = stored.mode();
    let Prepared { ask, brought, ring } = changes::prepare(app, &stored, mode, wish).await?;
    let at = app.clock.now();
    let command = VaultCommand {
        ask,
        owner: UserId::new(&live.user.id),
        client: Client {
            ip_address: caller.client.ip_address.clone(),
            user_agent: caller.client.user_agent.clone(),
        },
        at,
    };
    let context = caller
        .context(live.actor())
        .in_session(&live.session.id)
        .while_it_lives(&live.session.id, &live.user.id)
        .if_vault_is(&stored.owner, stored.written_by);
    let mut ended = None;
    let with = |events: &[VaultEvent]| {
        let event = events.first().ok_or(StoreError::Conflict)?;
        let (outcome, change) = changes::follow(&ring, &stored, event, wish, brought, at)?;
        // What was refused may be asked for again.
        let once = once.filter(|_| !matches!(outcome, Outcome::Refused(..) | Outcome::NotOpened));
        let kept = once.map(|once| {
            once.fingerprint
                .with(&live.user.id, (once.answer)(&outcome))
        });
        ended = Some((outcome, change.row.is_none()));
        completed(app, &live.user, &stored, change, context.once(kept))
    };
    let read = (mode.unwrap_or_default(), stored.version);
    match app
        .store
        .run_at::<Vault>(&stored.owner, read, command, with)
        .await
    {
        Ok(done) => {
            let (outcome, row_stays) = ended.ok_or(StoreError::Conflict)?;
            if let (true, Some(position)) = (row_stays, done.position) {
                let version = stored.version + 1;
                let stored = Stored { version, ..stored };
                app.remembered_vaults
                    .put(app.store.freshness(), stored, position);
            } else {
                app.remembered_vaults.forget(&live.user.id, i64::MAX);
            }
            Ok(outcome)
        }
        Err(RunError::Refused(never)) => match never {},
        Err(RunError::Store(error)) => Err(error),
    }
}

/// Adds what changes in custody, and the mail about it, to a command.
fn completed(
    app: &App,
    user: &UserRow,
    stored: &Stored,
    change: Change,
    mut context: Context,
) -> Result<Context, StoreError> {
    let custody = app.store.custody();
    if let Some(row) = &change.row {
        let before = stored.row.as_deref();
        let keeps_wrap = before.is_some_and(|before| row.keeps_wrap_of(before));
        context = context.with_vault(row.to_json()?, keeps_wrap);
    }
    if let Some(wrap) = &change.kept {
        context = context.with_secret(kept::put(custody, &user.id, wrap)?);
    }
    if let Some(id) = &change.put_back {
        context = context.with_secret(kept::delete(custody, &user.id, id));
    }
    Ok(match change.mail {
        Some(told) => links::tell_of_vault_change(app, user, told, context),
        None => context,
    })
}

async fn stored(app: &App, user_id: &str) -> Result<Stored, StoreError> {
    let all = async |owners: Vec<String>| read(&app.pool, &owners).await;
    app.vaults.get(user_id.to_owned(), all).await
}

/// The vault as this node has seen it last, where the append can be trusted to say whether it still is so, and the active
/// key opens it.
async fn stored_or_remembered(app: &App, user_id: &str) -> Result<Stored, StoreError> {
    let ring = app.store.custody().ring();
    let opens = |stored: &Stored| {
        let row = stored.row.as_ref();
        row.is_some_and(|row| row.is_wrapped_by(&ring))
    };
    let remembered = app.remembered_vaults.get(app.store.freshness(), user_id);
    match remembered.filter(opens) {
        Some(remembered) => Ok(remembered),
        None => stored(app, user_id).await,
    }
}
