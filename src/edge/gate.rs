//! How many connections are open, in all and of each client. Where that is as many as may be, an idle one makes room.
//!
//! One gate stands before all accept queues of a listener. First those make room that have asked nothing yet that they
//! may ask, then those without an open call, the one that was not used for longest, of the client that has most. Not here:
//! closing what is refused and what makes room (see `accept`).

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

use tokio_util::sync::CancellationToken;

use super::{by_client::ByClient, peer::Origin, streams::OpenCalls};

/// Counts what is open and refuses what is too much.
#[derive(Debug)]
pub(super) struct Gate {
    most: usize,
    most_per_peer: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    /// What the next one to be last in its line is called.
    next: u64,
    /// Those that have asked nothing yet that they may ask, the oldest of a client first: nobody knows who they are.
    strangers: ByClient<Seat>,
    /// All others, those of a client in the order in which they are looked at.
    known: ByClient<Seat>,
}

/// An open connection, as the gate sees it.
#[derive(Debug)]
pub(super) struct Seat {
    gate: Weak<Gate>,
    client: Origin,
    /// Where it is in its line; changed while the gate is locked.
    number: AtomicU64,
    /// Cancelled while the gate is locked, and its place is free then.
    left: CancellationToken,
    calls: OpenCalls,
}

/// The place of one open connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    seat: Arc<Seat>,
    /// What was full when it was taken.
    full: Option<Full>,
}

/// Why a connection is not taken, or another makes room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// As many as may be are open.
    #[error("as many connections are open as `limits.connections` allows ({0})")]
    All(usize),
    /// As many as may be are open of this peer.
    #[error("{0} has as many connections open as `limits.connections_per_peer` allows ({1})")]
    Peer(Origin, usize),
}

/// Clients whose connections are looked at for one that is idle, those that have most, and connections of each.
const LOOKS: (usize, usize) = (4, 128);

impl Gate {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Self {
        Self { most, most_per_peer, open: Mutex::default() }
    }

    /// A place for a connection from `origin`.
    pub(super) fn enter(self: &Arc<Self>, origin: Origin) -> Result<Place, Full> {
        let mut open = self.lock();
        let client = origin.neighbourhood();
        let full = if self.most_per_peer <= open.of(client) {
            Some(Full::Peer(origin, self.most_per_peer))
        } else {
            (self.most <= open.all).then_some(Full::All(self.most))
        };
        if let Some(full) = full {
            let idle = match full {
                Full::All(_) => open.idle(client),
                Full::Peer(..) => open.idle_of(client),
            };
            let Some(idle) = idle else { return Err(full) };
            idle.left.cancel();
            open.leave(&idle);
        }
        let seat = Arc::new(Seat {
            gate: Arc::downgrade(self),
            client,
            number: AtomicU64::new(open.next),
            left: CancellationToken::new(),
            calls: OpenCalls::default(),
        });
        open.next += 1;
        open.all += 1;
        open.strangers.insert(client, seat.number(), Arc::clone(&seat));
        Ok(Place { gate: Arc::clone(self), seat, full })
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.lock().all
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// How many a client has.
    fn of(&self, client: Origin) -> usize {
        self.strangers.count(client) + self.known.count(client)
    }

    /// One that makes room for another of this client, if any does.
    fn idle_of(&mut self, client: Origin) -> Option<Arc<Seat>> {
        self.strangers.first(client).cloned().or_else(|| self.unused(client))
    }

    /// One that makes room for one of this client, if any does: of a client that has more, or its own.
    fn idle(&mut self, newcomer: Origin) -> Option<Arc<Seat>> {
        if let Some(client) = self.strangers.largest().next() {
            return self.strangers.first(client).cloned();
        }
        let has = self.known.count(newcomer);
        // Whoever has many and wants one more takes it from nobody that has no more.
        let has_more = |client: &Origin| has < self.known.count(*client);
        let mut clients: Vec<Origin> = self.known.largest().take_while(has_more).take(LOOKS.0).collect();
        clients.push(newcomer);
        clients.into_iter().find_map(|client| self.unused(client))
    }

    /// The connection of a client that has no open call and was not used for longest, as far as is known without noting
    /// when each was used: the first in line that was not since it was looked at last.
    fn unused(&mut self, client: Origin) -> Option<Arc<Seat>> {
        let looks = LOOKS.1.min(2 * self.known.count(client));
        let next = &mut self.next;
        self.known.change(client, |seats| {
            let mut idle = None;
            for _ in 0..looks {
                let (_, seat) = seats.pop_first()?;
                let is_idle = seat.calls.count() == 0;
                let was_used = is_idle && seat.calls.activity().was_used();
                seat.number.store(*next, Ordering::Relaxed);
                seats.insert(*next, Arc::clone(&seat));
                *next += 1;
                if is_idle && !was_used {
                    return Some(seat);
                }
                if is_idle {
                    idle.get_or_insert(seat);
                }
            }
            idle
        })
    }

    fn leave(&mut self, seat: &Seat) {
        self.all = self.all.saturating_sub(1);
        if self.strangers.remove(seat.client, seat.number()).is_none() {
            self.known.remove(seat.client, seat.number());
        }
    }
}

impl Seat {
    /// Its calls that are being answered.
    pub(super) const fn calls(&self) -> &OpenCalls {
        &self.calls
    }

    /// It has asked something that it may ask.
    pub(super) fn known(&self) {
        self.calls.activity().known();
        let Some(gate) = self.gate.upgrade() else { return };
        let mut open = gate.lock();
        if let Some(seat) = open.strangers.remove(self.client, self.number()) {
            self.number.store(open.next, Ordering::Relaxed);
            open.next += 1;
            open.known.insert(self.client, self.number(), seat);
        }
    }

