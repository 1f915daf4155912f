//! The last facts on disk, so that a restart without the source goes on from them (semantics 5.3).
//!
//! A crash at any instant leaves the old file or the new one, whole: a temporary file is written, synced, renamed
//! over the old one, and the folder synced. Not here: whether what is read back may be used (see `book`).

use std::{
    fs::{self, File, TryLockError},
    io::{self, BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{
    domain::{Facts, Instant},
    sha256,
    source::facts_json::{self, FactsJson, InstantJson, Object},
};

/// What is kept from one run to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// Which source told it.
    pub source: String,
    /// As of when.
    pub as_of: Instant,
    /// The last time the backend signed, if it does; never the local clock (semantics 5.2).
    pub issued_at: Option<Instant>,
    /// The last number given to facts.
    pub revision: u64,
    /// Every subscription.
    pub records: Vec<PersistedRecord>,
}

/// One subscription of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistedRecord {
    /// Facts as told.
    pub facts: Facts,
    /// Their number.
    pub revision: u64,
    /// When the overuse was seen first, if nobody told (semantics 2.9).
    pub overuse_seen: Option<Instant>,
}

/// The data folder, held by this process alone.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// None where nothing can be written: then nobody else writes here, either.
    _lock: Option<File>,
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

const FORMAT: &str = "esa-sidecar facts 1";
const FACTS: &str = "facts.jsonl";

/// The first line; each further line is a `Line`.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    format: String,
    source: String,
    as_of: InstantJson,
    issued_at: Option<InstantJson>,
    revision: u64,
    subscriptions: usize,
    /// SHA-256 of all that follows this line.
    sha256: String,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Line {
    revision: u64,
    overuse_seen: Option<InstantJson>,
    facts: FactsJson,
}

impl Store {
    /// Opens the data folder, making it when it is missing.
    pub fn open(folder: PathBuf) -> Result<Self, PersistError> {
        let lock_path = folder.join("lock");
        let opened = fs::create_dir_all(&folder)
            .and_then(|()| File::options().create(true).write(true).truncate(false).open(&lock_path));
        let lock = match opened {
            Ok(lock) => lock,
            Err(error) if folder.is_dir() && cannot_write(&error) => {
                warn!("`{}` cannot be written: the last facts are read, no newer are kept", folder.display());
                return Ok(Self { folder, _lock: None });
            }
            Err(error) => return Err(PersistError::Unusable(folder, error)),
        };
        match lock.try_lock() {
            Ok(()) => Ok(Self { folder, _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => Err(PersistError::InUse(folder)),
            Err(TryLockError::Error(error)) => Err(PersistError::Io(lock_path, error)),
        }
    }

    /// Reads back what was kept, if anything was. A damaged file is set aside, never overwritten.
    pub fn load(&self) -> Result<Option<Persisted>, PersistError> {
        let path = self.folder.join(FACTS);
        let mut contents = Vec::new();
        match File::open(&path).and_then(|mut file| file.read_to_end(&mut contents)) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PersistError::Io(path, error)),
        }
        parse(&contents).map(Some).map_err(|what| {
            let aside = free_name(&path.with_extension("jsonl.damaged"));
            match fs::rename(&path, &aside) {
                Ok(()) => PersistError::Damaged { path, what, aside },
                Err(error) => PersistError::Io(path, error),
            }
        })
    }

    /// Keeps `persisted` in place of what was kept before.
    pub fn save(&self, persisted: &Persisted) -> Result<(), PersistError> {
        let path = self.folder.join(FACTS);
        let temporary = self.folder.join("facts.jsonl.new");
        let write = || -> io::Result<()> {
            let (header, body) = render(persisted)?;
            // Somebody may have tidied up while we ran.
            fs::create_dir_all(&self.folder)?;
            let mut file = BufWriter::new(File::create(&temporary)?);
            file.write_all(&header)?;
            file.write_all(&body)?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&temporary, &path)?;
            File::open(&self.folder)?.sync_all()
        };
        write().map_err(|error| PersistError::Io(path.clone(), error))
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

fn render(persisted: &Persisted) -> io::Result<(Vec<u8>, Vec<u8>)> {
    let Persisted { source, as_of, issued_at, revision, records } = persisted;
    let mut body = Vec::new();
    for PersistedRecord { facts, revision, overuse_seen } in records {
        let line =
            Line { revision: *revision, overuse_seen: overuse_seen.map(InstantJson), facts: facts.into() };
        serde_json::to_writer(&mut body, &line)?;
        body.push(b'\n');
    }
    let mut header = serde_json::to_vec(&Header {
        format: FORMAT.to_owned(),
        source: source.clone(),
        as_of: InstantJson(*as_of),
        issued_at: issued_at.map(InstantJson),
        revision: *revision,
        subscriptions: records.len(),
        sha256: sha256::hex(&body),
    })?;
    header.push(b'\n');
    Ok((header, body))
}

fn parse(contents: &[u8]) -> Result<Persisted, String> {
    let end = contents.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (header, body) = contents.split_at(end + 1);
    let Object(header): Object<Header> =
        facts_json::read(header).map_err(|error| format!("line 1: {error}"))?;
    if header.format != FORMAT {
        return Err(format!("its format is `{}`, not `{FORMAT}`", header.format));
    }
    if header.sha256 != sha256::hex(body) {
        return Err("its SHA-256 does not match its contents".to_owned());
    }
    let lines = body.split_inclusive(|byte| *byte == b'\n').zip(2..);
    let records = lines
        .map(|(line, number)| {
            let Object(Line { revision, overuse_seen, facts }) =
                facts_json::read(line).map_err(|error| format!("line {number}: {error}"))?;
            Ok(PersistedRecord {
                facts: facts.into(),
                revision,
                overuse_seen: overuse_seen.map(|seen| seen.0),
            })
        })
        .collect::<Result<Vec<_>, String>>()?;
    if records.len() != header.subscriptions {
        return Err(format!("it holds {} subscriptions, not {}", records.len(), header.subscriptions));
    }
    Ok(Persisted {
        source: header.source,
        as_of: header.as_of.0,
        issued_at: header.issued_at.map(|issued| issued.0),
        revision: header.revision,
        records,
    })
}

#[cfg(test)]
mod tests;
