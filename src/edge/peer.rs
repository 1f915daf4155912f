//! Who is at the other end of a connection.
//!
//! Not here: what they may ask.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use super::streams::{HeldBytes, OpenCall};
use super::{gate::Seat, streams::OpenCalls, tls::Names};

/// One connection's other end; every request of the connection carries it.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Origin,
    names: Option<Names>,
    streams_end: CancellationToken,
    outdated: CancellationToken,
    cut: Notify,
    dismissed: Notify,
    seat: Arc<Seat>,
}

/// Where a connection comes from, as far as the operating system vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// An IP address.
    Address(IpAddr),
    /// A user of this machine, on a Unix socket.
    User(u32),
}

/// Who counts as one client where each has a share.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ClientKey {
    /// A caller of the table `[[callers]]`, by its name.
    Caller(String),
    /// Whoever shows this certificate, where there is no table.
    Certificate(Names),
    /// A place, as wide as one client commonly has it.
    Place(Origin),
    /// This process.
    Ourselves,
}

/// Calls that are refused on one connection to somebody nobody knows, until it is asked to end.
const REFUSALS: u32 = 100;

/// Bits of an IPv6 address that tell one end from another: whoever has one address has 2^64 of them.
const IPV6_PREFIX: u128 = u128::MAX << 64;

impl Origin {
    /// Where one end commonly has all its addresses. Every program of this machine has all that lead back to it.
    #[must_use]
    pub fn neighbourhood(self) -> Self {
        match self {
            Self::Address(ip) => match ip.to_canonical() {
                ip if ip.is_loopback() => Self::Address(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) => Self::Address(Ipv6Addr::from_bits(ip.to_bits() & IPV6_PREFIX).into()),
                ip @ IpAddr::V4(_) => Self::Address(ip),
            },
            Self::User(_) => self,
        }
    }
}

impl Peer {
    pub(super) fn new(
        origin: Origin,
        names: Option<Names>,
        streams_end: CancellationToken,
        outdated: CancellationToken,
        seat: Arc<Seat>,
    ) -> Self {
        Self(Arc::new(Inner {
            origin,
            names,
            streams_end,
            outdated,
            cut: Notify::new(),
            dismissed: Notify::new(),
            seat,
        }))
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

    /// Which client it is where there is no table of callers.
    #[must_use]
    pub fn client_key(&self) -> ClientKey {
        match self.names() {
            Some(names) if *names != Names::default() => ClientKey::Certificate(names.clone()),
            Some(_) | None => self.place(),
        }
    }

    /// Which client it is where nothing but its place tells it from others.
    #[must_use]
    pub fn place(&self) -> ClientKey {
        ClientKey::Place(self.origin().neighbourhood())
    }

    /// One of its calls is answered from now on, until this is dropped.
    #[must_use]
    pub fn open_call(&self) -> OpenCall {
        self.calls().open()
    }

    /// How many of them were answered, and it does not take the answers.
    #[must_use]
    pub fn stalled_calls(&self) -> usize {
        self.calls().stalled()
    }

    /// How many bytes are held for its calls.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.calls().held()
    }

    /// Its calls that are being answered.
    pub(super) fn calls(&self) -> &OpenCalls {
        self.0.seat.calls()
    }

    /// Whether it is known to be somebody who may ask something here.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.calls().activity().is_known()
    }

    /// It is known from now on.
    pub fn known(&self) {
        self.0.seat.known();
    }

    /// A call was refused to it, which is somebody nobody knows. Where that goes on its connection is asked to end, and
    /// closed when it does not stop then.
    pub fn refused(&self) {
        let refusals = self.calls().activity().refused();
        if refusals == REFUSALS {
            self.0.dismissed.notify_one();
        } else if refusals == 2 * REFUSALS {
            self.cut_off();
        }
    }

    /// Returns once its connection is to end because of what was refused on it.
    pub(super) async fn is_dismissed(&self) {
        self.0.dismissed.notified().await;
    }

    /// Closes its connection at once: it does not read what it asked for.
    pub fn cut_off(&self) {
        self.0.cut.notify_one();
    }

    /// Returns once its connection is to be closed at once.
    pub(super) async fn is_cut_off(&self) {
        self.0.cut.notified().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: &str) -> Origin {
        Origin::Address(ip.parse().unwrap())
    }

    #[test]
    fn addresses_of_one_ipv6_network_and_those_of_this_machine_are_one_neighbourhood_and_other_ipv4_are_not()
    {
        assert_eq!(at("2001:db8:1:2::1").neighbourhood(), at("2001:db8:1:2:ffff::9").neighbourhood());
        assert_ne!(at("2001:db8:1:2::1").neighbourhood(), at("2001:db8:1:3::1").neighbourhood());
        assert_ne!(at("192.0.2.1").neighbourhood(), at("192.0.2.2").neighbourhood());
        assert_eq!(at("::ffff:192.0.2.1").neighbourhood(), at("192.0.2.1"));
        for loopback in ["127.0.0.1", "127.0.0.2", "127.255.255.254", "::1", "::ffff:127.3.4.5"] {
            assert_eq!(at(loopback).neighbourhood(), at("127.0.0.1"), "{loopback}");
        }
        assert_eq!(Origin::User(7).neighbourhood(), Origin::User(7));
    }
}
