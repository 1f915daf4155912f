//! Which calls may be open at a time: questions and all else in one room, health in another, so that it is answered
//! however much else is open.
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
    edge::room::{OpenCall, Room},
    proto::health::health_server,
};

/// The rooms of one listener.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    calls: Room,
    health: Room,
    /// The domain of `google.rpc.ErrorInfo`.
    domain: &'static str,
}

impl Rooms {
    /// Rooms for the calls of `domain`.
    pub(super) fn new(domain: &'static str, limits: &Limits) -> Self {
        Self { calls: Room::new(limits.calls), health: Room::new(limits.calls), domain }
    }

    /// A place for one more call, or the answer that says that there is none.
    pub(super) fn enter<B>(&self, request: &Request<B>) -> Result<OpenCall, Response<Answer>> {
        let room = if is_health(request.uri().path()) { &self.health } else { &self.calls };
        room.enter().ok_or_else(|| self.refusal(request, room.most()))
    }

    /// A page is refused in its own language: with the status of a call it would look like one that is well.
    fn refusal<B>(&self, request: &Request<B>, most: usize) -> Response<Answer> {
        let kind = request.headers().get(CONTENT_TYPE);
        if !kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            let mut page = Response::new(Answer::nothing());
            *page.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return page;
        }
        let what = format!(
            "as many calls are open as are allowed ({most}); ask again in a moment, or raise `limits.calls`"
        );
        let details = ErrorDetails::with_error_info("TOO_MANY_CALLS", self.domain, HashMap::new());
        Answer::of_status(&Status::with_error_details(Code::ResourceExhausted, what, details))
    }
}

fn is_health(path: &str) -> bool {
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(health_server::SERVICE_NAME))
        .is_some_and(|call| call.starts_with('/'))
}
