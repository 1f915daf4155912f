//! A subscription as people read it.

use std::{fmt::Write as _, time::Duration};

use anstyle::AnsiColor;
use prost_types::Timestamp;

use super::values;
use crate::{
    cli::output,
    domain::{Access, SubscriptionState},
    escape::escape_and_shorten,
    names::Named as _,
    proto::enforcement as api,
};

/// The state, what causes it, what it means for each operation, and what is to come.
pub(super) fn of(subscription: &api::Subscription) -> String {
    let mut text = headline(subscription);
    if let Some(failure) =
        subscription.provenance.as_ref().map(|told| &told.last_failure).filter(|told| !told.is_empty())
    {
        let red = AnsiColor::Red.on_default();
        let _ = writeln!(text, "  {red}the last refresh failed:{red:#} {}", escape_and_shorten(failure));
    }
    for condition in &subscription.conditions {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  • {}", sentence(condition));
    }
    if let Some(usage) = &subscription.usage {
        text += &self::usage(usage);
    }
    if let Some(pending) = &subscription.pending_usage {
        text += &pending_usage(pending);
    }
    text += &operations(&subscription.operations);
    text += &timeline(&subscription.timeline);
    text
}

fn headline(subscription: &api::Subscription) -> String {
    let style = state(subscription.state).map(output::state_style).unwrap_or_default();
    let title = format!("{style}{}{style:#}", title(subscription.state));
    let facts = subscription.provenance.as_ref().map(|provenance| {
        let age = provenance.age.as_ref().and_then(|age| u64::try_from(age.seconds).ok()).unwrap_or_default();
        format!(
            "facts {} old, revision {}, {}{}",
            humantime::format_duration(Duration::from_secs(age)),
            provenance.revision,
            values::origin(provenance.origin),
            if provenance.stale { ", stale" } else { "" }
        )
    });
    let subscription_id = escape_and_shorten(&subscription.subscription_id);
    format!("{subscription_id}  {title}\n  {}\n", facts.unwrap_or_default())
}

fn state(number: i32) -> Option<SubscriptionState> {
    SubscriptionState::named(&values::state(number)).ok()
}

fn title(number: i32) -> String {
    state(number).map_or_else(|| values::state(number), |state| output::state_title(state).to_owned())
}

fn sentence(condition: &api::Condition) -> String {
    let count = condition.count.unwrap_or_default();
    let limit = condition.limit.unwrap_or_default();
    let since = condition.since.as_ref().map(values::instant_for_people).unwrap_or_default();
    match condition.kind() {
        api::ConditionKind::ExpiresSoon => {
            format!(
                "expires {}",
                condition.expires_at.as_ref().map(values::instant_for_people).unwrap_or_default()
            )
        }
        api::ConditionKind::SeatsLow => format!("{count} of {limit} seats are taken"),
        api::ConditionKind::SmsCreditsLow => format!("{count} SMS credits remain"),
        api::ConditionKind::AllUsersNearLimit => format!("{count} users, of a fair-use limit of {limit}"),
        api::ConditionKind::ComponentsNearLimit => {
            format!("{count} components, of a fair-use limit of {limit}")
        }
        api::ConditionKind::SmsCreditsDepleted => "no SMS credit remains".to_owned(),
        api::ConditionKind::Expired => format!("expired {since}"),
        api::ConditionKind::DisabledByLicensing => {
            format!("{} by licensing {since}", escape_and_shorten(&condition.licensing_reason))
        }
        api::ConditionKind::UsersOverused => {
            format!("{count} users are active on {limit} seats since {since}")
        }
        api::ConditionKind::Deactivated => format!("deactivated in the licensing portal {since}"),
        api::ConditionKind::NotActivated => "not activated yet".to_owned(),
        api::ConditionKind::Unspecified => "a condition this version does not know".to_owned(),
    }
}

