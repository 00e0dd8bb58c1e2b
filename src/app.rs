//! App: the handles that everything else works with, and how they come up.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use metrics_exporter_prometheus::PrometheusHandle;
use secrecy::ExposeSecret as _;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::config::{Config, SmtpTls as ConfiguredTls};
use crate::crypto::aead::{self, Key32};
use crate::crypto::cookies::CookieSigner;
use crate::crypto::password::breach::BreachFilter;
use crate::crypto::password::{HashParams, Passwords};
use crate::custody::Custody;
use crate::mail::{Mailbox, Mailer, SmtpMailer, SmtpSettings, SmtpTls};
use crate::oauth::Providers;
use crate::outgoing::Outgoing;
use crate::sessions::Sessions;
use crate::signing::Signing;
use crate::store::claims::Claims;
use crate::store::together::Together;
use crate::store::{Store, head, log};
use crate::transparency::{builder, checkpoints};
use crate::vault::{Remembered, Stored};
use crate::{effects, erasure, follower, keks, maintenance, telemetry};

/// Passwords that may wait to be hashed, per thread; about two seconds of work.
const HASH_QUEUE_PER_THREAD: usize = 32;
/// Id of the service's root secret in custody.
const ROOT_ID: &str = "root-1";
/// What background work has in hand may take this long at a stop; leases and later rounds see to the rest.
const WORKERS_TIMEOUT: Duration = Duration::from_secs(5);
/// What is queued for the log may take this long after that.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// And the connections of the pool this long, until they are given back.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The running service. Shared as `Arc<App>`.
pub struct App {
    /// What was configured.
    pub config: Config,
    /// Connections for requests.
    pub pool: PgPool,
    /// The log.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// The password hasher.
    pub passwords: Passwords,
    /// Passwords that are refused because others know them; `None` if nobody named a list (S-06).
    pub breached: Option<BreachFilter>,
    /// Signs cookies.
    pub cookies: CookieSigner,
    /// Sign the links in mails; the first signs, all verify.
    mail_secrets: Vec<Zeroizing<String>>,
    /// Live sessions.
    pub sessions: Sessions,
    /// Reads vaults by their owners.
    pub vaults: Together<String, Stored>,
    /// Vaults as they were seen last.
    pub remembered_vaults: Arc<Remembered>,
    /// Access tokens.
    pub signing: Signing,
    /// Where mails go.
    pub mailer: Mailer,
    /// Calls to other services.
    pub http: reqwest::Client,
    /// Other providers that people sign in by.
    pub providers: Providers,
    /// Keys what must not be guessed: idempotency keys, counters.
    pub root: Key32,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

impl App {
    /// A hash of `parts` that nobody can guess who does not know the service's root secret.
    pub fn keyed_hash(&self, parts: &[&str]) -> [u8; 32] {
        aead::hmac_sha256(self.root.expose(), parts)
    }

