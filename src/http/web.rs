//! What every handler of the API works with: the service, its cookies and trusted origins, and the call
//! that it answers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Bytes, HttpBody as _};
use axum::extract::{FromRequest, MatchedPath, Request};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::IntoResponse as _;
use serde_json::Value;

use super::client::{self, RequestId};
use super::cookies::Cookies;
use super::doors::Limits;
use super::error::Problem;
use super::limits::Brakes;
use super::origin::Trusted;
use super::request::{BodyTypes, Fields, read_body};
use crate::accounts::{AccountError, Caller};
use crate::app::App;
use crate::store::idempotency::{Fingerprint, Known, Outcome};

/// Fields of a body that say where a request may lead.
const REDIRECT_FIELDS: [&str; 4] = [
    "callbackURL",
    "redirectTo",
    "errorCallbackURL",
    "newUserCallbackURL",
];

/// A request's body has this long to arrive.
const BODY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(15);

/// The state of all handlers.
pub struct Web {
    /// The service.
    pub app: Arc<App>,
    /// Names and attributes of cookies.
    pub cookies: Cookies,
    /// Pages that may call, and places where a call may lead.
    pub trusted: Trusted,
    /// Whether clients reach the service over TLS.
    pub over_https: bool,
    /// What is known of the doors.
    pub(super) limits: Limits,
    brakes: Brakes,
}

impl Web {
    /// For a service.
    pub fn new(app: Arc<App>) -> Self {
        let cookies = Cookies::new(&app.config);
        let trusted = Trusted::new(app.config.trusted_origins.iter().map(String::as_str));
        Self {
            over_https: app.config.secure_cookies(),
            app,
            cookies,
            trusted,
            limits: Limits::of_all_doors(),
            brakes: Brakes::default(),
        }
    }
}

impl Web {
    /// Counts a request by the limit of its door, before anything of it is looked at.
    async fn count(
        &self,
        method: &Method,
        path: Option<&MatchedPath>,
        address: Option<IpAddr>,
    ) -> Result<(), Problem> {
        let found = path.and_then(|path| self.limits.find(method, path.as_str()));
        match (found, path) {
            (Some((_, Some(limit))), _) => limit.take(&self.app, address).await,
            (Some((_, None)), Some(path)) if self.limits.counts_people(method, path.as_str()) => {
                Ok(())
            }
            (Some((path, None)), _) => self.brake(path, address),
            (None, _) => Ok(()),
        }
    }

    fn brake(&self, path: &'static str, address: Option<IpAddr>) -> Result<(), Problem> {
        if self.app.config.rate_limit {
            self.brakes.take(path, address)?;
        }
        Ok(())
    }
}

/// One request, read as far as every handler needs it.
pub struct Call {
    /// The state.
    pub web: Arc<Web>,
    /// Of the request.
    pub method: Method,
    /// Of the request.
    pub headers: HeaderMap,
    /// Of the route.
    pub(super) path: Option<MatchedPath>,
    /// Behind the question mark.
    pub query: Option<String>,
    /// Of the client, if it is known.
    pub address: Option<IpAddr>,
    /// Who asks.
    pub caller: Caller,
    /// The body.
    pub bytes: Bytes,
}

impl Call {
    /// Counts a call that is nobody's, at a door that counts people.
    pub fn count_as_nobodys(&self) -> Result<(), Problem> {
        let path = self.path.as_ref().map(MatchedPath::as_str);
        match path.and_then(|path| self.web.limits.find(&self.method, path)) {
            Some((path, _)) => self.web.brake(path, self.address),
            None => Ok(()),
        }
    }
}

impl FromRequest<Arc<Web>> for Call {
    type Rejection = Problem;

    async fn from_request(mut request: Request, web: &Arc<Web>) -> Result<Self, Problem> {
        let method = request.method().clone();
        let query = request.uri().query().map(str::to_owned);
        let address = client::address(
            request.headers(),
            request.extensions(),
            &web.app.config.trusted_proxies,
        );
        let path = request.extensions().get::<MatchedPath>().cloned();
        web.count(&method, path.as_ref(), address).await?;
        let request_id = request
            .extensions_mut()
            .remove::<RequestId>()
            .unwrap_or_else(|| RequestId::of(request.headers()));
        let headers = std::mem::take(request.headers_mut());
        let caller = client::caller(&headers, address, request_id);
        let bytes = if request.body().is_end_stream() {
            Bytes::new()
        } else {
            // Rare on the hottest routes, whose work stays small without it.
            Box::pin(body(request, web)).await?
        };
        Ok(Self {
            web: web.clone(),
            method,
            path,
            headers,
            query,
            address,
            caller,
            bytes,
        })
    }
}

