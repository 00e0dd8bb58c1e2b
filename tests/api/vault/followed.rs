//! The audit log as a read model: it follows the log by itself, one node at a time, with every call once (design 5).

use aggregates::UserId;
use aggregates::vault::{Ask, Client, Vault, VaultCommand};
use mana_auth::follower::{self, Follower, Parked, Step};
use mana_auth::rebuild;
use mana_auth::store::log::ERASURE;
use mana_auth::store::{Actor, Context};
use metrics_exporter_prometheus::PrometheusBuilder;
use projections::Projection;
use projections::vault_audit::{self, AuditRow};
use serde_json::Value;
use sqlx::{Executor as _, Postgres, Transaction};

use super::Mode::Standard;
use super::audit::{ALL, of};
use super::{VAULT, bring_to};
use crate::admin::ADMINS;
use crate::client::{Session, UNVERIFIED, answer};
use crate::deletion::delete_account;
use crate::harness::{TestApp, wait_until};
use crate::rebuild::{compare, service};
use crate::secrecy::Lines;

const MODEL: Projection = vault_audit::PROJECTION;
pub const PROXY: (&str, &str) = ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8");

pub fn model() -> &'static Projection {
    follower::models()
        .find(|model| model.name == MODEL.name)
        .unwrap()
}

/// A fetch from an address and by a program that can be told from others.
pub async fn fetch(app: &TestApp, who: &Session) {
    let request = app.request("GET", &format!("{VAULT}/key"));
    let request = request.bearer_auth(&who.token);
    let request = request.header("x-forwarded-for", "203.0.113.77");
    let request = request.header("user-agent", "Difference-Engine/2.1");
    assert_eq!(answer(request).await.status, 200);
}

pub async fn rows(app: &TestApp, user_id: &str) -> Vec<AuditRow> {
    sqlx::query_as("select * from read.vault_audit where user_id = $1 order by position")
        .bind(user_id)
        .fetch_all(&app.admin)
        .await
        .unwrap()
}

/// Ada and Bob, with a vault each.
pub async fn two_with_vaults(app: &TestApp) -> [Session; 2] {
    let both = [app.signed_in("ada").await, app.signed_in("bob").await];
    for who in &both {
        bring_to(app, who, Standard).await;
    }
    both
}

/// The one stream that is parked.
async fn the_parked(app: &TestApp) -> Parked {
    let parked = follower::parked(&app.admin, MODEL.name).await.unwrap();
    assert_eq!(parked.len(), 1, "{parked:?}");
    parked.into_iter().next().unwrap()
}

/// Gives the lease to nobody that there is: no node follows until it is over.
async fn hold_back(app: &TestApp) {
    let steal = "update followers.leases set holder = 'nobody', fence = fence + 1,
                 expires_at = clock_timestamp() + interval '1 hour' where name = 'models'";
    // The first to follow makes the row.
    wait_until("somebody follows", async || {
        app.admin.execute(steal).await.unwrap().rows_affected() == 1
    })
    .await;
    // Whoever was at it has gone on to its end.
    sqlx::query("select from followers.models for update")
        .execute(&app.admin)
        .await
        .unwrap();
}

/// Whoever follows stops before its next step, until the transaction ends.
pub async fn hold_up(app: &TestApp) -> Transaction<'static, Postgres> {
    let mut held = app.admin.begin().await.unwrap();
    held.execute("select from followers.models for update")
        .await
        .unwrap();
    held
}

async fn let_go(app: &TestApp) {
    let end = "update followers.leases set expires_at = clock_timestamp() where name = 'models'";
    app.admin.execute(end).await.unwrap();
}

async fn tamper(app: &TestApp, sql: &str) {
    let mut tx = app.admin.begin().await.unwrap();
    tx.execute("set local session_replication_role = replica")
        .await
        .unwrap();
    tx.execute(sql).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn a_row_says_who_asked_from_where_and_in_which_session_and_request() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    fetch(&app, &ada).await;
    app.followed().await;
    let found = rows(&app, &ada.user_id).await;
    let [made, fetched] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((made.action.as_str(), made.status), ("init", 201));
    assert_eq!((fetched.action.as_str(), fetched.status), ("fetch", 200));
    assert_eq!(fetched.ip_address.as_deref(), Some("203.0.113.77"));
    assert_eq!(fetched.user_agent.as_deref(), Some("Difference-Engine/2.1"));
    assert_eq!(fetched.created_at, app.clock.now());
    let of_log: (i64, String, Value) = sqlx::query_as(
        "select position, event_id::text, metadata from events where aggregate_type = 'vault' order by position desc limit 1",
    )
    .fetch_one(&app.admin)
    .await
    .unwrap();
    assert_eq!((fetched.position, &fetched.id), (of_log.0, &of_log.1));
    assert_eq!(
        fetched.session_id.as_deref(),
        of_log.2["session_id"].as_str()
    );
    assert_eq!(
        fetched.request_id.as_deref(),
        of_log.2["correlation_id"].as_str()
    );
    assert!(fetched.session_id.is_some() && fetched.request_id.is_some());
    // They are shown after the rows are there.
    for gauge in [
        format!("position{{model=\"vault_audit\"}} {}", of_log.0),
        "lag_events{model=\"vault_audit\"} 0".to_owned(),
        "lag_seconds{model=\"vault_audit\"} 0".to_owned(),
        "parked_streams{model=\"vault_audit\"} 0".to_owned(),
        "leader 1".to_owned(),
    ] {
        wait_until(&gauge, async || {
            let metrics = app.app.metrics.render();
            metrics.contains(&format!("\nfollower_{gauge}\n"))
        })
        .await;
    }
}

