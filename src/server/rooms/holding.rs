//! How many bytes are held for a call, and what makes room for them.
//!
//! Not here: how many there may be (see `edge::room`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tonic::Status;

use super::{EVICTIONS, Shares, arrivals::Wanted, exhausted, kind::Kind};
use crate::edge::{
    peer::HeldBytes,
    room::{Full, Held, Share},
};

/// What is held of a call's messages in one direction.
#[derive(Debug)]
pub(in crate::server) struct Holding {
    held: Held,
    /// The same, of its connection: of answers, which it may not take.
    of_connection: Option<HeldBytes>,
    bytes: AtomicUsize,
    shares: Arc<Shares>,
    kind: Kind,
    /// The key that says how much is held in all.
    key: &'static str,
}

/// The keys that say how much is held in all.
const HELD_BYTES: &str = "limits.held_bytes";
const AHEAD_BYTES: &str = "limits.ahead_bytes";

impl Holding {
    /// Nothing yet, of what is asked in a call of this kind.
    pub(super) fn of_asked(shares: &Arc<Shares>, kind: Kind) -> Self {
        Self::of(shares, kind, &shares.of(kind).held, None, HELD_BYTES)
    }

    /// Nothing yet, of what is answered in such a call on a connection.
    pub(super) fn of_answer(shares: &Arc<Shares>, kind: Kind, connection: HeldBytes) -> Self {
        Self::of(shares, kind, &shares.of(kind).held, Some(connection), HELD_BYTES)
    }

    /// Nothing yet, of what such a call may send ahead of what is read of it.
    pub(super) fn of_ahead(shares: &Arc<Shares>, kind: Kind) -> Self {
        Self::of(shares, kind, &shares.of(kind).ahead, None, AHEAD_BYTES)
    }

    fn of(
        shares: &Arc<Shares>,
        kind: Kind,
        share: &Share,
        of_connection: Option<HeldBytes>,
        key: &'static str,
    ) -> Self {
        let (held, shares) = (share.hold(), Arc::clone(shares));
        Self { held, of_connection, bytes: AtomicUsize::new(0), shares, kind, key }
    }

    /// From now on a message of `bytes` is held, in place of the one before.
    pub(in crate::server) fn set(&self, bytes: usize) -> Result<(), Status> {
        self.set_in_rooms(bytes).inspect_err(|_| self.count(0))?;
        self.count(bytes);
        Ok(())
    }

    fn set_in_rooms(&self, bytes: usize) -> Result<(), Status> {
        let mut full = match self.held.set(bytes) {
            Ok(()) => return Ok(()),
            Err(full) => full,
        };
        for _ in 0..EVICTIONS {
            if full.most() < bytes || !self.shares.evict(self.kind, full, self.wanted()) {
                break;
            }
            match self.held.set(bytes) {
                Ok(()) => return Ok(()),
                Err(still) => full = still,
            }
        }
        if bytes <= full.most() {
            self.shares.relieve(full, self.wanted());
        }
        Err(self.refusal(bytes, full))
    }

    fn wanted(&self) -> Wanted {
        if self.key == AHEAD_BYTES { Wanted::Ahead } else { Wanted::Bytes }
    }

    fn count(&self, bytes: usize) {
        if let Some(connection) = &self.of_connection {
            connection.change(bytes, self.bytes.swap(bytes, Ordering::Relaxed));
        }
    }

    /// Nothing is held any more.
    pub(super) fn release(&self) {
        let _nothing_is_always_held = self.set(0);
    }

    fn refusal(&self, bytes: usize, full: Full) -> Status {
        let (what, key) = (format!("{bytes} bytes"), self.key);
        let what = match full {
            Full::Room(most) => format!(
                "room for {what} is too much beside what is held for other callers ({most} in all); ask again in a moment, \
                 ask for less, or raise `{key}`"
            ),
            Full::Share(most) => format!(
                "room for {what} is too much beside what is held for the same caller ({most} in all); end or read other \
                 calls first, or raise `{key}` or `limits.caller_percent`"
            ),
        };
        exhausted("TOO_MANY_BYTES", self.shares.domain, what)
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        self.count(0);
    }
}
