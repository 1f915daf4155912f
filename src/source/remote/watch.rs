//! A stream for each unit on which the backend tells of changes as they happen.
//!
//! It is opened again when it ends, with back-off and at the next replica. What comes on it is verified as the answer of
//! a sync is. Not here: what becomes of it (see `memory`).

use std::{convert::Infallible, sync::Arc};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Streaming, codegen::tokio_stream::StreamExt as _};
use tracing::{debug, warn};

use super::{
    Shared,
    ask::{Asker, LONGEST_ANSWER, authorized, nonce},
    replicas::{Replica, Trouble, Unacceptable},
};
use crate::{
    backoff::Backoff,
    proto::licensing::{WatchRequest, WatchResponse, sync_service_client::SyncServiceClient},
    source::units::Unit,
};

/// Watches until `stop`. A unit that is told it is deactivated goes on: its licence may have been, and another issued.
pub(super) async fn watch(shared: Arc<Shared>, unit: Unit, stop: CancellationToken) {
    let mut backoff = Backoff::new(shared.settings.retry_first, shared.settings.retry_most);
    let mut answers = shared.replicas.answers();
    let watching = async {
        while let Some(replica) = shared.replicas.in_order().next() {
            let Err(trouble) = shared.listen(replica, &unit, &mut backoff).await;
            match trouble {
                Trouble::Untrusted(what) => warn!("what was pushed is not taken: {what}"),
                Trouble::Unreachable(what)
                | Trouble::Refused(what)
                | Trouble::Unauthenticated(what)
                | Trouble::Unacceptable(Unacceptable { what, .. }) => {
                    debug!("not told of changes, trying again: {what}");
                }
            }
            shared.replicas.failed(replica);
            pause(&mut backoff, &mut answers).await;
        }
    };
    stop.run_until_cancelled(watching).await;
    // Whoever looks for watches that have ended finds this one.
    stop.cancel();
}

/// Waits before a stream is opened again; no longer than at first once a replica has answered a sync.
async fn pause(backoff: &mut Backoff, answers: &mut watch::Receiver<()>) {
    if let Ok(Ok(())) = tokio::time::timeout(backoff.wait(), answers.changed()).await {
        backoff.reset();
        tokio::time::sleep(backoff.wait()).await;
    }
}

impl Shared {
    /// Opens a stream and takes what comes on it, until there is trouble.
    async fn listen(
        &self,
        replica: &Replica,
        unit: &Unit,
        backoff: &mut Backoff,
    ) -> Result<Infallible, Trouble> {
        let asker = Asker::of(unit);
        let timeout = self.settings.timeout;
        let nonce = nonce()?;
        let request = WatchRequest { unit_id: unit.unit_id.clone(), nonce: nonce.clone() };
        let request = authorized(request, Some(unit))?;
        let mut client = SyncServiceClient::new(replica.channel()).max_decoding_message_size(LONGEST_ANSWER);
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
            // A sync may have overtaken it: what is older than what is held by now is passed over, not refused.
            let told = self.verified(replica, push.facts, &nonce, &asker, None).await?;
            backoff.reset();
            if self.memory().push(&unit.unit_id, told) {
                self.changed.notify_one();
            } else {
                debug!("what was pushed to {} is known already", asker.name);
            }
            next = pushes.next().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::source::remote::replicas::Replicas;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_opened_soon_after_a_replica_has_answered_a_sync_and_with_back_off_before() {
        let (first, most) = (Duration::from_secs(1), Duration::from_mins(5));
        let replicas = Replicas::of(vec!["http://a:1".parse().unwrap()]);
        let mut answers = replicas.answers();
        let mut backoff = Backoff::new(first, most);
        let mut paused = async |answers: &mut watch::Receiver<()>| {
            let before = Instant::now();
            pause(&mut backoff, answers).await;
            before.elapsed()
        };
        for _ in 0..20 {
            paused(&mut answers).await;
        }
        assert!(most / 2 <= paused(&mut answers).await);
        // It may have been answered while the stream was being opened.
        replicas.answered(replicas.in_order().next().unwrap());
        assert!(paused(&mut answers).await <= first);
        assert!(paused(&mut answers).await <= 2 * first, "and begins anew from there");
    }
}
