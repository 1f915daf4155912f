//! A folder of files that are their owner's alone, replaced whole: a crash at any instant leaves the old one or the new.
//!
//! Not here: what is in them.

use std::{
    fs::{self, DirBuilder, File, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

/// Only its owner looks into the folder.
const FOLDER_MODE: u32 = 0o700;
/// Only its owner reads or writes the file.
const FILE_MODE: u32 = 0o600;
/// All that group and others may do.
pub const OTHERS_ANYTHING: u32 = 0o077;
/// That group and others may write.
pub const OTHERS_WRITE: u32 = 0o022;
/// Keys and credentials are far smaller.
const MOST_BYTES: u64 = 1 << 20;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file as it was read.
#[derive(Debug)]
pub struct Contents {
    /// What is in it.
    pub text: String,
    /// Its permission bits.
    pub mode: u32,
}

/// A folder that is held until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

/// Makes `folder` and what is missing above it, on the disk before this returns: a key in a folder that is lost is lost.
pub fn make(folder: &Path) -> io::Result<()> {
    let missing = folder.ancestors().take_while(|folder| !folder.exists()).count();
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder)?;
    // Each that was made is an entry of the one above it.
    folder.ancestors().skip(1).take(missing).try_for_each(sync)
}

/// Makes the file at `path` unless it is there, and closes it to all but its owner.
pub fn make_file(path: &Path) -> io::Result<()> {
    let file = File::options().create(true).append(true).mode(FILE_MODE).open(path)?;
    let metadata = file.metadata()?;
    if metadata.mode() & OTHERS_ANYTHING == 0 {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(FILE_MODE))
}

/// Holds `folder` against other processes that write to it and hold its file `name` first, until it is dropped.
pub fn lock(folder: &Path, name: &str) -> io::Result<Lock> {
    let file = lock_file(folder, name)?;
    file.lock()?;
    Ok(Lock(file))
}

/// The same without waiting: none while another process holds it.
pub fn try_lock(folder: &Path, name: &str) -> io::Result<Option<Lock>> {
    let file = lock_file(folder, name)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn lock_file(folder: &Path, name: &str) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).write(true).truncate(false).mode(FILE_MODE).open(folder.join(name))
}

impl Drop for Lock {
    /// A process that is begun at this instant has a copy of the descriptor until it runs its own program: closed here
    /// alone, the folder would still be held by it.
    fn drop(&mut self) {
        // An error leaves what closing does.
        let _ = self.0.unlock();
    }
}

/// The marks of the file at `path`; none when there is none.
pub fn marks(path: &Path) -> Option<Marks> {
    let metadata = fs::metadata(path).ok()?;
    Some(Marks {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    })
}

/// The file at `path`, if there is one.
pub fn read(path: &Path) -> io::Result<Option<Contents>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mode = file.metadata()?.mode() & 0o777;
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if MOST_BYTES < text.len() as u64 {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {MOST_BYTES} bytes"),
        ));
    }
    Ok(Some(Contents { text, mode }))
}

/// Puts `contents` at `folder/name`, whole and on the disk before this returns.
pub fn replace(folder: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{name}.new"));
    // A crash may have left one; its mode is not to be relied on.
    remove_if_there(&temporary)?;
    let mut file = File::options().create_new(true).write(true).mode(FILE_MODE).open(&temporary)?;
    file.write_all(contents)?;
    file.sync_all()?;
    rename(folder, &format!("{name}.new"), name)
}

/// Gives `from` the name `to`, over what had it.
pub fn rename(folder: &Path, from: &str, to: &str) -> io::Result<()> {
    fs::rename(folder.join(from), folder.join(to))?;
    sync(folder)
}

/// Removes `folder/name`.
pub fn remove(folder: &Path, name: &str) -> io::Result<()> {
    remove_if_there(&folder.join(name))?;
    sync(folder)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

fn sync(folder: &Path) -> io::Result<()> {
    // Above a relative path there is nothing but where we are.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_let_go_is_free_although_a_process_that_begins_has_a_copy_of_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let lock = try_lock(folder.path(), "lock").unwrap().unwrap();
        let copy = lock.0.try_clone().unwrap();
        assert!(try_lock(folder.path(), "lock").unwrap().is_none());
        drop(lock);
        assert!(try_lock(folder.path(), "lock").unwrap().is_some());
        drop(copy);
    }
}
