//! The device that somebody signed in with, in words that people recognise.

use std::fmt;
use std::net::IpAddr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Locale;
use super::render::one_line;

/// What the words of an unknown agent are cut to, in characters.
const AGENT_CHARS: usize = 120;

/// Browsers by a word in their `User-Agent`. The first match counts: browsers also claim to be what they descend from.
const BROWSERS: [(&str, &str); 8] = [
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
];

/// Systems by a word in the `User-Agent` of a browser. The first match counts: Android also says that it is Linux.
const SYSTEMS: [(&str, &str); 7] = [
    ("Android", "Android"),
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Windows", "Windows"),
    ("Macintosh", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
];

/// Where a sign-in came from. Its `Debug` shows nothing, because all of it is personal.
#[derive(Clone, Serialize, Deserialize)]
pub struct Device {
    /// The network address, as sessions keep it; empty if it is not known.
    pub ip_address: String,
    /// What the device says it is; may be empty.
    pub user_agent: String,
    /// When it signed in.
    pub at: DateTime<Utc>,
}

impl fmt::Debug for Device {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Device").finish_non_exhaustive()
    }
}

impl Device {
    /// "Firefox on Linux" for browsers, the device's own words for others.
    pub fn description(&self, locale: Locale) -> String {
        let named = |names: &[(&str, &'static str)]| {
            let known = names.iter().find(|name| self.user_agent.contains(name.0));
            known.map(|name| name.1)
        };
        let own_words = one_line(&self.user_agent, AGENT_CHARS);
        match (named(&BROWSERS), named(&SYSTEMS), locale) {
            (Some(browser), Some(system), Locale::De) => format!("{browser} unter {system}"),
            (Some(browser), Some(system), Locale::En) => format!("{browser} on {system}"),
            _ if !own_words.is_empty() => own_words,
            (_, _, Locale::De) => "unbekannt".to_owned(),
            (_, _, Locale::En) => "unknown".to_owned(),
        }
    }

    /// The network address, unless it is not known.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.ip_address.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(user_agent: &str) -> Device {
        Device {
            ip_address: String::new(),
            user_agent: user_agent.to_owned(),
            at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn browsers_have_the_names_that_people_know() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 Edg/142.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/28.0 Chrome/130.0.0.0 Mobile Safari/537.36",
                "Samsung Internet on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
            ),
            (
                "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) FxiOS/144.0 Mobile/15E148 Safari/605.1.15",
                "Firefox on iPadOS",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/26.0 Safari/605.1.15",
                "Safari on macOS",
            ),
            (
                "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36 OPR/120.0.0.0",
                "Opera on ChromeOS",
            ),
        ] {
            assert_eq!(device(agent).description(Locale::En), name);
            let german = name.replace(" on ", " unter ");
            assert_eq!(device(agent).description(Locale::De), german);
        }
    }

    #[test]
    fn others_are_shown_in_their_own_words_cut_and_on_one_line() {
        for (agent, words) in [
            ("curl/8.17.0", "curl/8.17.0"),
            ("Firefox/145.0", "Firefox/145.0"),
            ("Linux", "Linux"),
            ("a\r\n\r\nb\u{202E}c\0", "a bc"),
        ] {
            assert_eq!(device(agent).description(Locale::De), words);
        }
        let long = device(&"ü".repeat(10_000)).description(Locale::De);
        assert_eq!(long, "ü".repeat(120));
        assert_eq!(device(" \u{200F}").description(Locale::De), "unbekannt");
        assert_eq!(device("").description(Locale::En), "unknown");
    }

    /// S-43.
    #[test]
    fn only_an_address_is_shown_as_one() {
        for (text, address) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("2001:db8::7", Some("2001:db8::7")),
            ("", None),
            ("192.0.2.7\r\nhttps://evil.example", None),
        ] {
            let device = Device {
                ip_address: text.to_owned(),
                ..device("")
            };
            let shown = device.address().map(|address| address.to_string());
            assert_eq!(shown.as_deref(), address);
        }
    }
}
