//! Nobody else replaces the file of a Unix socket while this is held.
//!
//! What listens on a Unix socket replaces the file of one that is gone. Between looking whether it is gone and replacing
//! it, another that starts at once would do the same, and one of the two would listen where nobody comes. What is locked is
//! a file that nobody but this user can open: whoever may read the folder could hold a lock on the folder itself for ever.
//! Not here: what is done meanwhile (see `listener` and `socket_file`).

use std::{
    fs::{File, TryLockError},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crate::folder;

/// The lock of a socket's file; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct SocketLock(Option<File>);

/// How often it is tried.
const EVERY: Duration = Duration::from_millis(2);

impl SocketLock {
    /// Waits for the socket at `path`; an error when another process of this user holds it for longer than `patience`.
    pub(super) fn of(path: &Path, patience: Duration) -> io::Result<Self> {
        // Where there can be no such file it is as if nobody else started.
        let Some(file) = own_file(path) else { return Ok(Self(None)) };
        let until = Instant::now() + patience;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(Some(file))),
                Err(TryLockError::Error(_)) => return Ok(Self(None)),
                Err(TryLockError::WouldBlock) if until <= Instant::now() => {
                    let what = format!(
                        "another process has been opening the same socket for longer than {patience:?}"
                    );
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(EVERY),
            }
        }
    }
}

impl Drop for SocketLock {
    /// A process that is begun at this instant has a copy of the descriptor until it runs its own program.
    fn drop(&mut self) {
        if let Some(file) = &self.0 {
            // An error leaves what closing does.
            let _ = file.unlock();
        }
    }
}

/// The file to lock beside `path`; none if it cannot be made, or somebody else can open it.
fn own_file(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = format!(".{}.lock", path.file_name()?.to_string_lossy());
    let file = folder::lock_file(folder, &name).ok()?;
    let metadata = file.metadata().ok()?;
    (metadata.uid() == folder::user() && metadata.mode() & 0o077 == 0).then_some(file)
}

#[cfg(test)]
mod tests {
    use std::{fs::Permissions, os::unix::fs::PermissionsExt as _};

    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[test]
    fn one_start_at_a_time_opens_a_socket_and_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let [socket, other] = ["a.sock", "b.sock"].map(|name| folder.path().join(name));
        let held = SocketLock::of(&socket, SOON).unwrap();
        assert_eq!(SocketLock::of(&socket, SOON).unwrap_err().kind(), io::ErrorKind::TimedOut);
        SocketLock::of(&other, SOON).unwrap();
        drop(held);
        SocketLock::of(&socket, SOON).unwrap();
    }

    #[test]
    fn what_others_can_open_and_lock_keeps_nobody_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("a.sock");
        // As anybody may who reads the folder.
        let of_folder = File::open(folder.path()).unwrap();
        of_folder.lock().unwrap();
        SocketLock::of(&socket, SOON).unwrap();
        let file = File::open(folder.path().join(".a.sock.lock")).unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
        file.lock().unwrap();
        SocketLock::of(&socket, SOON).unwrap();
    }

    #[test]
    fn a_pipe_under_the_name_of_the_lock_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join(".a.sock.lock");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        SocketLock::of(&folder.path().join("a.sock"), SOON).unwrap();
    }
}
