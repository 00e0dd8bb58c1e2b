//! The database goes away in the middle of a write: nothing is half done, and the same request works afterwards.

#![cfg(test)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use reqwest::RequestBuilder;

use crate::client::{PASSWORD, answer};
use crate::doors::{Recipe, address, password_doors};
use crate::harness::{PATIENCE, TestApp, wait_until};
use crate::limits::{LIMITED, hold};
use crate::mailed::{KINDS, Kind, SETTINGS};
use crate::outage::{beside, give_back, take_away};
use crate::password_races::Held;

/// A lost connection is sought again for ten seconds before anybody is told.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);

/// Everything but requests and tries, which are counted before the write.
async fn state(app: &TestApp) -> BTreeMap<String, String> {
    let mut state = app.state().await;
    state.retain(|table, _| !["public.attempts", "public.rate_limits"].contains(&table.as_str()));
    state
}

/// Takes the database away while the write of a request waits for its turn, and sends the request once more afterwards.
async fn interrupt(app: &TestApp, what: &str, request: impl Fn() -> RequestBuilder) {
    app.effects_done().await;
    let before = state(app).await;
    let mut from = (0..).map(address);
    let mut request = || request().header("x-forwarded-for", from.next().unwrap());
    let (mut connection, name) = beside(app).await;
    let held = Held::start(app).await;
    let begun = Instant::now();
    let asked = tokio::spawn(answer(request()));
    held.waited_for_by(app, 1).await;
    take_away(&mut connection, &name).await;
    held.let_go().await;
    let refused = asked.await.unwrap();
    assert!(begun.elapsed() < ANSWERED_WITHIN, "{what}");
    let refusal = (503, "SERVICE_UNAVAILABLE".to_owned());
    assert_eq!(refused.refusal(), refusal, "{what}: {}", refused.text);
    assert_eq!(refused.header("retry-after"), "1", "{what}");
    assert!(refused.cookies().is_empty(), "{what}");

    give_back(&mut connection, &name).await;
    let mut changed = state(app).await;
    changed.retain(|table, rows| before.get(table) != Some(rows));
    assert!(changed.is_empty(), "{what} is half done: {changed:?}");
    let failed = "attempts where cardinality(failed_at) > 0";
    assert_eq!(app.count(failed).await, 0, "{what} counted as wrong");
    let mut done = refused;
    wait_until("it works by itself", async || {
        done = answer(request()).await;
        done.status != 503
    })
    .await;
    assert_eq!(done.status, 200, "{what}: {}", done.text);
}

async fn interrupt_redemption(kind: Kind) {
    let settings = [
        LIMITED[0],
        LIMITED[1],
        LIMITED[2],
        ("MANA_AUTH_DELETE_USER_CONFIRM", "true"),
    ];
    let app = TestApp::start(&settings).await;
    let mailed = kind.mail(&app, "ada").await;
    let before = mailed.done(&app).await;
    interrupt(&app, &format!("{kind:?}"), || mailed.request(&app)).await;
    assert_eq!(mailed.done(&app).await, before + 1, "{kind:?}");
}

#[tokio::test]
async fn a_link_that_could_not_be_followed_is_still_good() {
    let writing = KINDS.into_iter().filter(|kind| *kind != Kind::Consent);
    join_all(writing.map(interrupt_redemption)).await;
}

async fn interrupt_password_door(recipe: &Recipe) {
    let app = TestApp::start(&LIMITED).await;
    let session = app.signed_in("ada").await;
    let request = || (recipe.send)(&app, "ada", &session, PASSWORD).timeout(PATIENCE);
    interrupt(&app, recipe.path, request).await;
}

#[tokio::test]
async fn a_right_password_that_led_nowhere_is_still_right() {
    // The others look at an account that has no second factor, and write nothing; or they ask for what is not there.
    let writes = |path: &str| {
        (!path.contains("two-factor") || path.ends_with("/enable")) && !path.ends_with("/restore")
    };
    let writing = password_doors()
        .filter(|recipe| writes(recipe.path) && !recipe.path.ends_with("verify-password"));
    join_all(writing.map(interrupt_password_door)).await;
}

/// A new password by mail ends the locks of the account, too: it is set when they could be ended, or not at all.
#[tokio::test]
async fn a_reset_that_could_not_end_the_locks_is_still_good() {
    let app = TestApp::start(&SETTINGS).await;
    let mailed = Kind::Reset.mail(&app, "ada").await;
    let before = mailed.done(&app).await;
    let held = hold(&app, "attempts").await;
    assert_eq!(mailed.redeem(&app).await.status, 503);
    assert_eq!(mailed.done(&app).await, before);
    held.let_go().await;
    // Connections that waited in vain may not be back yet.
    wait_until("the reset is carried out", async || {
        mailed.redeem(&app).await.status == 200
    })
    .await;
    assert_eq!(mailed.done(&app).await, before + 1);
}
