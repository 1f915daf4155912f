//! Calls open at a time and bytes held for them: what is too much is refused, health is not, and places are free again
//! however calls end.

use std::time::Duration;

use bytes::Bytes;
use esa_sidecar::proto::{
    enforcement::{self as api, Operation, enforcement_service_client::EnforcementServiceClient},
    health::HealthCheckRequest,
};
use h2::{RecvStream, SendStream, client::ResponseFuture, client::SendRequest};
use hyper::Response;
use prost::Message as _;
use rcgen::SanType;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    callers::Guarded,
    certificates::Authority,
    sidecar::{ID, ScriptedSource, Sidecar, healthy, question},
    wire::{AUTHORIZE, BATCH, STREAM, call_of, connect, framed, read_all},
};

const GET: &str = "http://localhost/esa.enforcement.v1.EnforcementService/GetSubscription";
const CHECK: &str = "http://localhost/grpc.health.v1.Health/Check";

async fn sidecar(calls: usize) -> Sidecar {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let limits = format!("[limits]\ncalls = {calls}\ncaller_percent = 100");
    Sidecar::start_with(source, None, &limits).await.ready().await
}

/// A call that is not whole yet, on its way to the sidecar.
type Unfinished = (ResponseFuture, SendStream<Bytes>);

async fn begin_call(client: &SendRequest<Bytes>, url: &str) -> Unfinished {
    client.clone().ready().await.unwrap().send_request(call_of(url), false).unwrap()
}

/// A question.
async fn begin(client: &SendRequest<Bytes>) -> Unfinished {
    begin_call(client, AUTHORIZE).await
}

/// A stream of questions, which has its place for as long as it is open.
async fn open(client: &SendRequest<Bytes>) -> Unfinished {
    begin_call(client, STREAM).await
}

/// A question on a stream.
fn streamed() -> Bytes {
    let asked = api::StreamAuthorizeRequest { question: Some(question(Operation::EnableUsers)) };
    framed(&asked.encode_to_vec()).into()
}

/// A connection on which nothing may be sent to it in any call.
async fn connect_taking_nothing(
    sidecar: &Sidecar,
) -> (SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let io = tokio::net::TcpStream::connect(&sidecar.address).await.unwrap();
    let (client, connection) =
        h2::client::Builder::new().initial_window_size(0).handshake::<_, Bytes>(io).await.unwrap();
    (client, tokio::spawn(connection))
}

/// Asks a question; the head of the answer is not held back.
async fn ask_without_reading(client: &SendRequest<Bytes>) -> (Response<RecvStream>, SendStream<Bytes>) {
    let (response, mut sender) = begin(client).await;
    sender.send_data(framed(&question(Operation::EnableUsers).encode_to_vec()).into(), true).unwrap();
    (response.await.unwrap(), sender)
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
    let asked = sidecar.authorize(question(Operation::EnableUsers)).await;
    asked.is_err_and(|status| is_refusal(&status, "TOO_MANY_CALLS"))
}

async fn stream_is_answered(sidecar: &mut Sidecar) {
    let asked = api::StreamAuthorizeRequest { question: Some(question(Operation::EnableUsers)) };
    let answers = sidecar.client.stream_authorize(tokio_stream::once(asked)).await.unwrap();
    let answers: Vec<_> = answers.into_inner().collect().await;
    assert!(matches!(&answers[..], [Ok(_)]), "{answers:?}");
}

/// Returns once a stream has made room for another.
async fn made_room(stream: ResponseFuture) {
    let (_, trailers) = read_all(stream.await.unwrap().into_body()).await;
    let status = tonic::Status::from_header_map(&trailers.unwrap()).unwrap();
    assert!(is_refusal(&status, "TOO_MANY_CALLS"), "{status}");
}

async fn batch_refused(sidecar: &mut Sidecar) -> bool {
    let questions = vec![question(Operation::EnableUsers)];
    let asked = sidecar.client.batch_authorize(api::BatchAuthorizeRequest { questions }).await;
    asked.is_err_and(|status| is_refusal(&status, "TOO_MANY_BYTES"))
}

