//! How long to wait before asking again: an interval with jitter, or twice as long after each failure.
//!
//! Not here: what is retried (see `SourceError::is_retried`).

use std::time::Duration;

/// The waits between retries: each up to twice the last, spread over its upper half so that a fleet that lost its
/// backend at one instant does not come back at one instant.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Backoff {
    /// A first wait of up to `first`, and none longer than `most`.
    #[must_use]
    pub const fn new(first: Duration, most: Duration) -> Self {
        Self { first, most, next: first }
    }

    /// The wait after one more failure.
    pub fn wait(&mut self) -> Duration {
        let wait = self.next.min(self.most);
        self.next = wait.saturating_mul(2);
        wait.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// After a success.
    pub const fn reset(&mut self) {
        self.next = self.first;
    }
}

/// `interval`, up to `percent` shorter or longer.
#[must_use]
pub fn jittered(interval: Duration, percent: u32) -> Duration {
    let spread = f64::from(percent.min(100)) / 100.0;
    interval.mul_f64(1.0 + spread * (2.0 * fastrand::f64() - 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(6));
        for most in [1, 2, 4, 6, 6] {
            let most = Duration::from_secs(most);
            let wait = backoff.wait();
            assert!(most / 2 <= wait && wait <= most, "{wait:?} of {most:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= Duration::from_secs(1));
    }

    #[test]
    fn jitter_stays_within_its_percent() {
        for _ in 0..1_000 {
            let wait = jittered(Duration::from_secs(100), 10);
            assert!(Duration::from_secs(90) <= wait && wait <= Duration::from_secs(110), "{wait:?}");
        }
        assert_eq!(jittered(Duration::from_secs(100), 0), Duration::from_secs(100));
    }
}
