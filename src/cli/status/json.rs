//! A subscription as JSON for programs.

use serde_json::{Value, json};

use super::values;
use crate::proto::enforcement as api;

/// Everything in the message, with the contract's lower-case names.
pub(super) fn of(subscription: &api::Subscription) -> Value {
    let api::Subscription {
        subscription_id,
        state,
        conditions,
        usage,
        timeline,
        operations,
        provenance,
        restriction_table_sha256,
        facts,
        evaluated_at,
        pending_usage,
    } = subscription;
    json!({
        "subscription_id": subscription_id,
        "state": values::state(*state),
        "conditions": conditions.iter().map(condition).collect::<Vec<_>>(),
        "usage": usage.as_ref().map(self::usage),
        "timeline": timeline.iter().map(turn).collect::<Vec<_>>(),
        "operations": operations.iter().map(operation).collect::<Vec<_>>(),
        "provenance": provenance.as_ref().map(self::provenance),
        "restriction_table_sha256": restriction_table_sha256,
        "facts": facts.as_ref().map(self::facts),
        "evaluated_at": evaluated_at.as_ref().map(values::instant),
        "pending_usage": pending_usage.as_ref().map(self::pending_usage),
    })
}

fn pending_usage(pending: &api::PendingUsage) -> Value {
    let api::PendingUsage { sms_waiting, sms_deferred, set_aside, reason } = pending;
    json!({
        "sms_waiting": sms_waiting,
        "sms_deferred": sms_deferred,
        "set_aside": set_aside,
        "reason": Some(reason).filter(|reason| !reason.is_empty()),
    })
}

fn condition(condition: &api::Condition) -> Value {
    let api::Condition { kind, column, since, count, limit, licensing_reason, expires_at } = condition;
    json!({
        "condition": values::condition_kind(*kind),
        "column": values::state(*column),
        "since": since.as_ref().map(values::instant),
        "count": count,
        "limit": limit,
        "licensing_reason": Some(licensing_reason).filter(|reason| !reason.is_empty()),
        "expires_at": expires_at.as_ref().map(values::instant),
    })
}

fn usage(usage: &api::Usage) -> Value {
    let api::Usage {
        active_users,
        licensed_users,
        all_users,
        all_users_limit,
        components,
        components_limit,
        sms_credits,
    } = usage;
    json!({
        "active_users": active_users,
        "licensed_users": licensed_users,
        "all_users": all_users,
        "all_users_limit": all_users_limit,
        "components": components,
        "components_limit": components_limit,
        "sms_credits": sms_credits,
    })
}

fn turn(turn: &api::Turn) -> Value {
    let api::Turn { at, state, conditions } = turn;
    json!({
        "at": at.as_ref().map(values::instant),
        "state": values::state(*state),
        "conditions": conditions.iter().map(|kind| values::condition_kind(*kind)).collect::<Vec<_>>(),
    })
}

fn operation(operation: &api::OperationAccess) -> Value {
    let api::OperationAccess {
        operation,
        row,
        access,
        reason,
        until,
        administrator_access,
        administrator_reason,
    } = operation;
    json!({
        "operation": values::operation(*operation),
        "row": values::row(*row),
        "access": values::access(*access),
        "reason": values::reason(*reason),
        "until": until.as_ref().map(values::instant),
        "administrator_access": values::access(*administrator_access),
        "administrator_reason": values::reason(*administrator_reason),
    })
}

fn provenance(provenance: &api::Provenance) -> Value {
    let api::Provenance { as_of, age, revision, origin, stale, last_failure } = provenance;
    json!({
        "as_of": as_of.as_ref().map(values::instant),
        "age_seconds": age.as_ref().map(|age| age.seconds),
        "revision": revision,
        "origin": values::origin(*origin),
        "stale": stale,
        "last_failure": Some(last_failure).filter(|failure| !failure.is_empty()),
    })
}

pub(in crate::cli) fn facts(facts: &api::SubscriptionFacts) -> Value {
    let api::SubscriptionFacts {
        subscription_id,
        activation,
        expires_at,
        disabled_by_licensing,
        users,
        all_users,
        components,
        sms_credits,
    } = facts;
    let fair_use = |fair_use: &api::FairUse| json!({"count": fair_use.count, "limit": fair_use.limit});
    let mut shown = json!({
        "subscription_id": subscription_id,
        "activation": activation.as_ref().map(|activation| json!({"state": values::activation(activation.state)})),
        "expires_at": expires_at.as_ref().map(values::instant),
        "disabled_by_licensing": disabled_by_licensing.as_ref().map(|disabled| json!({
            "reason": disabled.reason,
            "since": disabled.since.as_ref().map(values::instant),
        })),
        "users": users.as_ref().map(|users| json!({
            "active": users.active,
            "licensed": users.licensed,
            "overused_since": users.overused_since.as_ref().map(values::instant),
        })),
        "all_users": all_users.as_ref().map(fair_use),
        "components": components.as_ref().map(fair_use),
        "sms_credits": sms_credits,
    });
    // Only a deactivated one has an instant; the shape can be fed to `explain` again.
    if let Some(since) = activation.as_ref().and_then(|activation| activation.since.as_ref())
        && let Some(Value::Object(activation)) = shown.get_mut("activation")
    {
        activation.insert("since".to_owned(), values::instant(since).into());
    }
    shown
}
