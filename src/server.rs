//! Runs a sidecar: the only file that knows all rooms.
//!
//! Both ends of its life are arguments: the listeners it takes calls on, and the token that stops it.

use std::{io, sync::Arc};

use axum::{
    Router,
    http::{HeaderMap, HeaderValue, StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::get,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    Status,
    service::Routes,
    transport::{
        Server,
        server::{Connected, TcpIncoming},
    },
};

use crate::{
    cache,
    clock::Clock,
    config::{self, Config},
    edge::listener::Listener,
    enforcement::Enforcement,
    freshness::Freshness,
    health::{HealthService, LIVENESS, Monitor, Statuses},
    proto::{
        self, enforcement::enforcement_service_server::EnforcementServiceServer,
        health::health_server::HealthServer,
    },
    refresh::{Refresher, persist::Store},
    source::FactsSource,
};

/// The listeners a sidecar takes calls on.
#[derive(Debug)]
pub struct Listeners {
    /// `esa.enforcement.v1`, health and reflection.
    pub enforcement: Listener,
    /// Health over gRPC, and `/livez` and `/readyz` over HTTP.
    pub probes: Listener,
}

/// Why a sidecar came to an end by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A server failed.
    #[error("the server failed: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The descriptors built into this binary do not read.
    #[error("reflection is not available: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Runs until `stop`, its health told through `monitor`; then drains: NOT_SERVING is told, open streams end, calls get
/// their answers, facts just fetched are kept on disk, and after `limits.drain` whatever is left is cut off.
pub async fn run<S: FactsSource>(
    config: Config,
    source: S,
    store: Option<Store>,
    listeners: Listeners,
    clock: Arc<dyn Clock>,
    monitor: Monitor,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Config { limits, staleness, refresh, .. } = config;
    let (cache, writer) = cache::new();
    let freshness = Freshness::new(&staleness);
    let (refresher, handle) = Refresher::start(source, writer, store, Arc::clone(&clock), refresh);
    let followed = monitor.clone().follow(handle.sync(), Arc::clone(&clock), freshness.clone());
    let streams_end = CancellationToken::new();
    let enforcement = Enforcement::new(cache, clock, freshness, limits.clone(), handle, streams_end.clone());
    let enforcement = enforcement_routes(enforcement, monitor.service(), &limits)?;
    let probes = probe_routes(monitor.service(), monitor.statuses());

    let servers_stop = CancellationToken::new();
    let servers = async {
        let served = tokio::try_join!(
            serve(server(&limits), enforcement, listeners.enforcement, servers_stop.clone()),
            serve(server(&limits).accept_http1(true), probes, listeners.probes, servers_stop.clone()),
        );
        stop.cancel();
        served
    };
    let work = async { tokio::join!(servers, refresher.run(stop.clone())) };
    let drain = async {
        stop.cancelled().await;
        tracing::info!("stopping: open calls have {:?} to end", limits.drain);
        monitor.drain();
        streams_end.cancel();
        // A connection closed at once may take the last words with it.
        tokio::time::sleep(limits.hold).await;
        servers_stop.cancel();
        tokio::time::sleep(limits.drain).await;
    };
    tokio::select! {
        (served, ()) = work => {
            served?;
        }
        () = drain => tracing::warn!("calls were still open after {:?}; they are cut off", limits.drain),
        () = followed => {}
    }
    Ok(())
}

fn enforcement_routes(
    enforcement: Enforcement,
    health: HealthService,
    limits: &config::Limits,
) -> Result<Routes, ServeError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false)
    };
    let enforcement =
        EnforcementServiceServer::new(enforcement).max_decoding_message_size(limits.request_bytes);
    Ok(Routes::new(enforcement)
        .add_service(HealthServer::new(health))
        .add_service(reflection().build_v1()?)
        // Generic clients of today still ask the older version.
        .add_service(reflection().build_v1alpha()?))
}

fn probe_routes(health: HealthService, statuses: watch::Receiver<Statuses>) -> Routes {
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
    if statuses.of(service) == Some(proto::health::health_check_response::ServingStatus::Serving) {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// HTTP/2 with every bound set: what is left unset is no limit at all.
fn server(limits: &config::Limits) -> Server {
    Server::builder()
        .max_concurrent_streams(limits.concurrent_streams)
        .http2_max_header_list_size(limits.header_list_bytes)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
}

async fn serve(
    server: Server,
    routes: Routes,
    listener: Listener,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    match listener {
        // Without it an answer waits for the acknowledgement of the one before: 40 ms on a quiet connection.
        Listener::Tcp(tcp) => {
            serve_on(server, routes, TcpIncoming::from(tcp).with_nodelay(Some(true)), stop).await
        }
        Listener::Unix(unix, _) => serve_on(server, routes, UnixListenerStream::new(unix), stop).await,
    }
}

async fn serve_on<C>(
    mut server: Server,
    routes: Routes,
    connections: impl Stream<Item = io::Result<C>>,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    server.add_routes(routes).serve_with_incoming_shutdown(connections, stop.cancelled_owned()).await
}
