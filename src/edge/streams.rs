//! The streams of an HTTP/2 connection as they are on the wire: open from the head of a call until the last of its answer
//! is written.
//!
//! What answers a call hands its answer over to HTTP/2 and is done, and its place is free; when the answer leaves is up to
//! the other end. One that takes a byte at a time (`SETTINGS_INITIAL_WINDOW_SIZE`), or reads nothing, would have answers
//! wait that nobody counts. Not here: where frames begin (see `overhead`).

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep_until};

use super::{activity::Activity, frames::Frame};

/// The calls of a connection that are open, by how many handles there are of it.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenCalls(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    activity: Activity,
    /// Those of them that are known to wait for something else than their caller.
    working: AtomicUsize,
    held: HeldBytes,
}

/// How many bytes are held for the calls of a connection.
#[derive(Clone, Debug, Default)]
pub struct HeldBytes(Arc<AtomicUsize>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct OpenCall {
    calls: OpenCalls,
    is_working: bool,
}

/// The streams that are open on a connection.
#[derive(Debug)]
pub(super) struct Streams {
    /// By number, in any order: there are few at a time, and each costs every call.
    open: Vec<u32>,
    newest: u32,
    calls: OpenCalls,
    /// Since when more answers wait to be sent than may.
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Handles that are no calls: that of the connection's place and its streams'.
const HANDLES: usize = 2;

/// Answers of one connection that may wait to be sent for longer than `PATIENCE`: less than the connection itself takes.
const MOST_UNSENT: usize = 16;

/// How long more of them may wait.
const PATIENCE: Duration = Duration::from_secs(5);

impl OpenCalls {
    /// One more.
    pub(super) fn open(&self) -> OpenCall {
        self.0.activity.call();
        OpenCall { calls: self.clone(), is_working: false }
    }

    /// How many there are that were answered, and whose answers their caller does not take.
    pub(super) fn stalled(&self) -> usize {
        self.count().saturating_sub(self.0.working.load(Ordering::Relaxed))
    }

    /// How many bytes are held for them.
    pub(super) fn held(&self) -> usize {
        self.0.held.0.load(Ordering::Relaxed)
    }

    /// What was asked on the connection.
    pub(super) fn activity(&self) -> &Activity {
        &self.0.activity
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        Arc::strong_count(&self.0).saturating_sub(HANDLES)
    }
}

impl OpenCall {
    /// It waits for something else than its caller, until it is answered.
    pub fn works(&mut self) {
        if !self.is_working {
            self.is_working = true;
            self.calls.0.working.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// From now on it waits for its caller to take the answer.
    pub fn answered(&mut self) {
        if self.is_working {
            self.is_working = false;
            self.calls.0.working.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Its connection, as long as it is open.
    #[must_use]
    pub fn connection(&self) -> usize {
        Arc::as_ptr(&self.calls.0).addr()
    }

    /// How many bytes are held for all of its connection.
    #[must_use]
    pub fn held(&self) -> HeldBytes {
        self.calls.0.held.clone()
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.answered();
    }
}

impl HeldBytes {
    /// So many more are held, and so many less.
    pub fn change(&self, more: usize, less: usize) {
        self.0.fetch_add(more, Ordering::Relaxed);
        self.0.fetch_sub(less, Ordering::Relaxed);
    }
}

impl Streams {
    /// None yet, of a connection with these calls.
    pub(super) fn of(calls: OpenCalls) -> Self {
        Self { open: Vec::new(), newest: 0, calls, waiting_since: None, timer: None }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.open.len()
    }

    /// How many calls are read of it in one turn.
    pub(super) fn calls_in_a_turn(&self) -> usize {
        self.calls.activity().calls_in_a_turn()
    }

    /// Whether nothing more is read before answers have left: what is refused has no place, and whoever asks on and reads
    /// nothing would have as many refusals wait as it likes.
    pub(super) fn waits_to_be_sent(&self) -> bool {
        self.calls.activity().is_refused() && self.has_too_many_unsent()
    }

    /// This was read.
    pub(super) fn read(&mut self, frame: Frame) {
        if frame.resets_stream() {
            self.close(frame.stream());
        } else if frame.is_of_headers() {
            let stream = frame.stream();
            // Trailers begin no stream.
            if self.newest < stream {
                self.newest = stream;
                self.open.push(stream);
            }
        }
    }

    /// This was written, and ends its stream.
    pub(super) fn end(&mut self, frame: Frame) {
        self.close(frame.stream());
        if self.waiting_since.is_some() && !self.has_too_many_unsent() {
            self.waiting_since = None;
        }
    }

    fn close(&mut self, stream: u32) {
        if self.open.last() == Some(&stream) {
            self.open.pop();
        } else if let Some(position) = self.open.iter().position(|open| *open == stream) {
            self.open.swap_remove(position);
        }
    }

    fn has_too_many_unsent(&self) -> bool {
        MOST_UNSENT < self.open.len() && self.calls.count() + MOST_UNSENT < self.open.len()
    }

    /// An error once too many answers wait for too long; until then the task of `context` is woken when it is time to look.
    pub(super) fn poll_unsent(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if !self.has_too_many_unsent() {
            self.waiting_since = None;
            return Ok(());
        }
        let until = *self.waiting_since.get_or_insert_with(Instant::now) + PATIENCE;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        if timer.as_mut().poll(context).is_pending() {
            return Ok(());
        }
        let unsent = self.open.len() - self.calls.count();
        Err(io::Error::other(format!("{unsent} answers were not taken within {PATIENCE:?}")))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    /// HEADERS, DATA and RST_STREAM, by kind.
    fn frame(kind: u8, flags: u8, stream: u32) -> Frame {
        Frame::of(kind, flags, stream)
    }

    fn is_too_late(streams: &mut Streams) -> bool {
        streams.poll_unsent(&mut Context::from_waker(Waker::noop())).is_err()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_with_answers_that_do_not_leave_ends_and_one_with_open_calls_does_not() {
        let connection = OpenCalls::default();
        let mut streams = Streams::of(connection.clone());
        (0..100).for_each(|number| streams.read(frame(1, 5, 2 * number + 1)));
        let open = [(); 100].map(|()| connection.open());
        for _ in 0..3 {
            assert!(!is_too_late(&mut streams));
            tokio::time::advance(PATIENCE).await;
        }
        // They are answered, and nothing leaves but a head and a part.
        drop(open);
        assert!(![frame(1, 4, 1), frame(0, 0, 1)].into_iter().any(Frame::ends_stream));
        assert!(!is_too_late(&mut streams));
        tokio::time::advance(PATIENCE - Duration::from_millis(1)).await;
        assert!(!is_too_late(&mut streams));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(is_too_late(&mut streams));
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_leave_in_time_or_are_not_wanted_any_more_are_no_reason() {
        let connection = OpenCalls::default();
        let mut streams = Streams::of(connection.clone());
        for number in 0..1_000 {
            for stream in (0..50).map(|one| 2 * (50 * number + one) + 1) {
                streams.read(frame(1, 5, stream));
            }
            assert!(!is_too_late(&mut streams), "{number}");
            for stream in (0..50).map(|one| 2 * (50 * number + one) + 1) {
                // The last words of an answer, a reset of ours, one of theirs; trailers of theirs begin nothing.
                match stream % 3 {
                    0 => streams.end(frame(1, 5, stream)),
                    1 => streams.end(frame(3, 0, stream)),
                    _ => streams.read(frame(3, 0, stream)),
                }
                streams.read(frame(1, 5, stream));
            }
            tokio::time::advance(PATIENCE).await;
            assert!(streams.open.is_empty());
        }
    }
}
