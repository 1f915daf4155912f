//! How many connections are open, in all and of each peer.
//!
//! One gate stands before all accept queues of a listener. Not here: closing what is refused.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::peer::Origin;

/// Counts what is open and refuses what is too much.
#[derive(Debug)]
pub(super) struct Gate {
    most: usize,
    most_per_peer: usize,
    /// Whether one more of a peer than it may have ends its oldest, in place of being refused.
    ends_oldest: bool,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    next: u64,
    of_peer: HashMap<Origin, OfPeer>,
    /// Those that have not come to speak, by number, the oldest first: nobody knows yet who they are.
    silent: BTreeMap<u64, (Origin, CancellationToken)>,
}

/// What is open of one peer.
#[derive(Debug, Default)]
struct OfPeer {
    count: usize,
    /// Where the oldest may be ended: each, the oldest first.
    by_age: VecDeque<(u64, CancellationToken)>,
}

/// The place of one open connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    origin: Origin,
    number: u64,
    /// Cancelled while the gate is locked, and its place is free then.
    left: CancellationToken,
    has_spoken: AtomicBool,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// As many as may be are open.
    #[error("as many connections are open as `limits.connections` allows ({0})")]
    All(usize),
    /// As many as may be are open of this peer.
    #[error("{0} has as many connections open as `limits.connections_per_peer` allows ({1})")]
    Peer(Origin, usize),
}

impl Gate {
    pub(super) fn new(most: usize, most_per_peer: usize) -> Self {
        Self { most, most_per_peer, ends_oldest: false, open: Mutex::default() }
    }

    /// The same, but one more connection of a peer than it may have ends its oldest.
    pub(super) fn ending_the_oldest(self) -> Self {
        Self { ends_oldest: true, ..self }
    }

    /// A place for a connection from `origin`.
    pub(super) fn enter(self: &Arc<Self>, origin: Origin) -> Result<Place, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let peer = origin.neighbourhood();
        let of_peer = open.of_peer.get(&peer).map_or(0, |of_peer| of_peer.count);
        let full = if self.most_per_peer <= of_peer {
            Some(Full::Peer(origin, self.most_per_peer))
        } else {
            (self.most <= open.all).then_some(Full::All(self.most))
        };
        if let Some(full) = full
            && !open.end_silent(matches!(full, Full::Peer(..)).then_some(peer))
            && !open.end_oldest(peer)
        {
            return Err(full);
        }
        let (number, left) = (open.next, CancellationToken::new());
        open.next += 1;
        open.all += 1;
        open.silent.insert(number, (peer, left.clone()));
        let of_peer = open.of_peer.entry(peer).or_default();
        of_peer.count += 1;
        of_peer.by_age.extend(self.ends_oldest.then(|| (number, left.clone())));
        Ok(Place { gate: Arc::clone(self), origin: peer, number, left, has_spoken: AtomicBool::new(false) })
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Open {
    /// Ends the connection that has been silent for longest, of this peer where one is given. Whether there is one.
    fn end_silent(&mut self, of: Option<Origin>) -> bool {
        let mut silent = self.silent.iter();
        let oldest = silent.find(|(_, (peer, _))| of.is_none_or(|of| of == *peer));
        let Some((number, (peer, left))) =
            oldest.map(|(number, (peer, left))| (*number, (*peer, left.clone())))
        else {
            return false;
        };
        self.end(number, peer, &left);
        true
    }

    /// Ends the oldest connection of a peer, if there is one that may be ended.
    fn end_oldest(&mut self, peer: Origin) -> bool {
        let oldest = self.of_peer.get(&peer).and_then(|of_peer| of_peer.by_age.front()).cloned();
        oldest.is_some_and(|(number, left)| {
            self.end(number, peer, &left);
            true
        })
    }

    fn end(&mut self, number: u64, peer: Origin, left: &CancellationToken) {
        left.cancel();
        self.leave(number, peer);
    }

    fn leave(&mut self, number: u64, peer: Origin) {
        self.all = self.all.saturating_sub(1);
        self.silent.remove(&number);
        if let Some(of_peer) = self.of_peer.get_mut(&peer) {
            of_peer.count = of_peer.count.saturating_sub(1);
            of_peer.by_age.retain(|(other, _)| *other != number);
            if of_peer.count == 0 {
                self.of_peer.remove(&peer);
            }
        }
    }
}

impl Place {
    /// Its connection has come to speak: it makes room for no other as long as it is open, but where the oldest does.
    pub(super) fn speaks(&self) {
        self.has_spoken.store(true, Ordering::Relaxed);
        self.open().silent.remove(&self.number);
    }

