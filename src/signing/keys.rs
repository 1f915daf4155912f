//! The licensing backend's folder of signing keys: `signing.pem` signs, `next.pem` will, `previous.pem` did; `retired` has
//! the IDs of those that did before.
//!
//! A key changes in two steps, so that every sidecar trusts the next key before anything is signed with it. The folder
//! is looked at with `stat` alone unless it changed. Not here: what is signed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use ed25519_dalek::{
    SECRET_KEY_LENGTH, Signer as _, SigningKey,
    pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, KeypairBytes, spki::der::pem::LineEnding},
};

use zeroize::Zeroizing;

use super::{PublicKey, signed_bytes};
use crate::{folder, proto::licensing::SignedFacts};

/// The IDs of keys that were retired, a line each: who signed with one of them is told apart from a stranger.
const RETIRED: &str = "retired";

/// The file that is held while the folder is written to.
const LOCK: &str = "lock";

/// What a key of the folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It signs.
    Signing,
    /// It will sign after the switch; sidecars may trust it first.
    Next,
    /// It signed before the switch; what it signed still verifies where it is trusted.
    Previous,
}

/// A key of the folder, as it may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// What it is for.
    pub role: Role,
    /// Its public half.
    pub key: PublicKey,
    /// Where its secret half is.
    pub path: PathBuf,
}

/// What a key is to the keys of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It signs.
    Signing,
    /// It will sign.
    Next,
    /// It signed: the previous key, and those that were retired.
    Past,
}

/// The keys of a folder; whoever signs shares it.
pub struct SigningKeys {
    folder: PathBuf,
    held: ArcSwap<Held>,
}

/// Why keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The operating system refused.
    #[error("`{0}`: {1}")]
    Io(PathBuf, io::Error),
    /// Others could have read the key.
    #[error("`{path}` is open to others than its owner (mode {mode:04o}); close it: chmod 600 '{path}'", path = .0.display(), mode = .1)]
    Exposed(PathBuf, u32),
    /// It is no key.
    #[error("`{0}` is no Ed25519 key in PKCS #8 PEM: {1}")]
    Malformed(PathBuf, String),
    /// There is no signing key, and none is made for a question.
    #[error(
        "no signing key in `{0}`; the licensing backend makes one at its first start, or `esa-sidecar keys prepare` does"
    )]
    NoSigningKey(PathBuf),
    /// The operating system has no random bytes.
    #[error("no random bytes for a key: {0}")]
    NoRandomBytes(getrandom::Error),
    /// A rotation has already begun.
    #[error(
        "the next key is already there; once every sidecar trusts it, `esa-sidecar keys switch` makes it sign"
    )]
    AlreadyPrepared,
    /// A rotation has not been brought to its end.
    #[error(
        "the previous key is still there; once every sidecar has facts signed with the new one, `esa-sidecar keys retire`"
    )]
    NotRetired,
    /// There is nothing to switch to.
    #[error("there is no next key to switch to; `esa-sidecar keys prepare` makes one")]
    NotPrepared,
    /// There is nothing to retire.
    #[error("there is no previous key to retire")]
    NoPrevious,
}

#[derive(Clone)]
struct Held {
    signing: SigningKey,
    next: Option<SigningKey>,
    previous: Option<SigningKey>,
    retired: Vec<String>,
    /// Of each file, taken before it was read.
    marks: [Option<folder::Marks>; 3],
}

impl Role {
    /// Every role, the newest key last.
    pub const ALL: [Self; 3] = [Self::Previous, Self::Signing, Self::Next];

    /// The file a key in this role is in.
    #[must_use]
    pub const fn file_name(self) -> &'static str {
        match self {
            Self::Signing => "signing.pem",
            Self::Next => "next.pem",
            Self::Previous => "previous.pem",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::Signing => "signing",
            Self::Next => "next",
            Self::Previous => "previous",
        })
    }
}

impl SigningKeys {
    /// Where a licensing backend keeps its keys.
    #[must_use]
    pub fn folder_in(data_dir: &Path) -> PathBuf {
        data_dir.join("licensing/keys")
    }

