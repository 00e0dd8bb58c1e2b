//! TestApp: the service on a database of its own, on a free port, with a mailbox and a clock that stands still.
//!
//! All tests of a run share one private PostgreSQL cluster and one migrated template; each `TestApp` gets a copy.
//! The cluster ends with the test process, however that ends, and its folder is removed then.
#![cfg(test)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use mana_auth::app::{self, App, Parts, Tasks};
use mana_auth::clock::Clock;
use mana_auth::cluster::{self, Cluster, Role};
use mana_auth::config::Config;
use mana_auth::database::{self, Roles};
use mana_auth::mail::{Mailbox, Mailer};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _, PgPool};
use tokio::task::JoinHandle;

/// How long anything that must happen may take, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two looks at something that must happen.
const POLL: Duration = Duration::from_millis(10);
/// The migrated database that every test starts with a copy of.
const TEMPLATE: &str = "template_migrated";

/// What every test runs with unless it says otherwise.
const SETTINGS: [(&str, &str); 4] = [
    ("NODE_ENV", "test"),
    ("PORT", "0"),
    // Tests share one address; those about limits switch them on.
    ("MANA_AUTH_RATE_LIMIT", "off"),
    ("MANA_AUTH_HASH_THREADS", "2"),
];

/// A running node of the service.
pub struct TestApp {
    /// Scheme, host and port that it answers on.
    pub base: String,
    /// Follows no redirects and keeps no cookies.
    pub client: reqwest::Client,
    /// The superuser on its database.
    pub admin: PgPool,
    /// Its time; nodes of one database share it.
    pub clock: Clock,
    /// Its handles.
    pub app: Arc<App>,
    database: Arc<Database>,
    tasks: Option<Tasks>,
    server: JoinHandle<()>,
}

/// A mail as its receiver would have got it.
#[derive(Clone, Debug)]
pub struct Mail {
    /// Which message it is, such as `verify_email`.
    pub kind: String,
    /// The address it went to.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The plain text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// The link it holds.
    pub url: Option<String>,
}

impl TestApp {
    /// Starts the service on a fresh database, with these settings over those of all tests.
    pub async fn start(settings: &[(&str, &str)]) -> TestApp {
        let database = Arc::new(Database::create().await);
        let options = database::options(&database.url(Role::App)).unwrap();
        TestApp::start_on(database, options, Clock::held(), settings).await
    }

    /// Starts another node on the same database and the same clock.
    pub async fn node(&self, settings: &[(&str, &str)]) -> TestApp {
        let options = database::options(&self.database_url(Role::App)).unwrap();
        TestApp::start_on(self.database.clone(), options, self.clock.clone(), settings).await
    }

    /// Starts another node that reaches the database through a port of this machine.
    pub async fn node_through(&self, port: u16) -> TestApp {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(port)
            .ssl_mode(PgSslMode::Disable)
            .username(Role::App.name())
            .database(&self.database.name)
            .disable_statement_logging();
        TestApp::start_on(self.database.clone(), options, self.clock.clone(), &[]).await
    }

    async fn start_on(
        database: Arc<Database>,
        options: PgConnectOptions,
        clock: Clock,
        settings: &[(&str, &str)],
    ) -> TestApp {
        let config = config(&database.name, settings);
        let parts = Parts {
            clock: clock.clone(),
            database: options,
        };
        let (app, tasks) = app::start(config, parts).await.unwrap();
        if let Mailer::Mailbox(mailbox) = &app.mailer {
            database.mailboxes.lock().unwrap().push(mailbox.clone());
        }
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let service = mana_auth::http::router(app.clone())
            .into_make_service_with_connect_info::<SocketAddr>();
        let server = tokio::spawn(async move { axum::serve(listener, service).await.unwrap() });
        let admin = PgPoolOptions::new()
            .max_connections(4)
            .connect_lazy_with(database::options(&database.url(Role::Superuser)).unwrap());
        TestApp {
            base,
            client: reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .build()
                .unwrap(),
            admin,
            clock,
            app,
            database,
            tasks: Some(tasks),
            server,
        }
    }

    /// The URL of its database for a role.
    pub fn database_url(&self, role: Role) -> String {
        self.database.url(role)
    }

    /// The socket on which the shared cluster listens.
    pub fn database_socket(&self) -> PathBuf {
        Shared::get().folder.join("postgres/.s.PGSQL.5432")
    }

    /// All mails that left any node of this database, in the order of the events that caused them.
    pub fn mails(&self) -> Vec<Mail> {
        let mailboxes = self.database.mailboxes.lock().unwrap();
        let mut mails: Vec<_> = mailboxes.iter().flat_map(Mailbox::list).collect();
        // Ids are UUIDs of version 7, which sort by time.
        mails.sort_by(|one, other| one.id.cmp(&other.id));
        mails
            .iter()
            .map(|mail| Mail {
                kind: mail.kind.as_str().to_owned(),
                to: mail.to.clone(),
                subject: mail.subject.clone(),
                text: mail.text.clone(),
                html: mail.html.clone(),
                url: mail.url.clone(),
            })
            .collect()
    }

