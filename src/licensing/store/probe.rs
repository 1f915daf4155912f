//! Whether the database can be used now, and why not.
//!
//! Not here: what follows from it.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use sqlx::{AnyConnection, Executor as _, error::ErrorKind};

use super::{Database, Store, StoreError, connect, is_contended};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often something failed in this process that may be a sign of a database that cannot be used.
static SIGNS: AtomicU64 = AtomicU64::new(0);

/// Why it cannot be used.
#[derive(Debug)]
pub struct Outage {
    /// Whether it can be asked at least.
    pub answers: bool,
    why: String,
}

impl Store {
    /// Asks the database whether it can be used; with `writes`, by writing what is there already.
    pub async fn check(&self, writes: bool) -> Result<(), Outage> {
        let outage = |answers, why: String| Outage { answers, why };
        let asked = async {
            let mut connection = self.probe.acquire().await.map_err(StoreError::from)?;
            Ok::<_, StoreError>((self.is_read_only(&mut connection).await?, connection))
        };
        let (is_read_only, mut connection) = match tokio::time::timeout(PATIENCE, asked).await {
            Err(_) => return Err(outage(false, format!("it does not answer within {PATIENCE:?}"))),
            Ok(asked) => asked.map_err(|error| outage(false, error.to_string()))?,
        };
        if is_read_only {
            // The next one may reach the server that took its place.
            connection.close().await.ok();
            return Err(outage(true, "it takes no writes: the server is a standby, or read-only".to_owned()));
        }
        if !writes {
            return Ok(());
        }
        match self.write(&mut connection).await {
            Err(error) if !is_busy(&error) => {
                connection.close().await.ok();
                Err(outage(true, StoreError::from(error).to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Whether there was a sign of trouble since this was asked last.
    #[must_use]
    pub fn take_suspicion(&self) -> bool {
        let signs = signs();
        self.signs.swap(signs, Ordering::Relaxed) != signs
    }

    async fn is_read_only(&self, connection: &mut AnyConnection) -> Result<bool, StoreError> {
        match self.database {
            Database::Sqlite(_) => Ok(connection.execute("SELECT 1").await.map(|_| false)?),
            Database::Postgres(_) => Ok(connect::is_read_only(connection).await?),
        }
    }

    async fn write(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        const SAME: &str = "UPDATE authority SET key_id = key_id";
        match self.database {
            // SQLite writes no row that stays as it is; this it writes always, and nobody reads it.
            Database::Sqlite(_) => connection.execute("PRAGMA user_version = 0").await.map(drop),
            Database::Postgres(_) => {
                use sqlx::Connection as _;
                let mut tx = connection.begin().await?;
                tx.execute("SET LOCAL lock_timeout = '1s'").await?;
                tx.execute(SAME).await?;
                tx.commit().await
            }
        }
    }
}

/// How many signs of trouble there were.
pub(super) fn signs() -> u64 {
    SIGNS.load(Ordering::Relaxed)
}

/// Takes it as a sign of trouble that something failed.
pub(super) fn suspect() {
    SIGNS.fetch_add(1, Ordering::Relaxed);
}

/// The same, unless it only met other work, or what is to hold of the rows.
pub(super) fn suspect_after(error: &sqlx::Error) {
    let is_rule = error.as_database_error().is_some_and(|error| !matches!(error.kind(), ErrorKind::Other));
    let is_about_rows = is_rule || matches!(error, sqlx::Error::RowNotFound);
    if !is_about_rows && !is_contended(error) {
        suspect();
    }
}

/// Whether somebody else writes meanwhile: SQLITE_BUSY, lock_not_available.
fn is_busy(error: &sqlx::Error) -> bool {
    connect::code(error).is_some_and(|code| ["5", "55P03"].contains(&code.as_str()))
}

impl fmt::Display for Outage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.why)
    }
}
