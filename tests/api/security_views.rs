//! Who sees the security log: people their own lines, admins everybody's (contract sections 3.16 and 6).

#![cfg(test)]

use std::collections::BTreeSet;

use aggregates::Roles;
use aggregates::user::{User, UserCommand};
use chrono::TimeDelta;
use mana_auth::store::{Actor, Context};
use serde_json::{Value, json};

use crate::client::{UNVERIFIED, answer};
use crate::harness::TestApp;
use crate::security_log::{ALL, OWN, Watched, type_of, with_cookie};

/// Contract section 3.16.
#[tokio::test]
async fn people_see_their_own_lines_newest_first_and_no_others() {
    let app = TestApp::start(&[UNVERIFIED]).await;
    let ada = app.signed_in("ada").await;
    let eve = app.signed_in("eve").await;
    for number in 0..210 {
        app.clock.advance(TimeDelta::seconds(1));
        let body = json!({"name": format!("Ada {number}")});
        let request = app.request("POST", "/api/v1/auth/profile").json(&body);
        assert_eq!(answer(with_cookie(request, &ada)).await.status, 200);
    }
    app.clock.advance(TimeDelta::seconds(1));
    app.try_sign_in("ada", "wrong").await;

    let by_cookie = app.get_as(OWN, &ada.cookie).await;
    let jwt = app.jwt(&ada.cookie).await;
    let by_bearer = answer(app.request("GET", OWN).bearer_auth(jwt)).await;
    assert_eq!(by_cookie.text, by_bearer.text);
    let lines = by_cookie.json();
    let lines = lines.as_array().unwrap();
    assert_eq!(lines.len(), 50);
    let keys: Vec<&String> = lines[0].as_object().unwrap().keys().collect();
    let mut wanted = [
        "id",
        "eventType",
        "ipAddress",
        "userAgent",
        "metadata",
        "createdAt",
    ];
    wanted.sort_unstable();
    assert_eq!(
        keys.into_iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect::<Vec<_>>(),
        wanted
    );
    assert_eq!(
        (type_of(&lines[0]), type_of(&lines[1])),
        ("login_failure", "profile_updated")
    );
    assert!(lines.is_sorted_by(|one, next| one["createdAt"].as_str() > next["createdAt"].as_str()));

    for (limit, wanted) in [
        ("1", 1),
        ("200", 200),
        ("201", 200),
        ("99999999999999999999", 50),
        ("0", 50),
        ("-1", 50),
        ("x", 50),
        ("", 50),
    ] {
        let found = app
            .get_as(&format!("{OWN}?limit={limit}"), &ada.cookie)
            .await;
        assert_eq!(found.json().as_array().unwrap().len(), wanted, "{limit:?}");
    }
    let of_eve = app
        .get_as(&format!("{OWN}?userId={}", ada.user_id), &eve.cookie)
        .await;
    let of_eve = of_eve.json();
    let types: Vec<&str> = of_eve.as_array().unwrap().iter().map(type_of).collect();
    assert_eq!(types, ["register"]);
    assert_eq!(
        app.get(OWN).await.refusal(),
        (401, "UNAUTHORIZED".to_owned())
    );
}

/// The lines of a page without those of reading pages, of which each page adds one.
fn but_readings(page: &Value) -> Vec<Value> {
    let lines = page["events"].as_array().unwrap().iter();
    let others = lines.filter(|line| type_of(line) != "AUDIT_READ");
    others.cloned().collect()
}

