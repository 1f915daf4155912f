//! Calls, and messages of streams, that have begun and not arrived whole: where there is no room for another call, or for
//! its bytes, one of them makes it.
//!
//! What is begun and not finished takes a place, and room for as much as it announces, at next to no cost. Whoever means
//! to ask is whole in a moment, and so is never the oldest for long; who has most gives way first, and of it what has sent
//! least of what it announced. Not here: how many may be open, and how much is held of them (see the parent).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio_util::{
    sync::{CancellationToken, WaitForCancellationFutureOwned},
    task::AbortOnDropHandle,
};

use super::{Client, Holding, Shares, client_of, kind::Kind};
use crate::edge::peer::Peer;

/// What is arriving at a listener.
#[derive(Debug, Default)]
pub(super) struct Arrivals(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    clients: HashMap<Client, Calls>,
}

/// What is arriving of one client in one room.
#[derive(Debug, Default)]
struct Calls {
    /// The oldest first.
    open: BTreeMap<u64, Arriving>,
    /// What has most missing last, and of those the oldest.
    by_missing: BTreeSet<(usize, Reverse<u64>)>,
}

#[derive(Debug)]
struct Arriving {
    since: Instant,
    /// How much of what it announced has not come.
    missing: usize,
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
    /// Until it is over, or made room for another.
    has_place: AtomicBool,
    evicted: CancellationToken,
    /// Closes its connection when it is not over in time.
    late: Mutex<Option<AbortOnDropHandle<()>>>,
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
        let mut inner = self.inner();
        let client = match of {
            Some(shares) => Some(client_of(kind, shares)),
            None => inner.greediest(kind, wanted),
        };
        let Some(client) = client else { return false };
        let first = inner.clients.get(&client).and_then(|calls| calls.first_to_go(wanted));
        let gone = first.and_then(|number| inner.remove(client, number));
        // While nobody else looks: it does not leave its place again.
        gone.is_some_and(|call| call.evict())
    }

    /// Since when the oldest of `kind` of this client has been arriving.
    pub(super) fn oldest_since(&self, kind: Kind, of: &Arc<Shares>) -> Option<Instant> {
        let inner = self.inner();
        let (_, oldest) = inner.clients.get(&client_of(kind, of))?.open.first_key_value()?;
        Some(oldest.since)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn add(&mut self, call: &Arc<Arrival>, missing: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        let calls = self.clients.entry(call.client()).or_default();
        calls.by_missing.insert((missing, Reverse(number)));
        calls.open.insert(number, Arriving { since: Instant::now(), missing, call: Arc::clone(call) });
        number
    }

    fn remove(&mut self, client: Client, number: u64) -> Option<Arc<Arrival>> {
        let calls = self.clients.get_mut(&client)?;
        let gone = calls.open.remove(&number)?;
        calls.by_missing.remove(&(gone.missing, Reverse(number)));
        if calls.open.is_empty() {
            self.clients.remove(&client);
        }
        Some(gone.call)
    }

    fn greediest(&self, kind: Kind, wanted: Wanted) -> Option<Client> {
        let has = |calls: &Calls| {
            let (_, first) = calls.open.first_key_value()?;
            let taken = first.call.shares.of(kind).held.taken();
            Some(if matches!(wanted, Wanted::Place) { taken.calls } else { taken.bytes })
        };
        let of_kind = self.clients.iter().filter(|((of, _), _)| *of == kind);
        of_kind.max_by_key(|(_, calls)| has(calls)).map(|(client, _)| *client)
    }
}

impl Calls {
    fn first_to_go(&self, wanted: Wanted) -> Option<u64> {
        match wanted {
            Wanted::Place => self.open.first_key_value().map(|(number, _)| *number),
            Wanted::Bytes | Wanted::Ahead => self.by_missing.last().map(|(_, Reverse(number))| *number),
        }
    }

