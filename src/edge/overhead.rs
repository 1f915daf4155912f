//! What a connection says beside its calls is read at a bounded pace.
//!
//! Pings, settings and windows (RFC 9113) cost whoever sends them nothing, and each is worked through here; HTTP/2 bounds
//! how many calls there are and how much is ahead in them, and none of these. A caller says some of it for each answer that
//! it takes; who says much more is read slower, and its connection is closed only if it never stops: one that is merely
//! clumsy gets its answers. Not here: reading and writing, and answers that wait to be sent (see `streams`).

use std::{
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

use super::{
    frames::{Frames, HEAD},
    streams::{OpenCalls, Streams},
};

/// What may be said for each frame of an answer, of which a small answer has three: windows and a ping, and the heads of
/// the frames that asked for it. gRPC's clients say 20 to 60 bytes for an answer.
const FOR_AN_ANSWER: usize = 64;

/// How long nothing has to be waited for until it counts as a break.
const BREAK: Duration = Duration::from_millis(500);

/// How fast a connection may say what is not of its calls.
pub(super) struct Pace {
    /// Bytes a second, and at once.
    overhead: usize,
    said: Frames,
    answered: Frames,
    streams: Streams,
    /// Bytes that were said beside calls, less those that answers and time have made good.
    owed: usize,
    since: Instant,
    slowed: Option<Slowed>,
    patience: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    tell: Option<Box<dyn FnOnce() + Send>>,
}

/// Time in which more was said than was read, with no more than a break at a time in between.
#[derive(Clone, Copy, Debug)]
struct Slowed {
    from: Instant,
    to: Instant,
}

impl Pace {
    /// Reads `overhead` bytes a second beside calls, and calls `tell` the first time there are more. Loses its `patience`
    /// when there always are.
    pub(super) fn new(
        overhead: usize,
        patience: Duration,
        calls: OpenCalls,
        tell: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self {
            overhead,
            said: Frames::default(),
            answered: Frames::default(),
            streams: Streams::of(calls),
            owed: 0,
            since: Instant::now(),
            slowed: None,
            patience,
            wait: None,
            tell: Some(Box::new(tell)),
        }
    }

    /// Ready when more may be read, or no more at all.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wait) = &mut self.wait else { return Poll::Ready(Ok(())) };
        ready!(wait.as_mut().poll(context));
        self.wait = None;
        // Without an end to it, one that said much and has gone would be read, and open, for minutes.
        if self.slowed.is_some_and(|slowed| self.patience <= slowed.from.elapsed()) {
            let what = format!("it went on saying too much beside its calls for {:?}", self.patience);
            return Poll::Ready(Err(io::Error::other(what)));
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is there to be read: an error once too many answers wait for too long to be sent.
    pub(super) fn poll_unsent(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        self.streams.poll_unsent(context)
    }

    /// These bytes were written.
    pub(super) fn wrote(&mut self, mut bytes: &[u8]) {
        while let Some(frame) = self.answered.next(&mut bytes) {
            if frame.ends_stream() {
                self.streams.end(frame);
            }
            if frame.is_of_an_answer() {
                self.owed = self.owed.saturating_sub(FOR_AN_ANSWER);
            }
        }
    }

    /// How many calls are read in one turn.
    pub(super) fn calls_in_a_turn(&self) -> usize {
        self.streams.calls_in_a_turn()
    }

    /// Whether answers have to leave before more is read.
    pub(super) fn waits_to_be_sent(&self) -> bool {
        self.streams.waits_to_be_sent()
    }

    /// As much of these bytes is read as has no more than so many `calls`; returns how much, and what is left of `calls`
    /// stays in it.
    pub(super) fn read(&mut self, bytes: &[u8], calls: &mut usize) -> usize {
        let mut rest = bytes;
        while 0 < *calls
            && let Some(frame) = self.said.next(&mut rest)
        {
            if !frame.is_of_data() {
                *calls -= usize::from(frame.is_of_headers());
                self.streams.read(frame);
                // Settings are worked through for each stream.
                if frame.is_of_all_streams() {
                    self.owed = self.owed.saturating_add(HEAD * self.streams.count());
                }
            }
            self.owed = self.owed.saturating_add(HEAD + frame.overhead());
        }
        if self.overhead < self.owed {
            self.make_good();
        }
        bytes.len() - rest.len()
    }

    fn make_good(&mut self) {
        let now = Instant::now();
        let made_good = (now - self.since).as_secs_f64() * self.overhead as f64;
        self.owed = self.owed.saturating_sub(made_good as usize);
        self.since = now;
        let Some(too_much @ 1..) = self.owed.checked_sub(self.overhead) else { return };
        self.slow_down(now, Duration::from_secs_f64(too_much as f64 / self.overhead as f64));
    }

    fn slow_down(&mut self, now: Instant, wait: Duration) {
        let goes_on = self.slowed.filter(|slowed| now < slowed.to + BREAK);
        let from = goes_on.map_or(now, |slowed| slowed.from);
        let wait = wait.min((from + self.patience).saturating_duration_since(now));
        self.slowed = Some(Slowed { from, to: now + wait });
        self.wait = Some(Box::pin(sleep(wait)));
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
    use std::{
        future::poll_fn,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [.., a, b, c] = length.to_be_bytes();
        [vec![a, b, c, kind, 0, 0, 0, 0, 1], vec![kind; length]].concat()
    }

    fn read(pace: &mut Pace, said: &[u8]) {
        assert_eq!(pace.read(said, &mut usize::MAX.clone()), said.len());
    }

    fn pace(overhead: usize, patience: Duration) -> Pace {
        Pace::new(overhead, patience, OpenCalls::default(), || {})
    }

    fn owed(said: &[u8], at_a_time: usize) -> usize {
        let mut pace = pace(1 << 30, SECOND);
        said.chunks(at_a_time).for_each(|bytes| read(&mut pace, bytes));
        pace.owed
    }

    #[test]
    fn what_is_not_of_a_call_and_the_heads_of_all_frames_are_owed_however_they_arrive() {
        let mut padded = frame(0, 200);
        padded[4] = 9;
        let mut message_that_is_padded = frame(0, 10_000);
        message_that_is_padded[4] = 8;
        let rows = [
            (frame(6, 8), 17),
            ([frame(2, 5), frame(3, 4), frame(4, 6), frame(8, 4)].concat(), 14 + 13 + 15 + 13),
            (frame(77, 1 << 16), 9 + (1 << 16)),
            ([frame(1, 700), frame(9, 300), frame(0, 1000), frame(0, 0)].concat(), 4 * 9),
            (padded, 9 + 200),
            (message_that_is_padded, 9 + 256),
        ];
        for (said, expected) in rows {
            for at_a_time in [1, 2, 7, 9, 10, 1 << 20] {
                assert_eq!(owed(&said, at_a_time), expected, "{at_a_time} bytes at a time");
            }
        }
    }

    #[test]
    fn answers_make_good_what_was_said_before_and_allow_for_nothing_after() {
        let mut pace = pace(1 << 30, SECOND);
        let answer = [frame(1, 20), frame(0, 50), frame(1, 15)].concat();
        pace.wrote(&answer);
        read(&mut pace, &frame(6, 8).repeat(100));
        assert_eq!(pace.owed, 1700);
        answer.chunks(4).for_each(|bytes| pace.wrote(bytes));
        assert_eq!(pace.owed, 1700 - 3 * 64);
        // Our own pings, settings and windows are no answers.
        [6, 4, 8, 7].into_iter().for_each(|kind| pace.wrote(&frame(kind, 8)));
        pace.wrote(&frame(0, 0));
        assert_eq!(pace.owed, 1700 - 3 * 64);
    }

    proptest! {
        #[test]
        fn what_is_owed_does_not_depend_on_where_what_is_said_is_cut(
            said in prop::collection::vec(0_u8..12, 0..300), cuts in prop::collection::vec(1_usize..20, 1..50)
        ) {
            let (mut pace, mut rest) = (pace(1 << 30, SECOND), &said[..]);
            for length in cuts.into_iter().cycle() {
                let (part, after) = rest.split_at(length.min(rest.len()));
                read(&mut pace, part);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(pace.owed, owed(&said, 1 << 20));
        }
    }

    /// How long it takes to read `pings` pings at 1,700 bytes a second, and whether that was told.
    async fn takes(pings: usize) -> (Duration, bool) {
        let told = Arc::new(AtomicUsize::new(0));
        let mut pace = Pace::new(1_700, 20 * SECOND, OpenCalls::default(), {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        let began = Instant::now();
        for _ in 0..pings {
            poll_fn(|context| pace.poll(context)).await.unwrap();
            read(&mut pace, &frame(6, 8));
        }
        poll_fn(|context| pace.poll(context)).await.unwrap();
        (began.elapsed(), told.load(Ordering::Relaxed) == 1)
    }

    #[tokio::test(start_paused = true)]
    async fn pings_are_read_at_their_pace() {
        assert_eq!(takes(100).await, (Duration::ZERO, false));
        // A second's worth at once, and the rest in its time; the clock of timers has milliseconds.
        let (took, told) = takes(1_000).await;
        assert!((8_900..=10_100).contains(&took.as_millis()), "{took:?}");
        assert!(told);
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_makes_good_what_a_second_may_say() {
        let mut pace = pace(1_700, Duration::ZERO);
        for _ in 0..100 {
            read(&mut pace, &frame(6, 8).repeat(100));
            assert!(pace.wait.is_none());
            tokio::time::advance(SECOND).await;
        }
    }

    /// After how long it is closed that says 17 bytes at a time at 1,700 a second, with this pause after each `count`.
    async fn closed_after(count: usize, pause: Duration) -> Option<Duration> {
        let mut pace = pace(1_700, 5 * SECOND);
        let began = Instant::now();
        for times in 1..2_000 {
            read(&mut pace, &frame(6, 8));
            if poll_fn(|context| pace.poll(context)).await.is_err() {
                return Some(began.elapsed());
            }
            if times % count == 0 {
                sleep(pause).await;
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_stops_is_closed_when_patience_is_over() {
        let closed = closed_after(2_000, Duration::ZERO).await.unwrap();
        assert!((5 * SECOND..5 * SECOND + SECOND / 10).contains(&closed), "{closed:?}");
        // However much it says at a time.
        let mut pace = pace(1_700, 5 * SECOND);
        read(&mut pace, &frame(6, 8).repeat(100_000));
        let began = Instant::now();
        assert!(poll_fn(|context| pace.poll(context)).await.is_err());
        assert_eq!(began.elapsed(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_waited_for_now_and_then_is_not_closed() {
        assert_eq!(closed_after(300, SECOND).await, None);
        // Too much at first, then 94 of 100 for longer than patience lasts, then too much again.
        let mut pace = pace(1_700, 5 * SECOND);
        for (pings, every) in [(200, 0), (600, 10_640), (150, 0)] {
            for _ in 0..pings {
                read(&mut pace, &frame(6, 8));
                poll_fn(|context| pace.poll(context)).await.unwrap();
                sleep(Duration::from_micros(every)).await;
            }
        }
    }
}
