//! The rows: every place of a request that takes a token.

use mana_auth::crypto::cookies::encode;
use reqwest::RequestBuilder;
use serde_json::{Value, json};

use super::World;
use super::kinds::{Held, sign_up};
use crate::account::NEW;
use crate::authenticator::Authenticator;
use crate::client::ORIGIN;

/// A place that takes tokens.
pub struct Consumer {
    /// Its door as the table of doors has it, and the place in the request.
    pub name: &'static str,
    /// The kinds that are good there, and the event that follows if one does.
    pub takes: &'static [(&'static str, &'static str)],
    pub send: fn(&World, &Held) -> RequestBuilder,
    /// What may be said to a token that is not good: status, and what stands in body or location.
    pub refused: &'static [(u16, &'static str)],
    /// Whether something is written although the token is not good: what else the request shows is.
    pub writes: bool,
}

type Takes = &'static [(&'static str, &'static str)];
type Refused = &'static [(u16, &'static str)];
type Send = fn(&World, &Held) -> RequestBuilder;

const fn row(name: &'static str, takes: Takes, refused: Refused, send: Send) -> Consumer {
    Consumer {
        name,
        takes,
        send,
        refused,
        writes: false,
    }
}

/// The same, where something is written all the same.
const fn writing(name: &'static str, takes: Takes, refused: Refused, send: Send) -> Consumer {
    Consumer {
        writes: true,
        ..row(name, takes, refused, send)
    }
}

const STARTED: &str = "session.started";
const ENDED: &str = "session.ended";
const SESSION: (&str, &str) = ("session token", "");
const SIGNED: (&str, &str) = ("signed session token", "");
const ACCESS: (&str, &str) = ("access token", "");
const SESSION_ENDS: (&str, &str) = ("session token", ENDED);
const SIGNED_ENDS: (&str, &str) = ("signed session token", ENDED);
const ID_ENDS: (&str, &str) = ("id of a session", ENDED);
/// Whoever wants out is told that they are, whatever they show.
const OUT: Refused = &[(200, "success")];
const NO_SESSION: Refused = &[(200, "null")];
const NO_RESET: Refused = &[(400, "INVALID_TOKEN"), (400, "TOKEN_INVALID")];
const NO_CHALLENGE: Refused = &[(401, "INVALID_TWO_FACTOR_COOKIE")];
const NO_INVITATION: Refused = &[
    (400, "INVITATION_NOT_FOUND"),
    (400, "NO_INVITATION_TO_REJECT"),
];
const NO_CEREMONY: Refused = &[
    (400, "CHALLENGE_NOT_FOUND"),
    (401, "PASSKEY_VERIFICATION_FAILED"),
];
const WAITING: Refused = &[(200, "twoFactorRedirect")];
const NO_STATE: Refused = &[(302, "error=state_mismatch")];

