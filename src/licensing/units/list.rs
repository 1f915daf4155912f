//! The list of units: filtered, sorted by any attribute both ways, a page at a time (semantics 6.2 to 6.4).
//!
//! A page goes on after the last unit of the one before, by its sorted value and its ID, so that nothing is told twice or
//! missed whatever changes in between. Each licence has an index for each attribute; a page reads as many units of each
//! licence as it has room for and merges them, so the first page costs the same for a hundred units and a million. Not
//! here: what a request looks like (see `service::units`).

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};

use super::{COLUMNS, Scope, Unit, deactivate::list, read};
use crate::{
    domain::{
        Instant,
        license::LicenseStatus,
        unit::{Connection, UnitState},
    },
    licensing::{
        Backend,
        caller::Caller,
        refusal::Refusal,
        store::{StoreError, nanos},
        wire,
    },
    proto::licensing as api,
};

/// Which units, in which order, from where on.
#[derive(Clone, Debug)]
pub(in crate::licensing) struct Listing {
    pub(in crate::licensing) filter: Filter,
    pub(in crate::licensing) sort: Sort,
    pub(in crate::licensing) descending: bool,
    pub(in crate::licensing) size: usize,
    /// The last unit of the page before.
    pub(in crate::licensing) after: Option<Place>,
}

/// Which units; empty sets leave none out.
#[derive(Clone, Debug, Default)]
pub(in crate::licensing) struct Filter {
    pub(in crate::licensing) statuses: BTreeSet<LicenseStatus>,
    pub(in crate::licensing) connections: BTreeSet<Connection>,
    pub(in crate::licensing) states: BTreeSet<UnitState>,
    pub(in crate::licensing) license_ids: BTreeSet<String>,
    pub(in crate::licensing) own: bool,
}

/// An attribute units are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::licensing) enum Sort {
    /// One of the unit itself: its column.
    Text(&'static str),
    /// The same, where it is a number.
    Number(&'static str),
    /// Its licence's public ID.
    License,
    /// Its licence's status.
    Status,
}

/// Where a page ended: the sorted value as text, and the unit's licence and ID.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::licensing) struct Place {
    pub(in crate::licensing) value: String,
    pub(in crate::licensing) license_id: String,
    pub(in crate::licensing) unit_id: String,
}

/// Licences in one statement.
const LICENSES: usize = 50;

/// A page, and where it ended if there is more.
pub(in crate::licensing) type Page = (Vec<api::Unit>, Option<Place>);

impl Backend {
    /// A page of the units the caller sees.
    pub(in crate::licensing) async fn units(
        &self,
        caller: &Caller,
        listing: &Listing,
    ) -> Result<Page, Refusal> {
        let t = self.clock.now();
        let Filter { statuses, license_ids, .. } = &listing.filter;
        let mut scope = self.scope(caller).await?;
        scope.retain(|Scope { license, status }| {
            (statuses.is_empty() || statuses.contains(status))
                && (license_ids.is_empty() || license_ids.contains(&license.id))
        });
        let mut found = match listing.sort {
            Sort::Text(_) | Sort::Number(_) => self.merged(caller, listing, &scope, t).await?,
            Sort::License | Sort::Status => self.by_license(caller, listing, scope.clone(), t).await?,
        };
        let more = listing.size < found.len();
        found.truncate(listing.size);
        let place = found.last().filter(|_| more).map(|(_, place)| place.clone());
        let status = |unit: &Unit| {
            let scope = scope.iter().find(|scope| scope.license.id == unit.license_id);
            scope.map_or(LicenseStatus::Attention, |scope| scope.status)
        };
        Ok((found.iter().map(|(unit, _)| unit.told(caller, status(unit), t)).collect(), place))
    }

    /// Sorted by an attribute of the units: the first of each licence, merged.
    async fn merged(
        &self,
        caller: &Caller,
        listing: &Listing,
        scope: &[Scope],
        t: Instant,
    ) -> Result<Vec<(Unit, Place)>, Refusal> {
        let mut found = Vec::new();
        for scope in scope.chunks(LICENSES) {
            let ids = scope.iter().map(|scope| scope.license.id.as_str()).collect::<Vec<_>>();
            let rows = self.select(caller, listing, &ids, listing.after.as_ref(), t).await?;
            found.extend(rows);
        }
        if LICENSES < scope.len() {
            found.sort_by(|(_, one), (_, other)| {
                let order = listing.sort.compare(one, other);
                if listing.descending { order.reverse() } else { order }
            });
        }
        Ok(found)
    }

