use std::io::Write;

use std::net::Ipv4Addr;

use secrecy::ExposeSecret;

use super::groups::{DEVELOPMENT_SECRET, DEVELOPMENT_TRUSTED_ORIGINS, LIBRARY_SECRET};
use super::groups::{cores, default_data_dir};
use super::*;

const SECRET: &str = "abcdefghijklmnopqrstuvwxyz0123";
const KEK: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER_KEK: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
const ZERO_KEK: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let home = [("HOME", "/home/ada")];
    let pairs = home.iter().chain(pairs);
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    Config::from_values(&env(pairs), None)
}

fn read_with_file(pairs: &[(&str, &str)], file: &str) -> Result<Config, ConfigErrors> {
    Config::from_values(&env(pairs), Some(file.parse().unwrap()))
}

fn problems(result: Result<Config, ConfigErrors>) -> Vec<String> {
    result.unwrap_err().problems().to_vec()
}

/// Production with everything it wants, changed by `changes`; an empty value takes a setting away.
fn production(changes: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let mut pairs = vec![
        ("NODE_ENV", "production"),
        ("BASE_URL", "https://auth.mana.how"),
        ("BETTER_AUTH_SECRET", SECRET),
        ("MANA_AUTH_KEK", KEK),
        ("MANA_SERVICE_KEY", "0123456789abcdef"),
        ("DATABASE_URL", "postgres://app:hunter2@db/mana"),
        (
            "MANA_AUTH_MIGRATION_URL",
            "postgres://owner:hunter3@db/mana",
        ),
        ("SMTP_HOST", "mail.mana.how"),
    ];
    pairs.extend_from_slice(changes);
    read(&pairs)
}

fn shown(config: &Config, name: &str) -> (String, Source) {
    let line = config.show().into_iter().find(|(shown, ..)| *shown == name);
    let (_, value, source) = line.unwrap();
    (value, source)
}

