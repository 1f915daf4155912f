//! The messages of a call on their way to the routes, counted by what they say they are long, and what may come ahead.
//!
//! Whoever reads a message makes room for all of it once it has heard its length. A caller that then says no more, on
//! each of its calls, would have it all at no cost. And as long as a call has not said all, it may send as much as its
//! window allows while nobody reads, because the answers to what it said before do not leave.
//!
//! Not here: what a message may hold (each service knows).

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;

use super::{
    answer::HEAD,
    rooms::{Call, Holding},
};

/// A body of messages; what the one that arrives takes is held until the next begins, or the call ends.
pub(super) struct Messages {
    body: Incoming,
    /// Shared with the answer: what is held of a question is held until it is answered.
    held: Arc<Holding>,
    ahead: Holding,
    /// The head of the next message, as far as it has arrived.
    head: Vec<u8>,
    /// How much of a message is still to come.
    left: usize,
    /// How much may wait to be read.
    window: usize,
}

impl Messages {
    /// Messages of `call`, which may send so many bytes ahead; an error when there is no room for them.
    pub(super) fn new(
        body: Incoming,
        held: Arc<Holding>,
        call: &Call,
        window: usize,
    ) -> Result<Self, Status> {
        let messages =
            Self { body, held, ahead: call.hold_ahead(), head: Vec::with_capacity(HEAD), left: 0, window };
        messages.hold_ahead()?;
        Ok(messages)
    }

    /// Who has said all sends nothing ahead.
    fn hold_ahead(&self) -> Result<(), Status> {
        self.ahead.set(if self.body.is_end_stream() { 0 } else { self.window })
    }

    /// Counts what arrived; an error when there is no room for what it announces.
    fn count(&mut self, mut data: &[u8]) -> Result<(), Status> {
        while !data.is_empty() {
            if 0 < self.left {
                let part = self.left.min(data.len());
                self.left -= part;
                data = data.get(part..).unwrap_or_default();
                continue;
            }
            let (head, rest) = data.split_at(data.len().min(HEAD - self.head.len()));
            self.head.extend_from_slice(head);
            data = rest;
            if let [_, length @ ..] = self.head.as_slice()
                && let Ok(length) = length.try_into()
            {
                self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
                self.head.clear();
                self.held.set(self.left)?;
            }
        }
        Ok(())
    }
}

impl Body for Messages {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::from_error(error.into()))?;
            frame.data_ref().map_or(Ok(()), |data| self.count(data))?;
            if self.body.is_end_stream() {
                self.hold_ahead()?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
