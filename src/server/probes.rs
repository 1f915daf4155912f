//! What orchestrators ask: health over gRPC, `/livez`, `/readyz` and `/metrics` over HTTP.
//!
//! Not here: what makes a process ready (see `health`), and what is on the page of metrics.

use std::convert::Infallible;

use axum::{
    Router,
    body::{Body, Bytes},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures_util::stream;
use tonic::{Status, service::Routes};

use super::{
    Vitals,
    calls::Calls,
    metrics::{Format, Metrics, OfListener},
    rooms::{METRICS, Rooms},
};
use crate::{
    config::{self, Listen, MetricsTold},
    edge::{Acceptor, Ending, WorkersError, bounds::Bounds, listener::Listener, peer::Peer, serve_here},
    enforcement,
    health::{LIVENESS, Monitor, Statuses},
    proto::health::{health_check_response::ServingStatus, health_server::HealthServer},
};

/// Connections of one address or user: whoever probes needs one for a moment. One more ends the oldest, so that nobody
/// keeps the others of its address out.
const CONNECTIONS_OF_PEER: usize = 256;

/// What is told of metrics on a listener: what the operator set, and whether only this machine reaches it.
#[derive(Clone, Copy, Debug)]
struct Audience {
    set: Option<MetricsTold>,
    is_on_this_machine: bool,
}

/// Answers probes on `listener` until connections are to end; `told` is how much of metrics, if the operator says so.
pub(super) async fn serve(
    listener: Listener,
    vitals: Vitals,
    told: Option<MetricsTold>,
    limits: &config::Limits,
    ending: &Ending,
) -> Result<(), WorkersError> {
    let Vitals { monitor, metrics } = vitals;
    let audience = Audience { set: told, is_on_this_machine: listener.address().is_on_this_machine() };
    if !audience.is_told_anything() {
        tracing::info!("{METRICS} is closed on {}: {CLOSED}", listener.address());
    }
    let (routes, limits) = (routes(&monitor, metrics.clone(), audience), limits.clone());
    let most_of_peer = limits.bounds.connections_per_peer.min(CONNECTIONS_OF_PEER);
    let bounds = Bounds { connections_per_peer: most_of_peer, ..limits.bounds.clone() };
    let rooms = Rooms::of_probes(enforcement::DOMAIN, &limits);
    let open = rooms.clone();
    let calls = move |peer: &Peer| Calls::routed(&routes, rooms.of(peer.client_key()), &limits, peer);
    let acceptor = Acceptor::new(bounds, ending.clone(), calls).with_http1();
    metrics.add_listener(OfListener { name: "probes", connections: acceptor.connections(), rooms: open });
    serve_here(listener, |queue| acceptor.clone().run(queue)).await
}

impl Audience {
    /// Whether there is a page for it.
    fn is_told_anything(self) -> bool {
        self.told(true) != MetricsTold::Nothing
    }

    fn told(self, tells_callers_apart: bool) -> MetricsTold {
        let Self { set, is_on_this_machine } = self;
        Listen::metrics_told(set, is_on_this_machine, tells_callers_apart)
    }
}

/// Why there is no page.
const CLOSED: &str =
    "unless `listen.metrics` says `totals` or `all`, the page of metrics is for this machine alone";

fn routes(monitor: &Monitor, metrics: Metrics, audience: Audience) -> Routes {
    let statuses = monitor.statuses();
    let probe = |service: &'static str| {
        let statuses = statuses.clone();
        get(async move || http_status(*statuses.borrow(), service))
    };
    let page = get(move |headers: HeaderMap| page(metrics.clone(), audience, headers));
    let pages =
        Router::new().route("/livez", probe(LIVENESS)).route("/readyz", probe("")).route(METRICS, page);
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

async fn page(metrics: Metrics, audience: Audience, headers: HeaderMap) -> Response {
    if !audience.is_told_anything() {
        return (StatusCode::FORBIDDEN, format!("{CLOSED}\n")).into_response();
    }
    // It may come in several lines.
    let accept: Vec<&str> =
        headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok()).collect();
    let format = Format::accepted(&accept.join(","));
    match metrics.page(format, move |tells_apart| audience.told(tells_apart) == MetricsTold::All).await {
        Ok(page) => ([(CONTENT_TYPE, format.content_type())], in_parts(page)).into_response(),
        Err(error) => {
            tracing::error!("there is no page of metrics: {error}");
            (StatusCode::SERVICE_UNAVAILABLE, format!("there is no page: {error}\n")).into_response()
        }
    }
}

/// A long page is held a part at a time.
fn in_parts(page: Bytes) -> Body {
    let parts = stream::unfold(page, |mut rest| async move {
        let part = rest.split_to(rest.len().min(16 << 10));
        (!part.is_empty()).then_some((Ok::<_, Infallible>(part), rest))
    });
    Body::from_stream(parts)
}

fn http_status(statuses: Statuses, service: &str) -> (StatusCode, &'static str) {
    if statuses.of(service) == Some(ServingStatus::Serving) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
