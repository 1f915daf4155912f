//! Addresses as operators write them: `127.0.0.1:50051`, or `unix:/run/esa-sidecar/enforcement.sock`.
//!
//! Not here: opening them (see `listener`).

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

/// Where to listen, or where to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 takes any.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address to listen on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It does not read as one.
    #[error(
        "{} is not an address; write `127.0.0.1:50051`, `[::1]:50051` or `unix:/run/esa-sidecar.sock`",
        repeated(.0)
    )]
    Malformed(String),
}

/// What is repeated of a text that is no address: nothing where there may be a password in it.
pub(super) fn repeated(text: &str) -> String {
    if text.contains('@') { "what is given, which names a user,".to_owned() } else { format!("`{text}`") }
}

impl ListenAddress {
    /// This port on 127.0.0.1.
    #[must_use]
    pub const fn loopback(port: u16) -> Self {
        Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// Whether it leaves the choice of the port to the operating system.
    #[must_use]
    pub const fn takes_any_port(&self) -> bool {
        matches!(self, Self::Tcp(address) if address.port() == 0)
    }

    /// Whether only this machine reaches it.
    #[must_use]
    pub const fn is_on_this_machine(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let named = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        let address: SocketAddr =
            named.as_deref().unwrap_or(text).parse().map_err(|_| AddressError::Malformed(text.to_owned()))?;
        Ok(Self::Tcp(address))
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in ["127.0.0.1:50051", "127.8.9.1:0", "[::1]:50051", "unix:/run/esa-sidecar.sock"] {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("localhost:9464".parse(), Ok(ListenAddress::loopback(9464)));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in ["0.0.0.0:50051", "[::]:50051", "192.168.1.5:50051", "[2001:db8::1]:50051"] {
            assert!(!text.parse::<ListenAddress>().unwrap().is_on_this_machine(), "{text}");
        }
        for text in ["", "50051", "localhost", "unix:", "127.0.0.1", "127.0.0.1:65536"] {
            assert!(matches!(text.parse::<ListenAddress>(), Err(AddressError::Malformed(_))), "{text}");
        }
    }
}
