//! The configuration: one struct, read once at start from the environment and an optional TOML file.
//!
//! Nothing else in the crate reads environment variables. All problems are reported together, one line each, and no
//! message, `Debug` text or `config show` line holds a secret.

mod groups;
mod providers;
mod reader;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use lettre::message::Mailbox;
use secrecy::SecretString;
use url::{Host, Url};
use zeroize::Zeroizing;

use groups::{Database, Web};
pub use providers::Provider;
use reader::Reader;

/// Everything that an operator can set; each field names its variable, unit and default.
#[derive(Clone)]
pub struct Config {
    /// `NODE_ENV`: `development` (also `test`) or `production`; default `development`.
    pub environment: Environment,
    /// `MANA_AUTH_HOST`: address to listen on; default 127.0.0.1, in production 0.0.0.0.
    pub host: IpAddr,
    /// `PORT`: TCP port to listen on, 0 for any free one; default 3001.
    pub port: u16,
    /// `BASE_URL`: scheme, host and port under which clients reach us, without a trailing slash; issuer of tokens and
    /// start of every link; default `http://localhost:3001`.
    pub base_url: String,
    /// `COOKIE_DOMAIN`: domain that shares the session cookie, such as `.mana.how`; default none (host only).
    pub cookie_domain: Option<String>,
    /// `MANA_AUTH_COOKIE_PREFIX`: first part of cookie names; default `mana`.
    pub cookie_prefix: String,
    /// `TRUSTED_ORIGINS` and the origin of `BASE_URL`: patterns with `*` and `?`; default: the well-known ones in
    /// development and `CORS_ORIGINS`.
    pub trusted_origins: Vec<String>,
    /// `CORS_ORIGINS`: exact origins that may read answers with credentials; default `http://localhost:5173` in
    /// development, none in production.
    pub cors_origins: Vec<String>,
    /// `MANA_AUTH_TRUSTED_PROXIES`: networks whose `X-Forwarded-For` is believed (S-16); default none.
    pub trusted_proxies: Vec<IpNet>,
    /// `MANA_AUTH_RATE_LIMIT`: whether requests are limited; default on.
    pub rate_limit: bool,
    /// Passkeys.
    pub passkeys: Passkeys,

    /// `DATABASE_URL`: the service's role, which may only read and insert on the log; default none: a private cluster.
    pub database_url: Option<SecretString>,
    /// `MANA_AUTH_MIGRATION_URL`: the role that owns the schema; default none: `DATABASE_URL` migrates (development).
    pub migration_url: Option<SecretString>,
    /// `SYNC_DATABASE_URL`: database of the sync service, asked for personal data; default none.
    pub sync_database_url: Option<SecretString>,
    /// `MANA_AUTH_DATABASE_POOL`: most connections of this node; default 2 for each core, at least 4.
    pub database_pool: u32,
    /// `MANA_AUTH_DATA_DIR`: folder for the private cluster and small files; default `/var/lib/mana-auth` for root,
    /// else `mana-auth` in `$XDG_DATA_HOME` or `~/.local/share`.
    pub data_dir: PathBuf,

    /// `BETTER_AUTH_SECRET` or `BETTER_AUTH_SECRETS`: cookie secrets; the first signs, all verify (S-87). Never empty.
    pub session_secrets: Vec<VersionedSecret>,
    /// `MANA_AUTH_KEK` (id `env-v1`) or `MANA_AUTH_KEKS`: key-encryption keys. Which one wraps stands in the database; in
    /// a new one the first does. Never empty.
    pub keks: Vec<Kek>,
    /// `MANA_AUTH_KEKS_FILE`: where they came from, and more may come from while the service runs.
    pub keks_file: Option<PathBuf>,
    /// `MANA_SERVICE_KEY`: what other services send us in `X-Service-Key`, and we them.
    pub service_key: SecretString,
    /// `MANA_CREDITS_URL`: the credits service; default none: it is not called.
    pub credits_url: Option<Url>,
    /// `MANA_SUBSCRIPTIONS_URL`: the subscriptions service; default none: it is not called.
    pub subscriptions_url: Option<Url>,

