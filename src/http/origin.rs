//! Which pages may send requests, and where a request may lead afterwards: one checker for both, on
//! parsed URLs, never on prefixes (S-40, S-41).

use axum::http::{HeaderMap, Method};
use url::Url;

use super::error::Problem;

/// Origins that are trusted: the base URL's and the configured patterns.
pub struct Trusted {
    patterns: Vec<Pattern>,
}

/// `scheme://host[:port]` or `host[:port]` with `*` and `?`, or the beginning of a custom scheme's URL.
struct Pattern {
    scheme: Option<String>,
    host: String,
    /// Custom schemes (`mana://open`) match by prefix of scheme, authority and path.
    custom: Option<Url>,
}

impl Trusted {
    /// Reads the patterns; what cannot be read trusts nothing.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            patterns: patterns.into_iter().filter_map(Pattern::read).collect(),
        }
    }

    /// Whether an absolute URL belongs to a trusted origin.
    pub fn trusts(&self, url: &Url) -> bool {
        // User info in front of the host exists to deceive.
        url.username().is_empty()
            && url.password().is_none()
            && self.patterns.iter().any(|pattern| pattern.matches(url))
    }

    /// Whether the value of an `Origin` or `Referer` header is trusted.
    pub fn trusts_text(&self, text: &str) -> bool {
        Url::parse(text).is_ok_and(|url| self.trusts(&url))
    }

    /// Whether a request may lead there: a safe path on our side, or a trusted absolute URL.
    pub fn may_lead_to(&self, target: &str) -> bool {
        if target.chars().any(|c| c.is_control() || c == '\\') || target.trim() != target {
            return false;
        }
        if target.starts_with('/') {
            is_safe_path(target)
        } else {
            self.trusts_text(target)
        }
    }

    /// Rule for routes that change something: with a cookie, the page must be named and trusted.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_cookie_request(
        &self,
        method: &Method,
        headers: &HeaderMap,
    ) -> Result<(), Problem> {
        let safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
        if safe || !headers.contains_key("cookie") {
            Ok(())
        } else {
            self.check_page(headers)
        }
    }

    /// Rule for the sign-in forms without a cookie: a browser says where the request comes from, and a
    /// program that says nothing at all is let through.
    ///
    /// # Errors
    /// If the request comes from a page that is not trusted, or from no page although a browser sent it.
    pub fn check_form_request(&self, headers: &HeaderMap) -> Result<(), Problem> {
        if headers.contains_key("cookie") {
            return Ok(());
        }
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let metadata = ["sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest"]
            .iter()
            .any(|name| headers.contains_key(*name));
        if metadata {
            if text("sec-fetch-site") == Some("cross-site")
                && text("sec-fetch-mode") == Some("navigate")
            {
                return Err(Problem::CrossSiteNavigation);
            }
            return self.check_page(headers);
        }
        if headers.contains_key("origin") || headers.contains_key("referer") {
            self.check_page(headers)
        } else {
            Ok(())
        }
    }

    /// Rule for reading with a cookie where reading leaves a trace: a browser that another site has made read says so.
    ///
    /// # Errors
    /// If that site is not trusted.
    pub fn check_cross_site(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let site = headers.get("sec-fetch-site");
        if site.is_some_and(|site| site == "cross-site") {
            self.check_page(headers)
        } else {
            Ok(())
        }
    }

    fn check_page(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let text = |name: &str| {
            headers
                .get(name)
                .map(|value| value.to_str().unwrap_or("invalid"))
        };
        let same_origin = text("sec-fetch-site") == Some("same-origin");
        match text("origin").or_else(|| text("referer")) {
            None => Err(Problem::MissingOrNullOrigin),
            // A page may hide its origin and still prove by fetch metadata that it is our own.
            Some("null") if same_origin => Ok(()),
            Some("null" | "") => Err(Problem::MissingOrNullOrigin),
            Some(page) if self.trusts_text(page) => Ok(()),
            Some(_) => Err(Problem::InvalidOrigin),
        }
    }
}

