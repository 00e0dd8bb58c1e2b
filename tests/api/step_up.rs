//! Step-up: who has to show once more who they are, by what, and for how long that counts (S-60).

#![cfg(test)]

use std::collections::BTreeSet;

use chrono::TimeDelta;
use mana_auth::http::doors::{Door, areas};
use serde_json::{Value, json};

use crate::account::NEW;
use crate::admin::ADMINS;
use crate::authenticator::{Authenticator, PRESENT};
use crate::client::{
    Answer, ORIGIN, PASSWORD, Session, UNVERIFIED, answer, link_token, session_of,
};
use crate::harness::TestApp;
use crate::lockout::{HOME, ada_at_home, sign_in_with};
use crate::passkeys::{self, begin};
use crate::two_factor::Careful;
use crate::vault::VAULT;

const ON: (&str, &str) = ("MANA_AUTH_STEP_UP", "on");
/// A proof counts for so long.
const COUNTS_FOR: TimeDelta = TimeDelta::minutes(5);
const A_MOMENT: TimeDelta = TimeDelta::milliseconds(1);

/// A door, a request that changes nothing, and its status once the door is open.
pub struct Recipe(
    pub &'static str,
    pub &'static str,
    pub &'static str,
    pub u16,
);

const WRONG: &str = r#"{"password": "wrong"}"#;
const NO_ID: &str = r#"{"id": "x", "name": "x"}"#;
const NOBODY: &str = r#"{"userId": "x", "role": "user", "data": {"name": "x"}, "newPassword": "another good password",
    "sessionToken": "x", "reason": "x"}"#;
const WRONG_CHANGE: &str =
    r#"{"currentPassword": "wrong", "newPassword": "another good password"}"#;
const OWN_ADDRESS: &str = r#"{"newEmail": "root@example.com"}"#;

