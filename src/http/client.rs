//! Who sends a request: address, agent and request id.

use std::net::{IpAddr, SocketAddr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::accounts::Caller;
use crate::crypto::tokens::random_token;
use crate::store::Client;

/// Longest `User-Agent` that is kept, in characters.
const USER_AGENT_MAX_CHARS: usize = 512;

/// Id of a request: the caller's `X-Request-Id` if it is harmless, else made here.
#[derive(Clone)]
pub struct RequestId(String);

impl RequestId {
    /// Of a request with these headers.
    pub fn of(headers: &HeaderMap) -> Self {
        let harmless = |id: &&str| {
            (1..=64).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let given = headers
            .get("x-request-id")
            .and_then(|value| value.to_str().ok())
            .filter(harmless);
        Self(given.map_or_else(fresh_id, str::to_owned))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a header.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("letters, digits and -_. are fine in a header")
    }
}

/// Unique over all nodes and starts without asking for randomness each time: it is a name, not a secret.
fn fresh_id() -> String {
    static PREFIX: OnceLock<String> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let prefix = PREFIX.get_or_init(|| random_token(10));
    format!("{prefix}{:06x}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Address of the client: the peer, or, if the peer is a listed proxy, the right-most address in
/// `X-Forwarded-For` that is not one (S-16), or that in `X-Real-IP` if it sends no other. v4-mapped addresses are
/// unwrapped (S-15). `None` on loopback: that is a local program or an unlisted proxy and says nothing of the client.
pub fn address(headers: &HeaderMap, extensions: &Extensions, proxies: &[IpNet]) -> Option<IpAddr> {
    let peer = extensions
        .get::<ConnectInfo<SocketAddr>>()?
        .0
        .ip()
        .to_canonical();
    let is_proxy = |address: &IpAddr| proxies.iter().any(|network| network.contains(address));
    let mut client = peer;
    if !is_proxy(&peer) && headers.contains_key("x-forwarded-for") {
        warn_of_unlisted_proxy();
    }
    if is_proxy(&peer) {
        let name = match headers.contains_key("x-forwarded-for") {
            true => "x-forwarded-for",
            false => "x-real-ip",
        };
        let forwarded: Vec<&str> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .collect();
        for text in forwarded.iter().rev() {
            // What cannot be read ends the chain: nothing left of it can be believed.
            let Ok(hop) = text.trim().parse::<IpAddr>() else {
                break;
            };
            client = hop.to_canonical();
            if !is_proxy(&client) {
                break;
            }
        }
    }
    (!client.is_loopback()).then_some(client)
}

/// Said once: behind a proxy that is not listed, all people share one address and so one rate limit.
fn warn_of_unlisted_proxy() {
    static SAID: std::sync::Once = std::sync::Once::new();
    SAID.call_once(|| {
        tracing::warn!(
            "X-Forwarded-For comes from a peer that is not in MANA_AUTH_TRUSTED_PROXIES and is ignored; \
             if that peer is your proxy, list its network"
        );
    });
}

/// The same person's address for counting: IPv6 by its /64 (S-15).
pub fn counting_key(address: Option<IpAddr>) -> String {
    match address {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(address)) => address.to_string(),
        Some(IpAddr::V6(address)) => {
            let s = address.segments();
            format!("{:x}:{:x}:{:x}:{:x}::/64", s[0], s[1], s[2], s[3])
        }
    }
}

/// Everything about who asks that a command records.
pub fn caller(headers: &HeaderMap, address: Option<IpAddr>, request_id: RequestId) -> Caller {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    // Headers that can be read as text are ASCII: characters are bytes.
    let user_agent = text("user-agent").unwrap_or_default();
    let user_agent = user_agent
        .get(..USER_AGENT_MAX_CHARS)
        .unwrap_or(user_agent)
        .to_owned();
    // 00-<32 hex>-<16 hex>-<2 hex>: anything else is not trace context.
    let is_traceparent =
        |t: &&str| t.len() == 55 && t.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    Caller {
        client: Client {
            ip_address: address.map(|a| a.to_string()).unwrap_or_default(),
            user_agent,
        },
        network: address.map(|a| counting_key(Some(a))).unwrap_or_default(),
        request_id: request_id.0,
        traceparent: text("traceparent")
            .filter(is_traceparent)
            .map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&'static str], proxies: &[&str]) -> String {
        let forwarded = forwarded.iter().map(|value| ("x-forwarded-for", *value));
        seen_by(peer, &forwarded.collect::<Vec<_>>(), proxies)
    }

    fn seen_by(peer: &str, sent: &[(&'static str, &'static str)], proxies: &[&str]) -> String {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer.parse().unwrap(), 1)));
        let mut headers = HeaderMap::new();
        for (name, value) in sent {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let proxies: Vec<IpNet> = proxies
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        address(&headers, &extensions, &proxies)
            .map(|a| a.to_string())
            .unwrap_or_default()
    }

    /// S-16
    #[test]
    fn a_forwarded_address_counts_only_from_a_listed_proxy() {
        assert_eq!(seen("198.51.100.7", &["203.0.113.9"], &[]), "198.51.100.7");
        assert_eq!(
            seen("10.0.0.1", &["203.0.113.9"], &["10.0.0.0/8"]),
            "203.0.113.9"
        );
        assert_eq!(
            seen(
                "10.0.0.1",
                &["1.1.1.1, 203.0.113.9, 10.0.0.2"],
                &["10.0.0.0/8"]
            ),
            "203.0.113.9"
        );
        assert_eq!(
            seen("10.0.0.1", &["1.1.1.1", "203.0.113.9"], &["10.0.0.0/8"]),
            "203.0.113.9"
        );
        assert_eq!(
            seen("10.0.0.1", &["1.1.1.1, nonsense"], &["10.0.0.0/8"]),
            "10.0.0.1"
        );
        assert_eq!(
            seen("127.0.0.1", &["203.0.113.9"], &["127.0.0.0/8"]),
            "203.0.113.9"
        );
    }

    /// S-16
    #[test]
    fn the_real_address_counts_where_a_listed_proxy_forwards_no_other() {
        let real = ("x-real-ip", "203.0.113.9");
        let forwarded = ("x-forwarded-for", "192.0.2.4");
        let proxy = &["10.0.0.0/8"];
        assert_eq!(seen_by("10.0.0.1", &[real], proxy), "203.0.113.9");
        assert_eq!(seen_by("10.0.0.1", &[real, forwarded], proxy), "192.0.2.4");
        let unreadable = ("x-forwarded-for", "unknown");
        assert_eq!(seen_by("10.0.0.1", &[real, unreadable], proxy), "10.0.0.1");
        assert_eq!(seen_by("198.51.100.7", &[real], &[]), "198.51.100.7");
    }

    /// S-15
    #[test]
    fn addresses_are_canonical() {
        assert_eq!(seen("::ffff:198.51.100.7", &[], &[]), "198.51.100.7");
        assert_eq!(seen("127.0.0.1", &[], &[]), "");
        let key = |text: &str| counting_key(Some(text.parse().unwrap()));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:0db8:0001:0002:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }

    #[test]
    fn a_request_id_is_echoed_only_if_it_is_harmless() {
        let id = |value: &'static str| {
            let headers: HeaderMap = [(
                "x-request-id".parse().unwrap(),
                HeaderValue::from_static(value),
            )]
            .into_iter()
            .collect();
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(id("abc-1_2.3"), "abc-1_2.3");
        for bad in ["", "a b", "<script>", "a\"b"] {
            assert_ne!(id(bad), bad);
        }
    }
}
