//! Facts from a JSON file: one subscription, or an array of them; an edit counts within a second.
//!
//! The file is looked at a few times a second rather than watched by the kernel: that sees every kind of
//! replacement (rename, a swapped symbolic link, an edit on a network file system) and costs one `stat`.

use std::{
    fs::{self, Metadata},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{self, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;

use super::{Answer, Ask, FactsSource, Fetched, Origin, SourceError, facts_json, usage::UsageDelay};
use crate::domain::{Facts, SubscriptionId};

/// A facts file.
#[derive(Clone, Debug)]
pub struct FileSource {
    path: Arc<Path>,
    poll_interval: Duration,
    max_bytes: u64,
    memory: Arc<Mutex<Memory>>,
}

/// What is remembered of the file between looks.
#[derive(Debug, Default)]
struct Memory {
    /// Its marks when it was last read, or tried to be; none when there was no file.
    read: Option<Marks>,
    /// Time stamps tick a few times in a hundredth of a second, so that an edit right after a reading may not show
    /// in the marks: what was just edited is read once more.
    read_again: bool,
    /// Digest of the contents last told.
    told: Option<[u8; 32]>,
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Marks {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A file that changes between any two looks is read after this many.
const MOST_UNSETTLED_LOOKS: u32 = 3;

impl FileSource {
    /// The file at `path`, looked at every `poll_interval`, refused when larger than `max_bytes`.
    #[must_use]
    pub fn new(path: PathBuf, poll_interval: Duration, max_bytes: u64) -> Self {
        // The whole path names the source: the same name in another folder is another file.
        let path = path::absolute(&path).unwrap_or(path);
        Self { path: path.into(), poll_interval, max_bytes, memory: Arc::default() }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Option<Marks> {
        fs::metadata(&self.path).ok().map(|metadata| Marks::of(&metadata))
    }

    fn fetch_blocking(&self) -> Result<Fetched, SourceError> {
        // The marks are taken before the contents: an edit in between shows at the next look.
        let marks = self.look();
        {
            let mut memory = self.memory();
            memory.read_again = memory.read != marks;
            memory.read = marks;
        }
        let unreachable =
            |error| SourceError::Unreachable(format!("facts file `{}`: {error}", self.path.display()));
        let contents = self.read().map_err(unreachable)?;
        let digest = Sha256::digest(&contents).into();
        if self.memory().told == Some(digest) {
            return Ok(Fetched::Unchanged);
        }
        let facts = self.parse(&contents)?;
        self.memory().told = Some(digest);
        Ok(Fetched::unsigned(facts))
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        // A named pipe without a writer must not be waited for.
        let without_waiting = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = fs::File::options().read(true).custom_flags(without_waiting).open(&self.path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
        }
        let mut contents = Vec::new();
        file.take(self.max_bytes.saturating_add(1)).read_to_end(&mut contents)?;
        Ok(contents)
    }

    fn parse(&self, contents: &[u8]) -> Result<Vec<Facts>, SourceError> {
        let refused =
            |what: String| SourceError::Refused(format!("facts file `{}`: {what}", self.path.display()));
        if self.max_bytes < contents.len() as u64 {
            return Err(refused(format!(
                "larger than `file.max_bytes` = {}; raise it, or split the file",
                self.max_bytes
            )));
        }
        facts_json::read_all(contents).map_err(|error| refused(error.to_string()))
    }
}

impl FactsSource for FileSource {
    fn identity(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn origin(&self) -> Origin {
        Origin::File
    }

    async fn fetch(&self, _ask: Ask) -> Answer {
        let source = self.clone();
        let fetched = spawn_blocking(move || source.fetch_blocking()).await;
        let ended_early =
            |_| Err(SourceError::Unreachable("the reader of the facts file ended early".to_owned()));
        fetched.unwrap_or_else(ended_early).into()
    }

    async fn changed(&self) {
        let mut last_look = None;
        let mut unsettled_looks = 0;
        loop {
            tokio::time::sleep(self.poll_interval).await;
            let source = self.clone();
            let Ok(marks) = spawn_blocking(move || source.look()).await else { continue };
            // Two looks alike: whoever writes in place has come to an end. Whoever never does is read all the same.
            let settled = last_look.replace(marks) == Some(marks);
            unsettled_looks = if settled { 0 } else { unsettled_looks + 1 };
            let mut memory = self.memory();
            if memory.read != marks && (settled || MOST_UNSETTLED_LOOKS < unsettled_looks) {
                return;
            }
            if memory.read == marks && memory.read_again {
                memory.read_again = false;
                return;
            }
        }
    }

    /// Nobody takes usage: a facts file tells its own.
    fn usage_delay(&self, _subscription_id: SubscriptionId) -> Option<UsageDelay> {
        None
    }
}

impl Marks {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests;
