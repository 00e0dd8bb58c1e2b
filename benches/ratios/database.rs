//! The server that both sides of a comparison use, and `pgbench` on it.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::Context as _;
use mana_auth::app::{self, App, Parts, Tasks};
use mana_auth::clock::Clock;
use mana_auth::cluster::{self, Cluster, Role};
use mana_auth::config::Config;
use mana_auth::database::{self, Roles};
use tempfile::TempDir;

/// Delays every flush of a write-ahead log by 2 ms, as network storage does.
const SLOW_DISK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>

static void wait_2_ms(void) {
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, 0);
}

int fdatasync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    wait_2_ms();
    return real(file);
}

int fsync(int file) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    wait_2_ms();
    return real(file);
}
"#;

/// A private server in a folder of its own; both go when this is dropped.
pub struct Server {
    // Stopped before its folder is removed.
    cluster: Cluster,
    folder: TempDir,
}

impl Server {
    /// Starts a server that writes through to the disk of the temporary folder, flushing 2 ms later if `slow`.
    ///
    /// # Errors
    /// When the server does not start, or no C compiler builds the shim that slows it.
    pub fn start(slow: bool) -> anyhow::Result<Server> {
        let folder = TempDir::new()?;
        // The server's account must pass through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let environment = match slow {
            true => vec![(
                "LD_PRELOAD".to_owned(),
                slow_disk(folder.path())?.display().to_string(),
            )],
            false => vec![],
        };
        let options = cluster::Options {
            environment,
            // No checkpoint in the middle of a measurement: it would hit one side and not the other.
            extra: [("max_wal_size", "16GB"), ("checkpoint_timeout", "1h")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into(),
            ..cluster::Options::default()
        };
        let cluster = Cluster::start(&folder.path().join("data"), options)?;
        Ok(Server { cluster, folder })
    }

    /// The service on this server, without its HTTP side, and with nothing that limits the load.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn app(&self) -> anyhow::Result<(Arc<App>, Tasks)> {
        self.app_with(&[("MANA_AUTH_RATE_LIMIT", "off")]).await
    }

    /// The same with limits and the guard of passwords on. It believes what a local proxy says of its clients, so
    /// that a benchmark can be many of them.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn guarded_app(&self, verify_first: bool) -> anyhow::Result<(Arc<App>, Tasks)> {
        self.app_with(&[
            ("MANA_AUTH_RATE_LIMIT", "on"),
            ("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8"),
            (
                "MANA_AUTH_REQUIRE_EMAIL_VERIFICATION",
                if verify_first { "true" } else { "false" },
            ),
        ])
        .await
    }

    /// The same with these settings.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn app_with(&self, settings: &[(&str, &str)]) -> anyhow::Result<(Arc<App>, Tasks)> {
        let service = database::options(&self.cluster.database_url())?;
        let roles = Roles {
            migration: &database::options(&self.cluster.migration_url())?,
            service: &service,
            production: false,
        };
        database::migrate(roles).await?;
        let parts = Parts {
            clock: Clock::system(),
            database: service,
        };
        let folder = self.folder.path().display().to_string();
        let always = [
            ("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "false"),
            ("MANA_AUTH_DATA_DIR", &folder),
        ];
        let values: BTreeMap<String, String> = always
            .iter()
            .chain(settings)
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        app::start(Config::from_values(&values, None)?, parts).await
    }

    /// The process id of the server.
    pub fn pid(&self) -> u32 {
        self.cluster.pid()
    }

    /// The URL for the service's role.
    pub fn database_url(&self) -> String {
        self.cluster.database_url()
    }

    /// The URL for the superuser.
    pub fn superuser_url(&self) -> String {
        self.cluster.superuser_url()
    }

    /// Transactions per second of `pgbench` with this script, whose statements it sends in this way.
    ///
    /// # Errors
    /// When `pgbench` is missing or fails.
    pub fn pgbench(
        &self,
        script: &str,
        sent: Sent,
        clients: usize,
        seconds: u64,
    ) -> anyhow::Result<f64> {
        let file = self.folder.path().join("script.sql");
        std::fs::write(&file, script)?;
        let output = Command::new(pgbench()?)
            .args(["-n", "-M", sent.as_str(), "-j", "2"])
            .args(["-c", &clients.to_string()])
            .args(["-T", &seconds.to_string()])
            .arg("-f")
            .arg(&file)
            .arg(self.cluster.url(Role::Superuser, "mana_auth"))
            .output()
            .context("starting pgbench")?;
        let said = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success(), "pgbench failed: {complaints}");
        let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
        let rate = rate.and_then(|rate| rate.split(' ').next());
        Ok(rate
            .with_context(|| format!("pgbench said no rate: {said}"))?
            .parse()?)
    }
}

/// How `pgbench` sends a statement.
#[derive(Clone, Copy)]
pub enum Sent {
    /// As it does by itself: as text, which the server reads and plans each time.
    AsText,
    /// Prepared once for each connection: the most that the server can do.
    Prepared,
}

impl Sent {
    /// The value of its option `-M`.
    fn as_str(self) -> &'static str {
        match self {
            Self::AsText => "simple",
            Self::Prepared => "prepared",
        }
    }
}

/// Where `pgbench` is: Debian keeps it beside the server.
fn pgbench() -> anyhow::Result<PathBuf> {
    let releases = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = releases
        .map(|release| release.path().join("bin/pgbench"))
        .filter(|program| program.exists())
        .collect();
    found.sort();
    Ok(found.pop().unwrap_or_else(|| PathBuf::from("pgbench")))
}

/// Builds the shim that slows the disk.
fn slow_disk(folder: &Path) -> anyhow::Result<PathBuf> {
    let source = folder.join("slow_disk.c");
    let library = folder.join("slow_disk.so");
    std::fs::write(&source, SLOW_DISK)?;
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status()
        .context("starting cc, which builds the shim that slows the disk")?;
    anyhow::ensure!(
        built.success(),
        "cc did not build the shim that slows the disk"
    );
    std::fs::set_permissions(&library, std::fs::Permissions::from_mode(0o755))?;
    Ok(library)
}