/// All of them.
#[rustfmt::skip]
pub const CONSUMERS: &[Consumer] = &[
    row("GET /api/auth/get-session by cookie", &[SESSION], NO_SESSION, |w, h| {
        get(w, "/api/auth/get-session").header("cookie", cookie(w, "session_token", &h.token))
    }),
    row("GET /api/auth/get-session by a cookie as it is", &[SIGNED], NO_SESSION, |w, h| {
        get(w, "/api/auth/get-session").header("cookie", format!("mana.session_token={}", h.token))
    }),
    row("GET /api/auth/get-session by bearer", &[SESSION, SIGNED], NO_SESSION, |w, h| {
        get(w, "/api/auth/get-session").bearer_auth(&h.token)
    }),
    row("GET /api/auth/token by cookie", &[SESSION], &[(401, "UNAUTHORIZED")], |w, h| {
        get(w, "/api/auth/token").header("cookie", cookie(w, "session_token", &h.token))
    }),
    row("GET /api/v1/auth/sessions by bearer", &[SESSION, SIGNED, ACCESS], &[(401, "UNAUTHORIZED")], |w, h| {
        get(w, "/api/v1/auth/sessions").bearer_auth(&h.token)
    }),
    row("GET /api/v1/api-keys by bearer", &[ACCESS], &[(401, "")], |w, h| {
        get(w, "/api/v1/api-keys").bearer_auth(&h.token)
    }),
    row("POST /api/v1/auth/validate", &[ACCESS], &[(401, "\"valid\":false")], |w, h| {
        post(w, "/api/v1/auth/validate", json!({"token": h.token}))
    }),
    row("POST /api/v1/auth/refresh", &[SESSION], &[(401, "TOKEN_INVALID")], |w, h| {
        post(w, "/api/v1/auth/refresh", json!({"refreshToken": h.token}))
    }),
    row("POST /api/auth/sign-out by bearer", &[SESSION_ENDS, SIGNED_ENDS], OUT, |w, h| {
        post(w, "/api/auth/sign-out", json!({})).bearer_auth(&h.token)
    }),
    row("POST /api/v1/auth/logout", &[SESSION_ENDS], OUT, |w, h| {
        post(w, "/api/v1/auth/logout", json!({"refreshToken": h.token}))
    }),
    row("POST /api/v1/auth/logout by bearer", &[SESSION_ENDS, SIGNED_ENDS, ("access token", ENDED)], OUT, |w, h| {
        post(w, "/api/v1/auth/logout", json!({})).bearer_auth(&h.token)
    }),
    // Unknown ones are not told from those of others.
    row("POST /api/auth/revoke-session", &[SESSION_ENDS, ("handle of a session", ENDED)], &[(200, "status")], |w, h| {
        own(w, h, "/api/auth/revoke-session", json!({"token": h.token}))
    }),
    row("DELETE /api/v1/auth/sessions/{id}", &[ID_ENDS], &[(404, "NOT_FOUND")], |w, h| {
        let request = w.app().request("DELETE", &format!("/api/v1/auth/sessions/{}", h.token));
        request.header("cookie", &h.person.session.cookie).header("origin", ORIGIN)
    }),
    row("POST /api/auth/admin/revoke-user-session", &[SESSION_ENDS, ID_ENDS], OUT, |w, h| {
        let path = "/api/auth/admin/revoke-user-session";
        post(w, path, json!({"sessionToken": h.token})).header("cookie", &w.root.cookie)
    }),
    row("POST /api/auth/multi-session/set-active", &[SESSION], &[(401, "INVALID_SESSION_TOKEN")], |w, h| {
        on_device(w, h, "/api/auth/multi-session/set-active")
    }),
    // What is over already ends without more.
    row("POST /api/auth/multi-session/revoke", &[SESSION_ENDS], &[(200, "status")], |w, h| {
        on_device(w, h, "/api/auth/multi-session/revoke")
    }),
    row("POST /api/auth/two-factor/verify-totp by cookie", &[("challenge", STARTED)], NO_CHALLENGE, |w, h| {
        waiting(w, &h.token, "verify-totp", &h.person.code(w.app()))
    }),
    row("POST /api/auth/two-factor/verify-otp by cookie", &[("challenge", STARTED)], NO_CHALLENGE, |w, h| {
        waiting(w, &h.token, "verify-otp", &h.mailed_code)
    }),
    row("POST /api/auth/two-factor/verify-backup-code by cookie", &[("challenge", STARTED)], NO_CHALLENGE, |w, h| {
        waiting(w, &h.token, "verify-backup-code", &h.person.codes[2])
    }),
    row("POST /api/auth/two-factor/send-otp by cookie", &[("challenge", "")], NO_CHALLENGE, |w, h| {
        waiting(w, &h.token, "send-otp", "")
    }),
    row("POST /api/auth/two-factor/verify-totp", &[("code of an app", STARTED)], &[(401, "INVALID_CODE")], |w, h| {
        waiting(w, &h.challenge, "verify-totp", &h.token)
    }),
    row("POST /api/auth/two-factor/verify-otp", &[("mailed code", STARTED)], &[(401, "INVALID_CODE")], |w, h| {
        waiting(w, &h.challenge, "verify-otp", &h.token)
    }),
    row("POST /api/auth/two-factor/verify-backup-code",
        &[("backup code", STARTED)], &[(401, "INVALID_BACKUP_CODE")],
        |w, h| {
            waiting(w, &h.challenge, "verify-backup-code", &h.token)
        }),
    writing("POST /api/auth/sign-in/email by the device's cookie", &[("trusted device", STARTED)], WAITING, |w, h| {
        signing_in(w, h, "/api/auth/sign-in/email")
    }),
    writing("POST /api/v1/auth/login by the device's cookie", &[("trusted device", STARTED)], WAITING, |w, h| {
        signing_in(w, h, "/api/v1/auth/login")
    }),
    row("GET /api/auth/magic-link/verify", &[("magic link", STARTED)], &[(302, "error=INVALID_TOKEN")], |w, h| {
        get(w, "/api/auth/magic-link/verify").query(&[("token", &h.token)])
    }),
    row("POST /api/auth/reset-password", &[("reset", "user.password_set")], NO_RESET, |w, h| {
        post(w, "/api/auth/reset-password", json!({"token": h.token, "newPassword": NEW}))
    }),
    row("POST /api/v1/auth/reset-password", &[("reset", "user.password_set")], NO_RESET, |w, h| {
        post(w, "/api/v1/auth/reset-password", json!({"token": h.token, "newPassword": NEW}))
    }),
    // Leads on to the page for a new password.
    row("GET /api/auth/reset-password/{token}", &[("reset", "")], &[(302, "error=INVALID_TOKEN")], |w, h| {
        get(w, &format!("/api/auth/reset-password/{}", h.token)).query(&[("callbackURL", "/new")])
    }),
    // The old address agrees, and the next mail goes to the new one.
    row("GET /api/auth/verify-email", &[
        ("verification", "user.email_verified"), ("consent", "user.email_change_confirmed"),
        ("new address", "user.email_changed"),
    ], &[(401, "INVALID_TOKEN")], |w, h| {
        get(w, "/api/auth/verify-email").query(&[("token", &h.token)])
    }),
    row("POST /api/auth/delete-user", &[("deletion", "user.erasure_requested")], &[(404, "INVALID_TOKEN")], |w, h| {
        own(w, h, "/api/auth/delete-user", json!({"token": h.token}))
    }),
    row("GET /api/auth/delete-user/callback",
        &[("deletion", "user.erasure_requested")], &[(404, "INVALID_TOKEN")],
        |w, h| {
            own_get(w, h, "/api/auth/delete-user/callback", "token")
        }),
    row("POST /api/v1/auth/end-sessions",
        &[("end of sessions", "user.sessions_ended")], &[(400, "Invalid link")],
        |w, h| {
            post(w, "/api/v1/auth/end-sessions", json!({"token": h.token}))
        }),
    row("POST /api/v1/auth/revert-email",
        &[("old address", "user.email_change_reverted")], &[(400, "Invalid link")],
        |w, h| {
            post(w, "/api/v1/auth/revert-email", json!({"token": h.token}))
        }),
    row("GET /api/auth/organization/get-invitation", &[("invitation", "")], NO_INVITATION, |w, h| {
        own_get(w, h, "/api/auth/organization/get-invitation", "id")
    }),
    row("POST /api/auth/organization/accept-invitation",
        &[("invitation", "organization.invitation_accepted")], NO_INVITATION,
        |w, h| {
            own(w, h, "/api/auth/organization/accept-invitation", json!({"invitationId": h.token}))
        }),
    row("POST /api/auth/organization/reject-invitation",
        &[("invitation", "organization.invitation_rejected")], NO_INVITATION,
        |w, h| {
            own(w, h, "/api/auth/organization/reject-invitation", json!({"invitationId": h.token}))
        }),
    row("POST /api/v1/api-keys/validate", &[("API key", "")], &[(200, "\"valid\":false")], |w, h| {
        post(w, "/api/v1/api-keys/validate", json!({"apiKey": h.token}))
    }),
    row("POST /api/auth/passkey/verify-registration", &[("new passkey", "user.passkey_added")], NO_CEREMONY, |w, h| {
        adding(w, h, "/api/auth/passkey/verify-registration")
    }),
    row("POST /api/v1/auth/passkeys/register/verify", &[("new passkey", "user.passkey_added")], NO_CEREMONY, |w, h| {
        adding(w, h, "/api/v1/auth/passkeys/register/verify")
    }),
    row("POST /api/auth/passkey/verify-authentication", &[("passkey sign-in", STARTED)], NO_CEREMONY, |w, h| {
        by_passkey(w, h, "/api/auth/passkey/verify-authentication")
    }),
    row("POST /api/v1/auth/passkeys/authenticate/verify", &[("passkey sign-in", STARTED)], NO_CEREMONY, |w, h| {
        by_passkey(w, h, "/api/v1/auth/passkeys/authenticate/verify")
    }),
    row("GET /api/auth/callback/{provider}", &[("state", STARTED)], NO_STATE, |w, h| {
        coming_back(w, h, &h.token)
    }),
    row("GET /api/auth/callback/{provider} by cookie", &[("state", STARTED)], NO_STATE, |w, h| {
        coming_back(w, h, &h.begun.state)
    }),
    // Whoever has lost the way back is nobody afterwards.
    writing("POST /api/auth/admin/stop-impersonating by cookie",
        &[("way back of an admin", ENDED)], &[(401, "")],
        |w, h| {
            let cookies = [h.acting.session_cookie(), cookie(w, "admin_session", &h.token)];
            post(w, "/api/auth/admin/stop-impersonating", json!({})).header("cookie", cookies.join("; "))
        }),
    // Another request than the one that the key was given for, or one that comes too late.
    row("POST /api/auth/sign-up/email by idempotency-key", &[("idempotency key", "")], &[(400, ""), (422, "")], |w, h| {
        sign_up(w, &h.email, &h.token)
    }),
];

