//! Which calls may be open at a time, and how much is held of their messages: questions and all else in one room, watches
//! of health in another, probes in a third, so that these are answered however much else is open, and reflection and the
//! page of metrics in small ones. Of each, one client has no more than its share.
//!
//! A call that finds no place is refused at once instead of waiting: its caller has other sidecars, or a moment later,
//! and what waits here would take memory and answer nobody sooner. Not here: counting (see `edge::room`).

mod arrivals;
mod call;
mod connections;
mod holding;
mod kind;
mod streams;
mod unread;

use std::{collections::HashMap, sync::Arc};

use hyper::{Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(super) use self::{
    arrivals::Arrival, call::Call, connections::Connected, holding::Holding, kind::METRICS,
};
use self::{
    arrivals::{Arrivals, Wanted},
    connections::Connections,
    kind::Kind,
    streams::Streams,
    unread::Unread,
};
use super::{
    answer::Answer,
    tallied::{Tallied, Tallying},
};
use crate::{
    config::Limits,
    edge::{
        clients::PerClient,
        peer::{ClientKey, Peer},
        room::{Full, Room, Share, Size},
    },
};

/// The rooms of one listener.
#[derive(Clone, Debug)]
pub(super) struct Rooms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    rooms: [Places<Room>; Kind::ALL.len()],
    limits: Limits,
    /// The kind of calls that have no room of their own.
    other: Kind,
    /// The domain of `google.rpc.ErrorInfo`.
    domain: &'static str,
    /// Those who are connected.
    clients: PerClient<Shares>,
    arrivals: Arc<Arrivals>,
    connections: Arc<Connections>,
    streams: Arc<Streams>,
    tallied: Arc<Tallied>,
}

/// What one caller has of each room.
#[derive(Debug)]
pub(super) struct Shares {
    rooms: [Places<Share>; Kind::ALL.len()],
    unread: Unread,
    arrivals: Arc<Arrivals>,
    connections: Arc<Connections>,
    streams: Arc<Streams>,
    other: Kind,
    tallied: Arc<Tallied>,
    domain: &'static str,
}

/// A room, or a share of one, for calls and what is held of them, and for what may come ahead of what is read of them:
/// that is nearly always room for nothing, and must not keep out what is there.
#[derive(Debug)]
struct Places<R> {
    held: R,
    ahead: R,
}

/// Which room, and whose share of it: by where that is, as long as it is held.
type Client = (Kind, usize);

/// How many calls make room for another, or for one message, at the most.
const EVICTIONS: usize = 64;

impl Rooms {
    /// Rooms for the calls of `domain`.
    pub(super) fn new(domain: &'static str, limits: &Limits) -> Self {
        Self::with_others(domain, limits, Kind::Call)
    }

    /// Rooms where nothing but probes and pages is asked for.
    pub(super) fn of_probes(domain: &'static str, limits: &Limits) -> Self {
        Self::with_others(domain, limits, Kind::Probe)
    }

    fn with_others(domain: &'static str, limits: &Limits, other: Kind) -> Self {
        let room = |kind: Kind| Places {
            held: Room::new(Size { calls: kind.places(limits), bytes: limits.held_bytes }),
            ahead: Room::new(Size { calls: 0, bytes: limits.ahead_bytes }),
        };
        Self(Arc::new(Inner {
            rooms: Kind::ALL.map(room),
            limits: limits.clone(),
            other,
            domain,
            clients: PerClient::default(),
            arrivals: Arc::default(),
            connections: Arc::default(),
            streams: Arc::default(),
            tallied: Arc::new(Tallied::new()),
        }))
    }

    /// What became of the calls in them.
    pub(super) fn tallied(&self) -> &Tallied {
        &self.0.tallied
    }

    /// How much is taken of each now: calls, bytes of theirs, and bytes for what may come ahead.
    pub(super) fn taken(&self) -> [(&'static str, [usize; 3]); Kind::ALL.len()] {
        Kind::ALL.map(|kind| {
            let Places { held, ahead } = kind.of_all(&self.0.rooms);
            let Size { calls, bytes } = held.taken();
            (kind.name(), [calls, bytes, ahead.taken().bytes])
        })
    }

    /// What this client has of them, on all its connections together.
    pub(super) fn of(&self, client: ClientKey) -> Arc<Shares> {
        self.0.clients.of(client, || self.0.shares())
    }
}

impl Inner {
    fn shares(&self) -> Shares {
        let Self { rooms, limits, other, domain, tallied, arrivals, connections, streams, clients: _ } = self;
        let share = |kind: Kind| {
            let Places { held, ahead } = kind.of_all(rooms);
            Places {
                held: held.share(Size { calls: kind.share(limits), bytes: limits.share(limits.held_bytes) }),
                ahead: ahead.share(Size { calls: 0, bytes: limits.share(limits.ahead_bytes) }),
            }
        };
        Shares {
            rooms: Kind::ALL.map(share),
            unread: Unread::default(),
            arrivals: Arc::clone(arrivals),
            connections: Arc::clone(connections),
            streams: Arc::clone(streams),
            other: *other,
            tallied: Arc::clone(tallied),
            domain,
        }
    }
}

impl Shares {
    /// One more connection of this client.
    pub(super) fn connected(self: &Arc<Self>, peer: &Peer) -> Connected {
        self.connections.add(self, peer)
    }

