//! Whether the time of an answer says if an address has an account (S-23): the same request for an address with one
//! and for one without, in turns, over a connection each.
//!
//! Limits and the guard are on, so their work is in the times. Each request comes from a network of its own and each
//! address is tried as often as its counterpart, so both sides find the same counters. What is timed is the door as a
//! client sees it. What is not: the work that the queue does after an answer. The next request waits until the queue
//! is empty, as that of an attacker would who wants a quiet service.

use std::time::{Duration, Instant};

use aggregates::EmailAddress;
use anyhow::Context as _;
use axum::http::StatusCode;
use futures_util::future::try_join_all;
use mana_auth::accounts::{self, NewAccount, Verification};
use mana_auth::app::App;
use mana_auth::crypto::password::Password;
use mana_auth::effects;
use mana_auth::store::{Actor, Context};
use reqwest::Client;
use serde_json::{Value, json};

use super::Options;
use super::http::{PASSWORD, World};
use super::measure::Measured;
use super::table::{Finding, Target};

/// Medians may be so far apart, in milliseconds (S-23).
const APART_MS: f64 = 1.0;
/// Pairs of answers that are not counted: caches fill, connections open, the processor wakes up.
const WARM_UP: usize = 200;
/// Wrong passwords for one address that lock nothing; the next one locks the account (contract 14.2).
const FREE_TRIES: usize = 4;
/// Accounts that mails and sign-ups are asked for, in turn.
const MAILED: usize = 500;
/// Accounts that are made at once.
const AT_ONCE: usize = 16;

/// Wrong passwords, sign-ups, and mails that anybody can ask for.
///
/// # Errors
/// When the service does not start, or answers otherwise than it should.
pub fn known_and_unknown(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let world = World::start_guarded(true)?;
    world.runtime.block_on(async {
        let tried = (options.sign_ins + WARM_UP).div_ceil(FREE_TRIES);
        let accounts = tried.max(MAILED);
        eprintln!("  making {accounts} accounts");
        let numbers: Vec<usize> = (0..accounts).collect();
        for chunk in numbers.chunks(AT_ONCE) {
            try_join_all(chunk.iter().map(|n| register(&world.app, *n))).await?;
        }
        let mut findings = sign_ins(&world, tried).await?;
        findings.push(sign_ups(&world, options.sign_ins).await?);
        for path in ["request-password-reset", "send-verification-email"] {
            findings.push(mails(&world, path, options.samples).await?);
        }
        Ok(findings)
    })
}

/// The addresses of a pair: with an account, and without one.
fn addresses(n: usize) -> [String; 2] {
    ["person", "nobody"].map(|who| format!("{who}-{n}@bench.example"))
}

async fn register(app: &App, n: usize) -> anyhow::Result<()> {
    let [email, _] = addresses(n);
    let account = NewAccount {
        email: EmailAddress::parse(&email)?,
        name: format!("Ada {n}"),
        password: Some(
            Password::new(PASSWORD.to_owned())
                .ok()
                .context("the password is short enough")?,
        ),
        email_verified: false,
        image: None,
        locale: None,
        link: None,
    };
    accounts::register(
        app,
        account,
        Context::of(Actor::Anonymous),
        Verification::NONE,
    )
    .await?;
    Ok(())
}

async fn sign_ins(world: &World, accounts: usize) -> anyhow::Result<Vec<Finding>> {
    eprintln!("  {} pairs of sign-ins", accounts * (FREE_TRIES + 2));
    let mut pair = Pair::new(world, "sign-in/email")?;
    let (mut wrong, mut locking, mut locked) =
        (Times::default(), Times::default(), Times::default());
    for n in 0..accounts {
        let bodies = addresses(n).map(|email| json!({"email": email, "password": "not the one"}));
        for _ in 0..FREE_TRIES {
            pair.ask(&bodies, StatusCode::UNAUTHORIZED, &mut wrong)
                .await?;
        }
        pair.ask(&bodies, StatusCode::UNAUTHORIZED, &mut locking)
            .await?;
        pair.ask(&bodies, StatusCode::TOO_MANY_REQUESTS, &mut locked)
            .await?;
    }
    Ok(vec![
        wrong.finding("sign-in with a wrong password"),
        locking.finding("the wrong password that locks"),
        locked.finding("sign-in while locked"),
    ])
}