    /// `iss` of tokens: `BASE_URL` when set, else `JWT_ISSUER`, else the default of `BASE_URL`.
    pub jwt_issuer: String,
    /// `JWT_AUDIENCE`: `aud` of tokens; default `mana`, which verifiers have built in.
    pub jwt_audience: String,
    /// `JWT_EXTRA_CLAIMS` holds `tier`: tokens carry the tier; default no.
    pub jwt_tier: bool,

    /// `AUTH_ERROR_SHAPE`: what `error` holds in bodies of `/api/v1/auth/*`; default `v1`.
    pub error_shape: ErrorShape,
    /// `REGISTER_ENUMERATION_SAFE`: registering a known address looks like success; default false.
    pub register_enumeration_safe: bool,
    /// `MANA_AUTH_REQUIRE_EMAIL_VERIFICATION`: sign-in waits for a verified address; default true.
    pub require_email_verification: bool,
    /// `MANA_AUTH_SEND_ON_SIGN_IN`: an unverified sign-in sends the verification mail again; default false.
    pub send_on_sign_in: bool,
    /// `MANA_AUTH_CHANGE_EMAIL_CONFIRM`: a verified address has to agree before a new one is mailed (S-61); default
    /// true.
    pub change_email_confirm: bool,
    /// `MANA_AUTH_DELETE_USER_CONFIRM`: accounts are deleted only by a mailed link; default false.
    pub delete_user_confirm: bool,
    /// `MANA_AUTH_MAGIC_LINK_SIGNUP`: a magic link makes an account for an address that has none; default true.
    pub magic_link_signup: bool,
    /// `MANA_AUTH_MAGIC_LINK_PAGE`: mailed magic links lead to a page that goes on by itself in a browser, so that programs
    /// which scan mails do not use them up (S-45); default true.
    pub magic_link_page: bool,
    /// `MANA_AUTH_TWO_FACTOR_OTP`: second factors may be codes in mails; default true.
    pub two_factor_otp: bool,
    /// `MANA_AUTH_TWO_FACTOR_ALWAYS`: magic links and other providers are followed by a second factor as well; default
    /// false.
    pub two_factor_always: bool,
    /// `MANA_AUTH_STEP_UP`: what changes who gets in, or what becomes of others, asks for a proof that is at most 5 minutes
    /// old (S-60); default off.
    pub step_up: bool,
    /// `MANA_AUTH_TEAMS`: organizations have teams; default false.
    pub teams: bool,
    /// `MANA_AUTH_DYNAMIC_ROLES`: organizations define roles of their own; default false.
    pub dynamic_roles: bool,
    /// `MANA_AUTH_ORG_REQUIRE_VERIFIED`: invitations are answered by verified addresses only (S-63); default as
    /// `MANA_AUTH_REQUIRE_EMAIL_VERIFICATION`.
    pub organizations_require_verified: bool,
    /// `MANA_AUTH_CANCEL_ON_REINVITE`: inviting an address again takes the first invitation back instead of being
    /// refused; default false.
    pub cancel_on_reinvite: bool,
    /// `MANA_AUTH_MULTI_SESSION`: several people may be signed in on one device; default false.
    pub multi_session: bool,
    /// `MANA_AUTH_VAULT_CHECK_MASTER_KEY`: zero-knowledge mode ends only with the key that was handed out (S-77);
    /// default false, as clients know it.
    pub vault_check_master_key: bool,
    /// `MANA_AUTH_VAULT_CHECK_RECOVERY_WRAP`: a recovery wrap is set only by whoever shows the check value of the key
    /// (S-77); default false, as clients know it.
    pub vault_check_recovery_wrap: bool,
    /// `[social.ID]` in the file, or `MANA_AUTH_SOCIAL_ID_CLIENT_ID` and so on: providers that people sign in by, by id;
    /// default none.
    pub providers: BTreeMap<String, Provider>,
    /// `MANA_AUTH_ALLOW_PRIVATE_PROVIDERS`: providers may be reached over plain http and at addresses that are not
    /// public (S-46); default false in production.
    pub allow_private_providers: bool,
    /// `MAX_DAILY_SIGNUPS`: accounts that may be made in a day (UTC), 0 for any number; default 0.
    pub max_daily_signups: u32,
    /// `MANA_AUTH_ADMIN_EMAILS`: lower-case addresses whose accounts have the role admin; default none.
    pub admin_emails: Vec<String>,

