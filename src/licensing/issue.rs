//! Issuing licences and changing them, each change worked into the facts of its subscription at once.
//!
//! Not here: how requests read (see `service::licenses`), and delegation.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{AssertSqlSafe, Row as _};

use super::{
    Backend, accounts,
    caller::Caller,
    change::Change,
    keys,
    licenses::{self, Eye, Kept},
    refusal::Refusal,
    store::{StoreError, kept, nanos},
    subscriptions::Subscription,
    units::list,
};
use crate::{
    domain::{
        Instant, SubscriptionId,
        facts::SmsCredits,
        license::{License, LicenseState},
    },
    proto::licensing::{LicenseState as ApiState, SeatKind},
};

/// What to issue.
#[derive(Clone, Debug)]
pub(super) struct New {
    pub(super) id: Option<SubscriptionId>,
    /// The customer's name; the caller's own when empty.
    pub(super) customer: String,
    pub(super) product: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) seat_kind: SeatKind,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) grants: License,
}

/// What to change of a licence; nothing where it stays.
#[derive(Clone, Debug, Default)]
pub(super) struct Edit {
    pub(super) name: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) attributes: Option<BTreeMap<String, String>>,
    pub(super) seats: Option<u64>,
    pub(super) all_users_limit: Option<u64>,
    pub(super) components_limit: Option<u64>,
    /// The inner nothing: SMS is not bought from the vendor any more.
    pub(super) sms_credits: Option<Option<u64>>,
    pub(super) expires_at: Option<Instant>,
    pub(super) state: Option<LicenseState>,
}

/// A licence and the key that was made for it.
pub(super) struct Issued {
    pub(super) license_id: String,
    pub(super) key: String,
}

impl Backend {
    /// Issues a licence to a customer that is held within `change`.
    pub(super) async fn issue(
        &self,
        change: &mut Change,
        caller: &Caller,
        customer_id: &str,
        new: &New,
    ) -> Result<Issued, Refusal> {
        caller.must_issue()?;
        let customer_id = customer_id.to_owned();
        let id = match new.id {
            Some(id) => id,
            None => keys::public_license_id()?,
        };
        let taken = sqlx::query("SELECT 1 AS taken FROM licenses WHERE license_id = $1").bind(id.to_string());
        if taken.fetch_optional(&mut *change.tx).await?.is_some() {
            return Err(Refusal::Taken { what: "license", id: id.to_string() });
        }
        let mut subscription = subscription_of(change, &customer_id, new, id).await?;
        let key = keys::license_key()?;
        insert(change, new, id, &customer_id, &subscription, &key).await?;
        subscription.settle(change, false).await?;
        let detail = format!(
            "{} seats of {} until {}",
            new.grants.seats.0,
            new.product,
            crate::rfc3339::format(new.grants.expires_at)
        );
        change.audit(caller.did(&customer_id, "license.create", id.as_str(), detail));
        Ok(Issued { license_id: id.to_string(), key })
    }

    /// Changes a licence within `change`; the licence as it was.
    pub(super) async fn edit(
        &self,
        change: &mut Change,
        caller: &Caller,
        license_id: &str,
        action: &'static str,
        edit: impl FnOnce(&Kept, Instant) -> Result<(Edit, String), Refusal>,
    ) -> Result<(), Refusal> {
        let eye = Eye::on_licenses(caller);
        let (seen, mut subscription) =
            held_license(change, caller, eye, license_id, Caller::must_issue).await?;
        let (edit, detail) = edit(&seen, change.at)?;
        write(change, &seen, edit).await?;
        subscription.settle(change, false).await?;
        change.audit(caller.did(&seen.customer_id, action, &seen.id, detail));
        Ok(())
    }

    /// Replaces the key of a licence within `change`. Whoever owns the license may: a key that leaked activates nothing more.
    pub(super) async fn rotate_key(
        &self,
        change: &mut Change,
        caller: &Caller,
        license_id: &str,
    ) -> Result<String, Refusal> {
        // Whoever activates with the key before has the subscription locked, or finds that it opens nothing any more.
        let eye = Eye::on_licenses(caller);
        let (seen, _) = held_license(change, caller, eye, license_id, Caller::must_own_or_issue).await?;
        let key = keys::license_key()?;
        let update = sqlx::query(
            "UPDATE licenses SET key_sha256 = $2, units_by_key = 0, units_ever = 0 WHERE license_id = $1",
        );
        update.bind(&seen.id).bind(keys::hash(&key)).execute(&mut *change.tx).await?;
        change.audit(caller.did(&seen.customer_id, "license.rotate_key", &seen.id, String::new()));
        Ok(key)
    }
}

