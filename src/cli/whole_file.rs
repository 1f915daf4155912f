//! Files that are there whole or not at all: written beside their place, synced, and renamed into it.
//!
//! Not here: what is written.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use super::CommandError;

/// Who may read a file.
#[derive(Clone, Copy)]
pub(super) enum Readers {
    /// Whoever the umask lets.
    Anybody,
    /// Its owner alone: it holds a secret.
    Owner,
}

/// A file on its way.
pub(super) struct WholeFile {
    place: PathBuf,
    /// Where it is until it is whole; removed when it never gets there.
    beside: PathBuf,
    file: File,
}

impl WholeFile {
    /// Begins a file; nothing is seen of it until `finish`.
    pub(super) fn begin(place: &Path, readers: Readers) -> Result<Self, CommandError> {
        let named = |error: io::Error| CommandError::new(format!("`{}`: {error}", place.display()));
        let name = place.file_name().ok_or_else(|| named(io::ErrorKind::IsADirectory.into()))?;
        let beside = place.with_file_name(format!(".{}.{}.new", name.to_string_lossy(), std::process::id()));
        let mode = match readers {
            Readers::Anybody => 0o666,
            Readers::Owner => 0o600,
        };
        // One that a killed process of the same number left behind may have had other readers.
        let _ = fs::remove_file(&beside);
        let file = File::options().write(true).create_new(true).mode(mode).open(&beside).map_err(named)?;
        Ok(Self { place: place.to_owned(), beside, file })
    }

    /// Puts it in its place.
    pub(super) fn finish(self) -> Result<(), CommandError> {
        let named = |error| CommandError::new(format!("`{}`: {error}", self.place.display()));
        self.file.sync_all().map_err(named)?;
        fs::rename(&self.beside, &self.place).map_err(named)
    }
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
        // After the rename there is nothing under this name.
        let _ = fs::remove_file(&self.beside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

        let mut file = WholeFile::begin(&place, Readers::Anybody).unwrap();
        file.write_all(b"new").unwrap();
        file.finish().unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
