//! What orchestrators ask: health over gRPC, `/livez`, `/readyz` and `/metrics` over HTTP.
//!
//! Not here: what makes a process ready (see `health`), and what is on the page of metrics.

use axum::{
    Router,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::get,
};
use tonic::{Status, service::Routes};

use super::{
    Vitals,
    calls::Calls,
    metrics::{Format, Metrics, OfListener},
    rooms::Rooms,
};
use crate::{
    config,
    edge::{Acceptor, Ending, WorkersError, listener::Listener, peer::Peer, serve_here},
    enforcement,
    health::{LIVENESS, Monitor, Statuses},
    proto::health::{health_check_response::ServingStatus, health_server::HealthServer},
};

/// Answers probes on `listener` until connections are to end.
pub(super) async fn serve(
    listener: Listener,
    vitals: Vitals,
    limits: &config::Limits,
    ending: &Ending,
) -> Result<(), WorkersError> {
    let Vitals { monitor, metrics } = vitals;
    let (routes, limits) = (routes(&monitor, metrics.clone()), limits.clone());
    let bounds = limits.bounds.clone();
    let rooms = Rooms::new(enforcement::DOMAIN, &limits);
    let open = rooms.clone();
    let calls = move |peer: &Peer| Calls::routed(&routes, &rooms, &limits, peer);
    let acceptor = Acceptor::new(bounds, ending.clone(), calls).with_http1();
    metrics.add_listener(OfListener { name: "probes", connections: acceptor.connections(), rooms: open });
    serve_here(listener, |queue| acceptor.clone().run(queue)).await
}

fn routes(monitor: &Monitor, metrics: Metrics) -> Routes {
    let statuses = monitor.statuses();
    let probe = |service: &'static str| {
        let statuses = statuses.clone();
        get(async move || http_status(*statuses.borrow(), service))
    };
    let page = get(async move |headers: HeaderMap| page(&metrics, &headers));
    let pages =
        Router::new().route("/livez", probe(LIVENESS)).route("/readyz", probe("")).route("/metrics", page);
    let calls = Routes::new(HealthServer::new(monitor.service())).into_axum_router();
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
        (StatusCode::NOT_FOUND, "no such page; there are /livez, /readyz and /metrics\n").into_response()
    }
}

fn page(metrics: &Metrics, headers: &HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    match metrics.page(format) {
        Ok(page) => ([(CONTENT_TYPE, format.content_type())], page).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("the page cannot be written: {error}\n"))
            .into_response(),
    }
}

fn http_status(statuses: Statuses, service: &str) -> (StatusCode, &'static str) {
    if statuses.of(service) == Some(ServingStatus::Serving) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
