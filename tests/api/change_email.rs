//! Changing the mail address: who has to agree, what follows, and what stops it half way (S-61).

#![cfg(test)]

use serde_json::{Value, json};

use crate::account::{NEW, Shown, assert_over, change, email_of, last_link, mails, reset_token};
use crate::client::{Answer, PASSWORD, Session, UNVERIFIED, session_of};
use crate::enumeration;
use crate::harness::{TestApp, wait_until};
use crate::security_log::{OWN, type_of};

/// Where another address is asked for.
pub const DOORS: [&str; 2] = ["/api/auth/change-email", "/api/v1/auth/change-email"];
/// The new address is mailed at once, even if the old one is proven.
pub const UNCONFIRMED: (&str, &str) = ("MANA_AUTH_CHANGE_EMAIL_CONFIRM", "false");

/// Where a link leads that is no good.
pub const REFUSED: &str = "/settings?error=INVALID_TOKEN";

/// Asks for another address, on a page to which the links lead back.
pub async fn ask(app: &TestApp, door: &str, session: &Session, to: &str) -> Answer {
    let body = json!({"newEmail": to, "callbackURL": "/settings"});
    let asked = app.post_as(door, &session.cookie, &body).await;
    assert_eq!(asked.status, 200, "{door}: {}", asked.text);
    asked
}

/// Follows a link of [`ask`]'s, in a session or in none; gives where it leads.
pub async fn follow(app: &TestApp, link: &str, cookie: &str) -> String {
    let path = link.strip_prefix(&app.app.config.base_url).unwrap();
    let led = app.get_as(path, cookie).await;
    assert_eq!(led.status, 302, "{}", led.text);
    led.header("location").to_owned()
}

/// Asks for another address and mails its link there, with the old one's consent if it is proven.
pub async fn verify_link(app: &TestApp, session: &Session, from: &str, to: &str) -> String {
    ask(app, DOORS[0], session, to).await;
    if mails(app, "verify_email", to).await.is_empty() {
        let confirm = last_link(app, "change_email_confirmation", from).await;
        assert_eq!(follow(app, &confirm, "").await, "/settings");
    }
    last_link(app, "verify_email", to).await
}

/// Changes an address, with everything that it takes.
pub async fn change_to(app: &TestApp, session: &Session, from: &str, to: &str) {
    let link = verify_link(app, session, from, to).await;
    assert_eq!(follow(app, &link, &session.cookie).await, "/settings");
}

/// Status of a sign-in with an address.
pub async fn enters(app: &TestApp, email: &str, password: &str) -> u16 {
    let body = json!({"email": email, "password": password});
    app.post("/api/auth/sign-in/email", &body).await.status
}

/// The address that a session's person has, and whether it is proven.
pub async fn address_of(app: &TestApp, session: &Session) -> (String, bool) {
    let shown = app.get_as("/api/auth/get-session", &session.cookie).await;
    let user = &shown.json()["user"];
    let email = user["email"].as_str().expect("a live session").to_owned();
    (email, user["emailVerified"].as_bool().unwrap())
}

/// Waits until a node knows of an address that was changed on another one.
pub async fn comes_to_have(app: &TestApp, session: &Session, email: &str, proven: bool) {
    let wanted = (email.to_owned(), proven);
    wait_until("the node knows the address", async || {
        address_of(app, session).await == wanted
    })
    .await;
}

/// The types of somebody's own lines of the security log that are about the address, oldest first.
pub async fn own_lines(app: &TestApp, cookie: &str) -> Vec<String> {
    let lines = app.get_as(OWN, cookie).await.json();
    let types = lines.as_array().unwrap().iter().rev().map(type_of);
    let of_address = types.filter(|kind| kind.contains("email") || *kind == "sessions_ended");
    of_address.map(str::to_owned).collect()
}

