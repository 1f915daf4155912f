//! SMS that units sent, each counted once and no more in a day than a unit can send (semantics 6.9, 7.27).
//!
//! Not here: what becomes of users and components (see `usage`).

use std::{collections::HashSet, time::Duration};

use sqlx::{AssertSqlSafe, Row as _};

use super::{
    Backend,
    actor::Actor,
    change::Change,
    issue::held,
    licenses,
    refusal::Refusal,
    store::{StoreError, kept, nanos, placeholders},
    subscriptions::Subscription,
    units::{
        Unit, list,
        syncs::{SUMMED, Syncs},
    },
    wire,
};
use crate::{
    config,
    domain::{
        Instant, Span,
        facts::SmsCredits,
        license::{self, License},
        unit::UnitState,
    },
    wire::usage::{SmsCost, SmsId},
};

/// An SMS that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sms {
    pub(super) id: SmsId,
    pub(super) cost: SmsCost,
    /// Where it stands in the report.
    pub(super) position: usize,
}

/// SMS that do not count for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Deferred {
    pub(super) position: usize,
    pub(super) why: String,
    pub(super) retry_after: Duration,
}

/// What cost too much may cost less than the bound once somebody has raised it.
const DEAR_AGAIN_AFTER: Duration = Duration::from_hours(1);

/// SMS of a unit that are known again in a day although there were no credits to take.
const KEPT_FOR_NOTHING: i64 = 100;

/// SMS in one statement.
const CHUNK: usize = 500;

/// Subtracts SMS from the pool of the subscription, each ID of a unit once; the pool never goes below zero. What is more
/// than a unit can send is deferred: to drop it would make it free.
pub(super) async fn spend(
    change: &mut Change,
    subscription: &Subscription,
    unit: &Unit,
    syncs: &mut Syncs,
    sent: &[Sms],
    bounds: &config::Backend,
) -> Result<Vec<Deferred>, Refusal> {
    let (mut new, mut remembered, mut deferred) = (Vec::new(), Vec::new(), Vec::new());
    let day_ends = begin_day(syncs, change.at);
    let counting = counting(change, subscription).await?;
    let is_empty = counting.iter().all(|(_, license)| left(license) == 0);
    let known = known(change, unit, sent).await?;
    let mut taken = HashSet::new();
    for sms in sent {
        if known.contains(sms.id.as_str()) || !taken.insert(&sms.id) {
            continue;
        }
        let most = (bounds.sms_credits, bounds.sms_per_day);
        match too_much(sms, syncs, day_ends - change.at, most) {
            None => {
                syncs.sms_in_day = syncs.sms_in_day.saturating_add(1);
                new.push(sms);
                // Where there is nothing to be taken, only a few have to be known again: nobody fills the disk for nothing.
                if !is_empty || syncs.sms_in_day <= KEPT_FOR_NOTHING {
                    remembered.push(sms);
                }
            }
            Some((why, retry_after)) => {
                taken.remove(&sms.id);
                deferred.push(Deferred { position: sms.position, why, retry_after });
            }
        }
    }
    insert(change, unit, &remembered).await?;
    let costs = new.iter().map(|sms| i64::from(sms.cost.credits()));
    let spent = costs.fold(0_i64, i64::saturating_add);
    subtract(change, counting, spent).await?;
    let count = i64::try_from(new.len()).unwrap_or(i64::MAX);
    syncs.sum(change, &subscription.customer_id, &unit.id, count, spent);
    alarm(change, subscription, unit, syncs, &deferred);
    Ok(deferred)
}

/// Begins a new day once the last one is over; when it ends.
fn begin_day(syncs: &mut Syncs, at: Instant) -> Instant {
    // A clock that was ahead must not keep the day from ending.
    if syncs.day_began + Span::days(1) <= at || at < syncs.day_began {
        (syncs.day_began, syncs.sms_in_day) = (at, 0);
    }
    syncs.day_began + Span::days(1)
}

/// Why an SMS is more than a unit can send, and when it is looked at again.
fn too_much(sms: &Sms, syncs: &Syncs, left: Span, most: (u32, u32)) -> Option<(String, Duration)> {
    let (credits, in_day) = most;
    if credits < sms.cost.credits() {
        let why = format!(
            "{} credits, and one SMS costs at most {credits} (`backend.sms_credits`)",
            sms.cost.credits()
        );
        return Some((why, DEAR_AGAIN_AFTER));
    }
    if i64::from(in_day) <= syncs.sms_in_day {
        let why = format!("a unit sends at most {in_day} SMS in a day (`backend.sms_per_day`)");
        let seconds = u64::try_from(left.nanos() / Span::SECOND.nanos()).unwrap_or_default();
        return Some((why, Duration::from_secs(seconds + 1)));
    }
    None
}

