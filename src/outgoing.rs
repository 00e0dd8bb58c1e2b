//! Calls to addresses that somebody outside has a say in (S-46): a name is resolved once, every address that it has is
//! checked, and the call goes to one of those. No redirect is followed, no proxy asked, and size and time have an end.

use std::error::Error as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::redirect::Policy;
use url::Host;

/// A connection has this long to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call has this long from its beginning to the last byte of its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes; sets of keys have a few thousand.
const ANSWER_MAX_BYTES: usize = 256 * 1024;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum OutgoingError {
    /// The host stands for an address that is not public.
    #[error("the address is not public")]
    Forbidden,
    /// The answer has no end that we would wait for.
    #[error("the answer is too large")]
    TooLarge,
    /// No answer, or none in time.
    #[error("no answer")]
    Failed(#[from] reqwest::Error),
    /// The request or its answer has a part that HTTP does not know.
    #[error("not HTTP")]
    NotHttp(#[from] oauth2::http::Error),
}

impl OutgoingError {
    /// With all that it follows from: the reason stands at the end of a chain.
    pub fn in_full(&self) -> String {
        let mut text = self.to_string();
        let mut source = self.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

/// Makes the calls.
pub struct Outgoing {
    client: reqwest::Client,
    allow_private: bool,
}

impl Outgoing {
    /// `allow_private`: what is not public may be called as well.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(allow_private: bool) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .dns_resolver(Arc::new(Checked { allow_private }))
            .build()?;
        Ok(Self {
            client,
            allow_private,
        })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    /// If it may not be sent, or is not answered.
    pub async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OutgoingError> {
        let request = reqwest::Request::try_from(request)?;
        // Only names are resolved: an address in the place of one is looked at here.
        let address = match request.url().host() {
            Some(Host::Ipv4(address)) => Some(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Some(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => None,
        };
        if address.is_some_and(|address| !self.allow_private && !is_public(address)) {
            return Err(OutgoingError::Forbidden);
        }
        let mut response = self
            .client
            .execute(request)
            .await
            .map_err(reqwest::Error::without_url)?;
        let mut body = Vec::new();
        while let Some(chunk) = response
            .chunk()
            .await
            .map_err(reqwest::Error::without_url)?
        {
            if body.len() + chunk.len() > ANSWER_MAX_BYTES {
                return Err(OutgoingError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        let mut answer = oauth2::http::Response::builder().status(response.status());
        if let Some(headers) = answer.headers_mut() {
            *headers = std::mem::take(response.headers_mut());
        }
        Ok(answer.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Outgoing {
    type Error = OutgoingError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, OutgoingError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}

/// Resolves names to addresses that may be called. The connection goes to what was checked, so a name that means
/// something else a moment later gains nothing.
struct Checked {
    allow_private: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_private = self.allow_private;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let found: Vec<SocketAddr> = found.collect();
            if !allow_private && !found.iter().all(|address| is_public(address.ip())) {
                return Err(OutgoingError::Forbidden.into());
            }
            let addresses: Addrs = Box::new(found.into_iter());
            Ok(addresses)
        })
    }
}

/// Whether an address is one of the public internet, by the registries of special addresses (RFC 6890 and later).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            // Protocol assignments, documentation and the old relays of 6to4.
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            // Multicast, reserved and broadcast.
            | [224..=255, ..]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return is_public_v4(mapped);
    }
    match address.segments() {
        // Protocol assignments, Teredo among them, documentation, and 6to4, which holds any other address.
        [0x2001, 0..=0x01ff, ..] | [0x2001, 0x0db8, ..] | [0x2002, ..] => false,
        [0x3fff, 0..=0x0fff, ..] => false,
        // All that is given out; what lies beyond translates, is local, or belongs to nobody.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// S-46
    #[test]
    fn only_addresses_of_the_public_internet_are_public_s46() {
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "192.168.255.255",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0.0.0.0",
            "::127.0.0.1",
            "::7f00:1",
            "64:ff9b::7f00:1",
            "64:ff9b::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:0:1::1",
            "2001:10::1",
            "2001:20::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "ff0e::1",
            "4000::1",
        ] {
            assert!(!is_public(refused.parse().unwrap()), "{refused}");
        }
        for public in [
            "1.1.1.1",
            "8.8.8.8",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.1",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.1",
            "192.167.255.255",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "2001:200::1",
            "2a00::1",
            "::ffff:8.8.8.8",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    fn get(url: &str) -> HttpRequest {
        let request = oauth2::http::Request::get(url);
        request.body(Vec::new()).unwrap()
    }

    /// S-46: however the address is written; nothing is sent before it is looked at.
    #[tokio::test]
    async fn private_addresses_are_refused_in_every_spelling_s46() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let outgoing = Outgoing::new(false).unwrap();
        for url in [
            "http://127.0.0.1:1/",
            "http://2130706433:1/",
            "http://0x7f.1:1/",
            "http://017700000001:1/",
            "http://127.1:1/",
            "http://0:1/",
            "http://[::1]:1/",
            "http://[::ffff:127.0.0.1]:1/",
            "http://[0:0:0:0:0:ffff:7f00:1]:1/",
            "http://169.254.169.254:1/latest/meta-data",
        ] {
            let refused = outgoing.send(get(url)).await;
            assert!(
                matches!(refused, Err(OutgoingError::Forbidden)),
                "{url}: {refused:?}"
            );
        }
        // A name is refused by what it stands for.
        let refused = outgoing.send(get("http://localhost:1/")).await.unwrap_err();
        let reason = "the address is not public";
        assert!(refused.in_full().ends_with(reason), "{}", refused.in_full());
    }

    /// Gives an answer to one call, and tells where it listens.
    async fn answering(answer: Vec<u8>) -> (String, tokio::task::JoinHandle<TcpListener>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            // Whoever has heard enough hangs up.
            let _ = stream.write_all(&answer).await;
            listener
        });
        (url, task)
    }

    /// S-46
    #[tokio::test]
    async fn redirects_are_not_followed_and_large_answers_not_read_s46() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let outgoing = Outgoing::new(true).unwrap();
        let redirect = "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n";
        let (url, task) = answering(redirect.into()).await;
        let answer = outgoing.send(get(&url)).await.unwrap();
        assert!(answer.status().is_redirection());
        let listener = task.await.unwrap();
        let second = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(second.is_err(), "somebody followed it");

        for (size, fits) in [(ANSWER_MAX_BYTES, true), (ANSWER_MAX_BYTES + 1, false)] {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {size}\r\n\r\n");
            let (url, _task) = answering([head.into_bytes(), vec![b'x'; size]].concat()).await;
            let answer = outgoing.send(get(&url)).await;
            assert_eq!(answer.is_ok(), fits, "{answer:.100?}");
        }
    }
}
