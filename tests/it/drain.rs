//! The end of a sidecar: open streams end with OK, whoever watches health hears it first.

use esa_sidecar::proto::{
    enforcement as api,
    health::{HealthCheckRequest, health_check_response::ServingStatus},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::sidecar::{ID, ScriptedSource, Sidecar, healthy, question};

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
