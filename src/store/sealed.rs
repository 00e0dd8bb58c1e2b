//! Seals `Personal` fields when an event is written and opens them when it is read.
//!
//! Each field is bound to its exact place: aggregate type and id, event id, stored event type and
//! version, path of the field, subject and key version. Moved anywhere else it does not open.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use aggregates::personal::MARKER;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::crypto::aead::{self, Key32};

/// Data keys by subject.
pub type DataKeys = HashMap<String, Arc<Key32>>;

/// Version of a subject's data key; part of what a field is bound to.
const KEY_VERSION: u64 = 1;

/// The place of an event, as stored.
#[derive(Clone, Copy)]
pub struct EventPlace<'a> {
    /// Type of the stream.
    pub aggregate_type: &'a str,
    /// Id of the stream.
    pub aggregate_id: &'a str,
    /// Id of the event.
    pub event_id: &'a str,
    /// Stored type.
    pub event_type: &'a str,
    /// Stored version.
    pub event_version: &'a str,
}

/// Why an event cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// Nothing can be sealed for somebody without a data key.
    #[error("subject {0} has no data key")]
    NoKey(String),
    /// The field was altered, or moved from another place.
    #[error("field {0} does not open")]
    Altered(String),
    /// The field is not what the store writes.
    #[error("field {0} has an unknown shape")]
    Shape(String),
}

/// The subjects of all personal fields in an event.
pub fn subjects(payload: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    visit(payload, &mut |personal| {
        if let Some(subject) = personal["subject"].as_str() {
            found.insert(subject.to_owned());
        }
    });
    found
}

fn visit(value: &Value, each: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(map) => match map.get(MARKER) {
            Some(personal) => each(personal),
            None => map.values().for_each(|value| visit(value, each)),
        },
        Value::Array(items) => items.iter().for_each(|value| visit(value, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The JSON of an event before it is sealed, and where its personal fields are. It stays text: most of it is written as it
/// is.
pub struct Unsealed {
    text: Zeroizing<String>,
    fields: Vec<Field>,
}

/// A personal field.
struct Field {
    /// Where its object is in the text.
    at: Range<usize>,
    path: String,
    subject: String,
}

impl Unsealed {
    /// Of an event.
    ///
    /// # Errors
    /// If it is no JSON, or a personal field has no subject.
    pub fn of(event: &impl Serialize) -> Result<Self, SealError> {
        let text = serde_json::to_string(event).map_err(|_| SealError::Shape(String::new()))?;
        let text = Zeroizing::new(text);
        let mut fields = vec![];
        find(&text, &text, &mut String::new(), &mut fields)?;
        Ok(Self { text, fields })
    }

    /// Whom its personal fields are about.
    pub fn subjects(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.subject.as_str())
    }

    /// With the sealed form in the place of each personal value.
    ///
    /// # Errors
    /// If a subject has no key: then nothing may be written about them.
    pub fn seal(&self, place: EventPlace<'_>, keys: &DataKeys) -> Result<String, SealError> {
        let mut out = String::with_capacity(self.text.len() + 128 * self.fields.len());
        let mut from = 0;
        for Field { at, path, subject } in &self.fields {
            let shape = |_| SealError::Shape(path.clone());
            let open: Open<'_> = serde_json::from_str(&self.text[at.clone()]).map_err(shape)?;
            let key = keys.get(subject);
            let key = key.ok_or_else(|| SealError::NoKey(subject.clone()))?;
            let aad = aad(place, path, subject, KEY_VERSION);
            let (nonce, ciphertext) =
                aead::seal(key, &aad, &aead::pad(open.value.get().as_bytes()));
            let sealed = Sealed {
                subject,
                key: KEY_VERSION,
                sealed: STANDARD.encode([nonce.as_slice(), &ciphertext].concat()),
            };
            out.push_str(&self.text[from..at.start]);
            out.push_str(&serde_json::to_string(&sealed).map_err(shape)?);
            from = at.end;
        }
        out.push_str(&self.text[from..]);
        Ok(out)
    }
}

/// Finds the personal fields in a part of a text.
fn find(
    text: &str,
    part: &str,
    path: &mut String,
    found: &mut Vec<Field>,
) -> Result<(), SealError> {
    if !part.contains(MARKER) {
        return Ok(());
    }
    let shape = |path: &str| SealError::Shape(path.to_owned());
    let length = path.len();
    match part.as_bytes()[0] {
        b'{' => {
            let Members(members) = serde_json::from_str(part).map_err(|_| shape(path))?;
            for (name, value) in members {
                let value = value.get();
                if name == MARKER {
                    let About { subject } = serde_json::from_str(value).map_err(|_| shape(path))?;
                    let start = value.as_ptr().addr() - text.as_ptr().addr();
                    found.push(Field {
                        at: start..start + value.len(),
                        path: path.clone(),
                        subject,
                    });
                    continue;
                }
                path.push('.');
                path.push_str(&name);
                find(text, value, path, found)?;
                path.truncate(length);
            }
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(part).map_err(|_| shape(path))?;
            for (index, item) in items.into_iter().enumerate() {
                path.push_str(&format!("[{index}]"));
                find(text, item.get(), path, found)?;
                path.truncate(length);
            }
        }
        // A text in which the marker stands is no field.
        _ => {}
    }
    Ok(())
}

/// Names and values of a JSON object, where they stand.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;
            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
                let mut all = vec![];
                while let Some(Name(name)) = members.next_key()? {
                    all.push((name, members.next_value()?));
                }
                Ok(Members(all))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct About {
    subject: String,
}

#[derive(Deserialize)]
struct Open<'a> {
    #[serde(borrow)]
    value: &'a RawValue,
}

#[derive(Serialize)]
struct Sealed<'a> {
    subject: &'a str,
    key: u64,
    sealed: String,
}

