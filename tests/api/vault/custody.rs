//! The table of vaults: its rules, whose rows anybody reaches, and what opens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use mana_auth::cluster::Role;
use mana_auth::crypto::aead::{self, Key32};
use mana_auth::database;
use serde_json::{Value, json};
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::Mode::{Standard, WithRecovery, ZeroKnowledge};
use super::{Mode, VAULT, bring_to, line, mode_of, off, on, other_key, wrap};
use crate::client::{Session, UNVERIFIED, answer};
use crate::harness::TestApp;

/// The key-encryption key of every test: zeros.
fn kek() -> Key32 {
    Key32::from_bytes([0; 32])
}

/// Connects with a role of its own, to try what it may.
async fn connect(app: &TestApp, role: Role) -> PgConnection {
    let options = database::options(&app.database_url(role)).unwrap();
    options.connect().await.unwrap()
}

pub async fn set(app: &TestApp, who: &Session, changes: &str) {
    let update = format!("update encryption_vaults set {changes} where user_id = $1");
    let done = sqlx::query(&update)
        .bind(&who.user_id)
        .execute(&app.admin)
        .await;
    assert_eq!(done.unwrap().rows_affected(), 1);
}

pub async fn column<T>(app: &TestApp, who: &Session, column: &str) -> T
where
    T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
{
    let select = format!("select {column} from encryption_vaults where user_id = $1");
    let found = sqlx::query_scalar(&select)
        .bind(&who.user_id)
        .fetch_one(&app.admin);
    found.await.unwrap()
}

/// Section 5.5: the three rules, each by its name, whoever writes.
#[tokio::test]
async fn rows_that_make_no_sense_are_refused_by_the_rule_that_says_so() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let people = [Standard, WithRecovery, ZeroKnowledge];
    let mut owners = Vec::new();
    for (number, mode) in people.into_iter().enumerate() {
        let who = app.signed_in(&format!("p{number}")).await;
        bring_to(&app, &who, mode).await;
        owners.push(who);
    }
    let (has_wrap, pair, consistent) = (
        "encryption_vaults_has_wrap",
        "encryption_vaults_wrap_iv_pair",
        "encryption_vaults_zk_consistency",
    );
    for (owner, changes, rule) in [
        (0, "wrapped_mk = null, wrap_iv = null", has_wrap),
        (
            2,
            "zero_knowledge = false, recovery_wrapped_mk = null, recovery_iv = null",
            has_wrap,
        ),
        (0, "wrap_iv = null", pair),
        (1, "wrapped_mk = null", pair),
        (1, "recovery_iv = null", pair),
        (0, "recovery_wrapped_mk = 'x'", pair),
        (2, "recovery_iv = null", pair),
        (0, "zero_knowledge = true", consistent),
        (1, "zero_knowledge = true", consistent),
        (2, "wrapped_mk = 'x', wrap_iv = 'x'", consistent),
    ] {
        let update = format!("update encryption_vaults set {changes} where user_id = $1");
        let query = sqlx::query(&update).bind(&owners[owner].user_id);
        let error = query.execute(&app.admin).await.unwrap_err();
        let error = error.into_database_error().unwrap();
        assert_eq!(error.constraint(), Some(rule), "{changes}");
    }
    for (who, mode) in owners.iter().zip(people) {
        assert_eq!(mode_of(&app, who).await, mode);
    }
}

/// Section 5.5: the service's role is held to the rows of whoever it says that it acts for, and so is the owner of the
/// table. Neither is a superuser or may go round that.
#[tokio::test]
async fn nobody_reaches_the_row_of_somebody_else() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    bring_to(&app, &ada, WithRecovery).await;
    bring_to(&app, &bob, WithRecovery).await;
    let forced: (bool, bool) = sqlx::query_as(
        "select relrowsecurity, relforcerowsecurity from pg_class where oid = 'encryption_vaults'::regclass",
    )
    .fetch_one(&app.admin)
    .await
    .unwrap();
    assert_eq!(forced, (true, true));
    for role in [Role::App, Role::Owner] {
        let mut connection = connect(&app, role).await;
        let special = "select rolsuper or rolbypassrls from pg_roles where rolname = current_user";
        let special: bool = sqlx::query_scalar(special)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert!(!special);
        let visible = "select coalesce(string_agg(user_id, ' '), '') from encryption_vaults";
        let all: String = sqlx::query_scalar(visible)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(all, "", "nobody is named");

        let mut tx = connection.begin().await.unwrap();
        let name = "select set_config('app.current_user_id', $1, true)";
        sqlx::query(name)
            .bind(&ada.user_id)
            .execute(&mut *tx)
            .await
            .unwrap();
        let own: String = sqlx::query_scalar(visible)
            .fetch_one(&mut *tx)
            .await
            .unwrap();
        assert_eq!(own, ada.user_id);
        for statement in [
            "update encryption_vaults set kek_id = 'x' where user_id = $1",
            "delete from encryption_vaults where user_id = $1",
        ] {
            let done = sqlx::query(statement)
                .bind(&bob.user_id)
                .execute(&mut *tx)
                .await;
            assert_eq!(done.unwrap().rows_affected(), 0, "{statement}");
        }
        for statement in [
            "update encryption_vaults set user_id = $1",
            "insert into encryption_vaults (user_id, wrapped_mk, wrap_iv) values ($1 || 'x', 'x', 'x')",
        ] {
            let mut savepoint = tx.begin().await.unwrap();
            let done = sqlx::query(statement)
                .bind(&bob.user_id)
                .execute(&mut *savepoint)
                .await;
            let error = done.unwrap_err().into_database_error().unwrap();
            assert!(
                error.message().contains("row-level security"),
                "{statement}: {error}"
            );
            savepoint.rollback().await.unwrap();
        }
        tx.rollback().await.unwrap();
        // The name goes with its transaction.
        let all: String = sqlx::query_scalar(visible)
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(all, "");
    }
}

