//! The licensing backend's behaviour, the same on every store: SQLite, PostgreSQL, and two replicas on one
//! PostgreSQL.

mod accounts;
mod actors;
mod audit;
mod authority;
mod bounds;
mod connections;
mod delegation;
mod disk;
mod forgetting;
mod idempotency;
mod known_by_any_name;
mod licenses;
mod list;
mod office;
mod pace;
mod rights;
mod schema;
mod secrets;
mod sequence;
mod stolen_key;
mod strangers;
mod sync;
mod tenants;
mod units;
mod usage;
mod watch;

/// Runs each scenario with SQLite, and with two replicas on one PostgreSQL: a test for each of both.
macro_rules! on_both_databases {
    ($($scenario:ident),+ $(,)?) => {
        $crate::licensing::tests_on!(on_sqlite, Sqlite, $($scenario),+);
        $crate::licensing::tests_on!(on_two_replicas, Replicas, $($scenario),+);
    };
}
pub(crate) use on_both_databases;

/// The same, and with one process on PostgreSQL as well: for what a process keeps, or does in turns, by itself.
macro_rules! on_every_store {
    ($($scenario:ident),+ $(,)?) => {
        $crate::licensing::on_both_databases!($($scenario),+);
        $crate::licensing::tests_on!(on_postgresql, Postgres, $($scenario),+);
    };
}
pub(crate) use on_every_store;

macro_rules! tests_on {
    ($module:ident, $on:ident, $($scenario:ident),+) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario($crate::licensing::office::Office::open($crate::licensing::office::On::$on).await).await;
            })+
        }
    };
}
pub(crate) use tests_on;
