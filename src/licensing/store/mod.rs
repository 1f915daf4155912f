//! The database: SQLite beside the process, or PostgreSQL for a fleet. One schema, one set of statements.
//!
//! Values reach it as bound parameters alone. Not here: what is kept (see the rooms that keep it) and when a change is
//! whole (see `change`).

mod migrate;

use std::{
    fmt, fs,
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::{
    Any, AnyPool, Executor as _, Transaction,
    any::{AnyConnectOptions, AnyPoolOptions, install_drivers},
    postgres::PgListener,
};

use crate::domain::Instant;

/// A transaction on either database.
pub type Tx = Transaction<'static, Any>;

/// Where licences, units and accounts are kept.
#[derive(Clone)]
pub struct Store {
    writes: AnyPool,
    reads: AnyPool,
    database: Database,
}

/// Which database.
#[derive(Clone, PartialEq, Eq)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, by its URL, which may hold a password.
    Postgres(String),
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused, or could not be reached.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// Its schema could not be brought up to date.
    #[error("the database's schema: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The folder of the file cannot be made.
    #[error("`{0}`: {1}")]
    Folder(PathBuf, std::io::Error),
    /// What is kept does not read.
    #[error("the database holds what was never written there: {0}")]
    Unreadable(String),
}

/// The channel on which replicas tell each other what changed.
pub const CHANNEL: &str = "esa_licensing";

/// How often a change that met another one is tried again.
const TRIES: u32 = 20;

impl Store {
    /// Opens the database and brings its schema up to date.
    pub async fn open(database: Database, connections: u32) -> Result<Self, StoreError> {
        install_drivers(&[sqlx::sqlite::any::DRIVER, sqlx::postgres::any::DRIVER]).ok();
        let pool =
            |most| AnyPoolOptions::new().max_connections(most).acquire_timeout(Duration::from_secs(10));
        let url = database.url();
        let options = url.parse::<AnyConnectOptions>()?;
        let (writes, reads) = match &database {
            Database::Sqlite(path) => {
                let folder = path.parent().unwrap_or(Path::new("."));
                fs::create_dir_all(folder).map_err(|error| StoreError::Folder(folder.to_owned(), error))?;
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
                (writes, reads.connect_with(options).await?)
            }
            Database::Postgres(_) => {
                let both = pool(connections).connect_with(options).await?;
                (both.clone(), both)
            }
        };
        let store = Self { writes, reads, database };
        migrate::up(&store.writes, &store.database).await?;
        Ok(store)
    }

    /// For statements that change nothing.
    #[must_use]
    pub fn reads(&self) -> &AnyPool {
        &self.reads
    }

    /// Begins a change.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(match self.database {
            // A change that begins by reading and then writes would otherwise fail when another wrote in between.
            Database::Sqlite(_) => self.writes.begin_with("BEGIN IMMEDIATE").await?,
            Database::Postgres(_) => self.writes.begin().await?,
        })
    }

    /// What makes a `SELECT` hold its rows until the change is whole. SQLite has one writer, which holds everything.
    #[must_use]
    pub const fn for_update(&self) -> &'static str {
        match self.database {
            Database::Sqlite(_) => "",
            Database::Postgres(_) => " FOR UPDATE",
        }
    }

    /// Whether other processes change the same database.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.database, Database::Postgres(_))
    }

    /// Hears what other replicas change; nothing on SQLite, which one process has to itself.
    pub async fn listen(&self) -> Result<Option<PgListener>, StoreError> {
        let Database::Postgres(url) = &self.database else { return Ok(None) };
        let mut listener = PgListener::connect(url).await?;
        listener.listen(CHANNEL).await?;
        Ok(Some(listener))
    }

    /// Does `work` again while it only met other work: two changes that wait for each other, or, on a database that
    /// serializes, that one saw what the other changed.
    pub async fn retrying<T, E, F>(work: impl Fn() -> F) -> Result<T, E>
    where
        E: Contended,
        F: Future<Output = Result<T, E>>,
    {
        let mut tries = 0;
        loop {
            match work().await {
                Err(error) if error.is_contended() && tries < TRIES => tries += 1,
                done => return done,
            }
            let most = 1_u64 << tries.min(8);
            tokio::time::sleep(Duration::from_millis(1 + fastrand::u64(..most))).await;
        }
    }

    /// Whether it answers.
    pub async fn is_reachable(&self) -> bool {
        sqlx::query("SELECT 1").execute(&self.reads).await.is_ok()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        self.writes.close().await;
        self.reads.close().await;
    }
}

/// Whether doing the same again may go through.
pub trait Contended {
    /// It only met other work.
    fn is_contended(&self) -> bool;
}

impl Contended for StoreError {
    fn is_contended(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // serialization_failure, deadlock_detected, and unique_violation: somebody took the name in between, which the
        // next try finds; SQLITE_BUSY and its extensions.
        let codes = ["40001", "40P01", "23505", "5", "261", "517"];
        let code = error.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| codes.contains(&code.as_ref()))
    }
}

impl Database {
    /// The database an operator names, or a file in `home`.
    #[must_use]
    pub fn of(named: Option<&str>, home: &Path) -> Self {
        match named {
            Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
                Self::Postgres(url.to_owned())
            }
            Some(file) => Self::Sqlite(PathBuf::from(file.trim_start_matches("sqlite://"))),
            None => Self::Sqlite(home.join("licensing.db")),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => {
                let parts = path.to_string_lossy();
                let parts =
                    parts.split('/').map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
                format!("sqlite://{}?mode=rwc", parts.collect::<Vec<_>>().join("/"))
            }
            Self::Postgres(url) => url.clone(),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(formatter, "SQLite at {}", path.display()),
            Self::Postgres(url) => {
                // The URL may hold a password.
                let place = url.rsplit_once('@').map_or_else(|| url.as_str(), |(_, place)| place);
                write!(formatter, "PostgreSQL at {}", place.trim_start_matches("postgres://"))
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// An instant as it is kept: nanoseconds since 1970, between the years 1677 and 2262.
#[must_use]
pub fn nanos(instant: Instant) -> i64 {
    i64::try_from(instant.unix_nanos()).unwrap_or(if instant.unix_nanos() < 0 { i64::MIN } else { i64::MAX })
}

/// An instant that was kept.
#[must_use]
pub fn instant(nanos: i64) -> Instant {
    Instant::from_unix_nanos(i128::from(nanos))
}

/// A name or ID to look for, as it is bound. PostgreSQL takes no NUL; in its place stands what no name and no ID holds,
/// so that nothing is found.
#[must_use]
pub fn sought(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// A count as it is kept.
#[must_use]
pub fn kept(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that was kept.
#[must_use]
pub fn count(kept: i64) -> u64 {
    u64::try_from(kept).unwrap_or_default()
}

/// `($1, $2), ($3, $4)`: placeholders for `rows` of `columns`, numbered after `first`.
#[must_use]
pub fn placeholders(first: usize, rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let cells = (0..columns).map(|column| format!("${}", first + row * columns + column));
        format!("({})", cells.collect::<Vec<_>>().join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}
