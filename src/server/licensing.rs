//! Runs a licensing backend: by itself for a fleet, or beside the sidecar of the same process.
//!
//! Not here: what it does (see `licensing`).

use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::{
    ServeError, probes,
    transport::{serve, server},
    with_reflection,
};
use crate::{
    config, edge::listener::Listener, health::Monitor, licensing::Backend,
    proto::health::health_server::HealthServer,
};

/// Runs `backend` on `listener` until `stop`, and its health on `probes` where that is its own; then drains as a
/// sidecar does.
pub async fn run_licensing(
    limits: config::Limits,
    backend: Backend,
    listener: Listener,
    probes: Option<Listener>,
    monitor: Monitor,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let health = HealthServer::new(monitor.service());
    let routes: Routes = with_reflection(backend.routes().add_service(health))?;
    let servers_stop = CancellationToken::new();
    let probing = async {
        let Some(listener) = probes else { return Ok(()) };
        let routes = probes::routes(monitor.service(), monitor.statuses());
        serve(server(&limits).accept_http1(true), routes, listener, servers_stop.clone()).await
    };
    let servers = async {
        let served =
            tokio::try_join!(serve(server(&limits), routes, listener, servers_stop.clone()), probing);
        stop.cancel();
        served
    };
    let drain = async {
        stop.cancelled().await;
        monitor.drain();
        tokio::time::sleep(limits.hold).await;
        servers_stop.cancel();
        tokio::time::sleep(limits.drain).await;
    };
    let followed = backend.follow(|reachable| monitor.reachable(reachable));
    tokio::select! {
        (served, ()) = async { tokio::join!(servers, backend.clone().run()) } => {
            served?;
        }
        () = drain => tracing::warn!("calls were still open after {:?}; they are cut off", limits.drain),
        () = followed => {}
    }
    backend.close().await;
    Ok(())
}
