//! Every door while the database is away, and after it is back. A door without an entry here fails.

#![cfg(test)]

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use mana_auth::http::doors::areas;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::account::{NEW, deletion_token, email_of, last_link, reset_token};
use crate::authenticator::Authenticator;
use crate::client::{Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, link_token};
use crate::doors::address;
use crate::harness::{TestApp, wait_until};
use crate::limits::LIMITED;
use crate::mailed::Kind;
use crate::outage::{beside, give_back, take_away};
use crate::passkeys;

const BY_LINK: (&str, &str) = ("MANA_AUTH_DELETE_USER_CONFIRM", "true");
const ADMIN: (&str, &str) = (
    "MANA_AUTH_ADMIN_EMAILS",
    "root@example.com,reader@example.com,keeper@example.com,watcher@example.com",
);
/// A request waits three seconds for a connection, and may try once more to give its try back.
const ANSWERED_WITHIN: Duration = Duration::from_secs(8);

/// Somebody with a session and links that they have not followed yet.
struct Person {
    email: String,
    session: Session,
    session_id: String,
    jwt: String,
    proof: String,
    reset: String,
    deletion: String,
    end_sessions: String,
    way_back: String,
    magic: String,
    /// Its id.
    passkey: String,
    /// A ceremony that waits for its end: its cookie, and what the browser answers.
    ceremony: (String, Value),
    /// Its id, and the key.
    api_key: (String, String),
}

/// What a door does without the database.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Without {
    /// It says that it cannot be used just now.
    Closed,
    /// It needs none.
    Open,
}
use Without::{Closed, Open};

/// A door, the request that it gets, what becomes of it without the database, and its status with it.
struct Entry(
    &'static str,
    &'static str,
    fn(RequestBuilder, &Person) -> RequestBuilder,
    Without,
    u16,
);

const fn nothing(method: &'static str, path: &'static str, without: Without, status: u16) -> Entry {
    Entry(method, path, |request, _| request, without, status)
}

fn credentials(request: RequestBuilder, person: &Person) -> RequestBuilder {
    request.json(&json!({"email": person.email, "password": PASSWORD}))
}

fn newcomer(request: RequestBuilder, person: &Person) -> RequestBuilder {
    let email = format!("other-{}", person.email);
    request.json(&json!({"name": "New", "email": email, "password": PASSWORD}))
}

fn email(request: RequestBuilder, person: &Person) -> RequestBuilder {
    request.json(&json!({"email": person.email}))
}

fn password(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"password": PASSWORD}))
}

fn new_password(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"currentPassword": PASSWORD, "newPassword": NEW}))
}

fn new_email(request: RequestBuilder, person: &Person) -> RequestBuilder {
    request.json(&json!({"newEmail": format!("new-{}", person.email)}))
}

fn name(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"name": "Another name"}))
}

fn code(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"code": "000000"}))
}

fn passkey(request: RequestBuilder, person: &Person) -> RequestBuilder {
    request.json(&json!({"id": person.passkey, "name": "Another name"}))
}

fn ceremony(request: RequestBuilder, person: &Person) -> RequestBuilder {
    let (cookie, response) = &person.ceremony;
    request
        .header("cookie", cookie)
        .json(&json!({"response": response}))
}

fn reset(request: RequestBuilder, person: &Person) -> RequestBuilder {
    request.json(&json!({"token": person.reset, "newPassword": NEW}))
}

fn recovery_wrap(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"recoveryWrappedMk": "x", "recoveryIv": "x"}))
}

fn somebody(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({
        "userId": "x", "data": {"name": "x"}, "role": "user", "sessionToken": "x", "newPassword": NEW,
        "permissions": {"user": ["list"]},
    }))
}

fn linked(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"provider": "none", "accountId": "x"}))
}

fn account(request: RequestBuilder, _: &Person) -> RequestBuilder {
    request.json(&json!({"accountId": "x"}))
}

/// About a guild that there is none of, by an access token.
fn guild(request: RequestBuilder, person: &Person) -> RequestBuilder {
    let body = json!({
        "name": "x", "slug": person.email, "email": person.email, "role": "member", "invitationId": "x",
    });
    request.bearer_auth(&person.jwt).json(&body)
}

