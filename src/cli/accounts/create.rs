//! `accounts create`, `disable` and `enable`.
//!
//! Not here: passwords afterwards (see `password`).

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::row;
use crate::{
    cli::{
        CommandResult, client,
        unit_management::{
            backend,
            caller::Caller,
            name::parser,
            secret::{self, Place},
        },
    },
    proto::licensing as api,
};

/// Make an account
///
/// Its one-time password is told once: the last line of standard output, or --password-output. It has to be changed at
/// the first sign-in.
#[derive(Args)]
pub(super) struct Create {
    /// The name it signs in with, followed by `@` and its customer unless that is the backend's own
    name: String,
    /// What it may do
    #[arg(long, value_name = "ROLE", value_parser = parser::<api::AccountRole>())]
    role: api::AccountRole,
    /// Customer [default: the own]; another one's first owner is made by those who may issue licenses
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    customer: String,
    /// Write the one-time password to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    password_output: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

/// Disable an account: its sessions and credentials open nothing any more
#[derive(Args)]
pub(super) struct Disable {
    #[command(flatten)]
    account: Named,
}

/// Enable an account that was disabled
#[derive(Args)]
pub(super) struct Enable {
    #[command(flatten)]
    account: Named,
}

#[derive(Args)]
struct Named {
    /// Name of the account
    name: String,
    /// Print JSON, with the names of `accounts list`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    caller: Caller,
}

impl Create {
    pub(super) fn run(self) -> CommandResult {
        let place = Place::begin(self.password_output.as_deref())?;
        let request = api::CreateAccountRequest {
            request_id: backend::request_id(),
            name: self.name,
            role: self.role.into(),
            customer: self.customer,
        };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.accounts().create_account(request).await).await
        })?;
        let password = secret::told(
            answer.one_time_password,
            "make another with `esa-sidecar accounts reset-password NAME`",
        )?;
        row::show(answer.account, false)?;
        place.put("the one-time password", &password).map(|()| ExitCode::SUCCESS)
    }
}

impl Disable {
    pub(super) fn run(self) -> CommandResult {
        self.account.set_disabled(true)
    }
}

impl Enable {
    pub(super) fn run(self) -> CommandResult {
        self.account.set_disabled(false)
    }
}

impl Named {
    fn set_disabled(self, disabled: bool) -> CommandResult {
        let request_id = backend::request_id();
        let request = api::SetAccountDisabledRequest { request_id, name: self.name, disabled };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.accounts().set_account_disabled(request).await).await
        })?;
        row::show(answer.account, self.json)
    }
}
