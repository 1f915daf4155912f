//! A client that sees frames, for what gRPC clients keep from their users.

use bytes::Bytes;
use esa_sidecar::proto::enforcement::Operation;
use h2::{RecvStream, client::SendRequest};
use hyper::{HeaderMap, Request};
use prost::Message as _;
use tokio::net::TcpStream;

use crate::sidecar::question;

/// Where `Authorize` is.
pub(crate) const AUTHORIZE: &str = "http://localhost/esa.enforcement.v1.EnforcementService/Authorize";

/// Where `BatchAuthorize` is.
pub(crate) const BATCH: &str = "http://localhost/esa.enforcement.v1.EnforcementService/BatchAuthorize";

/// Where `StreamAuthorize` is.
pub(crate) const STREAM: &str = "http://localhost/esa.enforcement.v1.EnforcementService/StreamAuthorize";

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

/// Reads an answer to its end: its body and its trailers.
pub(crate) async fn read_all(mut answer: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut body = Vec::new();
    while let Some(data) = answer.data().await {
        let data = data.unwrap();
        answer.flow_control().release_capacity(data.len()).unwrap();
        body.extend_from_slice(&data);
    }
    (body, answer.trailers().await.unwrap())
}

/// A message as it is sent.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&[0][..], &u32::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// HTTP/2 by hand: a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The head and body of one question, its header fields written out in full.
pub(crate) fn asked(stream: u32) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
        [vec![0], text(name), text(value)].concat()
    };
    let head = [
        field(":method", "POST"),
        field(":scheme", "https"),
        field(":authority", "sidecar.test"),
        field(":path", "/esa.enforcement.v1.EnforcementService/Authorize"),
        field("content-type", "application/grpc"),
    ];
    let body = framed(&question(Operation::EnableUsers).encode_to_vec());
    [frame(1, 4, stream, &head.concat()), frame(0, 1, stream, &body)].concat()
}