/// Fails unless the key of a vault does not open, which has the contract's answer and its line.
async fn assert_broken(app: &TestApp, who: &Session, why: &str) {
    for (method, path) in [("GET", "/key"), ("POST", "/init")] {
        let broken = app.vault(who, method, path, &Value::Null).await;
        let wanted = json!({"statusCode": 500, "message": "Internal server error", "code": "INTERNAL_SERVER_ERROR"});
        assert_eq!((broken.status, broken.json()), (500, wanted), "{why}");
        let lines = app.vault_lines(&who.user_id).await;
        let last = lines.last().unwrap();
        let context = format!("unwrap-failed: {why}");
        assert_eq!(
            last,
            &line("failed_fetch", 500, &context),
            "{method} {path}"
        );
    }
}

const ALTERED: &str = "the wrapped secret does not belong here or was altered";

/// S-70: any two rows and any of their fields exchanged, and neither opens; put back, both do.
#[tokio::test]
async fn rows_and_fields_that_were_exchanged_do_not_open_s70() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    let keys = [
        bring_to(&app, &ada, Standard).await,
        bring_to(&app, &bob, Standard).await,
    ];
    let exchange = async |columns: &str| {
        let of = |owner: &str| {
            columns
                .split(", ")
                .map(|c| format!("{owner}.{c}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let swap = format!(
            "update encryption_vaults v set ({columns}) = row ({}) from encryption_vaults o
             where v.user_id = any ($1) and o.user_id = any ($1) and o.user_id <> v.user_id",
            of("o")
        );
        let owners = [&ada.user_id, &bob.user_id].map(String::as_str);
        sqlx::query(&swap)
            .bind(owners)
            .execute(&app.admin)
            .await
            .unwrap();
    };
    for columns in [
        "wrapped_mk",
        "wrap_iv",
        "wrapped_mk, wrap_iv",
        "wrapped_mk, wrap_iv, kek_id, wrap_format, wrap_version, key_check",
    ] {
        exchange(columns).await;
        for who in [&ada, &bob] {
            assert_broken(&app, who, ALTERED).await;
        }
        exchange(columns).await;
        assert_eq!([app.vault_key(&ada).await, app.vault_key(&bob).await], keys);
    }
    for (changes, back, why) in [
        ("wrap_version = 2", "wrap_version = 1", ALTERED),
        ("wrap_format = 0", "wrap_format = 1", ALTERED),
        (
            "wrap_format = 7",
            "wrap_format = 1",
            "unknown wrap format 7",
        ),
        (
            "kek_id = 'gone'",
            "kek_id = 'env-v1'",
            "key-encryption key \"gone\" is not configured",
        ),
    ] {
        set(&app, &ada, changes).await;
        assert_broken(&app, &ada, why).await;
        set(&app, &ada, back).await;
        assert_eq!(app.vault_key(&ada).await, keys[0]);
    }
    // An older wrap of the same vault is no better than another one's.
    let (wrapped, iv): (String, String) = (
        column(&app, &ada, "wrapped_mk").await,
        column(&app, &ada, "wrap_iv").await,
    );
    app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    set(
        &app,
        &ada,
        &format!("wrapped_mk = '{wrapped}', wrap_iv = '{iv}'"),
    )
    .await;
    assert_broken(&app, &ada, ALTERED).await;
    // Whoever rotates has a vault that works again.
    let rotated = app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    assert_eq!(json!(app.vault_key(&ada).await), rotated["masterKey"]);
}

/// S-70, S-75: the same for whole rows with their positions. Each call of each owner has its line: the one row is older
/// than its new owner's log, the other does not open.
#[tokio::test]
async fn whole_rows_that_were_exchanged_open_for_nobody_and_every_call_has_its_line_s75() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    bring_to(&app, &bob, Standard).await;
    bring_to(&app, &ada, Standard).await;
    let exchange = "set constraints all deferred;
        alter table encryption_vaults drop constraint encryption_vaults_pkey;
        update encryption_vaults v set user_id = o.user_id from encryption_vaults o where o.user_id <> v.user_id;
        alter table encryption_vaults add primary key (user_id)";
    sqlx::raw_sql(exchange).execute(&app.admin).await.unwrap();
    assert_broken(&app, &bob, ALTERED).await;
    assert_broken(&app, &ada, "row-outdated").await;
    let before = app.vault_lines(&ada.user_id).await.len();
    for (method, path, body) in [
        ("POST", "/rotate", Value::Null),
        ("POST", "/recovery-wrap", wrap("w")),
        ("DELETE", "/recovery-wrap", Value::Null),
        ("POST", "/recovery-wrap/restore", json!({})),
        ("POST", "/zero-knowledge", on()),
        ("POST", "/zero-knowledge", off(&other_key())),
    ] {
        let broken = app.vault(&ada, method, path, &body).await;
        assert_eq!(broken.status, 500, "{method} {path}: {}", broken.text);
        assert_ne!(broken.header("x-log-position"), "", "{method} {path}");
    }
    let lines = app.vault_lines(&ada.user_id).await;
    let failed = [
        "rotate",
        "recovery_set",
        "recovery_clear",
        "recovery_restore",
        "zk_enable",
        "zk_disable",
    ];
    assert_eq!(
        lines[before..],
        failed.map(|action| line(action, 500, "row-outdated"))
    );
    sqlx::raw_sql(exchange).execute(&app.admin).await.unwrap();
    for who in [&ada, &bob] {
        app.vault_key(who).await;
    }
}

