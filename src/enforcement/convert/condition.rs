//! Conditions as the protocol shows them.
//!
//! Not here: which conditions hold (see `domain::rules`).

use super::timestamp;
use crate::{
    domain::{Activation, Condition, ConditionKind, Facts, facts::SmsCredits},
    proto::enforcement as api,
};

/// A condition with the numbers in `facts` that caused it.
pub fn condition(condition: Condition, facts: &Facts) -> api::Condition {
    let Condition { kind, column } = condition;
    let mut shown = api::Condition {
        kind: api::ConditionKind::from(kind).into(),
        column: api::SubscriptionState::from(column).into(),
        ..api::Condition::default()
    };
    match kind {
        ConditionKind::ExpiresSoon => shown.expires_at = timestamp(facts.expires_at),
        ConditionKind::Expired => shown.since = timestamp(facts.expires_at),
        ConditionKind::SeatsLow => {
            (shown.count, shown.limit) = (Some(facts.users.active.0), Some(facts.users.licensed.0));
        }
        ConditionKind::UsersOverused => {
            (shown.count, shown.limit) = (Some(facts.users.active.0), Some(facts.users.licensed.0));
            shown.since = facts.users.overused_since.and_then(timestamp);
        }
        ConditionKind::SmsCreditsLow | ConditionKind::SmsCreditsDepleted => {
            shown.count = facts.sms_credits.map(|SmsCredits(remaining)| remaining);
        }
        ConditionKind::AllUsersNearLimit => {
            (shown.count, shown.limit) = (Some(facts.all_users.count), Some(facts.all_users.limit));
        }
        ConditionKind::ComponentsNearLimit => {
            (shown.count, shown.limit) = (Some(facts.components.count), Some(facts.components.limit));
        }
        ConditionKind::DisabledByLicensing => {
            if let Some(disabled) = &facts.disabled_by_licensing {
                shown.since = timestamp(disabled.since);
                shown.licensing_reason = disabled.reason.to_string();
            }
        }
        ConditionKind::Deactivated => {
            if let Activation::Deactivated { since } = facts.activation {
                shown.since = timestamp(since);
            }
        }
        ConditionKind::NotActivated => {}
    }
    shown
}