async fn sign_ups(world: &World, samples: usize) -> anyhow::Result<Finding> {
    eprintln!("  {} pairs of sign-ups", samples + WARM_UP);
    let mut pair = Pair::new(world, "sign-up/email")?;
    let mut times = Times::default();
    for n in 0..samples + WARM_UP {
        let [known, _] = addresses(n % MAILED);
        let bodies = [known, format!("newcomer-{n}@bench.example")]
            .map(|email| json!({"email": email, "password": PASSWORD, "name": "Ada"}));
        pair.ask(&bodies, StatusCode::OK, &mut times).await?;
    }
    Ok(times.finding("sign-up where addresses have to be proven"))
}

async fn mails(world: &World, path: &str, samples: usize) -> anyhow::Result<Finding> {
    eprintln!("  {} pairs of {path}", samples + WARM_UP);
    let mut pair = Pair::new(world, path)?;
    let mut times = Times::default();
    for n in 0..samples + WARM_UP {
        let bodies = addresses(n % MAILED).map(|email| json!({"email": email}));
        pair.ask(&bodies, StatusCode::OK, &mut times).await?;
    }
    Ok(times.finding(path))
}

/// Two clients that ask the same of the service.
struct Pair<'a> {
    world: &'a World,
    url: String,
    clients: [Client; 2],
    pairs: usize,
    requests: usize,
}

impl<'a> Pair<'a> {
    fn new(world: &'a World, path: &str) -> anyhow::Result<Self> {
        let client = || Client::builder().pool_max_idle_per_host(1).build();
        Ok(Self {
            world,
            url: format!("{}/api/auth/{path}", world.ours),
            clients: [client()?, client()?],
            pairs: 0,
            requests: 0,
        })
    }

    /// Asks for the known address and the unknown one; every other time the other way round, so that each follows
    /// upon each as often.
    async fn ask(
        &mut self,
        bodies: &[Value; 2],
        expected: StatusCode,
        times: &mut Times,
    ) -> anyhow::Result<()> {
        let mut milliseconds = [0.0; 2];
        let order = if self.pairs.is_multiple_of(2) {
            [0, 1]
        } else {
            [1, 0]
        };
        for side in order {
            milliseconds[side] = self.time(side, &bodies[side], expected).await?;
            while effects::waiting(&self.world.app.pool).await? > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        self.pairs += 1;
        if self.pairs > WARM_UP {
            times.known.add(milliseconds[0]);
            times.unknown.add(milliseconds[1]);
        }
        Ok(())
    }

    /// Milliseconds until the whole answer was there.
    async fn time(
        &mut self,
        side: usize,
        body: &Value,
        expected: StatusCode,
    ) -> anyhow::Result<f64> {
        self.requests += 1;
        let network = self.requests;
        let address = format!("2001:db8:{:x}:{:x}::1", network >> 16, network & 0xffff);
        let request = self.clients[side]
            .post(&self.url)
            .header("x-forwarded-for", address)
            .json(body);
        let started = Instant::now();
        let answer = request.send().await?;
        let status = answer.status();
        let text = answer.text().await?;
        let elapsed = started.elapsed();
        anyhow::ensure!(status == expected, "answered with {status}: {text}");
        Ok(elapsed.as_secs_f64() * 1e3)
    }
}

/// Times of answers, in milliseconds.
#[derive(Default)]
struct Times {
    known: Measured,
    unknown: Measured,
}

impl Times {
    fn finding(&self, what: &str) -> Finding {
        let [known, unknown] = [self.known.median(), self.unknown.median()];
        let difference = known - unknown;
        let count = self.known.rounds().len();
        let p = self.known.same_source(&self.unknown);
        Finding {
            what: format!("{what}, known address"),
            unit: "ms",
            ours: Measured::fixed(known),
            limit: Measured::fixed(unknown),
            limit_is: "the same for an address without an account".to_owned(),
            target: Target::Within(APART_MS),
            notes: vec![format!(
                "difference {difference:+.3} ms of {count} samples each; Kolmogorov-Smirnov p = {p:.3}"
            )],
        }
    }
}
