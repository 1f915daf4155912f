//! A unit's sync: its usage is taken, and it is told the facts, signed (semantics 6.6, 6.8).
//!
//! Not here: how usage adds up (see `usage`), and how changes reach a unit that watches (see `watch`).

use std::{sync::atomic::Ordering, time::Duration};

use prost::Message as _;

use super::{
    Backend,
    actor::Actor,
    change::Change,
    issue::held,
    probation::Probation,
    proven::Proven,
    reading::Reading,
    refusal::Refusal,
    sms::{self, Deferred, Sms},
    store::{Store, kept, nanos},
    subscriptions::Subscription,
    turns::Whose,
    units::{self, Unit, syncs::Syncs},
    usage::{self, Counts},
    wire,
};
use crate::{
    domain::{
        Activation, Facts, Instant, Span, SubscriptionId,
        license::{Used, pool},
        unit::UnitState,
    },
    proto::{
        enforcement as api,
        licensing::{SignedFacts, SubscriptionFacts},
    },
    wire::usage::{Installation, ProductVersion},
};

/// What a unit says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Syncing {
    /// The hash of the secret it comes with.
    pub(super) secret_sha256: String,
    /// The hash of the secret it is about to use; empty if none.
    pub(super) next_secret_sha256: String,
    pub(super) product_version: ProductVersion,
    pub(super) subunits: Option<u64>,
    /// Where it runs; empty if it does not say. None where it is not asked for, as when it begins to watch.
    pub(super) instance: Option<String>,
    /// The number of the facts it holds; 0 if it holds none.
    pub(super) held_sequence: Option<i64>,
    pub(super) usage: Option<Usage>,
}

/// What an authentication server counted since its last sync.
#[derive(Clone, Debug)]
pub(super) struct Usage {
    pub(super) installation: Installation,
    pub(super) counts: Option<Counts>,
    pub(super) sms_sent: Vec<Sms>,
}

/// A sync that was taken.
pub(super) struct Synced {
    pub(super) facts: SignedFacts,
    /// Why the counts do not count for now, and when they are looked at again.
    pub(super) counts_deferred: Option<(String, Duration)>,
    /// SMS that do not count for now.
    pub(super) deferred: Vec<Deferred>,
    /// Why SMS will never count, if they will not.
    pub(super) sms_refused: Option<&'static str>,
}

/// What was taken of a sync.
struct Taken {
    unit: Unit,
    subscription: Subscription,
    counts_deferred: Option<(String, Duration)>,
    deferred: Vec<Deferred>,
    sms_refused: Option<&'static str>,
}

/// A unit that connects more often than this is not written down each time.
const CONNECTED: Span = Span::from_nanos(60 * Span::SECOND.nanos());

/// For so long after its deactivation a unit that has not heard of it may still hand over what it sent before.
const PENDING: Span = Span::days(1);

/// Why SMS of a deactivated unit do not count.
const DEACTIVATED: &str = "the unit was deactivated: what it reports does not count";

/// What whoever comes with a secret that opens nothing is told.
pub(super) const REVOKED: &str = "the unit's credential opens nothing: activate this server again";

impl Backend {
    /// Makes the next secret of a unit its only one, if that is what it comes with.
    pub(super) async fn uses(&self, proven: Proven, secret_sha256: &str) -> Result<Proven, Refusal> {
        if proven.unit.secret_sha256 == secret_sha256 {
            return Ok(proven);
        }
        let secret = secret_sha256.to_owned();
        let syncing = Syncing { secret_sha256: secret, ..Syncing::default() };
        let unit = Store::retrying(|| self.taken(&proven, &syncing)).await?.unit;
        Ok(Proven { unit, ..proven })
    }

    /// Takes what a unit tells and answers with the facts as they are then.
    pub(super) async fn sync(
        &self,
        (proven, reading): (Proven, Reading),
        syncing: &Syncing,
        nonce: &[u8],
    ) -> Result<Synced, Refusal> {
        let read = self.read_only(&proven.unit, syncing, self.clock.now()).await?;
        drop(reading);
        let taken = match read {
            Some(taken) => taken,
            None => Store::retrying(|| self.taken(&proven, syncing)).await?,
        };
        let Taken { unit, subscription, counts_deferred, deferred, sms_refused } = taken;
        let facts = for_unit(&subscription.facts, &unit);
        let facts = self.signed(subscription.sequence, facts, &unit.id, nonce)?;
        Ok(Synced { facts, counts_deferred, deferred, sms_refused })
    }

