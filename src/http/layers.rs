//! What every request passes: an id, the words that log lines have about it, metrics, CORS and security headers.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use metrics::{Counter, Histogram, counter, histogram};

use super::answers;
use super::client::RequestId;
use super::error::Problem;
use super::web::Web;
use crate::config::ErrorShape;
use crate::store::WRITTEN;
use crate::telemetry::{ASKED, Asked};

/// The only layer, with everything that follows inside: see there.
pub async fn around(State(web): State<Arc<Web>>, request: Request, next: Next) -> Response {
    observe(&web, request, next).await
}

/// Gives the request its id, counts and times it by route, and tells the log of failures.
async fn observe(web: &Web, mut request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let asked = Asked {
        id: id.as_str().to_owned(),
        method: request.method().as_str().to_owned(),
        route: route.to_owned(),
    };
    request.extensions_mut().insert(id.clone());
    let started = Instant::now();
    let answer = async {
        let (mut response, position) = WRITTEN
            .scope(std::cell::Cell::new(None), async {
                let response = security_headers(web, route, request, next).await;
                (response, WRITTEN.with(std::cell::Cell::get))
            })
            .await;
        if let Some(position) = position {
            response
                .headers_mut()
                .insert("x-log-position", HeaderValue::from(position));
        }
        let status = response.status().as_u16();
        if status >= 500 {
            tracing::error!(
                status,
                millis = started.elapsed().as_millis() as u64,
                "request failed"
            );
        } else {
            tracing::debug!(
                status,
                millis = started.elapsed().as_millis() as u64,
                "request"
            );
        }
        response
    };
    let mut response = ASKED.scope(asked, answer).await;
    measure(route, response.status().as_u16(), started);
    response.headers_mut().insert("x-request-id", id.header());
    response
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

/// Headers that keep browsers careful (S-44). A page that needs another policy sets its own.
async fn security_headers(web: &Web, route: &str, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let is_routed = ["/api/", "/log/"].iter().any(|area| path.starts_with(area));
    // The key set is public and may be kept by whoever likes.
    let is_jwks = path.ends_with("/jwks");
    let mut response = cors(web, route, request, next).await;
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
    if is_routed && !(is_jwks && succeeded) {
        default(header::CACHE_CONTROL, "no-store");
    }
    if web.over_https {
        default(header::STRICT_TRANSPORT_SECURITY, "max-age=63072000");
    }
    response
}

/// Cross-origin access (contract 1.2): configured origins may read answers with credentials; others are
/// served and cannot read them.
async fn cors(web: &Web, route: &str, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| {
        origin.to_str().is_ok_and(|origin| {
            web.app
                .config
                .cors_origins
                .iter()
                .any(|known| known == origin)
        })
    });
    let preflight = request.method() == Method::OPTIONS
        && request
            .headers()
            .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response = if preflight {
        let mut response = StatusCode::NO_CONTENT.into_response();
        answers::set_header(
            &mut response,
            "access-control-allow-methods",
            "GET,HEAD,PUT,POST,DELETE,PATCH",
        );
        answers::set_header(
            &mut response,
            "access-control-allow-headers",
            "Content-Type,Authorization,X-Service-Key,X-App-Id,Idempotency-Key,X-Min-Position",
        );
        answers::set_header(
            &mut response,
            "vary",
            "Origin, Access-Control-Request-Headers",
        );
        response
    } else {
        let mut response = answer(web, route, request, next).await;
        response
            .headers_mut()
            .append(header::VARY, HeaderValue::from_static("Origin"));
        response
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
            HeaderValue::from_static("true"),
        );
        if !preflight {
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
                answers::expose(&mut response, name);
            }
        }
    }
    response
}

/// The wire knows no HEAD below `/api/auth`; the router would answer it like GET.
async fn answer(web: &Web, route: &str, request: Request, next: Next) -> Response {
    if request.method() == Method::HEAD && request.uri().path().starts_with("/api/auth/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    let response = next.run(request).await;
    let problem = response.extensions().get::<Problem>();
    let shaped = problem.and_then(|problem| shaped(problem, route, web.app.config.error_shape));
    shaped.unwrap_or(response)
}

/// A problem in the shape that the clients of a route know, where that is not the official client's.
fn shaped(problem: &Problem, route: &str, shape: ErrorShape) -> Option<Response> {
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