/// S-61: the old address agrees, then the new one is proven, then it counts, and the old one is told.
#[tokio::test]
async fn a_proven_address_agrees_before_the_new_one_is_proven_s61() {
    let app = TestApp::start(&[]).await;
    let node = app.node(&[]).await;
    for (number, door) in DOORS.into_iter().enumerate() {
        let (name, new_name) = (format!("p{number}"), format!("new{number}"));
        let (old, new) = (email_of(&name), email_of(&new_name));
        app.verified(&name).await;
        let this = app.sign_in(&name).await;
        let others = [app.sign_in(&name).await, node.sign_in(&name).await];
        for session in others.iter().chain([&this]) {
            assert!(app.is_live(&session.cookie).await && node.is_live(&session.cookie).await);
        }
        let reset = reset_token(&node, "/api/auth/request-password-reset", &old).await;

        // In whatever letters it is asked for.
        let asked = ask(&node, door, &this, &new.to_uppercase()).await;
        let message = "Verification email sent to the new address";
        let wanted = [
            json!({"status": true}),
            json!({"success": true, "message": message}),
        ];
        assert_eq!(asked.json(), wanted[number]);
        let sent = mails(&app, "change_email_confirmation", &old).await;
        assert_eq!(sent.len(), 1);
        assert!(sent[0].text.contains(&new) && sent[0].text.contains("/end-sessions?token="));
        let to_new = || {
            app.mails()
                .into_iter()
                .filter(|mail| mail.to == new)
                .count()
        };
        assert_eq!(to_new(), 0, "it waits for the old address");

        let confirm = sent[0].url.as_ref().unwrap();
        assert_eq!(follow(&app, confirm, "").await, "/settings");
        let verify = last_link(&node, "verify_email", &new).await;
        assert_eq!(to_new(), 1);
        assert_eq!(address_of(&node, &this).await, (old.clone(), true));
        assert_eq!(enters(&node, &new, PASSWORD).await, 401);
        assert!(app.is_live(&others[0].cookie).await);

        assert_eq!(follow(&node, &verify, &this.cookie).await, "/settings");
        assert_over(&node, &app, &[&others[0], &others[1]]).await;
        for at in [&app, &node] {
            comes_to_have(at, &this, &new, true).await;
            assert_eq!(enters(at, &new, PASSWORD).await, 200);
            assert_eq!(enters(at, &old, PASSWORD).await, 401);
        }
        let told = mails(&app, "email_changed", &old).await;
        assert_eq!(told.len(), 1);
        let back = told[0].url.as_ref().unwrap();
        assert!(back.contains("/api/v1/auth/revert-email?token="), "{back}");
        assert!(told[0].text.contains(back) && told[0].text.contains(&new));
        assert!(told[0].text.contains("/api/v1/auth/end-sessions?token="));
        assert_eq!(to_new(), 1, "whoever asked for it knows of it");
        let body = json!({"token": reset, "newPassword": NEW});
        let late = app.post("/api/auth/reset-password", &body).await;
        assert_eq!(late.refusal(), (400, "INVALID_TOKEN".to_owned()));
        let wanted = [
            "email_verified",
            "email_change_requested",
            "email_change_confirmed",
            "email_changed",
            "sessions_ended",
        ];
        let mut lines = own_lines(&node, &this.cookie).await;
        lines[3..].sort_unstable();
        assert_eq!(lines, wanted);
    }
}

