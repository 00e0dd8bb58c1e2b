//! Whether an address has an account is its owner's business: answers about addresses are equal byte for byte, but for
//! the id of the request (S-20, S-22).

#![cfg(test)]

use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::client::{Answer, ORIGIN, PASSWORD, Session, answer, session_of};
use crate::doors::address;
use crate::harness::TestApp;

/// Limits and budgets are on, and addresses have to be proven.
pub const SETTINGS: [(&str, &str); 3] = [
    ("MANA_AUTH_RATE_LIMIT", "on"),
    ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8"),
    ("REGISTER_ENUMERATION_SAFE", "true"),
];

/// People of whom the service knows, and one of whom it does not. Their names are equally long.
pub const PEOPLE: [&str; 3] = ["verified", "unproven", "stranger"];

pub fn email_of(name: &str) -> String {
    format!("{name}@example.com")
}

/// The service with its people, and addresses for clients.
async fn start() -> (TestApp, impl Iterator<Item = String>) {
    let app = TestApp::start(&SETTINGS).await;
    let from = come(&app).await;
    (app, from)
}

/// Makes a service know the people that it knows; gives addresses for clients.
pub async fn come(app: &TestApp) -> impl Iterator<Item = String> + use<> {
    let mut from = (0..).map(address);
    for name in &PEOPLE[..2] {
        let body = json!({"name": "A", "email": email_of(name), "password": PASSWORD});
        let signed_up = post(app, "/api/auth/sign-up/email", &body, &from.next().unwrap()).await;
        assert_eq!(signed_up.status, 200, "{}", signed_up.text);
    }
    let mail = app.wait_for_mail(&email_of("verified"), 0).await;
    assert_eq!(app.follow(&mail.url.unwrap()).await.status, 302);
    // Whoever asks comes another hour: mails have a budget as well.
    app.clock.advance(TimeDelta::hours(1));
    from
}

pub async fn post(app: &TestApp, path: &str, body: &Value, from: &str) -> Answer {
    let request = app.request("POST", path).json(body);
    answer(request.header("x-forwarded-for", from)).await
}

/// Every byte of an answer but for the request's id, the second it was given in, and what the request said itself: the
/// address.
pub fn shown(answer: &Answer, email: &str) -> String {
    assert_eq!(answer.header("x-log-position"), "", "{}", answer.text);
    let mut shown = format!("{}\n", answer.status);
    for (name, value) in &answer.headers {
        if name != "date" && name != "x-request-id" {
            shown += &format!("{name}: {}\n", value.to_str().unwrap());
        }
    }
    shown + "\n" + &answer.text.replace(email, "<address>")
}

/// The same for an answer that holds a new person, whose id is random.
fn shown_of_person(answer: &Answer, email: &str) -> String {
    let id = answer.json()["user"]["id"].as_str().unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_alphanumeric()));
    shown(answer, email).replace(&id, "<id>")
}

pub fn assert_equal(answers: &[String], what: &str) {
    for other in &answers[1..] {
        assert_eq!(&answers[0], other, "{what}");
    }
}

/// S-20, S-22: from the first wrong password through the lock and behind it.
#[tokio::test]
async fn known_and_unknown_addresses_are_refused_and_locked_alike_s20_s22() {
    let (app, mut from) = start().await;
    for (door, first) in [
        ("/api/auth/sign-in/email", "INVALID_EMAIL_OR_PASSWORD"),
        ("/api/v1/auth/login", "INVALID_CREDENTIALS"),
    ] {
        for (wait, wanted) in [(0, "1800"), (1800, "3600"), (3600, "7200")] {
            app.clock.advance(TimeDelta::seconds(wait));
            for number in 0..8 {
                let mut answers = Vec::new();
                for name in PEOPLE {
                    let email = email_of(name);
                    let body = json!({"email": email, "password": "wrong"});
                    let refused = post(&app, door, &body, &from.next().unwrap()).await;
                    let expected = if number < 5 {
                        (401, first.to_owned())
                    } else {
                        assert_eq!(refused.header("retry-after"), wanted);
                        (429, "ACCOUNT_LOCKED".to_owned())
                    };
                    assert_eq!(refused.refusal(), expected, "{door} {name} {number}");
                    answers.push(shown(&refused, &email));
                }
                assert_equal(&answers, door);
            }
        }
        // What was before is forgotten for the other door.
        app.clock.advance(TimeDelta::days(3));
    }
}

/// S-20: the try that locks looks like those before it, and is written down for whoever has the address, or has none.
#[tokio::test]
async fn a_lock_is_written_down_with_and_without_an_account_s20() {
    let (app, mut from) = start().await;
    let events = app.count("events").await;
    let mut shown_to = Vec::new();
    for name in PEOPLE {
        let body = json!({"email": email_of(name), "password": "wrong"});
        for _ in 0..5 {
            let refused = post(&app, "/api/v1/auth/login", &body, &from.next().unwrap()).await;
            shown_to.push(shown(&refused, &email_of(name)));
        }
    }
    assert_equal(&shown_to, "the try that locks looks like those before it");
    assert_eq!(app.count("events").await, events + 2);
    let of_nobody = "door_events where event_type = 'ACCOUNT_LOCKED' and user_id is null";
    assert_eq!(app.count(of_nobody).await, 1);
    let of_accounts = "door_events where event_type = 'ACCOUNT_LOCKED' and user_id is not null";
    assert_eq!(app.count(of_accounts).await, 0);
}

