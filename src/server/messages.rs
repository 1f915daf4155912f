//! The messages of a call on their way to the routes, counted by what they say they are long, and what may come ahead.
//!
//! Whoever reads a message makes room for all of it once it has heard its length. A caller that then says no more, on
//! each of its calls, would have it all at no cost. And as long as a call has not said all, it may send as much as its
//! window allows while nobody reads, because the answers to what it said before do not leave.
//!
//! Not here: what a message may hold (each service knows).

use std::{
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tonic::Status;

use super::{
    answer::HEAD,
    question::Desk,
    rooms::{Arrival, Call, Holding},
};

/// A body of messages; what the one that arrives takes is held until the next begins, or the call ends.
pub(super) struct Messages {
    body: Incoming,
    /// Shared with the answer: what is held of a question is held until it is answered.
    held: Arc<Holding>,
    ahead: Arc<Holding>,
    /// While a message of it is not whole.
    arrival: Arc<Arrival>,
    is_one_message: bool,
    /// Where each message after the first counts for the quota of whoever sends it.
    desk: Option<Arc<Desk>>,
    /// How long one may be, where that is known beforehand.
    longest: Option<usize>,
    /// Why no more is read, for the end of the answer: what reads messages may take it for their end.
    fault: Arc<OnceLock<Status>>,
    is_first: bool,
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
        call: &mut Call,
        window: usize,
    ) -> Result<Self, Status> {
        let ahead = Arc::new(call.hold_ahead());
        let arrival = call.arrives(vec![Arc::clone(&held), Arc::clone(&ahead)]);
        let is_one_message = call.is_one_message();
        if is_one_message && !body.is_end_stream() {
            arrival.is_missing(0);
        }
        // There are few probes of a client at a time.
        let window = if call.is_probe() { 0 } else { window };
        let messages = Self {
            body,
            held,
            ahead,
            arrival,
            is_one_message,
            desk: None,
            longest: call.longest_message(),
            fault: Arc::default(),
            is_first: true,
            head: Vec::with_capacity(HEAD),
            left: 0,
            window,
        };
        messages.hold_ahead()?;
        Ok(messages)
    }

    /// The same, each after the first counting for the quota of whoever is at `desk`.
    pub(super) fn counted_at(self, desk: Option<Arc<Desk>>) -> Self {
        Self { desk, ..self }
    }

    /// Why no more of them is read, once that is so.
    pub(super) fn fault(&self) -> Arc<OnceLock<Status>> {
        Arc::clone(&self.fault)
    }

    /// Says when it has to make room for others.
    pub(super) fn arrival(&self) -> Arc<Arrival> {
        Arc::clone(&self.arrival)
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
                self.begin()?;
            }
        }
        Ok(())
    }

    /// Says of what arrived whether it is whole: as long as it is not, it makes room for others.
    fn tell_arrival(&self) {
        if self.body.is_end_stream() || !self.is_one_message && self.left == 0 && self.head.is_empty() {
            self.arrival.arrived();
        } else {
            self.arrival.is_missing(self.left);
        }
    }

    /// Another message begins.
    fn begin(&mut self) -> Result<(), Status> {
        if let Some(longest) = self.longest
            && longest < self.left
        {
            return Err(Status::out_of_range(format!("the message has more than {longest} bytes")));
        }
        if let Some(desk) = &self.desk
            && !std::mem::take(&mut self.is_first)
        {
            desk.spend()?;
        }
        self.held.set(self.left)
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
            if let Some(data) = frame.data_ref()
                && let Err(refused) = self.count(data)
            {
                return Err(self.fault.get_or_init(|| refused).clone());
            }
            self.tell_arrival();
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
