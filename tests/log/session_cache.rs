//! I-9: a session that ended is refused at once where it ended and soon everywhere else, and a node that cannot
//! follow the log trusts nothing that it remembers.

use std::time::{Duration, Instant};

use mana_auth::crypto::tokens::{TokenHash, TokenKind};
use mana_auth::store::Client;
use tokio::sync::oneshot;

use crate::harness::{TestApp, wait_until};
use crate::people::{SignedIn, person};
use crate::proxy::{Disturbance, Proxy};

/// Far less than what is remembered is remembered for, and enough for a busy machine.
const SOON: Duration = Duration::from_secs(10);

async fn signed_in(node: &TestApp) -> SignedIn {
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    ada.sign_in(&node.app, Client::default()).await
}

async fn wait_until_trusted(node: &TestApp, position: i64) {
    wait_until("the node follows the log", async || {
        let freshness = node.app.store.freshness();
        freshness.is_trusted() && freshness.applied() >= position
    })
    .await;
}

/// Takes the row away behind everyone's back: who still knows the session then, remembers it.
async fn forget_row(node: &TestApp, session: &SignedIn) {
    sqlx::query("delete from read.sessions where id = $1")
        .bind(session.id.as_str())
        .execute(&node.admin)
        .await
        .unwrap();
}

/// S-31: revocation reaches every node.
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_is_refused_at_once_on_its_node_and_soon_on_the_other() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    let session = signed_in(&one).await;
    let head = mana_auth::store::log::head(&one.admin).await.unwrap();
    for node in [&one, &two] {
        wait_until_trusted(node, head).await;
        assert!(session.is_live(&node.app).await);
    }
    forget_row(&one, &session).await;
    // Trust may lapse for a moment on a busy machine, and then memory is not asked.
    let remembered = session.is_live(&one.app).await && session.is_live(&two.app).await;

    session.end(&one.app).await.unwrap();
    assert!(!session.is_live(&one.app).await, "at once where it ended");
    let give_up_at = Instant::now() + SOON;
    while session.is_live(&two.app).await {
        assert!(Instant::now() < give_up_at, "soon on the other node");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(remembered, "both nodes answered from memory before");
}

/// Other nodes' changes to the person count as well, not only those to the session.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_role_elsewhere_is_seen_soon() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&one.app).await.unwrap();
    let session = ada.sign_in(&one.app, Client::default()).await;
    let role = async |node: &TestApp| {
        let found = node
            .app
            .sessions
            .find(&session.token, node.clock.now())
            .await;
        found.unwrap().unwrap().user.role.clone()
    };
    assert_eq!(role(&two).await, "user");
    ada.change_role(&one.app, aggregates::Roles::admin())
        .await
        .unwrap();
    assert_eq!(role(&one).await, "admin", "at once where it changed");
    let give_up_at = Instant::now() + SOON;
    while role(&two).await != "admin" {
        assert!(Instant::now() < give_up_at, "soon on the other node");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_cannot_reach_the_database_stops_trusting_what_it_remembers() {
    let one = TestApp::start(&[]).await;
    let proxy = Proxy::start(one.database_socket()).await;
    let two = one.node_through(proxy.port).await;
    let session = signed_in(&one).await;
    let head = mana_auth::store::log::head(&one.admin).await.unwrap();
    wait_until_trusted(&two, head).await;
    assert!(session.is_live(&two.app).await);

    proxy.go_down();
    wait_until("the cut-off node trusts nothing", async || {
        !two.app.store.freshness().is_trusted()
    })
    .await;
    let found = two.app.sessions.find(&session.token, two.clock.now()).await;
    assert!(found.is_err(), "it neither admits nor denies");
}

/// A read that began before a change and ended after it puts an outdated answer into the cache.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_read_before_its_end_and_remembered_after_it_is_not_served() {
    let one = TestApp::start(&[]).await;
    let proxy = Proxy::start(one.database_socket()).await;
    let two = one.node_through(proxy.port).await;
    let session = signed_in(&one).await;
    let head = mana_auth::store::log::head(&one.admin).await.unwrap();
    wait_until_trusted(&two, head).await;

    let hash = TokenHash::of(TokenKind::Session, &session.token).to_hex();
    let (release, released) = oneshot::channel();
    let held = proxy.disturb(&hash, Disturbance::HoldAnswer(released));
    let slow_read = session.is_live(&two.app);
    let change = async {
        held.await.unwrap();
        let ended = session.end(&one.app).await.unwrap().position.unwrap();
        wait_until_trusted(&two, ended).await;
        release.send(()).unwrap();
    };
    let (was_live, ()) = tokio::join!(slow_read, change);
    assert!(was_live, "the read began before the end");
    wait_until_trusted(&two, 0).await;
    assert!(!session.is_live(&two.app).await);
}

/// S-32: the end that a session has by itself needs no cleaner.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_session_is_refused_although_it_is_remembered() {
    let node = TestApp::start(&[]).await;
    let session = signed_in(&node).await;
    assert!(session.is_live(&node.app).await);
    node.clock.advance(chrono::TimeDelta::days(7));
    assert!(!session.is_live(&node.app).await);
}
