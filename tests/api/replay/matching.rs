//! Compares an answer or a mail with the recorded one and says where they differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::DateTime;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::placeholders::{Captures, encode};
use super::transcripts::{self, DecodedJwt, Response};

/// The headers that are part of the contract: each is present exactly where it was recorded.
const HEADERS: [&str; 8] = [
    "access-control-expose-headers",
    "cache-control",
    "content-type",
    "location",
    "pragma",
    "set-auth-jwt",
    "set-auth-token",
    "x-retry-after",
];

/// What stands for a missing value in a [`Difference`].
pub const ABSENT: &str = "absent";

/// One place where an answer is not the recorded one. Values of JSON bodies are shown as JSON.
#[derive(Debug, PartialEq)]
pub struct Difference {
    pub at: String,
    pub expected: String,
    pub got: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}\n      expected {}\n      got      {}",
            self.at, self.expected, self.got
        )
    }
}

/// What came over the wire, header names in lower case.
#[derive(Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// All values of a header, joined as one, or `None`.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self.all(name).collect();
        (!values.is_empty()).then(|| values.join(", "))
    }

    fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.headers
            .iter()
            .filter(move |(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }

    /// The cookies set, in the order of the wire.
    pub fn cookies(&self) -> Vec<Cookie> {
        self.all("set-cookie").map(Cookie::parse).collect()
    }
}

/// A `Set-Cookie` header taken apart.
pub struct Cookie {
    pub name: String,
    /// As it stands on the wire, percent-encoded.
    pub raw: String,
    pub attributes: Vec<String>,
}

impl Cookie {
    fn parse(header: &str) -> Cookie {
        let mut parts = header.split("; ").map(str::to_owned);
        let pair = parts.next().unwrap_or_default();
        let (name, raw) = pair.split_once('=').unwrap_or((&pair, ""));
        Cookie {
            name: name.to_owned(),
            raw: raw.to_owned(),
            attributes: parts.collect(),
        }
    }

    /// The value, percent-decoded.
    pub fn value(&self) -> String {
        percent_decode_str(&self.raw)
            .decode_utf8_lossy()
            .into_owned()
    }
}

/// Compares an answer with the recorded one; what its placeholders stand for is remembered in `captures`.
pub fn compare_answer(
    captures: &mut Captures,
    expected: &Response,
    got: &Answer,
) -> Vec<Difference> {
    let mut comparison = Comparison {
        captures,
        differences: Vec::new(),
    };
    if expected.status != got.status {
        comparison.differ("status", expected.status, got.status);
    }
    comparison.cookies(&expected.set_cookie, &got.cookies());
    for name in HEADERS {
        let recorded = expected.headers.get(name).map(String::as_str);
        let given = got.header(name);
        // Deliberate, everywhere: no answer of ours is kept by a cache (S-44).
        if name == "cache-control" && recorded.is_none() && given.as_deref() == Some("no-store") {
            continue;
        }
        comparison.header(name, recorded, given.as_deref());
    }
    comparison.body(expected, &got.body);
    comparison.jwts(&expected.decoded_jwt);
    comparison.differences
}

/// Compares a mail with the recorded one. `url` is the link in it.
pub fn compare_mail(
    captures: &mut Captures,
    expected: &transcripts::Mail,
    jwts: &BTreeMap<String, DecodedJwt>,
    kind: &str,
    url: Option<&str>,
) -> Vec<Difference> {
    let mut comparison = Comparison {
        captures,
        differences: Vec::new(),
    };
    comparison.text("mail.kind", &expected.kind, Some(&kind.replace('_', "-")));
    comparison.text("mail.url", &expected.url, url);
    comparison.jwts(jwts);
    comparison.differences
}

struct Comparison<'a> {
    captures: &'a mut Captures,
    differences: Vec<Difference>,
}

