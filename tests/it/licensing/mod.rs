//! The licensing backend's behaviour, the same on every store: SQLite, PostgreSQL, and two replicas on one PostgreSQL.

mod accounts;
mod actors;
mod audit;
mod authority;
mod bounds;
mod delegation;
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
mod sync;
mod tenants;
mod units;
mod usage;
mod watch;

/// Runs a scenario on each store, each in a test of its own.
macro_rules! on_every_store {
    ($($scenario:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario($crate::licensing::office::Office::open($crate::licensing::office::On::Sqlite).await).await;
            })+
        }
        mod on_postgresql {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario($crate::licensing::office::Office::open($crate::licensing::office::On::Postgres).await).await;
            })+
        }
        mod on_two_replicas {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $scenario() {
                super::$scenario($crate::licensing::office::Office::open($crate::licensing::office::On::Replicas).await).await;
            })+
        }
    };
}
pub(crate) use on_every_store;
