//! Archives of the audit log: entries that were exported leave it, which is an entry itself (semantics 7.40).
//!
//! The database lets nothing else delete an entry. Not here: how they are exported (see `audit`).

use sqlx::Row as _;
use uuid::Uuid;

use super::{
    Backend,
    caller::Caller,
    change::Change,
    refusal::Refusal,
    store::{nanos, sought},
};
use crate::{
    domain::{Instant, Span},
    rfc3339,
};

/// Entries that somebody has exported and has on disk.
#[derive(Clone, Debug)]
pub(super) struct Exported {
    /// They are older than this.
    pub(super) before: Instant,
    /// The last of them in the order of the log.
    pub(super) last_entry_id: String,
    /// How many they are.
    pub(super) entries: i64,
}

/// Entries stay in the log for so long at least: whoever got into an owner's session does not take away at once what tells
/// of it.
const YOUNGEST: Span = Span::days(1);

/// What entries about archives are about. Those that were made stay.
const ACTION: &str = "audit.archive";

/// Which entries an archive takes: of customer `$1`, older than `$2`, up to `$3`.
const TAKEN: &str = "customer_id = $1 AND at < $2 AND entry_id <= $3
    AND NOT (action = 'audit.archive' AND done = 1)";

impl Backend {
    /// Deletes exported entries within `change`, if they are those there are: entries are never edited, so that as many in
    /// the same range are the same.
    pub(super) async fn archive(
        &self,
        change: &mut Change,
        caller: &Caller,
        exported: &Exported,
    ) -> Result<(), Refusal> {
        may_archive(caller)?;
        let Exported { before, last_entry_id, entries } = exported;
        if change.at < *before + YOUNGEST {
            let what = "entries stay in the log for a day: name an instant at least 24 hours ago";
            return Err(Refusal::unreadable("before", what));
        }
        let customer_id = &caller.customer_id;
        // One archive at a time: the other one finds what this one leaves.
        let hold = change.holding("SELECT customer_id FROM customers WHERE customer_id = $1");
        sqlx::query(hold).bind(customer_id).fetch_optional(&mut *change.tx).await?;
        change.locked();
        let taken = |sql: String| {
            let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(customer_id.clone());
            query.bind(nanos(*before)).bind(sought(last_entry_id))
        };
        let count = taken(format!("SELECT COUNT(*) AS entries FROM audit WHERE {TAKEN}"));
        let count: i64 = count.fetch_one(&mut *change.tx).await?.try_get("entries")?;
        if count != *entries {
            let what = format!(
                "{entries} entries were exported and there are {count}; nothing was deleted, export them again"
            );
            return Err(Refusal::Precondition(what));
        }
        let archive_id = Uuid::now_v7().to_string();
        let open = sqlx::query(
            "INSERT INTO audit_archives (archive_id, customer_id, older_than, last_entry_id, entries, is_open)
             VALUES ($1, $2, $3, $4, $5, 1)",
        );
        let open = open.bind(&archive_id).bind(customer_id).bind(nanos(*before)).bind(last_entry_id);
        open.bind(count).execute(&mut *change.tx).await?;
        taken(format!("DELETE FROM audit WHERE {TAKEN}")).execute(&mut *change.tx).await?;
        let close = sqlx::query("UPDATE audit_archives SET is_open = 0 WHERE archive_id = $1");
        close.bind(&archive_id).execute(&mut *change.tx).await?;
        let detail = format!(
            "{count} entries from before {} were exported and deleted, up to {last_entry_id}",
            rfc3339::format(*before)
        );
        change.audit(caller.did(customer_id, ACTION, &archive_id, detail));
        Ok(())
    }
}

/// Archiving is for owners, in person: a credential that leaked must not be able to clear the traces of its use.
pub(super) fn may_archive(caller: &Caller) -> Result<(), Refusal> {
    caller.must_be_owner()?;
    caller.must_be_session().map(drop)
}
