//! `accounts sign-in` and `accounts sign-out`.
//!
//! Not here: where the session is kept (see `unit_management::session`).

use std::{mem, path::PathBuf, process::ExitCode};

use clap::Args;
use tonic::Code;

use crate::{
    cli::{
        CommandResult, client, output,
        status::values,
        unit_management::{
            backend::{self, Licensing},
            caller::Caller,
            secret,
            session::{Session, Sessions},
        },
    },
    escape::escape_and_shorten,
    proto::licensing as api,
};

/// Sign in; the commands after it use the session
///
/// The session is kept in $XDG_STATE_HOME/esa-sidecar/session.json, or ~/.local/state/esa-sidecar/session.json, for
/// its owner alone, one for each licensing backend.
#[derive(Args)]
pub(super) struct SignIn {
    /// Name of the account; `NAME@CUSTOMER` unless the customer is the backend's own
    name: String,
    /// File with the password, `-` for standard input; otherwise it is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    #[command(flatten)]
    licensing: Licensing,
}

/// End the session
#[derive(Args)]
pub(super) struct SignOut {
    #[command(flatten)]
    caller: Caller,
}

impl SignIn {
    pub(super) fn run(self) -> CommandResult {
        let sessions = Sessions::open()?;
        // A session that cannot be kept is not opened.
        sessions.check()?;
        let mut password =
            secret::read_or_prompt(self.password_file.as_deref(), "password", "--password-file")?;
        let answer = client::runtime()?.block_on(async {
            let backend = self.licensing.connect().await?;
            let request = api::SignInRequest { name: self.name, password: mem::take(&mut *password) };
            // Asked once: a session nobody learns of would stay open.
            let answer = backend.accounts().sign_in(request).await;
            answer.map_err(|status| backend.failed(&status))
        })?;
        let api::SignInResponse { token, expires_at, account } = answer.into_inner();
        let account = backend::held(account, "an account")?;
        let expires_at = expires_at.as_ref().map(values::instant_for_people);
        let until = expires_at.as_ref().map(|at| format!(" until {at}")).unwrap_or_default();
        let said = format!(
            "signed in as {}{until}; the session is in {}\n",
            escape_and_shorten(&account.name),
            sessions.path()
        );
        sessions.keep(&self.licensing.address, Some(Session { account: account.name, token, expires_at }))?;
        output::print(&said)?;
        if account.password_change_required {
            output::note(
                "the password has to be changed before anything else: `esa-sidecar accounts change-password`",
            );
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl SignOut {
    pub(super) fn run(self) -> CommandResult {
        let token = self.caller.token()?;
        client::runtime()?.block_on(async {
            let backend = self.caller.licensing.connect().await?.with_token(&token.text)?;
            match backend.accounts().sign_out(backend.request(api::SignOutRequest {})).await {
                Ok(_) => Ok(()),
                // It has ended already, which is what was asked for.
                Err(status) if status.code() == Code::Unauthenticated => Ok(()),
                Err(status) => Err(backend.failed(&status)),
            }
        })?;
        if token.is_session {
            Sessions::open()?.keep(&self.caller.licensing.address, None)?;
        }
        output::print("signed out\n")?;
        Ok(ExitCode::SUCCESS)
    }
}
