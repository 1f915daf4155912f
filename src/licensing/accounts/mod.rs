//! Accounts as they are kept: owners and security admins of a customer.
//!
//! Not here: how one signs in (see `sign_in`).

mod customers;
mod find;
mod names;

use sqlx::{Row as _, any::AnyRow};
use uuid::Uuid;

use self::customers::{make_customer, must_be_without_owner, must_leave_an_owner};
pub(super) use self::{
    customers::{called, may_make},
    find::{by_id, found, held, kept_name, named, to_sign_in},
    names::{LONGEST_BYTES, SignInName},
};
use super::{
    Backend,
    actor::Actor,
    caller,
    caller::Caller,
    change::Change,
    keys,
    passwords::Lane,
    refusal::Refusal,
    store::{Store, StoreError, instant, nanos},
    wire,
};
use crate::{
    domain::{Instant, Span},
    proto::licensing as api,
};

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
    /// Whether its one-time password opened a session before.
    pub(super) one_time_used: bool,
    /// Until when it may.
    pub(super) one_time_until: Instant,
    pub(super) disabled: bool,
    pub(super) created_at: Instant,
}

/// The first account, and the customer it belongs to.
pub const FIRST_ACCOUNT: &str = "owner";
pub(super) const FIRST_CUSTOMER: &str = "default";

/// The columns of an account, with its customer's name.
pub(super) const SELECT: &str =
    "SELECT a.account_id, a.customer_id, c.name AS customer, a.name, a.sign_in_name, a.role, a.may_issue,
    a.password_hash, a.must_change_password, a.one_time_until, a.disabled, a.created_at
    FROM accounts a JOIN customers c ON c.customer_id = a.customer_id";

/// `must_change_password` of an account whose one-time password opened its session.
pub(super) const ONE_TIME_USED: i64 = 2;

/// How long a one-time password may wait for its first and only sign-in.
const ONE_TIME: Span = Span::days(1);

impl Backend {
    /// Makes the first owner, unless there are accounts; its one-time password if this call made it. With `anew` an
    /// owner whose password was lost gets a new one.
    pub async fn first_owner(&self, anew: bool) -> Result<Option<String>, Refusal> {
        self.first_owner_told(anew, |_| Ok(())).await
    }

    /// The same, which tells the password before it counts: one that cannot be told opens nothing.
    pub(super) async fn first_owner_told(
        &self,
        anew: bool,
        tell: impl FnOnce(&str) -> Result<(), Refusal>,
    ) -> Result<Option<String>, Refusal> {
        let any =
            sqlx::query("SELECT 1 AS one FROM accounts LIMIT 1").fetch_optional(self.store.reads()).await?;
        if any.is_some() && !anew {
            return Ok(None);
        }
        let password = keys::one_time_password()?;
        tell(&password)?;
        let hash = self.passwords.hash(Lane::Own, &password).await?;
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
            change.audit(Actor::backend().did(&customer_id, "account.create", FIRST_ACCOUNT, ""));
        } else if anew {
            let missing = || Refusal::NotFound { what: "account", id: FIRST_ACCOUNT.to_owned() };
            let owner = SignInName::typed(FIRST_ACCOUNT);
            let owner = found(&mut *change.tx, &owner).await?.ok_or_else(missing)?;
            let owner = held(&mut change, &owner.account_id).await?;
            // Who may start the backend comes in, whatever was done to the account.
            disable(&mut change, &owner, false).await?;
            replace_password(&mut change, &owner, hash).await?;
            self.forgive(&mut change, &owner).await?;
            change.audit(Actor::operator().did(
                &owner.customer_id,
                "account.reset_password",
                FIRST_ACCOUNT,
                "",
            ));
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
        // Customers of before may be alike: nobody signs in to two accounts with one name.
        let key = sign_in_name(change, &customer_id, name).await?;
        let alike = sqlx::query("SELECT 1 AS one FROM accounts WHERE sign_in_name = $1").bind(key);
        if named(change, &customer_id, name).await.is_ok()
            || alike.fetch_optional(&mut *change.tx).await?.is_some()
        {
            return Err(Refusal::Taken { what: "account", id: name.to_owned() });
        }
        let new = NewAccount { name, role, may_issue: false, customer_id: &customer_id };
        insert(change, &new, password_hash).await?;
        change.audit(caller.did(&customer_id, "account.create", name, role.as_str_name().to_lowercase()));
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
        // What changes nothing fills no log.
        if account.disabled == disabled {
            return Ok(account);
        }
        let action = if disabled { "account.disable" } else { "account.enable" };
        change.audit(caller.did(&account.customer_id, action, &account.name, ""));
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
        // Whoever has a session and no password would have the account for good.
        if account.account_id == caller.account_id {
            let what = "an account does not reset its own password; change it, or ask another owner";
            return Err(Refusal::Precondition(what.to_owned()));
        }
        replace_password(change, &account, password_hash).await?;
        self.forgive(change, &account).await?;
        change.audit(caller.did(&account.customer_id, "account.reset_password", &account.name, ""));
        Ok(())
    }
}