fn is_refusal(status: &tonic::Status, reason: &str) -> bool {
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    let told = status.get_error_details();
    let told = told.error_info().unwrap();
    assert_eq!((told.reason.as_str(), told.domain.as_str()), (reason, "esa-sidecar"));
    true
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
async fn beyond_as_many_streams_as_may_be_open_the_oldest_of_the_greediest_connection_makes_room() {
    let mut sidecar = sidecar(3).await;
    let client = connect(&sidecar.address).await;
    let mut watch = sidecar.watch(ID).await;
    watch.message().await.unwrap().unwrap();
    let ((first, _first), (second, mut sender)) = (open(&client).await, open(&client).await);
    heard(&client).await;
    // Nothing else is concerned.
    assert!(!refused(&mut sidecar).await);
    let request = api::GetSubscriptionRequest { subscription_id: ID.to_owned() };
    sidecar.client.get_subscription(request).await.unwrap();
    sidecar.health.check(HealthCheckRequest::default()).await.unwrap();
    stream_is_answered(&mut sidecar).await;
    made_room(first).await;
    // The other one of that connection goes on, and the watch, which is older than both.
    sender.send_data(streamed(), true).unwrap();
    let (_, trailers) = read_all(second.await.unwrap().into_body()).await;
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    assert!(
        tokio::time::timeout(Duration::ZERO, watch.message()).await.is_err(),
        "nothing to tell, and no end"
    );
    sidecar.stop().await;
}

/// Whoever begins calls and does not finish them takes no place of those who do.
#[tokio::test]
async fn a_call_that_has_not_arrived_makes_room_for_one_that_has() {
    let mut sidecar = sidecar(2).await;
    let client = connect(&sidecar.address).await;
    for url in [AUTHORIZE, BATCH, GET] {
        let (first, _first) = begin_call(&client, url).await;
        let (_second, second) = begin_call(&client, url).await;
        heard(&client).await;
        // The one that was begun first is told so; the other one goes on.
        let told = first.await.unwrap();
        let status = tonic::Status::from_header_map(told.headers()).unwrap();
        assert!(is_refusal(&status, "TOO_MANY_CALLS"), "{url}: {status}");
        for _ in 0..10 {
            assert!(!refused(&mut sidecar).await, "{url}");
            let request = api::GetSubscriptionRequest { subscription_id: ID.to_owned() };
            sidecar.client.get_subscription(request).await.unwrap();
        }
        drop(second);
    }
    // No place was given back twice: there are two.
    let ((first, _first), (_, _second)) = (open(&client).await, open(&client).await);
    heard(&client).await;
    stream_is_answered(&mut sidecar).await;
    made_room(first).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn what_is_announced_and_does_not_arrive_makes_room_for_what_does() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let toml = "[limits]\nheld_bytes = 1048576\nahead_bytes = 1048576\ncaller_percent = 100";
    let mut sidecar = Sidecar::start_with(source, None, toml).await.ready().await;
    let client = connect(&sidecar.address).await;
    let mut unfinished = Vec::new();
    // Room for two such messages, and for as many calls as may send 32 KiB ahead.
    for _ in 0..40 {
        let (response, mut sender) = begin_call(&client, GET).await;
        sender.send_data(Bytes::from_static(&[0, 0, 8, 0, 0]), false).unwrap();
        unfinished.push((response, sender));
    }
    heard(&client).await;
    let (response, mut sender) = begin_call(&client, GET).await;
    let request = api::GetSubscriptionRequest { subscription_id: ID.to_owned() };
    sender.send_data(framed(&request.encode_to_vec()).into(), true).unwrap();
    assert!(!response.await.unwrap().headers().contains_key("grpc-status"));
    assert!(!batch_refused(&mut sidecar).await);
    drop(unfinished);
    sidecar.stop().await;
}

#[tokio::test]
async fn health_is_answered_whatever_others_ask_of_it_and_do_not_finish() {
    let mut sidecar = sidecar(100).await;
    let client = connect(&sidecar.address).await;
    let mut unfinished = Vec::new();
    // Of one client 64 may be open.
    for _ in 0..70 {
        let (response, mut sender) = begin_call(&client, CHECK).await;
        sender.send_data(Bytes::from_static(&[0, 0, 0, 4, 0]), false).unwrap();
        unfinished.push((response, sender));
    }
    heard(&client).await;
    sidecar.health.check(HealthCheckRequest::default()).await.unwrap();
    let (response, mut sender) = begin_call(&client, CHECK).await;
    sender.send_data(Bytes::from_static(&[0, 0, 0x40, 0, 0]), false).unwrap();
    let told = response.await.unwrap();
    let status = tonic::Status::from_header_map(told.headers()).unwrap();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("more than 1024 bytes"), "{status}");
    drop(unfinished);
    sidecar.stop().await;
}

