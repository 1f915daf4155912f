//! Accounts as they are kept: owners and security admins of a customer.
//!
//! Not here: how one signs in (see `sign_in`).

use sqlx::{Any, Executor, Row as _, any::AnyRow};
use uuid::Uuid;

use super::{
    Backend, caller,
    caller::Caller,
    change::{Change, Entry},
    issue::entry,
    keys,
    refusal::Refusal,
    store::{Store, StoreError, instant, nanos, sought},
    wire,
};
use crate::{domain::Instant, proto::licensing as api};

/// An account as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) account_id: String,
    pub(super) customer_id: String,
    pub(super) customer: String,
    pub(super) name: String,
    pub(super) role: api::AccountRole,
    pub(super) may_issue: bool,
    pub(super) password_hash: String,
    pub(super) must_change_password: bool,
    pub(super) disabled: bool,
    pub(super) locked_until: Instant,
    pub(super) created_at: Instant,
}

/// The first account, and the customer it belongs to.
pub const FIRST_ACCOUNT: &str = "owner";
pub(super) const FIRST_CUSTOMER: &str = "default";

/// The columns of an account, with its customer's name.
pub(super) const SELECT: &str =
    "SELECT a.account_id, a.customer_id, c.name AS customer, a.name, a.role, a.may_issue,
    a.password_hash, a.must_change_password, a.disabled, a.locked_until, a.created_at
    FROM accounts a JOIN customers c ON c.customer_id = a.customer_id";

impl Backend {
    /// Makes the first owner, unless there are accounts; its one-time password if this call made it. With `anew` an
    /// owner whose password was lost gets a new one.
    pub async fn first_owner(&self, anew: bool) -> Result<Option<String>, Refusal> {
        let password = keys::one_time_password()?;
        let hash = self.passwords.hash(&password).await?;
        // Replicas that start at once meet here; one of them makes it.
        let made = Store::retrying(|| self.make_first_owner(anew, &hash)).await?;
        Ok(made.then_some(password))
    }

    async fn make_first_owner(&self, anew: bool, hash: &str) -> Result<bool, Refusal> {
        let mut change = Change::begin(self).await?;
        let any =
            sqlx::query("SELECT 1 AS one FROM accounts LIMIT 1").fetch_optional(&mut *change.tx).await?;
        if any.is_none() {
            let customer_id = make_customer(&mut change, FIRST_CUSTOMER).await?;
            let first = NewAccount {
                name: FIRST_ACCOUNT,
                role: api::AccountRole::Owner,
                may_issue: true,
                customer_id: &customer_id,
            };
            insert(&mut change, &first, hash).await?;
            change.audit(backend_entry(&customer_id, "account.create", FIRST_ACCOUNT, ""));
        } else if anew {
            let missing = || Refusal::NotFound { what: "account", id: FIRST_ACCOUNT.to_owned() };
            let owner = by_name(&mut *change.tx, FIRST_ACCOUNT).await?.ok_or_else(missing)?;
            // Who may start the backend comes in, whatever was done to the account.
            disable(&mut change, &owner, false).await?;
            replace_password(&mut change, &owner, hash).await?;
            change.audit(backend_entry(&owner.customer_id, "account.reset_password", FIRST_ACCOUNT, ""));
        } else {
            return Ok(false);
        }
        self.told(change.keep().await?);
        Ok(true)
    }

    /// Makes an account within `change`.
    pub(super) async fn make_account(
        &self,
        change: &mut Change,
        caller: &Caller,
        name: &str,
        role: api::AccountRole,
        customer: &str,
        password_hash: &str,
    ) -> Result<Account, Refusal> {
        let customer_id = if may_make(change, caller, customer).await? {
            caller.customer_id.clone()
        } else {
            if role != api::AccountRole::Owner {
                let what = "another customer's security admins are made by its own owners";
                return Err(Refusal::unreadable("role", what));
            }
            let customer_id = make_customer(change, customer).await?;
            must_be_without_owner(change, &customer_id).await?;
            customer_id
        };
        let taken = sqlx::query("SELECT 1 AS one FROM accounts WHERE name = $1").bind(name.to_owned());
        if taken.fetch_optional(&mut *change.tx).await?.is_some() {
            return Err(Refusal::Taken { what: "account", id: name.to_owned() });
        }
        let new = NewAccount { name, role, may_issue: false, customer_id: &customer_id };
        insert(change, &new, password_hash).await?;
        change.audit(entry(caller, &customer_id, "account.create", name, role.as_str_name().to_lowercase()));
        named(change, &customer_id, name).await
    }

