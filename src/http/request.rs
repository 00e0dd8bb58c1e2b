//! What a handler is given: the body as fields, with every fault in them named at once, in the words
//! that clients of the wire know.

use std::collections::BTreeSet;

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::error::Problem;

/// Largest body that is read, in bytes. The contract knows no limit; a form of text fields has no use for more.
pub const BODY_MAX_BYTES: usize = 2 * 1024 * 1024;
/// Longest text that is kept about a person, in characters.
const TEXT_MAX_CHARS: usize = 2048;
/// Most values in a body (S-47). Clients may send fields that we do not know, but not for us to sort them.
const VALUES_MAX: usize = 1000;

/// How a route takes its body.
#[derive(Clone, Copy, PartialEq)]
pub enum BodyTypes {
    /// JSON only.
    Json,
    /// JSON, or a form.
    JsonOrForm,
}

impl BodyTypes {
    fn allowed(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonOrForm => "application/x-www-form-urlencoded, application/json",
        }
    }
}

/// Reads a body by its content type. An empty one is `None`.
///
/// # Errors
/// If it has another type than the route takes, or is not what its type says.
pub fn read_body(
    headers: &HeaderMap,
    bytes: &[u8],
    types: BodyTypes,
) -> Result<Option<Value>, Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map(|value| value.to_str().unwrap_or("invalid"));
    let essence = given.map(|given| {
        given
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase()
    });
    match essence.as_deref() {
        None if bytes.is_empty() => Ok(None),
        None | Some("") => Err(unsupported(format!(
            "Content-Type is required. Allowed types: {}",
            types.allowed()
        ))),
        Some("application/json") if bytes.is_empty() => Ok(None),
        Some("application/json") if commas(bytes) >= VALUES_MAX => Err(Problem::InvalidJson),
        // serde_json stops at 128 levels: deep nesting is refused as broken, not followed (S-47).
        Some("application/json") => serde_json::from_slice(bytes)
            .map(Some)
            .map_err(|_| Problem::InvalidJson),
        Some("application/x-www-form-urlencoded") if types == BodyTypes::JsonOrForm => {
            // What follows after so many is no field of any form of ours.
            let fields = form_urlencoded::parse(bytes)
                .take(VALUES_MAX)
                .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())));
            Ok(Some(Value::Object(fields.collect())))
        }
        Some(_) => {
            let given = given.unwrap_or_default();
            Err(unsupported(format!(
                "Content-Type \"{given}\" is not allowed. Allowed types: {}",
                types.allowed()
            )))
        }
    }
}

/// Reads a body as JSON, whatever type it is said to have; none if it is something else.
pub fn read_any(bytes: &[u8]) -> Option<Value> {
    if commas(bytes) >= VALUES_MAX {
        return None;
    }
    serde_json::from_slice(bytes).ok()
}

/// The commas of a JSON text that stand between values, counted before the values take memory.
fn commas(json: &[u8]) -> usize {
    let (mut commas, mut in_text, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_text,
            b'"' => in_text = !in_text,
            b',' if !in_text => commas += 1,
            _ => {}
        }
    }
    commas
}

fn unsupported(message: String) -> Problem {
    Problem::UnsupportedMediaType(message)
}

/// The fields of a body or query, read one by one; faults are gathered and told together.
pub struct Fields {
    part: &'static str,
    fields: Map<String, Value>,
    /// Form fields are all text.
    form: bool,
    faults: Vec<String>,
}

impl Fields {
    /// Of a JSON body or form. `also_record`: the route checks the body's shape twice, and says so twice.
    pub fn of_body(body: Option<Value>, form: bool, also_record: bool) -> Self {
        let kind = kind_of(body.as_ref());
        let mut fields = Self {
            part: "body",
            fields: Map::new(),
            form,
            faults: vec![],
        };
        match body {
            Some(Value::Object(map)) => fields.fields = map,
            _ => {
                fields.faults.push(format!(
                    "[body] Invalid input: expected object, received {kind}"
                ));
                if also_record {
                    fields.faults.push(format!(
                        "[body] Invalid input: expected record, received {kind}"
                    ));
                }
            }
        }
        fields
    }

