//! Facts and instants go through the protocol unchanged; what does not read is refused with its path.

use super::*;
use crate::{
    domain::{
        Activation, Facts,
        facts::{ActiveUsers, DisabledByLicensing, FairUse, LicensedUsers, SmsCredits, Users},
    },
    proto::enforcement as api,
};

const ACTIVE: Option<api::Activation> = Some(api::Activation { state: 2, since: None });

const T: Instant = Instant::from_unix_nanos(1_800_000_000_000_000_001);

fn everything() -> Facts {
    Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Deactivated { since: T },
        expires_at: rfc3339::LAST,
        disabled_by_licensing: Some(DisabledByLicensing {
            reason: "suspended".into(),
            since: rfc3339::FIRST,
        }),
        users: Users { active: ActiveUsers(1), licensed: LicensedUsers(u64::MAX), overused_since: Some(T) },
        all_users: FairUse { count: 3, limit: 4 },
        components: FairUse { count: 5, limit: 6 },
        sms_credits: Some(SmsCredits(0)),
    }
}

#[test]
fn facts_go_through_the_protocol_unchanged() {
    let nothing = Facts {
        activation: Activation::NotActivated,
        disabled_by_licensing: None,
        users: Users { overused_since: None, ..everything().users },
        sms_credits: None,
        ..everything()
    };
    for told in [everything(), nothing, Facts { activation: Activation::Active, ..everything() }] {
        assert_eq!(facts(&(&told).into(), "facts"), Ok(told));
    }
}

#[test]
fn facts_that_do_not_read_are_refused_with_the_field() {
    let check = |change: fn(&mut api::SubscriptionFacts), field: &str| {
        let mut changed = (&everything()).into();
        change(&mut changed);
        assert_eq!(facts(&changed, "facts").map_err(|unreadable| unreadable.field), Err(field.to_owned()));
    };
    check(|facts| facts.subscription_id.clear(), "facts.subscription_id");
    check(|facts| facts.activation = None, "facts.activation");
    check(|facts| facts.activation.as_mut().unwrap().since = None, "facts.activation.since");
    check(|facts| facts.activation.as_mut().unwrap().state = 2, "facts.activation.since");
    check(|facts| facts.activation.as_mut().unwrap().state = 9, "facts.activation.state");
    check(|facts| (facts.expires_at, facts.activation) = (None, ACTIVE), "facts.expires_at");
    check(|facts| facts.expires_at.as_mut().unwrap().nanos = 1_000_000_000, "facts.expires_at");
    check(|facts| facts.expires_at.as_mut().unwrap().nanos = -1, "facts.expires_at");
    check(|facts| facts.expires_at.as_mut().unwrap().seconds = i64::MAX, "facts.expires_at");
    check(
        |facts| facts.disabled_by_licensing.as_mut().unwrap().reason.clear(),
        "facts.disabled_by_licensing.reason",
    );
    check(
        |facts| facts.disabled_by_licensing.as_mut().unwrap().since = None,
        "facts.disabled_by_licensing.since",
    );
    check(|facts| (facts.users, facts.activation) = (None, ACTIVE), "facts.users");
    check(|facts| (facts.all_users, facts.activation) = (None, ACTIVE), "facts.all_users");
    check(|facts| (facts.components, facts.activation) = (None, ACTIVE), "facts.components");
}

#[test]
fn a_unit_that_was_deactivated_need_not_be_told_any_other_fact() {
    let api::SubscriptionFacts { subscription_id, activation, .. } = (&everything()).into();
    let alone = api::SubscriptionFacts { subscription_id, activation, ..Default::default() };
    let read = facts(&alone, "facts").unwrap();
    assert_eq!(read.activation, everything().activation);
    assert_eq!((read.users.active.0, read.users.licensed.0, read.sms_credits), (0, 0, None));
}

#[test]
fn an_instant_past_the_protocol_s_range_has_no_timestamp() {
    assert!(timestamp(rfc3339::LAST).is_some());
    assert_eq!(timestamp(rfc3339::LAST.next()), None);
    assert_eq!(timestamp(Instant::BEGINNING), None);
}
