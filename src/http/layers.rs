//! What every request passes: an id, the words that log lines have about it, metrics, CORS and security headers.

use std::cell::Cell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, RwLock};
use std::task::{self, Poll};
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use metrics::{Counter, Histogram, counter, histogram};
use tower::Service;

use super::answers;
use super::client::RequestId;
use super::error::Problem;
use super::web::Web;
use crate::config::ErrorShape;
use crate::store::WRITTEN;
use crate::telemetry::{ASKED, Asked};

/// The only layer. A service of its own and not a function of axum's, which would box the request's work once more.
#[derive(Clone)]
pub struct Around<S> {
    web: Arc<Web>,
    route: S,
}

impl<S> Around<S> {
    /// Puts it around a route.
    pub fn new(web: Arc<Web>, route: S) -> Self {
        Self { web, route }
    }
}

impl<S> Service<Request> for Around<S>
where
    S: Service<Request, Error = Infallible>,
    S::Response: IntoResponse,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        self.route.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        let started = Instant::now();
        let web = self.web.clone();
        let id = RequestId::of(request.headers());
        request.extensions_mut().insert(id.clone());
        let path = request.extensions().get::<MatchedPath>().cloned();
        let asked = Asked {
            id: id.as_str().to_owned(),
            method: request.method().as_str().to_owned(),
            route: route(path.as_ref()).to_owned(),
        };
        let asks = Asks::of(&web, &request);
        let work = match asks.answer() {
            Some(answer) => Err(answer),
            None => Ok(self.route.call(request)),
        };
        Box::pin(async move {
            let route = route(path.as_ref());
            let work = async {
                let response = match work {
                    Ok(work) => {
                        let Ok(response) = work.await;
                        shaped(response.into_response(), route, web.app.config.error_shape)
                    }
                    Err(answer) => answer,
                };
                tell(response.status(), started);
                (response, WRITTEN.with(Cell::get))
            };
            let work = WRITTEN.scope(Cell::new(None), work);
            let (mut response, position) = ASKED.scope(asked, work).await;
            asks.let_read(&mut response);
            asks.secure(&web, &mut response);
            let headers = response.headers_mut();
            if let Some(position) = position {
                headers.insert("x-log-position", HeaderValue::from(position));
            }
            headers.insert("x-request-id", id.header());
            measure(route, response.status().as_u16(), started);
            Ok(response)
        })
    }
}

/// The pattern of a route.
fn route(path: Option<&MatchedPath>) -> &str {
    path.map_or("unmatched", MatchedPath::as_str)
}

/// Tells the log how a request ended.
fn tell(status: StatusCode, started: Instant) {
    let millis = started.elapsed().as_millis() as u64;
    let status = status.as_u16();
    if status >= 500 {
        tracing::error!(status, millis, "request failed");
    } else {
        tracing::debug!(status, millis, "request");
    }
}

/// Counts and times a request. The series of a route and status is looked up by name only once.
fn measure(route: &str, status: u16, started: Instant) {
    type Series = HashMap<String, HashMap<u16, (Counter, Histogram)>>;
    static SERIES: LazyLock<RwLock<Series>> = LazyLock::new(RwLock::default);
    let record = |(requests, durations): &(Counter, Histogram)| {
        requests.increment(1);
        durations.record(started.elapsed());
    };
    let known = SERIES.read().expect("nothing panics while it is held");
    if let Some(series) = known
        .get(route)
        .and_then(|by_status| by_status.get(&status))
    {
        return record(series);
    }
    drop(known);
    let labels = (route.to_owned(), status.to_string());
    let requests =
        counter!("http_requests_total", "route" => labels.0.clone(), "status" => labels.1);
    let durations = histogram!("http_request_duration_seconds", "route" => labels.0);
    let mut known = SERIES.write().expect("nothing panics while it is held");
    let by_status = known.entry(route.to_owned()).or_default();
    record(by_status.entry(status).or_insert((requests, durations)));
}

/// What a request says that its answer depends on, whatever it asks for.
struct Asks {
    /// Where the page stands that sent it, if pages there may read answers with credentials (contract 1.2). Others are
    /// served and cannot read them.
    origin: Option<HeaderValue>,
    /// Whether a browser asks what it may ask.
    preflight: bool,
    /// The wire knows no HEAD below `/api/auth`; the router would answer it like GET.
    unknown_head: bool,
    /// Whether it is about what nobody may keep.
    is_routed: bool,
    /// The key set is public and may be kept by whoever likes.
    is_jwks: bool,
}

