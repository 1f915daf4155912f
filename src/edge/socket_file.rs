//! The file of a Unix socket, which is removed with what listens on it, and only if it is still the same.
//!
//! Not here: opening it (see `listener`).

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{address::ListenAddress, socket_lock::SocketLock};

/// A file that a listener made.
#[derive(Debug, PartialEq, Eq)]
pub struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// How long one that starts may take.
const LOCKED_WITHIN: Duration = Duration::from_secs(1);

impl SocketFile {
    /// The file that was made to listen on `address`, if that takes one.
    #[must_use]
    pub fn of(address: &ListenAddress) -> Option<Self> {
        match address {
            ListenAddress::Unix(path) => Self::at(path),
            ListenAddress::Tcp(_) => None,
        }
    }

    /// Removes it. A successor that was started meanwhile has put its own in its place, which stays.
    pub fn remove(&self) {
        let _alone = SocketLock::of(&self.path, LOCKED_WITHIN);
        if Self::at(&self.path).as_ref() == Some(self) {
            // One that is left behind is taken over at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }

    fn at(path: &Path) -> Option<Self> {
        let there = fs::symlink_metadata(path).ok()?;
        Some(Self { path: path.to_owned(), device: there.dev(), inode: there.ino() })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn the_socket_of_a_successor_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("calls.sock");
        let address = ListenAddress::Unix(path.clone());
        let _first = UnixListener::bind(&path).unwrap();
        let file = SocketFile::of(&address).unwrap();
        // Renamed over it, as a successor does, while the first still drains.
        let _second = UnixListener::bind(folder.path().join("new")).unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        file.remove();
        assert!(path.exists());
        SocketFile::of(&address).unwrap().remove();
        assert!(!path.exists());
        assert_eq!(SocketFile::of(&ListenAddress::loopback(1)), None);
    }
}