    /// Of a JSON body that may be any object; the words of its only fault differ from those of other bodies.
    pub fn of_record(body: Option<Value>) -> Self {
        let kind = kind_of(body.as_ref());
        let (fields, faults) = match body {
            Some(Value::Object(fields)) => (fields, vec![]),
            _ => (
                Map::new(),
                vec![format!(
                    "[body] Invalid input: expected record, received {kind}"
                )],
            ),
        };
        Self {
            part: "body",
            fields,
            form: false,
            faults,
        }
    }

    /// Of a query string.
    pub fn of_query(query: Option<&str>) -> Self {
        let pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
        let fields = pairs
            .map(|(name, value)| (name.into_owned(), Value::String(value.into_owned())))
            .collect();
        Self {
            part: "query",
            fields,
            form: true,
            faults: vec![],
        }
    }

    /// Names of parameters that a query has more than once, of which [`Self::of_query`] knows the last.
    pub fn repeated_in(query: Option<&str>) -> BTreeSet<String> {
        let mut seen = BTreeSet::new();
        form_urlencoded::parse(query.unwrap_or_default().as_bytes())
            .filter(|(name, _)| !seen.insert(name.clone()))
            .map(|(name, _)| name.into_owned())
            .collect()
    }

    /// Whether the field is there.
    pub fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// The field as it came.
    pub fn raw(&self, name: &str) -> Option<&Value> {
        self.fields.get(name)
    }

    /// A text that must be there.
    pub fn text(&mut self, name: &str) -> String {
        match self.fields.get(name) {
            Some(Value::String(text)) => text.clone(),
            other => {
                let kind = kind_of(other);
                self.fault(
                    name,
                    &format!("Invalid input: expected string, received {kind}"),
                );
                String::new()
            }
        }
    }

    /// A text that must be there and not empty.
    pub fn filled_text(&mut self, name: &str) -> String {
        let text = self.text(name);
        if text.is_empty() && matches!(self.fields.get(name), Some(Value::String(_))) {
            self.fault(name, "Too small: expected string to have >=1 characters");
        }
        text
    }

    /// A text that may be missing.
    pub fn optional_text(&mut self, name: &str) -> Option<String> {
        self.has(name).then(|| self.text(name))
    }

    /// A text that something is looked up by, or that is kept: neither long nor with a NUL, which the database has none of.
    pub fn short_text(&mut self, name: &str) -> String {
        let text = self.text(name);
        self.check_kept(name);
        text
    }

    /// The same for one that may be missing.
    pub fn optional_short_text(&mut self, name: &str) -> Option<String> {
        self.has(name).then(|| self.short_text(name))
    }

    /// A text that may be missing, or `null` to take it away.
    pub fn removable_text(&mut self, name: &str) -> Option<Option<String>> {
        match self.fields.get(name) {
            Some(Value::Null) => Some(None),
            _ => self.optional_text(name).map(Some),
        }
    }

    /// An object that must be there, whatever it holds.
    pub fn record(&mut self, name: &str) -> Value {
        match self.fields.get(name) {
            Some(record @ Value::Object(_)) => record.clone(),
            other => {
                let kind = kind_of(other);
                self.fault(
                    name,
                    &format!("Invalid input: expected record, received {kind}"),
                );
                Value::Null
            }
        }
    }