const ENTRIES: [Entry; 133] = [
    Entry("POST", "/api/v1/gilden", guild, Closed, 201),
    Entry("GET", "/api/v1/gilden", guild, Closed, 200),
    Entry(
        "POST",
        "/api/v1/gilden/accept-invitation",
        guild,
        Closed,
        400,
    ),
    Entry("GET", "/api/v1/gilden/{id}", guild, Closed, 400),
    Entry("PUT", "/api/v1/gilden/{id}", guild, Closed, 400),
    Entry("DELETE", "/api/v1/gilden/{id}", guild, Closed, 400),
    Entry("POST", "/api/v1/gilden/{id}/invite", guild, Closed, 400),
    Entry(
        "DELETE",
        "/api/v1/gilden/{id}/members/{member_id}",
        guild,
        Closed,
        400,
    ),
    Entry(
        "PUT",
        "/api/v1/gilden/{id}/members/{member_id}/role",
        guild,
        Closed,
        400,
    ),
    nothing("GET", "/api/v1/me/encryption-vault/status", Closed, 200),
    nothing("GET", "/api/v1/me/encryption-vault/audit", Closed, 200),
    nothing("POST", "/api/v1/me/encryption-vault/init", Closed, 200),
    nothing("GET", "/api/v1/me/encryption-vault/key", Closed, 404),
    nothing("POST", "/api/v1/me/encryption-vault/rotate", Closed, 200),
    Entry(
        "POST",
        "/api/v1/me/encryption-vault/recovery-wrap",
        recovery_wrap,
        Closed,
        404,
    ),
    nothing(
        "DELETE",
        "/api/v1/me/encryption-vault/recovery-wrap",
        Closed,
        404,
    ),
    Entry(
        "POST",
        "/api/v1/me/encryption-vault/recovery-wrap/restore",
        password,
        Closed,
        404,
    ),
    Entry(
        "POST",
        "/api/v1/me/encryption-vault/zero-knowledge",
        |request, _| request.json(&json!({"enable": true})),
        Closed,
        404,
    ),
    // It is off here.
    nothing(
        "GET",
        "/api/auth/multi-session/list-device-sessions",
        Open,
        404,
    ),
    nothing("POST", "/api/auth/multi-session/set-active", Open, 404),
    nothing("POST", "/api/auth/multi-session/revoke", Open, 404),
    // There is no provider, nor an account there.
    Entry("POST", "/api/auth/sign-in/social", linked, Closed, 404),
    Entry("POST", "/api/auth/link-social", linked, Closed, 404),
    nothing("GET", "/api/auth/callback/{provider}", Open, 302),
    Entry("POST", "/api/auth/callback/{provider}", account, Open, 302),
    nothing("GET", "/api/auth/list-accounts", Closed, 200),
    Entry("POST", "/api/auth/unlink-account", linked, Closed, 400),
    Entry("POST", "/api/auth/get-access-token", account, Closed, 400),
    Entry("POST", "/api/auth/refresh-token", account, Closed, 400),
    Entry(
        "GET",
        "/api/auth/account-info",
        |request, _| request.query(&[("accountId", "x")]),
        Closed,
        400,
    ),
    // Nobody here is an admin, which is found out by looking.
    Entry(
        "GET",
        "/api/auth/admin/list-users",
        |request, _| request,
        Closed,
        403,
    ),
    Entry(
        "GET",
        "/api/auth/admin/get-user",
        |request, _| request.query(&[("id", "x")]),
        Closed,
        403,
    ),
    Entry("POST", "/api/auth/admin/create-user", newcomer, Closed, 403),
    Entry("POST", "/api/auth/admin/update-user", somebody, Closed, 403),
    Entry("POST", "/api/auth/admin/set-role", somebody, Closed, 403),
    Entry("POST", "/api/auth/admin/ban-user", somebody, Closed, 403),
    Entry("POST", "/api/auth/admin/unban-user", somebody, Closed, 403),
    Entry(
        "POST",
        "/api/auth/admin/impersonate-user",
        somebody,
        Closed,
        403,
    ),
    nothing("POST", "/api/auth/admin/stop-impersonating", Closed, 400),
    Entry(
        "POST",
        "/api/auth/admin/list-user-sessions",
        somebody,
        Closed,
        403,
    ),
    Entry(
        "POST",
        "/api/auth/admin/revoke-user-session",
        somebody,
        Closed,
        403,
    ),
    Entry(
        "POST",
        "/api/auth/admin/revoke-user-sessions",
        somebody,
        Closed,
        403,
    ),
    Entry("POST", "/api/auth/admin/remove-user", somebody, Closed, 403),
    Entry(
        "POST",
        "/api/auth/admin/set-user-password",
        somebody,
        Closed,
        403,
    ),
    Entry(
        "POST",
        "/api/auth/admin/has-permission",
        somebody,
        Closed,
        200,
    ),
    Entry("POST", "/api/auth/two-factor/enable", password, Closed, 200),
    Entry(
        "POST",
        "/api/auth/two-factor/disable",
        password,
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/auth/two-factor/get-totp-uri",
        password,
        Closed,
        400,
    ),
    Entry(
        "POST",
        "/api/auth/two-factor/generate-backup-codes",
        password,
        Closed,
        400,
    ),
    nothing("POST", "/api/auth/two-factor/send-otp", Closed, 200),
    Entry(
        "POST",
        "/api/auth/two-factor/verify-totp",
        code,
        Closed,
        400,
    ),
    Entry("POST", "/api/auth/two-factor/verify-otp", code, Closed, 400),
    Entry(
        "POST",
        "/api/auth/two-factor/verify-backup-code",
        code,
        Closed,
        400,
    ),
    Entry("POST", "/api/auth/sign-in/magic-link", email, Closed, 200),
    Entry(
        "GET",
        "/api/auth/magic-link/verify",
        |request, person| request.query(&[("token", &person.magic)]),
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/api/v1/auth/magic-link",
        |request, _| request.query(&[("token", "x")]),
        Closed,
        200,
    ),
    nothing(
        "GET",
        "/api/auth/passkey/generate-register-options",
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/auth/passkey/verify-registration",
        ceremony,
        Closed,
        200,
    ),
    nothing(
        "GET",
        "/api/auth/passkey/generate-authenticate-options",
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/auth/passkey/verify-authentication",
        ceremony,
        Closed,
        200,
    ),
    nothing("GET", "/api/auth/passkey/list-user-passkeys", Closed, 200),
    Entry(
        "POST",
        "/api/auth/passkey/update-passkey",
        passkey,
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/auth/passkey/delete-passkey",
        passkey,
        Closed,
        200,
    ),
    nothing("GET", "/api/v1/auth/passkeys/capability", Open, 200),
    nothing(
        "POST",
        "/api/v1/auth/passkeys/register/options",
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/auth/passkeys/register/verify",
        ceremony,
        Closed,
        200,
    ),
    nothing(
        "POST",
        "/api/v1/auth/passkeys/authenticate/options",
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/auth/passkeys/authenticate/verify",
        ceremony,
        Closed,
        200,
    ),
    nothing("GET", "/api/v1/auth/passkeys", Closed, 200),
    Entry("PATCH", "/api/v1/auth/passkeys/{id}", name, Closed, 200),
    nothing("DELETE", "/api/v1/auth/passkeys/{id}", Closed, 200),
    Entry(
        "GET",
        "/api/v1/api-keys",
        |request, person| request.bearer_auth(&person.jwt),
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/api-keys",
        |request, person| name(request, person).bearer_auth(&person.jwt),
        Closed,
        201,
    ),
    Entry(
        "DELETE",
        "/api/v1/api-keys/{id}",
        |request, person| request.bearer_auth(&person.jwt),
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/api-keys/validate",
        |request, person| request.json(&json!({"apiKey": person.api_key.1})),
        Closed,
        200,
    ),
    Entry("POST", "/api/auth/sign-up/email", newcomer, Closed, 200),
    Entry("POST", "/api/auth/sign-in/email", credentials, Closed, 200),
    nothing("POST", "/api/auth/sign-out", Closed, 200),
    nothing("GET", "/api/auth/get-session", Closed, 200),
    nothing("POST", "/api/auth/get-session", Open, 405),
    Entry(
        "POST",
        "/api/auth/send-verification-email",
        email,
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/api/auth/verify-email",
        |request, person| request.query(&[("token", &person.proof)]),
        Closed,
        200,
    ),
    nothing("GET", "/api/auth/token", Closed, 200),
    nothing("GET", "/api/auth/jwks", Closed, 200),
    nothing("GET", "/api/auth/ok", Open, 200),
    nothing("GET", "/api/auth/error", Open, 302),
    nothing("GET", "/api/auth/list-sessions", Closed, 200),
    Entry(
        "POST",
        "/api/auth/revoke-session",
        |request, person| request.json(&json!({"token": person.session.token})),
        Closed,
        200,
    ),
    nothing("POST", "/api/auth/revoke-sessions", Closed, 200),
    nothing("POST", "/api/auth/revoke-other-sessions", Closed, 200),
    Entry("POST", "/api/auth/update-session", name, Closed, 400),
    Entry("POST", "/api/auth/update-user", name, Closed, 200),
    Entry("POST", "/api/auth/change-email", new_email, Closed, 200),
    Entry(
        "POST",
        "/api/auth/change-password",
        new_password,
        Closed,
        200,
    ),
    Entry("POST", "/api/auth/verify-password", password, Closed, 200),
    Entry(
        "POST",
        "/api/auth/request-password-reset",
        email,
        Closed,
        200,
    ),
    Entry("POST", "/api/auth/reset-password", reset, Closed, 200),
    Entry(
        "GET",
        "/api/auth/reset-password/{token}",
        |request, _| request.query(&[("callbackURL", "/new")]),
        Closed,
        302,
    ),
    Entry("POST", "/api/auth/delete-user", password, Closed, 200),
    Entry(
        "GET",
        "/api/auth/delete-user/callback",
        |request, person| request.query(&[("token", &person.deletion)]),
        Closed,
        200,
    ),
    Entry("POST", "/api/v1/auth/register", newcomer, Closed, 200),
    Entry("POST", "/api/v1/auth/login", credentials, Closed, 200),
    nothing("POST", "/api/v1/auth/logout", Closed, 200),
    Entry(
        "POST",
        "/api/v1/auth/validate",
        |request, person| request.json(&json!({"token": person.jwt})),
        Closed,
        200,
    ),
    nothing("GET", "/api/v1/auth/session", Closed, 200),
    nothing("GET", "/api/v1/auth/jwks", Closed, 200),
    nothing("GET", "/api/v1/auth/signup-status", Open, 200),
    nothing("GET", "/api/v1/auth/profile", Closed, 200),
    Entry("POST", "/api/v1/auth/profile", name, Closed, 200),
    nothing("POST", "/api/v1/auth/session-to-token", Closed, 200),
    nothing("POST", "/api/v1/auth/refresh", Closed, 200),
    Entry("POST", "/api/v1/auth/forgot-password", email, Closed, 200),
    Entry("POST", "/api/v1/auth/reset-password", reset, Closed, 200),
    Entry(
        "POST",
        "/api/v1/auth/resend-verification",
        email,
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/auth/change-password",
        new_password,
        Closed,
        200,
    ),
    Entry("POST", "/api/v1/auth/change-email", new_email, Closed, 200),
    Entry("DELETE", "/api/v1/auth/account", password, Closed, 200),
    nothing("GET", "/api/v1/auth/security-events", Closed, 200),
    nothing("GET", "/api/v1/auth/sessions", Closed, 200),
    nothing("DELETE", "/api/v1/auth/sessions/{id}", Closed, 200),
    Entry(
        "GET",
        "/api/v1/auth/end-sessions",
        |request, person| request.query(&[("token", &person.end_sessions)]),
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/auth/end-sessions",
        |request, person| request.form(&[("token", &person.end_sessions)]),
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/api/v1/auth/revert-email",
        |request, person| request.query(&[("token", &person.way_back)]),
        Closed,
        200,
    ),
    Entry(
        "POST",
        "/api/v1/auth/revert-email",
        |request, person| request.form(&[("token", &person.way_back)]),
        Closed,
        200,
    ),
    nothing("GET", "/log/checkpoint", Closed, 200),
    nothing("GET", "/log/key", Closed, 200),
    nothing("GET", "/log/tile/{*place}", Closed, 200),
    Entry(
        "GET",
        "/log/proof/inclusion",
        |request, _| request.query(&[("index", "0"), ("size", "2")]),
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/log/proof/consistency",
        |request, _| request.query(&[("from", "1"), ("to", "2")]),
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/log/entries",
        |request, person| {
            let range = [("from", "1"), ("to", "2")];
            request.query(&range).bearer_auth(&person.jwt)
        },
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/api/v1/admin/security-events",
        |request, person| request.bearer_auth(&person.jwt),
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/api/v1/admin/vaults/{id}/audit",
        |request, person| request.bearer_auth(&person.jwt),
        Closed,
        200,
    ),
    Entry(
        "GET",
        "/api/v1/admin/audit/events",
        |request, person| request.bearer_auth(&person.jwt),
        Closed,
        200,
    ),
];

