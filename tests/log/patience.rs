//! Commands that may wait are written together; one that may not takes along whoever waits.

use std::time::Duration;

use crate::harness::TestApp;
use crate::people::{Person, person};

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_may_wait_go_with_the_first_that_may_not() {
    let node = TestApp::start(&[]).await;
    let [ada, bob, eve] = ["Ada", "Bob", "Eve"].map(person);
    let patient = |person: &Person| person.with_key(&node.app).with_patience(FOR_EVER);
    let (first, second) = (patient(&ada), patient(&bob));
    let hurried = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        eve.sign_up(&node.app).await
    };
    let (one, two, three) = tokio::join!(
        ada.sign_up_with(&node.app, first),
        bob.sign_up_with(&node.app, second),
        hurried,
    );
    let positions = [one, two, three].map(|done| done.unwrap().position);
    let transactions: i64 = sqlx::query_scalar(
        "select count(distinct xmin::text) from events where position = any($1)",
    )
    .bind(positions)
    .fetch_one(&node.admin)
    .await
    .unwrap();
    assert_eq!(transactions, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_nobody_joins_is_written_when_its_patience_ends() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    let brief = ada
        .with_key(&node.app)
        .with_patience(Duration::from_millis(50));
    ada.sign_up_with(&node.app, brief).await.unwrap();
}
