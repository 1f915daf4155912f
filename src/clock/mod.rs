//! The only door for the present (semantics 5.2).
//!
//! `now` never runs backwards and never lags the backend: it is the wall clock, or the last time the backend
//! signed plus what has elapsed since, whichever is later. Elsewhere `Utc::now` and `SystemTime::now` are refused
//! by lint.

mod manual;
mod wall;

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use futures_core::future::BoxFuture;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::domain::{Instant, Span};

pub use manual::ManualClock;
pub use wall::WallClock;

/// What tells the present, and wakes at an instant.
pub trait Clock: Send + Sync + 'static {
    /// The present.
    fn now(&self) -> Instant;

    /// The backend signed facts at this instant, and they have just arrived. What the clock held against its own
    /// running backwards is forgotten: a wall clock that was far ahead heals here.
    fn heard(&self, issued_at: Instant);

    /// The same, of facts that show that the backend's own clock had been ahead: newer ones than those that are held, and
    /// issued before them by more than `CLOCKS_AGREE`. What was signed by that clock is forgotten, too.
    fn set_right(&self, issued_at: Instant);

    /// Returns once `now` has reached `instant`.
    fn sleep_until(&self, instant: Instant) -> BoxFuture<'static, ()>;
}

/// The machine's clocks: its wall clock, and the one that counts since boot, sleep included.
#[derive(Clone, Debug)]
pub struct SystemClock {
    /// Nanoseconds by which the present is ahead of the time since boot, at the least. One number, so that a
    /// reader needs one load; it grows with the wall clock and falls only when the backend is heard.
    ahead_of_boot: Arc<AtomicI64>,
    /// The same for what the backend signed: the latest of it, which the floor falls beneath only when the backend's own
    /// clock was set right.
    signed: Arc<AtomicI64>,
}

/// How far the clocks of a backend's replicas may be apart.
pub const CLOCKS_AGREE: Span = Span::from_nanos(60 * Span::SECOND.nanos());

/// However far an instant is, the clock is looked at again after this long, because it may have been set, or the
/// machine may have slept, meanwhile.
const LONGEST_SLEEP: Duration = Duration::from_secs(5);

impl SystemClock {
    /// The machine's clock.
    #[must_use]
    pub fn new() -> Self {
        Self { ahead_of_boot: Arc::new(AtomicI64::new(i64::MIN)), signed: Arc::new(AtomicI64::new(i64::MIN)) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        present(nanos(ClockId::Realtime), nanos(ClockId::Boottime), &self.ahead_of_boot)
    }

    fn heard(&self, issued_at: Instant) {
        let heard = ahead(issued_at.unix_nanos(), nanos(ClockId::Boottime));
        heal(heard, &self.signed, &self.ahead_of_boot);
    }

    fn set_right(&self, issued_at: Instant) {
        self.signed.store(i64::MIN, Ordering::Relaxed);
        self.heard(issued_at);
    }

    fn sleep_until(&self, instant: Instant) -> BoxFuture<'static, ()> {
        Box::pin(sleep_until(self.clone(), instant))
    }
}

async fn sleep_until(clock: impl Clock, instant: Instant) {
    loop {
        let left = instant - clock.now();
        if left <= Span::ZERO {
            return;
        }
        let left = u64::try_from(left.nanos()).map_or(LONGEST_SLEEP, Duration::from_nanos);
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
    }
}

/// The present by both clocks, and the floor raised to it so that no later call answers less.
fn present(wall: i128, boot: i128, ahead_of_boot: &AtomicI64) -> Instant {
    let seen = ahead(wall, boot);
    let floor = ahead_of_boot.load(Ordering::Relaxed);
    if floor < seen {
        // Two readers may raise it at once; the higher one stays.
        ahead_of_boot.fetch_max(seen, Ordering::Relaxed);
    }
    Instant::from_unix_nanos(boot + i128::from(seen.max(floor)))
}

/// Lowers the floor to the latest that was signed; an older signature lowers nothing.
fn heal(heard: i64, signed: &AtomicI64, ahead_of_boot: &AtomicI64) {
    let latest = signed.fetch_max(heard, Ordering::Relaxed).max(heard);
    ahead_of_boot.store(latest, Ordering::Relaxed);
}

fn ahead(instant: i128, boot: i128) -> i64 {
    i64::try_from(instant - boot).unwrap_or(if instant < boot { i64::MIN } else { i64::MAX })
}

fn nanos(clock: ClockId) -> i128 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(clock);
    i128::from(tv_sec) * Span::SECOND.nanos() + i128::from(tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i128 = Span::days(1).nanos();

    fn at(wall: i128, boot: i128, floor: &AtomicI64) -> i128 {
        present(wall, boot, floor).unix_nanos()
    }

    #[test]
    fn the_present_follows_the_wall_clock() {
        let floor = AtomicI64::new(i64::MIN);
        assert_eq!(at(100 * DAY, 5, &floor), 100 * DAY);
        assert_eq!(at(101 * DAY, 5 + DAY, &floor), 101 * DAY);
    }

    #[test]
    fn a_wall_clock_set_back_gains_no_time() {
        let floor = AtomicI64::new(i64::MIN);
        at(100 * DAY, 0, &floor);
        assert_eq!(at(40 * DAY, DAY, &floor), 101 * DAY, "the time since boot goes on counting");
    }

    #[test]
    fn the_present_never_lags_what_the_backend_signed() {
        let floor = AtomicI64::new(ahead(100 * DAY, 7));
        assert_eq!(at(40 * DAY, 7 + DAY, &floor), 101 * DAY);
    }

    #[test]
    fn a_wall_clock_far_ahead_heals_when_the_backend_is_heard() {
        let floor = AtomicI64::new(i64::MIN);
        assert_eq!(at(4000 * DAY, 0, &floor), 4000 * DAY);
        assert_eq!(at(100 * DAY, DAY, &floor), 4001 * DAY, "set right, but nobody vouches for it yet");
        let signed = AtomicI64::new(i64::MIN);
        heal(ahead(100 * DAY, DAY), &signed, &floor);
        assert_eq!(at(100 * DAY + 1, DAY + 1, &floor), 100 * DAY + 1);

        // An older signature, replayed, sets nothing back.
        heal(ahead(50 * DAY, DAY), &signed, &floor);
        assert_eq!(at(60 * DAY, DAY, &floor), 100 * DAY);
    }

    #[test]
    fn a_clock_that_followed_a_backend_far_ahead_comes_down_when_the_backend_was_set_right() {
        let clock = SystemClock::new();
        let (now, hour) = (clock.now(), Span::from_nanos(3_600 * Span::SECOND.nanos()));
        let ahead = now + Span::days(30);
        clock.heard(ahead);
        assert!(ahead <= clock.now(), "never behind the backend");
        clock.heard(now);
        assert!(ahead <= clock.now(), "an older signature sets nothing back");
        clock.set_right(now);
        assert!((now..now + hour).contains(&clock.now()));
    }

    #[test]
    fn the_machine_s_clock_does_not_run_backwards() {
        let clock = SystemClock::new();
        let mut last = clock.now();
        for _ in 0..100_000 {
            let now = clock.now();
            assert!(last <= now);
            last = now;
        }
    }
}
