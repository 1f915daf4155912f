//! One connection, from its first words to its end.
//!
//! It ends when the other end goes, when it grows old, or when the process stops; in the last two cases it says so first
//! (GOAWAY), its streams end with a last word, and its open calls get their answers. Not here: which calls there are.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    time::Duration,
};

use http_body::Body;
use hyper::{
    Request, Response,
    body::Incoming,
    server::conn::{http1, http2},
    service::Service,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    time::{Instant, sleep},
};

use super::{
    at_once::AtOnce,
    bounds::Bounds,
    first_bytes::Begun,
    peer::Peer,
    together::{Cork, Together},
};
use crate::backoff::jittered;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long a connection stays that is asked to end because the process stops, which has a deadline of its own.
pub(super) const UNTIL_THE_PROCESS_ENDS: Duration = Duration::from_hours(24);

/// Why a connection ended that was idle.
pub(super) const MADE_ROOM: &str = "it made room for another connection";

/// How many percent sooner or later connections grow old, so that those that began together do not end together.
const AGES_APART: u32 = 10;

/// What ends a connection before it grows old; each says how long its open calls have then.
pub(super) struct End<A, M> {
    /// It is to end.
    pub(super) asked: A,
    /// Its place is another's already.
    pub(super) makes_room: M,
}

/// A connection that can be asked to take no more calls.
trait Connection: Future<Output = hyper::Result<()>> {
    fn say_goodbye(self: Pin<&mut Self>);
}

impl<I, S, B> Connection for Together<'_, http2::Connection<I, S, AtOnce>>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Future: Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    fn say_goodbye(mut self: Pin<&mut Self>) {
        self.connection.as_mut().graceful_shutdown();
    }
}

