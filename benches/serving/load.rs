//! The load: `h2load` with one message, or many in one call.

use std::{path::Path, process::Command};

use esa_sidecar::proto::enforcement as api;
use prost::Message;

use crate::floors::Floor;

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Calls {
    /// `Authorize`.
    Unary,
    /// `StreamAuthorize`, with `QUESTIONS` in each call.
    Stream,
    /// `BatchAuthorize`, the same.
    Batch,
    /// The same, but each question is of another actor, and in turn about each operation.
    MixedBatch,
}

/// How much is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) calls: Calls,
    pub(crate) connections: u32,
    pub(crate) streams: u32,
    pub(crate) count: u32,
}

/// The subscription that is asked about.
pub(crate) const ID: &str = "3A8-WN7-7TD";

/// Questions in a call of several.
const QUESTIONS: u32 = 1_000;

impl Calls {
    /// The floors answer one question; many in one call they do not know.
    pub(crate) fn has_floor(self, _floor: Floor) -> bool {
        self == Self::Unary
    }
}

impl Load {
    pub(crate) fn name(&self) -> String {
        let Self { calls, connections, streams, .. } = self;
        match calls {
            Calls::Unary => format!("Authorize {connections} x {streams}"),
            Calls::Stream => format!("StreamAuthorize of {QUESTIONS}, each answer"),
            Calls::Batch => format!("BatchAuthorize of {QUESTIONS}, each call"),
            Calls::MixedBatch => format!("BatchAuthorize of {QUESTIONS} that differ, each call"),
        }
    }

    /// What the time is divided by.
    pub(crate) fn answers(&self) -> u32 {
        match self.calls {
            Calls::Unary | Calls::Batch | Calls::MixedBatch => self.count,
            Calls::Stream => self.count * QUESTIONS,
        }
    }

    /// Asks it all, and returns when all is answered.
    pub(crate) fn run(&self, address: &str, folder: &Path) {
        let Self { calls, connections, streams, count } = self;
        let (name, body) = match calls {
            Calls::Unary => ("Authorize", question()),
            Calls::Stream => {
                let one = framed(&api::StreamAuthorizeRequest { question: Some(asked()) });
                ("StreamAuthorize", one.repeat(QUESTIONS as usize))
            }
            Calls::Batch => ("BatchAuthorize", batch(|_| asked())),
            Calls::MixedBatch => ("BatchAuthorize", batch(asked_by)),
        };
        let data = folder.join("question");
        std::fs::write(&data, body).unwrap();
        let path = format!("/esa.enforcement.v1.EnforcementService/{name}");
        let mut command = Command::new("h2load");
        command.args(["--header", "content-type: application/grpc", "--header", "te: trailers"]);
        command.args([
            "--clients",
            &connections.to_string(),
            "--max-concurrent-streams",
            &streams.to_string(),
        ]);
        command.args(["--requests", &count.to_string(), "--data"]).arg(&data);
        match address.strip_prefix("unix:") {
            Some(_) => command.args(["--base-uri", address]).arg(format!("http://localhost{path}")),
            None => command.arg(format!("http://{address}{path}")),
        };
        // It is Debian's package nghttp2-client.
        let done = command.output().unwrap();
        let told = String::from_utf8_lossy(&done.stdout);
        let all = format!("{count} succeeded, 0 failed");
        assert!(
            done.status.success() && told.contains(&all),
            "{told}{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// The path of a question by itself.
pub(crate) const AUTHORIZE: &str = "/esa.enforcement.v1.EnforcementService/Authorize";

/// The message of a question by itself.
pub(crate) fn question() -> Vec<u8> {
    framed(&asked())
}

fn asked() -> api::AuthorizeRequest {
    api::AuthorizeRequest {
        subscription_id: ID.to_owned(),
        operation: api::Operation::AuthenticateWithMobilePush.into(),
        ..api::AuthorizeRequest::default()
    }
}

/// One that no other actor asks.
fn asked_by(number: u32) -> api::AuthorizeRequest {
    let operations = u32::try_from(i32::from(api::Operation::VerifySmsOtp)).unwrap();
    api::AuthorizeRequest {
        operation: i32::try_from(number % operations + 1).unwrap(),
        actor: Some(api::Actor {
            role: api::ActorRole::User.into(),
            id: format!("user-{number}@example.com"),
        }),
        ..asked()
    }
}

fn batch(question: impl Fn(u32) -> api::AuthorizeRequest) -> Vec<u8> {
    framed(&api::BatchAuthorizeRequest { questions: (0..QUESTIONS).map(question).collect() })
}

fn framed(message: &impl Message) -> Vec<u8> {
    let length = u32::try_from(message.encoded_len()).unwrap();
    [&[0][..], &length.to_be_bytes(), &message.encode_to_vec()].concat()
}
