//! Connections: who gets one, how long it lasts, how it ends; and `Authorize`, whose way past the routes shows nobody.

use std::{num::NonZeroUsize, time::Duration};

use bytes::Bytes;
use esa_sidecar::{
    edge::{address::ListenAddress, listener::Listener},
    proto::{
        enforcement::{self as api, Operation},
        health::{HealthCheckRequest, health_check_response::ServingStatus},
    },
};
use h2::client::SendRequest;
use hyper::{HeaderMap, Request, StatusCode};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    sidecar::{ID, ScriptedSource, Sidecar, config, healthy, opening, question},
    wire::{AUTHORIZE, BATCH, STREAM, asked, authorize_call, call_of, connect, frame, framed, read_all},
};

/// What every HTTP/2 client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames.
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

async fn sidecar(toml: &str) -> Sidecar {
    let source = ScriptedSource::telling(vec![healthy(ID)]);
    Sidecar::start_with(source, None, toml).await.ready().await
}

/// What is said until the other end closes.
async fn said(connection: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset ends it as well.
    let _ = connection.read_to_end(&mut said).await;
    said
}

/// A connection on which HTTP/2 is spoken, and nothing asked.
async fn spoken(address: &str) -> TcpStream {
    let mut connection = TcpStream::connect(address).await.unwrap();
    connection.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).await.unwrap();
    until_told(&mut connection, SETTINGS).await;
    connection
}

/// Reads frames until one of this kind has come.
async fn until_told(connection: &mut TcpStream, kind: u8) {
    loop {
        let mut head = [0; 9];
        connection.read_exact(&mut head).await.unwrap();
        let [a, b, c, told, ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        connection.read_exact(&mut vec![0; length as usize]).await.unwrap();
        if told == kind {
            break;
        }
    }
}

/// Whether a connection that was just made is answered.
async fn is_answered(address: &str) -> bool {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let said = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &asked(1)].concat();
    if connection.write_all(&said).await.is_err() {
        return false;
    }
    let mut told = vec![0; 9];
    while connection.read_exact(&mut told[..9]).await.is_ok() {
        let length = u32::from_be_bytes([0, told[0], told[1], told[2]]) as usize;
        if told[3] == HEADERS {
            return true;
        }
        told.resize(length.max(9), 0);
        if connection.read_exact(&mut told[..length]).await.is_err() {
            break;
        }
    }
    false
}

