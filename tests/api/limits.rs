//! Rate limits, counted in the database: shared by doors and nodes, closed when they cannot be counted.

#![cfg(test)]

use mana_auth::cluster::Role;
use mana_auth::database;
use serde_json::json;
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgConnection};

use crate::client::{Answer, PASSWORD, UNVERIFIED, answer};
use crate::doors::address;
use crate::harness::TestApp;
use crate::passwords::busy_hasher;

/// Limits and budgets are on, and clients have addresses.
pub const LIMITED: [(&str, &str); 3] = [
    UNVERIFIED,
    ("MANA_AUTH_RATE_LIMIT", "on"),
    ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8"),
];

async fn try_door(app: &TestApp, door: &str, address: &str) -> Answer {
    try_account(app, door, address, "ada@example.com").await
}

async fn try_account(app: &TestApp, door: &str, address: &str, email: &str) -> Answer {
    let body = json!({"name": "Ada", "email": email, "password": PASSWORD});
    let request = app.request("POST", door).json(&body);
    answer(request.header("x-forwarded-for", address)).await
}

/// Makes the last request that was let through so many seconds old.
async fn last_allowed(app: &TestApp, seconds: f64) {
    sqlx::query("update rate_limits set allowed_at = $2 - make_interval(secs => $1)")
        .bind(seconds)
        .bind(app.clock.now())
        .execute(&app.admin)
        .await
        .unwrap();
}

/// A table that nobody else can read or write.
pub struct Held(PgConnection);

/// Holds a table of counters. Nobody waits for it for long.
pub async fn hold(app: &TestApp, table: &str) -> Held {
    let url = app.database_url(Role::Superuser);
    let mut holder = database::options(&url).unwrap().connect().await.unwrap();
    let name: String = sqlx::query_scalar("select current_database()")
        .fetch_one(&mut holder)
        .await
        .unwrap();
    let short = format!("alter database {name} set lock_timeout = '50ms'");
    holder.execute(short.as_str()).await.unwrap();
    let end_others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()";
    holder.execute(end_others).await.unwrap();
    let lock = format!("begin; lock table {table} in access exclusive mode");
    holder.execute(lock.as_str()).await.unwrap();
    Held(holder)
}

impl Held {
    pub async fn let_go(mut self) {
        self.0.execute("rollback").await.unwrap();
        self.0.close().await.unwrap();
    }
}

/// S-10, S-18: one budget for both doors and both nodes, refused requests do not count.
#[tokio::test]
async fn three_sign_ins_in_10_seconds_over_all_doors_and_nodes_s10_s18() {
    let app = TestApp::start(&LIMITED).await;
    let node = app.node(&LIMITED).await;
    let native = "/api/auth/sign-in/email";
    let own = "/api/v1/auth/login";
    for (node, door) in [(&app, native), (&node, own), (&app, own)] {
        assert_eq!(try_door(node, door, "203.0.113.1").await.status, 401);
    }
    for (node, door) in [(&node, native), (&app, own), (&app, native), (&node, own)] {
        let refused = try_door(node, door, "203.0.113.1").await;
        assert_eq!(refused.status, 429);
        let wait = refused.header("retry-after");
        assert_eq!(wait, refused.header("x-retry-after"));
        assert!((1..=10).contains(&wait.parse::<u64>().unwrap()), "{wait}");
        if door == native {
            assert_eq!(
                refused.json(),
                json!({"message": "Too many requests. Please try again later."})
            );
        } else {
            let body = refused.json();
            assert_eq!(
                (&body["code"], &body["status"]),
                (&json!("RATE_LIMITED"), &json!(429))
            );
            assert_eq!(body["retryAfterSec"].to_string(), wait);
        }
    }
    assert_eq!(
        try_door(&app, native, "203.0.113.2").await.status,
        401,
        "another client has its own"
    );
    assert_eq!(
        try_door(&app, "/api/auth/sign-up/email", "203.0.113.1")
            .await
            .status,
        200,
        "another path, too"
    );

    // The window runs from the last request that was let through: refused ones do not lengthen it.
    last_allowed(&app, 5.0).await;
    let refused = try_door(&app, native, "203.0.113.1").await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 5);
    last_allowed(&app, 10.0).await;
    for _ in 0..3 {
        assert_eq!(
            try_door(&node, native, "203.0.113.1").await.status,
            200,
            "the sign-up above was right"
        );
    }
    assert_eq!(try_door(&app, own, "203.0.113.1").await.status, 429);
}

