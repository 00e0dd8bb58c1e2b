//! What a call needs to know before anything is decided, and what follows from the decision.

use std::sync::Arc;

use aggregates::vault::{Ask, Fault, Kept, Vault, VaultEvent};
use chrono::{DateTime, Utc};

use super::kept::Found;
use super::row::{KeptWrap, Stored, VaultRow};
use super::{Outcome, Wish, kept};
use crate::app::App;
use crate::crypto::key_ring::KeyRing;
use crate::crypto::vault_key::MasterKey;
use crate::mail::VaultChange;
use crate::store::StoreError;

/// What is asked of the aggregate, and what is at hand if it says yes.
pub struct Prepared {
    /// For the aggregate.
    pub ask: Ask,
    /// For what follows.
    pub brought: Brought,
    /// The keys that it was prepared with: what an event says of them is so.
    pub ring: Arc<KeyRing>,
}

/// What is at hand.
#[derive(Default)]
pub struct Brought {
    /// A new key, or the one that there is.
    key: Option<MasterKey>,
    /// A recovery wrap of before, with its id.
    kept: Option<(String, KeptWrap)>,
}

/// What changes in custody, and who is told.
#[derive(Default)]
pub struct Change {
    /// The row from then on.
    pub row: Option<VaultRow>,
    /// A recovery wrap that is the vault's no longer.
    pub kept: Option<KeptWrap>,
    /// The id of one that is the vault's again.
    pub put_back: Option<String>,
    /// What its owner is told.
    pub mail: Option<VaultChange>,
}

/// Finds out what the aggregate has to know.
///
/// # Errors
/// When the database does not answer.
pub async fn prepare(
    app: &App,
    stored: &Stored,
    mode: Result<Vault, Fault>,
    wish: &Wish,
) -> Result<Prepared, StoreError> {
    let custody = app.store.custody();
    let ring = custody.ring();
    let kek_id = ring.active_id().to_owned();
    let mut brought = Brought::default();
    let fault = match mode {
        // A key is made only where the log knows of none: a row that was lost must not be replaced by a new key, under
        // which nothing of before would open.
        Ok(Vault::Absent) if matches!(wish, Wish::Init | Wish::Rotate) => {
            let lost = !is_absent(app, stored).await?;
            lost.then_some(Fault::RowLost)
        }
        mode => mode.err(),
    };
    if let (Some(fault), Some(action)) = (fault, wish.action()) {
        let (user_id, fault_name) = (&stored.owner, fault.as_str());
        tracing::error!(user_id, fault = fault_name, "a vault is broken");
        let ask = Ask::Broken { action, fault };
        return Ok(Prepared { ask, brought, ring });
    }
    let ask = match wish {
        Wish::Init => match opened(&ring, stored, &mut brought) {
            None if stored.row.is_none() => {
                brought.key = Some(MasterKey::generate());
                Ask::Init {
                    kek_id,
                    broken: None,
                }
            }
            broken => Ask::Init { kek_id, broken },
        },
        Wish::Fetch => Ask::Fetch {
            broken: opened(&ring, stored, &mut brought),
        },
        Wish::Rotate => {
            brought.key = Some(MasterKey::generate());
            Ask::Rotate { kek_id }
        }
        Wish::SetRecovery(_, shown) => Ask::SetRecoveryWrap {
            another_key: stored.row.as_ref().is_some_and(|row| match shown {
                Some(shown) => row.is_known_by(shown) == Some(false),
                None => app.config.vault_check_recovery_wrap && row.has_key_check(),
            }),
        },
        Wish::ClearRecovery => Ask::ClearRecoveryWrap,
        Wish::RestoreRecovery(had_at) => {
            let found = kept::find(custody, &stored.owner, *had_at, app.clock.now()).await?;
            let kept = match found {
                Found::Nothing => None,
                Found::NotOpened => Some(Kept::NotOpened),
                Found::Wrap(id, wrap) => {
                    let holder = stored.row.as_ref().map(|row| row.holder_of(&wrap));
                    brought.kept = Some((id, wrap));
                    holder
                }
            };
            Ask::RestoreRecoveryWrap { kept }
        }
        Wish::EnableZeroKnowledge => Ask::EnableZeroKnowledge,
        Wish::DisableZeroKnowledge(key) => Ask::DisableZeroKnowledge {
            kek_id,
            same_key: stored.row.as_ref().and_then(|row| row.is_its_key(key)),
            must_match: app.config.vault_check_master_key,
        },
        Wish::Denied(action, reason) => Ask::Denied {
            action: *action,
            reason: *reason,
        },
        Wish::TooMuch => Ask::TooMuch,
    };
    Ok(Prepared { ask, brought, ring })
}

/// Opens the key if there is one; says why it does not open.
fn opened(ring: &KeyRing, stored: &Stored, brought: &mut Brought) -> Option<String> {
    match stored.row.as_ref()?.open(ring)? {
        Ok(key) => {
            brought.key = Some(key);
            None
        }
        Err(error) => {
            tracing::error!(user_id = stored.owner, %error, "a vault's key does not open");
            Some(error.to_string())
        }
    }
}

