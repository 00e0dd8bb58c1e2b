//! What only one stream may hold. An event says what it takes and what it gives back; the store keeps
//! a keyed hash of the value and decides in the append transaction.

/// Kinds of things that are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimScope {
    /// A person's mail address.
    Email,
    /// The id of a passkey, as its authenticator made it up.
    Passkey,
    /// A person at another provider: see [`external_identity`].
    ExternalIdentity,
    /// The short name of an organization in addresses.
    Slug,
}

/// The value of a claim on a person at another provider.
pub fn external_identity(provider: &str, subject: &str) -> String {
    format!("{provider}\n{subject}")
}

impl ClaimScope {
    /// What people hold.
    pub const OF_PEOPLE: &[Self] = &[Self::Email, Self::Passkey, Self::ExternalIdentity];

    /// The scope's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Passkey => "passkey",
            Self::ExternalIdentity => "external_identity",
            Self::Slug => "slug",
        }
    }
}

/// One change to what a stream holds. The value is canonical and clear: it never leaves the process.
#[derive(Clone, PartialEq)]
pub enum ClaimChange {
    /// The stream holds the value from now on; refused if another one does.
    Take(ClaimScope, String),
    /// The stream no longer holds the value.
    Release(ClaimScope, String),
    /// The stream holds nothing any more, of whatever scope.
    ReleaseAll,
}
