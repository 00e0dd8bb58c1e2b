//! A private PostgreSQL cluster made of the system's own binaries, for development, tests and the first run.
//!
//! It listens on a Unix socket inside its data folder and nowhere else, so the folder's mode 0700 is its password.
//! PostgreSQL refuses to run as root; started by root, it runs as `postgres`, or as `nobody`. It stops with us, however
//! we end: the kernel interrupts it when the thread that started it dies.

mod system;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Executor, PgConnection};

use system::{Account, Binaries};

/// The database that every start makes sure of.
const DATABASE: &str = "mana_auth";
/// Names the socket file; nothing listens on the network.
const PORT: u16 = 5432;
/// Longest path of a Unix socket, in bytes (`sun_path` without its final zero).
const SOCKET_PATH_MAX_BYTES: usize = 107;
/// How long a process that was just killed may take to let go of the folder.
const LOCK_GRACE: Duration = Duration::from_secs(2);
/// How long a server that lost its parent may take to end, before we say that the folder is taken.
const ORPHAN_GRACE: Duration = Duration::from_secs(10);
/// How long a server may take to accept connections; recovery after a crash is part of it.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a fast shutdown may take before the server is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks at a server that starts or stops.
const POLL: Duration = Duration::from_millis(10);

/// What the server always runs with: a small machine's memory, UTC, and no statement or row in its log (S-37).
const SETTINGS: [(&str, &str); 12] = [
    ("listen_addresses", ""),
    ("max_connections", "100"),
    ("shared_buffers", "128MB"),
    ("jit", "off"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("lc_messages", "C"),
    ("log_checkpoints", "off"),
    ("log_error_verbosity", "terse"),
    ("log_min_error_statement", "panic"),
    ("logging_collector", "off"),
    ("cluster_name", "mana-auth"),
];

/// Makes the two roles of the log where they are missing; one transaction, so a crash leaves both or none.
const ROLES_SQL: &str = "
    do $$
    begin
        if not exists (select from pg_roles where rolname = 'mana_auth_owner') then
            create role mana_auth_owner login createdb nosuperuser nobypassrls;
        end if;
        if not exists (select from pg_roles where rolname = 'mana_auth_app') then
            create role mana_auth_app login nosuperuser nobypassrls;
        end if;
        if not pg_has_role('mana_auth_owner', 'mana_auth_app', 'member') then
            grant mana_auth_app to mana_auth_owner;
        end if;
    end
    $$";

/// How the server runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether commits reach the disk before they are acknowledged; off only for tests, whose data may be lost.
    pub fsync: bool,
    /// Further settings (name, value), which win over ours.
    pub extra: Vec<(String, String)>,
    /// Environment variables of the server, which otherwise has next to none; for benchmarks that slow its disk.
    pub environment: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            fsync: true,
            extra: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// Who signs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `mana_auth_owner`: owns the database and its schema, may create databases.
    Owner,
    /// `mana_auth_app`: what the running service may do.
    App,
    /// `postgres`: everything; for tests and repairs.
    Superuser,
}

impl Role {
    /// The role's name in PostgreSQL.
    pub fn name(self) -> &'static str {
        match self {
            Role::Owner => "mana_auth_owner",
            Role::App => "mana_auth_app",
            Role::Superuser => "postgres",
        }
    }
}

/// A running server; dropping it stops the server.
#[derive(Debug)]
pub struct Cluster {
    data_dir: PathBuf,
    server: Server,
    _lock: File,
}

impl Cluster {
    /// Makes the cluster in `data_dir` if there is none, starts it, and waits until it accepts connections.
    ///
    /// Blocks; the folder's parent is created when missing.
    ///
    /// # Errors
    /// When PostgreSQL is not installed, the folder belongs to another server, cannot be reached by the account that
    /// the server runs as or is too deep for a socket path, or the server does not start; the text says what to do.
    pub fn start(data_dir: &Path, options: Options) -> anyhow::Result<Cluster> {
        let data_dir = resolved(data_dir)?;
        check_socket_path(&data_dir)?;
        let lock = lock(&data_dir)?;
        let account = Account::for_folder(&data_dir)?;
        let binaries = Binaries::find(major_of(&data_dir)?.as_deref())?;
        let parent = parent_of(&data_dir)?;
        account.check_reaches(parent)?;
        remove_half_made(&data_dir)?;
        if major_of(&data_dir)?.is_none() {
            create(&data_dir, &account, &binaries, options.fsync)?;
        }
        wait_for_orphans(&data_dir)?;
        let server = Server::spawn(&data_dir, &account, &binaries, &options)?;
        let mut cluster = Cluster {
            data_dir,
            server,
            _lock: lock,
        };
        // The caller may be inside a runtime, where blocking on another one is not allowed: hence a thread.
        thread::scope(|scope| {
            let prepared = scope.spawn(|| cluster.prepare());
            prepared
                .join()
                .unwrap_or_else(|_| Err(anyhow!("the start of PostgreSQL panicked")))
        })?;
        Ok(cluster)
    }

