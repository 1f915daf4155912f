//! What failed, as it outlives this process and is shared with other replicas: written down beside the calls, so that no
//! answer tells by its time whether a name is anybody's.
//!
//! Not here: what is allowed (see `throttle`).

use sqlx::Row as _;
use tokio_util::sync::CancellationToken;

use super::throttle::{DAY, Name};
use crate::{
    domain::{Instant, Span},
    licensing::{
        Backend,
        store::{StoreError, instant, nanos},
    },
};

/// A name that failed less often is not written down: made-up names would fill the table.
const LEAST: u32 = 10;

/// Read of other replicas at a time.
const ROWS: i64 = 10_000;

impl Backend {
    /// Keeps what failed here, and learns what failed elsewhere, until it stops.
    pub(in crate::licensing) async fn share_failures(self, stop: CancellationToken) {
        // What was written within one round, and a clock that is a little behind, is read again.
        let overlap =
            Span::from(2 * self.settings.poll_interval) + Span::from_nanos(60 * Span::SECOND.nanos());
        let mut since = self.clock.now() - DAY;
        loop {
            let now = self.clock.now();
            let shared = async {
                self.keep_failures(now).await?;
                self.learn_failures(since, now).await
            };
            match shared.await {
                Ok(()) => since = now - overlap,
                Err(error) => tracing::debug!("failed sign-ins were not shared with other replicas: {error}"),
            }
            let pause = tokio::time::sleep(self.settings.poll_interval);
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
        }
        if let Err(error) = self.keep_failures(self.clock.now()).await {
            tracing::debug!("failed sign-ins were not kept: {error}");
        }
    }

    async fn keep_failures(&self, now: Instant) -> Result<(), StoreError> {
        let failed = self.throttle.take_own(LEAST, now);
        if failed.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin().await?;
        for (key, Name { began, own, .. }) in failed {
            let keep = sqlx::query(
                "INSERT INTO sign_in_failures (name, began, failures, updated_at) VALUES ($1, $2, $3, $4)
                 ON CONFLICT (name) DO UPDATE SET
                     failures = CASE WHEN sign_in_failures.began <= $5 THEN $3 ELSE sign_in_failures.failures + $3 END,
                     began = CASE WHEN sign_in_failures.began <= $5 THEN $2 ELSE sign_in_failures.began END,
                     updated_at = $4",
            );
            let keep = keep.bind(key).bind(nanos(began)).bind(i64::from(own)).bind(nanos(now));
            keep.bind(nanos(now - DAY)).execute(&mut *tx).await?;
        }
        let old = sqlx::query("DELETE FROM sign_in_failures WHERE updated_at < $1");
        old.bind(nanos(now - DAY)).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    async fn learn_failures(&self, since: Instant, now: Instant) -> Result<(), StoreError> {
        let rows = sqlx::query(
            "SELECT name, began, failures FROM sign_in_failures WHERE $1 <= updated_at AND $2 < began
             ORDER BY failures DESC LIMIT $3",
        );
        let rows = rows.bind(nanos(since)).bind(nanos(now - DAY)).bind(ROWS);
        for row in rows.fetch_all(self.store.reads()).await? {
            let failures = u32::try_from(row.try_get::<i64, _>("failures")?).unwrap_or(u32::MAX);
            self.throttle.learn(row.try_get("name")?, instant(row.try_get("began")?), failures, now);
        }
        Ok(())
    }
}