    /// Disables or enables an account within `change`.
    pub(super) async fn set_disabled(
        &self,
        change: &mut Change,
        caller: &Caller,
        name: &str,
        disabled: bool,
    ) -> Result<Account, Refusal> {
        let account = managed(change, caller, name).await?;
        if disabled && account.account_id == caller.account_id {
            return Err(Refusal::Precondition(
                "an account does not disable itself; ask another owner".to_owned(),
            ));
        }
        if disabled && account.role == api::AccountRole::Owner {
            must_leave_an_owner(change, &account).await?;
        }
        disable(change, &account, disabled).await?;
        let action = if disabled { "account.disable" } else { "account.enable" };
        change.audit(entry(caller, &account.customer_id, action, name, ""));
        Ok(Account { disabled, ..account })
    }

    /// Gives an account of the caller's customer a new one-time password within `change`.
    pub(super) async fn reset_password(
        &self,
        change: &mut Change,
        caller: &Caller,
        name: &str,
        password_hash: &str,
    ) -> Result<(), Refusal> {
        let account = managed(change, caller, name).await?;
        replace_password(change, &account, password_hash).await?;
        change.audit(entry(caller, &account.customer_id, "account.reset_password", name, ""));
        Ok(())
    }
}

struct NewAccount<'a> {
    name: &'a str,
    role: api::AccountRole,
    may_issue: bool,
    customer_id: &'a str,
}

/// Whether the accounts of `customer` are those of the caller's own customer; refused if the caller may not make any there.
pub(super) async fn may_make(change: &mut Change, caller: &Caller, customer: &str) -> Result<bool, Refusal> {
    caller.must_be_owner()?;
    let own = sqlx::query("SELECT 1 AS own FROM customers WHERE customer_id = $1 AND name = $2");
    let own = own.bind(&caller.customer_id).bind(customer.to_owned());
    let own = customer.is_empty() || own.fetch_optional(&mut *change.tx).await?.is_some();
    if !own {
        caller.must_issue()?;
    }
    Ok(own)
}

/// An account of a customer, by its name.
pub(super) async fn named(change: &mut Change, customer_id: &str, name: &str) -> Result<Account, Refusal> {
    let account = by_name(&mut *change.tx, name).await?.filter(|account| account.customer_id == customer_id);
    account.ok_or_else(|| Refusal::NotFound { what: "account", id: name.to_owned() })
}

/// An account of the caller's customer that it may reset, disable and enable. Whoever gives an account its password can
/// sign in with it: one that may issue is in the hands of those who may, or any owner beside it could come to issue.
pub(super) async fn managed(change: &mut Change, caller: &Caller, name: &str) -> Result<Account, Refusal> {
    caller.must_be_owner()?;
    let account = named(change, &caller.customer_id, name).await?;
    if account.may_issue && !caller.may_issue {
        let refused = "an account that may issue licenses is managed by those who may; ask one of them";
        return Err(Refusal::NotAllowed(refused));
    }
    Ok(account)
}

/// An account of any customer: for signing in.
pub(super) async fn by_name<'e>(
    from: impl Executor<'e, Database = Any>,
    name: &str,
) -> Result<Option<Account>, StoreError> {
    let sql = sqlx::AssertSqlSafe(format!("{SELECT} WHERE a.name = $1"));
    let row = sqlx::query(sql).bind(sought(name)).fetch_optional(from).await?;
    row.as_ref().map(read).transpose()
}

/// An account as it is now, held for a change.
pub(super) async fn held(change: &mut Change, name: &str) -> Result<Account, Refusal> {
    // PostgreSQL holds rows of one table; a customer's name never changes.
    let held = change.holding("SELECT account_id FROM accounts WHERE name = $1");
    sqlx::query(held).bind(name.to_owned()).fetch_optional(&mut *change.tx).await?;
    change.locked();
    let missing = || Refusal::NotFound { what: "account", id: name.to_owned() };
    by_name(&mut *change.tx, name).await?.ok_or_else(missing)
}

/// The caller's account as it is now, held for a change, unless it was shut out after the call came in.
pub(super) async fn held_by(change: &mut Change, caller: &Caller) -> Result<Account, Refusal> {
    change.admit(caller, "").await?;
    held(change, &caller.name).await
}

pub(super) fn read(row: &AnyRow) -> Result<Account, StoreError> {
    let flag = |column: &str| row.try_get::<i64, _>(column).map(|flag| flag != 0);
    Ok(Account {
        account_id: row.try_get("account_id")?,
        customer_id: row.try_get("customer_id")?,
        customer: row.try_get("customer")?,
        name: row.try_get("name")?,
        role: caller::role(row.try_get("role")?),
        may_issue: flag("may_issue")?,
        password_hash: row.try_get("password_hash")?,
        must_change_password: flag("must_change_password")?,
        disabled: flag("disabled")?,
        locked_until: instant(row.try_get("locked_until")?),
        created_at: instant(row.try_get("created_at")?),
    })
}

