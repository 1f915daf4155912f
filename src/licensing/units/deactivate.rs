//! Deactivation: each unit its own answer, the seat free at once, the application told at its next sync (semantics 6.5,
//! 6.6).
//!
//! Not here: who may (see `domain::unit`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use sqlx::{AnyConnection, AssertSqlSafe};

use super::{COLUMNS, Unit, read};
use crate::{
    domain::unit::{DeactivationRefusal, UnitState, may_deactivate},
    licensing::{
        Backend,
        actor::Entry,
        caller::Caller,
        change::Change,
        licenses,
        refusal::{Refusal, shown},
        store::{StoreError, nanos, sought},
        subscriptions::Subscription,
        usage, wire,
    },
    proto::licensing as api,
};

/// Units in one call.
pub(in crate::licensing) const MOST_AT_ONCE: usize = 10_000;

/// IDs in one call that name no unit the caller sees.
const MOST_NOT_FOUND: usize = 100;

/// Entries of one call about units of which nothing changes, of each kind.
const ONE_BY_ONE: usize = 20;

/// Units in one statement.
const CHUNK: usize = 500;

/// Units that the caller sees, by their IDs, and the customer of each license of theirs.
#[derive(Debug, Default)]
pub(in crate::licensing) struct Found {
    units: HashMap<String, Unit>,
    customers: HashMap<String, String>,
}

impl Backend {
    /// The units with these IDs that the caller sees: read before a change begins, for to look many up takes long.
    pub(in crate::licensing) async fn to_deactivate(
        &self,
        caller: &Caller,
        ids: &[String],
    ) -> Result<Found, Refusal> {
        let _turn = self.turn_of(caller).await?;
        let mut connection = self.store.reads().acquire().await?;
        Ok(seen(&mut connection, caller, ids).await?)
    }

    /// Deactivates units within `change`, which were `found` before; one result for each, in the order asked for.
    pub(in crate::licensing) async fn deactivate(
        &self,
        change: &mut Change,
        caller: &Caller,
        ids: &[String],
        found: &Found,
    ) -> Result<Vec<api::DeactivatedUnit>, Refusal> {
        must_be_mostly_found(ids, &found.units)?;
        // What is deactivated stays so, and who may not deactivate a unit may not a moment later: that is answered from
        // what was read, and holds nobody up.
        let goes = |unit: &Unit| {
            unit.state == UnitState::Active
                && may_deactivate(caller.deactivating(), unit.activated_by()).is_ok()
        };
        let (open, over): (Vec<_>, Vec<_>) = found.units.iter().partition(|(_, unit)| goes(unit));
        let concerned = open.iter().map(|(_, unit)| unit.subscription_id.as_str());
        let held = Subscription::hold_all(change, concerned).await?;
        let mut held: BTreeMap<_, _> = held.into_iter().map(|held| (held.id.to_string(), held)).collect();
        // What was read before they were locked may have changed since: units, and what the caller may use.
        let sought: Vec<_> = open.into_iter().map(|(id, _)| id.clone()).collect();
        let Found { units: open, customers } = seen(&mut change.tx, caller, &sought).await?;
        let open = open.iter().filter(|(_, unit)| held.contains_key(&unit.subscription_id));
        let units: HashMap<_, _> = open.chain(over).map(|(id, unit)| (id.as_str(), unit)).collect();
        let customer_of = |unit: &Unit| {
            let customer = customers.get(&unit.license_id).or_else(|| found.customers.get(&unit.license_id));
            customer.map(String::as_str).unwrap_or_default()
        };
        let mut results = Vec::with_capacity(ids.len());
        let mut deactivated: BTreeMap<&str, Vec<&Unit>> = BTreeMap::new();
        let (mut seen, mut missing) = (BTreeSet::new(), Vec::new());
        let mut unchanged: BTreeMap<(bool, &str), Vec<Entry>> = BTreeMap::new();
        for id in ids {
            let unit = units.get(id.as_str()).copied();
            results.push(result(caller, id, unit));
            if !seen.insert(id) {
                continue;
            }
            let Some(unit) = unit else {
                missing.push(id.as_str());
                continue;
            };
            let customer_id = customer_of(unit);
            let (audited, goes) = audited(caller, customer_id, unit);
            if goes {
                change.audit(audited);
                deactivated.entry(&unit.subscription_id).or_default().push(unit);
            } else {
                unchanged.entry((!audited.done, customer_id)).or_default().push(audited);
            }
        }
        unchanged.into_values().flat_map(few).for_each(|entry| change.audit(entry));
        if !missing.is_empty() {
            change.audit(not_found(caller, &missing));
        }
        for (id, units) in deactivated {
            if let Some(subscription) = held.get_mut(id) {
                take_out(change, subscription, &units).await?;
            }
        }
        Ok(results)
    }