/// Contract (change-email): an unproven address has no say, nor has a proven one where that is set; the rest is alike.
#[tokio::test]
async fn without_a_confirmation_the_new_address_is_mailed_at_once() {
    for (settings, proven) in [(&[UNVERIFIED], false), (&[UNCONFIRMED], true)] {
        let app = TestApp::start(settings).await;
        let node = app.node(settings).await;
        for (number, door) in DOORS.into_iter().enumerate() {
            let name = format!("p{number}");
            let (old, new) = (email_of(&name), format!("new{number}@example.com"));
            if proven {
                app.verified(&name).await;
            } else {
                app.sign_up(&name).await;
            }
            let [this, other] = [app.sign_in(&name).await, node.sign_in(&name).await];
            ask(&node, door, &this, &new).await;
            let link = last_link(&app, "verify_email", &new).await;
            assert!(
                mails(&app, "change_email_confirmation", &old)
                    .await
                    .is_empty()
            );
            assert_eq!(address_of(&app, &this).await, (old.clone(), proven));

            assert_eq!(follow(&app, &link, &this.cookie).await, "/settings");
            // As in the original, the proof is of the change alone.
            comes_to_have(&node, &this, &new, proven).await;
            assert_over(&app, &node, &[&other]).await;
            assert_eq!(enters(&node, &new, PASSWORD).await, 200);
            assert_eq!(enters(&app, &old, PASSWORD).await, 401);
            let back = last_link(&app, "email_changed", &old).await;
            assert!(back.contains("/api/v1/auth/revert-email?token="), "{back}");
        }
    }
}

/// A mistyped address belongs to a stranger: whoever follows its link is not signed in, and nobody stays so.
#[tokio::test]
async fn a_link_to_a_new_address_signs_nobody_in_s61() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let eve = app.signed_in("eve").await;
    ask(&app, DOORS[1], &ada, "new@example.com").await;
    let link = last_link(&app, "verify_email", "new@example.com").await;
    let path = link.strip_prefix(&app.app.config.base_url).unwrap();
    let led = node.get_as(path, &eve.cookie).await;
    assert_eq!(led.status, 302, "{}", led.text);
    assert!(led.cookies().is_empty() && led.header("set-auth-token").is_empty());
    assert_over(&node, &app, &[&ada]).await;
    assert_eq!(address_of(&app, &eve).await.0, "eve@example.com");
}

/// S-61: whoever sets a new password wants to know of no change that was asked for before. Nor does who asks anew.
#[tokio::test]
async fn a_new_password_and_a_new_request_cancel_a_pending_change_s61() {
    let app = TestApp::start(&[]).await;
    let node = app.node(&[]).await;
    let resets = [
        (
            "/api/auth/request-password-reset",
            "/api/auth/reset-password",
        ),
        (
            "/api/v1/auth/forgot-password",
            "/api/v1/auth/reset-password",
        ),
    ];
    let changes = ["/api/auth/change-password", "/api/v1/auth/change-password"];
    for number in 0..6 {
        let name = format!("p{number}");
        let (old, new) = (email_of(&name), format!("new{number}@example.com"));
        app.verified(&name).await;
        let mut this = app.sign_in(&name).await;
        ask(&app, DOORS[number % 2], &this, &new).await;
        let confirm = last_link(&app, "change_email_confirmation", &old).await;
        assert_eq!(follow(&node, &confirm, "").await, "/settings");
        let verify = last_link(&app, "verify_email", &new).await;
        match number / 2 {
            0 => {
                let (wanted, door) = resets[number];
                let token = reset_token(&node, wanted, &old).await;
                let body = json!({"token": token, "newPassword": NEW});
                assert_eq!(node.post(door, &body).await.status, 200);
                this = session_of(&app.try_sign_in(&name, NEW).await);
            }
            1 => {
                let way = (changes[number % 2], Shown::Cookie, None);
                let changed = change(&node, way, &this, (PASSWORD, NEW)).await;
                assert_eq!(changed.status, 200, "{}", changed.text);
            }
            _ => {
                ask(&node, DOORS[number % 2], &this, "other@example.com").await;
            }
        }
        for at in [&app, &node] {
            assert_eq!(follow(at, &confirm, &this.cookie).await, REFUSED);
            assert_eq!(follow(at, &verify, &this.cookie).await, REFUSED);
        }
        assert_eq!(mails(&app, "verify_email", &new).await.len(), 1);
        assert_eq!(address_of(&node, &this).await, (old.clone(), true));

        let last = format!("last{number}@example.com");
        change_to(&node, &this, &old, &last).await;
        comes_to_have(&app, &this, &last, true).await;
    }
}

