//! Usage: what authentication servers count, summed over installations (semantics 6.8).
//!
//! Sums are kept up with each report, so that facts are read in one row. Not here: SMS (see `sms`), and the rest of a sync.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Row as _};

use super::{
    change::Change,
    refusal::Refusal,
    store::{StoreError, kept, nanos},
    subscriptions::{Subscription, Totals},
    units::{Unit, list},
};
use crate::{domain::Instant, wire::usage::Count};

/// What an authentication server counted; nothing where it did not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) active_users: Option<Count>,
    pub(super) all_users: Option<Count>,
    pub(super) components: Option<Count>,
    pub(super) counted_at: Option<Instant>,
}

/// What an installation counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Report {
    active_users: i64,
    all_users: i64,
    components: i64,
}

/// Takes a report of an active unit; an older one than it sent before changes nothing.
pub(super) async fn report(
    change: &mut Change,
    subscription: &mut Subscription,
    unit: &Unit,
    installation: &str,
    counts: Counts,
) -> Result<(), Refusal> {
    // A clock that is ahead must not keep later reports out: neither the reporting server's, nor ours when it stepped
    // back since, or is another replica's. What then came before counts as of now, and this came after it.
    let counted_at = counts.counted_at.map_or(change.at, |counted_at| counted_at.min(change.at));
    if unit.counted_at.is_some_and(|last| counted_at < last && last <= change.at) {
        return Ok(());
    }
    let update = sqlx::query(
        "UPDATE units SET installation = $2, counted_at = $3, active_users = $4, all_users = $5, components = $6
         WHERE unit_id = $1",
    );
    let update = update.bind(&unit.id).bind(installation.to_owned()).bind(nanos(counted_at));
    let or = |count: Option<Count>, before: i64| count.map_or(before, |count| kept(count.get()));
    let update = update.bind(or(counts.active_users, unit.active_users));
    let update = update.bind(or(counts.all_users, unit.all_users));
    update.bind(or(counts.components, unit.components)).execute(&mut *change.tx).await?;
    // Where it moved to another installation, its old one goes on without it.
    let installations = BTreeSet::from([installation.to_owned(), unit.installation.clone()]);
    Ok(choose(change, subscription, installations).await?)
}

/// Reports of these units, which are not active any more, do not count: their installations go on with the next newest
/// report, or end.
pub(super) async fn withdraw(
    change: &mut Change,
    subscription: &mut Subscription,
    units: &[&Unit],
) -> Result<(), StoreError> {
    let reported = units.iter().filter(|unit| unit.counted_at.is_some());
    let installations = reported.map(|unit| unit.installation.clone()).collect();
    choose(change, subscription, installations).await
}

/// Lets each installation stand by its newest report from a unit still active.
async fn choose(
    change: &mut Change,
    subscription: &mut Subscription,
    installations: BTreeSet<String>,
) -> Result<(), StoreError> {
    if installations.is_empty() {
        return Ok(());
    }
    let before = sums(change, subscription, &installations).await?;
    dated_no_later_than_now(change, subscription, &installations).await?;
    let names = list(2, installations.len());
    let of = |sql: String| {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(subscription.id.to_string());
        installations.iter().fold(query, |query, name| query.bind(name.clone()))
    };
    let delete =
        of(format!("DELETE FROM installations WHERE subscription_id = $1 AND installation IN ({names})"));
    delete.execute(&mut *change.tx).await?;
    let insert = of(format!(
        "INSERT INTO installations (subscription_id, installation, unit_id, counted_at, active_users, all_users,
             components)
         SELECT u.subscription_id, u.installation, u.unit_id, u.counted_at, u.active_users, u.all_users, u.components
         FROM units u
         WHERE u.subscription_id = $1 AND u.installation IN ({names}) AND u.state = 1 AND u.counted_at IS NOT NULL
           AND NOT EXISTS (
             SELECT 1 FROM units n
             WHERE n.subscription_id = u.subscription_id AND n.installation = u.installation AND n.state = 1
               AND n.counted_at IS NOT NULL
               AND (u.counted_at < n.counted_at OR (u.counted_at = n.counted_at AND u.unit_id < n.unit_id)))"
    ));
    insert.execute(&mut *change.tx).await?;
    let after = sums(change, subscription, &installations).await?;
    let Totals { active_users, all_users, components, .. } = &mut subscription.totals;
    *active_users += after.active_users - before.active_users;
    *all_users += after.all_users - before.all_users;
    *components += after.components - before.components;
    Ok(())
}

/// Reports that were dated after the present, when our clock or another replica's was ahead, are dated to just before it,
/// so that the next one of their installation is newer.
async fn dated_no_later_than_now(
    change: &mut Change,
    subscription: &Subscription,
    installations: &BTreeSet<String>,
) -> Result<(), StoreError> {
    let sql = format!(
        "UPDATE units SET counted_at = $2 - 1 WHERE subscription_id = $1 AND installation IN ({}) AND $2 < counted_at",
        list(3, installations.len())
    );
    let update = sqlx::query(AssertSqlSafe(sql)).bind(subscription.id.to_string()).bind(nanos(change.at));
    let update = installations.iter().fold(update, |update, name| update.bind(name.clone()));
    update.execute(&mut *change.tx).await?;
    Ok(())
}

async fn sums(
    change: &mut Change,
    subscription: &Subscription,
    installations: &BTreeSet<String>,
) -> Result<Report, StoreError> {
    let sql = format!(
        "SELECT CAST(SUM(active_users) AS BIGINT) AS active_users, CAST(SUM(all_users) AS BIGINT) AS all_users,
             CAST(SUM(components) AS BIGINT) AS components
         FROM installations WHERE subscription_id = $1 AND installation IN ({})",
        list(2, installations.len())
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(subscription.id.to_string());
    let query = installations.iter().fold(query, |query, name| query.bind(name.clone()));
    let row = query.fetch_one(&mut *change.tx).await?;
    let sum = |column: &str| row.try_get::<Option<i64>, _>(column).map(Option::unwrap_or_default);
    Ok(Report {
        active_users: sum("active_users")?,
        all_users: sum("all_users")?,
        components: sum("components")?,
    })
}