/// One for each door that asks for a step-up.
pub const RECIPES: [Recipe; 32] = [
    Recipe("POST", "/api/auth/change-email", OWN_ADDRESS, 400),
    Recipe("POST", "/api/auth/change-password", WRONG_CHANGE, 400),
    Recipe("POST", "/api/auth/delete-user", WRONG, 400),
    Recipe("POST", "/api/auth/two-factor/enable", WRONG, 400),
    Recipe("POST", "/api/auth/two-factor/disable", WRONG, 400),
    Recipe("POST", "/api/auth/two-factor/get-totp-uri", WRONG, 400),
    Recipe(
        "POST",
        "/api/auth/two-factor/generate-backup-codes",
        WRONG,
        400,
    ),
    Recipe(
        "GET",
        "/api/auth/passkey/generate-register-options",
        "{}",
        200,
    ),
    Recipe(
        "POST",
        "/api/auth/passkey/verify-registration",
        r#"{"response": {}}"#,
        400,
    ),
    Recipe("POST", "/api/auth/passkey/update-passkey", NO_ID, 404),
    Recipe("POST", "/api/auth/passkey/delete-passkey", NO_ID, 404),
    Recipe(
        "POST",
        "/api/auth/link-social",
        r#"{"provider": "none"}"#,
        404,
    ),
    Recipe(
        "POST",
        "/api/auth/unlink-account",
        r#"{"accountId": "x"}"#,
        400,
    ),
    Recipe(
        "POST",
        "/api/auth/admin/create-user",
        r#"{"email": "x", "name": "x"}"#,
        400,
    ),
    Recipe("POST", "/api/auth/admin/update-user", NOBODY, 404),
    Recipe("POST", "/api/auth/admin/remove-user", NOBODY, 404),
    Recipe("POST", "/api/auth/admin/set-role", NOBODY, 404),
    Recipe("POST", "/api/auth/admin/ban-user", NOBODY, 404),
    Recipe("POST", "/api/auth/admin/unban-user", NOBODY, 404),
    Recipe("POST", "/api/auth/admin/set-user-password", NOBODY, 404),
    Recipe("POST", "/api/auth/admin/revoke-user-session", NOBODY, 200),
    Recipe("POST", "/api/auth/admin/revoke-user-sessions", NOBODY, 200),
    Recipe("POST", "/api/auth/admin/impersonate-user", NOBODY, 404),
    Recipe("POST", "/api/v1/auth/change-password", WRONG_CHANGE, 401),
    Recipe("POST", "/api/v1/auth/change-email", OWN_ADDRESS, 400),
    Recipe("DELETE", "/api/v1/auth/account", WRONG, 401),
    Recipe("POST", "/api/v1/auth/passkeys/register/options", "{}", 200),
    Recipe(
        "POST",
        "/api/v1/auth/passkeys/register/verify",
        r#"{"response": {}}"#,
        400,
    ),
    Recipe("PATCH", "/api/v1/auth/passkeys/{id}", NO_ID, 404),
    Recipe("DELETE", "/api/v1/auth/passkeys/{id}", NO_ID, 404),
    Recipe("POST", "/api/v1/api-keys", r#"{"name": "x"}"#, 201),
    Recipe("DELETE", "/api/v1/api-keys/{id}", NO_ID, 404),
];

/// The same for vaults, whose refusals are written down.
const OF_VAULTS: [Recipe; 4] = [
    Recipe(
        "DELETE",
        "/api/v1/me/encryption-vault/recovery-wrap",
        "{}",
        404,
    ),
    Recipe(
        "POST",
        "/api/v1/me/encryption-vault/recovery-wrap",
        "{}",
        400,
    ),
    Recipe(
        "POST",
        "/api/v1/me/encryption-vault/zero-knowledge",
        "{}",
        400,
    ),
    Recipe("POST", "/api/v1/me/encryption-vault/rotate", "{}", 200),
];

impl Recipe {
    pub async fn send(&self, app: &TestApp, session: &Session) -> Answer {
        let Recipe(method, path, body, _) = *self;
        let body: Value = serde_json::from_str(body).unwrap();
        let request = app.request(method, &path.replace("{id}", "x"));
        let request = request.json(&body).header("origin", ORIGIN);
        answer(if path.starts_with("/api/v1/api-keys") {
            // These take access tokens alone.
            request.bearer_auth(app.jwt(&session.cookie).await)
        } else {
            request.header("cookie", &session.cookie)
        })
        .await
    }

    async fn passes(&self, app: &TestApp, session: &Session) {
        let answer = self.send(app, session).await;
        assert_eq!(answer.status, self.3, "{}: {}", self.1, answer.text);
        assert_ne!(answer.refusal().1, "STEP_UP_REQUIRED", "{}", self.1);
    }

    async fn asks(&self, app: &TestApp, session: &Session, methods: &[&str]) {
        let answer = self.send(app, session).await;
        let wanted = (403, "STEP_UP_REQUIRED".to_owned());
        assert_eq!(answer.refusal(), wanted, "{}: {}", self.1, answer.text);
        assert_eq!(answer.json()["methods"], json!(methods), "{}", self.1);
    }
}

/// A door that is good enough to see whether all are open.
const ANY: Recipe = Recipe("POST", "/api/auth/passkey/delete-passkey", NO_ID, 404);

async fn show_password(app: &TestApp, session: &Session) {
    let body = json!({"password": PASSWORD});
    let shown = app
        .post_as("/api/auth/verify-password", &session.cookie, &body)
        .await;
    assert_eq!(shown.json(), json!({"status": true}), "{}", shown.text);
}

async fn show_code(app: &TestApp, what: &str, session: &Session, code: &str) {
    let path = format!("/api/auth/two-factor/{what}");
    let shown = app
        .post_as(&path, &session.cookie, &json!({"code": code}))
        .await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!(shown.json()["token"], json!(session.token));
}

async fn factors_shown(app: &TestApp) -> i64 {
    app.count("events where event_type = 'session.factor_shown'")
        .await
}

/// S-60: what asks for a step-up is in the table, and what is in the table can be tried.
#[test]
fn every_door_that_asks_for_a_step_up_has_a_recipe_s60() {
    let areas = areas();
    let doors = areas.iter().flat_map(|(prefix, doors)| {
        let asking = doors.iter().filter(|door| door.step_up);
        asking.map(move |door| format!("{} {prefix}{}", door.method, door.path))
    });
    let recipes = RECIPES
        .iter()
        .chain(&OF_VAULTS)
        .map(|recipe| format!("{} {}", recipe.0, recipe.1));
    assert_eq!(
        doors.collect::<BTreeSet<_>>(),
        recipes.collect::<BTreeSet<_>>()
    );
}

/// S-60: each door is open for five minutes after a proof, then shut until the next one, on every node.
#[tokio::test]
async fn every_such_door_is_open_for_five_minutes_after_a_proof_s60() {
    let settings = [ON, ADMINS[0], ADMINS[1]];
    let app = TestApp::start(&settings).await;
    let node = app.node(&settings).await;
    let root = app.signed_in("root").await;
    app.clock.advance(COUNTS_FOR);
    for recipe in &RECIPES {
        recipe.passes(&app, &root).await;
        recipe.passes(&node, &root).await;
    }
    app.clock.advance(A_MOMENT);
    app.effects_done().await;
    let before = app.state().await;
    for recipe in &RECIPES {
        recipe.asks(&app, &root, &["password", "sign-in"]).await;
        recipe.asks(&node, &root, &["password", "sign-in"]).await;
    }
    assert_eq!(app.state().await, before);
    show_password(&app, &root).await;
    for recipe in &RECIPES {
        recipe.passes(&node, &root).await;
        recipe.passes(&app, &root).await;
    }
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    let fresh = app.sign_in("root").await;
    for recipe in &RECIPES {
        recipe.passes(&node, &fresh).await;
        recipe.asks(&app, &root, &["password", "sign-in"]).await;
    }
}

/// I-9: what another node has just ended, or now asks a second factor of, opens none of these doors.
#[tokio::test]
async fn a_session_is_looked_at_where_it_is_stored_s60() {
    let settings = [ON, ADMINS[0], ADMINS[1]];
    let app = TestApp::start(&settings).await;
    let node = app.node(&settings).await;
    for number in 0..10 {
        let session = app.signed_in(&format!("p{number}")).await;
        ANY.passes(&node, &session).await;
        app.post_as("/api/auth/sign-out", &session.cookie, &json!({}))
            .await;
        let refused = ANY.send(&node, &session).await;
        assert_eq!(refused.status, 401, "{}", refused.text);
    }
}

/// S-60, I-4: the key of a vault and what else opens it are changed after a proof only, and each refusal is in its log.
#[tokio::test]
async fn vaults_change_after_a_proof_only_and_refusals_are_written_down_s60() {
    let app = TestApp::start(&[ON, UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    for recipe in &OF_VAULTS {
        recipe.asks(&app, &ada, &["password", "sign-in"]).await;
    }
    let refused = "events where event_type = 'vault.refused' and payload::text like '%not_proven%'";
    assert_eq!(app.count(refused).await, 4);
    show_password(&app, &ada).await;
    for recipe in &OF_VAULTS {
        recipe.passes(&app, &ada).await;
    }
    assert_eq!(app.count(refused).await, 4);
}

/// S-60, I-4: on a device that their person has not signed in from, a session gets the key after a proof only.
#[tokio::test]
async fn an_unknown_device_gets_the_key_after_a_proof_only_s60() {
    const AWAY: (&str, &str) = ("198.51.100.7", "Another browser");
    let settings = [ON, UNVERIFIED, ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")];
    let app = TestApp::start(&settings).await;
    let node = app.node(&settings).await;
    ada_at_home(&app).await;
    let session = async |from| {
        let entered = sign_in_with(&app, "ada@example.com", PASSWORD, from).await;
        session_of(&entered)
    };
    let at_home = session(HOME).await;
    let give = async |app: &TestApp, session: &Session, what: &str, from: (&str, &str)| {
        let method = if what == "/key" { "GET" } else { "POST" };
        let request = app.request(method, &format!("{VAULT}{what}"));
        let request = request.header("cookie", &session.cookie);
        let request = request.header("origin", ORIGIN);
        let request = request.header("x-forwarded-for", from.0);
        let given = answer(request.header("user-agent", from.1)).await;
        match given.status {
            200 => "given",
            403 if given.refusal().1 == "STEP_UP_REQUIRED" => "asked",
            _ => panic!("{what}: {}", given.text),
        }
    };
    assert_eq!(give(&app, &at_home, "/init", HOME).await, "given");
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    for app in [&app, &node] {
        for what in ["/key", "/init"] {
            assert_eq!(give(app, &at_home, what, HOME).await, "given");
            assert_eq!(give(app, &at_home, what, AWAY).await, "asked");
            assert_eq!(give(app, &at_home, what, (AWAY.0, HOME.1)).await, "asked");
            assert_eq!(give(app, &at_home, what, (HOME.0, AWAY.1)).await, "asked");
        }
    }
    let refused = "events where event_type = 'vault.refused' and payload::text like '%not_proven%'";
    assert_eq!(app.count(refused).await, 12);
    show_password(&app, &at_home).await;
    assert_eq!(give(&node, &at_home, "/key", AWAY).await, "given");
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    assert_eq!(give(&node, &at_home, "/key", AWAY).await, "asked");
    // From then on it is one that they use.
    let away = session(AWAY).await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    assert_eq!(give(&node, &away, "/key", AWAY).await, "given");
    app.clock.advance(TimeDelta::days(31));
    let elsewhere = session(("203.0.113.200", "A third browser")).await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    assert_eq!(
        give(&app, &elsewhere, "/key", AWAY).await,
        "asked",
        "forgotten"
    );
}

/// Doors that ask by themselves: for whoever has no second factor yet, a code switches it on; and on an unknown device
/// those that give a key.
const AT_TIMES: [&str; 6] = [
    "/init",
    "/key",
    "/two-factor/send-otp",
    "/two-factor/verify-totp",
    "/two-factor/verify-otp",
    "/two-factor/verify-backup-code",
];

/// S-60: no other door asks for one, however old the session is.
#[tokio::test]
async fn no_other_door_asks_s60() {
    let app = TestApp::start(&[ON, ADMINS[0], ADMINS[1]]).await;
    let mut number = 0;
    for (prefix, doors) in areas() {
        let asks = |door: &&Door| door.step_up || AT_TIMES.contains(&door.path);
        for door in doors.iter().filter(|door| !asks(door)) {
            number += 1;
            let session = app.signed_in(&format!("p{number}")).await;
            app.clock.advance(TimeDelta::minutes(6));
            let path = format!("{prefix}{}", door.path).replace(['{', '}'], "");
            let request = app.request(door.method.as_str(), &path).json(&json!({}));
            let request = request.header("cookie", &session.cookie);
            let asked = answer(request.header("origin", ORIGIN)).await;
            assert_ne!(asked.refusal().1, "STEP_UP_REQUIRED", "{path}");
        }
    }
    assert!(number > 60, "{number}");
}

/// It is off unless somebody switches it on; then nothing asks, and nothing more is written.
#[tokio::test]
async fn switched_off_nothing_asks() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    app.clock.advance(TimeDelta::hours(23));
    show_password(&app, &root).await;
    for recipe in &RECIPES {
        recipe.passes(&app, &root).await;
    }
    assert_eq!(factors_shown(&app).await, 0);
}

/// S-60: somebody who has two factors shows both; the refusal says which comes next.
#[tokio::test]
async fn somebody_with_a_second_factor_shows_both_s60() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let node = app.node(&[UNVERIFIED, ON]).await;
    let ada = Careful::start(&app, "ada").await;
    let session = &ada.session;
    ANY.passes(&app, session).await;
    let first = ["password", "sign-in"];
    let second = ["totp", "otp", "backup-code", "sign-in"];
    let [totp, otp, backup] = ["verify-totp", "verify-otp", "verify-backup-code"];
    for what in [totp, otp, backup] {
        app.clock.advance(COUNTS_FOR + A_MOMENT);
        ANY.asks(&app, session, &first).await;
        show_password(&app, session).await;
        ANY.asks(&node, session, &second).await;
        let code = match what {
            "verify-totp" => ada.code(&app),
            "verify-otp" => mailed_code(&app, session, "ada@example.com").await,
            _ => ada.codes[0].clone(),
        };
        show_code(&app, what, session, &code).await;
        ANY.passes(&app, session).await;
        ANY.passes(&node, session).await;
    }
    // The second one alone is not enough, nor is one that is older than the other.
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    show_code(&app, totp, session, &ada.code(&app)).await;
    ANY.asks(&app, session, &first).await;
    app.clock.advance(COUNTS_FOR);
    show_password(&app, session).await;
    ANY.passes(&app, session).await;
    app.clock.advance(A_MOMENT);
    ANY.asks(&app, session, &second).await;
}

async fn mailed_code(app: &TestApp, session: &Session, email: &str) -> String {
    let path = "/api/auth/two-factor/send-otp";
    let sent = app.post_as(path, &session.cookie, &json!({})).await;
    assert_eq!(sent.status, 200);
    app.effects_done().await;
    let mails = app.mails();
    let mail = mails
        .iter()
        .rfind(|mail| mail.kind == "sign_in_code" && mail.to == email)
        .unwrap();
    let is_code = |word: &&str| word.len() == 6 && word.bytes().all(|b| b.is_ascii_digit());
    mail.text
        .split_whitespace()
        .find(is_code)
        .unwrap()
        .to_owned()
}

/// S-60: a passkey that has verified its person is as good as both factors, one that has not is one of them.
#[tokio::test]
async fn a_sign_in_by_passkey_is_a_step_up_s60() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let ada = Careful::start(&app, "ada").await;
    let mut key = Authenticator::new();
    passkeys::add(&app, &ada.session, &key).await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    let first = ["password", "passkey", "sign-in"];
    ANY.asks(&app, &ada.session, &first).await;
    let entered = passkeys::sign_in(&app, &key).await;
    assert_eq!(entered.status, 200, "{}", entered.text);
    let session = Session {
        cookie: entered.session_cookie(),
        ..ada.session.clone()
    };
    ANY.passes(&app, &session).await;
    ANY.asks(&app, &ada.session, &first).await;

    let bob = app.signed_in("bob").await;
    key = Authenticator::new();
    passkeys::add(&app, &bob, &key).await;
    key.flags = PRESENT;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    let entered = passkeys::sign_in(&app, &key).await;
    let session = Session {
        cookie: entered.session_cookie(),
        ..bob.clone()
    };
    ANY.passes(&app, &session).await;
    ANY.asks(&app, &bob, &first).await;
}

/// S-60: whoever has no password is not asked for one.
#[tokio::test]
async fn nobody_is_asked_for_what_they_do_not_have_s60() {
    let app = TestApp::start(&[ON]).await;
    let email = "new@example.com";
    let body = json!({"email": email});
    let asked = app.post("/api/auth/sign-in/magic-link", &body).await;
    assert_eq!(asked.status, 200);
    let url = app.wait_for_mail(email, 0).await.url.unwrap();
    let link = format!("/api/auth/magic-link/verify?token={}", link_token(&url));
    let session = session_of(&app.get(&link).await);
    ANY.passes(&app, &session).await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    ANY.asks(&app, &session, &["sign-in"]).await;
}

/// S-60: switching a second factor on is a change like any other, also where the code that proves it does it.
#[tokio::test]
async fn a_code_switches_no_second_factor_on_in_an_old_session_s60() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let ada = app.signed_in("ada").await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    for (path, body) in [
        ("send-otp", json!({})),
        ("verify-totp", json!({"code": "000000"})),
        ("verify-otp", json!({"code": "000000"})),
    ] {
        let path = format!("/api/auth/two-factor/{path}");
        let refused = app.post_as(&path, &ada.cookie, &body).await;
        let wanted = (403, "STEP_UP_REQUIRED".to_owned());
        assert_eq!(refused.refusal(), wanted, "{path}");
    }
    show_password(&app, &ada).await;
    let code = mailed_code(&app, &ada, "ada@example.com").await;
    let path = "/api/auth/two-factor/verify-otp";
    let on = app.post_as(path, &ada.cookie, &json!({"code": code})).await;
    assert_eq!(on.status, 200, "{}", on.text);
    // Both were shown just now, in the session that it takes the place of.
    ANY.passes(&app, &session_of(&on)).await;
}