impl Pattern {
    fn read(text: &str) -> Option<Self> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return (!text.is_empty()).then(|| Self {
                scheme: None,
                host: text.to_ascii_lowercase(),
                custom: None,
            });
        };
        let scheme = scheme.to_ascii_lowercase();
        if scheme != "http" && scheme != "https" {
            let custom = Url::parse(text).ok()?;
            return Some(Self {
                scheme: Some(scheme),
                host: String::new(),
                custom: Some(custom),
            });
        }
        let host = rest
            .split(['/', '?', '#'])
            .next()
            .filter(|_| !rest.contains('?'))
            .unwrap_or_else(|| rest.trim_end_matches('/'));
        (!host.is_empty()).then(|| Self {
            scheme: Some(scheme),
            host: host.to_ascii_lowercase(),
            custom: None,
        })
    }

    fn matches(&self, url: &Url) -> bool {
        if let Some(custom) = &self.custom {
            return url.scheme() == custom.scheme()
                && url.authority() == custom.authority()
                && is_path_prefix(custom.path(), url.path());
        }
        if !matches!(url.scheme(), "http" | "https")
            || self
                .scheme
                .as_deref()
                .is_some_and(|scheme| scheme != url.scheme())
        {
            return false;
        }
        let Some(name) = url.host_str() else {
            return false;
        };
        let default = url.port_or_known_default();
        let explicit = url
            .port()
            .map_or_else(|| name.to_owned(), |port| format!("{name}:{port}"));
        // A pattern of digits and wildcards is meant for addresses, not for names such as 1.2.evil.example.
        let numeric = self.host.split(':').next().is_some_and(|host| {
            host.chars()
                .all(|c| c.is_ascii_digit() || ".*?".contains(c))
                && host.contains('.')
        });
        if numeric && !matches!(url.host(), Some(url::Host::Ipv4(_))) {
            return false;
        }
        let with_default = default.map(|port| format!("{name}:{port}"));
        wildcard(&self.host, &explicit)
            || with_default.is_some_and(|host| wildcard(&self.host, &host))
    }
}

