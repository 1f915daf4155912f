//! A subscription watched: described at once, and again at every change, by refresh or by time.
//!
//! Not here: what is described (see `describe`).

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::{
    cache::{self, Snapshot},
    clock::Clock,
    domain::{Conditions, Facts, Instant, Operation, SubscriptionState},
    edge::{clients::Place, peer::Peer},
    enforcement::{Enforcement, describe::describe, refusal::Refusal},
    freshness::Freshness,
    proto::enforcement as api,
    refresh::{self, Sync},
    source::Origin,
};

/// One open watch.
pub(super) struct SubscriptionWatch {
    pub(super) watch: cache::Watch,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) freshness: Arc<Freshness>,
    pub(super) sync: tokio::sync::watch::Receiver<Sync>,
    pub(super) refresh: refresh::Handle,
    pub(super) drain: CancellationToken,
    /// Whether the caller may go on is asked again whenever callers are others.
    pub(super) enforcement: Enforcement,
    pub(super) peer: Option<Peer>,
    pub(super) recognized: tokio::sync::watch::Receiver<()>,
    /// Given back when the watch ends.
    pub(super) _place: Place,
}

/// What is sent to the caller. A channel makes room for 32 of its items at once, so they are small: the room for
/// descriptions themselves would be most of what an open watch costs.
pub(super) type Told = Box<Result<api::WatchSubscriptionResponse, Status>>;

/// What makes one description worth sending after another: everything in it but its age.
#[derive(PartialEq, Eq)]
struct Essence {
    facts: Facts,
    state: SubscriptionState,
    conditions: Conditions,
    revision: u64,
    origin: Origin,
    stale: bool,
    refused: [bool; 12],
    failure: Option<String>,
}

impl SubscriptionWatch {
    /// Sends descriptions until the caller goes, the subscription goes, or the sidecar drains.
    pub(super) async fn run(mut self, caller: mpsc::Sender<Told>) {
        let drain = self.drain.clone();
        let gone = caller.clone();
        tokio::select! {
            () = drain.cancelled() => {}
            () = gone.closed() => {}
            () = self.send_changes(caller) => {}
        }
    }

    async fn send_changes(&mut self, caller: mpsc::Sender<Told>) {
        let mut snapshot = Arc::clone(self.watch.seen());
        let mut last = None;
        loop {
            let id = snapshot.facts.subscription_id;
            if let Err(refusal) = self.enforcement.may_watch(self.peer.as_ref(), &id) {
                // A caller that has gone needs no farewell.
                let _ = caller.send(Box::new(Err(refusal.into()))).await;
                return;
            }
            // One instant for the description and for the turn that is waited for, so that none falls between.
            let now = self.clock.now();
            let essence = self.essence(&snapshot, now);
            if last.as_ref() != Some(&essence) {
                let pending = self.refresh.pending(id);
                let failure = essence.failure.clone();
                let subscription = Some(describe(&snapshot, &self.freshness, failure, Some(pending), now));
                // A slow caller keeps only itself waiting; it then hears the newest, not everything in between.
                if caller.send(Box::new(Ok(api::WatchSubscriptionResponse { subscription }))).await.is_err() {
                    return;
                }
                last = Some(essence);
            }
            let turn = self.next_turn(&snapshot, now);
            let turned = async {
                match turn {
                    Some(instant) => self.clock.sleep_until(instant).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = turned => {}
                Ok(()) = self.recognized.changed() => {}
                // Without a refresher nothing more will fail, or succeed.
                Ok(()) = self.sync.changed() => {}
                changed = self.watch.changed() => match changed {
                    Some(published) => snapshot = published,
                    None => {
                        let gone = Refusal::SubscriptionNotHeld(snapshot.facts.subscription_id);
                        // A caller that has gone needs no farewell.
                        let _ = caller.send(Box::new(Err(gone.into()))).await;
                        return;
                    }
                }
            }
        }
    }

    fn essence(&mut self, snapshot: &Snapshot, now: Instant) -> Essence {
        let held = snapshot.timeline.at(now);
        let failure = self.sync.borrow_and_update().failure.clone();
        let heard = |failure| {
            let id = &snapshot.facts.subscription_id;
            self.enforcement.with_peer(self.peer.as_ref(), |caller| caller.hears(&failure, id))
        };
        Essence {
            facts: snapshot.facts.clone(),
            state: held.state,
            conditions: held.conditions,
            revision: snapshot.revision,
            origin: snapshot.origin,
            stale: self.freshness.is_stale(snapshot.as_of, now),
            refused: Operation::ALL
                .map(|operation| self.freshness.refuses(operation, snapshot.as_of, now).is_some()),
            failure: failure.and_then(heard),
        }
    }

    /// The next instant at which time alone changes the description.
    fn next_turn(&self, snapshot: &Snapshot, now: Instant) -> Option<Instant> {
        let turn = snapshot.timeline.after(now).first().map(|turn| turn.from);
        turn.into_iter().chain(self.freshness.next_turn(snapshot.as_of, now)).min()
    }
}
