//! Runs a sidecar, or a licensing backend: the only room that knows all others.
//!
//! Both ends of its life are arguments: the listeners it takes calls on, and the token that stops it.

mod licensing;
mod probes;
mod transport;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

pub use self::licensing::run_licensing;
use self::transport::{serve, server};
use crate::{
    cache,
    clock::Clock,
    config::{self, Config},
    edge::listener::Listener,
    enforcement::Enforcement,
    freshness::Freshness,
    health::{HealthService, Monitor},
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
    let probes = probes::routes(monitor.service(), monitor.statuses());

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
    let enforcement =
        EnforcementServiceServer::new(enforcement).max_decoding_message_size(limits.request_bytes);
    with_reflection(Routes::new(enforcement).add_service(HealthServer::new(health)))
}

/// Adds what generic clients ask for the names of calls and fields.
fn with_reflection(routes: Routes) -> Result<Routes, ServeError> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET)
            .include_reflection_service(false)
    };
    // Generic clients of today still ask the older version.
    Ok(routes.add_service(reflection().build_v1()?).add_service(reflection().build_v1alpha()?))
}
