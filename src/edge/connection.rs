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

/// How many percent sooner or later connections grow old, so that those that began together do not end together.
const AGES_APART: u32 = 10;

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
    end: impl Future<Output = Duration>,
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
    end: impl Future<Output = Duration>,
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
    end: impl Future<Output = Duration>,
) -> Result<(), BoxError> {
    let mut connection = pin!(connection);
    let mut old = pin!(sleep(jittered(bounds.connection_age, AGES_APART)));
    let mut asked_to_end = pin!(end);
    let mut cut_off = pin!(peer.is_cut_off());
    let mut is_open = true;
    loop {
        let left = tokio::select! {
            biased;
            ended = connection.as_mut() => return ended.map_err(BoxError::from),
            () = cut_off.as_mut() => return Err("an answer was not read in time".into()),
            left = asked_to_end.as_mut(), if is_open => left,
            () = old.as_mut() => {
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
