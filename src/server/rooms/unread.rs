//! Answers that a client has not read: each has an end, and where there are too many the oldest makes room for the next.
//!
//! An answer that nobody reads takes a place for as long as its connection lasts. Whoever asks whether a process is well
//! reads what it is told at once, so it is never the oldest for long: it is answered however many others of the same
//! place (say, of this machine) read nothing. Not here: how many may be open (see the parent).

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio_util::task::AbortOnDropHandle;

use super::kind::Kind;
use crate::edge::peer::Peer;

/// Calls of one client whose answers have to be read in time.
#[derive(Debug, Default)]
pub(super) struct Unread(Mutex<Calls>);

#[derive(Debug, Default)]
struct Calls {
    next: u64,
    /// The oldest first.
    open: VecDeque<Open>,
}

#[derive(Debug)]
struct Open {
    number: u64,
    since: Instant,
    kind: Kind,
    /// Whether its answer only has to be read.
    is_answered: bool,
    peer: Peer,
}

/// One of them. Its connection is closed when the time is over.
#[derive(Debug)]
pub(super) struct Deadline {
    number: u64,
    _timer: AbortOnDropHandle<()>,
}

impl Unread {
    /// One more call, of `peer`.
    pub(super) fn add(&self, kind: Kind, peer: &Peer, within: Duration) -> Deadline {
        let mut calls = self.calls();
        let number = calls.next;
        calls.next += 1;
        let since = Instant::now();
        calls.open.push_back(Open { number, since, kind, is_answered: false, peer: peer.clone() });
        let late = peer.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(within).await;
            late.cut_off();
        });
        Deadline { number, _timer: AbortOnDropHandle::new(timer) }
    }

    /// It was answered; from now on it waits for its client alone.
    pub(super) fn answered(&self, deadline: &Deadline) {
        let mut calls = self.calls();
        if let Some(open) = calls.open.iter_mut().find(|open| open.number == deadline.number) {
            open.is_answered = true;
        }
    }

    /// Closes the connection of the oldest call of `kind` that was answered. Whether there is one; its place is free.
    pub(super) fn cut_oldest(&self, kind: Kind) -> bool {
        let mut calls = self.calls();
        let oldest = calls.oldest(kind).and_then(|position| calls.open.remove(position));
        oldest.is_some_and(|open| {
            open.peer.cut_off();
            true
        })
    }

    /// Since when the oldest call of `kind` that was answered has been open.
    pub(super) fn oldest_since(&self, kind: Kind) -> Option<Instant> {
        let calls = self.calls();
        calls.oldest(kind).and_then(|position| calls.open.get(position)).map(|open| open.since)
    }

    /// It is over. Whether its place is still its own.
    pub(super) fn remove(&self, deadline: &Deadline) -> bool {
        let mut calls = self.calls();
        let position = calls.open.iter().position(|open| open.number == deadline.number);
        position.and_then(|position| calls.open.remove(position)).is_some()
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn oldest(&self, kind: Kind) -> Option<usize> {
        self.open.iter().position(|open| open.kind == kind && open.is_answered)
    }
}
