//! Every door that checks something which could be guessed, and how it is tried: a door without a recipe fails here.

#![cfg(test)]

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use chrono::TimeDelta;
use mana_auth::guard::{ACCOUNT_LIMIT, NETWORK_LIMIT, PASSKEY_LIMIT};
use mana_auth::http::doors::{Checks, areas};
use reqwest::RequestBuilder;
use serde_json::json;

use crate::client::{Answer, ORIGIN, PASSWORD, Session, answer};
use crate::harness::TestApp;
use crate::limits::LIMITED;

/// A long time for limits of requests, a short one for budgets of tries.
const A_MINUTE: TimeDelta = TimeDelta::minutes(1);

/// How a door is tried.
pub struct Recipe {
    pub method: &'static str,
    /// As the table of doors has it, with its area's prefix.
    pub path: &'static str,
    pub checks: Checks,
    /// Tries it with a secret, for the account of `<name>@example.com` and a session of it.
    pub send: fn(&TestApp, &str, &Session, &str) -> RequestBuilder,
    /// Status of the answer to a wrong secret, and what stands in its body or location.
    pub wrong: (u16, &'static str),
}

fn with_cookie(request: RequestBuilder, session: &Session) -> RequestBuilder {
    request
        .header("cookie", &session.cookie)
        .header("origin", ORIGIN)
}

fn credentials(app: &TestApp, path: &str, name: &str, password: &str) -> RequestBuilder {
    let email = format!("{name}@example.com");
    app.request("POST", path)
        .json(&json!({"email": email, "password": password}))
}

const MAGIC_LINK: &str = "/api/auth/magic-link/verify";

fn with_password(app: &TestApp, what: &str, session: &Session, password: &str) -> RequestBuilder {
    let request = app.request("POST", &format!("/api/auth/two-factor/{what}"));
    with_cookie(request.json(&json!({"password": password})), session)
}

fn with_code(app: &TestApp, what: &str, session: &Session, code: &str) -> RequestBuilder {
    let request = app.request("POST", &format!("/api/auth/two-factor/{what}"));
    with_cookie(request.json(&json!({"code": code})), session)
}

const fn two_factor(
    path: &'static str,
    send: fn(&TestApp, &str, &Session, &str) -> RequestBuilder,
) -> Recipe {
    Recipe {
        method: "POST",
        path,
        checks: Checks::Password,
        send,
        wrong: (400, "INVALID_PASSWORD"),
    }
}

/// One for each door that checks something.
pub const RECIPES: [Recipe; 24] = [
    Recipe {
        method: "POST",
        path: "/api/auth/passkey/verify-authentication",
        checks: Checks::Passkey,
        send: |app, _, _, secret| {
            let request = app.request("POST", "/api/auth/passkey/verify-authentication");
            request.json(&json!({"response": {"id": secret}}))
        },
        wrong: (400, "CHALLENGE_NOT_FOUND"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/passkeys/authenticate/verify",
        checks: Checks::Passkey,
        send: |app, _, _, secret| {
            let request = app.request("POST", "/api/v1/auth/passkeys/authenticate/verify");
            request.json(&json!({"id": secret}))
        },
        wrong: (401, "PASSKEY_VERIFICATION_FAILED"),
    },
    two_factor("/api/auth/two-factor/enable", |app, _, session, secret| {
        with_password(app, "enable", session, secret)
    }),
    two_factor("/api/auth/two-factor/disable", |app, _, session, secret| {
        with_password(app, "disable", session, secret)
    }),
    two_factor(
        "/api/auth/two-factor/get-totp-uri",
        |app, _, session, secret| with_password(app, "get-totp-uri", session, secret),
    ),
    two_factor(
        "/api/auth/two-factor/generate-backup-codes",
        |app, _, session, secret| with_password(app, "generate-backup-codes", session, secret),
    ),
    Recipe {
        method: "POST",
        path: "/api/auth/two-factor/verify-totp",
        checks: Checks::SecondFactor,
        send: |app, _, session, secret| with_code(app, "verify-totp", session, secret),
        wrong: (401, "INVALID_CODE"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/two-factor/verify-otp",
        checks: Checks::SecondFactor,
        send: |app, _, session, secret| with_code(app, "verify-otp", session, secret),
        wrong: (401, "INVALID_CODE"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/two-factor/verify-backup-code",
        checks: Checks::SecondFactor,
        send: |app, _, session, secret| with_code(app, "verify-backup-code", session, secret),
        wrong: (401, "INVALID_BACKUP_CODE"),
    },
    Recipe {
        method: "GET",
        path: MAGIC_LINK,
        checks: Checks::MailedToken,
        send: |app, _, _, secret| app.request("GET", MAGIC_LINK).query(&[("token", secret)]),
        wrong: (302, "error=INVALID_TOKEN"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/sign-in/email",
        checks: Checks::Password,
        send: |app, name, _, secret| credentials(app, "/api/auth/sign-in/email", name, secret),
        wrong: (401, "INVALID_EMAIL_OR_PASSWORD"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/login",
        checks: Checks::Password,
        send: |app, name, _, secret| credentials(app, "/api/v1/auth/login", name, secret),
        wrong: (401, "INVALID_CREDENTIALS"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/change-password",
        checks: Checks::Password,
        send: |app, _, session, secret| {
            let body = json!({"currentPassword": secret, "newPassword": "another good password"});
            let request = app.request("POST", "/api/auth/change-password");
            with_cookie(request.json(&body), session)
        },
        wrong: (400, "INVALID_PASSWORD"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/change-password",
        checks: Checks::Password,
        send: |app, _, session, secret| {
            let body = json!({"currentPassword": secret, "newPassword": "another good password"});
            let request = app.request("POST", "/api/v1/auth/change-password");
            with_cookie(request.json(&body), session)
        },
        wrong: (401, "INVALID_CREDENTIALS"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/verify-password",
        checks: Checks::Password,
        send: |app, _, session, secret| {
            let request = app.request("POST", "/api/auth/verify-password");
            with_cookie(request.json(&json!({"password": secret})), session)
        },
        wrong: (400, "INVALID_PASSWORD"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/delete-user",
        checks: Checks::Password,
        send: |app, _, session, secret| {
            let request = app.request("POST", "/api/auth/delete-user");
            with_cookie(request.json(&json!({"password": secret})), session)
        },
        wrong: (400, "INVALID_PASSWORD"),
    },
    Recipe {
        method: "DELETE",
        path: "/api/v1/auth/account",
        checks: Checks::Password,
        send: |app, _, session, secret| {
            let request = app.request("DELETE", "/api/v1/auth/account");
            with_cookie(request.json(&json!({"password": secret})), session)
        },
        wrong: (401, "INVALID_CREDENTIALS"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/me/encryption-vault/recovery-wrap/restore",
        checks: Checks::Password,
        send: |app, _, session, secret| {
            let path = "/api/v1/me/encryption-vault/recovery-wrap/restore";
            let request = app.request("POST", path);
            with_cookie(request.json(&json!({"password": secret})), session)
        },
        wrong: (401, "INVALID_CREDENTIALS"),
    },
    Recipe {
        method: "POST",
        path: "/api/auth/reset-password",
        checks: Checks::MailedToken,
        send: |app, _, _, secret| {
            let body = json!({"token": secret, "newPassword": "another good password"});
            app.request("POST", "/api/auth/reset-password").json(&body)
        },
        wrong: (400, "INVALID_TOKEN"),
    },
    Recipe {
        method: "GET",
        path: "/api/auth/reset-password/{token}",
        checks: Checks::MailedToken,
        send: |app, _, _, secret| {
            let path = format!("/api/auth/reset-password/{secret}");
            app.request("GET", &path).query(&[("callbackURL", "/new")])
        },
        wrong: (302, "error=INVALID_TOKEN"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/reset-password",
        checks: Checks::MailedToken,
        send: |app, _, _, secret| {
            let body = json!({"token": secret, "newPassword": "another good password"});
            app.request("POST", "/api/v1/auth/reset-password")
                .json(&body)
        },
        wrong: (400, "TOKEN_INVALID"),
    },
    Recipe {
        method: "GET",
        path: "/api/auth/delete-user/callback",
        checks: Checks::MailedToken,
        send: |app, _, session, secret| {
            let request = app.request("GET", "/api/auth/delete-user/callback");
            with_cookie(request.query(&[("token", secret)]), session)
        },
        wrong: (404, "INVALID_TOKEN"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/end-sessions",
        checks: Checks::MailedToken,
        send: |app, _, _, secret| {
            let request = app.request("POST", "/api/v1/auth/end-sessions");
            request.form(&[("token", secret)])
        },
        wrong: (400, "Invalid link"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/revert-email",
        checks: Checks::MailedToken,
        send: |app, _, _, secret| {
            let request = app.request("POST", "/api/v1/auth/revert-email");
            request.form(&[("token", secret)])
        },
        wrong: (400, "Invalid link"),
    },
];

/// Those that check passwords.
pub fn password_doors() -> impl Iterator<Item = &'static Recipe> {
    let checks = |recipe: &&Recipe| recipe.checks == Checks::Password;
    RECIPES.iter().filter(checks)
}

/// An address of a client, each in a /24 of its own: neither a network nor a device of anybody else.
pub fn address(number: u32) -> String {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(100, 64, 0, 0)) + 256 * number).to_string()
}

impl Recipe {
    /// Tries the door from an address, as a browser that asks for English.
    pub async fn attempt(
        &self,
        app: &TestApp,
        name: &str,
        session: &Session,
        secret: &str,
        from: &str,
    ) -> Answer {
        let request = (self.send)(app, name, session, secret)
            .header("x-forwarded-for", from)
            .header("accept-language", "en");
        answer(request).await
    }

    /// Fails unless the answer is the one to a wrong secret.
    pub fn assert_wrong(&self, answer: &Answer) {
        let said = format!("{} {}", answer.text, answer.header("location"));
        let found = (answer.status, said.contains(self.wrong.1));
        assert_eq!(found, (self.wrong.0, true), "{}: {said}", self.path);
    }
}

/// S-10: what checks something is in the table, and what is in the table can be tried.
#[test]
fn every_door_that_checks_something_has_a_recipe_s10() {
    let mut doors = BTreeSet::new();
    for (prefix, of_area) in areas() {
        for door in of_area {
            if door.checks != Checks::Nothing {
                let path = format!("{prefix}{}", door.path);
                doors.insert(format!("{} {path} {:?}", door.method, door.checks));
            }
        }
    }
    let recipes: BTreeSet<String> = RECIPES
        .iter()
        .map(|recipe| format!("{} {} {:?}", recipe.method, recipe.path, recipe.checks))
        .collect();
    assert_eq!(doors, recipes);
}

/// S-10: whichever door it is, the guard has an end of it, before any password or token is looked at.
#[tokio::test]
async fn every_door_that_checks_a_password_is_behind_the_budget_of_the_account_s10() {
    let app = TestApp::start(&LIMITED).await;
    let mut from = (0..).map(address);
    for (number, recipe) in password_doors().enumerate() {
        let name = format!("p{number}");
        let session = app.signed_in(&name).await;
        for _ in 0..ACCOUNT_LIMIT {
            let wrong = recipe
                .attempt(&app, &name, &session, "wrong", &from.next().unwrap())
                .await;
            recipe.assert_wrong(&wrong);
        }
        for secret in ["wrong", PASSWORD] {
            let locked = recipe
                .attempt(&app, &name, &session, secret, &from.next().unwrap())
                .await;
            let wanted = (429, "ACCOUNT_LOCKED".to_owned());
            assert_eq!(locked.refusal(), wanted, "{}", recipe.path);
        }
        app.clock.advance(A_MINUTE);
    }
}

/// S-10: ten wrong answers with one passkey in a minute, from wherever, and it is not looked at for five minutes.
#[tokio::test]
async fn every_door_that_checks_a_passkey_is_behind_the_budget_of_the_passkey_s10() {
    let app = TestApp::start(&LIMITED).await;
    let session = app.signed_in("ada").await;
    let mut from = (0..).map(address);
    let recipes = RECIPES
        .iter()
        .filter(|recipe| recipe.checks == Checks::Passkey);
    for recipe in recipes {
        let mut attempt = async |id: &str| {
            let from = from.next().unwrap();
            recipe.attempt(&app, "ada", &session, id, &from).await
        };
        for _ in 0..PASSKEY_LIMIT {
            recipe.assert_wrong(&attempt("some-passkey").await);
        }
        let refused = attempt("some-passkey").await;
        assert_eq!(refused.status, 429, "{}: {}", recipe.path, refused.text);
        assert_eq!(refused.header("retry-after"), "300");
        recipe.assert_wrong(&attempt("another-passkey").await);
        app.clock.advance(TimeDelta::minutes(5));
        recipe.assert_wrong(&attempt("some-passkey").await);
        app.clock.advance(TimeDelta::minutes(5));
    }
}

/// S-10: tokens name nobody, so what is counted is where they come from.
#[tokio::test]
async fn every_door_that_checks_a_mailed_token_is_behind_the_budget_of_the_network_s10() {
    let app = TestApp::start(&LIMITED).await;
    let session = app.signed_in("ada").await;
    for (number, recipe) in RECIPES.iter().enumerate() {
        if recipe.checks != Checks::MailedToken {
            continue;
        }
        let from = address(u32::try_from(number).unwrap());
        // Where the limit of requests alone keeps the budget from running out, another door empties it.
        let emptied_by = RECIPES
            .iter()
            .filter(|other| other.checks == Checks::MailedToken && other.path != MAGIC_LINK)
            .find(|other| recipe.path == MAGIC_LINK || other.path == recipe.path)
            .unwrap();
        for tried in 0..NETWORK_LIMIT {
            if tried % 20 == 0 {
                // As many as the limit of requests lets through.
                app.clock.advance(A_MINUTE);
            }
            let wrong = emptied_by
                .attempt(&app, "ada", &session, "no-such-token", &from)
                .await;
            emptied_by.assert_wrong(&wrong);
        }
        app.clock.advance(A_MINUTE);
        let refused = recipe
            .attempt(&app, "ada", &session, "no-such-token", &from)
            .await;
        assert_eq!(refused.status, 429, "{}: {}", recipe.path, refused.text);
        let wait: i64 = refused.header("retry-after").parse().unwrap();
        assert!(wait > 20 * 60, "{wait}: not by the limit of requests");
        let elsewhere = recipe
            .attempt(&app, "ada", &session, "no-such-token", &address(9000))
            .await;
        recipe.assert_wrong(&elsewhere);
    }
}

/// S-10: a deletion that shows a token instead of the password is one more way to guess at tokens.
#[tokio::test]
async fn a_token_at_a_door_for_passwords_counts_like_at_its_own_s10() {
    let app = TestApp::start(&LIMITED).await;
    let session = app.signed_in("ada").await;
    for tried in 0..NETWORK_LIMIT {
        if tried % 3 == 0 {
            app.clock.advance(TimeDelta::seconds(10));
        }
        let refused = delete_by_token(&app, &session).await;
        assert_eq!(refused.refusal(), (404, "INVALID_TOKEN".to_owned()));
    }
    app.clock.advance(TimeDelta::seconds(10));
    let refused = delete_by_token(&app, &session).await;
    assert_eq!(refused.status, 429);
    assert!(refused.header("retry-after").parse::<i64>().unwrap() > 20 * 60);
}

async fn delete_by_token(app: &TestApp, session: &Session) -> Answer {
    let request = app.request("POST", "/api/auth/delete-user");
    let request = with_cookie(request.json(&json!({"token": "no-such-token"})), session);
    answer(request.header("x-forwarded-for", address(0))).await
}