fn usage(usage: &api::Usage) -> String {
    let fair_use = |count: u64, limit: u64| match limit {
        0 => format!("{count} (no limit)"),
        limit => format!("{count} of {limit}"),
    };
    format!(
        "\nusers {} of {} seats\nall users {} · components {} · SMS credits {}\n\n",
        usage.active_users,
        usage.licensed_users,
        fair_use(usage.all_users, usage.all_users_limit),
        fair_use(usage.components, usage.components_limit),
        usage.sms_credits.map_or_else(|| "not bought".to_owned(), |credits| credits.to_string()),
    )
}

/// Nothing where usage is on its way and nothing is wrong with it.
fn pending_usage(pending: &api::PendingUsage) -> String {
    let api::PendingUsage { sms_waiting, sms_deferred, set_aside, reason } = pending;
    let yellow = AnsiColor::Yellow.on_default();
    let mut text = String::new();
    if 0 < *sms_deferred {
        let _ = writeln!(
            text,
            "{yellow}the licensing backend deferred {sms_deferred} of {sms_waiting} SMS that wait{yellow:#}"
        );
    }
    if 0 < *set_aside {
        let _ = writeln!(
            text,
            "{yellow}{set_aside} SMS and counts will never be taken; they are in `usage.set-aside.jsonl` of the data \
             folder{yellow:#}"
        );
    }
    if !text.is_empty() {
        let _ = writeln!(text, "  {}\n", escape_and_shorten(reason));
    }
    text
}

fn operations(operations: &[api::OperationAccess]) -> String {
    let access = |number: i32| match api::Access::try_from(number) {
        Ok(api::Access::Allowed) => Some(Access::Allowed),
        Ok(api::Access::Disabled) => Some(Access::Disabled),
        Ok(api::Access::Unspecified) | Err(_) => None,
    };
    let line = |operation: &api::OperationAccess| output::OperationLine {
        operation: values::operation(operation.operation),
        user: access(operation.access),
        administrator: access(operation.administrator_access),
        reason: if access(operation.access).is_some() {
            values::reason(operation.reason)
        } else {
            "facts too old".to_owned()
        },
        until: until(operation.until.as_ref()),
    };
    output::operations(&operations.iter().map(line).collect::<Vec<_>>())
}

/// How long an answer holds.
pub(in crate::cli) fn until(until: Option<&Timestamp>) -> String {
    until
        .map_or_else(|| "for good".to_owned(), |until| format!("until {}", values::instant_for_people(until)))
}

fn timeline(turns: &[api::Turn]) -> String {
    if turns.is_empty() {
        return "\ntime alone changes nothing\n".to_owned();
    }
    let mut text = "\nif no fact changes\n".to_owned();
    for turn in turns {
        let at = turn.at.as_ref().map(values::instant_for_people).unwrap_or_default();
        let conditions: Vec<String> =
            turn.conditions.iter().map(|kind| values::condition_kind(*kind)).collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {at:<20} {} ({})", title(turn.state), conditions.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_a_sidecar_says_of_itself_adds_a_line_or_hides_one() {
        let hostile = || "\u{1b}[8m\r\nFORGED".to_owned();
        let subscription = api::Subscription {
            subscription_id: hostile(),
            provenance: Some(api::Provenance { last_failure: hostile(), ..Default::default() }),
            conditions: vec![api::Condition {
                kind: api::ConditionKind::DisabledByLicensing.into(),
                licensing_reason: hostile(),
                ..Default::default()
            }],
            pending_usage: Some(api::PendingUsage {
                sms_waiting: 2,
                sms_deferred: 1,
                set_aside: 1,
                reason: hostile(),
            }),
            ..Default::default()
        };
        let text = of(&subscription);
        assert_eq!(text.matches("\\u{1b}[8m\\r\\nFORGED").count(), 4, "{text}");
        assert!(!text.lines().any(|line| line.starts_with("FORGED")), "{text}");
    }
}
