//! How often a name and an address may be tried (semantics 7.34): what failed lately, in memory, of names anybody has and of
//! names nobody has alike.
//!
//! Who fails from one address waits longer each time, for that name and from there; and a name that fails so many times a
//! day waits until it is over. Nothing here knows where a name signed in before, so no wait tells it: while it waits, a
//! guess is looked at now and then all the same, and opens where the name is known, so that no stranger keeps anybody out
//! of there. Not here: what outlives this process (see `failures`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::origin::Attempt;
use crate::domain::{Instant, Span};

/// What failed lately; a clone shares it.
#[derive(Clone, Debug)]
pub(in crate::licensing) struct Throttle(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Failures of a pair before each next one has to wait.
    free: u32,
    /// The longest wait.
    longest: Span,
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    pairs: HashMap<String, Pair>,
    names: HashMap<String, Name>,
}

/// A name from one address.
#[derive(Clone, Copy, Debug)]
struct Pair {
    failures: u32,
    /// Being looked at now.
    pending: u32,
    last: Instant,
    /// When a guess was looked at last, be it while the next one had to wait.
    looked: Instant,
}

/// A name from all addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) began: Instant,
    /// On all replicas, as far as they are known here.
    pub(super) failures: u32,
    /// Of these, those no other replica knows of.
    pub(super) own: u32,
    pending: u32,
}

/// A guess. Until it is known to be wrong or right it counts as wrong; if it never is, as none.
#[derive(Debug)]
pub(super) struct Guess {
    throttle: Throttle,
    attempt: Attempt,
    /// How it is looked at.
    look: Look,
}

/// How a guess is looked at. It is the same for every name, whoever has it and wherever it signed in before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It opens, if it is right.
    Freely,
    /// It opens where the name signed in before; anywhere else it has to wait so long, right or not.
    WhereKnown(Duration, Counts),
    /// It has to wait so long.
    Not(Duration),
}

/// Whether a guess that has to wait makes the next one from there wait longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    Yes,
    No,
}

/// Failures of a name in a day, after which it opens where it signed in before alone (NIST SP 800-63B, 3.2.2).
pub(super) const A_DAY: u32 = 100;

/// Within this they count together.
pub(super) const DAY: Span = Span::days(1);

/// By how much the present may fall back, as clocks do that are set right.
const AHEAD: Span = Span::from_nanos(60 * Span::SECOND.nanos());

/// While a guess has to wait, one is looked at so often all the same: whoever shares an address with a stranger is not
/// kept out for long.
pub(in crate::licensing) const LOOKS: Duration = Duration::from_secs(30);

/// Names, and pairs, that are remembered. With this many hashes a day is spent; what failed least is forgotten first.
const MOST: usize = 1 << 16;

impl Throttle {
    pub(in crate::licensing) fn new(free: u32, longest: Duration) -> Self {
        Self(Arc::new(Inner { free, longest: longest.into(), tables: Mutex::default() }))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a guess is looked at, which counts from now on.
    pub(super) fn begin(&self, attempt: Attempt, now: Instant) -> Guess {
        let mut tables = self.tables();
        let look = tables.look(&attempt, now, &self.0);
        if !matches!(look, Look::Not(_)) {
            let new = Pair { failures: 0, pending: 0, last: now, looked: now };
            tables.pairs_at(now).entry(attempt.pair.clone()).or_insert(new).pending += 1;
        }
        if look == Look::Freely {
            tables.names_at(now).entry(attempt.name.clone()).or_insert(Name::new(now)).pending += 1;
        }
        drop(tables);
        Guess { throttle: self.clone(), attempt, look }
    }

    /// Forgets what failed of a name, whose password was replaced.
    pub(super) fn forgive(&self, name: &str) {
        self.tables().names.remove(name);
    }

    /// Names that failed at least `least` times, some of them on no other replica's account; these are then on all.
    pub(super) fn take_own(&self, least: u32, now: Instant) -> Vec<(String, Name)> {
        let mut tables = self.tables();
        let failed = tables
            .names
            .iter_mut()
            .filter(|(_, name)| !name.is_over(now) && 0 < name.own && least <= name.failures);
        let taken = failed.map(|(key, name)| {
            let taken = *name;
            name.own = 0;
            (key.clone(), taken)
        });
        taken.collect()
    }

    /// What all replicas together know of a name.
    pub(super) fn learn(&self, key: String, began: Instant, failures: u32, now: Instant) {
        let mut tables = self.tables();
        if failures == 0 {
            tables.names.remove(&key);
            return;
        }
        let name = tables.names_at(now).entry(key).or_insert(Name::new(began));
        if name.is_over(now) {
            *name = Name { pending: name.pending, ..Name::new(began) };
        }
        name.failures = name.failures.max(failures.saturating_add(name.own));
    }
}

impl Guess {
    pub(super) const fn look(&self) -> Look {
        self.look
    }