    /// A place for one more call of `peer`, if there is any.
    pub(super) fn enter<B>(self: &Arc<Self>, request: &Request<B>, peer: &Peer) -> Result<Call, Full> {
        let tallying = Self::tallying(request);
        let is_stream = tallying.as_ref().is_some_and(Tallying::is_stream);
        let kind = Kind::of(request.uri().path(), is_stream, self.other);
        let mut call = self.enter_as(kind, tallying, peer)?;
        call.is_routed(peer, kind.read_within().map(|within| self.unread.add(kind, peer, within)));
        Ok(call)
    }

    /// The same for a question at `path`.
    pub(super) fn enter_to_ask(self: &Arc<Self>, path: &'static str, peer: &Peer) -> Result<Call, Full> {
        self.enter_as(Kind::Call, Some(Tallying::of(path)), peer)
    }

    fn enter_as(self: &Arc<Self>, kind: Kind, tallying: Option<Tallying>, peer: &Peer) -> Result<Call, Full> {
        let places = &self.of(kind).held;
        if let Err(full) = places.enter()
            && let Err(full) = self.enter_for_another(kind, full)
        {
            if !kind.is_stream() {
                self.relieve(full, Wanted::Place);
            }
            tallying.iter().for_each(|call| self.tallied.shed(call));
            return Err(full);
        }
        let (shares, open) = (Arc::clone(self), peer.open_call());
        Ok(Call::new(shares, kind, tallying, open))
    }

    /// Enters where it is `full`, in place of a call that is not whole, or whose answer nobody reads: the older of them.
    fn enter_for_another(self: &Arc<Self>, kind: Kind, mut full: Full) -> Result<(), Full> {
        let places = &self.of(kind).held;
        // Others may take what is given up before this call does.
        for _ in 0..EVICTIONS {
            if self.is_unread_oldest(kind, full) && self.unread.cut_oldest(kind) {
                places.leave();
            } else if !self.evict(kind, full, Wanted::Place) {
                break;
            }
            match places.enter() {
                Ok(()) => return Ok(()),
                Err(still) => full = still,
            }
        }
        Err(full)
    }

    /// Whether this client's own share is full, and a call whose answer it does not read is older than what it has arriving:
    /// whoever asks anew is neither for long.
    fn is_unread_oldest(self: &Arc<Self>, kind: Kind, full: Full) -> bool {
        let Full::Share(_) = full else { return false };
        let Some(unread) = self.unread.oldest_since(kind) else { return false };
        self.arrivals.oldest_since(kind, self).is_none_or(|arriving| unread <= arriving)
    }

    /// Ends a call that has not arrived whole, or a stream: of this client where its share is full, else of whoever has most.
    fn evict(self: &Arc<Self>, kind: Kind, full: Full, wanted: Wanted) -> bool {
        let of = self.concerned(full);
        match wanted {
            Wanted::Place | Wanted::Ahead if kind.is_stream() => self.streams.evict(kind, of),
            Wanted::Place | Wanted::Bytes | Wanted::Ahead => self.arrivals.evict(kind, of, wanted),
        }
    }

    /// Where it is `full` of calls that are whole: closes the connections that take no answers.
    fn relieve(self: &Arc<Self>, full: Full, wanted: Wanted) {
        self.connections.relieve(self.concerned(full), full.most(), wanted);
    }

    /// Whose calls make room: this client's where its share is full, else anybody's.
    fn concerned(self: &Arc<Self>, full: Full) -> Option<&Arc<Self>> {
        match full {
            Full::Room(_) => None,
            Full::Share(_) => Some(self),
        }
    }

    /// What a call is told from whose head it is known that its caller may not make it: it takes no place.
    pub(super) fn refused<B>(&self, request: &Request<B>, status: &Status) -> Response<Answer> {
        if let Some(mut tallying) = Self::tallying(request) {
            tallying.ended(status.code());
            tallying.over(&self.tallied);
        }
        Answer::of_status(status)
    }

    fn tallying<B>(request: &Request<B>) -> Option<Tallying> {
        speaks_grpc(request).then(|| Tallying::of(request.uri().path()))
    }

    const fn of(&self, kind: Kind) -> &Places<Share> {
        kind.of_all(&self.rooms)
    }

    /// What a call is told that finds no place. A page is refused in its own language: with the status of a call it would
    /// look like one that is well.
    pub(super) fn refusal<B>(&self, request: &Request<B>, full: Full) -> Response<Answer> {
        if !speaks_grpc(request) {
            let mut page = Response::new(Answer::nothing());
            *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return page;
        }
        let what = match full {
            Full::Room(most) => format!(
                "as many calls of this kind are open as are allowed ({most}); ask again in a moment, or raise `limits.calls`"
            ),
            Full::Share(most) => format!(
                "as many calls of this kind are open as one caller may have ({most}); end some, or raise \
                 `limits.caller_percent`"
            ),
        };
        Answer::of_status(&exhausted("TOO_MANY_CALLS", self.domain, what))
    }
}

fn exhausted(reason: &str, domain: &str, what: String) -> Status {
    let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, what, details)
}

fn speaks_grpc<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn client_of(kind: Kind, shares: &Arc<Shares>) -> Client {
    (kind, Arc::as_ptr(shares).addr())
}
