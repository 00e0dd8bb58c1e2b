//! The first thing that answers and the last: health, metrics, and the way to the app's routes once they are there.
//!
//! | route | answer |
//! |---|---|
//! | `GET /health` | 200 as long as the process answers; says nothing about the database |
//! | `GET /health/live` | the same, for orchestrators |
//! | `GET /health/ready` | 200 when requests can be served, else 503 with the reason |
//! | `GET /metrics` | Prometheus text |
//! | anything else | the app's routes; 503 until they are there |
//!
//! Nothing here asks who calls. The answers hold no personal data and no secret, but numbers of people and reasons of
//! outages are not for everybody: a proxy in front of the service keeps `/metrics` and `/health/*` inside.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{Request, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use axum::{Json, Router};
use chrono::SecondsFormat;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tower::ServiceExt as _;

use crate::app::App;
use crate::clock::Clock;
use crate::telemetry;

/// How long the database may take to answer when somebody asks whether we are ready.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// People are counted at most this often.
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// What stands between the listener and the app; clones are the same gate.
#[derive(Clone)]
pub struct Gate(Arc<Inner>);

struct Inner {
    clock: Clock,
    started: Instant,
    metrics: PrometheusHandle,
    counted: Mutex<Option<Instant>>,
    state: RwLock<Shown>,
}

struct Shown {
    /// Why we are not ready; `None` when we are.
    reason: Option<String>,
    /// What answers requests.
    inside: Option<Inside>,
}

#[derive(Clone)]
struct Inside {
    app: Arc<App>,
    routes: Router,
}

impl Gate {
    /// A closed gate.
    pub fn new(clock: Clock) -> Self {
        Self(Arc::new(Inner {
            clock,
            started: Instant::now(),
            metrics: telemetry::metrics(),
            counted: Mutex::new(None),
            state: RwLock::new(Shown {
                reason: Some("the service is starting".to_owned()),
                inside: None,
            }),
        }))
    }

    /// Accepts connections until `stop` says so, then finishes what runs. A connection is closed when the head of its
    /// next request takes longer than `head_timeout`, the time between two requests included.
    pub async fn serve(
        self,
        mut listener: TcpListener,
        mut stop: watch::Receiver<bool>,
        head_timeout: Duration,
    ) {
        let router = self.router();
        let connections = GracefulShutdown::new();
        // A sender that is gone says stop as well.
        let mut stopped = pin!(stop.wait_for(|stop| *stop));
        loop {
            // What keeps one connection from being accepted is dealt with there: the next one may have more luck.
            let (stream, peer) = tokio::select! {
                accepted = Listener::accept(&mut listener) => accepted,
                _ = &mut stopped => break,
            };
            let asked = Arc::new(AtomicBool::new(false));
            let asks = asked.clone();
            let service = router
                .clone()
                .map_request(move |mut request: Request<Incoming>| {
                    asks.store(true, Relaxed);
                    request.extensions_mut().insert(ConnectInfo(peer));
                    request.map(Body::new)
                });
            let mut server = auto::Builder::new(TokioExecutor::new());
            server
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(head_timeout);
            let connection = server
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service))
                .into_owned();
            let connection = connections.watch(connection);
            tokio::spawn(async move {
                let mut connection = pin!(connection);
                // The version of HTTP is read without a timer, so the first head has one here. What ends a connection
                // early is its client's doing, and nobody is left to be told.
                let ended = tokio::time::timeout(head_timeout, &mut connection).await;
                if ended.is_err() && asked.load(Relaxed) {
                    drop(connection.await);
                }
            });
        }
        drop(listener);
        connections.shutdown().await;
    }

    /// The routes to serve.
    pub fn router(&self) -> Router {
        let health = get(async |State(gate): State<Gate>| gate.health());
        Router::new()
            .route("/health", health.clone())
            .route("/health/live", health)
            .route("/health/ready", get(ready))
            .route("/metrics", get(metrics))
            .fallback(pass)
            .with_state(self.clone())
    }

    /// Lets requests through to `routes`.
    pub fn open(&self, app: Arc<App>, routes: Router) {
        self.change(|shown| {
            *shown = Shown {
                reason: None,
                inside: Some(Inside { app, routes }),
            };
        });
    }

    /// Says why the service is not ready. Requests that come all the same still pass if the gate is open.
    pub fn not_ready(&self, reason: &str) {
        self.change(|shown| shown.reason = Some(reason.to_owned()));
    }

    /// Lets go of the app and its routes.
    pub fn close(&self) {
        self.change(|shown| {
            shown.reason = Some("the service is stopping".to_owned());
            shown.inside = None;
        });
    }

    fn change(&self, change: impl FnOnce(&mut Shown)) {
        change(
            &mut self
                .0
                .state
                .write()
                .expect("nothing panics while it is held"),
        );
    }

    fn inside(&self) -> Option<Inside> {
        let shown = self
            .0
            .state
            .read()
            .expect("nothing panics while it is held");
        shown.inside.clone()
    }

    fn health(&self) -> Response {
        let timestamp = self
            .0
            .clock
            .now()
            .to_rfc3339_opts(SecondsFormat::Millis, true);
        Json(json!({"status": "ok", "service": "mana-auth", "timestamp": timestamp}))
            .into_response()
    }

    /// Why requests cannot be served right now; `None` if they can.
    async fn obstacle(&self) -> Option<String> {
        let reason = {
            let shown = self
                .0
                .state
                .read()
                .expect("nothing panics while it is held");
            shown.reason.clone()
        };
        if reason.is_some() {
            return reason;
        }
        let app = self.inside()?.app;
        let ping = sqlx::query("select 1").execute(&app.pool);
        match tokio::time::timeout(PING_TIMEOUT, ping).await {
            Err(_) => Some("the database does not answer in time".to_owned()),
            Ok(Err(_)) => Some("the database does not answer".to_owned()),
            Ok(Ok(_)) if !app.store.freshness().is_trusted() => {
                Some("the log has not been followed for a second".to_owned())
            }
            Ok(Ok(_)) => None,
        }
    }

    /// Brings the gauges up to date that nobody else keeps.
    async fn count(&self) {
        gauge!("process_uptime_seconds").set(self.0.started.elapsed().as_secs_f64());
        let Some(Inside { app, .. }) = self.inside() else {
            return;
        };
        // Held meanwhile, so that many scrapers at once count once.
        let mut counted = self.0.counted.lock().await;
        if counted.is_some_and(|at| at.elapsed() < COUNT_EVERY) {
            return;
        }
        match projections::users::totals(&app.pool, self.0.clock.now()).await {
            Ok(totals) => {
                gauge!("auth_users_total").set(totals.total as f64);
                gauge!("auth_users_verified").set(totals.verified as f64);
                gauge!("auth_users_created_today").set(totals.today as f64);
                gauge!("auth_users_created_this_week").set(totals.this_week as f64);
                gauge!("auth_users_created_this_month").set(totals.this_month as f64);
            }
            // The last numbers stay; the database's own gauges and alarms tell of the outage.
            Err(error) => tracing::debug!(error = %error, "cannot count people"),
        }
        *counted = Some(Instant::now());
    }
}