impl Entry {
    /// The request of a person, each time from another address: requests are counted, too.
    async fn send(&self, app: &TestApp, person: &Person, number: usize) -> Answer {
        let path = self.1.replace("{token}", &person.reset);
        let id = match self.1 {
            path if path.contains("/passkeys/") => &person.passkey,
            path if path.contains("/api-keys/") => &person.api_key.0,
            path if path.contains("/vaults/") => &person.session.user_id,
            _ => &person.session_id,
        };
        let path = path.replace("{id}", id).replace("{*place}", "0/000.p/2");
        let request = app
            .request(self.0, &path)
            .header("cookie", &person.session.cookie)
            .header("origin", ORIGIN)
            .header("x-forwarded-for", address(u32::try_from(number).unwrap()));
        answer((self.2)(request, person)).await
    }

    /// Fails unless the answer is the one of a service without its database, in the shape of the area.
    fn assert_closed(&self, answer: &Answer) {
        let Self(method, path, ..) = self;
        assert_eq!(answer.status, 503, "{method} {path}: {}", answer.text);
        assert_eq!(answer.header("retry-after"), "1", "{method} {path}");
        assert!(answer.cookies().is_empty(), "{method} {path}");
        let sentence = "Service temporarily unavailable";
        let wanted = if ["/api/v1/admin/", "/api/v1/api-keys", "/api/v1/me/", "/log/"]
            .iter()
            .any(|guarded| path.starts_with(guarded))
        {
            json!({"statusCode": 503, "message": sentence, "code": "SERVICE_UNAVAILABLE"})
        } else if path.starts_with("/api/v1/") && !path.starts_with("/api/v1/gilden") {
            json!({
                "error": sentence, "code": "SERVICE_UNAVAILABLE", "message": sentence,
                "status": 503, "retryAfterSec": 1,
            })
        } else {
            json!({"message": sentence, "code": "SERVICE_UNAVAILABLE"})
        };
        assert_eq!(answer.json(), wanted, "{method} {path}");
    }
}