impl Asks {
    fn of(web: &Web, request: &Request) -> Self {
        let (method, path, headers) = (request.method(), request.uri().path(), request.headers());
        let known = &web.app.config.cors_origins;
        let is_known = |origin: &&HeaderValue| {
            let text = origin.to_str();
            text.is_ok_and(|text| known.iter().any(|known| known == text))
        };
        Self {
            origin: headers.get(header::ORIGIN).filter(is_known).cloned(),
            preflight: method == Method::OPTIONS
                && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD),
            unknown_head: method == Method::HEAD && path.starts_with("/api/auth/"),
            is_routed: ["/api/", "/log/"].iter().any(|area| path.starts_with(area)),
            is_jwks: path.ends_with("/jwks"),
        }
    }

    /// The answer, if it is known without a route.
    fn answer(&self) -> Option<Response> {
        if self.preflight {
            let mut response = StatusCode::NO_CONTENT.into_response();
            for (name, value) in [
                (
                    "access-control-allow-methods",
                    "GET,HEAD,PUT,POST,DELETE,PATCH",
                ),
                (
                    "access-control-allow-headers",
                    "Content-Type,Authorization,X-Service-Key,X-App-Id,Idempotency-Key,X-Min-Position",
                ),
                ("vary", "Origin, Access-Control-Request-Headers"),
            ] {
                answers::set_header(&mut response, name, value);
            }
            return Some(response);
        }
        self.unknown_head
            .then(|| StatusCode::NOT_FOUND.into_response())
    }

    /// Says who may read the answer.
    fn let_read(&self, response: &mut Response) {
        let headers = response.headers_mut();
        if !self.preflight {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = &self.origin else {
            return;
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        if !self.preflight {
            for name in [
                "Set-Cookie",
                "set-auth-token",
                "set-auth-jwt",
                "Content-Disposition",
                "Retry-After",
                "X-Retry-After",
                "X-Request-Id",
                "X-Log-Position",
            ] {
                answers::expose(response, name);
            }
        }
    }

    /// Adds headers that keep browsers careful (S-44). A page that needs another policy sets its own.
    fn secure(&self, web: &Web, response: &mut Response) {
        let succeeded = response.status().is_success();
        let headers = response.headers_mut();
        // Room for all of them at once.
        headers.reserve(16);
        let mut default = |name: header::HeaderName, value: &'static str| {
            headers
                .entry(name)
                .or_insert(HeaderValue::from_static(value));
        };
        default(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        default(header::REFERRER_POLICY, "no-referrer");
        default(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        );
        default(
            const { header::HeaderName::from_static("permissions-policy") },
            "camera=(), geolocation=(), microphone=()",
        );
        if self.is_routed && !(self.is_jwks && succeeded) {
            default(header::CACHE_CONTROL, "no-store");
        }
        if web.over_https {
            default(header::STRICT_TRANSPORT_SECURITY, "max-age=63072000");
        }
    }
}

/// An answer whose problem has the shape that the clients of its route know.
fn shaped(response: Response, route: &str, shape: ErrorShape) -> Response {
    let problem = response.extensions().get::<Problem>();
    let told = problem.and_then(|problem| reshaped(problem, route, shape));
    told.unwrap_or(response)
}

/// A problem in another shape than the official client's.
fn reshaped(problem: &Problem, route: &str, shape: ErrorShape) -> Option<Response> {
    let is_in = |area: &str| {
        let rest = route.strip_prefix(area);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if is_in("/api/v1/auth") {
        return Some(problem.v1(shape));
    }
    if is_in("/api/v1/me/encryption-vault") {
        return Some(problem.of_vault());
    }
    let without_token = matches!(
        problem,
        Problem::BearerMissing | Problem::BearerInvalid { .. }
    );
    let is_guarded = ["/api/v1/admin", "/api/v1/api-keys", "/log"]
        .into_iter()
        .any(is_in);
    // Only without a good access token do the routes of guilds answer like all others behind one.
    (is_guarded || is_in("/api/v1/gilden") && without_token).then(|| problem.guarded())
}
