//! An open call, and its place until it is over.
//!
//! Not here: whether there is a place for it (see the parent).

use std::sync::Arc;

use tonic::{Code, Status};

use super::{Arrival, Holding, Shares, exhausted, kind::Kind, streams::OpenStream, unread::Deadline};
use crate::{
    edge::peer::{OpenCall, Peer},
    server::tallied::Tallying,
};

/// An open call: its place is free again when this is dropped.
#[derive(Debug)]
pub(in crate::server) struct Call {
    shares: Arc<Shares>,
    kind: Kind,
    /// A page is no call.
    tallying: Option<Tallying>,
    /// By when its answer has to be read.
    deadline: Option<Box<Deadline>>,
    /// Since it was known not to be whole; of a stream of messages from the beginning.
    arrival: Option<Arc<Arrival>>,
    /// Where its place may be wanted for another stream.
    stream: Option<OpenStream>,
    /// Whose it is, of a stream.
    peer: Option<Peer>,
    open: OpenCall,
}

impl Call {
    /// One that has its place.
    pub(super) fn new(shares: Arc<Shares>, kind: Kind, tallying: Option<Tallying>, open: OpenCall) -> Self {
        Self { shares, kind, tallying, deadline: None, arrival: None, stream: None, peer: None, open }
    }

    /// It waits for a route to answer it; its answer may have to be read in time.
    pub(super) fn is_routed(&mut self, peer: &Peer, deadline: Option<Deadline>) {
        self.open.works();
        self.peer = self.kind.is_stream().then(|| peer.clone());
        self.deadline = deadline.map(Box::new);
    }

    /// The domain of reasons for errors in it.
    pub(in crate::server) fn domain(&self) -> &'static str {
        self.shares.domain
    }

    /// Whether it asks for the names of calls.
    pub(in crate::server) fn is_reflection(&self) -> bool {
        self.kind == Kind::Reflection
    }

    /// Whether it asks once how a process is.
    pub(in crate::server) fn is_probe(&self) -> bool {
        self.kind == Kind::Probe
    }

    /// Whether it counts for the quota of its caller: health is answered to whoever asks, however often.
    pub(in crate::server) fn counts_for_quota(&self) -> bool {
        !matches!(self.kind, Kind::HealthWatch | Kind::Probe)
    }

    /// How long a message of it may be, where that is settled by what it asks.
    pub(in crate::server) fn longest_message(&self) -> Option<usize> {
        self.kind.longest_message()
    }

    /// Whether the whole of it is one message.
    pub(in crate::server) fn is_one_message(&self) -> bool {
        self.tallying.as_ref().is_none_or(Tallying::is_of_one_message)
    }

    /// It, or a message of it, may not arrive whole, and so much is `held` for it.
    pub(in crate::server) fn arrives(&mut self, held: Vec<Arc<Holding>>) -> Arc<Arrival> {
        self.open.works();
        let new = || Arrival::new(self.kind, &self.shares, held);
        let arrival = Arc::clone(self.arrival.get_or_insert_with(new));
        if let Some(peer) = &self.peer {
            let (streams, on) = (&self.shares.streams, (self.open.connection(), peer));
            self.stream = Some(streams.add(self.kind, &self.shares, on, &arrival));
        }
        arrival
    }

    /// What it is told when it made room for others.
    pub(in crate::server) fn evicted(&self) -> Status {
        let what = "the call had not arrived whole when its place was needed for another; send its message at once, or ask \
                    again";
        exhausted("TOO_MANY_CALLS", self.domain(), what.to_owned())
    }

    /// Its answer begins; that of a stream goes on.
    pub(in crate::server) fn answered(&mut self) {
        if self.kind.is_stream() {
            return;
        }
        self.open.answered();
        let mut has_place = true;
        if let Some(arrival) = &self.arrival {
            arrival.arrived();
            has_place = arrival.has_place();
        }
        let Some(deadline) = &self.deadline else { return };
        if has_place {
            self.shares.unread.answered(deadline);
        } else {
            // Its place is another's already.
            self.shares.unread.remove(deadline);
        }
    }

    /// It ended so.
    pub(in crate::server) fn ended(&mut self, code: Code) {
        self.tallying.iter_mut().for_each(|tallying| tallying.ended(code));
    }

    /// Nothing yet, of what is asked in it.
    pub(in crate::server) fn hold_asked(&self) -> Holding {
        Holding::of_asked(&self.shares, self.kind)
    }

    /// Nothing yet, of what is answered.
    pub(in crate::server) fn hold_answer(&self) -> Holding {
        Holding::of_answer(&self.shares, self.kind, self.open.held())
    }

    /// Nothing yet, of what it may send ahead of what is read of it.
    pub(in crate::server) fn hold_ahead(&self) -> Holding {
        Holding::of_ahead(&self.shares, self.kind)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // One that was cut off, or made room for another, has left already.
        let mut has_place = true;
        drop(self.stream.take());
        if let Some(arrival) = &self.arrival {
            has_place = arrival.is_over();
        }
        if let Some(deadline) = &self.deadline {
            has_place &= self.shares.unread.remove(deadline);
        }
        if has_place {
            self.shares.of(self.kind).held.leave();
        }
        if let Some(tallying) = &mut self.tallying {
            if std::thread::panicking() {
                tallying.ended(Code::Internal);
            }
            tallying.over(&self.shares.tallied);
        }
    }
}
