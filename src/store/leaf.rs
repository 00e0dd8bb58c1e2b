//! Leaves: the bytes of an event that the tree is made of. Leaf `n` is event `n` as it is stored, personal fields sealed,
//! as canonical JSON (RFC 8785). Integers above 2^53 are texts, because JSON readers keep no more digits of a number;
//! the time that the database gave has one form, microseconds in UTC.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};
use uuid::Uuid;

use super::log::StoredRow;

/// Integers beyond this are texts (RFC 8785 appendix D).
const EXACT_MAX: u64 = 1 << 53;

/// JSON as text.
#[derive(Clone, Copy)]
pub(super) enum Json<'a> {
    /// As it was read.
    Any(&'a str),
    /// In canonical form.
    Canonical(&'a str),
}

/// What a leaf is made of, wherever it stands.
pub(super) struct Parts<'a> {
    pub position: i64,
    pub aggregate_type: &'a str,
    pub aggregate_id: &'a str,
    pub sequence: i64,
    pub event_type: &'a str,
    pub event_version: &'a str,
    pub payload: Json<'a>,
    pub metadata: Json<'a>,
    pub event_id: Uuid,
    pub recorded_at: DateTime<Utc>,
}

/// The leaf of an event.
///
/// # Errors
/// When its JSON is nested deeper than it can be read.
pub fn leaf(row: &StoredRow) -> Result<Vec<u8>, serde_json::Error> {
    leaf_of(&Parts {
        position: row.position,
        aggregate_type: &row.aggregate_type,
        aggregate_id: &row.aggregate_id,
        sequence: row.sequence,
        event_type: &row.event_type,
        event_version: &row.event_version,
        payload: Json::Any(row.payload.get()),
        metadata: Json::Any(row.metadata.get()),
        event_id: row.event_id,
        recorded_at: row.recorded_at,
    })
}

/// Whether all numbers of an event are as the service writes them: integers of at most 2^53. No event has others, and a leaf
/// does not tell some of them from these, as 1.0 from 1, or from texts.
pub fn has_plain_numbers(row: &StoredRow) -> bool {
    [&row.payload, &row.metadata]
        .iter()
        .all(|json| numbers_are_plain(json.get()))
}

fn numbers_are_plain(json: &str) -> bool {
    let is_plain = |number: &str| {
        let read = number.parse::<i64>();
        read.is_ok_and(|integer| integer.unsigned_abs() <= EXACT_MAX)
    };
    let (mut rest, mut in_text) = (json, false);
    while let Some(first) = rest.bytes().next() {
        // Bytes of JSON that matter are ASCII: the ends of texts, what escapes them, and numbers.
        let length = match first {
            b'"' => {
                in_text = !in_text;
                1
            }
            b'\\' if in_text => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            b'-' | b'0'..=b'9' if !in_text => {
                let end = rest.find([',', ']', '}', ' ', '\n', '\t', '\r']);
                let length = end.unwrap_or(rest.len());
                if !is_plain(&rest[..length]) {
                    return false;
                }
                length
            }
            _ => rest.chars().next().map_or(1, char::len_utf8),
        };
        rest = &rest[length..];
    }
    true
}

/// The same of an event that is not taken from the log.
pub(super) fn leaf_of(event: &Parts<'_>) -> Result<Vec<u8>, serde_json::Error> {
    let recorded_at = event
        .recorded_at
        .to_rfc3339_opts(SecondsFormat::Micros, true);
    let mut out = Vec::with_capacity(1024);
    // In the order that the canonical form asks for.
    begin("aggregate_id", &mut out);
    write_text(event.aggregate_id, &mut out);
    begin("aggregate_type", &mut out);
    write_text(event.aggregate_type, &mut out);
    begin("event_id", &mut out);
    write_text(&event.event_id.to_string(), &mut out);
    begin("event_type", &mut out);
    write_text(event.event_type, &mut out);
    begin("event_version", &mut out);
    write_text(event.event_version, &mut out);
    begin("metadata", &mut out);
    write_json(event.metadata, &mut out)?;
    begin("payload", &mut out);
    write_json(event.payload, &mut out)?;
    begin("position", &mut out);
    write_number(&event.position.into(), &mut out);
    begin("recorded_at", &mut out);
    write_text(&recorded_at, &mut out);
    begin("sequence", &mut out);
    write_number(&event.sequence.into(), &mut out);
    out.push(b'}');
    Ok(out)
}

