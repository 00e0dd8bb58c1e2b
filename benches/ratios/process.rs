//! The service as a process of its own: how soon it is ready and what memory it takes.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::json;
use tempfile::TempDir;

use super::Options;
use super::measure::Measured;
use super::table::{Finding, Target};

/// Hashes that run at once, each in memory of its own.
const HASHER_THREADS: u32 = 2;
const BURSTS: usize = 4;
const SIGN_INS: usize = 48;
const MIB: f64 = 1024.0;

/// Time to ready on an existing database, and memory idle and after bursts of sign-ins.
///
/// # Errors
/// When the service does not start or refuses a sign-in.
pub fn start_and_memory(options: &Options) -> anyhow::Result<Vec<Finding>> {
    let folder = TempDir::new()?;
    fs::set_permissions(
        folder.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (mut ready, mut idle, mut busy) = (
            Measured::default(),
            Measured::default(),
            Measured::default(),
        );
        // The first start makes the database.
        Service::start(&folder).await?.stop()?;
        for _ in 0..options.rounds {
            let started = Instant::now();
            let service = Service::start(&folder).await?;
            ready.add(started.elapsed().as_secs_f64());
            tokio::time::sleep(Duration::from_secs(options.seconds)).await;
            let before = service.resident_mib()?;
            idle.add(before);
            for _ in 0..BURSTS {
                service.sign_in_burst().await?;
            }
            busy.add(service.resident_mib()? - before);
            service.stop()?;
        }
        let finding = |what: &str, unit, ours, limit: f64, limit_is: &str| Finding {
            what: what.to_owned(),
            unit,
            ours,
            limit: Measured::fixed(limit),
            limit_is: limit_is.to_owned(),
            target: Target::AtMost,
            notes: vec![],
        };
        Ok(vec![
            finding(
                "ready on an existing database",
                "s",
                ready,
                1.0,
                "the bound for a start",
            ),
            finding(
                "memory, idle",
                "MiB",
                idle,
                40.0,
                "the bound for a service at rest",
            ),
            finding(
                "memory above idle after 4 bursts of 48 sign-ins",
                "MiB",
                busy,
                f64::from(HASHER_THREADS) * 19.0 + 16.0,
                "the memory of the hasher's threads and 16 MiB",
            ),
        ])
    })
}

struct Service {
    process: Child,
    base: String,
    client: reqwest::Client,
}

impl Service {
    async fn start(folder: &TempDir) -> anyhow::Result<Service> {
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?
            .local_addr()?
            .port();
        let process = Command::new(env!("CARGO_BIN_EXE_mana-auth"))
            .arg("serve")
            .env("MANA_AUTH_DATA_DIR", folder.path().join("data"))
            .env("PORT", port.to_string())
            .env("MANA_AUTH_RATE_LIMIT", "off")
            .env("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "false")
            .env("MANA_AUTH_HASH_THREADS", HASHER_THREADS.to_string())
            .env("MANA_AUTH_LOG", "warn")
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .context("starting the service")?;
        let service = Service {
            process,
            base: format!("http://127.0.0.1:{port}"),
            client: reqwest::Client::new(),
        };
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let answer = service
                .client
                .get(format!("{}/health/ready", service.base))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(service);
            }
            anyhow::ensure!(Instant::now() < patience, "the service does not get ready");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn sign_in_burst(&self) -> anyhow::Result<()> {
        let body = json!({"email": "ada@bench.example", "password": "correct horse battery", "name": "Ada"});
        let post = |path: &str| {
            self.client
                .post(format!("{}/api/auth/{path}", self.base))
                .json(&body)
                .send()
        };
        // There from the second round on: then the answer is a refusal that changes nothing.
        post("sign-up/email").await?;
        let answers =
            futures_util::future::join_all((0..SIGN_INS).map(|_| post("sign-in/email"))).await;
        for answer in answers {
            let status = answer?.status();
            anyhow::ensure!(status.is_success(), "a sign-in was answered with {status}");
        }
        Ok(())
    }

    fn resident_mib(&self) -> anyhow::Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next());
        Ok(kib
            .context("the system says nothing of memory")?
            .parse::<f64>()?
            / MIB)
    }

    fn stop(mut self) -> anyhow::Result<()> {
        Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status()?;
        self.process.wait()?;
        Ok(())
    }
}
