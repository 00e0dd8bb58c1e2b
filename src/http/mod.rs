//! The service over HTTP: the router, and the layers that every request passes.

pub mod account;
pub mod admin;
pub mod answers;
pub mod api_keys;
pub mod auth;
pub mod callback;
pub mod client;
pub mod cookies;
pub mod dev_mail;
pub mod doors;
pub mod error;
pub mod gate;
pub mod layers;
pub mod limits;
pub mod link_pages;
pub mod linked;
pub mod magic_link;
pub mod multi_session;
pub mod organizations;
pub mod origin;
pub mod passkeys;
pub mod request;
pub mod security_events;
pub mod sessions;
pub mod shapes;
pub mod social;
pub mod transparency;
pub mod two_factor;
pub mod v1_account;
pub mod v1_auth;
pub mod v1_passkeys;
pub mod vault;
pub mod vault_audit;
pub mod web;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::{Method, StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse as _, Response};
use tower::layer::layer_fn;

use crate::app::App;
use crate::mail::Mailer;
use web::Web;

/// Every route of the service but health and metrics, with all layers.
pub fn router(app: Arc<App>) -> Router {
    let web = Arc::new(Web::new(app));
    let area = |area| {
        let (prefix, doors) = doors::existing(area, &web.app.config);
        let router = doors::router(prefix, doors);
        match prefix {
            "/api/auth" if web.app.config.multi_session => {
                router.layer(from_fn_with_state(web.clone(), multi_session::keep))
            }
            _ => router,
        }
    };
    let mut router = doors::areas()
        .map(area)
        .into_iter()
        .fold(Router::new(), Router::merge)
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(web.clone());
    // The mailbox page stands in for a mail server while somebody develops; it admits loopback only.
    if let Mailer::Mailbox(mailbox) = &web.app.mailer
        && !web.app.config.is_production()
    {
        router = router.merge(dev_mail::routes(mailbox.clone()));
    }
    // One layer: each boxes the request's work once more.
    router.layer((
        layer_fn(move |route| layers::Around::new(web.clone(), route)),
        DefaultBodyLimit::max(request::BODY_MAX_BYTES),
    ))
}

/// No route. Below `/api/auth` the answer to GET, POST and HEAD has no body, as clients know it.
async fn not_found(request: Request) -> Response {
    let below_auth = request.uri().path().starts_with("/api/auth/");
    if below_auth && [Method::GET, Method::POST, Method::HEAD].contains(request.method()) {
        return StatusCode::NOT_FOUND.into_response();
    }
    let text = if below_auth {
        "text/plain; charset=UTF-8"
    } else {
        "text/plain"
    };
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, text)],
        "404 Not Found",
    )
        .into_response()
}
