//! What events of a user choose from. Stored for ever, as they are.

use serde::{Deserialize, Serialize};

use crate::Personal;

/// Why a password was set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PasswordCause {
    /// The account was made with it.
    #[default]
    SignUp,
    /// The person knew the one before.
    Change,
    /// The person followed a link in a mail.
    Reset,
}

impl PasswordCause {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde passes a reference"
    )]
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Why an account is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErasureReason {
    /// The person wanted it.
    OwnRequest,
    /// An admin removed them.
    AdminRequest,
}

impl ErasureReason {
    /// The reason's text in JSON and SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OwnRequest => "own_request",
            Self::AdminRequest => "admin_request",
        }
    }
}

/// What became of an optional field.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// As it was.
    #[default]
    Kept,
    /// Empty from now on.
    Removed,
    /// This from now on.
    Set(Personal<String>),
}

impl Change {
    pub(crate) fn is_kept(&self) -> bool {
        *self == Self::Kept
    }
}

/// A second factor that can be switched on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecondFactorMethod {
    /// Codes that an app makes from a secret and the time (RFC 6238).
    Totp,
    /// Codes that are mailed.
    Otp,
}
