//! Handing out the keys of vaults, each an event, against bare inserts and against the pattern of the original service.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context as _;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse as _;
use axum::routing::get;
use mana_auth::app::App;
use mana_auth::vault::VaultRow;
use serde_json::json;

use super::Options;
use super::append;
use super::database::Sent;
use super::http::{World, wrk};
use super::measure::take_turns;
use super::table::{Finding, Target};

/// People with a vault, and connections of both sides.
const PEOPLE: usize = 64;

/// Fetches of one vault before it counts as used, and connections that fetch from it.
const MANY: i64 = 100_000;
const CALLERS: usize = 8;

/// The original's table of calls, with its one index and its row security (mana-v1.md section 5.5).
const AUDIT: &str = "
    create table reference_audit (
        id         text        not null primary key,
        user_id    text        not null,
        action     text        not null,
        ip_address text,
        user_agent text,
        context    text,
        status     integer     not null,
        created_at timestamptz not null default now());
    create index reference_audit_user_idx on reference_audit (user_id, created_at);
    alter table reference_audit enable row level security, force row level security;
    create policy reference_audit_own on reference_audit
        using (user_id = current_setting('app.current_user_id', true))
        with check (user_id = current_setting('app.current_user_id', true));
    grant insert on reference_audit to public";

/// `GET /key` of everybody in turn.
///
/// # Errors
/// When a server does not start or a load tool is missing or fails.
pub fn keys(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let world = World::start()?;
    let superuser = |sql: &str| {
        world
            .runtime
            .block_on(append::superuser(&world.server, sql))
    };
    superuser(append::TABLE)?;
    superuser(AUDIT)?;
    let mut tokens = vec![];
    let mut people = vec![];
    for n in 0..PEOPLE {
        let person = world.sign_up(n)?;
        people.push(world.runtime.block_on(init(&world.ours, &person.token))?);
        tokens.push(person.token);
    }
    superuser("vacuum analyze; checkpoint")?;
    let lua = in_turn(&tokens)?;
    let url = format!("{}/api/v1/me/encryption-vault/key", world.ours);
    let ours = || wrk(&url, &[], &lua, PEOPLE, options.seconds);
    let what = "key of a vault, each an event";
    let bare = append::script("bare_events", &append::FETCHED);
    eprintln!("  against bare inserts");
    let mut findings = vec![];
    for (sent, what, target) in [
        (Sent::Prepared, what.to_owned(), Target::AtLeast(0.7)),
        (
            Sent::AsText,
            format!("{what}, against inserts sent as text"),
            Target::None,
        ),
    ] {
        let (ours, limit) = take_turns(options.rounds, ours, || {
            world.server.pgbench(&bare, sent, PEOPLE, options.seconds)
        })?;
        findings.push(Finding {
            what,
            unit: "requests/s",
            ours,
            limit,
            limit_is: format!(
                "pgbench: one insert of such an event into bare_events per transaction, {PEOPLE} clients"
            ),
            target,
            notes: vec![],
        });
    }
    eprintln!("  against the original's pattern");
    let reference = world.serve(reference(world.app.clone(), people))?;
    let (again, followed) = take_turns(options.rounds, ours, || {
        wrk(&reference, &[], "", PEOPLE, options.seconds)
    })?;
    findings.push(Finding {
        what: what.to_owned(),
        unit: "requests/s",
        ours: again,
        limit: followed,
        limit_is: "the original's pattern: read, unwrap and insert a line in one transaction, nobody's session \
                   looked at"
            .to_owned(),
        target: Target::AtLeast(3.0),
        notes: vec![],
    });
    Ok(findings)
}