    /// `SMTP_HOST` and what belongs to it; default none: mails go to the mailbox page.
    pub smtp: Option<Smtp>,
    /// `MANA_AUTH_MAIL_FROM`: sender of mails; default `Mana <noreply@HOST-OF-BASE_URL>`.
    pub mail_from: Mailbox,

    /// Cost of new password hashes.
    pub hash: HashCost,
    /// `MANA_AUTH_HASH_THREADS`: password hashes that run at once; default the number of cores.
    pub hash_threads: u32,
    /// `MANA_AUTH_BREACHED_PASSWORDS`: file of passwords that are refused, as `mana-auth breach build` makes it (S-06);
    /// default none: only the rules about the own account hold.
    pub breached_passwords: Option<PathBuf>,

    /// `MANA_AUTH_LOG`: which log lines are written, such as `info,mana_auth=debug`; default `info`.
    pub log_filter: String,
    /// `MANA_AUTH_LOG_FORMAT`: default `auto`, text on a terminal and JSON otherwise.
    pub log_format: LogFormat,

    /// What an operator should hear at start, one sentence each; the caller logs them.
    pub warnings: Vec<String>,

    shown: Vec<(&'static str, String, Source)>,
}

/// Where the service runs; production refuses what development only warns about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Environment {
    /// A person's machine or a test: everything has a default.
    Development,
    /// Real users: secrets, keys, roles and mail must be given.
    Production,
}

/// Which text the field `error` of `/api/v1/auth/*` holds (contract section 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorShape {
    /// A sentence, as at the seed commit.
    V1,
    /// The code.
    V2,
}

/// How the connection to the mail server is secured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpTls {
    /// Plain at first, then STARTTLS, which is required.
    StartTls,
    /// TLS from the first byte.
    Tls,
    /// Not at all: only for loopback hosts or outside production.
    Plain,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text when standard error is a terminal, JSON otherwise.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where the value of a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// An environment variable.
    Env,
    /// The TOML file.
    File,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Source::Default => "default",
            Source::Env => "env",
            Source::File => "file",
        })
    }
}

/// One cookie secret.
#[derive(Clone, Debug)]
pub struct VersionedSecret {
    /// Its number in `BETTER_AUTH_SECRETS`; none for `BETTER_AUTH_SECRET`.
    pub version: Option<u32>,
    /// The secret's text.
    pub secret: SecretString,
}

/// One key-encryption key.
#[derive(Clone, Debug)]
pub struct Kek {
    /// Names the key in every wrap it made.
    pub id: String,
    /// The key.
    pub key: KeyBytes,
}

/// The key-encryption keys in a file.
///
/// # Errors
/// When it cannot be read, or is not as `MANA_AUTH_KEKS` has to be; the error says which file.
pub fn keks_in_file(path: &Path) -> Result<Vec<Kek>, String> {
    let path = path.display().to_string();
    let text = Zeroizing::new(reader::secret_in_file(&path)?);
    values::keks(&text).map_err(|problem| format!("{path}: {problem}"))
}

/// A 32-byte key that prints as `***` and is wiped when dropped.
#[derive(Clone)]
pub struct KeyBytes(Zeroizing<[u8; 32]>);

