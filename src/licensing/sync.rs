//! A unit's sync: its usage is taken, and it is told the facts, signed (semantics 6.6, 6.8).
//!
//! Not here: how usage adds up (see `usage`), and how changes reach a unit that watches (see `watch`).

use std::sync::atomic::Ordering;

use prost::Message as _;

use super::{
    Backend,
    change::{Change, Entry},
    issue::held,
    refusal::Refusal,
    store::{Store, kept, nanos},
    subscriptions::Subscription,
    units::{self, Unit},
    usage::{self, Counts, Sms},
    wire,
};
use crate::{
    domain::{
        Activation, Facts, Instant, Span, SubscriptionId,
        license::{Used, pool},
        unit::UnitState,
    },
    proto::licensing::{SignedFacts, SubscriptionFacts},
    wire::usage::{Installation, ProductVersion},
};

/// What a unit says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Syncing {
    pub(super) product_version: ProductVersion,
    pub(super) subunits: Option<u64>,
    pub(super) usage: Option<Usage>,
}

/// What an authentication server counted since its last sync.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    pub(super) installation: Installation,
    pub(super) counts: Option<Counts>,
    pub(super) sms_sent: Vec<Sms>,
}

/// A unit that connects more often than this is not written down each time.
const CONNECTED: Span = Span::from_nanos(60 * Span::SECOND.nanos());

impl Backend {
    /// The unit with this ID and secret.
    pub(super) async fn proven(&self, id: &str, secret_sha256: &str) -> Result<Unit, Refusal> {
        let unit = units::by_id(self.store.reads(), id).await?;
        // Both are hashes: how much of them is alike tells nothing of the secret.
        unit.filter(|unit| unit.secret_sha256 == secret_sha256).ok_or(Refusal::Unauthenticated(
            "the unit's credential opens nothing: activate this server again",
        ))
    }

    /// Takes what a unit tells and answers with the facts as they are then.
    pub(super) async fn sync(
        &self,
        unit: Unit,
        syncing: &Syncing,
        nonce: &[u8],
    ) -> Result<SignedFacts, Refusal> {
        let (unit, subscription) = Store::retrying(|| self.taken(&unit, syncing)).await?;
        let facts = for_unit(subscription.facts, &unit);
        self.signed(subscription.sequence, facts, &unit.id, nonce)
    }

    /// The facts for a server that is not activated: that it is not, and nothing else.
    pub(super) fn not_activated(&self, id: SubscriptionId, nonce: &[u8]) -> Result<SignedFacts, Refusal> {
        let facts = pool(id, &[], Used::default(), None, self.clock.now());
        self.signed(0, facts, "", nonce)
    }

    async fn taken(&self, unit: &Unit, syncing: &Syncing) -> Result<(Unit, Subscription), Refusal> {
        let at = self.clock.now();
        let Syncing { product_version, subunits, usage } = syncing;
        let version = product_version.as_str();
        let is_news = (!version.is_empty() && version != unit.product_version)
            || subunits.is_some_and(|subunits| subunits != unit.subunits);
        let is_due = unit.last_connected_at + CONNECTED <= at;
        if usage.is_none() && unit.state != UnitState::DeactivationPending && !is_news && !is_due {
            let subscription = Subscription::read(self.store.reads(), &unit.subscription_id).await?;
            let missing = || Refusal::NotFound { what: "subscription", id: unit.subscription_id.clone() };
            let subscription = subscription.ok_or_else(missing)?;
            // Read after the subscription: a number is told with what it stands for, so a unit that was deactivated
            // meanwhile must not be active under the number of its deactivation.
            let unit = units::by_id(self.store.reads(), &unit.id).await?.unwrap_or_else(|| unit.clone());
            // What time has changed by now is told by now, whoever looks first.
            if at < subscription.turns_at && unit.state != UnitState::DeactivationPending {
                return Ok((unit, subscription));
            }
        }
        let mut change = Change::begin(self).await?;
        let mut subscription = held(&mut change, &unit.subscription_id).await?;
        // What was read before it was held may have changed since.
        let unit = units::by_id(&mut *change.tx, &unit.id).await?.unwrap_or_else(|| unit.clone());
        let unit = connected(&mut change, unit, syncing, &subscription.customer_id).await?;
        if let Some(usage) = usage {
            take(&mut change, &mut subscription, &unit, usage).await?;
        }
        self.told(change.keep().await?);
        Ok((unit, subscription))
    }