/// Each call once, whoever follows; who has lost the lease writes nothing.
#[tokio::test]
async fn another_node_goes_on_where_one_was_stopped() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let other = app.node(&[UNVERIFIED, PROXY]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    app.followed().await;
    for _ in 0..3 {
        hold_back(&app).await;
        let before = rows(&app, &ada.user_id).await;
        for node in [&app, &other] {
            fetch(node, &ada).await;
            let step = Follower::new(&node.app).step(model()).await.unwrap();
            assert_eq!(step, Step::Standby);
        }
        assert_eq!(rows(&app, &ada.user_id).await, before);
        let_go(&app).await;
        app.followed().await;
        assert_eq!(rows(&app, &ada.user_id).await.len(), before.len() + 2);
    }
    // Who is held up in the middle, and loses the lease meanwhile.
    let held = hold_up(&app).await;
    fetch(&app, &ada).await;
    let waiting =
        "pg_stat_activity where wait_event_type = 'Lock' and query like '%followers.models m%'";
    wait_until("the follower waits", async || app.count(waiting).await > 0).await;
    let steal = "update followers.leases set fence = fence + 1, holder = 'nobody',
                 expires_at = clock_timestamp() + interval '1 hour' where name = 'models'";
    app.admin.execute(steal).await.unwrap();
    held.commit().await.unwrap();
    wait_until("the follower has gone on", async || {
        app.count(waiting).await == 0
    })
    .await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 7);
    let_go(&app).await;
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 8);
    assert_eq!(compare(&app, model()).await.differing, Vec::<String>::new());
}

/// What pages say of ada's vault and of all of them; bob's has all its rows.
async fn assert_incomplete(
    app: &TestApp,
    root: &Session,
    ada: &Session,
    bob: &Session,
    incomplete: bool,
) {
    for (path, wanted) in [
        (ALL.to_owned(), incomplete),
        (of(&ada.user_id), incomplete),
        (format!("{ALL}?userId={}", ada.user_id), incomplete),
        (of(&bob.user_id), false),
        (format!("{ALL}?userId={}", bob.user_id), false),
    ] {
        let read = app.audit(root, &path).await;
        assert_eq!(read.json()["incomplete"], wanted, "{path}");
        let join = if path.contains('?') { '&' } else { '?' };
        let csv = app.audit(root, &format!("{path}{join}format=csv")).await;
        assert_eq!(csv.header("x-incomplete"), wanted.to_string(), "{path}");
    }
    for (who, wanted) in [(ada, incomplete), (bob, false)] {
        let own = app.own_audit(who, "").await;
        assert_eq!(own.json()["incomplete"], wanted);
        assert_eq!(own.header("x-incomplete"), wanted.to_string());
    }
}

/// An event that does not open holds up its own stream, is shown, and is made up for. The test's runtime has one thread,
/// so what the service measures comes here.
#[tokio::test]
async fn a_broken_event_parks_its_stream_and_no_other() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let measured = recorder.handle();
    let _here = metrics::set_default_local_recorder(&recorder);
    let shown = async |parked: i64| {
        let line = format!("\nfollower_parked_streams{{model=\"vault_audit\"}} {parked}\n");
        wait_until(&line, async || measured.render().contains(&line)).await;
    };
    let app = TestApp::start(&[&ADMINS[..], &[PROXY]].concat()).await;
    let root = app.signed_in("root").await;
    let [ada, bob] = two_with_vaults(&app).await;
    app.followed().await;
    assert_incomplete(&app, &root, &ada, &bob, false).await;
    hold_back(&app).await;
    fetch(&app, &ada).await;
    let last = "aggregate_type = 'vault' and position = (select max(position) from events)";
    tamper(
        &app,
        &format!("create table spare as select * from events where {last}"),
    )
    .await;
    tamper(
        &app,
        &format!("update events set payload = '{{\"unheard_of\": {{}}}}' where {last}"),
    )
    .await;
    fetch(&app, &ada).await;
    fetch(&app, &bob).await;
    let_go(&app).await;
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 1, "both wait");
    assert_eq!(rows(&app, &bob.user_id).await.len(), 2);
    let parked = the_parked(&app).await;
    assert_eq!(
        (parked.stream_type.as_str(), parked.stream_id.as_str()),
        ("vault", ada.user_id.as_str())
    );
    assert_incomplete(&app, &root, &ada, &bob, true).await;
    let before = format!("?at={}", parked.position - 1);
    let before = app.own_audit(&ada, &before);
    assert_eq!(
        before.await.json()["incomplete"],
        false,
        "nothing is missing until then"
    );
    shown(1).await;

    tamper(
        &app,
        "update events e set payload = s.payload from spare s where e.event_id = s.event_id",
    )
    .await;
    wait_until("the stream goes on", async || {
        let_go(&app).await;
        Follower::new(&app.app).retry(model()).await.unwrap();
        follower::parked(&app.admin, MODEL.name)
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    shown(0).await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 3);
    assert_incomplete(&app, &root, &ada, &bob, false).await;
    assert_eq!(compare(&app, model()).await.differing, Vec::<String>::new());
}

