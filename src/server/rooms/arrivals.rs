//! Calls whose request has not arrived whole: where there is no room for another call, or for its bytes, the one that has
//! been arriving for longest makes it.
//!
//! A call that is begun and not finished takes a place, and room for as much as it announces, at next to no cost. Whoever
//! means to ask is whole in a moment, and so is never the oldest for long. Not here: how many may be open, and how much is
//! held of them (see the parent).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture};

use super::{Holding, Shares, kind::Kind};

/// The calls of a listener that are arriving.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    /// The oldest first.
    open: BTreeMap<u64, Arriving>,
}

#[derive(Debug)]
struct Arriving {
    since: Instant,
    kind: Kind,
    shares: Arc<Shares>,
    held: Vec<Arc<Holding>>,
    evicted: CancellationToken,
}

/// One of them, until it is whole.
#[derive(Debug)]
pub(in crate::server) struct Arrival {
    number: u64,
    arrivals: Arc<Arrivals>,
    evicted: CancellationToken,
}

impl Arrivals {
    /// One more call of `kind`, for which so much is `held`.
    pub(super) fn add(
        self: &Arc<Self>,
        kind: Kind,
        shares: &Arc<Shares>,
        held: Vec<Arc<Holding>>,
    ) -> Arc<Arrival> {
        let evicted = CancellationToken::new();
        let (since, shares) = (Instant::now(), Arc::clone(shares));
        let arriving = Arriving { since, kind, shares, held, evicted: evicted.clone() };
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        calls.open.insert(number, arriving);
        Arc::new(Arrival { number, arrivals: Arc::clone(self), evicted })
    }

    /// Ends the oldest of `kind`, of this client alone where it is given. Whether there is one; its place and what was
    /// held for it are free.
    pub(super) fn evict_oldest(&self, kind: Kind, of: Option<&Arc<Shares>>) -> bool {
        let mut calls = self.calls();
        let oldest = calls.oldest(kind, of).map(|(number, _)| number);
        let Some(arriving) = oldest.and_then(|number| calls.open.remove(&number)) else { return false };
        // While nobody else looks: its call does not leave its place again.
        arriving.evicted.cancel();
        drop(calls);
        arriving.shares.of(kind).held.leave();
        arriving.held.iter().for_each(|held| held.release());
        true
    }

    /// Since when the oldest of `kind` of this client has been arriving.
    pub(super) fn oldest_since(&self, kind: Kind, of: &Arc<Shares>) -> Option<Instant> {
        self.calls().oldest(kind, Some(of)).map(|(_, arriving)| arriving.since)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn oldest(&self, kind: Kind, of: Option<&Arc<Shares>>) -> Option<(u64, &Arriving)> {
        let is_wanted = |arriving: &Arriving| {
            arriving.kind == kind && of.is_none_or(|shares| Arc::ptr_eq(shares, &arriving.shares))
        };
        self.open
            .iter()
            .find(|(_, arriving)| is_wanted(arriving))
            .map(|(number, arriving)| (*number, arriving))
    }
}

impl Arrival {
    /// It is whole, or over.
    pub(in crate::server) fn arrived(&self) {
        drop(self.arrivals.calls().open.remove(&self.number));
    }

    /// Whether it made room for others.
    pub(in crate::server) fn is_evicted(&self) -> bool {
        self.evicted.is_cancelled()
    }

    /// Returns when it has to make room for others.
    pub(in crate::server) fn evicted(&self) -> WaitForCancellationFuture<'_> {
        self.evicted.cancelled()
    }
}
