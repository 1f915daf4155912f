//! `accounts`: who manages licenses and units, and as whom the commands call.
//!
//! Not here: what an account may do; the licensing backend decides.

mod create;
mod credentials;
mod list;
mod password;
mod row;
mod sessions;
mod sign_in;

use clap::{Args, Subcommand};

use super::CommandResult;

/// Sign in, and manage accounts and API credentials
#[derive(Args)]
pub(super) struct Accounts {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    SignIn(sign_in::SignIn),
    SignOut(sign_in::SignOut),
    Whoami(list::Whoami),
    ChangePassword(password::ChangePassword),
    List(list::List),
    Create(create::Create),
    Disable(create::Disable),
    Enable(create::Enable),
    ResetPassword(password::ResetPassword),
    Credentials(credentials::Credentials),
    Sessions(sessions::Sessions),
}

impl Accounts {
    pub(super) fn run(self) -> CommandResult {
        match self.command {
            Command::SignIn(command) => command.run(),
            Command::SignOut(command) => command.run(),
            Command::Whoami(command) => command.run(),
            Command::ChangePassword(command) => command.run(),
            Command::List(command) => command.run(),
            Command::Create(command) => command.run(),
            Command::Disable(command) => command.run(),
            Command::Enable(command) => command.run(),
            Command::ResetPassword(command) => command.run(),
            Command::Credentials(command) => command.run(),
            Command::Sessions(command) => command.run(),
        }
    }
}
