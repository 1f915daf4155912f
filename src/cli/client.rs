//! Calls a running sidecar, or the licensing backend.
//!
//! Not here: what is asked.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use tokio::runtime::{self, Runtime};
use tonic::{ConnectError, Status, TimeoutExpired, transport::Channel};
use tonic_types::StatusExt as _;

use super::CommandError;
use crate::{
    edge::{
        causes::causes,
        remote::{RemoteAddress, cause},
        tls::Trust,
    },
    escape::escape_and_shorten,
};

/// Which sidecar to ask, and for how long.
#[derive(Args)]
pub(super) struct Server {
    /// Where the sidecar listens: an address and port, `https://host:port`, or `unix:PATH`
    #[arg(long, value_name = "ADDR", env = "ESA_SIDECAR_SERVER", default_value = "127.0.0.1:50051")]
    server: RemoteAddress,
    #[command(flatten)]
    believed: Believed,
    /// Certificate to show over https (PEM), where the sidecar wants one
    #[arg(long, value_name = "FILE", env = "ESA_SIDECAR_CERTIFICATE", requires = "key")]
    certificate: Option<PathBuf>,
    /// Its private key (PEM)
    #[arg(long, value_name = "FILE", env = "ESA_SIDECAR_KEY", requires = "certificate")]
    key: Option<PathBuf>,
    #[command(flatten)]
    patience: Patience,
}

/// Whom to believe.
#[derive(Args)]
pub(super) struct Believed {
    /// Authorities that are believed over https (PEM), in place of those of this machine
    #[arg(long, value_name = "FILE", env = "ESA_SIDECAR_CA")]
    pub(super) ca: Option<PathBuf>,
}

/// How long to wait.
#[derive(Args)]
pub(super) struct Patience {
    /// How long to wait for an answer, such as `500ms` or `5s`
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = crate::config::duration)]
    timeout: Duration,
}

/// Which subscription to ask about.
#[derive(Args)]
pub(super) struct Subscription {
    /// Public license ID, such as `3A8-WN7-7TD`; may be left out when the sidecar holds only one
    #[arg(
        long = "subscription",
        value_name = "ID",
        env = "ESA_SIDECAR_SUBSCRIPTION",
        default_value = "",
        hide_default_value = true
    )]
    pub(super) subscription_id: String,
}

/// Who is called, for people.
struct Called {
    name: &'static str,
    start: &'static str,
    flag: &'static str,
}

const SIDECAR: Called = Called { name: "sidecar", start: "esa-sidecar serve", flag: "--server" };
const LICENSING: Called =
    Called { name: "licensing backend", start: "esa-sidecar licensing", flag: "--licensing" };

impl Server {
    /// Connects; calls of the channel have the time that was asked for.
    pub(super) async fn connect(&self) -> Result<Channel, CommandError> {
        connect(&self.server, &self.trust(), Some(self.patience.timeout), &SIDECAR).await
    }

    /// Connects for a call that stays open.
    pub(super) async fn connect_to_watch(&self) -> Result<Channel, CommandError> {
        connect(&self.server, &self.trust(), None, &SIDECAR).await
    }

    fn trust(&self) -> Trust {
        Trust { shown: self.certificate.clone().zip(self.key.clone()), ..self.believed.trust() }
    }
}

impl Believed {
    /// The same, showing nothing.
    pub(super) fn trust(&self) -> Trust {
        Trust { ca: self.ca.clone(), shown: None }
    }
}

impl Patience {
    /// Connects to the sidecar's listener of probes at `address`.
    pub(super) async fn connect(&self, address: RemoteAddress) -> Result<Channel, CommandError> {
        connect(&address, &Trust::default(), Some(self.timeout), &SIDECAR).await
    }

    /// Connects to the licensing backend at `address`.
    pub(super) async fn connect_to_licensing(
        &self,
        address: &RemoteAddress,
        trust: &Trust,
    ) -> Result<Channel, CommandError> {
        connect(address, trust, Some(self.timeout), &LICENSING).await
    }
}

/// A runtime for one call.
pub(super) fn runtime() -> Result<Runtime, CommandError> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A call that failed, for people.
pub(super) fn failed(status: &Status) -> CommandError {
    if let Some(what) = unanswered(status, "sidecar") {
        return CommandError::new(what);
    }
    let reason =
        status.get_details_error_info().map(|info| format!(" [{}]", escape_and_shorten(&info.reason)));
    let reason = reason.unwrap_or_default();
    let hint = if reason.contains("SUBSCRIPTION_ID_REQUIRED") { ": use --subscription" } else { "" };
    CommandError::new(format!("{}{hint}{reason}", escape_and_shorten(status.message())))
}

/// A stream that ended before it was ended, for people.
pub(super) fn lost(status: &Status) -> CommandError {
    if status.get_details_error_info().is_some() {
        return failed(status);
    }
    let why = escape_and_shorten(status.message());
    CommandError::new(format!("the connection to the sidecar was lost ({why})"))
}

/// What became of a call that nobody answered, for people; nothing if an answer came.
pub(super) fn unanswered(status: &Status, name: &str) -> Option<String> {
    let why = broken_off(status)?;
    if why == TimeoutExpired(()).to_string() {
        return Some("no answer came in time; give it longer with --timeout".to_owned());
    }
    Some(format!("the connection to the {name} was lost ({why})"))
}

/// Why a call was not answered; nothing if it was.
pub(super) fn broken_off(status: &Status) -> Option<String> {
    let why = escape_and_shorten(&cause(status)?);
    let mut of_connecting =
        causes(status).skip(1).filter(|error| error.is::<ConnectError>() || error.is::<TimeoutExpired>());
    if of_connecting.next().is_some() {
        return Some(why);
    }
    // Neither end says so when one of them alone speaks TLS; and whoever is refused for want of a certificate hears it
    // late, or only sees the connection closed.
    Some(format!(
        "{why}; where TLS is spoken write `https://`, and where a certificate is wanted show one with --certificate and \
         --key"
    ))
}

async fn connect(
    address: &RemoteAddress,
    trust: &Trust,
    timeout: Option<Duration>,
    called: &Called,
) -> Result<Channel, CommandError> {
    let mut endpoint = address.endpoint(trust, timeout.unwrap_or(Duration::from_secs(5)))?;
    if let Some(timeout) = timeout {
        endpoint = endpoint.timeout(timeout);
    }
    endpoint.connect().await.map_err(|error| {
        let why = escape_and_shorten(&cause(&error).unwrap_or_else(|| error.to_string()));
        let Called { name, start, flag } = called;
        CommandError::new(format!(
            "no {name} answers at {address} ({why}); start one with `esa-sidecar demo` or `{start}`, or name another \
             with {flag}"
        ))
    })
}
