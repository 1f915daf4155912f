//! Runs a sidecar, or a licensing backend: the only room that knows all others.
//!
//! Both ends of its life are arguments: the listeners it takes calls on, and the token that stops it.

mod answer;
mod calls;
mod deadline;
mod foreign;
mod licensing;
mod messages;
mod metrics;
mod probes;
mod question;
mod rooms;
mod tallied;

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use self::{
    calls::Calls,
    metrics::{OfListener, OfSidecar},
    rooms::Rooms,
};
pub use self::{
    licensing::{LicensingListeners, run_licensing},
    metrics::Metrics,
};
use crate::{
    cache,
    clock::Clock,
    config::{self, Config},
    edge::{Acceptor, Ending, Workers, WorkersError, listener::Listener, peer::Peer, tls::Tls},
    enforcement::{self, Callers, Enforcement},
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
    /// Health over gRPC, and `/livez`, `/readyz` and `/metrics` over HTTP.
    pub probes: Listener,
    /// What the first speaks on TCP, if it is TLS; probes come in the clear.
    pub tls: Option<Arc<Tls>>,
}

/// What others are told of how a process is.
#[derive(Clone, Debug, Default)]
pub struct Vitals {
    /// Whether it is ready, for those who send it questions.
    pub monitor: Monitor,
    /// What it does, for those who run it. Servers of one process share a page.
    pub metrics: Metrics,
}

/// Why a sidecar came to an end by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener takes no connections any more.
    #[error(transparent)]
    Listener(#[from] WorkersError),
    /// The descriptors built into this binary do not read.
    #[error("reflection is not available: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Runs until `stop` as `settings` says, of which `[[callers]]` may change meanwhile; told through `vitals`; then drains:
/// NOT_SERVING is told, open streams end, calls get their answers, facts just fetched are kept on disk, and after
/// `limits.drain` whatever is left is cut off.
pub async fn run<S: FactsSource>(
    mut settings: watch::Receiver<Config>,
    source: S,
    store: Option<Store>,
    listeners: Listeners,
    clock: Arc<dyn Clock>,
    vitals: Vitals,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let Vitals { monitor, metrics } = vitals;
    let Config { listen, limits, staleness, refresh, callers, tls, .. } =
        settings.borrow_and_update().clone();
    let callers = Callers::of(callers.as_deref());
    let (cache, writer) = cache::new();
    let freshness = Freshness::new(&staleness);
    let (refresher, handle) = Refresher::start(source, writer, store, Arc::clone(&clock), refresh);
    let followed = monitor.clone().follow(handle.sync(), Arc::clone(&clock), freshness.clone());
    let ending = Ending::default();
    let (seen_clock, seen_freshness, seen_refresh) = (Arc::clone(&clock), freshness.clone(), handle.clone());
    let enforcement = Enforcement::new(
        Arc::clone(&cache),
        clock,
        freshness,
        callers,
        limits.clone(),
        handle,
        ending.streams.clone(),
    );
    metrics.add_sidecar(OfSidecar {
        enforcement: enforcement.clone(),
        cache,
        clock: seen_clock,
        freshness: seen_freshness,
        refresh: seen_refresh,
        statuses: monitor.statuses(),
        subscriptions: limits.metrics_subscriptions,
    });
    let routes = enforcement_routes(enforcement.clone(), monitor.service(), &limits)?;
    let of_enforcement = limits.clone();
    let rooms = Rooms::new(enforcement::DOMAIN, &limits);
    let (answering, open) = (enforcement.clone(), rooms.clone());
    let questions = Acceptor::new(limits.bounds.clone(), ending.clone(), move |peer: &Peer| {
        let shares = rooms.of(answering.client_key(peer));
        Calls::routed(&routes, shares, &of_enforcement, peer).with_questions(answering.clone())
    });
    let questions = questions.with_tls(listeners.tls.clone());
    metrics.add_listener(OfListener {
        name: "enforcement",
        connections: questions.connections(),
        rooms: open,
    });
    let renewed = renewed(listeners.tls, tls.reload_interval);
    let reread = async {
        while settings.changed().await.is_ok() {
            enforcement.recognize(Callers::of(settings.borrow_and_update().callers.as_deref()));
        }
        std::future::pending().await
    };
    let workers = Workers::start(listeners.enforcement, move |queue| questions.clone().run(queue))?;
    let seen = Vitals { monitor: monitor.clone(), metrics };
    let probes = probes::serve(listeners.probes, seen, listen.metrics, &limits, &ending);

    let servers = async {
        let served = tokio::try_join!(workers.ended(), probes).map(drop);
        stop.cancel();
        served
    };
    let work = async { tokio::join!(servers, refresher.run(stop.clone())) };
    let drain = async {
        stop.cancelled().await;
        tracing::info!("stopping: open calls have {:?} to end", limits.drain);
        monitor.drain();
        end(&ending, &limits).await;
    };
    tokio::select! {
        (served, ()) = work => {
            served?;
        }
        () = drain => tracing::warn!("calls were still open after {:?}; they are cut off", limits.drain),
        () = followed => {}
        () = renewed => {}
        () = reread => {}
    }
    Ok(())
}

/// Takes up certificates that are renewed, for ever.
async fn renewed(tls: Option<Arc<Tls>>, every: Duration) {
    match tls {
        Some(tls) => tls.follow(every).await,
        None => std::future::pending().await,
    }
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

/// Lets streams end, then connections, and returns when they have had their time.
async fn end(ending: &Ending, limits: &config::Limits) {
    ending.streams.cancel();
    // A connection closed at once may take the last words with it, and balancers may not have looked yet.
    tokio::time::sleep(limits.hold).await;
    ending.connections.cancel();
    tokio::time::sleep(limits.drain).await;
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
