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
    Any, AnyConnection, AnyPool, Connection as _, Executor as _, Row as _,
    any::{AnyConnectOptions, AnyPoolOptions, install_drivers},
    pool::PoolOptions,
};

use super::{Database, StoreError, file, pooler, probe};
use crate::{
    config::Postgres,
    edge::tls::{Advice, TlsError, in_words_for, machine_authorities},
};

/// Open connections.
pub(super) struct Connected {
    pub(super) writes: AnyPool,
    pub(super) unit_writes: AnyPool,
    pub(super) reads: AnyPool,
    pub(super) syncs: AnyPool,
    /// One connection apart from those, by which it is known whether the database can be used however busy those are.
    pub(super) probe: AnyPool,
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

/// How long a call waits for a connection: SQLite has one writer, and a server that takes as long has gone.
const WAIT_FOR_FILE: Duration = Duration::from_secs(10);
const WAIT_FOR_SERVER: Duration = Duration::from_secs(4);

/// And how long whoever asks whether there is one.
const PROBE: Duration = Duration::from_secs(3);

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
            file::look(path).await?;
            file::make(path).map_err(|error| StoreError::File(path.clone(), error))?;
            let options = file::url(path, "mode=rwc").parse::<AnyConnectOptions>()?;
            // SQLite has one writer at a time; one connection waits in line more cheaply than several try.
            let writes = pool(1, WAIT_FOR_FILE).after_connect(|connection, _| {
                Box::pin(async move {
                    connection.execute("PRAGMA journal_mode = WAL").await?;
                    // A change that was answered survives a power cut.
                    connection.execute("PRAGMA synchronous = FULL").await?;
                    connection.execute("PRAGMA cache_size = -65536").await?;
                    Ok(())
                })
            });
            let writes = whole(writes).connect_with(options.clone()).await?;
            let reads = |most| {
                pool(most, WAIT_FOR_FILE).after_connect(|connection, _| {
                    Box::pin(async move { connection.execute("PRAGMA query_only = ON").await.map(drop) })
                })
            };
            let syncs = reads(connections.div_ceil(2)).connect_lazy_with(options.clone());
            let reads = reads(connections).connect_with(options.clone()).await?;
            let probe = pool(1, PROBE).after_connect(|connection, _| {
                // Whoever writes meanwhile shows that it can be written to.
                Box::pin(async move { connection.execute("PRAGMA busy_timeout = 500").await.map(drop) })
            });
            let probe = probe.connect_lazy_with(options);
            Ok(Connected { unit_writes: writes.clone(), writes, reads, syncs, probe, server: None })
        }
        Database::Postgres(postgres) => {
            let server = Server::of(postgres)?;
            let options = server.url.parse::<AnyConnectOptions>()?;
            pooler::look(&options).await?;
            let any = |most| {
                let pool = pool(most, WAIT_FOR_SERVER)
                    .after_release(|connection, _| Box::pin(async move { is_outside(connection).await }));
                pool.test_before_acquire(false).before_acquire(|connection, _| {
                    // In place of the question whether it still answers: a server that became a standby does.
                    Box::pin(async move { Ok(!is_read_only(connection).await?) })
                })
            };
            // A change may hold its connection for as long as another holds a row: nothing else waits behind it.
            let writes = any(connections).connect_with(options.clone()).await?;
            let half = || any(connections.div_ceil(2)).connect_lazy_with(options.clone());
            let (unit_writes, reads, syncs) = (half(), half(), half());
            let probe = pool(1, PROBE).connect_lazy_with(options);
            Ok(Connected { writes, unit_writes, reads, syncs, probe, server: Some(Arc::new(server)) })
        }
    }
}

fn pool(most: u32, wait: Duration) -> PoolOptions<Any> {
    AnyPoolOptions::new().max_connections(most).acquire_timeout(wait)
}

/// Gives up a connection that is still in a transaction when it comes back: what was to end it failed, as it does where
/// SQLite rolled back by itself on a full disk, and nothing could ever be begun on it again.
fn whole(pool: PoolOptions<Any>) -> PoolOptions<Any> {
    pool.after_release(|connection, _| {
        Box::pin(async move {
            // Behind whatever is still to be done on it.
            connection.ping().await?;
            let is_whole = !connection.is_in_transaction();
            if !is_whole {
                probe::suspect();
            }
            Ok(is_whole)
        })
    })
}

/// Whether a connection to a PostgreSQL server is in no transaction. A call that is given up while the server is told BEGIN
/// leaves one that the driver knows nothing of, and the next change would join it.
async fn is_outside(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    // As a text without values it is one message, so that outside of a transaction both are the same instant.
    let asked = "SELECT CAST(now() = statement_timestamp() AS TEXT) AS outside";
    let outside: String = connection.fetch_one(asked).await?.try_get("outside")?;
    let is_outside = outside == "true" && !connection.is_in_transaction();
    if !is_outside {
        probe::suspect();
    }
    Ok(is_outside)
}

/// Whether a PostgreSQL server takes no writes: a standby, or one that was told to.
pub(super) async fn is_read_only(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    let said: String = sqlx::query_scalar("SELECT CAST(current_setting('transaction_read_only') AS TEXT)")
        .fetch_one(connection)
        .await?;
    Ok(said == "on")
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

pub(super) fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        probe::suspect_after(&error);
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
        // invalid_sql_statement_name, duplicate_prepared_statement: another session than the one that prepared it.
        let is_pooled = |code: &str| ["26000", "42P05"].contains(&code);
        match why {
            Some(why) => Self::Insecure(why),
            None if code(&error).is_some_and(|code| is_pooled(&code)) => Self::Pooled,
            None => Self::Database(error),
        }
    }
}

impl From<TlsError> for StoreError {
    fn from(error: TlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}
