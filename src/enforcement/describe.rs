//! All that is held about a subscription and all that follows from it at one instant, as one message.
//!
//! Not here: where the snapshot comes from; a simulated one is described the same way.

use std::time::Duration;

use crate::{
    cache::Snapshot,
    domain::{
        Decision, Facts, Instant, Operation, Question, Role, SmsDelivery,
        decision::{decide, without_facts},
        facts::SmsCredits,
        timeline::Turn,
    },
    enforcement::{convert, table},
    freshness::{self, Freshness},
    proto::enforcement as api,
    refresh::outbox::Pending,
};

/// Describes `snapshot` at `now`; `failure` is why the source told nothing the last time, if it did not, and `pending`
/// what was reported and not taken.
pub(super) fn describe(
    snapshot: &Snapshot,
    freshness: &Freshness,
    failure: Option<String>,
    pending: Option<Pending>,
    now: Instant,
) -> api::Subscription {
    let Snapshot { facts, timeline, as_of, revision, origin } = snapshot;
    let held = timeline.at(now);
    api::Subscription {
        subscription_id: facts.subscription_id.to_string(),
        state: api::SubscriptionState::from(held.state).into(),
        conditions: held.conditions.iter().map(|condition| convert::condition(condition, facts)).collect(),
        usage: Some(usage(facts)),
        timeline: timeline.after(now).iter().filter_map(turn).collect(),
        operations: Operation::ALL
            .iter()
            .map(|operation| access(snapshot, freshness, *operation, now))
            .collect(),
        provenance: Some(api::Provenance {
            as_of: convert::timestamp(*as_of),
            age: freshness::age(*as_of, now).map(duration),
            revision: *revision,
            origin: api::Origin::from(*origin).into(),
            stale: freshness.is_stale(*as_of, now),
            last_failure: failure.unwrap_or_default(),
        }),
        restriction_table_sha256: table::sha256().to_owned(),
        facts: Some(facts.into()),
        evaluated_at: convert::timestamp(now),
        pending_usage: pending.filter(|pending| *pending != Pending::default()).map(pending_usage),
    }
}

fn pending_usage(pending: Pending) -> api::PendingUsage {
    let Pending { sms_waiting, sms_deferred, set_aside, reason } = pending;
    api::PendingUsage {
        sms_waiting: sms_waiting as u64,
        sms_deferred: sms_deferred as u64,
        set_aside,
        reason,
    }
}

fn usage(facts: &Facts) -> api::Usage {
    api::Usage {
        active_users: facts.users.active.0,
        licensed_users: facts.users.licensed.0,
        all_users: facts.all_users.count,
        all_users_limit: facts.all_users.limit,
        components: facts.components.count,
        components_limit: facts.components.limit,
        sms_credits: facts.sms_credits.map(|SmsCredits(remaining)| remaining),
    }
}

/// A turn past the year 9999 has no place in the protocol and is left out.
fn turn(turn: &Turn) -> Option<api::Turn> {
    let at = convert::timestamp(turn.from)?;
    let conditions = turn.conditions.iter().map(|condition| api::ConditionKind::from(condition.kind).into());
    Some(api::Turn {
        at: Some(at),
        state: api::SubscriptionState::from(turn.state).into(),
        conditions: conditions.collect(),
    })
}

/// The answers `Authorize` would give; none where it would refuse to answer from facts this old.
fn access(
    snapshot: &Snapshot,
    freshness: &Freshness,
    operation: Operation,
    now: Instant,
) -> api::OperationAccess {
    let Snapshot { timeline, as_of, .. } = snapshot;
    let answered = freshness.refuses(operation, *as_of, now).is_none();
    let asked_by = |role| {
        let question = Question { operation, role, sms_delivery: SmsDelivery::VendorCredits };
        let decision = decide(timeline, question, now);
        (answered || without_facts(question).is_some()).then_some(decision)
    };
    let user = asked_by(Role::User);
    let administrator = asked_by(Role::Administrator);
    let access = |decision: Option<Decision>| {
        decision.map_or(0, |decision| api::Access::from(decision.access()).into())
    };
    let reason =
        |decision: Option<Decision>| decision.map_or(0, |decision| api::Reason::from(decision.reason).into());
    let until =
        user.map(|user| user.until.into_iter().chain(freshness.refused_from(operation, *as_of)).min());
    api::OperationAccess {
        operation: api::Operation::from(operation).into(),
        row: api::RestrictionRow::from(operation.row()).into(),
        access: access(user),
        reason: reason(user),
        until: until.flatten().and_then(convert::timestamp),
        administrator_access: access(administrator),
        administrator_reason: reason(administrator),
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