/// S-12: counted before anything is checked, so that a burst gains nothing.
#[tokio::test]
async fn of_40_sign_ins_at_once_three_are_looked_at_s12() {
    let app = TestApp::start(&LIMITED).await;
    let tries = (0..40).map(|_| try_door(&app, "/api/auth/sign-in/email", "203.0.113.1"));
    let answers = futures_util::future::join_all(tries).await;
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 401).count(),
        3
    );
    assert_eq!(
        answers.iter().filter(|answer| answer.status == 429).count(),
        37
    );
}

/// S-15, S-16
#[tokio::test]
async fn another_spelling_of_an_address_is_no_other_client_s15_s16() {
    let app = TestApp::start(&LIMITED).await;
    let door = "/api/auth/sign-in/email";
    for addresses in [
        [
            "203.0.113.1",
            "::ffff:203.0.113.1",
            " 203.0.113.1 ",
            "198.51.100.9, 203.0.113.1",
        ],
        [
            "2001:db8:1:2::1",
            "2001:0DB8:1:2:ffff::9",
            "2001:db8:1:2:3:4:5:6",
            "x, 2001:db8:1:2::2",
        ],
    ] {
        // Another account each time: this is about the client.
        for (number, address) in addresses.into_iter().enumerate() {
            let email = format!("person{number}@example.com");
            let status = try_account(&app, door, address, &email).await.status;
            assert_eq!(status, if number < 3 { 401 } else { 429 }, "{address}");
        }
    }
    // Not behind a listed proxy, the header says nothing.
    let direct = TestApp::start(&LIMITED[..2]).await;
    for number in 0..3 {
        assert_eq!(
            try_door(&direct, door, &format!("203.0.113.{number}"))
                .await
                .status,
            401
        );
    }
    assert_eq!(try_door(&direct, door, "203.0.113.77").await.status, 429);
}

#[tokio::test]
async fn sign_up_and_verification_mails_have_their_own_limits() {
    let app = TestApp::start(&LIMITED).await;
    for (door, window, allowed) in [
        ("/api/auth/sign-up/email", 10.0, [200, 422, 422]),
        ("/api/auth/send-verification-email", 60.0, [200, 200, 200]),
    ] {
        for status in allowed {
            assert_eq!(try_door(&app, door, "203.0.113.1").await.status, status);
        }
        assert_eq!(try_door(&app, door, "203.0.113.1").await.status, 429);
        last_allowed(&app, window / 2.0).await;
        assert_eq!(try_door(&app, door, "203.0.113.1").await.status, 429);
        last_allowed(&app, window).await;
        assert_ne!(try_door(&app, door, "203.0.113.1").await.status, 429);
    }
    // Registering through the other door is the same.
    last_allowed(&app, 60.0).await;
    for _ in 0..2 {
        assert_eq!(
            try_door(&app, "/api/v1/auth/register", "203.0.113.1")
                .await
                .status,
            409
        );
    }
    assert_eq!(
        try_door(&app, "/api/auth/sign-up/email", "203.0.113.1")
            .await
            .status,
        422
    );
    assert_eq!(
        try_door(&app, "/api/v1/auth/register", "203.0.113.1")
            .await
            .status,
        429
    );
}

/// S-17: when requests cannot be counted, the doors are closed before any password is looked at. The hasher is kept
/// busy, so that a hash would be answered with another 503.
#[tokio::test]
async fn doors_are_closed_while_requests_cannot_be_counted_s17() {
    let mut settings = LIMITED.to_vec();
    settings.push(("MANA_AUTH_HASH_THREADS", "1"));
    let app = TestApp::start(&settings).await;
    assert_eq!(
        try_door(&app, "/api/auth/sign-up/email", "203.0.113.1")
            .await
            .status,
        200
    );
    let hasher = busy_hasher(&app).await;
    let holder = hold(&app, "rate_limits").await;
    for (door, code) in [
        ("/api/auth/sign-in/email", "SERVICE_UNAVAILABLE"),
        ("/api/auth/sign-up/email", "SERVICE_UNAVAILABLE"),
        ("/api/v1/auth/login", "SERVICE_UNAVAILABLE"),
        ("/api/v1/auth/register", "SERVICE_UNAVAILABLE"),
    ] {
        let closed = try_door(&app, door, "203.0.113.9").await;
        assert_eq!(closed.refusal(), (503, code.to_owned()), "{door}");
        assert_eq!(
            closed.json()["message"],
            "Service temporarily unavailable",
            "{door}: and not busy with hashing"
        );
    }
    holder.let_go().await;
    drop(hasher);
    // What the hasher is still busy with has to be done first: each try comes from somewhere else, as tries are counted.
    let mut from = (0..).map(address);
    crate::harness::wait_until("the door is open again", async || {
        try_door(&app, "/api/auth/sign-in/email", &from.next().unwrap())
            .await
            .status
            == 200
    })
    .await;
}
