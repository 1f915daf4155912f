//! Which calls may be open at a time, and how much is held of their messages: questions and all else in one room, health
//! in another, so that it is answered however much else is open, and reflection in a small one. Of each, one caller has
//! no more than its share.
//!
//! A call that finds no place is refused at once instead of waiting: its caller has other sidecars, or a moment later,
//! and what waits here would take memory and answer nobody sooner. Not here: counting (see `edge::room`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use hyper::{Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    answer::Answer,
    tallied::{Tallied, Tallying},
};
use crate::{
    config::Limits,
    edge::{
        peer::{Peer, Who},
        room::{Full, Held, Room, Share, Size},
    },
    proto::health::health_server,
};

/// The rooms of one listener.
#[derive(Clone, Debug)]
pub(super) struct Rooms(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    calls: Room,
    health: Room,
    reflection: Room,
    limits: Limits,
    /// The domain of `google.rpc.ErrorInfo`.
    domain: &'static str,
    /// Those who are connected, and some who were.
    callers: Mutex<HashMap<Who, Weak<Shares>>>,
    tallied: Arc<Tallied>,
}

/// What one caller has of each room.
#[derive(Debug)]
pub(super) struct Shares {
    calls: Share,
    health: Share,
    reflection: Share,
    tallied: Arc<Tallied>,
    domain: &'static str,
}

/// How many tools may ask by reflection at a time: each costs more than any other call, and needs it for a moment.
const REFLECTIONS: usize = 64;

/// An open call: its place is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Call {
    shares: Arc<Shares>,
    kind: Kind,
    /// A page is no call.
    tallying: Option<Tallying>,
}

/// Which room a call is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    Health,
    Reflection,
}

/// What is held of a call's messages in one direction.
#[derive(Debug)]
pub(super) struct Holding {
    held: Held,
    domain: &'static str,
}

impl Rooms {
    /// Rooms for the calls of `domain`.
    pub(super) fn new(domain: &'static str, limits: &Limits) -> Self {
        let room = |calls| Room::new(Size { calls, bytes: limits.held_bytes });
        Self(Arc::new(Inner {
            calls: room(limits.calls),
            health: room(limits.calls),
            reflection: room(REFLECTIONS),
            limits: limits.clone(),
            domain,
            callers: Mutex::default(),
            tallied: Arc::new(Tallied::new()),
        }))
    }

    /// What became of the calls in them.
    pub(super) fn tallied(&self) -> &Tallied {
        &self.0.tallied
    }

    /// How much is taken of each now.
    pub(super) fn taken(&self) -> [(&'static str, Size); 3] {
        let Inner { calls, health, reflection, .. } = &*self.0;
        [("calls", calls.taken()), ("health", health.taken()), ("reflection", reflection.taken())]
    }

    /// What whoever is at the other end has of them, on all its connections together.
    pub(super) fn of(&self, peer: &Peer) -> Arc<Shares> {
        let mut callers = self.0.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let who = peer.who();
        if let Some(shares) = callers.get(&who).and_then(Weak::upgrade) {
            return shares;
        }
        // Those who have gone are forgotten before there is room made for more of them.
        if callers.len() == callers.capacity() {
            callers.retain(|_, shares| 0 < shares.strong_count());
        }
        let shares = Arc::new(self.0.shares());
        callers.insert(who, Arc::downgrade(&shares));
        shares
    }
}

impl Inner {
    fn shares(&self) -> Shares {
        let Self { calls, health, reflection, limits, domain, tallied, callers: _ } = self;
        let size = |calls| Size { calls: limits.share(calls), bytes: limits.share(limits.held_bytes) };
        Shares {
            calls: calls.share(size(limits.calls)),
            health: health.share(size(limits.calls)),
            reflection: reflection.share(size(REFLECTIONS)),
            tallied: Arc::clone(tallied),
            domain,
        }
    }
}

impl Shares {
    /// A place for one more call, if there is any.
    pub(super) fn enter<B>(self: &Arc<Self>, request: &Request<B>) -> Result<Call, Full> {
        let path = request.uri().path();
        let tallying = speaks_grpc(request).then(|| Tallying::of(path));
        self.enter_as(Kind::of(path), path, tallying)
    }

    /// The same for a question at `path`.
    pub(super) fn enter_to_ask(self: &Arc<Self>, path: &'static str) -> Result<Call, Full> {
        self.enter_as(Kind::Call, path, Some(Tallying::of(path)))
    }

    fn enter_as(self: &Arc<Self>, kind: Kind, path: &str, tallying: Option<Tallying>) -> Result<Call, Full> {
        self.of(kind).enter().inspect_err(|_| self.tallied.shed(path))?;
        Ok(Call { shares: Arc::clone(self), kind, tallying })
    }

    const fn of(&self, kind: Kind) -> &Share {
        match kind {
            Kind::Call => &self.calls,
            Kind::Health => &self.health,
            Kind::Reflection => &self.reflection,
        }
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

impl Call {
    /// It ended so.
    pub(super) fn ended(&mut self, code: Code) {
        self.tallying.iter_mut().for_each(|tallying| tallying.ended(code));
    }

    /// Nothing yet, of what is said in it in one direction.
    pub(super) fn hold(&self) -> Holding {
        Holding { held: self.shares.of(self.kind).hold(), domain: self.shares.domain }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.shares.of(self.kind).leave();
        self.tallying.iter().for_each(|tallying| tallying.over(&self.shares.tallied));
    }
}

impl Kind {
    fn of(path: &str) -> Self {
        if is_of(health_server::SERVICE_NAME, path) {
            Self::Health
        } else if path.starts_with("/grpc.reflection.") {
            Self::Reflection
        } else {
            Self::Call
        }
    }
}

impl Holding {
    /// From now on a message of `bytes` is held, in place of the one before.
    pub(super) fn set(&self, bytes: usize) -> Result<(), Status> {
        let Err(full) = self.held.set(bytes) else { return Ok(()) };
        let what = match full {
            Full::Room(most) => format!(
                "a message of {bytes} bytes is too many beside those held for other callers ({most} in all); ask again \
                 in a moment, ask for less, or raise `limits.held_bytes`"
            ),
            Full::Share(most) => format!(
                "a message of {bytes} bytes is too many beside those held for the same caller ({most} in all); send and \
                 read one after the other, or raise `limits.caller_percent`"
            ),
        };
        Err(exhausted("TOO_MANY_BYTES", self.domain, what))
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

fn is_of(service: &str, path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(service))
        .is_some_and(|call| call.starts_with('/'))
}
