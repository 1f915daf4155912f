//! What a connection says beside its calls is read at a bounded pace.
//!
//! Pings, settings and windows cost whoever sends them nothing, and each is worked through here; HTTP/2 bounds how many
//! calls there are, and none of these. What is of use is told by whoever reads it; all else is overhead. Who says too much
//! of that is read slower, and closed only if it never stops: a caller that is merely clumsy gets its answers. Not here:
//! reading.

use std::{
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// What a call may say beside its messages: headers, the heads of its frames, windows for its answer. What is sent of it
/// and never read is overhead.
const OF_A_CALL: usize = 1 << 10;

/// What goes with each part of a message: the head of its frame, windows for its answer.
const OF_A_PART: usize = 64;

/// Bytes of a connection that were of use and are not accounted for yet; copies are the same.
#[derive(Clone, Debug, Default)]
pub struct Useful(Arc<AtomicUsize>);

/// How fast a connection may say what is of no use.
pub(super) struct Pace {
    /// Bytes a second, and at once.
    overhead: usize,
    useful: Useful,
    /// Bytes that were of no use, less those that time has made good.
    owed: usize,
    since: Instant,
    /// Since when it has owed too much without a break, and how long it may.
    slowed: Option<Instant>,
    patience: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    tell: Option<Box<dyn FnOnce() + Send>>,
}

impl Useful {
    /// A call came.
    pub fn call(&self) {
        self.add(OF_A_CALL);
    }

    /// So many bytes of a message were read, at a time.
    pub fn part(&self, bytes: usize) {
        if 0 < bytes {
            self.add(bytes.saturating_add(OF_A_PART));
        }
    }

    fn add(&self, bytes: usize) {
        // A connection and its calls are on one thread. Were they not, a few bytes would be lost.
        self.0.store(self.0.load(Ordering::Relaxed).saturating_add(bytes), Ordering::Relaxed);
    }

    fn take(&self) -> usize {
        let bytes = self.0.load(Ordering::Relaxed);
        self.0.store(0, Ordering::Relaxed);
        bytes
    }
}

impl Pace {
    /// Reads `overhead` bytes a second that are not `useful`, and calls `tell` the first time there are more. Loses its
    /// patience when there always are.
    pub(super) fn new(
        overhead: usize,
        patience: Duration,
        useful: Useful,
        tell: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (since, tell) = (Instant::now(), Some(Box::new(tell) as Box<_>));
        Self { overhead, useful, owed: 0, since, slowed: None, patience, wait: None, tell }
    }

    /// Ready when more may be read, or no more at all.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wait) = &mut self.wait else { return Poll::Ready(Ok(())) };
        ready!(wait.as_mut().poll(context));
        self.wait = None;
        // Whoever says this much and has gone has left more than would ever be read at this pace.
        if self.slowed.is_some_and(|since| self.patience <= since.elapsed()) {
            let what = format!("it went on saying too much beside its calls for {:?}", self.patience);
            return Poll::Ready(Err(io::Error::other(what)));
        }
        Poll::Ready(Ok(()))
    }

    /// So many bytes were read.
    pub(super) fn read(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_sub(self.useful.take()).saturating_add(bytes);
        if self.owed <= self.overhead {
            return;
        }
        let now = Instant::now();
        let made_good = (now - self.since).as_secs_f64() * self.overhead as f64;
        self.owed = self.owed.saturating_sub(made_good as usize);
        self.since = now;
        // What was waited for is about made good, and then as much is said again: that is no break.
        if self.owed <= self.overhead / 2 {
            self.slowed = None;
        }
        let Some(too_much @ 1..) = self.owed.checked_sub(self.overhead) else { return };
        self.slowed.get_or_insert(now);
        self.wait = Some(Box::pin(sleep(Duration::from_secs_f64(too_much as f64 / self.overhead as f64))));
        if let Some(tell) = self.tell.take() {
            tell();
        }
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pace").field("owed", &self.owed).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// How long `reads` of 100 bytes take at 1,000 bytes of overhead a second, and whether that was told.
    async fn takes(reads: usize, between: impl Fn(&Useful)) -> (Duration, bool) {
        let (useful, told) = (Useful::default(), Arc::new(AtomicUsize::new(0)));
        let mut pace = Pace::new(1_000, Duration::from_secs(20), useful.clone(), {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        let began = Instant::now();
        for _ in 0..reads {
            poll_fn(|context| pace.poll(context)).await.unwrap();
            pace.read(100);
            between(&useful);
        }
        poll_fn(|context| pace.poll(context)).await.unwrap();
        (began.elapsed(), told.load(Ordering::Relaxed) == 1)
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_no_use_is_read_at_its_pace() {
        assert_eq!(takes(10, |_| {}).await, (Duration::ZERO, false));
        // A second's worth at once, and the rest in its time; the clock of timers has milliseconds.
        let (took, told) = takes(100, |_| {}).await;
        assert!((8_900..=9_200).contains(&took.as_millis()), "{took:?}");
        assert!(told);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_of_use_is_read_at_once() {
        assert_eq!(takes(10_000, |useful| useful.part(100)).await, (Duration::ZERO, false));
        assert_eq!(takes(10_000, Useful::call).await, (Duration::ZERO, false));
    }

    #[tokio::test(start_paused = true)]
    async fn much_that_was_of_use_allows_for_no_more_of_what_is_not() {
        let useful = Useful::default();
        let mut pace = Pace::new(1_000, Duration::ZERO, useful.clone(), || {});
        useful.part(1_000_000);
        pace.read(100);
        for _ in 0..11 {
            pace.read(100);
        }
        assert!(pace.wait.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_makes_good_what_a_second_may_say() {
        let mut pace = Pace::new(1_000, Duration::ZERO, Useful::default(), || {});
        for _ in 0..100 {
            pace.read(1_000);
            assert!(pace.wait.is_none());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_stops_is_closed_and_who_pauses_is_not() {
        let second = Duration::from_secs(1);
        let closed_after = async |pause: Option<Duration>| {
            let mut pace = Pace::new(1_000, 5 * second, Useful::default(), || {});
            let began = Instant::now();
            for read in 1..1_000 {
                pace.read(100);
                if poll_fn(|context| pace.poll(context)).await.is_err() {
                    return Some(began.elapsed());
                }
                if let Some(pause) = pause.filter(|_| read % 20 == 0) {
                    tokio::time::advance(pause).await;
                }
            }
            None
        };
        let closed = closed_after(None).await.unwrap();
        assert!((5 * second..6 * second).contains(&closed), "{closed:?}");
        assert_eq!(closed_after(Some(second)).await, None);
    }
}