/// A person with everything that any door could ask for.
async fn person(app: &TestApp, name: &str, method: &str, path: &str) -> Person {
    let is_changed = (method, path) == ("POST", "/api/v1/auth/revert-email");
    let (mut session, mut way_back) = (None, String::new());
    if is_changed {
        let mailed = Kind::WayBack.mail(app, name).await;
        way_back = mailed.token;
        session = Some(mailed.session);
    }
    let session = match session {
        Some(session) => session,
        None => app.signed_in(name).await,
    };
    let email = if is_changed {
        format!("new-{}", email_of(name))
    } else {
        email_of(name)
    };
    let proof = app.wait_for_mail(&email_of(name), 0).await.url.unwrap();
    let reset = reset_token(app, "/api/auth/request-password-reset", &email).await;
    let deletion = deletion_token(app, &session, &email).await;
    let asked = json!({"email": email});
    let asked = app.post("/api/auth/sign-in/magic-link", &asked).await;
    assert_eq!(asked.status, 200, "{}", asked.text);
    let magic = last_link(app, "magic_link", &email).await;
    let mails = app.mails();
    let mut texts = mails.iter().filter(|mail| mail.to == email);
    let text = texts.find_map(|mail| mail.text.split_once("/end-sessions?"));
    let end_sessions = text.unwrap().1.lines().next().unwrap();
    let shown = app.get_as("/api/auth/get-session", &session.cookie).await;
    let jwt = shown.header("set-auth-jwt").to_owned();
    let key = Authenticator::new();
    let added = passkeys::add(app, &session, &key).await;
    let ceremony = if path.ends_with("verify-registration") || path.ends_with("register/verify") {
        let begun = passkeys::begin(app, "register", &session.cookie).await;
        (begun.cookie, Authenticator::new().create(&begun.options))
    } else {
        let begun = passkeys::begin(app, "authenticate", "").await;
        (begun.cookie, key.get(&begun.options))
    };
    let request = app.request("POST", "/api/v1/api-keys").bearer_auth(&jwt);
    let made = answer(request.json(&json!({"name": "key"}))).await.json();
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    Person {
        session_id: shown.json()["session"]["id"].as_str().unwrap().to_owned(),
        jwt,
        magic: link_token(&magic).to_owned(),
        passkey: added["id"].as_str().unwrap().to_owned(),
        ceremony,
        api_key: (text("id"), text("key")),
        proof: link_token(&proof).to_owned(),
        reset,
        deletion,
        end_sessions: link_token(end_sessions).to_owned(),
        way_back,
        email,
        session,
    }
}

