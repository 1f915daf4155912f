//! Open listeners, with as many accept queues as there are threads to serve them.
//!
//! Not here: taking connections (see `accept`).

use std::{
    fs::Permissions,
    io,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _, chown},
        net::UnixListener,
    },
    path::Path,
    time::Duration,
};

use socket2::{Domain, Protocol, Type};
use tokio::{net::UnixStream, task::spawn_blocking};

use super::{address::ListenAddress, folder_lock::FolderLock, passed::PassedSocket};

/// A listener that is open.
#[derive(Debug)]
pub struct Listener {
    address: ListenAddress,
    queues: Vec<Socket>,
}

/// One accept queue of a listener.
#[derive(Debug)]
pub enum Socket {
    /// On an IP address and port.
    Tcp(TcpListener),
    /// On a Unix socket.
    Unix(UnixListener),
}

/// How a listener is opened.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Accept queues: one for each thread that will serve it.
    pub queues: NonZeroUsize,
    /// Permissions of a Unix socket.
    pub mode: u32,
    /// Whose a Unix socket is: a user and a group; otherwise ours.
    pub owner: Option<(u32, u32)>,
}

/// Why a listener could not be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}{hint}")]
pub struct ListenError {
    address: ListenAddress,
    error: io::Error,
    hint: &'static str,
}

/// Connections the operating system takes on our behalf before we do.
const BACKLOG: i32 = 1024;

/// How long others that start, or end, may take.
const LOCKED_WITHIN: Duration = Duration::from_secs(10);

impl Listener {
    /// Opens `address`.
    pub async fn open(address: &ListenAddress, how: Opening) -> Result<Self, ListenError> {
        let opened = match address {
            ListenAddress::Tcp(tcp) => open_tcp(*tcp, how.queues),
            ListenAddress::Unix(path) => open_unix(path, how).await.map(|queues| (address.clone(), queues)),
        };
        let (address, queues) = opened.map_err(|error| {
            let hint = if error.kind() == io::ErrorKind::AddrInUse {
                "; another program listens there: choose another address with --listen or --probe-listen, or port 0 for any"
            } else {
                ""
            };
            ListenError { address: address.clone(), error, hint }
        })?;
        Ok(Self { address, queues })
    }

    /// Goes on with one that is open already: so many threads take connections from its one queue.
    pub fn of(PassedSocket { address, socket, .. }: PassedSocket, queues: NonZeroUsize) -> io::Result<Self> {
        Ok(Self { address, queues: shared(socket, queues)? })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> &ListenAddress {
        &self.address
    }

    /// Its accept queues.
    #[must_use]
    pub fn into_queues(self) -> Vec<Socket> {
        self.queues
    }
}

/// The kernel spreads connections over queues that share a port.
fn open_tcp(address: SocketAddr, queues: NonZeroUsize) -> io::Result<(ListenAddress, Vec<Socket>)> {
    // A port that is shared is shared with anybody of the same user: another sidecar would go unnoticed and take half
    // of the connections.
    if address.port() != 0 {
        bound(address, false)?;
    }
    let first = bound(address, true)?;
    let taken = first.local_addr()?.as_socket().unwrap_or(address);
    let mut sockets = vec![first];
    for _ in 1..queues.get() {
        sockets.push(bound(taken, true)?);
    }
    let listening = |socket: socket2::Socket| {
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(Socket::Tcp(socket.into()))
    };
    let queues = sockets.into_iter().map(listening).collect::<io::Result<_>>()?;
    Ok((ListenAddress::Tcp(taken), queues))
}

fn bound(address: SocketAddr, shares_its_port: bool) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A port of connections that have just ended can be taken again.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shares_its_port)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A socket left behind by a process that is gone is taken over; one that answers, or a file that is no socket, is
/// not. All threads take connections from the one queue.
async fn open_unix(path: &Path, how: Opening) -> io::Result<Vec<Socket>> {
    let locked = path.to_owned();
    let locked = spawn_blocking(move || FolderLock::of(&locked, LOCKED_WITHIN)).await;
    let _alone = locked.map_err(io::Error::other)??;
    if let Ok(there) = std::fs::symlink_metadata(path) {
        let left_behind = there.file_type().is_socket()
            && UnixStream::connect(path)
                .await
                .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !left_behind {
            return Err(io::ErrorKind::AddrInUse.into());
        }
    }
    // Nobody connects before it is known who may: it gets its name last.
    let unnamed = path.with_added_extension(format!("{}.new", std::process::id()));
    // A crash may have left one behind: in a container every process has the same number.
    let _ = std::fs::remove_file(&unnamed);
    let listener = UnixListener::bind(&unnamed)?;
    let named = std::fs::set_permissions(&unnamed, Permissions::from_mode(how.mode))
        .and_then(|()| how.owner.map_or(Ok(()), |(user, group)| chown(&unnamed, Some(user), Some(group))))
        .and_then(|()| std::fs::rename(&unnamed, path));
    if let Err(error) = named {
        // What is left behind of it is the smaller trouble.
        let _ = std::fs::remove_file(&unnamed);
        return Err(error);
    }
    listener.set_nonblocking(true)?;
    shared(Socket::Unix(listener), how.queues)
}

/// One queue for several threads.
fn shared(socket: Socket, threads: NonZeroUsize) -> io::Result<Vec<Socket>> {
    let more = (1..threads.get()).map(|_| socket.try_clone()).collect::<io::Result<Vec<_>>>()?;
    Ok(std::iter::once(socket).chain(more).collect())
}

impl Socket {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(listener) => Self::Tcp(listener.try_clone()?),
            Self::Unix(listener) => Self::Unix(listener.try_clone()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_several_that_start_at_once_on_one_socket_one_listens_and_the_others_hear_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.sock");
        let how = Opening { queues: NonZeroUsize::MIN, mode: 0o600, owner: None };
        for _ in 0..10 {
            // One is left behind.
            drop(UnixListener::bind(&path).unwrap());
            let starts = (0..8).map(|_| {
                let address = ListenAddress::Unix(path.clone());
                tokio::spawn(async move { Listener::open(&address, how).await })
            });
            let mut listeners = Vec::new();
            for start in starts.collect::<Vec<_>>() {
                match start.await.unwrap() {
                    Ok(listener) => listeners.push(listener),
                    Err(error) => assert_eq!(error.error.kind(), io::ErrorKind::AddrInUse, "{error}"),
                }
            }
            assert_eq!(listeners.len(), 1);
            UnixStream::connect(&path).await.unwrap();
            std::fs::remove_file(&path).unwrap();
        }
    }
}
