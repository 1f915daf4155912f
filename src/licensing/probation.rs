//! Units on probation: what somebody activated with a license key within a day hurts no server that was there before
//! (semantics 7.54).
//!
//! A key proves nothing about who has it. For a day its owner sees in the audit log what the unit reports, and may rotate
//! the key and deactivate the unit, before any of it counts. Not here: how counts add up (see `usage`), and what SMS cost
//! (see `sms`).

use sqlx::Row as _;

use super::{
    actor::Actor,
    change::Change,
    sms::{Deferred, Sms},
    store::{StoreError, count, nanos},
    subscriptions::Subscription,
    units::{Unit, syncs::Syncs},
    usage::Counts,
};
use crate::{
    domain::{Instant, Span},
    proto::licensing::SeatKind,
    rfc3339,
    wire::usage::Count,
};

/// How long it lasts.
const PROBATION: Span = Span::days(1);

/// A unit that is on probation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probation {
    ends: Instant,
    at: Instant,
}

impl Probation {
    /// That of a unit: nothing for one that an account activated, that is older than a day, or that has no other server
    /// of its subscription beside it that it could hurt.
    pub(super) async fn of(change: &mut Change, unit: &Unit) -> Result<Option<Self>, StoreError> {
        let (ends, at) = (unit.activated_at + PROBATION, change.at);
        // A clock that was ahead when it was activated must not hold it for longer.
        let is_new = unit.activated_by.is_empty() && unit.activated_at <= at && at < ends;
        if !is_new {
            return Ok(None);
        }
        let others = sqlx::query(
            "SELECT 1 AS one FROM installations i JOIN units u ON u.unit_id = i.unit_id
             WHERE i.subscription_id = $1 AND i.unit_id <> $2 AND (u.activated_by <> '' OR u.activated_at <= $3)
             LIMIT 1",
        );
        let others = others.bind(unit.subscription_id.clone()).bind(unit.id.clone());
        let others = others.bind(nanos(at - PROBATION)).fetch_optional(&mut *change.tx).await?;
        Ok(others.map(|_| Self { ends, at }))
    }

    /// Whether these counts would take the place of another unit's, or the subscription beyond what was bought.
    pub(super) async fn defers(
        change: &mut Change,
        subscription: &Subscription,
        unit: &Unit,
        installation: &str,
        counts: Counts,
    ) -> Result<bool, StoreError> {
        let of_others = sqlx::query(
            "SELECT 1 AS one FROM installations WHERE subscription_id = $1 AND installation = $2 AND unit_id <> $3",
        );
        let of_others = of_others.bind(subscription.id.to_string()).bind(installation.to_owned());
        if of_others.bind(unit.id.clone()).fetch_optional(&mut *change.tx).await?.is_some() {
            return Ok(true);
        }
        let own = sqlx::query(
            "SELECT active_users, all_users, components FROM installations WHERE subscription_id = $1 AND unit_id = $2",
        );
        let own = own.bind(subscription.id.to_string()).bind(unit.id.clone());
        let own = own.fetch_optional(&mut *change.tx).await?;
        let own = |column: &str| own.as_ref().map_or(Ok(0), |row| row.try_get(column).map(count));
        let exceeds = |total: u64, before: u64, now: Option<Count>, limit: u64| {
            now.map(Count::get).is_some_and(|now| before < now && limit < total - total.min(before) + now)
        };
        let facts = &subscription.facts;
        let (seats, all_users, components) =
            (facts.users.licensed.0, facts.all_users.limit, facts.components.limit);
        let totals = subscription.totals;
        let users_take_seats = subscription.seat_kind != SeatKind::Units;
        Ok((users_take_seats
            && exceeds(count(totals.active_users), own("active_users")?, counts.active_users, seats))
            || (0 < all_users
                && exceeds(count(totals.all_users), own("all_users")?, counts.all_users, all_users))
            || (0 < components
                && exceeds(count(totals.components), own("components")?, counts.components, components)))
    }

    /// Why something does not count yet, and when it is looked at again.
    pub(super) fn why(self) -> (String, std::time::Duration) {
        let why = format!(
            "the unit was activated with the license key less than a day ago, and this would hurt servers that were there \
             before: it counts from {} on",
            rfc3339::format(self.ends)
        );
        let seconds = u64::try_from((self.ends - self.at).nanos() / Span::SECOND.nanos()).unwrap_or_default();
        (why, std::time::Duration::from_secs(seconds + 1))
    }

    /// SMS that do not count yet.
    pub(super) fn deferred(self, sent: &[Sms]) -> Vec<Deferred> {
        let (why, retry_after) = self.why();
        sent.iter().map(|sms| Deferred { position: sms.position, why: why.clone(), retry_after }).collect()
    }

    /// One entry a day, however often it is tried: for the owner to see before anything counts.
    pub(super) fn tell(
        self,
        change: &mut Change,
        customer_id: &str,
        unit: &Unit,
        syncs: &mut Syncs,
        (counts, installation): (Option<Counts>, &str),
        sms: usize,
    ) {
        if change.at < syncs.alarmed_at + Span::days(1) && syncs.alarmed_at <= change.at {
            return;
        }
        syncs.alarmed_at = change.at;
        let users = counts.and_then(|counts| counts.active_users).map_or(0, Count::get);
        let detail = format!(
            "{}, activated with the license key, reports {users} active users of installation `{installation}` and {sms} SMS; \
             they count from {} on: if it is not yours, rotate the license's key and deactivate it",
            unit.device_name,
            rfc3339::format(self.ends)
        );
        tracing::warn!(unit = unit.id, "usage is deferred: {detail}");
        change.audit(Actor::unit(&unit.id).failed(customer_id, "unit.usage_deferred", &unit.id, detail));
    }
}
