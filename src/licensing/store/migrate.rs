//! Brings the schema up to date. Each file of `migrations/` is applied once, in order; none is ever edited.
//!
//! The build lists the files, so that none can be left out. A role that may not change the schema can run on one that is up
//! to date. Not here: what the tables are for (the files say it).

use std::borrow::Cow;

use sqlx::{
    AnyConnection, AnyPool, Row as _, SqlStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

use super::{Database, StoreError};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// What is in a database before anything of ours is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schema {
    /// Nothing.
    Empty,
    /// Our tables, some steps behind or none.
    Behind,
    /// Our tables as they are to be.
    Current,
}

/// Looks at the schema and changes nothing.
pub(super) async fn look(pool: &AnyPool, database: &Database) -> Result<Schema, StoreError> {
    applied(&mut *pool.acquire().await?, database).await
}

/// Brings it up to date, unless it is.
pub(super) async fn up(pool: &AnyPool, database: &Database) -> Result<(), StoreError> {
    if look(pool, database).await? == Schema::Current {
        return Ok(());
    }
    match Migrator::with_migrations(steps(database)).run(pool).await {
        Err(MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _)) => {
            Err(if is_denied(&error) { StoreError::MayNotMigrate(error) } else { error.into() })
        }
        done => Ok(done?),
    }
}

const FOREIGN: &str = "its tables are another program's";

/// insufficient_privilege
fn is_denied(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code == "42501")
}

/// What was applied to the database behind `connection`, which may be another program's.
pub(super) async fn applied(
    connection: &mut AnyConnection,
    database: &Database,
) -> Result<Schema, StoreError> {
    let tables = match database {
        Database::Sqlite(_) => {
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
        }
        // Another program may share the database; not the table that says what was applied.
        Database::Postgres(_) => {
            "SELECT CAST('_sqlx_migrations' AS TEXT) AS name WHERE to_regclass('_sqlx_migrations') IS NOT NULL"
        }
    };
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(&mut *connection).await?;
    if tables.is_empty() {
        return Ok(Schema::Empty);
    }
    if !tables.iter().any(|name| name == "_sqlx_migrations") {
        return Err(StoreError::NotOurs(FOREIGN));
    }
    let rows = sqlx::query(
        "SELECT CAST(version AS BIGINT) AS version, description, checksum FROM _sqlx_migrations
         WHERE success ORDER BY version",
    );
    let rows = rows.fetch_all(&mut *connection).await?;
    let steps = steps(database);
    for row in &rows {
        let (version, name): (i64, String) = (row.try_get("version")?, row.try_get("description")?);
        let first = steps.first().is_some_and(|first| first.version == version && first.description != name);
        if first {
            return Err(StoreError::NotOurs(FOREIGN));
        }
        match steps.iter().find(|step| step.version == version) {
            None => return Err(StoreError::Newer(version)),
            Some(step) if *step.checksum != row.try_get::<Vec<u8>, _>("checksum")? => {
                return Err(MigrateError::VersionMismatch(version).into());
            }
            Some(_) => {}
        }
    }
    Ok(if rows.len() == steps.len() { Schema::Current } else { Schema::Behind })
}

/// Every file, in order.
fn steps(database: &Database) -> Vec<Migration> {
    let files = match database {
        Database::Sqlite(_) => SQLITE,
        Database::Postgres(_) => POSTGRES,
    };
    let step = |(number, name, sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(number, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    };
    files.map(step).to_vec()
}
