//! The body of an answer: one message and its trailers, or whatever the routes made.
//!
//! Not here: what a message says.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::{Body, Frame};
use hyper::{
    HeaderMap, Response,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
};
use prost::Message;
use tonic::Status;

use crate::edge::room::OpenCall;

/// An answer; its call is open until the last of it was handed over, or nobody wants it any more.
pub(super) struct Answer {
    left: Left,
    _call: Option<OpenCall>,
}

/// What is left to be sent of an answer.
enum Left {
    /// A message, then its trailers.
    Message(Bytes),
    /// Its trailers.
    Trailers,
    /// Nothing.
    Ended,
    /// What the routes made.
    Routed(tonic::body::Body),
}

/// Bytes before each message: whether it is compressed, and its length.
pub(super) const HEAD: usize = 5;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const OK: HeaderValue = HeaderValue::from_static("0");

impl Answer {
    /// The answer that says `message` and that all is well.
    pub(super) fn of(message: &impl Message) -> Response<Self> {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(HEAD + length);
        frame.put_u8(0);
        // No message of ours has 4 GiB.
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        message.encode_raw(&mut frame);
        let mut response = Response::new(Self::from(Left::Message(frame.freeze())));
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }

    /// The answer that is a status alone.
    pub(super) fn of_status(status: &Status) -> Response<Self> {
        status.clone().into_http().map(Self::routed)
    }

    /// What the routes made.
    pub(super) fn routed(body: tonic::body::Body) -> Self {
        Left::Routed(body).into()
    }

    /// An answer without a body.
    pub(super) fn nothing() -> Self {
        Left::Ended.into()
    }

    /// The same, and `call` is open until it ends.
    pub(super) fn of_call(self, call: Option<OpenCall>) -> Self {
        Self { _call: call, ..self }
    }
}

impl From<Left> for Answer {
    fn from(left: Left) -> Self {
        Self { left, _call: None }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let left = &mut self.get_mut().left;
        match left {
            Left::Message(message) => {
                let frame = Frame::data(std::mem::take(message));
                *left = Left::Trailers;
                Poll::Ready(Some(Ok(frame)))
            }
            Left::Trailers => {
                *left = Left::Ended;
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert(GRPC_STATUS, OK);
                Poll::Ready(Some(Ok(Frame::trailers(trailers))))
            }
            Left::Ended => Poll::Ready(None),
            Left::Routed(body) => Pin::new(body).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.left {
            Left::Message(_) | Left::Trailers => false,
            Left::Ended => true,
            Left::Routed(body) => body.is_end_stream(),
        }
    }
}
