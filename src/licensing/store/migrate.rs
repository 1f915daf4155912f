//! Brings the schema up to date. Each file of `migrations/` is applied once, in order; none is ever edited.
//!
//! Not here: what the tables are for (the files say it).

use std::borrow::Cow;

use sqlx::{
    AnyPool, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{Database, StoreError};

pub(super) async fn up(pool: &AnyPool, database: &Database) -> Result<(), StoreError> {
    let [licensing, authority] = match database {
        Database::Sqlite(_) => [
            include_str!("../../../migrations/sqlite/0001_licensing.sql"),
            include_str!("../../../migrations/sqlite/0002_authority.sql"),
        ],
        Database::Postgres(_) => [
            include_str!("../../../migrations/postgres/0001_licensing.sql"),
            include_str!("../../../migrations/postgres/0002_authority.sql"),
        ],
    };
    let step = |version, name, sql| {
        let sql = SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    };
    let steps = vec![step(1, "licensing", licensing), step(2, "authority", authority)];
    Ok(Migrator::with_migrations(steps).run(pool).await?)
}
