//! What single values must look like. No message repeats the value: it may be secret or personal.

use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ipnet::IpNet;
use lettre::message::Mailbox;
use secrecy::SecretString;
use tracing_subscriber::filter::Targets;
use url::Url;
use zeroize::Zeroizing;

use super::{Kek, KeyBytes, VersionedSecret};

/// Standard Base64, with or without the padding that shells and editors lose.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Takes any text.
pub fn any(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// Parses each entry of a comma list; says which entry is wrong by its number.
pub fn entries<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Vec<T>, String> {
    let entries = text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty());
    let parsed = entries.enumerate().map(|(index, entry)| {
        parse(entry).map_err(|problem| format!("entry {} {problem}", index + 1))
    });
    parsed.collect()
}

/// An address to listen on.
pub fn ip_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "must be an IP address".to_owned())
}

/// A network, or one address standing for itself.
pub fn network(text: &str) -> Result<IpNet, String> {
    let network = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
    network.map_err(|_| "must be a network such as 10.0.0.0/8".to_owned())
}

/// Scheme, host and port, nothing else; loses a trailing slash.
pub fn base_url(text: &str) -> Result<String, String> {
    let refused = || "must be http or https, a host and at most a port".to_owned();
    let url = web_url(text).ok_or_else(refused)?;
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(refused());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The URL of another service. A password in it would end up in logs; services know each other by the service key.
pub fn service_url(text: &str) -> Result<Url, String> {
    web_url(text).ok_or_else(|| "must be an http or https URL without a password".to_owned())
}

fn web_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_web = matches!(url.scheme(), "http" | "https");
    (is_web && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// An origin as browsers send it.
pub fn exact_origin(text: &str) -> Result<String, String> {
    if text.contains(['*', '?']) {
        return Err("must be an exact origin, without wildcards".to_owned());
    }
    let base =
        base_url(text).map_err(|_| "must be an origin such as https://mana.how".to_owned())?;
    let url =
        Url::parse(&base).map_err(|_| "must be an origin such as https://mana.how".to_owned())?;
    Ok(url.origin().ascii_serialization())
}

/// An origin, a pattern with `*` and `?`, or a custom scheme (better-auth-wire.md section 4).
pub fn origin_pattern(text: &str) -> Result<String, String> {
    let refused = || "must be an origin or a pattern such as https://*.mana.how".to_owned();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\\' | '"' | '\'' | '@' | '#');
    // The origin `null` is what sandboxed pages of anybody send.
    if !text.chars().all(plain) || text.eq_ignore_ascii_case("null") {
        return Err(refused());
    }
    let is_web = text.starts_with("http://") || text.starts_with("https://");
    if is_web && !text.contains(['*', '?']) {
        return exact_origin(text);
    }
    if text.contains("://") && !is_web {
        return Ok(text.to_owned());
    }
    let pattern = text.strip_suffix('/').unwrap_or(text);
    let host = pattern.split_once("://").map_or(pattern, |(_, host)| host);
    if host.is_empty() || host.contains('/') {
        return Err(refused());
    }
    Ok(pattern.to_ascii_lowercase())
}

/// A domain, usually with a leading dot.
pub fn cookie_domain(text: &str) -> Result<String, String> {
    let labels = text.strip_prefix('.').unwrap_or(text);
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if !labels.split('.').all(is_label) {
        return Err("must be a domain such as .mana.how".to_owned());
    }
    Ok(text.to_ascii_lowercase())
}

/// Whether a host is the cookie domain or below it.
pub fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_start_matches('.');
    host == domain
        || host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.'))
}

/// The first part of a cookie's name.
pub fn cookie_prefix(text: &str) -> Result<String, String> {
    let is_plain = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    // `__Secure-` and `__Host-` have a meaning of their own, which BASE_URL decides.
    if !is_plain || text.starts_with("__") {
        return Err("must be letters, digits, -, _ or dots, and must not start with __".to_owned());
    }
    Ok(text.to_owned())
}

/// The one extra claim there is.
pub fn extra_claim(text: &str) -> Result<String, String> {
    match text {
        "tier" => Ok(text.to_owned()),
        _ => Err("is not a known claim; there is only tier".to_owned()),
    }
}

/// A mail address, in lower case.
pub fn email(text: &str) -> Result<String, String> {
    match lettre::Address::from_str(text) {
        Ok(_) => Ok(text.to_lowercase()),
        Err(_) => Err("must be a mail address".to_owned()),
    }
}

/// A sender: an address, or a name and an address in angle brackets.
pub fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse()
        .map_err(|_| "must be a sender such as Mana <noreply@mana.how>".to_owned())
}

