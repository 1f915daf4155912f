//! What happens often is told now and then, and how often it happened meanwhile.
//!
//! Whoever can make something happen must not be able to fill the log with it. Not here: what is told.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicU64, Ordering},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Counts what happens between two tellings.
#[derive(Debug)]
pub(super) struct Rarely {
    limit: DefaultDirectRateLimiter,
    untold: AtomicU64,
}

impl Rarely {
    /// A few at once, then one a minute.
    pub(super) fn new() -> Self {
        let few = NonZeroU32::MIN.saturating_add(4);
        let quota = Quota::per_minute(NonZeroU32::MIN).allow_burst(few);
        Self { limit: RateLimiter::direct(quota), untold: AtomicU64::new(0) }
    }

    /// Hands how often it happened before and was not told to `tell`, if this time is told.
    pub(super) fn tell(&self, tell: impl FnOnce(u64)) {
        if self.limit.check().is_ok() {
            tell(self.untold.swap(0, Ordering::Relaxed));
        } else {
            self.untold.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_told_of_a_few_times_and_counted() {
        let rarely = Rarely::new();
        let mut told = 0;
        for _ in 0..1_000 {
            rarely.tell(|_| told += 1);
        }
        assert_eq!((told, rarely.untold.load(Ordering::Relaxed)), (5, 995));
    }
}
