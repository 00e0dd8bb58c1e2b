//! Where values come from: environment over file, `NAME_FILE` for secrets, and the list of every problem met.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use secrecy::{ExposeSecret, SecretString};

use super::{ConfigErrors, Source, values};

/// How a setting may be written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One value.
    One,
    /// Several, separated by commas, or an array in the file.
    List,
    /// One value that is never shown and may also come as `NAME_FILE`.
    Secret,
    /// Several of them.
    SecretList,
}

/// Every name there is; what is not here is refused.
pub const SETTINGS: [(&str, Kind); 64] = [
    ("AUTH_ERROR_SHAPE", Kind::One),
    ("BASE_URL", Kind::One),
    ("BETTER_AUTH_SECRET", Kind::Secret),
    ("BETTER_AUTH_SECRETS", Kind::SecretList),
    ("COOKIE_DOMAIN", Kind::One),
    ("CORS_ORIGINS", Kind::List),
    ("DATABASE_URL", Kind::Secret),
    ("JWT_AUDIENCE", Kind::One),
    ("JWT_EXTRA_CLAIMS", Kind::List),
    ("JWT_ISSUER", Kind::One),
    ("MANA_AUTH_ADMIN_EMAILS", Kind::List),
    ("MANA_AUTH_ALLOW_PRIVATE_PROVIDERS", Kind::One),
    ("MANA_AUTH_BREACHED_PASSWORDS", Kind::One),
    ("MANA_AUTH_CANCEL_ON_REINVITE", Kind::One),
    ("MANA_AUTH_CHANGE_EMAIL_CONFIRM", Kind::One),
    ("MANA_AUTH_CONFIG", Kind::One),
    ("MANA_AUTH_COOKIE_PREFIX", Kind::One),
    ("MANA_AUTH_DATABASE_POOL", Kind::One),
    ("MANA_AUTH_DATA_DIR", Kind::One),
    ("MANA_AUTH_DELETE_USER_CONFIRM", Kind::One),
    ("MANA_AUTH_DYNAMIC_ROLES", Kind::One),
    ("MANA_AUTH_HASH_ITERATIONS", Kind::One),
    ("MANA_AUTH_HASH_MEMORY_KIB", Kind::One),
    ("MANA_AUTH_HASH_PARALLELISM", Kind::One),
    ("MANA_AUTH_HASH_THREADS", Kind::One),
    ("MANA_AUTH_HOST", Kind::One),
    ("MANA_AUTH_KEK", Kind::Secret),
    ("MANA_AUTH_KEKS", Kind::SecretList),
    ("MANA_AUTH_LOG", Kind::One),
    ("MANA_AUTH_LOG_FORMAT", Kind::One),
    ("MANA_AUTH_MAGIC_LINK_PAGE", Kind::One),
    ("MANA_AUTH_MAGIC_LINK_SIGNUP", Kind::One),
    ("MANA_AUTH_MAIL_FROM", Kind::One),
    ("MANA_AUTH_MIGRATION_URL", Kind::Secret),
    ("MANA_AUTH_MULTI_SESSION", Kind::One),
    ("MANA_AUTH_ORG_REQUIRE_VERIFIED", Kind::One),
    ("MANA_AUTH_PASSKEY_USER_VERIFICATION", Kind::One),
    ("MANA_AUTH_RATE_LIMIT", Kind::One),
    ("MANA_AUTH_REQUIRE_EMAIL_VERIFICATION", Kind::One),
    ("MANA_AUTH_SEND_ON_SIGN_IN", Kind::One),
    ("MANA_AUTH_SMTP_TLS", Kind::One),
    ("MANA_AUTH_STEP_UP", Kind::One),
    ("MANA_AUTH_TEAMS", Kind::One),
    ("MANA_AUTH_TRUSTED_PROXIES", Kind::List),
    ("MANA_AUTH_TWO_FACTOR_ALWAYS", Kind::One),
    ("MANA_AUTH_TWO_FACTOR_OTP", Kind::One),
    ("MANA_AUTH_VAULT_CHECK_MASTER_KEY", Kind::One),
    ("MANA_AUTH_VAULT_CHECK_RECOVERY_WRAP", Kind::One),
    ("MANA_CREDITS_URL", Kind::One),
    ("MANA_SERVICE_KEY", Kind::Secret),
    ("MANA_SUBSCRIPTIONS_URL", Kind::One),
    ("MAX_DAILY_SIGNUPS", Kind::One),
    ("NODE_ENV", Kind::One),
    ("PORT", Kind::One),
    ("REGISTER_ENUMERATION_SAFE", Kind::One),
    ("SMTP_HOST", Kind::One),
    ("SMTP_PASS", Kind::Secret),
    ("SMTP_PORT", Kind::One),
    ("SMTP_USER", Kind::One),
    ("SYNC_DATABASE_URL", Kind::Secret),
    ("TRUSTED_ORIGINS", Kind::List),
    ("WEBAUTHN_ORIGIN", Kind::List),
    ("WEBAUTHN_RP_ID", Kind::One),
    ("WEBAUTHN_RP_NAME", Kind::One),
];

