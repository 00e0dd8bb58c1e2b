//! New ids. People, sessions, organizations and keys have 32 characters of `[A-Za-z0-9]`; events have a UUID version 7.

use aggregates::ids::ID_LENGTH;
use aggregates::{OrganizationId, SessionId, UserId};
use uuid::Uuid;

use crate::crypto::tokens::{random_token, random_url_text};

/// Length of an API key's id, in characters of `[A-Za-z0-9_-]` (mana-v1.md section 1.1).
const API_KEY_ID_LENGTH: usize = 21;

/// Id of a new person.
pub fn user() -> UserId {
    UserId::new(random_token(ID_LENGTH))
}

/// Id of a new session.
pub fn session() -> SessionId {
    SessionId::new(random_token(ID_LENGTH))
}

/// Id of a new organization.
pub fn organization() -> OrganizationId {
    OrganizationId::new(random_token(ID_LENGTH))
}

/// Id of what belongs to an organization: a membership, an invitation, a role, a team.
pub fn part_of_organization() -> String {
    random_token(ID_LENGTH)
}

/// Id of a new link to an account at another provider.
pub fn link() -> String {
    random_token(ID_LENGTH)
}

/// Id of a new signing key.
pub fn signing_key() -> String {
    random_token(ID_LENGTH)
}

/// Id of a new passkey.
pub fn passkey() -> String {
    random_token(ID_LENGTH)
}

/// Id of a new API key.
pub fn api_key() -> String {
    random_url_text(API_KEY_ID_LENGTH)
}

/// Id of a new event; later ones sort after earlier ones.
#[expect(clippy::disallowed_methods, reason = "this is the place")]
pub fn event() -> Uuid {
    Uuid::now_v7()
}
