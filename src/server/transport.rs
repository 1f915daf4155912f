//! HTTP/2 on a listener, with every bound set.
//!
//! Not here: which services are on it.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, wrappers::UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::Routes,
    transport::{
        Error, Server,
        server::{Connected, TcpIncoming},
    },
};

use crate::{config, edge::listener::Listener};

/// HTTP/2 with every bound set: what is left unset is no limit at all.
pub(super) fn server(limits: &config::Limits) -> Server {
    Server::builder()
        .max_concurrent_streams(limits.concurrent_streams)
        .http2_max_header_list_size(limits.header_list_bytes)
        .http2_max_pending_accept_reset_streams(Some(20))
        .http2_max_local_error_reset_streams(Some(1024))
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
}

pub(super) async fn serve(
    server: Server,
    routes: Routes,
    listener: Listener,
    stop: CancellationToken,
) -> Result<(), Error> {
    match listener {
        // Without it an answer waits for the acknowledgement of the one before: 40 ms on a quiet connection.
        Listener::Tcp(tcp) => {
            serve_on(server, routes, TcpIncoming::from(tcp).with_nodelay(Some(true)), stop).await
        }
        Listener::Unix(unix, _) => serve_on(server, routes, UnixListenerStream::new(unix), stop).await,
    }
}

async fn serve_on<C>(
    mut server: Server,
    routes: Routes,
    connections: impl Stream<Item = io::Result<C>>,
    stop: CancellationToken,
) -> Result<(), Error>
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    server.add_routes(routes).serve_with_incoming_shutdown(connections, stop.cancelled_owned()).await
}
