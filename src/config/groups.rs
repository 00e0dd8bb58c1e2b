//! Settings that are read together: what one may be, or is by default, depends on another.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::IpNet;
use lettre::message::Mailbox;
use secrecy::{ExposeSecret, SecretString};
use url::Host;
use zeroize::Zeroizing;

use super::reader::Reader;
use super::{
    HashCost, Kek, KeyBytes, Passkeys, Smtp, SmtpTls, VersionedSecret, host_of, origin_of, parsed,
    values,
};
use crate::process;

/// Signs cookies in development when nothing is set; production refuses it.
pub const DEVELOPMENT_SECRET: &str = "mana-auth-development-secret-never-in-production";
/// The default secret that the Better Auth library publishes; production refuses it too.
pub const LIBRARY_SECRET: &str = "better-auth-secret-12345678901234567890";
/// The service key of every development stack (contract section 17); production refuses it.
pub const DEVELOPMENT_SERVICE_KEY: &str = "dev-service-key";
/// Shortest cookie secret in production, in characters; existing deployments run with 30.
pub const SECRET_MIN_CHARS: usize = 30;
/// Shortest service key in production, in characters.
pub const SERVICE_KEY_MIN_CHARS: usize = 16;
/// The key-encryption key of the original's test vectors (contract section 5.1); production refuses it.
pub const PUBLISHED_KEK: [u8; 32] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
    27, 28, 29, 30, 31, 32,
];
/// Id of the key-encryption key given as `MANA_AUTH_KEK`; stored beside every wrap (contract section 5.1).
pub const KEK_ID: &str = "env-v1";
/// Origins that every development stack trusts (contract section 1.3).
pub const DEVELOPMENT_TRUSTED_ORIGINS: [&str; 6] = [
    "https://mana.how",
    "https://auth.mana.how",
    "https://arcade.mana.how",
    "https://whopxl.mana.how",
    "http://localhost:3001",
    "http://localhost:5173",
];
/// Least memory of a password hash, in KiB (S-01, the OWASP floor for Argon2id).
pub const HASH_MEMORY_FLOOR_KIB: u32 = 19_456;
/// Fewest passes of a password hash (S-01).
pub const HASH_ITERATIONS_FLOOR: u32 = 2;

/// What is seen from outside: addresses, cookies and origins.
pub struct Web {
    pub host: IpAddr,
    pub port: u16,
    pub base_url: String,
    pub cookie_domain: Option<String>,
    pub cookie_prefix: String,
    pub trusted_origins: Vec<String>,
    pub cors_origins: Vec<String>,
    pub trusted_proxies: Vec<IpNet>,
    pub passkeys: Passkeys,
}

