//! Seals `Personal` fields when an event is written and opens them when it is read.
//!
//! Each field is bound to its exact place: aggregate type and id, event id, stored event type and
//! version, path of the field, subject and key version. Moved anywhere else it does not open.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use aggregates::personal::MARKER;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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

/// The subjects of all personal fields in events.
pub fn subjects<'a>(payloads: impl IntoIterator<Item = &'a Value>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    for payload in payloads {
        visit(payload, &mut |personal| {
            found.extend(personal["subject"].as_str());
        });
    }
    found
}

fn visit<'a>(value: &'a Value, each: &mut impl FnMut(&'a Value)) {
    match value {
        Value::Object(map) => match map.get(MARKER) {
            Some(personal) => each(personal),
            None => map.values().for_each(|value| visit(value, each)),
        },
        Value::Array(items) => items.iter().for_each(|value| visit(value, each)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Replaces the value of every personal field by its sealed form.
///
/// # Errors
/// If a subject has no key: then nothing may be written about them.
pub fn seal(payload: &mut Value, place: EventPlace<'_>, keys: &DataKeys) -> Result<(), SealError> {
    rewrite(payload, &mut String::new(), &mut |personal, path| {
        let shape = || SealError::Shape(path.to_owned());
        let fields = personal.as_object_mut().ok_or_else(shape)?;
        let value = fields.remove("value").ok_or_else(shape)?;
        let subject = fields.get("subject").and_then(Value::as_str);
        let subject = subject.ok_or_else(shape)?;
        // Whatever else stood there would stay in clear.
        if fields.len() > 1 {
            return Err(shape());
        }
        let key = keys
            .get(subject)
            .ok_or_else(|| SealError::NoKey(subject.to_owned()))?;
        let plain = Zeroizing::new(serde_json::to_vec(&value).map_err(|_| shape())?);
        let aad = aad(place, path, subject, KEY_VERSION);
        let (nonce, ciphertext) = aead::seal(key, &aad, &aead::pad(&plain));
        let sealed = STANDARD.encode([nonce.as_slice(), &ciphertext].concat());
        fields.insert("key".to_owned(), KEY_VERSION.into());
        fields.insert("sealed".to_owned(), sealed.into());
        Ok(())
    })
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
        let mut value = payload();
        seal(&mut value, PLACE, &keys()).unwrap();
        value
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
    fn what_is_not_personal_is_written_as_it_is() {
        let plain =
            json!({"$personal text": ["$personal", {"a\"b": "{\"$personal\":{}}"}, 7, null]});
        assert!(subjects([&plain]).is_empty());
        let mut value = plain.clone();
        seal(&mut value, PLACE, &keys()).unwrap();
        assert_eq!(value, plain);
        let mixed = json!({
            "a\"b": [[], [{"$personal": {"subject": "u1", "value": {"$personal": "ä\n"}}}]], "c": plain,
        });
        let mut value = mixed.clone();
        seal(&mut value, PLACE, &keys()).unwrap();
        assert_eq!(value["c"], plain);
        assert!(value["a\"b"][1][0]["$personal"]["sealed"].is_string());
        open(&mut value, PLACE, &keys()).unwrap();
        assert_eq!(value, mixed);
    }

    #[test]
    fn a_field_about_nobody_or_with_anything_but_a_value_is_not_written() {
        for wrong in [
            json!({"value": 1}),
            json!("u1"),
            json!({"subject": 1, "value": 1}),
            json!({"subject": "u1", "erased": true}),
            json!({"subject": "u1", "value": 1, "name": "Ada"}),
        ] {
            let mut payload = json!({"n": {"$personal": wrong}});
            let refused = seal(&mut payload, PLACE, &keys());
            assert!(matches!(refused, Err(SealError::Shape(path)) if path == ".n"));
        }
    }

    #[test]
    fn every_subject_is_named_once() {
        assert_eq!(subjects([&payload()]), ["u1", "u2"].into());
    }

    #[test]
    fn nothing_is_written_about_a_subject_without_a_key() {
        let mut only_u2 = keys();
        only_u2.remove("u1");
        assert!(
            matches!(seal(&mut payload(), PLACE, &only_u2), Err(SealError::NoKey(subject)) if subject == "u1")
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
            let mut payload = json!({"n": {"$personal": {"subject": "u1", "value": value}}});
            seal(&mut payload, PLACE, &keys()).unwrap();
            payload["n"]["$personal"]["sealed"].as_str().unwrap().len()
        };
        assert_eq!(sealed_length("Bo"), sealed_length("Bartholomew"));
    }
}
