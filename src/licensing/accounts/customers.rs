//! Customers and their owners: each has one, and keeps one.
//!
//! Not here: the accounts themselves.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Row as _, any::AnyRow};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use super::{Account, names::folded};
use crate::{
    licensing::{
        caller::Caller,
        change::Change,
        refusal::Refusal,
        store::{StoreError, nanos, sought},
    },
    proto::licensing as api,
};

/// A customer waits for its first owner, or for one in place of those that are disabled or whose one-time password has
/// ended. The others are made by
/// its owners: whoever issues licences is not let in beside them.
pub(super) async fn must_be_without_owner(change: &mut Change, customer_id: &str) -> Result<(), Refusal> {
    let owner = sqlx::query(
        "SELECT 1 AS one FROM accounts WHERE customer_id = $1 AND role = $2 AND disabled = 0
           AND (must_change_password = 0 OR $3 < one_time_until)",
    );
    let owner = owner.bind(customer_id.to_owned()).bind(i64::from(i32::from(api::AccountRole::Owner)));
    let owner = owner.bind(nanos(change.at));
    if owner.fetch_optional(&mut *change.tx).await?.is_none() {
        return Ok(());
    }
    Err(Refusal::NotAllowed("this customer has an owner, who makes its accounts"))
}

/// A customer keeps an owner that is not disabled. Its row is held first: of owners that disable each other at once, one
/// is looked at after the other, and the last one stays (semantics 7.32).
pub(super) async fn must_leave_an_owner(change: &mut Change, account: &Account) -> Result<(), Refusal> {
    let held = change.holding("SELECT customer_id FROM customers WHERE customer_id = $1");
    sqlx::query(held).bind(&account.customer_id).fetch_optional(&mut *change.tx).await?;
    let another = sqlx::query(
        "SELECT 1 AS one FROM accounts WHERE customer_id = $1 AND role = $2 AND disabled = 0 AND account_id <> $3",
    );
    let another = another.bind(&account.customer_id).bind(i64::from(i32::from(api::AccountRole::Owner)));
    if another.bind(&account.account_id).fetch_optional(&mut *change.tx).await?.is_some() {
        return Ok(());
    }
    Err(Refusal::Precondition(
        "this is the last owner that is not disabled; make another one first".to_owned(),
    ))
}

/// A customer somebody named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::licensing) struct Named {
    pub(in crate::licensing) customer_id: String,
    name: String,
}

/// The customers that these names mean, however their letters are written (semantics 7.33); those that are none are left
/// out. One that is written exactly so is meant before one that reads alike.
pub(in crate::licensing) async fn called<'a>(
    change: &mut Change,
    names: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<&'a str, Named>, StoreError> {
    let (mut found, mut left) = (BTreeMap::new(), Vec::new());
    for name in names.into_iter().collect::<BTreeSet<_>>() {
        let plain: String = name.nfc().collect();
        let exact = sqlx::query("SELECT customer_id, name FROM customers WHERE name IN ($1, $2)");
        let exact = exact.bind(sought(name)).bind(sought(&plain)).fetch_optional(&mut *change.tx).await?;
        match exact {
            Some(row) => drop(found.insert(name, read(&row)?)),
            None => left.push((name, folded(name))),
        }
    }
    if left.is_empty() {
        return Ok(found);
    }
    // No database of ours knows the case of every letter.
    let all = sqlx::query("SELECT customer_id, name FROM customers ORDER BY name DESC");
    let mut alike = BTreeMap::new();
    for row in all.fetch_all(&mut *change.tx).await? {
        let customer = read(&row)?;
        alike.insert(folded(&customer.name), customer);
    }
    let left = left.into_iter().filter_map(|(name, folded)| Some((name, alike.get(&folded)?.clone())));
    found.extend(left);
    Ok(found)
}

fn read(row: &AnyRow) -> Result<Named, StoreError> {
    Ok(Named { customer_id: row.try_get("customer_id")?, name: row.try_get("name")? })
}

/// The ID of the customer `name`, which is made if it is new, and held: its first owner is made once.
pub(super) async fn make_customer(change: &mut Change, name: &str) -> Result<String, Refusal> {
    let known = called(change, [name]).await?.remove(name);
    let name = known.map_or_else(|| name.nfc().collect(), |customer| customer.name);
    let insert = sqlx::query(
        "INSERT INTO customers (customer_id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    );
    let insert = insert.bind(Uuid::now_v7().to_string()).bind(name.clone()).bind(nanos(change.at));
    insert.execute(&mut *change.tx).await?;
    let row = sqlx::query(change.holding("SELECT customer_id FROM customers WHERE name = $1"));
    let row = row.bind(name).fetch_one(&mut *change.tx).await?;
    change.locked();
    Ok(row.try_get("customer_id")?)
}

/// Whether the accounts of `customer` are those of the caller's own customer; refused if the caller may not make any there.
pub(in crate::licensing) async fn may_make(
    change: &mut Change,
    caller: &Caller,
    customer: &str,
) -> Result<bool, Refusal> {
    caller.must_be_owner()?;
    let named = called(change, [customer]).await?.remove(customer);
    let own = customer.is_empty() || named.is_some_and(|named| named.customer_id == caller.customer_id);
    if !own {
        caller.must_issue()?;
    }
    Ok(own)
}