async fn ready(State(gate): State<Gate>) -> Response {
    let no_store = [(CACHE_CONTROL, "no-store")];
    match gate.obstacle().await {
        None => (no_store, Json(json!({"status": "ready"}))).into_response(),
        Some(reason) => (
            StatusCode::SERVICE_UNAVAILABLE,
            no_store,
            Json(json!({"status": "not ready", "reason": reason})),
        )
            .into_response(),
    }
}

async fn metrics(State(gate): State<Gate>) -> Response {
    gate.count().await;
    (
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        gate.0.metrics.render(),
    )
        .into_response()
}

async fn pass(State(gate): State<Gate>, request: Request<Body>) -> Response {
    match gate.inside() {
        // Routers answer everything themselves: their error type has no values.
        Some(Inside { routes, .. }) => routes.oneshot(request).await.into_response(),
        None => {
            let message = "Service is starting";
            let body = json!({"message": message, "code": "SERVICE_UNAVAILABLE", "error": message});
            (
                StatusCode::SERVICE_UNAVAILABLE,
                [(RETRY_AFTER, "1")],
                Json(body),
            )
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::*;

    async fn ask(gate: &Gate, path: &str) -> (StatusCode, Option<String>, Value) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = gate.router().oneshot(request).await.unwrap();
        let retry = response.headers().get(RETRY_AFTER);
        let retry = retry.map(|value| value.to_str().unwrap().to_owned());
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8(body.to_vec()).unwrap()));
        (status, retry, body)
    }

    #[tokio::test]
    async fn a_starting_service_is_alive_but_not_ready() {
        let gate = Gate::new(Clock::held());
        for path in ["/health", "/health/live"] {
            let (status, _, body) = ask(&gate, path).await;
            assert_eq!(
                (status, &body["status"], &body["service"]),
                (StatusCode::OK, &json!("ok"), &json!("mana-auth"))
            );
            assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
        }
        gate.not_ready("the database cannot be reached");
        let (status, _, body) = ask(&gate, "/health/ready").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            body,
            json!({"status": "not ready", "reason": "the database cannot be reached"})
        );
    }

    #[tokio::test]
    async fn requests_that_come_too_early_are_told_to_come_again() {
        let gate = Gate::new(Clock::held());
        let (status, retry, body) = ask(&gate, "/api/auth/get-session").await;
        assert_eq!(
            (status, retry.as_deref()),
            (StatusCode::SERVICE_UNAVAILABLE, Some("1"))
        );
        assert_eq!(
            body,
            json!({"message": "Service is starting", "code": "SERVICE_UNAVAILABLE", "error": "Service is starting"})
        );
    }

    #[tokio::test]
    async fn metrics_are_there_before_the_app() {
        let (status, _, body) = ask(&Gate::new(Clock::held()), "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        assert!(body.as_str().unwrap().contains("process_uptime_seconds"));
    }

    #[tokio::test]
    async fn a_connection_is_closed_when_its_next_head_does_not_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let gate = Gate::new(Clock::held());
        let server = tokio::spawn(gate.serve(listener, stopped, Duration::from_millis(200)));

        let whole = "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let half = "GET /health HTTP/1.1\r\nHo";
        for (requests, answers) in [
            ("".to_owned(), 0),
            ("PRI * H".to_owned(), 0),
            (half.to_owned(), 0),
            (whole.to_owned(), 1),
            (format!("{whole}{half}"), 1),
        ] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(requests.as_bytes()).await.unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert_eq!(
                said.matches("HTTP/1.1 200 OK").count(),
                answers,
                "{requests}"
            );
        }
        stop.send_replace(true);
        server.await.unwrap();
    }
}
