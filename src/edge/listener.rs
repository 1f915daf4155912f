//! Open listeners, with as many accept queues as there are threads to serve them.
//!
//! Not here: taking connections (see `accept`).

use std::{
    fs::{FileType, Permissions},
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

use super::{address::ListenAddress, passed::PassedSocket, socket_lock::SocketLock};

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

/// Bytes in the path of a socket, which is called a little longer until it has its name (`sun_path` in `unix(7)`).
const LONGEST_PATH: usize = 107 - ".4194304.new".len();

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
                "; another program listens there: choose another address with --listen, --probe-listen or \
                 --licensing-listen, or port 0 for any"
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
    let length = path.as_os_str().len();
    if LONGEST_PATH < length {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "the path is {length} bytes long, and that of a socket has at most {LONGEST_PATH}; choose a shorter one"
            ),
        ));
    }
    let locked = path.to_owned();
    let locked = spawn_blocking(move || SocketLock::of(&locked, LOCKED_WITHIN)).await;
    let _alone = locked.map_err(io::Error::other)??;
    make_way(path).await?;
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

/// Whether a socket may get the name `path`: nothing has it, or a socket that nobody listens on any more.
async fn make_way(path: &Path) -> io::Result<()> {
    let there = match std::fs::symlink_metadata(path) {
        Ok(there) => there.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !there.is_socket() {
        return Err(in_the_way(kind_of(there)));
    }
    match UnixStream::connect(path).await {
        // Nobody listens on it, or it went away meanwhile.
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            Ok(())
        }
        // More callers wait than are taken.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::AddrInUse.into()),
        Err(error) => Err(in_the_way(&format!(
            "a socket of which it is not known whether a program listens on it ({error})"
        ))),
        Ok(_) => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn in_the_way(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::AlreadyExists,
        format!(
            "there is {what} of that name, which is left as it is; remove it or rename it, or choose another path"
        ),
    )
}

fn kind_of(there: FileType) -> &'static str {
    if there.is_dir() {
        "a folder"
    } else if there.is_symlink() {
        "a symbolic link"
    } else if there.is_file() {
        "a file that is no socket"
    } else {
        "a pipe or a device"
    }
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
    #[tokio::test]
    async fn what_is_no_socket_stays_where_it_is_and_is_called_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let how = Opening { queues: NonZeroUsize::MIN, mode: 0o600, owner: None };
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "somebody's").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink(at("file"), at("link")).unwrap();
        for (name, what) in
            [("file", "a file that is no socket"), ("folder", "a folder"), ("link", "a symbolic link")]
        {
            let before = std::fs::symlink_metadata(at(name)).unwrap();
            let said = Listener::open(&ListenAddress::Unix(at(name)), how).await.unwrap_err().to_string();
            assert!(said.contains(what) && said.contains("choose another path"), "{said}");
            assert!(!said.contains("another program"), "{said}");
            let after = std::fs::symlink_metadata(at(name)).unwrap();
            assert_eq!(before.modified().unwrap(), after.modified().unwrap(), "{name}");
        }
        assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "somebody's");
        let long = ListenAddress::Unix(at(&"x".repeat(100)));
        assert!(Listener::open(&long, how).await.unwrap_err().to_string().contains("choose a shorter one"));
    }
}
