//! Counts of what happens often and on many threads: each thread adds on a line of memory of its own, so that no two
//! wait for one another's, and whoever looks adds the lines up.
//!
//! Not here: what is counted, and how it is shown.

use std::{
    array,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

/// So many counts, each from zero.
#[derive(Debug)]
pub struct Tallies<const N: usize>([Line<N>; LINES]);

/// One count.
pub type Tally = Tallies<1>;

/// Aligned, so that what one processor writes is on no line of another's; some fetch two lines at a time.
#[derive(Debug)]
#[repr(align(128))]
struct Line<const N: usize>([AtomicU64; N]);

/// How many threads count without meeting one another.
const LINES: usize = 8;

thread_local! {
    static LINE: usize = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % LINES
    };
}

impl<const N: usize> Tallies<N> {
    /// Adds `more` to the count at `which`; to none where there is no such count.
    pub fn add(&self, which: usize, more: u64) {
        let line = self.0.get(LINE.with(|line| *line));
        if let Some(count) = line.and_then(|Line(counts)| counts.get(which)) {
            // Nothing else is read or written by it: the number alone counts.
            count.fetch_add(more, Ordering::Relaxed);
        }
    }

    /// What the count at `which` has come to.
    #[must_use]
    pub fn sum(&self, which: usize) -> u64 {
        self.0
            .iter()
            .filter_map(|Line(counts)| counts.get(which))
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

impl Tally {
    /// It happened once more.
    pub fn count(&self) {
        self.add(0, 1);
    }

    /// How often it happened.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.sum(0)
    }
}

impl<const N: usize> Default for Tallies<N> {
    fn default() -> Self {
        Self(array::from_fn(|_| Line(array::from_fn(|_| AtomicU64::new(0)))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_at_once_adds_up_and_each_count_is_its_own() {
        let tallies = Tallies::<3>::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * LINES {
                scope.spawn(|| {
                    for _ in 0..1_000 {
                        tallies.add(0, 1);
                        tallies.add(2, 5);
                    }
                });
            }
        });
        assert_eq!([0, 1, 2].map(|which| tallies.sum(which)), [16_000, 0, 80_000]);
    }

    #[test]
    fn a_count_that_is_not_there_counts_nothing() {
        let tallies = Tallies::<2>::default();
        tallies.add(2, 1);
        assert_eq!([0, 1, 2].map(|which| tallies.sum(which)), [0, 0, 0]);
    }
}
