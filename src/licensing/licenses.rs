//! Licences as they are kept, who sees which, and how they are told.
//!
//! Not here: how they are changed (see `issue` and `delegation`).

use std::collections::BTreeMap;

use sqlx::{Any, AssertSqlSafe, Executor, Row as _, any::AnyRow};

use super::{
    caller::Caller,
    change::Change,
    refusal::Refusal,
    store::{StoreError, count, instant, sought},
    subscriptions::Subscription,
    units::list,
    wire,
};
use crate::{
    domain::{
        Facts, Instant, SubscriptionId,
        facts::{LicensedUsers, SmsCredits},
        license::{self, License, LicenseState, LicenseStatus},
    },
    proto::licensing as api,
};

/// A licence as it is kept.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) id: String,
    pub(super) subscription_id: String,
    pub(super) customer_id: String,
    pub(super) customer: String,
    pub(super) product: String,
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) active_units: u64,
    pub(super) created_at: Instant,
    pub(super) grants: License,
    /// How far the delegation to the caller has come, if it was delegated.
    pub(super) delegated: Option<bool>,
}

/// The columns of a licence, with its customer's name and its delegation to account `$1`.
pub(super) const SELECT: &str =
    "SELECT l.license_id, l.subscription_id, l.customer_id, c.name AS customer, l.product,
    l.name, l.type, l.seats, l.expires_at, l.state, l.state_since, l.all_users_limit, l.components_limit,
    l.sms_credits, l.attributes, l.active_units, l.created_at, d.accepted, s.seat_kind
    FROM licenses l JOIN customers c ON c.customer_id = l.customer_id
    LEFT JOIN subscriptions s ON s.subscription_id = l.subscription_id
    LEFT JOIN delegations d ON d.license_id = l.license_id AND d.account_id = $1";

/// Who asks for licences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Eye {
    /// A security admin.
    Delegated,
    /// An owner.
    Customer,
    /// An issuer, about licences alone: units of other customers stay unseen.
    Issuer,
}

impl Eye {
    /// For units and delegation.
    pub(super) fn on_units(caller: &Caller) -> Self {
        if caller.is_owner() { Self::Customer } else { Self::Delegated }
    }

    /// What narrows licences down to those that caller `$1` of customer `$2` sees. Each has a condition of its own: where a
    /// bound value decided which one counts, SQLite would go through the licences of all customers.
    pub(super) const fn sees(self) -> &'static str {
        match self {
            // Looked up by what was delegated, however many licences the customer has.
            Self::Delegated => "d.account_id = $1 AND (l.customer_id || '') = $2",
            Self::Customer => "l.customer_id = $2",
            // Those of every customer; the issuer has one itself.
            Self::Issuer => "$2 <> ''",
        }
    }

    /// The same of those it may use: a security admin has accepted them.
    const fn uses(self) -> &'static str {
        match self {
            Self::Delegated => "d.account_id = $1 AND (l.customer_id || '') = $2 AND d.accepted = 1",
            Self::Customer | Self::Issuer => self.sees(),
        }
    }

    /// For licences.
    pub(super) fn on_licenses(caller: &Caller) -> Self {
        if caller.may_issue { Self::Issuer } else { Self::on_units(caller) }
    }
}

/// The licence `id`, if the caller sees it.
pub(super) async fn seen<'e>(
    from: impl Executor<'e, Database = Any>,
    caller: &Caller,
    eye: Eye,
    id: &str,
) -> Result<Kept, Refusal> {
    let query = sqlx::query(seen_by_id(eye)).bind(&caller.account_id).bind(&caller.customer_id);
    let row = query.bind(sought(&id.to_ascii_uppercase())).fetch_optional(from).await?;
    let row = row.ok_or_else(|| Refusal::NotFound { what: "license", id: id.to_owned() })?;
    Ok(read(&row)?)
}

/// Every licence the caller may use: a security admin has accepted it.
pub(super) async fn usable<'e>(
    from: impl Executor<'e, Database = Any>,
    caller: &Caller,
) -> Result<Vec<Kept>, StoreError> {
    let query = sqlx::query(usable_by(Eye::on_units(caller)));
    let rows = query.bind(&caller.account_id).bind(&caller.customer_id).fetch_all(from).await?;
    rows.iter().map(read).collect()
}

/// Those of these licences that the caller may use.
pub(super) async fn usable_of<'e>(
    from: impl Executor<'e, Database = Any>,
    caller: &Caller,
    ids: &[&str],
) -> Result<Vec<Kept>, StoreError> {
    let query = sqlx::query(usable_of_by(Eye::on_units(caller), ids.len()));
    let query = query.bind(&caller.account_id).bind(&caller.customer_id);
    let query = ids.iter().fold(query, |query, id| query.bind((*id).to_owned()));
    query.fetch_all(from).await?.iter().map(read).collect()
}

fn seen_by_id(eye: Eye) -> AssertSqlSafe<String> {
    let sees = eye.sees();
    AssertSqlSafe(format!("{SELECT} WHERE l.license_id = $3 AND {sees}"))
}

fn usable_by(eye: Eye) -> AssertSqlSafe<String> {
    let uses = eye.uses();
    AssertSqlSafe(format!("{SELECT} WHERE {uses} ORDER BY l.license_id"))
}

fn usable_of_by(eye: Eye, count: usize) -> AssertSqlSafe<String> {
    let (uses, ids) = (eye.uses(), list(3, count));
    AssertSqlSafe(format!("{SELECT} WHERE l.license_id IN ({ids}) AND {uses}"))
}