/// One of our cookies. It is signed, as if the service had given it out: that alone makes it good nowhere.
fn cookie(world: &World, key: &str, value: &str) -> String {
    format!(
        "mana.{key}={}",
        encode(&world.app().app.cookies.sign(value))
    )
}

fn get(world: &World, path: &str) -> RequestBuilder {
    world.app().request("GET", path)
}

fn post(world: &World, path: &str, body: Value) -> RequestBuilder {
    let request = world.app().request("POST", path).json(&body);
    request.header("origin", ORIGIN)
}

/// In the session of the person.
fn own(world: &World, held: &Held, path: &str, body: Value) -> RequestBuilder {
    post(world, path, body).header("cookie", &held.person.session.cookie)
}

fn own_get(world: &World, held: &Held, path: &str, field: &str) -> RequestBuilder {
    let request = get(world, path).query(&[(field, &held.token)]);
    request.header("cookie", &held.person.session.cookie)
}

/// On a device that has the session among those to choose from.
fn on_device(world: &World, held: &Held, path: &str) -> RequestBuilder {
    let key = format!("session_token_multi-{}", held.token.to_lowercase());
    let request = post(world, path, json!({"sessionToken": held.token}));
    request.header("cookie", cookie(world, &key, &held.token))
}

/// Shows a code in a sign-in that waits.
fn waiting(world: &World, challenge: &str, what: &str, code: &str) -> RequestBuilder {
    let path = format!("/api/auth/two-factor/{what}");
    let request = post(world, &path, json!({"code": code}));
    request.header("cookie", cookie(world, "two_factor", challenge))
}

/// Shows the password on a device that may be trusted.
fn signing_in(world: &World, held: &Held, path: &str) -> RequestBuilder {
    let body = json!({"email": held.email, "password": held.password});
    post(world, path, body).header("cookie", cookie(world, "trust_device", &held.token))
}

fn adding(world: &World, held: &Held, path: &str) -> RequestBuilder {
    let response = Authenticator::new().create(&held.options);
    let ceremony = cookie(world, "better-auth-passkey", &held.token);
    let cookies = [held.person.session.cookie.clone(), ceremony];
    post(world, path, json!({"response": response})).header("cookie", cookies.join("; "))
}

fn by_passkey(world: &World, held: &Held, path: &str) -> RequestBuilder {
    let response = held.passkey.get(&held.options);
    let request = post(world, path, json!({"response": response}));
    request.header("cookie", cookie(world, "better-auth-passkey", &held.token))
}

/// Comes back from a provider in a browser that has the token in its cookie.
fn coming_back(world: &World, held: &Held, state: &str) -> RequestBuilder {
    let query = [("state", state), ("code", &held.code)];
    let request = get(world, "/api/auth/callback/plain").query(&query);
    request.header("cookie", cookie(world, "state", &held.token))
}
