//! The secret of a unit is revoked: whoever has it speaks for the unit no more (semantics 7.28).
//!
//! The unit is deactivated with it: nobody reports for it again, so its seat and its counts would stay taken, and its server
//! counts twice once it is activated again. Not here: how a unit renews its secret by itself (see `licensing::sync`).

use super::{Unit, by_id, deactivate::take_out, syncs::Syncs};
use crate::{
    domain::unit::{UnitState, may_deactivate},
    licensing::{Backend, caller::Caller, change::Change, issue::held, licenses, refusal::Refusal},
};

impl Backend {
    /// Revokes the secret of a unit within `change`, and deactivates it.
    pub(in crate::licensing) async fn revoke_secret(
        &self,
        change: &mut Change,
        caller: &Caller,
        id: &str,
    ) -> Result<(), Refusal> {
        let (unit, _) = seen(change, caller, id).await?;
        let mut subscription = held(change, &unit.subscription_id).await?;
        // What was read before it was held may have changed since.
        let (unit, customer_id) = seen(change, caller, id).await?;
        if may_deactivate(caller.deactivating(), unit.activated_by()).is_err() {
            let what = "this unit was not activated with your account; ask an owner to revoke its secret";
            return Err(Refusal::NotAllowed(what));
        }
        if unit.state == UnitState::Active {
            take_out(change, &mut subscription, &[&unit]).await?;
            change.audit(caller.did(&customer_id, "unit.deactivate", &unit.id, &unit.device_name));
        }
        let update = sqlx::query("UPDATE units SET secret_sha256 = '', changed_in = $2 WHERE unit_id = $1");
        update.bind(unit.id.clone()).bind(subscription.sequence + 1).execute(&mut *change.tx).await?;
        let syncs = Syncs::of(&mut *change.tx, &unit.id).await?;
        Syncs { next_secret_sha256: String::new(), ..syncs }.write(change, &unit.id).await?;
        subscription.settle(change, true).await?;
        change.audit(caller.did(&customer_id, "unit.revoke_secret", &unit.id, &unit.device_name));
        Ok(())
    }
}

/// The unit, if the caller sees it, and its customer.
async fn seen(change: &mut Change, caller: &Caller, id: &str) -> Result<(Unit, String), Refusal> {
    let missing = || Refusal::NotFound { what: "unit", id: id.to_owned() };
    let unit = by_id(&mut *change.tx, id).await?.ok_or_else(missing)?;
    let usable = licenses::usable_of(&mut *change.tx, caller, &[&unit.license_id]).await?;
    let license = usable.into_iter().next().ok_or_else(missing)?;
    Ok((unit, license.customer_id))
}