#[tokio::test]
async fn connections_that_ask_nothing_keep_nobody_out_and_are_told_to_come_again() {
    for limit in ["connections", "connections_per_peer"] {
        // One is the client's, which has asked, and stays.
        let mut sidecar = sidecar(&format!("[limits]\n{limit} = 4")).await;
        let mut early = spoken(&sidecar.address).await;
        early.write_all(&asked(1)).await.unwrap();
        until_told(&mut early, HEADERS).await;
        let mut flood = Vec::new();
        for _ in 0..8 {
            flood.push(spoken(&sidecar.address).await);
        }
        for _ in 0..3 {
            assert!(is_answered(&sidecar.address).await, "{limit}");
        }
        until_told(&mut flood[0], GOAWAY).await;
        early.write_all(&asked(3)).await.unwrap();
        until_told(&mut early, HEADERS).await;
        sidecar.authorize(question(Operation::EnableUsers)).await.unwrap();
        drop(flood);
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn where_all_have_asked_the_one_that_is_idle_makes_room_and_none_with_an_open_call() {
    let mut sidecar = sidecar("[limits]\nconnections_per_peer = 2").await;
    let mut watch = sidecar.watch(ID).await;
    watch.message().await.unwrap().unwrap();
    let mut idle = spoken(&sidecar.address).await;
    idle.write_all(&asked(1)).await.unwrap();
    until_told(&mut idle, HEADERS).await;
    for _ in 0..3 {
        assert!(is_answered(&sidecar.address).await);
    }
    until_told(&mut idle, GOAWAY).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), watch.message()).await.is_err());
    sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_that_does_not_come_to_speak_is_closed() {
    let sidecar = sidecar("[limits]\nhandshake = '200ms'").await;
    for beginning in [&b""[..], b"P", PREFACE] {
        let mut connection = TcpStream::connect(&sidecar.address).await.unwrap();
        connection.write_all(beginning).await.unwrap();
        assert_eq!(said(&mut connection).await, b"", "{beginning:?}");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_connection_that_spoke_in_time_stays() {
    let mut sidecar = sidecar("[limits]\nhandshake = '1ms'").await;
    let mut health = sidecar.health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert!(tokio::time::timeout(Duration::from_millis(100), health.message()).await.is_err());
    sidecar.authorize(question(Operation::EnableUsers)).await.unwrap();
    sidecar.stop().await;
}

#[tokio::test]
async fn connections_beyond_those_allowed_are_closed_and_the_others_go_on() {
    for limit in ["connections", "connections_per_peer"] {
        // One is the client's. Both have a call that is open.
        let mut sidecar = sidecar(&format!("[limits]\n{limit} = 2")).await;
        let mut watch = sidecar.watch(ID).await;
        watch.message().await.unwrap().unwrap();
        let second = connect(&sidecar.address).await;
        let (response, sender) =
            second.clone().ready().await.unwrap().send_request(call_of(STREAM), false).unwrap();
        let answers = response.await.unwrap();
        let mut third = TcpStream::connect(&sidecar.address).await.unwrap();
        assert_eq!(said(&mut third).await, b"");
        sidecar.authorize(question(Operation::EnableUsers)).await.unwrap();
        drop((second, sender, answers));
        // Whoever comes once a place is free gets it; when that is, the other end decides.
        let taken = async {
            loop {
                let mut fourth = TcpStream::connect(&sidecar.address).await.unwrap();
                let spoken = fourth.write_all(&[PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await;
                if spoken.is_ok() && fourth.read_u8().await.is_ok() {
                    break;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(10), taken).await.unwrap();
        sidecar.stop().await;
    }
}

#[tokio::test]
async fn an_old_connection_ends_with_a_last_word_on_each_stream() {
    let mut sidecar = sidecar("[limits]\nconnection_age = '100ms'").await;
    let mut watch = sidecar.watch(ID).await;
    let mut health = sidecar.health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    assert!(health.message().await.unwrap().is_some());
    let (asking, questions) = tokio::sync::mpsc::channel(1);
    let questions = tokio_stream::wrappers::ReceiverStream::new(questions);
    let mut answers = sidecar.client.stream_authorize(questions).await.unwrap().into_inner();
    let asked = api::StreamAuthorizeRequest { question: Some(question(Operation::EnableUsers)) };
    asking.send(asked).await.unwrap();
    assert!(answers.message().await.unwrap().is_some());
    // The streams end well, though nothing stops.
    assert!(watch.message().await.unwrap().is_none());
    assert!(health.message().await.unwrap().is_none());
    assert!(answers.message().await.unwrap().is_none());
    // The client has come again.
    sidecar.authorize(question(Operation::EnableUsers)).await.unwrap();
    sidecar.stop().await;
}

#[tokio::test]
async fn whoever_speaks_http_1_to_the_port_of_questions_is_told_what_is_spoken() {
    let sidecar = sidecar("").await;
    let mut connection = TcpStream::connect(&sidecar.address).await.unwrap();
    connection.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    let said = String::from_utf8(said(&mut connection).await).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 505 "), "{head}");
    assert!(head.contains(&format!("content-length: {}", body.len())), "{head} {}", body.len());
    assert!(body.contains("gRPC"), "{body}");
    sidecar.stop().await;
}

#[tokio::test]
async fn a_port_that_somebody_listens_on_is_not_shared() {
    let two = NonZeroUsize::new(2).unwrap();
    let first = Listener::open(&ListenAddress::loopback(0), opening(two)).await.unwrap();
    for queues in [NonZeroUsize::MIN, two] {
        let second =
            Listener::open(first.address(), opening(queues)).await.map(drop).unwrap_err().to_string();
        assert!(second.contains("another program listens there"), "{second}");
    }
}

/// Everything a caller sees of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

async fn call(client: &SendRequest<Bytes>, kind: &str, encoding: Option<&str>, body: &[u8]) -> Seen {
    call_at(AUTHORIZE, client, kind, encoding, body).await
}

async fn call_at(
    url: &str,
    client: &SendRequest<Bytes>,
    kind: &str,
    encoding: Option<&str>,
    body: &[u8],
) -> Seen {
    let mut request = Request::post(url).header("content-type", kind).header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let mut client = client.clone().ready().await.unwrap();
    let (response, mut sender) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // An answer may come before the question is whole.
    let _ = sender.send_data(Bytes::copy_from_slice(body), true);
    let (head, answer) = response.await.unwrap().into_parts();
    let (body, trailers) = read_all(answer).await;
    Seen { status: head.status, headers: head.headers, body, trailers }
}

#[tokio::test]
async fn a_question_is_answered_as_the_routes_would_answer_it() {
    let sidecar = sidecar("").await;
    let client = connect(&sidecar.address).await;
    let asked = |request: api::AuthorizeRequest| framed(&request.encode_to_vec());
    let long = api::AuthorizeRequest { subscription_id: "x".repeat(200), ..question(Operation::EnableUsers) };
    let unreadable = api::AuthorizeRequest { operation: 99, ..question(Operation::EnableUsers) };
    let elsewhere = api::AuthorizeRequest {
        subscription_id: "ZZZ-ZZZ-ZZZ".to_owned(),
        ..question(Operation::EnableUsers)
    };
    for body in [
        asked(question(Operation::EnableUsers)),
        asked(question(Operation::TurnOffAuthentication)),
        asked(api::AuthorizeRequest::default()),
        asked(long),
        asked(unreadable),
        asked(elsewhere),
        // Fields nobody knows are passed over.
        framed(&[question(Operation::EnableUsers).encode_to_vec(), vec![0xa0, 0x06, 0x01]].concat()),
    ] {
        let direct = call(&client, "application/grpc", None, &body).await;
        // The routes take what does not say `application/grpc` and no more.
        let routed = call(&client, "application/grpc;", None, &body).await;
        assert_eq!(direct, routed, "{body:?}");
        assert_eq!(call(&client, "application/grpc+proto", Some("identity"), &body).await, direct);
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_batch_is_answered_as_the_routes_would_answer_it() {
    let sidecar = sidecar("[limits]\nbatch_questions = 2000").await;
    let client = connect(&sidecar.address).await;
    let mut several: Vec<_> = (0..=13)
        .flat_map(|operation| {
            let asked = api::AuthorizeRequest { operation, ..question(Operation::EnableUsers) };
            let unnamed = api::AuthorizeRequest { subscription_id: String::new(), ..asked.clone() };
            let elsewhere =
                api::AuthorizeRequest { subscription_id: "ZZZ-ZZZ-ZZZ".to_owned(), ..asked.clone() };
            let actor = Some(api::Actor { role: 2, id: "anna".to_owned() });
            let by_administrator = api::AuthorizeRequest { actor, ..asked.clone() };
            [asked, unnamed, elsewhere, by_administrator]
        })
        .collect();
    // The same over and over, in another order each time.
    several.extend(several.clone().into_iter().rev());
    for times in [0, 1, 10, 20] {
        let questions = std::iter::repeat_n(several.clone(), times).flatten().collect();
        let body = framed(&api::BatchAuthorizeRequest { questions }.encode_to_vec());
        let direct = call_at(BATCH, &client, "application/grpc", None, &body).await;
        let routed = call_at(BATCH, &client, "application/grpc;", None, &body).await;
        assert_eq!(direct, routed);
    }
    let broken = [several[0].encode_to_vec(), vec![0xff; 3]]
        .map(|question| [vec![0x0a, u8::try_from(question.len()).unwrap()], question].concat());
    let seen = call_at(BATCH, &client, "application/grpc", None, &framed(&broken.concat())).await;
    assert_eq!(seen.headers["grpc-status"], "3");
    assert!(seen.headers["grpc-message"].to_str().unwrap().starts_with("questions[1]"), "{seen:?}");
    sidecar.stop().await;
}

#[tokio::test]
async fn what_is_no_question_is_refused_with_its_reason() {
    let sidecar = sidecar("[limits]\nquestion_bytes = 1024").await;
    let client = connect(&sidecar.address).await;
    let whole = framed(&question(Operation::EnableUsers).encode_to_vec());
    let compressed = [&[1], &whole[1..]].concat();
    let odd = [&[7], &whole[1..]].concat();
    let broken = framed(&[0xff; 3]);
    let large = framed(&[0; 2_000]);
    for (body, status, what) in [
        (&b""[..], 13, "Missing request message"),
        (&whole[..3], 13, "before its length"),
        (&whole[..whole.len() - 1], 13, "were sent"),
        (&[&whole[..], b"x"].concat(), 13, "were sent"),
        (&compressed, 12, "compressed"),
        (&odd, 13, "neither 0 nor 1"),
        (&broken, 3, "does not read"),
        (&large, 8, "more than 1024 bytes"),
        // A length that is a lie is refused when it is heard, not when it has been waited for.
        (&[0, 0x7f, 0xff, 0xff, 0xff], 8, "more than 1024 bytes"),
    ] {
        let seen = call(&client, "application/grpc", None, body).await;
        let said = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(said("grpc-status"), Some(status.to_string()), "{body:?}");
        let message = said("grpc-message").unwrap().replace("%20", " ");
        assert!(message.contains(what), "{message}");
        assert!(said("grpc-status-details-bin").is_some(), "{message}: it has no reason");
    }
    sidecar.stop().await;
}

#[tokio::test]
async fn a_question_that_does_not_become_whole_is_given_up() {
    let sidecar = sidecar("[limits]\ncall_timeout = '100ms'").await;
    let mut client = connect(&sidecar.address).await.ready().await.unwrap();
    let (response, _sender) = client.send_request(authorize_call(), false).unwrap();
    assert_eq!(response.await.unwrap().headers()["grpc-status"], "4");
    sidecar.stop().await;
}

#[test]
fn there_are_as_many_threads_as_configured() {
    assert_eq!(config("[listen]\nthreads = 3").listen.threads.get(), 3);
}
