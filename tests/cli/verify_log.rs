//! `verify-log`: whoever edits the database behind the service's back is found, at the first position.

use std::fs;

use serde_json::{Value, json};

use crate::audit::checkpoint;
use crate::client::UNVERIFIED;
use crate::command::Cli;
use crate::harness::TestApp;
use crate::place::{beside, tamper};
use crate::tables::number;

/// What it found, as one object.
async fn found(cli: &Cli, code: i32) -> Value {
    let said = cli.run(&["verify-log", "--json"]).await;
    assert_eq!(said.code, code, "{} {}", said.out, said.err);
    said.json().pop().unwrap()
}

/// A log of a few people that nobody signs any more.
async fn log() -> (TestApp, Cli, i64) {
    let app = TestApp::start(&[UNVERIFIED]).await;
    for name in ["lovelace", "hopper", "liskov"] {
        app.signed_in(name).await;
        checkpoint(&app).await;
    }
    app.effects_done().await;
    checkpoint(&app).await;
    let cli = beside(&app);
    let hold =
        "update followers.leases set holder = 'nobody', fence = fence + 1, expires_at = 'infinity'";
    tamper(&app.admin, hold).await;
    let head = number(&app.admin, "select max(position) from events").await;
    (app, cli, head)
}

#[tokio::test]
async fn a_log_that_nobody_touched_is_as_it_was_signed() {
    let (_app, cli, head) = log().await;
    let told = cli.run(&["verify-log", "--json"]).await.json();
    let (report, progress) = told.split_last().unwrap();
    assert!(
        progress.iter().any(|line| line["total"] == json!(head)),
        "{progress:?}"
    );
    assert_eq!(
        (&report["signed"], &report["good_until"]),
        (&json!(head), &json!(head))
    );
    assert_eq!(
        (&report["first_bad"], &report["problems"]),
        (&Value::Null, &json!([]))
    );
    let said = cli.run(&["verify-log"]).await.well();
    assert!(
        said.starts_with(&format!(
            "ok      {head} events are as they were signed, at "
        )),
        "{said}"
    );
}

