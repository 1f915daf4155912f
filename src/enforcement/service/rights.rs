//! Who sent a request, and whether it may.
//!
//! Not here: what a caller may ask (see `caller`).

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::Enforcement;
use crate::{
    cache::Missing,
    domain::SubscriptionId,
    edge::peer::{ClientKey, Peer},
    enforcement::{
        caller::{Caller, Right},
        callers::Callers,
        convert,
        refusal::Refusal,
    },
    proto::health::health_server,
};

/// Where the restriction table is told.
const TABLE: &str = "/esa.enforcement.v1.EnforcementService/GetRestrictionTable";

impl Enforcement {
    /// From now on these are its callers, on connections that are open as well.
    pub fn recognize(&self, callers: Callers) {
        let callers = callers.having_asked(&self.0.callers.load());
        self.0.callers.store(Arc::new(callers));
        self.0.recognized.send_replace(());
    }

    /// Whether callers are told apart, by a table of them.
    #[must_use]
    pub fn tells_callers_apart(&self) -> bool {
        self.0.callers.load().tells_apart()
    }

    /// Which client `peer` is where each has a share: the caller whose rights and quota it has.
    #[must_use]
    pub fn client_key(&self, peer: &Peer) -> ClientKey {
        self.0.callers.load().client_key(peer)
    }

    /// Which client sent `request`.
    pub(super) fn client_of<T>(&self, request: &Request<T>) -> ClientKey {
        request.extensions().get::<Peer>().map_or(ClientKey::Ourselves, |peer| self.client_key(peer))
    }

    /// Says when the callers are others.
    pub(super) fn recognized(&self) -> watch::Receiver<()> {
        self.0.recognized.subscribe()
    }

    /// Whether whoever is at the other end may go on watching.
    pub(in crate::enforcement) fn may_watch(
        &self,
        peer: Option<&Peer>,
        id: &SubscriptionId,
    ) -> Result<(), Refusal> {
        self.with_peer(peer, |caller| {
            caller.may(Right::Read)?;
            caller.may_hear_of(id)
        })
    }

    /// Does `work` for whoever sent `request`.
    pub(super) fn with_caller<T, R>(&self, request: &Request<T>, work: impl FnOnce(&Caller) -> R) -> R {
        self.with_peer(request.extensions().get::<Peer>(), work)
    }

    /// Does `work` for whoever `peer` is now. Without a connection it comes from this process.
    pub(in crate::enforcement) fn with_peer<R>(
        &self,
        peer: Option<&Peer>,
        work: impl FnOnce(&Caller) -> R,
    ) -> R {
        let callers = self.0.callers.load();
        work(peer.map_or(callers.ourselves(), |peer| callers.find(peer)))
    }

    /// Whether `peer` may make a call at `path`, as far as its head tells: who may ask nothing takes no place of those who
    /// may, however long its call takes to arrive.
    pub fn admit(&self, peer: &Peer, path: &str) -> Result<(), Status> {
        let callers = self.0.callers.load();
        if !callers.tells_apart() || is_for_anybody(path) {
            return Ok(());
        }
        Ok(callers.find(peer).may_call()?)
    }

    /// Whether `peer` may ask anything here, as far as is known without a question.
    #[must_use]
    pub fn knows(&self, peer: &Peer) -> bool {
        self.0.callers.load().knows(peer)
    }

    /// Takes one question from what `peer` may ask now.
    pub fn spend(&self, peer: &Peer) -> Result<(), Status> {
        Ok(self.with_peer(Some(peer), |caller| caller.spend(1))?)
    }

    /// Refuses a request whose sender lacks a right, or may not know of this subscription.
    pub(super) fn require<T>(
        &self,
        request: &Request<T>,
        right: Right,
        subscription_id: &str,
    ) -> Result<(), Refusal> {
        let id = convert::subscription_id(subscription_id)?;
        self.with_caller(request, |caller| {
            caller.may(right)?;
            let Some(id) = &id else {
                return match self.0.cache.load(None) {
                    // The only one that is held need not be named.
                    Ok(held) => caller.may_hear_of(&held.facts.subscription_id),
                    // None that is named is all of them.
                    Err(Missing::Ambiguous { .. }) => caller.may_hear_of_all(),
                    Err(Missing::NoFacts | Missing::NotHeld(_)) => Ok(()),
                };
            };
            caller.may_name(id)
        })
    }

    /// When the streams of a request are to end.
    pub(super) fn streams_end<T>(&self, request: &Request<T>) -> CancellationToken {
        request.extensions().get::<Peer>().map_or(&self.0.drain, Peer::streams_end).clone()
    }
}

/// Whether what is at `path` is told to anybody: health, the names of calls, the restriction table.
fn is_for_anybody(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
    service == health_server::SERVICE_NAME || service.starts_with("grpc.reflection.") || path == TABLE
}