struct NewAccount<'a> {
    name: &'a str,
    role: api::AccountRole,
    may_issue: bool,
    customer_id: &'a str,
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

/// The caller's account as it is now, held for a change, unless it was shut out after the call came in.
pub(super) async fn held_by(change: &mut Change, caller: &Caller) -> Result<Account, Refusal> {
    change.admit(caller, "").await?;
    held(change, &caller.account_id).await
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
        one_time_used: row.try_get::<i64, _>("must_change_password")? == ONE_TIME_USED,
        one_time_until: instant(row.try_get("one_time_until")?),
        disabled: flag("disabled")?,
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

/// What an account of a customer that is called `name` signs in with, without regard to case.
async fn sign_in_name(change: &mut Change, customer_id: &str, name: &str) -> Result<String, StoreError> {
    let customer =
        sqlx::query("SELECT name FROM customers WHERE customer_id = $1").bind(customer_id.to_owned());
    let customer: String = customer.fetch_one(&mut *change.tx).await?.try_get("name")?;
    Ok(names::key(name, &customer))
}

async fn insert(change: &mut Change, new: &NewAccount<'_>, password_hash: &str) -> Result<(), StoreError> {
    let NewAccount { name, role, may_issue, customer_id } = *new;
    let key = sign_in_name(change, customer_id, name).await?;
    let insert = sqlx::query(
        "INSERT INTO accounts (account_id, customer_id, name, sign_in_name, role, may_issue, password_hash,
             must_change_password, one_time_until, disabled, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, 0, $9)",
    );
    let insert = insert.bind(Uuid::now_v7().to_string()).bind(customer_id.to_owned()).bind(name.to_owned());
    let insert = insert.bind(key).bind(i64::from(i32::from(role))).bind(i64::from(may_issue));
    let insert =
        insert.bind(password_hash.to_owned()).bind(nanos(change.at + ONE_TIME)).bind(nanos(change.at));
    insert.execute(&mut *change.tx).await?;
    Ok(())
}

/// Replaces a password by one that has to be changed. What the one before opened opens nothing more, and where it was used
/// from is forgotten: it may have been somebody else.
async fn replace_password(change: &mut Change, account: &Account, hash: &str) -> Result<(), StoreError> {
    let update = sqlx::query(
        "UPDATE accounts SET password_hash = $2, must_change_password = 1, one_time_until = $3 WHERE account_id = $1",
    );
    let update = update.bind(&account.account_id).bind(hash.to_owned()).bind(nanos(change.at + ONE_TIME));
    update.execute(&mut *change.tx).await?;
    let addresses = sqlx::query("DELETE FROM sign_in_addresses WHERE account_id = $1");
    addresses.bind(&account.account_id).execute(&mut *change.tx).await?;
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