    /// The facts for a server that is not activated: that it is not, and nothing else.
    pub(super) fn not_activated(&self, id: SubscriptionId, nonce: &[u8]) -> Result<SignedFacts, Refusal> {
        let facts = pool(id, &[], Used::default(), None, self.clock.now());
        self.signed(0, (&facts).into(), "", nonce)
    }

    async fn taken(&self, proven: &Proven, syncing: &Syncing) -> Result<Taken, Refusal> {
        let Proven { unit, customer_id } = proven;
        let _turn = self.turns.wait(Whose::One(&unit.id)).await?;
        let _units = self.turns.wait(Whose::Units(customer_id)).await?;
        let mut change = Change::begin_of_unit(self).await?;
        let mut subscription = held(&mut change, &unit.subscription_id).await?;
        // What was read before it was held may have changed since.
        let unit = units::by_id(&mut *change.tx, &unit.id).await?.unwrap_or_else(|| unit.clone());
        let syncs = Syncs::of(&mut *change.tx, &unit.id).await?;
        let mut syncs_now = syncs.clone();
        let customer_id = subscription.customer_id.clone();
        let (before, sequence) = (unit.secret_sha256.clone(), subscription.sequence + 1);
        let unit = renewed(&mut change, unit, &mut syncs_now, syncing, (&customer_id, sequence)).await?;
        if unit.secret_sha256 != before {
            // Watches that were opened with the one before end.
            subscription.settle(&mut change, true).await?;
        }
        noted(&mut change, &unit, &mut syncs_now, syncing, &customer_id);
        let before = unit.state;
        let unit = connected(&mut change, unit, syncing, &customer_id).await?;
        let sms = syncing.usage.iter().flat_map(|usage| usage.sms_sent.iter());
        let mut sms_refused = sms.clone().next().map(|_| DEACTIVATED);
        let (mut deferred, mut counts_deferred) = (Vec::new(), None);
        if let Some(usage) = &syncing.usage {
            let probation = Probation::of(&mut change, &unit).await?;
            if counts_for(before, &unit, change.at) {
                let sent = &usage.sms_sent;
                deferred = match probation {
                    Some(probation) => probation.deferred(sent),
                    None => {
                        sms::spend(&mut change, &subscription, &unit, &mut syncs_now, sent, &self.settings)
                            .await?
                    }
                };
                sms_refused = None;
            }
            let was_over = subscription.facts.users.excess().is_some();
            let counted = take(&mut change, &mut subscription, &unit, usage, probation.is_some()).await?;
            if !was_over {
                exceeded(&mut change, &subscription, &unit, &mut syncs_now);
            }
            if let Some(probation) = probation {
                counts_deferred = (!counted).then(|| probation.why());
                if !counted || !deferred.is_empty() {
                    let told = (usage.counts, usage.installation.as_str());
                    probation.tell(&mut change, &customer_id, &unit, &mut syncs_now, told, deferred.len());
                }
            }
        }
        if syncs_now != syncs {
            syncs_now.write(&mut change, &unit.id).await?;
        }
        self.told(change.keep().await?);
        Ok(Taken { unit, subscription, counts_deferred, deferred, sms_refused })
    }

