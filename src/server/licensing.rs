//! Runs a licensing backend: by itself for a fleet, or beside the sidecar of the same process.
//!
//! Not here: what it does (see `licensing`).

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{
    ServeError, Vitals, calls::Calls, end, metrics::OfListener, probes, renewed, rooms::Rooms,
    with_reflection,
};
use crate::{
    config,
    edge::{Acceptor, Ending, listener::Listener, peer::Peer, serve_here, tls::Tls},
    licensing::{self, Backend},
    proto::health::health_server::HealthServer,
};

/// The listeners a licensing backend takes calls on.
#[derive(Debug)]
pub struct LicensingListeners {
    /// `esa.licensing.v1`, health and reflection.
    pub licensing: Listener,
    /// What that speaks on TCP, if it is TLS.
    pub tls: Option<Arc<Tls>>,
    /// The same, for the sidecar of this process alone, which has room of its own there.
    pub beside: Option<Listener>,
    /// The backend's health, where no sidecar of this process has a listener for that.
    pub probes: Option<Listener>,
}

/// Runs `backend` on `listeners` until `stop`; then drains as a sidecar does.
pub async fn run_licensing(
    config: config::Config,
    backend: Backend,
    listeners: LicensingListeners,
    vitals: Vitals,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let LicensingListeners { licensing: listener, tls, beside, probes } = listeners;
    let limits = config.limits;
    let monitor = vitals.monitor.clone();
    let health = HealthServer::new(monitor.service());
    let routes: Routes = with_reflection(backend.routes().add_service(health))?;
    let ending = Ending::default();
    let taking = |rooms: Rooms| {
        let (routes, of_calls, doorkeeper) = (routes.clone(), limits.clone(), backend.clone());
        let calls = move |peer: &Peer| {
            Calls::routed(&routes, rooms.of(peer.client_key()), &of_calls, peer)
                .with_credentials(doorkeeper.clone())
        };
        Acceptor::new(limits.bounds.clone(), ending.clone(), calls)
    };
    let rooms = Rooms::new(licensing::DOMAIN, &limits);
    let acceptor = taking(rooms.clone()).with_tls(tls.clone());
    let (name, connections) = ("licensing", acceptor.connections());
    vitals.metrics.add_listener(OfListener { name, connections, rooms });
    let renewed = renewed(tls, config.tls.reload_interval);
    let serving = serve_here(listener, |queue| acceptor.clone().run(queue));
    let of_sidecar = taking(Rooms::new(licensing::DOMAIN, &limits));
    let serving_sidecar = async {
        let Some(listener) = beside else { return Ok(()) };
        serve_here(listener, |queue| of_sidecar.clone().run(queue)).await
    };
    let probing = async {
        let Some(listener) = probes else { return Ok(()) };
        probes::serve(listener, vitals, config.listen.metrics, &limits, &ending).await
    };
    let servers = async {
        let served = tokio::try_join!(serving, serving_sidecar, probing);
        stop.cancel();
        served
    };
    let drain = async {
        stop.cancelled().await;
        monitor.drain();
        end(&ending, &limits).await;
    };
    let followed = backend.follow(|reachable| monitor.reachable(reachable));
    tokio::select! {
        (served, ()) = async { tokio::join!(servers, backend.clone().run()) } => {
            served?;
        }
        () = drain => tracing::warn!("calls were still open after {:?}; they are cut off", limits.drain),
        () = followed => {}
        () = renewed => {}
    }
    backend.close().await;
    Ok(())
}
