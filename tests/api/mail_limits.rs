//! Mails to an address are few, whoever asks for them, from wherever, at whichever door (S-21).

#![cfg(test)]

use chrono::TimeDelta;
use futures_util::StreamExt as _;
use serde_json::json;

use crate::client::{ORIGIN, PASSWORD, answer};
use crate::doors::address;
use crate::harness::TestApp;
use crate::limits::LIMITED;

/// Mails that anybody can ask for, to one address within an hour and a day.
const AN_HOUR: usize = 3;
const A_DAY: usize = 10;

/// S-21
#[tokio::test]
async fn a_thousand_requests_for_resets_lead_to_three_mails_an_hour_and_ten_a_day_s21() {
    let app = TestApp::start(&LIMITED).await;
    app.signed_in("ada").await;
    let body = json!({"email": "ada@example.com"});
    let ask = |number: u32| {
        let door = if number.is_multiple_of(2) {
            "/api/auth/request-password-reset"
        } else {
            "/api/v1/auth/forgot-password"
        };
        let request = app.request("POST", door).json(&body);
        answer(request.header("x-forwarded-for", address(number)))
    };
    let statuses: Vec<u16> = futures_util::stream::iter((0..1000).map(ask))
        .buffer_unordered(50)
        .map(|answer| answer.status)
        .collect()
        .await;
    assert!(statuses.iter().all(|status| *status == 200));
    assert_eq!(
        app.mails_of("reset_password", "ada@example.com").await,
        AN_HOUR
    );
    ask(1000).await;
    assert_eq!(
        app.count("door_events").await,
        50,
        "nor do they fill the log"
    );

    for hour in 0..24 {
        app.clock.advance(TimeDelta::hours(1));
        for number in 0..4 {
            assert_eq!(ask(2000 + 4 * hour + number).await.status, 200);
            app.effects_done().await;
        }
    }
    // The day that ends with the last mail of the first ten.
    assert_eq!(
        app.mails_of("reset_password", "ada@example.com").await,
        A_DAY
    );
    app.clock.advance(TimeDelta::hours(24));
    ask(3000).await;
    let mails = app.mails_of("reset_password", "ada@example.com").await;
    assert_eq!(mails, A_DAY + 1);
}

/// S-21: somebody who is signed in cannot bother others with changes of address that they never finish.
#[tokio::test]
async fn asking_for_changes_of_address_bothers_nobody_more_s21() {
    let app = TestApp::start(&LIMITED).await;
    let session = app.signed_in("ada").await;
    let body = json!({"newEmail": "victim@example.com"});
    for number in 0..20 {
        let door = ["/api/auth/change-email", "/api/v1/auth/change-email"][number as usize % 2];
        let request = app.request("POST", door).json(&body);
        let request = request
            .header("cookie", &session.cookie)
            .header("origin", ORIGIN)
            .header("x-forwarded-for", address(number));
        assert_eq!(answer(request).await.status, 200);
    }
    let mails = app.mails_of("verify_email", "victim@example.com").await;
    assert_eq!(mails, AN_HOUR);
}

/// S-21: the same of sign-ups with an address that has an account.
#[tokio::test]
async fn signing_up_again_and_again_bothers_the_owner_no_more_s21() {
    let app = TestApp::start(&LIMITED[1..]).await;
    let body = json!({"name": "Ada", "email": "ada@example.com", "password": PASSWORD});
    for number in 0..20 {
        let request = app.request("POST", "/api/auth/sign-up/email").json(&body);
        let request = request.header("x-forwarded-for", address(number));
        assert_eq!(answer(request).await.status, 200);
    }
    let mails = app.mails_of("account_exists", "ada@example.com").await;
    assert_eq!(mails, AN_HOUR);
}
