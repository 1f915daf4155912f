//! A stream for each unit on which the backend tells of changes as they happen.
//!
//! It is opened again when it ends, with back-off and at the next replica. What comes on it is verified as the answer of
//! a sync is. Not here: what becomes of it (see `memory`).

use tokio_util::sync::CancellationToken;
use tonic::{Streaming, codegen::tokio_stream::StreamExt as _};
use tracing::{debug, warn};

use super::{
    Shared,
    ask::{Asker, authorized, nonce},
    replicas::{Replica, Trouble},
};
use crate::{
    backoff::Backoff,
    domain::Activation,
    proto::licensing::{WatchRequest, WatchResponse, sync_service_client::SyncServiceClient},
    source::units::Unit,
};

/// Watches until `stop`, or until the unit is told that it is deactivated.
pub(super) async fn watch(shared: std::sync::Arc<Shared>, unit: Unit, stop: CancellationToken) {
    let mut backoff = Backoff::new(shared.settings.retry_first, shared.settings.retry_most);
    let watching = async {
        loop {
            let Some(replica) = shared.replicas.in_order().next() else { return };
            match shared.listen(replica, &unit, &mut backoff).await {
                Ok(()) => return,
                Err(trouble) => {
                    match &trouble {
                        Trouble::Untrusted(what) => warn!("what was pushed is not taken: {what}"),
                        Trouble::Unreachable(what) | Trouble::Refused(what) => {
                            debug!("not told of changes, trying again: {what}");
                        }
                    }
                    if trouble.is_the_replica_s() {
                        shared.replicas.failed(replica);
                    }
                }
            }
            tokio::time::sleep(backoff.wait()).await;
        }
    };
    stop.run_until_cancelled(watching).await;
    // Whoever looks for watches that have ended finds this one.
    stop.cancel();
}

impl Shared {
    /// Opens a stream and takes what comes on it; `Ok` once the unit is told that it is deactivated.
    async fn listen(&self, replica: &Replica, unit: &Unit, backoff: &mut Backoff) -> Result<(), Trouble> {
        let asker = Asker::of(unit);
        let timeout = self.settings.timeout;
        let nonce = nonce()?;
        let request = WatchRequest { unit_id: unit.unit_id.clone(), nonce: nonce.clone() };
        let request = authorized(request, Some(unit))?;
        let mut client = SyncServiceClient::new(replica.channel());
        let silent = |_| replica.silent(timeout);
        let opened = tokio::time::timeout(timeout, client.watch(request)).await.map_err(silent)?;
        let mut pushes: Streaming<WatchResponse> =
            opened.map_err(|status| replica.trouble(&status, &asker.name))?.into_inner();
        // The facts as they are now come at once; then it may be silent for days, and the connection alone is asked
        // whether it is there.
        let mut next = tokio::time::timeout(timeout, pushes.next()).await.map_err(silent)?;
        loop {
            let ended =
                || Trouble::Unreachable(format!("licensing backend {}: the stream ended", replica.address));
            let push = next.ok_or_else(ended)?.map_err(|status| replica.trouble(&status, &asker.name))?;
            let held = self.memory().newest(&unit.unit_id);
            let told = self.verified(replica, push.facts, &nonce, &asker, held).await?;
            backoff.reset();
            let deactivated = matches!(told.facts.activation, Activation::Deactivated { .. });
            if self.memory().push(&unit.unit_id, told) {
                self.changed.notify_one();
            }
            if deactivated {
                return Ok(());
            }
            next = pushes.next().await;
        }
    }
}
