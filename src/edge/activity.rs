//! What a connection has asked so far, as far as it matters to those who read it and to whom it may have to make room.
//!
//! Not here: who may ask what (see `enforcement`), and which connection makes room (see `gate`).

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What was asked on one connection.
#[derive(Debug, Default)]
pub(super) struct Activity {
    /// Whether it asked anything that whoever is at its other end may ask.
    known: AtomicBool,
    /// Whether it called since the gate last looked.
    used: AtomicBool,
    /// Calls that were refused to somebody nobody knows.
    refusals: AtomicU32,
}

/// Calls that are read of a connection before the others of its thread have their turn: a good caller's in one go, and
/// one or two of a caller that nobody knows, whose refusals would else be all that a thread does.
const CALLS: usize = 32;
const CALLS_OF_STRANGERS: usize = 4;

impl Activity {
    /// A call begins. Every question comes by here.
    pub(super) fn call(&self) {
        self.used.store(true, Ordering::Relaxed);
    }

    /// Whether a call began since this was asked last.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Its caller is known from now on.
    pub(super) fn known(&self) {
        self.known.store(true, Ordering::Relaxed);
        self.refusals.store(0, Ordering::Relaxed);
    }

    /// A call was refused to somebody nobody knows: how many there are now.
    pub(super) fn refused(&self) -> u32 {
        self.known.store(false, Ordering::Relaxed);
        self.refusals.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Whether it was refused what it asked last.
    pub(super) fn is_refused(&self) -> bool {
        0 < self.refusals.load(Ordering::Relaxed)
    }

    /// How many calls are read in one turn.
    pub(super) fn calls_in_a_turn(&self) -> usize {
        if self.is_known() { CALLS } else { CALLS_OF_STRANGERS }
    }
}
