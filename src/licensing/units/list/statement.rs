//! SQL for the list of units: fixed texts, names of our own columns, and placeholders.
//!
//! Not here: what is done with the rows.

use std::collections::BTreeSet;

use super::{Filter, Listing, Place, Sort};
use crate::{
    domain::{
        Instant,
        unit::{Connection, UnitState},
    },
    licensing::{
        caller::Caller,
        store::nanos,
        units::{COLUMNS, deactivate::list},
        wire,
    },
};

/// Which parts of a filter few units pass: these are looked up and then sorted, where otherwise a sorted index would be
/// gone through to its end for the few of a million that pass.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Few {
    pub(super) states: bool,
    pub(super) own: bool,
    pub(super) connections: bool,
}

impl Few {
    pub(super) fn any(self) -> bool {
        self.states || self.own || self.connections
    }

    /// What is compared with a licence's ID: an account's few units are found by the account alone.
    fn license(self) -> &'static str {
        if self.own { "(license_id || '')" } else { "license_id" }
    }
}

/// A statement and what is bound to it.
#[derive(Default)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// What is bound.
pub(super) enum Value {
    Text(String),
    Number(i64),
}

impl Statement {
    /// The placeholder of one more value.
    fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    /// The placeholders of some IDs.
    fn bind_all(&mut self, ids: &[&str]) -> String {
        let first = self.values.len() + 1;
        self.values.extend(ids.iter().map(|id| Value::Text((*id).to_owned())));
        list(first, ids.len())
    }
}

/// One `SELECT` for each licence, each of which an index answers in order and by itself, merged by an outer one; only
/// the units of the page are looked up. The few that pass a filter are found for all licences at once.
pub(super) fn page(
    caller: &Caller,
    listing: &Listing,
    license_ids: &[&str],
    after: Option<&Place>,
    t: Instant,
    few: Few,
) -> Statement {
    let mut statement = Statement::default();
    let narrowed = narrowed(&mut statement, caller, listing, after, t, few);
    let limit = statement.bind(listing.one_more());
    let (column, way, inner) = (listing.sort.ordered(few), listing.way(), listing.inner(few));
    let units = format!("SELECT {column} AS value, unit_id AS id FROM units");
    let parts = if few.any() {
        let (license, ids) = (few.license(), statement.bind_all(license_ids));
        format!("{units} WHERE {license} IN ({ids}){narrowed}")
    } else {
        let parts = license_ids.iter().map(|id| {
            let id = statement.bind(Value::Text((*id).to_owned()));
            format!(
                "SELECT * FROM ({units} WHERE license_id = {id}{narrowed} ORDER BY {inner} LIMIT {limit}) AS part"
            )
        });
        parts.collect::<Vec<_>>().join(" UNION ALL ")
    };
    let order = format!("ORDER BY value {way}, id {way}");
    // CROSS keeps SQLite from going through all units to find those of the page.
    statement.sql = format!(
        "SELECT {COLUMNS} FROM (SELECT * FROM ({parts}) AS merged {order} LIMIT {limit}) AS page
         CROSS JOIN units WHERE unit_id = id {order}"
    );
    statement
}

/// The licences whose first units come first, as many as a page has room for: the page holds units of no others.
pub(super) fn leading(caller: &Caller, listing: &Listing, license_ids: &[&str], t: Instant) -> Statement {
    let mut statement = Statement::default();
    let narrowed = narrowed(&mut statement, caller, listing, listing.after.as_ref(), t, Few::default());
    let limit = statement.bind(listing.one_more());
    let ids = statement.bind_all(license_ids);
    let (column, way, inner) = (listing.sort.column(), listing.way(), listing.inner(Few::default()));
    statement.sql = format!(
        "SELECT units.license_id AS license_id FROM (
             SELECT (SELECT unit_id FROM units
                     WHERE license_id = one.license_id{narrowed} ORDER BY {inner} LIMIT 1) AS id
             FROM licenses AS one WHERE license_id IN ({ids})) AS firsts
         CROSS JOIN units WHERE unit_id = id ORDER BY {column} {way}, unit_id {way} LIMIT {limit}"
    );
    statement
}

/// The licences that have any of the few that pass the filter.
pub(super) fn holding(
    caller: &Caller,
    listing: &Listing,
    license_ids: &[&str],
    t: Instant,
    few: Few,
) -> Statement {
    let mut statement = Statement::default();
    let narrowed = narrowed(&mut statement, caller, listing, None, t, few);
    let (license, ids) = (few.license(), statement.bind_all(license_ids));
    statement.sql =
        format!("SELECT DISTINCT license_id AS license_id FROM units WHERE {license} IN ({ids}){narrowed}");
    statement
}

/// How many units of these licences pass a condition, up to `most`; looked up by what `few` has.
pub(super) fn count(
    license_ids: &[&str],
    most: i64,
    few: Few,
    condition: impl Fn(&mut Statement) -> String,
) -> Statement {
    let mut statement = Statement::default();
    let (limit, condition) = (statement.bind(Value::Number(most)), condition(&mut statement));
    let (license, ids) = (few.license(), statement.bind_all(license_ids));
    statement.sql = format!(
        "SELECT COUNT(*) AS units FROM (
             SELECT unit_id FROM units WHERE {license} IN ({ids}) AND {condition} LIMIT {limit}) AS few"
    );
    statement
}

