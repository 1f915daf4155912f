//! What makes the replicas of a backend one authority: how late it is, and which key signs.
//!
//! Both are in one row of the database. Facts that were signed by a clock far ahead keep out, at every sidecar, facts with
//! the same number that are signed later by a clock set right: so the numbers are raised, for a later number is taken
//! whenever it was issued (semantics 7.11). Not here: keys themselves (see `signing`).

use std::{path::Path, sync::atomic::Ordering, time::Duration};

use sqlx::Row as _;
use tokio::time::Instant as Moment;

use super::{
    Backend,
    open::OpenError,
    refusal::Refusal,
    store::{Store, StoreError, nanos},
};
use crate::{
    clock::CLOCKS_AGREE,
    domain::Span,
    signing::{KeyError, Known, SigningKeys},
};

/// How far what is kept may be behind the newest signature.
const NOTED_EVERY: Span = Span::from_nanos(30 * Span::SECOND.nanos());

/// Between two times that this replica raises the numbers: where another one's clock stays ahead, once is not enough, and
/// for ever is too often.
const RAISED_EVERY: Duration = Duration::from_mins(1);

/// What this replica has done about it.
#[derive(Debug, Default)]
pub(super) struct Agreement {
    raised: Option<Moment>,
    /// A key the others sign with and this replica does not have, once it was told of.
    missing: String,
}

/// The row.
struct Kept {
    key_id: String,
    signed_at: i64,
}

impl Backend {
    /// Looks at what the replicas agree on, and does what follows.
    pub(super) async fn agree(&self, agreement: &mut Agreement) -> Result<(), Refusal> {
        let kept = Kept::read(&self.store).await?;
        self.agree_on_key(&kept, agreement).await?;
        let (now, signed) = (self.clock.now(), self.newest_signed.load(Ordering::Relaxed));
        if nanos(now + CLOCKS_AGREE) < kept.signed_at.max(signed) {
            let is_due = agreement.raised.is_none_or(|raised| RAISED_EVERY <= raised.elapsed());
            if is_due && Store::retrying(|| self.raise(&kept, nanos(now))).await? {
                agreement.raised = Some(Moment::now());
            }
        } else if kept.signed_at.saturating_add(nanos_of(NOTED_EVERY)) < signed {
            let update = sqlx::query("UPDATE authority SET signed_at = $1 WHERE signed_at < $1").bind(signed);
            let mut tx = self.store.begin().await?;
            update.execute(&mut *tx).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Raises the numbers of all subscriptions, and has their facts worked out anew: time may have changed them while it
    /// was wrong. Whether it was this replica that did.
    async fn raise(&self, kept: &Kept, now: i64) -> Result<bool, Refusal> {
        let mut tx = self.store.begin().await?;
        let update = sqlx::query("UPDATE authority SET signed_at = $1 WHERE signed_at = $2");
        let update = update.bind(now).bind(kept.signed_at).execute(&mut *tx).await?;
        if update.rows_affected() == 0 {
            // Another replica was first. What this one signed itself, if anything, is looked at again.
            return Ok(false);
        }
        let raise = sqlx::query(
            "UPDATE subscriptions SET sequence = sequence + 1, raised_in = sequence + 1,
                 turns_at = CASE WHEN $1 < turns_at THEN $1 ELSE turns_at END",
        );
        raise.bind(now).execute(&mut *tx).await?;
        tx.commit().await?;
        self.newest_signed.store(now, Ordering::Relaxed);
        tracing::error!(
            "facts were signed by a clock that was ahead of this one by more than a minute; their numbers were raised, so \
             that sidecars take those of now. If it was another replica's clock, set that right"
        );
        Ok(true)
    }

    async fn agree_on_key(&self, kept: &Kept, agreement: &mut Agreement) -> Result<(), StoreError> {
        match self.keys.known(&kept.key_id) {
            Some(Known::Signing | Known::Next) => {}
            Some(Known::Past) => drop(kept.succeed(&self.store, &self.keys).await?),
            None if kept.key_id.is_empty() => drop(kept.succeed(&self.store, &self.keys).await?),
            None if agreement.missing == kept.key_id => {}
            None => {
                tracing::error!(
                    key = kept.key_id,
                    "other replicas sign with a key that is not here: copy their folder `licensing/keys` to this one"
                );
                agreement.missing.clone_from(&kept.key_id);
            }
        }
        Ok(())
    }
}

/// The keys of `folder` to sign with on this database: the first key is made with the first start, and a replica that has
/// nothing to do with the key that signs would be refused by every sidecar. `anew`: whatever signed before is lost.
pub(super) async fn keys(
    store: &Store,
    database: impl Fn(StoreError) -> OpenError,
    folder: &Path,
    anew: bool,
) -> Result<SigningKeys, OpenError> {
    let mut kept = Kept::read(store).await.map_err(&database)?;
    if anew || kept.key_id.is_empty() {
        let keys = SigningKeys::open(folder)?;
        if kept.succeed(store, &keys).await.map_err(&database)? {
            return Ok(keys);
        }
        // Another replica's first start was first.
        kept = Kept::read(store).await.map_err(&database)?;
    }
    match SigningKeys::open_existing(folder) {
        Ok(keys) => match keys.known(&kept.key_id) {
            Some(Known::Signing | Known::Next) => Ok(keys),
            Some(Known::Past) => {
                kept.succeed(store, &keys).await.map_err(database)?;
                Ok(keys)
            }
            None => Err(OpenError::OtherKey(kept.key_id, folder.to_owned())),
        },
        Err(KeyError::NoSigningKey(_)) => Err(OpenError::OtherKey(kept.key_id, folder.to_owned())),
        Err(error) => Err(error.into()),
    }
}

impl Kept {
    async fn read(store: &Store) -> Result<Self, StoreError> {
        let row = sqlx::query("SELECT key_id, signed_at FROM authority").fetch_one(store.reads()).await?;
        Ok(Self { key_id: row.try_get("key_id")?, signed_at: row.try_get("signed_at")? })
    }

    /// Keeps that `keys` sign now; not when another replica has kept something else meanwhile.
    async fn succeed(&self, store: &Store, keys: &SigningKeys) -> Result<bool, StoreError> {
        let mut tx = store.begin().await?;
        let update = sqlx::query("UPDATE authority SET key_id = $1 WHERE key_id = $2");
        let update = update.bind(keys.key_id()).bind(self.key_id.clone()).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(0 < update.rows_affected())
    }
}

fn nanos_of(span: Span) -> i64 {
    i64::try_from(span.nanos()).unwrap_or(i64::MAX)
}
