//! A good request for every door, with `{name}` where an id stands.

use serde_json::{Value, json};

use crate::client::PASSWORD;
use crate::{account, organizations};

/// Method and address, and a body.
pub type Request = (String, Value);

/// All of them. Those that end something come last.
pub fn all() -> Vec<Request> {
    let of_organizations = organizations::tenants::requests().into_iter();
    let of_organizations = of_organizations.map(|(route, body)| {
        let (method, rest) = route.split_once(' ').unwrap();
        (format!("{method} /api/auth/organization/{rest}"), body)
    });
    let mut all: Vec<_> = plain().into_iter().chain(of_organizations).collect();
    all.extend(of_guilds());
    all.extend(naming());
    all.extend(ending());
    all
}

/// Those of the apps' own clients that name an organization or something of it.
pub fn of_guilds() -> Vec<Request> {
    requests(vec![
        ("GET /api/v1/gilden/{organization}", Value::Null),
        (
            "PUT /api/v1/gilden/{organization}",
            json!({"name": "taken over"}),
        ),
        (
            "POST /api/v1/gilden/{organization}/invite",
            json!({"email": "guest@example.com", "role": "member"}),
        ),
        (
            "POST /api/v1/gilden/accept-invitation",
            json!({"invitationId": "{invitation}"}),
        ),
        (
            "PUT /api/v1/gilden/{organization}/members/{member}/role",
            json!({"role": "admin"}),
        ),
        (
            "DELETE /api/v1/gilden/{organization}/members/{member}",
            Value::Null,
        ),
        ("DELETE /api/v1/gilden/{organization}", Value::Null),
    ])
}

fn requests(list: Vec<(&str, Value)>) -> Vec<Request> {
    let owned = |(route, body): (&str, Value)| (route.to_owned(), body);
    list.into_iter().map(owned).collect()
}

/// Those that name something of a person, or the person.
pub fn naming() -> Vec<Request> {
    let id = || json!({"id": "{passkey}", "name": "taken over"});
    let account = || json!({"accountId": "{account}"});
    let session = || json!({"sessionToken": "{token}"});
    let user = || json!({"userId": "{owner}"});
    requests(vec![
        ("POST /api/auth/passkey/update-passkey", id()),
        (
            "PATCH /api/v1/auth/passkeys/{passkey}",
            json!({"name": "taken over"}),
        ),
        ("POST /api/auth/get-access-token", account()),
        ("POST /api/auth/refresh-token", account()),
        (
            "GET /api/auth/account-info?accountId={account}",
            Value::Null,
        ),
        (
            "GET /api/v1/auth/security-events?userId={owner}",
            Value::Null,
        ),
        (
            "POST /api/auth/update-user",
            json!({"name": "taken over", "userId": "{owner}"}),
        ),
        (
            "POST /api/v1/auth/profile",
            json!({"name": "taken over", "userId": "{owner}"}),
        ),
        ("POST /api/auth/multi-session/set-active", session()),
        ("POST /api/auth/multi-session/revoke", session()),
        ("POST /api/auth/revoke-session", json!({"token": "{token}"})),
        ("DELETE /api/v1/auth/sessions/{session}", Value::Null),
        ("DELETE /api/v1/api-keys/{api key}", Value::Null),
        ("POST /api/auth/unlink-account", account()),
        ("POST /api/auth/passkey/delete-passkey", id()),
        ("DELETE /api/v1/auth/passkeys/{passkey}", Value::Null),
        // For admins, whom none of these people is.
        (
            "GET /api/v1/admin/security-events?userId={owner}",
            Value::Null,
        ),
        ("GET /api/v1/admin/vaults/{owner}/audit", Value::Null),
        ("GET /api/v1/admin/audit/events?userId={owner}", Value::Null),
        ("GET /api/auth/admin/get-user?id={owner}", Value::Null),
        (
            "POST /api/auth/admin/has-permission",
            json!({"userId": "{owner}", "permissions": {"user": ["list"]}}),
        ),
        (
            "POST /api/auth/admin/update-user",
            json!({"userId": "{owner}", "data": {"name": "taken over"}}),
        ),
        (
            "POST /api/auth/admin/set-role",
            json!({"userId": "{owner}", "role": "admin"}),
        ),
        ("POST /api/auth/admin/ban-user", user()),
        ("POST /api/auth/admin/unban-user", user()),
        (
            "POST /api/auth/admin/set-user-password",
            json!({"userId": "{owner}", "newPassword": account::NEW}),
        ),
        ("POST /api/auth/admin/list-user-sessions", user()),
        ("POST /api/auth/admin/revoke-user-session", session()),
        (
            "POST /api/auth/admin/revoke-user-session",
            json!({"sessionToken": "{session}"}),
        ),
        ("POST /api/auth/admin/revoke-user-sessions", user()),
        ("POST /api/auth/admin/impersonate-user", user()),
        ("POST /api/auth/admin/remove-user", user()),
    ])
}

