//! Whether a PostgreSQL server is behind a pooler that cannot be worked with, and keeps text as it is given.
//!
//! Not here: whether notifications arrive (see the parent).

use sqlx::{AnyConnection, Connection as _, Executor as _, any::AnyConnectOptions};

use super::StoreError;

/// Statements are prepared once on each connection. A pooler that gives a connection another session for each transaction
/// has it prepared elsewhere, which shows at once when another connection takes the session in between; later it would
/// show now and then.
pub(super) async fn look(options: &AnyConnectOptions) -> Result<(), StoreError> {
    const PREPARED: &str = "SELECT CAST(current_setting('server_encoding') AS TEXT)";
    let mut one = AnyConnection::connect_with(options).await?;
    let encoding: String = sqlx::query_scalar(PREPARED).fetch_one(&mut one).await?;
    let mut other = AnyConnection::connect_with(options).await?;
    other.execute("BEGIN").await?;
    sqlx::query(PREPARED).execute(&mut other).await?;
    sqlx::query(PREPARED).execute(&mut one).await?;
    other.execute("ROLLBACK").await?;
    other.close().await.ok();
    one.close().await.ok();
    if encoding == "UTF8" { Ok(()) } else { Err(StoreError::Encoding(encoding)) }
}
