//! `kek rewrap` under load: it is killed again and again, and so is a node.

use mana_auth::crypto::key_ring::Place;
use mana_auth::crypto::vault_key::MasterKey;
use mana_auth::vault::{VaultRow, read};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::client::UNVERIFIED;
use crate::command::{end, signal};
use crate::harness::{TestApp, wait_until};
use crate::kek::{BOTH, ring, vault, with_vault};
use crate::place::beside;
use crate::serve::Served;

/// Vaults as if that many people had come by, and in the long form, which takes minutes.
const VAULTS: (usize, usize) = (3_000, 100_000);
/// Rows that are inserted and read at once.
const PAGE: usize = 5_000;
/// Secrets of some of them, so that a rewrap is killed at both.
const SECRETS: usize = 150;

/// Puts vaults and secrets of nobody in particular into the database; the vaults' owners.
async fn fill(app: &TestApp, vaults: usize) -> Vec<String> {
    let ring = ring(app);
    let owners: Vec<String> = (0..vaults).map(|n| format!("{n:032}")).collect();
    let hex = |bytes: &[u8]| format!("\\x{}", mana_auth::crypto::hex::encode(bytes));
    let (mut vaults, mut secrets) = (vec![], vec![]);
    for owner in &owners {
        let mut row = VaultRow::new(owner, app.clock.now());
        row.put_key(&ring, &MasterKey::generate());
        vaults.push(row.to_json().unwrap());
    }
    for owner in &owners[..SECRETS] {
        let (kind, id) = ("provider_tokens", "1");
        let secret = ring.wrap(Place { kind, owner, id }, owner.as_bytes());
        secrets.push(json!({"kind": kind, "owner": owner, "id": id, "version": 1, "kek_id": secret.kek_id,
            "format": secret.format, "nonce": hex(&secret.nonce), "ciphertext": hex(&secret.ciphertext),
            "event_position": 0, "created_at": app.clock.now()}));
    }
    for (insert, rows) in [
        (
            "insert into encryption_vaults select r.* from jsonb_array_elements($1) e,
                 jsonb_populate_record(null::encryption_vaults, e || '{\"event_position\": 0}') r",
            &vaults,
        ),
        (
            "insert into streams select 'vault', e ->> 'user_id', 1 from jsonb_array_elements($1) e",
            &vaults,
        ),
        (
            "insert into custody select * from jsonb_populate_recordset(null::custody, $1)",
            &secrets,
        ),
    ] {
        for rows in rows.chunks(PAGE) {
            let done = sqlx::query(insert).bind(json!(rows)).execute(&app.admin);
            done.await.unwrap();
        }
    }
    owners
}

