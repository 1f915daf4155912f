//! Activation: a product becomes a unit of a licence (semantics 6.1, 6.7).
//!
//! Not here: whether a licence takes another unit (see `domain::license`).

use sqlx::{Any, AssertSqlSafe, Executor, Row as _};
use uuid::Uuid;

use super::{Unit, read};
use crate::{
    domain::{license, unit::UnitState},
    licensing::{
        Backend,
        actor::Actor,
        caller::Caller,
        change::Change,
        issue::held,
        keys,
        licenses::{self, Eye, Kept},
        refusal::Refusal,
        store::{StoreError, count, kept, nanos},
        units::COLUMNS,
        wire,
    },
};

const UNKNOWN_KEY: &str = "the license key opens no license; check it, or ask for a new one";

/// What is activated, by whom.
#[derive(Clone, Debug)]
pub(in crate::licensing) struct Activating {
    pub(in crate::licensing) by: By,
    pub(in crate::licensing) device_name: String,
    pub(in crate::licensing) product: String,
    pub(in crate::licensing) product_version: String,
    pub(in crate::licensing) subunits: u64,
    pub(in crate::licensing) from_remote: bool,
    pub(in crate::licensing) secret_sha256: String,
    pub(in crate::licensing) installation: String,
}

/// How it is activated.
#[derive(Clone, Debug)]
pub(in crate::licensing) enum By {
    /// With an account, which names the licence.
    Account(Box<Caller>, String),
    /// By licence key.
    LicenseKey(String),
}

impl By {
    /// What requests of this caller are remembered under.
    pub(in crate::licensing) fn key(&self) -> String {
        match self {
            Self::Account(caller, _) => caller.key().to_owned(),
            Self::LicenseKey(key) => format!("license key {}", keys::hash(key)),
        }
    }
}

impl Backend {
    /// Activates a unit within `change`.
    pub(in crate::licensing) async fn activate(
        &self,
        change: &mut Change,
        activating: &Activating,
    ) -> Result<(Unit, Kept), Refusal> {
        let license = license_of(change, &activating.by).await?;
        let mut subscription = held(change, &license.subscription_id).await?;
        // What was read before it was held may have changed since.
        let license = license_of(change, &activating.by).await?;
        license::may_activate(&license.grants, &subscription.facts, change.at)
            .map_err(|refusal| Refusal::NotActivated { license_id: license.id.clone(), refusal })?;
        let made = Made::by(&activating.by);
        self.may_have_another(change, &license, made).await?;
        let id = Uuid::now_v7().to_string();
        insert(change, &id, &license, activating).await?;
        let column = made.column();
        let update = sqlx::query(AssertSqlSafe(format!(
            "UPDATE licenses SET active_units = active_units + 1, {column} = {column} + 1 WHERE license_id = $1"
        )));
        update.bind(&license.id).execute(&mut *change.tx).await?;
        subscription.totals.active_units += 1;
        subscription.settle(change, false).await?;
        let actor = match &activating.by {
            By::Account(caller, _) => caller.actor_within(&license.customer_id),
            By::LicenseKey(_) => Actor::license_key(&license.id),
        };
        let detail = format!("{} with license {}", activating.device_name, license.id);
        change.audit(actor.did(&license.customer_id, "unit.activate", &id, detail));
        let sql = AssertSqlSafe(format!("SELECT {COLUMNS} FROM units WHERE unit_id = $1"));
        let unit = sqlx::query(sql).bind(id).fetch_one(&mut *change.tx).await?;
        Ok((read(&unit)?, license))
    }
}

impl Backend {
    /// Units are never deleted: neither a key nor accounts make more of them than a customer can need. Each counts by itself,
    /// so that whoever has a key leaves accounts theirs, and a new key begins anew.
    async fn may_have_another(&self, change: &mut Change, license: &Kept, made: Made) -> Result<(), Refusal> {
        let sql = format!("SELECT {} AS made FROM licenses WHERE license_id = $1", made.column());
        let ever = sqlx::query(AssertSqlSafe(sql)).bind(license.id.clone());
        let ever: i64 = ever.fetch_one(&mut *change.tx).await?.try_get("made")?;
        let seats = license.grants.seats.0.saturating_mul(10);
        let most = seats.saturating_add(u64::from(self.settings.units_per_license));
        if count(ever) < most {
            return Ok(());
        }
        let (id, how) = (license.id.clone(), made.how());
        Err(Refusal::UsedUp {
            what: format!(
                "{ever} units were activated with {how} of license {id} so far, and no more than {most} may be; rotate the \
                 license's key, which begins anew, or raise `backend.units_per_license`"
            ),
            license_id: id,
        })
    }
}

