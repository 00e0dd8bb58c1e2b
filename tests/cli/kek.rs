//! `kek`: another key-encryption key takes the place of one while two nodes serve, and nobody notices.

use std::fs;

use mana_auth::crypto::key_ring::KeyRing;
use serde_json::{Value, json};

use crate::client::{PASSWORD, Session, UNVERIFIED, answer};
use crate::command::{Cli, fresh_path};
use crate::harness::{TestApp, wait_until};
use crate::place::{Place, beside, tamper};

const OLD: &str = "env-v1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// The key of before, which is active at first, and the one that takes its place.
pub const BOTH: &str = "env-v1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=,k2:AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const ALTERED: &str = "the wrapped secret does not belong here or was altered";

/// Calls somebody's vault on a node, which has to succeed.
pub async fn vault(base: &str, app: &TestApp, who: &Session, method: &str, path: &str) -> Value {
    let url = format!("{base}/api/v1/me/encryption-vault{path}");
    let request = app.client.request(method.parse().unwrap(), url);
    let done = answer(request.bearer_auth(&who.token)).await;
    assert_eq!(done.status, 200, "{method} {path}: {}", done.text);
    done.json()
}

/// Somebody with a vault; the key in it.
pub async fn with_vault(app: &TestApp, name: &str) -> (Session, String) {
    let who = app.signed_in(name).await;
    let made = vault(&app.base, app, &who, "POST", "/init").await;
    (who, made["masterKey"].as_str().unwrap().to_owned())
}

/// The keys that a node has now.
pub fn ring(app: &TestApp) -> std::sync::Arc<KeyRing> {
    app.app.store.custody().ring()
}

/// Waits until the nodes wrap by a key, and open with these.
async fn wait_for(nodes: &[&TestApp], active: &str, keys: &[&str]) {
    wait_until(&format!("{active} wraps"), async || {
        let all = nodes.iter().map(|node| ring(node));
        let mut all = all.map(|ring| {
            ring.active_id() == active
                && ring
                    .keys()
                    .keys()
                    .map(String::as_str)
                    .eq(keys.iter().copied())
        });
        let shown = "followers.nodes where active = 'ACTIVE' and keks = 'KEYS'::text[]"
            .replace("ACTIVE", active)
            .replace("KEYS", &format!("{{{}}}", keys.join(",")));
        all.all(|is| is) && nodes[0].count(&shown).await >= nodes.len() as i64
    })
    .await;
}

/// What `status` says of a key.
async fn status(cli: &Cli, id: &str) -> Value {
    let said = cli.run(&["kek", "status", "--json"]).await.json();
    let keks = said[0]["keks"].as_array().unwrap();
    keks.iter().find(|kek| kek["id"] == id).unwrap().clone()
}