/// A row that cannot be read is its owner's trouble: those whose vaults are read together with it do not feel it.
#[tokio::test]
async fn a_row_that_makes_no_sense_fails_nobody_else_s75() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    let key = bring_to(&app, &ada, Standard).await;
    bring_to(&app, &bob, WithRecovery).await;
    for column in ["created_at", "rotated_at", "recovery_set_at"] {
        for time in ["infinity", "-infinity", "294276-12-31", "4713-01-01 bc"] {
            set(&app, &ada, &format!("{column} = '{time}'")).await;
            assert_broken(&app, &ada, "row-unreadable").await;
            let owners = [&ada.user_id, &bob.user_id].map(Clone::clone);
            let read = mana_auth::vault::read(&app.app.pool, &owners)
                .await
                .unwrap();
            assert!(
                read[0].mode().is_err() && read[1].mode().is_ok(),
                "{column} {time}"
            );
            let status = app.vault(&ada, "GET", "/status", &Value::Null).await;
            assert_eq!(status.status, 500, "{}", status.text);
            let rotate = app.vault(&ada, "POST", "/rotate", &Value::Null).await;
            assert_eq!(rotate.status, 500, "{}", rotate.text);
            let lines = app.vault_lines(&ada.user_id).await;
            assert_eq!(lines.last(), Some(&line("rotate", 500, "row-unreadable")));
            set(&app, &ada, &format!("{column} = now()")).await;
        }
    }
    assert_eq!(app.vault_key(&ada).await, key);
}

/// Turns a row into one that the original service has left behind, whose key is known.
pub async fn as_of_the_original(app: &TestApp, who: &Session, key: &[u8; 32]) {
    let (iv, ciphertext) = aead::seal(&kek(), &[], key);
    let (iv, ciphertext) = (STANDARD.encode(iv), STANDARD.encode(ciphertext));
    let changes = format!(
        "wrapped_mk = '{ciphertext}', wrap_iv = '{iv}', wrap_format = 0, wrap_version = 0, kek_id = 'env-v1',
         key_check = null, recovery_key_check = null"
    );
    set(app, who, &changes).await;
}

