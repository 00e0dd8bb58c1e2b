//! Many calls: how many of one person are written down each, and that none is lost.

use std::collections::BTreeMap;

use aggregates::EmailAddress;
use aggregates::session::SignInMethod;
use chrono::TimeDelta;
use futures_util::StreamExt as _;
use futures_util::stream;
use mana_auth::accounts::{self, Caller, NewAccount, Proof, Verification};
use mana_auth::store::{Actor, Client, Context};
use serde_json::{Value, json};

use super::Mode::Standard;
use super::VAULT;
use super::{bring_to, line, on, other_key, wrap};
use crate::client::{Session, UNVERIFIED, answer};
use crate::harness::TestApp;
use crate::limits::LIMITED;

/// As many calls of one device are written down each, without a pause of a minute.
const CALLS: usize = 120;
/// As many requests of one address reach a door with the coarse brake, without a pause of ten seconds.
const BRAKE: usize = 100;
/// As many devices of one person may call as often as that.
const DEVICES: usize = 3;
/// As many changes, without a pause of an hour.
const CHANGES: usize = 30;

fn summaries(lines: &[super::Line]) -> usize {
    let summary = line("rate_limited", 429, "too-many-calls");
    lines.iter().filter(|line| **line == summary).count()
}

/// S-80, I-11: on both nodes together, and what is above is one line an hour.
#[tokio::test]
async fn calls_above_the_limit_are_refused_and_are_one_line_an_hour_s80_i11() {
    let app = TestApp::start(&LIMITED).await;
    let node = app.node(&LIMITED).await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    bring_to(&app, &ada, Standard).await;
    for number in 1..CALLS {
        let at = [&app, &node][number % 2];
        assert_eq!(
            at.vault(&ada, "GET", "/key", &Value::Null).await.status,
            200,
            "{number}"
        );
    }
    let before = app.vault_lines(&ada.user_id).await;
    assert_eq!((before.len(), summaries(&before)), (CALLS, 0));
    for number in 0..20 {
        let at = [&app, &node][number % 2];
        let (method, path) = [("GET", "/key"), ("POST", "/init")][number / 2 % 2];
        let refused = at.vault(&ada, method, path, &Value::Null).await;
        let wanted = json!({"error": "Too many requests", "code": "RATE_LIMITED"});
        assert_eq!((refused.status, refused.json()), (429, wanted));
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let lines = app.vault_lines(&ada.user_id).await;
    assert_eq!((lines.len(), summaries(&lines)), (CALLS + 1, 1));
    // Somebody else has calls of their own, and asking for the status is none.
    assert_eq!(
        app.vault(&bob, "GET", "/key", &Value::Null).await.status,
        404
    );
    app.vault_does(&ada, "GET", "/status", &Value::Null).await;

    // The next flood within the hour has no line, one after it has one.
    for (minutes, wanted) in [(2, 1), (61, 2)] {
        app.clock.advance(TimeDelta::minutes(minutes));
        for _ in 0..CALLS {
            app.vault_does(&ada, "GET", "/key", &Value::Null).await;
        }
        for _ in 0..3 {
            let refused = app.vault(&ada, "GET", "/key", &Value::Null).await;
            assert_eq!(refused.status, 429);
        }
        assert_eq!(summaries(&app.vault_lines(&ada.user_id).await), wanted);
    }
}

/// S-80: by person and device. Who asks without end on one device keeps no other out; who has many has no more calls.
#[tokio::test]
async fn each_device_has_calls_of_its_own_up_to_those_of_its_person_s80() {
    let app = TestApp::start(&LIMITED).await;
    let mut devices = vec![app.signed_in("ada").await];
    bring_to(&app, &devices[0], Standard).await;
    for _ in 0..DEVICES {
        app.clock.advance(TimeDelta::seconds(15));
        devices.push(app.sign_in("ada").await);
    }
    app.clock.advance(TimeDelta::minutes(2));
    let status = async |device: &Session| {
        let called = app.vault(device, "GET", "/key", &Value::Null).await;
        called.status
    };
    for device in &devices[..DEVICES] {
        for number in 0..CALLS {
            assert_eq!(status(device).await, 200, "{number}");
        }
        assert_eq!(status(device).await, 429);
    }
    assert_eq!(
        status(&devices[DEVICES]).await,
        429,
        "of no device, of hers"
    );
    let lines = app.vault_lines(&devices[0].user_id).await;
    assert_eq!(summaries(&lines), 1);
    app.clock.advance(TimeDelta::minutes(2));
    assert_eq!(status(&devices[DEVICES]).await, 200);
}

/// Changes send mails and keep what they replace, so there are fewer of them; the key is given out all the same.
#[tokio::test]
async fn no_address_ends_the_calls_of_people_before_their_own_limit_s75_s80() {
    let app = TestApp::start(&LIMITED).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let send = async |token: &str, path: &str| {
        let request = app.request("GET", &format!("{VAULT}{path}"));
        let request = request.header("x-forwarded-for", "203.0.113.7");
        answer(request.bearer_auth(token)).await.status
    };
    // What is nobody's call is held by the brake, and keeps nobody else out.
    for number in 0..BRAKE + 5 {
        let wanted = if number < BRAKE { 401 } else { 429 };
        assert_eq!(send("nobody", "/key").await, wanted, "{number}");
    }
    for number in 1..CALLS {
        assert_eq!(send(&ada.token, "/key").await, 200, "{number}");
    }
    for _ in 0..3 {
        assert_eq!(send(&ada.token, "/key").await, 429);
    }
    let lines = app.vault_lines(&ada.user_id).await;
    assert_eq!((lines.len(), summaries(&lines)), (CALLS + 1, 1));
    // What leaves no line keeps the brake.
    for path in ["/status", "/audit"] {
        for number in 0..BRAKE + 5 {
            let wanted = if number < BRAKE { 200 } else { 429 };
            assert_eq!(send(&ada.token, path).await, wanted, "{path} {number}");
        }
    }
}

#[tokio::test]
async fn changes_have_a_limit_of_their_own_s80() {
    let app = TestApp::start(&LIMITED).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    for _ in 0..CHANGES {
        app.vault_does(&ada, "POST", "/recovery-wrap", &wrap("w"))
            .await;
    }
    for (method, path) in super::doors::CALLS.map(|(method, path, _)| (method, path)) {
        let refused = app.vault(&ada, method, path, &Value::Null).await.status;
        let open = ["/init", "/key"].contains(&path);
        assert_eq!(refused == 429, !open, "{method} {path}");
    }
    let lines = app.vault_lines(&ada.user_id).await;
    assert_eq!(summaries(&lines), 1);
    let kept = format!(
        "custody where kind = 'recovery_wrap' and owner = '{}'",
        ada.user_id
    );
    assert_eq!(app.count(&kept).await, CHANGES as i64 - 1);
}

/// Somebody with a session, made without a password: that would take longer than all their calls.
async fn person(app: &TestApp, number: usize) -> Session {
    let caller = Caller {
        client: Client::default(),
        network: String::new(),
        request_id: "flood".to_owned(),
        traceparent: None,
    };
    let account = NewAccount {
        email: EmailAddress::parse(&format!("p{number}@example.com")).unwrap(),
        name: "P".to_owned(),
        password: None,
        email_verified: true,
        image: None,
        locale: None,
        link: None,
    };
    let context = Context::of(Actor::Operator);
    let user = accounts::register(&app.app, account, context, Verification::NONE)
        .await
        .unwrap();
    let proof = Proof::by(SignInMethod::EmailLink);
    let started = accounts::start_session(&app.app, &user, true, proof, &caller)
        .await
        .unwrap();
    Session {
        user_id: user.id,
        token: started.token,
        cookie: String::new(),
    }
}

/// S-75: of ten thousand denials and failures, over a thousand people and two nodes, none is lost and none is doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_denials_are_ten_thousand_lines_s75() {
    const PEOPLE: usize = 1_000;
    let app = TestApp::start(&[UNVERIFIED]).await;
    let node = app.node(&[UNVERIFIED]).await;
    let made = stream::iter((0..PEOPLE).map(|number| person(&app, number)));
    let people: Vec<Session> = made.buffer_unordered(64).collect().await;
    // One half has no vault, the other one in zero-knowledge mode, of which every tenth is broken and can be opened.
    let prepared = stream::iter(
        people
            .iter()
            .enumerate()
            .filter(|(number, _)| number % 2 == 0)
            .map(async |(number, who)| {
                app.vault_does(who, "POST", "/init", &Value::Null).await;
                if number % 20 != 0 {
                    app.vault_does(who, "POST", "/recovery-wrap", &wrap("w"))
                        .await;
                    app.vault_does(who, "POST", "/zero-knowledge", &on()).await;
                }
            }),
    );
    prepared.buffer_unordered(64).collect::<Vec<()>>().await;
    let broken =
        sqlx::query("update encryption_vaults set wrap_version = 99 where not zero_knowledge");
    assert_eq!(
        broken.execute(&app.admin).await.unwrap().rows_affected(),
        50
    );
    let before = app.count("events where aggregate_type = 'vault'").await;

    let nothing = Value::Null;
    let denials = |number: usize| -> [(&'static str, &'static str, Value, u16); 10] {
        let off = super::off(&other_key());
        let get = ("GET", "/key", nothing.clone());
        let (rotate, clear) = (
            ("POST", "/rotate", nothing.clone()),
            ("DELETE", "/recovery-wrap", nothing.clone()),
        );
        let with = |(method, path, body): (&'static str, &'static str, Value), status| {
            (method, path, body, status)
        };
        match number {
            number if number % 20 == 0 => std::array::from_fn(|_| with(get.clone(), 500)),
            number if number % 2 == 0 => {
                std::array::from_fn(|n| with([rotate.clone(), clear.clone()][n % 2].clone(), 409))
            }
            _ => {
                let all = [
                    get.clone(),
                    ("POST", "/recovery-wrap", wrap("w")),
                    clear,
                    ("POST", "/zero-knowledge", on()),
                    ("POST", "/zero-knowledge", off),
                ];
                std::array::from_fn(|n| with(all[n % 5].clone(), 404))
            }
        }
    };
    let calls = people.iter().enumerate().flat_map(|(number, who)| {
        denials(number)
            .into_iter()
            .enumerate()
            .map(move |(n, call)| (n, who, call))
    });
    let mut calls: Vec<_> = calls.collect();
    // Everybody's first call, everybody's second one, and so on: people call at the same time.
    calls.sort_by_key(|(n, ..)| *n);
    assert_eq!(calls.len(), 10_000);
    let sent = stream::iter(calls.into_iter().map(
        async |(n, who, (method, path, body, status))| {
            let at = [&app, &node][n % 2];
            let denied = at.vault(who, method, path, &body).await;
            assert_eq!(denied.status, status, "{method} {path}: {}", denied.text);
        },
    ));
    sent.buffer_unordered(64).collect::<Vec<()>>().await;

    assert_eq!(
        app.count("events where aggregate_type = 'vault'").await - before,
        10_000
    );
    let mut lines = BTreeMap::<super::Line, usize>::new();
    for who in &people {
        let of_person = app.vault_lines(&who.user_id).await;
        for denied in &of_person[of_person.len() - 10..] {
            *lines.entry(denied.clone()).or_default() += 1;
        }
    }
    let altered = "unwrap-failed: the wrapped secret does not belong here or was altered";
    let wanted = BTreeMap::from([
        (line("failed_fetch", 500, altered), 500),
        (line("rotate", 409, "zk-rotate-forbidden"), 2_250),
        (line("recovery_clear", 409, "zk-active"), 2_250),
        (line("failed_fetch", 404, "not-initialised"), 1_000),
        (line("recovery_set", 404, "no-vault"), 1_000),
        (line("recovery_clear", 404, "no-vault"), 1_000),
        (line("zk_enable", 404, "no-vault"), 1_000),
        (line("zk_disable", 404, "no-vault"), 1_000),
    ]);
    assert_eq!(lines, wanted);
}

