//! The keys a sidecar trusts: those of its configuration and those pinned in its data folder, two at the most.
//!
//! Two, because a rotation has two: the one that signs, and the one that did or will. Not the secret halves (see
//! `keys`).

use std::{
    io,
    path::{Path, PathBuf},
};

use prost::Message as _;

use super::{NotAPublicKey, PublicKey, Refused, VerifiedFacts, signed_bytes};
use crate::{
    folder,
    proto::licensing::{SignedFacts, SubscriptionFacts},
    wire::{self, Unreadable},
};

/// So many keys are trusted at the most.
pub const MOST_TRUSTED: usize = 2;

/// Keys that may vouch for facts. The default is to trust none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedKeys(Vec<PublicKey>);

/// Why keys cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// More than two.
    #[error(
        "{0} keys are more than can be trusted, which is {MOST_TRUSTED}: the one that signs, and the one before or after it"
    )]
    TooMany(usize),
    /// A line of the file is no key.
    #[error("`{path}`, line {line}: {error}", path = .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        error: NotAPublicKey,
    },
    /// Others could have put a key into it.
    #[error("`{path}` can be written by others than its owner (mode {mode:04o}); close it: chmod 600 '{path}'", path = .0.display(), mode = .1)]
    Exposed(PathBuf, u32),
    /// The operating system refused.
    #[error("`{0}`: {1}")]
    Io(PathBuf, io::Error),
}

impl TrustedKeys {
    /// The file of pinned keys in a data folder.
    #[must_use]
    pub fn file_in(data_dir: &Path) -> PathBuf {
        data_dir.join("trusted-keys")
    }

    /// Trusts `keys`, each once.
    pub fn of(keys: impl IntoIterator<Item = PublicKey>) -> Result<Self, TrustError> {
        let mut trusted = Vec::with_capacity(MOST_TRUSTED);
        for key in keys {
            if !trusted.contains(&key) {
                trusted.push(key);
            }
        }
        if MOST_TRUSTED < trusted.len() { Err(TrustError::TooMany(trusted.len())) } else { Ok(Self(trusted)) }
    }

    /// Reads a file of keys, one a line; a line that begins with `#` is a comment. No file: no keys.
    pub fn read(path: &Path) -> Result<Self, TrustError> {
        let contents = folder::read(path).map_err(|error| TrustError::Io(path.to_owned(), error))?;
        let Some(folder::Contents { text, mode }) = contents else { return Ok(Self::default()) };
        if mode & folder::OTHERS_WRITE != 0 {
            return Err(TrustError::Exposed(path.to_owned(), mode));
        }
        // Files that were put together have a byte-order mark within.
        let lines = (1..).zip(text.lines().map(|line| line.trim_start_matches('\u{feff}').trim()));
        let keys =
            lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).map(|(number, line)| {
                line.parse().map_err(|error| TrustError::Malformed {
                    path: path.to_owned(),
                    line: number,
                    error,
                })
            });
        Self::of(keys.collect::<Result<Vec<PublicKey>, TrustError>>()?)
    }

    /// Keeps the keys in a file, in place of what was in it.
    pub fn write(&self, path: &Path) -> Result<(), TrustError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut text =
            "# Keys of the licensing backend this sidecar trusts, two at the most: `esa-sidecar keys pin`.\n"
                .to_owned();
        for key in &self.0 {
            text += &format!("{key}\n");
        }
        folder::make(folder)
            .and_then(|()| folder::replace(folder, &name, text.as_bytes()))
            .map_err(|error| TrustError::Io(path.to_owned(), error))
    }

    /// These and `more`.
    pub fn and(&self, more: &Self) -> Result<Self, TrustError> {
        Self::of(self.0.iter().chain(&more.0).copied())
    }

    /// The keys.
    #[must_use]
    pub fn keys(&self) -> &[PublicKey] {
        &self.0
    }

    /// What is in `signed`, if one of the keys vouches for it.
    pub fn verify(&self, signed: &SignedFacts) -> Result<VerifiedFacts, Refused> {
        let SignedFacts { payload, signature, key_id } = signed;
        if signature.is_empty() {
            return Err(Refused::Unsigned);
        }
        let key = self.0.iter().find(|key| key.key_id() == *key_id);
        let key = key.ok_or_else(|| Refused::UnknownKey(key_id.clone()))?;
        if !key.verifies(&signed_bytes(payload), signature) {
            return Err(Refused::BadSignature);
        }
        read(payload)
    }
}

/// What a payload says; only once its signature holds.
fn read(payload: &[u8]) -> Result<VerifiedFacts, Refused> {
    let decoded =
        SubscriptionFacts::decode(payload).map_err(|error| Refused::Unreadable(error.to_string()))?;
    let SubscriptionFacts { sequence, issued_at, nonce, unit_id, facts } = decoded;
    let missing = |field: &str| Unreadable::new(field, "missing");
    let issued_at = issued_at.as_ref().ok_or_else(|| missing("issued_at"))?;
    let facts = facts.as_ref().ok_or_else(|| missing("facts"))?;
    Ok(VerifiedFacts {
        sequence,
        issued_at: wire::instant(issued_at, "issued_at")?,
        nonce,
        unit_id,
        facts: wire::facts(facts, "facts")?,
    })
}
