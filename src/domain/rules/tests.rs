//! Both sides of every boundary of semantics 2, to the nanosecond, the user and the credit.

use super::*;
use crate::domain::facts::{ActiveUsers, DisabledByLicensing, LicensedUsers};

const T: Instant = Instant::from_unix_seconds(1_800_000_000);
const NANO: Span = Span::from_nanos(1);

/// Nothing to report: far from every limit.
fn healthy() -> Facts {
    Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Active,
        expires_at: T + Span::days(400),
        disabled_by_licensing: None,
        users: users(0, 1_000),
        all_users: FairUse { count: 0, limit: 0 },
        components: FairUse { count: 0, limit: 0 },
        sms_credits: None,
    }
}

fn users(active: u64, licensed: u64) -> Users {
    Users { active: ActiveUsers(active), licensed: LicensedUsers(licensed), overused_since: None }
}

/// What holds, as `kind:column` in the order of semantics 2.
fn held(facts: &Facts) -> String {
    let held = conditions(facts, T);
    let named: Vec<String> =
        held.iter().map(|condition| format!("{:?}:{:?}", condition.kind, condition.column)).collect();
    named.join(" ")
}

fn check(rows: impl IntoIterator<Item = (Facts, &'static str)>) {
    for (facts, expected) in rows {
        assert_eq!(held(&facts), expected, "{facts:?}");
    }
}

#[test]
fn healthy_facts_hold_no_condition() {
    check([(healthy(), "")]);
}

#[test]
fn expires_soon_begins_with_less_than_30_days_left() {
    let expires = |left| Facts { expires_at: T + left, ..healthy() };
    check([
        (expires(Span::days(30) + NANO), ""),
        (expires(Span::days(30)), ""),
        (expires(Span::days(30) - NANO), "ExpiresSoon:Warning"),
        (expires(NANO), "ExpiresSoon:Warning"),
        (expires(Span::ZERO), "Expired:ViolationFullFunctionality"),
    ]);
}

#[test]
fn an_expired_subscription_goes_full_limited_disabled() {
    let expired = |since| Facts { expires_at: T - since, ..healthy() };
    check([
        (expired(Span::ZERO), "Expired:ViolationFullFunctionality"),
        (expired(Span::days(7)), "Expired:ViolationFullFunctionality"),
        (expired(Span::days(7) + NANO), "Expired:ViolationLimitedFunctionality"),
        (expired(Span::days(30)), "Expired:ViolationLimitedFunctionality"),
        (expired(Span::days(30) + NANO), "Expired:Disabled"),
        (expired(Span::days(10_000)), "Expired:Disabled"),
    ]);
}

#[test]
fn another_licensing_state_runs_by_the_same_clock() {
    let disabled = |since: Instant| Facts {
        disabled_by_licensing: Some(DisabledByLicensing { reason: "suspended".into(), since }),
        ..healthy()
    };
    check([
        (disabled(T + NANO), ""),
        (disabled(T), "DisabledByLicensing:ViolationFullFunctionality"),
        (disabled(T - Span::days(7)), "DisabledByLicensing:ViolationFullFunctionality"),
        (disabled(T - Span::days(7) - NANO), "DisabledByLicensing:ViolationLimitedFunctionality"),
        (disabled(T - Span::days(30)), "DisabledByLicensing:ViolationLimitedFunctionality"),
        (disabled(T - Span::days(30) - NANO), "DisabledByLicensing:Disabled"),
    ]);
}

#[test]
fn seats_are_low_below_a_tenth_and_below_ten() {
    let seats = |active, licensed| Facts { users: users(active, licensed), ..healthy() };
    check([
        // Of 50 seats a tenth is 5: four free are low, five are not.
        (seats(45, 50), ""),
        (seats(46, 50), "SeatsLow:Warning"),
        // Of 99 seats a tenth is 9.9, unrounded: nine free are low.
        (seats(89, 99), ""),
        (seats(90, 99), "SeatsLow:Warning"),
        // Of 1,000 seats ten is the lower: ten free are not low, nine are.
        (seats(990, 1_000), ""),
        (seats(991, 1_000), "SeatsLow:Warning"),
        // None free is a warning, not a violation.
        (seats(1_000, 1_000), "SeatsLow:Warning"),
        (seats(0, 1), ""),
        (seats(1, 1), "SeatsLow:Warning"),
        (seats(0, 0), ""),
        (seats(u64::MAX, u64::MAX), "SeatsLow:Warning"),
    ]);
}

#[test]
fn users_are_overused_by_more_than_a_tenth_or_for_more_than_seven_days() {
    let overused = |active, licensed, for_: Span| Facts {
        users: Users { overused_since: Some(T - for_), ..users(active, licensed) },
        ..healthy()
    };
    const FULL: &str = "UsersOverused:ViolationFullFunctionality";
    const LIMITED: &str = "UsersOverused:ViolationLimitedFunctionality";
    check([
        (overused(100, 100, Span::days(99)), "SeatsLow:Warning"),
        (overused(101, 100, Span::ZERO), FULL),
        (overused(110, 100, Span::ZERO), FULL),
        (overused(111, 100, Span::ZERO), LIMITED),
        (overused(110, 100, Span::days(7)), FULL),
        (overused(110, 100, Span::days(7) + NANO), LIMITED),
        (overused(110, 100, Span::days(10_000)), LIMITED),
        // Begins in the future, by a clock that is ahead of ours: no grace is lost.
        (overused(110, 100, Span::ZERO - Span::days(1)), FULL),
        // 1 over 9 is more than a tenth, 1 over 10 is not.
        (overused(10, 9, Span::ZERO), LIMITED),
        (overused(11, 10, Span::ZERO), FULL),
        (overused(1, 0, Span::ZERO), LIMITED),
        (overused(u64::MAX, u64::MAX - 1, Span::ZERO), FULL),
        (overused(u64::MAX, 1, Span::ZERO), LIMITED),
    ]);
}

#[test]
fn an_overuse_nobody_dates_begins_now() {
    check([(Facts { users: users(101, 100), ..healthy() }, "UsersOverused:ViolationFullFunctionality")]);
}

#[test]
fn sms_credits_are_low_from_ten_down_and_depleted_at_none() {
    let credits = |remaining: Option<u64>| Facts { sms_credits: remaining.map(SmsCredits), ..healthy() };
    check([
        (credits(None), ""),
        (credits(Some(11)), ""),
        (credits(Some(10)), "SmsCreditsLow:Warning"),
        (credits(Some(1)), "SmsCreditsLow:Warning"),
        (credits(Some(0)), "SmsCreditsDepleted:SmsCreditsDepleted"),
    ]);
}

#[test]
fn fair_use_is_near_its_limit_above_nine_tenths_and_beyond() {
    for (count, limit, near) in [
        (90, 100, false),
        (91, 100, true),
        (9, 10, false),
        (10, 10, true),
        (1_000_000, 100, true),
        (0, 0, false),
        (u64::MAX, 0, false),
        (u64::MAX, u64::MAX, true),
        (u64::MAX / 10 * 9, u64::MAX, false),
    ] {
        let use_ = FairUse { count, limit };
        let expected = |name: &str| if near { format!("{name}:Warning") } else { String::new() };
        assert_eq!(held(&Facts { all_users: use_, ..healthy() }), expected("AllUsersNearLimit"), "{use_:?}");
        assert_eq!(
            held(&Facts { components: use_, ..healthy() }),
            expected("ComponentsNearLimit"),
            "{use_:?}"
        );
    }
}

#[test]
fn a_deactivated_subscription_is_disabled_since_whenever() {
    let deactivated = |since| Facts { activation: Activation::Deactivated { since }, ..healthy() };
    check([
        (deactivated(T - Span::days(1)), "Deactivated:Disabled"),
        (deactivated(T + Span::days(1)), "Deactivated:Disabled"),
    ]);
}

#[test]
fn before_activation_nothing_else_is_looked_at() {
    let facts = Facts {
        activation: Activation::NotActivated,
        expires_at: T - Span::days(99),
        users: users(999, 1),
        sms_credits: Some(SmsCredits(0)),
        ..healthy()
    };
    check([(facts, "NotActivated:NotActivated")]);
}

#[test]
fn conditions_are_told_in_the_order_of_the_rules() {
    let facts = Facts {
        activation: Activation::Deactivated { since: T },
        expires_at: T,
        disabled_by_licensing: Some(DisabledByLicensing { reason: "canceled".into(), since: T }),
        users: users(2, 1),
        all_users: FairUse { count: 2, limit: 1 },
        components: FairUse { count: 2, limit: 1 },
        sms_credits: Some(SmsCredits(0)),
        ..healthy()
    };
    check([(
        facts,
        "AllUsersNearLimit:Warning ComponentsNearLimit:Warning SmsCreditsDepleted:SmsCreditsDepleted \
         Expired:ViolationFullFunctionality DisabledByLicensing:ViolationFullFunctionality \
         UsersOverused:ViolationLimitedFunctionality Deactivated:Disabled",
    )]);
}
