//! The real binary under load, killed at random together with its PostgreSQL or alone: what was acknowledged stays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use mana_auth::app::{self, Parts};
use mana_auth::clock::Clock;
use mana_auth::cluster::{Cluster, Role};
use mana_auth::config::Config;
use mana_auth::{database, rebuild};
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::harness::{Shared, wait_until};
use crate::tables::assert_dense;

/// Clients that sign up, look and sign out without pause.
const CLIENTS: usize = 6;
/// Starts the service so that it does not outlive the thread of the test.
const START: &str =
    "if command -v setpriv >/dev/null; then exec setpriv --pdeathsig KILL -- \"$0\" serve; fi
    exec \"$0\" serve";

/// The service as an operator runs it, with a private cluster.
struct Service {
    folder: PathBuf,
    base: String,
    port: u16,
    client: reqwest::Client,
    process: Option<Child>,
}

impl Service {
    fn new() -> Service {
        let folder = Shared::get().folder.join("crash");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o711)).unwrap();
        // Free just now, and nobody else on this machine asks for it by number.
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        Service {
            folder,
            base: format!("http://127.0.0.1:{port}"),
            port,
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()
                .unwrap(),
            process: None,
        }
    }

    async fn start(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("service.log"))
            .unwrap();
        let process = Command::new("/bin/sh")
            .args(["-c", START, env!("CARGO_BIN_EXE_mana-auth")])
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("NODE_ENV", "test")
            .env("PORT", self.port.to_string())
            .env("MANA_AUTH_DATA_DIR", self.folder.join("data"))
            .env("MANA_AUTH_HASH_THREADS", "2")
            .env("MANA_AUTH_RATE_LIMIT", "off")
            .env("MANA_AUTH_TRUSTED_PROXIES", "127.0.0.0/8")
            .env("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", "false")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(process);
        let ready = format!("{}/health/ready", self.base);
        wait_until("the service is ready", async || {
            let answer = self.client.get(&ready).send().await;
            answer.is_ok_and(|answer| answer.status() == 200)
        })
        .await;
    }

    /// Kills the service as no handler can notice.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Kills the service's PostgreSQL in the same way.
    fn kill_postgres(&self) {
        let file = self.folder.join("data/postgres/postmaster.pid");
        let text = fs::read_to_string(file).unwrap();
        let pid = text.lines().next().unwrap();
        let kill = Command::new("/bin/sh")
            .args(["-c", "kill -9 \"$0\"", pid])
            .status();
        assert!(kill.unwrap().success());
    }

    fn cluster(&self) -> PathBuf {
        self.folder.join("data/postgres")
    }

    async fn post(&self, path: &str, token: Option<&str>, body: Value) -> Option<Value> {
        let request = self.client.post(format!("{}{path}", self.base)).json(&body);
        // From an address, so that there are devices.
        let request = request.header("x-forwarded-for", "203.0.113.5");
        let request = match token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let answer = request.send().await.ok()?;
        // An answer that breaks off is none.
        (answer.status() == 200).then_some(answer.json().await.ok()?)
    }

    /// The session of a token: `null` where there is none.
    async fn session(&self, token: &str) -> Option<Value> {
        let url = format!("{}/api/auth/get-session", self.base);
        let answer = self.client.get(url).bearer_auth(token).send().await.ok()?;
        (answer.status() == 200).then_some(answer.json().await.ok()?)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.join("service.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("{}", lines[lines.len().saturating_sub(20)..].join("\n"));
        }
        self.kill();
    }
}

/// What a client was told of a session.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Known {
    Started,
    /// Asked to end, without an answer: it may have ended or not.
    Unsure,
    Ended,
}

/// An acknowledged sign-up.
struct Account {
    email: String,
    user: String,
    token: String,
    known: Known,
}

/// Signs up and out until told to stop; an account enters `accounts` when its sign-up was acknowledged.
async fn load(
    service: &Service,
    client: usize,
    accounts: &Mutex<Vec<Account>>,
    go_on: &AtomicBool,
) {
    let mut number = 0;
    while go_on.load(Ordering::SeqCst) {
        number += 1;
        let email = format!(
            "crash-{client}-{number}-{}@people.example",
            accounts.lock().unwrap().len()
        );
        let body = json!({ "name": "Ada", "email": email, "password": password(&email) });
        let Some(answer) = service.post("/api/auth/sign-up/email", None, body).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        let token = answer["token"].as_str().unwrap().to_owned();
        let account = Account {
            email,
            user: answer["user"]["id"].as_str().unwrap().to_owned(),
            token: token.clone(),
            known: Known::Started,
        };
        let place = {
            let mut accounts = accounts.lock().unwrap();
            accounts.push(account);
            accounts.len() - 1
        };
        if number % 2 == 0 {
            accounts.lock().unwrap()[place].known = Known::Unsure;
            let answer = service
                .post("/api/auth/sign-out", Some(&token), json!({}))
                .await;
            if answer.is_some_and(|answer| answer["success"] == true) {
                accounts.lock().unwrap()[place].known = Known::Ended;
            }
        }
    }
}