/// So does one whose row the database does not take.
#[tokio::test]
async fn a_refused_row_parks_its_stream_and_no_other() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, bob] = two_with_vaults(&app).await;
    hold_back(&app).await;
    let command = VaultCommand {
        ask: Ask::Fetch { broken: None },
        owner: UserId::new(&ada.user_id),
        client: Client {
            ip_address: "203.0.113.77".to_owned(),
            // Sealed it is a text like any other.
            user_agent: "Engine\0".to_owned(),
        },
        at: app.clock.now(),
    };
    let context = Context::of(Actor::System);
    let stream = app.app.store.run::<Vault>(&ada.user_id, command, context);
    let refused = stream.await.unwrap().position.unwrap();
    fetch(&app, &ada).await;
    fetch(&app, &bob).await;
    let_go(&app).await;
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 1, "both wait");
    assert_eq!(rows(&app, &bob.user_id).await.len(), 2);
    let parked = the_parked(&app).await;
    let wanted = (ada.user_id.as_str(), refused);
    assert_eq!((parked.stream_id.as_str(), parked.position), wanted);
    assert_eq!(parked.error, "the database refuses its row (22021)");
}

/// A node that follows what it has written itself does not read it back.
#[tokio::test]
async fn what_a_node_has_written_itself_is_not_read_back() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, _] = two_with_vaults(&app).await;
    app.followed().await;
    let held = hold_up(&app).await;
    fetch(&app, &ada).await;
    let last = "aggregate_type = 'vault' and position = (select max(position) from events)";
    for sql in [
        &format!("create table spare as select * from events where {last}"),
        &format!("update events set payload = '{{\"unheard_of\": {{}}}}' where {last}"),
    ] {
        tamper(&app, sql).await;
    }
    held.rollback().await.unwrap();
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 2);
    let back = "update events e set payload = s.payload from spare s where e.event_id = s.event_id";
    tamper(&app, back).await;
    assert_eq!(compare(&app, model()).await.differing, Vec::<String>::new());
}

/// Nor does it keep what it does not need, as it is in clear: neither while a stream is parked, when the log is read...
#[tokio::test]
async fn nothing_stays_in_memory_while_a_stream_is_parked() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [_, bob] = two_with_vaults(&app).await;
    app.followed().await;
    let park = "insert into followers.parked (model, stream_type, stream_id, position, error)
                select 'vault_audit', 'vault', user_id, position, 'as a test wants it' from read.vault_audit
                order by position limit 1";
    app.admin.execute(park).await.unwrap();
    fetch(&app, &bob).await;
    app.followed().await;
    let fetched = rows(&app, &bob.user_id).await.pop().unwrap().position;
    let kept = app.app.store.recent().take(fetched - 1, fetched);
    assert!(kept.is_none(), "{} events", kept.unwrap().len());
}

/// ... nor once an account is closed, whose owner may be in it.
#[tokio::test]
async fn nothing_stays_in_memory_when_an_account_is_closed() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, bob] = two_with_vaults(&app).await;
    app.followed().await;
    let held = hold_up(&app).await;
    fetch(&app, &ada).await;
    let fetched = app.head().await;
    let closed = format!("events where event_type = '{ERASURE}'");
    let look = async {
        wait_until("the account is closed, and the node knows", async || {
            app.count(&closed).await > 0 && app.app.store.freshness().applied() >= app.head().await
        })
        .await;
        let kept = app.app.store.recent().take(fetched - 1, fetched);
        held.rollback().await.unwrap();
        kept
    };
    let (kept, ()) = tokio::join!(look, delete_account(&app, &bob));
    assert!(kept.is_none(), "{} events", kept.unwrap().len());
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 2);
}