/// S-60: a session that takes the place of another is worth what that was worth, and no more.
#[tokio::test]
async fn a_session_that_replaces_another_has_its_proofs_s60() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let ada = app.signed_in("ada").await;
    app.clock.advance(TimeDelta::minutes(4));
    let key = Authenticator::new();
    let begun = begin(&app, "register", &ada.cookie).await;
    let body = json!({"response": key.create(&begun.options), "createSession": true});
    let cookies = format!("{}; {}", ada.cookie, begun.cookie);
    let added = app.post_as(passkeys::ADD, &cookies, &body).await;
    let replaced = Session {
        cookie: added.session_cookie(),
        ..ada.clone()
    };
    ANY.passes(&app, &replaced).await;
    app.clock.advance(TimeDelta::minutes(1) + A_MOMENT);
    ANY.asks(&app, &replaced, &["password", "passkey", "sign-in"])
        .await;

    show_password(&app, &replaced).await;
    app.clock.advance(TimeDelta::minutes(4));
    let body =
        json!({"currentPassword": PASSWORD, "newPassword": NEW, "revokeOtherSessions": true});
    let changed = app
        .post_as("/api/auth/change-password", &replaced.cookie, &body)
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    app.clock.advance(COUNTS_FOR);
    ANY.passes(&app, &session_of(&changed)).await;
}