/// Change, delete, insert, reorder: the first bad position is named each time.
#[tokio::test]
async fn whatever_was_edited_behind_our_back_is_named_by_its_first_position() {
    let (app, cli, head) = log().await;
    let middle = head / 2;
    let sealed = "select min(position) from events where payload::text like '%\"key\": 1%'";
    let sealed = number(&app.admin, sealed).await;
    let keep = "create table kept as select * from events; create table kept_tiles as select * from followers.tiles";
    tamper(&app.admin, keep).await;
    let at = |position: i64| format!("where position = {position}");
    let exchange = |one: i64, other: i64| {
        format!(
            "update events set position = -1 {}; update events set position = {one} {}; update events set position = {other} {}",
            at(one),
            at(other),
            at(-1)
        )
    };
    // No partition takes a negative position: what is out of the way waits far ahead.
    let exchange = |one, other| exchange(one, other).replace("-1", "15000000");
    for (what, statement, position) in [
        ("a payload", format!("update events set payload = '{{}}' {}", at(middle)), middle),
        ("a sealed text", format!("update events set metadata = jsonb_set(metadata, '{{node}}', '\"x\"') {}", at(1)), 1),
        ("a time", format!("update events set recorded_at = recorded_at + interval '1 microsecond' {}", at(head)), head),
        ("a time without end", format!("update events set recorded_at = 'infinity' {}", at(middle)), middle),
        ("a time before all", format!("update events set recorded_at = '-infinity' {}", at(middle)), middle),
        ("a time that no clock has", format!("update events set recorded_at = '294276-01-01' {}", at(1)), 1),
        ("a number in another form", "update events set payload = replace(payload::text, '\"key\": 1', '\"key\": 1.0')::jsonb
             where position = (select min(position) from events where payload::text like '%\"key\": 1%')".to_owned(), sealed),
        ("a number without measure", format!("update events set payload = '1e400' {}", at(head)), head),
        ("a nest without floor", format!(
            "update events set payload = (repeat('[', 200) || repeat(']', 200))::jsonb {}", at(middle)), middle),
        ("an owner", format!("update events set aggregate_id = 'somebody-else' {}", at(middle)), middle),
        ("a sequence", format!("update events set sequence = 99 {}", at(3)), 3),
        ("an id", format!("update events set event_id = gen_random_uuid() {}", at(middle)), middle),
        ("a deletion", format!("delete from events {}", at(middle)), middle),
        ("the first", format!("delete from events {}", at(1)), 1),
        ("the tail", format!("delete from events where position > {middle}"), middle + 1),
        ("all", "delete from events".to_owned(), 1),
        ("a deletion without a hole", format!(
            "delete from events {}; update events set position = position - 1 where position > {middle}", at(middle)), middle),
        ("an insertion", format!(
            "update events set position = position + 1000 where position >= {middle};
             update events set position = position - 999 where position >= 1000;
             insert into events select {middle}, 'test', 'x', 1, 'test.happened', '1', '{{}}', '{{}}', gen_random_uuid(), now()"), middle),
        ("an exchange", exchange(3, middle), 3),
        ("neighbours", exchange(middle, middle + 1), middle),
    ] {
        tamper(&app.admin, &statement).await;
        let report = found(&cli, 1).await;
        let bad = &report["first_bad"];
        assert_eq!((&bad["position"], &bad["until"]), (&json!(position), &json!(position)), "{what}: {report}");
        assert!(report["good_until"].as_i64().unwrap() < position, "{what}: {report}");
        let said = cli.run(&["verify-log"]).await;
        assert!(said.out.starts_with(&format!("FAILED  position {position}: ")), "{what}: {}", said.out);
        tamper(&app.admin, "delete from events; insert into events select * from kept").await;
        assert_eq!(found(&cli, 0).await["first_bad"], Value::Null, "{what} is undone");
    }
}

/// A time that the database can keep, but no clock can show, stops nobody who reads the log.
#[tokio::test]
async fn a_time_that_no_clock_has_is_shown_all_the_same() {
    let (app, cli, head) = log().await;
    let edit = "update events set recorded_at = case position % 2 when 0 then 'infinity'::timestamptz else '294276-01-01' end";
    tamper(&app.admin, edit).await;
    let shown = cli.run(&["events", "tail", "--after", "0"]).await.well();
    assert_eq!(shown.lines().count() as i64, head, "{shown}");
    let shown = cli.run(&["events", "tail", "--after", "0", "--json"]).await;
    assert_eq!(shown.json().len() as i64, head);
}

/// Who also alters what is stored of the tree hides the place, but not that something is wrong; who alters nothing else is
/// told apart.
#[tokio::test]
async fn stored_hashes_and_checkpoints_that_were_altered_are_found() {
    let (app, cli, head) = log().await;
    let checkpoints = number(&app.admin, "select count(*) from followers.checkpoints").await;
    assert!(checkpoints >= 3);
    let other = "update followers.tiles set hashes = set_byte(hashes, 33, get_byte(hashes, 33) # 1) where level = 0";
    tamper(&app.admin, other).await;
    let report = found(&cli, 1).await;
    assert_eq!(report["first_bad"], Value::Null);
    assert_eq!(
        report["problems"],
        json!(["the stored hash of event 2 was altered; the event is as it was signed"])
    );
    tamper(&app.admin, other).await;

    tamper(&app.admin, &format!("update events set payload = '{{}}' where position = {head}; delete from followers.tiles")).await;
    let report = found(&cli, 1).await;
    let before = number(
        &app.admin,
        &format!("select max(size) from followers.checkpoints where size < {head}"),
    )
    .await;
    let bad = &report["first_bad"];
    assert_eq!(
        (&bad["position"], &bad["until"]),
        (&json!(before + 1), &json!(head)),
        "{report}"
    );
    assert_eq!(report["good_until"], json!(before));

    // A hash that was altered beside an event leads nowhere: the place is one of those since the last good checkpoint.
    let (app, cli, _) = log().await;
    let gap = "select before from (select size, lag(size) over (order by size) as before from followers.checkpoints) s
        where size - before > 1 order by size limit 1";
    let good = number(&app.admin, gap).await;
    let next = number(
        &app.admin,
        &format!("select min(size) from followers.checkpoints where size > {good}"),
    )
    .await;
    let byte = 32 * good + 1;
    tamper(&app.admin, &format!(
        "update followers.tiles set hashes = set_byte(hashes, {byte}, get_byte(hashes, {byte}) # 1) where level = 0;
         update events set payload = '{{}}' where position = {next}")).await;
    let report = found(&cli, 1).await;
    let bad = &report["first_bad"];
    assert_eq!(
        (&bad["position"], &bad["until"], &report["good_until"]),
        (&json!(good + 1), &json!(next), &json!(good)),
        "{report}"
    );

    // The hashes above the leaves, from which the tree goes on.
    let (app, cli, head) = log().await;
    tamper(
        &app.admin,
        "delete from followers.tiles where level = 0 and number = 0",
    )
    .await;
    assert_eq!(
        found(&cli, 1).await["problems"],
        json!([format!(
            "the stored hashes that the tree goes on from are not those of checkpoint {head}"
        )])
    );

    let (app, cli, _) = log().await;
    let forge = "update followers.checkpoints set root = sha256('x'), note = replace(note, E'\\n', E'\\n') where size = (select min(size) from followers.checkpoints)";
    tamper(&app.admin, forge).await;
    let first = number(&app.admin, "select min(size) from followers.checkpoints").await;
    let report = found(&cli, 1).await;
    assert_eq!(report["first_bad"], Value::Null);
    assert_eq!(
        report["problems"],
        json!([format!("checkpoint {first} is not as it was signed")])
    );
}

/// Who takes the end of the log and all that was signed about it away is found by whoever kept a checkpoint.
#[tokio::test]
async fn a_log_that_was_cut_off_with_its_checkpoints_is_found_by_one_from_elsewhere() {
    let (app, cli, head) = log().await;
    let note: String =
        sqlx::query_scalar("select note from followers.checkpoints order by size desc limit 1")
            .fetch_one(&app.admin)
            .await
            .unwrap();
    let kept = crate::command::fresh_path("kept").display().to_string();
    fs::write(&kept, &note).unwrap();
    let cut = number(
        &app.admin,
        "select size from followers.checkpoints order by size desc offset 1 limit 1",
    )
    .await;
    tamper(
        &app.admin,
        &format!("delete from events where position > {cut}; delete from followers.checkpoints where size > {cut}"),
    )
    .await;
    assert_eq!(
        found(&cli, 0).await["signed"],
        json!(cut),
        "alone the database tells nothing"
    );
    let said = cli.run(&["verify-log", "--checkpoint", &kept]).await;
    let words = format!(
        "FAILED  position {}: the event is missing, and so is everything after it\n",
        cut + 1
    );
    assert!(
        said.code == 1 && said.out.starts_with(&words),
        "{}",
        said.out
    );
    assert!(head > cut);
    fs::write(&kept, note.replace("log/", "log/x")).unwrap();
    let said = cli
        .run(&["verify-log", "--checkpoint", &kept])
        .await
        .refused(1);
    assert!(said.contains("is not signed by this log"), "{said}");
}
