//! Whatever becomes of the connection, a command is written once, and whoever was told so finds it.

use std::time::Duration;

use futures_util::future::join_all;
use mana_auth::store::{Context, RunError, StoreError};
use sqlx::{Executor as _, PgPool};
use tokio::sync::oneshot;

use crate::harness::{TestApp, wait_until};
use crate::people::person;
use crate::proxy::{Disturbance, Proxy};
use crate::tables::{assert_dense, changed, number, snapshot};

const KILL_APPENDER: &str = "select count(pg_terminate_backend(pid)) from pg_stat_activity
     where datname = current_database() and application_name = 'mana-auth appender'";
const WAITING_APPENDER: &str = "select count(*) from pg_stat_activity
     where datname = current_database() and application_name = 'mana-auth appender' and wait_event = 'advisory'";

async fn events_because_of(admin: &PgPool, request: &str) -> Vec<i64> {
    sqlx::query_scalar(
        "select position from events where metadata ->> 'correlation_id' = $1 order by 1",
    )
    .bind(request)
    .fetch_all(admin)
    .await
    .unwrap()
}

/// The connection breaks at each of the two moments that matter: then nobody is told before it is known
/// whether the transaction committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_command_whose_request_or_answer_was_lost_is_written_once() {
    let direct = TestApp::start(&[]).await;
    let proxy = Proxy::start(direct.database_socket()).await;
    let node = direct.node_through(proxy.port).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    for (request, disturbance) in [
        ("request-lost", Disturbance::DropRequest),
        ("answer-lost", Disturbance::DropAnswer),
    ] {
        let happened = proxy.disturb(request, disturbance);
        let context = Context::of(mana_auth::store::Actor::System).because(request, None);
        let done = ada.rename_with(&node.app, request, context).await.unwrap();
        happened.await.unwrap();
        assert_eq!(
            events_because_of(&node.admin, request).await,
            [done.position.unwrap()]
        );
    }
    assert_dense(&node.admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_killed_while_it_waits_for_the_lock_costs_nothing() {
    let node = TestApp::start(&[]).await;
    let mut holder = node.admin.begin().await.unwrap();
    holder
        .execute("select pg_advisory_xact_lock(7165746300)")
        .await
        .unwrap();
    let people: Vec<_> = (0..8).map(|number| person(&format!("P{number}"))).collect();
    let sign_ups = people.iter().map(|person| person.sign_up(&node.app));
    let disturb = async {
        for _ in 0..3 {
            wait_until("the appender waits", async || {
                number(&node.admin, WAITING_APPENDER).await > 0
            })
            .await;
            number(&node.admin, KILL_APPENDER).await;
        }
        holder.rollback().await.unwrap();
    };
    let (outcomes, ()) = tokio::join!(join_all(sign_ups), disturb);
    for outcome in outcomes {
        outcome.unwrap();
    }
    assert_eq!(
        number(&node.admin, "select count(*) from read.users").await,
        8
    );
    assert_eq!(
        number(
            &node.admin,
            "select count(*) from events where event_type = 'user.registered'"
        )
        .await,
        8
    );
    assert_dense(&node.admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_appender_under_load_loses_and_repeats_nothing() {
    let node = TestApp::start(&[]).await;
    let rounds = if crate::is_long() { 300 } else { 20 };
    let (stop, mut stopped) = oneshot::channel::<()>();
    let killer = async {
        let mut kills = 0;
        while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            kills += number(&node.admin, KILL_APPENDER).await;
            // Different pauses meet different moments, and some let the appender get on.
            tokio::time::sleep(Duration::from_millis(13 * (kills as u64 % 11))).await;
        }
        kills
    };
    let writer = async {
        let mut written = Vec::new();
        for round in 0..rounds {
            let people: Vec<_> = (0..8)
                .map(|number| person(&format!("P{round}x{number}")))
                .collect();
            let sign_ups = people.iter().map(|person| {
                let context = person.with_key(&node.app).because(person.id.as_str(), None);
                person.sign_up_with(&node.app, context)
            });
            for (person, outcome) in people.iter().zip(join_all(sign_ups).await) {
                written.push((person.id.clone(), outcome.unwrap().position.unwrap()));
            }
        }
        drop(stop);
        written
    };
    let (kills, written) = tokio::join!(killer, writer);
    assert!(kills > 3, "the appender was disturbed");
    for (id, position) in written {
        let found = events_because_of(&node.admin, id.as_str()).await;
        assert_eq!(
            found,
            [position - 1, position],
            "registered, and password set"
        );
    }
    assert_dense(&node.admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_holder_of_the_lock_costs_an_error_and_not_the_service() {
    let node = TestApp::start(&[]).await;
    let before = snapshot(&node.admin).await;
    let mut holder = node.admin.begin().await.unwrap();
    holder
        .execute("select pg_advisory_xact_lock(7165746300)")
        .await
        .unwrap();
    let people: Vec<_> = (0..5).map(|number| person(&format!("P{number}"))).collect();
    let sign_ups = people.iter().map(|person| person.sign_up(&node.app));
    for outcome in join_all(sign_ups).await {
        assert!(
            matches!(outcome, Err(RunError::Store(StoreError::Unavailable(_)))),
            "{outcome:?}"
        );
    }
    assert_eq!(changed(&before, &snapshot(&node.admin).await), [""; 0]);
    holder.rollback().await.unwrap();
    for person in people {
        person.sign_up(&node.app).await.unwrap();
    }
    assert_dense(&node.admin).await;
}
