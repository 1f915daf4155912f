//! The overuse clock that is kept here when nobody tells it, and what is refused of what is told.

use super::*;
use crate::{
    cache,
    clock::{Clock, ManualClock},
    domain::{
        Activation, Facts, Span,
        facts::{ActiveUsers, FairUse, LicensedUsers, Users},
    },
    proto::licensing::SignedFacts,
    refresh::outbox::{Bounds, Report},
    source::{Proof, usage::SmsSent},
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

const fn remembering(remembered: usize) -> Bounds {
    Bounds { remembered, waiting: 10_000 }
}

/// Reports an SMS that nobody takes.
async fn spend(book: &mut Book, id: SubscriptionId, credits: u32) -> Result<Option<u64>, NotInBook> {
    let sms = vec![SmsSent::new("a", credits).unwrap()];
    book.outbox.report(Report { id, counted: None, sms, delay: None }).await.unwrap();
    book.subtract_reported(id, T)
}

/// Facts nobody vouches for, told at `now`.
fn tell(book: &mut Book, facts: Vec<Facts>, now: Instant) -> Taken {
    take(book, Fetched::unsigned(facts), now)
}

fn take(book: &mut Book, fetched: Fetched, now: Instant) -> Taken {
    let taken = book.take(fetched, &BTreeMap::new(), now, Origin::Live, &ManualClock::at(now));
    book.publish();
    taken
}

/// The facts with a proof; the book does not look into it, whoever fetches them has.
fn signed(mut facts: Vec<Facts>, sequence: u64, issued_at: Instant) -> Told {
    let proof = Some(Proof { signed: SignedFacts::default(), sequence, issued_at });
    Told { facts: facts.remove(0), proof }
}

#[test]
fn the_overuse_clock_starts_when_seen_holds_and_clears() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
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
        tell(&mut book, facts, now);
        assert_eq!(since(), expected, "on day {:?}", now - T);
    }
}

#[test]
fn an_overuse_seen_while_the_clock_was_far_ahead_grants_no_grace_once_it_is_right() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
    tell(&mut book, facts(101, None), T + Span::days(3_650));
    take(&mut book, Fetched::All(vec![signed(facts(101, None), 1, T)]), T);
    assert_eq!(cache.load(None).unwrap().facts.users.overused_since, Some(T));
    // Without a signature the present may be what is wrong: the beginning stays, and counts for nothing meanwhile.
    take(&mut book, Fetched::Unchanged, T - Span::days(30));
    take(&mut book, Fetched::Unchanged, T + Span::days(1));
    assert_eq!(cache.load(None).unwrap().facts.users.overused_since, Some(T), "and holds");
}

#[tokio::test]
async fn a_subscription_that_comes_back_keeps_its_overuse_and_its_spent_sms() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
    let id = "3A8-WN7-7TD".parse().unwrap();
    let with_credits = || vec![Facts { sms_credits: Some(SmsCredits(5)), ..facts(101, None).remove(0) }];
    let other =
        || vec![Facts { subscription_id: "BBB-BBB-BBB".parse().unwrap(), ..facts(1, None).remove(0) }];
    tell(&mut book, with_credits(), T);
    assert_eq!(spend(&mut book, id, 2).await, Ok(Some(3)));
    tell(&mut book, other(), T + Span::days(1));
    assert!(cache.load(Some(&id)).is_err());
    tell(&mut book, with_credits(), T + Span::days(2));
    let held = cache.load(Some(&id)).unwrap();
    assert_eq!(held.facts.users.overused_since, Some(T));
    assert_eq!(held.facts.sms_credits, Some(SmsCredits(3)));
}

#[test]
fn what_is_older_than_what_is_held_changes_nothing_and_is_told() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
    let held = || {
        let held = cache.load(None).unwrap();
        (held.facts.users.active.0, held.as_of, held.revision)
    };
    let second = |second| T + Span::from_nanos(second * Span::SECOND.nanos());
    for (told, taken, expected) in [
        (signed(facts(1, None), 5, second(5)), Ok(true), (1, second(5), 1)),
        (signed(facts(2, None), 4, second(6)), Err("number 4"), (1, second(5), 1)),
        (signed(facts(2, None), 5, second(4)), Err("issued at"), (1, second(5), 1)),
        (facts(2, None).remove(0).into(), Err("not signed"), (1, second(5), 1)),
        (signed(facts(1, None), 5, second(7)), Ok(false), (1, second(7), 1)),
        (signed(facts(3, None), 6, second(7)), Ok(true), (3, second(7), 2)),
    ] {
        for fetched in [Fetched::Some { told: vec![told.clone()], failure: None }, Fetched::All(vec![told])] {
            let Taken { changed, failure, .. } = take(&mut book, fetched, second(100));
            match (taken, failure) {
                (Ok(expected), None) => assert!(!changed || expected),
                (Err(expected), Some(failure)) => {
                    assert!(!changed && failure.to_string().contains(expected), "{failure}");
                    assert!(!failure.is_retried());
                }
                (taken, failure) => panic!("{taken:?}: {failure:?}"),
            }
            assert_eq!(held(), expected);
        }
    }
}

