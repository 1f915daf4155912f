//! A client that sees frames, for what gRPC clients keep from their users.

use bytes::Bytes;
use h2::client::SendRequest;
use hyper::Request;
use tokio::net::TcpStream;

/// Where `Authorize` is.
pub(crate) const AUTHORIZE: &str = "http://localhost/esa.enforcement.v1.EnforcementService/Authorize";

/// A connection of its own.
pub(crate) async fn connect(address: &str) -> SendRequest<Bytes> {
    let io = TcpStream::connect(address).await.unwrap();
    let (client, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The head of a call of `Authorize`.
pub(crate) fn authorize_call() -> Request<()> {
    call_of(AUTHORIZE)
}

/// The head of a call.
pub(crate) fn call_of(url: &str) -> Request<()> {
    Request::post(url).header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap()
}

/// A message as it is sent.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}