    /// Whether it has come to speak.
    pub(super) fn has_spoken(&self) -> bool {
        self.has_spoken.load(Ordering::Relaxed)
    }

    /// Cancelled when the connection is to make room for another.
    pub(super) fn left(&self) -> CancellationToken {
        self.left.clone()
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.gate.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open();
        if !self.left.is_cancelled() {
            open.leave(self.number, self.origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Origin = Origin::User(1000);
    const BOB: Origin = Origin::User(1001);

    /// A connection that has come to speak.
    fn speaking(gate: &Arc<Gate>, origin: Origin) -> Result<Place, Full> {
        gate.enter(origin).inspect(Place::speaks)
    }

    fn is_ended(place: &Place) -> bool {
        place.left().is_cancelled()
    }

    #[test]
    fn a_peer_with_as_many_connections_as_it_may_have_keeps_nobody_else_out() {
        let gate = Arc::new(Gate::new(3, 2));
        let first = speaking(&gate, ALICE).unwrap();
        let _second = speaking(&gate, ALICE).unwrap();
        assert_eq!(speaking(&gate, ALICE).unwrap_err(), Full::Peer(ALICE, 2));
        let _third = speaking(&gate, BOB).unwrap();
        assert_eq!(speaking(&gate, BOB).unwrap_err(), Full::All(3));
        drop(first);
        assert!(speaking(&gate, ALICE).is_ok());
    }

    #[test]
    fn who_has_a_network_of_addresses_is_one_peer() {
        let at = |ip: &str| Origin::Address(ip.parse().unwrap());
        let gate = Arc::new(Gate::new(9, 2));
        let first = speaking(&gate, at("2001:db8::1")).unwrap();
        let _second = speaking(&gate, at("2001:db8::2")).unwrap();
        assert_eq!(speaking(&gate, at("2001:db8::3")).unwrap_err(), Full::Peer(at("2001:db8::3"), 2));
        assert!(speaking(&gate, at("2001:db8:0:1::1")).is_ok());
        drop(first);
        assert!(speaking(&gate, at("2001:db8::3")).is_ok());
    }

    #[test]
    fn where_the_oldest_ends_a_peer_always_gets_in_and_takes_the_place_of_none_but_itself() {
        let gate = Arc::new(Gate::new(3, 2).ending_the_oldest());
        let first = speaking(&gate, ALICE).unwrap();
        let (bob, second) = (speaking(&gate, BOB).unwrap(), speaking(&gate, ALICE).unwrap());
        assert!(!is_ended(&first));
        let third = speaking(&gate, ALICE).unwrap();
        assert!(is_ended(&first) && !is_ended(&second) && !is_ended(&bob));
        assert_eq!(gate.open(), 3);
        // What was ended has left already, whenever it goes.
        drop(first);
        assert_eq!(gate.open(), 3);
        // There is no place in all: one that has a place gives its own, one that has none is refused.
        assert_eq!(speaking(&gate, Origin::User(1002)).unwrap_err(), Full::All(3));
        let next = speaking(&gate, BOB).unwrap();
        assert!(is_ended(&bob) && !is_ended(&second) && !is_ended(&third));
        drop((bob, second, third, next));
        assert_eq!(gate.open(), 0);
        assert!(gate.open.lock().unwrap().of_peer.is_empty());
    }

    #[test]
    fn a_peer_without_connections_is_forgotten() {
        let gate = Arc::new(Gate::new(3, 2));
        drop(speaking(&gate, ALICE).unwrap());
        assert!(gate.open.lock().unwrap().of_peer.is_empty());
    }

    #[test]
    fn where_it_is_full_the_connection_that_was_silent_for_longest_makes_room() {
        let gate = Arc::new(Gate::new(4, 2));
        let carol = Origin::User(1002);
        let [first, second] = [(); 2].map(|()| gate.enter(ALICE).unwrap());
        let bob = gate.enter(BOB).unwrap();
        // Of the peer that is full its own, and never one that speaks.
        second.speaks();
        let third = speaking(&gate, ALICE).unwrap();
        assert!(is_ended(&first) && !is_ended(&bob));
        assert_eq!(gate.enter(ALICE).unwrap_err(), Full::Peer(ALICE, 2));
        let _fourth = speaking(&gate, carol).unwrap();
        assert_eq!(gate.open(), 4);
        // Of all, whoever it is.
        let _fifth = speaking(&gate, carol).unwrap();
        assert!(is_ended(&bob) && !is_ended(&second) && !is_ended(&third));
        assert_eq!(gate.enter(BOB).unwrap_err(), Full::All(4));
        drop((first, bob));
        assert_eq!(gate.open(), 4, "what was ended has left already");
        drop(second);
        assert!(gate.enter(BOB).is_ok());
    }
}