impl Web {
    /// Reads the group.
    pub fn read(reader: &mut Reader, production: bool) -> Web {
        let host = if production {
            Ipv4Addr::UNSPECIFIED
        } else {
            Ipv4Addr::LOCALHOST
        };
        let host = reader.value(
            "MANA_AUTH_HOST",
            host.into(),
            values::ip_address,
            IpAddr::to_string,
        );
        let port = reader.number("PORT", 3001, 0..=u16::MAX);
        let base_url = reader.value(
            "BASE_URL",
            "http://localhost:3001".to_owned(),
            values::base_url,
            String::clone,
        );
        if production && parsed(&base_url).scheme() == "http" {
            reader.warn(format!(
                "BASE_URL is {base_url}: without https, cookies and passwords can be read on the way"
            ));
        }
        let cookie_domain = reader.optional("COOKIE_DOMAIN", values::cookie_domain, String::clone);
        if let Some(domain) = &cookie_domain
            && !values::is_within(&host_of(&base_url).to_string(), domain)
        {
            reader.warn(format!(
                "COOKIE_DOMAIN is {domain}, but BASE_URL is not in it: browsers will drop the session cookie"
            ));
        }
        let cookie_prefix = reader.value(
            "MANA_AUTH_COOKIE_PREFIX",
            "mana".to_owned(),
            values::cookie_prefix,
            String::clone,
        );
        let default_cors = if production {
            Vec::new()
        } else {
            vec!["http://localhost:5173".to_owned()]
        };
        let cors_origins = reader.list("CORS_ORIGINS", default_cors, values::exact_origin);
        let well_known: &[&str] = if production {
            &[]
        } else {
            &DEVELOPMENT_TRUSTED_ORIGINS
        };
        let mut default_trusted: Vec<String> = well_known.iter().map(ToString::to_string).collect();
        add_missing(&mut default_trusted, &[origin_of(&base_url)]);
        add_missing(&mut default_trusted, &cors_origins);
        let mut trusted_origins =
            reader.list("TRUSTED_ORIGINS", default_trusted, values::origin_pattern);
        add_missing(&mut trusted_origins, &[origin_of(&base_url)]);
        let trusted_proxies = reader.list("MANA_AUTH_TRUSTED_PROXIES", Vec::new(), values::network);
        let passkeys = read_passkeys(
            reader,
            &base_url,
            cookie_domain.as_deref(),
            &[&trusted_origins, &cors_origins],
        );
        Web {
            host,
            port,
            base_url,
            cookie_domain,
            cookie_prefix,
            trusted_origins,
            cors_origins,
            trusted_proxies,
            passkeys,
        }
    }
}

/// Passkeys: of which domain, and on which of its pages.
fn read_passkeys(
    reader: &mut Reader,
    base_url: &str,
    cookie_domain: Option<&str>,
    known_origins: &[&Vec<String>],
) -> Passkeys {
    let default_id = match cookie_domain {
        Some(domain) => domain.trim_start_matches('.').to_owned(),
        None => host_of(base_url).to_string(),
    };
    let rp_id = reader.value(
        "WEBAUTHN_RP_ID",
        default_id,
        |text| {
            Ok(values::cookie_domain(text)?
                .trim_start_matches('.')
                .to_owned())
        },
        String::clone,
    );
    let rp_name = reader.value(
        "WEBAUTHN_RP_NAME",
        "Mana".to_owned(),
        values::any,
        String::clone,
    );
    // A browser uses no passkey of this domain anywhere else, and a pattern is no exact origin (S-54).
    let is_ours = |origin: &&String| {
        values::exact_origin(origin).is_ok_and(|exact| {
            exact == **origin && values::is_within(&host_of(origin).to_string(), &rp_id)
        })
    };
    let mut default_origins = Vec::new();
    for origins in known_origins {
        let ours: Vec<String> = origins.iter().filter(is_ours).cloned().collect();
        add_missing(&mut default_origins, &ours);
    }
    let origins = reader.list("WEBAUTHN_ORIGIN", default_origins, values::exact_origin);
    let user_verification = reader.choice(
        "MANA_AUTH_PASSKEY_USER_VERIFICATION",
        false,
        &[("preferred", false), ("required", true)],
    );
    Passkeys {
        rp_id,
        rp_name,
        origins,
        user_verification,
    }
}

/// The databases and the roles they are reached with.
pub struct Database {
    pub service: Option<SecretString>,
    pub migration: Option<SecretString>,
    pub sync: Option<SecretString>,
}

