//! What a connection says beside its calls is read at a bounded pace.
//!
//! Pings, settings and windows (RFC 9113) cost whoever sends them nothing, and each is worked through here; HTTP/2 bounds
//! how many calls there are, how long their headers are and what is sent of their messages, and none of these. Who says too
//! much of that is read slower, and closed only if it never stops: a caller that is merely clumsy gets its answers. Not
//! here: reading.

use std::{
    fmt,
    future::Future as _,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// What a call, and each part of a message, may bring with it: windows and pings for what is answered, the heads of frames.
const WITH_A_CALL: usize = 256;
const WITH_A_PART: usize = 64;

/// Bytes before what is in a frame: its length, its kind, its flags, its stream (RFC 9113, 4.1).
const HEAD: usize = 9;

/// How fast a connection may say what is not of its calls.
pub(super) struct Pace {
    /// Bytes a second, and at once.
    overhead: usize,
    frames: Frames,
    /// Bytes that were too many, less those that calls and time have made good.
    owed: usize,
    since: Instant,
    /// Since when it has owed too much without a break, and how long it may.
    slowed: Option<Instant>,
    patience: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    tell: Option<Box<dyn FnOnce() + Send>>,
}

/// Where one frame ends and the next begins.
#[derive(Debug, Default)]
struct Frames {
    /// What has come of the head of the next one.
    head: [u8; HEAD],
    has: usize,
    /// What is to come of the last one.
    rest: usize,
}

impl Pace {
    /// Reads `overhead` bytes a second beside calls, and calls `tell` the first time there are more. Loses its `patience`
    /// when there always are.
    pub(super) fn new(overhead: usize, patience: Duration, tell: impl FnOnce() + Send + 'static) -> Self {
        let (since, tell) = (Instant::now(), Some(Box::new(tell) as Box<_>));
        let frames = Frames::default();
        Self { overhead, frames, owed: 0, since, slowed: None, patience, wait: None, tell }
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

    /// These bytes were read.
    pub(super) fn read(&mut self, bytes: &[u8]) {
        self.owed = self.frames.owed_with(bytes, self.owed);
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

impl Frames {
    /// What is owed after these bytes, and `owed` before.
    fn owed_with(&mut self, mut bytes: &[u8], mut owed: usize) -> usize {
        loop {
            let rest = bytes.len().min(self.rest);
            self.rest -= rest;
            bytes = bytes.get(rest..).unwrap_or_default();
            if bytes.is_empty() {
                return owed;
            }
            let Some(head) = self.head(&mut bytes) else { return owed };
            let (length, said, with_it) = Self::what_is_said(head);
            self.rest = length;
            owed = (owed + HEAD + said).saturating_sub(with_it);
        }
    }

    /// Takes the head of the next frame off `bytes`, once all of it has come.
    fn head(&mut self, bytes: &mut &[u8]) -> Option<[u8; HEAD]> {
        if self.has == 0
            && let Some((head, after)) = bytes.split_first_chunk()
        {
            *bytes = after;
            return Some(*head);
        }
        let (part, after) = bytes.split_at(bytes.len().min(HEAD - self.has));
        self.head.iter_mut().skip(self.has).zip(part).for_each(|(to, byte)| *to = *byte);
        self.has = (self.has + part.len()) % HEAD;
        *bytes = after;
        (self.has == 0).then_some(self.head)
    }

    /// How long a frame is, how much of that is beside calls, and how much may come with it.
    fn what_is_said([a, b, c, kind, flags, ..]: [u8; HEAD]) -> (usize, usize, usize) {
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const CONTINUATION: u8 = 9;
        const PADDED: u8 = 8;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
        match kind {
            // Padding is read by nobody, and so by no bound.
            DATA if flags & PADDED != 0 => (length, length, 0),
            DATA => (length, 0, if length == 0 { 0 } else { WITH_A_PART }),
            HEADERS => (length, 0, WITH_A_CALL),
            CONTINUATION => (length, 0, 0),
            _ => (length, length, 0),
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

    #[test]
    fn only_what_is_not_of_a_call_is_owed_however_it_arrives() {
        let (data, headers, continuation) = (frame(0, 1000), frame(1, 700), frame(9, 300));
        let (ping, window_update) = (frame(6, 8), frame(8, 4));
        let mut padded = frame(0, 200);
        padded[4] = 9;
        let rows = [
            (ping.clone(), 17),
            ([frame(2, 5), frame(3, 4), frame(4, 6), window_update.clone()].concat(), 14 + 13 + 15 + 13),
            (frame(77, 1 << 16), 9 + (1 << 16)),
            (continuation, 9),
            (frame(0, 0), 9),
            (padded, 209),
            ([&headers[..], &data].concat(), 0),
            // What comes with a call is made good by it, and before it allows for nothing.
            ([ping.repeat(100), headers, data.clone()].concat(), 1700 + 2 * 9 - 256 - 64),
            ([data, ping, window_update].concat(), 17 + 13),
        ];
        for (said, expected) in rows {
            for at_a_time in [1, 2, 7, 9, 10, 1 << 20] {
                let mut frames = Frames::default();
                let owed = said.chunks(at_a_time).fold(0, |owed, bytes| frames.owed_with(bytes, owed));
                assert_eq!(owed, expected, "{at_a_time} bytes at a time");
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_owed_does_not_depend_on_where_what_is_said_is_cut(
            said in prop::collection::vec(0_u8..12, 0..300), cuts in prop::collection::vec(1_usize..20, 1..50)
        ) {
            let (mut whole, mut cut) = (Frames::default(), Frames::default());
            let (mut rest, mut owed) = (&said[..], 0);
            for length in cuts.into_iter().cycle().take_while(|_| !said.is_empty()) {
                let (part, after) = rest.split_at(length.min(rest.len()));
                owed = cut.owed_with(part, owed);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(owed, whole.owed_with(&said, 0));
        }
    }

    /// How long it takes to read `pings` pings at 1,700 bytes a second, and whether that was told.
    async fn takes(pings: usize) -> (Duration, bool) {
        let told = Arc::new(AtomicUsize::new(0));
        let mut pace = Pace::new(1_700, 20 * SECOND, {
            let told = Arc::clone(&told);
            move || {
                told.fetch_add(1, Ordering::Relaxed);
            }
        });
        let began = Instant::now();
        for _ in 0..pings {
            poll_fn(|context| pace.poll(context)).await.unwrap();
            pace.read(&frame(6, 8));
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
        let mut pace = Pace::new(1_700, Duration::ZERO, || {});
        for _ in 0..100 {
            (0..100).for_each(|_| pace.read(&frame(6, 8)));
            assert!(pace.wait.is_none());
            tokio::time::advance(SECOND).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_never_stops_is_closed_and_who_pauses_is_not() {
        let closed_after = async |pause: Option<Duration>| {
            let mut pace = Pace::new(1_700, 5 * SECOND, || {});
            let began = Instant::now();
            for read in 1..1_000 {
                pace.read(&frame(6, 8));
                if poll_fn(|context| pace.poll(context)).await.is_err() {
                    return Some(began.elapsed());
                }
                if let Some(pause) = pause.filter(|_| read % 150 == 0) {
                    tokio::time::advance(pause).await;
                }
            }
            None
        };
        let closed = closed_after(None).await.unwrap();
        assert!((5 * SECOND..6 * SECOND).contains(&closed), "{closed:?}");
        assert_eq!(closed_after(Some(SECOND)).await, None);
    }
}
