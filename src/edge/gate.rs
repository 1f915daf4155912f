//! How many connections are open, in all and of each peer.
//!
//! One gate stands before all accept queues of a listener. Not here: closing what is refused.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::peer::Origin;

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
    of_peer: HashMap<Origin, usize>,
}

/// The place of one open connection; it is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    origin: Origin,
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
    pub(super) fn new(most: usize, most_per_peer: usize) -> Arc<Self> {
        Arc::new(Self { most, most_per_peer, open: Mutex::default() })
    }

    /// A place for a connection from `origin`.
    pub(super) fn enter(self: &Arc<Self>, origin: Origin) -> Result<Place, Full> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if self.most <= open.all {
            return Err(Full::All(self.most));
        }
        let of_peer = open.of_peer.entry(origin.neighbourhood()).or_default();
        if self.most_per_peer <= *of_peer {
            return Err(Full::Peer(origin, self.most_per_peer));
        }
        *of_peer += 1;
        open.all += 1;
        Ok(Place { gate: Arc::clone(self), origin: origin.neighbourhood() })
    }

    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).all
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.gate.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all = open.all.saturating_sub(1);
        if let Some(count) = open.of_peer.get_mut(&self.origin) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.of_peer.remove(&self.origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Origin = Origin::User(1000);
    const BOB: Origin = Origin::User(1001);

    #[test]
    fn a_peer_with_as_many_connections_as_it_may_have_keeps_nobody_else_out() {
        let gate = Gate::new(3, 2);
        let first = gate.enter(ALICE).unwrap();
        let _second = gate.enter(ALICE).unwrap();
        assert_eq!(gate.enter(ALICE).unwrap_err(), Full::Peer(ALICE, 2));
        let _third = gate.enter(BOB).unwrap();
        assert_eq!(gate.enter(BOB).unwrap_err(), Full::All(3));
        drop(first);
        assert!(gate.enter(ALICE).is_ok());
    }

    #[test]
    fn who_has_a_network_of_addresses_is_one_peer() {
        let at = |ip: &str| Origin::Address(ip.parse().unwrap());
        let gate = Gate::new(9, 2);
        let first = gate.enter(at("2001:db8::1")).unwrap();
        let _second = gate.enter(at("2001:db8::2")).unwrap();
        assert_eq!(gate.enter(at("2001:db8::3")).unwrap_err(), Full::Peer(at("2001:db8::3"), 2));
        assert!(gate.enter(at("2001:db8:0:1::1")).is_ok());
        drop(first);
        assert!(gate.enter(at("2001:db8::3")).is_ok());
    }

    #[test]
    fn a_peer_without_connections_is_forgotten() {
        let gate = Gate::new(3, 2);
        drop(gate.enter(ALICE).unwrap());
        assert!(gate.open.lock().unwrap().of_peer.is_empty());
    }
}
