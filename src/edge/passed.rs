//! Sockets that whoever started us has opened already, as systemd passes them (`sd_listen_fds(3)`).
//!
//! Not here: what is served on them.

use std::{env, io, mem};

use listenfd::ListenFd;

use super::{address::ListenAddress, listener::Socket};

/// What can be served on one that is passed.
pub const NAMES: [&str; 3] = ["enforcement", "probes", "licensing"];

/// Sockets that were passed.
#[derive(Debug, Default)]
pub struct Passed(Vec<PassedSocket>);

/// One of them.
#[derive(Debug)]
pub struct PassedSocket {
    /// What is to be served on it.
    pub name: &'static str,
    /// Where it listens.
    pub address: ListenAddress,
    /// The socket.
    pub socket: Socket,
}

/// Why what was passed cannot be served on.
#[derive(Debug, thiserror::Error)]
pub enum PassedError {
    /// Nothing of that name is served, or something else is passed for it already.
    #[error(
        "a socket is passed under the name `{0}`; write `FileDescriptorName=` in its unit: `enforcement`, `probes` or \
         `licensing`, each for one socket"
    )]
    Name(String),
    /// It is of another kind.
    #[error("the socket that is passed as `{0}` cannot be served on: {1}")]
    Socket(&'static str, io::Error),
}

impl Passed {
    /// Takes them over. It changes the environment, so it comes before the first thread.
    pub fn take() -> Result<Self, PassedError> {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut descriptors = ListenFd::from_env();
        let mut taken = Vec::<PassedSocket>::new();
        for position in 0..descriptors.len() {
            let told = names.next().unwrap_or_default();
            let name = NAMES.into_iter().find(|name| *name == told);
            let name = name.filter(|name| taken.iter().all(|other| other.name != *name));
            let name = name.ok_or_else(|| PassedError::Name(told.to_owned()))?;
            let (address, socket) =
                socket(&mut descriptors, position).map_err(|error| PassedError::Socket(name, error))?;
            taken.push(PassedSocket { name, address, socket });
        }
        Ok(Self(taken))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &PassedSocket> {
        self.0.iter()
    }

    /// The one for `name`, if it was passed.
    pub fn remove(&mut self, name: &str) -> Option<PassedSocket> {
        let position = self.0.iter().position(|passed| passed.name == name)?;
        Some(self.0.swap_remove(position))
    }

    /// Those that nobody has asked for.
    pub fn rest(&mut self) -> Vec<PassedSocket> {
        mem::take(&mut self.0)
    }
}

fn socket(descriptors: &mut ListenFd, position: usize) -> io::Result<(ListenAddress, Socket)> {
    let gone = || io::Error::from(io::ErrorKind::NotFound);
    if let Ok(listener) = descriptors.take_tcp_listener(position) {
        let listener = listener.ok_or_else(gone)?;
        listener.set_nonblocking(true)?;
        return Ok((ListenAddress::Tcp(listener.local_addr()?), Socket::Tcp(listener)));
    }
    let listener = descriptors.take_unix_listener(position)?.ok_or_else(gone)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let path = address.as_pathname().ok_or_else(|| io::Error::other("it has no path"))?;
    Ok((ListenAddress::Unix(path.to_owned()), Socket::Unix(listener)))
}
