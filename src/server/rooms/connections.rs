//! The connections of a listener: where there is no room for another call, or for its bytes, those are closed whose other
//! end does not take what it asked for.
//!
//! An answer that is not taken keeps its place, and what is held of it, for as long as its connection lasts, at no cost to
//! whoever asked. Not here: how many calls may be open (see the parent), and answers of probes, each of which has an end
//! of its own (see `unread`).

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Shares, arrivals::Wanted};
use crate::edge::peer::Peer;

/// Those that are open.
#[derive(Debug, Default)]
pub(super) struct Connections(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    open: HashMap<u64, Open>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Open {
    shares: Arc<Shares>,
    peer: Peer,
    /// Since when answers of it were waiting whenever somebody looked.
    stalled_since: Option<Instant>,
    /// The same of bytes that are held for it.
    holding_since: Option<Instant>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(in crate::server) struct Connected {
    number: u64,
    shares: Arc<Shares>,
}

/// How long an answer may wait to be taken where there is no room: who takes it at all begins sooner.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// How often they are looked at, at the most: it takes time for each of them.
const PAUSE: Duration = Duration::from_millis(10);

impl Connections {
    /// One more, of `peer`, which has `shares`.
    pub(super) fn add(&self, shares: &Arc<Shares>, peer: &Peer) -> Connected {
        let (held, peer) = (Arc::clone(shares), peer.clone());
        let open = Open { shares: held, peer, stalled_since: None, holding_since: None };
        let mut connections = self.inner();
        let number = connections.next;
        connections.next += 1;
        connections.open.insert(number, open);
        Connected { number, shares: Arc::clone(shares) }
    }

    /// Closes connections, of this client alone where it is given: those first that have most of what is `wanted` in a room
    /// for `most`, until half of that is free.
    pub(super) fn relieve(&self, of: Option<&Arc<Shares>>, most: usize, wanted: Wanted) {
        let now = Instant::now();
        let mut connections = self.inner();
        if connections.looked.is_some_and(|looked| now.duration_since(looked) < PAUSE) {
            return;
        }
        connections.looked = Some(now);
        let mut greedy = Vec::new();
        for open in connections.open.values_mut() {
            open.look(now);
            let is_wanted = of.is_none_or(|shares| Arc::ptr_eq(shares, &open.shares));
            let has = if is_wanted { open.gives(wanted, now) } else { 0 };
            if 0 < has {
                greedy.push((has, &open.peer));
            }
        }
        greedy.sort_by_key(|(has, _)| Reverse(*has));
        let mut free = 0;
        for (has, peer) in greedy {
            if most / 2 < free {
                break;
            }
            peer.cut_off();
            free += has;
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn look(&mut self, now: Instant) {
        let since = |is: bool, since: Option<Instant>| is.then(|| since.unwrap_or(now));
        self.stalled_since = since(0 < self.peer.stalled_calls(), self.stalled_since);
        self.holding_since = since(0 < self.peer.held_bytes(), self.holding_since);
    }

    /// How much becomes free when it is closed; nothing if it must not be.
    fn gives(&self, wanted: Wanted, now: Instant) -> usize {
        let is_late =
            |since: Option<Instant>| since.is_some_and(|since| PATIENCE <= now.duration_since(since));
        match wanted {
            Wanted::Bytes if is_late(self.holding_since) => self.peer.held_bytes(),
            Wanted::Place if is_late(self.stalled_since) => self.peer.stalled_calls(),
            Wanted::Bytes | Wanted::Place | Wanted::Ahead => 0,
        }
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let closed = self.shares.connections.inner().open.remove(&self.number);
        drop(closed);
    }
}