    /// Results of before as they are repeated, with what is said of each, which is not kept: of a unit that the caller sees
    /// no more it hears no more.
    pub(in crate::licensing) async fn still_seen(
        &self,
        caller: &Caller,
        results: Vec<api::DeactivatedUnit>,
    ) -> Result<Vec<api::DeactivatedUnit>, Refusal> {
        let was_found = |done: &api::DeactivatedUnit| done.refusal() != api::DeactivationRefusal::NotFound;
        let ids: Vec<_> = results.iter().map(|result| result.unit_id.clone()).collect();
        let Found { units: seen, .. } = self.to_deactivate(caller, &ids).await?;
        let again = |done: api::DeactivatedUnit| match seen.get(&done.unit_id).filter(|_| was_found(&done)) {
            Some(unit) => {
                let message = result(caller, &done.unit_id, Some(unit)).message;
                api::DeactivatedUnit { message, ..done }
            }
            None => result(caller, &done.unit_id, None),
        };
        Ok(results.into_iter().map(again).collect())
    }
}

/// What became of each of `ids`, from what is kept of it: of each ID once, in the order in which they were named first.
pub(in crate::licensing) fn named_again(
    ids: &[String],
    kept: Vec<api::DeactivatedUnit>,
) -> Vec<api::DeactivatedUnit> {
    // As answers were kept before: each with its ID.
    if kept.iter().any(|result| !result.unit_id.is_empty()) {
        return kept;
    }
    let mut named = HashSet::new();
    let first = ids.iter().filter(|id| named.insert(id.as_str())).map(String::as_str);
    let of: HashMap<&str, api::DeactivatedUnit> = first.zip(kept).collect();
    let again =
        |id: &String| Some(api::DeactivatedUnit { unit_id: id.clone(), ..of.get(id.as_str())?.clone() });
    ids.iter().filter_map(again).collect()
}

/// The units with these IDs that the caller sees. Looked up are the licenses of these units, and not all there are.
async fn seen(from: &mut AnyConnection, caller: &Caller, ids: &[String]) -> Result<Found, StoreError> {
    let ids: BTreeSet<_> = ids.iter().collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let mut found = Found::default();
    for ids in ids.chunks(CHUNK) {
        let wanted = list(1, ids.len());
        let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM units WHERE unit_id IN ({wanted})"));
        let query = ids.iter().fold(sqlx::query(sql), |query, id| query.bind(sought(id)));
        for row in query.fetch_all(&mut *from).await? {
            let unit = read(&row)?;
            found.units.insert(unit.id.clone(), unit);
        }
    }
    let of_units: BTreeSet<_> = found.units.values().map(|unit| unit.license_id.as_str()).collect();
    let of_units: Vec<_> = of_units.into_iter().collect();
    for ids in of_units.chunks(CHUNK) {
        let usable = licenses::usable_of(&mut *from, caller, ids).await?;
        found.customers.extend(usable.into_iter().map(|license| (license.id, license.customer_id)));
    }
    found.units.retain(|_, unit| found.customers.contains_key(&unit.license_id));
    Ok(found)
}

/// Many IDs that name nothing are a mistake or an attack: neither is gone through to its end.
fn must_be_mostly_found(ids: &[String], found: &HashMap<String, Unit>) -> Result<(), Refusal> {
    let missing = ids.iter().filter(|id| !found.contains_key(*id));
    let missing: BTreeSet<_> = missing.collect();
    match missing.first() {
        Some(first) if MOST_NOT_FOUND < missing.len() => Err(Refusal::Precondition(format!(
            "more than {MOST_NOT_FOUND} of the IDs name no unit that you see, `{}` for one; nothing was deactivated, look \
             for the right ones with `esa-sidecar units list`",
            shown(first)
        ))),
        Some(_) | None => Ok(()),
    }
}

/// Of entries about what changed nothing, the first ones, and how many more there were.
fn few(mut entries: Vec<Entry>) -> Vec<Entry> {
    let more = entries.len().saturating_sub(ONE_BY_ONE);
    entries.truncate(ONE_BY_ONE + 1);
    if let Some(last) = entries.get_mut(ONE_BY_ONE) {
        last.target.clear();
        last.detail = format!("{more} more units of this call alike, not written down one by one");
    }
    entries
}