fn is_path_prefix(prefix: &str, path: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `*` is any run without slashes, `?` one such character.
fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == text[t] || c == '?' => {
                p += 1;
                t += 1;
            }
            _ => {
                // Let the last star take one character more.
                let Some((at, from)) = star else { return false };
                star = Some((at, from + 1));
                p = at + 1;
                t = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// A path that stays on our side however a browser reads it.
fn is_safe_path(target: &str) -> bool {
    let path = target
        .split(['?', '#'])
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    !target.starts_with("//")
        && !path.contains("%2f")
        && !path.contains("%5c")
        && !target.contains('\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted() -> Trusted {
        Trusted::new([
            "http://localhost:3001",
            "http://app.localhost:5173",
            "https://*.trusted.example",
            "https://mana.how",
            "*.any.example",
            "10.0.*.*",
            "mana-app://open/x",
        ])
    }

    #[test]
    fn trusted_places_are_reached() {
        for target in [
            "/",
            "/a/b?c=d#e",
            "/a?next=https://x.example/%2f",
            "http://localhost:3001/x",
            "http://app.localhost:5173",
            "https://a.trusted.example/x?y=1",
            "https://a.b.trusted.example",
            "https://mana.how:443/x",
            "http://b.any.example",
            "https://b.any.example/y",
            "http://10.0.3.4/z",
            "mana-app://open/x/y",
            "HTTPS://MANA.HOW/x",
        ] {
            assert!(trusted().may_lead_to(target), "{target}");
        }
    }

    /// S-41: every one of these led somewhere else on some system.
    #[test]
    fn no_other_place_is_reached() {
        for target in [
            "",
            "//evil.example",
            "///evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "\\evil",
            "/%2fevil.example",
            "/%2Fevil.example",
            "/%5cevil",
            "/a\nb",
            "/a\tb",
            "/\u{0}",
            "\t/x",
            " /x",
            "relative/path",
            "evil.example",
            "javascript:alert(1)",
            "JaVaScRiPt:alert(1)",
            "data:text/html,x",
            "vbscript:x",
            "file:///etc/passwd",
            "blob:http://app.localhost:5173/x",
            "https://evil.example",
            "https:evil.example",
            "https:/evil.example",
            "http:\\\\evil.example",
            "https://trusted.example",
            "http://a.trusted.example",
            "https://trusted.example.evil.example",
            "https://evil.example/.trusted.example",
            "https://evil.example?.trusted.example",
            "https://evil.example#.trusted.example",
            "https://eviltrusted.example",
            "http://app.localhost:5173@evil.example/",
            "http://user@app.localhost:5173/",
            "http://user:pass@app.localhost:5173/",
            "http://app.localhost:5174",
            "http://app.localhost",
            "https://mana.how.evil.example",
            "https://mana.how:8443",
            "https://xmana.how",
            "https://mana.howx",
            "http://10.0.1.evil.example",
            "http://10.0.1.2.evil.example",
            "mana-app://other/x",
            "mana-app://open/xy",
            "mana://open",
            "ftp://mana.how",
            "https://mana。how.evil.example",
            "https://xn--mana-.how",
        ] {
            assert!(!trusted().may_lead_to(target), "{target:?}");
        }
    }

    #[test]
    fn wildcards_match_within_a_host() {
        for (pattern, text, matches) in [
            ("*.x.y", "a.x.y", true),
            ("*.x.y", "a.b.x.y", true),
            ("*.x.y", "x.y", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*", "", true),
            ("a*b*c", "a1b2b3c", true),
            ("a*b*c", "a1b2b3", false),
        ] {
            assert_eq!(wildcard(pattern, text), matches, "{pattern} {text}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    /// S-40, first half: requests with a cookie.
    #[test]
    fn a_request_with_a_cookie_must_come_from_a_trusted_page() {
        let check = |method: Method, pairs: &[(&'static str, &'static str)]| {
            trusted().check_cookie_request(&method, &headers(pairs))
        };
        let cookie = ("cookie", "a=b");
        assert_eq!(
            check(Method::POST, &[cookie]),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(Method::DELETE, &[cookie]),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(Method::POST, &[cookie, ("origin", "null")]),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(Method::POST, &[cookie, ("origin", "")]),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(
                Method::POST,
                &[
                    cookie,
                    ("origin", "null"),
                    ("sec-fetch-site", "same-origin")
                ]
            ),
            Ok(())
        );
        assert_eq!(
            check(
                Method::POST,
                &[cookie, ("origin", "null"), ("sec-fetch-site", "same-site")]
            ),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(Method::POST, &[cookie, ("origin", "https://evil.example")]),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(
            check(
                Method::POST,
                &[cookie, ("origin", "https://trusted.example.evil.example")]
            ),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(
            check(
                Method::POST,
                &[cookie, ("origin", "http://app.localhost:5174")]
            ),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(
            check(
                Method::POST,
                &[cookie, ("referer", "https://evil.example/page")]
            ),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(
            check(
                Method::POST,
                &[cookie, ("origin", "http://app.localhost:5173")]
            ),
            Ok(())
        );
        assert_eq!(
            check(
                Method::POST,
                &[cookie, ("referer", "http://app.localhost:5173/page")]
            ),
            Ok(())
        );
        assert_eq!(
            check(Method::GET, &[cookie, ("origin", "https://evil.example")]),
            Ok(())
        );
        assert_eq!(
            check(Method::POST, &[("origin", "https://evil.example")]),
            Ok(())
        );
    }

    /// S-40, second half: sign-in forms without a cookie.
    #[test]
    fn a_sign_in_from_a_browser_must_come_from_a_trusted_page() {
        let check =
            |pairs: &[(&'static str, &'static str)]| trusted().check_form_request(&headers(pairs));
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(
            check(&[("origin", "null")]),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(&[("origin", "https://evil.example")]),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(
            check(&[("referer", "https://evil.example/")]),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(check(&[("origin", "http://app.localhost:5173")]), Ok(()));
        assert_eq!(
            check(&[("sec-fetch-mode", "cors")]),
            Err(Problem::MissingOrNullOrigin)
        );
        assert_eq!(
            check(&[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "navigate")
            ]),
            Err(Problem::CrossSiteNavigation)
        );
        assert_eq!(
            check(&[
                ("sec-fetch-site", "cross-site"),
                ("sec-fetch-mode", "cors"),
                ("origin", "https://evil.example")
            ]),
            Err(Problem::InvalidOrigin)
        );
        assert_eq!(
            check(&[
                ("sec-fetch-site", "same-origin"),
                ("origin", "null"),
                ("sec-fetch-mode", "navigate")
            ]),
            Ok(())
        );
    }
}
