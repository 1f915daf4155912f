//! The audit log as it is read, and written beside any change (semantics 6.10).
//!
//! Not here: how entries of changes are written (see `change`).

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};

use super::{
    Backend,
    actor::{Actor, ActorKind, Entry},
    change::{Change, LONGEST_DETAIL},
    refusal::Refusal,
    store::{StoreError, instant, nanos, sought},
    units::list,
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

    /// Entries about a customer.
    pub(super) async fn entries(
        &self,
        customer_id: &str,
        wanted: &Wanted,
    ) -> Result<Vec<api::AuditEntry>, Refusal> {
        let Wanted { from, until, actor, actor_kinds, action, target, descending, after, most } = wanted;
        let (sign, way) = if *descending { ("<", "DESC") } else { (">", "ASC") };
        // No ID sorts after this one, as none sorts before the empty text.
        let first = if *descending { "~" } else { "" };
        let after = if after.is_empty() { first } else { after };
        let kinds = list(9, actor_kinds.len());
        let of_kind =
            if actor_kinds.is_empty() { String::new() } else { format!("AND actor_kind IN ({kinds})") };
        // Details were not bounded once.
        let sql = format!(
            "SELECT entry_id, at, actor, actor_kind, actor_credential, action, target, done, SUBSTR(detail, 1, {LONGEST_DETAIL}) AS detail FROM audit
             WHERE customer_id = $1 AND entry_id {sign} $2 AND $3 <= at AND at < $4
               AND ($5 = '' OR actor = $5) AND ($6 = '' OR action = $6) AND ($7 = '' OR target = $7) {of_kind}
             ORDER BY entry_id {way} LIMIT $8"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(customer_id.to_owned()).bind(after.to_owned());
        let query = query.bind(from.map_or(i64::MIN, nanos)).bind(until.map_or(i64::MAX, nanos));
        let query = query.bind(sought(actor)).bind(sought(action)).bind(sought(target)).bind(*most);
        let query = actor_kinds.iter().fold(query, |query, kind| query.bind(i64::from(i32::from(*kind))));
        let rows = query.fetch_all(self.store.reads()).await?;
        Ok(rows.iter().map(read).collect::<Result<_, StoreError>>()?)
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
