//! What may be asked of the audit log: filters, forms, and what is refused.

use chrono::TimeDelta;
use serde_json::{Value, json};
use sqlx::Executor as _;

use super::{ALL, events, of};
use crate::admin::ADMINS;
use crate::client::answer;
use crate::erasure::PROXY;
use crate::harness::TestApp;
use crate::vault::Mode::Standard;
use crate::vault::followed::hold_up;
use crate::vault::{VAULT, bring_to};

/// Each filter by itself and all together, compared with everything.
#[tokio::test]
async fn filters_give_what_is_asked_for_and_nothing_else() {
    let app = TestApp::start(&[&ADMINS[..], &[PROXY]].concat()).await;
    let root = app.signed_in("root").await;
    let (ada, bob) = (app.signed_in("ada").await, app.signed_in("bob").await);
    let start = app.clock.now();
    for (n, who) in [&ada, &bob, &ada, &bob, &ada].into_iter().enumerate() {
        for (method, path) in [("GET", "/key"), ("POST", "/init")] {
            let request = app.request(method, &format!("{VAULT}{path}"));
            let request = request.header("x-forwarded-for", format!("2001:db8::{n}"));
            answer(request.bearer_auth(&who.token)).await;
        }
        app.clock.advance(TimeDelta::minutes(1));
    }
    let all = events(&app.audit(&root, ALL).await);
    assert_eq!(all.len(), 10);
    let text = |minutes: i64| {
        let time = start + TimeDelta::minutes(minutes);
        time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    };
    let (one, three) = (text(1), text(3));
    type Test<'a> = Box<dyn Fn(&Value) -> bool + 'a>;
    let filters: Vec<(String, Test<'_>)> = vec![
        (
            format!("userId={}", ada.user_id),
            Box::new(|row| row["userId"] == *ada.user_id),
        ),
        (
            "action=init".to_owned(),
            Box::new(|row| row["action"] == "init"),
        ),
        (
            "action=fetch,failed_fetch".to_owned(),
            Box::new(|row| row["action"] != "init"),
        ),
        (
            "status=201,404".to_owned(),
            Box::new(|row| row["status"] != 200),
        ),
        (
            "ipAddress=2001:0db8::3".to_owned(),
            Box::new(|row| row["ipAddress"] == "2001:db8::3"),
        ),
        (
            format!("from={one}"),
            Box::new(|row| row["createdAt"].as_str().unwrap() >= one.as_str()),
        ),
        (
            format!("to={three}"),
            Box::new(|row| row["createdAt"].as_str().unwrap() < three.as_str()),
        ),
        (
            format!(
                "userId={}&action=init&status=200&from={one}&to={}",
                ada.user_id,
                text(5)
            ),
            Box::new(|row| {
                row["userId"] == *ada.user_id && row["action"] == "init" && row["status"] == 200
            }),
        ),
        ("userId=nobody".to_owned(), Box::new(|_| false)),
    ];
    for (query, test) in filters {
        let wanted: Vec<Value> = all.iter().filter(|row| test(row)).cloned().collect();
        assert!(wanted.len() < all.len() && (!wanted.is_empty() || query.ends_with("nobody")));
        let found = events(&app.audit(&root, &format!("{ALL}?{query}")).await);
        assert_eq!(found, wanted, "{query}");
    }
    let own = events(&app.own_audit(&ada, "?action=init&limit=1").await);
    assert_eq!((own.len(), &own[0]["userId"]), (1, &json!(ada.user_id)));
}