/// Those that name nobody but whoever sends them.
fn plain() -> Vec<Request> {
    let email = || json!({"email": "{email}"});
    let password = || json!({"password": PASSWORD});
    let credentials = || json!({"email": "{email}", "password": PASSWORD});
    let account = |number| {
        let email = format!("new{number}.{{fresh}}@example.com");
        json!({"email": email, "password": PASSWORD, "name": "New"})
    };
    let code = || json!({"code": "000000"});
    let provider = || json!({"provider": "plain"});
    let token = || json!({"token": "no-such-token", "newPassword": account::NEW});
    let answer = || json!({"response": {"id": "no-such-passkey"}});
    let slug = || json!({"name": "Another", "slug": "another"});
    requests(vec![
        ("GET /api/auth/ok", Value::Null),
        ("GET /api/auth/error", Value::Null),
        ("GET /api/auth/jwks", Value::Null),
        ("GET /api/v1/auth/jwks", Value::Null),
        ("GET /api/v1/auth/signup-status", Value::Null),
        ("GET /api/v1/auth/passkeys/capability", Value::Null),
        ("GET /api/auth/get-session", Value::Null),
        ("POST /api/auth/get-session", json!({})),
        ("GET /api/v1/auth/session", Value::Null),
        ("GET /api/v1/auth/profile", Value::Null),
        ("GET /api/auth/token", Value::Null),
        ("POST /api/v1/auth/session-to-token", json!({})),
        ("POST /api/v1/auth/refresh", json!({})),
        (
            "POST /api/v1/auth/validate",
            json!({"token": "no-such-token"}),
        ),
        ("GET /api/auth/list-sessions", Value::Null),
        ("GET /api/v1/auth/sessions", Value::Null),
        ("GET /api/v1/auth/security-events", Value::Null),
        (
            "GET /api/auth/multi-session/list-device-sessions",
            Value::Null,
        ),
        ("GET /api/auth/list-accounts", Value::Null),
        ("GET /api/auth/passkey/list-user-passkeys", Value::Null),
        ("GET /api/v1/auth/passkeys", Value::Null),
        ("GET /api/v1/api-keys", Value::Null),
        ("POST /api/v1/api-keys", json!({"name": "Another"})),
        (
            "POST /api/v1/api-keys/validate",
            json!({"apiKey": "no-such-key"}),
        ),
        ("GET /api/v1/admin/security-events", Value::Null),
        ("GET /api/auth/admin/list-users", Value::Null),
        ("POST /api/auth/admin/create-user", account(0)),
        ("POST /api/auth/admin/stop-impersonating", json!({})),
        (
            "GET /api/auth/passkey/generate-register-options",
            Value::Null,
        ),
        (
            "GET /api/auth/passkey/generate-authenticate-options",
            Value::Null,
        ),
        ("POST /api/v1/auth/passkeys/register/options", json!({})),
        ("POST /api/v1/auth/passkeys/authenticate/options", json!({})),
        ("POST /api/auth/passkey/verify-registration", answer()),
        ("POST /api/v1/auth/passkeys/register/verify", answer()),
        ("POST /api/auth/passkey/verify-authentication", answer()),
        ("POST /api/v1/auth/passkeys/authenticate/verify", answer()),
        ("POST /api/auth/sign-up/email", account(1)),
        ("POST /api/v1/auth/register", account(2)),
        ("POST /api/auth/sign-in/email", credentials()),
        ("POST /api/v1/auth/login", credentials()),
        ("POST /api/auth/sign-in/magic-link", email()),
        (
            "GET /api/auth/magic-link/verify?token=no-such-token",
            Value::Null,
        ),
        (
            "GET /api/v1/auth/magic-link?token=no-such-token",
            Value::Null,
        ),
        ("POST /api/auth/sign-in/social", provider()),
        ("POST /api/auth/link-social", provider()),
        (
            "GET /api/auth/callback/plain?state=no-such-state&code=x",
            Value::Null,
        ),
        (
            "POST /api/auth/callback/plain",
            json!({"state": "no-such-state", "code": "x"}),
        ),
        ("POST /api/auth/send-verification-email", email()),
        ("POST /api/v1/auth/resend-verification", email()),
        (
            "GET /api/auth/verify-email?token=no-such-token",
            Value::Null,
        ),
        ("POST /api/auth/request-password-reset", email()),
        ("POST /api/v1/auth/forgot-password", email()),
        ("POST /api/auth/reset-password", token()),
        ("POST /api/v1/auth/reset-password", token()),
        (
            "GET /api/auth/reset-password/no-such-token?callbackURL=/new",
            Value::Null,
        ),
        (
            "GET /api/auth/delete-user/callback?token=no-such-token",
            Value::Null,
        ),
        (
            "GET /api/v1/auth/end-sessions?token=no-such-token",
            Value::Null,
        ),
        ("POST /api/v1/auth/end-sessions", token()),
        (
            "GET /api/v1/auth/revert-email?token=no-such-token",
            Value::Null,
        ),
        ("POST /api/v1/auth/revert-email", token()),
        ("POST /api/auth/verify-password", password()),
        ("POST /api/auth/update-session", json!({})),
        (
            "POST /api/auth/change-email",
            json!({"newEmail": "newer@example.com"}),
        ),
        (
            "POST /api/v1/auth/change-email",
            json!({"newEmail": "newest@example.com"}),
        ),
        ("POST /api/auth/two-factor/enable", password()),
        ("POST /api/auth/two-factor/get-totp-uri", password()),
        ("POST /api/auth/two-factor/send-otp", json!({})),
        ("POST /api/auth/two-factor/verify-totp", code()),
        ("POST /api/auth/two-factor/verify-otp", code()),
        ("POST /api/auth/two-factor/verify-backup-code", code()),
        (
            "POST /api/auth/two-factor/generate-backup-codes",
            password(),
        ),
        ("GET /api/v1/me/encryption-vault/status", Value::Null),
        ("GET /api/v1/me/encryption-vault/audit", Value::Null),
        ("POST /api/v1/me/encryption-vault/init", json!({})),
        ("GET /api/v1/me/encryption-vault/key", Value::Null),
        ("POST /api/v1/me/encryption-vault/rotate", json!({})),
        (
            "POST /api/v1/me/encryption-vault/recovery-wrap",
            json!({"recoveryWrappedMk": "x", "recoveryIv": "x"}),
        ),
        (
            "POST /api/v1/me/encryption-vault/recovery-wrap/restore",
            password(),
        ),
        (
            "DELETE /api/v1/me/encryption-vault/recovery-wrap",
            Value::Null,
        ),
        (
            "POST /api/v1/me/encryption-vault/zero-knowledge",
            json!({"enable": true}),
        ),
        ("GET /api/v1/gilden", Value::Null),
        (
            "POST /api/v1/gilden",
            json!({"name": "Guild", "slug": "guild"}),
        ),
        ("GET /log/checkpoint", Value::Null),
        ("GET /log/key", Value::Null),
        ("GET /log/tile/0", Value::Null),
        ("GET /log/proof/inclusion?index=0&size=1", Value::Null),
        ("GET /log/proof/consistency?from=1&to=1", Value::Null),
        ("GET /log/entries?from=1&to=1", Value::Null),
        ("GET /api/auth/organization/list", Value::Null),
        ("GET /api/auth/organization/get-active-member", Value::Null),
        (
            "GET /api/auth/organization/list-user-invitations",
            Value::Null,
        ),
        ("POST /api/auth/organization/check-slug", slug()),
        (
            "POST /api/auth/organization/create",
            json!({
                "name": "Another", "slug": "another", "keepCurrentActiveOrganization": true,
            }),
        ),
    ])
}

/// Those that end the session that they are sent in, or more.
fn ending() -> Vec<Request> {
    let change = |from: &str, to: &str| json!({"currentPassword": from, "newPassword": to});
    let password = || json!({"password": PASSWORD});
    requests(vec![
        (
            "POST /api/auth/change-password",
            change(PASSWORD, account::NEW),
        ),
        (
            "POST /api/v1/auth/change-password",
            change(account::NEW, PASSWORD),
        ),
        ("POST /api/auth/revoke-other-sessions", json!({})),
        ("POST /api/auth/two-factor/disable", password()),
        ("POST /api/auth/revoke-sessions", json!({})),
        ("POST /api/auth/sign-out", json!({})),
        ("POST /api/v1/auth/logout", json!({})),
        ("POST /api/auth/delete-user", password()),
        ("DELETE /api/v1/auth/account", password()),
    ])
}