/// What narrows a licence's units down.
fn narrowed(
    statement: &mut Statement,
    caller: &Caller,
    listing: &Listing,
    after: Option<&Place>,
    t: Instant,
    few: Few,
) -> String {
    let mut narrowed = String::new();
    let Filter { connections, states, own, .. } = &listing.filter;
    if let Some(place) = after {
        let sign = if listing.descending { "<" } else { ">" };
        let unit_id = statement.bind(Value::Text(place.unit_id.clone()));
        let value = match listing.sort {
            Sort::Text(_) => Value::Text(place.value.clone()),
            Sort::Number(_) => Value::Number(place.value.parse().unwrap_or_default()),
            Sort::License | Sort::Status => Value::Text(place.unit_id.clone()),
        };
        let value = statement.bind(value);
        narrowed += &format!(" AND ({}, unit_id) {sign} ({value}, {unit_id})", listing.sort.ordered(few));
    }
    if !states.is_empty() {
        let condition = in_states(statement, states);
        // Many pass: no index is to be taken for it.
        narrowed +=
            &if few.states { format!(" AND {condition}") } else { format!(" AND ({condition}) IS TRUE") };
    }
    if *own {
        let condition = by_caller(statement, caller);
        narrowed +=
            &if few.own { format!(" AND {condition}") } else { format!(" AND ({condition}) IS TRUE") };
    }
    if !connections.is_empty() {
        // Looked up by when they connected only where that tells few of them, or their order.
        let by_it = few.connections || !few.any() && listing.sort == Sort::LAST_CONNECTED;
        let column = if by_it { "last_connected_at" } else { "(last_connected_at + 0)" };
        let condition = connected(statement, connections, column, t);
        narrowed += &format!(" AND ({condition})");
    }
    narrowed
}

/// Units whose last connection lies as long ago as one of these has it (semantics 6.3).
pub(super) fn connected(
    statement: &mut Statement,
    connections: &BTreeSet<Connection>,
    column: &str,
    t: Instant,
) -> String {
    let ranges = connections.iter().map(|connection| {
        let (more, most) = connection.away();
        let mut range = vec!["1 = 1".to_owned()];
        if let Some(more) = more {
            range.push(format!("{column} < {}", statement.bind(Value::Number(nanos(t - more)))));
        }
        if let Some(most) = most {
            range.push(format!("{} <= {column}", statement.bind(Value::Number(nanos(t - most)))));
        }
        format!("({})", range.join(" AND "))
    });
    ranges.collect::<Vec<_>>().join(" OR ")
}

pub(super) fn in_states(statement: &mut Statement, states: &BTreeSet<UnitState>) -> String {
    let first = statement.values.len() + 1;
    statement.values.extend(states.iter().map(|state| Value::Number(wire::unit_state_kept(*state))));
    format!("state IN ({})", list(first, states.len()))
}

pub(super) fn by_caller(statement: &mut Statement, caller: &Caller) -> String {
    format!("activated_by = {}", statement.bind(Value::Text(caller.account_id.clone())))
}

impl Listing {
    /// As many as a page has room for, and one more, which tells whether there is another page.
    fn one_more(&self) -> Value {
        Value::Number(i64::try_from(self.size + 1).unwrap_or(i64::MAX))
    }

    fn way(&self) -> &'static str {
        if self.descending { "DESC" } else { "ASC" }
    }

    /// How one licence's units are sorted. Told twice to sort by the ID, SQLite sorts what an index has in order already.
    fn inner(&self, few: Few) -> String {
        let (column, way) = (self.sort.ordered(few), self.way());
        match self.sort {
            Sort::License | Sort::Status => format!("{column} {way}"),
            Sort::Text(_) | Sort::Number(_) => format!("{column} {way}, unit_id {way}"),
        }
    }
}

impl Sort {
    /// What is sorted by. An expression is in no index, so that the one that finds the few is used.
    fn ordered(self, few: Few) -> String {
        let column = self.column();
        match self {
            _ if !few.any() => column.to_owned(),
            Self::Number(_) => format!("({column} + 0)"),
            Self::Text(_) | Self::License | Self::Status => format!("({column} || '')"),
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row as _};

    use super::*;
    use crate::{
        domain::Span,
        licensing::store::{Database, Store},
    };

    /// Whatever a licence has beside them: it would otherwise be gone through to its end for each page.
    #[tokio::test]
    async fn an_account_s_few_units_are_looked_up_by_the_account() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Database::Sqlite(folder.path().join("licensing.db")), 2).await.unwrap();
        let (caller, t) = (Caller::nobody(), Instant::from_unix_nanos(0) + Span::days(20_000));
        let filter = Filter { own: true, ..Filter::default() };
        let listing =
            Listing { filter, sort: Sort::Text("device_name"), descending: false, size: 50, after: None };
        let few = Few { own: true, ..Few::default() };
        for (name, Statement { sql, values }) in [
            ("count", count(&["A", "B"], 100, few, |statement| by_caller(statement, &caller))),
            ("page", page(&caller, &listing, &["A", "B"], None, t, few)),
            ("holding", holding(&caller, &listing, &["A", "B"], t, few)),
        ] {
            let query = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}")));
            let query = values.into_iter().fold(query, |query, value| match value {
                Value::Text(text) => query.bind(text),
                Value::Number(number) => query.bind(number),
            });
            let plan = query.fetch_all(store.reads()).await.unwrap();
            let plan: Vec<String> = plan.iter().map(|step| step.get("detail")).collect();
            let by_account = "USING INDEX units_by_account (activated_by=?)";
            let covering = "USING COVERING INDEX units_by_account (activated_by=?)";
            let found = plan.iter().any(|step| step.contains(by_account) || step.contains(covering));
            assert!(found, "{name}: {plan:#?}");
        }
    }
}