/// Whether the log knows of no vault.
async fn is_absent(app: &App, stored: &Stored) -> Result<bool, StoreError> {
    let never = stored.version == 0;
    Ok(never || app.store.load::<Vault>(&stored.owner).await? == Vault::Absent)
}

/// What follows from what was decided: how the call ends, and what changes.
///
/// # Errors
/// Never, as long as the aggregate decides from what was prepared.
pub fn follow(
    ring: &KeyRing,
    stored: &Stored,
    event: &VaultEvent,
    wish: &Wish,
    brought: Brought,
    at: DateTime<Utc>,
) -> Result<(Outcome, Change), StoreError> {
    let lacking = || StoreError::Broken("a vault lacks what was decided upon".to_owned());
    let before = || stored.row.as_deref().ok_or_else(lacking);
    let row = || before().cloned();
    let nothing = Change::default;
    Ok(match event {
        VaultEvent::Initialised { .. } => {
            let key = brought.key.ok_or_else(lacking)?;
            let mut row = VaultRow::new(&stored.owner, at);
            row.put_key(ring, &key);
            let change = Change {
                row: Some(row.clone()),
                ..nothing()
            };
            (given(key, &row), change)
        }
        VaultEvent::KeyFetched {
            zero_knowledge: false,
            ..
        } => (
            given(brought.key.ok_or_else(lacking)?, before()?),
            nothing(),
        ),
        VaultEvent::KeyFetched { .. } => {
            let outcome = Outcome::Recovery {
                wrap: before()?.recovery().ok_or_else(lacking)?,
                in_place: true,
            };
            (outcome, nothing())
        }
        VaultEvent::KeyNotOpened { .. } | VaultEvent::Failed { .. } => {
            (Outcome::NotOpened, nothing())
        }
        VaultEvent::KeyRotated { .. } => {
            let (key, mut row) = (brought.key.ok_or_else(lacking)?, row()?);
            let kept = row.take_recovery(at);
            row.put_key(ring, &key);
            row.rotated(at);
            let change = Change {
                row: Some(row.clone()),
                mail: kept.is_some().then_some(VaultChange::RecoveryEnded),
                kept,
                ..nothing()
            };
            (given(key, &row), change)
        }
        VaultEvent::RecoveryWrapSet { .. } => {
            let Wish::SetRecovery(wrap, _) = wish else {
                return Err(lacking());
            };
            let mut row = row()?;
            row.bind(ring);
            let kept = row.take_recovery(at);
            row.set_recovery(wrap.clone(), at);
            let mail = match kept {
                None => VaultChange::RecoverySet,
                Some(_) => VaultChange::RecoveryReplaced,
            };
            let change = Change {
                row: Some(row),
                kept,
                mail: Some(mail),
                ..nothing()
            };
            (Outcome::Done, change)
        }
        VaultEvent::RecoveryWrapCleared { .. } => {
            let mut row = row()?;
            row.bind(ring);
            let change = Change {
                kept: row.take_recovery(at),
                row: Some(row),
                mail: Some(VaultChange::RecoveryEnded),
                ..nothing()
            };
            (Outcome::Done, change)
        }
        VaultEvent::RecoveryWrapRestored { in_place, .. } => {
            let (id, KeptWrap { wrap, .. }) = brought.kept.ok_or_else(lacking)?;
            let outcome = Outcome::Recovery {
                wrap: wrap.clone(),
                in_place: *in_place,
            };
            if !in_place {
                return Ok((outcome, nothing()));
            }
            let mut row = row()?;
            row.bind(ring);
            let kept = row.take_recovery(at);
            row.set_recovery(wrap, at);
            let change = Change {
                row: Some(row),
                kept,
                put_back: Some(id),
                mail: Some(VaultChange::RecoveryRestored),
            };
            (outcome, change)
        }
        VaultEvent::ZeroKnowledgeEnabled { .. } => {
            let mut row = row()?;
            row.forget_key();
            let change = Change {
                row: Some(row),
                mail: Some(VaultChange::ZeroKnowledgeOn),
                ..nothing()
            };
            (Outcome::Done, change)
        }
        VaultEvent::ZeroKnowledgeDisabled { .. } => {
            let Wish::DisableZeroKnowledge(key) = wish else {
                return Err(lacking());
            };
            let mut row = row()?;
            row.put_key(ring, key);
            let change = Change {
                row: Some(row),
                mail: Some(VaultChange::ZeroKnowledgeOff),
                ..nothing()
            };
            (Outcome::Done, change)
        }
        VaultEvent::NothingToDo { .. } | VaultEvent::CallsLimited { .. } => {
            (Outcome::Done, nothing())
        }
        VaultEvent::Refused { action, reason, .. } => {
            (Outcome::Refused(*action, *reason), nothing())
        }
    })
}

fn given(key: MasterKey, row: &VaultRow) -> Outcome {
    Outcome::Key {
        key,
        format_version: row.format_version,
        kek_id: row.kek_id.clone(),
    }
}
