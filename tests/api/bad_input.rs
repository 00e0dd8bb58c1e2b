//! Bad input for every route of the API: the documented 4xx, never a 5xx, never a hang, and nothing changed.
//!
//! `routes` is the one list of routes. It is compared with what the router holds, so a new route without an entry,
//! and an entry without bad input, fail.

#![cfg(test)]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::{Answer, ORIGIN, PASSWORD, UNVERIFIED, answer};
use crate::harness::{PATIENCE, TestApp};

/// What a route takes, and so what bad input for it is.
pub enum Input {
    /// A JSON body with these fields.
    Body(&'static [Field]),
    /// Any JSON object; who is nobody learns only that.
    Record,
    /// A body that changes nothing about the answer, as long as it is JSON.
    IgnoredJson,
    /// Takes whatever comes: whoever wants out is out.
    Anything,
    /// A JSON body with a token; all that is bad about it is answered with `{"valid": false}`.
    Token,
    /// A query with these fields.
    Query(&'static [Field]),
    /// Nothing: whoever asks is given a challenge, which is written down.
    Challenge,
    /// Nothing but, perhaps, the session of a cookie: without one these are status and code.
    Nothing(u16, &'static str),
}

/// A field of a body or query.
pub struct Field {
    name: &'static str,
    kind: Kind,
    required: bool,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// A mail address whose faults are the schema's.
    Email,
    /// A mail address whose faults the route names itself.
    LateEmail,
    /// 8 to 128 characters.
    NewPassword,
    /// Checked against what is stored.
    Password,
    /// Kept about the person.
    Kept,
    Bool,
    /// An object, whatever it holds.
    Object,
    /// A place to go to.
    Redirect,
    /// A place to go to that is replaced by a safe one if it is not trusted.
    SoftRedirect,
    /// A mailed token.
    Token,
    /// A mailed token that is looked at only for somebody who is signed in.
    TokenOfSomebody,
    /// A mailed token of a link that leads on, whatever it is.
    LinkToken,
    /// A mailed token that is handed on.
    PageToken,
    /// 8 to 128 characters; empty is merely too short.
    LateNewPassword,
    /// A text that is looked at only for somebody who is signed in.
    Text,
    /// The same, and nothing beside it.
    OnlyText,
    /// The same, and numbers and truth values are taken for their texts.
    Id,
    /// The same, or several texts.
    Roles,
    /// A number that is looked at only for somebody who is signed in.
    Number,
    /// An object that is looked at only for somebody who is signed in.
    Part,
    /// A number in a query.
    Count,
}

pub const fn required(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: true,
    }
}

pub const fn optional(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: false,
    }
}

const CODE: Input = Input::Body(&[
    required("code", Kind::Text),
    optional("trustDevice", Kind::Bool),
]);

/// A route: methods, path and what it takes.
pub type Route = (&'static [&'static str], &'static str, Input);

/// Where every route exists.
pub const EVERY_ROUTE: [(&str, &str); 3] = [
    ("MANA_AUTH_TEAMS", "true"),
    ("MANA_AUTH_DYNAMIC_ROLES", "true"),
    ("MANA_AUTH_MULTI_SESSION", "true"),
];

/// Every route below `/api` and `/log`.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().chain(crate::organizations::ROUTES)
}

