//! Read models made anew: the same rows, the same names, nothing lost, under live traffic.

#![cfg(test)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use aggregates::session::{EndReason, SignInMethod};
use aggregates::user::{PasswordCause, SecondFactorMethod, User, UserCommand};
use aggregates::{ReadLog, Reading, Roles, Tier};
use chrono::TimeDelta;
use mana_auth::accounts::{self, Caller, Proof};
use mana_auth::app::App;
use mana_auth::cluster::Role as DatabaseRole;
use mana_auth::database;
use mana_auth::rebuild::{self, Comparison, Progress, Rebuilt};
use mana_auth::signing::PUBLISHED_BEFORE;
use mana_auth::store::{Actor, Client, Context};
use projections::Projection;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

use crate::client::{PASSWORD, UNVERIFIED, answer};
use crate::harness::{TestApp, wait_until};
use crate::organizations;

pub fn service(app: &TestApp) -> PgConnectOptions {
    database::options(&app.database_url(DatabaseRole::App)).unwrap()
}

async fn rebuild(app: &TestApp, model: &'static Projection) -> anyhow::Result<Rebuilt> {
    rebuild::rebuild(&app.app.store, &service(app), model, |_| {}).await
}

/// Compares a model with what the log says.
pub async fn compare(app: &TestApp, model: &'static Projection) -> Comparison {
    let compared = rebuild::compare(&app.app.store, &service(app), model, |_| {}).await;
    compared.unwrap()
}

/// Rows, columns, indexes and constraints of every read model, as text.
async fn everything(app: &TestApp) -> Vec<String> {
    app.followed().await;
    let mut found = Vec::new();
    for model in projections::ALL {
        let rows = format!(
            "select to_jsonb(t)::text from read.{} t order by id",
            model.name
        );
        let rows: Vec<String> = sqlx::query_scalar(&rows)
            .fetch_all(&app.admin)
            .await
            .unwrap();
        found.extend(rows);
    }
    found.extend(shape(app).await);
    found
}