impl Account {
    /// As it is told.
    pub(super) fn told(&self) -> api::Account {
        api::Account {
            account_id: self.account_id.clone(),
            name: self.name.clone(),
            customer: self.customer.clone(),
            role: self.role.into(),
            may_issue: self.may_issue,
            disabled: self.disabled,
            password_change_required: self.must_change_password,
            created_at: wire::timestamp(self.created_at),
        }
    }
}

/// A customer waits for its first owner, or for one in place of those that are disabled. The others are made by
/// its owners: whoever issues licences is not let in beside them.
async fn must_be_without_owner(change: &mut Change, customer_id: &str) -> Result<(), Refusal> {
    let owner =
        sqlx::query("SELECT 1 AS one FROM accounts WHERE customer_id = $1 AND role = $2 AND disabled = 0");
    let owner = owner.bind(customer_id.to_owned()).bind(i64::from(i32::from(api::AccountRole::Owner)));
    if owner.fetch_optional(&mut *change.tx).await?.is_none() {
        return Ok(());
    }
    Err(Refusal::NotAllowed("this customer has an owner, who makes its accounts"))
}

/// A customer keeps an owner that is not disabled. Its row is held first: of owners that disable each other at once, one
/// is looked at after the other, and the last one stays (semantics 7.32).
async fn must_leave_an_owner(change: &mut Change, account: &Account) -> Result<(), Refusal> {
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
async fn make_customer(change: &mut Change, name: &str) -> Result<String, Refusal> {
    let insert = sqlx::query(
        "INSERT INTO customers (customer_id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
    );
    let insert = insert.bind(Uuid::now_v7().to_string()).bind(name.to_owned()).bind(nanos(change.at));
    insert.execute(&mut *change.tx).await?;
    let row = sqlx::query(change.holding("SELECT customer_id FROM customers WHERE name = $1"));
    let row = row.bind(name.to_owned()).fetch_one(&mut *change.tx).await?;
    change.locked();
    Ok(row.try_get("customer_id")?)
}

async fn insert(change: &mut Change, new: &NewAccount<'_>, password_hash: &str) -> Result<(), StoreError> {
    let NewAccount { name, role, may_issue, customer_id } = *new;
    let insert = sqlx::query(
        "INSERT INTO accounts (account_id, customer_id, name, role, may_issue, password_hash, must_change_password,
             disabled, failed_sign_ins, locked_until, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, 1, 0, 0, 0, $7)",
    );
    let insert = insert.bind(Uuid::now_v7().to_string()).bind(customer_id.to_owned()).bind(name.to_owned());
    let insert = insert.bind(i64::from(i32::from(role))).bind(i64::from(may_issue));
    insert.bind(password_hash.to_owned()).bind(nanos(change.at)).execute(&mut *change.tx).await?;
    Ok(())
}

/// Replaces a password by one that has to be changed, and lifts a lock. What the one before opened opens nothing more.
async fn replace_password(change: &mut Change, account: &Account, hash: &str) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE accounts SET password_hash = $2, must_change_password = 1, failed_sign_ins = 0, locked_until = 0
         WHERE account_id = $1",
    );
    update.bind(&account.account_id).bind(hash.to_owned()).execute(&mut *change.tx).await?;
    shut_out(change, account).await
}

/// Disables an account, which opens nothing more, or enables it, which revives nothing.
async fn disable(change: &mut Change, account: &Account, disabled: bool) -> Result<(), StoreError> {
    let update = sqlx::query("UPDATE accounts SET disabled = $2 WHERE account_id = $1");
    update.bind(&account.account_id).bind(i64::from(disabled)).execute(&mut *change.tx).await?;
    if disabled { shut_out(change, account).await } else { Ok(()) }
}

/// Ends all sessions of an account and revokes all its API credentials. The row of the account is held by now: whoever
/// makes one holds it as well, so none is missed.
async fn shut_out(change: &mut Change, account: &Account) -> Result<(), StoreError> {
    let sessions = sqlx::query("DELETE FROM sessions WHERE account_id = $1");
    sessions.bind(&account.account_id).execute(&mut *change.tx).await?;
    let credentials = sqlx::query(
        "UPDATE api_credentials SET revoked_at = $2 WHERE account_id = $1 AND revoked_at IS NULL",
    );
    credentials.bind(&account.account_id).bind(nanos(change.at)).execute(&mut *change.tx).await?;
    Ok(())
}

/// An entry about something the backend did of its own accord, or of its operator's.
pub(super) fn backend_entry(
    customer_id: &str,
    action: &'static str,
    target: &str,
    detail: impl Into<String>,
) -> Entry {
    Entry {
        customer_id: customer_id.to_owned(),
        actor: "backend".to_owned(),
        action,
        target: target.to_owned(),
        done: true,
        detail: detail.into(),
    }
}
