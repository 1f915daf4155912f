//! The overuse clock that is kept here when nobody tells it.

use super::*;
use crate::{
    cache,
    domain::{
        Activation, Span,
        facts::{ActiveUsers, FairUse, LicensedUsers, Users},
    },
};

const T: Instant = Instant::from_unix_seconds(1_800_000_000);

fn facts(active: u64, overused_since: Option<Instant>) -> Vec<Facts> {
    vec![Facts {
        subscription_id: "3A8-WN7-7TD".parse().unwrap(),
        activation: Activation::Active,
        expires_at: T + Span::days(400),
        disabled_by_licensing: None,
        users: Users { active: ActiveUsers(active), licensed: LicensedUsers(100), overused_since },
        all_users: FairUse { count: 0, limit: 0 },
        components: FairUse { count: 0, limit: 0 },
        sms_credits: None,
    }]
}

fn at(now: Instant) -> Telling {
    Telling { as_of: now, origin: Origin::Live, now, vouched: true }
}

#[test]
fn the_overuse_clock_starts_when_seen_holds_and_clears() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, 10);
    let since = || cache.load(None).unwrap().facts.users.overused_since;
    let day = |days| T + Span::days(days);
    let told = day(1) - Span::days(5);
    for (now, facts, expected) in [
        (day(0), facts(100, None), None),
        (day(1), facts(101, None), Some(day(1))),
        (day(2), facts(105, None), Some(day(1))),
        (day(3), facts(100, None), None),
        (day(4), facts(101, None), Some(day(4))),
        (day(5), facts(101, Some(told)), Some(told)),
        // The source stops telling while the overuse goes on: it still began when it began.
        (day(6), facts(101, None), Some(told)),
    ] {
        book.tell(facts, at(now));
        assert_eq!(since(), expected, "on day {:?}", now - T);
    }
}

#[test]
fn an_overuse_seen_while_the_clock_was_far_ahead_grants_no_grace_once_it_is_right() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, 10);
    book.tell(facts(101, None), at(T + Span::days(3_650)));
    book.tell(facts(101, None), at(T));
    assert_eq!(cache.load(None).unwrap().facts.users.overused_since, Some(T));
    // Without a signature the present may be what is wrong: the beginning stays, and counts for nothing meanwhile.
    book.confirm(Telling { vouched: false, ..at(T - Span::days(30)) });
    book.confirm(at(T + Span::days(1)));
    assert_eq!(cache.load(None).unwrap().facts.users.overused_since, Some(T), "and holds");
}

#[test]
fn a_subscription_that_comes_back_keeps_its_overuse_and_its_spent_sms() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, 10);
    let id = "3A8-WN7-7TD".parse().unwrap();
    let with_credits = || vec![Facts { sms_credits: Some(SmsCredits(5)), ..facts(101, None).remove(0) }];
    let other =
        || vec![Facts { subscription_id: "BBB-BBB-BBB".parse().unwrap(), ..facts(1, None).remove(0) }];
    book.tell(with_credits(), at(T));
    book.count_sms(id, &[SmsSent { id: "a".to_owned(), credits: 2 }], T).unwrap();
    book.tell(other(), at(T + Span::days(1)));
    assert!(cache.load(Some(&id)).is_err());
    book.tell(with_credits(), at(T + Span::days(2)));
    let held = cache.load(Some(&id)).unwrap();
    assert_eq!(held.facts.users.overused_since, Some(T));
    assert_eq!(held.facts.sms_credits, Some(SmsCredits(3)));
}
