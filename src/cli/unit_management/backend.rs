//! Calls the licensing backend.
//!
//! A change carries an ID of the caller's choosing, so that the same request may be sent again when its answer was
//! lost: the backend does nothing twice. Not here: as whom (see `caller`).

use std::time::Duration;

use clap::Args;
use prost_types::Timestamp;
use tonic::{
    Code, Request, Response, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_types::StatusExt as _;
use uuid::{ContextV7, Uuid};
use zeroize::Zeroizing;

use crate::{
    cli::{
        CommandError,
        client::{self, Believed, Patience},
    },
    clock::{Clock as _, SystemClock},
    domain::Instant,
    edge::remote::RemoteAddress,
    enforcement::convert,
    proto::licensing::{
        account_service_client::AccountServiceClient, audit_service_client::AuditServiceClient,
        license_service_client::LicenseServiceClient, unit_service_client::UnitServiceClient,
    },
    rfc3339,
};

/// Which licensing backend to call, and for how long.
#[derive(Args)]
pub(in crate::cli) struct Licensing {
    /// Where the licensing backend listens: an address and port of this machine, `https://host:port`, or `unix:PATH`
    #[arg(
        long = "licensing",
        value_name = "ADDR",
        env = "ESA_SIDECAR_LICENSING",
        default_value = "127.0.0.1:50052"
    )]
    pub(in crate::cli) address: RemoteAddress,
    #[command(flatten)]
    believed: Believed,
    #[command(flatten)]
    patience: Patience,
}

/// The licensing backend, and who calls it.
pub(in crate::cli) struct Backend {
    channel: Channel,
    authorization: Option<MetadataValue<Ascii>>,
}

/// How long to wait before the same request is sent again.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

/// 10,000 units and 1,000 licenses with their attributes have to fit.
const LARGEST_ANSWER: usize = 64 * 1024 * 1024;

impl Licensing {
    /// Connects as nobody.
    pub(in crate::cli) async fn connect(&self) -> Result<Backend, CommandError> {
        if self.address.is_overheard() {
            return Err(CommandError::configuration(format!(
                "`{}` is another machine, and without TLS whoever is on the way reads passwords and tokens; write \
                 `https://`, or go there through a tunnel",
                self.address
            )));
        }
        let channel = self.patience.connect_to_licensing(&self.address, &self.believed.trust()).await?;
        Ok(Backend { channel, authorization: None })
    }
}

macro_rules! services {
    ($($function:ident $client:ident;)+) => {$(
        pub(in crate::cli) fn $function(&self) -> $client<Channel> {
            $client::new(self.channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
        }
    )+};
}

impl Backend {
    /// The same, as whoever the token was given to.
    pub(in crate::cli) fn with_token(mut self, token: &str) -> Result<Self, CommandError> {
        let mut value: MetadataValue<Ascii> = Zeroizing::new(format!("Bearer {token}"))
            .parse()
            .map_err(|_| CommandError::new("the token has characters that no token has"))?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    services! {
        units UnitServiceClient;
        licenses LicenseServiceClient;
        accounts AccountServiceClient;
        audit AuditServiceClient;
    }

    /// Asks, and asks the same again when the answer may have been lost: for what is only read, and for changes that
    /// carry a request ID.
    pub(in crate::cli) async fn ask<Q: Clone, A>(
        &self,
        question: Q,
        call: impl AsyncFn(Request<Q>) -> Result<Response<A>, Status>,
    ) -> Result<A, CommandError> {
        let mut pauses = PAUSES.iter();
        loop {
            match call(self.request(question.clone())).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => match pauses.next().filter(|_| is_worth_another_try(&status)) {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => return Err(self.failed(&status)),
                },
            }
        }
    }

    /// A call that failed, for people. Where a token was refused, another comes from signing in; where none was sent, it
    /// was a license key or a password that was.
    pub(in crate::cli) fn failed(&self, status: &Status) -> CommandError {
        if let Some(what) = client::unanswered(status, "licensing backend") {
            return CommandError::new(format!("{what}; if this was a change, look whether it was done"));
        }
        let mut error = client::failed(status);
        let is_wrong_password =
            status.get_details_error_info().is_some_and(|info| info.reason == "WRONG_PASSWORD");
        if status.code() == Code::Unauthenticated && self.authorization.is_some() && !is_wrong_password {
            error
                .what
                .iter_mut()
                .for_each(|what| *what += "; `esa-sidecar accounts sign-in NAME` opens a session");
        }
        error
    }

    /// A request of this caller.
    pub(in crate::cli) fn request<Q>(&self, question: Q) -> Request<Q> {
        let mut request = Request::new(question);
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}

/// Whether the backend was not reached, or its answer was lost on the way; what it said itself has no source.
fn is_worth_another_try(status: &Status) -> bool {
    status.code() == Code::Unavailable || std::error::Error::source(status).is_some()
}

/// An ID for one change.
pub(in crate::cli) fn request_id() -> String {
    let (seconds, nanos) = rfc3339::split(now());
    let seconds = u64::try_from(seconds).unwrap_or_default();
    Uuid::new_v7(uuid::Timestamp::from_unix(ContextV7::new(), seconds, nanos)).to_string()
}

/// The present, for what the backend is asked with.
pub(in crate::cli) fn now() -> Instant {
    SystemClock::new().now()
}

/// An instant as the protocol has it.
pub(in crate::cli) fn timestamp(instant: Instant) -> Result<Timestamp, CommandError> {
    convert::timestamp(instant).ok_or_else(|| CommandError::new("an instant past the year 9999"))
}

/// What an answer has to hold.
pub(in crate::cli) fn held<T>(part: Option<T>, name: &str) -> Result<T, CommandError> {
    part.ok_or_else(|| CommandError::new(format!("the licensing backend answered without {name}")))
}