    /// What a sync comes to that changes nothing; none if it may change something.
    async fn read_only(&self, unit: &Unit, syncing: &Syncing, at: Instant) -> Result<Option<Taken>, Refusal> {
        let Syncing { secret_sha256, next_secret_sha256, product_version, subunits, usage, .. } = syncing;
        let version = product_version.as_str();
        // What a deactivated unit says is of no use: it must not keep others waiting.
        let is_gone = unit.state == UnitState::Deactivated;
        let is_news = (!version.is_empty() && version != unit.product_version)
            || subunits.is_some_and(|subunits| subunits != unit.subunits)
            || usage.is_some();
        let is_due = unit.last_connected_at + CONNECTED <= at;
        let is_renewed = *secret_sha256 != unit.secret_sha256 || !next_secret_sha256.is_empty();
        let is_pending = unit.state == UnitState::DeactivationPending;
        if ((is_news || is_renewed) && !is_gone) || is_due || is_pending {
            return Ok(None);
        }
        let syncs = Syncs::of(self.store.syncs(), &unit.id).await?;
        if !is_gone && syncs.differs(syncing.instance.as_deref(), syncing.held_sequence) {
            return Ok(None);
        }
        let subscription = Subscription::read(self.store.syncs(), &unit.subscription_id).await?;
        let missing = || Refusal::NotFound { what: "subscription", id: unit.subscription_id.clone() };
        let subscription = subscription.ok_or_else(missing)?;
        // Read after the subscription: a number is told with what it stands for, so a unit that was deactivated
        // meanwhile must not be active under the number of its deactivation.
        let unit = units::by_id(self.store.syncs(), &unit.id).await?.unwrap_or_else(|| unit.clone());
        // What time has changed by now is told by now, whoever looks first.
        if subscription.turns_at <= at || unit.state == UnitState::DeactivationPending {
            return Ok(None);
        }
        let has_sms = usage.as_ref().is_some_and(|usage| !usage.sms_sent.is_empty());
        let sms_refused = has_sms.then_some(DEACTIVATED);
        Ok(Some(Taken { unit, subscription, counts_deferred: None, deferred: Vec::new(), sms_refused }))
    }

    /// Signs facts for a unit.
    pub(super) fn signed(
        &self,
        sequence: i64,
        facts: api::SubscriptionFacts,
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
            facts: Some(facts),
        };
        Ok(self.keys.sign(payload.encode_to_vec()))
    }
}

/// What a subscription's facts are to a unit: one that was deactivated is told so, and nothing else.
pub(super) fn for_unit(facts: &Facts, unit: &Unit) -> api::SubscriptionFacts {
    match unit.state {
        UnitState::Active => facts.into(),
        UnitState::DeactivationPending | UnitState::Deactivated => {
            deactivated(facts, unit.deactivated_at.unwrap_or(unit.activated_at))
        }
    }
}

/// What a unit hears that was deactivated at `since`.
pub(super) fn deactivated(facts: &Facts, since: Instant) -> api::SubscriptionFacts {
    let activation = Facts { activation: Activation::Deactivated { since }, ..facts.clone() };
    let api::SubscriptionFacts { subscription_id, activation, .. } = (&activation).into();
    api::SubscriptionFacts { subscription_id, activation, ..api::SubscriptionFacts::default() }
}

/// Whether SMS of a unit count that was in the state `before`, and hears now of what it is in.
fn counts_for(before: UnitState, unit: &Unit, at: Instant) -> bool {
    match before {
        UnitState::Active => true,
        UnitState::DeactivationPending => unit.deactivated_at.is_some_and(|since| at < since + PENDING),
        UnitState::Deactivated => false,
    }
}

/// The secret a unit comes with, if it is the next one, is its only one from now on; and it may name another.
async fn renewed(
    change: &mut Change,
    unit: Unit,
    syncs: &mut Syncs,
    syncing: &Syncing,
    (customer_id, sequence): (&str, i64),
) -> Result<Unit, Refusal> {
    let Syncing { secret_sha256, next_secret_sha256, .. } = syncing;
    let mut unit = unit;
    if unit.secret_sha256 != *secret_sha256 {
        // It was revoked meanwhile, or another copy of the unit was sooner.
        if syncs.next_secret_sha256.is_empty() || syncs.next_secret_sha256 != *secret_sha256 {
            return Err(Refusal::Unauthenticated(REVOKED));
        }
        unit.secret_sha256 = std::mem::take(&mut syncs.next_secret_sha256);
        let update = sqlx::query("UPDATE units SET secret_sha256 = $2, changed_in = $3 WHERE unit_id = $1");
        let update = update.bind(unit.id.clone()).bind(unit.secret_sha256.clone()).bind(sequence);
        update.execute(&mut *change.tx).await?;
        // However often it does, the log can be read.
        if is_a_day_ago(syncs.renewed_at, change.at) {
            syncs.renewed_at = change.at;
            let detail = format!("{} renewed its secret", unit.device_name);
            change.audit(Actor::unit(&unit.id).did(customer_id, "unit.renew_secret", &unit.id, detail));
        }
    }
    // One that was deactivated opens nothing that would need another.
    let renews = unit.state == UnitState::Active && !next_secret_sha256.is_empty();
    if renews && *next_secret_sha256 != unit.secret_sha256 {
        syncs.next_secret_sha256.clone_from(next_secret_sha256);
    }
    Ok(unit)
}

