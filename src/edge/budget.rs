//! How many bytes of messages are held for callers at a time.
//!
//! Not here: which messages are counted (see `server`).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// So many bytes, for all callers together.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    most: usize,
    held: AtomicUsize,
}

/// What is held for one caller; nothing any more when this is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: AtomicUsize,
}

impl Budget {
    /// `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, held: AtomicUsize::new(0) }))
    }

    /// How many there are.
    #[must_use]
    pub fn most(&self) -> usize {
        self.0.most
    }

    /// Nothing yet, for one more caller.
    #[must_use]
    pub fn hold(&self) -> Held {
        Held { budget: self.clone(), bytes: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        // Nothing else is read or written by it: the number alone counts.
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= self.0.most);
        self.0.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.held.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Held {
    /// From now on `bytes` are held, in place of those before; whether there is room for them. Where there is none,
    /// nothing is held.
    pub fn set(&self, bytes: usize) -> bool {
        let before = self.bytes.swap(0, Ordering::Relaxed);
        if 0 < before {
            self.budget.give_back(before);
        }
        if bytes == 0 {
            return true;
        }
        let taken = self.budget.take(bytes);
        if taken {
            // Of two that set it at once neither may be forgotten.
            let other = self.bytes.fetch_add(bytes, Ordering::Relaxed);
            debug_assert_eq!(other, 0, "one message at a time");
        }
        taken
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_up_to_the_budget_and_free_again() {
        let budget = Budget::new(10);
        let (first, second) = (budget.hold(), budget.hold());
        assert!(first.set(6));
        assert!(second.set(4) && !second.set(5) && second.set(4));
        assert!(!budget.hold().set(1) && budget.hold().set(0));
        assert!(first.set(3) && budget.hold().set(3));
        drop(second);
        assert!(budget.hold().set(7) && !budget.hold().set(8) && !budget.hold().set(usize::MAX));
    }
}
