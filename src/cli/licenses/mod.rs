//! `licenses`: issuing, changing and delegating them.
//!
//! Not here: which rules decide (semantics 6); those are the licensing backend's.

mod change;
mod create;
mod delegate;
mod import;
mod import_file;
mod list;
mod row;
mod terms;
mod update;

use clap::{Args, Subcommand};

use super::CommandResult;

/// Issue, change and delegate licenses
#[derive(Args)]
pub(super) struct Licenses {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    List(list::List),
    Get(list::Get),
    Create(Box<create::Create>),
    Update(Box<update::Update>),
    Suspend(change::Suspend),
    Resume(change::Resume),
    Renew(change::Renew),
    RotateKey(change::RotateKey),
    Import(import::Import),
    Delegate(delegate::Delegate),
    Accept(delegate::Accept),
    Revoke(delegate::Revoke),
    Export(list::Export),
}

impl Licenses {
    pub(super) fn run(self) -> CommandResult {
        match self.command {
            Command::List(command) => command.run(),
            Command::Get(command) => command.run(),
            Command::Create(command) => command.run(),
            Command::Update(command) => command.run(),
            Command::Suspend(command) => command.run(),
            Command::Resume(command) => command.run(),
            Command::Renew(command) => command.run(),
            Command::RotateKey(command) => command.run(),
            Command::Import(command) => command.run(),
            Command::Delegate(command) => command.run(),
            Command::Accept(command) => command.run(),
            Command::Revoke(command) => command.run(),
            Command::Export(command) => command.run(),
        }
    }
}