    /// The secrets that sign the links in mails; the first signs, all verify.
    pub fn mail_secrets(&self) -> &[Zeroizing<String>] {
        &self.mail_secrets
    }
}

/// The service's background work; stopped last.
pub struct Tasks {
    stop: watch::Sender<bool>,
    workers: JoinSet<()>,
    followers: Vec<JoinHandle<()>>,
    appender: JoinHandle<()>,
}

impl Tasks {
    /// Finishes what is in hand: effects first, then everything queued for the log, each within a limit of its own. The
    /// caller has let go of the `App` by then, or the appender would wait for it.
    pub async fn stop(mut self, app: Arc<App>) {
        let _ = self.stop.send(true);
        let ended = async { while self.workers.join_next().await.is_some() {} };
        if timeout(WORKERS_TIMEOUT, ended).await.is_err() {
            tracing::info!("background work that still runs is left to its leases");
            self.workers.shutdown().await;
        }
        for follower in self.followers {
            follower.abort();
            let _ = follower.await;
        }
        let (pool, ring) = (app.pool.clone(), app.store.custody().ring());
        drop(app);
        // Requests that were cut off may keep it from its end, with nothing to write any more.
        if timeout(DRAIN_TIMEOUT, self.appender).await.is_err() {
            tracing::warn!(
                "what may still be queued for the log is dropped; its callers have no answer"
            );
        }
        if let Err(error) = keks::note_seals(&pool, &ring).await {
            tracing::warn!(error = %error, "seals of this process are not counted");
        }
        let _ = timeout(CLOSE_TIMEOUT, pool.close()).await;
    }
}

/// How the parts of an `App` are to be made, beside its configuration.
pub struct Parts {
    /// The machine's clock, or one that tests hold.
    pub clock: Clock,
    /// The service's role.
    pub database: PgConnectOptions,
}

/// Brings the service up on a database that is migrated.
///
/// # Errors
/// When a part cannot be made; the message says which.
pub async fn start(config: Config, parts: Parts) -> anyhow::Result<(Arc<App>, Tasks)> {
    let (app, appender) = assemble(config, parts).await?;
    // Whoever was erased stays erased, also after a restore, before anybody is answered.
    erasure::replay(&app)
        .await
        .context("replaying the erasure ledger")?;
    let (pool, freshness) = (app.pool.clone(), app.store.freshness().clone());
    let (custody, vaults) = (app.store.custody().clone(), app.remembered_vaults.clone());
    let recent = app.store.recent().clone();
    freshness.on_event(move |id, event_type, position| {
        vaults.hear(id, event_type, position);
        if event_type == log::ERASURE {
            custody.forget(id);
            recent.clear();
        }
    });
    let (stop, stopped) = watch::channel(false);
    let mut workers = JoinSet::new();
    workers.spawn(effects::work(app.clone(), stopped.clone()));
    workers.spawn(maintenance::work(app.clone(), stopped.clone()));
    workers.spawn(builder::work(app.clone(), stopped.clone()));
    workers.spawn(follower::work(app.clone(), stopped.clone()));
    workers.spawn(keks::work(app.clone(), stopped));
    let followers = vec![
        tokio::spawn(head::follow(pool.clone(), freshness.clone())),
        tokio::spawn(head::notify(pool, freshness)),
    ];
    Ok((
        app,
        Tasks {
            stop,
            workers,
            followers,
            appender,
        },
    ))
}

/// Makes the same parts for one command at the command line. Mails and chores stay with the service: a
/// command that took a mail from the queue could put it only into a mailbox that ends with the command.
///
/// # Errors
/// When a part cannot be made; the message says which.
pub async fn for_command(config: Config, parts: Parts) -> anyhow::Result<(Arc<App>, Tasks)> {
    let (app, appender) = assemble(config, parts).await?;
    Ok((
        app,
        Tasks {
            stop: watch::Sender::new(false),
            workers: JoinSet::new(),
            followers: vec![],
            appender,
        },
    ))
}

async fn assemble(config: Config, parts: Parts) -> anyhow::Result<(Arc<App>, JoinHandle<()>)> {
    let Parts { clock, database } = parts;
    let breached = breached(&config).await?;
    // The HTTP client asks the process for its cryptography; where it is set already, this changes nothing.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let pool = crate::database::pool(&database, config.database_pool);
    let ring = keks::join(&pool, &config)
        .await
        .context("looking at the key-encryption keys")?;
    let custody = Custody::new(pool.clone(), ring);
    let claims = Claims::open(pool.clone(), &custody)
        .await
        .context("opening the claims pepper")?;
    let root = custody
        .service_secret(ROOT_ID)
        .await
        .context("opening the root secret")?;
    custody
        .ensure_data_key(effects::REQUESTS)
        .await
        .context("opening the key of queued requests")?;
    checkpoints::ensure_key(&custody)
        .await
        .context("opening the key of the transparency log")?;
    let node = crate::crypto::tokens::random_token(8);
    let (store, appender) = Store::start(pool.clone(), &database, custody, claims, node);
    let signing = Signing::open(pool.clone(), store.clone(), clock.clone())
        .await
        .context("opening the signing keys")?;
    let params = HashParams {
        memory_kib: config.hash.memory_kib,
        iterations: config.hash.iterations,
        parallelism: config.hash.parallelism,
    };
    let threads = config.hash_threads as usize;
    let passwords = Passwords::new(params, threads, threads * HASH_QUEUE_PER_THREAD)
        .context("starting the password hasher")?;
    let mail_secrets: Vec<Zeroizing<String>> = config
        .session_secrets
        .iter()
        .map(|s| Zeroizing::new(s.secret.expose_secret().to_owned()))
        .collect();
    let freshness = store.freshness().clone();
    let outgoing = Outgoing::new(config.allow_private_providers)
        .context("making the HTTP client for other providers")?;
    let app = Arc::new(App {
        cookies: CookieSigner::new(
            &mail_secrets
                .iter()
                .map(|s| s.as_bytes())
                .collect::<Vec<_>>(),
        ),
        mail_secrets,
        sessions: Sessions::new(pool.clone(), freshness),
        vaults: Together::default(),
        remembered_vaults: Arc::default(),
        mailer: mailer(&config, &clock)?,
        http: reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("making the HTTP client")?,
        providers: Providers::new(config.providers.clone(), outgoing, &config.base_url),
        metrics: telemetry::metrics(),
        config,
        pool,
        store,
        clock,
        passwords,
        breached,
        signing,
        root,
    });
    Ok((app, appender))
}

async fn breached(config: &Config) -> anyhow::Result<Option<BreachFilter>> {
    let Some(path) = config.breached_passwords.clone() else {
        return Ok(None);
    };
    let context = format!("opening MANA_AUTH_BREACHED_PASSWORDS, {}", path.display());
    // A long list takes seconds to read.
    let opened = tokio::task::spawn_blocking(move || BreachFilter::open(&path)).await?;
    let filter = opened.context(context)?;
    tracing::info!(entries = filter.entries(), "breached passwords are refused");
    Ok(Some(filter))
}

fn mailer(config: &Config, clock: &Clock) -> anyhow::Result<Mailer> {
    let Some(smtp) = &config.smtp else {
        let clock = clock.clone();
        return Ok(Mailer::Mailbox(Mailbox::new(move || clock.now())));
    };
    let (user, password) = smtp.login.clone().unzip();
    let tls = match smtp.tls {
        ConfiguredTls::StartTls => SmtpTls::StartTls,
        ConfiguredTls::Tls => SmtpTls::Implicit,
        ConfiguredTls::Plain => SmtpTls::None,
    };
    let settings = SmtpSettings {
        host: smtp.host.clone(),
        port: smtp.port,
        tls,
        user,
        password,
    };
    Ok(Mailer::Smtp(
        SmtpMailer::new(settings).context("setting up SMTP")?,
    ))
}
