//! `audit vault`: the history of a vault, for operators, whose reading is an event.

use serde_json::{Value, json};

use crate::client::{Session, UNVERIFIED, answer};
use crate::command::Cli;
use crate::harness::{TestApp, wait_until};
use crate::place::beside;
use crate::tables::number;

const VAULT: &str = "/api/v1/me/encryption-vault";

async fn call(app: &TestApp, who: &Session, method: &str, path: &str) -> i64 {
    let request = app.request(method, &format!("{VAULT}{path}"));
    let request = request.header("user-agent", "=Engine\t2");
    let done = answer(request.bearer_auth(&who.token)).await;
    done.header("x-log-position").parse().unwrap()
}

/// A vault with three calls; gives their positions.
async fn history(app: &TestApp, who: &Session) -> [i64; 3] {
    [
        call(app, who, "GET", "/key").await,
        call(app, who, "POST", "/init").await,
        call(app, who, "DELETE", "/recovery-wrap").await,
    ]
}

/// What the command printed as lines of JSON.
async fn read(cli: &Cli, arguments: &[&str]) -> Vec<Value> {
    let arguments = [&["audit", "vault"], arguments, &["--format", "json"]].concat();
    let said = cli.run(&arguments).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    said.json()
}

#[tokio::test]
async fn a_history_is_printed_as_the_owner_sees_it_in_three_forms() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let positions = history(&app, &ada).await;
    call(&app, &app.signed_in("hopper").await, "POST", "/init").await;
    let cli = beside(&app);
    let rows = read(&cli, &["lovelace@example.com"]).await;
    let request = app.request("GET", &format!("{VAULT}/audit?order=asc"));
    let request = request.header("x-min-position", positions[2]);
    let own = answer(request.bearer_auth(&ada.token)).await.json();
    assert_eq!(json!(rows), own["events"]);
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["context"], "not-initialised");
    assert_eq!(read(&cli, &[&ada.user_id]).await, rows);

    let csv = ["audit", "vault", &ada.user_id, "--format", "csv"];
    let csv = cli.run(&csv).await.well();
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let header = reader.headers().unwrap().clone();
    let agent = header.iter().position(|name| name == "userAgent").unwrap();
    let records: Vec<_> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    for (record, position) in records.iter().zip(positions) {
        assert_eq!(record[1], position.to_string());
        assert!(record[agent].starts_with("'=Engine"), "no formula");
    }

    let table = cli.run(&["audit", "vault", &ada.user_id]).await.well();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 4, "{table}");
    assert!(
        lines[0].contains("failed_fetch") && lines[0].contains("404"),
        "{table}"
    );
    assert!(!table.contains('\t'), "nothing moves the terminal");
    let summary = "3 rows; the vault was standard after 3 events, as of position ";
    assert!(lines[3].starts_with(summary), "{table}");
}

#[tokio::test]
async fn it_is_narrowed_and_read_as_it_was() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let positions = history(&app, &ada).await;
    let before = app.clock.now();
    app.clock.advance(chrono::TimeDelta::minutes(1));
    let later = app.clock.now().to_rfc3339();
    let last = call(&app, &ada, "GET", "/key").await;
    let cli = beside(&app);
    let all = [positions[0], positions[1], positions[2], last];
    for (narrowed, wanted) in [
        (&["--at", &positions[1].to_string()][..], &all[..2]),
        (&["--at", &before.to_rfc3339()], &all[..3]),
        (&["--from", &later], &all[3..]),
        (&["--to", &later], &all[..3]),
        (&["--action", "failed_fetch,init"], &all[..2]),
        (&["--status", "404"], &all[..1]),
        (&["--status", "404", "--action", "init"], &[]),
    ] {
        let rows = read(&cli, &[&[ada.user_id.as_str()], narrowed].concat()).await;
        let found: Vec<i64> = rows
            .iter()
            .map(|row| row["position"].as_i64().unwrap())
            .collect();
        assert_eq!(found, wanted, "{narrowed:?}");
    }
    let at = positions[0].to_string();
    let table = cli
        .run(&["audit", "vault", &ada.user_id, "--at", &at])
        .await
        .well();
    let summary = format!("1 rows; the vault was absent after 1 events, as of position {at}.\n");
    assert!(table.ends_with(&summary), "{table}");
}

