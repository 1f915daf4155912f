//! The last facts on disk, so that a restart without the source goes on from them (semantics 5.3).
//!
//! A crash at any instant leaves the old file or the new one, whole: a temporary file is written, synced, renamed
//! over the old one, and the folder synced. Signed facts are kept as they came and verified again when they are read
//! back. Not here: what is published of them (see `book`).

mod format;
mod issued_to;

use std::{
    fmt, fs,
    io::{self, BufWriter, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use tracing::{error, warn};

use self::format::{Parsed, RefusedLine};
pub use self::issued_to::IssuedTo;
use crate::{
    domain::Instant,
    folder::{self, Lock},
    signing::TrustedKeys,
    source::Told,
};

/// What is kept from one run to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// Which source told it.
    pub source: String,
    /// The last number given to facts.
    pub revision: u64,
    /// Every subscription.
    pub records: Vec<PersistedRecord>,
}

/// One subscription of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistedRecord {
    /// Facts as told, with what vouches for them.
    pub told: Told,
    /// As of when.
    pub as_of: Instant,
    /// Their number.
    pub revision: u64,
    /// When the overuse was seen first, if nobody told (semantics 2.9).
    pub overuse_seen: Option<Instant>,
}

/// The data folder, held by this process alone.
pub struct Store {
    folder: PathBuf,
    /// None where nothing can be written: then nobody else writes here, either.
    lock: Option<Arc<Lock>>,
    /// None where nothing has to be signed.
    trusted: Option<Trusted>,
    watcher: Option<Watcher>,
}

/// Whose word counts, and to whom it was given.
#[derive(Debug, Default)]
struct Trusted {
    keys: TrustedKeys,
    issued_to: IssuedTo,
}

/// Why something could not be kept or read back.
#[derive(Debug, thiserror::Error)]
pub enum PersistError {
    /// Another process holds the folder.
    #[error("data folder `{0}` is in use by another esa-sidecar; give this one its own with --data-dir")]
    InUse(PathBuf),
    /// It cannot be made or opened.
    #[error("data folder `{0}` cannot be used: {1}; name another with --data-dir or `data_dir`")]
    Unusable(PathBuf, io::Error),
    /// The operating system refused.
    #[error("`{0}`: {1}")]
    Io(PathBuf, io::Error),
    /// What is there is not what was written.
    #[error("`{path}` is damaged ({what}); it was set aside as `{aside}`")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
        /// Where it is now.
        aside: PathBuf,
    },
}

const FACTS: &str = "facts.jsonl";

/// How far a fact has come on its way from the source to the answers; see `Store::watched`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// What was fetched is in the book.
    Taken,
    /// A temporary file is there, empty.
    Begun,
    /// All is written to it.
    Written,
    /// It is on the disk.
    Synced,
    /// It has the name of the old one.
    Renamed,
    /// So it has on the disk.
    Kept,
    /// Questions are answered from it.
    Published,
}

/// Whoever wants to know.
type Watcher = Arc<dyn Fn(Step) + Send + Sync>;

impl Store {
    /// Opens the data folder, making it when it is missing.
    pub fn open(folder: PathBuf) -> Result<Self, PersistError> {
        let lock = lock(&folder)?;
        Ok(Self { folder, lock: lock.map(Arc::new), trusted: None, watcher: None })
    }

    /// Takes nothing from the folder but what one of the keys vouches for, with none nothing, and that was issued to a unit
    /// of this server. A store nobody told of keys takes what is not signed, as a facts file's is not.
    #[must_use]
    pub fn trusting(self, keys: TrustedKeys, issued_to: IssuedTo) -> Self {
        Self { trusted: Some(Trusted { keys, issued_to }), ..self }
    }

