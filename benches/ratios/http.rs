//! The service over HTTP, driven by `wrk`, against the least that a server can do.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use argon2::{Algorithm, Argon2, Block, Params, Version};
use axum::Router;
use axum::http::header;
use axum::routing::get;
use mana_auth::app::{App, Tasks};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Options;
use super::database::Server;
use super::measure::take_turns;
use super::table::{Finding, Target};

/// The password of everybody in these benchmarks.
pub const PASSWORD: &str = "correct horse battery";
/// People who sign in. More than there are connections, and in turn: for no account are as many tries being checked
/// at once as it has wrong ones free (5), however late one of them is.
const PEOPLE: usize = 64;
/// Connections for cheap requests, and for those that hash.
const CONNECTIONS: (usize, usize) = (64, 16);

/// Checking a session, its access token beside it, against a route that gives as many bytes of JSON.
///
/// # Errors
/// When a server does not start or `wrk` is missing or fails.
pub fn get_session(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let world = World::start()?;
    let answer = world.sign_up(0)?;
    let cookie = format!("Cookie: {}", answer.cookie);
    let body = world.runtime.block_on(async {
        let request = reqwest::Client::new()
            .get(format!("{}/api/auth/get-session", world.ours))
            .header("cookie", &answer.cookie);
        request.send().await?.text().await
    })?;
    anyhow::ensure!(body.contains(&answer.token), "get-session knows no session");
    let bare = body.clone();
    let route = get(move || {
        let body = bare.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], body) }
    });
    let limit = world.serve(Router::new().route("/bare", route))?;
    let (ours, limit) = take_turns(
        options.rounds,
        || {
            wrk(
                &format!("{}/api/auth/get-session", world.ours),
                &[&cookie],
                "",
                CONNECTIONS.0,
                options.seconds,
            )
        },
        || {
            wrk(
                &format!("{limit}/bare"),
                &[],
                "",
                CONNECTIONS.0,
                options.seconds,
            )
        },
    )?;
    Ok(vec![Finding {
        what: "get-session with set-auth-jwt".to_owned(),
        unit: "requests/s",
        ours,
        limit,
        limit_is: format!(
            "a bare axum route with the same {} bytes of JSON",
            body.len()
        ),
        target: Target::AtLeast(0.5),
        notes: vec![],
    }])
}

/// Signing in with a password on all cores, against nothing but its Argon2id on all cores: without limits, and with
/// limits and the guard on, as in production.
///
/// # Errors
/// When a server does not start or `wrk` is missing or fails.
pub fn sign_in(options: &Options) -> anyhow::Result<Vec<Finding>> {
    Ok(vec![
        sign_in_to(&World::start()?, "limits off", options)?,
        sign_in_to(
            &World::start_guarded(false)?,
            "limits and guard on",
            options,
        )?,
    ])
}

fn sign_in_to(world: &World, limits: &str, options: &Options) -> anyhow::Result<Finding> {
    for n in 0..PEOPLE {
        world.sign_up(n)?;
    }
    let mut measurements = 0;
    let (ours, limit) = take_turns(
        options.rounds,
        || {
            measurements += 1;
            wrk(
                &format!("{}/api/auth/sign-in/email", world.ours),
                &["Content-Type: application/json"],
                &sign_in_script(measurements),
                CONNECTIONS.1,
                options.seconds,
            )
        },
        || bare_hashes(Duration::from_secs(options.seconds)),
    )?;
    Ok(Finding {
        what: format!("sign-in with a password, {limits}"),
        unit: "sign-ins/s",
        ours,
        limit,
        limit_is: "Argon2id of 19 MiB and two passes in a loop, one thread per core, memory reused"
            .to_owned(),
        target: Target::AtLeast(0.85),
        notes: vec![format!(
            "{PEOPLE} people in turn, each from a known network of their own"
        )],
    })
}

/// Everybody signs in, in turn. Each comes from the network that they signed up from, so no mail tells of a new
/// device, and from 256 addresses there, so no limit of requests is reached.
fn sign_in_script(measurement: usize) -> String {
    let start = measurement * 100_000;
    format!(
        r#"
        wrk.method = 'POST'
        local n = {start}
        request = function()
            n = n + 1
            local person = n % {PEOPLE}
            local address = math.floor(n / {PEOPLE}) % 256
            wrk.headers['X-Forwarded-For'] = string.format('10.0.%d.%d', person, address)
            local body = string.format('{{"email":"ada-%d@bench.example","password":"{PASSWORD}"}}', person)
            return wrk.format(nil, nil, nil, body)
        end
        "#
    )
}

/// Hashes per second of all cores.
fn bare_hashes(length: Duration) -> anyhow::Result<f64> {
    let cores = std::thread::available_parallelism()?.get();
    let started = Instant::now();
    let threads: Vec<_> = (0..cores)
        .map(|_| {
            std::thread::spawn(move || {
                let params =
                    Params::new(19_456, 2, 1, Some(32)).expect("these are the least we take");
                let mut memory = vec![Block::default(); params.block_count()];
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                let mut hashes = 0_u32;
                while started.elapsed() < length {
                    let mut out = [0; 32];
                    argon2
                        .hash_password_into_with_memory(
                            PASSWORD.as_bytes(),
                            &[7; 16],
                            &mut out,
                            &mut memory,
                        )
                        .expect("salt and output have lengths that it takes");
                    hashes += 1;
                }
                hashes
            })
        })
        .collect();
    let hashes: u32 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap_or(0))
        .sum();
    Ok(f64::from(hashes) / started.elapsed().as_secs_f64())
}

