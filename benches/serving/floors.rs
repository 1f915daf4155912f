//! Servers that do nothing: what the transport alone costs.

use std::{
    convert::Infallible,
    io::Read as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use esa_sidecar::proto::enforcement::enforcement_service_server::EnforcementServiceServer;
use http_body::{Body, Frame};
use hyper::{HeaderMap, Response, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    runtime::{Builder, Runtime},
};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Server, server::TcpIncoming};

use crate::empty::Empty;

/// What is measured beside the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Floor {
    /// An empty service on tonic's server and tokio's default runtime.
    TonicDefault,
    /// The same on one thread.
    TonicOneThread,
    /// hyper on one thread, which sends one frame back without reading.
    Hyper,
}

/// Is the floor until nobody holds the other end of standard input.
pub(crate) fn serve(floor: Floor, listen: &str) {
    let one_thread = || Builder::new_current_thread().enable_all().build().unwrap();
    let runtime = match floor {
        Floor::TonicDefault => Runtime::new().unwrap(),
        Floor::TonicOneThread | Floor::Hyper => one_thread(),
    };
    std::thread::spawn(|| {
        std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
        std::process::exit(0);
    });
    match listen.strip_prefix("unix:") {
        Some(path) => {
            let _ = std::fs::remove_file(path);
            runtime.block_on(on_unix(floor, path));
        }
        None => runtime.block_on(on_tcp(floor, listen)),
    }
}

async fn on_tcp(floor: Floor, listen: &str) {
    let listener = TcpListener::bind(listen).await.unwrap();
    println!("listening on {}", listener.local_addr().unwrap());
    if floor == Floor::Hyper {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            io.set_nodelay(true).unwrap();
            tokio::spawn(bare(io));
        }
    }
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = EnforcementServiceServer::new(Empty);
    Server::builder().add_service(service).serve_with_incoming(connections).await.unwrap();
}

async fn on_unix(floor: Floor, path: &str) {
    let listener = UnixListener::bind(path).unwrap();
    println!("listening on unix:{path}");
    if floor == Floor::Hyper {
        loop {
            tokio::spawn(bare(listener.accept().await.unwrap().0));
        }
    }
    let connections = UnixListenerStream::new(listener);
    let service = EnforcementServiceServer::new(Empty);
    Server::builder().add_service(service).serve_with_incoming(connections).await.unwrap();
}

async fn bare(io: impl AsyncRead + AsyncWrite + Unpin + 'static) {
    let answer = service_fn(|_: hyper::Request<Incoming>| async {
        let mut response = Response::new(OneFrame::Message);
        response.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
        Ok::<_, Infallible>(response)
    });
    let connection = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(io), answer);
    // Whoever asked has gone.
    let _ = connection.await;
}

enum OneFrame {
    Message,
    Trailers,
    Ended,
}

impl Body for OneFrame {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        let (frame, next) = match this {
            Self::Message => (Frame::data(Bytes::from_static(b"\0\0\0\0\x02\x08\x01")), Self::Trailers),
            Self::Trailers => {
                let mut trailers = HeaderMap::with_capacity(1);
                trailers.insert("grpc-status", "0".parse().unwrap());
                (Frame::trailers(trailers), Self::Ended)
            }
            Self::Ended => return Poll::Ready(None),
        };
        *this = next;
        Poll::Ready(Some(Ok(frame)))
    }
}
