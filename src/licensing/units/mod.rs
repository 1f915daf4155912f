//! Units as they are kept, and how they are told (semantics 6.1).
//!
//! Not here: activation, deactivation and the list, which have files of their own.

mod activate;
mod deactivate;
mod list;
mod revoke;
pub(super) mod syncs;

use std::collections::HashMap;

use sqlx::{Any, AssertSqlSafe, Executor, Row as _, any::AnyRow};

pub(super) use self::{
    activate::{Activating, By, customer_of, license_of},
    deactivate::{MOST_AT_ONCE, list, named_again},
    list::{Filter, Listing, Sort},
};
use super::{
    Backend,
    caller::Caller,
    licenses::{self, Kept as License},
    refusal::Refusal,
    store::{StoreError, count, instant, sought},
    subscriptions::Subscription,
    wire,
};
use crate::{
    domain::{
        Instant,
        license::LicenseStatus,
        unit::{ActivatedBy, Connection, UnitState, may_deactivate},
    },
    proto::licensing as api,
};

/// A unit as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) id: String,
    pub(super) license_id: String,
    pub(super) subscription_id: String,
    pub(super) device_name: String,
    pub(super) product: String,
    pub(super) product_version: String,
    pub(super) activated_at: Instant,
    pub(super) last_connected_at: Instant,
    pub(super) subunits: u64,
    pub(super) activated_by: String,
    pub(super) activated_by_name: String,
    pub(super) from_remote: bool,
    pub(super) state: UnitState,
    pub(super) deactivated_at: Option<Instant>,
    pub(super) secret_sha256: String,
    pub(super) installation: String,
    pub(super) counted_at: Option<Instant>,
    pub(super) active_users: i64,
    pub(super) all_users: i64,
    pub(super) components: i64,
}

/// The columns of a unit.
pub(super) const COLUMNS: &str = "unit_id, license_id, subscription_id, device_name, product, product_version,
    activated_at, last_connected_at, subunits, activated_by, activated_by_name, from_remote, state, deactivated_at,
    secret_sha256, installation, counted_at, active_users, all_users, components";

/// Units in one statement.
const CHUNK: usize = 500;

/// A licence the caller may use, with what is the same for all of its units.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) license: License,
    pub(super) status: LicenseStatus,
}

impl Unit {
    pub(super) fn activated_by(&self) -> ActivatedBy<'_> {
        if self.activated_by.is_empty() {
            ActivatedBy::LicenseKey
        } else {
            ActivatedBy::Account(&self.activated_by)
        }
    }

    /// As it is told.
    pub(super) fn told(&self, caller: &Caller, status: LicenseStatus, t: Instant) -> api::Unit {
        api::Unit {
            unit_id: self.id.clone(),
            license_id: self.license_id.clone(),
            subscription_id: self.subscription_id.clone(),
            device_name: self.device_name.clone(),
            product: self.product.clone(),
            product_version: self.product_version.clone(),
            activated_at: wire::timestamp(self.activated_at),
            last_connected_at: wire::timestamp(self.last_connected_at),
            subunits: self.subunits,
            activated_by: self.activated_by_name.clone(),
            from_remote_management: self.from_remote,
            state: wire::unit_state(self.state).into(),
            deactivated_at: self.deactivated_at.and_then(wire::timestamp),
            status: wire::license_status(status).into(),
            connection: wire::connection(Connection::at(t, self.last_connected_at)).into(),
            // A unit that is an installation by itself does not name one.
            installation: Some(&self.installation)
                .filter(|name| **name != self.id)
                .cloned()
                .unwrap_or_default(),
            active_users: self.counted_at.map(|_| count(self.active_users)),
            may_deactivate: may_deactivate(caller.deactivating(), self.activated_by()).is_ok(),
            // Told of those that are shown (see `with_places`).
            two_places_at: None,
            secret_revoked: self.secret_sha256.is_empty(),
        }
    }
}