impl Database {
    /// Reads the group.
    pub fn read(reader: &mut Reader, production: bool) -> Database {
        const ROLES: &str =
            "two roles keep the log append-only (README, section \"Database roles\")";
        let service = reader.database_url("DATABASE_URL");
        let migration = reader.database_url("MANA_AUTH_MIGRATION_URL");
        // One that cannot be read is there, and that was told: only one that nobody gave is missing.
        let broken = ["DATABASE_URL", "MANA_AUTH_MIGRATION_URL"].map(|name| reader.is_broken(name));
        match (&service, &migration) {
            (None, _) if production => {
                if !broken[0] {
                    reader.problem("DATABASE_URL", "is required in production");
                }
                if migration.is_none() && !broken[1] {
                    reader.problem(
                        "MANA_AUTH_MIGRATION_URL",
                        &format!("is required in production: {ROLES}"),
                    );
                }
            }
            (None, Some(_)) if broken[0] => {}
            (Some(_), None) if broken[1] => {}
            (None, Some(_)) => {
                reader.problem("MANA_AUTH_MIGRATION_URL", "is given without DATABASE_URL");
            }
            (Some(_), None) if production => reader.problem(
                "MANA_AUTH_MIGRATION_URL",
                &format!("is required in production: {ROLES}"),
            ),
            (Some(service), Some(migration)) if same_role(service, migration) => {
                if production {
                    reader.problem(
                        "MANA_AUTH_MIGRATION_URL",
                        &format!("has the same role as DATABASE_URL: {ROLES}"),
                    );
                } else {
                    reader.warn(format!(
                        "One database role owns and writes the log: {ROLES}"
                    ));
                }
            }
            (Some(_), None) => {
                reader.warn(format!(
                    "One database role owns and writes the log: {ROLES}"
                ));
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        Database {
            service,
            migration,
            sync: reader.database_url("SYNC_DATABASE_URL"),
        }
    }
}

/// Compares the roles of two URLs, since two spellings of one URL are still one role.
fn same_role(one: &SecretString, other: &SecretString) -> bool {
    values::database_role(one.expose_secret()) == values::database_role(other.expose_secret())
}

pub fn read_data_dir(reader: &mut Reader, env: &BTreeMap<String, String>) -> PathBuf {
    let given = reader.optional("MANA_AUTH_DATA_DIR", values::any, String::clone);
    match given
        .map(PathBuf::from)
        .or_else(|| default_data_dir(process::is_root(), env))
    {
        Some(path) => {
            reader.show_default("MANA_AUTH_DATA_DIR", path.display().to_string());
            path
        }
        None => {
            reader.problem("MANA_AUTH_DATA_DIR", "is required where HOME is not set");
            PathBuf::new()
        }
    }
}

/// Where data goes when nobody says: the system's place for root, else the person's own.
pub fn default_data_dir(is_root: bool, env: &BTreeMap<String, String>) -> Option<PathBuf> {
    if is_root {
        return Some(PathBuf::from("/var/lib/mana-auth"));
    }
    let absolute = |name: &str| {
        env.get(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let share =
        absolute("XDG_DATA_HOME").or(absolute("HOME").map(|home| home.join(".local/share")));
    share.map(|share| share.join("mana-auth"))
}

pub fn read_session_secrets(reader: &mut Reader, production: bool) -> Vec<VersionedSecret> {
    const ONE: &str = "BETTER_AUTH_SECRET";
    const MANY: &str = "BETTER_AUTH_SECRETS";
    let one = reader.secret(ONE);
    let many = reader.secret(MANY);
    let (name, secrets) = match (one, many) {
        (Some(_), Some(_)) => {
            reader.problem(MANY, "and BETTER_AUTH_SECRET exclude each other");
            return Vec::new();
        }
        (Some(secret), None) => (
            ONE,
            vec![VersionedSecret {
                version: None,
                secret,
            }],
        ),
        (None, Some(list)) => match values::versioned_secrets(list.expose_secret()) {
            Ok(secrets) => (MANY, secrets),
            Err(problem) => {
                reader.problem(MANY, &problem);
                return Vec::new();
            }
        },
        (None, None) if reader.is_broken(ONE) || reader.is_broken(MANY) => return Vec::new(),
        (None, None) if production => {
            reader.problem(
                ONE,
                "is required in production, with at least 30 characters",
            );
            return Vec::new();
        }
        (None, None) => {
            reader.show_default(ONE, "***".to_owned());
            reader.warn(format!(
                "{ONE} is not set: cookies are signed with a published development secret"
            ));
            let secret = SecretString::from(DEVELOPMENT_SECRET);
            (
                ONE,
                vec![VersionedSecret {
                    version: None,
                    secret,
                }],
            )
        }
    };
    if production {
        for VersionedSecret { secret, .. } in &secrets {
            let secret = secret.expose_secret();
            if secret.chars().count() < SECRET_MIN_CHARS {
                reader.problem(
                    name,
                    "is too short: production wants at least 30 characters",
                );
            } else if secret == DEVELOPMENT_SECRET || secret == LIBRARY_SECRET {
                reader.problem(name, "is a published default, which production refuses");
            }
        }
    }
    secrets
}

pub fn read_keks(reader: &mut Reader, production: bool) -> Vec<Kek> {
    const ONE: &str = "MANA_AUTH_KEK";
    const MANY: &str = "MANA_AUTH_KEKS";
    let one = reader.secret(ONE);
    let many = reader.secret(MANY);
    let (name, keks) = match (one, many) {
        (Some(_), Some(_)) => {
            reader.problem(MANY, "and MANA_AUTH_KEK exclude each other");
            return Vec::new();
        }
        (Some(text), None) => {
            let key = values::key_bytes(text.expose_secret());
            (
                ONE,
                key.map(|key| {
                    vec![Kek {
                        id: KEK_ID.to_owned(),
                        key,
                    }]
                }),
            )
        }
        (None, Some(list)) => (MANY, values::keks(list.expose_secret())),
        (None, None) if reader.is_broken(ONE) || reader.is_broken(MANY) => return Vec::new(),
        (None, None) if production => {
            reader.problem(ONE, "is required in production: 32 bytes in Base64");
            return Vec::new();
        }
        (None, None) => {
            reader.show_default(ONE, "***".to_owned());
            reader.warn(format!(
                "{ONE} is not set: stored keys are wrapped with 32 zero bytes"
            ));
            let key = KeyBytes(Zeroizing::new([0; 32]));
            return vec![Kek {
                id: KEK_ID.to_owned(),
                key,
            }];
        }
    };
    match keks {
        Ok(keks) => {
            for kek in keks.iter().filter(|kek| kek.key.expose() == &[0; 32]) {
                reader.warn(format!(
                    "{name}: THE KEY {} IS ALL ZERO. Everybody can open what it wraps; rotate it now",
                    kek.id
                ));
            }
            if production && keks.iter().any(|kek| kek.key.expose() == &PUBLISHED_KEK) {
                reader.problem(name, "has a published key, which production refuses");
            }
            keks
        }
        Err(problem) => {
            reader.problem(name, &problem);
            Vec::new()
        }
    }
}

pub fn read_service_key(reader: &mut Reader, production: bool) -> SecretString {
    const NAME: &str = "MANA_SERVICE_KEY";
    let key = reader.secret(NAME);
    if production && !reader.is_broken(NAME) {
        match key.as_ref().map(ExposeSecret::expose_secret) {
            None => reader.problem(
                NAME,
                "is required in production, with at least 16 characters",
            ),
            Some(DEVELOPMENT_SERVICE_KEY) => {
                reader.problem(NAME, "is a published default, which production refuses");
            }
            Some(key) if key.chars().count() < SERVICE_KEY_MIN_CHARS => {
                reader.problem(
                    NAME,
                    "is too short: production wants at least 16 characters",
                );
            }
            Some(_) => {}
        }
    }
    key.unwrap_or_else(|| {
        if !production {
            reader.show_default(NAME, "***".to_owned());
            reader.warn(format!(
                "{NAME} is not set: internal routes open to a published key"
            ));
        }
        SecretString::from(DEVELOPMENT_SERVICE_KEY)
    })
}

/// `BASE_URL` wins over `JWT_ISSUER`, as verifiers are configured with the former (contract section 2.1).
pub fn read_jwt_issuer(reader: &mut Reader, base_url: &str) -> String {
    let given = reader.optional("JWT_ISSUER", values::any, String::clone);
    if !reader.is_set("BASE_URL") {
        return given.unwrap_or_else(|| {
            reader.show_default("JWT_ISSUER", base_url.to_owned());
            base_url.to_owned()
        });
    }
    match given {
        Some(issuer) if issuer != base_url => {
            reader.show_ignored("JWT_ISSUER", base_url.to_owned());
            reader.warn(format!(
                "JWT_ISSUER is ignored: tokens are issued by BASE_URL, {base_url}"
            ));
        }
        Some(_) => {}
        None => reader.show_default("JWT_ISSUER", base_url.to_owned()),
    }
    base_url.to_owned()
}

pub fn read_smtp(reader: &mut Reader, production: bool) -> Option<Smtp> {
    let host = reader.optional("SMTP_HOST", values::smtp_host, String::clone);
    let port = reader.number("SMTP_PORT", 587, 1..=u16::MAX);
    let user = reader.optional("SMTP_USER", values::any, String::clone);
    let pass = reader.secret("SMTP_PASS");
    let default_tls = if port == 465 {
        SmtpTls::Tls
    } else {
        SmtpTls::StartTls
    };
    let tls = reader.choice(
        "MANA_AUTH_SMTP_TLS",
        default_tls,
        &[
            ("starttls", SmtpTls::StartTls),
            ("tls", SmtpTls::Tls),
            ("none", SmtpTls::Plain),
        ],
    );
    let login = match (user, pass) {
        (Some(user), Some(pass)) => Some((user, pass)),
        (Some(_), None) if !reader.is_broken("SMTP_PASS") => {
            reader.problem("SMTP_PASS", "is missing beside SMTP_USER");
            None
        }
        (None, Some(_)) => {
            reader.problem("SMTP_USER", "is missing beside SMTP_PASS");
            None
        }
        (Some(_), None) | (None, None) => None,
    };
    let Some(host) = host else {
        if production && !reader.is_broken("SMTP_HOST") {
            reader.problem("SMTP_HOST", "is required in production");
        }
        return None;
    };
    if production && tls == SmtpTls::Plain && !values::is_loopback(&host) {
        reader.problem(
            "MANA_AUTH_SMTP_TLS",
            "may be none only for a loopback SMTP_HOST",
        );
    }
    Some(Smtp {
        host,
        port,
        login,
        tls,
    })
}

/// The sender when nobody names one; its domain is the host that links point to.
pub fn default_mail_from(base_url: &str) -> Mailbox {
    // An address literal such as noreply@[192.0.2.1] is no sender that mail servers take.
    let domain = match host_of(base_url) {
        Host::Domain(domain) => domain,
        Host::Ipv4(_) | Host::Ipv6(_) => "localhost".to_owned(),
    };
    let address = lettre::Address::new("noreply", domain)
        .or_else(|_| lettre::Address::new("noreply", "localhost"))
        .expect("noreply@localhost is an address");
    Mailbox::new(Some("Mana".to_owned()), address)
}

pub fn read_hash_cost(reader: &mut Reader) -> HashCost {
    HashCost {
        memory_kib: reader.number(
            "MANA_AUTH_HASH_MEMORY_KIB",
            HASH_MEMORY_FLOOR_KIB,
            HASH_MEMORY_FLOOR_KIB..=4_194_304,
        ),
        iterations: reader.number(
            "MANA_AUTH_HASH_ITERATIONS",
            HASH_ITERATIONS_FLOOR,
            HASH_ITERATIONS_FLOOR..=100,
        ),
        parallelism: reader.number("MANA_AUTH_HASH_PARALLELISM", 1, 1..=64),
    }
}

fn add_missing(list: &mut Vec<String>, more: &[String]) {
    for entry in more {
        if !list.contains(entry) {
            list.push(entry.clone());
        }
    }
}

pub fn cores() -> u32 {
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    u32::try_from(cores).unwrap_or(u32::MAX / 2)
}
