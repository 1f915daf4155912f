//! `units`: products activated with licenses, and their deactivation.
//!
//! Not here: which rules decide (semantics 6); those are the licensing backend's.

mod activate;
mod deactivate;
mod distributions;
mod filter;
mod get;
mod list;
mod revoke_secret;
pub(super) mod row;

use clap::{Args, Subcommand};

use super::CommandResult;

/// List, activate and deactivate units
#[derive(Args)]
pub(super) struct Units {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(list::List),
    Get(get::Get),
    Deactivate(deactivate::Deactivate),
    Activate(activate::Activate),
    RevokeSecret(revoke_secret::RevokeSecret),
    Export(list::Export),
}

impl Units {
    pub(super) fn run(self) -> CommandResult {
        match self.command {
            Command::List(command) => command.run(),
            Command::Get(command) => command.run(),
            Command::Deactivate(command) => command.run(),
            Command::Activate(command) => command.run(),
            Command::RevokeSecret(command) => command.run(),
            Command::Export(command) => command.run(),
        }
    }
}