/// What the licences of a subscription grant.
pub(super) async fn of_subscription(
    change: &mut Change,
    id: &SubscriptionId,
) -> Result<Vec<License>, StoreError> {
    Ok(by_id(change, id).await?.into_iter().map(|(_, license)| license).collect())
}

/// The same, each with its public ID.
pub(super) async fn by_id(
    change: &mut Change,
    id: &SubscriptionId,
) -> Result<Vec<(String, License)>, StoreError> {
    let rows = sqlx::query(
        "SELECT license_id, seats, expires_at, state, state_since, all_users_limit, components_limit, sms_credits
         FROM licenses WHERE subscription_id = $1 ORDER BY license_id",
    );
    let rows = rows.bind(id.to_string()).fetch_all(&mut *change.tx).await?;
    rows.iter().map(|row| Ok((row.try_get("license_id")?, grants(row)?))).collect()
}

pub(super) fn read(row: &AnyRow) -> Result<Kept, StoreError> {
    let attributes: String = row.try_get("attributes")?;
    Ok(Kept {
        id: row.try_get("license_id")?,
        subscription_id: row.try_get("subscription_id")?,
        customer_id: row.try_get("customer_id")?,
        customer: row.try_get("customer")?,
        product: row.try_get("product")?,
        name: row.try_get("name")?,
        kind: row.try_get("type")?,
        attributes: serde_json::from_str(&attributes)
            .map_err(|error| StoreError::Unreadable(format!("attributes of a license: {error}")))?,
        active_units: count(row.try_get("active_units")?),
        created_at: instant(row.try_get("created_at")?),
        grants: grants(row)?,
        delegated: row.try_get::<Option<i64>, _>("accepted")?.map(|accepted| accepted != 0),
    })
}

fn grants(row: &AnyRow) -> Result<License, StoreError> {
    let since = instant(row.try_get("state_since")?);
    let state: i64 = row.try_get("state")?;
    let known = i32::try_from(state).ok().and_then(|state| api::LicenseState::try_from(state).ok());
    Ok(License {
        seats: LicensedUsers(count(row.try_get("seats")?)),
        expires_at: instant(row.try_get("expires_at")?),
        state: match known {
            Some(api::LicenseState::Active) => LicenseState::Active,
            Some(api::LicenseState::Suspended) => LicenseState::Suspended { since },
            Some(api::LicenseState::Canceled) => LicenseState::Canceled { since },
            Some(api::LicenseState::Deactivated) => LicenseState::Deactivated { since },
            Some(api::LicenseState::Unspecified) | None => {
                return Err(StoreError::Unreadable(format!("license in state {state}")));
            }
        },
        all_users_limit: count(row.try_get("all_users_limit")?),
        components_limit: count(row.try_get("components_limit")?),
        sms_credits: row.try_get::<Option<i64>, _>("sms_credits")?.map(|credits| SmsCredits(count(credits))),
    })
}

impl Kept {
    /// Its status, beside the facts of its subscription.
    pub(super) fn status(&self, pooled: &Facts, t: Instant) -> LicenseStatus {
        license::status(&self.grants, pooled, self.active_units, t)
    }

    /// As it is told.
    pub(super) fn told(
        &self,
        subscription: &Subscription,
        delegations: Vec<api::Delegation>,
        t: Instant,
    ) -> api::License {
        let License { seats, expires_at, state, all_users_limit, components_limit, sms_credits } =
            self.grants;
        let (state, since) = match state {
            LicenseState::Active => (api::LicenseState::Active, None),
            LicenseState::Suspended { since } => (api::LicenseState::Suspended, Some(since)),
            LicenseState::Canceled { since } => (api::LicenseState::Canceled, Some(since)),
            LicenseState::Deactivated { since } => (api::LicenseState::Deactivated, Some(since)),
        };
        let delegated = match self.delegated {
            None => api::DelegationState::Unspecified,
            Some(false) => api::DelegationState::Offered,
            Some(true) => api::DelegationState::Accepted,
        };
        api::License {
            license_id: self.id.clone(),
            subscription_id: self.subscription_id.clone(),
            customer: self.customer.clone(),
            product: self.product.clone(),
            name: self.name.clone(),
            r#type: self.kind.clone(),
            seat_kind: subscription.seat_kind.into(),
            seats: seats.0,
            expires_at: wire::timestamp(expires_at),
            state: state.into(),
            state_since: since.and_then(wire::timestamp),
            all_users_limit,
            components_limit,
            sms_credits: sms_credits.map(|SmsCredits(credits)| credits),
            attributes: self.attributes.clone().into_iter().collect(),
            status: wire::license_status(self.status(&subscription.facts, t)).into(),
            active_units: self.active_units,
            delegations,
            delegated: delegated.into(),
            created_at: wire::timestamp(self.created_at),
            subscription: Some((&subscription.facts).into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::licensing::store::{Database, Store};

    /// However many licences other customers have.
    #[tokio::test]
    async fn what_a_caller_sees_is_looked_up_and_not_searched_for_among_the_licenses_of_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Database::Sqlite(folder.path().join("licensing.db")), 2).await.unwrap();
        for eye in [Eye::Delegated, Eye::Customer, Eye::Issuer] {
            let mut statements = vec![seen_by_id(eye), usable_of_by(eye, 2)];
            if eye != Eye::Issuer {
                statements.push(usable_by(eye));
            }
            for AssertSqlSafe(sql) in statements {
                let plan = store.plan(&sql).await;
                assert!(!plan.contains("SCAN"), "{eye:?}, {sql}: {plan}");
            }
        }
        let AssertSqlSafe(sql) = usable_by(Eye::Delegated);
        let plan = store.plan(&sql).await;
        assert!(plan.contains("delegations_to_account (account_id=?)"), "{plan}");
    }
}
