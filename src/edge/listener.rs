//! Open listeners.

use std::{io, os::unix::fs::FileTypeExt as _, path::Path};

use tokio::net::{TcpListener, UnixListener, UnixStream};

use super::address::ListenAddress;

/// A listener that is open.
#[derive(Debug)]
pub enum Listener {
    /// On an IP address and port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener, ListenAddress),
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{hint}")]
pub struct ListenError {
    address: ListenAddress,
    error: io::Error,
    hint: &'static str,
}

impl Listener {
    /// Opens `address`.
    pub async fn open(address: &ListenAddress) -> Result<Self, ListenError> {
        let opened = match address {
            ListenAddress::Tcp(tcp) => TcpListener::bind(tcp).await.map(Self::Tcp),
            ListenAddress::Unix(path) => {
                open_unix(path).await.map(|listener| Self::Unix(listener, address.clone()))
            }
        };
        opened.map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::AddrInUse {
                "; another program listens there: choose another address with --listen or --probe-listen, or port 0 for any"
            } else {
                ""
            };
            ListenError { address: address.clone(), error, hint }
        })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> Option<ListenAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(ListenAddress::Tcp),
            Self::Unix(_, address) => Some(address.clone()),
        }
    }
}

/// A socket left behind by a process that is gone is taken over; one that answers, or a file that is no socket, is
/// not.
async fn open_unix(path: &Path) -> io::Result<UnixListener> {
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let left_behind = std::fs::symlink_metadata(path)?.file_type().is_socket()
                && UnixStream::connect(path)
                    .await
                    .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
            if !left_behind {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            UnixListener::bind(path)
        }
        opened => opened,
    }
}
