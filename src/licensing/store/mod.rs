//! The database: SQLite beside the process, or PostgreSQL for a fleet. One schema, one set of statements.
//!
//! Values reach it as bound parameters alone. Not here: what is kept (see the rooms that keep it) and when a change is
//! whole (see `change`).

mod connect;
mod file;
mod instants;
mod migrate;
mod pooler;
mod probe;

use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use sqlx::{Any, AnyPool, Executor, Transaction, postgres::PgListener};
use uuid::Uuid;

use self::{
    connect::{Connected, Server},
    migrate::Schema,
};
pub use self::{
    instants::{instant, nanos},
    probe::Outage,
};
pub use crate::config::Database;
use crate::edge::tls::TlsError;

/// A transaction on either database.
pub type Tx = Transaction<'static, Any>;

/// Where licences, units and accounts are kept.
#[derive(Clone)]
pub struct Store {
    writes: AnyPool,
    /// For what units change: another one than `writes` where there is more than one writer.
    unit_writes: AnyPool,
    reads: AnyPool,
    /// For what syncs and watches read.
    syncs: AnyPool,
    database: Database,
    probe: AnyPool,
    /// How many signs of trouble were looked into.
    signs: Arc<AtomicU64>,
    server: Option<Arc<Server>>,
    notifies: bool,
}

/// Why the database did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It refused, or could not be reached.
    #[error("the database: {0}")]
    Database(sqlx::Error),
    /// It is not who it should be, or does not believe who we are.
    #[error("TLS to the database: {0}")]
    Insecure(String),
    /// It is another program's.
    #[error("{0}, and nothing in it was changed; name a database of its own")]
    NotOurs(&'static str),
    /// A later version wrote it.
    #[error(
        "a later version of this program has brought its schema to step {0}, which this one does not know; start that version"
    )]
    Newer(i64),
    /// The schema is behind, and the role may not change it.
    #[error(
        "its schema is not up to date, and this role may not change it ({0}); run `esa-sidecar licensing migrate` once as \
         the role that owns the database"
    )]
    MayNotMigrate(sqlx::Error),
    /// Between us and it is something that hands one session to many.
    #[error(
        "a connection pooler hands the statements of one connection to several sessions (PgBouncer's `pool_mode = \
         transaction`): set `pool_mode = session` for this database, or `max_prepared_statements = 200` (PgBouncer 1.21 \
         or later), or connect to PostgreSQL itself"
    )]
    Pooled,
    /// Names could not be kept as they are.
    #[error(
        "it is encoded in {0}, and names are kept in UTF8; make one with `ENCODING 'UTF8' TEMPLATE template0`"
    )]
    Encoding(String),
    /// The files that TLS to it takes cannot be used.
    #[error(transparent)]
    Tls(Box<TlsError>),
    /// Its schema could not be brought up to date.
    #[error("the database's schema: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The file, or its folder, cannot be made, or not for its owner alone.
    #[error("`{0}`: {1}")]
    File(PathBuf, std::io::Error),
    /// What is kept does not read.
    #[error("the database holds what was never written there: {0}")]
    Unreadable(String),
}

/// The channel on which replicas tell each other what changed.
const CHANNEL: &str = "esa_licensing";

/// How long a notification may take at the start.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// How often a change that met another one is tried again.
const TRIES: u32 = 20;

impl Store {
    /// Opens the database and brings its schema up to date.
    pub async fn open(database: Database, connections: u32) -> Result<Self, StoreError> {
        let Connected { writes, unit_writes, reads, syncs, probe, server } =
            connect::connect(&database, connections).await?;
        migrate::up(&writes, &database).await?;
        let notifies = match &server {
            Some(server) => can_notify(&reads, &server.url).await?,
            None => false,
        };
        let signs = Arc::new(AtomicU64::new(probe::signs()));
        Ok(Self { writes, unit_writes, reads, syncs, database, probe, signs, server, notifies })
    }

    /// Brings the schema of a database up to date without opening it; whether there was anything to do.
    pub async fn migrate(database: &Database) -> Result<bool, StoreError> {
        let Connected { writes, reads, .. } = connect::connect(database, 1).await?;
        let before = migrate::look(&writes, database).await?;
        let done = migrate::up(&writes, database).await;
        writes.close().await;
        reads.close().await;
        done.map(|()| before != Schema::Current)
    }

    /// For statements that change nothing.
    #[must_use]
    pub fn reads(&self) -> &AnyPool {
        &self.reads
    }

    /// The same for syncs and watches, which nothing else keeps waiting.
    #[must_use]
    pub fn syncs(&self) -> &AnyPool {
        &self.syncs
    }