    /// Tells `watcher` of every step, for tests of what a crash leaves behind: a process may end there.
    #[must_use]
    pub fn watched(self, watcher: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self { watcher: Some(Arc::new(watcher)), ..self }
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What holds the folder, for as long as anybody writes to it.
    pub(super) fn held(&self) -> Option<Arc<Lock>> {
        self.lock.clone()
    }

    pub(super) fn reached(&self, step: Step) {
        self.watcher.iter().for_each(|watcher| watcher(step));
    }

    /// Reads back what was kept, if anything was. Facts that no trusted key vouches for any more are left out
    /// and told of, and the file they are in is kept beside. A damaged file is set aside, never overwritten.
    pub fn load(&self) -> Result<Option<Persisted>, PersistError> {
        let path = self.folder.join(FACTS);
        let mut contents = Vec::new();
        match folder::open(&path)
            .and_then(|file| file.map(|mut file| file.read_to_end(&mut contents)).transpose())
        {
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(error) => return Err(PersistError::Io(path, error)),
        }
        match format::parse(&contents, self.trusted.as_ref()) {
            Ok(Parsed { persisted, refused }) => {
                if !refused.is_empty() {
                    tell_of_refused(&path, &refused);
                }
                Ok(Some(persisted))
            }
            Err(what) => {
                let aside = free_name(&path.with_extension("jsonl.damaged"));
                Err(match fs::rename(&path, &aside) {
                    Ok(()) => PersistError::Damaged { path, what, aside },
                    Err(error) => PersistError::Io(path, error),
                })
            }
        }
    }

    /// Keeps `persisted` in place of what was kept before.
    pub fn save(&self, persisted: &Persisted) -> Result<(), PersistError> {
        let path = self.folder.join(FACTS);
        let write = || -> io::Result<()> {
            let (header, body) = format::render(persisted)?;
            // Somebody may have tidied up while we ran.
            folder::make(&self.folder)?;
            let mut file = BufWriter::new(folder::begin(&self.folder, FACTS)?);
            self.reached(Step::Begun);
            file.write_all(&header)?;
            file.write_all(&body)?;
            let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
            self.reached(Step::Written);
            file.sync_all()?;
            self.reached(Step::Synced);
            fs::rename(self.folder.join(format!("{FACTS}.new")), &path)?;
            self.reached(Step::Renamed);
            folder::sync(&self.folder)?;
            self.reached(Step::Kept);
            Ok(())
        };
        write().map_err(|error| PersistError::Io(path.clone(), error))
    }
}

impl Persisted {
    /// The last time the backend signed any of it; never the local clock (semantics 5.2).
    #[must_use]
    pub fn issued_at(&self) -> Option<Instant> {
        let proofs = self.records.iter().filter_map(|record| record.told.proof.as_ref());
        proofs.map(|proof| proof.issued_at).max()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Store").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// The next save replaces the file; what was refused is to be found by whoever wants to know why.
fn tell_of_refused(path: &Path, refused: &[RefusedLine]) {
    for RefusedLine { line, why } in refused {
        error!("`{}`, line {line}: these facts are not used: {why}", path.display());
    }
    let name = path.with_extension("jsonl.refused");
    // The same file, refused at the start before, is there already.
    if fs::metadata(path).and_then(|file| Ok(file.ino() == fs::metadata(&name)?.ino())).unwrap_or_default() {
        return;
    }
    let aside = free_name(&name);
    match fs::hard_link(path, &aside).or_else(|_| copy(path, &aside)) {
        Ok(()) => error!("the file they are in is kept as `{}`", aside.display()),
        Err(error) => error!("the file they are in cannot be kept as `{}`: {error}", aside.display()),
    }
}

fn copy(path: &Path, aside: &Path) -> io::Result<()> {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    folder::replace(path.parent().unwrap_or(Path::new(".")), &name, &fs::read(path)?)
}

/// Holds the folder; none where nothing can be written.
fn lock(folder: &Path) -> Result<Option<Lock>, PersistError> {
    match folder::make(folder).and_then(|()| folder::try_lock(folder, "lock")) {
        Ok(Some(lock)) => Ok(Some(lock)),
        Ok(None) => Err(PersistError::InUse(folder.to_owned())),
        Err(error) if folder.is_dir() && cannot_write(&error) => {
            warn!("`{}` cannot be written: the last facts are read, no newer are kept", folder.display());
            Ok(None)
        }
        Err(error) => Err(PersistError::Unusable(folder.to_owned(), error)),
    }
}

fn cannot_write(error: &io::Error) -> bool {
    [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied].contains(&error.kind())
}

/// `path`, or the first of `path.1`, `path.2` and so on that is free: what was set aside stays.
fn free_name(path: &Path) -> PathBuf {
    let numbered = (1..1_000).map(|number| PathBuf::from(format!("{}.{number}", path.display())));
    let mut names = [path.to_owned()].into_iter().chain(numbered);
    names.find(|name| !name.exists()).unwrap_or_else(|| path.to_owned())
}

#[cfg(test)]
mod tests;
