//! The audit log as it is read, and written beside any change (semantics 6.10).
//!
//! Not here: how entries of changes are written (see `change`).

mod search;

use std::collections::BTreeSet;

use sqlx::{Row as _, any::AnyRow};

use self::search::Search;
use super::{
    Backend,
    actor::{Actor, ActorKind, Entry},
    change::Change,
    refusal::Refusal,
    store::{StoreError, instant},
    wire,
};
use crate::{domain::Instant, proto::licensing as api};

/// Which entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) from: Option<Instant>,
    pub(super) until: Option<Instant>,
    pub(super) actor: String,
    /// Any, when there is none.
    pub(super) actor_kinds: BTreeSet<ActorKind>,
    pub(super) action: String,
    pub(super) target: String,
    pub(super) descending: bool,
    /// The last entry of the page before; empty for the first page.
    pub(super) after: String,
    pub(super) most: i64,
}

/// What a look at the log found.
#[derive(Clone, Debug)]
pub(super) struct LookedAt {
    pub(super) found: Vec<api::AuditEntry>,
    /// The last entry that was looked at, where there are more.
    pub(super) last: Option<String>,
}

impl Backend {
    /// Adds entries to the log beside any change. A log that cannot be written changes no answer, and a client that gives
    /// the call up keeps nothing out of it.
    pub(super) async fn write(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let backend = self.clone();
        let written = tokio::spawn(async move {
            if let Err(error) = backend.append(&entries).await {
                for Entry { actor: Actor { name: actor, .. }, action, target, .. } in &entries {
                    tracing::error!(actor, action, target, "not written to the audit log: {error}");
                }
            }
        });
        // It goes on by itself, and has told the log of what it could not do.
        drop(written.await);
    }

    async fn append(&self, entries: &[Entry]) -> Result<(), Refusal> {
        let mut change = Change::begin(self).await?;
        entries.iter().cloned().for_each(|entry| change.audit(entry));
        self.told(change.keep().await?);
        Ok(())
    }

    /// Entries about a customer, of the next so many that an index finds.
    pub(super) async fn entries(&self, customer_id: &str, wanted: &Wanted) -> Result<LookedAt, Refusal> {
        let mut search = Search::of(customer_id, wanted);
        let mut last = None;
        if search.is_filtered() {
            // Read first: what is deleted between the two is looked for in vain, but nothing is passed over.
            let bounds = search.query(&search.bounds()).fetch_all(self.store.reads()).await?;
            if let [bound, _] = bounds.as_slice() {
                let bound: String = bound.try_get("entry_id")?;
                search.up_to(&bound);
                last = Some(bound);
            }
        }
        let rows = search.query(&search.page(wanted.most)).fetch_all(self.store.reads()).await?;
        Ok(LookedAt { found: rows.iter().map(read).collect::<Result<_, StoreError>>()?, last })
    }
}

fn read(row: &AnyRow) -> Result<api::AuditEntry, StoreError> {
    let done = row.try_get::<i64, _>("done")? != 0;
    let outcome = if done { api::AuditOutcome::Done } else { api::AuditOutcome::Refused };
    Ok(api::AuditEntry {
        entry_id: row.try_get("entry_id")?,
        at: wire::timestamp(instant(row.try_get("at")?)),
        actor: row.try_get("actor")?,
        actor_kind: i32::try_from(row.try_get::<i64, _>("actor_kind")?).unwrap_or_default(),
        actor_credential: row.try_get("actor_credential")?,
        action: row.try_get("action")?,
        target: row.try_get("target")?,
        outcome: outcome.into(),
        detail: row.try_get("detail")?,
    })
}