#[tokio::test]
async fn a_key_takes_the_place_of_another_on_two_nodes_s72_s73() {
    let files = [fresh_path("keks"), fresh_path("keks")];
    for file in &files {
        fs::write(file, format!("{OLD}\n")).unwrap();
    }
    let [here, there] = files.each_ref().map(|file| file.to_str().unwrap());
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_KEKS_FILE", here)]).await;
    let node = app
        .node(&[UNVERIFIED, ("MANA_AUTH_KEKS_FILE", there)])
        .await;
    let cli = beside(&app).with("MANA_AUTH_KEKS_FILE", here);
    let (ada, key) = with_vault(&app, "lovelace").await;
    wait_for(&[&app, &node], "env-v1", &["env-v1"]).await;

    let said = cli.run(&["kek", "add", "k2", "--generate"]).await.well();
    let wanted = format!("A new key k2 is in {here}.\nKey k2 is known and readable.\n");
    assert!(said.starts_with(&wanted), "{said}");
    let lacks = format!("Node {} lacks it yet", node.app.store.node());
    assert!(said.contains(&lacks), "{said}");
    wait_for(&[&app], "env-v1", &["env-v1", "k2"]).await;
    let refused = cli.run(&["kek", "activate", "k2"]).await.refused(1);
    let wanted = format!(
        "error: node {} cannot open what key-encryption key \"k2\" wraps: add the key there first\n",
        node.app.store.node()
    );
    assert_eq!(refused, wanted);
    // Another key under that id is not taken up, however often the node looks.
    fs::write(there, BOTH).unwrap();
    let (name, now) = (node.app.store.node(), "clock_timestamp()::text");
    let now: String = sqlx::query_scalar(&format!("select {now}"))
        .fetch_one(&app.admin)
        .await
        .unwrap();
    let later = format!(
        "followers.nodes where node = '{name}' and seen_at > '{now}'::timestamptz + interval '2 s'"
    );
    wait_until("the node has looked", async || app.count(&later).await == 1).await;
    let refused = cli.run(&["kek", "activate", "k2"]).await.refused(1);
    assert_eq!(refused, wanted);
    fs::copy(here, there).unwrap();
    wait_for(&[&app, &node], "env-v1", &["env-v1", "k2"]).await;

    let refused = cli.run(&["kek", "retire", "env-v1"]).await.refused(1);
    assert!(refused.contains("is the active one"), "{refused}");
    let said = cli.run(&["kek", "activate", "k2"]).await.well();
    assert!(said.starts_with("Key k2 wraps from now on."), "{said}");
    wait_for(&[&app, &node], "k2", &["env-v1", "k2"]).await;
    let (bob, _) = with_vault(&node, "hopper").await;
    let bobs = vault(&app.base, &app, &bob, "GET", "/key").await;
    assert_eq!(bobs["kekId"], "k2");

    let refused = cli.run(&["kek", "retire", "env-v1"]).await.refused(1);
    let why = "error: key-encryption key \"env-v1\" still wraps ";
    assert!(refused.starts_with(why), "{refused}");
    let places = format!("vault {}: run `mana-auth kek rewrap`", ada.user_id);
    assert!(refused.contains(&places), "{refused}");
    let old = status(&cli, "env-v1").await;
    assert_eq!(
        (&old["state"], &old["vaults"]),
        (&json!("readable"), &json!(1))
    );
    let secrets = &old["secrets"];
    assert!(secrets.as_i64() > Some(0));

    let said = cli.run(&["kek", "rewrap", "--rate", "0", "--json"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    let mut done = said.json().pop().unwrap();
    done.as_object_mut().unwrap().remove("seconds").unwrap();
    assert_eq!(
        done,
        json!({"kek": "k2", "secrets": secrets, "vaults": 1, "failed": 0})
    );
    let said = cli.run(&["kek", "rewrap"]).await.well();
    assert!(
        said.starts_with("0 secrets and the keys of 0 vaults were wrapped by k2"),
        "{said}"
    );
    let given = vault(&node.base, &app, &ada, "GET", "/key").await;
    assert_eq!(
        given,
        json!({"masterKey": key, "formatVersion": 1, "kekId": "k2"})
    );

    for _ in 0..2 {
        let said = cli.run(&["kek", "retire", "env-v1"]).await.well();
        assert!(
            said.starts_with("Key env-v1 opens nothing any more."),
            "{said}"
        );
    }
    wait_for(&[&app, &node], "k2", &["k2"]).await;
    app.sign_in("lovelace").await;
    assert_eq!(
        vault(&app.base, &app, &ada, "GET", "/key").await["masterKey"],
        key
    );
    let old = status(&cli, "env-v1").await;
    let shown = (
        &old["state"],
        &old["secrets"],
        &old["vaults"],
        &old["nodes"],
    );
    assert_eq!(shown, (&json!("retired"), &json!(0), &json!(0), &json!([])));
    assert!(old["seals"].as_i64() >= secrets.as_i64(), "{old}");

    let events = cli
        .run(&["events", "show", "log", "log", "--json"])
        .await
        .json();
    let told = events.iter().map(|event| {
        (
            event["event_type"].as_str().unwrap(),
            &event["metadata"]["actor"],
        )
    });
    let told: Vec<_> = told.collect();
    let by = &json!("operator");
    assert_eq!(
        told,
        [
            ("log.kek_activated", by),
            ("log.kek_rewrapped", by),
            ("log.kek_retired", by)
        ]
    );

    // A node that was away for all of it would lose what it still wraps by the old key.
    let late = "update custody set kek_id = 'env-v1' where kind = 'data_key'";
    let refused = sqlx::query(late).execute(&app.app.pool).await.unwrap_err();
    let refused = refused.into_database_error().unwrap();
    assert_eq!(refused.message(), "key-encryption key env-v1 is retired");
}

/// The row of such a vault still names the key that wrapped it once.
#[tokio::test]
async fn a_zero_knowledge_vault_does_not_need_the_key_that_wrapped_it_before_s73() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_KEKS", BOTH)]).await;
    let cli = beside(&app).with("MANA_AUTH_KEKS", BOTH);
    let (ada, key) = with_vault(&app, "lovelace").await;
    let (bob, _) = with_vault(&app, "hopper").await;
    let call = async |path: &str, body: Value| {
        let request = app.request("POST", &format!("/api/v1/me/encryption-vault{path}"));
        let done = answer(request.bearer_auth(&ada.token).json(&body)).await;
        assert_eq!(done.status, 200, "{path}: {}", done.text);
    };
    let recovery = |name: &str| json!({"recoveryWrappedMk": name, "recoveryIv": name});
    call("/recovery-wrap", recovery("first")).await;
    call("/zero-knowledge", json!({"enable": true})).await;
    cli.run(&["kek", "activate", "k2"]).await.well();
    wait_for(&[&app], "k2", &["env-v1", "k2"]).await;
    assert_eq!(status(&cli, "env-v1").await["vaults"], 1, "that of hopper");
    cli.run(&["kek", "rewrap", "--rate", "0"]).await.well();
    cli.run(&["kek", "retire", "env-v1"]).await.well();
    wait_for(&[&app], "k2", &["k2"]).await;

    call("/recovery-wrap", recovery("second")).await;
    call("/recovery-wrap/restore", json!({"password": PASSWORD})).await;
    let given = vault(&app.base, &app, &ada, "GET", "/key").await;
    assert_eq!(given["recoveryWrappedMk"], "first");
    let old = status(&cli, "env-v1").await;
    assert_eq!((&old["secrets"], &old["vaults"]), (&json!(0), &json!(0)));
    assert_eq!(cli.run(&["doctor"]).await.code, 0);
    // What a late node would still wrap by it is refused.
    for (late, of) in [
        ("kek_id = 'env-v1'", &bob),
        (
            "wrapped_mk = 'x', wrap_iv = 'x', zero_knowledge = false",
            &ada,
        ),
    ] {
        let late = format!(
            "update encryption_vaults set {late} where user_id = '{}'",
            of.user_id
        );
        let refused = sqlx::query(&late).execute(&app.admin).await.unwrap_err();
        let refused = refused.into_database_error().unwrap();
        assert_eq!(refused.message(), "key-encryption key env-v1 is retired");
    }
    call(
        "/zero-knowledge",
        json!({"enable": false, "masterKey": key}),
    )
    .await;
    let given = vault(&app.base, &app, &ada, "GET", "/key").await;
    assert_eq!(
        given,
        json!({"masterKey": key, "formatVersion": 1, "kekId": "k2"})
    );
}

#[tokio::test]
async fn a_key_is_refused_that_is_another_under_the_same_id_or_missing() {
    let place = Place::new().await;
    let with = |keks: &str| place.cli.with("MANA_AUTH_KEKS", keks);
    with(OLD).run(&["kek", "status"]).await.well();
    let other = OLD.replace("AQEB", "AgIC");
    let text = "key-encryption key \"env-v1\" is another one than this database knows by that id";
    let said = with(&other).run(&["kek", "status"]).await.refused(1);
    assert!(said.contains(text), "{said}");
    let said = with(&other).run(&["doctor"]).await;
    assert_eq!(said.code, 1);
    assert!(said.out.contains(&format!(
        "FAILED  key-encryption keys are the right ones: 1 checked\n        {text}\n"
    )));
    let said = with(&BOTH[OLD.len() + 1..])
        .run(&["kek", "status"])
        .await
        .refused(1);
    assert!(
        said.contains("key-encryption key \"env-v1\" is the active one, and is not configured"),
        "{said}"
    );

    // Without a file an operator is told what to do.
    for (arguments, complaint) in [
        (
            &["kek", "add", "k2", "--generate"][..],
            "error: only a file can be added to",
        ),
        (
            &["kek", "add", "k2"],
            "error: key \"k2\" is not configured here",
        ),
    ] {
        let said = with(OLD).run(arguments).await.refused(1);
        assert!(
            said.starts_with(complaint) && said.contains("`,k2:KEY`"),
            "{said}"
        );
    }
    for (arguments, complaint) in [
        (
            ["kek", "activate", "k3"],
            "no node has a key-encryption key \"k3\"",
        ),
        (
            ["kek", "retire", "k3"],
            "no node has a key-encryption key \"k3\"",
        ),
    ] {
        let said = with(OLD).run(&arguments).await.refused(1);
        assert_eq!(said, format!("error: {complaint}\n"));
    }
    // The order in the configuration decides nothing any more.
    let reversed = format!("{},{OLD}", &BOTH[OLD.len() + 1..]);
    let said = with(&reversed).run(&["kek", "add", "k2"]).await.well();
    assert_eq!(said, "Key k2 is known and readable.\n");
    assert_eq!(status(&with(BOTH), "env-v1").await["state"], "active");
    let said = with(OLD).run(&["kek", "activate", "k2"]).await.refused(1);
    assert!(
        said.contains("is not configured, and no node runs that has it"),
        "{said}"
    );
}

#[tokio::test]
async fn what_does_not_open_is_named_and_the_rest_is_wrapped_anew_s72() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_KEKS", BOTH)]).await;
    let cli = beside(&app).with("MANA_AUTH_KEKS", BOTH);
    let ((ada, _), (bob, bobs), (eve, _)) = (
        with_vault(&app, "lovelace").await,
        with_vault(&app, "hopper").await,
        with_vault(&app, "eve").await,
    );
    let (ada, bob_id, eve) = (&ada.user_id, &bob.user_id, &eve.user_id);
    tamper(
        &app.admin,
        &format!(
            "update encryption_vaults set wrap_version = 7 where user_id = '{ada}';
             update encryption_vaults set created_at = 'infinity' where user_id = '{eve}';
             update custody set nonce = '\\x000000000000000000000000' where kind = 'password' and owner = '{bob_id}'"
        ),
    )
    .await;
    cli.run(&["kek", "activate", "k2"]).await.well();
    let mut failures = [
        (format!("custody password/{bob_id}/1"), ALTERED),
        (format!("vault {ada}"), ALTERED),
        (format!("vault {eve}"), "its row makes no sense"),
    ];
    // As the run comes by them.
    failures.sort();
    let said = cli.run(&["kek", "rewrap"]).await;
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    let mut lines: Vec<&str> = said.out.lines().collect();
    let last = lines.pop().unwrap();
    assert_eq!(
        lines,
        failures
            .each_ref()
            .map(|(place, why)| format!("FAILED  {place}: {why}"))
    );
    assert!(
        last.contains("the keys of 1 vaults were wrapped by k2") && last.ends_with("; 3 failed."),
        "{last}"
    );
    let said = cli.run(&["kek", "rewrap", "--json"]).await;
    assert_eq!(said.code, 1);
    let told: Vec<Value> = said
        .json()
        .into_iter()
        .filter(|line| line["progress"].is_null())
        .collect();
    assert_eq!(
        told[..3],
        failures
            .each_ref()
            .map(|(place, why)| json!({"failed": place, "why": why}))
    );
    assert_eq!(
        (&told[3]["secrets"], &told[3]["failed"]),
        (&json!(0), &json!(3))
    );

    let old = status(&cli, "env-v1").await;
    assert_eq!((&old["secrets"], &old["vaults"]), (&json!(1), &json!(2)));
    let refused = cli.run(&["kek", "retire", "env-v1"]).await.refused(1);
    let needed = format!(
        "still wraps 1 secrets and the keys of 2 vaults, such as {}: run",
        failures.map(|(place, _)| place).join(", ")
    );
    assert!(refused.contains(&needed), "{refused}");
    assert_eq!(
        vault(&app.base, &app, &bob, "GET", "/key").await["masterKey"],
        bobs
    );
}