/// Wraps of the original open, and are bound by the next write, whichever it is.
#[tokio::test]
async fn wraps_of_the_original_open_and_are_bound_at_the_next_write() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let key = [5; 32];
    let wire = STANDARD.encode(key);
    for (mode, method, path, after) in [
        (Standard, "POST", "/recovery-wrap", WithRecovery),
        (WithRecovery, "POST", "/recovery-wrap", WithRecovery),
        (WithRecovery, "DELETE", "/recovery-wrap", Standard),
    ] {
        let who = app
            .signed_in(&format!("p{}", app.count("read.users").await))
            .await;
        bring_to(&app, &who, mode).await;
        as_of_the_original(&app, &who, &key).await;
        assert_eq!(app.vault_key(&who).await, wire);
        assert_eq!(
            column::<i16>(&app, &who, "wrap_format").await,
            0,
            "reading writes nothing"
        );
        app.vault_does(&who, method, path, &wrap("w")).await;
        assert_eq!(
            column::<i16>(&app, &who, "wrap_format").await,
            1,
            "{method} in {mode:?}"
        );
        assert_eq!(mode_of(&app, &who).await, after);
        assert_eq!(app.vault_key(&who).await, wire);
        assert!(
            column::<Option<Vec<u8>>>(&app, &who, "key_check")
                .await
                .is_some()
        );
    }
    // One that does not open is left for whoever asks for it, and stands in nobody's way.
    let who = app.signed_in("broken").await;
    bring_to(&app, &who, Standard).await;
    set(&app, &who, "wrap_format = 0").await;
    app.vault_does(&who, "POST", "/recovery-wrap", &wrap("w"))
        .await;
    assert_broken(&app, &who, ALTERED).await;
}

/// A vault of the original in zero-knowledge mode has no check value: its key is taken back as it comes.
#[tokio::test]
async fn a_key_that_is_not_known_is_taken_back_s77() {
    let checked = ("MANA_AUTH_VAULT_CHECK_MASTER_KEY", "true");
    let app = TestApp::start(&[UNVERIFIED, checked]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, ZeroKnowledge).await;
    set(&app, &ada, "key_check = null, recovery_key_check = null").await;
    let key = other_key();
    app.vault_does(&ada, "POST", "/zero-knowledge", &off(&key))
        .await;
    assert_eq!(app.vault_key(&ada).await, key);
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    let another = off(&STANDARD.encode([8; 32]));
    let refused = app.vault(&ada, "POST", "/zero-knowledge", &another).await;
    assert_eq!(refused.status, 409, "from then on it is known");
}

/// Rows that were lost are not replaced by other keys: under those nothing of before would open.
#[tokio::test]
async fn a_vault_that_has_lost_its_row_gets_no_other_key() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let key = bring_to(&app, &ada, Standard).await;
    let copy = "create table copy as table encryption_vaults; delete from encryption_vaults";
    sqlx::raw_sql(copy).execute(&app.admin).await.unwrap();
    for path in ["/init", "/rotate"] {
        let refused = app.vault(&ada, "POST", path, &Value::Null).await;
        assert_eq!(refused.status, 500, "{path}: {}", refused.text);
    }
    // S-75
    let lines = app.vault_lines(&ada.user_id).await;
    let failed = [
        line("failed_fetch", 500, "unwrap-failed: row-lost"),
        line("rotate", 500, "row-lost"),
    ];
    assert_eq!(lines[1..], failed);
    let back = "insert into encryption_vaults table copy; drop table copy";
    sqlx::raw_sql(back).execute(&app.admin).await.unwrap();
    assert_eq!(app.vault_key(&ada).await, key);
}

/// What the original kept in its columns, ours keep (section 5.1 and 5.5).
#[tokio::test]
async fn a_row_has_the_bytes_that_the_contract_says() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Mode::WithRecovery).await;
    let row: Value = column(&app, &ada, "to_jsonb(encryption_vaults)").await;
    let text = |name: &str| row[name].as_str().unwrap();
    assert_eq!((text("wrapped_mk").len(), text("wrap_iv").len()), (64, 16));
    assert_eq!(
        (text("recovery_wrapped_mk"), text("recovery_iv")),
        ("first-wrapped", "first-iv")
    );
    assert_eq!(
        (text("kek_id"), &row["format_version"]),
        ("env-v1", &json!(1))
    );
    assert_eq!(row["recovery_format_version"], json!(1));
    assert_eq!(row["rotated_at"], Value::Null);
    let status = app.vault_does(&ada, "GET", "/status", &Value::Null).await;
    let set_at = status["recoverySetAt"].as_str().unwrap();
    assert!(set_at.len() == 24 && set_at.ends_with('Z'), "{set_at}");
    app.clock.advance(TimeDelta::minutes(1));
    app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("again"))
        .await;
    let again = app.vault_does(&ada, "GET", "/status", &Value::Null).await;
    assert_ne!(again["recoverySetAt"], status["recoverySetAt"], "each time");
    app.vault_does(&ada, "POST", "/rotate", &Value::Null).await;
    let rotated: Option<chrono::DateTime<chrono::Utc>> = column(&app, &ada, "rotated_at").await;
    assert_eq!(rotated, Some(app.clock.now()));
    let jwt = app.jwt(&ada.cookie).await;
    let request = app.request("GET", &format!("{VAULT}/key")).bearer_auth(jwt);
    assert_eq!(answer(request).await.status, 200);
}