/// S-22, S-61: whoever asks for an address that is taken gets the same answers and the same mails as for a free one,
/// and its owner gets none.
#[tokio::test]
async fn a_taken_address_looks_like_a_free_one_s22_s61() {
    for settings in [&[][..], &[UNCONFIRMED]] {
        let app = TestApp::start(settings).await;
        let node = app.node(settings).await;
        for name in ["ada", "taken"] {
            app.verified(name).await;
        }
        let ada = app.sign_in("ada").await;
        app.effects_done().await;
        for door in DOORS {
            let mut answers = Vec::new();
            for email in ["taken@example.com", "fresh@example.com"] {
                let before = app.mails().len();
                let asked = ask(&node, door, &ada, email).await;
                answers.push(enumeration::shown(&asked, email));
                app.effects_done().await;
                for mail in app.mails().into_iter().skip(before) {
                    if mail.to != "ada@example.com" {
                        continue;
                    }
                    answers.push(mail.kind);
                    let link = mail.url.unwrap();
                    let path = link.strip_prefix(&app.app.config.base_url).unwrap();
                    let mut followed = app.get_as(path, &ada.cookie).await;
                    // Consent is written down in either case.
                    assert!(followed.headers.remove("x-log-position").is_some());
                    assert_eq!(followed.header("location"), "/settings");
                    answers.push(enumeration::shown(&followed, email));
                }
            }
            let (taken, free) = answers.split_at(answers.len() / 2);
            assert_eq!(taken, free, "{door}");
            assert_eq!(taken.len(), if settings.is_empty() { 3 } else { 1 });
        }
        app.effects_done().await;
        let all = app.mails();
        let to = |email: &str| all.iter().filter(|mail| mail.to == email).count();
        assert_eq!(to("taken@example.com"), 1, "what came with the sign-up");
        assert_eq!(to("fresh@example.com"), DOORS.len());
        assert_eq!(
            app.mails_of("verify_email", "fresh@example.com").await,
            DOORS.len()
        );
    }
}

/// What the two routes refuse, and how (contract).
#[tokio::test]
async fn a_request_for_another_address_is_refused_as_clients_know_it() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let before = app.count("events").await;
    let refused = async |door: &str, body: &Value| {
        let refused = app.post_as(door, &ada.cookie, body).await;
        (refused.status, refused.json())
    };
    let same = json!({"newEmail": "Ada@Example.com"});
    let (status, body) = refused(DOORS[0], &same).await;
    assert_eq!(
        (status, body),
        (400, json!({"message": "Email is the same"}))
    );
    assert_eq!(refused(DOORS[1], &same).await.0, 400);
    for (body, native, own) in [
        (
            json!({"newEmail": "nope"}),
            (400, "VALIDATION_ERROR"),
            (400, "VALIDATION"),
        ),
        (json!({}), (400, "VALIDATION_ERROR"), (400, "VALIDATION")),
        (
            json!({"newEmail": "x@example.com", "callbackURL": "https://evil.example"}),
            (403, "INVALID_CALLBACK_URL"),
            (403, "VALIDATION"),
        ),
    ] {
        for (door, (status, code)) in [(DOORS[0], native), (DOORS[1], own)] {
            let (refused, answer) = refused(door, &body).await;
            assert_eq!(
                (refused, answer["code"].as_str()),
                (status, Some(code)),
                "{door} {body}"
            );
        }
    }
    for door in DOORS {
        let nobody = app.post(door, &json!({"newEmail": "x@example.com"})).await;
        assert_eq!(nobody.refusal(), (401, "UNAUTHORIZED".to_owned()));
    }
    assert_eq!(app.count("events").await, before);
    assert!(
        mails(&app, "verify_email", "x@example.com")
            .await
            .is_empty()
    );
}
