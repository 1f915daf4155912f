//! Nobody else puts a socket into a folder, or takes one out of it, while this is held.
//!
//! What listens on a Unix socket replaces the file of one that is gone. Between looking whether it is gone and replacing
//! it, another that starts at once would do the same, and one of the two would listen where nobody comes. Not here: what
//! is done meanwhile (see `listener` and `socket_file`).

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// The lock of a folder; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct FolderLock(#[expect(dead_code, reason = "it holds the lock")] Option<File>);

/// How often it is tried.
const EVERY: Duration = Duration::from_millis(2);

impl FolderLock {
    /// Waits for the folder of `path`; an error when others hold it for longer than `patience`.
    pub(super) fn of(path: &Path, patience: Duration) -> io::Result<Self> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = File::open(folder)?;
        let until = Instant::now() + patience;
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self(Some(folder))),
                // Where folders cannot be locked it is as before.
                Err(TryLockError::Error(_)) => return Ok(Self(None)),
                Err(TryLockError::WouldBlock) if until <= Instant::now() => {
                    let what = format!("another program holds the folder for longer than {patience:?}");
                    return Err(io::Error::new(io::ErrorKind::TimedOut, what));
                }
                Err(TryLockError::WouldBlock) => thread::sleep(EVERY),
            }
        }
    }
}