/// S-20: the lock does not tell that a password is right either.
#[tokio::test]
async fn a_locked_account_answers_right_and_wrong_passwords_alike_s20() {
    let (app, mut from) = start().await;
    let email = email_of("verified");
    for _ in 0..5 {
        let body = json!({"email": email, "password": "wrong"});
        post(&app, "/api/v1/auth/login", &body, &from.next().unwrap()).await;
    }
    for door in ["/api/auth/sign-in/email", "/api/v1/auth/login"] {
        let mut answers = Vec::new();
        for password in [PASSWORD, "wrong"] {
            let body = json!({"email": email, "password": password});
            let refused = post(&app, door, &body, &from.next().unwrap()).await;
            assert_eq!(refused.status, 429);
            answers.push(shown(&refused, &email));
        }
        assert_equal(&answers, door);
    }
}

/// S-22: whoever asks for a mail is told nothing, whoever gets it. Again and again, until no mail leaves any more.
#[tokio::test]
async fn asking_for_a_mail_tells_nothing_s22() {
    let (app, mut from) = start().await;
    for door in [
        "/api/auth/request-password-reset",
        "/api/v1/auth/forgot-password",
        "/api/auth/send-verification-email",
        "/api/v1/auth/resend-verification",
    ] {
        for _ in 0..5 {
            let mut answers = Vec::new();
            for name in PEOPLE {
                let email = email_of(name);
                let body = json!({"email": email});
                let told = post(&app, door, &body, &from.next().unwrap()).await;
                assert_eq!(told.status, 200, "{}", told.text);
                answers.push(shown(&told, &email));
            }
            assert_equal(&answers, door);
        }
    }
    app.effects_done().await;
    let mails = app.mails();
    assert!(mails.iter().all(|mail| mail.to != email_of("stranger")));
    assert!(mails.iter().any(|mail| mail.kind == "reset_password"));
}

/// S-22, S-24: a taken address looks new, also to whoever sends the same request again with its key.
#[tokio::test]
async fn signing_up_tells_nothing_also_when_repeated_s22() {
    for door in ["/api/auth/sign-up/email", "/api/v1/auth/register"] {
        let (app, mut from) = start().await;
        for (key, replayed) in [(None, ""), (Some("key"), ""), (Some("key"), "true")] {
            let mut answers = Vec::new();
            for name in PEOPLE {
                // Without a key, the stranger has an account by now.
                let name = match (key, name) {
                    (Some(_), "stranger") => "outsider",
                    _ => name,
                };
                let email = email_of(name);
                let body = json!({"name": "B", "email": email, "password": PASSWORD});
                let mut request = app.request("POST", door).json(&body);
                if let Some(key) = key {
                    request = request.header("idempotency-key", format!("{key}-{name}"));
                }
                let told = answer(request.header("x-forwarded-for", from.next().unwrap())).await;
                assert_eq!(told.status, 200, "{}", told.text);
                let replays = told.header("idempotency-replayed");
                assert_eq!(replays, replayed, "{door} {name}");
                answers.push(shown_of_person(&told, &email));
            }
            assert_equal(&answers, door);
        }
    }
}

/// S-22: somebody who is signed in does not learn whose address they may not have.
#[tokio::test]
async fn asking_for_another_address_tells_nothing_s22() {
    let (app, mut from) = start().await;
    let session = sign_in(&app, "verified", &from.next().unwrap()).await;
    for door in ["/api/auth/change-email", "/api/v1/auth/change-email"] {
        let mut answers = Vec::new();
        for name in ["unproven", "stranger"] {
            let email = email_of(name);
            let request = app.request("POST", door).json(&json!({"newEmail": email}));
            let request = request
                .header("cookie", &session.cookie)
                .header("origin", ORIGIN);
            let told = answer(request.header("x-forwarded-for", from.next().unwrap())).await;
            assert_eq!(told.status, 200, "{}", told.text);
            answers.push(shown(&told, &email));
        }
        assert_equal(&answers, door);
    }
}

pub async fn sign_in(app: &TestApp, name: &str, from: &str) -> Session {
    let body = json!({"email": email_of(name), "password": PASSWORD});
    let signed_in = post(app, "/api/auth/sign-in/email", &body, from).await;
    assert_eq!(signed_in.status, 200, "{}", signed_in.text);
    session_of(&signed_in)
}

/// The one exception, by contract: clients rely on the 409, so hiding it is a setting.
#[tokio::test]
async fn registering_tells_that_an_address_is_taken_unless_set_otherwise() {
    let app = TestApp::start(&SETTINGS[..2]).await;
    let body = json!({"name": "A", "email": email_of("verified"), "password": PASSWORD});
    let mut statuses = Vec::new();
    for number in 0..2 {
        let told = post(&app, "/api/v1/auth/register", &body, &address(number)).await;
        statuses.push(told.status);
    }
    assert_eq!(statuses, [200, 409]);
}