/// Nobody's address is in their password: the service would refuse it.
fn password(email: &str) -> String {
    let mut hash = DefaultHasher::new();
    email.hash(&mut hash);
    format!("{:032x}", hash.finish())
}

/// I-1, I-2, I-3 and I-8: no acknowledged fact is lost, positions stay dense, and read models equal a rebuild.
#[tokio::test(flavor = "multi_thread")]
async fn killing_service_and_postgres_at_random_loses_nothing_that_was_acknowledged() {
    let crashes = if crate::is_long() { 50 } else { 4 };
    let mut service = Service::new();
    service.start().await;
    let mut accounts = Mutex::new(Vec::new());
    for crash in 0..crashes {
        let acknowledged = accounts.lock().unwrap().len();
        let go_on = AtomicBool::new(true);
        let clients = (0..CLIENTS).map(|client| load(&service, client, &accounts, &go_on));
        // A different moment each time, and never before the load is there.
        let pause = Duration::from_millis(200 + 41 * (crash as u64 * 7 % 23));
        let strike = async {
            wait_until("clients are served", async || {
                accounts.lock().unwrap().len() > acknowledged
            })
            .await;
            tokio::time::sleep(pause).await;
            if crash % 2 == 1 {
                service.kill_postgres();
            } else {
                let process = service.process.as_ref().unwrap().id().to_string();
                let kill = Command::new("/bin/sh")
                    .args(["-c", "kill -9 \"$0\"", &process])
                    .status();
                assert!(kill.unwrap().success());
            }
            go_on.store(false, Ordering::SeqCst);
        };
        tokio::join!(join_all(clients), strike);
        // Without its database the service is of no use either; where it was killed, this buries it.
        service.kill();
        service.start().await;
        for account in &accounts.get_mut().unwrap()[acknowledged..] {
            assert_stands(&service, account).await;
        }
    }
    let accounts = accounts.into_inner().unwrap();
    println!(
        "{} sign-ups acknowledged over {crashes} crashes",
        accounts.len()
    );
    assert!(accounts.len() > crashes);
    for account in &accounts {
        assert_stands(&service, account).await;
    }
    let body = |email: &str| json!({ "email": email, "password": password(email) });
    for account in accounts.iter().rev().take(5) {
        let signed_in = service
            .post("/api/auth/sign-in/email", None, body(&account.email))
            .await;
        assert_eq!(signed_in.unwrap()["user"]["id"], account.user.as_str());
    }
    let admin = database::options(&Cluster::url_in(&service.cluster(), Role::Superuser).unwrap());
    assert_dense(&PgPool::connect_with(admin.unwrap()).await.unwrap()).await;
    assert_equal_to_a_rebuild(&service).await;
}

async fn assert_stands(service: &Service, account: &Account) {
    let session = service.session(&account.token).await.unwrap();
    match account.known {
        Known::Started => assert_eq!(
            session["user"]["id"],
            account.user.as_str(),
            "{} signed up",
            account.email
        ),
        Known::Ended => assert_eq!(session, Value::Null, "{} signed out", account.email),
        Known::Unsure => {}
    }
}

/// As another node would, this process folds the whole log and compares.
async fn assert_equal_to_a_rebuild(service: &Service) {
    let url = Cluster::url_in(&service.cluster(), Role::App).unwrap();
    let values: BTreeMap<String, String> = [
        ("DATABASE_URL", url.clone()),
        ("MANA_AUTH_DATA_DIR", data_of_another_node(&service.folder)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    let config = Config::from_values(&values, None).unwrap();
    let options = database::options(&url).unwrap();
    let parts = Parts {
        clock: Clock::system(),
        database: options.clone(),
    };
    let (app, tasks) = app::start(config, parts).await.unwrap();
    for model in projections::ALL {
        let compared = rebuild::compare(&app.store, &options, model, |_| {})
            .await
            .unwrap();
        assert_eq!(
            compared.differing, [""; 0],
            "{} equals a rebuild",
            model.name
        );
        // Nobody here deletes their account, has more than a password or a vault, or belongs to an organization.
        let is_used = !["erasures", "passkeys", "api_keys", "vault_audit"].contains(&model.name)
            && model.streams != ["organization"];
        let has_rows = compared.rows > 0 || !is_used;
        assert!(has_rows, "{} has rows", model.name);
    }
    tasks.stop(app).await;
}

fn data_of_another_node(folder: &Path) -> String {
    folder.join("other").display().to_string()
}