    /// A list of texts that may be missing: at most `max` of them, none of them empty.
    pub fn optional_texts(&mut self, name: &str, max: usize) -> Option<Vec<String>> {
        let given = self.fields.get(name)?;
        let is_kept =
            |text: &&str| !text.is_empty() && text.len() <= TEXT_MAX_CHARS && !text.contains('\0');
        let text = |value: &Value| value.as_str().filter(is_kept).map(str::to_owned);
        let texts: Option<Vec<String>> = given
            .as_array()
            .and_then(|values| values.iter().map(text).collect());
        let texts = texts.filter(|texts| texts.len() <= max);
        if texts.is_none() {
            self.fault(
                name,
                &format!("Invalid input: expected at most {max} strings"),
            );
        }
        texts
    }

    /// A mail address that must be there.
    pub fn email(&mut self, name: &str) -> Option<aggregates::EmailAddress> {
        let text = self.text(name);
        let email = aggregates::EmailAddress::parse(&text).ok();
        if email.is_none() && matches!(self.fields.get(name), Some(Value::String(_))) {
            self.fault(name, "Invalid email address");
        }
        email
    }

    /// A truth value that may be missing. Forms write it as text.
    pub fn optional_bool(&mut self, name: &str) -> Option<bool> {
        match self.fields.get(name) {
            None => None,
            Some(Value::Bool(value)) => Some(*value),
            Some(Value::String(text)) if self.form && text == "true" => Some(true),
            Some(Value::String(text)) if self.form && text == "false" => Some(false),
            other => {
                let kind = kind_of(other);
                self.fault(
                    name,
                    &format!("Invalid input: expected boolean, received {kind}"),
                );
                None
            }
        }
    }

    /// One of a few texts, or none.
    pub fn optional_choice(
        &mut self,
        name: &str,
        choices: &[&'static str],
    ) -> Option<&'static str> {
        let value = self.fields.get(name)?;
        let found = choices.iter().find(|choice| value.as_str() == Some(choice));
        if found.is_none() {
            let expected: Vec<String> = choices
                .iter()
                .map(|choice| format!("\"{choice}\""))
                .collect();
            self.fault(
                name,
                &format!("Invalid option: expected one of {}", expected.join("|")),
            );
        }
        found.copied()
    }