fn file_with(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

#[test]
fn nothing_set_gives_a_development_service_and_says_what_is_unsafe() {
    let config = read(&[]).unwrap();
    assert_eq!(config.environment, Environment::Development);
    assert_eq!(
        (config.host, config.port),
        (Ipv4Addr::LOCALHOST.into(), 3001)
    );
    assert_eq!(config.base_url, "http://localhost:3001");
    assert_eq!(config.jwt_issuer, "http://localhost:3001");
    assert_eq!(config.jwt_audience, "mana");
    assert_eq!(config.trusted_origins, DEVELOPMENT_TRUSTED_ORIGINS);
    assert_eq!(config.cors_origins, ["http://localhost:5173"]);
    assert!(config.trusted_proxies.is_empty() && config.rate_limit);
    assert!(config.require_email_verification && !config.send_on_sign_in);
    assert!(!config.jwt_tier && !config.register_enumeration_safe);
    assert_eq!(config.error_shape, ErrorShape::V1);
    assert!(config.database_url.is_none() && config.migration_url.is_none());
    assert!(config.smtp.is_none() && config.credits_url.is_none());
    assert_eq!(config.mail_from.to_string(), "Mana <noreply@localhost>");
    assert_eq!(config.database_pool, (2 * cores()).max(4));
    assert_eq!(config.hash_threads, cores());
    assert_eq!(config.breached_passwords, None);
    assert_eq!(config.log_format, LogFormat::Auto);
    assert_eq!(config.service_key.expose_secret(), "dev-service-key");
    assert_eq!(
        (config.keks[0].id.as_str(), config.keks[0].key.expose()),
        ("env-v1", &[0; 32])
    );
    for name in ["BETTER_AUTH_SECRET", "MANA_AUTH_KEK", "MANA_SERVICE_KEY"] {
        assert!(
            config
                .warnings
                .iter()
                .any(|warning| warning.starts_with(name)),
            "{name}"
        );
    }
    assert_eq!(config.warnings.len(), 3);
}

#[test]
fn empty_text_counts_as_unset() {
    let config = read(&[
        ("PORT", ""),
        ("MANA_AUTH_KEK", ""),
        ("MANA_AUTH_NONSENSE", ""),
    ])
    .unwrap();
    assert_eq!(shown(&config, "PORT"), ("3001".to_owned(), Source::Default));
    assert_eq!(config.warnings.len(), 3);
}

#[test]
fn all_problems_are_reported_together_one_line_each() {
    let error = read(&[
        ("PORT", "many"),
        ("BASE_URL", "ftp://x"),
        ("MANA_AUTH_RATE_LIMIT", "perhaps"),
        ("MANA_AUTH_TYPO", "1"),
        ("MANA_AUTH_HOST_FILE", "/etc/hosts"),
    ])
    .unwrap_err();
    let text = error.to_string();
    let mut names: Vec<&str> = text
        .lines()
        .map(|line| line.split_once(": ").unwrap().0)
        .collect();
    names.sort_unstable();
    let wanted = [
        "BASE_URL",
        "MANA_AUTH_HOST_FILE",
        "MANA_AUTH_RATE_LIMIT",
        "MANA_AUTH_TYPO",
        "PORT",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn bad_values_are_refused_by_name() {
    let bad = [
        ("NODE_ENV", "prod"),
        ("PORT", "65536"),
        ("BASE_URL", "https://user@mana.how"),
        ("BASE_URL", "https://mana.how/path"),
        ("BASE_URL", "https://mana.how?x"),
        ("COOKIE_DOMAIN", ".mana.how; Path=/x"),
        ("COOKIE_DOMAIN", "."),
        ("MANA_AUTH_COOKIE_PREFIX", "__Host-x"),
        ("MANA_AUTH_COOKIE_PREFIX", "a=b"),
        ("CORS_ORIGINS", "*"),
        ("CORS_ORIGINS", "https://*.mana.how"),
        ("CORS_ORIGINS", "https://mana.how/app"),
        ("TRUSTED_ORIGINS", "null"),
        ("TRUSTED_ORIGINS", "https://mana.how/app"),
        ("TRUSTED_ORIGINS", "https://*.mana.how/app"),
        ("TRUSTED_ORIGINS", "https://a b"),
        ("JWT_EXTRA_CLAIMS", "tier,role"),
        ("AUTH_ERROR_SHAPE", "v3"),
        ("REGISTER_ENUMERATION_SAFE", "maybe"),
        ("MANA_CREDITS_URL", "http://user:hunter2@credits"),
        ("MANA_CREDITS_URL", "credits:3061"),
        ("DATABASE_URL", "mysql://x/y"),
        ("SYNC_DATABASE_URL", "mana_sync"),
        ("MANA_AUTH_HOST", "localhost"),
        ("MANA_AUTH_TRUSTED_PROXIES", "10.0.0.0/33"),
        ("MANA_AUTH_ADMIN_EMAILS", "ada"),
        ("MANA_AUTH_MAIL_FROM", "ada"),
        ("MANA_AUTH_MAIL_FROM", "Ada <ada@x>\r\nBcc: <b@x>"),
        ("MANA_AUTH_KEK", "AAAA"),
        ("MANA_AUTH_KEK", "not base64!"),
        ("MANA_AUTH_KEKS", "env v2:AAAA"),
        ("BETTER_AUTH_SECRETS", "newest"),
        ("BETTER_AUTH_SECRETS", "1:a,1:b"),
        ("BETTER_AUTH_SECRETS", ","),
        ("SMTP_HOST", "mail:25"),
        ("SMTP_PORT", "0"),
        ("MANA_AUTH_SMTP_TLS", "ssl"),
        ("MANA_AUTH_DATABASE_POOL", "3"),
        ("MANA_AUTH_HASH_THREADS", "0"),
        ("MANA_AUTH_LOG", "a=b=c"),
        ("MANA_AUTH_LOG_FORMAT", "xml"),
    ];
    for (name, value) in bad {
        let found = problems(read(&[(name, value)]));
        assert!(
            found
                .iter()
                .any(|line| line.starts_with(&format!("{name}: "))),
            "{name}={value}"
        );
        assert_eq!(found.len(), 1, "{name}={value}: {found:?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

/// S-01: start is refused below the OWASP floor.
#[test]
fn hash_cost_below_the_floor_is_refused_s01() {
    for (name, below, floor) in [
        ("MANA_AUTH_HASH_MEMORY_KIB", "19455", "19456"),
        ("MANA_AUTH_HASH_ITERATIONS", "1", "2"),
        ("MANA_AUTH_HASH_PARALLELISM", "0", "1"),
    ] {
        assert!(problems(read(&[(name, below)]))[0].contains(&format!("from {floor}")));
        let config = read(&[(name, floor)]).unwrap();
        let floor = HashCost {
            memory_kib: 19_456,
            iterations: 2,
            parallelism: 1,
        };
        assert_eq!(config.hash, floor);
    }
}

#[test]
fn environment_wins_over_file_and_each_value_tells_its_source() {
    let file = r#"
        PORT = 4000
        MANA_AUTH_RATE_LIMIT = false
        CORS_ORIGINS = ["https://a.mana.how", "https://b.mana.how"]
        MANA_AUTH_TRUSTED_PROXIES = "10.0.0.0/8, ::1"
        BASE_URL = "https://file.mana.how/"
    "#;
    let config = read_with_file(&[("BASE_URL", "https://env.mana.how")], file).unwrap();
    assert_eq!((config.port, config.rate_limit), (4000, false));
    assert_eq!(
        config.cors_origins,
        ["https://a.mana.how", "https://b.mana.how"]
    );
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(
        shown(&config, "BASE_URL"),
        ("https://env.mana.how".to_owned(), Source::Env)
    );
    assert_eq!(shown(&config, "PORT"), ("4000".to_owned(), Source::File));
    assert_eq!(
        shown(&config, "JWT_AUDIENCE"),
        ("mana".to_owned(), Source::Default)
    );
}

#[test]
fn file_with_unknown_names_or_wrong_types_is_refused() {
    let file = r#"
        MANA_AUTH_TYPO = 1
        BASE_ULR = "x"
        HOME = "/root"
        MANA_AUTH_CONFIG = "other.toml"
        PORT = 3001.5
        JWT_AUDIENCE = ["mana"]
        CORS_ORIGINS = ["https://a.mana.how,https://b.mana.how"]
        TRUSTED_ORIGINS = [1]
        [MANA_AUTH_KEK]
    "#;
    let found = problems(read_with_file(&[], file));
    assert_eq!(found.len(), 9, "{found:?}");
}

#[test]
fn unreadable_file_is_named_and_never_quoted() {
    let broken = file_with("PORT = 1\nSMTP_PASS = \"hunter2\n");
    let error = Config::load(Some(broken.path())).unwrap_err().to_string();
    assert!(error.starts_with("MANA_AUTH_CONFIG: "), "{error}");
    assert!(
        error.contains("line 2") && !error.contains("hunter2"),
        "{error}"
    );
    let missing = Config::load(Some(Path::new("/nowhere.toml")))
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("MANA_AUTH_CONFIG: /nowhere.toml: "),
        "{missing}"
    );
}

#[test]
fn file_given_to_load_is_read() {
    let file = file_with("JWT_AUDIENCE = \"given\"\n");
    let config = Config::load(Some(file.path())).unwrap();
    assert_eq!(config.jwt_audience, "given");
    assert_eq!(
        shown(&config, "MANA_AUTH_CONFIG").0,
        file.path().display().to_string()
    );
}

#[test]
fn secret_comes_from_a_file_without_its_last_line_end() {
    let file = file_with(" s3cret with spaces \r\n\n");
    let path = file.path().to_str().unwrap();
    let pairs = [
        ("SMTP_PASS_FILE", path),
        ("SMTP_USER", "ada"),
        ("SMTP_HOST", "localhost"),
    ];
    let (_, pass) = read(&pairs).unwrap().smtp.unwrap().login.unwrap();
    assert_eq!(pass.expose_secret(), " s3cret with spaces ");
    let key = file_with(&format!("{KEK}\n"));
    let config = read(&[("MANA_AUTH_KEK_FILE", key.path().to_str().unwrap())]).unwrap();
    assert_eq!(config.keks[0].key.expose(), &[1; 32]);
}

#[test]
fn secret_in_two_places_or_in_a_bad_file_is_one_problem() {
    let file = file_with(SECRET);
    let empty = file_with("\n");
    let path = file.path().to_str().unwrap();
    let empty = empty.path().to_str().unwrap();
    for name in [
        "DATABASE_URL",
        "MANA_AUTH_MIGRATION_URL",
        "SYNC_DATABASE_URL",
        "BETTER_AUTH_SECRET",
        "BETTER_AUTH_SECRETS",
        "MANA_AUTH_KEK",
        "MANA_AUTH_KEKS",
        "MANA_SERVICE_KEY",
        "SMTP_PASS",
    ] {
        let by_file = format!("{name}_FILE");
        let both = problems(read(&[(name, "hunter2"), (&by_file, path)]));
        assert_eq!(both, [format!("{name}: and {by_file} exclude each other")]);
        for bad in ["/nowhere", empty] {
            let found = problems(read(&[(&by_file, bad)]));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("{by_file}: ")), "{found:?}");
        }
    }
    let config = read_with_file(
        &[("MANA_SERVICE_KEY", "from env")],
        "MANA_SERVICE_KEY_FILE = \"/nowhere\"",
    );
    assert_eq!(config.unwrap().service_key.expose_secret(), "from env");
}

/// S-87: a list of secrets keeps its order, so that the first can sign and all can verify.
#[test]
fn secrets_keep_their_order_and_versions_s87() {
    let config = read(&[("BETTER_AUTH_SECRETS", "2:new:est, 1:older")]).unwrap();
    let secrets: Vec<(Option<u32>, &str)> = config
        .session_secrets
        .iter()
        .map(|one| (one.version, one.secret.expose_secret()))
        .collect();
    assert_eq!(secrets, [(Some(2), "new:est"), (Some(1), "older")]);
    let both = [("BETTER_AUTH_SECRETS", "1:a"), ("BETTER_AUTH_SECRET", "b")];
    assert_eq!(problems(read(&both)).len(), 1);
}

#[test]
fn first_of_several_keks_is_active() {
    let list = format!("env-v2:{OTHER_KEK},env-v1:{KEK}");
    let config = read(&[("MANA_AUTH_KEKS", &list)]).unwrap();
    let ids: Vec<&str> = config.keks.iter().map(|kek| kek.id.as_str()).collect();
    assert_eq!(ids, ["env-v2", "env-v1"]);
    assert_eq!(config.keks[0].key.expose(), &[2; 32]);
    let unpadded = read(&[("MANA_AUTH_KEK", KEK.trim_end_matches('='))]).unwrap();
    assert_eq!(unpadded.keks[0].key.expose(), &[1; 32]);
    assert_eq!(
        problems(read(&[("MANA_AUTH_KEKS", &list), ("MANA_AUTH_KEK", KEK)])).len(),
        1
    );
}

#[test]
fn complete_production_starts_without_a_warning() {
    let config = production(&[]).unwrap();
    assert!(
        config.is_production() && config.warnings.is_empty(),
        "{:?}",
        config.warnings
    );
    assert_eq!(config.host, IpAddr::from(Ipv4Addr::UNSPECIFIED));
    assert_eq!(config.trusted_origins, ["https://auth.mana.how"]);
    assert!(config.cors_origins.is_empty());
    assert_eq!(config.mail_from.to_string(), "Mana <noreply@auth.mana.how>");
}

/// S-71 of key-encryption keys, and the like of other secrets.
#[test]
fn production_refuses_what_is_missing_short_or_published_s71() {
    const PUBLISHED: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    let library = LIBRARY_SECRET;
    let listed = format!("2:{SECRET},1:short");
    let refused = [
        ("BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET", ""),
        ("BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET", &SECRET[1..]),
        (
            "BETTER_AUTH_SECRET",
            "BETTER_AUTH_SECRET",
            DEVELOPMENT_SECRET,
        ),
        ("BETTER_AUTH_SECRET", "BETTER_AUTH_SECRET", library),
        ("MANA_AUTH_KEK", "MANA_AUTH_KEK", ""),
        ("MANA_AUTH_KEK", "MANA_AUTH_KEK", "AAAA"),
        ("MANA_AUTH_KEK", "MANA_AUTH_KEK", PUBLISHED),
        ("MANA_SERVICE_KEY", "MANA_SERVICE_KEY", ""),
        ("MANA_SERVICE_KEY", "MANA_SERVICE_KEY", "dev-service-key"),
        ("MANA_SERVICE_KEY", "MANA_SERVICE_KEY", "0123456789abcde"),
        ("SMTP_HOST", "SMTP_HOST", ""),
        ("MANA_AUTH_MIGRATION_URL", "MANA_AUTH_MIGRATION_URL", ""),
        (
            "MANA_AUTH_MIGRATION_URL",
            "MANA_AUTH_MIGRATION_URL",
            "postgres://app:hunter2@db/mana",
        ),
        (
            "MANA_AUTH_MIGRATION_URL",
            "MANA_AUTH_MIGRATION_URL",
            "postgresql://db/mana?user=app",
        ),
        ("DATABASE_URL", "DATABASE_URL", ""),
        ("MANA_AUTH_SMTP_TLS", "MANA_AUTH_SMTP_TLS", "none"),
    ];
    for (named, name, value) in refused {
        let found = problems(production(&[(name, value)]));
        assert_eq!(found.len(), 1, "{name}={value}: {found:?}");
        assert!(
            found[0].starts_with(&format!("{named}: ")),
            "{name}={value}: {found:?}"
        );
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
    let list = [
        ("BETTER_AUTH_SECRET", ""),
        ("BETTER_AUTH_SECRETS", listed.as_str()),
    ];
    assert!(problems(production(&list))[0].starts_with("BETTER_AUTH_SECRETS: is too short"));
    let list = format!("k2:{ZERO_KEK},k1:{PUBLISHED}");
    let found = problems(production(&[
        ("MANA_AUTH_KEK", ""),
        ("MANA_AUTH_KEKS", &list),
    ]));
    assert_eq!(
        found,
        ["MANA_AUTH_KEKS: has a published key, which production refuses"]
    );
    let nothing = problems(read(&[("NODE_ENV", "production")]));
    assert_eq!(nothing.len(), 6, "{nothing:?}");
}

#[test]
fn production_warns_of_what_an_operator_chose() {
    let zero = production(&[("MANA_AUTH_KEK", ZERO_KEK)]).unwrap();
    assert!(zero.warnings[0].contains("ALL ZERO"), "{:?}", zero.warnings);
    let http = production(&[("BASE_URL", "http://auth.mana.how")]).unwrap();
    assert!(
        http.warnings[0].starts_with("BASE_URL is http://"),
        "{:?}",
        http.warnings
    );
    let foreign = production(&[("COOKIE_DOMAIN", ".ana.how")]).unwrap();
    assert!(
        foreign.warnings[0].starts_with("COOKIE_DOMAIN"),
        "{:?}",
        foreign.warnings
    );
    let issuer = production(&[("JWT_ISSUER", "https://other")]).unwrap();
    assert!(
        issuer.warnings[0].starts_with("JWT_ISSUER is ignored"),
        "{:?}",
        issuer.warnings
    );
    assert_eq!(issuer.jwt_issuer, "https://auth.mana.how");
}

#[test]
fn one_role_for_both_urls_is_a_warning_in_development() {
    let url = "postgres://ada@localhost/mana";
    let alone = read(&[("DATABASE_URL", url)]).unwrap();
    let same = read(&[("DATABASE_URL", url), ("MANA_AUTH_MIGRATION_URL", url)]).unwrap();
    let other = "postgres://owner@localhost/mana";
    let two = read(&[("DATABASE_URL", url), ("MANA_AUTH_MIGRATION_URL", other)]).unwrap();
    assert_eq!(
        (
            alone.warnings.len(),
            same.warnings.len(),
            two.warnings.len()
        ),
        (4, 4, 3)
    );
    assert_eq!(problems(read(&[("MANA_AUTH_MIGRATION_URL", url)])).len(), 1);
}

#[test]
fn issuer_is_base_url_then_jwt_issuer_then_the_default() {
    let base = ("BASE_URL", "https://auth.mana.how/");
    let issuer = ("JWT_ISSUER", "https://issuer");
    for (pairs, wanted) in [
        (vec![base, issuer], "https://auth.mana.how"),
        (vec![base], "https://auth.mana.how"),
        (vec![issuer], "https://issuer"),
        (vec![], "http://localhost:3001"),
    ] {
        assert_eq!(read(&pairs).unwrap().jwt_issuer, wanted);
    }
}

/// S-33: the cookie rules of contract section 2.4, for every combination.
#[test]
fn cookie_rules_follow_scheme_environment_and_domain_s33() {
    let table = [
        // https, production, domain: name, Secure, SameSite
        (false, false, false, "mana", false, "Lax"),
        (false, false, true, "mana", true, "None"),
        (false, true, false, "mana", true, "Lax"),
        (false, true, true, "mana", true, "None"),
        (true, false, false, "__Secure-mana", true, "Lax"),
        (true, false, true, "__Secure-mana", true, "None"),
        (true, true, false, "__Secure-mana", true, "Lax"),
        (true, true, true, "__Secure-mana", true, "None"),
    ];
    for (https, live, domain, name, secure, same_site) in table {
        let changes = [
            ("NODE_ENV", if live { "production" } else { "development" }),
            (
                "BASE_URL",
                if https {
                    "https://auth.mana.how"
                } else {
                    "http://auth.mana.how"
                },
            ),
            ("COOKIE_DOMAIN", if domain { ".mana.how" } else { "" }),
        ];
        let config = production(&changes).unwrap();
        assert_eq!(config.cookie_name_prefix(), name);
        assert_eq!(config.cookie_secure_attribute(), secure, "{changes:?}");
        assert_eq!(config.cookie_same_site(), same_site);
    }
    let scheme = read(&[("BASE_URL", "HTTPS://auth.mana.how")]).unwrap();
    assert!(scheme.secure_cookies());
}

/// S-54: what is no exact origin of the passkeys' domain is not on the list, unless an operator puts it there.
#[test]
fn passkeys_belong_to_the_domain_of_the_cookies_or_the_host_s54() {
    let config = read(&[]).unwrap();
    assert_eq!(config.passkeys.rp_id, "localhost");
    assert_eq!(config.passkeys.rp_name, "Mana");
    assert!(!config.passkeys.user_verification);
    let own = ["http://localhost:3001", "http://localhost:5173"];
    assert_eq!(config.passkeys.origins, own);

    let trusted = "https://app.mana.how,https://*.mana.how,*.mana.how,https://badmana.how,mana://x";
    let changes = [
        ("COOKIE_DOMAIN", ".mana.how"),
        ("TRUSTED_ORIGINS", trusted),
        ("CORS_ORIGINS", "https://mana.how,https://else.example"),
    ];
    let config = production(&changes).unwrap();
    assert_eq!(config.passkeys.rp_id, "mana.how");
    let wanted = [
        "https://app.mana.how",
        "https://auth.mana.how",
        "https://mana.how",
    ];
    assert_eq!(config.passkeys.origins, wanted);

    let given = [
        ("WEBAUTHN_RP_ID", "mana.how"),
        ("WEBAUTHN_RP_NAME", "Mana Test"),
        ("WEBAUTHN_ORIGIN", "https://Mana.how:443"),
        ("MANA_AUTH_PASSKEY_USER_VERIFICATION", "required"),
    ];
    let config = production(&given).unwrap();
    let Passkeys {
        rp_id,
        rp_name,
        origins,
        user_verification,
    } = config.passkeys;
    assert_eq!(
        (rp_id.as_str(), rp_name.as_str()),
        ("mana.how", "Mana Test")
    );
    assert_eq!(origins, ["https://mana.how"]);
    assert!(user_verification);
    let pattern = production(&[("WEBAUTHN_ORIGIN", "https://*.mana.how")]);
    assert!(problems(pattern)[0].starts_with("WEBAUTHN_ORIGIN"));
}

#[test]
fn trusted_origins_are_normalised_and_hold_the_own_origin() {
    let list =
        "https://Mana.how:443/, *.mana.how, https://*.Mana.how, myapp://, http://localhost:51?3";
    let config = read(&[
        ("TRUSTED_ORIGINS", list),
        ("BASE_URL", "https://AUTH.mana.how"),
    ])
    .unwrap();
    let wanted = [
        "https://mana.how",
        "*.mana.how",
        "https://*.mana.how",
        "myapp://",
        "http://localhost:51?3",
        "https://auth.mana.how",
    ];
    assert_eq!(config.trusted_origins, wanted);
    let config = production(&[("CORS_ORIGINS", " https://app.mana.how , ,")]).unwrap();
    assert_eq!(
        config.trusted_origins,
        ["https://auth.mana.how", "https://app.mana.how"]
    );
}

#[test]
fn tls_follows_the_port_unless_given() {
    let tls = |pairs: &[(&str, &str)]| {
        let mut all = vec![("SMTP_HOST", "mail.mana.how")];
        all.extend_from_slice(pairs);
        production(&all).unwrap().smtp.unwrap().tls
    };
    assert_eq!(tls(&[]), SmtpTls::StartTls);
    assert_eq!(tls(&[("SMTP_PORT", "465")]), SmtpTls::Tls);
    assert_eq!(
        tls(&[("SMTP_PORT", "465"), ("MANA_AUTH_SMTP_TLS", "starttls")]),
        SmtpTls::StartTls
    );
    for host in ["localhost", "127.0.0.1", "::1"] {
        assert_eq!(
            tls(&[("SMTP_HOST", host), ("MANA_AUTH_SMTP_TLS", "none")]),
            SmtpTls::Plain
        );
    }
    let development = read(&[("SMTP_HOST", "mail"), ("MANA_AUTH_SMTP_TLS", "none")]).unwrap();
    assert_eq!(development.smtp.unwrap().tls, SmtpTls::Plain);
}

#[test]
fn mail_login_needs_both_halves() {
    assert_eq!(
        problems(read(&[("SMTP_USER", "ada")])),
        ["SMTP_PASS: is missing beside SMTP_USER"]
    );
    assert_eq!(
        problems(read(&[("SMTP_PASS", "x")])),
        ["SMTP_USER: is missing beside SMTP_PASS"]
    );
}

#[test]
fn lists_and_switches_read_as_documented() {
    let config = read(&[
        ("MANA_AUTH_ADMIN_EMAILS", "Ada@Example.com, bob@example.com"),
        ("JWT_EXTRA_CLAIMS", "tier"),
        ("AUTH_ERROR_SHAPE", "v2"),
        ("MANA_AUTH_RATE_LIMIT", "off"),
        ("REGISTER_ENUMERATION_SAFE", "1"),
        ("BASE_URL", "http://127.0.0.1:3001"),
        ("NODE_ENV", "test"),
    ])
    .unwrap();
    assert_eq!(config.admin_emails, ["ada@example.com", "bob@example.com"]);
    assert!(config.jwt_tier && config.register_enumeration_safe && !config.rate_limit);
    assert_eq!(config.error_shape, ErrorShape::V2);
    assert_eq!(config.mail_from.to_string(), "Mana <noreply@localhost>");
    assert!(!config.is_production());
}

#[test]
fn data_folder_is_the_systems_for_root_and_the_persons_own_otherwise() {
    let folder = |is_root, pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()));
        let folder = default_data_dir(is_root, &pairs.collect());
        folder.map(|folder| folder.display().to_string())
    };
    let home = ("HOME", "/home/ada");
    assert_eq!(folder(true, &[home]).unwrap(), "/var/lib/mana-auth");
    assert_eq!(
        folder(false, &[home]).unwrap(),
        "/home/ada/.local/share/mana-auth"
    );
    assert_eq!(
        folder(false, &[home, ("XDG_DATA_HOME", "/data")]).unwrap(),
        "/data/mana-auth"
    );
    assert_eq!(folder(false, &[]), None);
    let given = read(&[("MANA_AUTH_DATA_DIR", "/srv/mana")]).unwrap();
    assert_eq!(given.data_dir, Path::new("/srv/mana"));
}

/// S-06.
#[test]
fn breached_passwords_are_a_path_from_environment_or_file_s06() {
    let name = "MANA_AUTH_BREACHED_PASSWORDS";
    assert_eq!(shown(&read(&[]).unwrap(), name).0, "unset");
    let path = "/srv/breached passwords";
    let file = format!("{name} = \"{path}\"");
    for (config, source) in [
        (read(&[(name, path)]), Source::Env),
        (read_with_file(&[], &file), Source::File),
    ] {
        let config = config.unwrap();
        assert_eq!(config.breached_passwords.as_deref(), Some(Path::new(path)));
        assert_eq!(shown(&config, name), (path.to_owned(), source));
    }
}

/// S-37: no secret in what is shown, debugged or refused.
#[test]
fn secrets_are_never_printed_s37() {
    let marker = "hunter2hunter2hunter2hunter2hunter2";
    let url = format!("postgres://app:{marker}@db/mana?password={marker}&sslmode=disable");
    let owner = format!("postgres://owner:{marker}@db/mana?sslpassword={marker}");
    let config = production(&[
        ("BETTER_AUTH_SECRET", marker),
        ("MANA_SERVICE_KEY", marker),
        ("DATABASE_URL", &url),
        ("MANA_AUTH_MIGRATION_URL", &owner),
        ("SYNC_DATABASE_URL", &url),
        ("SMTP_USER", "ada"),
        ("SMTP_PASS", marker),
        ("MANA_AUTH_ADMIN_EMAILS", "ada@example.com"),
    ])
    .unwrap();
    let shown_text = format!("{:?}", config.show());
    assert!(
        !shown_text.contains("hunter2") && !shown_text.contains(KEK),
        "{shown_text}"
    );
    let parts = format!(
        "{config:?} {:?} {:?} {:?}",
        config.keks, config.session_secrets, config.smtp
    );
    assert!(
        !parts.contains("hunter2") && !parts.contains("[1, 1"),
        "{parts}"
    );
    assert!(!format!("{config:?}").contains("ada@"));
    assert_eq!(
        shown(&config, "DATABASE_URL").0,
        "postgres://app:***@db/mana?password=***&sslmode=disable"
    );
    assert_eq!(
        shown(&config, "MANA_AUTH_KEK"),
        ("***".to_owned(), Source::Env)
    );
    assert_eq!(
        shown(&config, "MANA_AUTH_KEKS"),
        ("unset".to_owned(), Source::Default)
    );

    let refused = production(&[
        ("BETTER_AUTH_SECRET", "hunter2"),
        ("MANA_AUTH_KEK", "hunter2"),
    ]);
    assert!(!refused.unwrap_err().to_string().contains("hunter2"));
}

#[test]
fn every_setting_is_shown_once() {
    let config = read(&[]).unwrap();
    let shown = config.show();
    let names: Vec<&str> = shown.iter().map(|(name, ..)| *name).collect();
    let known: Vec<&str> = reader::SETTINGS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, known);
}