impl Backend {
    /// The licences whose units the caller sees, with their status.
    pub(super) async fn scope(&self, caller: &Caller) -> Result<Vec<Scope>, Refusal> {
        let t = self.clock.now();
        let mut subscriptions = HashMap::new();
        let mut scope = Vec::new();
        for license in licenses::usable(self.store.reads(), caller).await? {
            if !subscriptions.contains_key(&license.subscription_id) {
                let subscription = Subscription::read(self.store.reads(), &license.subscription_id).await?;
                subscriptions.insert(license.subscription_id.clone(), subscription);
            }
            if let Some(Some(subscription)) = subscriptions.get(&license.subscription_id) {
                scope.push(Scope { status: license.status(&subscription.facts, t), license });
            }
        }
        Ok(scope)
    }

    /// A unit, if the caller sees it.
    pub(super) async fn unit(&self, caller: &Caller, id: &str) -> Result<api::Unit, Refusal> {
        // What the caller sees comes first: a unit of somebody else's takes the same work as one that does not exist.
        let scope = self.scope(caller).await?;
        let unit = by_id(self.store.reads(), id).await?;
        let seen = unit.and_then(|unit| {
            let scope = scope.iter().find(|scope| scope.license.id == unit.license_id)?;
            Some(unit.told(caller, scope.status, self.clock.now()))
        });
        let unit = seen.ok_or_else(|| Refusal::NotFound { what: "unit", id: id.to_owned() })?;
        let mut units = [unit];
        self.with_places(&mut units).await?;
        let [unit] = units;
        Ok(unit)
    }

    /// Adds which of these units were seen in two places at once.
    pub(super) async fn with_places(&self, units: &mut [api::Unit]) -> Result<(), StoreError> {
        for units in units.chunks_mut(CHUNK) {
            let sql = format!(
                "SELECT unit_id, two_places_at FROM unit_syncs WHERE two_places_at IS NOT NULL AND unit_id IN ({})",
                list(1, units.len())
            );
            let query = sqlx::query(AssertSqlSafe(sql));
            let query = units.iter().fold(query, |query, unit| query.bind(unit.unit_id.clone()));
            let mut seen: HashMap<String, i64> = HashMap::new();
            for row in query.fetch_all(self.store.reads()).await? {
                seen.insert(row.try_get("unit_id")?, row.try_get("two_places_at")?);
            }
            for unit in units {
                let at = seen.get(&unit.unit_id).copied();
                unit.two_places_at = at.map(instant).and_then(wire::timestamp);
            }
        }
        Ok(())
    }
}

/// A unit of any customer.
pub(super) async fn by_id<'e>(
    from: impl Executor<'e, Database = Any>,
    id: &str,
) -> Result<Option<Unit>, StoreError> {
    let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM units WHERE unit_id = $1"));
    let row = sqlx::query(sql).bind(sought(id)).fetch_optional(from).await?;
    row.as_ref().map(read).transpose()
}

pub(super) fn read(row: &AnyRow) -> Result<Unit, StoreError> {
    let at = |column: &str| row.try_get::<i64, _>(column).map(instant);
    let optional = |column: &str| row.try_get::<Option<i64>, _>(column).map(|at| at.map(instant));
    Ok(Unit {
        id: row.try_get("unit_id")?,
        license_id: row.try_get("license_id")?,
        subscription_id: row.try_get("subscription_id")?,
        device_name: row.try_get("device_name")?,
        product: row.try_get("product")?,
        product_version: row.try_get("product_version")?,
        activated_at: at("activated_at")?,
        last_connected_at: at("last_connected_at")?,
        subunits: count(row.try_get("subunits")?),
        activated_by: row.try_get("activated_by")?,
        activated_by_name: row.try_get("activated_by_name")?,
        from_remote: row.try_get::<i64, _>("from_remote")? != 0,
        state: wire::kept_unit_state(row.try_get("state")?)?,
        deactivated_at: optional("deactivated_at")?,
        secret_sha256: row.try_get("secret_sha256")?,
        installation: row.try_get("installation")?,
        counted_at: optional("counted_at")?,
        active_users: row.try_get("active_users")?,
        all_users: row.try_get("all_users")?,
        components: row.try_get("components")?,
    })
}