/// Whether an entry of which there is one a day is due, the last one being of `last`; a clock may have been set right.
fn is_a_day_ago(last: Instant, at: Instant) -> bool {
    last + Span::days(1) <= at || at < last
}

/// Notes where a unit syncs from and what it holds. What is wrong with it is an entry, one a day at the most.
fn noted(change: &mut Change, unit: &Unit, syncs: &mut Syncs, syncing: &Syncing, customer_id: &str) {
    let at = change.at;
    let day = |last: Instant| is_a_day_ago(last, at);
    let told = syncs.two_places_at;
    if syncs.seen_at(syncing.instance.as_deref(), at) && told.is_none_or(day) {
        let detail = format!("{} runs in two places at once with one credential", unit.device_name);
        change.audit(Actor::unit(&unit.id).failed(customer_id, "unit.two_places", &unit.id, detail));
    } else if told.is_some_and(|told| !day(told)) {
        // The instant is that of the entry: it must not move on with each sync, or no other entry would follow.
        syncs.two_places_at = told;
    }
    let Some(held) = syncing.held_sequence else { return };
    let before = std::mem::replace(&mut syncs.held_sequence, held);
    if held < before && day(syncs.went_back_at) {
        syncs.went_back_at = at;
        let now = if held == 0 { "none".to_owned() } else { format!("of {held}") };
        let detail = format!("{} held facts of number {before}, and now {now}", unit.device_name);
        change.audit(Actor::unit(&unit.id).failed(customer_id, "unit.facts_went_back", &unit.id, detail));
    }
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
        let detail = format!("{} was told at its sync", unit.device_name);
        change.audit(Actor::unit(&unit.id).did(customer_id, "unit.deactivated", &unit.id, detail));
    }
    Ok(Unit { state, product_version: version, subunits, last_connected_at: change.at, ..unit })
}

/// One entry a day for a unit whose report took its subscription beyond the seats.
fn exceeded(change: &mut Change, subscription: &Subscription, unit: &Unit, syncs: &mut Syncs) {
    let users = subscription.facts.users;
    if users.excess().is_none() || !is_a_day_ago(syncs.exceeded_at, change.at) {
        return;
    }
    syncs.exceeded_at = change.at;
    let detail = format!(
        "{} reported: {} active users of {} seats",
        unit.device_name, users.active.0, users.licensed.0
    );
    change.audit(Actor::unit(&unit.id).did(
        &subscription.customer_id,
        "unit.exceeded_seats",
        &unit.id,
        detail,
    ));
}

/// Takes what a unit counted; whether it did: one on probation hurts no other.
async fn take(
    change: &mut Change,
    subscription: &mut Subscription,
    unit: &Unit,
    usage: &Usage,
    on_probation: bool,
) -> Result<bool, Refusal> {
    let Usage { installation, counts, sms_sent: _ } = usage;
    // What a unit counts that takes no seat does not count.
    if let Some(counts) = counts.filter(|_| unit.state == UnitState::Active) {
        let installation = Some(installation.as_str()).filter(|name| !name.is_empty());
        let installation = installation.unwrap_or(&unit.installation);
        if on_probation && Probation::defers(change, subscription, unit, installation, counts).await? {
            return Ok(false);
        }
        usage::report(change, subscription, unit, installation, counts).await?;
    }
    subscription.settle(change, false).await?;
    Ok(true)
}
