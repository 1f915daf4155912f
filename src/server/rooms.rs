//! Which calls may be open at a time, and how much is held of their messages: questions and all else in one room, health
//! in another, so that it is answered however much else is open, and reflection in a small one.
//!
//! A call that finds no place is refused at once instead of waiting: its caller has other sidecars, or a moment later,
//! and what waits here would take memory and answer nobody sooner. Not here: counting (see `edge::room`).

use std::collections::HashMap;

use hyper::{Request, Response, StatusCode, header::CONTENT_TYPE};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::answer::Answer;
use crate::{
    config::Limits,
    edge::{
        budget::Held,
        room::{OpenCall, Room},
    },
    proto::health::health_server,
};

/// The rooms of one listener.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    calls: Room,
    health: Room,
    reflection: Room,
    /// The domain of `google.rpc.ErrorInfo`.
    domain: &'static str,
}

/// How many tools may ask by reflection at a time: each costs more than any other call, and needs it for a moment.
const REFLECTIONS: usize = 64;

/// What is held of a call's messages in one direction.
#[derive(Debug)]
pub(super) struct Holding {
    held: Held,
    most: usize,
    domain: &'static str,
}

impl Rooms {
    /// Rooms for the calls of `domain`.
    pub(super) fn new(domain: &'static str, limits: &Limits) -> Self {
        let room = || Room::new(limits.calls, limits.held_bytes);
        let reflection = Room::new(REFLECTIONS, limits.held_bytes);
        Self { calls: room(), health: room(), reflection, domain }
    }

    /// A place for one more call, if there is one.
    pub(super) fn enter<B>(&self, request: &Request<B>) -> Option<OpenCall> {
        self.of(request).enter()
    }

    /// Nothing yet, of a call that is open.
    pub(super) fn hold<B>(&self, request: &Request<B>) -> Holding {
        let bytes = self.of(request).bytes();
        Holding { held: bytes.hold(), most: bytes.most(), domain: self.domain }
    }

    fn of<B>(&self, request: &Request<B>) -> &Room {
        let path = request.uri().path();
        if is_of(health_server::SERVICE_NAME, path) {
            &self.health
        } else if path.starts_with("/grpc.reflection.") {
            &self.reflection
        } else {
            &self.calls
        }
    }

    /// What a call is told that finds no place. A page is refused in its own language: with the status of a call it would
    /// look like one that is well.
    pub(super) fn refusal<B>(&self, request: &Request<B>) -> Response<Answer> {
        let kind = request.headers().get(CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            let mut page = Response::new(Answer::nothing());
            *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return page;
        }
        let most = self.of(request).most();
        let what = format!(
            "as many calls of this kind are open as are allowed ({most}); ask again in a moment, or raise `limits.calls`"
        );
        Answer::of_status(&exhausted("TOO_MANY_CALLS", self.domain, what))
    }
}

impl Holding {
    /// From now on a message of `bytes` is held, in place of the one before.
    pub(super) fn set(&self, bytes: usize) -> Result<(), Status> {
        if self.held.set(bytes) {
            return Ok(());
        }
        let what = format!(
            "a message of {bytes} bytes is too many beside those held for other callers ({} in all); ask again in a \
             moment, ask for less, or raise `limits.held_bytes`",
            self.most
        );
        Err(exhausted("TOO_MANY_BYTES", self.domain, what))
    }
}

fn exhausted(reason: &str, domain: &str, what: String) -> Status {
    let details = ErrorDetails::with_error_info(reason, domain, HashMap::new());
    Status::with_error_details(Code::ResourceExhausted, what, details)
}

fn is_of(service: &str, path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(service))
        .is_some_and(|call| call.starts_with('/'))
}
