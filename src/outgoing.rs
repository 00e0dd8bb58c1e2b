//! Calls to addresses that somebody outside has a say in (S-46): a name is resolved once, every address that it has is
//! checked, and the call goes to one of those. No redirect is followed, no proxy asked, and size and time have an end.

use std::error::Error as _;
use std::io;
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
        Self::resolving(allow_private, Arc::new(|name| Box::pin(of_system(name))))
    }

    fn resolving(allow_private: bool, lookup: Lookup) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .dns_resolver(Arc::new(Checked {
                allow_private,
                lookup,
            }))
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
    lookup: Lookup,
}

/// Says what a name stands for.
type Lookup = Arc<dyn Fn(Name) -> Found + Send + Sync>;
type Found = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

async fn of_system(name: Name) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let (allow_private, found) = (self.allow_private, (self.lookup)(name));
        Box::pin(async move {
            let found = found.await?;
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
mod tests;