    /// Begins a change.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        self.begin_on(&self.writes).await
    }

    /// The same for what units, and license keys, change.
    pub async fn begin_of_unit(&self) -> Result<Tx, StoreError> {
        self.begin_on(&self.unit_writes).await
    }

    async fn begin_on(&self, pool: &AnyPool) -> Result<Tx, StoreError> {
        Ok(match self.database {
            // A change that begins by reading and then writes would otherwise fail when another wrote in between.
            Database::Sqlite(_) => pool.begin_with("BEGIN IMMEDIATE").await?,
            Database::Postgres(_) => pool.begin().await?,
        })
    }

    /// What makes a `SELECT` hold its rows until the change is whole. SQLite has one writer, which holds everything. Keys
    /// never change: a row that refers to one that is held is not kept waiting for it.
    #[must_use]
    pub const fn for_update(&self) -> &'static str {
        match self.database {
            Database::Sqlite(_) => "",
            Database::Postgres(_) => " FOR NO KEY UPDATE",
        }
    }

    /// Whether replicas tell each other what they changed: SQLite has one process, and not every database that speaks
    /// PostgreSQL's protocol has NOTIFY.
    #[must_use]
    pub const fn notifies(&self) -> bool {
        self.notifies
    }

    /// Hears what other replicas change, where they tell it.
    pub async fn listen(&self) -> Result<Option<PgListener>, StoreError> {
        match &self.server {
            Some(server) if self.notifies => Ok(Some(listen(&server.url).await?)),
            Some(_) | None => Ok(None),
        }
    }

    /// Tells other replicas what `tx` changes, when, and only if, it is kept.
    pub async fn notify(tx: &mut Tx, subscription_id: &str) -> Result<(), StoreError> {
        notify(&mut **tx, subscription_id).await
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

    /// How SQLite would find the rows of a statement.
    #[cfg(test)]
    pub(super) async fn plan(&self, sql: &str) -> String {
        use sqlx::Row as _;
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
        let steps = query.fetch_all(&self.reads).await.unwrap();
        steps.iter().map(|step| step.get::<String, _>("detail") + "\n").collect()
    }

    /// Closes all connections.
    pub async fn close(&self) {
        for pool in [&self.writes, &self.unit_writes, &self.reads, &self.syncs, &self.probe] {
            pool.close().await;
        }
    }
}

async fn notify<'e>(to: impl Executor<'e, Database = Any>, payload: &str) -> Result<(), StoreError> {
    let notify = sqlx::query("SELECT CAST(pg_notify($1, $2) AS TEXT)");
    notify.bind(CHANNEL).bind(payload.to_owned()).execute(to).await?;
    Ok(())
}

async fn listen(url: &str) -> Result<PgListener, StoreError> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Whether the database notifies, tried once: without it every change would fail that tells of itself, and a pooler may
/// take the word of whoever listens and then give the session to somebody else.
async fn can_notify(pool: &AnyPool, url: &str) -> Result<bool, StoreError> {
    let tried = async {
        let mut listener = listen(url).await?;
        notify(pool, "").await?;
        let heard = async { listener.recv().await.map(drop) };
        match tokio::time::timeout(HEARD_WITHIN, heard).await {
            Ok(heard) => Ok(heard.map(|()| true)?),
            Err(_) => {
                tracing::info!(
                    "other replicas' changes are found by polling, for a notification was not heard"
                );
                Ok(false)
            }
        }
    };
    match tried.await {
        Err(StoreError::Database(error)) if is_refusal(&error) => {
            tracing::info!(
                "other replicas' changes are found by polling, for the database does not notify: {error}"
            );
            Ok(false)
        }
        tried => tried,
    }
}

/// Whether the database will not do it, however often it is asked: it was reached, and is neither starting, stopping nor
/// short of anything.
fn is_refusal(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| !["08", "53", "57"].iter().any(|class| code.starts_with(class)))
}

/// Whether doing the same again may go through.
pub trait Contended {
    /// It only met other work.
    fn is_contended(&self) -> bool;
}

impl Contended for StoreError {
    fn is_contended(&self) -> bool {
        matches!(self, Self::Database(error) if is_contended(error))
    }
}

fn is_contended(error: &sqlx::Error) -> bool {
    // serialization_failure, deadlock_detected, and unique_violation: somebody took the name in between, which the next
    // try finds; SQLITE_BUSY and its extensions.
    let codes = ["40001", "40P01", "23505", "5", "261", "517"];
    connect::code(error).is_some_and(|code| codes.contains(&code.as_str()))
}

/// A name or ID to look for, as it is bound. PostgreSQL takes no NUL; in its place stands what no name and no ID holds,
/// so that nothing is found. A UUID is found however it is written.
#[must_use]
pub fn sought(text: &str) -> String {
    if Uuid::try_parse(text).is_ok() { text.to_ascii_lowercase() } else { text.replace('\0', "\u{fffd}") }
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