/// Its head tells who asks: what follows it takes no place of those who may.
#[tokio::test]
async fn a_caller_in_no_row_is_refused_by_the_head_of_its_call() {
    let (authority, sidecar) = two_callers("calls = 2\ncaller_percent = 100").await;
    let client = sidecar.http2(&authority, "nobody.test").await;
    let mut unfinished = Vec::new();
    for url in [AUTHORIZE, STREAM, BATCH, GET, AUTHORIZE] {
        let (response, sender) = begin_call(&client, url).await;
        let told = response.await.unwrap();
        let status = tonic::Status::from_header_map(told.headers()).unwrap();
        assert_eq!(status.code(), Code::PermissionDenied, "{url}: {status}");
        unfinished.push(sender);
    }
    let mut other = sidecar.client(&authority, "other.test").await;
    let _watch = other.stream_authorize(tokio_stream::pending()).await.unwrap();
    other.authorize(question(Operation::EnableUsers)).await.unwrap();
    drop((unfinished, _watch, other));
    sidecar.stop().await;
}

/// How many calls of a stranger are answered on one connection, and how that ends.
async fn until_dismissed(client: &SendRequest<Bytes>, url: &str) -> (usize, h2::Error) {
    for answered in 0..1_000 {
        let told = async {
            let (response, mut sender) = client.clone().ready().await?.send_request(call_of(url), false)?;
            // It may be refused before it is whole.
            let _ = sender.send_data(framed(&question(Operation::EnableUsers).encode_to_vec()).into(), true);
            response.await
        };
        match told.await {
            Ok(told) => assert_eq!(told.headers()["grpc-status"], "7"),
            Err(error) => return (answered, error),
        }
    }
    panic!("it goes on asking")
}

