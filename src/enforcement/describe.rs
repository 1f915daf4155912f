//! All that is held about a subscription and all that follows from it at one instant, as one message.
//!
//! Not here: where the snapshot comes from; a simulated one is described the same way.

use std::time::Duration;

use crate::{
    cache::Snapshot,
    domain::{
        Decision, Facts, Instant, Operation, Question, Role, SmsDelivery,
        decision::decide,
        facts::SmsCredits,
        timeline::{Timeline, Turn},
    },
    enforcement::{
        answer::{self, Freshness},
        convert, table,
    },
    proto::enforcement as api,
};

/// Describes `snapshot` at `now`.
pub(super) fn describe(snapshot: &Snapshot, freshness: &Freshness, now: Instant) -> api::Subscription {
    let Snapshot { facts, timeline, as_of, revision, origin } = snapshot;
    let held = timeline.at(now);
    let age = answer::age(*as_of, now);
    api::Subscription {
        subscription_id: facts.subscription_id.to_string(),
        state: api::SubscriptionState::from(held.state).into(),
        conditions: held.conditions.iter().map(|condition| convert::condition(condition, facts)).collect(),
        usage: Some(usage(facts)),
        timeline: timeline.after(now).iter().filter_map(turn).collect(),
        operations: Operation::ALL.iter().map(|operation| access(timeline, *operation, now)).collect(),
        provenance: Some(api::Provenance {
            as_of: convert::timestamp(*as_of),
            age: Some(duration(age)),
            revision: *revision,
            origin: api::Origin::from(*origin).into(),
            stale: freshness.is_stale(age),
        }),
        restriction_table_sha256: table::sha256().to_owned(),
        facts: Some(facts.into()),
        evaluated_at: convert::timestamp(now),
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

fn access(timeline: &Timeline, operation: Operation, now: Instant) -> api::OperationAccess {
    let asked_by = |role| {
        let question = Question { operation, role, sms_delivery: SmsDelivery::VendorCredits };
        decide(timeline, question, now)
    };
    let Decision { state: _, reason, until } = asked_by(Role::User);
    let administrator = asked_by(Role::Administrator);
    api::OperationAccess {
        operation: api::Operation::from(operation).into(),
        row: api::RestrictionRow::from(operation.row()).into(),
        access: api::Access::from(reason.access()).into(),
        reason: api::Reason::from(reason).into(),
        until: until.and_then(convert::timestamp),
        administrator_access: api::Access::from(administrator.access()).into(),
        administrator_reason: api::Reason::from(administrator.reason).into(),
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}
