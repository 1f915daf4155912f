//! Opens the connections: to the file of SQLite, or to a PostgreSQL server in the way that its configuration says.
//!
//! Not here: what is in the database (see `migrate`).

use std::{
    fs::File,
    io::{self, Write as _},
    os::fd::{AsFd as _, AsRawFd as _},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{MemfdFlags, memfd_create};
use sqlx::{
    Any, AnyPool, Executor as _,
    any::{AnyConnectOptions, AnyPoolOptions, install_drivers},
    pool::PoolOptions,
};

use super::{Database, StoreError, file};
use crate::{
    config::Postgres,
    edge::tls::{Advice, TlsError, in_words_for, machine_authorities},
};

/// Open connections.
pub(super) struct Connected {
    pub(super) writes: AnyPool,
    pub(super) reads: AnyPool,
    /// The PostgreSQL server.
    pub(super) server: Option<Arc<Server>>,
}

/// How a PostgreSQL server is reached.
pub(super) struct Server {
    /// For the driver, with the password.
    pub(super) url: String,
    /// What the URL names as the file of this machine's authorities, which the driver reads at each connection.
    _authorities: Option<File>,
}

/// What to do about a server that is not believed.
const ADVICE: Advice = Advice {
    authority: "as `backend.database_ca` in the configuration",
    certificate: "as `backend.database_certificate` and `backend.database_key`",
    plaintext: "look whether host and port are PostgreSQL's",
};

pub(super) async fn connect(database: &Database, connections: u32) -> Result<Connected, StoreError> {
    install_drivers(&[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER]).ok();
    match database {
        Database::Sqlite(path) => {
            file::make(path).map_err(|error| StoreError::File(path.clone(), error))?;
            let options = file::url(path).parse::<AnyConnectOptions>()?;
            // SQLite has one writer at a time; one connection waits in line more cheaply than several try.
            let writes = pool(1).after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                    // A change that was answered survives a power cut.
                    connection.execute("PRAGMA synchronous = FULL").await?;
                    connection.execute("PRAGMA cache_size = -65536").await?;
                    Ok(())
                })
            });
            let writes = writes.connect_with(options.clone()).await?;
            let reads = pool(connections).after_connect(|connection, _| {
                Box::pin(async move { connection.execute("PRAGMA query_only = ON").await.map(drop) })
            });
            Ok(Connected { writes, reads: reads.connect_with(options).await?, server: None })
        }
        Database::Postgres(postgres) => {
            let server = Server::of(postgres)?;
            let both = pool(connections).connect_with(server.url.parse::<AnyConnectOptions>()?).await?;
            Ok(Connected { writes: both.clone(), reads: both, server: Some(Arc::new(server)) })
        }
    }
}

fn pool(most: u32) -> PoolOptions<Any> {
    AnyPoolOptions::new().max_connections(most).acquire_timeout(Duration::from_secs(10))
}

impl Server {
    fn of(postgres: &Postgres) -> Result<Self, StoreError> {
        postgres.check_files()?;
        let authorities =
            if postgres.trusts_machine() { Some(in_memory(&machine_authorities()?)?) } else { None };
        let path = authorities
            .as_ref()
            .map(|file| PathBuf::from(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd())));
        Ok(Self { url: postgres.driver_url(path.as_deref()), _authorities: authorities })
    }
}

/// A file that is nowhere on disk, for a driver that takes nothing else.
fn in_memory(text: &str) -> Result<File, StoreError> {
    let made = || -> io::Result<File> {
        let mut file = File::from(memfd_create("authorities", MemfdFlags::CLOEXEC)?);
        file.write_all(text.as_bytes())?;
        Ok(file)
    };
    made().map_err(|error| StoreError::File("the authorities of this machine, in memory".into(), error))
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let why = if let sqlx::Error::Io(error) = &error {
            in_words_for(error, ADVICE)
        } else if let sqlx::Error::Tls(error) = &error {
            Some(in_words_for(&**error, ADVICE).unwrap_or_else(|| {
                format!(
                    "{error}; turn TLS on there (`ssl = on`), or set `backend.database_plaintext = true` if the way there is \
                     safe, as in a tunnel"
                )
            }))
        } else {
            None
        };
        why.map_or(Self::Database(error), Self::Insecure)
    }
}

impl From<TlsError> for StoreError {
    fn from(error: TlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}