#[tokio::test]
async fn whoever_is_in_no_row_and_goes_on_asking_is_told_to_go_and_others_stay() {
    let (authority, sidecar) = two_callers("calls = 100").await;
    let known = sidecar.http2(&authority, "other.test").await;
    for url in [AUTHORIZE, GET] {
        let client = sidecar.http2(&authority, "nobody.test").await;
        let (answered, error) = until_dismissed(&client, url).await;
        assert!((100..=101).contains(&answered), "{url}: {answered}");
        assert!(error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR), "{url}: {error}");
    }
    // Nothing that is refused for another reason counts.
    for _ in 0..150 {
        let (response, mut sender) = begin(&known).await;
        let _ = sender.send_data(Bytes::from_static(&[9; 20]), true);
        assert_ne!(response.await.unwrap().headers()["grpc-status"], "0");
    }
    heard(&known).await;
    drop(known);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_call_was_answered() {
    let sidecar = sidecar(1).await;
    let client = connect(&sidecar.address).await;
    for _ in 0..3 {
        let (response, mut sender) = open(&client).await;
        heard(&client).await;
        sender.send_data(streamed(), true).unwrap();
        let (_, trailers) = read_all(response.await.unwrap().into_body()).await;
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_caller_gives_up() {
    let mut sidecar = sidecar(1).await;
    let (client, connection) = connect_taking_nothing(&sidecar).await;
    let (answer, sender) = ask_without_reading(&client).await;
    assert!(refused(&mut sidecar).await);
    drop((answer, sender));
    until_taken(&mut sidecar).await;
    // Its connection did not have to be closed for that.
    heard(&client).await;
    assert!(!connection.is_finished());
    sidecar.stop().await;
}

#[tokio::test]
async fn a_place_is_free_again_when_its_connection_is_lost() {
    let mut sidecar = sidecar(1).await;
    let (client, connection) = connect_taking_nothing(&sidecar).await;
    let _asked = ask_without_reading(&client).await;
    assert!(refused(&mut sidecar).await);
    connection.abort();
    until_taken(&mut sidecar).await;
    sidecar.stop().await;
}

#[tokio::test]
async fn a_call_whose_answer_is_not_taken_keeps_its_place_until_another_needs_it() {
    let mut sidecar = sidecar(1).await;
    let (client, _) = connect_taking_nothing(&sidecar).await;
    let (answer, sender) = ask_without_reading(&client).await;
    assert!(refused(&mut sidecar).await);
    until_taken(&mut sidecar).await;
    // Its connection is closed.
    drop(sender);
    answer.into_body().data().await.unwrap().unwrap_err();
    sidecar.stop().await;
}

async fn sidecar_that_holds_a_mebibyte() -> Sidecar {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    Sidecar::start_with(source, None, "[limits]\nheld_bytes = 1048576\ncaller_percent = 100")
        .await
        .ready()
        .await
}

async fn until_batches_are_taken(sidecar: &mut Sidecar) {
    let taken = async {
        while batch_refused(sidecar).await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
}

#[tokio::test]
async fn calls_that_may_send_ahead_take_room_for_it_and_no_other_room() {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    let toml = "[limits]\nheld_bytes = 1048576\nahead_bytes = 1048576\ncaller_percent = 100";
    let mut sidecar = Sidecar::start_with(source, None, toml).await.ready().await;
    let client = connect(&sidecar.address).await;
    let mut streams = Vec::new();
    // Each may send 32 KiB ahead: there is room for 32.
    for _ in 0..33 {
        streams.push(open(&client).await);
    }
    heard(&client).await;
    let (first, _first) = streams.remove(0);
    made_room(first).await;
    let (second, _second) = &mut streams[0];
    assert!(!second.await.unwrap().headers().contains_key("grpc-status"), "nothing else is concerned");
    assert!(!batch_refused(&mut sidecar).await);
    sidecar.health.check(HealthCheckRequest::default()).await.unwrap();
    drop(streams);
    sidecar.stop().await;
}

#[tokio::test]
async fn answers_that_cannot_be_sent_take_no_more_than_may_be_held() {
    let mut sidecar = sidecar_that_holds_a_mebibyte().await;
    let (client, _) = connect_taking_nothing(&sidecar).await;
    let questions = vec![question(Operation::EnableUsers); 1_000];
    let batch = Bytes::from(framed(&api::BatchAuthorizeRequest { questions }.encode_to_vec()));
    let mut unread = Vec::new();
    let mut told = None;
    // Their answers would have about two mebibytes.
    for _ in 0..60 {
        let mut client = client.clone().ready().await.unwrap();
        let (response, mut sender) = client.send_request(call_of(BATCH), false).unwrap();
        sender.send_data(batch.clone(), true).unwrap();
        let answer = response.await.unwrap();
        let refused = answer.headers().get("grpc-status").cloned();
        unread.push((answer, sender));
        if refused.is_some() {
            told = refused;
            break;
        }
    }
    assert_eq!(told.unwrap(), "8");
    // Whoever asks next needs the room, and the connection is closed.
    until_batches_are_taken(&mut sidecar).await;
    drop(unread);
    sidecar.stop().await;
}

/// What begins a message on a stream and does not finish it keeps room from nobody.
#[tokio::test]
async fn messages_of_streams_that_are_announced_and_do_not_come_make_room_for_what_does() {
    let mut sidecar = sidecar_that_holds_a_mebibyte().await;
    let client = connect(&sidecar.address).await;
    let mut unfinished = Vec::new();
    // Room for two such messages.
    for _ in 0..8 {
        let (response, mut sender) = open(&client).await;
        let answers = response.await.unwrap();
        sender.send_data(Bytes::from_static(&[0, 0, 8, 0, 0]), false).unwrap();
        unfinished.push((answers, sender));
    }
    heard(&client).await;
    stream_is_answered(&mut sidecar).await;
    // Those that made room are told so.
    let (first, _) = unfinished.remove(0);
    let (_, trailers) = read_all(first.into_body()).await;
    assert_eq!(trailers.unwrap()["grpc-status"], "8");
    drop(unfinished);
    sidecar.stop().await;
}

/// Of those who announce, whoever has sent least gives way, and not who is sending.
#[tokio::test]
async fn what_announces_and_says_nothing_gives_way_before_what_arrives() {
    let sidecar = sidecar_that_holds_a_mebibyte().await;
    let client = connect(&sidecar.address).await;
    let request = api::GetSubscriptionRequest { subscription_id: format!("{ID}{}", "x".repeat(1_000)) };
    let request = Bytes::from(framed(&request.encode_to_vec()));
    let (response, mut sender) = begin_call(&client, GET).await;
    sender.send_data(request.slice(..500), false).unwrap();
    heard(&client).await;
    let mut unfinished = Vec::new();
    for _ in 0..9 {
        let (response, mut sender) = begin_call(&client, GET).await;
        sender.send_data(Bytes::from_static(&[0, 0, 8, 0, 0]), false).unwrap();
        unfinished.push((response, sender));
    }
    heard(&client).await;
    sender.send_data(request.slice(500..), true).unwrap();
    // It is heard to its end: there is no such subscription.
    assert_ne!(response.await.unwrap().headers()["grpc-status"], "8");
    drop(unfinished);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_stream_that_asks_and_does_not_read_costs_no_other_call_its_connection() {
    let sidecar = sidecar(100).await;
    let (client, _) = connect_taking_nothing(&sidecar).await;
    // It has heard by then how much it may send ahead.
    heard(&client).await;
    let mut opening = client.clone().ready().await.unwrap();
    let (answers, mut sender) = opening.send_request(call_of(STREAM), false).unwrap();
    for _ in 0..20_000 {
        sender.send_data(streamed(), false).unwrap();
    }
    answers.await.unwrap();
    for _ in 0..10 {
        heard(&client).await;
    }
    drop((opening, sender));
    sidecar.stop().await;
}

#[tokio::test]
async fn tools_that_ask_by_reflection_are_few() {
    let sidecar = sidecar(100).await;
    let client = connect(&sidecar.address).await;
    let mut open = Vec::new();
    // Of 64 one client has a quarter.
    for _ in 0..17 {
        let path = "http://localhost/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        open.push(begin_call(&client, path).await);
    }
    heard(&client).await;
    let (first, _first) = open.remove(0);
    made_room(first).await;
    for (response, _) in &mut open {
        assert!(!response.await.unwrap().headers().contains_key("grpc-status"));
    }
    drop(open);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_with_all_its_watches_open_takes_none_from_others() {
    let (authority, sidecar) = two_callers("watches = 4").await;
    let request = || api::WatchSubscriptionRequest { subscription_id: ID.to_owned() };
    let mut open = Vec::new();
    let mut greedy = sidecar.client(&authority, "greedy.test").await;
    for _ in 0..2 {
        open.push(greedy.watch_subscription(request()).await.unwrap());
        // However many connections it has.
        greedy = sidecar.client(&authority, "greedy.test").await;
    }
    let refused = greedy.watch_subscription(request()).await.unwrap_err();
    assert!(is_refusal(&refused, "TOO_MANY_WATCHES"));
    assert!(refused.message().contains("`limits.caller_percent`"), "{refused}");
    let mut other = sidecar.client(&authority, "other.test").await;
    for _ in 0..2 {
        open.push(other.watch_subscription(request()).await.unwrap());
    }
    assert!(is_refusal(&other.watch_subscription(request()).await.unwrap_err(), "TOO_MANY_WATCHES"));
    drop(open);
    sidecar.stop().await;
}

#[tokio::test]
async fn a_caller_has_one_share_whatever_else_its_certificates_name() {
    let (authority, sidecar) = two_callers("calls = 8").await;
    let mut open = Vec::new();
    for number in 0..4 {
        // Another certificate each time: its first name is one that nobody has had.
        let names = [format!("{number}.example.org"), "greedy.test".to_owned()];
        let names = names.map(|name| SanType::DnsName(name.as_str().try_into().unwrap()));
        let issued = authority.issue_named("greedy", names.to_vec());
        let channel = sidecar.connect(&authority, Some(&issued)).await.unwrap();
        let mut client = EnforcementServiceClient::new(channel);
        open.push(client.stream_authorize(tokio_stream::pending()).await.unwrap().into_inner());
    }
    let mut greedy = sidecar.client(&authority, "greedy.test").await;
    let _fifth = greedy.stream_authorize(tokio_stream::pending()).await.unwrap();
    let status = open[0].message().await.unwrap_err();
    assert!(is_refusal(&status, "TOO_MANY_CALLS"), "{status}");
    let mut other = sidecar.client(&authority, "other.test").await;
    other.authorize(question(Operation::EnableUsers)).await.unwrap();
    drop(open);
    sidecar.stop().await;
}

/// Two callers at one address, each with half of what there is.
async fn two_callers(limits: &str) -> (Authority, Guarded) {
    let authority = Authority::new();
    let row = |name| {
        format!(
            "[[callers]]\nname = '{name}'\nrole = 'authentication_server'\ncertificate_dns = '{name}.test'\n"
        )
    };
    let table = format!("{}{}[limits]\n{limits}", row("greedy"), row("other"));
    let sidecar = Guarded::over_tls(&authority, &table).await;
    (authority, sidecar)
}

#[tokio::test]
async fn a_caller_with_all_its_streams_open_takes_none_from_others() {
    let (authority, sidecar) = two_callers("calls = 8").await;
    let mut other = sidecar.client(&authority, "other.test").await;
    let mut held = other.stream_authorize(tokio_stream::pending()).await.unwrap().into_inner();
    // However many connections it has, and whether its streams say anything or not.
    let (mut greedy, mut open) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let mut client = sidecar.client(&authority, "greedy.test").await;
        open.push(client.stream_authorize(tokio_stream::pending()).await.unwrap().into_inner());
        greedy.push(client);
    }
    let status = open[0].message().await.unwrap_err();
    assert!(is_refusal(&status, "TOO_MANY_CALLS"), "{status}");
    assert!(tokio::time::timeout(Duration::ZERO, held.message()).await.is_err(), "it goes on");
    other.stream_authorize(tokio_stream::pending()).await.unwrap();
    drop((open, greedy, held, other));
    sidecar.stop().await;
}

#[tokio::test]
async fn questions_that_do_not_become_whole_take_no_more_than_their_caller_may_hold() {
    let (authority, sidecar) = two_callers("held_bytes = 1048576").await;
    let mut other = sidecar.client(&authority, "other.test").await;
    let client = sidecar.http2(&authority, "greedy.test").await;
    let mut unfinished = Vec::new();
    let mut told = Vec::new();
    // 512 KiB have room for eight of them.
    for _ in 0..9 {
        let (response, mut sender) = begin(&client).await;
        let mut part = vec![0; 60 << 10];
        part[..5].copy_from_slice(&[0, 0, 0, 0xf0, 0]);
        sender.reserve_capacity(part.len());
        let sent = sender.send_data(part.into(), false);
        told.push(tokio::spawn(response));
        unfinished.push((sent, sender));
    }
    let refused = async {
        loop {
            if let Some(at) = told.iter().position(JoinHandle::is_finished) {
                break told.swap_remove(at).await.unwrap().unwrap();
            }
            tokio::task::yield_now().await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(10), refused).await.unwrap();
    assert_eq!(refused.headers()["grpc-status"], "8");
    // Of the other there is as much as before.
    let questions = vec![question(Operation::EnableUsers); 500];
    other.batch_authorize(api::BatchAuthorizeRequest { questions }).await.unwrap();
    assert_eq!(told.iter().filter(|told| told.is_finished()).count(), 0);
    told.iter().for_each(JoinHandle::abort);
    drop((unfinished, told));
    sidecar.stop().await;
}
