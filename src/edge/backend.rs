//! Addresses of a licensing backend: `http://licensing.example.org:50052`, or `unix:/run/esa-licensing.sock`.
//!
//! Not here: what is asked there (see `source::remote`).

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use tonic::transport::Endpoint;

use super::address::ListenAddress;

/// Where a licensing backend takes calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendAddress {
    /// Plaintext HTTP/2.
    Http {
        /// A name, or an IP address (in brackets, if it is one of IPv6).
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text that is no address of a licensing backend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BackendAddressError {
    /// It does not read as one.
    #[error(
        "`{0}` is no address of a licensing backend; write `http://host:50052` or `unix:/run/esa-licensing.sock`"
    )]
    Malformed(String),
    /// TLS is not spoken yet.
    #[error(
        "`{0}`: TLS to the licensing backend is not spoken yet; write `http://host:port`, or a Unix socket"
    )]
    Tls(String),
}

impl BackendAddress {
    /// Whether what is said there stays on this machine.
    #[must_use]
    pub fn is_on_this_machine(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Http { host, .. } => {
                let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            }
        }
    }

    /// How to connect, giving up after `timeout`. A connection that goes silent for `keepalive` is asked whether it
    /// is still there, calls or no calls, and given up when it does not say so within `timeout`.
    pub fn endpoint(&self, timeout: Duration, keepalive: Duration) -> Result<Endpoint, BackendAddressError> {
        let endpoint = Endpoint::from_shared(self.to_string());
        let endpoint = endpoint.map_err(|_| BackendAddressError::Malformed(self.to_string()))?;
        Ok(endpoint
            .connect_timeout(timeout)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(keepalive)
            .keep_alive_timeout(timeout)
            .keep_alive_while_idle(true))
    }
}

impl From<ListenAddress> for BackendAddress {
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

impl FromStr for BackendAddress {
    type Err = BackendAddressError;

    fn from_str(text: &str) -> Result<Self, BackendAddressError> {
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        if text.starts_with("https:") {
            return Err(BackendAddressError::Tls(text.to_owned()));
        }
        let malformed = || BackendAddressError::Malformed(text.to_owned());
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        let (host, port) = authority.rsplit_once(':').ok_or_else(malformed)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(malformed)?;
        if !is_host(host) {
            return Err(malformed());
        }
        Ok(Self::Http { host: host.to_ascii_lowercase(), port })
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

impl fmt::Display for BackendAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http { host, port } => write!(formatter, "http://{host}:{port}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_read_as_they_are_written() {
        for text in
            ["http://127.0.0.1:50052", "http://licensing.example.org:1", "http://[::1]:2", "unix:/run/a.sock"]
        {
            let address: BackendAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert!(address.endpoint(Duration::from_secs(1), Duration::from_secs(1)).is_ok(), "{text}");
        }
        assert_eq!(
            "127.0.0.1:50052".parse::<BackendAddress>().unwrap().to_string(),
            "http://127.0.0.1:50052"
        );
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in
            ["", "unix:", "http://host", "host:0", "host:65536", "http://a:b@host:1", "ftp://host:1", "::1:1"]
        {
            let read = text.parse::<BackendAddress>();
            assert_eq!(read, Err(BackendAddressError::Malformed(text.to_owned())), "{text}");
        }
        assert!(matches!("https://host:1".parse::<BackendAddress>(), Err(BackendAddressError::Tls(_))));
    }

    #[test]
    fn only_loopback_and_sockets_stay_on_this_machine() {
        for (text, stays) in [
            ("http://127.8.9.1:1", true),
            ("http://[::1]:1", true),
            ("http://localhost:1", true),
            ("unix:/run/a.sock", true),
            ("http://localhost.example.org:1", false),
            ("http://10.0.0.1:1", false),
            ("http://0.0.0.0:1", false),
        ] {
            assert_eq!(text.parse::<BackendAddress>().unwrap().is_on_this_machine(), stays, "{text}");
        }
    }
}
