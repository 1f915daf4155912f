//! What became of the connections of a listener.
//!
//! Not here: how many are open (see `gate`), and who is shown this.

use super::gate::Full;
use crate::tally::{Tallies, Tally};

/// Counted since the start.
#[derive(Debug, Default)]
pub struct Tallied {
    taken: Tally,
    short: Tally,
    slowed: Tally,
    lost: Tallies<{ Loss::ALL.len() }>,
}

/// Why a connection was not taken, or did not last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// As many were open as may be.
    Full,
    /// As many were open as may be of one peer.
    PeerFull,
    /// TLS was not agreed on.
    Tls,
    /// It was gone before that, and did not say why: somebody looked whether the port is open.
    Gone,
    /// It did not say in time what it speaks, or before it made room for another.
    Silent,
    /// It made room for another: it had no open call, or had asked nothing that it may ask.
    Idle,
    /// Calls were refused on it, one after the other, to somebody nobody knows.
    Refused,
}

impl Loss {
    /// Every one.
    pub const ALL: [Self; 7] =
        [Self::Full, Self::PeerFull, Self::Tls, Self::Gone, Self::Silent, Self::Idle, Self::Refused];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::PeerFull => "peer_full",
            Self::Tls => "tls",
            Self::Gone => "gone",
            Self::Silent => "silent",
            Self::Idle => "idle",
            Self::Refused => "refused",
        }
    }
}

impl From<Full> for Loss {
    fn from(full: Full) -> Self {
        match full {
            Full::All(_) => Self::Full,
            Full::Peer(..) => Self::PeerFull,
        }
    }
}

impl Tallied {
    /// How many connections were taken.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken.total()
    }

    /// How many were lost for this.
    #[must_use]
    pub fn lost(&self, why: Loss) -> u64 {
        self.lost.sum(why as usize)
    }

    /// How often none could be taken for want of descriptors or memory.
    #[must_use]
    pub fn times_short(&self) -> u64 {
        self.short.total()
    }

    /// How many said too much beside their calls, and were read slower.
    #[must_use]
    pub fn slowed(&self) -> u64 {
        self.slowed.total()
    }

    pub(super) fn slow(&self) {
        self.slowed.count();
    }

    pub(super) fn fall_short(&self) {
        self.short.count();
    }

    pub(super) fn take(&self) {
        self.taken.count();
    }

    pub(super) fn lose(&self, why: Loss) {
        self.lost.add(why as usize, 1);
    }
}
