//! Customers and their owners: each has one, and keeps one.
//!
//! Not here: the accounts themselves.

use sqlx::Row as _;
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use super::Account;
use crate::{
    licensing::{caller::Caller, change::Change, refusal::Refusal, store::nanos},
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

/// The ID of the customer `name`, which is made if it is new, and held: its first owner is made once.
pub(super) async fn make_customer(change: &mut Change, name: &str) -> Result<String, Refusal> {
    let name: String = name.nfc().collect();
    let alike =
        sqlx::query("SELECT name FROM customers WHERE lower(name) = lower($1) ORDER BY name = $1 DESC, name");
    let alike = alike.bind(name.clone()).fetch_optional(&mut *change.tx).await?;
    let name = alike.map(|row| row.try_get("name")).transpose()?.unwrap_or(name);
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
    let own =
        sqlx::query("SELECT 1 AS own FROM customers WHERE customer_id = $1 AND lower(name) = lower($2)");
    let own = own.bind(&caller.customer_id).bind(customer.to_owned());
    let own = customer.is_empty() || own.fetch_optional(&mut *change.tx).await?.is_some();
    if !own {
        caller.must_issue()?;
    }
    Ok(own)
}
