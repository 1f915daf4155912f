//! Opens a backend: its database, its signing keys, and at the first start its first owner.
//!
//! Not here: where it listens (see `server`).

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    Backend, authority,
    refusal::Refusal,
    store::{Store, StoreError},
};
use crate::{
    clock::Clock,
    config::{self, Database},
    folder::{self, Lock},
    signing::{KeyError, SigningKeys},
};

/// The file with the first owner's one-time password.
const OWNER_PASSWORD: &str = "owner-password";

/// A backend, and what its first start brought about.
pub struct Opened {
    /// The backend.
    pub backend: Backend,
    /// The one-time password of the first owner, if this start made one.
    pub one_time_password: Option<String>,
    /// The file it is in, for its owner alone. It is told nowhere else.
    pub password_file: PathBuf,
    /// Holds the file of SQLite against other processes.
    _lock: Option<Lock>,
}

/// What a start makes anew, because it was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anew {
    /// The first owner's password.
    pub owner: bool,
    /// The key that signs.
    pub key: bool,
}

/// Why a backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder cannot be used.
    #[error("`{0}` cannot be used: {1}; name another folder with --data-dir or `data_dir`")]
    Folder(String, io::Error),
    /// Another process has the database.
    #[error(
        "the licensing backend in `{0}` is running already; stop it, or give this one its own --data-dir"
    )]
    InUse(String),
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Facts are signed with a key these have nothing to do with.
    #[error(
        "the licensing backend of this database signs with the key `{0}`, which is not in `{folder}`, and sidecars would \
         refuse another one: copy the files of the folder `licensing/keys` there from the machine of another replica, or \
         from the backup; if that key is lost for good, start once with `licensing --replace-key`, and pin the new key at \
         every sidecar", folder = .1.display()
    )]
    OtherKey(String, PathBuf),
    /// The database cannot be used.
    #[error("{0}: {1}")]
    Database(Database, StoreError),
    /// The first owner could not be made.
    #[error(transparent)]
    Owner(#[from] Refusal),
}

impl Opened {
    /// Opens the backend of the data folder `data_dir`, making what is missing, and what is asked for `anew`.
    pub async fn at(
        data_dir: &Path,
        settings: config::Backend,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
        anew: Anew,
    ) -> Result<Self, OpenError> {
        let home = data_dir.join("licensing");
        let shown = || home.display().to_string();
        folder::make(data_dir)
            .and_then(|()| folder::make(&home))
            .map_err(|error| OpenError::Folder(shown(), error))?;
        let database = settings.database_in(data_dir);
        let lock = match &database {
            Database::Sqlite(_) => Some(lock(&home)?),
            Database::Postgres(_) => None,
        };
        let failed = |error| OpenError::Database(database.clone(), error);
        let store = Store::open(database.clone(), settings.connections).await.map_err(failed)?;
        let keys = authority::keys(&store, failed, &SigningKeys::folder_in(data_dir), anew.key).await?;
        tracing::info!(%database, "the licensing backend is open");
        let backend = Backend::new(store, clock, Arc::new(keys), settings, stop);
        let password_file = home.join(OWNER_PASSWORD);
        let put = |password: &str| {
            folder::replace(&home, OWNER_PASSWORD, format!("{password}\n").as_bytes()).map_err(|error| {
                let place = password_file.display();
                Refusal::Precondition(format!(
                    "the first owner's password cannot be put into `{place}`: {error}"
                ))
            })
        };
        let one_time_password = backend.first_owner_told(anew.owner, put).await?;
        Ok(Self { backend, one_time_password, password_file, _lock: lock })
    }
}

fn lock(home: &Path) -> Result<Lock, OpenError> {
    let place = || home.display().to_string();
    let held = folder::try_lock(home, "lock").map_err(|error| OpenError::Folder(place(), error))?;
    held.ok_or_else(|| OpenError::InUse(place()))
}