/// S-75, I-4: what cannot be written down is not done and not given out.
#[tokio::test]
async fn without_its_line_no_call_is_answered_i4() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let key = bring_to(&app, &ada, super::Mode::WithRecovery).await;
    let before = app.vault_lines(&ada.user_id).await;
    let refuse = "create function refuse() returns trigger language plpgsql as $$ begin
                      raise exception 'no more events' using errcode = '53100';
                  end $$;
                  create trigger refuse before insert on events_000000 for each row execute function refuse()";
    sqlx::raw_sql(refuse).execute(&app.admin).await.unwrap();
    for (method, path, body) in [
        ("POST", "/init", Value::Null),
        ("GET", "/key", Value::Null),
        ("POST", "/rotate", Value::Null),
        ("POST", "/recovery-wrap", wrap("second")),
        ("DELETE", "/recovery-wrap", Value::Null),
        ("POST", "/zero-knowledge", on()),
        ("POST", "/zero-knowledge", super::off(&key)),
    ] {
        let failed = app.vault(&ada, method, path, &body).await;
        assert_eq!(failed.status, 503, "{method} {path}: {}", failed.text);
        assert!(!failed.text.contains(&key) && !failed.text.contains("wrapped"));
    }
    sqlx::raw_sql("drop trigger refuse on events_000000")
        .execute(&app.admin)
        .await
        .unwrap();
    assert_eq!(app.vault_lines(&ada.user_id).await, before);
    assert_eq!(app.vault_key(&ada).await, key);
    app.vault_does(&ada, "POST", "/zero-knowledge", &on()).await;
    let given = app.vault_does(&ada, "GET", "/key", &Value::Null).await;
    assert_eq!(given["recoveryWrappedMk"], json!("first-wrapped"));
}