/// The subscription `id`, held for a change; there is one for every licence.
pub(super) async fn held(change: &mut Change, id: &str) -> Result<Subscription, Refusal> {
    let missing = || StoreError::Unreadable(format!("no subscription `{id}` for its license"));
    Ok(Subscription::hold(change, id).await?.ok_or_else(missing)?)
}

/// The license `id`, if the caller sees it and `may` change it, with its subscription, held for a change.
pub(super) async fn held_license(
    change: &mut Change,
    caller: &Caller,
    eye: Eye,
    id: &str,
    may: impl Fn(&Caller) -> Result<(), Refusal>,
) -> Result<(Kept, Subscription), Refusal> {
    let seen = licenses::seen(&mut *change.tx, caller, eye, id).await?;
    may(caller)?;
    let subscription = held(change, &seen.subscription_id).await?;
    // What was read before it was locked may have changed since.
    Ok((licenses::seen(&mut *change.tx, caller, eye, id).await?, subscription))
}

/// Locks what the licenses of an import join, in the order in which everybody locks: their customers, and then their
/// subscriptions. One by one they would be locked in the order of the import, against another one's. The customers' IDs,
/// by their names as they are given.
pub(super) async fn lock_for_all<'a>(
    change: &mut Change,
    caller: &Caller,
    licenses: &'a [New],
) -> Result<BTreeMap<&'a str, String>, Refusal> {
    let customers = hold_customers(change, caller, licenses.iter().map(|new| new.customer.as_str())).await?;
    let products: BTreeSet<&str> = licenses.iter().map(|new| new.product.as_str()).collect();
    let ids: BTreeSet<String> = customers.values().cloned().collect();
    let sql = format!(
        "SELECT subscription_id, product FROM subscriptions WHERE customer_id IN ({})",
        list(1, ids.len().max(1))
    );
    let is_any = !ids.is_empty();
    let joined = ids.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, id| query.bind(id));
    let mut joins = Vec::new();
    if is_any {
        for row in joined.fetch_all(&mut *change.tx).await? {
            if products.contains(row.try_get::<String, _>("product")?.as_str()) {
                joins.push(row.try_get::<String, _>("subscription_id")?);
            }
        }
    }
    Subscription::hold_all(change, joins.iter().map(String::as_str)).await?;
    Ok(customers)
}

/// The IDs of the customers of these names, the caller's own where one is empty: held, so that two licences of one customer
/// are not issued at once, and one does not miss the other. Names of no customer are left out.
pub(super) async fn hold_customers<'a>(
    change: &mut Change,
    caller: &Caller,
    names: impl Iterator<Item = &'a str>,
) -> Result<BTreeMap<&'a str, String>, Refusal> {
    caller.must_issue()?;
    let names: BTreeSet<&str> = names.collect();
    let named = accounts::called(change, names.iter().copied().filter(|name| !name.is_empty())).await?;
    let mut ids: BTreeMap<_, _> =
        named.into_iter().map(|(name, customer)| (name, customer.customer_id)).collect();
    if names.contains("") {
        ids.insert("", caller.customer_id.clone());
    }
    // One by one, in the order in which everybody locks.
    for id in ids.values().collect::<BTreeSet<_>>() {
        let hold = change.holding("SELECT customer_id FROM customers WHERE customer_id = $1");
        sqlx::query(hold).bind(id.clone()).fetch_optional(&mut *change.tx).await?;
    }
    change.locked();
    Ok(ids)
}

/// The ID of the customer `name`, among those that are held.
pub(super) fn of_customer<'a>(held: &'a BTreeMap<&str, String>, name: &str) -> Result<&'a str, Refusal> {
    let missing = || Refusal::NotFound { what: "customer", id: name.to_owned() };
    held.get(name).map(String::as_str).ok_or_else(missing)
}

