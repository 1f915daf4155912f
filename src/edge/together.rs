//! What a connection answers at one time leaves in one write.
//!
//! Calls are answered where they arrive (see `at_once`), one after the other, and HTTP/2 would write each answer before it
//! looks for the next call: a system call for each costs more than the answers. Not here: what is written.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Holds back what a connection writes while it looks for calls; copies are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Cork(Arc<State>);

/// One task looks at both at a time, so that their order says enough.
#[derive(Debug, Default)]
struct State {
    closed: AtomicBool,
    /// Whether anything was held back since it was closed.
    held: AtomicBool,
    /// Whether a read since then had to wait: its turn is over, or there is nothing to be read.
    dry: AtomicBool,
}

/// What writes go to, while the cork lets them.
#[derive(Debug)]
pub(super) struct Corked<I> {
    io: I,
    cork: Cork,
}

/// A connection over something corked.
pub(super) struct Together<'a, C> {
    pub(super) connection: Pin<&'a mut C>,
    pub(super) cork: Cork,
}

impl Cork {
    pub(super) fn on<I>(&self, io: I) -> Corked<I> {
        Corked { io, cork: self.clone() }
    }

    fn close(&self) {
        self.0.held.store(false, Ordering::Relaxed);
        self.0.dry.store(false, Ordering::Relaxed);
        self.0.closed.store(true, Ordering::Relaxed);
    }

    /// Opens it, and says whether anything was held back.
    fn open(&self) -> bool {
        self.0.closed.store(false, Ordering::Relaxed);
        self.0.held.load(Ordering::Relaxed)
    }

    fn holds(&self) -> bool {
        let holds = self.0.closed.load(Ordering::Relaxed);
        if holds {
            self.0.held.store(true, Ordering::Relaxed);
        }
        holds
    }
}

impl<C: Future> Future for Together<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<C::Output> {
        self.cork.close();
        let polled = self.connection.as_mut().poll(context);
        if self.cork.open() && polled.is_pending() {
            // It waits for nothing but this.
            return self.connection.as_mut().poll(context);
        }
        polled
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Corked<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 reads on before each call that it hands over, and once more to let out what was held back: whoever has much
        // to say has had its turn. It is woken by the read that had to wait, which was of the same task.
        if self.cork.0.dry.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        self.cork.0.dry.store(read.is_pending(), Ordering::Relaxed);
        read
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Corked<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.cork.holds() { Poll::Pending } else { Pin::new(&mut self.io).poll_write(context, bytes) }
    }

    /// HTTP/2 copies small frames into one buffer, and hands each larger one over by itself, in a system call of its own.
    /// Where slices are taken, larger begins at 256 bytes, and a long answer is made of nothing else.
    fn is_write_vectored(&self) -> bool {
        false
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
    use std::{future::poll_fn, pin::pin};

    use futures_util::FutureExt as _;

    use super::*;

    /// Writes what it is given at once and notes how much at a time; has nothing to be read, and notes who looks.
    #[derive(Default)]
    struct Noted {
        written: Vec<usize>,
        looked: usize,
    }

    impl AsyncRead for Noted {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.looked += 1;
            Poll::Pending
        }
    }

    impl AsyncWrite for Noted {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.written.push(bytes.len());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn what_is_answered_one_after_the_other_is_written_once() {
        let cork = Cork::default();
        let mut io = cork.on(Noted::default());
        let (mut buffer, mut calls) = (Vec::new(), 3);
        // As HTTP/2 does it: answer, try to write, look for the next call; nothing is ever ready.
        let connection = poll_fn(|context| {
            loop {
                if let Poll::Ready(Ok(written)) = Pin::new(&mut io).poll_write(context, &buffer) {
                    buffer.drain(..written);
                }
                if calls == 0 {
                    return Poll::<()>::Pending;
                }
                calls -= 1;
                buffer.extend([0; 10]);
            }
        });
        let mut connection = pin!(connection);
        let together = Together { connection: connection.as_mut(), cork };
        assert!(together.now_or_never().is_none());
        assert_eq!(io.io.written, [30]);
    }

    #[test]
    fn whoever_had_its_turn_is_not_read_again_to_let_out_what_was_held_back() {
        let cork = Cork::default();
        let mut io = cork.on(Noted::default());
        let connection = poll_fn(|context| {
            let mut buffer = [0; 8];
            let read = Pin::new(&mut io).poll_read(context, &mut ReadBuf::new(&mut buffer));
            let written = Pin::new(&mut io).poll_write(context, &[0; 10]);
            assert!(read.is_pending());
            written.map(|_| ())
        });
        let mut connection = pin!(connection);
        for _ in 0..2 {
            let together = Together { connection: connection.as_mut(), cork: cork.clone() };
            assert!(together.now_or_never().is_some());
        }
        assert_eq!((io.io.written, io.io.looked), (vec![10, 10], 2));
    }

    /// As HTTP/2 does it: it looks for more before each call that it hands over.
    #[test]
    fn whoever_had_its_turn_is_not_read_before_each_call_that_waits() {
        let cork = Cork::default();
        let mut io = cork.on(Noted::default());
        let connection = poll_fn(|context| {
            for _ in 0..3 {
                assert!(Pin::new(&mut io).poll_read(context, &mut ReadBuf::new(&mut [0; 8])).is_pending());
            }
            Poll::<()>::Pending
        });
        let mut connection = pin!(connection);
        let together = Together { connection: connection.as_mut(), cork };
        assert!(together.now_or_never().is_none());
        assert_eq!(io.io.looked, 1);
    }

    #[test]
    fn where_nothing_was_held_back_it_is_polled_once() {
        let mut polls = 0;
        let connection = poll_fn(|_| {
            polls += 1;
            Poll::<()>::Pending
        });
        let mut connection = pin!(connection);
        let together = Together { connection: connection.as_mut(), cork: Cork::default() };
        assert!(together.now_or_never().is_none());
        assert_eq!(polls, 1);
    }
}
