//! The timeline equals the rules, at every instant (semantics 5.1).

use proptest::prelude::*;

use super::*;
use crate::domain::{
    Activation, Span,
    facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
};

const T: Instant = Instant::from_unix_seconds(1_800_000_000);

/// Instants within a few months of `T`, often a boundary's distance from one another.
fn instants() -> impl Strategy<Value = Instant> {
    let days = prop_oneof![Just(0), Just(7), Just(23), Just(30), Just(37), 0..90_u32];
    (days, -1_i128..=1, any::<bool>()).prop_map(|(days, nanos, before)| {
        let span = Span::from_nanos(Span::days(days).nanos() + nanos);
        if before { T - span } else { T + span }
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let activation = prop_oneof![
        8 => Just(Activation::Active),
        1 => Just(Activation::NotActivated),
        1 => instants().prop_map(|since| Activation::Deactivated { since }),
    ];
    let disabled = proptest::option::of(instants());
    let users = (95..115_u64, proptest::option::of(instants()));
    (activation, instants(), disabled, users, proptest::option::of(0..12_u64), 85..95_u64).prop_map(
        |(activation, expires_at, disabled, (active, overused_since), credits, count)| Facts {
            subscription_id: "3A8-WN7-7TD".parse().unwrap(),
            activation,
            expires_at,
            disabled_by_licensing: disabled
                .map(|since| DisabledByLicensing { reason: "suspended".into(), since }),
            users: Users { active: ActiveUsers(active), licensed: LicensedUsers(100), overused_since },
            all_users: FairUse { count, limit: 100 },
            components: FairUse { count: 0, limit: 0 },
            sms_credits: credits.map(SmsCredits),
        },
    )
}

/// Every instant a rule speaks of, found without asking `rules::turns`, and one nanosecond to either side.
fn boundaries(facts: &Facts) -> Vec<Instant> {
    let told = [
        Some(facts.expires_at),
        facts.disabled_by_licensing.as_ref().map(|disabled| disabled.since),
        facts.users.overused_since,
    ];
    let mut instants = Vec::new();
    for told in told.into_iter().flatten() {
        for days in [0, 7, 30] {
            for instant in [told + Span::days(days), told - Span::days(days)] {
                for nanos in -1..=1 {
                    instants.push(instant + Span::from_nanos(nanos));
                }
            }
        }
    }
    instants
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_timeline_equals_the_rules_at_every_boundary_and_at_any_instant(facts in facts(), more in proptest::collection::vec(instants(), 8)) {
        let timeline = Timeline::of(&facts);
        for t in boundaries(&facts).into_iter().chain(more) {
            prop_assert_eq!(timeline.at(t).conditions, rules::conditions(&facts, t), "at {:?}", t);
        }
    }

    #[test]
    fn every_turn_is_one(facts in facts()) {
        let timeline = Timeline::of(&facts);
        for turn in timeline.after(Instant::BEGINNING) {
            let before = turn.from - Span::from_nanos(1);
            prop_assert_ne!(timeline.at(before).conditions, timeline.at(turn.from).conditions);
            prop_assert!(timeline.after(before).first() == Some(turn));
        }
    }
}

#[test]
fn a_healthy_subscription_ages_from_ok_to_disabled() {
    let facts = Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Active,
        expires_at: T,
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(1), licensed: LicensedUsers(100), overused_since: None },
        all_users: FairUse { count: 0, limit: 0 },
        components: FairUse { count: 0, limit: 0 },
        sms_credits: None,
    };
    let timeline = Timeline::of(&facts);
    let turns: Vec<(i128, SubscriptionState)> =
        timeline.after(Instant::BEGINNING).iter().map(|turn| ((turn.from - T).nanos(), turn.state)).collect();
    const DAY: i128 = 86_400_000_000_000;
    assert_eq!(
        turns,
        [
            (-30 * DAY + 1, SubscriptionState::Warning),
            (0, SubscriptionState::ViolationFullFunctionality),
            (7 * DAY + 1, SubscriptionState::ViolationLimitedFunctionality),
            (30 * DAY + 1, SubscriptionState::Disabled),
        ]
    );
    assert_eq!(timeline.at(Instant::BEGINNING).state, SubscriptionState::Ok);
}
