//! The end of a sidecar: open streams end with OK, whoever watches health hears it first.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use bytes::Bytes;
use esa_sidecar::proto::{
    enforcement as api,
    health::{HealthCheckRequest, health_check_response::ServingStatus},
};
use futures_util::future::join_all;
use h2::client::SendRequest;
use prost::Message as _;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    sidecar::{ID, ScriptedSource, Sidecar, healthy, question},
    wire::{authorize_call, connect, framed, read_all},
};

#[tokio::test]
async fn a_sidecar_stops_with_watches_and_streams_open() {
    let mut sidecar = Sidecar::start(ScriptedSource::telling(vec![healthy(ID)])).await.ready().await;
    let mut health = sidecar.health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let mut watch = sidecar.watch(ID).await;
    watch.message().await.unwrap().unwrap();
    // A stream whose caller never ends it.
    let (asking, questions) = tokio::sync::mpsc::channel(1);
    let mut answers =
        sidecar.client.stream_authorize(ReceiverStream::new(questions)).await.unwrap().into_inner();
    let asked = api::StreamAuthorizeRequest { question: Some(question(api::Operation::EnableUsers)) };
    asking.send(asked).await.unwrap();
    answers.message().await.unwrap().unwrap();

    sidecar.stop.cancel();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(health.message().await.unwrap().is_none());
    assert!(watch.message().await.unwrap().is_none());
    assert!(answers.message().await.unwrap().is_none());
    drop(asking);
    sidecar.ended.await.unwrap().unwrap();
}

/// How often a sidecar is stopped under load; `tests/run --long` does it a thousand times.
fn drains() -> u32 {
    std::env::var("ESA_SIDECAR_DRAINS").map_or(20, |drains| drains.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_that_was_taken_goes_without_its_answer_when_a_sidecar_stops_under_load() {
    let (mut answered, mut never_taken) = (0, 0);
    for drain in 0..drains() {
        let source = ScriptedSource::telling(vec![healthy(ID)]);
        let mut sidecar = Sidecar::start_with(source, None, "[limits]\nhold = '2ms'").await.ready().await;
        let mut watch = sidecar.watch(ID).await;
        watch.message().await.unwrap().unwrap();
        let mut callers = JoinSet::new();
        let asked = Arc::new(AtomicU32::new(0));
        for _ in 0..4 {
            let (client, asked) = (connect(&sidecar.address).await, Arc::clone(&asked));
            callers.spawn(async move {
                let calls = (0..8).map(|_| ask_until_it_goes(client.clone(), &asked));
                join_all(calls)
                    .await
                    .into_iter()
                    .fold((0, 0), |sum, asked| (sum.0 + asked.0, sum.1 + asked.1))
            });
        }
        // It stops at another moment each time.
        let enough = (drain * 37) % 400;
        while asked.load(Ordering::Relaxed) < enough {
            tokio::task::yield_now().await;
        }
        sidecar.stop.cancel();
        while let Some(asked) = callers.join_next().await {
            let (of_caller, refused) = asked.unwrap();
            answered += of_caller;
            never_taken += refused;
        }
        while watch.message().await.unwrap().is_some() {}
        sidecar.ended.await.unwrap().unwrap();
    }
    println!("{answered} calls answered, {never_taken} never taken");
    assert!(drains() * 32 <= answered);
}

/// Asks again and again until the other end takes no more calls: how many were answered, how many never taken. A call
/// that was taken and has no answer is a failure.
async fn ask_until_it_goes(client: SendRequest<Bytes>, count: &AtomicU32) -> (u32, u32) {
    let asked = question(api::Operation::EnableUsers);
    let mut answered = 0;
    loop {
        let Ok(mut client) = client.clone().ready().await else { return (answered, 0) };
        let Ok((response, mut sender)) = client.send_request(authorize_call(), false) else {
            return (answered, 0);
        };
        let sent = sender.send_data(framed(&asked.encode_to_vec()).into(), true);
        match response.await {
            Ok(response) => {
                let (_, trailers) = read_all(response.into_body()).await;
                assert_eq!(trailers.unwrap()["grpc-status"], "0");
                answered += 1;
                count.fetch_add(1, Ordering::Relaxed);
            }
            // Its number is beyond the last that GOAWAY names, so it may be sent elsewhere.
            Err(error) if error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR) => {
                return (answered, 1);
            }
            Err(error) => panic!("a call was taken and not answered: {error:?}, sent {sent:?}"),
        }
    }
}