/// Begins a field of the leaf, whose name needs no escapes.
fn begin(name: &str, out: &mut Vec<u8>) {
    out.extend(if out.is_empty() { b"{\"" } else { b",\"" });
    out.extend(name.as_bytes());
    out.extend(b"\":");
}

/// Writes JSON in canonical form.
fn write_json(json: Json<'_>, out: &mut Vec<u8>) -> Result<(), serde_json::Error> {
    match json {
        Json::Any(text) => {
            let mut reader = serde_json::Deserializer::from_str(text);
            Canonical(out).deserialize(&mut reader)?;
            reader.end()
        }
        Json::Canonical(text) => {
            out.extend(text.as_bytes());
            Ok(())
        }
    }
}

/// Whether `serde_json` writes a value in canonical form: names that are ASCII and in order, no numbers but small integers.
pub(super) fn is_written_canonical(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::String(_) => true,
        Value::Number(number) => number
            .as_i64()
            .is_some_and(|integer| integer.unsigned_abs() <= EXACT_MAX),
        Value::Array(items) => items.iter().all(is_written_canonical),
        Value::Object(fields) => {
            fields.keys().is_sorted()
                && fields
                    .iter()
                    .all(|(name, value)| name.is_ascii() && is_written_canonical(value))
        }
    }
}

/// Writes JSON in canonical form while it is read.
struct Canonical<'a>(&'a mut Vec<u8>);

/// The name of a field, where it was read if it stands there without escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> DeserializeSeed<'de> for Canonical<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Canonical<'_> {
    type Value = ();
    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.extend(b"null");
        Ok(())
    }
    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        self.0
            .extend(if truth { b"true".as_slice() } else { b"false" });
        Ok(())
    }
    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        write_number(&number.into(), self.0);
        Ok(())
    }
    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        write_number(&number.into(), self.0);
        Ok(())
    }
    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        let number = Number::from_f64(number).ok_or_else(|| E::custom("no number"))?;
        write_number(&number, self.0);
        Ok(())
    }
    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        write_text(text, self.0);
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let out = self.0;
        out.push(b'[');
        let begin = out.len();
        while items.next_element_seed(Canonical(out))?.is_some() {
            out.push(b',');
        }
        end(begin, b']', out);
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let out = self.0;
        out.push(b'{');
        let begin = out.len();
        // Where each is, its comma included.
        let mut places: Vec<(Name<'de>, Range<usize>)> = Vec::with_capacity(8);
        while let Some(name) = fields.next_key::<Name<'_>>()? {
            let place = out.len();
            write_text(&name.0, out);
            out.push(b':');
            fields.next_value_seed(Canonical(out))?;
            out.push(b',');
            places.push((name, place - begin..out.len() - begin));
        }
        if !places.is_sorted_by(|one, other| order(one, other).is_lt()) {
            places.sort_by(order);
            let as_read = out.split_off(begin);
            for (_, place) in places {
                out.extend(&as_read[place]);
            }
        }
        end(begin, b'}', out);
        Ok(())
    }
}

/// By UTF-16 code units, which is another order than that of code points.
fn order((one, _): &(Name<'_>, Range<usize>), (other, _): &(Name<'_>, Range<usize>)) -> Ordering {
    one.0.encode_utf16().cmp(other.0.encode_utf16())
}

/// Ends an array or an object that began somewhere, in the place of its last comma.
fn end(begin: usize, bracket: u8, out: &mut Vec<u8>) {
    if out.len() > begin {
        out.pop();
    }
    out.push(bracket);
}

/// `serde_json` escapes what RFC 8785 section 3.2.2.2 escapes, in the same way.
fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text is JSON, and memory takes it");
}

fn write_number(number: &Number, out: &mut Vec<u8>) {
    let exact = |magnitude: u64| magnitude <= EXACT_MAX;
    let text = match (number.as_i64(), number.as_u64()) {
        (Some(integer), _) if exact(integer.unsigned_abs()) => integer.to_string(),
        (Some(integer), _) => format!("\"{integer}\""),
        (None, Some(integer)) => format!("\"{integer}\""),
        (None, None) => fraction(number.as_f64().expect("what is no integer is a fraction")),
    };
    out.extend(text.as_bytes());
}