/// Replaces every sealed field by its value, or by the mark of erasure if its subject has no key.
///
/// # Errors
/// If a field was altered or moved.
pub fn open(payload: &mut Value, place: EventPlace<'_>, keys: &DataKeys) -> Result<(), SealError> {
    rewrite(payload, &mut String::new(), &mut |personal, path| {
        let shape = || SealError::Shape(path.to_owned());
        let altered = || SealError::Altered(path.to_owned());
        let subject = personal["subject"].as_str().ok_or_else(shape)?.to_owned();
        let version = personal["key"].as_u64().ok_or_else(shape)?;
        let Some(key) = keys.get(&subject) else {
            *personal = json!({"subject": subject, "erased": true});
            return Ok(());
        };
        let sealed = STANDARD
            .decode(personal["sealed"].as_str().ok_or_else(shape)?)
            .map_err(|_| altered())?;
        let (nonce, ciphertext) = sealed.split_at_checked(12).ok_or_else(altered)?;
        let nonce = nonce.try_into().map_err(|_| altered())?;
        let padded = aead::open(key, nonce, &aad(place, path, &subject, version), ciphertext)
            .map_err(|_| altered())?;
        let plain = aead::unpad(&padded).ok_or_else(altered)?;
        let value: Value = serde_json::from_slice(plain).map_err(|_| altered())?;
        *personal = json!({"subject": subject, "value": value});
        Ok(())
    })
}