impl<I, S, B> Connection for http1::Connection<I, S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    B: Body + 'static,
    B::Error: Into<BoxError>,
{
    fn say_goodbye(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

/// Serves HTTP/2 with every bound set: what is left unset is no limit at all.
pub(super) async fn serve_http2<I, S, B>(
    io: Begun<I>,
    calls: S,
    bounds: &Bounds,
    peer: &Peer,
    end: End<impl Future<Output = Duration>, impl Future<Output = Duration>>,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send + Unpin + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let mut builder = http2::Builder::new(AtOnce);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(bounds.concurrent_streams)
        .max_header_list_size(bounds.header_list_bytes)
        // What is sent ahead in small frames is counted against the connection, which h2 ends when it is too much.
        .initial_stream_window_size(bounds.stream_window_bytes)
        .max_pending_accept_reset_streams(bounds.pending_resets)
        .max_local_error_reset_streams(bounds.malformed_calls)
        .max_send_buf_size(bounds.send_buffer_bytes)
        .keep_alive_interval(bounds.keepalive_interval)
        .keep_alive_timeout(bounds.keepalive_timeout)
        // A question has no use for the date, and it is an allocation in each answer.
        .auto_date_header(false);
    let cork = Cork::default();
    let connection = pin!(builder.serve_connection(TokioIo::new(cork.on(io)), calls));
    until_it_ends(Together { connection, cork }, bounds, peer, end).await
}

/// Serves HTTP/1.1.
pub(super) async fn serve_http1<I, S, B>(
    io: Begun<I>,
    calls: S,
    bounds: &Bounds,
    peer: &Peer,
    end: End<impl Future<Output = Duration>, impl Future<Output = Duration>>,
) -> Result<(), BoxError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Error: Into<BoxError>,
    B: Body + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(bounds.handshake).max_buf_size(16 << 10);
    until_it_ends(builder.serve_connection(TokioIo::new(io), calls), bounds, peer, end).await
}

/// Tells whoever speaks something else what is spoken here.
pub(super) async fn say_grpc<I: AsyncRead + AsyncWrite + Unpin>(mut io: Begun<I>) -> io::Result<()> {
    const SAID: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\n\
        content-type: text/plain\r\ncontent-length: 70\r\n\r\n\
        gRPC is spoken here, over HTTP/2; probes over HTTP have their own port";
    io.write_all(SAID).await?;
    io.shutdown().await
}

async fn until_it_ends(
    connection: impl Connection,
    bounds: &Bounds,
    peer: &Peer,
    end: End<impl Future<Output = Duration>, impl Future<Output = Duration>>,
) -> Result<(), BoxError> {
    let mut connection = pin!(connection);
    let mut old = pin!(sleep(jittered(bounds.connection_age, AGES_APART)));
    let (mut asked_to_end, mut makes_room) = (pin!(end.asked), pin!(end.makes_room));
    let mut cut_off = pin!(peer.is_cut_off());
    let (mut is_open, mut has_room) = (true, true);
    loop {
        let left = tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(BoxError::from),
            () = cut_off.as_mut() => {
                return Err("an answer was not read in time, or it asked on what it is refused".into());
            }
            left = makes_room.as_mut(), if has_room => {
                has_room = false;
                left
            }
            left = asked_to_end.as_mut(), if is_open && has_room => left,
            () = old.as_mut() => {
                if !has_room {
                    return Err(MADE_ROOM.into());
                }
                if !is_open {
                    return Err(format!("calls were still open {:?} after it was to end", bounds.connection_grace).into());
                }
                bounds.connection_grace
            }
        };
        is_open = false;
        peer.streams_end().cancel();
        connection.as_mut().say_goodbye();
        old.as_mut().reset(Instant::now() + left);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{pending, ready},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use hyper::service::service_fn;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::edge::{gate::Gate, overhead::Pace, peer::Origin};

    const CALLS: usize = 200;

    fn bounds() -> Bounds {
        let hour = Duration::from_hours(1);
        Bounds {
            connections: 1,
            connections_per_peer: 1,
            handshake: hour,
            connection_age: hour,
            connection_grace: hour,
            concurrent_streams: 1_000,
            stream_window_bytes: 1 << 10,
            header_list_bytes: 1 << 10,
            pending_resets: 1,
            malformed_calls: 1,
            turn_bytes: 1 << 12,
            overhead_bytes: 1 << 20,
            overhead_patience: hour,
            send_buffer_bytes: 1 << 10,
            keepalive_interval: hour,
            keepalive_timeout: hour,
        }
    }

    /// The most calls that begin before others have their turn, of a connection that makes `CALLS` at once.
    async fn most_calls_in_a_turn(is_known: bool) -> usize {
        let place = Arc::new(Gate::new(1, 1)).enter(Origin::User(0)).unwrap();
        if is_known {
            place.seat().known();
        }
        let token = CancellationToken::new;
        let peer = Peer::new(Origin::User(0), None, token(), token(), Arc::clone(place.seat()));
        let (mut client, server) = tokio::io::duplex(1 << 20);
        // A POST to / each, in 15 bytes.
        let heads = (0..CALLS).flat_map(|call| {
            let [.., a, b] = (2 * call + 1).to_be_bytes();
            [0, 0, 6, 1, 5, 0, 0, a, b, 0x83, 0x87, 0x84, 0x41, 1, b'x']
        });
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let said = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &heads.collect::<Vec<u8>>()].concat();
        client.write_all(&said).await.unwrap();
        let bounds = bounds();
        let pace = Pace::new(bounds.overhead_bytes, bounds.overhead_patience, peer.calls().clone(), || {});
        let begun = Begun::read(server, bounds.turn_bytes, pace).await.unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let calls = {
            let count = Arc::clone(&count);
            service_fn(move |_: Request<Incoming>| {
                count.fetch_add(1, Ordering::Relaxed);
                ready(Ok::<_, Infallible>(Response::new(String::new())))
            })
        };
        let end = End { asked: pending(), makes_room: pending() };
        let mut serving = pin!(serve_http2(begun, calls, &bounds, &peer, end));
        let (mut most, mut before) = (0, 0);
        for _ in 0..CALLS {
            assert!(futures_util::poll!(serving.as_mut()).is_pending());
            let now = count.load(Ordering::Relaxed);
            (most, before) = (most.max(now - before), now);
            tokio::task::yield_now().await;
        }
        assert_eq!(before, CALLS, "all are answered");
        most
    }

    #[tokio::test]
    async fn others_have_their_turn_after_a_few_dozen_calls_and_after_a_few_of_whom_nobody_knows() {
        assert_eq!(most_calls_in_a_turn(true).await, 32);
        assert_eq!(most_calls_in_a_turn(false).await, 4);
    }
}
