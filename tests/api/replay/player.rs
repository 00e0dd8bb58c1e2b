//! Plays a recorded case step by step against the service.

use std::collections::BTreeMap;

use serde_json::Value;

use super::SECRET;
use super::built::is_built;
use super::matching::{Answer, Difference, compare_answer, compare_mail};
use super::placeholders::{Captures, encode};
use super::transcripts::{Case, Request, Step};
use super::verdict::{Outcome, Played};
use crate::authenticator::Authenticator;
use crate::harness::{Mail, TestApp};
use crate::provider::FakeProvider;

/// Says what came of a step.
pub fn step_played(case: &Case, number: usize, step: &Step, outcome: Outcome) -> Played {
    let mut what = match (&step.request, &step.mail) {
        (Some(request), _) => format!("{} {} ({})", request.method, request.path, case.profile),
        (None, Some(mail)) => format!("mail {} to {}", mail.kind, mail.to),
        (None, None) => String::new(),
    };
    if let Some(note) = &step.note {
        what += &format!(" ({note})");
    }
    Played {
        case: case.name.clone(),
        step: number,
        what,
        outcome,
    }
}

/// Plays one case: sends its requests and remembers what its placeholders stand for.
pub struct Player<'a> {
    pub app: &'a TestApp,
    pub provider: &'a FakeProvider,
    pub captures: Captures,
    /// The body of the last answer.
    pub last: String,
    /// How many mails to an address the case has looked at.
    mails_seen: BTreeMap<String, usize>,
    /// The body of the last answer.
    pub last_body: Value,
    /// The browser's authenticator, and what it says next.
    pub authenticator: Option<Authenticator>,
    pub passkey_answer: Value,
    /// The cookies of the device's sessions, name and value as they stand on the wire. The recordings call all of them
    /// the same, so one stands for all.
    device: Vec<(String, String)>,
}

/// How the recordings call the cookie of one of several sessions.
const OF_DEVICE: &str = "session_token_multi-<lowercased-token>";