impl KeyBytes {
    /// The raw bytes, for the key ring only.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// What passkeys belong to, and where they may be used.
#[derive(Clone, Debug)]
pub struct Passkeys {
    /// `WEBAUTHN_RP_ID`: their domain; default `COOKIE_DOMAIN` without its dot, else the host of `BASE_URL`.
    pub rp_id: String,
    /// `WEBAUTHN_RP_NAME`: how browsers call it; default `Mana`.
    pub rp_name: String,
    /// `WEBAUTHN_ORIGIN`: exact origins of the pages that may use them; default those of `BASE_URL`, `TRUSTED_ORIGINS` and
    /// `CORS_ORIGINS` in that domain.
    pub origins: Vec<String>,
    /// `MANA_AUTH_PASSKEY_USER_VERIFICATION` is `required`: a passkey that has not verified its person is refused;
    /// default `preferred`.
    pub user_verification: bool,
}

/// The mail server.
#[derive(Clone, Debug)]
pub struct Smtp {
    /// `SMTP_HOST`: name or address.
    pub host: String,
    /// `SMTP_PORT`: default 587.
    pub port: u16,
    /// `SMTP_USER` and `SMTP_PASS`: default none, no authentication.
    pub login: Option<(String, SecretString)>,
    /// `MANA_AUTH_SMTP_TLS`: default `tls` on port 465, else `starttls`.
    pub tls: SmtpTls,
}

/// Cost of an Argon2id hash; start is refused below the floor (S-01).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashCost {
    /// `MANA_AUTH_HASH_MEMORY_KIB`: memory of one hash, in KiB; default and least 19456.
    pub memory_kib: u32,
    /// `MANA_AUTH_HASH_ITERATIONS`: passes; default and least 2.
    pub iterations: u32,
    /// `MANA_AUTH_HASH_PARALLELISM`: lanes; default and least 1.
    pub parallelism: u32,
}

/// Every problem of a configuration; prints one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<String>);

impl ConfigErrors {
    /// The lines, each starting with the name of its setting.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Debug for Config {
    /// Prints no values at all: several are secret or personal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").finish_non_exhaustive()
    }
}

impl Config {
    /// Reads the process environment and the TOML file named by `file`, else by `MANA_AUTH_CONFIG`.
    ///
    /// # Errors
    /// When the file cannot be read, or with all problems of its and the environment's values.
    pub fn load(file: Option<&Path>) -> Result<Config, ConfigErrors> {
        let mut env = BTreeMap::new();
        for (name, value) in std::env::vars_os() {
            let Some(name) = name.to_str().filter(|name| reader::is_of_interest(name)) else {
                continue;
            };
            let Ok(value) = value.into_string() else {
                return Err(ConfigErrors(vec![format!("{name}: is not valid UTF-8")]));
            };
            env.insert(name.to_owned(), value);
        }
        if let Some(path) = file {
            env.insert("MANA_AUTH_CONFIG".to_owned(), path.display().to_string());
        }
        let named = env.get("MANA_AUTH_CONFIG").filter(|path| !path.is_empty());
        let path = file.map(Path::to_owned).or(named.map(PathBuf::from));
        let table = path.as_deref().map(read_toml).transpose()?;
        Config::from_values(&env, table)
    }

