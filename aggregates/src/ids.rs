//! Ids of people, sessions and organizations: one newtype each over the 32-character text that clients know.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Length of an id, in characters of `[A-Za-z0-9]`.
pub const ID_LENGTH: usize = 32;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes an id as it is; ids are made by the service, and a wrong one finds nothing.
            pub fn new(id: impl Into<String>) -> Self {
                Self(id.into())
            }

            /// The id as clients see it.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A person.
    UserId
);
id!(
    /// A session: the `sid` of access tokens, not the secret token.
    SessionId
);
id!(
    /// An organization.
    OrganizationId
);
