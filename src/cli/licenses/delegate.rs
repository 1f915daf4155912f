//! `licenses delegate`, `accept` and `revoke`.
//!
//! Not here: accounts (see `accounts`).

use std::process::ExitCode;

use clap::Args;

use super::row;
use crate::{
    cli::{
        CommandResult, client, output,
        unit_management::{
            backend,
            caller::Caller,
            record::{self, object},
        },
    },
    proto::licensing as api,
};

/// Offer a license to a security admin, who has to accept it before use
#[derive(Args)]
pub(super) struct Delegate {
    /// Public license ID
    license_id: String,
    /// Name of the security admin's account
    #[arg(long = "to", value_name = "ACCOUNT")]
    account: String,
    /// Print JSON: account and state
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

/// Accept a license that was offered to the own account
#[derive(Args)]
pub(super) struct Accept {
    /// Public license ID
    license_id: String,
    /// Print JSON: account and state
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

/// Take a license back from a security admin
#[derive(Args)]
pub(super) struct Revoke {
    /// Public license ID
    license_id: String,
    /// Name of the security admin's account
    #[arg(long = "from", value_name = "ACCOUNT")]
    account: String,
    #[command(flatten)]
    caller: Caller,
}

impl Delegate {
    pub(super) fn run(self) -> CommandResult {
        let Self { license_id, account, json, caller } = self;
        let request = api::DelegateLicenseRequest { request_id: backend::request_id(), license_id, account };
        let answer = client::runtime()?.block_on(async {
            let backend = caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().delegate_license(request).await).await
        })?;
        show(answer.delegation, json)
    }
}

impl Accept {
    pub(super) fn run(self) -> CommandResult {
        let Self { license_id, json, caller } = self;
        let request = api::AcceptLicenseRequest { request_id: backend::request_id(), license_id };
        let answer = client::runtime()?.block_on(async {
            let backend = caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().accept_license(request).await).await
        })?;
        show(answer.delegation, json)
    }
}

impl Revoke {
    pub(super) fn run(self) -> CommandResult {
        let Self { license_id, account, caller } = self;
        let said = format!("license {license_id} is taken back from {account}\n");
        let request = api::RevokeLicenseRequest { request_id: backend::request_id(), license_id, account };
        client::runtime()?.block_on(async {
            let backend = caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().revoke_license(request).await).await
        })?;
        output::print(&said)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn show(delegation: Option<api::Delegation>, json: bool) -> CommandResult {
    let delegation = backend::held(delegation, "a delegation")?;
    record::show(object(row::delegation(&delegation)), json)
}