/// One entry for all units that the caller does not see.
fn not_found(caller: &Caller, ids: &[&str]) -> Entry {
    let (target, detail) = match ids {
        [id] => (*id, "no unit the caller sees".to_owned()),
        ids => {
            let names: Vec<_> = ids.iter().map(|id| shown(id)).collect();
            ("", format!("{} units the caller does not see: {}", ids.len(), names.join(", ")))
        }
    };
    caller.failed(&caller.customer_id, "unit.deactivate", target, detail)
}

fn result(caller: &Caller, id: &str, unit: Option<&Unit>) -> api::DeactivatedUnit {
    use api::DeactivationRefusal as Told;
    let refused = |refusal: Told, message: String| api::DeactivatedUnit {
        unit_id: id.to_owned(),
        state: api::UnitState::Unspecified.into(),
        refusal: refusal.into(),
        message,
    };
    let Some(unit) = unit else {
        return refused(Told::NotFound, Refusal::NotFound { what: "unit", id: id.to_owned() }.to_string());
    };
    match may_deactivate(caller.deactivating(), unit.activated_by()) {
        Ok(()) => api::DeactivatedUnit {
            unit_id: id.to_owned(),
            state: wire::unit_state(unit.state.deactivated()).into(),
            refusal: Told::Unspecified.into(),
            message: String::new(),
        },
        Err(DeactivationRefusal::OtherAccount) => refused(
            Told::OtherAccount,
            format!(
                "{} was activated with the account `{}`; that account or the license owner deactivates it",
                shown(&unit.device_name),
                unit.activated_by_name
            ),
        ),
        Err(DeactivationRefusal::LicenseKey) => refused(
            Told::LicenseKey,
            format!(
                "{} was activated by license key; the license owner deactivates it",
                shown(&unit.device_name)
            ),
        ),
    }
}

/// The entry for one unit, and whether its state changes: asking again changes nothing.
fn audited(caller: &Caller, customer_id: &str, unit: &Unit) -> (Entry, bool) {
    let done = caller.did(customer_id, "unit.deactivate", &unit.id, &unit.device_name);
    match may_deactivate(caller.deactivating(), unit.activated_by()) {
        Ok(()) if unit.state == UnitState::Active => (done, true),
        Ok(()) => {
            (Entry { detail: format!("{}, which was deactivated already", unit.device_name), ..done }, false)
        }
        Err(DeactivationRefusal::OtherAccount) => {
            let detail = format!("{}, activated by {}", unit.device_name, unit.activated_by_name);
            (Entry { done: false, detail, ..done }, false)
        }
        Err(DeactivationRefusal::LicenseKey) => {
            let detail = format!("{}, activated by license key", unit.device_name);
            (Entry { done: false, detail, ..done }, false)
        }
    }
}

/// Takes active units of one subscription out: their seats are free, and their reports do not count any more.
pub(super) async fn take_out(
    change: &mut Change,
    subscription: &mut Subscription,
    units: &[&Unit],
) -> Result<(), Refusal> {
    let mut of_license: BTreeMap<&str, i64> = BTreeMap::new();
    for chunk in units.chunks(CHUNK) {
        let sql = format!(
            "UPDATE units SET state = $1, deactivated_at = $2, changed_in = $3 WHERE unit_id IN ({})",
            list(4, chunk.len())
        );
        let update =
            sqlx::query(AssertSqlSafe(sql)).bind(wire::unit_state_kept(UnitState::DeactivationPending));
        let update = update.bind(nanos(change.at)).bind(subscription.sequence + 1);
        let update = chunk.iter().fold(update, |update, unit| update.bind(unit.id.clone()));
        update.execute(&mut *change.tx).await?;
        usage::withdraw(change, subscription, chunk).await?;
        for unit in chunk {
            *of_license.entry(&unit.license_id).or_default() += 1;
        }
    }
    for (license_id, count) in of_license {
        let update =
            sqlx::query("UPDATE licenses SET active_units = active_units - $2 WHERE license_id = $1");
        update.bind(license_id.to_owned()).bind(count).execute(&mut *change.tx).await?;
        subscription.totals.active_units -= count;
    }
    subscription.settle(change, true).await
}

/// `$1, $2, $3`: placeholders for a list, numbered after `first`.
pub(in crate::licensing) fn list(first: usize, count: usize) -> String {
    (first..first + count).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}
