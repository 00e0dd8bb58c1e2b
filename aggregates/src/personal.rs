//! Marks data in events that erasure must make unreadable.

use std::fmt;

use serde::de::Error as _;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Key of the JSON object that stands for a personal value: `{"$personal": {"subject", "value"}}`.
/// The store replaces `value` by `key` and `sealed` before anything is written, and puts `erased`
/// in its place when the subject's data key is gone.
pub const MARKER: &str = "$personal";

/// A value about `subject`, readable only as long as the subject's data key exists.
#[derive(Clone, PartialEq)]
pub struct Personal<T> {
    subject: String,
    value: Option<T>,
}

impl<T> Personal<T> {
    /// Marks a value as being about a person (or another subject with a data key of its own).
    pub fn about(subject: impl AsRef<str>, value: T) -> Self {
        Self {
            subject: subject.as_ref().to_owned(),
            value: Some(value),
        }
    }

    /// Whom the value is about.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The value, or nothing once the subject was erased.
    pub fn get(&self) -> Option<&T> {
        self.value.as_ref()
    }
}

/// Prints nothing of the value.
impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(***)")
    }
}

#[derive(Deserialize)]
struct Open<T> {
    subject: String,
    #[serde(default = "none")]
    value: Option<T>,
    #[serde(default)]
    erased: bool,
}

fn none<T>() -> Option<T> {
    None
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Inner<'a, T> {
            subject: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            value: &'a Option<T>,
            #[serde(skip_serializing_if = "std::ops::Not::not")]
            erased: bool,
        }
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(
            MARKER,
            &Inner {
                subject: &self.subject,
                value: &self.value,
                erased: self.value.is_none(),
            },
        )?;
        map.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Outer<T> {
            #[serde(rename = "$personal")]
            inner: Open<T>,
        }
        let Open {
            subject,
            value,
            erased,
        } = Outer::deserialize(deserializer)?.inner;
        if value.is_none() && !erased {
            return Err(D::Error::custom(
                "a personal value is neither open nor erased",
            ));
        }
        Ok(Self { subject, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_and_its_absence_survive_json() {
        let open = Personal::about("u1", "ada".to_owned());
        let json = serde_json::to_string(&open).unwrap();
        assert_eq!(json, r#"{"$personal":{"subject":"u1","value":"ada"}}"#);
        assert_eq!(
            serde_json::from_str::<Personal<String>>(&json).unwrap(),
            open
        );

        let erased: Personal<String> =
            serde_json::from_str(r#"{"$personal":{"subject":"u1","erased":true}}"#).unwrap();
        assert_eq!(erased.get(), None);
    }

    #[test]
    fn a_sealed_value_cannot_be_mistaken_for_an_erased_one() {
        let sealed = r#"{"$personal":{"subject":"u1","key":1,"sealed":"AAAA"}}"#;
        assert!(serde_json::from_str::<Personal<String>>(sealed).is_err());
    }

    #[test]
    fn debug_prints_nothing_of_the_value() {
        assert!(!format!("{:?}", Personal::about("u1", "ada@example.com")).contains("ada"));
    }
}
