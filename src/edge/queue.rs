//! One accept queue of a listener.
//!
//! Not here: what is done with a connection (see `accept`).

use std::io;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::{listener::Socket, peer::Origin};

/// An accept queue, on the runtime that serves it.
pub(super) enum Queue {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A connection that was taken.
pub(super) enum Io {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// The same, and where it comes from.
pub(super) type Taken = (Io, Origin);

impl Queue {
    pub(super) fn new(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Socket::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    /// The next connection.
    pub(super) async fn next(&self) -> io::Result<Taken> {
        match self {
            Self::Tcp(listener) => {
                let (io, address) = listener.accept().await?;
                // Without it an answer waits for the acknowledgement of the one before: 40 ms on a quiet connection.
                io.set_nodelay(true)?;
                Ok((Io::Tcp(io), Origin::Address(address.ip().to_canonical())))
            }
            Self::Unix(listener) => {
                let (io, _) = listener.accept().await?;
                let user = io.peer_cred()?.uid();
                Ok((Io::Unix(io), Origin::User(user)))
            }
        }
    }

    /// What waits to be taken.
    pub(super) fn waiting(&self) -> Option<Taken> {
        loop {
            match futures_util::FutureExt::now_or_never(self.next())? {
                Ok(taken) => return Some(taken),
                Err(error) if is_shortage(&error) => return None,
                Err(_) => {}
            }
        }
    }
}

/// Whether taking a connection failed for want of something that others may give back.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| shortages.iter().any(|errno| errno.raw_os_error() == code))
}