/// `GET /key` of a vault whose key was fetched 100,000 times before, against one that is new.
///
/// # Errors
/// When a server does not start or a load tool is missing or fails.
pub fn used(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let world = World::start()?;
    let url = format!("{}/api/v1/me/encryption-vault/key", world.ours);
    let vault = |n| -> anyhow::Result<_> {
        let person = world.sign_up(n)?;
        let id = world.runtime.block_on(init(&world.ours, &person.token))?;
        Ok((id, in_turn(&[person.token])?))
    };
    let (fresh, often) = (vault(0)?, vault(1)?);
    let fetch = |(_, lua): &(String, String)| wrk(&url, &[], lua, CALLERS, options.seconds);
    let length = "select version from streams where type = 'vault' and id = $1";
    let version = |id: &str| -> anyhow::Result<i64> {
        let length = sqlx::query_scalar(length).bind(id.to_owned());
        Ok(world.runtime.block_on(length.fetch_one(&world.app.pool))?)
    };
    while version(&often.0)? < MANY {
        fetch(&often)?;
        eprintln!("  fetched {} times of {MANY}", version(&often.0)?);
    }
    let (ours, limit) = take_turns(options.rounds, || fetch(&often), || fetch(&fresh))?;
    Ok(vec![Finding {
        what: format!("key of a vault that was used {MANY} times"),
        unit: "requests/s",
        ours,
        limit,
        limit_is: format!("the same of a new vault, {CALLERS} clients"),
        target: Target::AtLeast(1.0 / 1.5),
        notes: vec![],
    }])
}

/// Makes a vault; gives the id of its owner.
///
/// # Errors
/// When the service refuses.
pub async fn init(ours: &str, token: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::new();
    let made = client
        .post(format!("{ours}/api/v1/me/encryption-vault/init"))
        .bearer_auth(token);
    made.send().await?.error_for_status()?;
    let session = client
        .get(format!("{ours}/api/auth/get-session"))
        .bearer_auth(token);
    let session: serde_json::Value = session.send().await?.json().await?;
    let id = session["user"]["id"].as_str();
    Ok(id.context("get-session knows nobody")?.to_owned())
}

/// One request of each in turn, as a script of `wrk`. The requests are made beforehand: what the load tool computes is
/// taken from the server.
///
/// # Errors
/// Those of writing to a text.
pub fn in_turn(tokens: &[String]) -> anyhow::Result<String> {
    let mut lua = "local tokens = {".to_owned();
    for token in tokens {
        write!(lua, "'Bearer {token}',")?;
    }
    write!(
        lua,
        "}}
        local requests = {{}}
        local n = 0
        init = function()
            for i, token in ipairs(tokens) do
                requests[i] = wrk.format(nil, nil, {{Authorization = token}})
            end
        end
        request = function()
            n = n % #requests + 1
            return requests[n]
        end"
    )?;
    Ok(lua)
}

/// A route that does what the original does for a key: in one transaction it says whose row it wants, reads it, unwraps
/// the key and inserts a line.
fn reference(app: Arc<App>, people: Vec<String>) -> Router {
    let next = Arc::new(AtomicUsize::new(0));
    let people = Arc::new(people);
    let handler = move || {
        let (app, people, next) = (app.clone(), people.clone(), next.clone());
        async move {
            let person = &people[next.fetch_add(1, Ordering::Relaxed) % people.len()];
            match fetch(&app, person).await {
                Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
                Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
            }
        }
    };
    Router::new().route("/", get(handler))
}

async fn fetch(app: &App, person: &str) -> anyhow::Result<String> {
    let mut tx = app.pool.begin().await?;
    sqlx::query("select set_config('app.current_user_id', $1, true)")
        .bind(person)
        .execute(&mut *tx)
        .await?;
    let row: serde_json::Value =
        sqlx::query_scalar("select to_jsonb(v) from encryption_vaults v where user_id = $1")
            .bind(person)
            .fetch_one(&mut *tx)
            .await?;
    let row: VaultRow = serde_json::from_value(row)?;
    let key = row.open(&app.store.custody().ring());
    let key = key.context("there is no key")??;
    sqlx::query(
        "insert into reference_audit (id, user_id, action, ip_address, user_agent, context, status)
         values ($1, $2, 'fetch', '192.0.2.1', 'wrk', null, 200)",
    )
    .bind(mana_auth::crypto::tokens::random_token(21))
    .bind(person)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    let key = key.to_base64();
    Ok(json!({"masterKey": *key, "formatVersion": 1, "kekId": row.kek_id}).to_string())
}