#[test]
fn only_what_is_accepted_sets_the_clock() {
    #[derive(Default)]
    struct Heard(std::sync::Mutex<Vec<(&'static str, Instant)>>);
    impl Clock for Heard {
        fn now(&self) -> Instant {
            T
        }
        fn heard(&self, issued_at: Instant) {
            self.0.lock().unwrap().push(("heard", issued_at));
        }
        fn set_right(&self, issued_at: Instant) {
            self.0.lock().unwrap().push(("set right", issued_at));
        }
        fn sleep_until(&self, _: Instant) -> futures_core::future::BoxFuture<'static, ()> {
            Box::pin(std::future::pending())
        }
    }
    let (_cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
    let clock = Heard::default();
    let minute = Span::from_nanos(60 * Span::SECOND.nanos());
    let (slower, before) = (T - minute, T - minute - minute - Span::from_nanos(1));
    for (sequence, issued_at) in [(5, T), (4, T + Span::days(1)), (6, slower), (7, before), (8, T), (9, T)] {
        let told = vec![signed(facts(1, None), sequence, issued_at)];
        book.take(Fetched::All(told), &BTreeMap::new(), T, Origin::Live, &clock);
    }
    book.take(Fetched::unsigned(facts(1, None)), &BTreeMap::new(), T, Origin::Live, &clock);
    // Replicas may be a minute apart; beyond, the backend's own clock had been ahead (semantics 5.2).
    let expected = [("heard", T), ("heard", slower), ("set right", before), ("heard", T), ("heard", T)];
    assert_eq!(*clock.0.lock().unwrap(), expected);
}

#[test]
fn what_was_told_of_others_stands_and_each_is_as_of_its_own_signature() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
    let id = |id: &str| id.parse::<SubscriptionId>().unwrap();
    let of = |name: &str, sequence, issued_at| {
        let told = signed(facts(1, None), sequence, issued_at);
        Told { facts: Facts { subscription_id: id(name), ..told.facts }, ..told }
    };
    let day = |days| T + Span::days(days);
    take(&mut book, Fetched::All(vec![of("AAA-AAA-AAA", 1, day(1)), of("BBB-BBB-BBB", 1, day(2))]), day(3));
    let failure = Some(SourceError::Unreachable("away".to_owned()));
    let some = Fetched::Some { told: vec![of("BBB-BBB-BBB", 2, day(4))], failure: failure.clone() };
    let taken = book.take(some, &BTreeMap::new(), day(5), Origin::Live, &ManualClock::at(day(5)));
    let told_of = BTreeSet::from([id("BBB-BBB-BBB")]);
    assert_eq!(taken, Taken { changed: false, signed: true, failure, is_all: false, told_of });
    let as_of = |name| cache.load(Some(&id(name))).unwrap().as_of;
    assert_eq!(as_of("BBB-BBB-BBB"), day(2), "nobody is answered from it before it is published");
    assert_eq!(book.publish(), Some(AsOf { oldest: day(1), newest: day(4) }));
    assert_eq!([as_of("AAA-AAA-AAA"), as_of("BBB-BBB-BBB")], [day(1), day(4)]);

    take(&mut book, Fetched::All(vec![of("BBB-BBB-BBB", 3, day(5))]), day(5));
    assert!(cache.load(Some(&id("AAA-AAA-AAA"))).is_err(), "these, and no others");
    // It left and comes back with something older than it left with.
    let old = Fetched::Some { told: vec![of("AAA-AAA-AAA", 0, day(6))], failure: None };
    let refused = take(&mut book, old, day(6)).failure;
    let [left, stayed] =
        ["AAA-AAA-AAA", "BBB-BBB-BBB"].map(|name| refused.as_ref().unwrap().only_of(&id(name)).is_some());
    assert!(left && !stayed, "{refused:?}");
}

#[tokio::test]
async fn sms_counted_while_facts_wait_for_the_disk_are_published_with_them() {
    let (cache, writer) = cache::new();
    let mut book = Book::new(writer, Outbox::in_memory(remembering(10)));
    let credits =
        |credits| vec![Facts { sms_credits: Some(SmsCredits(credits)), ..facts(1, None).remove(0) }];
    take(&mut book, Fetched::All(vec![signed(credits(5), 1, T)]), T);
    let next = Fetched::All(vec![signed(credits(9), 2, T)]);
    book.take(next, &BTreeMap::new(), T, Origin::Live, &ManualClock::at(T));
    assert_eq!(spend(&mut book, "3A8-WN7-7TD".parse().unwrap(), 2).await, Ok(Some(7)));
    let held = || cache.load(None).unwrap().facts.sms_credits;
    assert_eq!(held(), Some(SmsCredits(5)), "nobody is answered from what is not on disk");
    book.publish();
    assert_eq!(held(), Some(SmsCredits(7)));
}
