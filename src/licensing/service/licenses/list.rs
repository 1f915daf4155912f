//! The list of licences: filtered by status, sorted, a page at a time.
//!
//! Status is worked out from facts and the present, so it is looked at after reading; a list sorted by it is read once for
//! each. Not here: one licence.

use std::collections::HashMap;

use prost::Message as _;
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Row as _};

use crate::{
    domain::license::LicenseStatus,
    licensing::{
        Backend,
        caller::Caller,
        licenses::{self, Eye, Kept, SELECT},
        refusal::Refusal,
        service::{pages, read},
        subscriptions::Subscription,
        wire as states,
    },
    proto::licensing::{self as api, LicenseSort},
    wire,
};

/// Where a page ended: the sorted value, as text, and the licence.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Place {
    value: String,
    license_id: String,
}

/// What licences are sorted by, as the statement has it and as a row does.
#[derive(Clone, Copy)]
enum Column {
    Text(&'static str, &'static str),
    Number(&'static str, &'static str),
}

/// What stands for no number: before all numbers there are.
const NO_NUMBER: i64 = -1;

/// Licences read at a time.
const CHUNK: usize = 200;

impl Backend {
    /// A page of the licences the caller sees.
    pub(super) async fn listed(
        &self,
        caller: &Caller,
        mut asked: api::ListLicensesRequest,
    ) -> Result<api::ListLicensesResponse, Refusal> {
        let size = pages::size(std::mem::take(&mut asked.page_size))?;
        let token = std::mem::take(&mut asked.page_token);
        let list = pages::list(&asked, &caller.account_id);
        let statuses = read::statuses(&asked.statuses)?;
        let column = column(asked.sort)?;
        let place: Option<Place> = pages::place(&token, &list)?;
        let mut subscriptions = HashMap::new();
        let mut found = Vec::new();
        let mut bytes = 0;
        for (only, mut place) in walks(asked.sort, asked.descending, place) {
            while found.len() <= size && bytes <= pages::BYTES {
                let chunk = self.chunk(caller, column, asked.descending, place.as_ref()).await?;
                let ended = chunk.len() < CHUNK;
                place = chunk.last().map(|(_, place)| place.clone());
                for (license, place) in chunk {
                    let subscription =
                        self.subscription(&mut subscriptions, &license.subscription_id).await?;
                    let Some(subscription) = subscription else { continue };
                    let status = license.status(&subscription.facts, self.clock.now());
                    let is_wanted = statuses.is_empty() || statuses.contains(&status);
                    if is_wanted && only.is_none_or(|only| only == status) {
                        let from = self.store.reads();
                        let license = self.license(from, caller, &license, Some(subscription)).await?;
                        bytes += license.encoded_len();
                        found.push((license, only.map_or(place.clone(), |only| place.of(only))));
                    }
                }
                if ended {
                    break;
                }
            }
        }
        let bytes = |(license, _): &(api::License, _)| license.encoded_len();
        let (page, place) = pages::cut(found, size, bytes, |(_, place): &(_, Place)| place.clone());
        let licenses = page.into_iter().map(|(license, _)| license).collect();
        Ok(api::ListLicensesResponse { licenses, next_page_token: pages::token(place, &list) })
    }

    async fn chunk(
        &self,
        caller: &Caller,
        column: Column,
        descending: bool,
        after: Option<&Place>,
    ) -> Result<Vec<(Kept, Place)>, Refusal> {
        let sql = statement(Eye::on_licenses(caller), column, descending, after.is_some());
        let mut query = sqlx::query(sql).bind(&caller.account_id).bind(&caller.customer_id);
        if let Some(Place { value, license_id }) = after {
            query = match column {
                Column::Text(..) => query.bind(value.clone()),
                Column::Number(..) => query.bind(value.parse::<i64>().unwrap_or_default()),
            };
            query = query.bind(license_id.clone());
        }
        let rows = query.fetch_all(self.store.reads()).await?;
        let placed = |row| -> Result<(Kept, Place), Refusal> {
            let license = licenses::read(row)?;
            let value = match column {
                Column::Text(_, name) => row.try_get::<String, _>(name)?,
                Column::Number(_, name) => {
                    row.try_get::<Option<i64>, _>(name)?.unwrap_or(NO_NUMBER).to_string()
                }
            };
            let place = Place { value, license_id: license.id.clone() };
            Ok((license, place))
        };
        rows.iter().map(placed).collect()
    }