/// What stands before the id of a provider in the names of its settings.
const PROVIDER: &str = "MANA_AUTH_SOCIAL_";
/// What stands behind it. In the file, the same in lower case are keys of the table `social.ID`.
const PROVIDER_FIELDS: [(&str, Kind); 10] = [
    ("CLIENT_ID", Kind::One),
    ("CLIENT_SECRET", Kind::Secret),
    ("ISSUER", Kind::One),
    ("AUTHORIZE_URL", Kind::One),
    ("TOKEN_URL", Kind::One),
    ("USERINFO_URL", Kind::One),
    ("JWKS_URL", Kind::One),
    ("SCOPES", Kind::List),
    ("DISABLE_IMPLICIT_SIGN_UP", Kind::One),
    ("REQUIRE_ISSUER", Kind::One),
];

/// How yes and no may be written; the first of each is how they are shown.
const SWITCH: [(&str, bool); 6] = [
    ("true", true),
    ("false", false),
    ("on", true),
    ("off", false),
    ("1", true),
    ("0", false),
];

/// Not settings of ours: they only say where the data folder is by default.
const FOLDERS: [&str; 2] = ["HOME", "XDG_DATA_HOME"];

/// Whether an environment variable is ours to read or to refuse.
pub fn is_of_interest(name: &str) -> bool {
    is_known(name) || name.starts_with("MANA_AUTH_") || FOLDERS.contains(&name)
}

fn is_known(name: &str) -> bool {
    let secret_file = name.strip_suffix("_FILE").and_then(kind_of);
    kind_of(name).is_some() || matches!(secret_file, Some(Kind::Secret | Kind::SecretList))
}

fn kind_of(name: &str) -> Option<Kind> {
    let fixed = SETTINGS.iter().find(|(known, _)| *known == name);
    let kind = fixed.map(|(_, kind)| *kind);
    kind.or_else(|| Some(provider_setting(name)?.1))
}

/// The id in the name of a provider's setting, and how that may be written.
fn provider_setting(name: &str) -> Option<(&str, Kind)> {
    let rest = name.strip_prefix(PROVIDER)?;
    PROVIDER_FIELDS.iter().find_map(|(field, kind)| {
        let id = rest.strip_suffix(field)?.strip_suffix('_')?;
        let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        // The password goes by this name among a person's accounts.
        let good = !id.is_empty() && id.bytes().all(plain) && id != "CREDENTIAL";
        good.then_some((id, *kind))
    })
}

/// The tables `social.ID` of a file, as the names that their keys have in the environment.
fn flattened(file: toml::Table) -> Vec<(String, toml::Value)> {
    let mut flat = Vec::new();
    for (name, value) in file {
        match value {
            toml::Value::Table(providers) if name == "social" => {
                for (id, value) in providers {
                    match value {
                        toml::Value::Table(fields) => flat.extend(
                            fields
                                .into_iter()
                                .map(|(field, value)| (provider_name(&id, &field), value)),
                        ),
                        other => flat.push((format!("social.{id}"), other)),
                    }
                }
            }
            value => flat.push((name, value)),
        }
    }
    flat
}

