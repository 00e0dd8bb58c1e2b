//! Typed preconditions: whoever loses one is told which, changes nothing, and harms nobody in the same batch.

use aggregates::{Roles, Tier};
use futures_util::future::join_all;
use mana_auth::app::App;
use mana_auth::effects;
use mana_auth::mail::{Mail, MailKind};
use mana_auth::store::idempotency::{Fingerprint, Known, Outcome};
use mana_auth::store::{Actor, Context, RunError, StoreError, log};
use serde_json::json;
use sqlx::{Executor as _, PgPool};

use crate::by_hand::append;
use crate::harness::{TestApp, wait_until};
use crate::people::{Person, UserOutcome, person};
use crate::tables::{assert_dense, changed, number, snapshot};

/// The lock of the append.
const LOCK: &str = "select pg_advisory_xact_lock(7165746300)";

fn store_error(outcome: UserOutcome) -> StoreError {
    match outcome {
        Err(RunError::Store(error)) => error,
        other => panic!("not an error of the store: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_another_node_changed_is_read_again_and_both_changes_stand() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&one.app).await.unwrap();
    ada.change_role(&one.app, Roles::admin()).await.unwrap();
    ada.change_tier(&two.app, Tier::Beta).await.unwrap();
    // The first node still remembers the stream as it was before that.
    ada.rename(&one.app, "Ada King").await.unwrap();
    let stream = log::stream(&one.admin, "user", ada.id.as_str())
        .await
        .unwrap();
    let types: Vec<&str> = stream.iter().map(|row| row.event_type.as_str()).collect();
    let expected = [
        "user.registered",
        "user.password_set",
        "user.role_changed",
        "user.tier_changed",
        "user.profile_changed",
    ];
    assert_eq!(types, expected);
    assert_dense(&one.admin).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_changes_to_one_stream_those_that_won_stand_and_the_others_conflict() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&one.app).await.unwrap();
    let renamings = (0..40).map(|number| {
        let app = if number % 2 == 0 { &one.app } else { &two.app };
        let (ada, name) = (ada.clone(), format!("Ada {number}"));
        async move { ada.rename(app, &name).await }
    });
    let outcomes = join_all(renamings).await;
    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    for outcome in outcomes {
        if let Err(error) = outcome {
            assert!(
                matches!(error, RunError::Store(StoreError::Conflict)),
                "{error:?}"
            );
        }
    }
    let renamed = "select count(*) from events where event_type = 'user.profile_changed'";
    assert_eq!(number(&one.admin, renamed).await, won as i64);
    assert!(won > 0);
    assert_dense(&one.admin).await;
}

/// I-12: what a node remembers may lose an append, but never decides that there is nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_do_is_decided_from_the_log_and_not_from_memory() {
    let one = TestApp::start(&[]).await;
    let two = one.node(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&one.app).await.unwrap();
    ada.change_role(&one.app, Roles::admin()).await.unwrap();
    ada.change_role(&two.app, Roles::user()).await.unwrap();
    let again = ada.change_role(&one.app, Roles::admin()).await.unwrap();
    assert!(
        again.position.is_some(),
        "the other node took the role back"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_true_already_yields_no_event() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    ada.change_tier(&node.app, Tier::Beta).await.unwrap();
    let before = snapshot(&node.admin).await;
    let again = ada.change_tier(&node.app, Tier::Beta).await.unwrap();
    assert_eq!(again.position, None);
    assert_eq!(
        changed(&before, &snapshot(&node.admin).await),
        [""; 0],
        "nothing is written"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_address_is_refused_and_nothing_of_the_loser_is_written() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    let mut impostor = person("Impostor");
    impostor.email = ada.email.clone();
    let before = snapshot(&node.admin).await;
    let context = impostor.with_key(&node.app).then(a_mail_to(&impostor));
    let error = store_error(impostor.sign_up_with(&node.app, context).await);
    assert!(
        matches!(&error, StoreError::ClaimTaken(scope) if scope == "email"),
        "{error:?}"
    );
    assert_eq!(changed(&before, &snapshot(&node.admin).await), [""; 0]);
}

/// I-7: an erasure between sealing and append does not bring the person back.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_key_that_is_destroyed_between_load_and_append_stops_the_command() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    // The node has the open key in memory and seals with it; only the append can notice.
    destroy_data_key(&node.admin, &ada).await;
    let before = snapshot(&node.admin).await;
    let error = store_error(ada.rename(&node.app, "Ada King").await);
    assert!(matches!(error, StoreError::NoDataKey), "{error:?}");
    assert_eq!(changed(&before, &snapshot(&node.admin).await), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_good_for_one_command_and_keeps_its_outcome() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    let request = Fingerprint::of(
        &node.app.root,
        "rename",
        "key-1",
        b"{\"name\":\"Ada King\"}",
    );
    let outcome = || Outcome {
        status: 200,
        body: b"{\"ok\":true}".to_vec(),
    };
    let once = |request: Fingerprint| {
        let actor = Actor::User(ada.id.to_string());
        Context::of(actor).once(Some(request.with(ada.id.as_str(), Some(outcome()))))
    };
    assert!(matches!(known(&node.app, request).await, Known::New));
    ada.rename_with(&node.app, "Ada King", once(request))
        .await
        .unwrap();
    let Known::Repeated(Some(kept)) = known(&node.app, request).await else {
        panic!("the outcome is kept");
    };
    assert!(kept == outcome(), "byte for byte");
    let other_body = Fingerprint::of(&node.app.root, "rename", "key-1", b"{}");
    assert!(matches!(known(&node.app, other_body).await, Known::Misused));

    let before = snapshot(&node.admin).await;
    let error = store_error(ada.rename_with(&node.app, "Countess", once(request)).await);
    assert!(matches!(error, StoreError::IdempotencyKeyUsed), "{error:?}");
    assert_eq!(changed(&before, &snapshot(&node.admin).await), [""; 0]);
}

async fn known(app: &App, request: Fingerprint) -> Known {
    request
        .look_up(&app.pool, app.store.custody())
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_replaced_since_it_was_seen_stops_the_command() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    let version: i64 = 1;
    let seen = |version: i64, id: &str| {
        serde_json::json!({"custody_seen": [
            {"command": 1, "kind": "data_key", "owner": ada.id.as_str(), "id": id, "version": version},
        ]})
    };
    let before = snapshot(&node.admin).await;
    for (version, id) in [(version + 1, "1"), (version, "no such secret")] {
        let refusal = append_one(&node.app.pool, "custody-test", &seen(version, id)).await;
        assert_eq!(refusal.as_deref(), Some("custody"));
    }
    assert_eq!(changed(&before, &snapshot(&node.admin).await), [""; 0]);
    let refusal = append_one(&node.app.pool, "custody-test", &seen(version, "1")).await;
    assert_eq!(refusal, None);
    assert_dense(&node.admin).await;
}

/// Appends the first event of a stream by hand; answers with the refusal.
async fn append_one(pool: &PgPool, stream: &str, more: &serde_json::Value) -> Option<String> {
    let mut connection = pool.acquire().await.unwrap();
    append(
        &mut connection,
        ("test", stream),
        0,
        1,
        "by-hand",
        more.clone(),
    )
    .await
    .unwrap()
}

/// While the lock is held elsewhere, commands gather and are then written as one batch.
#[tokio::test(flavor = "multi_thread")]
async fn losers_of_a_batch_do_not_fail_their_neighbours() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    for round in 0..20 {
        let gone = person(&format!("Gone{round}"));
        gone.sign_up(&node.app).await.unwrap();
        destroy_data_key(&node.admin, &gone).await;
        let mut impostor = person("Impostor");
        impostor.email = ada.email.clone();
        let (first, second) = (
            person(&format!("First{round}")),
            person(&format!("Second{round}")),
        );
        let gathered = gather(&node, async || {
            tokio::join!(
                first.sign_up(&node.app),
                impostor.sign_up(&node.app),
                gone.rename(&node.app, "Nobody"),
                second.sign_up(&node.app),
            )
        });
        let (one, taken, erased, two) = gathered.await;
        assert!(matches!(store_error(taken), StoreError::ClaimTaken(_)));
        assert!(matches!(store_error(erased), StoreError::NoDataKey));
        let (one, two) = (one.unwrap(), two.unwrap());
        assert_dense(&node.admin).await;
        let transactions: i64 = sqlx::query_scalar(
            "select count(distinct xmin::text) from events where position = any($1)",
        )
        .bind([one.position, two.position])
        .fetch_one(&node.admin)
        .await
        .unwrap();
        if transactions == 1 {
            return;
        }
    }
    panic!("the commands never met in one batch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_error_of_one_command_fails_that_one_alone() {
    let node = TestApp::start(&[]).await;
    for round in 0..20 {
        let batches_refused = batches_refused(&node);
        let people: Vec<Person> = (0..6)
            .map(|number| person(&format!("P{round}x{number}")))
            .collect();
        let broken = person(&format!("Broken{round}"));
        // An event queues at most one effect of a kind.
        let twice = broken
            .with_key(&node.app)
            .then(a_mail_to(&broken))
            .then(a_mail_to(&broken));
        let (outcomes, broken_outcome) = gather(&node, async || {
            tokio::join!(
                join_all(people.iter().map(|person| person.sign_up(&node.app))),
                broken.sign_up_with(&node.app, twice.clone()),
            )
        })
        .await;
        for outcome in outcomes {
            outcome.unwrap();
        }
        let error = store_error(broken_outcome);
        assert!(
            matches!(&error, StoreError::Broken(reason) if reason.contains("effects_pkey")),
            "{error:?}"
        );
        let traces: i64 = sqlx::query_scalar(
            "select (select count(*) from events where aggregate_id = $1) + (select count(*) from custody where owner = $1)
                  + (select count(*) from claims where owner = $1) + (select count(*) from effects where subject = $1)
                  + (select count(*) from read.users where id = $1)",
        )
        .bind(broken.id.as_str())
        .fetch_one(&node.admin)
        .await
        .unwrap();
        assert_eq!(traces, 0, "nothing of the loser is written");
        assert_dense(&node.admin).await;
        if self::batches_refused(&node) > batches_refused {
            return;
        }
    }
    panic!("the commands never met in one batch");
}

/// How often a batch was refused as a whole. No other test of this process brings that about.
fn batches_refused(node: &TestApp) -> u64 {
    let metrics = node.app.metrics.render();
    metrics
        .lines()
        .find_map(|line| line.strip_prefix("appender_batch_errors_total "))
        .map_or(0, |count| count.parse().unwrap())
}

/// Carries commands out while the append waits for its lock, so that they gather.
async fn gather<T>(node: &TestApp, commands: impl AsyncFnOnce() -> T) -> T {
    let mut holder = node.admin.begin().await.unwrap();
    holder.execute(LOCK).await.unwrap();
    let opener = person(&format!("Opener{}", mana_auth::ids::user()));
    let opening = opener.sign_up(&node.app);
    let release = async {
        wait_until("the append waits for its lock", async || {
            let waits = "select count(*) from pg_stat_activity
                         where datname = current_database() and wait_event = 'advisory'
                           and application_name = 'mana-auth appender'";
            number(&node.admin, waits).await > 0
        })
        .await;
        // Long enough for what comes now to queue up, which it mostly does: callers look, and try again.
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        holder.rollback().await.unwrap();
    };
    let (opened, (), done) = tokio::join!(opening, release, commands());
    opened.unwrap();
    done
}

async fn destroy_data_key(admin: &PgPool, person: &Person) {
    let destroyed = sqlx::query("delete from custody where kind = 'data_key' and owner = $1")
        .bind(person.id.as_str())
        .execute(admin)
        .await
        .unwrap();
    assert_eq!(destroyed.rows_affected(), 1);
}

fn a_mail_to(person: &Person) -> mana_auth::store::EffectDraft {
    let mail = Mail::to(MailKind::AccountExists, &person.email, &person.name, None);
    effects::mail(person.id.as_str(), &mail)
}

/// Each command of a call loses for itself, for the first reason that it has, or for its stream if it has not seen that.
#[tokio::test(flavor = "multi_thread")]
async fn of_one_call_the_winners_stand_without_a_gap_and_each_loser_is_told_why() {
    let node = TestApp::start(&[]).await;
    let (ada, gone) = (person("Ada"), person("Gone"));
    for person in [&ada, &gone] {
        person.sign_up(&node.app).await.unwrap();
    }
    destroy_data_key(&node.admin, &gone).await;
    let mut app = node.app.pool.acquire().await.unwrap();
    for stream in ["longer", "there"] {
        let one = append(&mut app, ("test", stream), 0, 1, "before", json!({})).await;
        assert_eq!(one.unwrap(), None);
    }
    let head = number(&node.admin, "select max(position) from events").await;
    let claim: String = sqlx::query_scalar(
        "select encode(key_hash, 'hex') from claims where scope = 'email' and owner = $1",
    )
    .bind(ada.id.as_str())
    .fetch_one(&node.admin)
    .await
    .unwrap();
    let take = |command: i32| json!({"command": command, "scope": "email", "key_hash": claim, "owner": "x", "pepper_id": "1"});
    let streams = [
        // What the stream has, and events.
        ("longer", 1, 2),
        ("there", 5, 1),
        ("there too", 0, 1),
        ("takes", 0, 1),
        ("is about nobody", 0, 1),
        ("outdated and over", 1, 1),
        ("over", 0, 1),
        ("last", 0, 2),
    ];
    let of_commands = |of: fn(&(&str, i64, i64)) -> i64| streams.iter().map(of).collect::<Vec<_>>();
    let commands: Vec<i32> = (1..)
        .zip(&streams)
        .flat_map(|(n, stream)| std::iter::repeat_n(n, stream.2 as usize))
        .collect();
    let sequences: Vec<i64> = streams
        .iter()
        .flat_map(|&(_, has, events)| has + 1..=has + events)
        .collect();
    let subjects = [None, None, Some(&ada), None, Some(&gone), None, None, None];
    let over = |n: usize| [5, 6].contains(&n).then_some("no-session");
    let (losers, reasons): (Vec<i32>, Vec<String>) = sqlx::query_as(
        "select losers, reasons from append(
             p_stream_type => array_fill('test'::text, array[8]), p_stream_id => $1, p_expected => $2, p_version => $3,
             p_subject => $4, p_session => $5, p_session_of => $5, p_vault => '{}', p_written_by => '{}',
             p_command => $6, p_sequence => $7, p_event_type => array_fill('test.happened'::text, array[10]),
             p_event_version => array_fill('1'::text, array[10]), p_payload => array_fill('{}'::text, array[10]),
             p_metadata => array_fill('{}'::text, array[10]),
             p_event_id => array(select gen_random_uuid() from generate_series(1, 10)),
             p_model => '{}', p_rows => '{}', p_more => $8)",
    )
    .bind(streams.map(|(id, ..)| id))
    .bind(of_commands(|stream| stream.1))
    .bind(of_commands(|stream| stream.1 + stream.2))
    .bind(subjects.map(|subject| subject.map(|person| person.id.as_str())))
    .bind((0..8).map(over).collect::<Vec<_>>())
    .bind(commands)
    .bind(sequences)
    .bind(json!({"claims_take": [take(4), take(5)]}))
    .fetch_one(&mut *app)
    .await
    .unwrap();
    let mut told: Vec<_> = losers.into_iter().zip(reasons).collect();
    told.sort();
    let expected = [
        (2, "stream_version"),
        (4, "claim:email"),
        (5, "data_key"),
        (6, "stream_version"),
        (7, "session"),
    ];
    assert_eq!(told, expected.map(|(n, reason)| (n, reason.to_owned())));
    let written: Vec<(i64, String, i64)> = sqlx::query_as(
        "select position, aggregate_id, sequence from events where position > $1 order by position",
    )
    .bind(head)
    .fetch_all(&node.admin)
    .await
    .unwrap();
    let stands = [
        ("longer", 2),
        ("longer", 3),
        ("there too", 1),
        ("last", 1),
        ("last", 2),
    ];
    let stands = (head + 1..)
        .zip(stands)
        .map(|(position, (id, sequence))| (position, id.to_owned(), sequence));
    assert_eq!(written, stands.collect::<Vec<_>>());
    assert_dense(&node.admin).await;
}

/// While nodes are replaced one by one, those of the version before write with the `append` that they know.
#[tokio::test(flavor = "multi_thread")]
async fn the_append_of_the_version_before_stands_and_asks_as_it_did() {
    let node = TestApp::start(&[]).await;
    let ada = person("Ada");
    ada.sign_up(&node.app).await.unwrap();
    let mut app = node.app.pool.acquire().await.unwrap();
    let mut append = async |id: &str, more: serde_json::Value| -> Option<String> {
        sqlx::query_scalar(
            "select reasons[1] from append(
                 p_stream_type => '{test}', p_stream_id => array[$1], p_expected => '{0}', p_version => '{1}',
                 p_subject => array[$2], p_command => '{1}', p_sequence => '{1}', p_event_type => '{test.happened}',
                 p_event_version => '{1}', p_payload => '{\"{}\"}', p_metadata => '{\"{}\"}',
                 p_event_id => array[gen_random_uuid()], p_model => '{}', p_rows => '{}', p_more => $3)",
        )
        .bind(id)
        .bind(ada.id.as_str())
        .bind(more)
        .fetch_one(&mut *app)
        .await
        .unwrap()
    };
    let over = json!([{"command": 1, "id": "no-session", "user_id": ada.id.as_str()}]);
    let lost = append("one", json!({ "session_lives": over })).await;
    assert_eq!(lost.as_deref(), Some("session"));
    let other = json!([{"command": 1, "owner": ada.id.as_str(), "written_by": 1}]);
    let lost = append("two", json!({ "vault_seen": other })).await;
    assert_eq!(lost.as_deref(), Some("vault"));
    assert_eq!(append("three", json!({})).await, None);
    let written = "events where aggregate_type = 'test'";
    assert_eq!(
        number(&node.admin, &format!("select count(*) from {written}")).await,
        1
    );
    assert_dense(&node.admin).await;
}