    /// The mail number `nth` (from 0) to an address, waiting until it is there.
    pub async fn wait_for_mail(&self, to: &str, nth: usize) -> Mail {
        let mut found = None;
        wait_until(&format!("mail {nth} to {to}"), async || {
            let mails = self.mails();
            found = mails
                .into_iter()
                .filter(|mail| mail.to.eq_ignore_ascii_case(to))
                .nth(nth);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits until every effect is done, so that what was not sent by then never will be.
    pub async fn effects_done(&self) {
        wait_until("the effects are done", async || {
            mana_auth::effects::waiting(&self.admin).await.unwrap() == 0
        })
        .await;
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.server.abort();
        let tasks = self.tasks.take();
        let (app, database) = (self.app.clone(), self.database.clone());
        if let (Some(tasks), Ok(runtime)) = (tasks, tokio::runtime::Handle::try_current()) {
            // Whatever has not ended when the test does, ends with its runtime.
            runtime.spawn(async move {
                tasks.stop(app).await;
                drop(database);
            });
        }
    }
}

/// Waits until something is true; fails when it takes too long.
pub async fn wait_until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let give_up_at = Instant::now() + PATIENCE;
    while !is_true().await {
        assert!(Instant::now() < give_up_at, "waited in vain until {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// A configuration for a database of the shared cluster.
fn config(database: &str, settings: &[(&str, &str)]) -> Config {
    let shared = Shared::get();
    let own = [
        ("DATABASE_URL", shared.cluster.url(Role::App, database)),
        (
            "MANA_AUTH_MIGRATION_URL",
            shared.cluster.url(Role::Owner, database),
        ),
        (
            "MANA_AUTH_DATA_DIR",
            shared.folder.join("data").display().to_string(),
        ),
    ];
    let mut values: BTreeMap<String, String> = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for (name, value) in SETTINGS.iter().chain(settings) {
        values.insert((*name).to_owned(), (*value).to_owned());
    }
    Config::from_values(&values, None).unwrap()
}

/// A database of the shared cluster; dropped with the last node on it.
pub struct Database {
    /// Its name in the shared cluster.
    pub name: String,
    mailboxes: Mutex<Vec<Mailbox>>,
}

impl Database {
    /// A copy of the migrated template.
    pub async fn create() -> Database {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let url = Shared::get().cluster.url(Role::Superuser, "postgres");
        let mut connection = database::options(&url).unwrap().connect().await.unwrap();
        let create = format!("create database {name} template {TEMPLATE} owner mana_auth_owner");
        connection.execute(create.as_str()).await.unwrap();
        connection.close().await.unwrap();
        Database {
            name,
            mailboxes: Mutex::default(),
        }
    }

    /// Its URL for a role.
    pub fn url(&self, role: Role) -> String {
        Shared::get().url(role, &self.name)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = Shared::get().done_with.send(self.name.clone());
    }
}

/// What all tests of the process share.
pub struct Shared {
    cluster: Cluster,
    /// For everything that tests leave behind; removed at the end.
    pub folder: PathBuf,
    /// Names of databases that nobody needs any more.
    done_with: mpsc::Sender<String>,
}

impl Shared {
    /// Starts the cluster on first use. Every test has a runtime of its own, so this one needs none of them.
    pub fn get() -> &'static Shared {
        static SHARED: OnceLock<Shared> = OnceLock::new();
        SHARED.get_or_init(|| thread::spawn(Shared::start).join().unwrap())
    }

    /// The URL of any database of the cluster for a role.
    pub fn url(&self, role: Role, database: &str) -> String {
        self.cluster.url(role, database)
    }

    fn start() -> Shared {
        // Refused only when it is there already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::Builder::new()
            .prefix("mana-auth-test-")
            .tempdir()
            .unwrap()
            .keep();
        // The server may run as another user, who has to get in; it guards its own folder.
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o711)).unwrap();
        let options = cluster::Options {
            fsync: false,
            extra: vec![("max_connections".to_owned(), "400".to_owned())],
            ..cluster::Options::default()
        };
        let cluster = Cluster::start(&folder.join("postgres"), options).unwrap();
        remove_at_the_end(&folder, cluster.pid());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(make_template(&cluster));
        let (done_with, names) = mpsc::channel();
        let url = cluster.url(Role::Superuser, "postgres");
        thread::spawn(move || runtime.block_on(drop_databases(&url, &names)));
        Shared {
            cluster,
            folder,
            done_with,
        }
    }
}

async fn make_template(cluster: &Cluster) {
    let url = cluster.url(Role::Owner, "postgres");
    let mut connection = database::options(&url).unwrap().connect().await.unwrap();
    let create = format!("create database {TEMPLATE}");
    connection.execute(create.as_str()).await.unwrap();
    connection.close().await.unwrap();
    let options = |role| database::options(&cluster.url(role, TEMPLATE)).unwrap();
    database::migrate(Roles {
        migration: &options(Role::Owner),
        service: &options(Role::App),
        production: true,
    })
    .await
    .unwrap();
}

/// Drops databases one after the other, so that no test waits for it.
async fn drop_databases(url: &str, names: &mpsc::Receiver<String>) {
    let mut connection = database::options(url).unwrap().connect().await.unwrap();
    for name in names {
        let drop = format!("drop database if exists {name} with (force)");
        // What stays goes with the folder.
        let _ = connection.execute(drop.as_str()).await;
    }
}

/// Removes the folder when this process and then the server have ended, even if we are killed.
#[expect(
    clippy::zombie_processes,
    reason = "the watcher outlives this process: that is what it is for"
)]
fn remove_at_the_end(folder: &Path, server: u32) {
    // Nothing is written to the pipe but the start: it ends when we do.
    const WATCH: &str = "while read -r _; do :; done
        for _ in $(seq 600); do kill -0 \"$1\" 2>/dev/null || break; sleep 0.1; done
        rm -rf -- \"$0\"";
    let mut watcher = Command::new("/bin/sh")
        .args(["-c", WATCH])
        .arg(folder)
        .arg(server.to_string())
        .process_group(0)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut pipe = watcher.stdin.take().unwrap();
    writeln!(pipe, "started").unwrap();
    // Held open for as long as the process lives.
    std::mem::forget(pipe);
}