/// A number as ECMAScript prints it (ECMA-262 section 6.1.6.1.20): the shortest digits that read as the same number.
fn fraction(number: f64) -> String {
    // Of two that are as short and as near, ECMAScript and `serde_json` take the even one, and Rust's own form the upper.
    let shortest = serde_json::to_string(&number.abs()).expect("a fraction is JSON");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (whole, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{rest}");
    let digits = all.trim_start_matches('0');
    let exponent: i32 = exponent.parse().expect("an exponent is an integer");
    let point = whole.len() as i32 + exponent - (all.len() - digits.len()) as i32;
    let digits = digits.trim_end_matches('0');
    let count = digits.len() as i32;
    let sign = if number < 0.0 { "-" } else { "" };
    let zeros = |many: i32| "0".repeat(many.unsigned_abs() as usize);
    let magnitude = match point {
        _ if number == 0.0 => "0".to_owned(),
        1..=21 if count <= point => format!("{digits}{}", zeros(point - count)),
        1..=21 => {
            let (whole, rest) = digits.split_at(point as usize);
            format!("{whole}.{rest}")
        }
        -5..=0 => format!("0.{}{digits}", zeros(point)),
        _ => {
            let (first, rest) = digits.split_at(1);
            let point_and_rest = if rest.is_empty() {
                String::new()
            } else {
                format!(".{rest}")
            };
            format!("{first}{point_and_rest}e{:+}", point - 1)
        }
    };
    format!("{sign}{magnitude}")
}

#[cfg(test)]
mod tests {
    use serde_json::value::{RawValue, to_raw_value};
    use serde_json::{Value, json};

    use super::*;

    fn canonical(json: &str) -> String {
        let mut out = vec![];
        write_json(Json::Any(json), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn raw(json: Value) -> Box<RawValue> {
        to_raw_value(&json).unwrap()
    }

    /// The bytes never change: whoever holds a checkpoint holds us to them.
    #[test]
    fn an_event_has_these_bytes_for_ever() {
        let row = StoredRow {
            position: 4711,
            aggregate_type: "user".to_owned(),
            aggregate_id: "tcN9rJgqZ5dXw0m2bK7hLf4sVa8yPe1u".to_owned(),
            sequence: 1,
            event_type: "user.registered".to_owned(),
            event_version: "1".to_owned(),
            payload: raw(json!({"registered": {
                "name": {"$personal": {"subject": "tcN9rJgqZ5dXw0m2bK7hLf4sVa8yPe1u", "key": 1, "sealed": "00ff"}},
                "role": "user", "image": null, "email_verified": false, "at": "2026-11-01T09:00:00.123456789Z",
                "large": [9_007_199_254_740_992_u64, 9_007_199_254_740_993_u64, -9_007_199_254_740_993_i64, u64::MAX],
                "words": "\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}",
            }})),
            metadata: raw(
                json!({"node": "n1", "actor": "anonymous", "correlation_id": "r-1", "\u{1f600}": 1, "\u{fb33}": 2}),
            ),
            event_id: "01932c07-2a7b-7c3e-8a5b-0123456789ab".parse().unwrap(),
            recorded_at: "2026-11-01T10:00:00.1+01:00".parse().unwrap(),
        };
        let bytes = String::from_utf8(leaf(&row).unwrap()).unwrap();
        assert_eq!(
            bytes,
            include_str!("../../tests/log/golden/leaf.json").trim_end()
        );
    }

    /// The example of RFC 8785 section 3.2.3, and its order of names.
    #[test]
    fn names_are_in_the_order_of_utf_16() {
        let given = r#"{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew","1":"One","\ud83d\ude00":"Smiley",
            "\u0080":"Control","\u00f6":"Latin"}"#;
        let names: Vec<String> = canonical(given)
            .trim_matches(['{', '}'])
            .split(',')
            .map(|pair| pair.split_once(':').unwrap().1.replace('"', ""))
            .collect();
        let expected = [
            "Carriage Return",
            "One",
            "Control",
            "Latin",
            "Euro Sign",
            "Smiley",
            "Hebrew",
        ];
        assert_eq!(names, expected);
    }

    /// RFC 8785 appendix B.
    #[test]
    fn fractions_are_written_as_by_ecmascript() {
        for (bits, expected) in [
            (0x0000_0000_0000_0000, "0"),
            (0x8000_0000_0000_0000, "0"),
            (0x0000_0000_0000_0001, "5e-324"),
            (0x8000_0000_0000_0001, "-5e-324"),
            (0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308"),
            (0xffef_ffff_ffff_ffff, "-1.7976931348623157e+308"),
            (0x4340_0000_0000_0000, "9007199254740992"),
            (0xc340_0000_0000_0000, "-9007199254740992"),
            (0x4430_0000_0000_0000, "295147905179352830000"),
            (0x44b5_2d02_c7e1_4af5, "9.999999999999997e+22"),
            (0x44b5_2d02_c7e1_4af6, "1e+23"),
            (0x44b5_2d02_c7e1_4af7, "1.0000000000000001e+23"),
            (0x444b_1ae4_d6e2_ef4e, "999999999999999700000"),
            (0x444b_1ae4_d6e2_ef4f, "999999999999999900000"),
            (0x444b_1ae4_d6e2_ef50, "1e+21"),
            (0x3eb0_c6f7_a0b5_ed8c, "9.999999999999997e-7"),
            (0x3eb0_c6f7_a0b5_ed8d, "0.000001"),
            (0x41b3_de43_5555_5553, "333333333.3333332"),
            (0x41b3_de43_5555_5554, "333333333.33333325"),
            (0x41b3_de43_5555_5555, "333333333.3333333"),
            (0xbecb_f647_612f_3696, "-0.0000033333333333333333"),
            (0x4314_3ff3_c1cb_0959, "1424953923781206.2"),
        ] {
            let text = fraction(f64::from_bits(bits));
            assert_eq!(text, expected, "{bits:x}");
        }
        assert_eq!(
            canonical("[4.50, 2e-3, 1E30, -0.0, 0.000000000000000000000000001]"),
            "[4.5,0.002,1e+30,0,1e-27]"
        );
    }

    #[test]
    fn what_is_written_in_canonical_form_is_known() {
        for (value, expected) in [
            (json!(null), true),
            (
                json!({"b": [true, {"a": "\u{1f600}\n\"", "c": {}}], "c": []}),
                true,
            ),
            (json!([0, -1, 9_007_199_254_740_992_i64]), true),
            (json!([9_007_199_254_740_993_i64]), false),
            (json!({"a": u64::MAX}), false),
            (json!([[1.0]]), false),
            (json!({"\u{1f600}": 1, "\u{fb33}": 2}), false),
        ] {
            assert_eq!(is_written_canonical(&value), expected, "{value}");
            if expected {
                assert_eq!(canonical(&value.to_string()), value.to_string());
            }
        }
    }

    #[test]
    fn numbers_that_no_event_has_are_known() {
        for (json, plain) in [
            (
                r#"{"a": 1, "1.0": [-7, 0, 9007199254740992], "é\\\"": "1.0"}"#,
                true,
            ),
            ("3", true),
            ("1.0", false),
            (r#"{"é": {"key": 1.00}}"#, false),
            (r#"["\\", 2.5]"#, false),
            ("[9007199254740993]", false),
            ("[123456789012345678901234567890]", false),
        ] {
            assert_eq!(numbers_are_plain(json), plain, "{json}");
        }
    }

    #[test]
    fn what_reads_the_same_has_the_same_bytes() {
        let spaced = "{ \"b\" : [ 1 , 2.0 ] , \"a\" : \"\\u0041\\/\\u00e9\" }";
        assert_eq!(canonical(spaced), "{\"a\":\"A/é\",\"b\":[1,2]}");
        assert_eq!(canonical("{}"), "{}");
        assert_eq!(canonical("[]"), "[]");
        assert_eq!(canonical("[[],{},[{}]]"), "[[],{},[{}]]");
        let nested = r#"{"b":{"d":1,"c":[{"z":{},"y":null}]},"aa":true,"a\u0062":"x,y"}"#;
        let ordered = r#"{"aa":true,"ab":"x,y","b":{"c":[{"y":null,"z":{}}],"d":1}}"#;
        assert_eq!(canonical(nested), ordered);
        assert_eq!(canonical(ordered), ordered);
    }
}
