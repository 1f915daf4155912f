//! How much a caller may ask: its quota, whatever form its questions have.

use std::time::Duration;

use bytes::Bytes;
use esa_sidecar::proto::enforcement::{
    self as api, Operation, stream_authorize_response::Result as Streamed,
};
use prost::Message as _;
use tonic::{Code, Status};

use crate::{
    callers::{Guarded, TABLE},
    certificates::Authority,
    sidecar::question,
    wire::{AUTHORIZE, BATCH, call_of, framed, read_all},
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
    // More than may be asked at once is never answered, and costs as much as one.
    let too_many = limited.batch_authorize(batch(4)).await.unwrap_err();
    assert_eq!(too_many.code(), Code::ResourceExhausted);
    assert!(too_many.message().contains("several calls"), "{too_many}");
    limited.batch_authorize(batch(1)).await.unwrap();
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

/// Sends what a client would not, and says how it is refused, if it is.
async fn sent(client: &mut h2::client::SendRequest<Bytes>, url: &str, message: Bytes) -> Result<(), Status> {
    let mut ready = client.clone().ready().await.unwrap();
    let (response, mut sender) = ready.send_request(call_of(url), false).unwrap();
    sender.send_data(message, true).unwrap();
    let (head, body) = response.await.unwrap().into_parts();
    let trailers = read_all(body).await.1.unwrap_or(head.headers);
    match Status::from_header_map(&trailers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        Some(_) | None => Ok(()),
    }
}

/// Three at once, and one in a second: six in less than three are not all answered, whatever they are.
#[tokio::test]
async fn every_call_costs_as_much_as_a_question_at_least() {
    const REFLECTION: &str = "http://localhost/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    const SERVICE: &str = "http://localhost/esa.enforcement.v1.EnforcementService";
    let table = format!("{SERVICE}/GetRestrictionTable");
    let (get, usage) = (format!("{SERVICE}/GetSubscription"), format!("{SERVICE}/ReportUsage"));
    let empty = || Bytes::from(framed(&[]));
    let garbage = || Bytes::from(framed(&[0xff; 8]));
    let too_many = api::BatchAuthorizeRequest { questions: vec![api::AuthorizeRequest::default(); 1_001] };
    let bad_id = api::GetSubscriptionRequest { subscription_id: "no ID".to_owned() };
    for (call, url, message) in [
        ("table", table.as_str(), empty()),
        ("empty batch", BATCH, empty()),
        ("empty stream", &format!("{SERVICE}/StreamAuthorize"), Bytes::new()),
        ("reflection", REFLECTION, Bytes::new()),
        ("a question that does not read", AUTHORIZE, garbage()),
        ("a batch that does not read", BATCH, garbage()),
        ("a batch of too many", BATCH, framed(&too_many.encode_to_vec()).into()),
        ("a report that does not read", &usage, garbage()),
        ("an ID that is none", &get, framed(&bad_id.encode_to_vec()).into()),
        ("a call there is not", &format!("{SERVICE}/Nothing"), empty()),
    ] {
        let (authority, sidecar) = limited().await;
        let mut client = sidecar.http2(&authority, NAME).await;
        let mut over = 0;
        for _ in 0..6 {
            let Err(status) = sent(&mut client, url, message.clone()).await else { continue };
            let details = tonic_types::StatusExt::get_error_details(&status);
            over += u32::from(details.error_info().is_some_and(|info| info.reason == "OVER_QUOTA"));
        }
        assert!(0 < over, "{call}");
        drop(client);
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn each_message_of_reflection_costs_as_much_as_a_question() {
    let (authority, sidecar) = limited().await;
    let mut client = sidecar.http2(&authority, NAME).await;
    // `list_services`, as often as fits into one stream.
    let asked = framed(&[0x3a, 0]).repeat(6);
    let url = "http://localhost/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let refused = sent(&mut client, url, asked.into()).await.unwrap_err();
    let details = tonic_types::StatusExt::get_error_details(&refused);
    assert_eq!(details.error_info().unwrap().reason, "OVER_QUOTA", "{refused}");
    drop(client);
    sidecar.stop().await;
}