/// What is no parameter, or no value of one, is refused by its name, and nothing is written down.
#[tokio::test]
async fn parameters_that_are_not_understood_are_refused() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    app.vault_key(&ada).await;
    let first = app.own_audit(&ada, "?limit=1").await;
    let cursor = first.json()["nextCursor"].as_str().unwrap().to_owned();
    let other_order = format!("order=asc&cursor={cursor}");
    let cut = format!("cursor={}", &cursor[1..]);
    let head = app.head().await;
    for (query, name) in [
        ("action=opened", "action"),
        ("action=", "action"),
        ("action=init,", "action"),
        ("status=ok", "status"),
        ("status=99", "status"),
        ("ipAddress=example.com", "ipAddress"),
        ("ipAddress=%00", "ipAddress"),
        ("from=yesterday", "from"),
        ("from=2026-11-26", "from"),
        ("to=1", "to"),
        ("at=0", "at"),
        ("at=-1", "at"),
        ("at=99999999999999999999", "at"),
        ("at=now", "at"),
        ("at=1000000", "at"),
        ("order=up", "order"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=ten", "limit"),
        ("limit=10001&format=csv", "limit"),
        ("format=xml", "format"),
        ("cursor=", "cursor"),
        ("cursor=!", "cursor"),
        ("cursor=MTIz", "cursor"),
        (&other_order, "cursor"),
        (&cut, "cursor"),
        ("action=init&action=fetch", "action"),
        ("status=200&limit=5&status=404", "status"),
        ("limit=5&limit=5", "limit"),
        ("page=2", "page"),
        ("user_id=x", "user_id"),
        ("Action=init", "Action"),
    ] {
        for (path, own) in [
            (format!("{VAULT}/audit?{query}"), true),
            (format!("{}?{query}", of(&ada.user_id)), false),
            (format!("{ALL}?{query}"), false),
        ] {
            let who = if own { &ada } else { &root };
            let refused = app.audit(who, &path).await;
            assert_eq!(
                refused.refusal(),
                (400, "VALIDATION_ERROR".to_owned()),
                "{path}"
            );
            let message = refused.json()["message"].as_str().unwrap().to_owned();
            assert!(
                message.contains(&format!("[query.{name}]")),
                "{path}: {message}"
            );
            assert!(!message.contains(';'), "one fault: {message}");
        }
    }
    for path in [
        format!("{VAULT}/audit?userId=x"),
        format!("{}?userId=x", of(&ada.user_id)),
    ] {
        let refused = app.audit(&root, &path).await;
        assert_eq!(
            refused.refusal(),
            (400, "VALIDATION_ERROR".to_owned()),
            "{path}"
        );
    }
    let bad = app.audit(&root, &format!("{ALL}?userId=a%00b")).await;
    assert_eq!(bad.refusal(), (400, "VALIDATION_ERROR".to_owned()));
    assert_eq!(app.head().await, head, "nothing was written down");
}

/// CSV is read again as what JSON says, and no cell is a formula.
#[tokio::test]
async fn csv_says_the_same_and_holds_no_formulas() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let ada = app.signed_in("ada").await;
    for agent in ["=1+1", "+1", "-1", "@x", "a, \"b\" c", "plain"] {
        let request = app.request("POST", &format!("{VAULT}/init"));
        answer(request.header("user-agent", agent).bearer_auth(&ada.token)).await;
    }
    let path = of(&ada.user_id);
    let rows = events(&app.audit(&root, &path).await);
    let read = app
        .audit(&root, &format!("{path}?format=csv&limit=4"))
        .await;
    assert_eq!(
        read.header("content-type"),
        "text/csv; charset=utf-8; header=present"
    );
    assert_eq!(read.header("cache-control"), "no-store");
    let name = "attachment; filename=\"vault-audit.csv\"";
    assert_eq!(read.header("content-disposition"), name);
    let rest = format!("{path}?format=csv&cursor={}", read.header("x-next-cursor"));
    let rest = app.audit(&root, &rest).await;
    assert_eq!(rest.header("x-next-cursor"), "");
    let mut records = Vec::new();
    for answer in [&read, &rest] {
        let mut reader = csv::Reader::from_reader(answer.text.as_bytes());
        let header = reader.headers().unwrap().clone();
        for record in reader.records().map(Result::unwrap) {
            let cells = header.iter().map(str::to_owned);
            let cells = cells.zip(record.iter().map(str::to_owned));
            records.push(cells.collect::<std::collections::BTreeMap<_, _>>());
        }
    }
    assert_eq!(records.len(), rows.len());
    for (record, row) in records.iter().zip(&rows) {
        let row = row.as_object().unwrap();
        assert_eq!(record.len(), row.len());
        for (name, value) in row {
            let text = match value {
                Value::Null => String::new(),
                Value::String(text) if text.starts_with(['=', '+', '-', '@']) => format!("'{text}"),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(record[name], text, "{name}");
        }
    }
    // By content negotiation as well, and more rows than as JSON.
    for (accept, query, kind) in [
        ("text/csv", "", "text/csv"),
        ("text/html, text/csv;q=0.9, */*", "", "text/csv"),
        ("text/csv", "?limit=10000", "text/csv"),
        ("text/csv", "?format=json", "application/json"),
        ("application/json, text/csv", "", "application/json"),
        ("*/*", "", "application/json"),
    ] {
        let request = app.request("GET", &format!("{VAULT}/audit{query}"));
        let request = request.header("accept", accept).bearer_auth(&ada.token);
        let given = answer(request).await;
        assert!(
            given.header("content-type").starts_with(kind),
            "{accept} {query}"
        );
    }
}

