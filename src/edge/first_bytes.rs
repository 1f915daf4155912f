//! The first bytes of a connection, read before anything is set up for it.
//!
//! A connection that says nothing, or a byte now and then, costs a socket and a timer until its deadline and no more.
//! Not here: what is done with them.

use std::{
    future::Future as _,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

use super::overhead::Pace;

/// What every HTTP/2 client says first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The preface and the head of the settings that follow it.
const ENOUGH: usize = PREFACE.len() + 9;

/// A connection whose first bytes were read, and are read again by whoever serves it, a turn at a time.
#[derive(Debug)]
pub(super) struct Begun<I> {
    /// What is left to be told of the preface, which was read.
    preface: &'static [u8],
    /// What was read after it, and is for another turn.
    waiting: Bytes,
    /// What is left of the turn may be read.
    io: Take<I>,
    /// How many calls of HTTP/2 are left of it: answering them takes longer than reading them.
    calls: usize,
    /// Whether nothing is read before answers have left.
    is_held: bool,
    /// Bytes read of a connection before the others of its thread have their turn. What serves a connection reads on for
    /// as long as there is something to read: pings without end would be all that a thread ever hears.
    turn: u64,
    /// How fast frames of HTTP/2 are read.
    pace: Option<Pace>,
}

impl<I: AsyncRead + Unpin> Begun<I> {
    /// Reads until it is sure which protocol is spoken; from then on, `turn` bytes at a time, at this pace.
    pub(super) async fn read(mut io: I, turn: usize, pace: Pace) -> io::Result<Self> {
        let mut first = Vec::with_capacity(256);
        while first.len() < ENOUGH && is_beginning_of(&first, PREFACE) {
            if io.read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let turn = u64::try_from(turn).unwrap_or(u64::MAX);
        let mut waiting = Bytes::from(first);
        let is_http2 = waiting.starts_with(PREFACE);
        if is_http2 {
            waiting.advance(PREFACE.len());
        }
        let preface = if is_http2 { PREFACE } else { &[] };
        let (calls, pace) = (pace.calls_in_a_turn(), is_http2.then_some(pace));
        Ok(Self { preface, waiting, io: io.take(turn), calls, is_held: false, turn, pace })
    }

    /// Whether it is HTTP/2.
    pub(super) const fn is_http2(&self) -> bool {
        self.pace.is_some()
    }
}

impl<I: AsyncRead + Unpin> Begun<I> {
    fn poll_turn(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.io.limit() == 0 || self.calls == 0 {
            self.begin_turn();
            // It goes on once it was looked who else has something to say; merely woken, it would come first.
            let yielded = pin!(tokio::task::yield_now()).poll(context);
            debug_assert!(yielded.is_pending(), "a turn that does not end");
            return Poll::Pending;
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll(context))?;
            self.is_held = pace.waits_to_be_sent();
            if self.is_held {
                pace.poll_unsent(context)?;
                return Poll::Pending;
            }
        }
        if !self.waiting.is_empty() {
            self.read_waiting(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_pending() {
            self.begin_turn();
            if let Some(pace) = &mut self.pace {
                pace.poll_unsent(context)?;
            }
        } else if let (Some(pace), Some(read)) = (&mut self.pace, buffer.filled().get(before..)) {
            let count = pace.read(read, &mut self.calls);
            if let Some(rest @ [_, ..]) = read.get(count..) {
                self.waiting = Bytes::copy_from_slice(rest);
                buffer.set_filled(before + count);
            }
        }
        read
    }

    fn read_waiting(&mut self, buffer: &mut ReadBuf<'_>) {
        let mut count = self.waiting.len().min(buffer.remaining());
        let read = self.waiting.get(..count).unwrap_or_default();
        if let Some(pace) = &mut self.pace {
            count = pace.read(read, &mut self.calls);
        }
        buffer.put_slice(&self.waiting.split_to(count));
    }

    fn begin_turn(&mut self) {
        self.io.set_limit(self.turn);
        self.calls = self.pace.as_ref().map_or(1, Pace::calls_in_a_turn);
    }
}

/// Whether `bytes` may go on to be `whole`, or already begin with it.
fn is_beginning_of(bytes: &[u8], whole: &[u8]) -> bool {
    bytes.iter().zip(whole).all(|(one, other)| one == other)
}

impl<I: AsyncRead + Unpin> AsyncRead for Begun<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.preface.is_empty() {
            return self.poll_turn(context, buffer);
        }
        let (part, rest) = self.preface.split_at(self.preface.len().min(buffer.remaining()));
        buffer.put_slice(part);
        self.preface = rest;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { io, pace, is_held, .. } = self.get_mut();
        let written = ready!(Pin::new(io.get_mut()).poll_write(context, bytes))?;
        if let (Some(pace), Some(written)) = (pace, bytes.get(..written)) {
            pace.wrote(written);
            if *is_held && !pace.waits_to_be_sent() {
                *is_held = false;
                context.waker().wake_by_ref();
            }
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io.get_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;
    use crate::edge::streams::OpenCalls;

    fn pace() -> Pace {
        Pace::new(1 << 20, Duration::from_secs(1), OpenCalls::default(), || {})
    }

    async fn begun(bytes: &[u8]) -> Begun<&[u8]> {
        Begun::read(bytes, 4, pace()).await.unwrap()
    }

    #[tokio::test]
    async fn whoever_serves_it_reads_every_byte() {
        let said = [PREFACE, &[0; 9], b"and more"].concat();
        let mut begun = begun(&said).await;
        assert!(begun.is_http2());
        let mut read = Vec::new();
        begun.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, said);
    }

    #[tokio::test]
    async fn whoever_has_much_to_say_lets_others_speak_after_each_turn() {
        let said = [PREFACE, &[0; 9], &[1; 300]].concat();
        let mut begun = begun(&said).await;
        let mut first = vec![0; PREFACE.len() + begun.waiting.len()];
        begun.read_exact(&mut first).await.unwrap();
        let mut read = [0; 8];
        assert!(begun.read(&mut read).now_or_never().is_some_and(|read| read.unwrap() == 4));
        assert!(begun.read(&mut read).now_or_never().is_none());
        assert!(begun.read(&mut read).now_or_never().is_some());
    }

    /// How many calls are read in each turn of a connection that makes a hundred at once.
    async fn turns(calls: OpenCalls) -> Vec<usize> {
        // A head of one byte each.
        let heads = (0..100).flat_map(|call| [0, 0, 1, 1, 4, 0, 0, 0, 2 * call + 1, 0x88]);
        let said: Vec<u8> = PREFACE.iter().copied().chain(heads).collect();
        let pace = Pace::new(1 << 20, Duration::from_secs(1), calls, || {});
        let mut begun = Begun::read(&said[..], 1 << 16, pace).await.unwrap();
        begun.read_exact(&mut [0; PREFACE.len()]).await.unwrap();
        let (mut turns, mut all) = (vec![0], Vec::new());
        loop {
            let before = all.len();
            match begun.read_buf(&mut all).now_or_never().map(io::Result::unwrap) {
                Some(0) => break,
                // The head of a frame comes before its turn, and no more of it.
                Some(_) => *turns.last_mut().unwrap() += (all.len() - before) / 10,
                None => turns.push(0),
            }
        }
        assert_eq!(all, said[PREFACE.len()..]);
        turns
    }

    #[tokio::test]
    async fn a_turn_has_a_few_dozen_calls_and_few_of_whom_nobody_knows() {
        let known = OpenCalls::default();
        known.activity().known();
        let (known, stranger) = (turns(known).await, turns(OpenCalls::default()).await);
        assert!(known.iter().all(|calls| *calls <= 32) && known.len() <= 5, "{known:?}");
        assert!(stranger.iter().all(|calls| *calls <= 4) && stranger.len() <= 30, "{stranger:?}");
    }

    #[tokio::test]
    async fn whoever_is_refused_and_reads_no_answer_is_not_read_on_until_it_does() {
        let calls = OpenCalls::default();
        let pace = Pace::new(1 << 20, Duration::from_secs(1), calls.clone(), || {});
        let (mut client, server) = tokio::io::duplex(1 << 16);
        client.write_all(PREFACE).await.unwrap();
        for call in 0..100 {
            client.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 2 * call + 1, 0x88]).await.unwrap();
        }
        let mut begun = Begun::read(server, 1 << 16, pace).await.unwrap();
        calls.activity().refused();
        let mut all = Vec::new();
        for _ in 0..100 {
            begun.read_buf(&mut all).now_or_never();
        }
        let read = all.len();
        assert!((160..220).contains(&(read - PREFACE.len())), "{read}");
        for call in 0..10 {
            begun.write_all(&[0, 0, 1, 1, 5, 0, 0, 0, 2 * call + 1, 0x88]).await.unwrap();
        }
        begun.read_buf(&mut all).await.unwrap();
        assert!(read < all.len());
    }

    #[tokio::test]
    async fn another_protocol_is_known_by_its_first_byte() {
        assert!(!begun(b"GET /livez HTTP/1.1\r\n").await.is_http2());
        assert!(!begun(b"PRINT").await.is_http2());
    }

    #[tokio::test]
    async fn a_connection_that_ends_before_it_began_is_an_error() {
        assert!(Begun::read(PREFACE, 4, pace()).await.is_err());
        assert!(Begun::read(&b""[..], 4, pace()).await.is_err());
    }
}