impl Comparison<'_> {
    fn differ(&mut self, at: &str, expected: impl fmt::Display, got: impl fmt::Display) {
        let (expected, got) = (expected.to_string(), got.to_string());
        self.differences.push(Difference {
            at: at.to_owned(),
            expected,
            got,
        });
    }

    fn text(&mut self, at: &str, expected: &str, got: Option<&str>) {
        if !got.is_some_and(|got| self.captures.fits(expected, got)) {
            self.differ(at, expected, got.unwrap_or(ABSENT));
        }
    }

    fn header(&mut self, name: &str, expected: Option<&str>, got: Option<&str>) {
        let at = format!("header {name}");
        match (expected, got) {
            (None, None) => {}
            (None, Some(got)) => self.differ(&at, ABSENT, got),
            (Some(expected), Some(got)) if name == "access-control-expose-headers" => {
                if names(expected) != names(got) {
                    self.differ(&at, expected, got);
                }
            }
            (Some(expected), got) => self.text(&at, expected, got),
        }
    }

    fn cookies(&mut self, expected: &[transcripts::SetCookie], got: &[Cookie]) {
        let expected_names: Vec<&str> =
            expected.iter().map(|cookie| cookie.name.as_str()).collect();
        let got_names: Vec<&str> = got.iter().map(|cookie| cookie.name.as_str()).collect();
        if expected_names != got_names {
            self.differ("cookies", expected_names.join(", "), got_names.join(", "));
        }
        for (index, expected) in expected.iter().enumerate() {
            let same_name = |cookie: &&Cookie| cookie.name == expected.name;
            // In the usual case of equal lists this is the cookie at the same place.
            let Some(got) = got
                .get(index)
                .filter(same_name)
                .or_else(|| got.iter().find(same_name))
            else {
                continue;
            };
            let at = format!("cookie {}", expected.name);
            self.text(&at, &expected.value, Some(&got.value()));
            if got.raw != encode(&got.value()) {
                self.differ(&format!("{at} encoding"), encode(&got.value()), &got.raw);
            }
            if expected.attributes != got.attributes {
                self.differ(
                    &format!("{at} attributes"),
                    expected.attributes.join("; "),
                    got.attributes.join("; "),
                );
            }
        }
    }

    fn body(&mut self, expected: &Response, got: &str) {
        if let Some(text) = &expected.text {
            return self.text("body", text, Some(got));
        }
        if expected.body == "<empty>" {
            if !got.is_empty() {
                self.differ("body", "<empty>", got);
            }
            return;
        }
        match serde_json::from_str(got) {
            Ok(got) => self.json("body", &expected.body, &got),
            Err(_) => self.differ(
                "body",
                &expected.body,
                if got.is_empty() { "<empty>" } else { got },
            ),
        }
    }

    /// Compares JSON values: keys in any order, but none missing and none more.
    fn json(&mut self, at: &str, expected: &Value, got: &Value) {
        match (expected, got) {
            (Value::Object(expected), Value::Object(got)) => {
                let keys: BTreeSet<&String> = expected.keys().chain(got.keys()).collect();
                for key in keys {
                    let at = format!("{at}.{key}");
                    match (expected.get(key), got.get(key)) {
                        (Some(expected), Some(got)) => self.json(&at, expected, got),
                        (Some(expected), None) => self.differ(&at, expected, ABSENT),
                        (None, got) => {
                            self.differ(&at, ABSENT, got.expect("a key of one of the two"))
                        }
                    }
                }
            }
            (Value::Array(expected), Value::Array(got)) if expected.len() == got.len() => {
                for (index, (expected, got)) in expected.iter().zip(got).enumerate() {
                    self.json(&format!("{at}[{index}]"), expected, got);
                }
            }
            // JSON texts say the same in whichever order a client has sent them.
            (Value::String(expected), Value::String(got)) if at.ends_with(".metadata") => {
                match (serde_json::from_str(expected), serde_json::from_str(got)) {
                    (Ok(expected), Ok(got)) => self.json(&format!("{at} text"), &expected, &got),
                    _ => self.differ(at, expected, got),
                }
            }
            (Value::String(template), Value::Number(_)) if number_fits(template, got) => {}
            (Value::String(template), Value::String(text))
                if self.captures.fits(template, text) => {}
            (expected, got) if !expected.is_string() && expected == got => {}
            (expected, got) => self.differ(at, expected, got),
        }
    }

    /// Takes the captured JWTs apart. Their signatures are proved elsewhere, with a foreign library.
    fn jwts(&mut self, expected: &BTreeMap<String, DecodedJwt>) {
        for (name, expected) in expected {
            let at = format!("jwt {name}");
            let Some(jwt) = self.captures.get(name) else {
                continue;
            };
            let Some([header, payload]) = decode_jwt(jwt) else {
                let jwt = jwt.to_owned();
                self.differ(&at, "a header and a payload", jwt);
                continue;
            };
            self.json(&format!("{at}.header"), &expected.header, &header);
            self.json(&format!("{at}.payload"), &expected.payload, &payload);
            let (issued_at, expires_at) = (
                payload["iat"].as_i64().unwrap_or(0),
                payload["exp"].as_i64().unwrap_or(0),
            );
            if expires_at - issued_at != expected.lifetime_seconds {
                self.differ(
                    &format!("{at} lifetime"),
                    expected.lifetime_seconds,
                    expires_at - issued_at,
                );
            }
            if !DateTime::from_timestamp(issued_at, 0)
                .is_some_and(|time| self.captures.is_recent(time))
            {
                self.differ(&format!("{at} iat"), "a moment of this case", issued_at);
            }
        }
    }
}

/// Header names in a list, in any order and letter case.
fn names(list: &str) -> BTreeSet<String> {
    list.split(',')
        .map(|name| name.trim().to_ascii_lowercase())
        .collect()
}

/// Whether a number is a time in the unit that the placeholder names.
fn number_fits(template: &str, number: &Value) -> bool {
    let digits = match template {
        "<unix-seconds>" => 10,
        "<unix-millis>" => 13,
        _ => return false,
    };
    number
        .as_u64()
        .is_some_and(|number| number.to_string().len() == digits)
}

/// The header and the payload of a JWT, or `None` if it is not three Base64url parts with JSON in the first two.
fn decode_jwt(jwt: &str) -> Option<[Value; 2]> {
    let parts: Vec<Vec<u8>> = jwt
        .split('.')
        .map(|part| URL_SAFE_NO_PAD.decode(part).ok())
        .collect::<Option<_>>()?;
    let [header, payload, _signature] = parts.as_slice() else {
        return None;
    };
    Some([
        serde_json::from_slice(header).ok()?,
        serde_json::from_slice(payload).ok()?,
    ])
}

#[cfg(test)]
mod tests;