    /// A text that must be there; a number or truth value is taken for its text.
    pub fn coerced_text(&mut self, name: &str) -> String {
        match self.fields.get(name) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            other => {
                let expected = if other.is_none() {
                    "nonoptional"
                } else {
                    "string"
                };
                let kind = kind_of(other);
                self.fault(
                    name,
                    &format!("Invalid input: expected {expected}, received {kind}"),
                );
                String::new()
            }
        }
    }

    /// A number that may be missing.
    pub fn optional_number(&mut self, name: &str) -> Option<f64> {
        let value = self.fields.get(name)?;
        let number = value.as_f64();
        if number.is_none() {
            let kind = kind_of(Some(value));
            self.fault(
                name,
                &format!("Invalid input: expected number, received {kind}"),
            );
        }
        number
    }

    /// Something that may be missing, as `read` knows it.
    pub fn optional<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        let read = read(self.fields.get(name)?);
        if read.is_none() {
            self.fault(name, "Invalid input");
        }
        read
    }

    /// The same, but it must be there.
    pub fn required<T>(&mut self, name: &str, read: impl FnOnce(&Value) -> Option<T>) -> Option<T> {
        if !self.has(name) {
            self.fault(name, "Invalid input");
        }
        self.optional(name, read)
    }

    /// An object in the body, whose faults are told as those of `part`; it must be there.
    pub fn part(&mut self, name: &str, part: &'static str) -> Fields {
        let fields = match self.fields.get(name) {
            Some(Value::Object(fields)) => fields.clone(),
            other => {
                let kind = kind_of(other);
                self.fault(
                    name,
                    &format!("Invalid input: expected record, received {kind}"),
                );
                Map::new()
            }
        };
        Fields {
            part,
            fields,
            form: self.form,
            faults: vec![],
        }
    }

    /// The same; where there is none, it is empty.
    pub fn optional_part(&mut self, name: &str, part: &'static str) -> Fields {
        if !self.has(name) {
            self.fields
                .insert(name.to_owned(), Value::Object(Map::new()));
        }
        self.part(name, part)
    }

    /// Adds a fault to a text that is to be kept: too long, or with a character that nobody types.
    pub fn check_kept(&mut self, name: &str) {
        let Some(Value::String(text)) = self.fields.get(name) else {
            return;
        };
        if text.chars().count() > TEXT_MAX_CHARS {
            self.fault(
                name,
                &format!("Too big: expected string to have <={TEXT_MAX_CHARS} characters"),
            );
        } else if text.contains('\0') {
            self.fault(name, "Invalid input: a NUL character is not allowed");
        }
    }

    /// Adds a fault to the body or query as a whole, in the words for one that fits no shape.
    pub fn fits_nothing(&mut self) {
        self.faults = vec![format!("[{}] Invalid input", self.part)];
    }

    /// A list of any texts that may be missing.
    pub fn optional_list(&mut self, name: &str) -> Option<Vec<String>> {
        let value = self.fields.get(name)?.clone();
        let Value::Array(values) = value else {
            let kind = kind_of(Some(&value));
            self.fault(
                name,
                &format!("Invalid input: expected array, received {kind}"),
            );
            return None;
        };
        let mut texts = Vec::with_capacity(values.len());
        for (number, value) in values.into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                other => {
                    let kind = kind_of(Some(&other));
                    let name = format!("{name}.{number}");
                    self.fault(
                        &name,
                        &format!("Invalid input: expected string, received {kind}"),
                    );
                }
            }
        }
        Some(texts)
    }

    /// Fields within a field, which may be missing. Their faults are told with [`Fields::absorb`].
    pub fn optional_fields(&mut self, name: &str) -> Option<Self> {
        let value = self.fields.get(name)?.clone();
        let Value::Object(fields) = value else {
            let kind = kind_of(Some(&value));
            self.fault(
                name,
                &format!("Invalid input: expected object, received {kind}"),
            );
            return None;
        };
        Some(Self {
            part: self.part,
            fields,
            form: self.form,
            faults: vec![],
        })
    }

    /// Takes over the faults of the fields within a field.
    pub fn absorb(&mut self, name: &str, inner: &Self) {
        let from = format!("[{}.", self.part);
        let to = format!("[{}.{name}.", self.part);
        self.faults.extend(
            inner
                .faults
                .iter()
                .map(|fault| fault.replacen(&from, &to, 1)),
        );
    }

    /// The names of all fields that came.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Adds a fault that only the route knows.
    pub fn fault(&mut self, name: &str, text: &str) {
        // A body that is no object at all has one fault, not one for each field.
        if !self.faults.iter().any(|fault| fault.starts_with("[body]")) {
            self.faults.push(format!("[{}.{name}] {text}", self.part));
        }
    }

    /// The end of the schema.
    ///
    /// # Errors
    /// With all faults found, in the order in which the fields were read.
    pub fn done(&self) -> Result<(), Problem> {
        if self.faults.is_empty() {
            Ok(())
        } else {
            Err(Problem::Validation(self.faults.join("; ")))
        }
    }
}

fn kind_of(value: Option<&Value>) -> &'static str {
    match value {
        None => "undefined",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "boolean",
        Some(Value::Number(_)) => "number",
        Some(Value::String(_)) => "string",
        Some(Value::Array(_)) => "array",
        Some(Value::Object(_)) => "object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// S-47
    #[test]
    fn values_are_counted_and_what_stands_in_texts_is_not() {
        for (json, counted) in [
            (r#"{"a":1}"#, 0),
            (r#"{"a":[1,2],"b":{"c":3,"d":4}}"#, 3),
            (r#"{"a":",,,","b":"\",","c":"\\"}"#, 2),
        ] {
            assert_eq!(commas(json.as_bytes()), counted, "{json}");
        }
    }
}