#[tokio::test]
async fn that_an_operator_reads_is_an_event_that_says_of_whom_and_no_more() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    history(&app, &ada).await;
    let cli = beside(&app);
    let narrowed = ["--status", "404", "--to", "2031-01-01T00:00:00Z"];
    let arguments = [&["lovelace@example.com"][..], &narrowed].concat();
    read(&cli, &arguments).await;
    let (payload, actor): (Value, String) = sqlx::query_as(
        "select payload, metadata ->> 'actor' from events where event_type = 'log.audit_read'",
    )
    .fetch_one(&app.admin)
    .await
    .unwrap();
    let reading = json!({"of": {"vault": {"owner": ada.user_id}}, "filters": ["to", "status"]});
    assert_eq!(payload["audit_read"]["reading"], reading);
    assert_eq!(actor, "operator");
    assert!(!payload.to_string().contains("2031"));

    let refuse = "create function refuse() returns trigger language plpgsql as
         $$ begin raise exception 'refused' using errcode = '53100'; end $$;
         create trigger refuse before insert on events for each row execute function refuse()";
    sqlx::raw_sql(refuse).execute(&app.admin).await.unwrap();
    let said = cli.run(&["audit", "vault", &ada.user_id]).await.refused(1);
    assert!(
        said.contains("writing down that the history is read"),
        "{said}"
    );
}

#[tokio::test]
async fn an_erased_history_is_found_by_its_id_and_nobodys_is_refused() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    history(&app, &ada).await;
    let cli = beside(&app);
    let mut rows = read(&cli, &[&ada.user_id]).await;
    let password = json!({"password": crate::client::PASSWORD});
    let deleted = app
        .post_as("/api/auth/delete-user", &ada.cookie, &password)
        .await;
    assert_eq!(deleted.status, 200, "{}", deleted.text);
    for row in &mut rows {
        row["ipAddress"] = Value::Null;
        row["userAgent"] = Value::Null;
    }
    assert_eq!(read(&cli, &[&ada.user_id]).await, rows);
    let read = "select count(*) from events where event_type = 'log.audit_read'";
    let before = number(&app.admin, read).await;
    for nobody in ["lovelace@example.com", "nobody", "not an id", ""] {
        let said = cli.run(&["audit", "vault", nobody]).await.refused(1);
        assert!(said.contains("no history of one"), "{said}");
    }
    for bad in [
        ["--at", "yesterday"],
        ["--from", "2026"],
        ["--to", "1"],
        ["--action", "opened"],
        ["--status", "ok"],
        ["--format", "xml"],
    ] {
        let arguments = [&["audit", "vault", ada.user_id.as_str()][..], &bad].concat();
        let said = cli.run(&arguments).await.refused(2);
        assert!(said.contains(bad[0]), "{said}");
    }
    assert_eq!(number(&app.admin, read).await, before);
}

/// More than a page, with rows as the read model could have them.
#[tokio::test]
async fn a_long_history_is_printed_whole() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    history(&app, &ada).await;
    let cli = beside(&app);
    wait_until("the rows are there", async || {
        number(&app.admin, "select count(*) from read.vault_audit").await == 3
    })
    .await;
    sqlx::raw_sql(
        "insert into read.vault_audit (id, position, user_id, action, status, created_at)
         select 'row ' || n, 10000 + n, user_id, 'fetch', 200, created_at
         from generate_series(1, 2500) n, (select * from read.vault_audit limit 1) one;
         update followers.models set position = 12500 where name = 'vault_audit'",
    )
    .execute(&app.admin)
    .await
    .unwrap();
    let rows = read(&cli, &[&ada.user_id]).await;
    let positions: Vec<i64> = rows
        .iter()
        .map(|row| row["position"].as_i64().unwrap())
        .collect();
    assert_eq!(positions.len(), 2503);
    assert!(positions.is_sorted());
    assert_eq!(positions[2502], 12_500);
}

/// A history that lacks rows is printed as far as it goes, and does not pass for a whole one.
#[tokio::test]
async fn a_history_that_lacks_rows_ends_with_an_error() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("lovelace").await;
    let positions = history(&app, &ada).await;
    let cli = beside(&app);
    assert_eq!(read(&cli, &[&ada.user_id]).await.len(), 3);
    sqlx::query("insert into followers.parked (model, stream_type, stream_id, position, error) values ('vault_audit', 'vault', $1, $2, 'it does not open')")
        .bind(&ada.user_id)
        .bind(positions[2])
        .execute(&app.admin)
        .await
        .unwrap();
    for format in ["table", "json", "csv"] {
        let arguments = ["audit", "vault", &ada.user_id, "--format", format];
        let said = cli.run(&arguments).await;
        assert_eq!(said.code, 1, "{format}");
        assert!(
            said.out.contains("not-initialised"),
            "{format}: {}",
            said.out
        );
        assert!(
            said.err.contains("rows are missing"),
            "{format}: {}",
            said.err
        );
    }
    let before = (positions[2] - 1).to_string();
    assert_eq!(read(&cli, &[&ada.user_id, "--at", &before]).await.len(), 2);
}
