//! Reads the recorded exchanges of `tests/contract/transcripts`; what an entry means is told in the README there.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

/// One file: everything recorded about an area.
#[derive(Deserialize)]
pub struct Transcript {
    pub area: String,
    pub cases: Vec<Case>,
}

/// A story told in steps; placeholders keep their identity within it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub profile: String,
    /// How the recorded server's settings differed from its defaults.
    #[serde(default)]
    pub config: BTreeMap<String, String>,
    pub steps: Vec<Step>,
}

/// An exchange, a mail, or only a remark.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Step {
    pub request: Option<Request>,
    pub response: Option<Response>,
    pub mail: Option<Mail>,
    pub note: Option<String>,
    /// JWTs of a mail, taken apart.
    #[serde(default)]
    pub decoded_jwt: BTreeMap<String, DecodedJwt>,
}

/// What was sent. Header values are text, except that `cookie` maps names to decoded values.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, Value>,
    #[serde(default)]
    pub query: BTreeMap<String, Value>,
    pub body: Option<Value>,
    /// A body sent as it stands, valid JSON or not.
    pub raw_body: Option<String>,
}

/// What came back.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Response {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    #[serde(default)]
    pub set_cookie: Vec<SetCookie>,
    /// The JSON body; `"<empty>"` stands for no bytes at all.
    #[serde(default)]
    pub body: Value,
    /// The body where it is not JSON.
    pub text: Option<String>,
    #[serde(default)]
    pub decoded_jwt: BTreeMap<String, DecodedJwt>,
}

impl Response {
    /// Whether this is how a server answers for a path that it does not route at all.
    pub fn is_unrouted(&self) -> bool {
        self.status == 404 && (self.text.is_some() || self.body == "<empty>")
    }
}

/// One `Set-Cookie` header, its value percent-decoded, its attributes in the order of the wire.
#[derive(Deserialize)]
pub struct SetCookie {
    pub name: String,
    pub value: String,
    pub attributes: Vec<String>,
}

/// A mail that followed from the exchanges before it.
#[derive(Deserialize)]
pub struct Mail {
    pub kind: String,
    pub to: String,
    pub url: String,
}

/// A JWT taken apart, and how long it lives.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct DecodedJwt {
    pub header: Value,
    pub payload: Value,
    pub lifetime_seconds: i64,
}

/// Where the recorded contract lies.
pub fn contract_folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/contract"))
}

/// Reads the recorded exchanges of one area.
pub fn load(area: &str) -> Transcript {
    let path = contract_folder().join(format!("transcripts/{area}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("parsing {}: {error}", path.display()))
}

/// Reads every area, in the order of their names.
pub fn load_all() -> Vec<Transcript> {
    let folder = contract_folder().join("transcripts");
    let mut areas: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    areas.sort();
    areas.iter().map(|area| load(area)).collect()
}