    /// Opens `folder`; the first time, makes it and the first key.
    pub fn open(folder: &Path) -> Result<Self, KeyError> {
        match Self::open_existing(folder) {
            Err(KeyError::NoSigningKey(_)) => {}
            opened => return opened,
        }
        let io = |error| KeyError::Io(folder.to_owned(), error);
        folder::make(folder).map_err(io)?;
        let lock = folder::lock(folder, LOCK).map_err(io)?;
        // Another process may have been first.
        if folder::marks(&folder.join(Role::Signing.file_name())).is_none() {
            make_key(folder, Role::Signing)?;
        }
        drop(lock);
        Self::open_existing(folder)
    }

    /// Opens `folder` if there is a key in it, and makes none.
    pub fn open_existing(folder: &Path) -> Result<Self, KeyError> {
        let held = ArcSwap::from_pointee(Held::read(folder)?);
        Ok(Self { folder: folder.to_owned(), held })
    }

    /// Signs a serialized `SubscriptionFacts`.
    #[must_use]
    pub fn sign(&self, payload: Vec<u8>) -> SignedFacts {
        let held = self.held.load_full();
        let signature = held.signing.sign(&signed_bytes(&payload)).to_vec();
        SignedFacts { payload, signature, key_id: key_id(&held.signing) }
    }

    /// The ID of the key that signs.
    #[must_use]
    pub fn key_id(&self) -> String {
        key_id(&self.held.load().signing)
    }

    /// What the key with this ID is to these; none when they have nothing to do with it.
    #[must_use]
    pub fn known(&self, id: &str) -> Option<Known> {
        let held = self.held.load();
        let is = |key: Option<&SigningKey>| key.is_some_and(|key| key_id(key) == id);
        if is(Some(&held.signing)) {
            Some(Known::Signing)
        } else if is(held.next.as_ref()) {
            Some(Known::Next)
        } else {
            (is(held.previous.as_ref()) || held.retired.iter().any(|retired| retired == id))
                .then_some(Known::Past)
        }
    }

    /// The keys sidecars are to trust now, the one that signs first: no more than two.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let mut files = self.files();
        files.sort_by_key(|file| file.role != Role::Signing);
        files.into_iter().map(|file| file.key).collect()
    }

    /// Every key, the newest last.
    #[must_use]
    pub fn files(&self) -> Vec<KeyFile> {
        let held = self.held.load_full();
        let file = |role: Role, key: Option<&SigningKey>| {
            let key = PublicKey::from(key?.verifying_key());
            Some(KeyFile { role, key, path: self.folder.join(role.file_name()) })
        };
        Role::ALL.into_iter().filter_map(|role| file(role, held.of(role))).collect()
    }

    /// Reads the folder again if it changed, as a rotation by another process changes it; whether it did. What cannot
    /// be read changes nothing: what was held goes on signing.
    pub fn refresh_if_changed(&self) -> Result<bool, KeyError> {
        let changed = Held::marks(&self.folder) != self.held.load().marks;
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }

    /// Reads the folder again.
    pub fn reload(&self) -> Result<(), KeyError> {
        self.held.store(Arc::new(Held::read(&self.folder)?));
        Ok(())
    }

    /// First step of a rotation: makes the next key, which does not sign yet.
    pub fn prepare(&self) -> Result<(), KeyError> {
        self.change(|held, folder| match (&held.next, &held.previous) {
            (Some(_), _) => Err(KeyError::AlreadyPrepared),
            (None, Some(_)) => Err(KeyError::NotRetired),
            (None, None) => make_key(folder, Role::Next),
        })
    }

    /// Second step: the next key signs from now on, the one that signed is kept as the previous one.
    pub fn switch(&self) -> Result<(), KeyError> {
        self.change(|held, folder| {
            let Held { signing, next, previous, .. } = held;
            if previous.is_some() {
                return Err(KeyError::NotRetired);
            }
            if next.is_none() {
                return Err(KeyError::NotPrepared);
            }
            // A crash between the two leaves one key in two files, which is read as one.
            write_key(folder, Role::Previous, signing)?;
            folder::rename(folder, Role::Next.file_name(), Role::Signing.file_name())
                .map_err(|error| KeyError::Io(folder.join(Role::Signing.file_name()), error))
        })
    }

    /// Ends a rotation: the previous key is gone for good.
    pub fn retire(&self) -> Result<(), KeyError> {
        self.change(|held, folder| {
            let previous = held.previous.as_ref().ok_or(KeyError::NoPrevious)?;
            let retired: String =
                held.retired.iter().chain([&key_id(previous)]).map(|id| format!("{id}\n")).collect();
            folder::replace(folder, RETIRED, retired.as_bytes())
                .map_err(|error| KeyError::Io(folder.join(RETIRED), error))?;
            folder::remove(folder, Role::Previous.file_name())
                .map_err(|error| KeyError::Io(folder.join(Role::Previous.file_name()), error))
        })
    }

    /// One change at a time, whichever process makes it.
    fn change(&self, change: impl FnOnce(&Held, &Path) -> Result<(), KeyError>) -> Result<(), KeyError> {
        let lock =
            folder::lock(&self.folder, LOCK).map_err(|error| KeyError::Io(self.folder.clone(), error))?;
        self.reload()?;
        change(&self.held.load_full(), &self.folder)?;
        drop(lock);
        self.reload()
    }
}