    /// Builds the configuration from the variables in `env` and the keys in `file`; the environment wins.
    ///
    /// # Errors
    /// With every problem found, not only the first.
    pub fn from_values(
        env: &BTreeMap<String, String>,
        file: Option<toml::Table>,
    ) -> Result<Config, ConfigErrors> {
        let mut reader = Reader::new(env, file);
        let environment = reader.choice(
            "NODE_ENV",
            Environment::Development,
            &[
                ("development", Environment::Development),
                ("test", Environment::Development),
                ("production", Environment::Production),
            ],
        );
        let production = environment == Environment::Production;
        let web = Web::read(&mut reader, production);
        let database = Database::read(&mut reader, production);
        let cores = groups::cores();
        let database_pool = reader.number("MANA_AUTH_DATABASE_POOL", (2 * cores).max(4), 4..=1000);
        let data_dir = groups::read_data_dir(&mut reader, env);
        let session_secrets = groups::read_session_secrets(&mut reader, production);
        let keks = groups::read_keks(&mut reader, production);
        let service_key = groups::read_service_key(&mut reader, production);
        let credits_url = reader.optional("MANA_CREDITS_URL", values::service_url, Url::to_string);
        let subscriptions_url = reader.optional(
            "MANA_SUBSCRIPTIONS_URL",
            values::service_url,
            Url::to_string,
        );
        let jwt_issuer = groups::read_jwt_issuer(&mut reader, &web.base_url);
        let jwt_audience = reader.value(
            "JWT_AUDIENCE",
            "mana".to_owned(),
            values::any,
            String::clone,
        );
        let jwt_tier = !reader
            .list("JWT_EXTRA_CLAIMS", Vec::new(), values::extra_claim)
            .is_empty();
        let allow_private_providers =
            reader.switch("MANA_AUTH_ALLOW_PRIVATE_PROVIDERS", !production);
        if production && allow_private_providers {
            reader.warn(
                "MANA_AUTH_ALLOW_PRIVATE_PROVIDERS is on: sign-in may call addresses of the private network".to_owned(),
            );
        }
        let error_shape = reader.choice(
            "AUTH_ERROR_SHAPE",
            ErrorShape::V1,
            &[("v1", ErrorShape::V1), ("v2", ErrorShape::V2)],
        );
        let require_email_verification =
            reader.switch("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", true);
        let config = Config {
            environment,
            host: web.host,
            port: web.port,
            base_url: web.base_url.clone(),
            cookie_domain: web.cookie_domain,
            cookie_prefix: web.cookie_prefix,
            trusted_origins: web.trusted_origins,
            cors_origins: web.cors_origins,
            trusted_proxies: web.trusted_proxies,
            passkeys: web.passkeys,
            rate_limit: reader.switch("MANA_AUTH_RATE_LIMIT", true),
            database_url: database.service,
            migration_url: database.migration,
            sync_database_url: database.sync,
            database_pool,
            data_dir,
            session_secrets,
            keks,
            keks_file: reader.secret_file("MANA_AUTH_KEKS"),
            service_key,
            credits_url,
            subscriptions_url,
            jwt_issuer,
            jwt_audience,
            jwt_tier,
            error_shape,
            register_enumeration_safe: reader.switch("REGISTER_ENUMERATION_SAFE", false),
            require_email_verification,
            send_on_sign_in: reader.switch("MANA_AUTH_SEND_ON_SIGN_IN", false),
            change_email_confirm: reader.switch("MANA_AUTH_CHANGE_EMAIL_CONFIRM", true),
            delete_user_confirm: reader.switch("MANA_AUTH_DELETE_USER_CONFIRM", false),
            magic_link_signup: reader.switch("MANA_AUTH_MAGIC_LINK_SIGNUP", true),
            magic_link_page: reader.switch("MANA_AUTH_MAGIC_LINK_PAGE", true),
            two_factor_otp: reader.switch("MANA_AUTH_TWO_FACTOR_OTP", true),
            two_factor_always: reader.switch("MANA_AUTH_TWO_FACTOR_ALWAYS", false),
            step_up: reader.switch("MANA_AUTH_STEP_UP", false),
            teams: reader.switch("MANA_AUTH_TEAMS", false),
            dynamic_roles: reader.switch("MANA_AUTH_DYNAMIC_ROLES", false),
            organizations_require_verified: reader
                .switch("MANA_AUTH_ORG_REQUIRE_VERIFIED", require_email_verification),
            cancel_on_reinvite: reader.switch("MANA_AUTH_CANCEL_ON_REINVITE", false),
            multi_session: reader.switch("MANA_AUTH_MULTI_SESSION", false),
            vault_check_master_key: reader.switch("MANA_AUTH_VAULT_CHECK_MASTER_KEY", false),
            vault_check_recovery_wrap: reader.switch("MANA_AUTH_VAULT_CHECK_RECOVERY_WRAP", false),
            providers: providers::read(&mut reader, allow_private_providers),
            allow_private_providers,
            max_daily_signups: reader.number("MAX_DAILY_SIGNUPS", 0, 0..=u32::MAX),
            admin_emails: reader.list("MANA_AUTH_ADMIN_EMAILS", Vec::new(), values::email),
            smtp: groups::read_smtp(&mut reader, production),
            mail_from: reader.value(
                "MANA_AUTH_MAIL_FROM",
                groups::default_mail_from(&web.base_url),
                values::mailbox,
                Mailbox::to_string,
            ),
            hash: groups::read_hash_cost(&mut reader),
            hash_threads: reader.number("MANA_AUTH_HASH_THREADS", cores, 1..=1024),
            breached_passwords: reader
                .optional("MANA_AUTH_BREACHED_PASSWORDS", values::any, String::clone)
                .map(PathBuf::from),
            log_filter: reader.value(
                "MANA_AUTH_LOG",
                "info".to_owned(),
                values::log_filter,
                String::clone,
            ),
            log_format: reader.choice(
                "MANA_AUTH_LOG_FORMAT",
                LogFormat::Auto,
                &[
                    ("auto", LogFormat::Auto),
                    ("text", LogFormat::Text),
                    ("json", LogFormat::Json),
                ],
            ),
            warnings: Vec::new(),
            shown: Vec::new(),
        };
        reader.optional("MANA_AUTH_CONFIG", values::any, String::clone);
        let (shown, warnings) = reader.finish()?;
        Ok(Config {
            warnings,
            shown,
            ..config
        })
    }