/// A search that no index helps ends in time, and says so.
#[tokio::test]
async fn a_search_that_takes_too_long_is_given_up() {
    let app = TestApp::start(&ADMINS).await;
    let root = app.signed_in("root").await;
    let jwt = app.jwt(&root.cookie).await;
    let mut blocked = app.admin.begin().await.unwrap();
    blocked
        .execute("lock table read.vault_audit in access exclusive mode")
        .await
        .unwrap();
    let given_up = answer(app.request("GET", ALL).bearer_auth(&jwt)).await;
    assert_eq!(
        given_up.refusal(),
        (503, "SEARCH_TOO_SLOW".to_owned()),
        "{}",
        given_up.text
    );
    blocked.rollback().await.unwrap();
    assert_eq!(app.audit(&root, ALL).await.status, 200);
}

/// `X-Min-Position`: as new as a position, or nothing; and whoever asks for a moment gets all of it.
#[tokio::test]
async fn a_reader_who_names_a_position_gets_everything_up_to_it_or_nothing() {
    let app = TestApp::start(&ADMINS).await;
    let ada = app.signed_in("ada").await;
    bring_to(&app, &ada, Standard).await;
    let path = format!("{VAULT}/audit");
    let before = app.own_audit(&ada, "").await;
    let old = before.json()["position"].as_i64().unwrap();
    let holding = hold_up(&app).await;
    app.vault_key(&ada).await;
    let head = app.head().await;
    let request = || app.request("GET", &path).bearer_auth(&ada.token);
    let stale = answer(request()).await;
    assert_eq!(events(&stale), events(&before));
    assert_eq!(stale.json()["position"], old);
    let late = (503, "SERVICE_UNAVAILABLE".to_owned());
    let (named, at) = tokio::join!(
        answer(request().header("x-min-position", head)),
        answer(request().query(&[("at", head)])),
    );
    assert_eq!((named.refusal(), at.refusal()), (late.clone(), late));
    holding.rollback().await.unwrap();
    for request in [
        request().header("x-min-position", head),
        request().query(&[("at", head)]),
    ] {
        let read = answer(request).await;
        assert_eq!(events(&read).len(), 2, "{}", read.text);
        assert!(read.json()["position"].as_i64().unwrap() >= head);
    }
    for bad in [
        "",
        "-1",
        "+1",
        "x",
        "1000000",
        "99999999999999999999",
        "1, 2",
    ] {
        let refused = answer(request().header("x-min-position", bad)).await;
        let wanted = (400, "VALIDATION_ERROR".to_owned());
        assert_eq!(refused.refusal(), wanted, "{bad}");
    }
}
