//! What orchestrators ask: health over gRPC, `/livez` and `/readyz` over HTTP.
//!
//! Not here: what makes a process ready (see `health`).

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::sync::watch;
use tonic::{Status, service::Routes};

use super::{calls::Calls, rooms::Rooms};
use crate::{
    config,
    edge::{Acceptor, Ending, WorkersError, listener::Listener, peer::Peer, serve_here},
    enforcement,
    health::{HealthService, LIVENESS, Monitor, Statuses},
    proto::health::{health_check_response::ServingStatus, health_server::HealthServer},
};

/// Answers probes on `listener` until connections are to end.
pub(super) async fn serve(
    listener: Listener,
    monitor: &Monitor,
    limits: &config::Limits,
    ending: &Ending,
) -> Result<(), WorkersError> {
    let (routes, limits) = (routes(monitor.service(), monitor.statuses()), limits.clone());
    let bounds = limits.bounds.clone();
    let rooms = Rooms::new(enforcement::DOMAIN, &limits);
    let calls = move |peer: &Peer| Calls::routed(&routes, &rooms, &limits, peer);
    let acceptor = Acceptor::new(bounds, ending.clone(), calls).with_http1();
    serve_here(listener, |queue| acceptor.clone().run(queue)).await
}

fn routes(health: HealthService, statuses: watch::Receiver<Statuses>) -> Routes {
    let probe = |service: &'static str| {
        let statuses = statuses.clone();
        get(async move || http_status(*statuses.borrow(), service))
    };
    let pages = Router::new().route("/livez", probe(LIVENESS)).route("/readyz", probe(""));
    let calls = Routes::new(HealthServer::new(health)).into_axum_router();
    Routes::from(calls.merge(pages).fallback(unknown))
}

/// A path that is neither a page nor a call, each refused in its own language.
async fn unknown(headers: HeaderMap) -> Response {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes).unwrap_or_default();
    if content_type.starts_with(b"application/grpc") {
        Status::unimplemented(
            "no such call is taken here: this listener takes probes, another takes questions",
        )
        .into_http()
    } else {
        (StatusCode::NOT_FOUND, "no such page; there are /livez and /readyz\n").into_response()
    }
}

fn http_status(statuses: Statuses, service: &str) -> (StatusCode, &'static str) {
    if statuses.of(service) == Some(ServingStatus::Serving) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
