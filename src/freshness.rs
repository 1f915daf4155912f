//! How old facts may be: from when they are stale, and from when an operator wants no answer from them
//! (semantics 5.3).
//!
//! Not here: where the age comes from, and what is done about it (see `enforcement` and `health`).

use std::time::Duration;

use crate::{
    config,
    domain::{Instant, Operation, Span},
    names::Named as _,
};

/// The operator's bounds, in the shape the decision path needs.
#[derive(Clone, Debug)]
pub struct Freshness {
    stale_after: Duration,
    refused_after: Option<Duration>,
    /// In the order of `Operation::ALL`, which is that of the enum.
    operations: [Option<Duration>; 12],
}

/// How old facts of `as_of` are at `now`; nothing when they seem to come from the future. Then a clock is or was
/// wrong, and nobody knows their age: they are treated as too old for every bound.
#[must_use]
pub fn age(as_of: Instant, now: Instant) -> Option<Duration> {
    let age = (now - as_of).nanos();
    if age < 0 { None } else { Some(u64::try_from(age).map_or(Duration::MAX, Duration::from_nanos)) }
}

impl Freshness {
    /// The bounds as configured.
    #[must_use]
    pub fn new(staleness: &config::Staleness) -> Self {
        let config::Staleness { stale_after, unavailable_after, operations } = staleness;
        Self {
            stale_after: *stale_after,
            refused_after: *unavailable_after,
            operations: Operation::ALL.map(|operation| operations.get(operation.name()).copied()),
        }
    }

    /// Whether facts of `as_of` are stale at `now`.
    #[must_use]
    pub fn is_stale(&self, as_of: Instant, now: Instant) -> bool {
        is_older(as_of, now, self.stale_after)
    }

    /// Whether facts of `as_of` are too old at `now` for any answer at all.
    #[must_use]
    pub fn refuses_all(&self, as_of: Instant, now: Instant) -> bool {
        self.refused_after.is_some_and(|most| is_older(as_of, now, most))
    }

    /// The bound that facts of `as_of` break at `now` for an operation.
    #[must_use]
    pub fn refuses(&self, operation: Operation, as_of: Instant, now: Instant) -> Option<Duration> {
        self.bound(operation).filter(|most| is_older(as_of, now, *most))
    }

    /// From when facts of `as_of` are too old for an operation.
    #[must_use]
    pub fn refused_from(&self, operation: Operation, as_of: Instant) -> Option<Instant> {
        self.bound(operation).map(|most| first_beyond(as_of, most))
    }

    /// The next instant after `now` at which facts of `as_of` break a bound, or at which their age comes to be known.
    #[must_use]
    pub fn next_turn(&self, as_of: Instant, now: Instant) -> Option<Instant> {
        let bounds =
            self.operations.iter().copied().flatten().chain(self.refused_after).chain([self.stale_after]);
        bounds.map(|most| first_beyond(as_of, most)).chain([as_of]).filter(|turn| now < *turn).min()
    }

    fn bound(&self, operation: Operation) -> Option<Duration> {
        let own = self.operations.get(operation as usize).copied().flatten();
        own.into_iter().chain(self.refused_after).min()
    }
}

fn is_older(as_of: Instant, now: Instant, most: Duration) -> bool {
    age(as_of, now).is_none_or(|age| most < age)
}

fn first_beyond(as_of: Instant, most: Duration) -> Instant {
    (as_of + Span::from(most)).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Instant = Instant::from_unix_seconds(1_800_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn freshness(unavailable_after: Option<Duration>, operation: Option<Operation>) -> Freshness {
        let operations = operation.into_iter().map(|operation| (operation.name(), MINUTE)).collect();
        Freshness::new(&config::Staleness { stale_after: 2 * MINUTE, unavailable_after, operations })
    }

    #[test]
    fn each_operation_has_the_bound_that_was_set_for_it_and_no_other_s() {
        for bounded in Operation::ALL {
            let freshness = freshness(None, Some(bounded));
            for operation in Operation::ALL {
                let broken = freshness.refuses(operation, T, (T + Span::from(MINUTE)).next());
                assert_eq!(broken, (operation == bounded).then_some(MINUTE), "{operation:?}");
            }
        }
    }

    #[test]
    fn a_bound_is_broken_by_the_first_nanosecond_beyond_it() {
        let freshness = freshness(Some(MINUTE), None);
        let last = T + Span::from(MINUTE);
        assert!(!freshness.refuses_all(T, last) && freshness.refuses_all(T, last.next()));
        assert_eq!(freshness.refused_from(Operation::SelfEnroll, T), Some(last.next()));
        assert_eq!(freshness.next_turn(T, T), Some(last.next()));
        assert_eq!(
            freshness.next_turn(T, last.next()),
            Some((last + Span::from(MINUTE)).next()),
            "stale from then"
        );
    }

    #[test]
    fn facts_from_the_future_are_of_no_known_age_and_too_old_for_every_bound() {
        let freshness = freshness(Some(MINUTE), None);
        assert_eq!(age(T.next(), T), None);
        assert!(freshness.is_stale(T.next(), T) && freshness.refuses_all(T.next(), T));
        assert_eq!(freshness.next_turn(T.next(), T), Some(T.next()), "then they are of age 0");
        assert!(!freshness.is_stale(T, T));
    }
}