    /// Signs facts for a unit.
    pub(super) fn signed(
        &self,
        sequence: i64,
        facts: Facts,
        unit_id: &str,
        nonce: &[u8],
    ) -> Result<SignedFacts, Refusal> {
        let issued_at = self.clock.now();
        self.newest_signed.fetch_max(nanos(issued_at), Ordering::Relaxed);
        let payload = SubscriptionFacts {
            sequence: u64::try_from(sequence).unwrap_or_default(),
            issued_at: wire::timestamp(issued_at),
            nonce: nonce.to_vec(),
            unit_id: unit_id.to_owned(),
            facts: Some((&facts).into()),
        };
        Ok(self.keys.sign(payload.encode_to_vec()))
    }
}

/// What a subscription's facts are to a unit: one that was deactivated is told so.
pub(super) fn for_unit(facts: Facts, unit: &Unit) -> Facts {
    match unit.state {
        UnitState::Active => facts,
        UnitState::DeactivationPending | UnitState::Deactivated => {
            deactivated(facts, unit.deactivated_at.unwrap_or(unit.activated_at))
        }
    }
}

/// Facts as a unit hears them that was deactivated at `since`.
pub(super) fn deactivated(facts: Facts, since: Instant) -> Facts {
    Facts { activation: Activation::Deactivated { since }, ..facts }
}

/// Notes that a unit connected. One whose deactivation is pending is told by this very sync (semantics 6.6).
async fn connected(
    change: &mut Change,
    unit: Unit,
    syncing: &Syncing,
    customer_id: &str,
) -> Result<Unit, Refusal> {
    let Syncing { product_version, subunits, .. } = syncing;
    let version = Some(product_version.as_str()).filter(|version| !version.is_empty());
    let version = version.unwrap_or(&unit.product_version).to_owned();
    let subunits = subunits.unwrap_or(unit.subunits);
    let state = unit.state.told();
    let update = sqlx::query(
        "UPDATE units SET last_connected_at = $2, product_version = $3, subunits = $4, state = $5
         WHERE unit_id = $1",
    );
    let update = update.bind(&unit.id).bind(nanos(change.at)).bind(&version).bind(kept(subunits));
    update.bind(wire::unit_state_kept(state)).execute(&mut *change.tx).await?;
    if state != unit.state {
        change.audit(Entry {
            customer_id: customer_id.to_owned(),
            actor: format!("unit {}", unit.id),
            action: "unit.deactivated",
            target: unit.id.clone(),
            done: true,
            detail: format!("{} was told at its sync", unit.device_name),
        });
    }
    Ok(Unit { state, product_version: version, subunits, last_connected_at: change.at, ..unit })
}

async fn take(
    change: &mut Change,
    subscription: &mut Subscription,
    unit: &Unit,
    usage: &Usage,
) -> Result<(), Refusal> {
    let Usage { installation, counts, sms_sent } = usage;
    // What a unit counts that takes no seat does not count.
    if let Some(counts) = counts.filter(|_| unit.state == UnitState::Active) {
        let installation = Some(installation.as_str()).filter(|name| !name.is_empty());
        let installation = installation.unwrap_or(&unit.installation);
        usage::report(change, subscription, unit, installation, counts).await?;
    }
    // SMS were sent, whatever became of the unit since.
    if !sms_sent.is_empty() {
        usage::spend(change, subscription, unit, sms_sent).await?;
    }
    subscription.settle(change, false).await
}
