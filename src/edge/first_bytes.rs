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
    first: Bytes,
    /// What is left of the turn may be read.
    io: Take<I>,
    /// Bytes read of a connection before the others of its thread have their turn. What serves a connection reads on for
    /// as long as there is something to read: pings without end would be all that a thread ever hears.
    turn: u64,
    /// How fast frames of HTTP/2 are read.
    pace: Option<Pace>,
}

impl<I: AsyncRead + Unpin> Begun<I> {
    /// Reads until it is sure which protocol is spoken; from then on, `turn` bytes at a time, at this pace.
    pub(super) async fn read(mut io: I, turn: usize, mut pace: Pace) -> io::Result<Self> {
        let mut first = Vec::with_capacity(256);
        while first.len() < ENOUGH && is_beginning_of(&first, PREFACE) {
            if io.read_buf(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let turn = u64::try_from(turn).unwrap_or(u64::MAX);
        let pace = first.strip_prefix(PREFACE).map(|frames| {
            pace.read(frames);
            pace
        });
        Ok(Self { first: first.into(), io: io.take(turn), turn, pace })
    }

    /// Whether it is HTTP/2.
    pub(super) fn is_http2(&self) -> bool {
        self.first.starts_with(PREFACE)
    }
}

impl<I: AsyncRead + Unpin> Begun<I> {
    fn poll_turn(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.io.limit() == 0 {
            self.io.set_limit(self.turn);
            // It goes on once it was looked who else has something to say; merely woken, it would come first.
            let yielded = pin!(tokio::task::yield_now()).poll(context);
            debug_assert!(yielded.is_pending(), "a turn that does not end");
            return Poll::Pending;
        }
        if let Some(pace) = &mut self.pace {
            ready!(pace.poll(context))?;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        if read.is_pending() {
            self.io.set_limit(self.turn);
            if let Some(pace) = &mut self.pace {
                pace.poll_unsent(context)?;
            }
        } else if let (Some(pace), Some(read)) = (&mut self.pace, buffer.filled().get(before..)) {
            pace.read(read);
        }
        read
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
        if self.first.is_empty() {
            return self.poll_turn(context, buffer);
        }
        let count = self.first.len().min(buffer.remaining());
        buffer.put_slice(self.first.get(..count).unwrap_or_default());
        self.first.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Begun<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(self.io.get_mut()).poll_write(context, bytes))?;
        if let (Some(pace), Some(written)) = (&mut self.pace, bytes.get(..written)) {
            pace.wrote(written);
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
        let mut first = vec![0; begun.first.len()];
        begun.read_exact(&mut first).await.unwrap();
        let mut read = [0; 8];
        assert!(begun.read(&mut read).now_or_never().is_some_and(|read| read.unwrap() == 4));
        assert!(begun.read(&mut read).now_or_never().is_none());
        assert!(begun.read(&mut read).now_or_never().is_some());
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
