//! Calls open at a time: what is too much is refused, health never, and places are free again however calls end.

use std::time::Duration;

use bytes::Bytes;
use esa_sidecar::proto::{
    enforcement::{self as api, Operation},
    health::HealthCheckRequest,
};
use h2::{SendStream, client::ResponseFuture, client::SendRequest};
use prost::Message as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    sidecar::{ID, ScriptedSource, Sidecar, healthy, question},
    wire::{authorize_call, connect, framed},
};

async fn sidecar(calls: usize) -> Sidecar {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    Sidecar::start_with(source, None, &format!("limits.calls = {calls}")).await.ready().await
}

/// A question that is not whole yet, on its way to the sidecar.
type Unfinished = (ResponseFuture, SendStream<Bytes>);

async fn begin(client: &SendRequest<Bytes>) -> Unfinished {
    client.clone().ready().await.unwrap().send_request(authorize_call(), false).unwrap()
}

/// Returns once the sidecar has heard all that was sent before on this connection.
async fn heard(client: &SendRequest<Bytes>) {
    let question = framed(&question(Operation::EnableUsers).encode_to_vec());
    let (response, mut sender) = begin(client).await;
    // It may be refused before it is whole.
    let _ = sender.send_data(question.into(), true);
    response.await.unwrap();
}

async fn refused(sidecar: &mut Sidecar) -> bool {
    match sidecar.authorize(question(Operation::EnableUsers)).await {
        Ok(_) => false,
        Err(status) => {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            let told = status.get_error_details();
            let told = told.error_info().unwrap();
            assert_eq!((told.reason.as_str(), told.domain.as_str()), ("TOO_MANY_CALLS", "esa-sidecar"));
            true
        }
    }
}

/// The sidecar hears in its own time that somebody has gone.
async fn until_taken(sidecar: &mut Sidecar) {
    let taken = async {
        while refused(sidecar).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
}

#[tokio::test]
async fn beyond_as_many_calls_as_may_be_open_all_are_refused_but_health() {
    let mut sidecar = sidecar(2).await;
    let client = connect(&sidecar.address).await;
    let mut watch = sidecar.watch(ID).await;
    watch.message().await.unwrap().unwrap();
    // One place is left, whichever call asks for it.
    assert!(!refused(&mut sidecar).await);
    let first = begin(&client).await;
    heard(&client).await;
    assert!(refused(&mut sidecar).await);
    let request = api::GetSubscriptionRequest { subscription_id: ID.to_owned() };
    let status = sidecar.client.get_subscription(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    sidecar.health.check(HealthCheckRequest::default()).await.unwrap();
    let mut statuses = sidecar.health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    statuses.message().await.unwrap().unwrap();
    drop((watch, first));
    until_taken(&mut sidecar).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_call_was_answered() {
    let mut sidecar = sidecar(1).await;
    let client = connect(&sidecar.address).await;
    for _ in 0..3 {
        let (response, mut sender) = begin(&client).await;
        heard(&client).await;
        assert!(refused(&mut sidecar).await);
        let whole = framed(&question(Operation::EnableUsers).encode_to_vec());
        sender.send_data(whole.into(), true).unwrap();
        let mut answer = response.await.unwrap().into_body();
        while let Some(data) = answer.data().await {
            answer.flow_control().release_capacity(data.unwrap().len()).unwrap();
        }
        assert_eq!(answer.trailers().await.unwrap().unwrap()["grpc-status"], "0");
        until_taken(&mut sidecar).await;
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_caller_gives_up() {
    let mut sidecar = sidecar(1).await;
    let client = connect(&sidecar.address).await;
    let (_response, mut sender) = begin(&client).await;
    heard(&client).await;
    assert!(refused(&mut sidecar).await);
    sender.send_reset(h2::Reason::CANCEL);
    until_taken(&mut sidecar).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_is_lost() {
    let mut sidecar = sidecar(1).await;
    let (client, connection) =
        h2::client::handshake(tokio::net::TcpStream::connect(&sidecar.address).await.unwrap()).await.unwrap();
    let lost = tokio::spawn(connection);
    let _unfinished = begin(&client).await;
    heard(&client).await;
    assert!(refused(&mut sidecar).await);
    lost.abort();
    until_taken(&mut sidecar).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_call_keeps_its_place_until_its_answer_could_be_sent() {
    let mut sidecar = sidecar(1).await;
    let io = tokio::net::TcpStream::connect(&sidecar.address).await.unwrap();
    // Nothing may be sent to it in any call.
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(io).await.unwrap();
    tokio::spawn(connection);
    let (response, mut sender) = begin(&client).await;
    sender.send_data(framed(&question(Operation::EnableUsers).encode_to_vec()).into(), true).unwrap();
    // The head of the answer is not held back.
    let answer = response.await.unwrap();
    assert!(refused(&mut sidecar).await);
    drop((answer, sender));
    until_taken(&mut sidecar).await;
    sidecar.stop().await;
}
