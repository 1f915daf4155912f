//! Both sides of every boundary of licences.

use super::*;
use crate::domain::{Span, facts::NotASubscriptionId};

const T: Instant = Instant::from_unix_seconds(1_800_000_000);
const TICK: Span = Span::from_nanos(1);

fn day(days: u32) -> Instant {
    T + Span::days(days)
}

fn seats(seats: u64, expires_at: Instant) -> License {
    License {
        seats: LicensedUsers(seats),
        expires_at,
        state: LicenseState::Active,
        all_users_limit: 100,
        components_limit: 0,
        sms_credits: None,
    }
}

fn pooled(licenses: &[License], active: u64, t: Instant) -> Result<Facts, NotASubscriptionId> {
    Ok(pool("AAA-AAA-AAA".parse()?, licenses, Used { seats: active, ..Used::default() }, None, t))
}

#[test]
fn seats_limits_and_credits_add_up_over_valid_licences() -> Result<(), NotASubscriptionId> {
    let paid = |credits, license| License { sms_credits: Some(SmsCredits(credits)), ..license };
    let licenses = [paid(5, seats(50, day(10))), seats(30, day(90)), paid(7, seats(100, T))];
    let facts = pooled(&licenses, 60, T)?;
    assert_eq!(facts.users.licensed, LicensedUsers(80), "what expires at T does not count at T");
    assert_eq!(facts.all_users.limit, 200);
    assert_eq!(facts.sms_credits, Some(SmsCredits(5)));
    assert_eq!(facts.expires_at, day(90), "the last to end");
    assert_eq!(pooled(&licenses, 60, T - TICK)?.users.licensed, LicensedUsers(180));
    assert_eq!(pooled(&licenses, 60, day(10))?.users.licensed, LicensedUsers(30));
    Ok(())
}

#[test]
fn where_one_licence_knows_no_limit_there_is_none() -> Result<(), NotASubscriptionId> {
    let licenses = [seats(1, day(1)), License { all_users_limit: 0, ..seats(1, day(1)) }];
    assert_eq!(pooled(&licenses, 0, T)?.all_users.limit, 0);
    Ok(())
}

#[test]
fn when_none_is_left_those_that_ended_last_stand_for_all() -> Result<(), NotASubscriptionId> {
    let suspended = |license, since| License { state: LicenseState::Suspended { since }, ..license };
    let licenses = [seats(50, day(10)), suspended(seats(30, day(90)), day(5))];
    let facts = pooled(&licenses, 40, day(40))?;
    assert_eq!(facts.users.licensed, LicensedUsers(50), "the grace of an expiry is with the seats of then");
    assert_eq!((facts.expires_at, facts.disabled_by_licensing), (day(10), None));

    let licenses = [seats(50, day(10)), suspended(seats(30, day(90)), day(15))];
    let facts = pooled(&licenses, 40, day(40))?;
    assert_eq!(facts.users.licensed, LicensedUsers(30));
    let expected = DisabledByLicensing { reason: "suspended".into(), since: day(15) };
    assert_eq!((facts.expires_at, facts.disabled_by_licensing), (day(90), Some(expected)));
    Ok(())
}

#[test]
fn the_mildest_end_stands_for_licences_that_ended_together() -> Result<(), NotASubscriptionId> {
    let deactivated = License { state: LicenseState::Deactivated { since: day(1) }, ..seats(5, day(9)) };
    let canceled = License { state: LicenseState::Canceled { since: day(1) }, ..seats(5, day(9)) };
    let alone = pooled(&[deactivated], 1, day(2))?;
    assert_eq!(alone.activation, Activation::Deactivated { since: day(1) });
    let both = pooled(&[deactivated, canceled], 1, day(2))?;
    assert_eq!(both.activation, Activation::Active);
    assert_eq!(both.disabled_by_licensing.map(|disabled| disabled.reason), Some("canceled".into()));
    assert_eq!(pooled(&[], 1, T)?.activation, Activation::NotActivated);
    Ok(())
}

#[test]
fn the_overuse_clock_starts_is_kept_and_clears() -> Result<(), NotASubscriptionId> {
    let id = "AAA-AAA-AAA".parse()?;
    let since = |active, before, t| {
        let used = Used { seats: active, ..Used::default() };
        pool(id, &[seats(10, day(90))], used, before, t).users.overused_since
    };
    assert_eq!(since(10, None, T), None, "all seats taken is no overuse");
    assert_eq!(since(11, None, T), Some(T));
    assert_eq!(since(12, Some(T), day(3)), Some(T));
    assert_eq!(since(10, Some(T), day(3)), None);
    Ok(())
}

#[test]
fn only_the_end_of_a_licence_turns_a_pool() {
    let licenses = [seats(50, day(10)), seats(30, day(90))];
    assert_eq!(next_turn(&licenses, T), Some(day(10)));
    assert_eq!(next_turn(&licenses, day(10)), Some(day(90)));
    assert_eq!(next_turn(&licenses, day(90)), None);
}

#[test]
fn status_is_red_when_overused_or_expired_with_units_and_yellow_when_action_is_needed()
-> Result<(), NotASubscriptionId> {
    use LicenseStatus::{Attention, Problem, Valid};
    let suspended = License { state: LicenseState::Suspended { since: T }, ..seats(1_000, day(90)) };
    for (name, license, active, units, expected) in [
        ("valid", seats(1_000, day(30)), 10, 1, Valid),
        ("30 days left less a tick", seats(1_000, day(30) - TICK), 10, 1, Attention),
        ("ten seats free", seats(1_000, day(90)), 990, 1, Valid),
        ("nine seats free", seats(1_000, day(90)), 991, 1, Attention),
        ("no seat free", seats(1_000, day(90)), 1_000, 1, Attention),
        ("overused", seats(1_000, day(90)), 1_001, 1, Problem),
        ("expired now, one unit", seats(1_000, T), 10, 1, Problem),
        ("expired, no unit", seats(1_000, T), 10, 0, Attention),
        ("expires in a tick", seats(1_000, T + TICK), 10, 1, Attention),
        ("suspended", suspended, 10, 1, Attention),
    ] {
        assert_eq!(status(&license, &pooled(&[license], active, T)?, units, T), expected, "{name}");
    }
    Ok(())
}

#[test]
fn nothing_new_is_activated_with_a_licence_that_is_full_or_has_ended() -> Result<(), NotASubscriptionId> {
    use ActivationRefusal::{Canceled, Deactivated, Expired, Full, Suspended};
    let with = |state| License { state, ..seats(10, day(1)) };
    for (license, active, expected) in [
        (seats(10, day(1)), 9, Ok(())),
        (seats(10, day(1)), 10, Err(Full)),
        (seats(10, T + TICK), 0, Ok(())),
        (seats(10, T), 0, Err(Expired)),
        (with(LicenseState::Suspended { since: T }), 0, Err(Suspended)),
        (with(LicenseState::Canceled { since: T }), 0, Err(Canceled)),
        (with(LicenseState::Deactivated { since: T }), 0, Err(Deactivated)),
    ] {
        let pooled = pooled(&[license], active, T)?;
        assert_eq!(may_activate(&license, &pooled, T), expected, "{license:?} {active}");
    }
    let other_has_seats = pooled(&[seats(10, day(1)), seats(5, day(1))], 12, T)?;
    assert_eq!(may_activate(&seats(10, day(1)), &other_has_seats, T), Ok(()), "seats are the pool's");
    Ok(())
}