    /// The URL of the role that owns the schema.
    pub fn migration_url(&self) -> String {
        self.url(Role::Owner, DATABASE)
    }

    /// The URL of the role that the service runs as.
    pub fn database_url(&self) -> String {
        self.url(Role::App, DATABASE)
    }

    /// The URL of the superuser.
    pub fn superuser_url(&self) -> String {
        self.url(Role::Superuser, DATABASE)
    }

    /// The URL of any database for any role.
    pub fn url(&self, role: Role, database: &str) -> String {
        url(&self.data_dir, role, database)
    }

    /// The URL of a cluster that another process may be running in `data_dir`, for commands beside the service.
    ///
    /// # Errors
    /// When the folder's path cannot be resolved.
    pub fn url_in(data_dir: &Path, role: Role) -> anyhow::Result<String> {
        Ok(url(&resolved(data_dir)?, role, DATABASE))
    }

    /// The process id of the postmaster.
    pub fn pid(&self) -> u32 {
        self.server.child.id()
    }

    /// Whether the server is gone, which nobody asked it to be.
    pub fn has_ended(&self) -> bool {
        let unreaped = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        // Whoever cannot be waited for has ended and was waited for.
        waitid(WaitId::Pid(Pid::from_child(&self.server.child)), unreaped)
            .map_or(true, |status| status.is_some())
    }