const ACME: &str = r#"
    [social.acme]
    client_id = "mana"
    client_secret = "hunter2"
    issuer = "https://acme.example"
    authorize_url = "https://acme.example/authorize"
    token_url = "https://acme.example/token"
    jwks_url = "https://acme.example/jwks"
    scopes = ["openid", "email"]
    require_issuer = true
"#;

#[test]
fn providers_come_from_the_file_and_the_environment_wins() {
    let id = ("MANA_AUTH_SOCIAL_ACME_CLIENT_ID", "other");
    let config = read_with_file(&[id], ACME).unwrap();
    let acme = &config.providers["acme"];
    assert_eq!(acme.client_id, "other");
    assert_eq!(acme.token_url.as_str(), "https://acme.example/token");
    assert_eq!(acme.scopes, ["openid", "email"]);
    assert_eq!(
        (acme.disable_implicit_sign_up, acme.require_issuer),
        (false, true)
    );
    let secret = acme.client_secret.as_ref().unwrap();
    assert_eq!(secret.expose_secret(), "hunter2");
    let line = shown(&config, "MANA_AUTH_SOCIAL_*");
    assert_eq!(line, ("acme".to_owned(), Source::Env));
    assert!(!format!("{acme:?} {:?}", config.show()).contains("hunter2"));
}