    /// Whether it opens, if it is right.
    pub(super) const fn opens(&self, where_known: bool) -> bool {
        match self.look {
            Look::Freely => true,
            Look::WhereKnown(..) => where_known,
            Look::Not(_) => false,
        }
    }

    /// It was wrong, or right where that opens nothing; whether it was the last one of the day.
    pub(super) fn wrong(self, now: Instant) -> bool {
        let mut tables = self.throttle.tables();
        tables.count(&self, now);
        let name = tables.names.get_mut(&self.attempt.name).filter(|_| self.look == Look::Freely);
        name.is_some_and(|name| {
            if name.is_over(now) {
                *name = Name { pending: name.pending, ..Name::new(now) };
            }
            name.failures = name.failures.saturating_add(1);
            name.own = name.own.saturating_add(1);
            name.failures == A_DAY
        })
    }

    /// Its address had too many in line. Whether it was looked at beside the line, where the name is known, is not told; so
    /// it counts as if it had been.
    pub(super) fn turned_away(self, now: Instant) {
        self.throttle.tables().count(&self, now);
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if matches!(self.look, Look::Not(_)) {
            return;
        }
        let mut tables = self.throttle.tables();
        if let Some(pair) = tables.pairs.get_mut(&self.attempt.pair) {
            pair.pending = pair.pending.saturating_sub(1);
            if pair.pending == 0 && pair.failures == 0 {
                tables.pairs.remove(&self.attempt.pair);
            }
        }
        if self.look != Look::Freely {
            return;
        }
        if let Some(name) = tables.names.get_mut(&self.attempt.name) {
            name.pending = name.pending.saturating_sub(1);
            if name.pending == 0 && name.failures == 0 {
                tables.names.remove(&self.attempt.name);
            }
        }
    }
}

impl Tables {
    fn look(&self, attempt: &Attempt, now: Instant, Inner { free, longest, .. }: &Inner) -> Look {
        let name = self.names.get(&attempt.name).filter(|name| !name.is_over(now));
        let day = name.filter(|name| A_DAY <= name.failures + name.pending);
        let day = day.map(|name| wait(name.began + DAY, now, DAY));
        let longer = |wait: Duration| day.map_or(wait, |day| day.max(wait));
        if let Some(pair) = self.pairs.get(&attempt.pair).filter(|pair| !pair.is_over(now)) {
            let next = pair.last + pair.delay(*free, *longest);
            if now < next {
                let wait = longer(wait(next, now, *longest));
                let is_looked_at = pair.pending == 0 && pair.looked + Span::from(LOOKS) <= now;
                return if is_looked_at { Look::WhereKnown(wait, Counts::No) } else { Look::Not(wait) };
            }
            // Guesses made at once are not looked at all at once.
            if 0 < pair.pending && *free <= pair.failures + pair.pending {
                return Look::Not(longer(Duration::from_secs(1)));
            }
        }
        day.map_or(Look::Freely, |day| Look::WhereKnown(day, Counts::Yes))
    }

    /// Counts a guess for its name at its address.
    fn count(&mut self, guess: &Guess, now: Instant) {
        let Some(pair) = self.pairs.get_mut(&guess.attempt.pair) else { return };
        match guess.look {
            Look::Not(_) => {}
            Look::WhereKnown(_, Counts::No) => pair.looked = now,
            Look::Freely | Look::WhereKnown(_, Counts::Yes) => {
                pair.failures = if pair.is_over(now) { 1 } else { pair.failures.saturating_add(1) };
                (pair.last, pair.looked) = (now, now);
            }
        }
    }