/// One entry a day, however often it is tried.
fn alarm(
    change: &mut Change,
    subscription: &Subscription,
    unit: &Unit,
    syncs: &mut Syncs,
    deferred: &[Deferred],
) {
    let Some(first) = deferred.first() else { return };
    if change.at < syncs.alarmed_at + Span::days(1) && syncs.alarmed_at <= change.at {
        return;
    }
    syncs.alarmed_at = change.at;
    let detail = format!("{} SMS of {}: {}", deferred.len(), unit.device_name, first.why);
    tracing::error!(unit = unit.id, subscription = %subscription.id, "SMS are deferred: {detail}");
    let customer_id = &subscription.customer_id;
    change.audit(Actor::unit(&unit.id).failed(customer_id, "unit.sms_deferred", &unit.id, detail));
}

/// IDs of these that were counted before.
async fn known(change: &mut Change, unit: &Unit, sent: &[Sms]) -> Result<HashSet<String>, StoreError> {
    let mut known = HashSet::new();
    for chunk in sent.chunks(CHUNK) {
        let sql = format!(
            "SELECT sms_id FROM sms_sent WHERE unit_id = $1 AND sms_id IN ({})",
            list(2, chunk.len())
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(unit.id.clone());
        let query = chunk.iter().fold(query, |query, sms| query.bind(sms.id.to_string()));
        for row in query.fetch_all(&mut *change.tx).await? {
            known.insert(row.try_get("sms_id")?);
        }
    }
    Ok(known)
}

/// Keeps them, to know them again.
async fn insert(change: &mut Change, unit: &Unit, new: &[&Sms]) -> Result<(), StoreError> {
    for chunk in new.chunks(CHUNK) {
        let sql = format!(
            "INSERT INTO sms_sent (unit_id, sms_id, credits, counted_at) VALUES {}",
            placeholders(1, chunk.len(), 4)
        );
        let mut insert = sqlx::query(AssertSqlSafe(sql));
        for Sms { id, cost, position: _ } in chunk {
            insert = insert.bind(unit.id.clone()).bind(id.to_string());
            insert = insert.bind(i64::from(cost.credits())).bind(nanos(change.at));
        }
        insert.execute(&mut *change.tx).await?;
    }
    Ok(())
}

/// The licenses that count, the one that expires first first.
async fn counting(
    change: &mut Change,
    subscription: &Subscription,
) -> Result<Vec<(String, License)>, StoreError> {
    let mut licenses = licenses::by_id(change, &subscription.id).await?;
    let last_end = license::last_end(licenses.iter().map(|(_, license)| license));
    licenses.retain(|(_, license)| license.counts(last_end, change.at));
    licenses.sort_by_key(|(_, license)| license.expires_at);
    Ok(licenses)
}

/// Credits that are left of it.
fn left(license: &License) -> i64 {
    license.sms_credits.map_or(0, |SmsCredits(left)| kept(left))
}

/// What expires first is used up first; the others owe nothing.
async fn subtract(
    change: &mut Change,
    licenses: Vec<(String, License)>,
    mut spent: i64,
) -> Result<(), StoreError> {
    for (id, license) in licenses {
        let taken = spent.min(left(&license));
        if 0 < taken {
            let update =
                sqlx::query("UPDATE licenses SET sms_credits = sms_credits - $2 WHERE license_id = $1");
            update.bind(id).bind(taken).execute(&mut *change.tx).await?;
            spent -= taken;
        }
    }
    Ok(())
}

impl Backend {
    /// Forgets SMS that cannot be repeated any more: a unit repeats what was not answered before anything else, so what
    /// came long before its last sync was answered; and of a deactivated unit nothing counts.
    pub(super) async fn forget_sms(&self) -> Result<(), StoreError> {
        let (now, kept) = (self.clock.now(), Span::from(self.settings.sms_kept));
        let span = i64::try_from(kept.nanos()).unwrap_or(i64::MAX);
        let mut tx = self.store.begin().await?;
        let forget = sqlx::query(
            "DELETE FROM sms_sent WHERE counted_at < $1 AND EXISTS (
                 SELECT 1 FROM units u WHERE u.unit_id = sms_sent.unit_id
                   AND (sms_sent.counted_at < u.last_connected_at - $2 OR u.state = $3 OR u.secret_sha256 = ''))",
        );
        let forget = forget.bind(nanos(now - kept)).bind(span);
        forget.bind(wire::unit_state_kept(UnitState::Deactivated)).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Writes sums to the audit log of units that have not synced since.
    pub(super) async fn sum_sms(&self) -> Result<(), Refusal> {
        let at = self.clock.now();
        let due = sqlx::query(
            "SELECT s.unit_id, u.subscription_id FROM unit_syncs s JOIN units u ON u.unit_id = s.unit_id
             WHERE 0 < s.sms_since AND s.summed_at <= $1 LIMIT 1000",
        );
        let due = due.bind(nanos(at - SUMMED)).fetch_all(self.store.reads()).await?;
        for row in due {
            let (unit_id, subscription_id): (String, String) =
                (row.try_get("unit_id")?, row.try_get("subscription_id")?);
            let mut change = Change::begin(self).await?;
            let subscription = held(&mut change, &subscription_id).await?;
            let mut syncs = Syncs::of(&mut *change.tx, &unit_id).await?;
            syncs.sum(&mut change, &subscription.customer_id, &unit_id, 0, 0);
            syncs.write(&mut change, &unit_id).await?;
            self.told(change.keep().await?);
        }
        Ok(())
    }
}
