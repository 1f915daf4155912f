//! Facts and an instant in, the conditions that hold out: one small function for each rule of semantics 2, in its
//! order.
//!
//! Not here: what a condition restricts (see `matrix`).

use super::{
    facts::{Activation, Facts, FairUse, SmsCredits, Users},
    instant::{Instant, Span},
    limits::{
        EXPIRES_SOON, FAIR_USE_NINE_TENTHS, FULL_FUNCTIONALITY, LIMITED_FUNCTIONALITY, OVERUSE_GRACE,
        SEATS_LOW, SMS_CREDITS_LOW, TENTH,
    },
    state::{Condition, ConditionKind, Conditions, SubscriptionState as State},
};

/// Every condition that holds for `facts` at `t`.
#[must_use]
pub fn conditions(facts: &Facts, t: Instant) -> Conditions {
    use ConditionKind as Kind;
    // Nothing else is looked at before activation (semantics 2.11).
    let told = |column: Option<State>| column.filter(|_| facts.activation != Activation::NotActivated);
    let outcome = |kind, column: Option<State>| told(column).map(|column| Condition { kind, column });
    let not_activated = Condition { kind: Kind::NotActivated, column: State::NotActivated };
    Conditions::new([
        outcome(Kind::ExpiresSoon, expires_soon(facts.expires_at, t)),
        outcome(Kind::SeatsLow, seats_low(facts.users)),
        outcome(Kind::SmsCreditsLow, sms_credits_low(facts.sms_credits)),
        outcome(Kind::AllUsersNearLimit, near_limit(facts.all_users)),
        outcome(Kind::ComponentsNearLimit, near_limit(facts.components)),
        outcome(Kind::SmsCreditsDepleted, sms_credits_depleted(facts.sms_credits)),
        outcome(Kind::Expired, disabling_since(facts.expires_at, t)),
        outcome(
            Kind::DisabledByLicensing,
            facts.disabled_by_licensing.as_ref().and_then(|disabled| disabling_since(disabled.since, t)),
        ),
        outcome(Kind::UsersOverused, users_overused(facts.users, t)),
        outcome(Kind::Deactivated, deactivated(facts.activation)),
        (facts.activation == Activation::NotActivated).then_some(not_activated),
    ])
}

/// Every instant at which a rule can change its mind: the first of each new answer.
pub fn turns(facts: &Facts) -> impl Iterator<Item = Instant> {
    let soon = (facts.expires_at - EXPIRES_SOON).next();
    let overused = facts.users.overused_since.map(|since| (since + OVERUSE_GRACE).next());
    let disabled = facts.disabled_by_licensing.as_ref().map(|disabled| disabled.since);
    [soon]
        .into_iter()
        .chain(disabling_turns(facts.expires_at))
        .chain(disabled.into_iter().flat_map(disabling_turns))
        .chain(overused)
}

/// 2.1: exactly 30 days left is not soon yet.
pub(super) fn expires_soon(expires_at: Instant, t: Instant) -> Option<State> {
    let left = expires_at - t;
    (Span::ZERO < left && left < EXPIRES_SOON).then_some(State::Warning)
}

/// 2.2: fewer than a tenth and fewer than ten free; none free is a warning, not a violation.
pub(super) fn seats_low(users: Users) -> Option<State> {
    let licensed = u128::from(users.licensed.0);
    let available = licensed.checked_sub(u128::from(users.active.0))?;
    // With no seats at all, nothing is less than a tenth of them.
    (available * TENTH < licensed && available < SEATS_LOW).then_some(State::Warning)
}

/// 2.3
fn sms_credits_low(credits: Option<SmsCredits>) -> Option<State> {
    let SmsCredits(remaining) = credits?;
    (0 < remaining && remaining <= SMS_CREDITS_LOW).then_some(State::Warning)
}

/// 2.4 and 2.5: beyond the limit it is still only a warning.
fn near_limit(use_: FairUse) -> Option<State> {
    let (nine, tenths) = FAIR_USE_NINE_TENTHS;
    let (count, limit) = (u128::from(use_.count), u128::from(use_.limit));
    (0 < limit && limit * nine < count * tenths).then_some(State::Warning)
}

/// 2.6
fn sms_credits_depleted(credits: Option<SmsCredits>) -> Option<State> {
    (credits? == SmsCredits(0)).then_some(State::SmsCreditsDepleted)
}

/// 2.7 and 2.8: one clock, from expiry or from when licensing disabled the subscription.
fn disabling_since(since: Instant, t: Instant) -> Option<State> {
    let elapsed = t - since;
    if elapsed < Span::ZERO {
        None
    } else if elapsed <= FULL_FUNCTIONALITY {
        Some(State::ViolationFullFunctionality)
    } else if elapsed <= LIMITED_FUNCTIONALITY {
        Some(State::ViolationLimitedFunctionality)
    } else {
        Some(State::Disabled)
    }
}

fn disabling_turns(since: Instant) -> [Instant; 3] {
    [since, (since + FULL_FUNCTIONALITY).next(), (since + LIMITED_FUNCTIONALITY).next()]
}

/// 2.9: by more than a tenth is limited at once; an overuse whose beginning nobody knows begins now.
fn users_overused(users: Users, t: Instant) -> Option<State> {
    let excess = users.excess()?;
    let elapsed = t - users.overused_since.unwrap_or(t);
    if u128::from(users.licensed.0) < excess * TENTH || OVERUSE_GRACE < elapsed {
        Some(State::ViolationLimitedFunctionality)
    } else {
        Some(State::ViolationFullFunctionality)
    }
}

/// 2.10
fn deactivated(activation: Activation) -> Option<State> {
    matches!(activation, Activation::Deactivated { .. }).then_some(State::Disabled)
}

#[cfg(test)]
mod tests;
