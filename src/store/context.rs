//! Who gives a command and why, and what it changes beside its events.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

pub use projections::Client;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::idempotency::Idempotent;
use crate::crypto::aead::Key32;
use crate::custody::{CustodyChange, Seen};
use crate::tokens::TokenChange;

/// Who causes an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Actor {
    /// A person, by their own request.
    User(String),
    /// An admin in the place of a person.
    Impersonation {
        /// The admin.
        admin: String,
        /// The person.
        person: String,
    },
    /// Somebody who is not signed in.
    Anonymous,
    /// An operator at the command line.
    Operator,
    /// The service itself.
    System,
}

impl Actor {
    pub(super) fn metadata(&self) -> String {
        match self {
            Self::User(id) => format!("user:{id}"),
            Self::Impersonation { admin, person } => format!("user:{admin} as user:{person}"),
            Self::Anonymous => "anonymous".to_owned(),
            Self::Operator => "operator".to_owned(),
            Self::System => "system".to_owned(),
        }
    }
}

/// Work that follows from a command, queued in its transaction and keyed by its first event.
#[derive(Clone)]
pub struct EffectDraft {
    /// What is to be done.
    pub kind: &'static str,
    /// Under whose data key it is sealed.
    pub subject: String,
    /// What the worker needs to know.
    pub payload: Zeroizing<Vec<u8>>,
}

/// A session of somebody who is not banned, which must not have ended.
#[derive(Clone)]
pub(crate) struct SessionLives {
    pub id: String,
    pub user_id: String,
}

/// A vault whose row must be the one that this transaction wrote.
#[derive(Clone)]
pub(crate) struct VaultSeen {
    pub owner: String,
    pub written_by: Option<i64>,
}

/// What a command comes with.
#[derive(Clone)]
pub struct Context {
    pub(crate) actor: Actor,
    pub(crate) client: Option<(String, Client)>,
    pub(crate) session_id: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) traceparent: Option<String>,
    pub(crate) custody: Vec<CustodyChange>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) tokens: Vec<TokenChange>,
    pub(crate) admin_leaves: Option<String>,
    pub(crate) new_keys: HashMap<String, Arc<Key32>>,
    pub(crate) effects: Vec<EffectDraft>,
    pub(crate) idempotent: Option<Idempotent>,
    pub(crate) vault: Option<Value>,
    pub(crate) vault_seen: Option<VaultSeen>,
    pub(crate) lives: Option<SessionLives>,
    pub(crate) new_stream: bool,
    pub(crate) patience: Duration,
}

impl Context {
    /// A command of `actor` that changes nothing beside its events.
    pub fn of(actor: Actor) -> Self {
        Self {
            actor,
            client: None,
            session_id: None,
            correlation_id: None,
            traceparent: None,
            custody: vec![],
            seen: vec![],
            tokens: vec![],
            admin_leaves: None,
            new_keys: HashMap::new(),
            effects: vec![],
            idempotent: None,
            vault: None,
            vault_seen: None,
            lives: None,
            new_stream: false,
            patience: Duration::ZERO,
        }
    }

    /// On a stream whose id was made for this command: there is nothing to read yet.
    pub fn on_new_stream(mut self) -> Self {
        self.new_stream = true;
        self
    }

    /// Others that come within this time may be written with it: each costs the database less then.
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// From where, sealed under the data key of `subject`.
    pub fn from(mut self, subject: &str, client: Client) -> Self {
        self.client = Some((subject.to_owned(), client));
        self
    }

    /// The client, if one is known, sealed under the key of `subject`.
    pub fn about(mut self, subject: &str) -> Self {
        if let Some((of, _)) = &mut self.client {
            subject.clone_into(of);
        }
        self
    }

    /// Which request caused it.
    pub fn because(mut self, request_id: &str, traceparent: Option<&str>) -> Self {
        self.correlation_id = Some(request_id.to_owned());
        self.traceparent = traceparent.map(str::to_owned);
        self
    }

    /// In which session.
    pub fn in_session(mut self, session_id: &str) -> Self {
        self.session_id = Some(session_id.to_owned());
        self
    }

    /// With a change to custody.
    pub fn with_secret(mut self, change: CustodyChange) -> Self {
        self.custody.push(change);
        self
    }

    /// With the row of a vault as it is from then on; one that keeps its wrap keeps it as it is wrapped by then.
    pub fn with_vault(mut self, row: Value, keeps_wrap: bool) -> Self {
        self.vault = Some(json!({"row": row, "keeps_wrap": keeps_wrap}));
        self
    }

    /// Only if a secret is still the one that was seen.
    pub fn if_unchanged(mut self, seen: Seen) -> Self {
        self.seen.push(seen);
        self
    }

    /// Only if a session of somebody who is not banned has not ended.
    pub fn while_it_lives(mut self, session_id: &str, user_id: &str) -> Self {
        self.lives = Some(SessionLives {
            id: session_id.to_owned(),
            user_id: user_id.to_owned(),
        });
        self
    }

    /// Only if the row of a vault is the one that this transaction wrote, or there still is none.
    pub fn if_vault_is(mut self, owner: &str, written_by: Option<i64>) -> Self {
        let owner = owner.to_owned();
        self.vault_seen = Some(VaultSeen { owner, written_by });
        self
    }

    /// With a token that is made, used up or withdrawn.
    pub fn with_token(mut self, change: TokenChange) -> Self {
        self.tokens.push(change);
        self
    }

    /// Only if the person is not the only admin: they will be none afterwards (S-65).
    pub fn unless_last_admin(mut self, user_id: &str) -> Self {
        self.admin_leaves = Some(user_id.to_owned());
        self
    }

    /// With the first data key of a subject.
    pub fn with_new_data_key(
        mut self,
        subject: &str,
        (key, change): (Arc<Key32>, CustodyChange),
    ) -> Self {
        self.new_keys.insert(subject.to_owned(), key);
        self.with_secret(change)
    }

    /// Whether anything of it was wrapped by a key-encryption key.
    pub(super) fn brings_wraps(&self) -> bool {
        let is_put = |change: &CustodyChange| matches!(change, CustodyChange::Put { .. });
        self.vault.is_some() || self.custody.iter().any(is_put)
    }

    /// With work to do afterwards.
    pub fn then(mut self, effect: EffectDraft) -> Self {
        self.effects.push(effect);
        self
    }

    /// At most once for this key.
    pub fn once(mut self, idempotent: Option<Idempotent>) -> Self {
        self.idempotent = idempotent;
        self
    }
}