/// Columns, indexes, constraints, owner and sampled columns of every table in `read`.
async fn shape(app: &TestApp) -> Vec<String> {
    sqlx::query_scalar(
        "select format('%s %s %s %s', table_name, column_name, data_type, is_nullable)
         from information_schema.columns where table_schema = 'read'
         union all select indexdef from pg_indexes where schemaname = 'read'
         union all select format('%s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
         from pg_constraint where connamespace = 'read'::regnamespace
         union all select format('%s owned by %s', tablename, tableowner) from pg_tables where schemaname = 'read'
         union all select format('%s %s sampled %s', attrelid::regclass, attname, attstattarget) from pg_attribute
         where attrelid in (select oid from pg_class where relnamespace = 'read'::regnamespace and relkind = 'r') and attnum > 0
         order by 1",
    )
    .fetch_all(&app.admin)
    .await
    .unwrap()
}

async fn change(app: &App, id: &str, command: UserCommand) {
    let context = Context::of(Actor::Operator);
    app.store.run::<User>(id, command, context).await.unwrap();
}

/// Organizations with everything in them, one that is closed, and one whose owner and guest were erased.
async fn mixed_organizations(app: &TestApp) {
    let (_, closed, left) = (
        app.tenant("acme").await,
        app.tenant("closed").await,
        app.tenant("left").await,
    );
    let body = json!({"organizationId": closed.id});
    app.organized(&closed.owner, "delete", &body).await;
    app.sign_up("left.guest").await;
    // The first mail is the invitation.
    let mail = app.wait_for_mail("left.guest@example.com", 1).await;
    app.follow(&mail.url.unwrap()).await;
    let guest = app.sign_in("left.guest").await;
    for gone in [&guest, &left.owner] {
        let body = json!({"password": PASSWORD});
        let gone = app
            .post_as("/api/auth/delete-user", &gone.cookie, &body)
            .await;
        assert_eq!(gone.status, 200, "{}", gone.text);
    }
}

/// People and sessions in every state that events can bring them to; ends with one who was erased.
async fn mixed_history(app: &TestApp) {
    let at = app.clock.now();
    for n in 0..12_usize {
        let session = app.signed_in(&format!("person{n}")).await;
        let id = session.user_id.as_str();
        if n % 2 == 0 {
            change(
                &app.app,
                id,
                UserCommand::ChangeRole {
                    role: Roles::admin(),
                    at,
                },
            )
            .await;
        }
        if n.is_multiple_of(3) {
            app.vault_does(&session, "POST", "/init", &Value::Null)
                .await;
            change(
                &app.app,
                id,
                UserCommand::ChangeTier {
                    tier: Tier::Beta,
                    at,
                },
            )
            .await;
        }
        if n % 4 == 0 {
            // What COPY has signs for, and what JSON escapes.
            let name = Some("a\tb\\c\nd \\N \"ä\" 🦊".to_owned());
            let (image, locale) = (
                Some(Some("https://example.com/a.png".to_owned())),
                Some(None),
            );
            change(
                &app.app,
                id,
                UserCommand::ChangeProfile {
                    name,
                    image,
                    locale,
                    at,
                },
            )
            .await;
        }
        if n % 5 == 0 {
            let (name, image) = (Some(String::new()), Some(None));
            change(
                &app.app,
                id,
                UserCommand::ChangeProfile {
                    name,
                    image,
                    locale: None,
                    at,
                },
            )
            .await;
        }
        // Also for the one who goes.
        if n % 2 == 1 || n == 2 {
            ways_in(&app.app, id, n).await;
        }
        if n % 3 == 1 {
            let out = app
                .post_as("/api/auth/sign-out", &session.cookie, &json!({}))
                .await;
            assert_eq!(out.status, 200);
        }
    }
    app.app
        .signing
        .rotate(PUBLISHED_BEFORE, Actor::Operator)
        .await
        .unwrap();
}

/// Everything that can become of passkeys, accounts at other providers, API keys, second factors and bans.
async fn ways_in(app: &App, id: &str, n: usize) {
    let at = app.clock.now();
    let later = at + TimeDelta::minutes(1);
    let named = |what: &str| format!("{what}-{n}");
    let link = |number: usize, scopes: &[&str]| UserCommand::LinkAccount {
        link_id: named(&format!("link-{number}")),
        provider: "acme".to_owned(),
        subject: format!("{n}/{number}"),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        at,
    };
    let passkey = |number: usize| UserCommand::AddPasskey {
        passkey_id: named(&format!("passkey-{number}")),
        credential_id: format!("credential-{n}-{number}"),
        credential: r#"{"counter":0,"key":"a\\b\tc"}"#.to_owned(),
        name: None,
        at,
    };
    let key = |number: usize, expires_at| UserCommand::CreateApiKey {
        key_id: named(&format!("key-{number}")),
        name: "a\tb \\N".to_owned(),
        prefix: "0123abcd".to_owned(),
        key_hash: format!("{n:032}{number:032}"),
        scopes: vec!["a\"b\\c,{d}".to_owned(), String::new(), "ä\n".to_owned()],
        expires_at,
        at,
    };
    let method = SecondFactorMethod::Totp;
    let commands = [
        link(1, &[]),
        link(2, &["openid", "a\\\"b"]),
        UserCommand::UnlinkAccount {
            link_id: named("link-1"),
            at,
        },
        UserCommand::ChangeAccountScopes {
            link_id: named("link-2"),
            scopes: vec!["email".to_owned(), "NULL".to_owned()],
            at: later,
        },
        passkey(1),
        passkey(2),
        UserCommand::RenamePasskey {
            passkey_id: named("passkey-2"),
            name: "a\tb".to_owned(),
            at,
        },
        UserCommand::RemovePasskey {
            passkey_id: named("passkey-1"),
            at,
        },
        key(1, Some(later)),
        key(2, None),
        UserCommand::RevokeApiKey {
            key_id: named("key-2"),
            at: later,
        },
        UserCommand::ReadAudit {
            reading: Reading {
                of: ReadLog::Vaults,
                filters: vec![named("a\tb")],
            },
            at,
        },
        UserCommand::PrepareSecondFactor { at },
        UserCommand::EnableSecondFactor { method, at },
        UserCommand::Ban {
            reason: Some("a\tb".to_owned()),
            until: Some(later),
            at,
        },
    ];
    for command in commands {
        change(app, id, command).await;
    }
    if n % 4 != 3 {
        change(app, id, UserCommand::LiftBan { at }).await;
        change(app, id, UserCommand::DisableSecondFactor { at }).await;
    }
    if n.is_multiple_of(3) {
        change(app, id, UserCommand::RemovePassword { at }).await;
    }
    if n.is_multiple_of(9) {
        let (cause, keep) = (PasswordCause::Reset, None);
        let set = UserCommand::SetPassword {
            cause,
            keep,
            at: later,
        };
        change(app, id, set).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuilt_models_have_the_same_rows_and_shape() {
    let proxies = ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8");
    let app = TestApp::start(&[&organizations::ALL_ON[..], &[proxies]].concat()).await;
    mixed_history(&app).await;
    mixed_organizations(&app).await;
    // From an address, so that there is a device; and one who has gone.
    for email in ["person1@example.com", "person2@example.com"] {
        let request = app.request("POST", "/api/auth/sign-in/email");
        let body = json!({"email": email, "password": PASSWORD});
        let signed_in = answer(request.header("x-forwarded-for", "203.0.113.7").json(&body)).await;
        assert_eq!(signed_in.status, 200);
        if email.starts_with("person2") {
            let token = signed_in.json()["token"].as_str().unwrap().to_owned();
            let request = app.request("POST", "/api/auth/delete-user");
            let gone = answer(request.bearer_auth(token).json(&json!({}))).await;
            assert_eq!(gone.status, 200, "{}", gone.text);
        }
    }
    let before = everything(&app).await;
    for model in projections::ALL {
        assert_eq!(compare(&app, model).await.differing, Vec::<String>::new());
        let mut seen = Vec::new();
        let made = rebuild::rebuild(&app.app.store, &service(&app), model, |p| seen.push(p)).await;
        let made = made.unwrap();
        assert!(made.rows > 0);
        let done = Progress {
            done: made.position,
            total: made.position,
        };
        assert_eq!(seen.last(), Some(&done));
        let known: i32 = sqlx::query_scalar(
            "select version from read.models where name = $1 and rebuilt_at is not null",
        )
        .bind(model.name)
        .fetch_one(&app.admin)
        .await
        .unwrap();
        assert_eq!(known, model.version);
    }
    assert_eq!(everything(&app).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_writes_and_reads_on_after_the_swap() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let session = app.signed_in("ada").await;
    // Everything that keeps a plan has one now: connections of the pool, the appender, the functions.
    for _ in 0..8 {
        app.sign_in("ada").await;
    }
    for model in projections::ALL {
        rebuild(&app, model).await.unwrap();
    }
    let at = app.clock.now();
    change(
        &app.app,
        &session.user_id,
        UserCommand::ChangeTier {
            tier: Tier::Alpha,
            at,
        },
    )
    .await;
    let user = projections::users::find(&app.app.pool, &session.user_id).await;
    assert_eq!(user.unwrap().unwrap().tier, "alpha");
    let again = app.sign_in("ada").await;
    let seen = app.get_as("/api/auth/get-session", &again.cookie).await;
    assert_eq!(seen.json()["user"]["accessTier"], "alpha");
    app.signed_in("bo").await;
    for model in projections::ALL {
        assert_eq!(compare(&app, model).await.differing, Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_comparison_names_the_rows_that_differ() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bo) = (app.signed_in("ada").await, app.signed_in("bo").await);
    app.signed_in("cy").await;
    for change in [
        format!("update read.users set name = 'x' where id = '{}'", ada.user_id),
        format!("delete from read.users where id = '{}'", bo.user_id),
        "insert into read.users (id, email, email_verified, name, image, locale, role, tier, created_at, updated_at)
         select 'extra', email, email_verified, name, image, locale, role, tier, created_at, updated_at
         from read.users limit 1"
            .to_owned(),
    ] {
        sqlx::query(&change).execute(&app.admin).await.unwrap();
    }
    let users = rebuild::find("users").unwrap();
    let mut expected = [ada.user_id, bo.user_id, "extra".to_owned()];
    expected.sort();
    let mut differing = compare(&app, users).await.differing;
    differing.sort();
    assert_eq!(differing, expected);
    rebuild(&app, users).await.unwrap();
    assert_eq!(compare(&app, users).await.differing, Vec::<String>::new());
}

/// Until erasure is a command of its own, it is what it will do: the key goes, the row goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_whose_data_key_is_gone_have_no_row() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let (ada, bo) = (app.signed_in("ada").await, app.signed_in("bo").await);
    sqlx::query("delete from custody where kind = 'data_key' and owner = $1")
        .bind(&ada.user_id)
        .execute(&app.admin)
        .await
        .unwrap();
    for name in ["users", "sessions"] {
        rebuild(&app, rebuild::find(name).unwrap()).await.unwrap();
    }
    let people: Vec<String> = sqlx::query_scalar("select id from read.users")
        .fetch_all(&app.admin)
        .await
        .unwrap();
    assert_eq!(people, vec![bo.user_id.as_str()]);
    let owners: Vec<String> = sqlx::query_scalar("select user_id from read.sessions")
        .fetch_all(&app.admin)
        .await
        .unwrap();
    assert_eq!(owners, [bo.user_id]);
}

/// Several rebuilds in a row while sessions start and end: whatever was acknowledged is there afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_during_a_rebuild_are_not_lost() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let person = app.signed_in("ada").await;
    let user = projections::users::find(&app.app.pool, &person.user_id).await;
    let user = Arc::new(user.unwrap().unwrap());
    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut writers = Vec::new();
    for _ in 0..8 {
        let (app, user) = (app.app.clone(), user.clone());
        let (stop, written) = (stop.clone(), written.clone());
        writers.push(tokio::spawn(async move {
            let mut live = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let caller = Caller {
                    client: Client::default(),
                    network: String::new(),
                    request_id: "rebuild".to_owned(),
                    traceparent: None,
                };
                let proof = Proof::by(SignInMethod::Password);
                let started = accounts::start_session(&app, &user, true, proof, &caller)
                    .await
                    .unwrap();
                live.push(started.session.id);
                if live.len() % 3 == 0 {
                    let id = live.swap_remove(0);
                    let context = Context::of(Actor::System);
                    accounts::end_session(&app, &id, EndReason::SignedOut, context)
                        .await
                        .unwrap();
                }
                written.fetch_add(1, Ordering::SeqCst);
            }
            live
        }));
    }
    let sessions = rebuild::find("sessions").unwrap();
    for round in 1..=5 {
        // Each one begins with more history and in the middle of traffic.
        let enough = round * 100;
        wait_until("there was traffic", async || {
            written.load(Ordering::SeqCst) >= enough
        })
        .await;
        rebuild(&app, sessions).await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    let mut expected = vec![];
    for writer in writers {
        expected.extend(writer.await.unwrap());
    }
    let live: Vec<String> = sqlx::query_scalar("select id from read.sessions where id = any($1)")
        .bind(&expected)
        .fetch_all(&app.admin)
        .await
        .unwrap();
    assert_eq!(
        live.len(),
        expected.len(),
        "acknowledged sessions are there"
    );
    let count: i64 = sqlx::query_scalar("select count(*) from read.sessions")
        .fetch_one(&app.admin)
        .await
        .unwrap();
    assert_eq!(count, expected.len() as i64 + 1, "ended sessions are not");
    assert_eq!(
        compare(&app, sessions).await.differing,
        Vec::<String>::new()
    );
}

/// How many rebuilds wait for a lock; `each` is done to them.
async fn waiting(app: &TestApp, each: &str) -> i64 {
    let query = format!(
        "select count({each}) from pg_stat_activity
         where application_name = 'mana-auth rebuild' and datname = current_database() and wait_event_type = 'Lock'"
    );
    sqlx::query_scalar(&query)
        .fetch_one(&app.admin)
        .await
        .unwrap()
}

/// Killed when it has folded, when it has copied, and in the swap itself: the live table stays as it was, and the next
/// rebuild starts over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_that_dies_leaves_the_live_table() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    mixed_history(&app).await;
    let before = everything(&app).await;
    let users = rebuild::find("users").unwrap();

    // Its backend is killed while it waits for a lock that somebody else holds.
    for (lock, waits_in) in [
        (
            "lock table read.users in access exclusive mode",
            "making its table",
        ),
        (
            "select pg_advisory_xact_lock(7165746300)",
            "waiting for appends",
        ),
        (
            "lock table read.users in share row exclusive mode",
            "the swap",
        ),
    ] {
        let mut tx = app.admin.begin().await.unwrap();
        sqlx::query(lock).execute(&mut *tx).await.unwrap();
        let killing = async {
            wait_until("the rebuild was killed", async || {
                waiting(&app, "pg_terminate_backend(pid)").await > 0
            })
            .await;
        };
        let (outcome, ()) = tokio::join!(rebuild(&app, users), killing);
        assert!(outcome.is_err(), "killed in {waits_in}");
        tx.rollback().await.unwrap();
        let after = everything(&app).await;
        let live = |line: &&String| !line.contains("users_rebuild");
        assert!(
            after.iter().filter(live).eq(before.iter()),
            "killed in {waits_in}"
        );
    }
    rebuild(&app, users).await.unwrap();
    assert_eq!(everything(&app).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_does_not_let_go_delays_the_rebuild_not_the_service() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.signed_in("ada").await;
    let mut reader = app.admin.begin().await.unwrap();
    sqlx::query("select count(*) from read.users")
        .execute(&mut *reader)
        .await
        .unwrap();
    let users = rebuild::find("users").unwrap();
    let rebuilding = rebuild(&app, users);
    let others = async {
        wait_until("the swap waits for the reader", async || {
            waiting(&app, "*").await > 0
        })
        .await;
        // Appends wait for the swap, which gives way before they give up.
        app.signed_in("bo").await;
        app.signed_in("cy").await;
        reader.rollback().await.unwrap();
    };
    let (made, ()) = tokio::join!(rebuilding, others);
    assert_eq!(made.unwrap().rows, 3);
    assert_eq!(compare(&app, users).await.differing, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_model_is_rebuilt_by_one_at_a_time() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.signed_in("ada").await;
    let users = rebuild::find("users").unwrap();
    let mut held = app.admin.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock(71657463, hashtext('users'))")
        .execute(&mut *held)
        .await
        .unwrap();
    let refused = rebuild(&app, users).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "users is being rebuilt by somebody else"
    );
    rebuild(&app, rebuild::find("sessions").unwrap())
        .await
        .unwrap();
    sqlx::query("select pg_advisory_unlock_all()")
        .execute(&mut *held)
        .await
        .unwrap();
    rebuild(&app, users).await.unwrap();
}