    /// Ends all connections and stops the server cleanly.
    ///
    /// # Errors
    /// When the server had to be killed; the next start recovers from its write-ahead log.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.server.stop()
    }

    /// Waits for the first connection, then makes sure of roles and database.
    fn prepare(&mut self) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let mut connection = self.first_connection().await?;
            connection
                .execute(ROLES_SQL)
                .await
                .context("creating the database roles")?;
            let exists: bool = sqlx::query_scalar(
                "select exists (select from pg_database where datname = 'mana_auth')",
            )
            .fetch_one(&mut connection)
            .await?;
            if !exists {
                connection
                    .execute("create database mana_auth owner mana_auth_owner")
                    .await
                    .context("creating the database")?;
            }
            connection.close().await?;
            Ok(())
        })
    }

    async fn first_connection(&mut self) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.url(Role::Superuser, "postgres").parse()?;
        let give_up_at = Instant::now() + START_TIMEOUT;
        loop {
            let error = match options.connect().await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            if let Some(status) = self.server.child.try_wait()? {
                let said = self.server.last_words(&self.data_dir);
                bail!(
                    "PostgreSQL in {} ended at once ({status}):\n{said}",
                    self.data_dir.display()
                );
            }
            // 57P03 is "starting up"; any other answer of a server comes from one that is already up.
            let answer = error.as_database_error().and_then(|error| error.code());
            let is_final = answer.is_some_and(|code| code != "57P03");
            if is_final || Instant::now() > give_up_at {
                let place = self.data_dir.display();
                return Err(error).with_context(|| format!("connecting to PostgreSQL in {place}"));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The server's process and the thread that is its parent.
#[derive(Debug)]
struct Server {
    child: Child,
    // The kernel interrupts the server when the thread that started it ends, so that thread waits for this to drop.
    _parent: Sender<()>,
}

impl Server {
    fn spawn(
        data_dir: &Path,
        account: &Account,
        binaries: &Binaries,
        options: &Options,
    ) -> anyhow::Result<Server> {
        let mut command = server_command(data_dir, account, binaries, options)?;
        let (parent, until_dropped) = channel::<()>();
        let (started, child) = channel();
        thread::Builder::new()
            .name("postgres-parent".to_owned())
            .spawn(move || {
                if started.send(command.spawn()).is_ok() {
                    // Nothing is ever sent: this returns when the `Server` is gone.
                    let _ = until_dropped.recv();
                }
            })?;
        let child = child
            .recv()
            .context("the thread that starts PostgreSQL died")?;
        let child = child.context("starting PostgreSQL")?;
        Ok(Server {
            child,
            _parent: parent,
        })
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // SIGINT asks for a fast shutdown. The process is not reaped yet, so its id cannot be anybody else's.
        let interrupted = system::interrupt(self.child.id());
        let give_up_at = Instant::now() + STOP_TIMEOUT;
        while interrupted.is_ok() && Instant::now() < give_up_at {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        self.child.kill()?;
        self.child.wait()?;
        interrupted?;
        bail!(
            "PostgreSQL did not stop within {} s and was killed",
            STOP_TIMEOUT.as_secs()
        )
    }

    /// What a server that ended had to say: first the wrapper that started it, then its own log.
    fn last_words(&mut self, data_dir: &Path) -> String {
        let mut said = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            // Best effort: the exit status is reported anyway.
            let _ = std::io::Read::read_to_string(&mut stderr, &mut said);
        }
        let log = fs::read_to_string(data_dir.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = said.lines().chain(log.lines()).collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            tracing::warn!(%error, "the private PostgreSQL cluster did not stop cleanly");
        }
    }
}

fn server_command(
    data_dir: &Path,
    account: &Account,
    binaries: &Binaries,
    options: &Options,
) -> anyhow::Result<Command> {
    let text = utf8(data_dir)?;
    // The shell opens the log with the server's own rights, then becomes the server, which keeps its process id.
    let mut command = account.command(Path::new("/bin/sh"));
    command.args([
        "-c",
        "umask 077; exec \"$@\" >\"$0\" 2>&1",
        &format!("{text}/server.log"),
    ]);
    command
        .arg(binaries.path("postgres"))
        .args(["-D", text, "-p", &PORT.to_string()]);
    let quoted = format!("\"{}\"", text.replace('"', "\"\""));
    command.args(["-c", &format!("unix_socket_directories={quoted}")]);
    for (name, value) in SETTINGS {
        command.args(["-c", &format!("{name}={value}")]);
    }
    if !options.fsync {
        command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
    }
    for (name, value) in &options.extra {
        command.args(["-c", &format!("{name}={value}")]);
    }
    for (name, value) in &options.environment {
        command.env(name, value);
    }
    // Its own process group: an interrupt typed at the terminal is for us, who stop the server last.
    command.process_group(0).current_dir("/");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(command)
}

/// Makes a cluster beside its place and moves it there when it is whole, so that a crash leaves nothing to trip over.
fn create(
    data_dir: &Path,
    account: &Account,
    binaries: &Binaries,
    fsync: bool,
) -> anyhow::Result<()> {
    if fs::read_dir(data_dir).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!(
            "{} is not empty and holds no PostgreSQL cluster",
            data_dir.display()
        );
    }
    let half_made = half_made(data_dir, &std::process::id().to_string())?;
    let half_made = Path::new(&half_made);
    let mut refusals = String::new();
    // C.UTF-8 sorts and folds Unicode the same everywhere; some systems have only C.
    for locale in ["C.UTF-8", "C"] {
        DirBuilder::new().mode(0o700).create(half_made)?;
        account.own(half_made)?;
        let mut command = account.command(&binaries.path("initdb"));
        command.args(["--username=postgres", "--encoding=UTF8", "--data-checksums"]);
        command.args([
            "--auth-local=trust",
            "--auth-host=reject",
            "--no-instructions",
        ]);
        command.arg(format!("--locale={locale}"));
        if !fsync {
            command.arg("--no-sync");
        }
        let output = command
            .arg("--pgdata")
            .arg(half_made)
            .current_dir("/")
            .output();
        let output = output.context("starting initdb")?;
        if output.status.success() {
            fs::rename(half_made, data_dir)
                .with_context(|| format!("moving the new cluster to {}", data_dir.display()))?;
            if fsync {
                File::open(parent_of(data_dir)?)?.sync_all()?;
            }
            return Ok(());
        }
        refusals.push_str(&String::from_utf8_lossy(&output.stderr));
        fs::remove_dir_all(half_made)?;
    }
    bail!(
        "initdb made no cluster for {}:\n{}",
        data_dir.display(),
        refusals.trim_end()
    )
}

/// Clears away clusters whose making was cut short; we hold the lock, so nobody is making one now.
fn remove_half_made(data_dir: &Path) -> anyhow::Result<()> {
    let prefix = half_made(data_dir, "")?;
    for entry in fs::read_dir(parent_of(data_dir)?)? {
        let path = entry?.path();
        let is_half_made = utf8(&path).is_ok_and(|path| path.starts_with(&prefix));
        if is_half_made && let Err(error) = fs::remove_dir_all(&path) {
            // An interrupted initdb may still be clearing the same folder; the next start tries again.
            tracing::debug!(%error, path = %path.display(), "a half-made cluster is still there");
        }
    }
    Ok(())
}

/// Names the place where a cluster is made; the process id keeps it apart from one that is just being cut short.
fn half_made(data_dir: &Path, suffix: &str) -> anyhow::Result<String> {
    Ok(format!("{}.new-{suffix}", utf8(data_dir)?))
}

/// Takes the folder for this process; the kernel gives it back however we end.
fn lock(data_dir: &Path) -> anyhow::Result<File> {
    let path = PathBuf::from(format!("{}.lock", utf8(data_dir)?));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let give_up_at = Instant::now() + LOCK_GRACE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < give_up_at => thread::sleep(POLL),
            Err(TryLockError::WouldBlock) => bail!(
                "another mana-auth process runs the PostgreSQL cluster in {}; \
                 stop it, choose another MANA_AUTH_DATA_DIR, or let both use one DATABASE_URL",
                data_dir.display()
            ),
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
    }
}