    /// Sorted by an attribute of the licence: licence by licence, each by unit ID.
    async fn by_license(
        &self,
        caller: &Caller,
        listing: &Listing,
        mut scope: Vec<Scope>,
        t: Instant,
    ) -> Result<Vec<(Unit, Place)>, Refusal> {
        let value = |scope: &Scope| match listing.sort {
            Sort::Status => i32::from(wire::license_status(scope.status)).to_string(),
            Sort::License | Sort::Text(_) | Sort::Number(_) => String::new(),
        };
        let key = |scope: &Scope| (value(scope), scope.license.id.clone());
        scope.sort_by_key(key);
        if listing.descending {
            scope.reverse();
        }
        let mut found = Vec::new();
        for scope in scope {
            let mut after = None;
            if let Some(place) = &listing.after {
                let (here, there) = (key(&scope), (place.value.clone(), place.license_id.clone()));
                let passed = if listing.descending { there < here } else { here < there };
                if passed {
                    continue;
                }
                after = (here == there).then_some(place);
            }
            let rows = self.select(caller, listing, &[&scope.license.id], after, t).await?;
            found.extend(
                rows.into_iter().map(|(unit, place)| (unit, Place { value: value(&scope), ..place })),
            );
            if listing.size < found.len() {
                break;
            }
        }
        Ok(found)
    }

    /// The first units of these licences after `after`, one more than a page has room for.
    async fn select(
        &self,
        caller: &Caller,
        listing: &Listing,
        license_ids: &[&str],
        after: Option<&Place>,
        t: Instant,
    ) -> Result<Vec<(Unit, Place)>, StoreError> {
        let Statement { sql, values } = statement(caller, listing, license_ids, after, t);
        if license_ids.is_empty() {
            return Ok(Vec::new());
        }
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        });
        let rows = query.fetch_all(self.store.reads()).await?;
        rows.iter().map(|row| placed(row, listing.sort)).collect()
    }
}

impl Sort {
    fn column(self) -> &'static str {
        match self {
            Self::Text(column) | Self::Number(column) => column,
            Self::License | Self::Status => "unit_id",
        }
    }

    fn compare(self, one: &Place, other: &Place) -> std::cmp::Ordering {
        let number = |place: &Place| place.value.parse::<i64>().unwrap_or_default();
        let by_value = match self {
            Self::Number(_) => number(one).cmp(&number(other)),
            Self::Text(_) | Self::License | Self::Status => one.value.cmp(&other.value),
        };
        by_value.then_with(|| one.unit_id.cmp(&other.unit_id))
    }
}

/// A statement and what is bound to it.
struct Statement {
    sql: String,
    values: Vec<Value>,
}

enum Value {
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
fn statement(
    caller: &Caller,
    listing: &Listing,
    license_ids: &[&str],
    after: Option<&Place>,
    t: Instant,
) -> Statement {
    let mut statement = Statement { sql: String::new(), values: Vec::new() };
    let (column, way) = (listing.sort.column(), if listing.descending { "DESC" } else { "ASC" });
    let narrowed = narrowed(&mut statement, caller, listing, after, t);
    let limit = statement.bind(Value::Number(i64::try_from(listing.size + 1).unwrap_or(i64::MAX)));
    let parts = license_ids.iter().map(|id| {
        let id = statement.bind(Value::Text((*id).to_owned()));
        format!(
            "SELECT * FROM (SELECT {column} AS value, unit_id AS id FROM units
             WHERE license_id = {id}{narrowed} ORDER BY {column} {way}, unit_id {way} LIMIT {limit}) AS part"
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

/// What narrows a licence's units down.
fn narrowed(
    statement: &mut Statement,
    caller: &Caller,
    listing: &Listing,
    after: Option<&Place>,
    t: Instant,
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
        narrowed += &format!(" AND ({}, unit_id) {sign} ({value}, {unit_id})", listing.sort.column());
    }
    let first = statement.values.len() + 1;
    if !states.is_empty() {
        narrowed += &format!(" AND state IN ({})", list(first, states.len()));
        statement.values.extend(states.iter().map(|state| Value::Number(wire::unit_state_kept(*state))));
    }
    if *own {
        let own = statement.bind(Value::Text(caller.account_id.clone()));
        narrowed += &format!(" AND activated_by = {own}");
    }
    let mut ranges = Vec::new();
    for connection in connections {
        let (more, most) = connection.away();
        let mut range = vec!["1 = 1".to_owned()];
        if let Some(more) = more {
            range.push(format!("last_connected_at < {}", statement.bind(Value::Number(nanos(t - more)))));
        }
        if let Some(most) = most {
            range.push(format!("{} <= last_connected_at", statement.bind(Value::Number(nanos(t - most)))));
        }
        ranges.push(format!("({})", range.join(" AND ")));
    }
    if !ranges.is_empty() {
        narrowed += &format!(" AND ({})", ranges.join(" OR "));
    }
    narrowed
}

/// A unit and its place in the list.
fn placed(row: &AnyRow, sort: Sort) -> Result<(Unit, Place), StoreError> {
    let value = match sort {
        Sort::Text(column) => row.try_get::<String, _>(column)?,
        Sort::Number(column) => row.try_get::<i64, _>(column)?.to_string(),
        Sort::License | Sort::Status => String::new(),
    };
    let unit = read(row)?;
    let place = Place { value, license_id: unit.license_id.clone(), unit_id: unit.id.clone() };
    Ok((unit, place))
}