/// The mail server's name or address, without a port.
pub fn smtp_host(text: &str) -> Result<String, String> {
    let is_name = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if !is_name && IpAddr::from_str(text).is_err() {
        return Err(
            "must be a host name or an IP address; the port goes into SMTP_PORT".to_owned(),
        );
    }
    Ok(text.to_owned())
}

/// Whether a host is this machine.
pub fn is_loopback(host: &str) -> bool {
    host == "localhost" || IpAddr::from_str(host).is_ok_and(|address| address.is_loopback())
}

/// A filter of log lines.
pub fn log_filter(text: &str) -> Result<String, String> {
    match text.parse::<Targets>() {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("must be a log filter such as info,mana_auth=debug".to_owned()),
    }
}

/// Checks the form of a PostgreSQL URL; whether it leads anywhere shows when it is used.
pub fn check_database_url(text: &str) -> Result<(), String> {
    let is_postgres = |url: &Url| matches!(url.scheme(), "postgres" | "postgresql");
    if Url::parse(text).is_ok_and(|url| is_postgres(&url)) {
        return Ok(());
    }
    Err("must be a URL such as postgres://role:password@host/database".to_owned())
}

/// The role that a database URL signs in with, if it names one.
pub fn database_role(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let in_query = url
        .query_pairs()
        .find(|(key, _)| key == "user")
        .map(|(_, role)| role.into());
    let name = percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy();
    in_query.or((!name.is_empty()).then(|| name.into_owned()))
}

/// A database URL with `***` in place of its password.
pub fn redacted(text: &str) -> String {
    let Ok(mut url) = Url::parse(text) else {
        return "***".to_owned();
    };
    if url.password().is_some() && url.set_password(Some("***")).is_err() {
        return "***".to_owned();
    }
    // libpq and sqlx also take the password, and the key's path, as parameters: only harmless ones are shown.
    let harmless = [
        "host",
        "hostaddr",
        "port",
        "user",
        "dbname",
        "sslmode",
        "application_name",
    ];
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if !pairs.is_empty() {
        let shown = pairs.iter().map(|(key, value)| {
            let value = if harmless.contains(&key.as_str()) {
                value.as_str()
            } else {
                "***"
            };
            (key.as_str(), value)
        });
        url.query_pairs_mut().clear().extend_pairs(shown);
    }
    url.to_string()
}

/// `2:newest,1:older`, as Better Auth writes it: the first signs, all verify.
pub fn versioned_secrets(text: &str) -> Result<Vec<VersionedSecret>, String> {
    let parse = |entry: &str| {
        let (version, secret) = entry.split_once(':').ok_or("must be VERSION:SECRET")?;
        let version: u32 = version
            .parse()
            .map_err(|_| "must start with a whole number")?;
        if secret.is_empty() {
            return Err("must have a secret after the colon".to_owned());
        }
        Ok(VersionedSecret {
            version: Some(version),
            secret: SecretString::from(secret),
        })
    };
    let secrets = entries(text, parse)?;
    refuse_repeated(secrets.iter().map(|secret| &secret.version), "a version")?;
    Ok(secrets)
}

/// `id:base64,id:base64`: the first is active, all can be read.
pub fn keks(text: &str) -> Result<Vec<Kek>, String> {
    let parse = |entry: &str| {
        let (id, key) = entry.split_once(':').ok_or("must be ID:BASE64")?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || !id.chars().all(is_plain) {
            return Err("must have an id of letters, digits, -, _ or dots".to_owned());
        }
        Ok(Kek {
            id: id.to_owned(),
            key: key_bytes(key)?,
        })
    };
    let keks = entries(text, parse)?;
    refuse_repeated(keks.iter().map(|kek| &kek.id), "an id")?;
    Ok(keks)
}

fn refuse_repeated<T: PartialEq>(all: impl Iterator<Item = T>, what: &str) -> Result<(), String> {
    let mut seen = Vec::new();
    for one in all {
        if seen.contains(&one) {
            return Err(format!("holds {what} twice"));
        }
        seen.push(one);
    }
    match seen.is_empty() {
        true => Err("holds no entry".to_owned()),
        false => Ok(()),
    }
}

/// 32 bytes in Base64.
pub fn key_bytes(text: &str) -> Result<KeyBytes, String> {
    let bytes = BASE64.decode(text.trim()).map(Zeroizing::new);
    let bytes = bytes.map_err(|_| "must be 32 bytes in Base64".to_owned())?;
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return Err(format!(
            "must be 32 bytes in Base64, not {} bytes",
            bytes.len()
        ));
    }
    key.copy_from_slice(&bytes);
    Ok(KeyBytes(key))
}
