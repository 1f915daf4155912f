//! Brings the schema up to date. Each file of `migrations/` is applied once, in order; none is ever edited.
//!
//! The build lists the files, so that none can be left out. Not here: what the tables are for (the files say it).

use std::borrow::Cow;

use sqlx::{
    AnyPool, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{Database, StoreError};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

pub(super) async fn up(pool: &AnyPool, database: &Database) -> Result<(), StoreError> {
    let files = match database {
        Database::Sqlite(_) => SQLITE,
        Database::Postgres(_) => POSTGRES,
    };
    let step = |(number, name, sql)| {
        let sql = SqlStr::from_static(sql);
        Migration::new(number, Cow::Borrowed(name), MigrationType::Simple, sql, false)
    };
    Ok(Migrator::with_migrations(files.map(step).to_vec()).run(pool).await?)
}