async fn body(request: Request, web: &Arc<Web>) -> Result<Bytes, Problem> {
    // Whoever announces a body and does not send it must not hold a connection for ever.
    let body = tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, web));
    body.await
        .map_err(|_| Problem::BodyTooSlow)?
        .map_err(|rejection| match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::PayloadTooLarge,
            _ => Problem::InvalidJson,
        })
}

impl Call {
    /// The service.
    pub fn app(&self) -> &App {
        &self.web.app
    }

    /// Reads the body in the order of checks that clients know: its type and JSON, then the page that
    /// sent it, then where it wants to lead. The schema is the handler's.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn fields(&self, types: BodyTypes, also_record: bool) -> Result<Fields, Problem> {
        let body = read_body(&self.headers, &self.bytes, types)?;
        self.web
            .trusted
            .check_cookie_request(&self.method, &self.headers)?;
        if let Some(body) = &body {
            for field in REDIRECT_FIELDS {
                match body.get(field) {
                    None => {}
                    Some(Value::String(target)) => self.check_redirect(field, target)?,
                    Some(_) => return Err(Problem::RedirectNotText(field)),
                }
            }
        }
        let form = self
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|t| t.as_bytes().starts_with(b"application/x-www"));
        Ok(Fields::of_body(body, form, also_record))
    }

    /// The same for a body that may be any object.
    ///
    /// # Errors
    /// The first check that fails.
    pub fn record(&self, types: BodyTypes) -> Result<Fields, Problem> {
        let body = read_body(&self.headers, &self.bytes, types)?;
        self.web
            .trusted
            .check_cookie_request(&self.method, &self.headers)?;
        Ok(Fields::of_record(body))
    }

    /// Whether the request may lead there; an empty target is no target.
    ///
    /// # Errors
    /// If it may not.
    pub fn check_redirect(&self, field: &'static str, target: &str) -> Result<(), Problem> {
        if target.is_empty() || self.web.trusted.may_lead_to(target) {
            Ok(())
        } else {
            Err(Problem::InvalidRedirect(field))
        }
    }

    /// The value of one of our signed cookies.
    pub fn cookie(&self, key: &str) -> Option<String> {
        let signer = &self.app().cookies;
        self.web.cookies.read(signer, &self.headers, key)
    }

    /// Whether the browser holds the cookie of a session that ends with it.
    pub fn is_brief(&self) -> bool {
        self.cookie("dont_remember").is_some()
    }

    /// With a cookie, the page that sent the request must be trusted.
    ///
    /// # Errors
    /// If it is not.
    pub fn check_page(&self) -> Result<(), Problem> {
        self.web
            .trusted
            .check_cookie_request(&self.method, &self.headers)
    }

    /// The `Idempotency-Key` of a request that makes an account, if it has one, tied to route and body. Nothing that is
    /// quick to compute is kept of a password.
    ///
    /// # Errors
    /// If the key is not 1 to 255 visible ASCII characters, or the hasher has no room.
    pub async fn idempotency_of_sign_up(
        &self,
        route: &str,
    ) -> Result<Option<Fingerprint>, Problem> {
        let Some(quick) = self.idempotency_of(route, &self.bytes)? else {
            return Ok(None);
        };
        let stretched = quick.stretched(&self.app().passwords).await;
        Ok(Some(stretched.map_err(AccountError::from)?))
    }

    /// The `Idempotency-Key` of a request, if it has one, tied to route and what of its body says which request it is.
    ///
    /// # Errors
    /// If the key is not 1 to 255 visible ASCII characters.
    pub fn idempotency_of(&self, route: &str, body: &[u8]) -> Result<Option<Fingerprint>, Problem> {
        let Some(key) = self.headers.get("idempotency-key") else {
            return Ok(None);
        };
        let visible = |key: &&str| {
            (1..=255).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
        };
        let key = key
            .to_str()
            .ok()
            .filter(visible)
            .ok_or(Problem::IdempotencyKeyInvalid)?;
        Ok(Some(Fingerprint::of(&self.app().root, route, key, body)))
    }

    /// Whether the request was carried out before.
    ///
    /// # Errors
    /// If the key was used for another request, or cannot be looked up.
    pub async fn repeated(
        &self,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Option<Option<Outcome>>, Problem> {
        let Some(fingerprint) = fingerprint else {
            return Ok(None);
        };
        match fingerprint
            .look_up(&self.app().pool, self.app().store.custody())
            .await?
        {
            Known::New => Ok(None),
            Known::Repeated(outcome) => Ok(Some(outcome)),
            Known::Misused => Err(Problem::IdempotencyKeyMisused),
        }
    }
}
