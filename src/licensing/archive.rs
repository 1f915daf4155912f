//! Archives of the audit log: entries that were exported leave it, which is an entry itself (semantics 7.40).
//!
//! The database lets nothing else delete an entry. Not here: how they are exported (see `audit`).

use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::{
    Backend,
    caller::Caller,
    change::Change,
    refusal::Refusal,
    store::{nanos, sought},
    units::list,
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

/// Entries of a log that are not taken because they tell of archives: more there are not.
const STAYING: i64 = 100_000;

/// Entries deleted in one statement.
const CHUNK: usize = 500;

impl Backend {
    /// The entries in the range of an export, one more than were exported at the most: looked up before a change begins, so
    /// that a long log keeps no change waiting. Whether they may be archived says `archive`.
    pub(super) async fn to_archive(
        &self,
        caller: &Caller,
        exported: &Exported,
    ) -> Result<Vec<String>, Refusal> {
        let Exported { before, last_entry_id, entries } = exported;
        if may_archive(caller).is_err() || self.clock.now() < *before + YOUNGEST {
            return Ok(Vec::new());
        }
        let _turn = self.turn_of(caller).await?;
        let found = sqlx::query(
            "SELECT entry_id FROM (
                 SELECT entry_id, at, action, done FROM audit WHERE customer_id = $1 AND entry_id <= $2
                 ORDER BY entry_id LIMIT $3) AS looked_at
             WHERE at < $4 AND NOT (action = 'audit.archive' AND done = 1) ORDER BY entry_id LIMIT $5",
        );
        let found = found.bind(caller.customer_id.clone()).bind(sought(last_entry_id));
        let found = found.bind(entries + STAYING).bind(nanos(*before)).bind(entries + 1);
        let found = found.fetch_all(self.store.reads()).await?;
        Ok(found.iter().map(|row| row.try_get("entry_id")).collect::<Result<_, _>>()?)
    }

    /// Deletes exported entries within `change`, if they are those that were `found`: entries are never edited, so that as
    /// many in the same range are the same.
    pub(super) async fn archive(
        &self,
        change: &mut Change,
        caller: &Caller,
        exported: &Exported,
        found: &[String],
    ) -> Result<(), Refusal> {
        may_archive(caller)?;
        let Exported { before, last_entry_id, entries } = exported;
        if change.at < *before + YOUNGEST {
            let what = "entries stay in the log for a day: name an instant at least 24 hours ago";
            return Err(Refusal::unreadable("before", what));
        }
        // How many there are is not told: whoever guesses would have it confirmed that nothing was exported.
        let differ = || {
            Refusal::Precondition(format!(
                "{entries} entries were exported, and there are more or fewer; nothing was deleted, export them again"
            ))
        };
        if i64::try_from(found.len()) != Ok(*entries) {
            return Err(differ());
        }
        let customer_id = &caller.customer_id;
        // One archive at a time: the other one finds what this one leaves.
        let hold = change.holding("SELECT customer_id FROM customers WHERE customer_id = $1");
        sqlx::query(hold).bind(customer_id).fetch_optional(&mut *change.tx).await?;
        change.locked();
        let archive_id = Uuid::now_v7().to_string();
        let open = sqlx::query(
            "INSERT INTO audit_archives (archive_id, customer_id, older_than, last_entry_id, entries, is_open)
             VALUES ($1, $2, $3, $4, $5, 1)",
        );
        let open = open.bind(&archive_id).bind(customer_id).bind(nanos(*before)).bind(last_entry_id);
        open.bind(*entries).execute(&mut *change.tx).await?;
        let mut deleted = 0;
        for ids in found.chunks(CHUNK) {
            let wanted = list(2, ids.len());
            let sql = format!("DELETE FROM audit WHERE customer_id = $1 AND entry_id IN ({wanted})");
            let delete = sqlx::query(AssertSqlSafe(sql)).bind(customer_id.clone());
            let delete = ids.iter().fold(delete, |delete, id| delete.bind(id.clone()));
            deleted += delete.execute(&mut *change.tx).await?.rows_affected();
        }
        // Another archive was faster.
        if i64::try_from(deleted) != Ok(*entries) {
            return Err(differ());
        }
        let close = sqlx::query("UPDATE audit_archives SET is_open = 0 WHERE archive_id = $1");
        close.bind(&archive_id).execute(&mut *change.tx).await?;
        let detail = format!(
            "{entries} entries from before {} were exported and deleted, up to {last_entry_id}",
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
