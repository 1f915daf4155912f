//! The body of an answer: one message and its trailers, or whatever the routes made.
//!
//! Not here: what a message says.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::{
    HeaderMap, Response,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use prost::Message;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Code, Status};

use super::{
    foreign,
    rooms::{Arrival, Call, Holding},
};

/// An answer; its call is open until the last of it was handed over, or nobody wants it any more.
pub(super) struct Answer {
    left: Left,
    call: Option<Call>,
    /// How the call ended, once that is settled.
    code: Option<Code>,
}

/// What is left to be sent of an answer.
enum Left {
    /// A message, then its trailers.
    Message(Bytes),
    /// A long message, handed over a piece at a time, then its trailers.
    Long(Box<Pieces>),
    /// Its trailers.
    Trailers,
    /// Nothing.
    Ended,
    /// What the routes made.
    Routed(Box<Routed>),
}

/// What is left of a message, which is held until the last of it is handed over.
struct Pieces {
    rest: Bytes,
    held: Holding,
}

/// What the routes made, handed over a piece at a time.
struct Routed {
    body: tonic::body::Body,
    message: Pieces,
    /// What is held of the question.
    _asked: Arc<Holding>,
    /// Why not all that was asked is answered.
    fault: Arc<OnceLock<Status>>,
    /// Done when it has to make room for others, and what it is told then.
    evicting: Pin<Box<WaitForCancellationFutureOwned>>,
    evicted: Status,
}

/// What is handed over at a time: as soon as a caller can take one byte the whole of a piece leaves our hands, counted by
/// nobody until the rest can be sent. From 1 KiB on each piece would be sent in a system call of its own.
const PIECE: usize = (1 << 10) - 1;

/// Bytes before each message: whether it is compressed, and its length.
pub(super) const HEAD: usize = 5;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

/// What goes before a message of `length` bytes.
fn head(length: usize) -> [u8; HEAD] {
    // No message of ours has 4 GiB.
    let [a, b, c, d] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [0, a, b, c, d]
}

impl Answer {
    /// The answer that says `message` and that all is well.
    pub(super) fn of(message: &impl Message) -> Response<Self> {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(HEAD + length);
        frame.put_slice(&head(length));
        message.encode_raw(&mut frame);
        Self::all_is_well(Left::Message(frame.freeze()))
    }

    /// The same of a message that is written, with room for its head before it, and may be long.
    pub(super) fn of_long(mut frame: Vec<u8>, held: Holding) -> Result<Response<Self>, Status> {
        let length = frame.len().saturating_sub(HEAD);
        if let Some(room) = frame.first_chunk_mut() {
            *room = head(length);
        }
        let mut pieces = Pieces { rest: Bytes::new(), held };
        pieces.set(frame.into())?;
        Ok(Self::all_is_well(Left::Long(Box::new(pieces))))
    }

    fn all_is_well(left: Left) -> Response<Self> {
        let mut response = Response::new(Self::from(left));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    /// The answer that is a status alone.
    pub(super) fn of_status(status: &Status) -> Response<Self> {
        status.clone().into_http().map(|()| Self { code: Some(status.code()), ..Self::nothing() })
    }

    /// What the routes made of what was `asked`; the message that waits to be sent is `held`.
    pub(super) fn routed(
        response: Response<tonic::body::Body>,
        asked: Arc<Holding>,
        held: Holding,
        fault: Arc<OnceLock<Status>>,
        (arrival, evicted): (&Arrival, Status),
    ) -> Response<Self> {
        let code = code_in(response.headers());
        let message = Pieces { rest: Bytes::new(), held };
        response.map(|body| {
            let evicting = Box::pin(arrival.evicting());
            let left =
                Left::Routed(Box::new(Routed { body, message, _asked: asked, fault, evicting, evicted }));
            Self { code, ..left.into() }
        })
    }

    /// An answer without a body.
    pub(super) fn nothing() -> Self {
        Left::Ended.into()
    }

    /// The same, and `call` is open until it ends.
    pub(super) fn of_call(mut self, call: Option<Call>) -> Self {
        self.call = call;
        self.code.into_iter().for_each(|code| self.ended(code));
        self
    }

    /// An error in trailers that a library made gets its reason.
    fn explain(&self, trailers: &mut HeaderMap) {
        if let Some(status) = foreign::unexplained(trailers) {
            foreign::write(&self.explained(status), trailers);
        }
    }

    fn explained(&self, status: Status) -> Status {
        match &self.call {
            Some(call) => foreign::explained(status, call.domain()),
            None => status,
        }
    }

    fn ended(&mut self, code: Code) {
        self.call.iter_mut().for_each(|call| call.ended(code));
    }
}

impl From<Left> for Answer {
    fn from(left: Left) -> Self {
        Self { left, call: None, code: None }
    }
}

impl Pieces {
    /// Begins the next message; whatever there was before has left our hands.
    fn set(&mut self, message: Bytes) -> Result<(), Status> {
        self.held.set(message.len())?;
        self.rest = message;
        Ok(())
    }

    fn next(&mut self) -> Bytes {
        self.rest.split_to(self.rest.len().min(PIECE))
    }
}

impl Routed {
    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.message.rest.is_empty() {
            self.message.set(Bytes::new())?;
            if self.evicting.as_mut().poll(context).is_ready() {
                return Poll::Ready(Some(Err(self.evicted.clone())));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(message) => self.message.set(message)?,
                    Err(mut trailers) => {
                        if let (Some(fault), Some(trailers)) = (self.fault.get(), trailers.trailers_mut())
                            && code_in(trailers) == Some(Code::Ok)
                        {
                            foreign::write(fault, trailers);
                        }
                        return Poll::Ready(Some(Ok(trailers)));
                    }
                },
                ended => return Poll::Ready(ended),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(self.message.next()))))
    }
}

/// A status in place of what is left: callers understand it, and what had been sent stays good.
fn trailers_of(status: &Status) -> Option<HeaderMap> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).ok()?;
    Some(trailers)
}

/// How a call ended, where headers say so.
fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        match &mut this.left {
            Left::Message(message) => {
                let frame = Frame::data(std::mem::take(message));
                this.left = Left::Trailers;
                Poll::Ready(Some(Ok(frame)))
            }
            Left::Long(message) => {
                let frame = Frame::data(message.next());
                if message.rest.is_empty() {
                    this.left = Left::Trailers;
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Left::Trailers => {
                this.left = Left::Ended;
                this.ended(Code::Ok);
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, OK);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Left::Ended => Poll::Ready(None),
            Left::Routed(routed) => {
                let mut frame = ready!(routed.poll_piece(context));
                match &mut frame {
                    Some(Ok(frame)) => {
                        if let Some(trailers) = frame.trailers_mut() {
                            this.explain(trailers);
                            code_in(trailers).into_iter().for_each(|code| this.ended(code));
                        }
                    }
                    Some(Err(status)) => {
                        let status = this.explained(status.clone());
                        this.ended(status.code());
                        if let Some(trailers) = trailers_of(&status) {
                            this.left = Left::Ended;
                            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                        }
                    }
                    None => {}
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.left {
            Left::Message(_) | Left::Long(_) | Left::Trailers => false,
            Left::Ended => true,
            Left::Routed(routed) => routed.message.rest.is_empty() && routed.body.is_end_stream(),
        }
    }
}
