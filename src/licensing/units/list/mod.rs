//! The list of units: filtered, sorted by any attribute both ways, a page at a time (semantics 6.2 to 6.4).
//!
//! A page goes on after the last unit of the one before, by its sorted value and its ID, so that nothing is told twice or
//! missed whatever changes in between. Each licence has an index for each attribute; a page reads as many units of each
//! licence as it has room for and merges them, so the first page costs the same for a hundred units and a million. What few
//! units pass is looked up first and then sorted. Not here: what a request looks like (see `service::units`).

mod statement;

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};

use self::statement::{Few, Statement, Value};
use super::{Scope, Unit, read};
use crate::{
    domain::{
        Instant,
        license::LicenseStatus,
        unit::{Connection, UnitState},
    },
    licensing::{Backend, caller::Caller, refusal::Refusal, store::StoreError, wire},
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

/// As many units are few: sorting them takes a few milliseconds.
const FEW: i64 = 20_000;

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
        if license_ids.is_empty() {
            return Ok(Vec::new());
        }
        let Filter { states, own, .. } = &listing.filter;
        let few = Few {
            states: !states.is_empty()
                && self.are_few(license_ids, |few| statement::in_states(few, states)).await?,
            own: *own && self.are_few(license_ids, |few| statement::by_caller(few, caller)).await?,
        };
        let statement = statement::page(caller, listing, license_ids, after, t, few);
        let rows = self.rows(statement).await?;
        rows.iter().map(|row| placed(row, listing.sort)).collect()
    }

    /// Whether few units of these licences pass a condition, which an index answers.
    async fn are_few(
        &self,
        license_ids: &[&str],
        condition: impl Fn(&mut Statement) -> String,
    ) -> Result<bool, StoreError> {
        let statement = statement::count(license_ids, FEW + 1, condition);
        let rows = self.rows(statement).await?;
        let count = rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("units"))?;
        Ok(count <= FEW)
    }

    async fn rows(&self, Statement { sql, values }: Statement) -> Result<Vec<AnyRow>, StoreError> {
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        });
        Ok(query.fetch_all(self.store.reads()).await?)
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