/// I-11: proofs again and again are an event a minute at most; wrong ones are none.
#[tokio::test]
async fn proofs_do_not_make_the_log_grow_s60() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let ada = app.signed_in("ada").await;
    for (minutes, wanted) in [(0, 0), (1, 1), (0, 1), (2, 2)] {
        app.clock.advance(TimeDelta::minutes(minutes));
        show_password(&app, &ada).await;
        let wrong = json!({"password": "wrong"});
        let refused = app.post_as("/api/auth/verify-password", &ada.cookie, &wrong);
        assert_eq!(refused.await.status, 400);
        assert_eq!(factors_shown(&app).await, wanted);
    }
}

/// S-60: a session that is too old for a door leads nowhere else than through a step-up.
#[tokio::test]
async fn a_step_up_makes_an_old_session_fresh_s60() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let ada = app.signed_in("ada").await;
    app.clock.advance(TimeDelta::days(2));
    let sessions = "/api/auth/list-sessions";
    let refused = app.get_as(sessions, &ada.cookie).await;
    assert_eq!(refused.refusal(), (403, "SESSION_NOT_FRESH".to_owned()));
    show_password(&app, &ada).await;
    assert_eq!(app.get_as(sessions, &ada.cookie).await.status, 200);
    let unlinked = app
        .post_as(
            "/api/auth/unlink-account",
            &ada.cookie,
            &json!({"accountId": "x"}),
        )
        .await;
    assert_eq!(unlinked.refusal(), (400, "ACCOUNT_NOT_FOUND".to_owned()));
}

/// Each family of clients gets the refusal in the shape that it knows, with the ways out of it.
#[tokio::test]
async fn the_refusal_has_the_shape_of_each_area() {
    let app = TestApp::start(&[UNVERIFIED, ON]).await;
    let ada = app.signed_in("ada").await;
    app.clock.advance(COUNTS_FOR + A_MOMENT);
    let of = async |path: &str| {
        let recipe = RECIPES.iter().find(|recipe| recipe.1 == path).unwrap();
        recipe.send(&app, &ada).await.json()
    };
    let (message, code) = ("Please confirm that it is you", "STEP_UP_REQUIRED");
    let methods = json!(["password", "sign-in"]);
    assert_eq!(
        of("/api/auth/change-password").await,
        json!({"message": message, "code": code, "methods": methods})
    );
    assert_eq!(
        of("/api/v1/auth/change-password").await,
        json!({
            "error": message, "message": message, "code": code, "status": 403, "methods": methods,
        })
    );
    assert_eq!(
        of("/api/v1/api-keys").await,
        json!({"statusCode": 403, "message": message, "code": code, "methods": methods})
    );
}
