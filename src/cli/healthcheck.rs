//! `healthcheck`: one probe, for containers.

use std::process::ExitCode;

use clap::Args;

use super::{
    CommandResult,
    client::{self, Patience},
    output,
};
use crate::{
    edge::address::ListenAddress,
    proto::health::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
};

/// Ask a running sidecar for its health: exit status 0 serving, 1 not
#[derive(Args)]
pub(super) struct Healthcheck {
    /// Which service: empty for the sidecar as a whole, `esa.enforcement.v1.EnforcementService`, `liveness`, or
    /// `licensing.sync`
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    service: String,
    /// Where the sidecar takes probes
    #[arg(long, value_name = "ADDR", env = "ESA_SIDECAR_PROBES", default_value = "127.0.0.1:9464")]
    server: ListenAddress,
    #[command(flatten)]
    patience: Patience,
}

impl Healthcheck {
    pub(super) fn run(self) -> CommandResult {
        let status = client::runtime()?.block_on(async {
            let mut client = HealthClient::new(self.patience.connect(self.server.clone().into()).await?);
            let request = HealthCheckRequest { service: self.service.clone() };
            client.check(request).await.map_err(|status| client::failed(&status))
        });
        // A probe that cannot be made has failed: there is no third answer.
        match status {
            Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => {
                output::print("serving\n")?;
                Ok(ExitCode::SUCCESS)
            }
            Ok(_) => {
                output::print("not serving\n")?;
                Ok(ExitCode::FAILURE)
            }
            Err(error) => {
                error.what.iter().for_each(|what| output::error(what));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}