/// Waits for what is left of a server whose parent was killed: it shuts down, or its last processes are ending.
fn wait_for_orphans(data_dir: &Path) -> anyhow::Result<()> {
    let give_up_at = Instant::now() + ORPHAN_GRACE;
    while let Some(pid) = system::server_in(data_dir) {
        if Instant::now() > give_up_at {
            bail!(
                "another PostgreSQL server (process {pid}) runs in {}; stop it with: kill -INT {pid}",
                data_dir.display()
            );
        }
        thread::sleep(POLL);
    }
    // A new server would take a killed one that nobody has buried yet for a living one. It is not for us
    // to bury, so if it stays, the new server says so.
    while system::is_unburied_in(data_dir) && Instant::now() < give_up_at {
        thread::sleep(POLL);
    }
    Ok(())
}

/// Makes the parent and resolves the path, so that sockets and processes know the folder by one name.
fn resolved(data_dir: &Path) -> anyhow::Result<PathBuf> {
    let absolute = std::path::absolute(data_dir)?;
    let parent = parent_of(&absolute)?;
    create_parents(parent)?;
    let name = absolute
        .file_name()
        .context("the data folder needs a name")?;
    let path = fs::canonicalize(parent)?.join(name);
    Ok(fs::canonicalize(&path).unwrap_or(path))
}

/// Creates missing folders so that the server's account can pass through them whatever our umask is.
fn create_parents(folder: &Path) -> anyhow::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    create_parents(parent_of(folder)?)?;
    let created = fs::create_dir(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o755)));
    created.with_context(|| format!("creating {}", folder.display()))
}

fn parent_of(path: &Path) -> anyhow::Result<&Path> {
    path.parent()
        .with_context(|| format!("{} has no parent folder", path.display()))
}

/// The PostgreSQL release that made the cluster, or none where there is no cluster yet.
fn major_of(data_dir: &Path) -> anyhow::Result<Option<String>> {
    let path = data_dir.join("PG_VERSION");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

fn check_socket_path(data_dir: &Path) -> anyhow::Result<()> {
    let socket = format!("{}/.s.PGSQL.{PORT}", utf8(data_dir)?);
    if socket.len() > SOCKET_PATH_MAX_BYTES {
        bail!(
            "the socket path {socket} has {} bytes, and the system allows {SOCKET_PATH_MAX_BYTES}; \
             choose a shorter MANA_AUTH_DATA_DIR",
            socket.len()
        );
    }
    Ok(())
}

fn utf8(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("the path {} is not UTF-8", path.display()))
}

/// Writes every part that sqlx and libpq would otherwise take from `PG*` variables.
fn url(data_dir: &Path, role: Role, database: &str) -> String {
    let folder = utf8_percent_encode(&data_dir.to_string_lossy(), NON_ALPHANUMERIC).to_string();
    let database = utf8_percent_encode(database, NON_ALPHANUMERIC);
    let role = role.name();
    format!("postgres:///{database}?host={folder}&port={PORT}&user={role}&sslmode=disable")
}
