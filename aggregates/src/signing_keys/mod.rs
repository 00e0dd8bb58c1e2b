//! SigningKeys: the public life of the keys that sign access tokens. One stream, `jwt`.
//!
//! A key is published before it signs, signs from `active_from` until a later key does, and stays
//! published until every token is dead. All of that follows from `active_from` and the clock, so
//! nodes agree without another event. The private halves are in custody.

use chrono::{DateTime, Utc};
use cqrs_es::event_sink::EventSink;
use cqrs_es::{Aggregate, DomainEvent};
use serde::{Deserialize, Serialize};

use crate::StoredEvent;

/// Id of the one stream.
pub const SIGNING_KEYS_ID: &str = "jwt";

/// The keys that may sign or have signed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SigningKeys {
    keys: Vec<Key>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Key {
    kid: String,
    active_from: DateTime<Utc>,
    revoked: bool,
}

/// What can be asked of the signing keys.
#[derive(Clone)]
pub enum SigningKeysCommand {
    /// Make the first key, unless there is one that signs or will.
    PublishFirst(NewKey),
    /// Make the next key. Refused while another one waits to become active, unless this one signs at once.
    PublishNext(NewKey),
    /// Withdraw a key at once: its tokens are refused. Refused for the only key left.
    Revoke {
        /// Which key.
        kid: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// A key to be published; its private half travels beside the command, into custody.
#[derive(Clone)]
pub struct NewKey {
    /// Id in token headers and the key set.
    pub kid: String,
    /// Ed25519 public key, base64url without padding.
    pub public_key: String,
    /// When it starts to sign.
    pub active_from: DateTime<Utc>,
    /// When it was made.
    pub at: DateTime<Utc>,
}

/// A fact about the signing keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigningKeysEvent {
    /// The key is in the key set from now on and signs from `active_from` until a later one does.
    Published {
        /// Id in token headers and the key set.
        kid: String,
        /// Ed25519 public key, base64url without padding.
        public_key: String,
        /// When it starts to sign.
        active_from: DateTime<Utc>,
        /// When.
        at: DateTime<Utc>,
    },
    /// The key is in the key set no more; tokens that it signed are refused.
    Revoked {
        /// Which key.
        kid: String,
        /// When.
        at: DateTime<Utc>,
    },
}

/// Why a command on the signing keys is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum SigningKeysError {
    /// A rotation is under way.
    #[error("a key waits to become active already")]
    NextAlreadyPublished,
    /// Nothing could sign any more.
    #[error("no other key signs yet: `keys rotate --now` makes one that does")]
    OnlyKey,
    /// No such key, or revoked before.
    #[error("there is no such key")]
    UnknownKey,
}

impl SigningKeys {
    /// Says which events follow from `command`, or why it is refused.
    ///
    /// # Errors
    /// The reason, if the command is refused. A request that is already true yields no events.
    pub fn decide(
        &self,
        command: SigningKeysCommand,
    ) -> Result<Vec<SigningKeysEvent>, SigningKeysError> {
        match command {
            SigningKeysCommand::PublishFirst(key) => Ok(if self.usable().next().is_some() {
                vec![]
            } else {
                vec![published(key)]
            }),
            SigningKeysCommand::PublishNext(key) => {
                let waits = key.active_from > key.at;
                if waits && self.usable().any(|known| known.active_from > key.at) {
                    return Err(SigningKeysError::NextAlreadyPublished);
                }
                Ok(vec![published(key)])
            }
            SigningKeysCommand::Revoke { kid, at } => {
                if !self.usable().any(|key| key.kid == kid) {
                    return Err(SigningKeysError::UnknownKey);
                }
                if !self
                    .usable()
                    .any(|key| key.kid != kid && key.active_from <= at)
                {
                    return Err(SigningKeysError::OnlyKey);
                }
                Ok(vec![SigningKeysEvent::Revoked { kid, at }])
            }
        }
    }

    fn usable(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter().filter(|key| !key.revoked)
    }
}

