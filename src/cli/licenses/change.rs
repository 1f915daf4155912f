//! `licenses suspend`, `resume`, `renew` and `rotate-key`.
//!
//! Not here: other attributes (see `update`).

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{row, terms::Expiry};
use crate::{
    cli::{
        CommandResult, client,
        unit_management::{
            backend,
            caller::Caller,
            secret::{self, Place},
        },
    },
    proto::licensing as api,
};

/// A license that is changed, and how it is shown afterwards.
#[derive(Args)]
struct Changed {
    /// Public license ID
    license_id: String,
    /// Print JSON, with the names of `licenses list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

/// Suspend a license; --canceled cancels it, --deactivated deactivates it for good
#[derive(Args)]
pub(super) struct Suspend {
    #[command(flatten)]
    changed: Changed,
    /// Cancel it; it can be resumed
    #[arg(long)]
    canceled: bool,
    /// Deactivate it for good; it can not be resumed
    #[arg(long, conflicts_with = "canceled")]
    deactivated: bool,
}

/// End the suspension or cancellation of a license
#[derive(Args)]
pub(super) struct Resume {
    #[command(flatten)]
    changed: Changed,
}

/// Let a license run until another instant
#[derive(Args)]
pub(super) struct Renew {
    #[command(flatten)]
    changed: Changed,
    #[command(flatten)]
    expiry: Expiry,
}

/// Make a new license key; the old one activates nothing any more
///
/// The key is told once: on standard output, or --key-output.
#[derive(Args)]
pub(super) struct RotateKey {
    /// Public license ID
    license_id: String,
    /// Write the license key to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    key_output: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

impl Suspend {
    pub(super) fn run(self) -> CommandResult {
        let Changed { license_id, json, caller } = self.changed;
        let state = match (self.canceled, self.deactivated) {
            (false, false) => api::LicenseState::Suspended,
            (true, _) => api::LicenseState::Canceled,
            (false, true) => api::LicenseState::Deactivated,
        };
        let request_id = backend::request_id();
        let request = api::SuspendLicenseRequest { request_id, license_id, state: state.into() };
        let answer = client::runtime()?.block_on(async {
            let backend = caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().suspend_license(request).await).await
        })?;
        row::show(answer.license, json)
    }
}

impl Resume {
    pub(super) fn run(self) -> CommandResult {
        let Changed { license_id, json, caller } = self.changed;
        let request = api::ResumeLicenseRequest { request_id: backend::request_id(), license_id };
        let answer = client::runtime()?.block_on(async {
            let backend = caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().resume_license(request).await).await
        })?;
        row::show(answer.license, json)
    }
}

impl Renew {
    pub(super) fn run(self) -> CommandResult {
        let Changed { license_id, json, caller } = self.changed;
        let expires_at = Some(self.expiry.timestamp()?);
        let request = api::RenewLicenseRequest { request_id: backend::request_id(), license_id, expires_at };
        let answer = client::runtime()?.block_on(async {
            let backend = caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().renew_license(request).await).await
        })?;
        row::show(answer.license, json)
    }
}

impl RotateKey {
    pub(super) fn run(self) -> CommandResult {
        let place = Place::begin(self.key_output.as_deref())?;
        let license_id = self.license_id;
        let request = api::RotateLicenseKeyRequest { request_id: backend::request_id(), license_id };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.licenses().rotate_license_key(request).await).await
        })?;
        let key = secret::told(answer.license_key, "rotate the key once more")?;
        place.put("the license key", &key).map(|()| ExitCode::SUCCESS)
    }
}
