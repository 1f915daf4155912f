//! A licence in the hands of a security admin: offered by the owner, of use once it is accepted.
//!
//! Not here: what a security admin may do with it (see `units`).

use sqlx::{Any, Executor, Row as _};

use super::{
    Backend,
    accounts::{self, Account},
    caller::Caller,
    change::Change,
    issue::held_license,
    licenses::{Eye, Kept},
    refusal::Refusal,
    store::StoreError,
};
use crate::proto::licensing::{AccountRole, Delegation, DelegationState};

/// Accounts a license is delegated to at a time.
const MOST_DELEGATIONS: i64 = 500;

impl Backend {
    /// Offers a licence. One that was offered or accepted already stays as it is.
    pub(super) async fn delegate(
        &self,
        change: &mut Change,
        caller: &Caller,
        license_id: &str,
        account: &str,
    ) -> Result<Delegation, Refusal> {
        let (license, to) = owned(change, caller, license_id, account).await?;
        must_take_another(change, &license.id, &to.account_id).await?;
        let insert = sqlx::query(
            "INSERT INTO delegations (license_id, account_id, accepted) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
        );
        insert.bind(&license.id).bind(&to.account_id).execute(&mut *change.tx).await?;
        let accepted =
            sqlx::query("SELECT accepted FROM delegations WHERE license_id = $1 AND account_id = $2");
        let accepted = accepted.bind(&license.id).bind(&to.account_id).fetch_one(&mut *change.tx).await?;
        let detail = format!("offered to {}", to.name);
        change.audit(caller.did(&license.customer_id, "license.delegate", &license.id, detail));
        Ok(told(to.name, accepted.try_get::<i64, _>("accepted")? != 0))
    }

    /// Accepts a licence that was offered to the caller.
    pub(super) async fn accept(
        &self,
        change: &mut Change,
        caller: &Caller,
        license_id: &str,
    ) -> Result<Delegation, Refusal> {
        let (license, _) = held_license(change, caller, Eye::Delegated, license_id, |_| Ok(())).await?;
        let update =
            sqlx::query("UPDATE delegations SET accepted = 1 WHERE license_id = $1 AND account_id = $2");
        let update = update.bind(&license.id).bind(&caller.account_id);
        if update.execute(&mut *change.tx).await?.rows_affected() == 0 {
            // It was taken back behind the backend's back, where the subscription is not locked.
            return Err(Refusal::NotFound { what: "license", id: license.id });
        }
        change.audit(caller.did(&license.customer_id, "license.accept", &license.id, ""));
        Ok(told(caller.name.clone(), true))
    }

    /// Takes a licence back. Units activated with it stay active; the owner may deactivate them.
    pub(super) async fn revoke(
        &self,
        change: &mut Change,
        caller: &Caller,
        license_id: &str,
        account: &str,
    ) -> Result<(), Refusal> {
        let (license, from) = owned(change, caller, license_id, account).await?;
        let delete = sqlx::query("DELETE FROM delegations WHERE license_id = $1 AND account_id = $2");
        delete.bind(&license.id).bind(&from.account_id).execute(&mut *change.tx).await?;
        let detail = format!("taken back from {}", from.name);
        change.audit(caller.did(&license.customer_id, "license.revoke", &license.id, detail));
        Ok(())
    }
}

/// A licence of the caller's customer, held for a change, and one of its security admins.
pub(super) async fn owned(
    change: &mut Change,
    caller: &Caller,
    license_id: &str,
    account: &str,
) -> Result<(Kept, Account), Refusal> {
    let eye = Eye::on_units(caller);
    let (license, _) = held_license(change, caller, eye, license_id, Caller::must_be_owner).await?;
    let admin = accounts::named(change, &caller.customer_id, account).await?;
    if admin.role != AccountRole::SecurityAdmin {
        let what = format!("`{account}` is an owner, who sees every license of the customer already");
        return Err(Refusal::unreadable("account", what));
    }
    Ok((license, admin))
}

/// Each answer about a license tells of all of its delegations.
async fn must_take_another(change: &mut Change, license_id: &str, account_id: &str) -> Result<(), Refusal> {
    let others = "SELECT COUNT(*) AS others FROM delegations WHERE license_id = $1 AND account_id <> $2";
    let others = sqlx::query(others).bind(license_id.to_owned()).bind(account_id.to_owned());
    if others.fetch_one(&mut *change.tx).await?.try_get::<i64, _>("others")? < MOST_DELEGATIONS {
        return Ok(());
    }
    let what = format!(
        "license {license_id} is delegated to {MOST_DELEGATIONS} accounts; take it back from one first"
    );
    Err(Refusal::Precondition(what))
}

/// Whom a licence is delegated to.
pub(super) async fn of_license<'e>(
    from: impl Executor<'e, Database = Any>,
    license_id: &str,
) -> Result<Vec<Delegation>, StoreError> {
    let rows = sqlx::query(
        "SELECT a.name, d.accepted FROM delegations d JOIN accounts a ON a.account_id = d.account_id
         WHERE d.license_id = $1 ORDER BY a.name",
    );
    let rows = rows.bind(license_id.to_owned()).fetch_all(from).await?;
    rows.iter().map(|row| Ok(told(row.try_get("name")?, row.try_get::<i64, _>("accepted")? != 0))).collect()
}

fn told(account: String, accepted: bool) -> Delegation {
    let state = if accepted { DelegationState::Accepted } else { DelegationState::Offered };
    Delegation { account, state: state.into() }
}