/// As after a backup of the models alone was put back.
#[tokio::test]
async fn a_row_that_is_there_already_is_written_anew() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, _] = two_with_vaults(&app).await;
    app.followed().await;
    hold_back(&app).await;
    fetch(&app, &ada).await;
    fetch(&app, &ada).await;
    let there = "insert into read.vault_audit (id, position, user_id, action, status, created_at)
                 select event_id::text, position, 'nobody', 'rotate', 500, now() from events
                 where position = (select max(position) from events)";
    app.admin.execute(there).await.unwrap();
    let_go(&app).await;
    app.followed().await;
    assert_eq!(rows(&app, &ada.user_id).await.len(), 3);
    assert_eq!(compare(&app, model()).await.differing, Vec::<String>::new());
    let parked = follower::parked(&app.admin, MODEL.name).await.unwrap();
    assert!(parked.is_empty(), "{parked:?}");
}

/// What is wrong now need not be what was when the stream was parked.
#[tokio::test]
async fn a_parked_stream_that_cannot_be_tried_again_is_warned_of() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, _] = two_with_vaults(&app).await;
    app.followed().await;
    let park = "insert into followers.parked (model, stream_type, stream_id, position, error)
         select 'vault_audit', 'vault', user_id, position, 'as a test wants it' from read.vault_audit;
         create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'refused' using errcode = '53100'; end $$;
         create trigger refuse before insert on read.vault_audit for each row
         when (new.user_id = 'ADA') execute function refuse()";
    let park = park.replace("ADA", &ada.user_id);
    app.admin.execute(park.as_str()).await.unwrap();
    let lines = Lines::default();
    let (_second, _here) = lines.catch();
    wait_until("the other stream goes on", async || {
        let_go(&app).await;
        let _ = Follower::new(&app.app).retry(model()).await;
        follower::parked(&app.admin, MODEL.name)
            .await
            .unwrap()
            .len()
            == 1
    })
    .await;
    let lines = lines.text();
    let warned = |line: &&str| line.contains("WARN") && line.contains(&ada.user_id);
    let line = lines.lines().find(warned).expect("a warning");
    assert!(line.contains("refused"), "{line}");
}

/// I-7: also where the event was opened before, and written after, its owner's account was closed.
#[tokio::test]
async fn no_address_outlives_its_owner() {
    let app = TestApp::start(&[UNVERIFIED, PROXY]).await;
    let [ada, bob] = two_with_vaults(&app).await;
    for who in [&ada, &bob] {
        fetch(&app, who).await;
    }
    app.followed().await;
    hold_back(&app).await;
    fetch(&app, &ada).await;
    fetch(&app, &bob).await;
    // While who is closed cannot be read, the follower waits with what it has opened.
    let mut closing = app.admin.begin().await.unwrap();
    closing
        .execute("lock table read.erasures in access exclusive mode")
        .await
        .unwrap();
    sqlx::query("insert into read.erasures values ($1, 'own_request', now())")
        .bind(&ada.user_id)
        .execute(&mut *closing)
        .await
        .unwrap();
    let_go(&app).await;
    let waiting =
        "pg_stat_activity where wait_event_type = 'Lock' and query like '%from read.erasures%'";
    wait_until("the follower waits", async || app.count(waiting).await > 0).await;
    closing.commit().await.unwrap();
    app.followed().await;
    let newest = rows(&app, &ada.user_id).await.pop().unwrap();
    assert_eq!(
        (newest.action.as_str(), newest.ip_address, newest.user_agent),
        ("fetch", None, None)
    );
    let of_bob = rows(&app, &bob.user_id).await.pop().unwrap();
    assert_eq!(of_bob.ip_address.as_deref(), Some("203.0.113.77"));

    // And what was written long before goes with the account.
    delete_account(&app, &bob).await;
    app.followed().await;
    let left = rows(&app, &bob.user_id).await;
    assert_eq!(left.len(), 3);
    assert!(
        left.iter()
            .all(|row| row.ip_address.is_none() && row.user_agent.is_none())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_made_anew_while_calls_come_in() {
    let app = TestApp::start(&[UNVERIFIED, PROXY, ("MANA_AUTH_RATE_LIMIT", "off")]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let mut made = 1;
    for _ in 0..3 {
        let service = service(&app);
        let rebuilding = rebuild::rebuild(&app.app.store, &service, model(), |_| {});
        let calling = async {
            for _ in 0..40 {
                fetch(&app, &ada).await;
            }
        };
        let (rebuilt, ()) = tokio::join!(rebuilding, calling);
        rebuilt.unwrap();
        made += 40;
        app.followed().await;
        assert_eq!(rows(&app, &ada.user_id).await.len(), made);
        assert_eq!(compare(&app, model()).await.differing, Vec::<String>::new());
    }
}