#[test]
fn secret_of_a_provider_comes_from_a_file() {
    let secret = file_with("hunter3\n");
    let path = secret.path().display().to_string();
    let file = ACME.replace(
        "client_secret = \"hunter2\"",
        &format!("client_secret_file = \"{path}\""),
    );
    let config = read_with_file(&[], &file).unwrap();
    let secret = config.providers["acme"].client_secret.as_ref().unwrap();
    assert_eq!(secret.expose_secret(), "hunter3");
}

/// S-46
#[test]
fn half_a_provider_is_refused_and_production_wants_https() {
    for (line, problem) in [
        (
            "client_id = \"mana\"",
            "CLIENT_ID: is required for a provider",
        ),
        (
            "issuer = \"https://acme.example\"",
            "ISSUER: is required beside JWKS_URL",
        ),
        (
            "jwks_url = \"https://acme.example/jwks\"",
            "USERINFO_URL: is required, or JWKS_URL",
        ),
    ] {
        let found = problems(read_with_file(&[], &ACME.replace(line, "")));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].starts_with(&format!("MANA_AUTH_SOCIAL_ACME_{problem}")),
            "{found:?}"
        );
    }
    for line in [
        "typo = 1",
        "client_id = [\"a\"]",
        "require_issuer = \"perhaps\"",
        "token_url = \"https://u:p@acme.example\"",
    ] {
        let name = line.split(' ').next().unwrap();
        let lines: Vec<&str> = ACME
            .lines()
            .filter(|old| !old.trim().starts_with(name))
            .collect();
        let file = format!("{}\n{line}", lines.join("\n"));
        assert!(read_with_file(&[], &file).is_err(), "{line}");
    }
    for bad in [
        "[social]\nacme = 1",
        "[social.credential]\nclient_id = \"x\"",
        "[social.a-b]\nclient_id = \"x\"",
    ] {
        assert!(read_with_file(&[], bad).is_err(), "{bad}");
    }
    let plain = ("MANA_AUTH_ALLOW_PRIVATE_PROVIDERS", "false");
    let http = ACME.replace("https://acme.example/token", "http://acme.example/token");
    assert!(read_with_file(&[], &http).is_ok());
    assert_eq!(
        problems(read_with_file(&[plain], &http)),
        ["MANA_AUTH_SOCIAL_ACME_TOKEN_URL: must be an https URL"]
    );
}