    fn number(&self) -> u64 {
        self.number.load(Ordering::Relaxed)
    }
}

impl Place {
    /// What was full when it was taken, where another connection made room.
    pub(super) const fn full(&self) -> Option<Full> {
        self.full
    }

    /// Its connection, as the gate sees it.
    pub(super) const fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// Returns once the connection is to make room for another.
    pub(super) async fn is_left(&self) {
        self.seat.left.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.lock();
        if !self.seat.left.is_cancelled() {
            open.leave(&self.seat);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::streams::OpenCall;

    const ALICE: Origin = Origin::User(1000);
    const BOB: Origin = Origin::User(1001);
    const CAROL: Origin = Origin::User(1002);

    /// An open call of a connection, and what reads it.
    type Busy = (OpenCall, OpenCalls);

    fn call(place: &Place) -> Busy {
        let calls = place.seat().calls();
        (calls.open(), calls.clone())
    }

    /// A connection with an open call.
    fn busy(gate: &Arc<Gate>, origin: Origin) -> Result<(Place, Busy), Full> {
        let place = known(gate, origin)?;
        let call = call(&place);
        Ok((place, call))
    }

    /// A connection that has asked something that it may ask.
    fn known(gate: &Arc<Gate>, origin: Origin) -> Result<Place, Full> {
        gate.enter(origin).inspect(|place| place.seat().known())
    }

    fn is_ended(place: &Place) -> bool {
        place.seat.left.is_cancelled()
    }

    #[test]
    fn a_peer_with_as_many_busy_connections_as_it_may_have_keeps_nobody_else_out() {
        let gate = Arc::new(Gate::new(3, 2));
        let first = busy(&gate, ALICE).unwrap();
        let _second = busy(&gate, ALICE).unwrap();
        assert_eq!(gate.enter(ALICE).unwrap_err(), Full::Peer(ALICE, 2));
        let _third = busy(&gate, BOB).unwrap();
        assert_eq!(gate.enter(BOB).unwrap_err(), Full::All(3));
        drop(first);
        assert!(gate.enter(ALICE).is_ok());
    }

    #[test]
    fn who_has_a_network_of_addresses_is_one_peer() {
        let at = |ip: &str| Origin::Address(ip.parse().unwrap());
        let gate = Arc::new(Gate::new(9, 2));
        let first = busy(&gate, at("2001:db8::1")).unwrap();
        let _second = busy(&gate, at("2001:db8::2")).unwrap();
        assert_eq!(gate.enter(at("2001:db8::3")).unwrap_err(), Full::Peer(at("2001:db8::3"), 2));
        assert!(gate.enter(at("2001:db8:0:1::1")).is_ok());
        drop(first);
        assert!(gate.enter(at("2001:db8::3")).is_ok());
    }

    #[test]
    fn whoever_has_asked_nothing_makes_room_the_oldest_of_the_client_that_has_most() {
        let gate = Arc::new(Gate::new(4, 2));
        let [first, second] = [(); 2].map(|()| gate.enter(ALICE).unwrap());
        let bob = gate.enter(BOB).unwrap();
        // Of the peer that is full its own, whatever it has begun to ask.
        let _call = call(&first);
        let third = gate.enter(ALICE).unwrap();
        assert_eq!(third.full(), Some(Full::Peer(ALICE, 2)));
        assert!(is_ended(&first) && !is_ended(&second) && !is_ended(&bob));
        let fourth = busy(&gate, CAROL).unwrap();
        assert_eq!(gate.open(), 4);
        // Of all, whoever has most of them, and of those who have one the oldest.
        let fifth = busy(&gate, CAROL).unwrap();
        assert!(is_ended(&second) && !is_ended(&bob));
        let dave = gate.enter(Origin::User(1003)).unwrap();
        assert!(is_ended(&bob) && !is_ended(&third) && !is_ended(&fourth.0) && !is_ended(&fifth.0));
        drop((first, second, bob));
        assert_eq!(gate.open(), 4, "what was ended has left already");
        drop((third, fourth, fifth, dave));
        let open = gate.lock();
        assert_eq!(open.all, 0);
        assert!(open.strangers.is_empty() && open.known.is_empty(), "who has none is forgotten");
    }

    #[test]
    fn then_whoever_was_not_used_for_longest_and_never_one_with_an_open_call() {
        let gate = Arc::new(Gate::new(9, 3));
        let (watching, _watch) = busy(&gate, ALICE).unwrap();
        let [first, second] = [(); 2].map(|()| known(&gate, ALICE).unwrap());
        // It asks and is answered.
        drop(first.seat().calls().open());
        let third = known(&gate, ALICE).unwrap();
        assert!(is_ended(&second) && !is_ended(&first) && !is_ended(&watching));
        drop(third.seat().calls().open());
        let fourth = known(&gate, ALICE).unwrap();
        assert!(is_ended(&first) && !is_ended(&third) && !is_ended(&watching));
        let _calls = [&third, &fourth].map(call);
        assert_eq!(gate.enter(ALICE).unwrap_err(), Full::Peer(ALICE, 3));
    }

    #[test]
    fn whoever_has_many_takes_no_place_of_one_that_has_fewer() {
        let gate = Arc::new(Gate::new(4, 3));
        let alice = [(); 2].map(|()| busy(&gate, ALICE).unwrap());
        let bob = [(); 2].map(|()| known(&gate, BOB).unwrap());
        assert_eq!(gate.enter(ALICE).unwrap_err(), Full::All(4));
        let carol = known(&gate, CAROL).unwrap();
        assert!(is_ended(&bob[0]) && !is_ended(&bob[1]));
        // Of its own it gives.
        let next = known(&gate, CAROL).unwrap();
        assert!(is_ended(&carol) && !is_ended(&bob[1]));
        drop((alice, next));
    }
}
