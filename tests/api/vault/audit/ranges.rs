//! Pages of many rows, compared with looking at each row: ranges of time where clocks differ, and what is merged.

use chrono::{DateTime, TimeDelta, Utc};
use projections::vault_audit::AuditRow;
use projections::vault_audit::page::{self, Asked};
use sqlx::Executor as _;

use crate::client::UNVERIFIED;
use crate::harness::TestApp;

/// When the first row was written, in seconds since 1970.
const BEGUN: i64 = 1_780_000_000;
/// Rows, a few on each side of more than two blocks of 16,384 positions.
const ROWS: i64 = 40_000;

/// Three rows a second, so times are equal on both sides of many borders of pages. One node's clock is an hour ahead for a
/// few rows, and all clocks step back by 50 minutes near the border between two blocks.
const FILL: &str = "
    insert into read.vault_audit
    select 'e' || n, n, 'u' || n % 50,
           case when n < 200 then 'zk_enable' when n % 97 = 0 then 'init' when n % 31 = 0 then 'failed_fetch' else 'fetch' end,
           case when n < 200 then 200 when n % 97 = 0 then 200 + n % 2 when n % 31 = 0 then 404 else 200 end,
           null, '192.0.2.' || n % 7, null, null, null,
           to_timestamp(1780000000 + n / 3
                        + case when n between 9001 and 9009 then 3600 when n between 32760 and 33100 then -3000 else 0 end)
    from generate_series(1, 40000) n";

fn at(seconds: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(BEGUN + seconds, 0)
}

fn is_asked_for(asked: &Asked, row: &AuditRow) -> bool {
    asked.user_id.as_ref().is_none_or(|id| *id == row.user_id)
        && (asked.actions.is_empty() || asked.actions.contains(&row.action))
        && (asked.statuses.is_empty() || asked.statuses.contains(&row.status))
        && (asked.ip_address.is_none() || asked.ip_address == row.ip_address)
        && asked.from.is_none_or(|from| row.created_at >= from)
        && asked.to.is_none_or(|to| row.created_at < to)
}

async fn filled() -> (TestApp, Vec<AuditRow>) {
    let app = TestApp::start(&[UNVERIFIED]).await;
    app.admin.execute(FILL).await.unwrap();
    app.admin.execute("analyze read.vault_audit").await.unwrap();
    let all = sqlx::query_as("select * from read.vault_audit order by position");
    let all = all.fetch_all(&app.admin).await.unwrap();
    (app, all)
}

/// Every row that is asked for once, in order, in whatever pages.
#[tokio::test]
async fn pages_of_ranges_and_of_several_values_hold_each_row_once() {
    let (app, all) = filled().await;
    let of = |actions: &[&str], statuses: &[i32], from, to| Asked {
        actions: actions.iter().map(|&action| action.to_owned()).collect(),
        statuses: statuses.to_vec(),
        from,
        to,
        ..Asked::default()
    };
    let of_user = |asked| Asked {
        user_id: Some("u7".to_owned()),
        ..asked
    };
    let of_address = |asked| Asked {
        ip_address: Some("192.0.2.3".to_owned()),
        ..asked
    };
    let none: (&[&str], &[i32]) = (&[], &[]);
    let ahead = (at(6_595), at(6_610));
    let (all_times, back) = ((None, None), (at(7_900), at(7_950)));
    for (asked, limit) in [
        (of(none.0, none.1, at(100), at(104)), 2),
        (of(none.0, none.1, at(5_460), at(5_464)), 1),
        (of(none.0, none.1, ahead.0, ahead.1), 4),
        (of(none.0, none.1, back.0, back.1), 7),
        (of(none.0, none.1, at(13_300), None), 7),
        (of(none.0, none.1, None, at(3)), 3),
        (of(none.0, none.1, at(13_334), None), 7),
        (of(none.0, none.1, None, at(0)), 7),
        (of(none.0, none.1, at(200), at(200)), 7),
        (of(none.0, none.1, None, None), 9_000),
        (of(&["init"], &[], all_times.0, all_times.1), 50),
        (of(&["init", "zk_enable"], &[], None, None), 50),
        (of(&["zk_enable"], &[200], at(1), at(13_000)), 50),
        (of(&["zk_enable"], &[200], at(1_000), None), 50),
        (of(&["fetch"], &[404], None, None), 50),
        (of(&["fetch", "init"], &[201, 404], None, None), 50),
        (of(&[], &[201, 404], at(5_000), at(9_000)), 50),
        (of(&["failed_fetch", "fetch"], &[], back.0, back.1), 3),
        (of_user(of(&["init"], &[], None, None)), 3),
        (of_user(of(&[], &[], back.0, back.1)), 3),
        (of_address(of(&[], &[404], at(2_000), None)), 30),
    ] {
        for until in [ROWS, 33_000] {
            let wanted = all.iter().filter(|row| row.position <= until);
            let mut wanted: Vec<_> = wanted.filter(|row| is_asked_for(&asked, row)).collect();
            for oldest_first in [true, false] {
                let mut asked = Asked {
                    oldest_first,
                    limit,
                    ..asked.clone()
                };
                let mut read: Vec<AuditRow> = vec![];
                loop {
                    let page = page::page(&app.app.pool, &asked, until, 5_000);
                    let rows = page.await.unwrap();
                    assert!(i64::try_from(rows.len()).unwrap() <= limit);
                    let Some(last) = rows.last() else { break };
                    asked.beyond = Some(last.position);
                    read.extend(rows);
                }
                assert!(read.iter().eq(wanted.iter().copied()), "{asked:?}");
                wanted.reverse();
            }
        }
    }
}

/// As of a time is as of the last row that was written by then, also where clocks stepped back.
#[tokio::test]
async fn a_time_is_as_good_as_the_last_position_until_then() {
    let (app, all) = filled().await;
    for seconds in [
        -1, 0, 1, 5_461, 6_600, 6_603, 7_910, 7_950, 10_921, 13_333, 99_999,
    ] {
        for known in [ROWS, 33_000, 16_384] {
            let at = at(seconds).unwrap();
            let until = all.iter().filter(|row| row.position <= known);
            let until = until.filter(|row| row.created_at <= at);
            let wanted = until.map(|row| row.position).max().unwrap_or(0);
            let found = page::position_at(&app.app.pool, at, known).await.unwrap();
            assert_eq!(found, wanted, "{seconds} {known}");
            let page = Asked {
                to: Some(at + TimeDelta::microseconds(1)),
                limit: 1,
                ..Asked::default()
            };
            let newest = page::page(&app.app.pool, &page, known, 5_000);
            let newest = newest.await.unwrap().pop();
            assert_eq!(
                newest.map_or(0, |row| row.position),
                wanted,
                "{seconds} {known}"
            );
        }
    }
}
