//! Every kind of token at every door that takes one (S-28): what it was made for works, everything else is refused in
//! the door's own words, changes nothing, and leaves the token as good as it was.

#![cfg(test)]

use std::collections::BTreeMap;

use mana_auth::http::doors::Checks;
use serde_json::json;

use crate::client::{ORIGIN, answer};
use crate::doors::{RECIPES, Recipe};
use crate::harness::TestApp;
use crate::mailed::{KINDS, Kind, Mailed, SETTINGS};

/// Doors that take a token beside those that are behind a budget of tries, and what they say to one that is not good.
const OTHERS: [Recipe; 8] = [
    Recipe {
        method: "POST",
        path: "/api/auth/delete-user",
        checks: Checks::MailedToken,
        send: |app, _, session, token| {
            let request = app.request("POST", "/api/auth/delete-user");
            let request = request.header("cookie", &session.cookie);
            let body = json!({"token": token});
            request.header("origin", ORIGIN).json(&body)
        },
        wrong: (404, "INVALID_TOKEN"),
    },
    Recipe {
        method: "GET",
        path: "/api/auth/verify-email",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            let request = app.request("GET", "/api/auth/verify-email");
            request.query(&[("token", token)])
        },
        wrong: (401, "INVALID_TOKEN"),
    },
    Recipe {
        method: "GET",
        path: "get-session by cookie",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            let cookie = format!("mana.session_token={token}");
            let request = app.request("GET", "/api/auth/get-session");
            request.header("cookie", cookie)
        },
        wrong: (200, "null"),
    },
    Recipe {
        method: "GET",
        path: "get-session by bearer",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            app.request("GET", "/api/auth/get-session")
                .bearer_auth(token)
        },
        wrong: (200, "null"),
    },
    Recipe {
        method: "GET",
        path: "/api/v1/auth/sessions",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            let request = app.request("GET", "/api/v1/auth/sessions");
            request.bearer_auth(token)
        },
        wrong: (401, "UNAUTHORIZED"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/refresh",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            let request = app.request("POST", "/api/v1/auth/refresh");
            request.json(&json!({"refreshToken": token}))
        },
        wrong: (401, "TOKEN_INVALID"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/validate",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            let request = app.request("POST", "/api/v1/auth/validate");
            request.json(&json!({"token": token}))
        },
        wrong: (401, "\"valid\":false"),
    },
    Recipe {
        method: "POST",
        path: "/api/v1/auth/logout",
        checks: Checks::Nothing,
        send: |app, _, _, token| {
            let request = app.request("POST", "/api/v1/auth/logout");
            request.json(&json!({"refreshToken": token}))
        },
        // Whoever wants out is told that they are, whatever they show.
        wrong: (200, "success"),
    },
];

/// Doors that take a token of a kind.
fn doors_of(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Verification | Kind::Consent | Kind::NewEmail => &["/api/auth/verify-email"],
        Kind::Reset => &[
            "/api/auth/reset-password",
            "/api/auth/reset-password/{token}",
            "/api/v1/auth/reset-password",
        ],
        Kind::Deletion => &["/api/auth/delete-user", "/api/auth/delete-user/callback"],
        Kind::WayBack => &["/api/v1/auth/revert-email"],
        Kind::EndSessions => &["/api/v1/auth/end-sessions"],
    }
}

const DOORS_OF_SESSION_TOKENS: [&str; 4] = [
    "get-session by bearer",
    "/api/v1/auth/sessions",
    "/api/v1/auth/refresh",
    "/api/v1/auth/logout",
];
const DOORS_OF_ACCESS_TOKENS: [&str; 2] = ["/api/v1/auth/sessions", "/api/v1/auth/validate"];

fn doors() -> impl Iterator<Item = &'static Recipe> {
    let mailed = RECIPES.iter();
    let mailed = mailed.filter(|recipe| recipe.checks == Checks::MailedToken);
    mailed.chain(&OTHERS)
}

/// Everything but the books of the doors: that somebody tried is what they are for.
async fn state(app: &TestApp) -> BTreeMap<String, String> {
    app.effects_done().await;
    let mut state = app.state().await;
    state.retain(|table, _| !["public.attempts", "public.door_events"].contains(&table.as_str()));
    state
}

/// Sends a token to all doors but its own, by the session of the person it is about.
async fn refused_elsewhere(app: &TestApp, mailed: &Mailed, token: &str, own: &[&str]) {
    let before = state(app).await;
    for recipe in doors().filter(|recipe| !own.contains(&recipe.path)) {
        let refused = recipe
            .attempt(app, "nobody", &mailed.session, token, "")
            .await;
        recipe.assert_wrong(&refused);
        assert_eq!(refused.session_cookie(), "", "{}", recipe.path);
        assert_eq!(
            state(app).await,
            before,
            "{} {}",
            recipe.method,
            recipe.path
        );
    }
}

#[tokio::test]
async fn a_mailed_token_is_taken_at_its_own_doors_only_s28() {
    let app = TestApp::start(&SETTINGS).await;
    for kind in KINDS {
        let own = doors_of(kind);
        for (number, path) in own.iter().enumerate() {
            let name = format!("{kind:?}{number}").to_lowercase();
            let mailed = kind.mail(&app, &name).await;
            refused_elsewhere(&app, &mailed, &mailed.token, own).await;
            let before = mailed.done(&app).await;
            let recipe = doors().find(|recipe| recipe.path == *path).unwrap();
            let taken = recipe
                .attempt(&app, &name, &mailed.session, &mailed.token, "")
                .await;
            assert!(
                [200, 302].contains(&taken.status) && !taken.header("location").contains("error"),
                "{kind:?} at {path}: {} {}",
                taken.status,
                taken.text
            );
            // A consent and the link to the page for a new password lead on, and change nothing yet.
            let leads_on = kind == Kind::Consent || path.ends_with("{token}");
            let done = mailed.done(&app).await - before;
            assert_eq!(done, i64::from(!leads_on), "{kind:?} at {path}");
        }
    }
}

#[tokio::test]
async fn a_token_of_a_session_is_taken_at_no_door_for_mailed_ones_s28() {
    let app = TestApp::start(&SETTINGS).await;
    let mailed = Kind::Verification.mail(&app, "ada").await;
    let token = mailed.session.token.clone();
    refused_elsewhere(&app, &mailed, &token, &DOORS_OF_SESSION_TOKENS).await;
    let jwt = app.jwt(&mailed.session.cookie).await;
    refused_elsewhere(&app, &mailed, &jwt, &DOORS_OF_ACCESS_TOKENS).await;
    for (doors_of_kind, token) in [
        (&DOORS_OF_ACCESS_TOKENS[..], &jwt),
        (&DOORS_OF_SESSION_TOKENS[..], &token),
    ] {
        for recipe in doors().filter(|recipe| doors_of_kind.contains(&recipe.path)) {
            let request = (recipe.send)(&app, "ada", &mailed.session, token);
            let taken = answer(request).await;
            assert!(
                taken.status == 200 && taken.text != "null",
                "{}: {}",
                recipe.path,
                taken.text
            );
        }
    }
    assert!(!app.is_live(&mailed.session.cookie).await, "signed out");
}