fn rewrite(
    value: &mut Value,
    path: &mut String,
    change: &mut impl FnMut(&mut Value, &str) -> Result<(), SealError>,
) -> Result<(), SealError> {
    match value {
        Value::Object(map) => {
            if let Some(personal) = map.get_mut(MARKER) {
                return change(personal, path);
            }
            for (key, value) in map {
                let length = path.len();
                path.push('.');
                path.push_str(key);
                rewrite(value, path, change)?;
                path.truncate(length);
            }
            Ok(())
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                let length = path.len();
                path.push_str(&format!("[{index}]"));
                rewrite(value, path, change)?;
                path.truncate(length);
            }
            Ok(())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

fn aad(place: EventPlace<'_>, path: &str, subject: &str, version: u64) -> Vec<u8> {
    aead::aad(&[
        "event",
        place.aggregate_type,
        place.aggregate_id,
        place.event_id,
        place.event_type,
        place.event_version,
        path,
        subject,
        &version.to_string(),
    ])
}

/// Seals a text that belongs to a subject but not into an event: a row of the effects queue, an outcome.
pub fn seal_text(key: &Key32, place: &[&str], text: &[u8]) -> Vec<u8> {
    let (nonce, ciphertext) = aead::seal(key, &aead::aad(place), text);
    [nonce.as_slice(), &ciphertext].concat()
}

/// Opens what `seal_text` sealed for the same place; `None` if it was altered or moved.
pub fn open_text(key: &Key32, place: &[&str], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, ciphertext) = sealed.split_at_checked(12)?;
    aead::open(key, nonce.try_into().ok()?, &aead::aad(place), ciphertext).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: EventPlace<'_> = EventPlace {
        aggregate_type: "user",
        aggregate_id: "u1",
        event_id: "e1",
        event_type: "user.registered",
        event_version: "1",
    };

    fn keys() -> DataKeys {
        [
            ("u1".to_owned(), Arc::new(Key32::from_bytes([1; 32]))),
            ("u2".to_owned(), Arc::new(Key32::from_bytes([2; 32]))),
        ]
        .into()
    }

    fn payload() -> Value {
        json!({"registered": {
            "email": {"$personal": {"subject": "u1", "value": "ada@example.com"}},
            "friends": [{"$personal": {"subject": "u2", "value": "bo"}}],
            "role": "user",
        }})
    }

    fn sealed() -> Value {
        sealed_of(&payload(), &keys()).unwrap()
    }

    fn sealed_of(payload: &Value, keys: &DataKeys) -> Result<Value, SealError> {
        let sealed = Unsealed::of(payload)?.seal(PLACE, keys)?;
        Ok(serde_json::from_str(&sealed).unwrap())
    }

    #[test]
    fn what_is_sealed_opens_again_and_shows_nothing_meanwhile() {
        let mut value = sealed();
        let text = value.to_string();
        assert!(!text.contains("ada") && !text.contains("value"), "{text}");
        open(&mut value, PLACE, &keys()).unwrap();
        assert_eq!(value, payload());
    }

    #[test]
    fn a_field_opens_only_at_its_place() {
        let places = [
            EventPlace {
                aggregate_type: "session",
                ..PLACE
            },
            EventPlace {
                aggregate_id: "u9",
                ..PLACE
            },
            EventPlace {
                event_id: "e2",
                ..PLACE
            },
            EventPlace {
                event_type: "user.other",
                ..PLACE
            },
            EventPlace {
                event_version: "2",
                ..PLACE
            },
        ];
        for place in places {
            assert!(matches!(
                open(&mut sealed(), place, &keys()),
                Err(SealError::Altered(_))
            ));
        }
        let mut moved = sealed();
        let email = moved["registered"]["email"].take();
        moved["registered"]["name"] = email;
        moved["registered"].as_object_mut().unwrap().remove("email");
        assert!(
            matches!(open(&mut moved, PLACE, &keys()), Err(SealError::Altered(path)) if path == ".registered.name")
        );
    }

    #[test]
    fn every_subject_is_named() {
        assert_eq!(
            subjects(&payload()),
            ["u1".to_owned(), "u2".to_owned()].into()
        );
        let unsealed = Unsealed::of(&payload()).unwrap();
        assert_eq!(unsealed.subjects().collect::<Vec<_>>(), ["u1", "u2"]);
    }

    #[test]
    fn what_is_not_personal_is_written_as_it_is() {
        let plain =
            json!({"$personal text": ["$personal", {"a\"b": "{\"$personal\":{}}"}, 7, null]});
        let unsealed = Unsealed::of(&plain).unwrap();
        assert_eq!(unsealed.subjects().count(), 0);
        assert_eq!(sealed_of(&plain, &keys()).unwrap(), plain);
        let mixed = json!({
            "a\"b": [[], [{"$personal": {"subject": "u1", "value": {"$personal": "ä\n"}}}]], "c": plain,
        });
        let mut value = sealed_of(&mixed, &keys()).unwrap();
        assert_eq!(value["c"], plain);
        assert!(value["a\"b"][1][0]["$personal"]["sealed"].is_string());
        open(&mut value, PLACE, &keys()).unwrap();
        assert_eq!(value, mixed);
    }

    #[test]
    fn a_field_about_nobody_is_not_written() {
        for wrong in [
            json!({"value": 1}),
            json!("u1"),
            json!({"subject": 1, "value": 1}),
        ] {
            let payload = json!({"n": {"$personal": wrong}});
            assert!(matches!(Unsealed::of(&payload), Err(SealError::Shape(path)) if path == ".n"));
        }
        let payload = json!({"n": {"$personal": {"subject": "u1", "erased": true}}});
        assert!(
            matches!(sealed_of(&payload, &keys()), Err(SealError::Shape(path)) if path == ".n")
        );
    }

    #[test]
    fn nothing_is_written_about_a_subject_without_a_key() {
        let mut only_u2 = keys();
        only_u2.remove("u1");
        assert!(
            matches!(sealed_of(&payload(), &only_u2), Err(SealError::NoKey(subject)) if subject == "u1")
        );
    }

    #[test]
    fn a_subject_whose_key_is_gone_reads_as_erased() {
        let mut only_u2 = keys();
        only_u2.remove("u1");
        let mut value = sealed();
        open(&mut value, PLACE, &only_u2).unwrap();
        assert_eq!(
            value["registered"]["email"],
            json!({"$personal": {"subject": "u1", "erased": true}})
        );
        assert_eq!(
            value["registered"]["friends"][0]["$personal"]["value"],
            "bo"
        );
    }

    #[test]
    fn the_length_of_a_short_value_does_not_show() {
        let sealed_length = |value: &str| {
            let payload = json!({"n": {"$personal": {"subject": "u1", "value": value}}});
            sealed_of(&payload, &keys()).unwrap()["n"]["$personal"]["sealed"]
                .as_str()
                .unwrap()
                .len()
        };
        assert_eq!(sealed_length("Bo"), sealed_length("Bartholomew"));
    }
}
