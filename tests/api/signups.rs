//! How many accounts may be made in a day: a brake on the whole service that tells of no address (S-21).

#![cfg(test)]

use chrono::{DateTime, Days, TimeDelta, Utc};
use serde_json::{Value, json};

use crate::client::{Answer, PASSWORD, answer};
use crate::harness::TestApp;

const DOORS: [&str; 2] = ["/api/auth/sign-up/email", "/api/v1/auth/register"];
const TWO_A_DAY: (&str, &str) = ("MAX_DAILY_SIGNUPS", "2");

async fn sign_up(app: &TestApp, door: &str, name: &str, key: &str) -> Answer {
    let email = format!("{name}@example.com");
    let body = json!({"name": "Ada", "email": email, "password": PASSWORD});
    answer(
        app.request("POST", door)
            .json(&body)
            .header("idempotency-key", key),
    )
    .await
}

async fn status(app: &TestApp) -> Value {
    app.get("/api/v1/auth/signup-status").await.json()
}

/// The next midnight, and its text.
fn midnight(app: &TestApp) -> (DateTime<Utc>, String) {
    let tomorrow = app.clock.now().date_naive() + Days::new(1);
    let at = tomorrow.and_hms_opt(0, 0, 0).unwrap().and_utc();
    (at, format!("{tomorrow}T00:00:00.000Z"))
}

#[tokio::test]
async fn without_a_limit_registration_is_open() {
    let app = TestApp::start(&[]).await;
    app.sign_up("ada").await;
    let wanted = json!({
        "registrationOpen": true, "spotsRemaining": null, "totalToday": 0, "limit": 0, "resetsAt": "",
    });
    assert_eq!(status(&app).await, wanted);
}

/// Contract section 3.1 and 3.2.
#[tokio::test]
async fn as_many_accounts_as_are_configured_are_made_in_a_day_s21() {
    let app = TestApp::start(&[TWO_A_DAY]).await;
    // The last quarter of an hour of a day, in UTC.
    let (at, resets_at) = midnight(&app);
    app.clock
        .advance(at - app.clock.now() - TimeDelta::minutes(15));
    for (made, door) in DOORS.into_iter().enumerate() {
        let wanted = json!({
            "registrationOpen": true, "spotsRemaining": 2 - made, "totalToday": made, "limit": 2, "resetsAt": resets_at,
        });
        assert_eq!(status(&app).await, wanted);
        let name = format!("person{made}");
        assert_eq!(sign_up(&app, door, &name, &name).await.status, 200);
    }
    let closed = json!({
        "registrationOpen": false, "spotsRemaining": 0, "totalToday": 2, "limit": 2, "resetsAt": resets_at,
    });
    assert_eq!(status(&app).await, closed);
    let before = app.state().await;
    for door in DOORS {
        // S-22: it says nothing of the address.
        let refused = [
            sign_up(&app, door, "person0", "known").await,
            sign_up(&app, door, "person9", "other").await,
        ];
        for answer in &refused {
            assert_eq!(answer.refusal(), (429, "SIGNUP_LIMIT_REACHED".to_owned()));
            assert_eq!(answer.header("retry-after"), "900");
            assert_eq!(answer.text, refused[0].text);
        }
    }
    let body = sign_up(&app, DOORS[1], "person9", "other").await.json();
    let sentence =
        "Das Tageslimit für Registrierungen ist erreicht. Bitte versuche es morgen erneut.";
    let wanted = json!({
        "error": "Registration limit reached", "code": "SIGNUP_LIMIT_REACHED", "message": sentence, "status": 429,
        "spotsRemaining": 0, "resetsAt": resets_at, "retryAfterSec": 900,
    });
    assert_eq!(body, wanted);
    assert_eq!(app.state().await, before);

    app.clock
        .advance(TimeDelta::minutes(15) - TimeDelta::milliseconds(1));
    let refused = sign_up(&app, DOORS[0], "person9", "other").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, "1"));
    app.clock.advance(TimeDelta::milliseconds(1));
    assert_eq!(status(&app).await["spotsRemaining"], 2, "a new day");
    let made = sign_up(&app, DOORS[0], "person9", "other").await;
    assert_eq!(made.status, 200);
}

/// Whoever made the last account of the day and did not hear of it asks again.
#[tokio::test]
async fn a_request_that_made_an_account_is_repeated_after_the_limit() {
    for door in DOORS {
        let app = TestApp::start(&[("MAX_DAILY_SIGNUPS", "1")]).await;
        let first = sign_up(&app, door, "ada", "key").await;
        let again = sign_up(&app, door, "ada", "key").await;
        assert_eq!((first.status, again.status), (200, 200), "{door}");
        assert_eq!(first.text, again.text);
        let other = sign_up(&app, door, "eve", "another").await;
        assert_eq!(other.status, 429);
    }
}
