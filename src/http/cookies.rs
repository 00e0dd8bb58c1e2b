//! The cookies that clients know: names and attributes follow from the base URL, the cookie domain and
//! the mode, exactly as contract section 2.4 has them.

use axum::http::HeaderMap;
use chrono::TimeDelta;

use crate::config::Config;
use crate::crypto::cookies::{CookieSigner, encode};

/// Life of the session cookie, in seconds.
const SESSION_MAX_AGE_SECS: u32 = 7 * 24 * 3600;

/// Names and attributes under one configuration.
pub struct Cookies {
    prefix: String,
    domain: Option<String>,
    secure: bool,
    same_site: &'static str,
}

impl Cookies {
    /// By configuration.
    pub fn new(config: &Config) -> Self {
        Self {
            prefix: config.cookie_name_prefix(),
            domain: config.cookie_domain.clone(),
            secure: config.cookie_secure_attribute(),
            same_site: config.cookie_same_site(),
        }
    }

    /// The signed value of one of our cookies in a request, verified; a bad signature counts as no cookie.
    pub fn read(&self, signer: &CookieSigner, headers: &HeaderMap, key: &str) -> Option<String> {
        pairs(headers)
            .filter(|(name, _)| self.key(name) == Some(key))
            .find_map(|(_, value)| signer.verify(value))
    }

    /// The verified values of all our signed cookies whose keys begin with `prefix`, with their keys.
    pub fn read_all(
        &self,
        signer: &CookieSigner,
        headers: &HeaderMap,
        prefix: &str,
    ) -> Vec<(String, String)> {
        pairs(headers)
            .filter_map(|(name, value)| {
                let key = self.key(name).filter(|key| key.starts_with(prefix))?;
                Some((key.to_owned(), signer.verify(value)?))
            })
            .collect()
    }

    /// The key of a cookie of ours.
    fn key<'a>(&self, name: &'a str) -> Option<&'a str> {
        name.strip_prefix(self.prefix.as_str())?.strip_prefix('.')
    }

    /// The cookies of a new or extended session. `clear_brief`: an earlier session ended with the
    /// browser and this one does not.
    pub fn session(
        &self,
        signer: &CookieSigner,
        token: &str,
        remembered: bool,
        clear_brief: bool,
    ) -> Vec<String> {
        let max_age = remembered.then_some(SESSION_MAX_AGE_SECS);
        let mut cookies = vec![self.cookie("session_token", &encode(&signer.sign(token)), max_age)];
        if !remembered {
            cookies.push(self.cookie("dont_remember", &encode(&signer.sign("true")), None));
        } else if clear_brief {
            cookies.push(self.cookie("dont_remember", "", Some(0)));
        }
        cookies
    }

    /// Any of our signed cookies.
    pub fn signed(
        &self,
        signer: &CookieSigner,
        key: &str,
        value: &str,
        max_age: Option<TimeDelta>,
    ) -> String {
        let secs = max_age.map(|age| u32::try_from(age.num_seconds()).unwrap_or(0));
        self.cookie(key, &encode(&signer.sign(value)), secs)
    }

    /// Takes a cookie away.
    pub fn clear(&self, key: &str) -> String {
        self.cookie(key, "", Some(0))
    }

    /// Clears what belongs to a session.
    pub fn clear_session(&self) -> Vec<String> {
        ["session_token", "session_data", "dont_remember"]
            .iter()
            .map(|key| self.clear(key))
            .collect()
    }

    fn cookie(&self, key: &str, value: &str, max_age: Option<u32>) -> String {
        let mut cookie = format!("{}.{key}={value}", self.prefix);
        if let Some(secs) = max_age {
            cookie.push_str(&format!("; Max-Age={secs}"));
        }
        if let Some(domain) = &self.domain {
            cookie.push_str(&format!("; Domain={domain}"));
        }
        cookie.push_str("; Path=/; HttpOnly");
        if self.secure {
            cookie.push_str("; Secure");
        }
        cookie.push_str("; SameSite=");
        cookie.push_str(self.same_site);
        cookie
    }
}

/// Names and values of the cookies in a request.
fn pairs(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    headers
        .get_all("cookie")
        .iter()
        // Other programs of the domain may keep what is not ASCII in theirs.
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b';'))
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.trim().split_once('='))
}
