//! `Authorize` and `BatchAuthorize`: one message read from its frames and answered at once.
//!
//! Every sign-in waits for this call, and with any shape of call in mind its transport costs more than its answer. Here
//! a message is read where it arrived, decided on, and written once. What a caller sees is what the routes would show,
//! which a test holds against them. Not here: what is answered (see `enforcement`).

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::Body as _;
use hyper::{Request, Response, body::Incoming, header::CONTENT_TYPE};
use prost::Message as _;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

use super::{
    answer::{Answer, HEAD},
    foreign::explained,
    rooms::{Arrival, Call, Holding},
};
use crate::{
    config::Limits, edge::peer::Peer, enforcement::Enforcement, proto::enforcement::AuthorizeRequest,
};

const AUTHORIZE: &str = "/esa.enforcement.v1.EnforcementService/Authorize";
const BATCH: &str = "/esa.enforcement.v1.EnforcementService/BatchAuthorize";

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One question.
    One,
    /// Many, in one message.
    Batch,
}

/// A question that arrives, and is answered once it is whole.
pub(super) struct Question {
    kind: Kind,
    body: Incoming,
    read: Read,
    /// Only a question that does not arrive at once costs more.
    late: Option<Box<Late>>,
}

/// Who answers questions on a connection, and who asks them.
pub(super) struct Desk {
    pub(super) enforcement: Enforcement,
    pub(super) peer: Peer,
    /// How long a question may take until it is whole.
    pub(super) timeout: Duration,
}

/// What is added to one that does not arrive at once.
struct Late {
    too_late: Pin<Box<Sleep>>,
    /// What has arrived of it.
    held: Arc<Holding>,
    /// Done when it has to make room for others.
    evicted: Pin<Box<WaitForCancellationFutureOwned>>,
    arrival: Arc<Arrival>,
}

/// A question that is whole.
enum Asked {
    One(AuthorizeRequest),
    Batch(Bytes),
}

/// What has arrived.
enum Read {
    Nothing,
    One(Bytes),
    Several(BytesMut),
}

/// What a request asks, in the form that every client sends; the routes take any other.
pub(super) fn kind_of(request: &Request<Incoming>) -> Option<Kind> {
    let kind = match request.uri().path() {
        AUTHORIZE => Kind::One,
        BATCH => Kind::Batch,
        _ => return None,
    };
    let headers = request.headers();
    let usual = request.method() == hyper::Method::POST
        && headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| matches!(kind.as_bytes(), b"application/grpc" | b"application/grpc+proto"))
        && headers.get("grpc-encoding").is_none_or(|encoding| encoding == "identity");
    usual.then_some(kind)
}

impl Kind {
    /// Where it is asked.
    pub(super) const fn path(self) -> &'static str {
        match self {
            Self::One => AUTHORIZE,
            Self::Batch => BATCH,
        }
    }
}

impl Question {
    pub(super) fn new(kind: Kind, body: Incoming) -> Self {
        Self { kind, body, read: Read::Nothing, late: None }
    }

    /// Its answer, once it is whole; it is asked in `call` at `desk`.
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
        desk: &Desk,
        call: &mut Call,
    ) -> Poll<Response<Answer>> {
        let whole = match self.poll_whole(context, desk.enforcement.limits()) {
            Poll::Ready(whole) => whole,
            Poll::Pending => Err(ready!(self.poll_late(context, desk, call))),
        };
        if let Some(late) = &self.late {
            late.arrival.arrived();
        }
        let answered = match whole.and_then(|()| self.asked()) {
            Ok(asked) => answer(asked, desk, call),
            // Whoever asks what cannot be read asks all the same.
            Err(status) => Err(desk.spend().err().unwrap_or(status)),
        };
        if let Err(status) = &answered {
            desk.refused(status);
        }
        let refused = |status| Answer::of_status(&explained(status, call.domain()));
        Poll::Ready(answered.unwrap_or_else(refused))
    }

    /// Reads until the caller has said all.
    fn poll_whole(&mut self, context: &mut Context<'_>, limits: &Limits) -> Poll<Result<(), Status>> {
        let most = match self.kind {
            Kind::One => limits.question_bytes,
            Kind::Batch => limits.request_bytes,
        };
        while !self.body.is_end_stream() {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.push(data);
                    }
                    if HEAD + most < self.read.len()
                        || self.read.announces().is_some_and(|length| most < length)
                    {
                        let what = format!("the message has more than {most} bytes");
                        return Poll::Ready(Err(Status::out_of_range(what)));
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(Err(Status::cancelled(format!("the question broke off: {error}"))));
                }
                None => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn asked(&mut self) -> Result<Asked, Status> {
        let message = message(std::mem::replace(&mut self.read, Read::Nothing).into_bytes())?;
        match self.kind {
            Kind::Batch => Ok(Asked::Batch(message)),
            Kind::One => AuthorizeRequest::decode(message)
                .map(Asked::One)
                .map_err(|error| Status::invalid_argument(format!("the message does not read: {error}"))),
        }
    }

    /// Ready when it takes too long, or too much.
    fn poll_late(&mut self, context: &mut Context<'_>, desk: &Desk, call: &mut Call) -> Poll<Status> {
        let timeout = desk.timeout;
        if self.late.is_none()
            && let Err(refused) = desk.enforcement.admit(&desk.peer, self.kind.path())
        {
            return Poll::Ready(refused);
        }
        let late = self.late.get_or_insert_with(|| Box::new(Late::new(timeout, call)));
        if late.evicted.as_mut().poll(context).is_ready() {
            return Poll::Ready(call.evicted());
        }
        if let Err(full) = late.held.set(self.read.len()) {
            return Poll::Ready(full);
        }
        ready!(late.too_late.as_mut().poll(context));
        let what = format!("the question was not whole within {}", humantime::format_duration(timeout));
        Poll::Ready(Status::deadline_exceeded(what))
    }
}

