//! Files that are there whole or not at all: written beside their place, synced, and renamed into it.
//!
//! A symbolic link is followed, and stays; what is no plain file, such as a pipe or a device, is written to, but for a
//! secret, which somebody else might read there. What another user put into a folder that all may write to is neither
//! followed nor written to, whether the system's own rules (`fs.protected_*`) are on or not. Not here: what is written.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::CommandError;
use crate::folder;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    /// Whoever the umask lets, or might before.
    Anybody,
    /// Its owner alone: it holds a secret.
    Owner,
}

/// A file on its way.
pub(super) struct WholeFile {
    place: PathBuf,
    /// Where it is until it is whole; removed when it never gets there. Nothing for what cannot be replaced.
    beside: Option<PathBuf>,
    file: File,
}

/// What stands under a name.
enum Found {
    /// Nothing yet, and where the file will be.
    Nothing(PathBuf),
    /// A plain file, and where it is.
    Plain(PathBuf),
    /// A descriptor that is open.
    Descriptor,
    /// A pipe, a device.
    Stream,
}

/// More links than this the system does not follow, either.
const MOST_LINKS: usize = 40;

impl WholeFile {
    /// Begins a file; nothing is seen of it until `finish`.
    pub(super) fn begin(place: &Path, readers: Readers) -> Result<Self, CommandError> {
        let named = |error: io::Error| CommandError::new(format!("`{}`: {error}", place.display()));
        let (target, before) = match find(place).map_err(named)? {
            Found::Stream if matches!(readers, Readers::Owner) => {
                return Err(named(io::Error::other(
                    "it is a pipe or a device, and whoever reads that would have the secret; name a new file, or `-`",
                )));
            }
            Found::Descriptor | Found::Stream => {
                let file = File::options().write(true).open(place).map_err(named)?;
                return Ok(Self { place: place.to_owned(), beside: None, file });
            }
            Found::Nothing(target) => (target, None),
            Found::Plain(target) => {
                let before = fs::metadata(&target).map_err(named)?.permissions().mode() & 0o777;
                (target, Some(before))
            }
        };
        let name = target.file_name().ok_or_else(|| named(io::ErrorKind::IsADirectory.into()))?;
        let beside = target.with_file_name(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
        let mode = if matches!((readers, before), (Readers::Anybody, None)) { 0o666 } else { 0o600 };
        // One that a killed process of the same number left behind may have had other readers.
        let _ = fs::remove_file(&beside);
        let file = File::options().write(true).create_new(true).mode(mode).open(&beside).map_err(named)?;
        let file = Self { place: target, beside: Some(beside), file };
        if let (Readers::Anybody, Some(before)) = (readers, before) {
            // Whoever might not read it before may not now.
            file.file.set_permissions(Permissions::from_mode(before)).map_err(named)?;
        }
        Ok(file)
    }

    /// Whether a plain file is there already.
    pub(super) fn is_there(place: &Path) -> bool {
        matches!(find(place), Ok(Found::Plain(_)))
    }

    /// Puts it in its place.
    pub(super) fn finish(mut self) -> Result<(), CommandError> {
        let named = |error| CommandError::new(format!("`{}`: {error}", self.place.display()));
        match self.beside.take() {
            Some(beside) => {
                let renamed = self.file.sync_all().and_then(|()| fs::rename(&beside, &self.place));
                renamed.map_err(|error| {
                    let _ = fs::remove_file(&beside);
                    named(error)
                })
            }
            None => self.file.flush().map_err(named),
        }
    }
}

/// Follows links to what stands at their end.
fn find(place: &Path) -> io::Result<Found> {
    let mut target = place.to_owned();
    for _ in 0..MOST_LINKS {
        // A descriptor of this process: a file behind it is written to where it stands, as a shell does.
        if ["/proc", "/dev/fd"].iter().any(|open| target.starts_with(open)) {
            return Ok(Found::Descriptor);
        }
        target.ancestors().skip(1).try_for_each(|above| match fs::symlink_metadata(above) {
            Ok(metadata) if metadata.is_symlink() => refuse_planted(above, &metadata),
            _ => Ok(()),
        })?;
        let metadata = match fs::symlink_metadata(&target) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing(target)),
            metadata => metadata?,
        };
        refuse_planted(&target, &metadata)?;
        if metadata.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if metadata.is_file() {
            return Ok(Found::Plain(target));
        }
        if !metadata.is_symlink() {
            return Ok(Found::Stream);
        }
        let link = fs::read_link(&target)?;
        target = target.parent().unwrap_or(Path::new("")).join(link);
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Refuses what another user put into a folder in which users may not remove each other's files, such as `/tmp`: the rule
/// of Linux (`fs.protected_symlinks`), for all that may stand there.
fn refuse_planted(place: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    const STICKY: u32 = 0o1000;
    let above = place.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = fs::metadata(above)?;
    let is_shared = above.mode() & STICKY != 0 && above.mode() & folder::OTHERS_WRITE != 0;
    if !is_shared || [folder::user(), above.uid()].contains(&metadata.uid()) {
        return Ok(());
    }
    Err(io::Error::other(format!(
        "the user {} put `{}` into a folder all may write to; name a file elsewhere",
        metadata.uid(),
        place.display()
    )))
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        // What is not whole is left to nobody.
        self.beside.iter().for_each(|beside| drop(fs::remove_file(beside)));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(place: &Path, text: &str) {
        let mut file = WholeFile::begin(place, Readers::Anybody).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.finish().unwrap();
    }

    #[test]
    fn what_is_not_finished_leaves_the_old_file_and_nothing_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("units.csv");
        fs::write(&place, "old").unwrap();
        let mut file = WholeFile::begin(&place, Readers::Anybody).unwrap();
        file.write_all(b"ne").unwrap();
        drop(file);
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);

