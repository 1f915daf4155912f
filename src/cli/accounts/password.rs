//! `accounts change-password` and `accounts reset-password`.
//!
//! Not here: which passwords are good enough; the licensing backend decides.

use std::{mem, path::PathBuf, process::ExitCode};

use clap::Args;
use zeroize::Zeroizing;

use crate::{
    cli::{
        CommandError, CommandResult, client, output,
        unit_management::{
            backend,
            caller::Caller,
            secret::{self, Place},
        },
    },
    proto::licensing as api,
};

/// Change the own password; the other sessions of the account end
#[derive(Args)]
pub(super) struct ChangePassword {
    /// File with the password so far; otherwise it is asked for
    #[arg(long, value_name = "FILE")]
    old_password_file: Option<PathBuf>,
    /// File with the new password, 12 to 256 characters; otherwise it is asked for, twice
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

/// Replace a forgotten password by a one-time password, which is told once
#[derive(Args)]
pub(super) struct ResetPassword {
    /// Name of the account
    name: String,
    /// Write the one-time password to this new file, for its owner alone
    #[arg(long, value_name = "FILE")]
    password_output: Option<PathBuf>,
    #[command(flatten)]
    caller: Caller,
}

impl ChangePassword {
    pub(super) fn run(self) -> CommandResult {
        // Who nobody is signed in for is told before being asked for passwords.
        let token = self.caller.token()?;
        let old_password =
            secret::read_or_prompt(self.old_password_file.as_deref(), "old password", "--old-password-file")?;
        let new_password = self.new_password()?;
        client::runtime()?.block_on(async {
            let backend = self.caller.licensing.connect().await?.with_token(&token.text)?;
            let request_id = backend::request_id();
            let [old_password, new_password] =
                [old_password, new_password].map(|mut text| mem::take(&mut *text));
            let request = api::ChangePasswordRequest { request_id, old_password, new_password };
            backend.ask(request, async |request| backend.accounts().change_password(request).await).await
        })?;
        output::print("the password is changed; other sessions of the account have ended\n")?;
        Ok(ExitCode::SUCCESS)
    }

    fn new_password(&self) -> Result<Zeroizing<String>, CommandError> {
        let ask = |prompt: &str| {
            secret::read_or_prompt(self.new_password_file.as_deref(), prompt, "--new-password-file")
        };
        let password = ask("new password")?;
        if self.new_password_file.is_none() && ask("new password again")? != password {
            return Err(CommandError::new("the two are not the same; the password stays as it was"));
        }
        Ok(password)
    }
}

impl ResetPassword {
    pub(super) fn run(self) -> CommandResult {
        let place = Place::begin(self.password_output.as_deref())?;
        let request = api::ResetPasswordRequest { request_id: backend::request_id(), name: self.name };
        let answer = client::runtime()?.block_on(async {
            let backend = self.caller.connect().await?;
            backend.ask(request, async |request| backend.accounts().reset_password(request).await).await
        })?;
        let password = secret::told(answer.one_time_password, "reset the password once more")?;
        place.put("the one-time password", &password).map(|()| ExitCode::SUCCESS)
    }
}
