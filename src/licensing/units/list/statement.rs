//! SQL for the list of units: fixed texts, names of our own columns, and placeholders.
//!
//! Not here: what is done with the rows.

use std::collections::BTreeSet;

use super::{Filter, Listing, Place, Sort};
use crate::{
    domain::{Instant, unit::UnitState},
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
}

/// A statement and what is bound to it.
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
}

/// One `SELECT` for each licence, each of which an index answers in order and by itself, merged by an outer one; only
/// the units of the page are looked up.
pub(super) fn page(
    caller: &Caller,
    listing: &Listing,
    license_ids: &[&str],
    after: Option<&Place>,
    t: Instant,
    few: Few,
) -> Statement {
    let mut statement = Statement { sql: String::new(), values: Vec::new() };
    let (column, way) = (listing.sort.ordered(few), if listing.descending { "DESC" } else { "ASC" });
    let narrowed = narrowed(&mut statement, caller, listing, after, t, few);
    let limit = statement.bind(Value::Number(i64::try_from(listing.size + 1).unwrap_or(i64::MAX)));
    // Told twice to sort by the ID, SQLite sorts what an index has in order already.
    let inner = match listing.sort {
        Sort::License | Sort::Status => format!("{column} {way}"),
        Sort::Text(_) | Sort::Number(_) => format!("{column} {way}, unit_id {way}"),
    };
    // An account's few units are found by the account alone.
    let license = if few.own { "(license_id || '')" } else { "license_id" };
    let parts = license_ids.iter().map(|id| {
        let id = statement.bind(Value::Text((*id).to_owned()));
        format!(
            "SELECT * FROM (SELECT {column} AS value, unit_id AS id FROM units
             WHERE {license} = {id}{narrowed} ORDER BY {inner} LIMIT {limit}) AS part"
        )
    });
    let parts = parts.collect::<Vec<_>>().join(" UNION ALL ");
    let order = format!("ORDER BY value {way}, id {way}");
    // CROSS keeps SQLite from going through all units to find those of the page.
    statement.sql = format!(
        "SELECT {COLUMNS} FROM (SELECT * FROM ({parts}) AS merged {order} LIMIT {limit}) AS page
         CROSS JOIN units WHERE unit_id = id {order}"
    );
    statement
}

/// How many units of these licences pass a condition, up to `most`.
pub(super) fn count(
    license_ids: &[&str],
    most: i64,
    condition: impl Fn(&mut Statement) -> String,
) -> Statement {
    let mut statement = Statement { sql: String::new(), values: Vec::new() };
    let limit = statement.bind(Value::Number(most));
    let parts = license_ids.iter().map(|id| {
        let id = statement.bind(Value::Text((*id).to_owned()));
        let condition = condition(&mut statement);
        format!(
            "SELECT * FROM (SELECT unit_id FROM units WHERE license_id = {id} AND {condition} LIMIT {limit}) AS part"
        )
    });
    let parts = parts.collect::<Vec<_>>().join(" UNION ALL ");
    statement.sql =
        format!("SELECT COUNT(*) AS units FROM (SELECT * FROM ({parts}) AS all_parts LIMIT {limit}) AS few");
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
    // Those of few are looked up by what few pass, not by when they connected.
    let connected = if few.states || few.own { "(last_connected_at + 0)" } else { "last_connected_at" };
    let mut ranges = Vec::new();
    for connection in connections {
        let (more, most) = connection.away();
        let mut range = vec!["1 = 1".to_owned()];
        if let Some(more) = more {
            range.push(format!("{connected} < {}", statement.bind(Value::Number(nanos(t - more)))));
        }
        if let Some(most) = most {
            range.push(format!("{} <= {connected}", statement.bind(Value::Number(nanos(t - most)))));
        }
        ranges.push(format!("({})", range.join(" AND ")));
    }
    if !ranges.is_empty() {
        narrowed += &format!(" AND ({})", ranges.join(" OR "));
    }
    narrowed
}

pub(super) fn in_states(statement: &mut Statement, states: &BTreeSet<UnitState>) -> String {
    let first = statement.values.len() + 1;
    statement.values.extend(states.iter().map(|state| Value::Number(wire::unit_state_kept(*state))));
    format!("state IN ({})", list(first, states.len()))
}

pub(super) fn by_caller(statement: &mut Statement, caller: &Caller) -> String {
    format!("activated_by = {}", statement.bind(Value::Text(caller.account_id.clone())))
}

impl Sort {
    /// What is sorted by. An expression is in no index, so that the one that finds the few is used.
    fn ordered(self, few: Few) -> String {
        let column = self.column();
        match self {
            _ if !few.states && !few.own => column.to_owned(),
            Self::Number(_) => format!("({column} + 0)"),
            Self::Text(_) | Self::License | Self::Status => format!("({column} || '')"),
        }
    }
}
