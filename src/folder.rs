//! A folder of files that are their owner's alone, replaced whole: a crash at any instant leaves the old one or the new.
//!
//! What is in such a folder is believed, so nobody but this user and root may have put it there: the owner is looked at
//! and who may write, of the folder and of each file, before anything is read or written. Not here: what is in them.

use std::{
    fs::{self, DirBuilder, File, Metadata, Permissions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use rustix::{fs::OFlags, process::geteuid};
use zeroize::Zeroizing;

use crate::byte_order_mark;

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
    /// What is in it, which may be a secret.
    pub text: Zeroizing<String>,
    /// Its permission bits.
    pub mode: u32,
}

/// A folder that is held until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

/// Makes `folder` and what is missing above it, on the disk before this returns: a key in a folder that is lost is lost.
/// One that is there already has to be this user's or root's, and nobody else may write to it.
pub fn make(folder: &Path) -> io::Result<()> {
    make_shared(folder)?;
    check(folder)
}

/// Refuses a folder another user owns or others may write to, with a sticky bit or without: whoever can put a file into
/// it decides which keys are trusted.
pub fn check(folder: &Path) -> io::Result<()> {
    let metadata = fs::metadata(here(folder))?;
    check_owner(&metadata)?;
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS_WRITE == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "others than its owner may write to it (mode {mode:04o}), and so could give this server other keys and facts; \
         close it (chmod go-w) or name a folder inside it, which is then made for this user alone"
    )))
}

/// Refuses what another user owns: that user could change it at any time.
fn check_owner(metadata: &Metadata) -> io::Result<()> {
    let (owner, user) = (metadata.uid(), user());
    if owner == user || owner == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "it belongs to the user {owner}, and this runs as the user {user}: run it as its owner (sudo -u '#{owner}'), or \
         give it to this user (chown)"
    )))
}

/// Makes `folder` and what is missing above it; others may use one that is there already.
pub fn make_shared(folder: &Path) -> io::Result<()> {
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

/// The file to lock, made when it is missing.
pub fn lock_file(folder: &Path, name: &str) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).write(true).truncate(false).mode(FILE_MODE);
    // A pipe of that name, which anybody may make in some folders, would wait for its other end.
    let at_once = OFlags::NONBLOCK.bits().cast_signed();
    options.custom_flags(no_links() | at_once).open(folder.join(name))
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

/// The file at `path`, if there is one, to read what nobody but this user and root can have written.
pub fn open(path: &Path) -> io::Result<Option<File>> {
    let Some(file) = find(path)? else { return Ok(None) };
    let mode = file.metadata()?.mode() & 0o7777;
    if mode & OTHERS_WRITE == 0 {
        return Ok(Some(file));
    }
    Err(io::Error::other(format!(
        "others than its owner may write to it (mode {mode:04o}); close it with chmod 600 if nobody changed it, or remove it"
    )))
}

fn find(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    check_file(path, &file)?;
    Ok(Some(file))
}

/// The file at `path`, to write further at its end.
pub fn append(path: &Path) -> io::Result<File> {
    let file = File::options().append(true).custom_flags(no_links()).open(path)?;
    check_file(path, &file)?;
    Ok(file)
}

/// The file, once it is open, and the folder it was found in: nobody else may have put it there.
fn check_file(path: &Path, file: &File) -> io::Result<()> {
    check(path.parent().unwrap_or(Path::new(".")))
        .map_err(|error| io::Error::other(format!("its folder: {error}")))?;
    check_owner(&file.metadata()?)
}

/// What is in the file at `path`, if there is one, and its mode, which the caller judges: some are secrets.
pub fn read(path: &Path) -> io::Result<Option<Contents>> {
    let Some(file) = find(path)? else { return Ok(None) };
    let mode = file.metadata()?.mode() & 0o777;
    // Room for all of it at once: none is left behind where it was before it grew.
    let length = usize::try_from(file.metadata()?.len().min(MOST_BYTES)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(length + 1));
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if MOST_BYTES < bytes.len() as u64 {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {MOST_BYTES} bytes"),
        ));
    }
    Ok(Some(Contents { text: Zeroizing::new(byte_order_mark::text(&bytes)?), mode }))
}

/// Puts `contents` at `folder/name`, whole and on the disk before this returns.
pub fn replace(folder: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let mut file = begin(folder, name)?;
    file.write_all(contents)?;
    file.sync_all()?;
    rename(folder, &format!("{name}.new"), name)
}

/// The file `folder/name.new`, empty and its owner's alone, to be renamed to `name` once it is whole.
pub fn begin(folder: &Path, name: &str) -> io::Result<File> {
    check(folder)?;
    let temporary = folder.join(format!("{name}.new"));
    // A crash may have left one; its mode is not to be relied on.
    remove_if_there(&temporary)?;
    File::options().create_new(true).write(true).mode(FILE_MODE).open(&temporary)
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

/// Brings the names of a folder to the disk.
pub fn sync(folder: &Path) -> io::Result<()> {
    File::open(here(folder))?.sync_all()
}

/// Above a relative path there is nothing but where we are.
fn here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

/// The user this process runs as.
#[must_use]
pub fn user() -> u32 {
    geteuid().as_raw()
}

/// Opening follows no link.
fn no_links() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
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

    #[test]
    fn what_others_may_have_put_there_is_neither_read_nor_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        make(&data).unwrap();
        replace(&data, "file", b"ours").unwrap();
        for mode in [0o777, 0o1777, 0o770, 0o702] {
            fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
            let refused = [
                make(&data).unwrap_err(),
                read(&data.join("file")).unwrap_err(),
                append(&data.join("file")).unwrap_err(),
                replace(&data, "file", b"more").unwrap_err(),
            ];
            for error in refused {
                let said = error.to_string();
                assert!(said.contains(&format!("mode {mode:04o}")) && said.contains("chmod go-w"), "{said}");
            }
        }
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        assert_eq!(read(&data.join("file")).unwrap().unwrap().text.as_str(), "ours");
        if geteuid().is_root() {
            std::os::unix::fs::chown(data.join("file"), Some(1234), None).unwrap();
            let said = read(&data.join("file")).unwrap_err().to_string();
            assert!(said.contains("belongs to the user 1234") && said.contains("sudo -u '#1234'"), "{said}");
            std::os::unix::fs::chown(&data, Some(1234), None).unwrap();
            assert!(make(&data).unwrap_err().to_string().contains("belongs to the user 1234"));
        }
    }

    #[test]
    fn a_link_in_the_place_of_a_file_is_not_written_through() {
        let folder = tempfile::tempdir().unwrap();
        let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
        make(&data).unwrap();
        fs::write(&elsewhere, "elsewhere").unwrap();
        for name in ["file.new", "file", "lock"] {
            std::os::unix::fs::symlink(&elsewhere, data.join(name)).unwrap();
        }
        assert!(lock(&data, "lock").is_err() && append(&data.join("file")).is_err());
        replace(&data, "file", b"ours").unwrap();
        assert_eq!(fs::read_to_string(elsewhere).unwrap(), "elsewhere");
        assert_eq!(fs::metadata(data.join("file")).unwrap().mode() & 0o777, 0o600);
    }
}