fn answer(asked: Asked, desk: &Desk, call: &Call) -> Result<Response<Answer>, Status> {
    let Desk { enforcement, peer, timeout: _ } = desk;
    match asked {
        Asked::Batch(message) => {
            let mut written = vec![0; HEAD];
            enforcement.answer_batch(message, peer, &mut written)?;
            Answer::of_long(written, call.hold_answer())
        }
        Asked::One(question) => Ok(Answer::of(&enforcement.answer(&question, peer)?)),
    }
}

impl Desk {
    /// Takes one question from what whoever asks may ask now.
    pub(super) fn spend(&self) -> Result<(), Status> {
        self.enforcement.spend(&self.peer)
    }

    /// Counts what is refused to somebody nobody knows.
    pub(super) fn refused(&self, status: &Status) {
        let is_stranger = || !self.enforcement.knows(&self.peer);
        if (!self.peer.is_known() || status.code() == Code::PermissionDenied) && is_stranger() {
            self.peer.refused();
        }
    }
}

impl Late {
    fn new(timeout: Duration, call: &mut Call) -> Self {
        let held = Arc::new(call.hold_asked());
        let arrival = call.arrives(vec![Arc::clone(&held)]);
        arrival.is_missing(0);
        let evicted = Box::pin(arrival.evicting());
        Self { too_late: Box::pin(tokio::time::sleep(timeout)), held, evicted, arrival }
    }
}

impl Read {
    fn push(&mut self, data: Bytes) {
        match self {
            Self::Nothing => *self = Self::One(data),
            Self::One(first) => {
                let mut all = BytesMut::from(&first[..]);
                all.extend_from_slice(&data);
                *self = Self::Several(all);
            }
            Self::Several(all) => all.extend_from_slice(&data),
        }
    }

    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::One(bytes) => bytes,
            Self::Several(bytes) => bytes,
        }
    }

    fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// How long the message says it is.
    fn announces(&self) -> Option<usize> {
        let [_, length @ ..] = self.as_slice().first_chunk::<HEAD>()?;
        usize::try_from(u32::from_be_bytes(*length)).ok()
    }

    fn into_bytes(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::One(bytes) => bytes,
            Self::Several(bytes) => bytes.freeze(),
        }
    }
}

/// The one message that was sent.
fn message(mut sent: Bytes) -> Result<Bytes, Status> {
    if sent.is_empty() {
        return Err(Status::internal("Missing request message."));
    }
    if sent.len() < HEAD {
        return Err(Status::internal("the message broke off before its length"));
    }
    let compressed = sent.get_u8();
    let length = usize::try_from(sent.get_u32()).unwrap_or(usize::MAX);
    match compressed {
        0 => {}
        1 => return Err(Status::unimplemented("compressed messages are not taken; send them as they are")),
        _ => return Err(Status::internal("the message begins with neither 0 nor 1")),
    }
    if sent.len() != length {
        let what = format!("the message says it has {length} bytes, and {} were sent", sent.len());
        return Err(Status::internal(what));
    }
    Ok(sent)
}