    fn is_missing(&mut self, number: u64, missing: usize) {
        if let Some(arriving) = self.open.get_mut(&number)
            && arriving.missing != missing
        {
            self.by_missing.remove(&(arriving.missing, Reverse(number)));
            self.by_missing.insert((missing, Reverse(number)));
            arriving.missing = missing;
        }
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
            has_place: AtomicBool::new(true),
            evicted: CancellationToken::new(),
            late: Mutex::default(),
        })
    }

    /// It, or a message of it, is not whole, and so much of what it announced has not come: until it is, it makes room for
    /// others.
    pub(in crate::server) fn is_missing(self: &Arc<Self>, bytes: usize) {
        let mut number = self.number();
        if !self.has_place() {
            return;
        }
        let mut arrivals = self.shares.arrivals.inner();
        if let Some(number) = *number {
            if let Some(calls) = arrivals.clients.get_mut(&self.client()) {
                calls.is_missing(number, bytes);
            }
        } else {
            *number = Some(arrivals.add(self, bytes));
        }
    }

    /// Its place, and what was held for it, are free from now on. Whether it had them.
    pub(super) fn evict(&self) -> bool {
        let has_place = self.has_place.swap(false, Ordering::Relaxed);
        if has_place {
            self.evicted.cancel();
            self.shares.of(self.kind).held.leave();
            self.held.iter().for_each(|held| held.release());
        }
        has_place
    }

    /// It made room for others: if it is not over within this time, for its caller takes not even that, its connection is
    /// closed, or what was sent ahead in it would be kept beside all that is counted.
    pub(super) fn ends_within(&self, patience: Duration, peer: Peer) {
        let late = AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            peer.cut_off();
        }));
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(late);
    }

    /// It is whole.
    pub(in crate::server) fn arrived(&self) {
        let whole = {
            let mut number = self.number();
            number.take().and_then(|number| self.shares.arrivals.inner().remove(self.client(), number))
        };
        drop(whole);
    }

    /// It is over, whatever of it still arrives: who reads its messages may outlive it. Whether its place is still its own.
    pub(super) fn is_over(&self) -> bool {
        let mut number = self.number();
        let over =
            number.take().and_then(|number| self.shares.arrivals.inner().remove(self.client(), number));
        let has_place = self.has_place.swap(false, Ordering::Relaxed);
        drop(number);
        drop(over);
        drop(self.late.lock().unwrap_or_else(PoisonError::into_inner).take());
        has_place
    }

    /// Whether it has its place: it is not over, and made no room for others.
    pub(in crate::server) fn has_place(&self) -> bool {
        self.has_place.load(Ordering::Relaxed)
    }

    /// Done when it has to make room for others.
    pub(in crate::server) fn evicting(&self) -> WaitForCancellationFutureOwned {
        self.evicted.clone().cancelled_owned()
    }

    fn client(&self) -> Client {
        client_of(self.kind, &self.shares)
    }

    fn number(&self) -> MutexGuard<'_, Option<u64>> {
        self.number.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, edge::peer::ClientKey, server::rooms::Rooms};

    const KIND: Kind = Kind::Call;

    fn shares() -> Arc<Shares> {
        Rooms::new("test", &Config::read(None, Vec::new()).unwrap().limits).of(ClientKey::Ourselves)
    }

    fn call(shares: &Arc<Shares>) -> Arc<Arrival> {
        shares.of(KIND).held.enter().unwrap();
        Arrival::new(KIND, shares, Vec::new())
    }

    #[test]
    fn what_is_over_gives_no_place_back_however_much_of_it_still_arrives() {
        let shares = shares();
        let (over, open) = (call(&shares), call(&shares));
        over.is_missing(5);
        assert!(over.is_over());
        shares.of(KIND).held.leave();
        // Whoever reads its messages does not know yet.
        over.is_missing(4);
        assert!(!shares.arrivals.evict(KIND, Some(&shares), Wanted::Place));
        assert_eq!(shares.of(KIND).held.taken().calls, 1);
        assert!(open.has_place());
    }

    #[test]
    fn for_a_place_the_oldest_goes_and_for_bytes_what_has_most_missing() {
        let shares = shares();
        let calls = [1, 9, 5, 5].map(|missing| {
            let call = call(&shares);
            call.is_missing(missing);
            call
        });
        calls[1].is_missing(2);
        let evict = |of, wanted| {
            assert!(shares.arrivals.evict(KIND, of, wanted));
            calls.each_ref().map(|call| call.has_place())
        };
        assert_eq!(evict(None, Wanted::Bytes), [true, true, false, true]);
        assert_eq!(evict(Some(&shares), Wanted::Place), [false, true, false, true]);
        assert_eq!(shares.of(KIND).held.taken().calls, 2);
        calls[3].arrived();
        assert_eq!(evict(None, Wanted::Ahead), [false, false, false, true]);
        assert!(!shares.arrivals.evict(KIND, None, Wanted::Place));
    }
}