/// The subscription a new licence joins: the customer's for that product, or a new one with the licence's own ID.
async fn subscription_of(
    change: &mut Change,
    customer_id: &str,
    new: &New,
    id: SubscriptionId,
) -> Result<Subscription, Refusal> {
    let query =
        sqlx::query("SELECT subscription_id FROM subscriptions WHERE customer_id = $1 AND product = $2");
    let query = query.bind(customer_id.to_owned()).bind(&new.product);
    let Some(row) = query.fetch_optional(&mut *change.tx).await? else {
        let subscription = Subscription::new(id, customer_id, &new.product, new.seat_kind, change.at);
        subscription.insert(change).await?;
        return Ok(subscription);
    };
    let subscription = held(change, row.try_get("subscription_id")?).await?;
    if subscription.seat_kind == new.seat_kind {
        return Ok(subscription);
    }
    let what = format!("the other licenses of this customer for {} have another kind of seat", new.product);
    Err(Refusal::unreadable("seat_kind", what))
}

async fn insert(
    change: &mut Change,
    new: &New,
    id: SubscriptionId,
    customer_id: &str,
    subscription: &Subscription,
    key: &str,
) -> Result<(), StoreError> {
    let License { seats, expires_at, state: _, all_users_limit, components_limit, sms_credits } = new.grants;
    let insert = sqlx::query(
        "INSERT INTO licenses (license_id, subscription_id, customer_id, product, name, type, key_sha256, seats,
             expires_at, state, state_since, all_users_limit, components_limit, sms_credits, attributes,
             active_units, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 0, $11, $12, $13, $14, 0, $15)",
    );
    let insert = insert.bind(id.to_string()).bind(subscription.id.to_string()).bind(customer_id.to_owned());
    let insert = insert.bind(&new.product).bind(&new.name).bind(&new.kind).bind(keys::hash(key));
    let insert =
        insert.bind(kept(seats.0)).bind(nanos(expires_at)).bind(i64::from(i32::from(ApiState::Active)));
    let insert = insert.bind(kept(all_users_limit)).bind(kept(components_limit));
    let insert = insert.bind(sms_credits.map(|SmsCredits(credits)| kept(credits)));
    let insert = insert.bind(attributes(&new.attributes)).bind(nanos(change.at));
    insert.execute(&mut *change.tx).await?;
    Ok(())
}

async fn write(change: &mut Change, before: &Kept, edit: Edit) -> Result<(), StoreError> {
    let Edit { name, kind, attributes: changed, seats, all_users_limit, components_limit, .. } = edit;
    let Edit { sms_credits, expires_at, state, .. } = edit;
    let License { seats: seats_before, .. } = before.grants;
    let (state, since) = match state.unwrap_or(before.grants.state) {
        LicenseState::Active => (ApiState::Active, 0),
        LicenseState::Suspended { since } => (ApiState::Suspended, nanos(since)),
        LicenseState::Canceled { since } => (ApiState::Canceled, nanos(since)),
        LicenseState::Deactivated { since } => (ApiState::Deactivated, nanos(since)),
    };
    let credits = sms_credits.unwrap_or(before.grants.sms_credits.map(|SmsCredits(credits)| credits));
    let update = sqlx::query(
        "UPDATE licenses SET name = $2, type = $3, attributes = $4, seats = $5, all_users_limit = $6,
             components_limit = $7, sms_credits = $8, expires_at = $9, state = $10, state_since = $11
         WHERE license_id = $1",
    );
    let update = update.bind(before.id.clone()).bind(name.unwrap_or_else(|| before.name.clone()));
    let update = update.bind(kind.unwrap_or_else(|| before.kind.clone()));
    let update = update.bind(attributes(changed.as_ref().unwrap_or(&before.attributes)));
    let update = update.bind(kept(seats.unwrap_or(seats_before.0)));
    let update = update.bind(kept(all_users_limit.unwrap_or(before.grants.all_users_limit)));
    let update = update.bind(kept(components_limit.unwrap_or(before.grants.components_limit)));
    let update = update.bind(credits.map(kept)).bind(nanos(expires_at.unwrap_or(before.grants.expires_at)));
    update.bind(i64::from(i32::from(state))).bind(since).execute(&mut *change.tx).await?;
    Ok(())
}

fn attributes(attributes: &BTreeMap<String, String>) -> String {
    // Texts alone: there is no way to fail.
    serde_json::to_string(attributes).unwrap_or_default()
}