    fn pairs_at(&mut self, now: Instant) -> &mut HashMap<String, Pair> {
        forget(&mut self.pairs, |pair| (pair.pending, if pair.is_over(now) { 0 } else { pair.failures }));
        &mut self.pairs
    }

    fn names_at(&mut self, now: Instant) -> &mut HashMap<String, Name> {
        forget(&mut self.names, |name| (name.pending, if name.is_over(now) { 0 } else { name.failures }));
        &mut self.names
    }
}

/// Makes room: first what counts no more, then what failed least.
fn forget<V>(table: &mut HashMap<String, V>, pending_and_failures: impl Fn(&V) -> (u32, u32)) {
    let mut least = 0;
    while MOST <= table.len() {
        table.retain(|_, value| {
            let (pending, failures) = pending_and_failures(value);
            0 < pending || least < failures
        });
        least = 2 * least + 1;
        if least == u32::MAX {
            return;
        }
    }
}

impl Pair {
    fn is_over(&self, now: Instant) -> bool {
        is_over(self.last, now)
    }

    /// How long the next guess has to wait: a second at first, then twice as long each time.
    fn delay(&self, free: u32, longest: Span) -> Span {
        match self.failures.checked_sub(free) {
            None => Span::from_nanos(0),
            Some(more) => Span::from_nanos(Span::SECOND.nanos() << more.min(32)).min(longest),
        }
    }
}

impl Name {
    const fn new(began: Instant) -> Self {
        Self { began, failures: 0, own: 0, pending: 0 }
    }