#[test]
fn every_door_says_what_it_does_without_the_database() {
    let mut doors = BTreeSet::new();
    for (prefix, of_area) in areas() {
        // Those of organizations are closed in a file of their own.
        let others = of_area
            .iter()
            .filter(|door| !door.path.starts_with("/organization/"));
        for door in others {
            doors.insert(format!("{} {prefix}{}", door.method, door.path));
        }
    }
    let listed: BTreeSet<String> = ENTRIES
        .iter()
        .map(|Entry(method, path, ..)| format!("{method} {path}"))
        .collect();
    assert_eq!(doors, listed);
}

/// S-17, S-69: what cannot be looked up or counted is not served, and is served again by itself.
#[tokio::test]
async fn every_door_closes_without_the_database_and_opens_again_by_itself_s17_s69() {
    let quiet = TestApp::start(&[UNVERIFIED, BY_LINK, ADMIN]).await;
    let app = quiet
        .node(&[LIMITED[0], LIMITED[1], LIMITED[2], BY_LINK, ADMIN])
        .await;
    let mut people = Vec::new();
    for (number, Entry(method, path, ..)) in ENTRIES.iter().enumerate() {
        let name = match *path {
            "/api/v1/admin/security-events" => "root".to_owned(),
            "/log/entries" => "reader".to_owned(),
            "/api/v1/admin/vaults/{id}/audit" => "keeper".to_owned(),
            "/api/v1/admin/audit/events" => "watcher".to_owned(),
            _ => format!("p{number}"),
        };
        people.push(person(&quiet, &name, method, path).await);
    }
    // So that this node remembers keys and sessions, which must not be trusted for long.
    assert_eq!(app.get("/api/auth/jwks").await.status, 200);
    for person in &people {
        assert!(app.is_live(&person.session.cookie).await);
    }
    let state = async || {
        quiet.effects_done().await;
        let mut state = quiet.state().await;
        // Requests are counted before anything else, each for itself.
        state.remove("public.rate_limits");
        state
    };
    let before = state().await;
    let (mut connection, name) = beside(&app).await;
    take_away(&mut connection, &name).await;
    wait_until("the node trusts its memory no longer", async || {
        let cookie = &people[0].session.cookie;
        app.get_as("/api/auth/get-session", cookie).await.status == 503
    })
    .await;
    for (number, (entry, person)) in ENTRIES.iter().zip(&people).enumerate() {
        let begun = Instant::now();
        let answer = entry.send(&app, person, number).await;
        let Entry(method, path, _, without, status) = entry;
        assert!(begun.elapsed() < ANSWERED_WITHIN, "{method} {path}");
        match without {
            Closed => entry.assert_closed(&answer),
            Open => assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text),
        }
    }

    give_back(&mut connection, &name).await;
    let mut changed = state().await;
    changed.retain(|table, rows| before.get(table) != Some(rows));
    assert!(changed.is_empty(), "half done: {changed:?}");
    for (number, (entry, person)) in ENTRIES.iter().zip(&people).enumerate() {
        let Entry(method, path, _, _, status) = entry;
        let mut number = 100 * (number + 1);
        let mut answer = None;
        wait_until("the door opens again", async || {
            number += 1;
            let answered = entry.send(&app, person, number).await;
            answer.insert(answered).status != 503
        })
        .await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text);
        assert!(!answer.header("location").contains("INVALID"), "{path}");
        assert!(answer.text != "null", "{path}: nobody was forgotten");
    }
    let failed = "attempts where cardinality(failed_at) > 0";
    assert_eq!(app.count(failed).await, 0, "nothing counted as wrong");
}
