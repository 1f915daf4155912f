//! How often a name and an address may be tried (semantics 7.34): what failed lately, in memory, of names anybody has and of
//! names nobody has alike.
//!
//! Who fails from one address waits longer each time, for that name and from there. A name fails so many times a day from
//! addresses it never signed in from, and then from no such address more: no stranger keeps anybody out of where they are
//! known. Not here: what outlives this process (see `failures`).

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
}

/// A name from all addresses it never signed in from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub(super) began: Instant,
    /// On all replicas, as far as they are known here.
    pub(super) failures: u32,
    /// Of these, those no other replica knows of.
    pub(super) own: u32,
    pending: u32,
}

/// A guess that is being looked at. Until it is known to be wrong or right it counts as wrong; if it never is, as none.
#[derive(Debug)]
pub(super) struct Guess {
    throttle: Throttle,
    attempt: Attempt,
    /// Whether somebody might guess it at all.
    counts: bool,
    counts_for_name: bool,
}

/// Failures of a name in a day from addresses that are new to it (NIST SP 800-63B, 3.2.2).
pub(super) const A_DAY: u32 = 100;

/// Within this they count together.
pub(super) const DAY: Span = Span::days(1);

/// By how much the present may fall back, as clocks do that are set right.
const AHEAD: Span = Span::from_nanos(60 * Span::SECOND.nanos());

/// The longest wait where the name signed in before: whoever shares an address with a stranger is not kept out for long.
const LONGEST_IF_KNOWN: Span = Span::from_nanos(30 * Span::SECOND.nanos());

/// Names, and pairs, that are remembered. With this many hashes a day is spent; what failed least is forgotten first.
const MOST: usize = 1 << 16;

