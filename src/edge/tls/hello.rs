//! How much is heard of a caller while TLS is agreed on.
//!
//! What is not whole is kept until it is, and a message may have 64 KiB: as many connections as are open may each have
//! begun one. Not here: how long it may take.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes until the caller is answered. A hello has hundreds, and two thousand with keys that outlast quantum computers.
const FIRST: usize = 4 << 10;

/// Bytes after that, where the caller's certificates come.
const THEN: usize = 16 << 10;

/// A connection of which no more is read than agreeing on TLS takes, until it is agreed on.
#[derive(Debug)]
pub(in crate::edge) struct Hello<I> {
    io: I,
    heard: Heard,
}

/// How far it came, and what may still be read.
#[derive(Clone, Copy, Debug)]
enum Heard {
    First(usize),
    Then(usize),
    All,
}

impl<I> Hello<I> {
    pub(super) fn new(io: I) -> Self {
        Self { io, heard: Heard::First(FIRST) }
    }

    /// TLS is agreed on: from here on others say how much is read.
    pub(super) fn agreed(&mut self) {
        self.heard = Heard::All;
    }

    fn answered(&mut self) {
        if let Heard::First(_) = self.heard {
            self.heard = Heard::Then(THEN);
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Hello<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let (Heard::First(left) | Heard::Then(left)) = &mut this.heard else {
            return Pin::new(&mut this.io).poll_read(context, buffer);
        };
        if *left == 0 {
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "it says more than agreeing on TLS takes",
            )));
        }
        let most = (*left).min(buffer.remaining());
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(most));
        ready!(Pin::new(&mut this.io).poll_read(context, &mut part))?;
        let count = part.filled().len();
        buffer.advance(count);
        *left -= count;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Hello<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.answered();
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, empty, join, repeat};

    use super::*;

    /// Reads until it is refused, or more than is ever allowed here.
    async fn heard<I: AsyncRead + Unpin>(hello: &mut Hello<I>) -> usize {
        let (mut count, mut part) = (0, [0; 1000]);
        while count < 1 << 20 {
            match hello.read(&mut part).await {
                Ok(read) => count += read,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
                    break;
                }
            }
        }
        count
    }

    #[tokio::test]
    async fn no_more_is_heard_than_agreeing_takes_until_it_is_agreed() {
        let mut hello = Hello::new(join(repeat(1), empty()));
        assert_eq!(heard(&mut hello).await, FIRST);
        hello.write_all(b"answer").await.unwrap();
        assert_eq!(heard(&mut hello).await, THEN);
        hello.write_all(b"and more").await.unwrap();
        assert_eq!(heard(&mut hello).await, 0);
        hello.agreed();
        assert!(heard(&mut hello).await >= 1 << 20);
    }
}