impl Backend {
    /// The ID of the license that a key opens, if it opens any.
    pub(in crate::licensing) async fn license_with(&self, key: &str) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT license_id FROM licenses WHERE key_sha256 = $1").bind(keys::hash(key));
        let row = row.fetch_optional(self.store.reads()).await?;
        Ok(row.map(|row| row.try_get("license_id")).transpose()?)
    }
}

/// What makes units of a license.
#[derive(Clone, Copy)]
enum Made {
    ByAccounts,
    ByKey,
}

impl Made {
    fn by(by: &By) -> Self {
        match by {
            By::Account(..) => Self::ByAccounts,
            By::LicenseKey(_) => Self::ByKey,
        }
    }

    /// Where they are counted, since the key was rotated last.
    const fn column(self) -> &'static str {
        match self {
            Self::ByAccounts => "units_ever",
            Self::ByKey => "units_by_key",
        }
    }

    const fn how(self) -> &'static str {
        match self {
            Self::ByAccounts => "accounts",
            Self::ByKey => "the key",
        }
    }
}

/// Whoever activates is of this customer, as far as is known before anything is locked.
pub(in crate::licensing) async fn customer_of<'e>(
    from: impl Executor<'e, Database = Any>,
    by: &By,
) -> Result<String, Refusal> {
    let key = match by {
        By::Account(caller, _) => return Ok(caller.customer_id.clone()),
        By::LicenseKey(key) => key,
    };
    let row = sqlx::query("SELECT customer_id FROM licenses WHERE key_sha256 = $1").bind(keys::hash(key));
    let row = row.fetch_optional(from).await?.ok_or(Refusal::Unauthenticated(UNKNOWN_KEY))?;
    Ok(row.try_get("customer_id")?)
}

/// The licence to activate with. A key that opens none is told as such, whatever it looks like.
pub(in crate::licensing) async fn license_of(change: &mut Change, by: &By) -> Result<Kept, Refusal> {
    match by {
        By::Account(caller, id) => {
            let license = licenses::seen(&mut *change.tx, caller, Eye::on_units(caller), id).await?;
            if caller.is_owner() || license.delegated == Some(true) {
                return Ok(license);
            }
            let what = format!("license {} was offered to you; accept it first", license.id);
            Err(Refusal::Precondition(what))
        }
        By::LicenseKey(key) => {
            let sql = format!("{} WHERE l.key_sha256 = $2", licenses::SELECT);
            let row = sqlx::query(AssertSqlSafe(sql)).bind("").bind(keys::hash(key));
            let row = row.fetch_optional(&mut *change.tx).await?;
            Ok(licenses::read(&row.ok_or(Refusal::Unauthenticated(UNKNOWN_KEY))?)?)
        }
    }
}

async fn insert(
    change: &mut Change,
    id: &str,
    license: &Kept,
    activating: &Activating,
) -> Result<(), StoreError> {
    let Activating {
        by,
        device_name,
        product,
        product_version,
        subunits,
        from_remote,
        secret_sha256,
        installation,
    } = activating;
    let (account_id, account) = match by {
        By::Account(caller, _) => (caller.account_id.as_str(), caller.name.as_str()),
        By::LicenseKey(_) => ("", ""),
    };
    let product = if product.is_empty() { &license.product } else { product };
    let installation = if installation.is_empty() { id } else { installation };
    let insert = sqlx::query(
        "INSERT INTO units (unit_id, license_id, subscription_id, device_name, product, product_version, activated_at,
             last_connected_at, subunits, activated_by, activated_by_name, from_remote, state, deactivated_at,
             secret_sha256, installation, counted_at, active_users, all_users, components, changed_in)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $7, $8, $9, $10, $11, $12, NULL, $13, $14, NULL, 0, 0, 0, 0)",
    );
    let insert = insert.bind(id.to_owned()).bind(&license.id).bind(&license.subscription_id);
    let insert = insert.bind(device_name).bind(product).bind(product_version).bind(nanos(change.at));
    let insert = insert.bind(kept(*subunits)).bind(account_id.to_owned()).bind(account.to_owned());
    let insert = insert.bind(i64::from(*from_remote)).bind(wire::unit_state_kept(UnitState::Active));
    insert.bind(secret_sha256).bind(installation.to_owned()).execute(&mut *change.tx).await?;
    Ok(())
}
