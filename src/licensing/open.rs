//! Opens a backend: its database, its signing keys, and at the first start its first owner.
//!
//! Not here: where it listens (see `server`).

use std::{fs::File, io, path::Path, sync::Arc};

use tokio_util::sync::CancellationToken;

use super::{
    Backend,
    refusal::Refusal,
    store::{Database, Store, StoreError},
};
use crate::{
    clock::Clock,
    config, folder,
    signing::{KeyError, SigningKeys},
};

/// A backend, and what its first start brought about.
pub struct Opened {
    /// The backend.
    pub backend: Backend,
    /// The one-time password of the first owner, if this start made one. It is told nowhere else.
    pub one_time_password: Option<String>,
    /// Holds the file of SQLite against other processes.
    _lock: Option<File>,
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
    /// The database cannot be used.
    #[error("{0}: {1}")]
    Database(Database, StoreError),
    /// The first owner could not be made.
    #[error(transparent)]
    Owner(#[from] Refusal),
}

impl Opened {
    /// Opens the backend of the data folder `data_dir`, making what is missing. With `owner_anew` the first owner gets a
    /// new one-time password.
    pub async fn at(
        data_dir: &Path,
        settings: config::Backend,
        clock: Arc<dyn Clock>,
        stop: CancellationToken,
        owner_anew: bool,
    ) -> Result<Self, OpenError> {
        let home = data_dir.join("licensing");
        let shown = || home.display().to_string();
        folder::make(&home).map_err(|error| OpenError::Folder(shown(), error))?;
        let database = Database::of(settings.database.as_deref(), &home);
        let lock = match &database {
            Database::Sqlite(_) => Some(lock(&home)?),
            Database::Postgres(_) => None,
        };
        let keys = Arc::new(SigningKeys::open(&SigningKeys::folder_in(data_dir))?);
        let store = Store::open(database.clone(), settings.connections).await;
        let store = store.map_err(|error| OpenError::Database(database.clone(), error))?;
        tracing::info!(%database, "the licensing backend is open");
        let backend = Backend::new(store, clock, keys, settings, stop);
        let one_time_password = backend.first_owner(owner_anew).await?;
        Ok(Self { backend, one_time_password, _lock: lock })
    }
}

fn lock(home: &Path) -> Result<File, OpenError> {
    let place = || home.display().to_string();
    let held = folder::try_lock(home, "lock").map_err(|error| OpenError::Folder(place(), error))?;
    held.ok_or_else(|| OpenError::InUse(place()))
}
