//! Calls, and messages of streams, that have begun and not arrived whole: where there is no room for another call, or for
//! its bytes, one of them makes it.
//!
//! What is begun and not finished takes a place, and room for as much as it announces, at next to no cost. Whoever means
//! to ask is whole in a moment, and so is never the oldest for long; who has most gives way first, and of it what has sent
//! least of what it announced. Not here: how many may be open, and how much is held of them (see the parent).

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio_util::sync::{CancellationToken, WaitForCancellationFuture, WaitForCancellationFutureOwned};

use super::{Holding, Shares, kind::Kind};

/// What is arriving at a listener.
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
    call: Arc<Arrival>,
}

/// A call that arrives, or whose next message does.
#[derive(Debug)]
pub(in crate::server) struct Arrival {
    kind: Kind,
    shares: Arc<Shares>,
    held: Vec<Arc<Holding>>,
    /// Under which number, while it arrives.
    number: Mutex<Option<u64>>,
    /// How much of what it announced has not come.
    missing: AtomicUsize,
    is_evicted: AtomicBool,
    evicted: CancellationToken,
}

/// What there is no room for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wanted {
    Place,
    Bytes,
    /// Of what may come ahead.
    Ahead,
}

impl Arrivals {
    /// Ends one of `kind`: of this client alone where it is given, else of the client that has most of what is `wanted`.
    /// Whether there is one; its place and what was held for it are free.
    pub(super) fn evict(&self, kind: Kind, of: Option<&Arc<Shares>>, wanted: Wanted) -> bool {
        let mut calls = self.calls();
        let Some(number) = calls.first_to_go(kind, of, wanted) else { return false };
        let Some(Arriving { call, .. }) = calls.open.remove(&number) else { return false };
        // While nobody else looks: it does not leave its place again.
        call.evict()
    }

    /// Since when the oldest of `kind` of this client has been arriving.
    pub(super) fn oldest_since(&self, kind: Kind, of: &Arc<Shares>) -> Option<Instant> {
        let calls = self.calls();
        calls.wanted(kind, Some(of)).next().map(|(_, arriving)| arriving.since)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn first_to_go(&self, kind: Kind, of: Option<&Arc<Shares>>, wanted: Wanted) -> Option<u64> {
        let order = |(number, arriving): (u64, &Arriving)| {
            let Arrival { shares, missing, .. } = &*arriving.call;
            let taken = shares.of(kind).held.taken();
            let (has, missing) = match wanted {
                Wanted::Place => (taken.calls, 0),
                Wanted::Bytes | Wanted::Ahead => (taken.bytes, missing.load(Ordering::Relaxed)),
            };
            (has, missing, Reverse(number))
        };
        self.wanted(kind, of).map(order).max().map(|(_, _, Reverse(number))| number)
    }

    fn wanted<'c>(
        &'c self,
        kind: Kind,
        of: Option<&'c Arc<Shares>>,
    ) -> impl Iterator<Item = (u64, &'c Arriving)> {
        let is_wanted = move |call: &Arrival| {
            call.kind == kind && of.is_none_or(|shares| Arc::ptr_eq(shares, &call.shares))
        };
        self.open
            .iter()
            .filter(move |(_, arriving)| is_wanted(&arriving.call))
            .map(|(number, arriving)| (*number, arriving))
    }
}

impl Arrival {
    /// A call of `kind`, for which so much is `held`, and of which nothing is known to be on its way.
    pub(super) fn new(kind: Kind, shares: &Arc<Shares>, held: Vec<Arc<Holding>>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            shares: Arc::clone(shares),
            held,
            number: Mutex::default(),
            missing: AtomicUsize::new(0),
            is_evicted: AtomicBool::new(false),
            evicted: CancellationToken::new(),
        })
    }

    /// It, or a message of it, is not whole, and so much of what it announced has not come: until it is, it makes room for
    /// others.
    pub(in crate::server) fn is_missing(self: &Arc<Self>, bytes: usize) {
        self.missing.store(bytes, Ordering::Relaxed);
        let mut number = self.number();
        if number.is_some() || self.is_evicted() {
            return;
        }
        let mut calls = self.shares.arrivals.calls();
        *number = Some(calls.next);
        let key = calls.next;
        calls.next += 1;
        calls.open.insert(key, Arriving { since: Instant::now(), call: Arc::clone(self) });
    }

    /// Its place, and what was held for it, are free from now on. Whether it had them.
    pub(super) fn evict(&self) -> bool {
        let has_place = !self.is_evicted.swap(true, Ordering::Relaxed);
        if has_place {
            self.evicted.cancel();
            self.shares.of(self.kind).held.leave();
            self.held.iter().for_each(|held| held.release());
        }
        has_place
    }

    /// It is whole, or over.
    pub(in crate::server) fn arrived(&self) {
        let arrived =
            self.number().take().and_then(|number| self.shares.arrivals.calls().open.remove(&number));
        drop(arrived);
    }

    /// Whether it made room for others.
    pub(in crate::server) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Returns when it has to make room for others.
    pub(in crate::server) fn evicted(&self) -> WaitForCancellationFuture<'_> {
        self.evicted.cancelled()
    }

    /// The same, for whoever outlives it.
    pub(in crate::server) fn evicting(&self) -> WaitForCancellationFutureOwned {
        self.evicted.clone().cancelled_owned()
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