    fn is_over(&self, now: Instant) -> bool {
        is_over(self.began, now)
    }
}

/// Whether what began then counts no more; nor does what a clock that was ahead dated after the present.
fn is_over(began: Instant, now: Instant) -> bool {
    let age = now - began;
    age < Span::ZERO - AHEAD || DAY <= age
}

/// What is left until `next`, in whole seconds, which read better.
fn wait(next: Instant, now: Instant, longest: Span) -> Duration {
    let left = (next - now).min(longest).nanos();
    let seconds = u64::try_from(left).unwrap_or_default().div_ceil(1_000_000_000);
    Duration::from_secs(seconds.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_unix_seconds(1_000_000_000);

    fn attempt(name: &str, address: &str) -> Attempt {
        let pair = format!("{name} from {address}");
        Attempt { name: name.to_owned(), address: address.to_owned(), network: address.to_owned(), pair }
    }

    fn seconds(seconds: u64) -> Span {
        Duration::from_secs(seconds).into()
    }

    fn throttle() -> Throttle {
        Throttle::new(3, Duration::from_mins(15))
    }

    #[test]
    fn each_failure_from_an_address_makes_the_next_one_wait_longer_and_no_other_address() {
        let (throttle, mut now) = (throttle(), NOW);
        let begin = |address: &str, now| throttle.begin(attempt("anna", address), now);
        for (failure, wait) in
            [0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900].into_iter().enumerate()
        {
            if 0 < wait {
                let early = now + seconds(wait) - Span::from_nanos(1);
                assert_eq!(begin("here", now).look(), Look::Not(Duration::from_secs(wait)), "{failure}");
                assert!(!begin("here", early).opens(false), "{failure}");
                now = now + seconds(wait);
            }
            assert_eq!(begin("here", now).look(), Look::Freely, "{failure}");
            assert!(!begin("here", now).wrong(now));
        }
        assert_eq!(begin("there", now).look(), Look::Freely);
        assert_eq!(begin("here", now + DAY).look(), Look::Freely);
    }

    #[test]
    fn while_a_name_waits_one_guess_in_half_a_minute_opens_where_it_is_known_and_changes_no_wait() {
        let (throttle, mut now) = (throttle(), NOW);
        let begin = |now| throttle.begin(attempt("anna", "here"), now);
        for failure in 0..13 {
            now = now + seconds(1 << failure);
            begin(now).wrong(now);
        }
        let failed = now;
        let left = |now: Instant| wait(failed + seconds(900), now, seconds(900));
        for look in 1..30 {
            now = now + seconds(30) - Span::from_nanos(1);
            assert_eq!(begin(now).look(), Look::Not(left(now)), "{look}: too early");
            now = now + Span::from_nanos(1);
            let guess = begin(now);
            assert_eq!(guess.look(), Look::WhereKnown(left(now), Counts::No), "{look}");
            assert!(guess.opens(true) && !guess.opens(false));
            assert_eq!(begin(now).look(), Look::Not(left(now)), "{look}: one at a time");
            // One that is right, or given up, takes nobody's place.
            drop(guess);
            if look % 2 == 0 {
                begin(now).wrong(now);
            } else {
                begin(now).turned_away(now);
            }
        }
        now = now + seconds(30);
        assert_eq!(begin(now).look(), Look::Freely, "the wait is over when it was said to be");
    }

    #[test]
    fn a_name_fails_so_often_a_day_and_then_opens_where_it_is_known_alone() {
        let throttle = throttle();
        let begin = |address: usize, now| throttle.begin(attempt("anna", &address.to_string()), now);
        for failure in 1..=100 {
            assert_eq!(begin(failure, NOW).wrong(NOW), failure == 100, "the last one is told of");
        }
        let day = Duration::from_hours(24);
        for _ in 0..3 {
            let guess = begin(0, NOW);
            assert_eq!(guess.look(), Look::WhereKnown(day, Counts::Yes), "as often as on any day");
            assert!(guess.opens(true) && !guess.opens(false));
            assert!(!guess.wrong(NOW));
        }
        assert_eq!(begin(0, NOW).look(), Look::Not(day), "and then it waits there as well");
        assert_eq!(throttle.begin(attempt("ben", "0"), NOW).look(), Look::Freely);
        let end = NOW + DAY;
        let last = end - Span::from_nanos(1);
        assert_eq!(begin(200, last).look(), Look::WhereKnown(Duration::from_secs(1), Counts::Yes));
        assert_eq!(begin(0, end).look(), Look::Freely, "a new day");
        throttle.learn("anna".to_owned(), end, 100, end);
        assert!(!begin(0, end).opens(false));
        throttle.forgive("anna");
        assert!(begin(0, end).opens(false));
        // A clock that was ahead is set right.
        throttle.learn("anna".to_owned(), end + DAY, 100, end);
        assert!(begin(0, end).opens(false));
    }

    #[test]
    fn guesses_made_at_once_are_counted_before_they_are_looked_at() {
        let throttle = throttle();
        let begin = |name: &str, address: usize| throttle.begin(attempt(name, &address.to_string()), NOW);
        let looked_at = |name: &str, address: &dyn Fn(usize) -> usize| {
            let guesses = (0..200).map(|guess| begin(name, address(guess)));
            guesses.take_while(|guess| guess.look() == Look::Freely).collect::<Vec<_>>()
        };
        let guesses = looked_at("anna", &|_| 0);
        assert_eq!(guesses.len(), 3);
        drop(guesses);
        assert_eq!(begin("anna", 0).look(), Look::Freely);
        let guesses = looked_at("ben", &|guess| guess);
        assert_eq!(guesses.len(), 100);
        drop(guesses);
        let tables = throttle.tables();
        assert_eq!((tables.names.len(), tables.pairs.len()), (0, 0), "none of them was wrong");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_failed_most_stays() {
        let throttle = throttle();
        for address in 0..50 {
            throttle.begin(attempt("anna", &address.to_string()), NOW).wrong(NOW);
        }
        for name in 0..2 * MOST {
            throttle.begin(attempt(&name.to_string(), "there"), NOW).wrong(NOW);
        }
        let tables = throttle.tables();
        assert!(tables.names.len() <= MOST && tables.pairs.len() <= MOST);
        assert_eq!(tables.names.get("anna").map(|name| name.failures), Some(50));
    }
}
