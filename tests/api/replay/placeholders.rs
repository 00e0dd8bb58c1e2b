//! Placeholders such as `<id32#1>`: what fits one, what each stood for so far in a case, and filling it back in.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

/// How far a time on the wire may lie from the moment it stands for.
const TOLERANCE: TimeDelta = TimeDelta::seconds(2);

/// What `encodeURIComponent` leaves alone besides letters and digits.
const URI_COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// Percent-encodes as the recorded server and its clients do (`encodeURIComponent`).
pub fn encode(value: &str) -> String {
    utf8_percent_encode(value, URI_COMPONENT).to_string()
}

/// The HMAC-SHA256 of `message`: cookies and mailed tokens are signed with it.
pub fn hmac(secret: &str, message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// A cookie value as the server signs it: the value, a dot, the signature in Base64.
pub fn signed(secret: &str, value: &str) -> String {
    format!("{value}.{}", STANDARD.encode(hmac(secret, value)))
}

/// What the placeholders of one case stand for.
pub struct Captures {
    base: String,
    secret: String,
    known: BTreeMap<String, String>,
    /// The held clock's stops during the case; the last one is now.
    moments: Vec<DateTime<Utc>>,
}

impl Captures {
    pub fn new(base: &str, secret: &str, now: DateTime<Utc>) -> Captures {
        Captures {
            base: base.to_owned(),
            secret: secret.to_owned(),
            known: BTreeMap::new(),
            moments: vec![now],
        }
    }

    /// Notes that the clock was moved: what happened before keeps its earlier times.
    pub fn clock_moved(&mut self, now: DateTime<Utc>) {
        self.moments.push(now);
    }

    /// Whether a time lies at one of the moments of the case.
    pub fn is_recent(&self, time: DateTime<Utc>) -> bool {
        self.moments
            .iter()
            .any(|moment| (time - *moment).abs() <= TOLERANCE)
    }

    /// Says what a placeholder, or a text with placeholders in it, stands for.
    pub fn learn(&mut self, template: &str, value: &str) {
        self.known.insert(template.to_owned(), value.to_owned());
    }

    /// What is known under exactly this name.
    pub fn get(&self, template: &str) -> Option<&str> {
        self.known.get(template).map(String::as_str)
    }

    /// The text to send for a recorded one.
    ///
    /// # Errors
    /// The placeholder that nothing has shown yet.
    pub fn fill(&self, template: &str) -> Result<String, String> {
        if let Some(whole) = self.get(template) {
            return Ok(whole.to_owned());
        }
        // Signed values are known as a whole, because a signature alone has no number.
        let mut template = template.to_owned();
        for (name, value) in self
            .known
            .iter()
            .filter(|(name, _)| name.contains("<hmac-b64>"))
        {
            template = template.replace(name, value);
        }
        let mut filled = String::new();
        for part in parts(&template) {
            filled += &match part {
                Part::Text(text) => text.to_owned(),
                Part::Placeholder("<base>") => self.base.clone(),
                Part::Placeholder("<base%>") => encode(&self.base),
                Part::Placeholder(name) => {
                    self.get(name).ok_or_else(|| name.to_owned())?.to_owned()
                }
            };
        }
        Ok(filled)
    }

    /// Whether `actual` is what the recorded text stands for. What it shows for the first time is remembered.
    pub fn fits(&mut self, template: &str, actual: &str) -> bool {
        let Some(learned) = self.matched(template, actual) else {
            return false;
        };
        self.known.extend(learned);
        // A signature has no number of its own: a request that shows it again means this whole text.
        if template.contains("<hmac-b64>") {
            self.learn(template, actual);
        }
        true
    }

    fn matched(&self, template: &str, actual: &str) -> Option<BTreeMap<String, String>> {
        let mut learned = BTreeMap::new();
        let mut rest = actual;
        for part in parts(template) {
            match part {
                Part::Text(text) => rest = rest.strip_prefix(text)?,
                Part::Placeholder("<base>") => rest = rest.strip_prefix(self.base.as_str())?,
                Part::Placeholder("<base%>") => {
                    rest = rest.strip_prefix(encode(&self.base).as_str())?
                }
                Part::Placeholder(name) => {
                    let shape = Shape::of(name)?;
                    let (value, after) = shape.split(rest)?;
                    if !self.allows(name, value, &actual[..actual.len() - rest.len()], &learned) {
                        return None;
                    }
                    if name.contains('#') {
                        learned.insert(name.to_owned(), value.to_owned());
                    }
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(learned)
    }

    /// Whether a value of the right shape is also the right value. `before` is the text left of it.
    fn allows(
        &self,
        name: &str,
        value: &str,
        before: &str,
        learned: &BTreeMap<String, String>,
    ) -> bool {
        if name == "<hmac-b64>" {
            return before
                .strip_suffix('.')
                .is_some_and(|message| signed(&self.secret, message).ends_with(value));
        }
        if let Some(offset) = name.strip_prefix("<datetime:") {
            return self.allows_time(offset.trim_end_matches('>'), value);
        }
        let Some((kind, _)) = name.split_once('#') else {
            return true;
        };
        let mut seen = self.known.iter().chain(learned);
        match self.known.get(name).or_else(|| learned.get(name)) {
            Some(known) => known == value,
            // Two names are two values, except that JWTs made in the same second read the same.
            None => {
                kind == "<jwt"
                    || !seen.any(|(other, known)| other.starts_with(kind) && known == value)
            }
        }
    }

    fn allows_time(&self, offset: &str, value: &str) -> bool {
        let Ok(time) = DateTime::parse_from_rfc3339(value) else {
            return false;
        };
        let time = time.to_utc();
        // One form of time only: UTC with exactly three digits of a second.
        if time
            .trunc_subsecs(3)
            .format("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string()
            != value
        {
            return false;
        }
        let now = *self
            .moments
            .last()
            .expect("a case starts with its first moment");
        match offset.strip_prefix("now") {
            Some("") => self.is_recent(time),
            Some(later) => {
                let seconds = later
                    .trim_start_matches('+')
                    .trim_end_matches('s')
                    .parse()
                    .unwrap();
                (time - now - TimeDelta::seconds(seconds)).abs() <= TOLERANCE
            }
            None => offset == "past" && time < now,
        }
    }
}

enum Part<'a> {
    Text(&'a str),
    Placeholder(&'a str),
}

/// Takes a recorded text apart. Angle brackets around anything else, as in `<script>`, are text.
fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut text_from = 0;
    for (start, _) in template.match_indices('<') {
        let Some(length) = template[start..].find('>') else {
            continue;
        };
        let name = &template[start..=start + length];
        if start < text_from || (Shape::of(name).is_none() && !name.starts_with("<base")) {
            continue;
        }
        parts.push(Part::Text(&template[text_from..start]));
        parts.push(Part::Placeholder(name));
        text_from = start + name.len();
    }
    parts.push(Part::Text(&template[text_from..]));
    parts
}

/// Which characters a placeholder stands for, and how many of them where that is fixed.
struct Shape {
    allowed: fn(char) -> bool,
    length: Option<usize>,
}

impl Shape {
    fn of(name: &str) -> Option<Shape> {
        let name = name.strip_prefix('<')?.strip_suffix('>')?;
        let kind = name.split('#').next()?;
        if let Some((kind, length)) = kind.split_once(':') {
            if kind == "datetime" {
                return Some(Shape {
                    allowed: |c| c.is_ascii_digit() || "-:.TZ".contains(c),
                    length: Some(24),
                });
            }
            let length = Some(length.parse().ok()?);
            return match kind {
                "b64url" => Some(Shape {
                    allowed: is_base64url,
                    length,
                }),
                "b64" => Some(Shape {
                    allowed: is_base64,
                    length,
                }),
                "base32" => Some(Shape {
                    allowed: |c| matches!(c, 'A'..='Z' | '2'..='7'),
                    length,
                }),
                "digits" => Some(Shape {
                    allowed: |c| c.is_ascii_digit(),
                    length,
                }),
                _ => None,
            };
        }
        let (allowed, length): (fn(char) -> bool, _) = match kind {
            "id32" => (|c| c.is_ascii_alphanumeric(), Some(32)),
            "id24" => (|c| c.is_ascii_alphanumeric(), Some(24)),
            "rand32" => (is_base64url, Some(32)),
            "rand20" => (is_base64url, Some(20)),
            "jwt" => (|c| is_base64url(c) || c == '.', None),
            "hmac-b64" => (is_base64, Some(44)),
            "hmac-b64url" => (is_base64url, Some(43)),
            "provider-accessToken" | "provider-refreshToken" => (is_base64url, None),
            "backup-code" => (|c| c.is_ascii_alphanumeric() || c == '-', Some(11)),
            "credential-id" | "b64url" | "b64url-json" => (is_base64url, None),
            _ => return None,
        };
        Some(Shape { allowed, length })
    }

    /// Cuts the text after what this placeholder stands for.
    fn split<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        let run = text.find(|c| !(self.allowed)(c)).unwrap_or(text.len());
        let length = self.length.unwrap_or(run);
        (0 < length && length <= run).then(|| text.split_at(length))
    }
}

fn is_base64url(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_')
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}