/// Requests per second that `wrk` got answered with 200; `lua` says what they are, plain GETs if nothing.
///
/// # Errors
/// When `wrk` is missing, or something else was answered.
pub fn wrk(
    url: &str,
    headers: &[&str],
    lua: &str,
    connections: usize,
    seconds: u64,
) -> anyhow::Result<f64> {
    let script = tempfile::NamedTempFile::new()?;
    std::fs::write(script.path(), lua)?;
    let mut command = Command::new("wrk");
    command
        .args([
            "-t",
            "1",
            "-c",
            &connections.to_string(),
            "-d",
            &format!("{seconds}s"),
            "-s",
        ])
        .arg(script.path());
    for header in headers {
        command.args(["-H", header]);
    }
    let output = command
        .arg(url)
        .output()
        .context("starting wrk (Debian's package wrk)")?;
    let said = String::from_utf8_lossy(&output.stdout);
    anyhow::ensure!(
        !said.contains("Non-2xx"),
        "some requests were refused:\n{said}"
    );
    let rate = said
        .lines()
        .find_map(|line| line.strip_prefix("Requests/sec:"));
    rate.context("wrk said nothing of its rate")?
        .trim()
        .parse()
        .context("reading wrk's rate")
}

/// Somebody who has signed up.
pub struct Person {
    /// Of their session.
    pub token: String,
    /// The same in a cookie.
    cookie: String,
}

/// The service on a server of its own, and a runtime that serves.
pub struct World {
    /// Serves.
    pub runtime: Runtime,
    /// Where it answers.
    pub ours: String,
    /// The service.
    pub app: Arc<App>,
    /// Keeps connections.
    pub client: reqwest::Client,
    /// Its database.
    pub server: Server,
}

impl World {
    /// Nothing limits the load.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start() -> anyhow::Result<World> {
        let server = Server::start(false)?;
        let runtime = Runtime::new()?;
        let started = runtime.block_on(server.app())?;
        Self::of(server, runtime, started)
    }

    /// The same with these settings.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<World> {
        let server = Server::start(false)?;
        let runtime = Runtime::new()?;
        let started = runtime.block_on(server.app_with(settings))?;
        Self::of(server, runtime, started)
    }

    /// The same with limits and the guard on, and where addresses have to be proven before a sign-in or not.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_guarded(verify_first: bool) -> anyhow::Result<World> {
        let server = Server::start(false)?;
        let runtime = Runtime::new()?;
        let started = runtime.block_on(server.guarded_app(verify_first))?;
        Self::of(server, runtime, started)
    }

    fn of(
        server: Server,
        runtime: Runtime,
        (app, tasks): (Arc<App>, Tasks),
    ) -> anyhow::Result<World> {
        // The background work lives as long as the runtime.
        std::mem::forget(tasks);
        let router = mana_auth::http::router(app.clone());
        let ours = serve(&runtime, router)?;
        Ok(World {
            runtime,
            ours,
            app,
            client: reqwest::Client::new(),
            server,
        })
    }

    /// Serves routes of a benchmark's own; gives their address.
    ///
    /// # Errors
    /// When there is no port.
    pub fn serve(&self, router: Router) -> anyhow::Result<String> {
        serve(&self.runtime, router)
    }

    /// Signs up somebody with a number.
    ///
    /// # Errors
    /// When the service does not want them.
    pub fn sign_up(&self, n: usize) -> anyhow::Result<Person> {
        let email = format!("ada-{n}@bench.example");
        let body = json!({"email": email, "password": PASSWORD, "name": "Ada"});
        self.runtime.block_on(async {
            let request = reqwest::Client::new()
                .post(format!("{}/api/auth/sign-up/email", self.ours))
                .header("x-forwarded-for", format!("10.0.{n}.0"))
                .json(&body);
            let answer = request.send().await?;
            let cookie = answer
                .headers()
                .get("set-cookie")
                .and_then(|value| value.to_str().ok());
            let cookie = cookie
                .and_then(|line| line.split(';').next())
                .context("sign-up set no cookie")?
                .to_owned();
            let token = answer.json::<Value>().await?["token"]
                .as_str()
                .context("sign-up gave no token")?
                .to_owned();
            Ok(Person { token, cookie })
        })
    }
}

fn serve(runtime: &Runtime, router: Router) -> anyhow::Result<String> {
    let listener = runtime.block_on(tokio::net::TcpListener::bind(("127.0.0.1", 0)))?;
    let address = listener.local_addr()?;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    runtime.spawn(async move { axum::serve(listener, service).await });
    Ok(format!("http://{address}"))
}