fn published(key: NewKey) -> SigningKeysEvent {
    let NewKey {
        kid,
        public_key,
        active_from,
        at,
    } = key;
    SigningKeysEvent::Published {
        kid,
        public_key,
        active_from,
        at,
    }
}

impl DomainEvent for SigningKeysEvent {
    fn event_type(&self) -> String {
        match self {
            Self::Published { .. } => "signing_keys.published",
            Self::Revoked { .. } => "signing_keys.revoked",
        }
        .to_owned()
    }

    fn event_version(&self) -> String {
        "1".to_owned()
    }
}

impl StoredEvent for SigningKeysEvent {}

impl Aggregate for SigningKeys {
    const TYPE: &'static str = "signing_keys";
    type Command = SigningKeysCommand;
    type Event = SigningKeysEvent;
    type Error = SigningKeysError;
    type Services = ();

    async fn handle(
        &mut self,
        command: SigningKeysCommand,
        (): &(),
        sink: &EventSink<Self>,
    ) -> Result<(), SigningKeysError> {
        for event in self.decide(command)? {
            sink.write(event, self).await;
        }
        Ok(())
    }

    fn apply(&mut self, event: SigningKeysEvent) {
        match event {
            SigningKeysEvent::Published {
                kid, active_from, ..
            } => self.keys.push(Key {
                kid,
                active_from,
                revoked: false,
            }),
            SigningKeysEvent::Revoked { kid, .. } => {
                for key in self.keys.iter_mut().filter(|key| key.kid == kid) {
                    key.revoked = true;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use cqrs_es::test::TestFramework;

    use super::*;

    fn minutes(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn key(kid: &str, active_from: i64, at: i64) -> NewKey {
        NewKey {
            kid: kid.into(),
            public_key: "AA".into(),
            active_from: minutes(active_from),
            at: minutes(at),
        }
    }

    fn keys() -> TestFramework<SigningKeys> {
        TestFramework::with(())
    }

    #[test]
    fn the_first_key_is_made_once() {
        keys()
            .given_no_previous_events()
            .when(SigningKeysCommand::PublishFirst(key("a", 0, 0)))
            .then_expect_events(vec![published(key("a", 0, 0))]);
        keys()
            .given(vec![published(key("a", 0, 0))])
            .when(SigningKeysCommand::PublishFirst(key("b", 0, 0)))
            .then_expect_events(vec![]);
    }

    #[test]
    fn rotations_do_not_overlap() {
        let given = vec![published(key("a", 0, 0)), published(key("b", 20, 9))];
        keys()
            .given(given.clone())
            .when(SigningKeysCommand::PublishNext(key("c", 30, 19)))
            .then_expect_error(SigningKeysError::NextAlreadyPublished);
        keys()
            .given(given.clone())
            .when(SigningKeysCommand::PublishNext(key("c", 31, 20)))
            .then_expect_events(vec![published(key("c", 31, 20))]);
        // One that signs at once waits for nobody.
        keys()
            .given(given)
            .when(SigningKeysCommand::PublishNext(key("c", 19, 19)))
            .then_expect_events(vec![published(key("c", 19, 19))]);
    }

    #[test]
    fn the_only_key_that_signs_cannot_be_revoked() {
        let revoke = |kid: &str, at| SigningKeysCommand::Revoke {
            kid: kid.into(),
            at: minutes(at),
        };
        let given = vec![published(key("a", 0, 0)), published(key("b", 20, 9))];
        keys()
            .given(given.clone())
            .when(revoke("a", 10))
            .then_expect_error(SigningKeysError::OnlyKey);
        let revoked = SigningKeysEvent::Revoked {
            kid: "a".into(),
            at: minutes(20),
        };
        keys()
            .given(given.clone())
            .when(revoke("a", 20))
            .then_expect_events(vec![revoked.clone()]);
        keys()
            .given([given, vec![revoked]].concat())
            .when(revoke("a", 20))
            .then_expect_error(SigningKeysError::UnknownKey);
        keys()
            .given_no_previous_events()
            .when(revoke("x", 1))
            .then_expect_error(SigningKeysError::UnknownKey);
    }
}
