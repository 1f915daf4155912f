//! How many bytes are held for a call, and what makes room for them.
//!
//! Not here: how many there may be (see `edge::room`).

use std::sync::Arc;

use tonic::Status;

use super::{EVICTIONS, Shares, exhausted, kind::Kind};
use crate::edge::room::{Full, Held, Share};

/// What is held of a call's messages in one direction.
#[derive(Debug)]
pub(in crate::server) struct Holding {
    held: Held,
    shares: Arc<Shares>,
    kind: Kind,
    /// The key that says how much is held in all.
    key: &'static str,
}

/// The keys that say how much is held in all.
const HELD_BYTES: &str = "limits.held_bytes";
const AHEAD_BYTES: &str = "limits.ahead_bytes";

impl Holding {
    /// Nothing yet, of what is said in a call of this kind.
    pub(super) fn of_held(shares: &Arc<Shares>, kind: Kind) -> Self {
        Self::of(shares, kind, &shares.of(kind).held, HELD_BYTES)
    }

    /// Nothing yet, of what such a call may send ahead of what is read of it.
    pub(super) fn of_ahead(shares: &Arc<Shares>, kind: Kind) -> Self {
        Self::of(shares, kind, &shares.of(kind).ahead, AHEAD_BYTES)
    }

    fn of(shares: &Arc<Shares>, kind: Kind, share: &Share, key: &'static str) -> Self {
        Self { held: share.hold(), shares: Arc::clone(shares), kind, key }
    }

    /// From now on a message of `bytes` is held, in place of the one before.
    pub(in crate::server) fn set(&self, bytes: usize) -> Result<(), Status> {
        let mut full = match self.held.set(bytes) {
            Ok(()) => return Ok(()),
            Err(full) => full,
        };
        for _ in 0..EVICTIONS {
            if full.most() < bytes || !self.shares.evict_oldest(self.kind, full) {
                break;
            }
            match self.held.set(bytes) {
                Ok(()) => return Ok(()),
                Err(still) => full = still,
            }
        }
        Err(self.refusal(bytes, full))
    }

    /// Nothing is held any more.
    pub(super) fn release(&self) {
        let _nothing_is_always_held = self.held.set(0);
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
