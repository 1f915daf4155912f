//! Accounts looked for: by what somebody typed, or by ID.
//!
//! Not here: what may be typed (see `names`).

use std::collections::BTreeMap;

use sqlx::{Any, Executor, Row as _, any::AnyRow};

use super::{
    Account, SELECT,
    names::{LONGEST_BYTES, SignInName},
    read,
};
use crate::licensing::{
    caller::Caller,
    change::Change,
    refusal::Refusal,
    store::{StoreError, sought},
};

/// An account of a customer, by its name, with or without the customer's.
pub(in crate::licensing) async fn named(
    change: &mut Change,
    customer_id: &str,
    name: &str,
) -> Result<Account, Refusal> {
    let missing = || Refusal::NotFound { what: "account", id: name.to_owned() };
    if LONGEST_BYTES < name.len() {
        return Err(missing());
    }
    let customer =
        sqlx::query("SELECT name FROM customers WHERE customer_id = $1").bind(customer_id.to_owned());
    let customer: String = customer.fetch_one(&mut *change.tx).await?.try_get("name")?;
    let account = found(&mut *change.tx, &SignInName::within(name, &customer)).await?;
    account.filter(|account| account.customer_id == customer_id).ok_or_else(missing)
}

/// How an account of the caller's customer is named in the audit log, however somebody typed it.
pub(in crate::licensing) async fn kept_name<'e>(
    from: impl Executor<'e, Database = Any>,
    caller: &Caller,
    typed: &str,
) -> Result<String, StoreError> {
    let account = match typed.len() {
        0..=LONGEST_BYTES => found(from, &SignInName::within(typed, &caller.customer)).await?,
        _ => None,
    };
    let own = account.filter(|account| account.customer_id == caller.customer_id);
    Ok(own.map_or_else(|| typed.to_owned(), |account| account.name))
}

/// An account of any customer.
pub(in crate::licensing) async fn found<'e>(
    from: impl Executor<'e, Database = Any>,
    name: &SignInName,
) -> Result<Option<Account>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE a.sign_in_name IN ($1, $2, $3, $4, $5, $6)"));
    let query = name.keys().iter().fold(sqlx::query(sql), |query, key| query.bind(sought(key)));
    likeliest(name, query.fetch_all(from).await?.iter())
}

/// The same for signing in, and whether it signed in from `address` before.
pub(in crate::licensing) async fn to_sign_in<'e>(
    from: impl Executor<'e, Database = Any>,
    name: &SignInName,
    address: &str,
) -> Result<Option<(Account, bool)>, StoreError> {
    let sql = format!(
        "{SELECT} LEFT JOIN sign_in_addresses s ON s.account_id = a.account_id AND s.address = $7
         WHERE a.sign_in_name IN ($1, $2, $3, $4, $5, $6)"
    );
    let sql = sqlx::AssertSqlSafe(sql.replacen("a.created_at", "a.created_at, s.last_at", 1));
    let query = name.keys().iter().fold(sqlx::query(sql), |query, key| query.bind(sought(key)));
    let rows = query.bind(address.to_owned()).fetch_all(from).await?;
    let Some(account) = likeliest(name, rows.iter())? else { return Ok(None) };
    let known = rows.iter().any(|row| {
        row.try_get::<String, _>("account_id").is_ok_and(|id| id == account.account_id)
            && row.try_get::<Option<i64>, _>("last_at").is_ok_and(|at| at.is_some())
    });
    Ok(Some((account, known)))
}

/// The account a name means most likely: accounts of before may differ in case alone, or hold an `@`.
fn likeliest<'r>(
    name: &SignInName,
    rows: impl Iterator<Item = &'r AnyRow>,
) -> Result<Option<Account>, StoreError> {
    let mut accounts = BTreeMap::new();
    for row in rows {
        let key: String = row.try_get("sign_in_name")?;
        accounts.insert(name.place(&key), read(row)?);
    }
    Ok(accounts.into_values().next())
}

/// An account as it is now.
pub(in crate::licensing) async fn by_id<'e>(
    from: impl Executor<'e, Database = Any>,
    account_id: &str,
) -> Result<Option<Account>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE a.account_id = $1"));
    let row = sqlx::query(sql).bind(account_id.to_owned()).fetch_optional(from).await?;
    row.as_ref().map(read).transpose()
}

/// An account as it is now, held for a change.
pub(in crate::licensing) async fn held(change: &mut Change, account_id: &str) -> Result<Account, Refusal> {
    // PostgreSQL holds rows of one table; a customer's name never changes.
    let held = change.holding("SELECT account_id FROM accounts WHERE account_id = $1");
    sqlx::query(held).bind(account_id.to_owned()).fetch_optional(&mut *change.tx).await?;
    change.locked();
    let missing = || Refusal::NotFound { what: "account", id: account_id.to_owned() };
    by_id(&mut *change.tx, account_id).await?.ok_or_else(missing)
}