/// Those that have no list of their own.
const ROUTES: &[Route] = &[
    (&["GET"], "/log/checkpoint", Input::Nothing(200, "")),
    (&["GET"], "/log/key", Input::Nothing(200, "")),
    (
        &["GET"],
        "/log/tile/{*place}",
        Input::Nothing(400, "VALIDATION_ERROR"),
    ),
    (
        &["GET"],
        "/log/proof/inclusion",
        Input::Query(&[
            required("index", Kind::Count),
            required("size", Kind::Count),
        ]),
    ),
    (
        &["GET"],
        "/log/proof/consistency",
        Input::Query(&[required("from", Kind::Count), required("to", Kind::Count)]),
    ),
    (
        &["GET"],
        "/log/entries",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/auth/sign-up/email",
        Input::Body(&[
            required("name", Kind::Kept),
            required("email", Kind::Email),
            required("password", Kind::NewPassword),
            optional("image", Kind::Kept),
            optional("callbackURL", Kind::Redirect),
            optional("rememberMe", Kind::Bool),
            optional("locale", Kind::Kept),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/sign-in/email",
        Input::Body(&[
            required("email", Kind::LateEmail),
            required("password", Kind::Password),
            optional("callbackURL", Kind::Redirect),
            optional("rememberMe", Kind::Bool),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/sign-in/magic-link",
        Input::Body(&[
            required("email", Kind::Email),
            optional("name", Kind::Kept),
            optional("callbackURL", Kind::Redirect),
            optional("newUserCallbackURL", Kind::Redirect),
            optional("errorCallbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["GET"],
        "/api/auth/magic-link/verify",
        Input::Query(&[
            required("token", Kind::LinkToken),
            optional("callbackURL", Kind::Redirect),
            optional("newUserCallbackURL", Kind::Redirect),
            optional("errorCallbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["GET"],
        "/api/v1/auth/magic-link",
        Input::Query(&[
            required("token", Kind::PageToken),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/two-factor/enable",
        Input::Body(&[
            required("password", Kind::Text),
            optional("issuer", Kind::Kept),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/two-factor/disable",
        Input::Body(&[required("password", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/two-factor/get-totp-uri",
        Input::Body(&[required("password", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/two-factor/generate-backup-codes",
        Input::Body(&[required("password", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/two-factor/send-otp",
        Input::IgnoredJson,
    ),
    (&["POST"], "/api/auth/two-factor/verify-totp", CODE),
    (&["POST"], "/api/auth/two-factor/verify-otp", CODE),
    (&["POST"], "/api/auth/two-factor/verify-backup-code", CODE),
    (
        &["GET"],
        "/api/auth/passkey/generate-register-options",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/auth/passkey/verify-registration",
        Input::Body(&[
            required("response", Kind::Object),
            optional("name", Kind::Kept),
            optional("createSession", Kind::Bool),
        ]),
    ),
    (
        &["GET"],
        "/api/auth/passkey/generate-authenticate-options",
        Input::Challenge,
    ),
    (
        &["POST"],
        "/api/auth/passkey/verify-authentication",
        Input::Body(&[required("response", Kind::Object)]),
    ),
    (
        &["GET"],
        "/api/auth/passkey/list-user-passkeys",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/auth/passkey/update-passkey",
        Input::Body(&[required("id", Kind::Text), required("name", Kind::Kept)]),
    ),
    (
        &["POST"],
        "/api/auth/passkey/delete-passkey",
        Input::Body(&[required("id", Kind::Text)]),
    ),
    (
        &["GET"],
        "/api/v1/auth/passkeys/capability",
        Input::Nothing(200, ""),
    ),
    (
        &["POST"],
        "/api/v1/auth/passkeys/register/options",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/auth/passkeys/register/verify",
        Input::Body(&[
            required("response", Kind::Object),
            optional("name", Kind::Kept),
        ]),
    ),
    (
        &["POST"],
        "/api/v1/auth/passkeys/authenticate/options",
        Input::Challenge,
    ),
    (
        &["POST"],
        "/api/v1/auth/passkeys/authenticate/verify",
        Input::Body(&[required("response", Kind::Object)]),
    ),
    (
        &["GET"],
        "/api/v1/auth/passkeys",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["PATCH", "DELETE"],
        "/api/v1/auth/passkeys/{id}",
        Input::Body(&[required("name", Kind::Kept)]),
    ),
    (
        &["GET", "POST"],
        "/api/v1/api-keys",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["DELETE"],
        "/api/v1/api-keys/{id}",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/api-keys/validate",
        Input::Body(&[required("apiKey", Kind::Text)]),
    ),
    (
        &["POST", "GET"],
        "/api/v1/gilden",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/gilden/accept-invitation",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET", "PUT", "DELETE"],
        "/api/v1/gilden/{id}",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/gilden/{id}/invite",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["DELETE"],
        "/api/v1/gilden/{id}/members/{member_id}",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["PUT"],
        "/api/v1/gilden/{id}/members/{member_id}/role",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (&["POST"], "/api/auth/sign-out", Input::IgnoredJson),
    (
        &["GET", "POST"],
        "/api/auth/get-session",
        Input::Nothing(200, ""),
    ),
    (
        &["POST"],
        "/api/auth/send-verification-email",
        Input::Body(&[
            required("email", Kind::Email),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["GET"],
        "/api/auth/verify-email",
        Input::Query(&[
            required("token", Kind::Token),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/sign-in/social",
        Input::Body(&[
            required("provider", Kind::Text),
            optional("callbackURL", Kind::Redirect),
            optional("newUserCallbackURL", Kind::Redirect),
            optional("errorCallbackURL", Kind::Redirect),
            optional("disableRedirect", Kind::Bool),
            optional("requestSignUp", Kind::Bool),
            optional("loginHint", Kind::Text),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/link-social",
        Input::Body(&[
            required("provider", Kind::Text),
            optional("callbackURL", Kind::Redirect),
            optional("errorCallbackURL", Kind::Redirect),
            optional("disableRedirect", Kind::Bool),
            optional("loginHint", Kind::Text),
        ]),
    ),
    (
        &["GET", "POST"],
        "/api/auth/callback/{provider}",
        Input::Nothing(302, ""),
    ),
    (
        &["GET"],
        "/api/auth/list-accounts",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/auth/unlink-account",
        Input::Body(&[required("accountId", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/get-access-token",
        Input::Body(&[required("accountId", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/refresh-token",
        Input::Body(&[required("accountId", Kind::Text)]),
    ),
    (
        &["GET"],
        "/api/auth/account-info",
        Input::Query(&[required("accountId", Kind::OnlyText)]),
    ),
    (
        &["GET"],
        "/api/auth/token",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (&["GET"], "/api/auth/jwks", Input::Nothing(200, "")),
    (&["GET"], "/api/auth/ok", Input::Nothing(200, "")),
    (&["GET"], "/api/auth/error", Input::Nothing(302, "")),
    (
        &["POST"],
        "/api/v1/auth/register",
        Input::Body(&[
            required("email", Kind::Email),
            required("password", Kind::NewPassword),
            optional("name", Kind::Kept),
            optional("sourceAppUrl", Kind::SoftRedirect),
        ]),
    ),
    (
        &["POST"],
        "/api/v1/auth/login",
        Input::Body(&[
            required("email", Kind::Email),
            required("password", Kind::Password),
        ]),
    ),
    (&["POST"], "/api/v1/auth/logout", Input::Anything),
    (&["POST"], "/api/v1/auth/validate", Input::Token),
    (&["GET"], "/api/v1/auth/session", Input::Nothing(200, "")),
    (&["GET"], "/api/v1/auth/jwks", Input::Nothing(200, "")),
    (
        &["GET"],
        "/api/auth/list-sessions",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/auth/revoke-session",
        Input::Body(&[required("token", Kind::Text)]),
    ),
    (&["POST"], "/api/auth/revoke-sessions", Input::IgnoredJson),
    (
        &["POST"],
        "/api/auth/revoke-other-sessions",
        Input::IgnoredJson,
    ),
    (&["POST"], "/api/auth/update-session", Input::Body(&[])),
    (&["POST"], "/api/auth/update-user", Input::Record),
    (
        &["POST"],
        "/api/auth/change-email",
        Input::Body(&[
            required("newEmail", Kind::Email),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/change-password",
        Input::Body(&[
            required("newPassword", Kind::Text),
            required("currentPassword", Kind::Text),
            optional("revokeOtherSessions", Kind::Bool),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/verify-password",
        Input::Body(&[required("password", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/request-password-reset",
        Input::Body(&[
            required("email", Kind::Email),
            optional("redirectTo", Kind::Redirect),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/reset-password",
        Input::Body(&[
            required("newPassword", Kind::LateNewPassword),
            optional("token", Kind::Text),
        ]),
    ),
    (
        &["GET"],
        "/api/auth/reset-password/{token}",
        Input::Query(&[required("callbackURL", Kind::Redirect)]),
    ),
    (
        &["POST"],
        "/api/auth/delete-user",
        Input::Body(&[
            optional("password", Kind::Text),
            optional("token", Kind::Text),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["GET"],
        "/api/auth/delete-user/callback",
        Input::Query(&[
            required("token", Kind::TokenOfSomebody),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["GET"],
        "/api/v1/auth/signup-status",
        Input::Nothing(200, ""),
    ),
    (&["POST", "GET"], "/api/v1/auth/profile", Input::Record),
    (
        &["POST"],
        "/api/v1/auth/session-to-token",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/auth/refresh",
        Input::Nothing(401, "TOKEN_EXPIRED"),
    ),
    (
        &["POST"],
        "/api/v1/auth/forgot-password",
        Input::Body(&[
            required("email", Kind::Email),
            optional("redirectTo", Kind::SoftRedirect),
        ]),
    ),
    (
        &["POST"],
        "/api/v1/auth/reset-password",
        Input::Body(&[
            required("token", Kind::Text),
            required("newPassword", Kind::LateNewPassword),
        ]),
    ),
    (
        &["POST"],
        "/api/v1/auth/resend-verification",
        Input::Body(&[
            required("email", Kind::Email),
            optional("sourceAppUrl", Kind::SoftRedirect),
        ]),
    ),
    (
        &["POST"],
        "/api/v1/auth/change-password",
        Input::Body(&[
            required("currentPassword", Kind::Text),
            required("newPassword", Kind::Text),
        ]),
    ),
    (
        &["POST"],
        "/api/v1/auth/change-email",
        Input::Body(&[
            required("newEmail", Kind::Email),
            optional("callbackURL", Kind::Redirect),
        ]),
    ),
    (
        &["DELETE"],
        "/api/v1/auth/account",
        Input::Body(&[required("password", Kind::Text)]),
    ),
    (
        &["GET"],
        "/api/v1/auth/security-events",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET"],
        "/api/v1/auth/sessions",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["DELETE"],
        "/api/v1/auth/sessions/{id}",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST", "GET"],
        "/api/v1/auth/end-sessions",
        Input::Body(&[required("token", Kind::Text)]),
    ),
    (
        &["POST", "GET"],
        "/api/v1/auth/revert-email",
        Input::Body(&[required("token", Kind::Text)]),
    ),
    (
        &["GET"],
        "/api/v1/admin/security-events",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET"],
        "/api/auth/multi-session/list-device-sessions",
        Input::Nothing(200, ""),
    ),
    (
        &["POST"],
        "/api/auth/multi-session/set-active",
        Input::Body(&[required("sessionToken", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/multi-session/revoke",
        Input::Body(&[required("sessionToken", Kind::Text)]),
    ),
    // Who is nobody gets no body here. What is bad for an admin stands in `admin.rs`.
    (
        &["GET"],
        "/api/auth/admin/list-users",
        Input::Nothing(401, ""),
    ),
    (
        &["GET"],
        "/api/auth/admin/get-user",
        Input::Query(&[required("id", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/create-user",
        Input::Body(&[
            required("email", Kind::Text),
            required("name", Kind::Kept),
            optional("password", Kind::Text),
            optional("role", Kind::Roles),
            optional("data", Kind::Part),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/admin/update-user",
        Input::Body(&[required("userId", Kind::Id), required("data", Kind::Part)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/remove-user",
        Input::Body(&[required("userId", Kind::Id)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/set-role",
        Input::Body(&[required("userId", Kind::Id), required("role", Kind::Roles)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/ban-user",
        Input::Body(&[
            required("userId", Kind::Id),
            optional("banReason", Kind::Kept),
            optional("banExpiresIn", Kind::Number),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/admin/unban-user",
        Input::Body(&[required("userId", Kind::Id)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/set-user-password",
        Input::Body(&[
            required("newPassword", Kind::Text),
            required("userId", Kind::Id),
        ]),
    ),
    (
        &["POST"],
        "/api/auth/admin/list-user-sessions",
        Input::Body(&[required("userId", Kind::Id)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/revoke-user-session",
        Input::Body(&[required("sessionToken", Kind::Text)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/revoke-user-sessions",
        Input::Body(&[required("userId", Kind::Id)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/impersonate-user",
        Input::Body(&[required("userId", Kind::Id), optional("reason", Kind::Kept)]),
    ),
    (
        &["POST"],
        "/api/auth/admin/stop-impersonating",
        Input::IgnoredJson,
    ),
    // Whoever is nobody learns only that; what is bad for others is tried in `vault.rs`.
    (
        &["GET"],
        "/api/v1/me/encryption-vault/status",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET"],
        "/api/v1/me/encryption-vault/audit",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET"],
        "/api/v1/admin/vaults/{id}/audit",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET"],
        "/api/v1/admin/audit/events",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/me/encryption-vault/init",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["GET"],
        "/api/v1/me/encryption-vault/key",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/me/encryption-vault/rotate",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST", "DELETE"],
        "/api/v1/me/encryption-vault/recovery-wrap",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/me/encryption-vault/recovery-wrap/restore",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/v1/me/encryption-vault/zero-knowledge",
        Input::Nothing(401, "UNAUTHORIZED"),
    ),
    (
        &["POST"],
        "/api/auth/admin/has-permission",
        Input::Body(&[required("permissions", Kind::Part)]),
    ),
];

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "PATCH", "DELETE", "PURGE"];
const JSON: &str = "application/json";
const MIB: usize = 1024 * 1024;

fn is_v1(path: &str) -> bool {
    path.starts_with("/api/v1/auth/")
}

/// One request that must be refused.
struct Case {
    what: String,
    content_type: Option<&'static [u8]>,
    body: Vec<u8>,
    query: String,
    status: u16,
    code: &'static str,
}

impl Case {
    fn body(
        what: impl Into<String>,
        body: impl Into<Vec<u8>>,
        status: u16,
        code: &'static str,
    ) -> Case {
        Case {
            what: what.into(),
            content_type: Some(JSON.as_bytes()),
            body: body.into(),
            query: String::new(),
            status,
            code,
        }
    }

    fn query(what: impl Into<String>, query: String, status: u16, code: &'static str) -> Case {
        Case {
            query,
            content_type: None,
            ..Case::body(what, "", status, code)
        }
    }
}

/// A value of the field that is good, so that nothing but the fault of the case is wrong.
fn good(kind: Kind) -> Value {
    match kind {
        Kind::Email | Kind::LateEmail => json!("nobody@example.com"),
        Kind::NewPassword | Kind::LateNewPassword | Kind::Password => json!(PASSWORD),
        Kind::Kept => json!("Nobody"),
        Kind::Bool => json!(true),
        Kind::Object => json!({}),
        Kind::Redirect | Kind::SoftRedirect => json!("/welcome"),
        Kind::Token
        | Kind::TokenOfSomebody
        | Kind::LinkToken
        | Kind::PageToken
        | Kind::Text
        | Kind::OnlyText
        | Kind::Id
        | Kind::Roles => json!("x"),
        Kind::Number | Kind::Count => json!(1),
        Kind::Part => json!({}),
    }
}

fn good_body(fields: &[Field]) -> Value {
    let fields = fields
        .iter()
        .map(|field| (field.name.to_owned(), good(field.kind)));
    Value::Object(fields.collect())
}

/// What is not the JSON that the route takes, with the code of a route that says so in its words.
fn bad_bodies(v1: bool, good: &Value) -> Vec<Case> {
    let code = |native| if v1 { "VALIDATION" } else { native };
    let text = good.to_string();
    let mut cases = Vec::new();
    for content_type in [
        Some(&b"text/plain"[..]),
        Some(b"multipart/form-data; boundary=x"),
        Some(b"application/jsonx"),
        Some(b"application/json\xff"),
        Some(b""),
        None,
    ] {
        cases.push(Case {
            content_type,
            ..Case::body(
                format!("content type {content_type:?}"),
                text.clone(),
                415,
                code("UNSUPPORTED_MEDIA_TYPE"),
            )
        });
    }
    let many = (0..5_000)
        .map(|n| format!("\"k{n}\":{n},"))
        .collect::<String>();
    let broken: [(&str, Vec<u8>); 9] = [
        ("truncated", text.as_bytes()[..text.len() - 1].to_vec()),
        ("not JSON", b"email=nobody@example.com".to_vec()),
        (
            "not UTF-8",
            [b"{\"email\":\"", &b"\xff\xfe"[..], b"\"}"].concat(),
        ),
        ("a NUL byte", b"{\"email\":\"\0\"}".to_vec()),
        ("a lone surrogate", b"{\"email\":\"\\ud800\"}".to_vec()),
        (
            "surrogates in the wrong order",
            b"{\"email\":\"\\udc00\\ud800\"}".to_vec(),
        ),
        // S-47
        (
            "10,000 arrays deep",
            [vec![b'['; 10_000], vec![b']'; 10_000]].concat(),
        ),
        (
            "10,000 objects deep",
            format!("{}1{}", "{\"a\":".repeat(10_000), "}".repeat(10_000)).into(),
        ),
        ("5,000 keys", format!("{{{many}{}", &text[1..]).into()),
    ];
    for (what, body) in broken {
        cases.push(Case::body(what, body, 400, code("BAD_REQUEST")));
    }
    cases
}

/// Forms, which the official client's own two routes take as well.
fn bad_forms(path: &str) -> Vec<Case> {
    if !path.starts_with("/api/auth/sign-") || !path.ends_with("/email") {
        return vec![];
    }
    let email = if path.contains("sign-up") {
        "VALIDATION_ERROR"
    } else {
        "INVALID_EMAIL"
    };
    let many = "x=y&".repeat(5_000);
    let forms = [
        ("nothing", String::new(), "VALIDATION_ERROR"),
        ("no pair", "&&&;=&==&%".to_owned(), "VALIDATION_ERROR"),
        (
            "JSON",
            json!({"email": "nobody@example.com"}).to_string(),
            "VALIDATION_ERROR",
        ),
        (
            "NUL",
            format!("name=x&email=%00&password={PASSWORD}"),
            email,
        ),
        (
            "not UTF-8",
            format!("name=x&email=%ff%fe@example.com&password={PASSWORD}"),
            email,
        ),
        (
            "the last of two counts",
            format!("name=x&email=nobody@example.com&email=x&password={PASSWORD}"),
            email,
        ),
        (
            "neither true nor false",
            format!("name=x&email=nobody@example.com&password={PASSWORD}&rememberMe=1"),
            "VALIDATION_ERROR",
        ),
        (
            "fields behind too many others",
            format!("{many}name=x&email=nobody@example.com&password={PASSWORD}"),
            "VALIDATION_ERROR",
        ),
    ];
    let case = |(what, form, code)| Case {
        content_type: Some(b"application/x-www-form-urlencoded"),
        ..Case::body(
            format!("a form: {what}"),
            String::into_bytes(form),
            400,
            code,
        )
    };
    forms.into_iter().map(case).collect()
}

/// Bodies that are JSON, and not the fields that the route takes.
fn bad_fields(v1: bool, fields: &[Field]) -> Vec<Case> {
    let schema = if v1 { "VALIDATION" } else { "VALIDATION_ERROR" };
    let mut cases = Vec::new();
    for body in ["", "null", "[]", "[[]]", "\"text\"", "1", "true", "{}"] {
        if body == "{}" && !fields.iter().any(|field| field.required) {
            continue;
        }
        cases.push(Case::body(format!("the body {body:?}"), body, 400, schema));
    }
    for field in fields {
        let name = field.name;
        let mut case = |what: &str, value: Value, status: u16, code: &'static str| {
            let mut body = good_body(fields);
            body[name] = value;
            cases.push(Case::body(
                format!("{name}: {what}"),
                body.to_string(),
                status,
                code,
            ));
        };
        let wrong_type = match field.kind {
            // A redirect is looked at before the schema, and its refusal has no code.
            Kind::Redirect if !v1 => "",
            _ => schema,
        };
        for value in [
            json!(1),
            json!(1.5e300),
            json!([]),
            json!({}),
            json!(["a"]),
            json!({"a": "b"}),
        ] {
            if field.kind == Kind::Object && value.is_object() {
                continue;
            }
            let taken = match field.kind {
                Kind::Id | Kind::Number => value.is_number(),
                Kind::Roles => value == json!(["a"]),
                Kind::Part => value.is_object(),
                _ => false,
            };
            let (status, code) = if taken { (401, "") } else { (400, wrong_type) };
            case(&format!("{value}"), value, status, code);
        }
        if name != "locale" {
            case("null", Value::Null, 400, wrong_type);
        }
        if field.kind == Kind::Bool {
            case("a text", json!("true"), 400, schema);
        } else if field.kind == Kind::Id {
            case("a truth value", json!(true), 401, "");
        } else {
            case("a truth value", json!(true), 400, wrong_type);
        }
        let huge = "x".repeat(MIB);
        match field.kind {
            Kind::Email | Kind::LateEmail => {
                let code = match (v1, field.kind) {
                    (false, Kind::LateEmail) => "INVALID_EMAIL",
                    _ => schema,
                };
                for (what, address) in [
                    ("empty", String::new()),
                    ("huge", format!("{huge}@example.com")),
                    ("NUL", "no\0body@example.com".to_owned()),
                    ("NUL at the end", "nobody@example.com\0".to_owned()),
                    (
                        "a line break",
                        "nobody@example.com\r\nBcc: eve@example.com".to_owned(),
                    ),
                    ("full-width letters", "ｎobody@example.com".to_owned()),
                    ("full-width at", "nobody＠example.com".to_owned()),
                    ("a combining mark", "nobody\u{301}@example.com".to_owned()),
                    ("a composed letter", "nöbody@example.com".to_owned()),
                    ("a Kelvin sign", "nobody@\u{212a}elvin.com".to_owned()),
                    (
                        "a right-to-left mark",
                        "\u{202e}nobody@example.com".to_owned(),
                    ),
                    ("spaces", " nobody@example.com ".to_owned()),
                    (
                        "two addresses",
                        "nobody@example.com,eve@example.com".to_owned(),
                    ),
                    ("no domain", "nobody".to_owned()),
                ] {
                    case(what, json!(address), 400, code);
                }
            }
            Kind::NewPassword | Kind::LateNewPassword => {
                let code = |native| if v1 { "WEAK_PASSWORD" } else { native };
                let empty = match field.kind {
                    Kind::NewPassword => schema,
                    _ => code("PASSWORD_TOO_SHORT"),
                };
                case("empty", json!(""), 400, empty);
                case("short", json!("1234567"), 400, code("PASSWORD_TOO_SHORT"));
                case(
                    "129 characters",
                    json!("x".repeat(129)),
                    400,
                    code("PASSWORD_TOO_LONG"),
                );
                // S-04
                case("huge", json!(huge), 400, code("PASSWORD_TOO_LONG"));
            }
            Kind::Password => {
                let wrong = if v1 {
                    "INVALID_CREDENTIALS"
                } else {
                    "INVALID_EMAIL_OR_PASSWORD"
                };
                let long = if v1 {
                    "WEAK_PASSWORD"
                } else {
                    "PASSWORD_TOO_LONG"
                };
                case("empty", json!(""), 401, wrong);
                case("NUL", json!("\0"), 401, wrong);
                case(
                    "another Unicode form",
                    json!("cｏrrect horse battery"),
                    401,
                    wrong,
                );
                case("huge", json!(huge), 400, long);
            }
            Kind::Kept => {
                case("huge", json!(huge), 400, schema);
                case("NUL", json!("a\0b"), 400, schema);
            }
            Kind::Redirect => {
                for target in [
                    "//evil.example",
                    "https://evil.example",
                    "javascript:alert(1)",
                    "/\0",
                    "x",
                ] {
                    case(target, json!(target), 403, untrusted(v1, name));
                }
                case("huge", json!(huge), 403, untrusted(v1, name));
            }
            Kind::Number | Kind::Part => case("a text", json!("1"), 400, schema),
            Kind::Bool
            | Kind::Count
            | Kind::Object
            | Kind::SoftRedirect
            | Kind::Token
            | Kind::TokenOfSomebody
            | Kind::LinkToken
            | Kind::PageToken
            | Kind::Text
            | Kind::OnlyText
            | Kind::Id
            | Kind::Roles => {}
        }
        if field.required {
            let mut body = good_body(fields);
            body.as_object_mut().unwrap().remove(name);
            cases.push(Case::body(
                format!("no {name}"),
                body.to_string(),
                400,
                schema,
            ));
        }
    }
    cases
}

/// The code of a redirect to a place that is not trusted.
fn untrusted(v1: bool, field: &str) -> &'static str {
    match field {
        _ if v1 => "VALIDATION",
        "redirectTo" => "INVALID_REDIRECT_URL",
        "newUserCallbackURL" => "INVALID_NEW_USER_CALLBACK_URL",
        "errorCallbackURL" => "INVALID_ERROR_CALLBACK_URL",
        _ => "INVALID_CALLBACK_URL",
    }
}

/// What a token that is none is answered with; a query without one is merely incomplete.
fn bad_token(fields: &[Field]) -> (u16, &'static str) {
    match fields[0].kind {
        Kind::Token => (401, "INVALID_TOKEN"),
        Kind::LinkToken => (302, ""),
        Kind::PageToken => (200, ""),
        Kind::TokenOfSomebody => (404, "FAILED_TO_GET_USER_INFO"),
        _ => (400, "VALIDATION_ERROR"),
    }
}

fn bad_query(v1: bool, fields: &[Field]) -> Vec<Case> {
    let (status, code) = bad_token(fields);
    let schema = if v1 { "VALIDATION" } else { "VALIDATION_ERROR" };
    let mut cases = vec![
        Case::query("no query", String::new(), 400, schema),
        Case::query("an empty query", "?".to_owned(), 400, schema),
        Case::query("no UTF-8", "?%ff=%fe&token=%80".to_owned(), status, code),
    ];
    for field in fields {
        let name = field.name;
        match field.kind {
            Kind::Token | Kind::TokenOfSomebody | Kind::LinkToken | Kind::PageToken => {
                let long = "x".repeat(30_000);
                for token in [
                    "",
                    "x",
                    "..",
                    "a.b.c",
                    "%00",
                    "%ed%a0%80",
                    "eyJhbGciOiJub25lIn0.e30.",
                    "%2e%2e%2f",
                    &long,
                ] {
                    cases.push(Case::query(
                        format!("{name}={:.20}", token),
                        format!("?{name}={token}"),
                        status,
                        code,
                    ));
                }
            }
            Kind::Redirect => {
                for target in [
                    "//evil.example",
                    "https%3A%2F%2Fevil.example",
                    "%00",
                    "%5cevil",
                    "/%250d/%2509%0d%0aX:y",
                ] {
                    cases.push(Case::query(
                        format!("{name}={target}"),
                        format!("?token=x&{name}={target}"),
                        403,
                        untrusted(v1, name),
                    ));
                }
            }
            // None but that it is missing.
            Kind::Text => {}
            Kind::Count => {
                let others = fields.iter().filter(|other| other.name != name);
                let others: String = others.map(|other| format!("&{}=1", other.name)).collect();
                let long = "9".repeat(30_000);
                for number in [
                    "",
                    "x",
                    "-1",
                    "+1",
                    "1.0",
                    "1e3",
                    "0x1",
                    "%00",
                    "%d9%a1",
                    " 1",
                    "9223372036854775808",
                    "18446744073709551616",
                    &long,
                ] {
                    let what = format!("{name}={number:.20}");
                    let query = format!("?{name}={number}{others}");
                    cases.push(Case::query(what, query, status, code));
                }
            }
            // Empty, or not alone: routes that take a text in a query take nothing else.
            Kind::OnlyText => {
                for query in [
                    format!("{name}="),
                    format!("{name}=x&other=x"),
                    "other=x".to_owned(),
                ] {
                    let what = format!("the query {query}");
                    cases.push(Case::query(what, format!("?{query}"), status, code));
                }
            }
            _ => panic!("no bad input is known for {name} in a query"),
        }
    }
    cases
}

/// What is wrong for the route, with the answer that the contract has for it.
fn cases(path: &str, input: &Input) -> Vec<Case> {
    let v1 = is_v1(path);
    match input {
        Input::Body(fields) => {
            let mut cases = bad_bodies(v1, &good_body(fields));
            cases.extend(bad_fields(v1, fields));
            cases.extend(bad_forms(path));
            cases
        }
        Input::Record => {
            let mut cases = bad_bodies(v1, &json!({"name": "Nobody"}));
            let schema = if v1 { "VALIDATION" } else { "VALIDATION_ERROR" };
            for body in ["", "null", "[]", "\"text\"", "1", "true"] {
                cases.push(Case::body(format!("the body {body:?}"), body, 400, schema));
            }
            for body in ["{}", "{\"name\":1}", "{\"role\":\"admin\"}"] {
                let what = format!("the body {body:?}");
                cases.push(Case::body(what, body, 401, "UNAUTHORIZED"));
            }
            cases
        }
        Input::IgnoredJson => bad_bodies(v1, &json!({"a": 1})),
        Input::Anything => {
            let ignored = |case| Case {
                status: 200,
                code: "",
                ..case
            };
            bad_bodies(v1, &json!({"refreshToken": "x"}))
                .into_iter()
                .map(ignored)
                .collect()
        }
        Input::Token => {
            let invalid = |case| Case {
                status: 400,
                code: "",
                ..case
            };
            let mut cases: Vec<_> = bad_bodies(v1, &json!({"token": "x"}))
                .into_iter()
                .map(invalid)
                .collect();
            for token in [json!(null), json!(1), json!([]), json!({}), json!("")] {
                cases.push(Case::body(
                    format!("token {token}"),
                    json!({"token": token}).to_string(),
                    400,
                    "",
                ));
            }
            for token in [
                "x".to_owned(),
                "..".to_owned(),
                "\0".to_owned(),
                "ä.ö.ü".to_owned(),
                "x".repeat(MIB),
            ] {
                cases.push(Case::body(
                    format!("token {token:.10}"),
                    json!({"token": token}).to_string(),
                    401,
                    "",
                ));
            }
            cases
        }
        Input::Query(fields) => bad_query(v1, fields),
        Input::Challenge => cases(path, &Input::Nothing(200, "")),
        Input::Nothing(status, code) => [
            "",
            "?a=%ff%00",
            "?disableRefresh=%ed%a0%80",
            "?error=%00&error_description=%0d%0a",
        ]
        .map(|query| Case::query(format!("query {query:?}"), query.to_owned(), *status, code))
        .into(),
    }
}

/// Takes away all that whoever asks for a challenge leaves behind.
async fn forget_challenges(app: &TestApp) {
    let forget = "delete from tokens where kind = 'passkey-sign-in'";
    sqlx::query(forget).execute(&app.admin).await.unwrap();
}

async fn try_case(app: &TestApp, method: &str, path: &str, case: &Case) -> Answer {
    let mut request = app.request(method, &format!("{path}{}", case.query));
    if let Some(content_type) = case.content_type {
        request = request.header("content-type", content_type);
    }
    answer(request.body(case.body.clone())).await
}

/// The routes that the router holds. It prints them, and has no other way to tell.
fn routes_of_the_router(app: &TestApp) -> BTreeSet<String> {
    let printed = format!("{:?}", mana_auth::http::router(app.app.clone()));
    let areas = ["/api/", "/log/"];
    let quoted = printed
        .split('"')
        .filter(|text| areas.iter().any(|area| text.starts_with(area)));
    quoted
        // Only the tiles of the log have a place of many parts behind them.
        .filter(|path| !path.contains('*') || path.starts_with("/log/tile/"))
        .map(str::to_owned)
        .collect()
}

/// What the list says is what the router answers: path by path and method by method.
#[tokio::test]
async fn every_route_is_listed_and_has_bad_input() {
    let app = TestApp::start(&EVERY_ROUTE).await;
    let listed: BTreeSet<String> = routes().map(|(_, path, _)| (*path).to_owned()).collect();
    assert_eq!(routes_of_the_router(&app), listed);
    for (methods, path, input) in routes() {
        assert!(!cases(path, input).is_empty(), "{path}");
        for method in METHODS {
            let answer = answer(app.request(method, path)).await;
            assert_eq!(
                answer.status != 404,
                methods.contains(&method),
                "{method} {path}"
            );
        }
    }
}

#[tokio::test]
async fn bad_input_gets_the_documented_answer_and_changes_nothing() {
    let app = TestApp::start(&[&EVERY_ROUTE[..], &[UNVERIFIED]].concat()).await;
    app.signed_in("ada").await;
    app.effects_done().await;
    let state = async || {
        let mut state = app.state().await;
        // The books of the doors: that somebody tried is what they are for.
        state.retain(|table, _| {
            !["public.attempts", "public.door_events"].contains(&table.as_str())
        });
        state
    };
    let before = state().await;
    let mut problems = Vec::new();
    for (methods, path, input) in routes() {
        for case in cases(path, input) {
            let answer = try_case(&app, methods[0], path, &case).await;
            let wanted = (case.status, case.code.to_owned());
            if answer.refusal() != wanted {
                problems.push(format!(
                    "{path}, {}: {wanted:?}, not {:?}: {:.200}",
                    case.what,
                    answer.refusal(),
                    answer.text
                ));
            }
            let native_says_why =
                is_v1(path) || case.code.is_empty() || answer.json()["message"].is_string();
            let v1_says_why = !is_v1(path)
                || case.code.is_empty()
                || answer.json()["status"] == case.status && answer.json()["error"].is_string();
            assert!(
                native_says_why && v1_says_why,
                "{path}, {}: {}",
                case.what,
                answer.text
            );
        }
        if matches!(input, Input::Challenge) {
            forget_challenges(&app).await;
        }
        assert_eq!(state().await, before, "{path} changed something");
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(app.mails().len(), 1, "only the mail of the sign-up");
}

/// S-47: a body is refused at its limit, not read to its end.
#[tokio::test]
async fn a_body_of_10_mib_is_refused_before_it_is_read() {
    let app = TestApp::start(&EVERY_ROUTE).await;
    let before = app.state().await;
    for (methods, path, _) in routes() {
        if methods[0] != "POST" {
            continue;
        }
        let mut stream = TcpStream::connect(app.base.strip_prefix("http://").unwrap())
            .await
            .unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{{\"a\":\"",
            10 * MIB
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        // The rest never comes: whoever waits for it hangs. The service may stop listening before the end of this.
        let _ = stream.write_all(&vec![b'x'; 3 * MIB]).await;
        let mut answer = vec![0; 12];
        tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 413", "{path}");
    }
    assert_eq!(app.state().await, before);
}

/// Cookies and tokens that nobody gave out are no session, whatever is wrong with them.
#[tokio::test]
async fn broken_cookies_and_tokens_are_no_session() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    app.effects_done().await;
    let (name, value) = session.cookie.split_once('=').unwrap();
    let token = &session.token;
    let other_end = if value.starts_with('A') { "B" } else { "A" };
    let cookies: Vec<Vec<u8>> = [
        format!("{name}="),
        name.to_owned(),
        "=".to_owned(),
        ";;;".to_owned(),
        format!("{name}={token}"),
        format!("{name}={token}."),
        format!("{name}={}", &value[..value.len() - 1]),
        format!("{name}={}", &value[..40]),
        format!("{name}={other_end}{}", &value[1..]),
        format!("{name}={value}x"),
        format!("{name}={value}%00"),
        format!("{name}=\"{value}\""),
        format!("{name}=%"),
        format!("{name}=%ff%fe.%ff"),
        format!("{name}={}", "x".repeat(60_000)),
        format!("{}={value}", name.to_uppercase()),
        format!("x{name}={value}"),
        format!("{name}={token}; {name}=; {name}=x.y"),
    ]
    .map(String::into_bytes)
    .into();
    let bearers: Vec<Vec<u8>> = [
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        format!("Basic {token}"),
        format!("Bearer  {token}"),
        format!("Bearer {}", &token[..31]),
        format!("Bearer {token}x"),
        format!("Bearer {token}."),
        format!(
            "Bearer {}",
            value.replace(token.as_str(), &token.to_lowercase())
        ),
        "Bearer a.b.c".to_owned(),
        "Bearer %00".to_owned(),
        "Bearer %ff%fe".to_owned(),
        format!("Bearer {}", "x".repeat(60_000)),
    ]
    .map(String::into_bytes)
    .into();
    let mut tries: Vec<(&str, Vec<u8>)> = cookies
        .into_iter()
        .map(|cookie| ("cookie", cookie))
        .collect();
    tries.extend(bearers.into_iter().map(|bearer| ("authorization", bearer)));
    tries.push(("cookie", [name.as_bytes(), b"=\xff\xfe"].concat()));
    tries.push(("authorization", b"Bearer \xff\xfe".to_vec()));
    let before = app.state().await;
    for (header, value) in tries {
        let shown = String::from_utf8_lossy(&value)
            .chars()
            .take(90)
            .collect::<String>();
        let sent = async |method: &str, path: &str| {
            let request = app.request(method, path).header(header, value.as_slice());
            answer(request.header("origin", ORIGIN)).await
        };
        for path in ["/api/auth/get-session", "/api/v1/auth/session"] {
            let answer = sent("GET", path).await;
            assert_eq!(
                (answer.status, answer.text.as_str()),
                (200, "null"),
                "{path} {shown}"
            );
        }
        assert_eq!(
            sent("GET", "/api/auth/token").await.refusal(),
            (401, "UNAUTHORIZED".to_owned()),
            "{shown}"
        );
        for path in ["/api/auth/sign-out", "/api/v1/auth/logout"] {
            assert_eq!(sent("POST", path).await.status, 200, "{path} {shown}");
        }
    }
    assert_eq!(app.state().await, before);
    assert!(app.is_live(&session.cookie).await);
}

/// What stands beside the session cookie does not hide it: other cookies of the domain belong to other programs.
#[tokio::test]
async fn other_cookies_do_not_hide_the_session() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    let own = session.cookie.as_bytes();
    let name = session.cookie.split('=').next().unwrap().as_bytes();
    for cookie in [
        [b"theme=\xc3\xa4\xff; ", own].concat(),
        [own, b"; broken; =; x"].concat(),
        [name, b"=forged.value; ", own].concat(),
        [own, b"; ", own].concat(),
    ] {
        let request = app
            .request("GET", "/api/auth/get-session")
            .header("cookie", cookie.as_slice());
        let answer = answer(request).await;
        assert_eq!(
            answer.json()["user"]["id"],
            json!(session.user_id),
            "{:?}",
            String::from_utf8_lossy(&cookie)
        );
    }
}

#[tokio::test]
async fn absurd_headers_get_an_answer_below_500_and_change_nothing() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")]).await;
    app.signed_in("ada").await;
    app.effects_done().await;
    let before = app.state().await;
    let names = [
        "authorization",
        "cookie",
        "origin",
        "referer",
        "content-type",
        "accept-language",
        "user-agent",
        "x-request-id",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "forwarded",
        "idempotency-key",
        "traceparent",
        "sec-fetch-site",
        "sec-fetch-mode",
        "x-min-position",
        "if-none-match",
        "range",
        "expect-ct",
        "te",
    ];
    for (methods, path, _) in routes() {
        for name in names {
            for value in [
                vec![b'x'; 60_000],
                b"\xff\xfe\x80".to_vec(),
                vec![],
                b"a,b;c=\"d".to_vec(),
            ] {
                // Without its fields no route does anything.
                let request = app
                    .request(methods[0], path)
                    .header(name, value.as_slice())
                    .body("{}");
                let answer = answer(request).await;
                assert!(answer.status < 500, "{path} {name}: {}", answer.text);
            }
        }
        let many = (0..200).fold(app.request(methods[0], path), |request, n| {
            request.header(format!("x-{n}"), "y")
        });
        assert_eq!(answer(many).await.status, 431, "{path}");
    }
    forget_challenges(&app).await;
    assert_eq!(app.state().await, before);
}

/// What is not HTTP, or only the beginning of it, disturbs nobody else.
#[tokio::test]
async fn broken_requests_leave_the_service_up() {
    let app = TestApp::start(&[]).await;
    let address = app.base.strip_prefix("http://").unwrap();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET \x00 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /api/auth/sign-in/email HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /api/auth/sign-in/email HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /api/auth/sign-in/email HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    }
    // Half a request, from somebody who then goes away.
    let mut stream = TcpStream::connect(address).await.unwrap();
    let half = "POST /api/auth/sign-in/email HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\n{\"email\":";
    stream.write_all(half.as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(app.get("/api/auth/ok").await.text, r#"{"ok":true}"#);
}