        write(&place, "new");
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_link_is_followed_and_stays_and_a_file_keeps_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("elsewhere")).unwrap();
        fs::write(at("elsewhere/plain"), "old").unwrap();
        fs::set_permissions(at("elsewhere/plain"), Permissions::from_mode(0o640)).unwrap();
        symlink("elsewhere/plain", at("link")).unwrap();
        symlink("link", at("link-to-link")).unwrap();
        symlink("elsewhere/nothing", at("dangling")).unwrap();
        symlink("loop", at("loop")).unwrap();
        write(&at("link-to-link"), "new");
        write(&at("dangling"), "made");
        assert_eq!(fs::read_to_string(at("elsewhere/plain")).unwrap(), "new");
        assert_eq!(fs::metadata(at("link")).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(at("elsewhere/nothing")).unwrap(), "made");
        for link in ["link", "link-to-link", "dangling"] {
            assert!(fs::symlink_metadata(at(link)).unwrap().is_symlink(), "{link}");
        }
        assert!(WholeFile::begin(&at("loop"), Readers::Anybody).is_err());
        assert!(WholeFile::begin(&at("elsewhere"), Readers::Anybody).is_err());
        write(Path::new("/dev/null"), "swallowed");
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn a_secret_goes_into_no_pipe_that_stands_under_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("key");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &place,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        // Both ends are open, so that neither waits for the other.
        let _reader = File::options().read(true).write(true).open(&place).unwrap();
        let refused = WholeFile::begin(&place, Readers::Owner).err().unwrap().what.concat();
        assert!(refused.contains("it is a pipe or a device"), "{refused}");
        assert!(WholeFile::begin(Path::new("/dev/null"), Readers::Owner).is_err());
        // A descriptor is the caller's own, such as that of a shell's `>(…)`.
        let own = File::create(folder.path().join("own")).unwrap();
        let descriptor = format!("/dev/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&own));
        assert!(WholeFile::begin(Path::new(&descriptor), Readers::Owner).is_ok());
        assert!(WholeFile::begin(&place, Readers::Anybody).is_ok(), "what is no secret may go into a pipe");
    }

    #[test]
    fn what_another_user_put_into_a_folder_of_all_is_neither_followed_nor_written_to() {
        if folder::user() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("shared")).unwrap();
        fs::create_dir(at("elsewhere")).unwrap();
        fs::set_permissions(at("shared"), Permissions::from_mode(0o1777)).unwrap();
        fs::write(at("elsewhere/file"), "old").unwrap();
        fs::write(at("shared/file"), "theirs").unwrap();
        symlink("../elsewhere/file", at("shared/link")).unwrap();
        symlink("../elsewhere/new", at("shared/dangling")).unwrap();
        symlink("../elsewhere", at("shared/folder")).unwrap();
        symlink("shared/link", at("link-to-link")).unwrap();
        let planted = ["shared/link", "shared/dangling", "shared/folder", "shared/file"];
        let give = |user| {
            planted.iter().for_each(|name| std::os::unix::fs::lchown(at(name), Some(user), None).unwrap());
        };
        give(1234);
        for name in ["shared/link", "shared/dangling", "shared/folder/file", "shared/file", "link-to-link"] {
            for readers in [Readers::Anybody, Readers::Owner] {
                let refused = WholeFile::begin(&at(name), readers).err().map(|error| error.what.concat());
                let refused = refused.unwrap_or_default();
                assert!(refused.contains("the user 1234 put"), "{name}: {refused}");
            }
        }
        give(folder::user());
        write(&at("shared/link"), "new");
        write(&at("shared/folder/other"), "new");
        assert_eq!(fs::read_to_string(at("elsewhere/file")).unwrap(), "new");
    }
}
