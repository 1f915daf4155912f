//! SQL that looks for entries: fixed texts, names of our own columns, and placeholders.
//!
//! One part of a filter is looked up in an index; what passes is read and compared with the rest, so many entries for a page
//! at the most (semantics 7.38). Not here: what is done with the rows.

use sqlx::{Any, AssertSqlSafe, any::AnyArguments, query::Query};

use super::Wanted;
use crate::licensing::{
    change::LONGEST_DETAIL,
    store::{nanos, sought},
};

/// Entries that one page looks at.
pub(super) const LOOKED_AT: i64 = 10_000;

/// Which entries of a customer's log, in which order.
pub(super) struct Search {
    /// What an index finds: `$1` the customer, `$2` the place to go on from, `$3` what is looked up, if anything.
    found_by: String,
    /// What is compared of each.
    filtered: String,
    descending: bool,
    values: Vec<Value>,
}

#[derive(Clone)]
enum Value {
    Text(String),
    Number(i64),
}

impl Search {
    pub(super) fn of(customer_id: &str, wanted: &Wanted) -> Self {
        let Wanted { from, until, actor, actor_kinds, action, target, descending, after, most: _ } = wanted;
        let descending = *descending;
        // No ID sorts after this one, as none sorts before the empty text.
        let first = if descending { "~" } else { "" };
        let after = if after.is_empty() { first } else { after };
        let sign = if descending { "<" } else { ">" };
        let mut search = Self {
            found_by: format!("customer_id = $1 AND entry_id {sign} $2"),
            filtered: String::new(),
            descending,
            values: vec![Value::Text(customer_id.to_owned()), Value::Text(after.to_owned())],
        };
        // Of which there are fewest, first: that is looked up. An expression is in no index, so that no other one is used.
        let mut is_found = false;
        for (column, wanted) in [("target", target), ("actor", actor), ("action", action)] {
            if !wanted.is_empty() {
                let value = search.bind(Value::Text(sought(wanted)));
                if std::mem::replace(&mut is_found, true) {
                    search.filtered += &format!(" AND ({column} || '') = {value}");
                } else {
                    search.found_by += &format!(" AND {column} = {value}");
                }
            }
        }
        if let Some(from) = from {
            let value = search.bind(Value::Number(nanos(*from)));
            search.filtered += &format!(" AND {value} <= at");
        }
        if let Some(until) = until {
            let value = search.bind(Value::Number(nanos(*until)));
            search.filtered += &format!(" AND at < {value}");
        }
        if !actor_kinds.is_empty() {
            let kinds = actor_kinds.iter().map(|kind| Value::Number(i64::from(i32::from(*kind))));
            let kinds: Vec<_> = kinds.map(|kind| search.bind(kind)).collect();
            search.filtered += &format!(" AND actor_kind IN ({})", kinds.join(", "));
        }
        search
    }

    /// The placeholder of one more value.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// Whether more has to be looked at than is found.
    pub(super) fn is_filtered(&self) -> bool {
        !self.filtered.is_empty()
    }

    /// The last entry to look at, and one more if there are more.
    pub(super) fn bounds(&self) -> String {
        let (found_by, way, before) = (&self.found_by, self.way(), LOOKED_AT - 1);
        format!("SELECT entry_id FROM audit WHERE {found_by} ORDER BY entry_id {way} LIMIT 2 OFFSET {before}")
    }

    /// Looks no further than at this entry.
    pub(super) fn up_to(&mut self, entry_id: &str) {
        let value = self.bind(Value::Text(entry_id.to_owned()));
        let sign = if self.descending { ">=" } else { "<=" };
        self.found_by += &format!(" AND entry_id {sign} {value}");
    }

    /// The entries. They are found in an index alone, which only that of what is looked up can answer: SQLite takes it then.
    pub(super) fn page(&self, most: i64) -> String {
        let (found_by, filtered, way) = (&self.found_by, &self.filtered, self.way());
        // Where it is bounded, this is beyond the bound.
        let limit = if self.is_filtered() { 2 * LOOKED_AT } else { most };
        // Details were not bounded once.
        format!(
            "SELECT entry_id, at, actor, actor_kind, actor_credential, action, target, done,
                 SUBSTR(detail, 1, {LONGEST_DETAIL}) AS detail
             FROM (SELECT entry_id AS id FROM audit WHERE {found_by} ORDER BY entry_id {way} LIMIT {limit}) AS looked_at
             CROSS JOIN audit WHERE entry_id = id{filtered} ORDER BY entry_id {way} LIMIT {most}"
        )
    }

    fn way(&self) -> &'static str {
        if self.descending { "DESC" } else { "ASC" }
    }

    /// A statement with all that it names.
    pub(super) fn query(&self, sql: &str) -> Query<'static, Any, AnyArguments> {
        let named = |number: usize| sql.contains(&format!("${number}"));
        let count = (1..=self.values.len()).rev().find(|number| named(*number)).unwrap_or_default();
        let values = self.values.iter().take(count).cloned();
        values.fold(sqlx::query(AssertSqlSafe(sql.to_owned())), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::Instant,
        licensing::store::{Database, Store},
        proto::licensing::ActorKind,
    };

    /// However long the log is.
    #[tokio::test]
    async fn each_filter_is_looked_up_in_the_order_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Database::Sqlite(folder.path().join("licensing.db")), 2).await.unwrap();
        let (any, some) = (String::new, || "some".to_owned());
        for (target, actor, action, index) in [
            (any(), any(), any(), "audit_of_customer (customer_id=? AND entry_id"),
            (some(), some(), some(), "audit_of_target (customer_id=? AND target=? AND entry_id"),
            (any(), some(), some(), "audit_of_actor (customer_id=? AND actor=? AND entry_id"),
            (any(), any(), some(), "audit_of_action (customer_id=? AND action=? AND entry_id"),
        ] {
            for descending in [false, true] {
                let (from, until) = (Some(Instant::BEGINNING), Some(Instant::BEGINNING));
                let (target, actor, action) = (target.clone(), actor.clone(), action.clone());
                let actor_kinds = [ActorKind::Unit].into();
                let wanted = Wanted {
                    from,
                    until,
                    actor,
                    actor_kinds,
                    action,
                    target,
                    descending,
                    ..Wanted::default()
                };
                let mut search = Search::of("customer", &wanted);
                let bounds = search.bounds();
                search.up_to("z");
                for sql in [bounds, search.page(50)] {
                    let plan = store.plan(&sql).await;
                    let found = plan.contains(&format!("COVERING INDEX {index}"));
                    assert!(found && !plan.contains("SCAN audit"), "{sql}: {plan}");
                }
            }
        }
    }
}
