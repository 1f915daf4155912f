//! How much a caller may ask: its quota, whatever form its questions have.

use std::time::Duration;

use esa_sidecar::proto::enforcement::{
    self as api, Operation, stream_authorize_response::Result as Streamed,
};
use tonic::Code;

use crate::{
    callers::{Guarded, TABLE},
    certificates::Authority,
    sidecar::question,
    wire::call_of,
};

const NAME: &str = "untrusted.example.org";

/// A caller that may ask three questions at once, and one in a second from then on.
async fn limited() -> (Authority, Guarded) {
    let authority = Authority::new();
    let table = format!("{TABLE}questions_per_second = 1\nburst = 3\n");
    let sidecar = Guarded::over_tls(&authority, &table).await;
    (authority, sidecar)
}

fn asked() -> api::AuthorizeRequest {
    api::AuthorizeRequest { subscription_id: "ZZZ-ZZZ-ZZZ".to_owned(), ..question(Operation::EnableUsers) }
}

#[tokio::test]
async fn a_caller_over_its_quota_is_told_when_to_ask_again_and_others_are_not_touched() {
    let (authority, sidecar) = limited().await;
    let mut limited = sidecar.client(&authority, NAME).await;
    let batch = |count| api::BatchAuthorizeRequest { questions: vec![asked(); count] };
    // More than may be asked at once is never answered, and costs nothing.
    let too_many = limited.batch_authorize(batch(4)).await.unwrap_err();
    assert_eq!(too_many.code(), Code::ResourceExhausted);
    assert!(too_many.message().contains("several calls"), "{too_many}");
    limited.batch_authorize(batch(2)).await.unwrap();
    limited.authorize(asked()).await.unwrap();
    let over = limited.authorize(asked()).await.unwrap_err();
    assert_eq!(over.code(), Code::ResourceExhausted);
    let details = tonic_types::StatusExt::get_error_details(&over);
    assert_eq!(details.error_info().unwrap().reason, "OVER_QUOTA");
    assert!(details.retry_info().unwrap().retry_delay.unwrap() <= Duration::from_secs(1));
    let mut other = sidecar.client(&authority, "spiffe://example.org/authentication").await;
    for _ in 0..100 {
        other.authorize(question(Operation::EnableUsers)).await.unwrap();
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn messages_of_a_stream_count_whether_they_ask_anything_or_not() {
    let (authority, sidecar) = limited().await;
    let mut limited = sidecar.client(&authority, NAME).await;
    let nothing = vec![api::StreamAuthorizeRequest { question: None }; 10];
    let mut answers = limited.stream_authorize(tokio_stream::iter(nothing)).await.unwrap().into_inner();
    let mut codes = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.result.unwrap() {
            Streamed::Response(answer) => panic!("{answer:?}"),
            Streamed::Error(error) => codes.push(error.code),
        }
    }
    let (unreadable, over) = (i32::from(Code::InvalidArgument), i32::from(Code::ResourceExhausted));
    assert_eq!(codes[..3], [unreadable; 3]);
    assert!(codes[3..].contains(&over), "{codes:?}");
    sidecar.stop().await;
}

#[tokio::test]
async fn every_call_costs_as_much_as_a_question_at_least() {
    const REFLECTION: &str = "http://localhost/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    for call in ["table", "empty batch", "empty stream", "reflection"] {
        let (authority, sidecar) = limited().await;
        let mut limited = sidecar.client(&authority, NAME).await;
        let mut raw = sidecar.http2(&authority, NAME).await;
        let mut refused = Vec::new();
        for _ in 0..6 {
            let done = match call {
                "table" => limited.get_restriction_table(api::GetRestrictionTableRequest {}).await.map(drop),
                "empty batch" => limited
                    .batch_authorize(api::BatchAuthorizeRequest { questions: Vec::new() })
                    .await
                    .map(drop),
                "empty stream" => limited.stream_authorize(tokio_stream::empty()).await.map(drop),
                _ => {
                    raw = raw.ready().await.unwrap();
                    let (response, _sender) = raw.send_request(call_of(REFLECTION), true).unwrap();
                    let told = response.await.unwrap();
                    tonic::Status::from_header_map(told.headers())
                        .filter(|status| status.code() != Code::Ok)
                        .map_or(Ok(()), Err)
                }
            };
            refused.extend(done.err());
        }
        // Three at once, and one in a second: six in less than three.
        assert!(!refused.is_empty(), "{call}");
        for status in refused {
            let details = tonic_types::StatusExt::get_error_details(&status);
            assert_eq!(details.error_info().unwrap().reason, "OVER_QUOTA", "{call}: {status}");
        }
        sidecar.stop().await;
    }
}
