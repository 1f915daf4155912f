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

/// Runs `backend` on `listener` until `stop`, and its health on `probes` where that is its own; then drains as a
/// sidecar does.
pub async fn run_licensing(
    config: config::Config,
    tls: Option<Arc<Tls>>,
    backend: Backend,
    listener: Listener,
    probes: Option<Listener>,
    vitals: Vitals,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let limits = config.limits;
    let monitor = vitals.monitor.clone();
    let health = HealthServer::new(monitor.service());
    let routes: Routes = with_reflection(backend.routes().add_service(health))?;
    let ending = Ending::default();
    let of_calls = limits.clone();
    let rooms = Rooms::new(licensing::DOMAIN, &limits);
    let open = rooms.clone();
    let doorkeeper = backend.clone();
    let calls = move |peer: &Peer| {
        Calls::routed(&routes, rooms.of(peer.client_key()), &of_calls, peer)
            .with_credentials(doorkeeper.clone())
    };
    let acceptor = Acceptor::new(limits.bounds.clone(), ending.clone(), calls).with_tls(tls.clone());
    let (name, connections) = ("licensing", acceptor.connections());
    vitals.metrics.add_listener(OfListener { name, connections, rooms: open });
    let renewed = renewed(tls, config.tls.reload_interval);
    let serving = serve_here(listener, |queue| acceptor.clone().run(queue));
    let probing = async {
        let Some(listener) = probes else { return Ok(()) };
        probes::serve(listener, vitals, config.listen.metrics, &limits, &ending).await
    };
    let servers = async {
        let served = tokio::try_join!(serving, probing);
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
