//! Commands that may wait are written together; one that may not takes along whoever waits.

use std::time::Duration;

use tokio::task::JoinHandle;

use crate::harness::{TestApp, wait_until};
use crate::people::person;

/// Longer than any test.
const FOR_EVER: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn commands_that_may_wait_go_with_one_that_may_not() {
    let node = TestApp::start(&[]).await;
    let patient = ["Ada", "Bob"].map(|name| {
        let (app, person) = (node.app.clone(), person(name));
        let context = person.with_key(&app).with_patience(FOR_EVER);
        tokio::spawn(async move { person.sign_up_with(&app, context).await })
    });
    let mut hurried = vec![];
    wait_until("both are written", async || {
        let eve = person(&format!("Eve{}", hurried.len()));
        eve.sign_up(&node.app).await.unwrap();
        hurried.push(eve.id.to_string());
        patient.iter().all(JoinHandle::is_finished)
    })
    .await;
    for written in patient {
        let position = written.await.unwrap().unwrap().position;
        let company: i64 = sqlx::query_scalar(
            "select count(*) from events e join events other on other.xmin = e.xmin
             where e.position = $1 and other.aggregate_id = any($2)",
        )
        .bind(position)
        .bind(&hurried)
        .fetch_one(&node.admin)
        .await
        .unwrap();
        assert!(company > 0, "it was written without one that may not wait");
    }
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
