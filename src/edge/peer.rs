//! Who is at the other end of a connection.
//!
//! Not here: what they may ask.

use std::{fmt, net::IpAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::tls::Names;

/// One connection's other end; every request of the connection carries it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Origin,
    names: Option<Names>,
    streams_end: CancellationToken,
    outdated: CancellationToken,
}

/// Where a connection comes from, as far as the operating system vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IP address.
    Address(IpAddr),
    /// A user of this machine, on a Unix socket.
    User(u32),
}

impl Peer {
    pub(super) fn new(
        origin: Origin,
        names: Option<Names>,
        streams_end: CancellationToken,
        outdated: CancellationToken,
    ) -> Self {
        Self(Arc::new(Inner { origin, names, streams_end, outdated }))
    }

    /// Whether others are trusted than when its certificate was believed: it has to come again, and until then it is
    /// nobody, however long it keeps its connection.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.0.outdated.is_cancelled()
    }

    /// The names in its certificate, if it showed one that is believed.
    #[must_use]
    pub fn names(&self) -> Option<&Names> {
        self.0.names.as_ref()
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// Cancelled when this connection's streams are to end: it has grown old, or the process is stopping.
    #[must_use]
    pub fn streams_end(&self) -> &CancellationToken {
        &self.0.streams_end
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // One that came in over an IPv6 socket is still the same address.
            Self::Address(ip) => ip.to_canonical().fmt(formatter),
            Self::User(uid) => write!(formatter, "user {uid}"),
        }
    }
}