/// Admins page through everybody's lines: each once, though many are of the same millisecond.
#[tokio::test]
async fn admins_see_all_lines_in_pages_without_gap_or_repeat() {
    let watched = Watched::start(&[UNVERIFIED]).await;
    let app = &watched.app;
    let ada = app.signed_in("ada").await;
    for round in 0..6 {
        app.clock.advance(TimeDelta::seconds(round % 2));
        app.sign_up(&format!("person{round}")).await;
        app.try_sign_in("ada", "wrong").await;
        app.try_sign_in("nobody", "wrong").await;
        app.sign_in("ada").await;
    }
    for (filter, lines) in [
        ("", 27),
        (&*format!("userId={}", ada.user_id), 13),
        ("type=LOGIN_FAILURE", 12),
        ("type=login_failure", 12),
        (&*format!("userId={}&type=LOGIN_SUCCESS", ada.user_id), 6),
        ("userId=nobody", 0),
        ("type=x", 0),
    ] {
        let whole = watched.ask(&format!("limit=200&{filter}")).await.json();
        let whole = but_readings(&whole);
        assert_eq!(whole.len(), lines, "{filter}");
        for limit in [1, 4, 27] {
            let (mut paged, mut next) = (Vec::new(), String::new());
            loop {
                let page = watched
                    .ask(&format!("limit={limit}&{filter}{next}"))
                    .await
                    .json();
                assert!(page["events"].as_array().unwrap().len() <= limit);
                paged.extend(but_readings(&page));
                match page["next"].as_str() {
                    Some(cursor) => next = format!("&before={cursor}"),
                    None => break,
                }
            }
            assert_eq!(paged, whole, "{filter} by {limit}");
        }
    }
    let by_default = watched.ask("type=LOGIN_FAILURE").await.json();
    assert_eq!(by_default["next"], Value::Null);
    let cursor = watched.ask("limit=1").await.json()["next"].clone();
    let cursor = cursor.as_str().unwrap();
    for forged in [
        "",
        "_",
        "x",
        "1",
        "1_",
        "1_x",
        "_0190d3e0-0000-7000-8000-000000000000",
        "99999999999999999999_0190d3e0-0000-7000-8000-000000000000",
        &cursor[1..20],
        &format!("{cursor}0"),
        "1_'or'1'='1'or'1'='1'or'1'='1'or'1'='1",
    ] {
        let request = app.request("GET", ALL).query(&[("before", forged)]);
        let token = app.jwt(&watched.admin.cookie).await;
        let refused = answer(request.bearer_auth(token)).await;
        assert_eq!(refused.status, 400, "{forged:?}: {}", refused.text);
        assert_eq!(refused.json()["statusCode"], 400);
    }
}

/// Contract sections 1.5 and 6.
#[tokio::test]
async fn only_admins_see_everybodys_lines() {
    let watched = Watched::start(&[UNVERIFIED]).await;
    let app = &watched.app;
    let ada = app.signed_in("ada").await;
    let ask = |token: &str| answer(app.request("GET", ALL).bearer_auth(token));
    let token = app.jwt(&watched.admin.cookie).await;
    assert_eq!(ask(&token).await.status, 200);

    let forbidden = ask(&app.jwt(&ada.cookie).await).await;
    let wanted = json!({"error": "Forbidden", "message": "Admin access required"});
    assert_eq!((forbidden.status, forbidden.json()), (403, wanted.clone()));
    for without in [
        app.get(ALL).await,
        app.get_as(ALL, &watched.admin.cookie).await,
    ] {
        assert_eq!(without.status, 401);
        assert_eq!(
            without.json()["message"],
            "Missing or invalid Authorization header"
        );
    }
    for bad in ["x", &watched.admin.token, &format!("{token}x")] {
        let refused = ask(bad).await;
        assert_eq!(refused.status, 401, "{bad}");
        assert_eq!(refused.json()["message"], "Invalid or expired token");
    }

    // The role counts as it is now, not as the token has it; and so does the session.
    let demote = UserCommand::ChangeRole {
        role: Roles::user(),
        at: app.clock.now(),
    };
    let context = Context::of(Actor::Operator);
    let store = &app.app.store;
    store
        .run::<User>(&watched.admin.user_id, demote, context)
        .await
        .unwrap();
    let forbidden = ask(&token).await;
    assert_eq!((forbidden.status, forbidden.json()), (403, wanted));
    app.post_as("/api/auth/sign-out", &watched.admin.cookie, &json!({}))
        .await;
    assert_eq!(ask(&token).await.status, 401);
}