/// A rewrap is killed five times and a node once, and whoever uses a vault does not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rewrap_that_is_killed_is_gone_on_with_and_no_fetch_fails_s72() {
    let off = ("MANA_AUTH_RATE_LIMIT", "off");
    let app = TestApp::start(&[UNVERIFIED, off, ("MANA_AUTH_KEKS", BOTH)]).await;
    let cli = beside(&app).with("MANA_AUTH_KEKS", BOTH).with(off.0, off.1);
    let vaults = match std::env::var_os("MANA_AUTH_LONG") {
        Some(_) => VAULTS.1,
        None => VAULTS.0,
    };
    let owners = fill(&app, vaults).await;
    let (ada, key) = with_vault(&app, "lovelace").await;
    let served = Served::start(&cli).await;
    served.wait_until_ready().await;
    cli.run(&["kek", "activate", "k2"]).await.well();

    let (stop, stopped) = tokio::sync::watch::channel(false);
    let fetches = async {
        let mut fetched = 0;
        while !*stopped.borrow() {
            assert_eq!(
                vault(&app.base, &app, &ada, "GET", "/key").await["masterKey"],
                key
            );
            fetched += 1;
        }
        fetched
    };
    let rewraps = async {
        let left = "(select kek_id from custody union all select kek_id from encryption_vaults) w where kek_id <> 'k2'";
        let mut before = app.count(left).await;
        let mut served = Some(served);
        for killed in 0..5 {
            let mut run = cli.start(&["kek", "rewrap", "--rate", "500", "--json"]);
            let mut lines = BufReader::new(run.stdout.take().unwrap()).lines();
            let mut told = Value::Null;
            while told["done"].as_i64().unwrap_or_default() == 0 {
                let line = lines.next_line().await.unwrap().expect("progress");
                told = serde_json::from_str(&line).unwrap();
            }
            signal(&run, "KILL").await;
            assert!(run.wait().await.unwrap().code().is_none());
            let now = app.count(left).await;
            assert!(
                0 < now && now < before,
                "{now} of {before} are left after run {killed}"
            );
            before = now;
            if let Some(served) = served.take() {
                assert_eq!(
                    vault(served.base(), &app, &ada, "GET", "/key").await["masterKey"],
                    key
                );
                served.kill().await;
            }
        }
        let run = end(cli.start(&["kek", "rewrap", "--rate", "0", "--json"])).await;
        stop.send(true).unwrap();
        (run, before)
    };
    let (fetched, (run, before)) = tokio::join!(fetches, rewraps);
    assert_eq!(run.code, 0, "{}", run.err);
    let done = run.json().pop().unwrap();
    assert_eq!(done["failed"], 0);
    // Whatever a killed run had done was not done again.
    let [secrets, vaults] = ["secrets", "vaults"].map(|kind| done[kind].as_i64().unwrap());
    assert_eq!((secrets, vaults), (0, before));
    assert!(fetched > 5, "{fetched}");
    for table in ["custody", "encryption_vaults"] {
        let others = format!("{table} where kek_id <> 'k2'");
        assert_eq!(app.count(&others).await, 0, "{table}");
    }
    let ring = ring(&app);
    for owners in owners.chunks(PAGE) {
        for stored in read(&app.app.pool, owners).await.unwrap() {
            stored.row.unwrap().open(&ring).unwrap().unwrap();
        }
    }
    assert_eq!(app.app.store.custody().wraps().await.unwrap().len(), 1);
    for owner in &owners[..SECRETS] {
        let secret = app
            .app
            .store
            .custody()
            .read("provider_tokens", owner, "1")
            .await;
        let secret = secret.unwrap().unwrap();
        assert_eq!(
            (secret.bytes.as_slice(), secret.version),
            (owner.as_bytes(), 1)
        );
    }
    // The node that was killed counts as running for a while.
    wait_until("nobody needs the old key", async || {
        cli.run(&["kek", "retire", "env-v1"]).await.code == 0
    })
    .await;
}

/// A rewrap is no faster than it is told, and says how far it is and how long it still takes.
#[tokio::test]
async fn a_rewrap_keeps_to_its_rate_and_tells_how_long_it_takes_s72() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_KEKS", BOTH)]).await;
    let cli = beside(&app).with("MANA_AUTH_KEKS", BOTH);
    fill(&app, VAULTS.0).await;
    cli.run(&["kek", "activate", "k2"]).await.well();
    let said = cli
        .run(&["kek", "rewrap", "--rate", "1000", "--json"])
        .await;
    assert_eq!(said.code, 0, "{}", said.err);
    let mut told = said.json();
    let done = told.pop().unwrap();
    assert_eq!(done["vaults"], json!(VAULTS.0));
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap();
    let all = number(&done, "vaults") + number(&done, "secrets");
    assert!(number(&done, "seconds") >= all / 1_000.0 * 0.9, "{done}");
    assert!(told.len() > 5, "{told:?}");
    for (before, now) in told.iter().zip(&told[1..]) {
        assert!(number(before, "done") <= number(now, "done"), "{now}");
        assert!(number(now, "done") <= number(now, "total"), "{now}");
    }
    let middle = &told[told.len() / 2];
    let left = (number(middle, "total") - number(middle, "done")) / number(middle, "per_second");
    assert!(
        (number(middle, "seconds_left") - left).abs() < 1.0,
        "{middle}"
    );
}
