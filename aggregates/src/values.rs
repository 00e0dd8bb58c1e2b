//! Values that are valid once they exist: built only by `parse`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A mail address in its canonical form: ASCII, lower case.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EmailAddress(String);

/// The text is not a mail address that we accept.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("invalid email address")]
pub struct InvalidEmail;

/// Longest address accepted, in bytes (RFC 5321 section 4.5.3.1.3, less the angle brackets).
const EMAIL_MAX_BYTES: usize = 254;

impl EmailAddress {
    /// Reads an address by the rules of the wire contract: the local part has letters, digits and
    /// `_ ' + - .` without leading, trailing or doubled dots; the domain has two labels or more and
    /// ends in letters.
    ///
    /// # Errors
    /// Anything else, and more than 254 bytes.
    pub fn parse(text: &str) -> Result<Self, InvalidEmail> {
        let (local, domain) = text.split_once('@').ok_or(InvalidEmail)?;
        let valid = text.len() <= EMAIL_MAX_BYTES && local_part(local) && host(domain);
        valid
            .then(|| Self(text.to_ascii_lowercase()))
            .ok_or(InvalidEmail)
    }

    /// The address in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn local_part(local: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_'+-.".contains(c);
    let last = |c: char| c.is_ascii_alphanumeric() || "_+-".contains(c);
    !local.starts_with('.')
        && !local.contains("..")
        && local.chars().all(allowed)
        && local.chars().next_back().is_some_and(last)
}

fn host(domain: &str) -> bool {
    let labels: Vec<&str> = domain.split('.').collect();
    let Some((top, rest)) = labels.split_last() else {
        return false;
    };
    let label = |l: &&str| {
        l.starts_with(|c: char| c.is_ascii_alphanumeric())
            && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    !rest.is_empty()
        && rest.iter().all(label)
        && top.len() >= 2
        && top.chars().all(|c| c.is_ascii_alphabetic())
}

/// Prints nothing of the address: it is personal data.
impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(***)")
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+
        }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Reads the value from its text in requests; `None` for anything else.
            pub fn parse(text: &str) -> Option<Self> {
                match text {
                    $($text => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The value's text in JSON and SQL.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text),+
                }
            }
        }
    };
}

/// What somebody may do in the service as a whole: the name of a role, or several joined by commas. Any name will do;
/// the service itself knows those of [`Roles::KNOWN`].
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(String);

/// Longest text of roles accepted, in bytes.
const ROLES_MAX_BYTES: usize = 255;

impl Roles {
    /// Names that mean something to the service: a person, one who may use the admin routes, one who may read what
    /// everybody did, an internal service.
    pub const KNOWN: &[&str] = &["user", ADMIN, AUDITOR, "service"];

    /// What everybody may do who was given no other role.
    pub fn user() -> Self {
        Self("user".to_owned())
    }

    /// May use the admin routes.
    pub fn admin() -> Self {
        Self(ADMIN.to_owned())
    }

    /// May read what everybody did, and change nothing.
    pub fn auditor() -> Self {
        Self(AUDITOR.to_owned())
    }

    /// Reads roles from their text in requests; `None` for an empty name, a NUL or more than 255 bytes.
    pub fn parse(text: &str) -> Option<Self> {
        let valid = text.len() <= ROLES_MAX_BYTES
            && !text.contains('\0')
            && text.split(',').all(|name| !name.trim().is_empty());
        valid.then(|| Self(text.to_owned()))
    }

    /// Whether the role `name` is one of them.
    pub fn contains(&self, name: &str) -> bool {
        self.0.split(',').any(|known| known == name)
    }

    /// The text in JSON and SQL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

const ADMIN: &str = "admin";
const AUDITOR: &str = "auditor";

/// One role: that of a person.
impl Default for Roles {
    fn default() -> Self {
        Self::user()
    }
}

choice!(
    /// How early somebody sees new things. Ordered: a later one includes the earlier ones.
    Tier {
        /// Less than the public.
        Guest = "guest",
        /// The default.
        #[default]
        Public = "public",
        /// Tests what is nearly done.
        Beta = "beta",
        /// Tests what is not done.
        Alpha = "alpha",
        /// Sees everything.
        Founder = "founder",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_kept_in_lower_case() {
        assert_eq!(
            EmailAddress::parse("Alice@Example.COM").unwrap().as_str(),
            "alice@example.com"
        );
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(300));
        for text in [
            "",
            "nope",
            "@example.com",
            "a@",
            "a@b",
            "a b@example.com",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            "a@-x.com",
            "a@x..com",
            "a@x.c",
            "a@x.c0m",
            "ä@example.com",
            "a@exämple.com",
            "a@b@example.com",
            "a\0@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "<a@example.com>",
            &long,
        ] {
            assert_eq!(EmailAddress::parse(text), Err(InvalidEmail), "{text:?}");
        }
    }

    #[test]
    fn usual_addresses_are_accepted() {
        for text in [
            "a@example.com",
            "o'neil+tag@mail.example.co",
            "first.last@x-y.example",
            "_x_@1.example",
        ] {
            assert!(EmailAddress::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn roles_are_names_joined_by_commas() {
        for text in ["user", "admin", "user,admin", "Head of Räume"] {
            assert_eq!(Roles::parse(text).unwrap().as_str(), text);
        }
        let too_long = "x".repeat(256);
        for text in [
            "",
            ",",
            "user,",
            ",user",
            "user,,admin",
            "user, ",
            "a\0",
            &too_long,
        ] {
            assert_eq!(Roles::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_role_is_one_of_the_names_and_no_part_of_one() {
        let both = Roles::parse("user,admin").unwrap();
        assert!(both.contains("user") && both.contains("admin"));
        assert!(!both.contains("adm") && !both.contains("user,admin"));
        assert!(Roles::admin().contains("admin") && !Roles::user().contains("admin"));
    }

    #[test]
    fn tiers_are_ordered() {
        assert!(Tier::ALL.is_sorted());
        assert!(Tier::parse("beta") > Tier::parse("public"));
        assert_eq!(Tier::parse("Founder"), None);
    }
}