fn provider_name(id: &str, field: &str) -> String {
    format!("{PROVIDER}{id}_{field}").to_ascii_uppercase()
}

/// Reads settings one by one and remembers what was wrong, what to warn of and what to show.
///
/// A setting that cannot be read counts as its default, so that the others are still checked; `finish` then refuses.
pub struct Reader<'a> {
    env: &'a BTreeMap<String, String>,
    file: BTreeMap<String, String>,
    problems: Vec<String>,
    broken: BTreeSet<String>,
    warnings: Vec<String>,
    shown: BTreeMap<&'static str, (String, Source)>,
}

/// What `config show` prints: name, value or `***`, and where it came from.
pub type Shown = Vec<(&'static str, String, Source)>;

impl<'a> Reader<'a> {
    /// Starts with the names that nobody knows.
    pub fn new(env: &'a BTreeMap<String, String>, file: Option<toml::Table>) -> Reader<'a> {
        let mut reader = Reader {
            env,
            file: BTreeMap::new(),
            problems: Vec::new(),
            broken: BTreeSet::new(),
            warnings: Vec::new(),
            shown: BTreeMap::new(),
        };
        for (name, value) in env {
            if name.starts_with("MANA_AUTH_") && !is_known(name) && !value.is_empty() {
                reader.problem(name, "is not a known setting");
            }
        }
        for (name, value) in file.map(flattened).unwrap_or_default() {
            match file_text(&name, value) {
                Ok(text) => {
                    reader.file.insert(name, text);
                }
                Err(problem) => reader.problem(&name, problem),
            }
        }
        reader
    }

    /// Adds a problem to the list.
    pub fn problem(&mut self, name: &str, problem: &str) {
        self.problems.push(format!("{name}: {problem}"));
        self.broken.insert(name.to_owned());
    }

    /// Adds a warning to the list.
    pub fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Whether a problem with this setting is already known.
    pub fn is_broken(&self, name: &str) -> bool {
        self.broken.contains(name)
    }

    /// Whether somebody gave this setting a value.
    pub fn is_set(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    /// Shows a default that was worked out after its setting was found unset.
    pub fn show_default(&mut self, name: &'static str, value: String) {
        if !self.is_set(name) {
            self.shown.insert(name, (value, Source::Default));
        }
    }

    /// Shows what is in force in the place of a value that was given but does not count.
    pub fn show_ignored(&mut self, name: &'static str, value: String) {
        self.shown.insert(name, (value, Source::Default));
    }

    /// Reads one value.
    pub fn value<T>(
        &mut self,
        name: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> T {
        match self.optional(name, parse, &show) {
            Some(value) => value,
            None => {
                self.show_default(name, show(&default));
                default
            }
        }
    }

    /// Reads one value that may be missing.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
        show: impl Fn(&T) -> String,
    ) -> Option<T> {
        let Some((text, source)) = self.text(name) else {
            self.shown
                .insert(name, ("unset".to_owned(), Source::Default));
            return None;
        };
        match parse(text.trim()) {
            Ok(value) => {
                self.shown.insert(name, (show(&value), source));
                Some(value)
            }
            Err(problem) => {
                self.problem(name, &problem);
                None
            }
        }
    }

    /// Reads one of a few words.
    pub fn choice<T: Copy + PartialEq>(
        &mut self,
        name: &'static str,
        default: T,
        words: &[(&str, T)],
    ) -> T {
        let parse = |text: &str| one_of(words, text);
        let show = |value: &T| {
            let found = words.iter().find(|(_, meaning)| meaning == value);
            found
                .map(|(word, _)| (*word).to_owned())
                .unwrap_or_default()
        };
        self.value(name, default, parse, show)
    }

    /// Reads a yes or no.
    pub fn switch(&mut self, name: &'static str, default: bool) -> bool {
        self.choice(name, default, &SWITCH)
    }

    /// Reads a whole number within bounds.
    pub fn number<T: Copy + Display + FromStr + PartialOrd>(
        &mut self,
        name: &'static str,
        default: T,
        bounds: RangeInclusive<T>,
    ) -> T {
        let parse = |text: &str| {
            let number = text.parse().ok().filter(|number| bounds.contains(number));
            number.ok_or_else(|| {
                format!(
                    "must be a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                )
            })
        };
        self.value(name, default, parse, T::to_string)
    }

    /// Reads entries separated by commas; blank ones are passed over.
    pub fn list<T: Display>(
        &mut self,
        name: &'static str,
        default: Vec<T>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let show = |list: &Vec<T>| {
            let texts: Vec<String> = list.iter().map(T::to_string).collect();
            texts.join(",")
        };
        self.value(name, default, |text| values::entries(text, &parse), show)
    }

    /// Reads a secret, from its variable or from the file that `NAME_FILE` names; only `***` is ever shown.
    pub fn secret(&mut self, name: &'static str) -> Option<SecretString> {
        self.secret_shown_as(name, |_| "***".to_owned())
    }

    /// The file that a secret was read from, if it was.
    pub fn secret_file(&self, name: &str) -> Option<PathBuf> {
        let by_file = format!("{name}_FILE");
        let given = |source| {
            self.text_in(source, name)
                .or(self.text_in(source, &by_file))
        };
        let source = [Source::Env, Source::File]
            .into_iter()
            .find(|source| given(*source).is_some())?;
        self.text_in(source, &by_file).map(PathBuf::from)
    }

    /// Reads a database URL; it is shown without its password.
    pub fn database_url(&mut self, name: &'static str) -> Option<SecretString> {
        let url = self.secret_shown_as(name, values::redacted)?;
        if let Err(problem) = values::check_database_url(url.expose_secret()) {
            self.problem(name, &problem);
            return None;
        }
        Some(url)
    }

    /// The ids of the providers that anything is set for, in lower case.
    pub fn providers(&self) -> BTreeSet<String> {
        let names = self.env.keys().chain(self.file.keys());
        let names = names.filter(|name| self.is_set(name));
        let ids = names.filter_map(|name| {
            let name = name.strip_suffix("_FILE").unwrap_or(name);
            Some(provider_setting(name)?.0.to_ascii_lowercase())
        });
        ids.collect()
    }

    /// Reads one value of a provider, which may be missing.
    pub fn of_provider<T>(
        &mut self,
        id: &str,
        field: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let name = provider_name(id, field);
        let (text, _) = self.text(&name)?;
        let parsed = parse(text.trim());
        parsed.map_err(|problem| self.problem(&name, &problem)).ok()
    }

    /// The same for one that must be there.
    pub fn required_of_provider<T>(
        &mut self,
        id: &str,
        field: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.of_provider(id, field, parse);
        let name = provider_name(id, field);
        if value.is_none() && !self.is_broken(&name) {
            self.problem(&name, "is required for a provider");
        }
        value
    }

    /// A yes or no of a provider; no if nobody says.
    pub fn switch_of_provider(&mut self, id: &str, field: &str) -> bool {
        let parse = |text: &str| one_of(&SWITCH, text);
        self.of_provider(id, field, parse).unwrap_or(false)
    }

    /// The secret that a provider knows us by, if it wants one.
    pub fn secret_of_provider(&mut self, id: &str) -> Option<SecretString> {
        Some(self.secret_text(&provider_name(id, "CLIENT_SECRET"))?.0)
    }

    /// Adds a problem with what is set for a provider.
    pub fn provider_problem(&mut self, id: &str, field: &str, problem: &str) {
        self.problem(&provider_name(id, field), problem);
    }

    /// Shows which providers there are; their settings are named by whoever runs the service.
    pub fn show_providers(&mut self, ids: &[&str]) {
        if !ids.is_empty() {
            let in_env = self.env.keys().any(|name| name.starts_with(PROVIDER));
            let source = if in_env { Source::Env } else { Source::File };
            self.shown
                .insert("MANA_AUTH_SOCIAL_*", (ids.join(","), source));
        }
    }

    /// Gives what is to be shown and logged, or all problems.
    pub fn finish(self) -> Result<(Shown, Vec<String>), ConfigErrors> {
        if !self.problems.is_empty() {
            return Err(ConfigErrors(self.problems));
        }
        let shown = self
            .shown
            .into_iter()
            .map(|(name, (value, source))| (name, value, source));
        Ok((shown.collect(), self.warnings))
    }

    fn secret_shown_as(
        &mut self,
        name: &'static str,
        show: impl Fn(&str) -> String,
    ) -> Option<SecretString> {
        self.shown
            .insert(name, ("unset".to_owned(), Source::Default));
        let (secret, source) = self.secret_text(name)?;
        self.shown
            .insert(name, (show(secret.expose_secret()), source));
        Some(secret)
    }

    fn secret_text(&mut self, name: &str) -> Option<(SecretString, Source)> {
        let by_file = format!("{name}_FILE");
        // Both spellings of one source contradict each other; one in the environment beats both in the file.
        for source in [Source::Env, Source::File] {
            let text = match (self.text_in(source, name), self.text_in(source, &by_file)) {
                (Some(_), Some(_)) => {
                    self.problem(name, &format!("and {by_file} exclude each other"));
                    return None;
                }
                (Some(text), None) => text.to_owned(),
                (None, Some(path)) => match secret_in_file(path) {
                    Ok(text) => text,
                    Err(problem) => {
                        self.problem(&by_file, &problem);
                        self.broken.insert(name.to_owned());
                        return None;
                    }
                },
                (None, None) => continue,
            };
            return Some((SecretString::from(text), source));
        }
        None
    }

    fn text(&self, name: &str) -> Option<(String, Source)> {
        [Source::Env, Source::File]
            .into_iter()
            .find_map(|source| Some((self.text_in(source, name)?.to_owned(), source)))
    }

    fn text_in(&self, source: Source, name: &str) -> Option<&str> {
        let text = match source {
            Source::Env => self.env.get(name),
            Source::File => self.file.get(name),
            Source::Default => None,
        };
        text.map(String::as_str).filter(|text| !text.is_empty())
    }
}

/// Writes a TOML value as the environment would have it.
fn file_text(name: &str, value: toml::Value) -> Result<String, &'static str> {
    // The file is ours alone, so an unknown key is a slip of the pen whatever its prefix.
    if !is_known(name) {
        return Err("is not a known setting");
    }
    if name == "MANA_AUTH_CONFIG" {
        return Err("cannot be set in the file that it names");
    }
    match (value, kind_of(name)) {
        (toml::Value::String(text), _) => Ok(text),
        (toml::Value::Integer(number), _) => Ok(number.to_string()),
        (toml::Value::Boolean(yes), _) => Ok(yes.to_string()),
        (toml::Value::Array(array), Some(Kind::List | Kind::SecretList)) => {
            let texts: Option<Vec<&str>> = array.iter().map(toml::Value::as_str).collect();
            let texts = texts.ok_or("must be an array of strings")?;
            if texts.iter().any(|text| text.contains(',')) {
                return Err("must not hold commas inside an entry");
            }
            Ok(texts.join(","))
        }
        (_, Some(Kind::List | Kind::SecretList)) => Err("must be a string or an array of strings"),
        (_, _) => Err("must be a string, a whole number or a boolean"),
    }
}

/// The meaning of one of a few words.
fn one_of<T: Copy>(words: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let value = found.map(|(_, value)| *value);
    value.ok_or_else(|| format!("must be one of: {}", names.join(", ")))
}

/// The text of a secret in a file; the error says which file.
pub fn secret_in_file(path: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {path}: {}", error.kind()))?;
    let secret = text.trim_end_matches(['\n', '\r']);
    if secret.is_empty() {
        return Err(format!("{path} is empty"));
    }
    Ok(secret.to_owned())
}
