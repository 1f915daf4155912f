//! The list of units: filtered, sorted by any attribute both ways, a page at a time (semantics 6.2 to 6.4).
//!
//! A page goes on after the last unit of the one before, by its sorted value and its ID, so that nothing is told twice or
//! missed whatever changes in between. Each licence has an index for each attribute; a page reads as many units of each
//! licence as it has room for and merges them, so the first page costs the same for a hundred units and a million; of many
//! licences it reads only those whose first units come first. What few units pass is looked up and then sorted.
//! Not here: what a request looks like (see `service::units`).

mod statement;

use std::collections::{BTreeSet, HashSet};

use prost::Message;
use sqlx::{AssertSqlSafe, Row as _, any::AnyRow};

use self::statement::{Few, Statement, Value};
use super::{Scope, Unit, read};
use crate::{
    domain::{
        Instant,
        license::LicenseStatus,
        unit::{Connection, UnitState},
    },
    licensing::{Backend, caller::Caller, refusal::Refusal, service::pages, store::StoreError, wire},
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

/// Licences in one statement that reads the units of each: SQLite ends at 500.
const LICENSES: usize = 50;

/// Licences in one statement that names them: both stores take 32,000 values.
const NAMED: usize = 10_000;

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
        let few = self.few(caller, listing, &scope, t).await?;
        let leading = self.leading(caller, listing, &scope, t, few).await?;
        let found = match listing.sort {
            Sort::Text(_) | Sort::Number(_) => self.merged(caller, listing, &leading, t, few).await?,
            Sort::License | Sort::Status => self.by_license(caller, listing, leading, t, few).await?,
        };
        let status = |unit: &Unit| {
            let scope = scope.iter().find(|scope| scope.license.id == unit.license_id);
            scope.map_or(LicenseStatus::Attention, |scope| scope.status)
        };
        let mut units: Vec<_> = found.iter().map(|(unit, _)| unit.told(caller, status(unit), t)).collect();
        self.with_places(&mut units).await?;
        let size = listing.size.min(pages::fitting(units.iter().map(Message::encoded_len)));
        units.truncate(size);
        let last = size.checked_sub(1).and_then(|last| found.get(last)).filter(|_| size < found.len());
        Ok((units, last.map(|(_, place)| place.clone())))
    }

    /// Sorted by an attribute of the units: the first of each licence, merged.
    async fn merged(
        &self,
        caller: &Caller,
        listing: &Listing,
        scope: &[&Scope],
        t: Instant,
        few: Few,
    ) -> Result<Vec<(Unit, Place)>, Refusal> {
        let mut found = Vec::new();
        let at_once = if few.any() { NAMED } else { LICENSES };
        for scope in scope.chunks(at_once) {
            let ids = ids(scope.iter().copied());
            found.extend(self.select(caller, listing, &ids, listing.after.as_ref(), t, few).await?);
        }
        if at_once < scope.len() {
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
        mut scope: Vec<&Scope>,
        t: Instant,
        few: Few,
    ) -> Result<Vec<(Unit, Place)>, Refusal> {
        let value = |scope: &Scope| match listing.sort {
            Sort::Status => i32::from(wire::license_status(scope.status)).to_string(),
            Sort::License | Sort::Text(_) | Sort::Number(_) => String::new(),
        };
        let key = |scope: &Scope| (value(scope), scope.license.id.clone());
        scope.sort_by_cached_key(|scope| key(scope));
        if listing.descending {
            scope.reverse();
        }
        let mut found = Vec::new();
        for scope in scope {
            let mut after = None;
            if let Some(place) = &listing.after {
                let (here, there) = (key(scope), (place.value.clone(), place.license_id.clone()));
                let passed = if listing.descending { there < here } else { here < there };
                if passed {
                    continue;
                }
                after = (here == there).then_some(place);
            }
            let rows = self.select(caller, listing, &[&scope.license.id], after, t, few).await?;
            found
                .extend(rows.into_iter().map(|(unit, place)| (unit, Place { value: value(scope), ..place })));
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
        few: Few,
    ) -> Result<Vec<(Unit, Place)>, StoreError> {
        let statement = statement::page(caller, listing, license_ids, after, t, few);
        let rows = self.rows(statement).await?;
        rows.iter().map(|row| placed(row, listing.sort)).collect()
    }

    /// Of many licences, those the page can hold units of.
    async fn leading<'s>(
        &self,
        caller: &Caller,
        listing: &Listing,
        scope: &'s [Scope],
        t: Instant,
        few: Few,
    ) -> Result<Vec<&'s Scope>, StoreError> {
        let by_license = matches!(listing.sort, Sort::License | Sort::Status);
        if scope.len() <= listing.size + 1 || by_license != few.any() {
            return Ok(scope.iter().collect());
        }
        let mut leading = HashSet::new();
        for scope in scope.chunks(NAMED) {
            let ids = ids(scope);
            let statement = if by_license {
                statement::holding(caller, listing, &ids, t, few)
            } else {
                statement::leading(caller, listing, &ids, t)
            };
            for row in self.rows(statement).await? {
                leading.insert(row.try_get::<String, _>("license_id")?);
            }
        }
        Ok(scope.iter().filter(|scope| leading.contains(&scope.license.id)).collect())
    }

    /// Which parts of the filter few units of these licences pass, which an index answers for each.
    async fn few(
        &self,
        caller: &Caller,
        listing: &Listing,
        scope: &[Scope],
        t: Instant,
    ) -> Result<Few, StoreError> {
        let Filter { states, own, connections, .. } = &listing.filter;
        let in_order = listing.sort == Sort::LAST_CONNECTED;
        let connected =
            |few: &mut _| format!("({})", statement::connected(few, connections, "last_connected_at", t));
        let by_account = Few { own: true, ..Few::default() };
        Ok(Few {
            states: !states.is_empty()
                && self.are_few(scope, Few::default(), |few| statement::in_states(few, states)).await?,
            own: *own && self.are_few(scope, by_account, |few| statement::by_caller(few, caller)).await?,
            connections: !connections.is_empty()
                && !in_order
                && self.are_few(scope, Few::default(), connected).await?,
        })
    }

    async fn are_few(
        &self,
        scope: &[Scope],
        by: Few,
        condition: impl Fn(&mut Statement) -> String,
    ) -> Result<bool, StoreError> {
        let mut left = FEW;
        for scope in scope.chunks(NAMED) {
            let rows = self.rows(statement::count(&ids(scope), left + 1, by, &condition)).await?;
            left -= rows.first().map_or(Ok(0), |row| row.try_get::<i64, _>("units"))?;
            if left < 0 {
                break;
            }
        }
        Ok(0 <= left)
    }

    async fn rows(&self, Statement { sql, values }: Statement) -> Result<Vec<AnyRow>, StoreError> {
        let query = values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
            Value::Text(text) => query.bind(text),
            Value::Number(number) => query.bind(number),
        });
        Ok(query.fetch_all(self.store.reads()).await?)
    }
}

fn ids<'s>(scope: impl IntoIterator<Item = &'s Scope>) -> Vec<&'s str> {
    scope.into_iter().map(|scope| scope.license.id.as_str()).collect()
}

impl Sort {
    /// When the unit connected last, which one filter goes by as well.
    pub(in crate::licensing) const LAST_CONNECTED: Self = Self::Number("last_connected_at");

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