impl<'a> Player<'a> {
    /// A player of one case against a service with this base URL.
    pub fn new(app: &'a TestApp, provider: &'a FakeProvider, base: &str) -> Player<'a> {
        Player {
            app,
            provider,
            last: String::new(),
            captures: Captures::new(base, SECRET, app.clock.now()),
            mails_seen: BTreeMap::new(),
            last_body: Value::Null,
            authenticator: None,
            passkey_answer: Value::Null,
            device: Vec::new(),
        }
    }

    /// Plays every step that is built, after what the recording leaves unsaid before it.
    pub async fn play(mut self, area: &str, case: &Case) -> Vec<Played> {
        let mut played = Vec::new();
        for (number, step) in case.steps.iter().enumerate() {
            self.prepare(area, &case.name, number).await;
            let outcome = if step.request.is_none() && step.mail.is_none() {
                continue;
            } else if is_built(area, case, number) {
                Outcome::Compared(self.compare(step).await)
            } else {
                Outcome::NotBuilt
            };
            played.push(step_played(case, number, step, outcome));
        }
        played
    }

    async fn compare(&mut self, step: &Step) -> Vec<Difference> {
        if let Some(mail) = &step.mail {
            let got = self.next_mail(&mail.to).await;
            return compare_mail(
                &mut self.captures,
                mail,
                &step.decoded_jwt,
                &got.kind,
                got.url.as_deref(),
            );
        }
        let request = step
            .request
            .as_ref()
            .expect("a step is an exchange, a mail or a note");
        let response = step.response.as_ref().expect("an exchange has a response");
        match self.exchange(request).await {
            Ok(answer) => {
                let answer = self.with_recorded_names(answer);
                self.last_body = serde_json::from_str(&answer.body).unwrap_or_default();
                self.last.clone_from(&answer.body);
                compare_answer(&mut self.captures, response, &answer)
            }
            Err(placeholder) => vec![Difference {
                at: "request".to_owned(),
                expected: placeholder,
                got: "nothing has shown what this stands for".to_owned(),
            }],
        }
    }

    /// Takes the cookies of the device's sessions from an answer, and calls them as the recordings do.
    fn with_recorded_names(&mut self, mut answer: Answer) -> Answer {
        for (header, line) in &mut answer.headers {
            let Some((name, rest)) = line.split_once('=') else {
                continue;
            };
            if header != "set-cookie" || !name.contains("session_token_multi-") {
                continue;
            }
            let (prefix, token) = name.split_once("session_token_multi-").unwrap();
            let value = rest.split(';').next().unwrap();
            if value.is_empty() {
                let known = self.device.iter().any(|(known, _)| known == name);
                assert!(known, "{name} was not set");
            } else {
                assert_eq!(value.split('.').next().unwrap().to_lowercase(), token);
            }
            self.device.retain(|(known, _)| known != name);
            if !value.is_empty() {
                self.device.push((name.to_owned(), value.to_owned()));
            }
            *line = format!("{}{}={rest}", prefix, OF_DEVICE);
        }
        answer
    }

    /// The next mail to an address that the case has not looked at.
    pub async fn next_mail(&mut self, to: &str) -> Mail {
        let seen = self.mails_seen.entry(to.to_owned()).or_default();
        let mail = self.app.wait_for_mail(to, *seen).await;
        *seen += 1;
        mail
    }

    /// Sends a recorded request with its placeholders filled in.
    ///
    /// # Errors
    /// The placeholder that nothing has shown yet.
    async fn exchange(&self, request: &Request) -> Result<Answer, String> {
        let mut headers = Vec::new();
        for (name, value) in &request.headers {
            let value = match value {
                Value::Object(cookies) => {
                    let pair = |(name, value): (&String, &Value)| {
                        if name.ends_with(OF_DEVICE) {
                            let all = self.device.iter();
                            let all: Vec<String> =
                                all.map(|(name, value)| format!("{name}={value}")).collect();
                            return Ok(all.join("; "));
                        }
                        Ok(format!("{name}={}", encode(&self.text(value)?)))
                    };
                    cookies
                        .iter()
                        .map(pair)
                        .collect::<Result<Vec<String>, String>>()?
                        .join("; ")
                }
                value => self.text(value)?,
            };
            headers.push((name.as_str(), value));
        }
        let mut path = self.captures.fill(&request.path)?;
        let mut separator = '?';
        for (name, values) in &request.query {
            for value in values
                .as_array()
                .map_or(std::slice::from_ref(values), Vec::as_slice)
            {
                path += &format!("{separator}{name}={}", encode(&self.text(value)?));
                separator = '&';
            }
        }
        let is_form = request
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "application/x-www-form-urlencoded");
        let body = match (&request.raw_body, &request.body) {
            (Some(raw), _) => Some(raw.clone()),
            (None, Some(Value::Object(fields))) if is_form => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (name, value) in fields {
                    form.append_pair(name, &self.text(value)?);
                }
                Some(form.finish())
            }
            (None, Some(body)) => {
                let body = self.with_passkey_answer(body);
                Some(self.filled(&body)?.to_string())
            }
            (None, None) => None,
        };
        Ok(self.send(&request.method, &path, &headers, body).await)
    }

    fn text(&self, value: &Value) -> Result<String, String> {
        self.captures.fill(
            value
                .as_str()
                .expect("headers, query and form fields are recorded as text"),
        )
    }

    fn filled(&self, body: &Value) -> Result<Value, String> {
        Ok(match body {
            Value::String(text) => Value::String(self.captures.fill(text)?),
            Value::Array(items) => items
                .iter()
                .map(|item| self.filled(item))
                .collect::<Result<_, _>>()?,
            Value::Object(fields) => {
                let filled =
                    |(name, value): (&String, &Value)| Ok((name.clone(), self.filled(value)?));
                Value::Object(fields.iter().map(filled).collect::<Result<_, String>>()?)
            }
            other => other.clone(),
        })
    }

    /// Sends a request as the recorded client would.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, String)],
        body: Option<String>,
    ) -> Answer {
        let method = method.parse().unwrap();
        let mut request = self
            .app
            .client
            .request(method, format!("{}{path}", self.app.base));
        // The recorded client named itself in every request, and sessions show it.
        if !headers.iter().any(|(name, _)| *name == "user-agent") {
            request = request.header("user-agent", "recorder/1");
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request.send().await.unwrap();
        let text = |value: &reqwest::header::HeaderValue| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        Answer {
            status: response.status().as_u16(),
            headers: response
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), text(value)))
                .collect(),
            body: response.text().await.unwrap(),
        }
    }
}
