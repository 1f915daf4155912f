//! Calls a running sidecar, or the licensing backend.
//!
//! Not here: what is asked.

use std::time::Duration;

use clap::Args;
use tokio::runtime::{self, Runtime};
use tonic::{
    Status,
    transport::{Channel, Endpoint},
};
use tonic_types::StatusExt as _;

use super::CommandError;
use crate::edge::address::ListenAddress;

/// Which sidecar to ask, and for how long.
#[derive(Args)]
pub(super) struct Server {
    /// Where the sidecar listens: an address and port, or `unix:PATH`
    #[arg(long, value_name = "ADDR", env = "ESA_SIDECAR_SERVER", default_value = "127.0.0.1:50051")]
    server: ListenAddress,
    #[command(flatten)]
    patience: Patience,
}

/// How long to wait.
#[derive(Args)]
pub(super) struct Patience {
    /// How long to wait for an answer, such as `500ms` or `5s`
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = humantime::parse_duration)]
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
        connect(&self.server, Some(self.patience.timeout), &SIDECAR).await
    }

    /// Connects for a call that stays open.
    pub(super) async fn connect_to_watch(&self) -> Result<Channel, CommandError> {
        connect(&self.server, None, &SIDECAR).await
    }
}

impl Patience {
    /// Connects to the sidecar at `address`.
    pub(super) async fn connect(&self, address: &ListenAddress) -> Result<Channel, CommandError> {
        connect(address, Some(self.timeout), &SIDECAR).await
    }

    /// Connects to the licensing backend at `address`.
    pub(super) async fn connect_to_licensing(
        &self,
        address: &ListenAddress,
    ) -> Result<Channel, CommandError> {
        connect(address, Some(self.timeout), &LICENSING).await
    }
}

/// A runtime for one call.
pub(super) fn runtime() -> Result<Runtime, CommandError> {
    Ok(runtime::Builder::new_current_thread().enable_all().build()?)
}

/// A call that failed, for people.
pub(super) fn failed(status: &Status) -> CommandError {
    let reason =
        status.get_details_error_info().map(|info| format!(" [{}]", info.reason)).unwrap_or_default();
    let hint = if reason.contains("SUBSCRIPTION_ID_REQUIRED") { ": use --subscription" } else { "" };
    CommandError::new(format!("{}{hint}{reason}", status.message()))
}

/// A stream that ended before it was ended, for people.
pub(super) fn lost(status: &Status) -> CommandError {
    if status.get_details_error_info().is_some() {
        return failed(status);
    }
    CommandError::new(format!("the connection to the sidecar was lost ({})", status.message()))
}

async fn connect(
    address: &ListenAddress,
    timeout: Option<Duration>,
    called: &Called,
) -> Result<Channel, CommandError> {
    let uri = match address {
        ListenAddress::Tcp(tcp) => format!("http://{tcp}"),
        ListenAddress::Unix(path) => format!("unix:{}", path.display()),
    };
    let mut endpoint = Endpoint::from_shared(uri)?.connect_timeout(timeout.unwrap_or(Duration::from_secs(5)));
    if let Some(timeout) = timeout {
        endpoint = endpoint.timeout(timeout);
    }
    endpoint.connect().await.map_err(|error| {
        let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), innermost);
        let Called { name, start, flag } = called;
        CommandError::new(format!(
            "no {name} answers at {address} ({why}); start one with `esa-sidecar demo` or `{start}`, or name another \
             with {flag}"
        ))
    })
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