impl Held {
    fn read(folder: &Path) -> Result<Self, KeyError> {
        // Before the files: what changes in between shows at the next look.
        let marks = Self::marks(folder);
        // The next key first: it may become the signing one meanwhile, and is then known as both.
        let next = read_key(folder, Role::Next)?;
        let signing =
            read_key(folder, Role::Signing)?.ok_or_else(|| KeyError::NoSigningKey(folder.to_owned()))?;
        let previous = read_key(folder, Role::Previous)?;
        let other = |key: &SigningKey| *key != signing;
        let (next, previous) = (next.filter(other), previous.filter(other));
        let path = folder.join(RETIRED);
        let retired = folder::read(&path).map_err(|error| KeyError::Io(path, error))?;
        let retired = retired.map(|retired| {
            let lines = retired.text.lines().map(str::trim).filter(|line| !line.is_empty());
            lines.map(str::to_owned).collect()
        });
        Ok(Self { signing, next, previous, retired: retired.unwrap_or_default(), marks })
    }

    fn marks(folder: &Path) -> [Option<folder::Marks>; 3] {
        Role::ALL.map(|role| folder::marks(&folder.join(role.file_name())))
    }

    fn of(&self, role: Role) -> Option<&SigningKey> {
        match role {
            Role::Signing => Some(&self.signing),
            Role::Next => self.next.as_ref(),
            Role::Previous => self.previous.as_ref(),
        }
    }
}

impl fmt::Debug for SigningKeys {
    /// Without anything secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SigningKeys").field("files", &self.files()).finish_non_exhaustive()
    }
}

fn key_id(key: &SigningKey) -> String {
    PublicKey::from(key.verifying_key()).key_id()
}

fn read_key(folder: &Path, role: Role) -> Result<Option<SigningKey>, KeyError> {
    let path = folder.join(role.file_name());
    let Some(contents) = folder::read(&path).map_err(|error| KeyError::Io(path.clone(), error))? else {
        return Ok(None);
    };
    if contents.mode & folder::OTHERS_ANYTHING != 0 {
        return Err(KeyError::Exposed(path, contents.mode));
    }
    SigningKey::from_pkcs8_pem(&tidied(&contents.text))
        .map(Some)
        .map_err(|error| KeyError::Malformed(path, error.to_string()))
}

/// The same with lines that end alike and nothing beside them, as the reader of PEM wants it.
fn tidied(pem: &str) -> Zeroizing<String> {
    // No longer than before, so that it never grows and leaves a copy behind.
    let mut tidied = Zeroizing::new(String::with_capacity(pem.len() + 1));
    for line in pem.lines().map(str::trim).filter(|line| !line.is_empty()) {
        tidied.push_str(line);
        tidied.push('\n');
    }
    tidied
}

fn make_key(folder: &Path, role: Role) -> Result<(), KeyError> {
    let mut secret = [0; SECRET_KEY_LENGTH];
    getrandom::fill(&mut secret).map_err(KeyError::NoRandomBytes)?;
    write_key(folder, role, &SigningKey::from_bytes(&secret))
}

fn write_key(folder: &Path, role: Role, key: &SigningKey) -> Result<(), KeyError> {
    let path = || folder.join(role.file_name());
    // Without the public half, which not every tool reads.
    let pem = KeypairBytes { secret_key: key.to_bytes(), public_key: None }.to_pkcs8_pem(LineEnding::LF);
    let pem = pem.map_err(|error| KeyError::Malformed(path(), error.to_string()))?;
    folder::replace(folder, role.file_name(), pem.as_bytes()).map_err(|error| KeyError::Io(path(), error))
}