    /// Every setting with its value, or `***` in place of a secret, and where the value came from.
    pub fn show(&self) -> Vec<(&'static str, String, Source)> {
        self.shown.clone()
    }

    /// Whether production rules hold.
    pub fn is_production(&self) -> bool {
        self.environment == Environment::Production
    }

    /// Whether clients come over https, so that cookie names carry `__Secure-` (contract section 2.4).
    pub fn secure_cookies(&self) -> bool {
        parsed(&self.base_url).scheme() == "https"
    }

    /// What stands before the dot in cookie names: `mana` or `__Secure-mana`.
    pub fn cookie_name_prefix(&self) -> String {
        let secure = if self.secure_cookies() {
            "__Secure-"
        } else {
            ""
        };
        format!("{secure}{}", self.cookie_prefix)
    }

    /// Whether cookies have the attribute `Secure`: over https, in production, and wherever `SameSite=None` needs it.
    pub fn cookie_secure_attribute(&self) -> bool {
        self.secure_cookies() || self.is_production() || self.cookie_domain.is_some()
    }

    /// The attribute `SameSite` of cookies: `None` when a domain shares them, else `Lax` (S-33).
    pub fn cookie_same_site(&self) -> &'static str {
        if self.cookie_domain.is_some() {
            "None"
        } else {
            "Lax"
        }
    }

    /// The origin of `BASE_URL` as browsers send it: lower-case, without the scheme's own port.
    pub fn base_origin(&self) -> String {
        origin_of(&self.base_url)
    }
}

/// Reads a TOML file; its errors name line and reason but never quote the line, which may hold a secret.
fn read_toml(path: &Path) -> Result<toml::Table, ConfigErrors> {
    let refuse = |reason: String| {
        ConfigErrors(vec![format!(
            "MANA_AUTH_CONFIG: {}: {reason}",
            path.display()
        )])
    };
    let text = std::fs::read_to_string(path).map_err(|error| refuse(error.to_string()))?;
    text.parse::<toml::Table>().map_err(|error| {
        let before = error
            .span()
            .and_then(|span| text.get(..span.start))
            .unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        refuse(format!("line {line} is not valid TOML"))
    })
}

/// The origin of a checked `BASE_URL`.
fn origin_of(base_url: &str) -> String {
    parsed(base_url).origin().ascii_serialization()
}

/// The host of a checked `BASE_URL`.
fn host_of(base_url: &str) -> Host<String> {
    parsed(base_url)
        .host()
        .expect("http URLs have a host")
        .to_owned()
}

fn parsed(base_url: &str) -> Url {
    Url::parse(base_url).expect("BASE_URL is checked when it is read")
}
