//! Addresses to call: `https://licensing.example.org:50052`, `http://127.0.0.1:50051` or `unix:/run/esa-licensing.sock`.
//!
//! Not here: what is asked there, and who is believed to answer (see `tls::trust`).

use std::{error::Error, fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use tonic::transport::Endpoint;

use super::{
    address::{ListenAddress, repeated},
    causes::causes,
    tls::{TlsError, Trust, in_words},
};

/// Where a licensing backend or a sidecar takes calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteAddress {
    /// HTTP/2 in the clear.
    Http {
        /// A name, or an IP address (in brackets, if it is one of IPv6).
        host: String,
        /// The port.
        port: u16,
    },
    /// HTTP/2 over TLS.
    Https {
        /// The same; the certificate there has to be for it.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why there is no calling somewhere.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address does not read as one.
    #[error(transparent)]
    Address(#[from] RemoteAddressError),
    /// Who is believed there cannot be said.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A text that is no address to call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemoteAddressError {
    /// It does not read as one.
    #[error(
        "{} is no address to call; write `https://host:port`, `127.0.0.1:port` or `unix:/run/esa-sidecar.sock`",
        repeated(.0)
    )]
    Malformed(String),
}

impl RemoteAddress {
    /// This port on 127.0.0.1, in the clear.
    #[must_use]
    pub fn loopback(port: u16) -> Self {
        ListenAddress::loopback(port).into()
    }

    /// Whether what is said there stays on this machine.
    fn is_on_this_machine(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Http { host, .. } | Self::Https { host, .. } => {
                let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// Whether what is said there can be read on the way by others than this machine's.
    #[must_use]
    pub fn is_overheard(&self) -> bool {
        match self {
            Self::Unix(_) | Self::Https { .. } => false,
            Self::Http { .. } => !self.is_on_this_machine(),
        }
    }

    /// How to connect, giving up after `timeout`; over TLS, to whom `trust` believes.
    pub fn endpoint(&self, trust: &Trust, timeout: Duration) -> Result<Endpoint, EndpointError> {
        let endpoint = Endpoint::from_shared(self.to_string());
        let endpoint = endpoint.map_err(|_| RemoteAddressError::Malformed(self.to_string()))?;
        let endpoint = endpoint.connect_timeout(timeout).tcp_nodelay(true);
        match self {
            Self::Https { .. } => Ok(trust.speak(endpoint)?),
            Self::Http { .. } | Self::Unix(_) => Ok(endpoint),
        }
    }
}

/// Keeps a connection open that goes silent: after `interval` it is asked whether it is still there, calls or no calls,
/// and given up when it does not say so within `timeout`.
#[must_use]
pub fn kept_alive(endpoint: Endpoint, interval: Duration, timeout: Duration) -> Endpoint {
    endpoint.http2_keep_alive_interval(interval).keep_alive_timeout(timeout).keep_alive_while_idle(true)
}

/// What is at the bottom of an error, for people: "connection refused", or what is wrong with a certificate and what to
/// do about it. Nothing where the error has no cause.
#[must_use]
pub fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    let causes = || causes(error).skip(1);
    causes().find_map(in_words).or_else(|| causes().last().map(ToString::to_string))
}

impl From<ListenAddress> for RemoteAddress {
    fn from(address: ListenAddress) -> Self {
        match address {
            ListenAddress::Tcp(tcp) => Self::Http { host: host(tcp.ip()), port: tcp.port() },
            ListenAddress::Unix(path) => Self::Unix(path),
        }
    }
}

/// An IP address as a URL has it.
fn host(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

impl FromStr for RemoteAddress {
    type Err = RemoteAddressError;

    fn from_str(text: &str) -> Result<Self, RemoteAddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let malformed = || RemoteAddressError::Malformed(text.to_owned());
        let (is_https, authority) = match text.strip_prefix("https://") {
            Some(authority) => (true, authority),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        if !is_host(host) {
            return Err(malformed());
        }
        Ok(match host.to_ascii_lowercase() {
            host if is_https => Self::Https { host, port },
            // As an address to listen on reads it; a certificate may be for the name.
            host if host == "localhost" => Self::loopback(port),
            host => Self::Http { host, port },
        })
    }
}

/// A name or an IP address; nothing that could be a path, a password or another scheme.
fn is_host(host: &str) -> bool {
    if let Some(inside) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    !host.is_empty() && host.bytes().all(allowed)
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port } => write!(formatter, "http://{host}:{port}"),
            Self::Https { host, port } => write!(formatter, "https://{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in [
            "http://127.0.0.1:50052",
            "https://licensing.example.org:1",
            "http://[::1]:2",
            "https://[2001:db8::1]:2",
            "unix:/run/a.sock",
        ] {
            let address: RemoteAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        for text in ["127.0.0.1:50052", "localhost:50052"] {
            assert_eq!(text.parse(), Ok(RemoteAddress::loopback(50052)));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "unix:",
            "https://host",
            "host:0",
            "host:65536",
            "https://a:b@host:1",
            "ftp://host:1",
            "::1:1",
        ] {
            let read = text.parse::<RemoteAddress>();
            assert_eq!(read, Err(RemoteAddressError::Malformed(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        for text in ["https://unit:canary@host:1", "unit:canary@host", "https://canary@host:1"] {
            let said = text.parse::<RemoteAddress>().unwrap_err().to_string();
            assert!(!said.contains("canary") && said.contains("names a user"), "{said}");
        }
    }

    #[test]
    fn only_loopback_sockets_and_tls_are_not_overheard() {
        for (text, is_private) in [
            ("https://10.0.0.1:1", true),
            ("http://127.8.9.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("unix:/run/a.sock", true),
            ("http://localhost.example.org:1", false),
            ("http://10.0.0.1:1", false),
            ("http://0.0.0.0:1", false),
        ] {
            assert_eq!(text.parse::<RemoteAddress>().unwrap().is_overheard(), !is_private, "{text}");
        }
    }
}