    async fn subscription(
        &self,
        read: &mut HashMap<String, Option<Subscription>>,
        id: &str,
    ) -> Result<Option<Subscription>, Refusal> {
        if !read.contains_key(id) {
            read.insert(id.to_owned(), Subscription::read(self.store.reads(), id).await?);
        }
        Ok(read.get(id).cloned().flatten())
    }
}

/// The next licences that `eye` sees, after the place `$3`, `$4` if there is one.
fn statement(eye: Eye, column: Column, descending: bool, goes_on: bool) -> AssertSqlSafe<String> {
    let (Column::Text(name, _) | Column::Number(name, _)) = column;
    let (sign, way) = if descending { ("<", "DESC") } else { (">", "ASC") };
    let sees = eye.sees();
    let narrowed =
        if goes_on { format!(" AND ({name}, l.license_id) {sign} ($3, $4)") } else { String::new() };
    AssertSqlSafe(format!(
        "{SELECT} WHERE {sees}{narrowed} ORDER BY {name} {way}, l.license_id {way} LIMIT {CHUNK}"
    ))
}

impl Place {
    /// The same place in a list sorted by status.
    fn of(self, status: LicenseStatus) -> Self {
        Self { value: number(status), ..self }
    }

    /// The place in the list of one status, which is in the order of IDs.
    fn by_id(self) -> Self {
        Self { value: self.license_id.clone(), ..self }
    }
}

fn number(status: LicenseStatus) -> String {
    i32::from(states::license_status(status)).to_string()
}

/// How often all licences are walked through, and from where on: once, or for each status that is left where they are
/// sorted by it.
fn walks(sort: i32, descending: bool, place: Option<Place>) -> Vec<(Option<LicenseStatus>, Option<Place>)> {
    if sort != i32::from(LicenseSort::Status) {
        return vec![(None, place)];
    }
    let mut statuses = [LicenseStatus::Valid, LicenseStatus::Attention, LicenseStatus::Problem];
    if descending {
        statuses.reverse();
    }
    let Some(place) = place else {
        return statuses.map(|status| (Some(status), None)).into();
    };
    let left = statuses.into_iter().skip_while(|status| number(*status) != place.value);
    let mut begins = Some(place.clone().by_id());
    left.map(|status| (Some(status), begins.take())).collect()
}

fn column(sort: i32) -> Result<Column, Refusal> {
    Ok(match LicenseSort::try_from(sort).map_err(|_| wire::unknown("sort", sort))? {
        LicenseSort::Unspecified | LicenseSort::LicenseId | LicenseSort::Status => {
            Column::Text("l.license_id", "license_id")
        }
        LicenseSort::Name => Column::Text("l.name", "name"),
        LicenseSort::Product => Column::Text("l.product", "product"),
        LicenseSort::Seats => Column::Number("l.seats", "seats"),
        LicenseSort::ExpiresAt => Column::Number("l.expires_at", "expires_at"),
        LicenseSort::ActiveUnits => Column::Number("l.active_units", "active_units"),
        LicenseSort::Type => Column::Text("l.type", "type"),
        LicenseSort::State => Column::Number("l.state", "state"),
        LicenseSort::CreatedAt => Column::Number("l.created_at", "created_at"),
        LicenseSort::SubscriptionId => Column::Text("l.subscription_id", "subscription_id"),
        LicenseSort::Customer => Column::Text("c.name", "customer"),
        LicenseSort::SmsCredits => Column::Number("COALESCE(l.sms_credits, -1)", "sms_credits"),
        LicenseSort::AllUsersLimit => Column::Number("l.all_users_limit", "all_users_limit"),
        LicenseSort::SeatKind => Column::Number("COALESCE(s.seat_kind, -1)", "seat_kind"),
        LicenseSort::ComponentsLimit => Column::Number("l.components_limit", "components_limit"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::licensing::store::{Database, Store};

    /// However many licences other customers have.
    #[tokio::test]
    async fn a_list_is_read_from_the_licenses_of_the_caller_however_it_is_sorted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Database::Sqlite(folder.path().join("licensing.db")), 2).await.unwrap();
        for sort in 0..64 {
            let Ok(column) = column(sort) else { continue };
            for (eye, goes_on) in [
                (Eye::Delegated, false),
                (Eye::Customer, false),
                (Eye::Delegated, true),
                (Eye::Customer, true),
            ] {
                let AssertSqlSafe(sql) = statement(eye, column, sort % 2 == 0, goes_on);
                let plan = store.plan(&sql).await;
                assert!(!plan.contains("SCAN"), "{eye:?}, {sql}: {plan}");
            }
        }
    }
}
