//! Streams that are open: where there is no room for another, one of them makes it.
//!
//! A stream may say nothing for as long as it likes, so that its place costs whoever opened it nothing. Of the client that
//! has most of them, the connection that has most ends its oldest: whoever has few on each connection keeps them. Not here:
//! how many may be open (see the parent).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{Arrival, Client, Shares, client_of, connections::PATIENCE, kind::Kind};
use crate::edge::peer::Peer;

/// The streams of a listener.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    clients: HashMap<Client, Open>,
}

/// What one client has open in one room.
#[derive(Debug, Default)]
struct Open {
    /// The oldest of each connection first.
    connections: HashMap<usize, BTreeMap<u64, (Arc<Arrival>, Peer)>>,
    /// How many each has, and its oldest; the greediest last.
    order: BTreeSet<(usize, Reverse<u64>, usize)>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenStream {
    client: Client,
    connection: usize,
    number: u64,
    streams: Arc<Streams>,
}

impl Streams {
    /// One more on `connection`.
    pub(super) fn add(
        self: &Arc<Self>,
        kind: Kind,
        shares: &Arc<Shares>,
        (connection, peer): (usize, &Peer),
        call: &Arc<Arrival>,
    ) -> OpenStream {
        let client = client_of(kind, shares);
        let mut inner = self.inner();
        let number = inner.next;
        inner.next += 1;
        let open = inner.clients.entry(client).or_default();
        open.change(connection, |calls| calls.insert(number, (Arc::clone(call), peer.clone())));
        OpenStream { client, connection, number, streams: Arc::clone(self) }
    }

    /// Ends one of `kind`: of this client alone where it is given. Whether there is one.
    pub(super) fn evict(&self, kind: Kind, of: Option<&Arc<Shares>>) -> bool {
        let mut inner = self.inner();
        let client = match of {
            Some(shares) => Some(client_of(kind, shares)),
            None => inner.greediest(kind),
        };
        let open = client.and_then(|client| inner.clients.get_mut(&client));
        let Some((open, (_, _, connection))) =
            open.and_then(|open| open.order.last().copied().map(|last| (open, last)))
        else {
            return false;
        };
        let oldest = open.change(connection, BTreeMap::pop_first);
        // While nobody else looks: it does not leave its place again.
        oldest.is_some_and(|(_, (call, peer))| {
            let has_place = call.evict();
            if has_place {
                call.ends_within(PATIENCE, peer);
            }
            has_place
        })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn greediest(&self, kind: Kind) -> Option<Client> {
        let of_kind = self.clients.iter().filter(|((of, _), _)| *of == kind);
        of_kind.max_by_key(|(_, open)| open.count()).map(|(client, _)| *client)
    }
}

impl Open {
    fn count(&self) -> usize {
        self.order.iter().map(|(count, _, _)| count).sum()
    }

    fn change<T>(
        &mut self,
        connection: usize,
        change: impl FnOnce(&mut BTreeMap<u64, (Arc<Arrival>, Peer)>) -> T,
    ) -> T {
        let calls = self.connections.entry(connection).or_default();
        let place = |calls: &BTreeMap<u64, (Arc<Arrival>, Peer)>| {
            calls.first_key_value().map(|(oldest, _)| (calls.len(), Reverse(*oldest), connection))
        };
        let before = place(calls);
        let changed = change(calls);
        let after = place(calls);
        if let Some(before) = before {
            self.order.remove(&before);
        }
        if let Some(after) = after {
            self.order.insert(after);
        } else {
            self.connections.remove(&connection);
        }
        changed
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut inner = self.streams.inner();
        let Some(open) = inner.clients.get_mut(&self.client) else { return };
        let over = open.change(self.connection, |calls| calls.remove(&self.number));
        if open.connections.is_empty() {
            inner.clients.remove(&self.client);
        }
        drop(inner);
        drop(over);
    }
}