/// What is there opens, and whoever wants something new kept is told to come back, until another key is active.
#[tokio::test]
async fn a_key_that_has_sealed_too_often_wraps_nothing_more_s74() {
    let app = TestApp::start(&[UNVERIFIED, ("MANA_AUTH_KEKS", BOTH)]).await;
    let cli = beside(&app).with("MANA_AUTH_KEKS", BOTH);
    let (ada, key) = with_vault(&app, "lovelace").await;
    let seals = async |seals: i64| {
        let set = "insert into followers.kek_seals values ('env-v1', $1) on conflict (kek_id) do update set seals = $1";
        sqlx::query(set)
            .bind(seals)
            .execute(&app.admin)
            .await
            .unwrap();
    };
    seals((1 << 31) - 1).await;
    assert_eq!(cli.run(&["doctor"]).await.code, 0);
    seals(1 << 31).await;
    let said = cli.run(&["doctor"]).await;
    let worn = "        key-encryption key \"env-v1\" has sealed 21474";
    assert!(said.code == 1 && said.out.contains(worn), "{}", said.out);
    assert_eq!(
        app.sign_up("hopper").await.status,
        200,
        "half of it is left"
    );

    seals(1 << 32).await;
    wait_until("the node hears of it", async || {
        ring(&app).check_budget().is_err()
    })
    .await;
    let before = app.state().await;
    assert_eq!(app.sign_up("hamilton").await.status, 503);
    assert_eq!(app.state().await, before);
    assert_eq!(
        vault(&app.base, &app, &ada, "GET", "/key").await["masterKey"],
        key
    );
    app.sign_in("lovelace").await;
    let said = cli.run(&["kek", "rewrap"]).await.refused(1);
    let used_up = "error: key-encryption key \"env-v1\" has sealed as often as is safe: another one has to become active\n";
    assert_eq!(said, used_up);

    cli.run(&["kek", "activate", "k2"]).await.well();
    wait_for(&[&app], "k2", &["env-v1", "k2"]).await;
    assert_eq!(app.sign_up("hamilton").await.status, 200);
    cli.run(&["kek", "rewrap", "--rate", "0"]).await.well();
    assert_eq!(cli.run(&["doctor"]).await.code, 0);
}