impl Throttle {
    pub(in crate::licensing) fn new(free: u32, longest: Duration) -> Self {
        Self(Arc::new(Inner { free, longest: longest.into(), tables: Mutex::default() }))
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a guess be looked at, or says how long it has to wait. The day's failures count where the name is not `known`;
    /// what nobody guesses, as a one-time password, never waits and never counts.
    pub(super) fn begin(
        &self,
        attempt: Attempt,
        known: bool,
        guessable: bool,
        now: Instant,
    ) -> Result<Guess, Duration> {
        if !guessable {
            return Ok(Guess { throttle: self.clone(), attempt, counts: false, counts_for_name: false });
        }
        let mut tables = self.tables();
        let counts_for_name = !known;
        if let Some(name) =
            tables.names.get(&attempt.name).filter(|name| !name.is_over(now) && counts_for_name)
            && A_DAY <= name.failures + name.pending
        {
            return Err(wait(name.began + DAY, now, DAY));
        }
        if let Some(pair) = tables.pairs.get(&attempt.pair).filter(|pair| !pair.is_over(now)) {
            let longest = if known { self.0.longest.min(LONGEST_IF_KNOWN) } else { self.0.longest };
            let next = pair.last + pair.delay(self.0.free, longest);
            if now < next {
                return Err(wait(next, now, longest));
            }
            // Guesses made at once are not looked at all at once.
            if 0 < pair.pending && self.0.free <= pair.failures + pair.pending {
                return Err(Duration::from_secs(1));
            }
        }
        tables
            .pairs_at(now)
            .entry(attempt.pair.clone())
            .or_insert(Pair { failures: 0, pending: 0, last: now })
            .pending += 1;
        if counts_for_name {
            tables.names_at(now).entry(attempt.name.clone()).or_insert(Name::new(now)).pending += 1;
        }
        drop(tables);
        Ok(Guess { throttle: self.clone(), attempt, counts: true, counts_for_name })
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
    /// It was wrong; whether it was the last one of the day.
    pub(super) fn wrong(self, now: Instant) -> bool {
        if !self.counts {
            return false;
        }
        let mut tables = self.throttle.tables();
        if let Some(pair) = tables.pairs.get_mut(&self.attempt.pair) {
            pair.failures = if pair.is_over(now) { 1 } else { pair.failures.saturating_add(1) };
            pair.last = now;
        }
        let name = tables.names.get_mut(&self.attempt.name).filter(|_| self.counts_for_name);
        name.is_some_and(|name| {
            if name.is_over(now) {
                *name = Name { pending: name.pending, ..Name::new(now) };
            }
            name.failures = name.failures.saturating_add(1);
            name.own = name.own.saturating_add(1);
            name.failures == A_DAY
        })
    }

    /// It was right: what failed from there was somebody who mistyped.
    pub(super) fn right(self) {
        if let Some(pair) = self.throttle.tables().pairs.get_mut(&self.attempt.pair) {
            pair.failures = 0;
        }
    }
}

impl Drop for Guess {
    fn drop(&mut self) {
        if !self.counts {
            return;
        }
        let mut tables = self.throttle.tables();
        if let Some(pair) = tables.pairs.get_mut(&self.attempt.pair) {
            pair.pending = pair.pending.saturating_sub(1);
            if pair.pending == 0 && pair.failures == 0 {
                tables.pairs.remove(&self.attempt.pair);
            }
        }
        if !self.counts_for_name {
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
        Attempt { name: name.to_owned(), address: address.to_owned(), pair: format!("{name} from {address}") }
    }

    fn seconds(seconds: u64) -> Span {
        Duration::from_secs(seconds).into()
    }

    fn throttle() -> Throttle {
        Throttle::new(3, Duration::from_mins(15))
    }

    #[test]
    fn each_failure_from_an_address_makes_the_next_one_wait_longer_and_no_other_address() {
        for (known, waits) in [
            (false, vec![0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]),
            (true, vec![0, 0, 0, 1, 2, 4, 8, 16, 30, 30, 30]),
        ] {
            let (throttle, mut now) = (throttle(), NOW);
            let begin = |address: &str, now| throttle.begin(attempt("anna", address), known, true, now);
            for (failure, wait) in waits.into_iter().enumerate() {
                if 0 < wait {
                    let early = now + seconds(wait) - Span::from_nanos(1);
                    assert_eq!(begin("here", now).unwrap_err(), Duration::from_secs(wait), "{failure}");
                    assert_eq!(begin("here", early).unwrap_err(), Duration::from_secs(1), "{failure}");
                    now = now + seconds(wait);
                }
                assert!(!begin("here", now).unwrap().wrong(now));
            }
            begin("there", now).unwrap();
            begin("here", now + DAY).unwrap().wrong(now + DAY);
            begin("here", now + DAY).unwrap().right();
        }
    }

    #[test]
    fn a_name_fails_so_often_a_day_from_new_addresses_and_is_never_kept_from_known_ones() {
        let throttle = throttle();
        let begin = |address: usize, known, guessable, now| {
            throttle.begin(attempt("anna", &address.to_string()), known, guessable, now)
        };
        for failure in 1..=100 {
            let last = begin(failure, false, true, NOW).unwrap().wrong(NOW);
            assert_eq!(last, failure == 100, "the last one is told of");
        }
        let day = Duration::from_hours(24);
        assert_eq!(begin(0, false, true, NOW).unwrap_err(), day);
        assert!(!begin(0, true, true, NOW).unwrap().wrong(NOW), "where it signed in before");
        begin(0, false, false, NOW).unwrap().right();
        throttle.begin(attempt("ben", "0"), false, true, NOW).unwrap().right();
        let end = NOW + DAY;
        assert_eq!(begin(0, false, true, end - Span::from_nanos(1)).unwrap_err(), Duration::from_secs(1));
        assert!(!begin(0, false, true, end).unwrap().wrong(end), "a new day");
        throttle.learn("anna".to_owned(), end, 100, end);
        begin(0, false, true, end).unwrap_err();
        throttle.forgive("anna");
        begin(0, false, true, end).unwrap().right();
        // A clock that was ahead is set right.
        throttle.learn("anna".to_owned(), end + DAY, 100, end);
        begin(0, false, true, end).unwrap().right();
    }

    #[test]
    fn guesses_made_at_once_are_counted_before_they_are_looked_at() {
        let throttle = throttle();
        let begin = |name: &str, address: usize| {
            throttle.begin(attempt(name, &address.to_string()), false, true, NOW)
        };
        let looked_at: Vec<_> = (0..10).map_while(|_| begin("anna", 0).ok()).collect();
        assert_eq!(looked_at.len(), 3);
        drop(looked_at);
        begin("anna", 0).unwrap();
        let looked_at: Vec<_> = (0..200).map_while(|address| begin("ben", address).ok()).collect();
        assert_eq!(looked_at.len(), 100);
        drop(looked_at);
        let tables = throttle.tables();
        assert_eq!((tables.names.len(), tables.pairs.len()), (0, 0), "none of them was wrong");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_what_failed_most_stays() {
        let throttle = throttle();
        for address in 0..50 {
            throttle.begin(attempt("anna", &address.to_string()), false, true, NOW).unwrap().wrong(NOW);
        }
        for name in 0..2 * MOST {
            throttle.begin(attempt(&name.to_string(), "there"), false, true, NOW).unwrap().wrong(NOW);
        }
        let tables = throttle.tables();
        assert!(tables.names.len() <= MOST && tables.pairs.len() <= MOST);
        assert_eq!(tables.names.get("anna").map(|name| name.failures), Some(50));
    }
}
